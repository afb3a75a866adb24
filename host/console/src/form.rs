//! The names and values of a form or a query, as the browser sent them, and the files of a form.

use std::convert::Infallible;

use axum::body::Bytes;

/// Parts of a form with files that are read: no page has as many.
const PARTS: usize = 32;

/// Names and values, in their order, and files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Form {
    pairs: Vec<(String, String)>,
    files: Vec<(String, Bytes)>,
}

impl Form {
    /// Reads `a=b&c=d`; absent where it is none.
    pub(crate) fn read(octets: &[u8]) -> Option<Form> {
        serde_urlencoded::from_bytes(octets).ok().map(|pairs| Form { pairs, files: Vec::new() })
    }

    /// Reads a form with files (RFC 7578) of this `Content-Type`; absent where it is none, or a value is no text.
    pub(crate) async fn read_parts(octets: Bytes, kind: &str) -> Option<Form> {
        let whole = futures_util::stream::once(async move { Ok::<_, Infallible>(octets) });
        let mut parts = multer::Multipart::new(whole, multer::parse_boundary(kind).ok()?);
        let mut form = Form::default();
        for _ in 0..PARTS {
            let Some(part) = parts.next_field().await.ok()? else { return Some(form) };
            let (name, is_file) = (part.name()?.to_owned(), part.file_name().is_some());
            let octets = part.bytes().await.ok()?;
            if is_file {
                form.files.push((name, octets));
            } else {
                form.pairs.push((name, String::from_utf8(octets.to_vec()).ok()?));
            }
        }
        None
    }

    /// The file of this name, where one was chosen that holds something.
    pub(crate) fn file(&self, name: &str) -> Option<&Bytes> {
        self.files.iter().find(|(known, octets)| known == name && !octets.is_empty()).map(|(_, octets)| octets)
    }

    /// The value of this name without blanks around it; empty where there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.raw(name).trim()
    }

    /// The same where it says something.
    pub(crate) fn some(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|text| !text.is_empty())
    }

    /// The value of this name as it came; empty where there is none.
    pub(crate) fn raw(&self, name: &str) -> &str {
        self.pairs.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// All values of this name.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The query of the same names and values, this one among them instead of the one of before.
    pub(crate) fn with(&self, name: &str, value: &str) -> String {
        let mut pairs: Vec<(&str, &str)> = self
            .pairs
            .iter()
            .filter(|(known, value)| known != name && !value.is_empty())
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        pairs.push((name, value));
        query(&pairs)
    }
}

/// Names and values as a query, without its question mark.
pub(crate) fn query(pairs: &[(&str, &str)]) -> String {
    serde_urlencoded::to_string(pairs).unwrap_or_default()
}

/// A text as one part of a path.
pub(crate) fn segment(text: &str) -> String {
    // A form has a plus for a blank, which a path keeps as a plus.
    let encoded = query(&[("x", text)]).replace('+', "%20");
    encoded.strip_prefix("x=").unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_read_and_written_again() {
        let form = Form::read(b"a=1&b=+x%26y+&a=2&c=").unwrap();
        assert_eq!((form.text("a"), form.text("b"), form.some("c"), form.raw("b")), ("1", "x&y", None, " x&y "));
        assert_eq!(form.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(form.with("a", "é"), "b=+x%26y+&a=%C3%A9");
        assert_eq!(segment("a b/c?\"+@x"), "a%20b%2Fc%3F%22%2B%40x");
        assert!(
            Form::read(b"\xff\xfe=%ff").is_some_and(|form| form.text("a").is_empty())
                || Form::read(b"\xff\xfe=%ff").is_none()
        );
    }

    #[tokio::test]
    async fn a_form_with_files_is_read_and_half_of_one_is_none() {
        let text = "--b\r\nContent-Disposition: form-data; name=\"token\"\r\n\r\n a\u{e9} \r\n--b\r\n\
                    Content-Disposition: form-data; name=\"component\"; filename=\"../x.wasm\"\r\n\
                    Content-Type: application/wasm\r\n\r\n\0asm\r\n-\u{fc}\r\n--b\r\n\
                    Content-Disposition: form-data; name=\"cases\"; filename=\"\"\r\n\r\n\r\n--b--\r\n";
        let read = |text: &[u8]| Form::read_parts(text.to_vec().into(), "multipart/form-data; boundary=b");
        let form = read(text.as_bytes()).await.unwrap();
        assert_eq!((form.raw("token"), form.file("cases")), (" a\u{e9} ", None));
        assert_eq!(form.file("component").unwrap().as_ref(), "\0asm\r\n-\u{fc}".as_bytes());
        assert_eq!(form.raw("component"), "", "a file is no text");
        for cut in 0..text.len() - 4 {
            let half = read(&text.as_bytes()[..cut]).await;
            assert!(half.is_none() || half.is_some_and(|half| half.file("component").is_some()), "{cut}");
        }
        let many = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx\r\n".repeat(PARTS + 1) + "--b--\r\n";
        assert!(read(many.as_bytes()).await.is_none());
        assert!(Form::read_parts(Bytes::new(), "multipart/form-data").await.is_none(), "no boundary");
    }
}

//! The names and values of a form or a query, as the browser sent them.

/// Names and values, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads `a=b&c=d`; absent where it is none.
    pub(crate) fn read(octets: &[u8]) -> Option<Form> {
        serde_urlencoded::from_bytes(octets).ok().map(Form)
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
        self.0.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// All values of this name.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The query of the same names and values, this one among them instead of the one of before.
    pub(crate) fn with(&self, name: &str, value: &str) -> String {
        let mut pairs: Vec<(&str, &str)> = self
            .0
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
}

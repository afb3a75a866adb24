//! What the next hop offers in its reply to LHLO, and so what this door offers to the MTA.

use super::facts::ATTRIBUTES;

/// The extensions of a next hop that this door passes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// 8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// SMTPUTF8 (RFC 6531).
    pub utf8: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// BINARYMIME (RFC 3030).
    pub binary: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// SIZE (RFC 1870), and the largest size where one is told.
    pub size: Option<Option<u64>>,
}

impl Offers {
    /// Reads the lines of a reply to LHLO, the first of which is the greeting.
    pub fn read<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Offers {
        let mut offers = Offers::default();
        for line in lines.into_iter().skip(1) {
            let mut words = line.split(|octet| *octet == b' ').filter(|word| !word.is_empty());
            match words.next().unwrap_or_default().to_ascii_uppercase().as_slice() {
                b"8BITMIME" => offers.eight_bit = true,
                b"SMTPUTF8" => offers.utf8 = true,
                b"ENHANCEDSTATUSCODES" => offers.enhanced = true,
                b"CHUNKING" => offers.chunking = true,
                b"BINARYMIME" => offers.binary = true,
                b"DSN" => offers.dsn = true,
                b"SIZE" => {
                    let size = words.next().and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
                    offers.size = Some(size.filter(|size| *size > 0));
                }
                _ => {}
            }
        }
        // Without chunks there is no way for such a body (RFC 3030 §3).
        offers.binary &= offers.chunking;
        offers
    }

    /// The reply to LHLO by which this door offers the same.
    pub fn greeting(&self, name: &str) -> Vec<u8> {
        let mut lines = vec![name.to_owned(), "PIPELINING".into()];
        let words = [
            (self.eight_bit, "8BITMIME"),
            (self.utf8, "SMTPUTF8"),
            (self.enhanced, "ENHANCEDSTATUSCODES"),
            (self.chunking, "CHUNKING"),
            (self.binary, "BINARYMIME"),
            (self.dsn, "DSN"),
        ];
        lines.extend(words.into_iter().filter(|(offered, _)| *offered).map(|(_, word)| word.to_owned()));
        match self.size {
            Some(Some(size)) => lines.push(format!("SIZE {size}")),
            Some(None) => lines.push("SIZE".into()),
            None => {}
        }
        lines.push(format!("XFORWARD {ATTRIBUTES}"));
        let last = lines.len().saturating_sub(1);
        let lines = lines.iter().enumerate();
        let lines = lines.map(|(at, line)| format!("250{}{line}\r\n", if at == last { ' ' } else { '-' }));
        lines.collect::<String>().into_bytes()
    }

    /// Why a MAIL with these parameters is not taken: the next hop does not know one of them.
    pub fn refuses_mail(&self, parameters: &[&[u8]]) -> Option<&'static str> {
        let known = |parameter: &[u8]| {
            let (name, value) = name_and_value(parameter);
            match (name.as_slice(), value.to_ascii_uppercase().as_slice()) {
                (b"SIZE", value) => !value.is_empty() && value.iter().all(u8::is_ascii_digit),
                (b"SMTPUTF8", b"") => self.utf8,
                (b"BODY", b"7BIT" | b"8BITMIME") => self.eight_bit,
                (b"BODY", b"BINARYMIME") => self.binary,
                (b"RET" | b"ENVID", _) => self.dsn,
                _ => false,
            }
        };
        let unknown = parameters.iter().any(|parameter| !known(parameter));
        unknown.then_some("555 5.5.4 A parameter that is not offered")
    }

    /// Why a RCPT with these parameters is not taken.
    pub fn refuses_rcpt(&self, parameters: &[&[u8]]) -> Option<&'static str> {
        let known =
            |parameter: &[u8]| self.dsn && matches!(name_and_value(parameter).0.as_slice(), b"NOTIFY" | b"ORCPT");
        let unknown = parameters.iter().any(|parameter| !known(parameter));
        unknown.then_some("555 5.5.4 A parameter that is not offered")
    }
}

/// A parameter's name in capital letters, and its value.
pub(super) fn name_and_value(parameter: &[u8]) -> (Vec<u8>, &[u8]) {
    let at = parameter.iter().position(|octet| *octet == b'=').unwrap_or(parameter.len());
    let (name, value) = parameter.split_at_checked(at).unwrap_or((parameter, b""));
    (name.to_ascii_uppercase(), value.get(1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_next_hop_offers_is_offered_and_nothing_else() {
        let lines = ["mail.example", "8bitmime", "SIZE 1000", "VRFY", "BINARYMIME", "XCLIENT ADDR"];
        let offers = Offers::read(lines.map(str::as_bytes));
        let told = String::from_utf8(offers.greeting("mx.example")).unwrap();
        let expected = "250-mx.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SIZE 1000\r\n\
                        250 XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\r\n";
        assert_eq!(told, expected);
        assert!(Offers::read(["x", "CHUNKING", "BINARYMIME"].map(str::as_bytes)).binary);
        assert_eq!(Offers::default().size, None);
        assert_eq!(Offers::read(["x", "SIZE 0"].map(str::as_bytes)).size, Some(None));
    }

    #[test]
    fn a_parameter_that_is_not_offered_is_refused() {
        let offers = Offers { eight_bit: true, ..Offers::default() };
        assert_eq!(offers.refuses_mail(&[b"SIZE=12", b"body=8bitmime"]), None);
        for wrong in ["BODY=BINARYMIME", "SMTPUTF8", "RET=HDRS", "SIZE=", "X", "BODY"] {
            assert!(offers.refuses_mail(&[wrong.as_bytes()]).is_some(), "{wrong}");
        }
        assert!(offers.refuses_rcpt(&[b"NOTIFY=NEVER"]).is_some() && offers.refuses_rcpt(&[]).is_none());
        let dsn = Offers { dsn: true, ..Offers::default() };
        assert!(dsn.refuses_rcpt(&[b"NOTIFY=NEVER", b"ORCPT=rfc822;a"]).is_none());
    }
}

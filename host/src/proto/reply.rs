//! Replies of SMTP (RFC 5321 §4.2, RFC 3463): what makes one of a code, a status and words, whoever chose them.
//!
//! An MTA passes a reply's text on: Postfix 3.7.11 handed a CRLF in it to the SMTP client, and what followed was a reply line
//! of its own (measured). `%` is an escape in the milter protocol: `%%` becomes `%`, and a single one vanishes (measured).

use super::text::ascii;

/// The longest text: an SMTP line is 512 octets (RFC 5321 §4.5.3.1.5), code, status and CRLF among them.
const TEXT: usize = 480;

/// Whether what is refused may come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It may: 4yz.
    Transient,
    /// It may not: 5yz.
    Permanent,
}

impl Class {
    fn digit(self) -> u16 {
        match self {
            Class::Transient => 4,
            Class::Permanent => 5,
        }
    }
}

/// A whole reply: code, enhanced status code and [`text`].
///
/// Code and status are of the class whatever is given: where one does not fit, both are the class's own. 421 fits nowhere,
/// since it would end the SMTP session and all that waits in it.
pub fn line(class: Class, code: u16, status: &str, words: &str) -> String {
    let fitting = code / 100 == class.digit() && code != 421 && is_status(status, class);
    let (code, status) = match class {
        _ if fitting => (code, status),
        Class::Permanent => (550, "5.7.1"),
        Class::Transient => (451, "4.3.0"),
    };
    format!("{code} {status} {}", text(words))
}

/// The text of a reply: one line of printable ASCII without `%`, short enough for a line of SMTP.
pub fn text(words: &str) -> String {
    ascii(words, TEXT).replace('%', "?")
}

/// Words that somebody else chose, a policy or its author, as they may stand in a reply, a log or a list: one line of printable
/// ASCII without `%`, at most `room` octets. A line's end and a tab turn into a space, anything else into `?`.
pub fn words(text: &str, room: usize) -> String {
    let plain = |octet: u8| matches!(octet, b' '..=b'~') && octet != b'%';
    if text.len() <= room && text.bytes().all(plain) {
        return text.trim().to_owned();
    }
    ascii(&text.replace(['\t', '\r', '\n'], " "), room).replace('%', "?").trim().to_owned()
}

/// An enhanced status code of this class (RFC 3463 §2).
fn is_status(status: &str, class: Class) -> bool {
    let parts: Vec<&str> = status.split('.').collect();
    let number = |part: &&str| (1..=3).contains(&part.len()) && part.bytes().all(|octet| octet.is_ascii_digit());
    parts.len() == 3 && parts.iter().all(number) && parts.first() == Some(&class.digit().to_string().as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn code_and_status_are_of_the_class() {
        for (code, status) in
            [(250, "2.0.0"), (451, "4.3.0"), (550, "2.1.1"), (550, "5.7"), (550, "5.7.1\r\n"), (5500, "5.7.1")]
        {
            assert_eq!(line(Class::Permanent, code, status, "no"), "550 5.7.1 no");
        }
        for (code, status) in [(250, "2.0.0"), (550, "5.7.1"), (421, "4.3.2")] {
            assert_eq!(line(Class::Transient, code, status, "no"), "451 4.3.0 no");
        }
        assert_eq!(line(Class::Permanent, 554, "5.6.0", "no"), "554 5.6.0 no");
        assert_eq!(line(Class::Transient, 450, "4.7.1", "no"), "450 4.7.1 no");
    }

    #[test]
    fn words_keep_their_blanks_and_lose_what_steers() {
        assert_eq!(words("a\r\nRCPT TO:<x>%s \u{e9}\0z", 400), "a  RCPT TO:<x>?s ??z");
        assert_eq!(words(&"x".repeat(1000), 400).len(), 400);
        assert_eq!(words(" \t a\n", 400), "a");
    }

    proptest! {
        #[test]
        fn a_reply_is_one_line_of_smtp_whatever_it_is_made_of(text in ".{0,600}|[\u{0}-\u{ff}%]{0,600}", code: u16, status in ".{0,9}") {
            for class in [Class::Permanent, Class::Transient] {
                let line = line(class, code, &status, &text);
                prop_assert!(line.len() <= 510 && line.bytes().all(|octet| (b' '..=b'~').contains(&octet) && octet != b'%'), "{}", line);
            }
            let words = words(&text, 40);
            prop_assert!(words.len() <= 40 && words.bytes().all(|octet| (b' '..=b'~').contains(&octet) && octet != b'%'), "{}", words);
        }
    }
}

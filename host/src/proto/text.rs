//! Text as it may be printed: for a terminal, a log line and a program alike.
//!
//! Subjects, addresses, DNS records and the words of other servers are chosen by strangers. Whatever of them is printed goes
//! through here.

/// Whether a character is not what it looks like: it steers a terminal, ends a line, turns the direction of the text around it,
/// or is not seen at all.
///
/// Controls (U+0000 to U+001F, U+007F to U+009F), the marks, embeddings and isolates of bidirectional text (UAX #9), line and
/// paragraph separators, and all that is drawn as nothing (Default_Ignorable_Code_Point of Unicode 16, unassigned ones of its planes
/// too, and the annotation marks).
pub fn is_hidden(c: char) -> bool {
    match c {
        ' '..='~' => false,
        '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' => true,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' => true,
        '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' => true,
        '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}' => true,
        c => c.is_control(),
    }
}

/// The text of one line: what is hidden in it, a line's end too, stands as `\uXXXX`, as JSON spells it, so that a JSON text stays
/// one of the same value.
pub fn shown(text: &str) -> String {
    escaped(text, |_| false)
}

/// The same for several lines: what ends a line stays, and a tab.
pub fn shown_lines(text: &str) -> String {
    escaped(text, |c| matches!(c, '\n' | '\t'))
}

/// One line in which `?` stands for all that is hidden, at most `most` characters: for lists that are kept.
pub fn masked(text: &str, most: usize) -> String {
    text.chars().map(|c| if is_hidden(c) { '?' } else { c }).take(most).collect()
}

/// One line of printable ASCII, at most `most` characters; `?` stands for anything else.
pub fn ascii(text: &str, most: usize) -> String {
    text.chars().map(|c| if matches!(c, ' '..='~') { c } else { '?' }).take(most).collect()
}

/// One word of a log line: as it is where it is plain, else quoted and escaped, and cut at 300 characters.
pub fn word(text: &str) -> String {
    let short = text.char_indices().nth(300).and_then(|(end, _)| text.get(..end)).unwrap_or(text);
    let good = |octet: u8| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'\\' | b'=');
    if !short.is_empty() && short.bytes().all(good) {
        short.to_owned()
    } else {
        format!("\"{}\"", short.escape_default())
    }
}

/// One word of a header field's value: every octet that could end the word or the field is percent-encoded.
pub fn field_word(text: &str) -> String {
    let mut word = String::new();
    for octet in text.bytes() {
        match octet {
            b'%' | b';' | b'"' | b'\\' | b'(' | b')' | b',' | 0..=b' ' | 0x7f.. => word += &format!("%{octet:02X}"),
            _ => word.push(char::from(octet)),
        }
    }
    word
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if stays(c) || !is_hidden(c) {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_steers_turns_or_is_not_seen_is_spelt_and_all_else_stays() {
        let hidden = "\0\u{7}\u{1b}\r\u{7f}\u{80}\u{85}\u{9b}\u{9f}\u{ad}\u{34f}\u{61c}\u{115f}\u{1160}\u{17b4}\u{180e}\u{200b}\
            \u{200d}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202e}\u{2060}\u{2066}\u{2069}\u{206f}\u{3164}\u{fe0f}\u{feff}\u{ffa0}\
            \u{fff9}\u{1d173}\u{e0001}\u{e0041}\u{e007f}\u{e01ef}";
        for c in hidden.chars() {
            assert!(is_hidden(c), "{c:?}");
            assert!(shown_lines(&c.to_string()).is_ascii(), "{c:?}");
        }
        for plain in [
            "a b~",
            "m\u{fc}ller@b\u{fc}cher.example",
            "\u{65e5}\u{672c}",
            "\u{1f600}",
            "e\u{301}",
            "\u{fffd}",
            "\\u0041",
        ] {
            assert_eq!((shown(plain), shown_lines(plain)), (plain.to_owned(), plain.to_owned()));
        }
        assert_eq!(shown("a\u{9b}2J\tb\nc\u{202e}\u{e0041}"), "a\\u009b2J\\u0009b\\u000ac\\u202e\\udb40\\udc41");
        assert_eq!(shown_lines("a\r\n\n\tb"), "a\\u000d\n\n\tb");
    }

    #[test]
    fn each_form_holds_what_its_place_may_hold_and_no_more() {
        let text = "a\r\nb\u{e9}%\u{202e}=\"c\" d;\0";
        assert_eq!(masked(text, 99), "a??b\u{e9}%?=\"c\" d;?");
        assert_eq!(ascii(text, 99), "a??b?%?=\"c\" d;?");
        assert_eq!((masked(text, 2), ascii(text, 2)), ("a?".into(), "a?".into()));
        assert_eq!(word("bob@home.example"), "bob@home.example");
        assert_eq!(word("a b\n"), "\"a b\\n\"");
        assert_eq!((word(""), word("a=b")), ("\"\"".into(), "\"a=b\"".into()));
        assert_eq!(word(&"x".repeat(1_000)).len(), 300);
        assert_eq!(field_word("\"a b\"@x.example; \u{e9},\r\n"), "%22a%20b%22@x.example%3B%20%C3%A9%2C%0D%0A");
    }

    proptest! {
        #[test]
        fn a_json_text_stays_one_of_the_same_value_and_hides_nothing(texts in prop::collection::vec(".{0,20}|[\u{0}-\u{2ff}\u{2000}-\u{20ff}\u{e0000}-\u{e01ff}]{0,20}", 0..4)) {
            let value = serde_json::json!({ "texts": texts, "again": { texts.concat(): texts } });
            for text in [value.to_string(), format!("{value:#}")] {
                let printed = shown_lines(&text);
                prop_assert!(!printed.chars().any(|c| is_hidden(c) && c != '\n'));
                prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&printed).unwrap(), value.clone());
            }
        }
    }
}

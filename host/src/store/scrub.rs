//! Taking addresses out of a text, however they are spelled there.

use super::folded;

/// What stands in the place of an address that was taken out.
pub const ERASED: &str = "erased@erased.invalid";

/// The story without the address, and with the remark that one was taken out.
pub(super) fn without_in_json(json: &str, target: &str) -> String {
    let Ok(mut story) = serde_json::from_str::<serde_json::Value>(json) else { return without(json, target) };
    if walk(&mut story, target) { remarked(&story.to_string()) } else { json.to_owned() }
}

/// The story with the remark that an address was taken out of its row.
pub(super) fn remarked(json: &str) -> String {
    let Ok(mut story) = serde_json::from_str::<serde_json::Value>(json) else { return json.to_owned() };
    if let Some(object) = story.as_object_mut() {
        object.insert("erased".into(), true.into());
    }
    story.to_string()
}

/// Takes the address out of every text, all of them; whether it was in any. Its nesting is bounded by the parser's.
fn walk(value: &mut serde_json::Value, target: &str) -> bool {
    match value {
        serde_json::Value::String(text) => {
            let new = without(text, target);
            let differs = new != *text;
            *text = new;
            differs
        }
        serde_json::Value::Array(values) => values.iter_mut().filter_map(|v| walk(v, target).then_some(())).count() > 0,
        serde_json::Value::Object(values) => {
            values.values_mut().filter_map(|v| walk(v, target).then_some(())).count() > 0
        }
        _ => false,
    }
}

/// The text without the address, wherever an `@` stands between words that fold to it.
pub(super) fn without(text: &str, target: &str) -> String {
    replaced(text, |address| folded(address).as_deref() == Some(target))
}

/// The text without any address.
pub(super) fn without_any(text: &str) -> String {
    replaced(text, |address| folded(address).is_some())
}

/// The text with another address in the place of those that are to go.
fn replaced(text: &str, goes: impl Fn(&str) -> bool) -> String {
    let (mut out, mut from) = (String::new(), 0);
    for (at, _) in text.match_indices('@') {
        let (Some(before), Some(after)) = (text.get(from..at), text.get(at + 1..)) else { continue };
        let begin = from + local_begin(before);
        let domain = |c: char| c.is_alphanumeric() || c == '-' || c == '.';
        let length = after.find(|c| !domain(c)).unwrap_or(after.len());
        let length = after.get(..length).map_or(0, |word| word.trim_end_matches(['.', '-']).len());
        let end = at + 1 + length;
        let (Some(kept), Some(address)) = (text.get(from..begin), text.get(begin..end)) else { continue };
        if goes(address) {
            out += kept;
            out += ERASED;
            from = end;
        }
    }
    out + text.get(from..).unwrap_or_default()
}

/// Where the local part that ends this text begins.
fn local_begin(text: &str) -> usize {
    if let Some(inside) = text.strip_suffix('"') {
        let open = inside.rmatch_indices('"').map(|(at, _)| at);
        let escaped = |at: usize| {
            let before = inside.get(..at).unwrap_or_default();
            (before.len() - before.trim_end_matches('\\').len()) % 2 == 1
        };
        return open.into_iter().find(|&at| !escaped(at)).unwrap_or(inside.len());
    }
    // RFC 5322 §3.2.3 atext and the dot, and what SMTPUTF8 adds.
    let word = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c) || !c.is_ascii();
    text.rfind(|c| !word(c))
        .map_or(0, |at| at + text.get(at..).and_then(|t| t.chars().next()).map_or(1, char::len_utf8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_in_every_spelling_and_no_other_goes() {
        let cases = [
            ("bob@example.com", "E"),
            ("<Bob+news@EXAMPLE.com>", "<E>"),
            ("notice to bob@example.com: given up.", "notice to E: given up."),
            ("write to bob@example.com.", "write to E."),
            ("Bob <bob@example.com>, carol@example.com", "Bob <E>, carol@example.com"),
            ("bob@example.com,bob+1@example.com", "E,E"),
            ("notbob@example.com bob@example.com.au", "notbob@example.com bob@example.com.au"),
            ("jim.bob@example.com bob@x.example.com", "jim.bob@example.com bob@x.example.com"),
            ("@@bob@example.com@", "@@E@"),
            ("bob@", "bob@"),
            ("", ""),
        ];
        for (text, want) in cases {
            assert_eq!(without(text, "bob@example.com"), want.replace('E', ERASED), "{text}");
        }
        assert_eq!(without(r#"<"a \" b"@x.example>"#, r#""a \" b"@x.example"#), format!("<{ERASED}>"));
        assert_eq!(without("für ü@bücher.example!", "ü@bücher.example"), format!("für {ERASED}!"));
    }

    #[test]
    fn a_story_from_which_something_went_says_so() {
        let json = r#"{"a":["<bob@example.com>",{"b":"x bob@example.com"}],"n":1}"#;
        let story: serde_json::Value = serde_json::from_str(&without_in_json(json, "bob@example.com")).unwrap();
        assert_eq!(story["a"][0], format!("<{ERASED}>"));
        assert_eq!((&story["a"][1]["b"], &story["erased"]), (&format!("x {ERASED}").into(), &true.into()));
        assert_eq!(without_in_json(json, "eve@example.com"), json);
    }
}

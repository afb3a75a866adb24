//! The one mailbox of a From value, read strictly, and the same value as mail-parser reads it.

use mail_parser::MessageParser;

use super::{BadFrom, FROM_MAX, is_atext};

/// A From value as text; absent where it is too long, no UTF-8, or breaks its lines otherwise than by folds.
///
/// 8-bit octets outside of the address need no SMTPUTF8 here: mail in UTF-8 with nothing announced is common, and whatever
/// charset a reader takes it for, its ASCII octets stay where they are.
pub(super) fn text(value: &[u8]) -> Option<&str> {
    if value.len() > FROM_MAX {
        return None;
    }
    let text = std::str::from_utf8(value).ok()?;
    let text = text.strip_suffix('\n').map_or(text, |t| t.strip_suffix('\r').unwrap_or(t));
    let mut lines = text.split('\n').peekable();
    let mut first = true;
    while let Some(line) = lines.next() {
        let line = if lines.peek().is_some() { line.strip_suffix('\r').unwrap_or(line) } else { line };
        // Some take a line of nothing but blanks for the end of the header, and some take these for a line's end.
        let blank = !first && line.chars().all(is_blank);
        let folded = first || line.starts_with(is_blank);
        if blank || !folded || line.contains(|c| breaks_lines(c) || c.is_control() && c != '\t') {
            return None;
        }
        first = false;
    }
    Some(text)
}

/// The addr-spec of a value that holds exactly one mailbox: `addr-spec` or `[display-name] <addr-spec>`, with comments
/// around, not inside (RFC 5322 §3.4).
///
/// The obsolete dot in a display name is taken, since it is common and harms nothing; other obsolete syntax is not.
pub(super) fn addr_spec(value: &str) -> Result<&str, BadFrom> {
    let mut rest = value;
    let mut bracketed = None;
    let mut only_word = None;
    let (mut words, mut phrase) = (0, true);
    while let Some(c) = rest.chars().next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => rest = rest.trim_start_matches([' ', '\t', '\r', '\n']),
            '(' => rest = after_comment(rest).ok_or(BadFrom::Bad)?,
            ',' | ':' | ';' => return Err(BadFrom::Several),
            _ if bracketed.is_some() => return Err(BadFrom::Bad),
            '<' => {
                let (inside, after) = brackets(rest).ok_or(BadFrom::Bad)?;
                bracketed = Some(inside);
                rest = after;
            }
            _ => {
                let word = word(rest).ok_or(BadFrom::Bad)?;
                rest = rest.get(word.text.len()..).unwrap_or_default();
                words += 1;
                phrase &= word.phrase;
                only_word = Some(word.text);
            }
        }
    }
    let spec = match (bracketed, only_word) {
        (Some(inside), _) if phrase => inside.trim_matches([' ', '\t']),
        (None, Some(word)) if words == 1 => word,
        _ => return Err(BadFrom::Bad),
    };
    // An encoded word (RFC 2047) cannot be an address, but some readers decode it all the same.
    if spec.contains("=?") { Err(BadFrom::Bad) } else { Ok(spec) }
}

/// The address that mail-parser finds in the value; absent where it finds none or several.
///
/// It is given this one field and never a message from outside: it loses its way in foreign headers.
pub(super) fn second_opinion(value: &str) -> Option<String> {
    let message = format!("From: {value}\r\n\r\n");
    let message = MessageParser::new().parse_headers(message.as_bytes())?;
    let [one] = message.from()?.as_list()? else { return None };
    one.address.as_deref().map(str::to_owned)
}

/// A run of text between blanks, comments and brackets.
struct Word<'a> {
    text: &'a str,
    /// Whether it may stand in a display name: atoms, dots and quoted strings, but no `@`.
    phrase: bool,
}

fn word(text: &str) -> Option<Word<'_>> {
    let (mut quoted, mut escaped, mut phrase) = (false, false, true);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            ' ' | '\t' | '\r' | '\n' | '(' | '<' | ',' | ':' | ';' => {
                return Some(Word { text: text.get(..at)?, phrase });
            }
            ')' | '>' => return None,
            _ => phrase &= is_atext(c) || c == '.',
        }
    }
    (!quoted).then_some(Word { text, phrase })
}

/// What stands between `<` and `>`, and what follows; absent where brackets nest or stay open.
fn brackets(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('<')?;
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '<' if !quoted => return None,
            '>' if !quoted => return Some((inside.get(..at)?, inside.get(at + 1..)?)),
            _ => {}
        }
    }
    None
}

/// What follows a comment, which may nest; absent where it stays open.
fn after_comment(text: &str) -> Option<&str> {
    let (mut depth, mut escaped) = (0_usize, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '(' => depth += 1,
            ')' if depth == 1 => return text.get(at + 1..),
            ')' => depth -= 1,
            _ => {}
        }
    }
    None
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// What ends a line for some readers, although RFC 5322 knows CRLF alone.
fn breaks_lines(c: char) -> bool {
    matches!(c, '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

//! The one mailbox of a From value, read strictly, and the same value as mail-parser reads it.
//!
//! Readers of mail differ: some show another address in forms that RFC 5322 allows. So this takes the forms that all readers
//! show alike, and no others. `tests/vectors/from.json` has an example of each kind; `tests/tests/readers.rs` compares with
//! the readers that a machine has.

use std::borrow::Cow;

use mail_parser::MessageParser;

use super::{Address, BadFrom, FROM_MAX, is_atext};

/// A From value as text, without its line ending; absent where it is too long, or breaks its lines otherwise than by folds.
///
/// 8-bit octets outside of the address need no SMTPUTF8 here, and need not be UTF-8: mail in some charset with nothing
/// announced is common, and whatever charset a reader takes it for, its ASCII octets stay where they are. The exceptions are
/// `\`, `@` and `<` among octets that are no UTF-8: they may be the second half of a letter (Shift_JIS, Big5).
pub(super) fn text(value: &[u8]) -> Option<Cow<'_, str>> {
    let value = value.strip_suffix(b"\n").map_or(value, |v| v.strip_suffix(b"\r").unwrap_or(v));
    if value.len() > FROM_MAX {
        return None;
    }
    let text = String::from_utf8_lossy(value);
    let eight_bit = |octet: &u8| !octet.is_ascii();
    if let (Cow::Owned(_), Some(first), Some(last)) =
        (&text, value.iter().position(eight_bit), value.iter().rposition(eight_bit))
    {
        let halves = |octet: &u8| matches!(octet, b'\\' | b'@' | b'<');
        // `<` may follow the last one: Korean senders write no blank there.
        let next = value.get(last + 1).is_some_and(|octet| matches!(octet, b'\\' | b'@'));
        if next || value.get(first..=last)?.iter().any(halves) {
            return None;
        }
    }
    is_folded(&text).then_some(text)
}

/// Whether nothing but folds breaks the lines of a text, and no control is in it.
fn is_folded(text: &str) -> bool {
    let mut lines = text.split('\n').peekable();
    let mut first = true;
    while let Some(line) = lines.next() {
        let line = if lines.peek().is_some() { line.strip_suffix('\r').unwrap_or(line) } else { line };
        // Some take a line of nothing but blanks for the end of the header, and some take these for a line's end.
        let blank = !first && line.chars().all(is_blank);
        let folded = first || line.starts_with(is_blank);
        if blank || !folded || line.contains(|c| breaks_lines(c) || c.is_control() && c != '\t') {
            return false;
        }
        first = false;
    }
    true
}

/// Whether the text names nobody: no reader can find an address in it, nor decode one.
pub(super) fn names_nobody(text: &str) -> bool {
    text.is_ascii() && !text.contains('@') && !text.contains("=?")
}

/// The addr-spec of a value that holds exactly one mailbox: `addr-spec` or `[display-name] <addr-spec>`, with comments
/// behind it or in the display name (RFC 5322 §3.4).
///
/// The obsolete dot in a display name is taken, since it is common and harms nothing, but not at its beginning; other obsolete
/// syntax is not. A display name may be the same address again.
pub(super) fn addr_spec(value: &str) -> Result<&str, BadFrom> {
    let mut rest = value;
    let mut bracketed = None;
    let mut words: Vec<Word<'_>> = Vec::new();
    // A comment before the address, and one behind it that no space sets off.
    let (mut comment_before, mut comment_close) = (false, false);
    let mut last = ' ';
    while let Some(c) = rest.chars().next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => {
                last = c;
                rest = rest.get(1..).unwrap_or_default();
            }
            '(' => {
                comment_before |= bracketed.is_none();
                comment_close |= last != ' ' || words.is_empty();
                rest = after_comment(rest).ok_or(BadFrom::Bad)?;
            }
            ',' | ':' | ';' => return Err(BadFrom::Several),
            _ if bracketed.is_some() => return Err(BadFrom::Bad),
            '<' => {
                let (inside, after) = brackets(rest).ok_or(BadFrom::Bad)?;
                bracketed = Some(inside);
                rest = after;
            }
            _ => {
                let (word, after) = word(rest).ok_or(BadFrom::Bad)?;
                words.push(word);
                rest = after;
            }
        }
    }
    // Raw 8-bit text beside a quoted string moves the address for some.
    let beside = words.iter().any(|word| word.text.contains('"')) && !outside_quotes(value).is_ascii();
    let spec = match (bracketed, words.as_slice()) {
        _ if beside => return Err(BadFrom::Bad),
        (Some(inside), words) if is_display_name(words, comment_before, inside) => inside,
        (None, [word]) if !comment_close => word.text,
        _ => return Err(BadFrom::Bad),
    };
    // An encoded word (RFC 2047) cannot be an address, but some readers decode it all the same; and few read a quoted local
    // part that holds more than letters and dots.
    let quoted = spec.strip_prefix('"').and_then(|rest| rest.rsplit_once("\"@"));
    let plain = |local: &str| local.chars().all(|c| is_atext(c) || matches!(c, '.' | '@'));
    match quoted {
        _ if spec.contains("=?") => Err(BadFrom::Bad),
        Some((local, _)) if !plain(local) => Err(BadFrom::Bad),
        _ => Ok(spec),
    }
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
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Letters, digits, the signs that need no quotes, and dots.
    Atom,
    /// One quoted string of letters, digits, harmless signs and blanks.
    Quoted,
    /// One quoted string with a special of addresses in it.
    Telling,
    /// Something else, such as an address: no part of a display name.
    Other,
}

/// Whether these words, with or without a comment among them, can be the display name beside this address.
fn is_display_name(words: &[Word<'_>], comment: bool, address: &str) -> bool {
    let same = |text: &str| {
        let read = |text: &str| Address::parse(text.as_bytes(), true).ok();
        read(text).is_some_and(|again| read(address) == Some(again))
    };
    match words {
        [word] if word.kind == Kind::Other => !comment && !word.text.contains('"') && same(word.text),
        [word] if word.kind == Kind::Telling => !comment,
        words => {
            let plain = |word: &Word<'_>| matches!(word.kind, Kind::Atom | Kind::Quoted);
            words.iter().all(plain) && !words.first().is_some_and(|word| word.text.starts_with('.'))
        }
    }
}

/// The word that a text begins with, and what follows it.
fn word(text: &str) -> Option<(Word<'_>, &str)> {
    let (mut inside, mut escaped, mut quotes) = (false, false, 0_usize);
    let (mut telling, mut atom) = (false, true);
    let mut end = text.len();
    for (at, c) in text.char_indices() {
        match c {
            // Some readers end a line, and the quoted string with it, at a fold.
            '\r' | '\n' if inside => return None,
            // Some take the quote behind an escaped backslash for an escaped one.
            _ if escaped && c != '"' => return None,
            _ if escaped => escaped = false,
            '\\' if inside => escaped = true,
            '"' => {
                inside = !inside;
                quotes += 1;
            }
            _ if inside => telling |= is_telling(c),
            // Some take a comment behind a word for a part of it.
            '(' => return None,
            ' ' | '\t' | '\r' | '\n' | '<' | ',' | ':' | ';' => {
                end = at;
                break;
            }
            ')' | '>' => return None,
            _ => atom &= is_atext(c) || c == '.',
        }
    }
    let (word, after) = text.split_at_checked(end)?;
    let whole = quotes == 2 && word.starts_with('"') && word.ends_with('"');
    let kind = match (quotes, whole) {
        (0, _) if atom => Kind::Atom,
        (2, true) if telling => Kind::Telling,
        (2, true) => Kind::Quoted,
        _ => Kind::Other,
    };
    (!inside).then_some((Word { text: word, kind }, after))
}

/// The value without its quoted strings.
fn outside_quotes(value: &str) -> String {
    let (mut inside, mut escaped) = (false, false);
    let outside = value.chars().filter(|c| match c {
        _ if escaped => {
            escaped = false;
            false
        }
        '\\' if inside => {
            escaped = true;
            false
        }
        '"' => {
            inside = !inside;
            false
        }
        _ => !inside,
    });
    outside.collect()
}

/// What stands between `<` and `>`, and what follows; absent where brackets nest or stay open, or blanks are inside.
fn brackets(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('<')?;
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in inside.char_indices() {
        match c {
            ' ' | '\t' | '\r' | '\n' => return None,
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

/// What follows a comment; absent where it stays open, or holds what some readers take for a part of an address: another
/// comment, a special of addresses, a line break.
fn after_comment(text: &str) -> Option<&str> {
    let (inside, after) = text.strip_prefix('(')?.split_once(')')?;
    (!inside.contains(|c| is_telling(c) || matches!(c, '"' | '\\' | '\r' | '\n'))).then_some(after)
}

/// The specials of RFC 5322 that can make an address, or a second one, of a text.
fn is_telling(c: char) -> bool {
    matches!(c, '<' | '>' | ',' | ';' | ':' | '@' | '(' | ')')
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

/// What ends a line for some readers, although RFC 5322 knows CRLF alone.
fn breaks_lines(c: char) -> bool {
    matches!(c, '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

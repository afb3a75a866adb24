//! What is wrong with a line, in words for the administrator.

use crate::line::Token;

/// Characters of the administrator's own text that an error shows.
const SHOWN: usize = 40;
/// Octets of an error that leave room for the place in front: the filter cuts what a policy says after 400.
const ROOM: usize = 370;
/// Longer words are not compared.
const LONGEST: usize = 24;

/// What is wrong, and at which octet of the line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Fault<'a> {
    at: usize,
    wrong: Wrong<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Wrong<'a> {
    /// A control character.
    Control,
    /// A whole sentence.
    Text(&'static str),
    /// This text of the administrator's, and what is wrong with it.
    Value(&'a str, &'static str),
    /// Something else stands where one of these words was possible; what such a word is called.
    Unknown(Token<'a>, &'static str, &'static [&'static str]),
}

impl<'a> Fault<'a> {
    pub(crate) fn at(at: usize, wrong: Wrong<'a>) -> Fault<'a> {
        Fault { at, wrong }
    }

    /// The error, with its place: the number of the line and the text that stands there.
    pub(crate) fn tell(&self, number: usize, line: &str) -> String {
        let before = line.as_bytes().get(..self.at).unwrap_or_default();
        // Octets that go on with a character begin with the bits 10.
        let column = before.iter().filter(|octet| **octet & 0xc0 != 0x80).count() + 1;
        let mut text = place(number);
        text.push_str(", column ");
        push_number(&mut text, column);
        text.push_str(": ");
        self.push_reason(&mut text);
        text
    }

    fn push_reason(&self, text: &mut String) {
        match self.wrong {
            Wrong::Control => text.push_str("a control character; a rule is one line of plain text"),
            Wrong::Text(sentence) => text.push_str(sentence),
            Wrong::Value(found, sentence) => {
                push_shown(text, found);
                text.push(' ');
                text.push_str(sentence);
            }
            Wrong::Unknown(found, what, possible) => {
                push_found(text, found);
                text.push_str(what);
                push_possible(text, found, possible);
            }
        }
    }
}

/// How a place is named.
pub(crate) fn place(number: usize) -> String {
    let mut text = String::from("rules, line ");
    push_number(&mut text, number);
    text
}

/// Without the machinery for formatting, which is larger than all of this.
pub(crate) fn push_number(text: &mut String, number: usize) {
    if number >= 10 {
        push_number(text, number / 10);
    }
    text.push(char::from(b"0123456789"[number % 10]));
}

fn push_found(text: &mut String, found: Token<'_>) {
    let mut mark = [0];
    match found {
        Token::End => text.push_str("the line ends here, which"),
        Token::Word(word) => push_shown(text, word),
        Token::Quoted(quoted) => push_shown(text, quoted),
        Token::Mark(octet) => {
            mark[0] = octet;
            push_shown(text, core::str::from_utf8(&mark).unwrap_or_default());
        }
    }
    text.push_str(" is no ");
}

fn push_possible(text: &mut String, found: Token<'_>, possible: &[&str]) {
    if let Token::Word(word) = found {
        if word.starts_with(['\u{201c}', '\u{201d}', '\u{201e}', '\u{2018}', '\u{2019}']) {
            text.push_str("; write straight quotes (\") around a text");
            return;
        }
        if let Some(meant) = nearest(word, possible) {
            text.push_str("; did you mean `");
            text.push_str(meant);
            text.push_str("`?");
        }
    }
    text.push_str(if text.ends_with('?') { " Possible here: " } else { "; possible here: " });
    for (index, word) in possible.iter().enumerate() {
        if text.len() + word.len() > ROOM {
            text.push_str(", ...");
            return;
        }
        text.push_str(if index == 0 { "" } else { ", " });
        text.push_str(word);
    }
}

fn push_shown(text: &mut String, shown: &str) {
    text.push('`');
    match shown.char_indices().nth(SHOWN) {
        Some((end, _)) => {
            text.push_str(shown.get(..end).unwrap_or_default());
            text.push_str("...");
        }
        None => text.push_str(shown),
    }
    text.push('`');
}

/// The possible word that differs least, if it differs little.
fn nearest<'p>(word: &str, possible: &[&'p str]) -> Option<&'p str> {
    let most = match word.len() {
        0..3 => 0,
        3..6 => 1,
        6..=LONGEST => 2,
        _ => return None,
    };
    let letters = |known: &&&str| known.starts_with(|first: char| first.is_ascii_alphabetic());
    let near = possible.iter().filter(letters).map(|known| (distance(word.as_bytes(), known.as_bytes()), *known));
    let best = near.min_by_key(|(distance, _)| *distance)?;
    (best.0 <= most || best.1.eq_ignore_ascii_case(word)).then_some(best.1)
}

/// How many letters must be put in, taken out, replaced or exchanged with the next one, letter case aside.
fn distance(word: &[u8], known: &[u8]) -> usize {
    let mut rows = [[0; LONGEST + 1]; 3];
    let [before, last, row] = &mut rows;
    let (mut before, mut last, mut row) = (before, last, row);
    if known.len() > LONGEST {
        return usize::MAX;
    }
    for (index, cell) in last.iter_mut().enumerate() {
        *cell = index;
    }
    for (i, letter) in word.iter().enumerate() {
        row[0] = i + 1;
        for (j, other) in known.iter().enumerate() {
            let same = |a: &u8, b: &u8| a.eq_ignore_ascii_case(b);
            let replaced = last[j] + usize::from(!same(letter, other));
            let mut least = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && same(&word[i - 1], other) && same(letter, &known[j - 1]) {
                least = least.min(before[j - 1] + 1);
            }
            row[j + 1] = least;
        }
        (before, last, row) = (last, row, before);
    }
    last[known.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_told_from_another_word() {
        let possible = ["valid", "invalid", "missing", "none", "unverified", "unusable"];
        for (word, meant) in [
            ("mising", Some("missing")),
            ("Missing", Some("missing")),
            ("NONE", Some("none")),
            ("unverifeid", Some("unverified")),
            ("invaild", Some("invalid")),
            ("nobody", None),
            ("no", None),
            ("", None),
            ("x".repeat(500).as_str(), None),
        ] {
            assert_eq!(nearest(word, &possible), meant, "{word}");
        }
    }

    #[test]
    fn numbers_are_written_as_everywhere() {
        for number in [0, 7, 10, 200, usize::MAX] {
            let mut text = String::new();
            push_number(&mut text, number);
            assert_eq!(text, number.to_string());
        }
    }
}

//! One line of the text, read token by token: the reader only moves forward.

use crate::fault::{Fault, Wrong};

/// What stands at one place of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A run of octets without blanks, brackets, commas and double quotes.
    Word(&'a str),
    /// What stands between two quotes.
    Quoted(&'a str),
    /// One of `( ) [ ] ,`, or a colon before a blank or the end.
    Mark(u8),
    /// Nothing, or a remark.
    End,
}

/// A place in a line, and what is wrong with it. That is kept here and not handed from function to function, which makes the
/// component smaller.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    text: &'a str,
    at: usize,
    fault: Option<Fault<'a>>,
}

/// The line cannot be read: [`Line::fault`] says why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Failed;

impl<'a> Line<'a> {
    pub(crate) fn new(text: &'a str) -> Line<'a> {
        Line { text, at: 0, fault: None }
    }

    /// What is wrong with it.
    pub(crate) fn fault(self) -> Fault<'a> {
        self.fault.unwrap_or(Fault::at(0, Wrong::Control))
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn fail<T>(&mut self, at: usize, wrong: Wrong<'a>) -> Result<T, Failed> {
        self.fault = Some(Fault::at(at, wrong));
        Err(Failed)
    }

    /// Something else stands where one of these words was possible.
    #[cold]
    #[inline(never)]
    pub(crate) fn unknown<T>(
        &mut self,
        at: usize,
        found: Token<'a>,
        what: &'static str,
        possible: &'static [&'static str],
    ) -> Result<T, Failed> {
        self.fail(at, Wrong::Unknown(found, what, possible))
    }

    /// Goes back to a place where a token began.
    pub(crate) fn back(&mut self, at: usize) {
        self.at = at;
    }

    /// Where the next token begins.
    pub(crate) fn start(&mut self) -> usize {
        while matches!(self.octet(self.at), Some(b' ' | b'\t')) {
            self.at += 1;
        }
        self.at
    }

    /// The next token.
    pub(crate) fn token(&mut self) -> Result<Token<'a>, Failed> {
        #[cfg(test)]
        steps::one();
        let start = self.start();
        match self.octet(start) {
            None | Some(b'#') => {
                self.at = self.text.len();
                Ok(Token::End)
            }
            Some(quote @ (b'"' | b'\'')) => self.quoted(start, quote),
            Some(mark @ (b'(' | b')' | b'[' | b']' | b',')) => {
                self.at = start + 1;
                Ok(Token::Mark(mark))
            }
            Some(b':') if self.ends_at(start + 1) => {
                self.at = start + 1;
                Ok(Token::Mark(b':'))
            }
            Some(_) => self.word(start),
        }
    }

    /// Takes the word, if it is the next token.
    pub(crate) fn takes(&mut self, word: &str) -> bool {
        let start = self.start();
        let taken = self.token() == Ok(Token::Word(word));
        if !taken {
            self.at = start;
        }
        taken
    }

    /// Takes this word, which alone can stand here.
    pub(crate) fn expect(&mut self, word: &str, possible: &'static [&'static str]) -> Result<(), Failed> {
        let at = self.start();
        match self.token()? {
            Token::Word(found) if found == word => Ok(()),
            other => self.unknown(at, other, "word that can stand here", possible),
        }
    }

    /// Takes the mark, if it is the next token.
    pub(crate) fn takes_mark(&mut self, mark: u8) -> bool {
        let start = self.start();
        let there = self.octet(start) == Some(mark) && (mark != b':' || self.ends_at(start + 1));
        if there {
            self.at = start + 1;
        }
        there
    }

    /// Goes on to the end of the group that this place is in: before the bracket that closes it, or before the colon.
    pub(crate) fn skip_group(&mut self) -> Result<(), Failed> {
        let mut deep = 0_u32;
        loop {
            let start = self.start();
            match self.token()? {
                Token::Mark(b'(') => deep += 1,
                Token::Mark(b')') if deep > 0 => deep -= 1,
                Token::Mark(b')' | b':') | Token::End => {
                    self.at = start;
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    fn word(&mut self, start: usize) -> Result<Token<'a>, Failed> {
        let mut end = start;
        while let Some(octet) = self.octet(end) {
            match octet {
                b' ' | b'\t' | b'"' | b'(' | b')' | b'[' | b']' | b',' => break,
                b':' if self.ends_at(end + 1) => break,
                0..0x20 | 0x7f => return self.fail(end, Wrong::Control),
                _ => end += 1,
            }
        }
        self.at = end;
        self.slice(start, end).map(Token::Word)
    }

    fn quoted(&mut self, start: usize, quote: u8) -> Result<Token<'a>, Failed> {
        let mut end = start + 1;
        while let Some(octet) = self.octet(end) {
            match octet {
                _ if octet == quote => {
                    self.at = end + 1;
                    return self.slice(start + 1, end).map(Token::Quoted);
                }
                0..0x20 | 0x7f => return self.fail(end, Wrong::Control),
                _ => end += 1,
            }
        }
        self.fail(start, Wrong::Text("this quote is not closed on its line"))
    }

    /// Both ends stand beside ASCII, so they are no places within a character.
    fn slice(&self, start: usize, end: usize) -> Result<&'a str, Failed> {
        self.text.get(start..end).ok_or(Failed)
    }

    fn octet(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    fn ends_at(&self, at: usize) -> bool {
        matches!(self.octet(at), None | Some(b' ' | b'\t'))
    }
}

/// How many tokens were read: what the tests bound.
#[cfg(test)]
pub(crate) mod steps {
    use std::cell::Cell;

    thread_local! {
        static STEPS: Cell<usize> = const { Cell::new(0) };
    }

    pub(super) fn one() {
        STEPS.with(|steps| steps.set(steps.get() + 1));
    }

    /// The number since the last call.
    pub(crate) fn taken() -> usize {
        STEPS.with(|steps| steps.replace(0))
    }
}

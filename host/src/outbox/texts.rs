//! The words of our mail: files with placeholders, the shipped ones and a postmaster's own through the same path.

use std::path::Path;

use super::Error;
use crate::config::{Limits, Notices};
use crate::files;

/// What may stand between braces in the text of a notice.
const NOTICE: &[&str] = &["sender", "when", "reason", "fate", "reference", "postmaster"];
/// The same in that of a digest.
const DIGEST: &[&str] = &["count", "when", "senders", "postmaster"];
/// The same in that of a report.
const REPORT: &[&str] = &["sender", "recipients", "when", "reason", "reference", "postmaster"];
/// The same in that of a mail that brings a key. The key itself is none of them: it stands in its field and nowhere else.
const KEY_MAIL: &[&str] = &["address", "domain", "expires", "postmaster"];
/// The same in the letter to a user whose own rules cannot be read.
const RULES_UNREAD: &[&str] = &["address", "why", "postmaster"];
/// Values of several lines: they would break the subject's.
const LISTS: &[&str] = &["senders", "recipients"];

/// The five texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Texts {
    pub(super) notice: Text,
    pub(super) digest: Text,
    pub(super) report: Text,
    pub(super) key_mail: Text,
    pub(super) rules_unread: Text,
}

/// A subject and a body with places for values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    subject: Vec<Piece>,
    body: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Words(String),
    Value(&'static str),
}

impl Texts {
    /// The texts of the directory `notices.templates`; one that is not in it, and all where no directory is named, are those
    /// that ship.
    pub(super) fn load(notices: &Notices, limits: &Limits) -> Result<Texts, Error> {
        let dir = Some(notices.templates.as_path()).filter(|dir| !dir.as_os_str().is_empty());
        if let Some(dir) = dir {
            let readable = std::fs::read_dir(dir).map(|_| ());
            readable.map_err(|e| Error::Template { path: dir.to_owned(), what: format!("cannot be read: {e}") })?;
        }
        let text = |name: &str, shipped: &str, allowed| {
            let path = dir.unwrap_or(Path::new("")).join(name);
            let own = match dir {
                Some(_) => own(&path, limits.outbox.template_octets),
                None => Ok(None),
            };
            let parsed = own.and_then(|own| Text::parse(own.as_deref().unwrap_or(shipped), allowed));
            parsed.map_err(|what| Error::Template { path, what })
        };
        Ok(Texts {
            notice: text("notice.txt", include_str!("texts/notice.txt"), NOTICE)?,
            digest: text("digest.txt", include_str!("texts/digest.txt"), DIGEST)?,
            report: text("report.txt", include_str!("texts/report.txt"), REPORT)?,
            key_mail: text("key-mail.txt", include_str!("texts/key-mail.txt"), KEY_MAIL)?,
            rules_unread: text("rules-unread.txt", include_str!("texts/rules-unread.txt"), RULES_UNREAD)?,
        })
    }
}

/// The file's text; `None` where there is no such file.
fn own(path: &Path, most: u64) -> Result<Option<String>, String> {
    match files::read_text(path, most) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.is_absent() => Ok(None),
        Err(e) => Err(format!("cannot be read: {e}")),
    }
}

impl Text {
    fn parse(text: &str, allowed: &'static [&'static str]) -> Result<Text, String> {
        let text = text.replace("\r\n", "\n");
        if let Some(odd) = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
            return Err(format!("holds the control character {}", odd.escape_unicode()));
        }
        let wrong = || "must begin with a line `Subject: …` and an empty line".to_owned();
        let (subject, body) = text.split_once("\n\n").ok_or_else(wrong)?;
        let subject = subject.strip_prefix("Subject:").ok_or_else(wrong)?.trim();
        if subject.is_empty() || subject.contains('\n') {
            return Err(wrong());
        }
        let subject = pieces(subject, allowed)?;
        if let Some(list) = LISTS.iter().find(|list| subject.contains(&Piece::Value(list))) {
            return Err(format!("has {{{list}}} in its subject, which is a list of several lines"));
        }
        Ok(Text { subject, body: pieces(body.trim_start_matches('\n'), allowed)? })
    }

    /// Its subject with these values, in one line.
    pub(super) fn subject(&self, values: &[(&str, String)]) -> String {
        fill(&self.subject, values).replace(['\r', '\n'], " ")
    }

    /// Its body with these values, CRLF line endings.
    pub(super) fn body(&self, values: &[(&str, String)]) -> String {
        fill(&self.body, values).replace("\r\n", "\n").replace('\n', "\r\n")
    }
}

/// `{name}` is a place for a value, `{{` and `}}` are braces.
fn pieces(text: &str, allowed: &'static [&'static str]) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut words = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        words += before;
        if let Some(after) = from.strip_prefix("{{") {
            words.push('{');
            rest = after;
        } else if let Some(after) = from.strip_prefix("}}") {
            words.push('}');
            rest = after;
        } else {
            let (name, after) = from
                .strip_prefix('{')
                .and_then(|name| name.split_once('}'))
                .ok_or("has a brace without its partner: write {{ or }} for a brace itself")?;
            let known = allowed.iter().find(|known| **known == name);
            let known = known.ok_or_else(|| {
                let list: Vec<String> = allowed.iter().map(|name| format!("{{{name}}}")).collect();
                let short: String = name.chars().take(40).collect();
                format!("has the placeholder {{{short}}}, which means nothing here: use {}", list.join(" "))
            })?;
            pieces.extend([Piece::Words(std::mem::take(&mut words)), Piece::Value(known)]);
            rest = after;
        }
    }
    words += rest;
    pieces.push(Piece::Words(words));
    Ok(pieces)
}

fn fill(pieces: &[Piece], values: &[(&str, String)]) -> String {
    let value = |wanted: &str| values.iter().find(|(name, _)| *name == wanted).map_or("", |(_, value)| value.as_str());
    pieces
        .iter()
        .map(|piece| match piece {
            Piece::Words(words) => words.as_str(),
            Piece::Value(name) => value(name),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(files: &[(&str, &str)]) -> Result<Texts, String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let notices = Notices { templates: dir.path().to_owned(), ..Notices::default() };
        Texts::load(&notices, &Limits::default()).map_err(|e| e.to_string())
    }

    #[test]
    fn the_shipped_texts_stand_where_there_is_none_of_ones_own() {
        let shipped = Texts::load(&Notices::default(), &Limits::default()).unwrap();
        assert_eq!(load(&[]).unwrap(), shipped);
        let own = load(&[("digest.txt", "Subject: Grüße\n\n{count} {{x}} für {postmaster}\n")]).unwrap();
        assert_eq!((&own.notice, &own.report, &own.key_mail), (&shipped.notice, &shipped.report, &shipped.key_mail));
        let values = [("count", "7".to_owned()), ("postmaster", "p@x.example".to_owned())];
        assert_eq!(own.digest.body(&values), "7 {x} für p@x.example\r\n");
        assert_eq!(own.digest.subject(&values), "Grüße");
    }

    #[test]
    fn a_text_that_is_wrong_is_refused_with_its_file_and_the_way_out() {
        for (text, words) in [
            ("Hello\n\nx", "Subject: …"),
            ("", "Subject: …"),
            ("Subject:\n\nx", "Subject: …"),
            ("Subject: x\nx\n\nx", "Subject: …"),
            ("Subject: x", "Subject: …"),
            ("Subject: x\n\n{senders}", "{senders}, which means nothing here: use {sender} {when}"),
            ("Subject: {nobody}\n\nx", "{nobody}"),
            ("Subject: x\n\n{sender", "brace"),
            ("Subject: x\n\nsender}", "brace"),
            ("Subject: x\n\n\u{7}", "control character"),
        ] {
            let error = load(&[("notice.txt", text)]).unwrap_err();
            assert!(error.contains("notice.txt") && error.contains(words), "{text:?}: {error}");
        }
        assert!(load(&[("key-mail.txt", "Subject: x\n\n{key}")]).unwrap_err().contains("{key}, which means nothing"));
        assert!(load(&[("digest.txt", "Subject: {senders}\n\nx")]).unwrap_err().contains("several lines"));
        let long = format!("Subject: x\n\n{}", "x".repeat(100_000));
        assert!(load(&[("report.txt", &long)]).unwrap_err().contains("longer than"));
        let nowhere = Notices { templates: "/nowhere/at/all".into(), ..Notices::default() };
        assert!(Texts::load(&nowhere, &Limits::default()).unwrap_err().to_string().contains("/nowhere/at/all"));
    }

    #[test]
    fn a_file_that_is_no_utf_8_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("notice.txt"), b"Subject: x\n\n\xff").unwrap();
        let notices = Notices { templates: dir.path().to_owned(), ..Notices::default() };
        assert!(Texts::load(&notices, &Limits::default()).unwrap_err().to_string().contains("UTF-8"));
    }
}

//! What somebody brings as a candidate, read within its bounds.

use std::path::{Path, PathBuf};

use addrauth::config::{Limits, Module, Size};
use addrauth::files;
use addrauth::policy::rehearse::cases_of;
use addrauth::policy::trust::signature_of;

use super::super::Error;

/// How a component begins.
const COMPONENT: &[u8] = b"\0asm";

/// What a candidate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Component,
    Text,
}

impl Kind {
    pub(super) fn is_text(self) -> bool {
        self == Kind::Text
    }

    /// How its file's name ends.
    pub(super) fn end(self) -> &'static str {
        match self {
            Kind::Component => "wasm",
            Kind::Text => "toml",
        }
    }
}

/// A candidate with what belongs to it.
pub(super) struct Given {
    pub(super) kind: Kind,
    octets: Vec<u8>,
    pub(super) cases: Option<String>,
    signature: Option<Vec<u8>>,
}

impl Given {
    /// Reads a file, or with `true` a file of rules; its cases and its signature. In words why it is none.
    pub(super) fn read(
        (file, is_rules): (&Path, bool),
        (cases, signature): (Option<&Path>, Option<&Path>),
        id: &str,
        module: &Module,
    ) -> Result<Result<Given, String>, Error> {
        let limits = Limits::default();
        let unread = |path: &Path, e: files::Error| Error::Read { path: path.to_owned(), source: e.into() };
        let most = u64::try_from(limits.of(Size::Large).policy.file).unwrap_or(u64::MAX);
        let octets = files::read_given(file, most).map_err(|e| unread(file, e))?;
        let texts = limits.policy.cases_octets;
        let text = |path: &Path| {
            let read = files::read_given(path, texts).and_then(files::text);
            read.map_err(|e| unread(path, e))
        };
        let cases = cases.map(text).transpose()?;
        let read = |path: &Path| files::read_given(path, limits.policy.signature).map_err(|e| unread(path, e));
        let signature = signature.map(read).transpose()?;
        if !is_rules && octets.starts_with(COMPONENT) {
            return Ok(Ok(Given { kind: Kind::Component, octets, cases, signature }));
        }
        if signature.is_some() {
            return Ok(Err("it is no component, and text is configuration: nobody signs it".into()));
        }
        if octets.len() as u64 > texts {
            return Ok(Err(format!("a text of more than {} KiB is not taken", texts >> 10)));
        }
        let Ok(text) = files::text(octets) else {
            return Ok(Err("it is neither a component (a file .wasm) nor text".into()));
        };
        let text = if is_rules { super::section(id, &text.replace("\r\n", "\n"), module) } else { text };
        Ok(Ok(Given { kind: Kind::Text, octets: text.into_bytes(), cases, signature: None }))
    }

    /// The files that it takes where it lies here, itself last.
    pub(super) fn files(&self, path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
        let cases = self.cases.as_ref().and_then(|text| Some((first(path)?, text.clone().into_bytes())));
        let signature = self.signature.as_ref().map(|octets| (signature_of(path), octets.clone()));
        cases.into_iter().chain(signature).chain([(path.to_owned(), self.octets.clone())]).collect()
    }

    /// The files beside it that would be another candidate's.
    pub(super) fn others(&self, path: &Path) -> Vec<PathBuf> {
        let cases = first(path).filter(|_| self.cases.is_none());
        let signature = Some(signature_of(path)).filter(|_| !self.kind.is_text() && self.signature.is_none());
        cases.into_iter().chain(signature).collect()
    }
}

/// Where its cases are looked for.
fn first(path: &Path) -> Option<PathBuf> {
    cases_of(path).into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_brought_is_a_component_by_its_first_octets_or_a_text_and_else_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("x");
        let read = |octets: &[u8], is_rules: bool, signature: Option<&Path>| {
            std::fs::write(&file, octets).unwrap();
            let read = Given::read((&file, is_rules), (None, signature), "ours", &Module::default()).unwrap();
            read.map(|given| (given.kind, given.octets))
        };
        assert_eq!(read(b"\0asm\x0d\0\x01\0", false, None).unwrap().0, Kind::Component);
        let (kind, text) = read(b"when result is missing: mark\r\n\r\notherwise accept\n\n", true, None).unwrap();
        let read_again: toml::Table = String::from_utf8(text).unwrap().parse().unwrap();
        let ours = &read_again["policies"]["ours"];
        assert_eq!(kind, Kind::Text);
        assert_eq!(ours["module"].as_str(), Some("rules"));
        let lines: Vec<_> = ours["settings"]["rules"].as_array().unwrap().iter().map(|l| l.as_str().unwrap()).collect();
        assert_eq!(lines, ["when result is missing: mark", "", "otherwise accept"]);
        assert!(read(b"\xff\xfe", false, None).is_err());
        assert!(read(b"\0asm\x0d\0\x01\0\xff", true, None).is_err(), "rules are text");
        assert!(read(b"[policies.ours]", false, Some(&file)).is_err(), "nobody signs text");
        assert!(read(&vec![b'x'; 5 << 20], true, None).is_err());
    }
}

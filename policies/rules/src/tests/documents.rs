//! The texts that the documents show.

use std::fs;
use std::path::Path;

use super::*;

/// Every list of rules in a document: its lines up to the one that says what happens otherwise.
fn texts(document: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(document);
    let document = fs::read_to_string(&path).unwrap();
    let mut texts = Vec::new();
    let mut text = Vec::new();
    for line in document.lines() {
        let line = line.trim_start_matches(['#', ' ']).trim_end_matches(',');
        let Some(rule) = line.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { continue };
        if rule.starts_with("when ") || rule.starts_with("otherwise ") {
            text.push(rule.replace("\\\"", "\""));
        }
        if rule.starts_with("otherwise ") {
            texts.push(std::mem::take(&mut text));
        }
    }
    assert!(text.is_empty(), "{}: a list without `otherwise`", path.display());
    texts
}

#[test]
fn every_text_that_a_document_shows_is_taken() {
    for document in ["README.md", "policies/rules/README.md", "host/doc/policies.md", "host/cli/etc/addrauth.toml"] {
        let texts = texts(document);
        assert!(!texts.is_empty(), "{document} shows no rules");
        for text in texts {
            let settings = Settings::default().with("rules", Value::Texts(text.clone()));
            assert!(text.len() > 1, "{document}: {text:?}");
            assert!(Rules::check_settings(&settings).is_ok(), "{document}: {:?}", Rules::check_settings(&settings));
        }
    }
}

//! One place for each 451: those that follow from a decision are made in `settle/words.rs`, those that a door says by itself
//! in `mta/refused.rs`, and `proto/reply.rs` keeps every code within its class.

use std::fs;

use super::{root, skipped, sources};

/// The files below host/src that may write the code down.
const PLACES: [&str; 3] = ["mta/refused.rs", "proto/reply.rs", "settle/words.rs"];

/// What of a source is no comment, up to its tests: words, signs and literals.
fn pieces(source: &str) -> Vec<&str> {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let (mut out, mut rest) = (Vec::new(), source);
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        let length = skipped(rest).unwrap_or(if word > 0 { word } else { first.len_utf8() });
        if !rest.starts_with("//") && !rest.starts_with("/*") {
            out.push(&rest[..length]);
        }
        rest = &rest[length..];
    }
    out
}

/// Whether a piece is the code as a number, or a literal that begins with it.
fn is_code(piece: &str) -> bool {
    let quoted = piece.trim_start_matches(['b', 'r', '#']).strip_prefix('"');
    let text = quoted.unwrap_or(piece);
    text.strip_prefix("451").is_some_and(|behind| !behind.starts_with(|c: char| c.is_alphanumeric() || c == '.'))
}

fn writes_the_code(source: &str) -> bool {
    pieces(source).into_iter().any(is_code)
}

#[test]
fn a_451_is_written_down_in_one_place_for_decisions_and_one_for_doors() {
    let folder = root().join("host/src");
    let places: Vec<String> = sources(&folder)
        .into_iter()
        .filter(|(path, text)| !path.ends_with("tests.rs") && !path.contains("/tests/") && writes_the_code(text))
        .map(|(path, _)| path)
        .collect();
    assert_eq!(places, PLACES);
    let cli = sources(&root().join("host/cli/src"));
    assert!(cli.len() > 50 && !cli.iter().any(|(path, text)| !path.ends_with("tests.rs") && writes_the_code(text)));
}

#[test]
fn a_451_is_found_however_it_is_spelt_and_a_word_about_it_is_none() {
    for source in [
        "Refusal { code: 451, status }",
        "fn f() -> u16 { 451u16.into() }; (451, \"4.3.0\")",
        "let reply = \"451 4.3.0 later\";",
        "put(b\"451 4.3.0 later\\0\")",
        "let reply = r#\"451 \"later\" \"#;",
        "let code = \"451\";",
        "/* a comment */ 451",
    ] {
        assert!(writes_the_code(source), "{source}");
    }
    for source in [
        "// 451",
        "/* 451 */ let x = 1;",
        "warn!(\"every message gets 451, since\")",
        "let port = 4510; let name = a451; \"4510\"",
        "#[cfg(test)]\nmod tests { assert_eq!(code, 451) }",
    ] {
        assert!(!writes_the_code(source), "{source}");
    }
}

#[test]
fn what_the_sources_say_is_read_to_their_end() {
    let text = fs::read_to_string(root().join("host/src/mta/refused.rs")).unwrap();
    assert!(pieces(&text).iter().any(|piece| piece.contains("451 4.3.2")));
}

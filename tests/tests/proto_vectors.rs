//! The published test vectors that are files alone (`tests/vectors/README.md`): lines, proofs, records, addresses, targets.

use std::net::IpAddr;
use std::path::Path;

use addrauth::proto::address::{Address, BadFrom};
use addrauth::proto::key::AuthKey;
use addrauth::proto::record::{BadRecord, Record};
use addrauth::proto::wire::{Answer, DATAGRAM_MAX, Question, Reason, Request, Status, reply};
use addrauth::verify::is_internal;
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
struct File<T> {
    kind: String,
    vectors: Vec<T>,
}

/// The vectors of `KIND.json`: some at least.
fn vectors<T: DeserializeOwned>(kind: &str) -> Vec<T> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("vectors/{kind}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let file: File<T> = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(file.kind, kind);
    assert!(!file.vectors.is_empty(), "{kind}");
    file.vectors
}

#[derive(Deserialize)]
struct AddressVector {
    text: String,
    utf8: Option<bool>,
    reads: Option<String>,
    wire: Option<String>,
}

#[test]
fn every_address_reads_as_published() {
    for AddressVector { text, utf8, reads, wire } in vectors("address") {
        let found = Address::parse(text.as_bytes(), utf8.unwrap_or(true)).ok();
        assert_eq!(found.as_ref().map(Address::to_string), reads, "{text:?}");
        assert_eq!(found.as_ref().map(Address::wire), wire, "{text:?}");
    }
}

#[derive(Deserialize)]
struct FromVector {
    value: String,
    reads: Option<String>,
    error: Option<String>,
}

#[test]
fn every_from_field_reads_as_published() {
    for FromVector { value, reads, error } in vectors("from") {
        let (found, wrong) = match Address::from_field(value.as_bytes(), true) {
            Ok(address) => (Some(address.to_string()), None),
            Err(BadFrom::Several) => (None, Some("several".to_owned())),
            Err(BadFrom::Bad) => (None, Some("bad".to_owned())),
            Err(BadFrom::Nobody) => (None, Some("nobody".to_owned())),
            Err(other) => panic!("{other}"),
        };
        assert_eq!((found, wrong), (reads, error), "{value:?}");
    }
}

#[derive(Deserialize)]
struct RecordVector {
    text: String,
    reads: Option<String>,
    error: Option<String>,
}

#[test]
fn every_record_reads_as_published() {
    for RecordVector { text, reads, error } in vectors("record") {
        let (found, wrong) = match Record::parse(text.as_bytes()) {
            Ok(record) => (Some(record.to_string()), None),
            Err(BadRecord::Version(_)) => (None, Some("version".to_owned())),
            Err(BadRecord::Syntax(_)) => (None, Some("syntax".to_owned())),
            Err(other) => panic!("{other}"),
        };
        assert_eq!((found, wrong), (reads, error), "{text:?}");
    }
}

#[derive(Deserialize)]
struct ProofVector {
    key: String,
    k: String,
    seq: String,
    address: String,
    tags: String,
    proof: String,
}

#[test]
fn every_proof_is_made_and_checked_as_published() {
    let mut written = 0;
    for vector in vectors::<ProofVector>("h1") {
        let key = AuthKey::parse(vector.key.as_bytes()).unwrap();
        let k = key.verify_key();
        assert_eq!(k.octets().iter().map(|o| format!("{o:02x}")).collect::<String>(), vector.k);
        let (seq, wire, tags) = (vector.seq.as_bytes(), vector.address.as_bytes(), vector.tags.as_bytes());
        assert_eq!(k.prove(seq, wire, tags), vector.proof);
        assert!(k.checks(vector.proof.as_bytes(), seq, wire, tags));
        assert!(!k.checks(vector.proof.as_bytes(), seq, wire, b"v=2"));
        // Those that a verifier of ours could have written, it writes so.
        let from = vector.tags.strip_prefix("v=1").map(|rest| rest.strip_prefix(" from=").unwrap_or(rest));
        if let (Some(from), Ok(address)) = (from, Address::parse(wire, true))
            && address.wire() == vector.address
        {
            let question = Question::new(vector.seq, &address, &key, from);
            assert_eq!((question.tags, question.proof), (vector.tags, vector.proof));
            written += 1;
        }
    }
    assert!(written >= 3, "{written}");
}

#[derive(Deserialize)]
struct RequestVector {
    line: String,
    is: String,
    address: Option<String>,
}

#[test]
fn every_request_reads_as_published() {
    for RequestVector { line, is, address } in vectors("request") {
        let (kind, found) = match Request::read(line.as_bytes(), DATAGRAM_MAX) {
            Request::Silence => ("silence", None),
            Request::Refused { reason, .. } => (reason.word().unwrap_or_default(), None),
            Request::Asked { decoded, .. } => ("asked", Some(decoded)),
        };
        assert_eq!((kind, found), (is.as_str(), address), "{line:?}");
    }
}

#[derive(Deserialize)]
struct ReplyVector {
    line: String,
    status: Option<String>,
    t: Option<u32>,
    e: Option<String>,
}

#[test]
fn every_reply_reads_as_published() {
    for ReplyVector { line, status, t, e } in vectors("reply") {
        let answer = Answer::parse(line.as_bytes());
        assert_eq!(answer.as_ref().map(|a| a.status.word().to_owned()), status, "{line:?}");
        assert_eq!(answer.as_ref().and_then(|a| a.valid_for), t, "{line:?}");
        assert_eq!(answer.and_then(|a| a.reason).and_then(Reason::word).map(str::to_owned), e, "{line:?}");
    }
}

#[test]
fn the_published_reply_is_written() {
    let line =
        reply(b"00112233445566778899aabbccddeeff", b"alice@example.com", Status::Valid, Some(431_999), None, 512);
    let published = vectors::<ReplyVector>("reply").swap_remove(0).line;
    assert_eq!(line, Some(published.into_bytes()));
}

#[derive(Deserialize)]
struct TargetVector {
    address: IpAddr,
    refused: Option<String>,
}

#[test]
fn every_target_is_internal_or_not_as_published() {
    for TargetVector { address, refused } in vectors("targets") {
        // A refused port says nothing of the address.
        if refused.as_deref() != Some("port") {
            assert_eq!(is_internal(address), refused.is_some(), "{address}");
        }
    }
}

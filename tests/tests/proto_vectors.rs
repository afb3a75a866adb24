//! The published test vectors of the formats, as data that any other implementation can read too.

use std::path::Path;

use addrauth::proto::address::{Address, BadFrom};
use addrauth::proto::key::AuthKey;
use addrauth::proto::record::{BadRecord, Record};
use addrauth::proto::wire::{Answer, DATAGRAM_MAX, Question, Reason, Request, Status, reply};
use serde::Deserialize;
use serde::de::DeserializeOwned;

fn vectors<T: DeserializeOwned>(file: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(file);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Addresses {
    address: Vec<AddressVector>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddressVector {
    text: String,
    utf8: Option<bool>,
    reads: Option<String>,
    wire: Option<String>,
}

#[test]
fn every_address_reads_as_published() {
    let Addresses { address } = vectors("address.toml");
    for AddressVector { text, utf8, reads, wire } in address {
        let found = Address::parse(text.as_bytes(), utf8.unwrap_or(true)).ok();
        assert_eq!(found.as_ref().map(Address::to_string), reads, "{text:?}");
        assert_eq!(found.as_ref().map(Address::wire), wire.or(reads), "{text:?}");
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Froms {
    from: Vec<FromVector>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FromVector {
    value: String,
    reads: Option<String>,
    error: Option<String>,
}

#[test]
fn every_from_field_reads_as_published() {
    let Froms { from } = vectors("from.toml");
    for FromVector { value, reads, error } in from {
        let (found, wrong) = match Address::from_field(value.as_bytes(), true) {
            Ok(address) => (Some(address.to_string()), None),
            Err(BadFrom::Several) => (None, Some("several".to_owned())),
            Err(BadFrom::Bad) => (None, Some("bad".to_owned())),
            Err(BadFrom::Nobody) => (None, Some("nobody".to_owned())),
        };
        assert_eq!((found, wrong), (reads, error), "{value:?}");
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Records {
    record: Vec<RecordVector>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RecordVector {
    text: String,
    reads: Option<String>,
    error: Option<String>,
}

#[test]
fn every_record_reads_as_published() {
    let Records { record } = vectors("record.toml");
    for RecordVector { text, reads, error } in record {
        let (found, wrong) = match Record::parse(text.as_bytes()) {
            Ok(record) => (Some(record.to_string()), None),
            Err(BadRecord::Version(_)) => (None, Some("version".to_owned())),
            Err(BadRecord::Syntax(_)) => (None, Some("syntax".to_owned())),
        };
        assert_eq!((found, wrong), (reads, error), "{text:?}");
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Verify {
    proof: Vec<ProofVector>,
    request: Vec<RequestVector>,
    reply: Vec<ReplyVector>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProofVector {
    key: String,
    k: String,
    seq: String,
    address: String,
    from: Option<String>,
    tags: String,
    proof: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestVector {
    line: String,
    is: String,
    address: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplyVector {
    line: String,
    status: Option<String>,
    t: Option<u32>,
    e: Option<String>,
}

#[test]
fn every_proof_is_made_and_checked_as_published() {
    for vector in vectors::<Verify>("verify.toml").proof {
        let key = AuthKey::parse(vector.key.as_bytes()).unwrap();
        let k = key.verify_key();
        assert_eq!(k.octets().iter().map(|o| format!("{o:02x}")).collect::<String>(), vector.k);
        let (seq, address, tags) = (vector.seq.as_bytes(), vector.address.as_bytes(), vector.tags.as_bytes());
        assert_eq!(k.prove(seq, address, tags), vector.proof);
        assert!(k.checks(vector.proof.as_bytes(), seq, address, tags));
        assert!(!k.checks(vector.proof.as_bytes(), seq, address, b"v=1"));
        if let Some(from) = vector.from {
            let address = Address::parse(address, false).unwrap();
            let question = Question::new(vector.seq, &address, &key, &from);
            assert_eq!((question.tags, question.proof), (vector.tags, vector.proof));
        }
    }
}

#[test]
fn every_request_reads_as_published() {
    for RequestVector { line, is, address } in vectors::<Verify>("verify.toml").request {
        let (kind, found) = match Request::read(line.as_bytes(), DATAGRAM_MAX) {
            Request::Silence => ("silence", None),
            Request::Refused { reason, .. } => (reason.word().unwrap_or_default(), None),
            Request::Asked { decoded, .. } => ("asked", Some(decoded)),
        };
        assert_eq!((kind, found), (is.as_str(), address), "{line:?}");
    }
}

#[test]
fn every_reply_reads_as_published() {
    for ReplyVector { line, status, t, e } in vectors::<Verify>("verify.toml").reply {
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
    let published = vectors::<Verify>("verify.toml").reply.swap_remove(0).line;
    assert_eq!(line, Some(published.into_bytes()));
}

//! What must hold for any octets: the bodies of the fuzz targets, which the saved corpus runs through in every test run too.

use addrauth::proto::address::{ADDRESS_MAX, Address};
use addrauth::proto::header::{BadField, Block, Bounds, Ending, hides_field, inject, key_value, scan, strip};
use addrauth::proto::record::Record;
use addrauth::proto::results::{self, LeftOut, METHOD, Results};
use addrauth::proto::wire::{self, Answer, DATAGRAM_MAX, Reason, Request, Status};

mod answer;
pub mod hooks;
mod lmtp;
mod milter;
mod rules;

pub use answer::answer;
pub use lmtp::lmtp;
pub use milter::milter;
pub use rules::rules;

/// A fuzz target: it panics where something does not hold.
type Target = fn(&[u8]);

/// Every target by the name of its file and of its corpus.
pub const TARGETS: [(&str, Target); 12] = [
    ("address", address),
    ("answer", answer),
    ("draft01_cbor", hooks::draft01_cbor),
    ("draft01_json", hooks::draft01_json),
    ("header", header),
    ("lmtp", lmtp),
    ("milter", milter),
    ("record", record),
    ("results", results),
    ("rules", rules),
    ("stalwart", hooks::stalwart),
    ("wire", wire),
];

const BOUNDS: Bounds = Bounds { fields: 1_000, octets: 256 * 1024 };
const SPELLINGS: [(&str, &[u8]); 11] = [
    ("X-Auth-Key", b" k"),
    ("x-auth-key", b"k"),
    ("X-AUTH-KEY", b"\tk"),
    ("X-Auth-Key ", b" k"),
    ("X-Auth-Key \t", b" k"),
    ("X-Auth-Key", b"\n k"),
    ("X-Auth-Key", b" k\r\n\tk"),
    ("X-Auth-Key", b" k\n \n\t\n k"),
    ("X-Auth-Key", b""),
    ("X-Auth-Key", b" \xff\x80"),
    ("X-Auth-Key", b" k\0\rX-Auth-Key: k"),
];

/// The addr-spec and the From field: whatever is read prints and reads the same.
pub fn address(text: &[u8]) {
    for utf8 in [false, true] {
        let spec = Address::parse(text, utf8).ok();
        let from = Address::from_field(text, utf8).ok();
        for address in spec.into_iter().chain(from) {
            let printed = address.to_string();
            assert!(printed.len() <= ADDRESS_MAX && address.domain().as_str().contains('.'));
            assert!(utf8 || printed.is_ascii());
            assert_eq!(Address::parse(printed.as_bytes(), utf8).as_ref(), Ok(&address));
            assert!(address.wire().bytes().all(|octet| octet > b' ' && octet != 0x7f));
        }
    }
}

/// The header scanner, and the oracle of the removal: strip(inject(m)) == strip(m).
pub fn header(message: &[u8]) {
    let block = scan(message, BOUNDS);
    check(&block, message);
    let _ = (hides_field(message, "X-Auth-Key"), key_value(message));
    if block.ending == Ending::Bound || block.fields.len() == BOUNDS.fields {
        return;
    }
    let plain = strip(message, &["X-Auth-Key"], BOUNDS).expect("the block is within its bounds");
    assert!(!names(&plain).any(|name| name.eq_ignore_ascii_case(b"X-Auth-Key")));
    // One spelling a run, whichever the message's octets choose: eleven times the runs.
    let (name, value) = SPELLINGS[message.iter().map(|&octet| usize::from(octet)).sum::<usize>() % SPELLINGS.len()];
    for position in [0, 1, usize::MAX] {
        match inject(message, position, name, value) {
            Ok(injected) => match strip(&injected, &["X-Auth-Key"], BOUNDS) {
                Ok(stripped) => assert_eq!(stripped, plain),
                Err(_) => assert!(injected.len() > BOUNDS.octets),
            },
            Err(error) => assert_eq!(error, BadField::Place),
        }
    }
}

/// The fields lie one upon the other, from the first octet to the block's end.
fn check(block: &Block, message: &[u8]) {
    let mut at = 0;
    for field in &block.fields {
        assert_eq!(field.whole.start, at);
        assert!(field.name.end < field.value.start && field.value.end <= field.whole.end);
        at = field.whole.end;
    }
    assert!(block.end == at && at <= message.len().min(BOUNDS.octets));
}

fn names(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    scan(message, BOUNDS).fields.into_iter().map(|field| &message[field.name])
}

/// The `AS=` record: whatever is read prints and reads the same; no complaint holds an octet that a log would obey.
pub fn record(text: &[u8]) {
    match Record::parse(text) {
        Ok(record) => {
            assert!(Record::begins(text) && record.port > 0 && record.host.len() <= 253 && (record.udp || record.tls));
            assert_eq!(Record::parse(record.to_string().as_bytes()), Ok(record));
        }
        Err(error) => assert!(error.to_string().bytes().all(|octet| (b' '..=b'~').contains(&octet))),
    }
}

/// The Authentication-Results field: whatever is read prints and reads the same, on one line; who it says speaks is the same
/// whether the rest is read or not; our method is seen wherever it is read, and never where its name is not.
pub fn results(value: &[u8]) {
    let named = value.windows(METHOD.len()).any(|part| part.eq_ignore_ascii_case(METHOD.as_bytes()));
    let carries = results::carries(value, METHOD);
    assert!(named || !carries);
    let Ok(read) = Results::parse(value) else {
        assert_eq!(carries, named);
        return;
    };
    assert_eq!(results::authserv_id(value).as_ref(), Some(&read.authserv_id));
    if read.left_out != LeftOut::Nothing {
        assert_eq!(carries, named);
        return;
    }
    assert_eq!(carries, read.outcomes.iter().any(|outcome| outcome.method == METHOD));
    let printed = read.to_string();
    assert!(!printed.bytes().any(|octet| octet.is_ascii_control() && octet != b'\t'), "{printed:?}");
    // What is printed can be longer than what was read: quotes, escapes, U+FFFD for one octet.
    match Results::parse(printed.as_bytes()) {
        Err(results::Bad::Long) => assert!(printed.len() > value.len()),
        again => assert_eq!(again, Ok(read)),
    }
}

/// The VERIFY lines: reading is total, and no answer is longer than its question.
pub fn wire(line: &[u8]) {
    if let Some(answer) = Answer::parse(line) {
        let (seq, address) = (answer.seq.as_bytes(), answer.address.as_bytes());
        let again =
            wire::reply(seq, address, answer.status, answer.valid_for, answer.reason, usize::MAX).expect("it has room");
        let reason = answer.reason.filter(|reason| *reason != Reason::Other);
        assert_eq!(Answer::parse(&again), Some(Answer { reason, ..answer }));
    }
    let (seq, address, status, reason) = match Request::read(line, DATAGRAM_MAX) {
        Request::Silence => return,
        Request::Refused { seq, address, reason } => (seq, address, Status::Unverified, Some(reason)),
        Request::Asked { seq, address, .. } => (seq, address, Status::Valid, None),
    };
    if let Some(answer) = wire::reply(seq, address, status, Some(1), reason, line.len()) {
        assert!(answer.len() <= line.len());
        let read = Answer::parse(&answer);
        // An address may mix triplets and octets that are UTF-8 only once decoded: no verifier of ours asks so.
        assert_eq!(read.map(|answer| answer.status), std::str::from_utf8(address).ok().map(|_| status));
    }
}

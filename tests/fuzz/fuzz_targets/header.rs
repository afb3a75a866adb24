//! The header scanner, and the oracle of the removal: strip(inject(m)) == strip(m).
#![no_main]

use addrauth::proto::header::{BadField, Block, Bounds, Ending, hides_field, inject, key_value, scan, strip};
use libfuzzer_sys::fuzz_target;

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

fuzz_target!(|message: &[u8]| {
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
});

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

//! The VERIFY lines: reading is total, and no answer is longer than its question.
#![no_main]

use addrauth::proto::wire::{Answer, DATAGRAM_MAX, Reason, Request, Status, reply};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| {
    if let Some(answer) = Answer::parse(line) {
        let (seq, address) = (answer.seq.as_bytes(), answer.address.as_bytes());
        let again =
            reply(seq, address, answer.status, answer.valid_for, answer.reason, usize::MAX).expect("it has room");
        let reason = answer.reason.filter(|reason| *reason != Reason::Other);
        assert_eq!(Answer::parse(&again), Some(Answer { reason, ..answer }));
    }
    let (seq, address, status, reason) = match Request::read(line, DATAGRAM_MAX) {
        Request::Silence => return,
        Request::Refused { seq, address, reason } => (seq, address, Status::Unverified, Some(reason)),
        Request::Asked { seq, address, .. } => (seq, address, Status::Valid, None),
    };
    if let Some(answer) = reply(seq, address, status, Some(1), reason, line.len()) {
        assert!(answer.len() <= line.len());
        let read = Answer::parse(&answer);
        // An address may mix triplets and octets that are UTF-8 only once decoded: no verifier of ours asks so.
        assert_eq!(read.map(|answer| answer.status), std::str::from_utf8(address).ok().map(|_| status));
    }
});

//! The addr-spec and the From field: whatever is read prints and reads the same.
#![no_main]

use addrauth::proto::address::{ADDRESS_MAX, Address};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    for utf8 in [false, true] {
        let spec = Address::parse(text, utf8).ok();
        let from = Address::from_field(text, utf8).ok();
        for address in spec.into_iter().chain(from) {
            let printed = address.to_string();
            assert!(printed.len() <= ADDRESS_MAX && address.domain().contains('.'));
            assert!(utf8 || printed.is_ascii());
            assert_eq!(Address::parse(printed.as_bytes(), utf8).as_ref(), Ok(&address));
            assert!(address.wire().bytes().all(|octet| octet > b' ' && octet != 0x7f));
        }
    }
});

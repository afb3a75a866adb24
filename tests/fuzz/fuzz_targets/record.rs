//! The `AS=` record: whatever is read prints and reads the same; no complaint holds an octet that a log would obey.
#![no_main]

use addrauth::proto::record::Record;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    match Record::parse(text) {
        Ok(record) => {
            assert!(Record::begins(text) && record.port > 0 && record.host.len() <= 253 && (record.udp || record.tls));
            assert_eq!(Record::parse(record.to_string().as_bytes()), Ok(record));
        }
        Err(error) => assert!(error.to_string().bytes().all(|octet| (b' '..=b'~').contains(&octet))),
    }
});

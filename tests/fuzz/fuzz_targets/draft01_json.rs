//! `addrauth_tests::fuzz::hooks::draft01_json`, whose words say what must hold, under libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| addrauth_tests::fuzz::hooks::draft01_json(octets));

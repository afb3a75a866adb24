//! Any octets as a milter conversation: no panic, no frame over the limit, and no key field among the fields.
#![no_main]

use std::sync::Arc;
use std::time::SystemTime;

use addrauth::config::Limits;
use addrauth::mta::milter::frame::FrameCodec;
use addrauth::mta::milter::session::{Act, Session};
use libfuzzer_sys::fuzz_target;
use tokio_util::bytes::BytesMut;
use tokio_util::codec::Decoder;

fuzz_target!(|octets: &[u8]| {
    let limits = Arc::new(Limits::default());
    let mut codec = FrameCodec { limit: limits.milter_frame };
    let mut session = Session::new(limits.clone());
    let (mut octets, mut out) = (BytesMut::from(octets), BytesMut::new());
    while let Ok(Some(frame)) = codec.decode(&mut octets) {
        assert!(frame.payload.len() < limits.milter_frame);
        match session.take(&frame, &mut out) {
            Ok(Act::Admit) => session.admit(SystemTime::UNIX_EPOCH, &mut out).unwrap(),
            Ok(Act::Examine(mail) | Act::Answer(Some(mail))) => {
                assert_eq!(mail.named("X-Auth-Key").count() + mail.named("X-New-Auth-Key").count(), 0);
                assert!(mail.keys.len() <= limits.key_fields && mail.fields.len() <= limits.header_fields);
            }
            Ok(Act::Quit) | Err(_) => break,
            Ok(_) => {}
        }
    }
});

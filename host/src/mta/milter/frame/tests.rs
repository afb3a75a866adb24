//! Octets into frames, whatever pieces they come in.

use super::*;

/// What comes of these octets in one piece.
fn cut(octets: &[u8]) -> Result<Option<Frame>, Error> {
    Cutter::new(1024).next(&mut &octets[..])
}

#[test]
fn a_frame_is_read_only_when_it_is_whole_however_it_is_cut() {
    let stream = b"\0\0\0\x04Habc\0\0\0\x01E\0\0\0\x02Bx";
    for end in 0..8 {
        assert_eq!(cut(&stream[..end]).unwrap(), None, "{end}");
    }
    for size in 1..stream.len() {
        let (mut cutter, mut frames) = (Cutter::new(1024), Vec::new());
        for mut piece in stream.chunks(size) {
            while let Some(frame) = cutter.next(&mut piece).unwrap() {
                frames.push(frame);
            }
            assert!(piece.is_empty());
        }
        assert_eq!(frames, [Frame::new(b'H', &[b"abc"]), Frame::new(b'E', &[]), Frame::new(b'B', &[b"x"])], "{size}");
        assert!(cutter.is_between());
    }
}

#[test]
fn lengths_0_2_31_and_2_32_minus_1_are_refused_before_anything_is_allocated() {
    assert!(matches!(cut(b"\0\0\0\0"), Err(Error::EmptyFrame)));
    assert_eq!(cut(b"\0\0\0\x01").unwrap(), None);
    for length in [1025u32, 1 << 31, u32::MAX] {
        let mut cutter = Cutter::new(1024);
        assert!(matches!(cutter.next(&mut &length.to_be_bytes()[..]), Err(Error::LongFrame { .. })), "{length}");
        assert!(cutter.begun.is_none());
    }
}

#[test]
fn a_claimed_length_makes_room_for_what_came_alone() {
    let mut cutter = Cutter::new(1 << 31);
    let mut came = 0;
    for piece in [&(1u32 << 30).to_be_bytes()[..], b"B", &[1; 10], &[2; 3_000], &[3; 70_000], &[4; 1]] {
        assert_eq!(cutter.next(&mut &piece[..]).unwrap(), None);
        came += piece.len();
        assert!(cutter.begun.as_ref().unwrap().payload.capacity() <= 2 * came);
    }
    let payload = &cutter.begun.unwrap().payload;
    assert_eq!((payload.len(), payload[9], payload[3_009], payload[73_010]), (73_011, 1, 2, 4));
}

#[test]
fn all_frames_share_one_room_and_give_it_back_when_they_are_gone() {
    let room = Arc::new(Semaphore::new(10_000));
    let body = |length: u32| [&(length + 1).to_be_bytes()[..], b"B", &vec![0; length.try_into().unwrap()]].concat();
    let one = |cutter: &mut Cutter, octets: &[u8]| cutter.next(&mut &octets[..]);
    let mut cutters = [(); 3].map(|()| Cutter::within(1 << 20, Arc::clone(&room)));
    // Small frames take nothing of it.
    assert!(one(&mut cutters[0], &body(8_192)).unwrap().is_some());
    let whole = one(&mut cutters[0], &body(8_192 + 6_000)).unwrap();
    assert_eq!(room.available_permits(), 4_000);
    assert!(one(&mut cutters[1], &body(1 << 19)[..8_192 + 2_000]).unwrap().is_none());
    assert_eq!(room.available_permits(), 4_000 - 1_995);
    assert!(matches!(one(&mut cutters[2], &body(8_192 + 3_000)), Err(Error::Refused(Refused::Full(_)))));
    drop(whole);
    cutters[2] = Cutter::within(1 << 20, Arc::clone(&room));
    assert!(one(&mut cutters[2], &body(8_192 + 3_000)).unwrap().is_some());
    drop(cutters);
    assert_eq!(room.available_permits(), 10_000);
}

#[tokio::test]
async fn an_end_inside_a_frame_is_an_error_and_one_between_two_is_none() {
    let stream = b"\0\0\0\x04Habc";
    for cut in 0..stream.len() {
        let mut reader = Reader::new(&stream[..cut], Cutter::new(1024));
        match cut {
            0 => assert_eq!(reader.next().await.unwrap(), None),
            _ => assert!(matches!(reader.next().await, Err(Error::CutFrame)), "{cut}"),
        }
    }
}

#[tokio::test]
async fn no_octet_of_a_frame_stays_where_it_was_read_or_put_together() {
    let key = b"\0\0\0\x11LX-Auth-Key\0 key\0";
    // Whole, and cut off: what is begun lies in the cutter alone, which wipes it.
    for stream in [&key[..], &[&key[..], &key[..10]].concat()] {
        let mut reader = Reader::new(stream, Cutter::new(1024));
        assert_eq!(*reader.next().await.unwrap().unwrap().payload, b"X-Auth-Key\0 key\0");
        let _ = reader.next().await;
        assert!(reader.read.len() == READ && reader.read.iter().all(|octet| *octet == 0));
    }
}

#[test]
fn what_is_written_reads_back_and_no_more_than_the_limit_is_written() {
    let mut out = BytesMut::new();
    put(&mut out, b'h', &[b"Name\0", b" value\0"], 1024).unwrap();
    assert_eq!(out.as_ref(), b"\0\0\0\x0dhName\0 value\0");
    assert!(put(&mut out, b'h', &[&[0; 1024]], 1024).is_err());
    assert_eq!(out.len(), 17);
}

#[test]
fn strings_end_with_a_nul_each() {
    assert_eq!(strings(b"a\0\0b\0"), Some(vec![b"a".as_slice(), b"", b"b"]));
    assert_eq!(strings(b""), Some(vec![]));
    assert_eq!(strings(b"\0"), Some(vec![b"".as_slice()]));
    assert_eq!(strings(b"a\0b"), None);
}

#[test]
fn a_frame_prints_without_its_contents() {
    assert_eq!(format!("{:?}", Frame::new(b'L', &[b"X-Auth-Key\0 secret\0"])), "Frame(L, 19 octets)");
}

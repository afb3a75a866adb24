use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;

const KEY: &str = "Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2yTq9wEz3xBv7nMs4pDl8hGj0K";

fn key(text: &str) -> AuthKey {
    AuthKey::parse(text.as_bytes()).unwrap()
}

fn cut(octets: &[u8]) -> Vec<u8> {
    Redactor::new([&key(KEY)]).cut(octets).into_owned()
}

fn cut_text(text: &str) -> String {
    String::from_utf8(cut(text.as_bytes())).unwrap()
}

/// Every octet of a text escaped.
fn escaped(text: &str, sign: char, lower: bool) -> String {
    let one = |octet: u8| if lower { format!("{sign}{octet:02x}") } else { format!("{sign}{octet:02X}") };
    text.bytes().map(one).collect()
}

#[test]
fn a13_a_key_is_cut_out_however_it_is_written() {
    let (begin, end) = KEY.split_at(30);
    for (written, left) in [
        (
            format!("v=1; z=From:=20a.b|X-Auth-Key:=20{KEY}|Date:x; b=abc"),
            "v=1; z=From:=20a.b|X-Auth-Key:=20@|Date:x; b=abc",
        ),
        (format!("k={KEY}"), "k=@"),
        (format!("k=%{KEY}"), "k=%@"),
        (format!("a {begin}\r\n\t {end} b"), "a @ b"),
        (format!("a {begin}\n{end} b"), "a @ b"),
        (format!("a{begin}=\r\n{end}.b"), "a@.b"),
        (format!("<{begin} {end}>"), "<@>"),
        (escaped(KEY, '=', false), "@"),
        (escaped(KEY, '=', true), "@"),
        (escaped(KEY, '%', false), "@"),
        (format!("x={begin}{}", escaped(end, '%', true)), "x=@"),
        (format!("x%{begin}{}", escaped(end, '=', false)), "x%@"),
        (format!("x={begin}=\r\n{}", escaped(end, '=', false)), "x=@"),
        (format!("x{KEY}{KEY}y{KEY}"), "x@@y@"),
        (format!("{KEY}: in a field's name"), "@: in a field's name"),
        (format!("é{KEY}é"), "é@é"),
    ] {
        assert_eq!(cut_text(&written), left.replace('@', REMOVED), "{written}");
    }
    for untouched in ["", "x", &KEY[1..], &KEY[..63], &KEY.to_ascii_lowercase(), "=\r\n", "=", "%4"] {
        assert_eq!(cut_text(untouched), untouched);
        assert!(matches!(Redactor::new([&key(KEY)]).cut(untouched.as_bytes()), Cow::Borrowed(_)));
    }
}

#[test]
fn a13_a_key_in_base64_is_overwritten_and_all_around_it_can_still_be_decoded() {
    for before in 0..8 {
        for (ending, width) in [("\r\n", 76), ("\n", 60), ("", usize::MAX)] {
            let text = format!("{}{KEY}, and so on", "x".repeat(before));
            let digits = STANDARD.encode(&text);
            let lines: Vec<&str> = digits
                .as_bytes()
                .chunks(width.min(digits.len()))
                .map(|line| std::str::from_utf8(line).unwrap())
                .collect();
            let clean = cut_text(&lines.join(ending));
            assert_eq!(clean.len(), lines.join(ending).len(), "no digit is lost");
            let decoded = STANDARD.decode(clean.replace(ending, "")).unwrap_or_else(|e| panic!("{clean}: {e}"));
            let decoded = String::from_utf8_lossy(&decoded).into_owned();
            assert!(decoded.starts_with(&"x".repeat(before)) && decoded.ends_with(", and so on"), "{decoded}");
            // At most a part of an octet at either end is another key's as well.
            assert!(!decoded.contains(&KEY[2..10]) && !decoded.contains(&KEY[50..60]), "{decoded}");
            assert!(decoded.contains("**********"), "{decoded}");
        }
    }
}

#[test]
fn a13_what_stands_behind_a_key_fields_name_is_cut_though_it_be_no_key() {
    let nothing = Redactor::new([]);
    let (begin, end) = KEY.split_at(30);
    for (written, left) in [
        (format!("z=X-Auth-Key:=20{KEY}|Date:=20x"), "z=X-Auth-Key:=20@|Date:=20x"),
        (format!("z=x-new-auth-key:{KEY};"), "z=x-new-auth-key:@;"),
        (format!("X-Original-X-Auth-Key:\r\n {begin}\r\n\t{end}\r\nTo: a"), "X-Original-X-Auth-Key:\r\n @\r\nTo: a"),
        (format!("X-Auth-Key: \"{KEY}\""), "X-Auth-Key: \"@\""),
        (format!("X-Auth-Key : {KEY}=,{KEY}"), "X-Auth-Key : @=,{KEY}"),
        (format!("X-Auth-Key: {KEY}, {KEY} {KEY}"), "X-Auth-Key: @, @ @"),
        (format!("X-Auth=2DKey=3A=20{KEY}"), "X-Auth=2DKey=3A=20@"),
        (format!("%58-Auth-Key%3a%20{KEY}"), "%58-Auth-Key%3a%20@"),
        ("X-Auth-Key: too-short-for-one".into(), "X-Auth-Key: @"),
    ] {
        let left = left.replace("{KEY}", KEY).replace('@', REMOVED);
        assert_eq!(nothing.cut_text(&written), left, "{written}");
    }
    for untouched in [
        "The field X-Auth-Key: it carries a secret that nobody is to see.".to_owned(),
        "X-Auth-Key:\r\nAuthentication-Results: mx".to_owned(),
        format!("X-Auth-Key-Status: VALIDKEY; x={KEY}"),
        format!("Auth-Keys: {KEY}"),
        format!("X-Auth-Key {KEY}"),
        "X-Auth-Key: short".to_owned(),
        "X-Auth-Key:".to_owned(),
    ] {
        assert_eq!(nothing.cut_text(&untouched), untouched);
    }
    assert_eq!(&*nothing.cut_value("Old-Auth-Key", format!(" {KEY}").as_bytes()), format!(" {REMOVED}").as_bytes());
    assert_eq!(&*nothing.cut_value("Subject", format!(" {KEY}").as_bytes()), format!(" {KEY}").as_bytes());
}

#[test]
fn of_many_keys_each_is_cut_out_and_of_too_many_whatever_may_be_one() {
    let many = |count: usize| (0..count).map(|n| key(&format!("{n:0>40}"))).collect::<Vec<_>>();
    let text = |keys: &[AuthKey]| keys.iter().map(|key| format!("a {}. ", key.expose())).collect::<String>();
    for count in [2, KEYS_MOST, KEYS_MOST + 1, 3 * KEYS_MOST] {
        let keys = many(count);
        let clean = Redactor::new(&keys).cut_text(&text(&keys)).into_owned();
        assert_eq!(clean, format!("a {REMOVED}. ").repeat(count));
    }
    let crowd = many(KEYS_MOST + 1);
    assert_eq!(Redactor::new(&crowd).cut_text(&format!("Dear friend, {KEY}!")), format!("Dear friend, {REMOVED}!"));
    let same = [key(KEY), key(KEY)];
    assert_eq!(
        Redactor::new(same.iter().cycle().take(1_000)).cut_text("a-long-word-of-forty-octets-that-is-no-key"),
        "a-long-word-of-forty-octets-that-is-no-key"
    );
    // One that ends in the middle of another, and one that begins there.
    let nested = [key(&KEY[..30]), key(&KEY[10..40]), key(&KEY[20..]), key(KEY)];
    assert_eq!(Redactor::new(&nested).cut_text(&format!("<{KEY}>")).replace(REMOVED, ""), "<>");
    assert_eq!(Redactor::new(&nested[1..3]).cut_text(&format!("<{}>", &KEY[10..])).replace(REMOVED, ""), "<>");
}

#[test]
fn f_the_work_grows_with_the_octets_alone() {
    // What makes a naive search slow: at each place nearly all of a key.
    let keys: Vec<AuthKey> = (22..80).map(|n| key(&format!("{}b", "a".repeat(n)))).collect();
    let redactor = Redactor::new(&keys);
    let time = |octets: usize| {
        let text = vec![b'a'; octets];
        let begin = std::time::Instant::now();
        assert!(!redactor.holds(&text));
        begin.elapsed()
    };
    let (small, large) = (time(200_000), time(2_000_000));
    assert!(large < small * 100 + std::time::Duration::from_secs(5), "{small:?} {large:?}");
}

#[test]
fn f_however_often_keys_overlap_there_are_no_more_cuts_than_keys_side_by_side() {
    let [one, quad] = [key(&"a".repeat(KEY_MIN)), key(&"YWFh".repeat(8))];
    let large = 3_000_000;
    let body = |word: &str| [word.repeat(large / word.len()).as_bytes(), b"=%"].concat();
    // One letter in all four ways of reading; and text that is a key at one octet and base64 of another at the next.
    for (keys, word) in [(vec![&one], "a"), (vec![&one, &quad], "YWFh"), (vec![&one, &quad], "WVdGaFlXRmhZV0Zo")] {
        let (redactor, body) = (Redactor::new(keys), body(word));
        let mut most = 0;
        for escapes in Escapes::ALL {
            let mut cuts = Cuts::all();
            redactor.find(&Automaton::of(&redactor.keys), Octets::new(&body, escapes), &mut cuts);
            let mut places = Vec::new();
            cuts.join(&mut places);
            most = most.max(places.len());
        }
        assert!(most <= 5, "{word}: {most}");
        assert!(redactor.cuts(&body).len() <= 5, "{word}");
        assert!(redactor.cut(&body).len() <= body.len(), "{word}");
    }
    // Side by side they are cut one by one.
    let redactor = Redactor::new([&one]);
    let apart = body(&format!("{} ", "a".repeat(KEY_MIN)).replace(' ', "."));
    assert!(redactor.cuts(&apart).len() <= apart.len() / KEY_MIN);
    assert_eq!(redactor.cut_text(&"a".repeat(1_000)), REMOVED);
}

#[test]
fn f_whether_a_key_is_there_is_known_at_the_first() {
    let redactor = Redactor::new([&key(KEY)]);
    let mut first = Cuts::first();
    let text = format!("{KEY} {KEY} X-Auth-Key: {KEY}");
    let mut octets = Octets::new(text.as_bytes(), Escapes::ALL[0]);
    redactor.find(&Automaton::of(&redactor.keys), octets.by_ref(), &mut first);
    assert!(!first.is_empty());
    assert_eq!(octets.count(), text.len() - 3 - KEY.len(), "what follows is not read");
}

#[test]
fn a13_overlapping_base64_is_overwritten_as_one_and_can_still_be_decoded() {
    let redactor = Redactor::new([&key(&"a".repeat(KEY_MIN))]);
    for before in 0..4 {
        let digits = STANDARD.encode(format!("{}{}, and so on", "x".repeat(before), "a".repeat(400)));
        let clean = redactor.cut_text(&digits).into_owned();
        let decoded = String::from_utf8_lossy(&STANDARD.decode(&clean).unwrap()).into_owned();
        assert!(decoded.starts_with(&"x".repeat(before)) && decoded.ends_with(", and so on"), "{decoded}");
        assert!(clean.len() == digits.len() && !decoded.contains("aaa"), "{decoded}");
    }
}

proptest! {
    #[test]
    fn nothing_is_left_of_a_key_and_nothing_else_is_lost(
        before in "[ -~]{0,30}", after in "[ -~]{0,30}", at in 1_usize..64, how in 0_usize..6,
    ) {
        let (begin, end) = KEY.split_at(at);
        let written = match how {
            0 => KEY.to_owned(),
            1 => format!("{begin}\r\n {end}"),
            2 => format!("{begin}=\r\n{end}"),
            3 => format!("{}{end}", escaped(begin, '=', true)),
            4 => format!("{begin}{}", escaped(end, '%', false)),
            _ => format!("{}{}", escaped(begin, '%', false), escaped(end, '=', false)),
        };
        // What stands before may itself end with the beginning of an escape.
        let before = format!("{before}.");
        let clean = cut_text(&format!("{before}{written}.{after}"));
        prop_assert_eq!(clean, format!("{before}{REMOVED}.{after}"));
    }

    #[test]
    fn a13_no_text_is_passed_over_in_which_a_key_would_be_found(
        parts in prop::collection::vec((0_usize..9, "[ -~]{0,3}", 0_usize..64), 0..6), crowded in any::<bool>(),
    ) {
        let base64 = STANDARD.encode(format!("xy{KEY}z"));
        let part = |(how, between, at): &(usize, String, usize)| match how {
            0 => format!("{between}{KEY}"),
            1 => format!("{between}{}\r\n {}", &KEY[..*at], &KEY[*at..]),
            2 => format!("{}={between}\r\n{}", &KEY[..*at], &KEY[*at..]),
            3 => format!("{between}{}{}", escaped(&KEY[..*at], '=', true), &KEY[*at..]),
            4 => format!("{between}{}", escaped(KEY, '%', false)),
            5 => format!("{between}{}\n{}", &base64[..*at], &base64[*at..]),
            6 => format!("X-Auth-Key:{between}{}", &KEY[*at..]),
            7 => format!("x-auth-key=3A{between}{}", &KEY[*at..]),
            _ => format!("{between}{}", &KEY[*at..]),
        };
        let text: String = parts.iter().map(part).collect();
        let crowd: Vec<AuthKey> = (0..=KEYS_MOST).map(|number| key(&format!("{KEY}{number}"))).collect();
        let redactor = if crowded { Redactor::new(&crowd) } else { Redactor::new([&key(KEY)]) };
        let mut found = Cuts::first();
        for escapes in Escapes::ALL {
            redactor.find(&Automaton::of(&redactor.keys), Octets::new(text.as_bytes(), escapes), &mut found);
        }
        prop_assert_eq!(redactor.holds(text.as_bytes()), !found.is_empty(), "{}", text);
        prop_assert_eq!(matches!(redactor.cut_text(&text), Cow::Borrowed(_)), found.is_empty(), "{}", text);
    }

    #[test]
    fn no_octets_upset_it(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        let clean = cut(&octets);
        prop_assert!(!Redactor::new([&key(KEY)]).holds(&clean));
        prop_assert!(!clean.windows(KEY.len()).any(|window| window == KEY.as_bytes()));
    }
}

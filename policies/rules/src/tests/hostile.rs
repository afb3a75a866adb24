//! Texts that are made to do harm.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::check::{LINES, OCTETS};
use crate::line::steps;

/// Reads it in every way, and bounds the tokens by the octets.
fn read(text: &[String]) -> Result<Wanted, String> {
    let settings = Settings::default().with("rules", Value::Texts(text.to_vec()));
    let octets: usize = text.iter().map(String::len).sum();
    let most = 6 * (octets + 2 * text.len() + 1);
    steps::taken();
    let checked = Rules::check_settings(&settings);
    assert!(steps::taken() <= most, "{text:?}");
    for facts in [Facts::of(KeyStatus::Invalid), full(KeyStatus::Missing)] {
        let decision = Rules::decide(&facts, &settings);
        assert!(steps::taken() <= most, "{text:?}");
        assert!(decision.reason.len() <= 400);
    }
    if let Err(text) = &checked {
        assert!(text.len() <= 400 && !text.contains(['\n', '\r', '\0']), "{text}");
    }
    checked
}

#[test]
fn brackets_nest_sixteen_deep_and_no_deeper() {
    let nested = |depth: usize| {
        lines(&[&format!("when {}tls{}: mark", "(".repeat(depth), ")".repeat(depth)), "otherwise accept"])
    };
    assert!(read(&nested(16)).is_ok());
    for depth in [17, 100, 8_000] {
        assert!(read(&nested(depth)).unwrap_err().contains("more than 16 brackets"), "{depth}");
    }
    assert!(read(&lines(&[&format!("when {}tls: mark", "not ".repeat(4_000)), "otherwise accept"])).is_ok());
    assert!(read(&lines(&[&"(".repeat(16_000), "otherwise accept"])).is_err());
    let open = format!("when result is valid and {}", "(".repeat(16_000));
    assert!(read(&lines(&[&open, "otherwise accept"])).unwrap_err().contains("more than 16 brackets"));
}

#[test]
fn two_hundred_lines_and_sixteen_kib_are_taken_and_not_one_more() {
    let mut text: Vec<String> = (1..LINES).map(|n| format!("when sender is a{n}@bank.example: mark")).collect();
    text.push("otherwise accept".into());
    assert!(read(&text).is_ok());
    text.insert(0, "#".into());
    assert_eq!(read(&text).unwrap_err(), "rules: more than 200 lines");
    let line = "when sender is in [";
    let end = "a@b.example]: mark";
    let items = (OCTETS - line.len() - end.len() - "otherwise accept".len()) / "a@b.example, ".len();
    let mut long = format!("{line}{}{end}", "a@b.example, ".repeat(items));
    long += &" ".repeat(OCTETS - long.len() - "otherwise accept".len());
    assert!(read(&lines(&[&long, "otherwise accept"])).is_ok());
    assert_eq!(read(&lines(&[&long, " otherwise accept"])).unwrap_err(), "rules: more than 16 KiB of text");
    let megabytes = vec!["when ((((tls".to_owned(); 100_000];
    assert!(read(&megabytes).is_err());
}

#[test]
fn the_longest_conditions_on_every_line_take_linear_time() {
    let condition = "not (size over 1 or not (claim is all or sender is in [a@b.example, *.c.example])) and tls";
    let text: Vec<String> = (0..LINES).map(|_| format!("when {condition}: mark")).collect();
    assert!(read(&text).is_err());
    let begin = Instant::now();
    for _ in 0..20 {
        let _ = read(&text);
    }
    // A thousandth of this is what it takes; something that grows with the square of the text takes longer.
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn odd_characters_are_told_by_their_place() {
    for text in [
        "when\0tls: mark",
        "when tls: mark \"\u{7f}\"",
        "when tls: mark\r\n",
        "\u{feff}when tls: mark",
        "when\u{a0}tls: mark",
        "when tls\u{2028}: mark",
        "when tls: mark \"a\" \"b\"",
        "'",
        "\"",
        "when sender is '': mark",
        "when helo is \"\": mark",
        "when helo is ..: mark",
        "otherwise accept accept",
        "when",
        "otherwise",
        ":",
        "when :",
        "when tls : : mark",
        "when tls",
        "when not: mark",
        "when (): mark",
        "when tls and: mark",
        "when and tls: mark",
        "]",
        "when sender is [: mark",
        "when sender is in [a@b.example: mark",
        "when sender is in [a@b.example,]: mark",
        "when sender is @: mark",
        "when sender is *.: mark",
        "when sender is @b..example: mark",
        "when sender is a@: mark",
        "when size over: mark",
        "when client ip is /: mark",
        "when last: mark",
        "when never: mark",
        "when envelope is a@b.example: mark",
    ] {
        let refusal = read(&lines(&[text, "otherwise accept"]));
        assert!(refusal.as_ref().is_err_and(|text| text.starts_with("rules, line 1, column ")), "{text:?} {refusal:?}");
    }
}

/// Pieces that the grammar knows, in any order.
fn pieces() -> impl Strategy<Value = String> {
    let words = vec![
        "when",
        "otherwise",
        "and",
        "or",
        "not",
        "(",
        ")",
        "[",
        "]",
        ",",
        ":",
        "is",
        "in",
        "result",
        "valid",
        "invalid",
        "why",
        "wrong",
        "sender",
        "a@b.example",
        "@b.example",
        "size",
        "over",
        "10M",
        "tls",
        "spf",
        "aligned",
        "reject",
        "tell",
        "the",
        "both",
        "mark",
        "\"",
        "'",
        "\"so\"",
        "#",
        "client",
        "ip",
        "::1",
        "10.0.0.0/8",
        "last",
        "within",
        "30",
        "days",
        "unknown",
        "\u{e9}",
        "\u{1f511}",
        "\r",
        "\n",
        "\0",
        " ",
    ];
    prop::collection::vec((prop::sample::select(words), any::<bool>()), 0..60).prop_map(|pieces| {
        pieces.into_iter().map(|(word, blank)| format!("{word}{}", if blank { " " } else { "" })).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_text_is_read_or_refused(text in prop::collection::vec(".{0,80}", 0..5)) {
        let _ = read(&text);
    }

    #[test]
    fn any_order_of_the_words_is_read_or_refused(text in prop::collection::vec(pieces(), 0..4)) {
        let _ = read(&text);
    }

    #[test]
    fn a_text_that_is_cut_is_read_or_refused(at in 0_usize..200) {
        let text = "when result is invalid and not (sender is in [\"b\u{fc}ro@b.example\", *.c.example] or tls): reject, tell the sender 'no'";
        let mut at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let _ = read(&lines(&[&text[..at], "otherwise accept"]));
    }
}

//! Summaries as they are written, read and asked.

use super::*;

#[test]
fn a_summary_answers_as_the_block_that_it_is_of() {
    let words = ["valid", "missing", "none", "", "x"];
    let policies: Vec<String> = (0..10).map(|n| format!("p{n}")).collect();
    // Numbers that look drawn, and are the same in every run.
    let mut state = 1_u64;
    let mut draw = |most: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % most
    };
    for round in 0..400 {
        let known = draw(POLICIES + 1);
        let mut block = Block { policies: policies.iter().take(known).cloned().collect(), ..Block::default() };
        (0..draw(4)).for_each(|_| note(&mut block.results, words[draw(3)]));
        (0..draw(3)).for_each(|_| note(&mut block.verdicts, ["accept", "reject"][draw(2)]));
        let bit = |n: usize| if n == 0 { 0 } else { 1_u8 << (n - 1) };
        block.words = (0..draw(40)).map(|_| [bit(draw(7)), bit(draw(9))]).collect();
        let summary = block.summary();
        let some = |all: &[&'static str], n: usize| all.get(n).copied();
        for _ in 0..50 {
            let sought = SoughtWords {
                result: some(&words, draw(8)),
                verdict: some(&["accept", "reject", "hold"], draw(5)),
                decision: some(&["accept", "mark", "defer", "nonsense"], draw(6)),
                policy: policies.get(draw(14)).map(String::as_str),
            };
            let has = |known: &[String], word: Option<&str>| word.is_none_or(|word| known.iter().any(|k| k == word));
            let bits = block.bits(sought.decision, sought.policy);
            let is_free = bits == [u8::MAX; 2];
            let meant = has(&block.results, sought.result)
                && has(&block.verdicts, sought.verdict)
                && (is_free || block.words.iter().any(|words| fits(*words, bits)));
            assert_eq!(Block::may_have(&summary, sought), Some(meant), "{round}: {sought:?} {block:?}");
        }
    }
    assert_eq!(Block::may_have(&[VERSION + 1], SoughtWords::default()), None);
    assert_eq!(Block::may_have(&[], SoughtWords::default()), None);
}

#[test]
fn candidates_are_counted_behind_all_else_and_cost_nothing_where_there_are_none() {
    let bare = Tally { messages: 3, domains: vec![(RowResult::Passing, "a.example".into(), 3)], ..Tally::default() };
    let counted = |differs, count| ("ours".to_owned(), "0123456789ab.0123456789ab".to_owned(), differs, count);
    let shadows = vec![counted(Differs::Same, 2), counted(Differs::Late, 1)];
    let with = Tally { shadows, ..bare.clone() };
    let octets = |tally: &Tally| {
        let mut out = Vec::new();
        tally.write(&mut out);
        out
    };
    let (short, long) = (octets(&bare), octets(&with));
    // What an older program reads of it is what it wrote itself.
    assert!(long.starts_with(&short) && long.len() > short.len());
    assert_eq!(Tally::read(&mut Octets::new(&short)), Some(bare));
    assert_eq!(Tally::read(&mut Octets::new(&long)), Some(with));
    assert_eq!(Tally::read(&mut Octets::new(long.get(..long.len() - 1).unwrap())), None);
}

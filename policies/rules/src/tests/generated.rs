//! Texts that the grammar makes, against an interpreter that walks a tree.

use std::fmt::Write;

use proptest::prelude::*;

use super::*;
use crate::grammar::{self, Joint, Rule, Sense, Worth};
use crate::test::Test;
use crate::weigh::{Truth, Weigh, sternness};

type Ask = fn(&Facts) -> Option<bool>;

/// Questions with what they ask, written a second time: absent where the fact is.
const QUESTIONS: [(&str, Ask); 29] = [
    ("result is invalid", |f| Some(f.status == KeyStatus::Invalid)),
    ("result is missing", |f| Some(f.status == KeyStatus::Missing)),
    ("result is in [valid, none]", |f| Some(matches!(f.status, KeyStatus::Valid | KeyStatus::None))),
    ("result is not in [valid, none]", |f| Some(!matches!(f.status, KeyStatus::Valid | KeyStatus::None))),
    ("why is wrong", |f| f.why.map(|why| why == Why::Wrong)),
    ("why is in [wrong, expired, other]", |f| f.why.map(|w| matches!(w, Why::Wrong | Why::Expired | Why::Other))),
    ("why is unknown", |f| Some(f.why.is_none())),
    ("claim is all", |f| f.claim.map(|claim| claim == Claim::All)),
    ("claim is in [some, testing]", |f| f.claim.map(|claim| claim != Claim::All)),
    ("claim is unknown", |f| Some(f.claim.is_none())),
    ("trail is none", |f| f.trail.map(|trail| trail.is_empty())),
    ("trail is forwarded", |f| f.trail.map(|trail| trail.contains(Trail::FORWARDED))),
    ("spf is pass", |f| f.mail_auth.map(|auth| auth.spf == AuthResult::Pass)),
    ("dkim is in [fail, none]", |f| f.mail_auth.map(|a| matches!(a.dkim, AuthResult::Fail | AuthResult::None))),
    ("dmarc is fail", |f| f.mail_auth.map(|auth| auth.dmarc == AuthResult::Fail)),
    ("spf aligned", |f| f.mail_auth.map(|auth| auth.spf_aligned)),
    ("dkim is aligned", |f| f.mail_auth.map(|auth| auth.dkim_aligned)),
    ("dkim is unknown", |f| Some(f.mail_auth.is_none())),
    ("tls", |f| f.client.as_ref().map(|client| client.tls)),
    ("client ip is in [192.0.2.0/24, ::1]", |f| f.client.as_ref().map(|c| c.ip.starts_with("192.0.2."))),
    ("client name is *.bank.example", |f| Some(f.client.as_ref()?.name.as_ref()?.ends_with(".bank.example"))),
    ("helo is mx.bank.example", |f| f.client.as_ref().map(|client| client.helo == "mx.bank.example")),
    ("sender is @bank.example", |f| f.sender.as_ref().map(|sender| sender.domain == "bank.example")),
    ("sender is in [alice@bank.example, \"x@y.example\"]", |f| {
        f.sender.as_ref().map(|sender| sender.local == "alice" && sender.domain == "bank.example")
    }),
    ("recipient is bob@ours.example", |f| f.recipient.as_ref().map(|to| to.local == "bob" || to.local == "bob+x")),
    ("envelope sender is empty", |f| Some(f.envelope_sender.is_none())),
    ("size over 4K", |f| f.size.map(|size| size > 4096)),
    ("last valid within 30 days", |f| f.last_valid.map(|days| days <= 30)),
    ("never valid", |f| Some(f.last_valid.is_none())),
];

#[derive(Clone, Debug)]
enum Tree {
    Question(usize),
    Not(Box<Tree>),
    All(Vec<Tree>),
    Any(Vec<Tree>),
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = (0..QUESTIONS.len()).prop_map(Tree::Question);
    leaf.prop_recursive(5, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|tree| Tree::Not(Box::new(tree))),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Tree::All),
            prop::collection::vec(inner, 1..4).prop_map(Tree::Any),
        ]
    })
}

impl Tree {
    fn print(&self, blanks: &mut impl FnMut() -> &'static str) -> String {
        match self {
            Tree::Question(at) => QUESTIONS[*at].0.replace(' ', blanks()),
            Tree::Not(tree) => format!("not{}({})", blanks(), tree.print(blanks)),
            Tree::All(trees) => joined(trees, "and", blanks),
            Tree::Any(trees) => joined(trees, "or", blanks),
        }
    }

    /// Whether it holds where what is absent and negated is taken to be `absent`, and what is absent otherwise to be false.
    fn holds(&self, facts: &Facts, negated: bool, absent: bool) -> bool {
        match self {
            Tree::Question(at) => QUESTIONS[*at].1(facts).unwrap_or(negated && absent),
            Tree::Not(tree) => !tree.holds(facts, !negated, absent),
            Tree::All(trees) => trees.iter().all(|tree| tree.holds(facts, negated, absent)),
            Tree::Any(trees) => trees.iter().any(|tree| tree.holds(facts, negated, absent)),
        }
    }

    /// It holds, it does not, or that hangs on what is absent. Questions that are negated by themselves (`is not`) are none here.
    fn truth(&self, facts: &Facts) -> Truth {
        match (self.holds(facts, false, false), self.holds(facts, false, true)) {
            (true, true) => Truth::True,
            (true, false) => Truth::Open,
            (false, false) => Truth::False,
            (false, true) => unreachable!("what is known makes nothing hold that did not"),
        }
    }
}

fn joined(trees: &[Tree], word: &str, blanks: &mut impl FnMut() -> &'static str) -> String {
    let mut text = String::from("(");
    for (index, tree) in trees.iter().enumerate() {
        if index > 0 {
            let _ = write!(text, "{}{word}{}", blanks(), blanks());
        }
        text += &tree.print(blanks);
    }
    text + ")"
}

fn option<T: Clone + std::fmt::Debug + 'static>(values: Vec<T>) -> impl Strategy<Value = Option<T>> {
    prop::option::of(prop::sample::select(values))
}

fn facts() -> impl Strategy<Value = Facts> {
    let status = prop::sample::select(vec![
        KeyStatus::Valid,
        KeyStatus::Invalid,
        KeyStatus::Missing,
        KeyStatus::None,
        KeyStatus::Unverified,
        KeyStatus::Unusable,
    ]);
    let result = prop::sample::select(vec![AuthResult::Pass, AuthResult::Fail, AuthResult::None, AuthResult::Softfail]);
    let auth = (result.clone(), any::<bool>(), result.clone(), any::<bool>(), result).prop_map(
        |(spf, spf_aligned, dkim, dkim_aligned, dmarc)| MailAuth { spf, spf_aligned, dkim, dkim_aligned, dmarc },
    );
    let client =
        (option(vec!["mx.bank.example", "x.example"]), any::<[bool; 3]>()).prop_map(|(name, [ip, helo, tls])| Client {
            ip: if ip { "192.0.2.7".into() } else { "198.51.100.1".into() },
            name: name.map(String::from),
            helo: if helo { "mx.bank.example".into() } else { "localhost".into() },
            tls,
        });
    let addresses = (
        option(vec!["alice@bank.example", "bob@x.example"]),
        option(vec!["bob@ours.example", "bob+x@ours.example", "eve@ours.example"]),
        option(vec!["b@list.example"]),
    );
    let rest = (option(vec![4096, 4097]), option(vec![Claim::Testing, Claim::Some, Claim::All]), option(vec![30, 31]));
    let why = option(vec![Why::Wrong, Why::Expired, Why::Dns]);
    let trail = option(vec![Trail::empty(), Trail::FORWARDED, Trail::FORWARDED | Trail::BOUNCE]);
    (status, why, trail, prop::option::of(auth), prop::option::of(client), addresses, rest).prop_map(
        |(status, why, trail, auth, client, (sender, recipient, path), (size, claim, last_valid))| {
            let mut facts = Facts::of(status);
            (facts.why, facts.trail, facts.mail_auth, facts.client) = (why, trail, auth, client);
            facts.sender = sender.map(address);
            facts.recipient = recipient.map(address);
            facts.envelope_sender = path.map(address);
            (facts.size, facts.claim, facts.last_valid) = (size, claim, last_valid);
            facts
        },
    )
}

/// Writes down what is read, with brackets around every group and each `not` beside its question.
struct Print(Vec<String>);

impl Sense for Print {
    fn test(&mut self, test: Test<'_>, negated: bool) -> Worth {
        self.keep(format!("{}{test:?}", if negated { "!" } else { "" }))
    }

    fn join(&mut self, joint: Joint, left: Worth, right: Worth) -> Worth {
        self.keep(format!("({} {joint:?} {})", self.text(left), self.text(right)))
    }

    fn is_settled(&self, _: Joint, _: Worth) -> bool {
        false
    }
}

impl Print {
    fn keep(&mut self, text: String) -> Worth {
        self.0.push(text);
        Worth(self.0.len() as u64 - 1)
    }

    fn text(&self, place: Worth) -> &str {
        &self.0[usize::try_from(place.0).unwrap()]
    }
}

fn read(text: &str) -> String {
    let mut print = Print(Vec::new());
    match grammar::rule(text, &mut print) {
        Ok(Rule::When(value, said)) => format!("{} {said:?}", print.text(value)),
        other => panic!("{text}: {other:?}"),
    }
}

fn truth(condition: &str, facts: &Facts) -> Truth {
    match grammar::rule(&format!("when {condition}: mark"), &mut Weigh(facts)).unwrap() {
        Rule::When(worth, _) => *[Truth::Open, Truth::True].iter().find(|truth| truth.worth() == worth).unwrap(),
        Rule::Passed => Truth::False,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_read_while_it_is_weighed_is_what_the_tree_says(tree in trees(), facts in facts()) {
        let text = tree.print(&mut || " ");
        prop_assert_eq!(truth(&text, &facts), tree.truth(&facts), "{}", text);
    }

    #[test]
    fn blanks_between_tokens_change_nothing(tree in trees(), seed in any::<u32>()) {
        let mut state = seed;
        let mut blanks = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ["  ", "\t", " ", " \t "][state as usize >> 30]
        };
        let [plain, wide] = [tree.print(&mut || " "), tree.print(&mut blanks)];
        let line = |condition: &str| format!("when {condition}: mark");
        prop_assert_eq!(read(&line(&plain)), read(&line(&wide)));
    }

    /// The decision of a whole text is the first that matches, held against what was open before it.
    #[test]
    fn a_text_decides_as_its_lines_say_one_after_the_other(
        rules in prop::collection::vec((trees(), 0_usize..5), 0..6), otherwise in 0_usize..5, facts in facts()
    ) {
        let words = ["accept", "mark", "defer", "quarantine", "reject, tell both"];
        let mut text: Vec<String> =
            rules.iter().map(|(tree, word)| format!("when {}: {}", tree.print(&mut || " "), words[*word])).collect();
        text.push(format!("otherwise {}", words[otherwise]));
        let mut open = 0;
        let mut decided = otherwise;
        for (tree, word) in &rules {
            match tree.truth(&facts) {
                Truth::True => {
                    decided = *word;
                    break;
                }
                Truth::Open => open = open.max(*word),
                Truth::False => {}
            }
        }
        let decision = Rules::decide(&facts, &Settings::default().with("rules", Value::Texts(text)));
        prop_assert_eq!(usize::from(sternness(decision.disposition)), decided.max(open));
    }

    /// No line is refused that some mail would have come to.
    #[test]
    fn a_line_that_decides_is_no_line_that_the_check_calls_dead(tree in trees(), other in trees(), facts in facts()) {
        let [first, second] = [&tree, &other].map(|tree| format!("when {}: mark", tree.print(&mut || " ")));
        prop_assume!(first != second);
        // A reason belongs to its result.
        let mut facts = facts;
        facts.why = facts.why.filter(|why| match facts.status {
            KeyStatus::Invalid => *why != Why::Dns,
            KeyStatus::Unverified => *why == Why::Dns,
            _ => false,
        });
        let refusal = Rules::check_settings(&settings(&[&first, &second, "otherwise accept"])).err().unwrap_or_default();
        if tree.truth(&facts) != Truth::False {
            prop_assert!(!refusal.contains("line 1: no mail"), "{} {}", first, refusal);
        } else if other.truth(&facts) != Truth::False {
            prop_assert!(!refusal.contains("line 2: no mail"), "{} {}", second, refusal);
        }
    }
}

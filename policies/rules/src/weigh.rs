//! Decides: the first line that matches, and what is still open before it.

use addrauth_policy::{Decision, Disposition, Facts, Notify, accept, defer, mark, quarantine, reject};

use crate::decision::Said;
use crate::fault::push_number;
use crate::grammar::{self, Joint, Rule, Sense, Worth};
use crate::test::Test;

/// What a condition comes to. The order is that of `and` (the least) and `or` (the greatest).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Truth {
    False,
    /// It holds unless a fact that is absent were other than the rest says.
    Open,
    True,
}

/// Weighs questions against the facts of one message.
pub(crate) struct Weigh<'f>(pub(crate) &'f Facts);

impl Sense for Weigh<'_> {
    fn test(&mut self, test: Test<'_>, negated: bool) -> Worth {
        let truth = match (test.ask(self.0), negated) {
            (Some(holds), _) if holds != negated => Truth::True,
            // What is absent does not hold, and its contrary is not known.
            (None, true) => Truth::Open,
            _ => Truth::False,
        };
        truth.worth()
    }

    fn join(&mut self, joint: Joint, left: Worth, right: Worth) -> Worth {
        match joint {
            Joint::And => left.min(right),
            Joint::Or => left.max(right),
        }
    }

    fn is_settled(&self, joint: Joint, value: Worth) -> bool {
        let last = match joint {
            Joint::And => Truth::False,
            Joint::Or => Truth::True,
        };
        value == last.worth()
    }
}

impl Truth {
    pub(crate) const fn worth(self) -> Worth {
        Worth(self as u64)
    }
}

/// The decision on a text that was checked. One that was not is never accepted.
pub(crate) fn decide(facts: &Facts, rules: &[String]) -> Decision {
    let mut sense = Weigh(facts);
    let mut open = None;
    for (text, number) in rules.iter().zip(1..) {
        match grammar::rule(text, &mut sense) {
            Ok(Rule::Blank | Rule::Passed) => {}
            Ok(Rule::When(truth, said)) if truth == Truth::Open.worth() => open = Some(sterner(open, (said, number))),
            // A line that does not match is passed.
            Ok(Rule::When(_, said) | Rule::Otherwise(said)) => return made(sterner(open, (said, number))),
            Err(_) => break,
        }
    }
    defer("the rules of this site cannot be read")
}

/// The sterner one, and of equals the one that stands first.
fn sterner<'a>(before: Option<(Said<'a>, usize)>, said: (Said<'a>, usize)) -> (Said<'a>, usize) {
    match before {
        Some(before) if sternness(before.0.disposition) >= sternness(said.0.disposition) => before,
        _ => said,
    }
}

pub(crate) fn sternness(disposition: Disposition) -> u8 {
    match disposition {
        Disposition::Accept => 0,
        Disposition::Mark => 1,
        Disposition::Defer => 2,
        Disposition::Quarantine => 3,
        Disposition::Reject => 4,
    }
}

fn made((said, number): (Said<'_>, usize)) -> Decision {
    let reason = || match said.reason {
        Some(reason) => reason.to_owned(),
        None => {
            let mut text = String::from("line ");
            push_number(&mut text, number);
            text.push_str(" of the rules");
            text
        }
    };
    let mut decision = match said.disposition {
        Disposition::Accept => accept(),
        Disposition::Mark => mark(reason()),
        Disposition::Quarantine => quarantine(reason()),
        Disposition::Reject => reject(reason()),
        Disposition::Defer => defer(reason()),
    };
    if let (Disposition::Accept, Some(reason)) = (said.disposition, said.reason) {
        decision.reason = reason.to_owned();
    }
    if said.notify.contains(Notify::SENDER) {
        decision = decision.tell_sender();
    }
    if said.notify.contains(Notify::RECIPIENT) {
        decision = decision.tell_recipient();
    }
    decision
}

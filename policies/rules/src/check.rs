//! Checks a text: whether it can be read, whether each line can match, and which facts it names.

use addrauth_policy::{Disposition, KeyStatus, Notify, Wants, Why};

use crate::decision::Said;
use crate::fault::{place, push_number};
use crate::grammar::{self, Joint, Rule, Sense, Worth};
use crate::line::Line;
use crate::test::{Fact, Test};

/// Lines of a text, empty ones and remarks among them.
pub(crate) const LINES: usize = 200;
/// Octets of all lines together.
pub(crate) const OCTETS: usize = 16 * 1024;

/// Every result with every reason that belongs to it: one bit each in [`Cases`].
const PAIRS: [(KeyStatus, Option<Why>); 21] = [
    (KeyStatus::Valid, None),
    (KeyStatus::Missing, None),
    (KeyStatus::None, None),
    (KeyStatus::Invalid, None),
    (KeyStatus::Invalid, Some(Why::Wrong)),
    (KeyStatus::Invalid, Some(Why::Expired)),
    (KeyStatus::Invalid, Some(Why::Other)),
    (KeyStatus::Unverified, None),
    (KeyStatus::Unverified, Some(Why::Dns)),
    (KeyStatus::Unverified, Some(Why::Timeout)),
    (KeyStatus::Unverified, Some(Why::Limit)),
    (KeyStatus::Unverified, Some(Why::NoProof)),
    (KeyStatus::Unverified, Some(Why::Other)),
    (KeyStatus::Unusable, None),
    (KeyStatus::Unusable, Some(Why::NoFrom)),
    (KeyStatus::Unusable, Some(Why::SeveralFrom)),
    (KeyStatus::Unusable, Some(Why::BadAddress)),
    (KeyStatus::Unusable, Some(Why::SeveralKeys)),
    (KeyStatus::Unusable, Some(Why::BadKey)),
    (KeyStatus::Unusable, Some(Why::MalformedHeader)),
    (KeyStatus::Unusable, Some(Why::Other)),
];
const ALL: u32 = (1 << PAIRS.len()) - 1;

fn pairs(holds: &dyn Fn(KeyStatus, Option<Why>) -> bool) -> u32 {
    PAIRS.iter().enumerate().fold(0, |bits, (bit, (status, why))| bits | u32::from(holds(*status, *why)) << bit)
}

/// In which of the [`PAIRS`] a condition may hold, and in which it does whatever the other facts are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cases {
    may: u32,
    must: u32,
}

impl Cases {
    fn worth(self) -> Worth {
        Worth(u64::from(self.may) << 32 | u64::from(self.must))
    }

    fn of(worth: Worth) -> Cases {
        Cases { may: (worth.0 >> 32) as u32, must: worth.0 as u32 }
    }
}

/// Reads a text to the end, and gathers what it names.
pub(crate) struct Check {
    wants: Wants,
}

impl Sense for Check {
    fn test(&mut self, test: Test<'_>, negated: bool) -> Worth {
        self.wants |= test.fact().wants();
        let (may, must) = match test {
            Test::Result(asked) => {
                let bits = pairs(&|status, _| (status == asked) != negated);
                (bits, bits)
            }
            Test::Unknown(Fact::Why) => {
                let bits = pairs(&|_, why| why.is_none() != negated);
                (bits, bits)
            }
            // Without a reason its contrary is open: it may hold, and need not.
            Test::Why(asked) => (
                pairs(&|_, why| (why == Some(asked)) != negated),
                pairs(&|_, why| why.is_some() && (why == Some(asked)) != negated),
            ),
            _ => (ALL, 0),
        };
        Cases { may, must }.worth()
    }

    fn join(&mut self, joint: Joint, left: Worth, right: Worth) -> Worth {
        match joint {
            Joint::And => Worth(left.0 & right.0),
            Joint::Or => Worth(left.0 | right.0),
        }
    }

    /// Every word is read.
    fn is_settled(&self, _: Joint, _: Worth) -> bool {
        false
    }
}

/// The facts that the text names, or what is wrong with it.
pub(crate) fn check(rules: &[String]) -> Result<Wants, String> {
    if rules.len() > LINES {
        return Err(String::from("rules: more than 200 lines"));
    }
    if rules.iter().map(String::len).sum::<usize>() > OCTETS {
        return Err(String::from("rules: more than 16 KiB of text"));
    }
    let mut sense = Check { wants: Wants::empty() };
    let mut seen = Seen { conditions: Vec::with_capacity(rules.len()), left: ALL, now: 0, otherwise: None };
    for (text, number) in rules.iter().zip(1..) {
        let rule = grammar::rule(text, &mut sense).map_err(|fault| fault.tell(number, text))?;
        let said = match rule {
            Rule::Blank | Rule::Passed => continue,
            _ if seen.otherwise.is_some() => {
                return Err(odd(number, "no mail comes here, since `otherwise` above takes all that is left"));
            }
            Rule::When(cases, said) => {
                seen.when(number, text, Cases::of(cases))?;
                said
            }
            Rule::Otherwise(said) => {
                seen.otherwise = Some(number);
                seen.now = seen.left;
                said
            }
        };
        check_silence(number, said, seen.now)?;
    }
    match seen.otherwise {
        Some(_) => Ok(sense.wants),
        None => {
            Err(String::from("rules: the last line must say what happens to all other mail: add \"otherwise accept\""))
        }
    }
}

/// Only mail with a wrong key may vanish without a word; the filter would tell the sender of any other.
fn check_silence(number: usize, said: Said<'_>, cases: u32) -> Result<(), String> {
    let wrong = pairs(&|status, why| status == KeyStatus::Invalid && why == Some(Why::Wrong));
    if said.disposition == Disposition::Reject && said.notify == Notify::empty() && cases & !wrong != 0 {
        return Err(odd(
            number,
            "`tell nobody` is for wrong keys alone: add `result is invalid and why is wrong`, or tell somebody",
        ));
    }
    Ok(())
}

fn odd(number: usize, sentence: &str) -> String {
    let mut text = place(number);
    text.push_str(": ");
    text.push_str(sentence);
    text
}

/// What the lines so far leave for the next ones.
struct Seen<'a> {
    conditions: Vec<(usize, &'a str)>,
    /// The results and reasons of which some mail comes further.
    left: u32,
    /// Those that the line at hand treats.
    now: u32,
    otherwise: Option<usize>,
}

impl<'a> Seen<'a> {
    fn when(&mut self, number: usize, text: &'a str, cases: Cases) -> Result<(), String> {
        if cases.may == 0 {
            return Err(odd(
                number,
                "no mail can match this: its results and reasons exclude each other (each reason belongs to one result)",
            ));
        }
        let condition = condition(text);
        if let Some((before, _)) = self.conditions.iter().find(|(_, known)| *known == condition) {
            let mut text = odd(number, "no mail comes here, since this is the condition of line ");
            push_number(&mut text, *before);
            return Err(text);
        }
        self.now = cases.may & self.left;
        if self.now == 0 {
            return Err(odd(number, "no mail comes here, since the lines above take all mail with these results"));
        }
        self.conditions.push((number, condition));
        self.left &= !cases.must;
        Ok(())
    }
}

/// The text of the condition, with the decision cut off.
fn condition(text: &str) -> &str {
    let mut line = Line::new(text);
    let start = line.start();
    // The line was read before: it holds a colon.
    let end = if line.skip_group().is_ok() { line.start() } else { text.len() };
    text.get(start..end).unwrap_or(text).trim_end()
}

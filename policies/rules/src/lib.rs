//! Rules as text: a policy for those who write no program.
//!
//! The setting `rules` is a list of lines, of which the first that matches decides; README.md beside this crate is its grammar.
//! The text is read anew for each message, since an instance lives for one call: so reading allocates nothing, only moves forward,
//! works out a condition while it reads it, and leaves a line as soon as that cannot match.

use addrauth_policy::{Decision, Description, Facts, Policy, Settings, Wanted};

mod check;
mod decision;
mod fault;
mod grammar;
mod line;
mod network;
mod test;
mod value;
mod weigh;

/// The policy.
#[derive(Debug)]
pub struct Rules;

impl Policy for Rules {
    fn describe() -> Description {
        Description::new("rules", env!("CARGO_PKG_VERSION"), "Decides by rules that you write as text.").texts(
            "rules",
            "one rule a line, such as \"when result is invalid: mark\"; the first that matches decides, and the last is \
             \"otherwise accept\"",
            None,
        )
    }

    fn check_settings(settings: &Settings) -> Result<Wanted, String> {
        check::check(settings.texts("rules")).map(Wanted::facts)
    }

    fn decide(facts: &Facts, settings: &Settings) -> Decision {
        weigh::decide(facts, settings.texts("rules"))
    }
}

addrauth_policy::export!(Rules);

#[cfg(test)]
mod tests;

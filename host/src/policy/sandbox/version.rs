//! The versions of the contract: which of them a component speaks, and each call in its types.

use std::time::Duration;

use std::fmt;

use super::contract::{Decision, Description, Facts, Value, Wanted};
use super::{Fault, Guest, Refused, Sandbox, one_line, since_v0_1, since_v0_2};

/// A version of the contract that this program offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    V0_1,
    V0_2,
}

/// The interfaces that a component may export, for a text.
pub(super) struct Offered;

impl Version {
    /// Every version, the newest first.
    const ALL: [Version; 2] = [Version::V0_2, Version::V0_1];
    pub(super) const NEWEST: Version = Version::ALL[0];

    /// The interface that a component of this version exports.
    pub(crate) fn interface(self) -> &'static str {
        match self {
            Version::V0_1 => since_v0_1::INTERFACE,
            Version::V0_2 => since_v0_2::INTERFACE,
        }
    }

    /// The newest version among these exports.
    pub(super) fn among(exports: &[String]) -> Option<Version> {
        Version::ALL.into_iter().find(|version| exports.iter().any(|name| name == version.interface()))
    }
}

impl fmt::Display for Offered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Version::ALL.map(Version::interface).join(" and "))
    }
}

impl Sandbox {
    /// What the policy says of itself.
    pub(crate) fn describe(&self, guest: &Guest) -> Result<Description, Fault> {
        match guest.component.version {
            Version::V0_1 => self.describe_since_v0_1(guest).map(Into::into),
            Version::V0_2 => {
                self.call::<(), (Description,)>(guest, &guest.component.describe, ()).map(|(description,)| description)
            }
        }
    }

    /// What the policy wants to see under these settings, or in its own words (the inner error) why it does not take them.
    pub(crate) fn check_settings(&self, guest: &Guest, settings: &[Value]) -> Result<Result<Wanted, String>, Fault> {
        match guest.component.version {
            Version::V0_1 => {
                let settings = old(settings);
                type Said = (Result<(), String>,);
                let (said,) =
                    self.call::<(&[since_v0_1::Value],), Said>(guest, &guest.component.check_settings, (&settings,))?;
                match said {
                    Ok(()) => self.describe_since_v0_1(guest).map(|description| Ok(since_v0_1::wanted(description))),
                    Err(text) => Ok(Err(text)),
                }
            }
            Version::V0_2 => {
                type Said = (Result<Wanted, String>,);
                self.call::<(&[Value],), Said>(guest, &guest.component.check_settings, (settings,)).map(|(said,)| said)
            }
        }
    }

    /// What the policy wants to see whatever its settings: 0.1 says so in its description, later versions do not.
    pub(crate) fn wanted_always(&self, guest: &Guest) -> Result<Option<Wanted>, Fault> {
        match guest.component.version {
            Version::V0_1 => self.describe_since_v0_1(guest).map(|description| Some(since_v0_1::wanted(description))),
            Version::V0_2 => Ok(None),
        }
    }

    /// The policy's decision on one set of facts, within the time of its class.
    pub(crate) fn decide(&self, guest: &Guest, facts: &Facts, settings: &[Value]) -> Result<Decision, Fault> {
        self.decide_within(guest, facts, settings, guest.time())
    }

    /// The same within this time.
    pub(crate) fn decide_within(
        &self,
        guest: &Guest,
        facts: &Facts,
        settings: &[Value],
        time: Duration,
    ) -> Result<Decision, Fault> {
        let decision: Decision = match guest.component.version {
            Version::V0_1 => {
                let (facts, settings) = (since_v0_1::Facts::from(facts), old(settings));
                type Given<'a> = (&'a since_v0_1::Facts, &'a [since_v0_1::Value]);
                let decided = self.call_within::<Given, (since_v0_1::Decision,)>(
                    guest,
                    &guest.component.decide,
                    (&facts, &settings),
                    time,
                )?;
                decided.0.into()
            }
            Version::V0_2 => {
                type Given<'a> = (&'a Facts, &'a [Value]);
                self.call_within::<Given, (Decision,)>(guest, &guest.component.decide, (facts, settings), time)?.0
            }
        };
        if decision.reason.len() > self.limits.policy.result {
            return Err(Fault(format!("handed back more than {} octets", self.limits.policy.result)));
        }
        Ok(decision)
    }

    fn describe_since_v0_1(&self, guest: &Guest) -> Result<since_v0_1::Description, Fault> {
        self.call::<(), (since_v0_1::Description,)>(guest, &guest.component.describe, ())
            .map(|(description,)| description)
    }

    /// Holds the three functions against the types of the guest's version; without a call, so that nothing of the component's
    /// own code matters but its start function, which runs under the limits.
    pub(super) fn check_types(&self, guest: &Guest) -> Result<(), Refused> {
        let (mut store, instance) =
            guest.instance(guest.time()).map_err(|e| Refused::Compile(guest.chamber.fault(&e).to_string()))?;
        let wrong = |name| move |e: wasmtime::Error| Refused::Types { name, text: one_line(&e) };
        macro_rules! holds {
            ($function:ident, $name:literal: $given:ty => $said:ty) => {
                instance
                    .get_typed_func::<$given, $said>(&mut store, &guest.component.$function)
                    .map_err(wrong($name))?;
            };
        }
        match guest.component.version {
            Version::V0_1 => {
                use since_v0_1::{Decision, Description, Facts, Value};
                holds!(describe, "describe": () => (Description,));
                holds!(check_settings, "check-settings": (&[Value],) => (Result<(), String>,));
                holds!(decide, "decide": (&Facts, &[Value]) => (Decision,));
            }
            Version::V0_2 => {
                holds!(describe, "describe": () => (Description,));
                holds!(check_settings, "check-settings": (&[Value],) => (Result<Wanted, String>,));
                holds!(decide, "decide": (&Facts, &[Value]) => (Decision,));
            }
        }
        Ok(())
    }
}

/// Settings for a guest of the first version.
fn old(settings: &[Value]) -> Vec<since_v0_1::Value> {
    settings.iter().map(Into::into).collect()
}

//! Write an addrauth delivery policy: implement [`Policy`] for a type, and export it.
//!
//! ```
//! use addrauth_policy::{Decision, Description, Facts, KeyStatus, Policy, Settings, accept, mark};
//!
//! struct MarkForged;
//!
//! impl Policy for MarkForged {
//!     fn describe() -> Description {
//!         Description::new("mark-forged", "1.0.0", "Marks mail whose key is wrong.")
//!     }
//!
//!     fn decide(facts: &Facts, _: &Settings) -> Decision {
//!         match facts.status {
//!             KeyStatus::Invalid => mark("the key of this address is wrong"),
//!             _ => accept(),
//!         }
//!     }
//! }
//!
//! addrauth_policy::export!(MarkForged);
//! ```
//!
//! A policy is a pure function: facts in, decision out. It has no clock, no random numbers, no files and no network, and
//! each message meets a fresh instance: nothing that it keeps lives on. `addrauth policy build` makes the component,
//! `addrauth policy check` says what it is, `addrauth policy test` runs the cases beside it. The same code runs natively
//! in unit tests: `cargo test` needs no WebAssembly.
//!
//! What a policy wants to see besides the result follows from its settings: [`Policy::check_settings`] returns it. The contract
//! itself is `wit/policy.wit` in this package.

#[cfg(target_family = "wasm")]
mod arena;
mod decision;
mod description;
mod facts;
mod settings;
mod wanted;

/// The bindings, made from the published contract. `export!` alone names them.
#[doc(hidden)]
#[allow(missing_docs, unsafe_code, unused_qualifications, reason = "generated")]
pub mod wit {
    wit_bindgen::generate!({
        path: "wit/policy.wit",
        world: "guest",
        pub_export_macro: true,
        export_macro_name: "export_component",
        default_bindings_module: "addrauth_policy::wit",
        additional_derives: [PartialEq],
    });
}

pub use decision::{Decision, accept, defer, mark, quarantine, reject};
pub use description::Description;
pub use facts::Facts;
pub use settings::Settings;
pub use wanted::Wanted;
pub use wit::exports::addrauth::policy::policy::{
    Address, AuthResult, Claim, Client, Disposition, KeyStatus, MailAuth, Notify, Trail, Value, Wants, Why,
};

/// A delivery policy.
pub trait Policy {
    /// What it is, and which settings it has.
    fn describe() -> Description;

    /// What it wants to see under these settings; it is told nothing else. Or what makes them unusable together, in words for
    /// the administrator: they are all there and of the declared types, the host sees to that.
    fn check_settings(settings: &Settings) -> Result<Wanted, String> {
        let _ = settings;
        Ok(Wanted::nothing())
    }

    /// What happens to a message. The settings are those that `check_settings` took.
    fn decide(facts: &Facts, settings: &Settings) -> Decision;
}

/// Makes the crate a component that exports `$policy`. On any target but WebAssembly it does nothing.
#[macro_export]
macro_rules! export {
    ($policy:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            type Exported = $crate::Exported<$policy>;
    $crate::wit::export_component!(Exported with_types_in $crate::wit);
        };
    };
}

/// The contract's side of a [`Policy`]; `export!` alone names it.
#[doc(hidden)]
#[derive(Debug)]
pub struct Exported<P>(std::marker::PhantomData<P>);

impl<P: Policy> wit::exports::addrauth::policy::policy::Guest for Exported<P> {
    fn describe() -> wit::exports::addrauth::policy::policy::Description {
        P::describe().into_contract()
    }

    fn check_settings(values: Vec<Value>) -> Result<wit::exports::addrauth::policy::policy::Wanted, String> {
        P::check_settings(&settings::<P>(values)).map(Wanted::into_contract)
    }

    fn decide(
        facts: wit::exports::addrauth::policy::policy::Facts,
        values: Vec<Value>,
    ) -> wit::exports::addrauth::policy::policy::Decision {
        let settings = settings::<P>(values);
        let names = if facts.headers.is_empty() {
            Vec::new()
        } else {
            P::check_settings(&settings).map(Wanted::into_names).unwrap_or_default()
        };
        P::decide(&Facts::from_contract(facts, names), &settings).into_contract()
    }
}

/// The settings by their names. A policy without any is spared its own description.
fn settings<P: Policy>(values: Vec<Value>) -> Settings {
    if values.is_empty() { Settings::default() } else { Settings::from_contract(values, &P::describe()) }
}

#[cfg(test)]
mod tests;

/// The programs of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

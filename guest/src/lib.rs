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

#[cfg(target_family = "wasm")]
mod arena;
mod decision;
mod description;
mod facts;
mod settings;

/// The bindings, made from the published contract. `export!` alone names them.
#[doc(hidden)]
#[allow(missing_docs, unsafe_code, unused_qualifications, reason = "generated")]
pub mod wit {
    wit_bindgen::generate!({
        path: "wit/0.1",
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
pub use wit::exports::addrauth::policy::policy::{
    Address, AuthResult, Claim, Client, Disposition, KeyStatus, MailAuth, Notify, Trail, Value, Wants, Why,
};

/// A delivery policy.
pub trait Policy {
    /// What it is, which facts it wants to see (it gets no others) and which settings it has.
    fn describe() -> Description;

    /// What makes the settings unusable together. They are all there and of the declared types: the host saw to that.
    fn check_settings(settings: &Settings) -> Result<(), String> {
        let _ = settings;
        Ok(())
    }

    /// What happens to a message.
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

    fn check_settings(values: Vec<Value>) -> Result<(), String> {
        P::check_settings(&Settings::from_contract(values, &P::describe()))
    }

    fn decide(
        facts: wit::exports::addrauth::policy::policy::Facts,
        values: Vec<Value>,
    ) -> wit::exports::addrauth::policy::policy::Decision {
        // A policy without header names and settings is spared its own description.
        let named = !facts.headers.is_empty() || !values.is_empty();
        let description = if named { P::describe() } else { Description::new("", "", "") };
        let facts = Facts::from_contract(facts, &description);
        let settings = Settings::from_contract(values, &description);
        P::decide(&facts, &settings).into_contract()
    }
}

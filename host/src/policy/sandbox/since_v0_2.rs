//! `addrauth:policy@0.2.0`: its types, made from `wit/policy.wit`. They are the newest, and so what the rest of this room speaks.

/// The interface that a component exports.
pub(super) const INTERFACE: &str = "addrauth:policy/policy@0.2.0";

mod made {
    #![allow(dead_code, missing_docs, unreachable_pub, unused_qualifications, clippy::all, reason = "made by bindgen!")]

    wasmtime::component::bindgen!({ path: "wit/policy.wit", additional_derives: [PartialEq] });
}

pub(crate) use made::exports::addrauth::policy::policy::{
    Address, AuthResult, Claim, Client, Decision, Description, Disposition, Facts, KeyStatus, Kind, MailAuth, Notify,
    Setting, Trail, Value, Wanted, Wants, Why,
};

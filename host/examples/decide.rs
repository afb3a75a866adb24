//! Decides one message: loads the shipped policies, tells them what was found out about its key, and prints what becomes of it.
//! Nothing but the library without default features (and `shipped`) is needed. usage: decide [valid|invalid|missing|…]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use addrauth::case::{Envelope, Field, Found, Head, KeyStatus, Mail, Recipient, WrittenCase};
use addrauth::config::{Config, Limits};
use addrauth::filter::{decide, rules};
use addrauth::policy::{Policies, Trial};
use addrauth::proto::address::Address;

const CONFIG: &str = "hostname = \"mx.example.net\"\nobserve = false\n[policy]\ninvalid = \"reject-notify-sender\"\n";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let word = std::env::args().nth(1).unwrap_or("invalid".into());
    let status = KeyStatus::ALL.into_iter().find(|status| status.word() == word).ok_or("no such result")?;

    let (config, limits) = (Config::parse(CONFIG, Path::new("example"))?, Arc::new(Limits::default()));
    // Components of others are tried by a process of their own first; the shipped ones need no trial.
    let policies = Policies::load(&config.policy, &config.policies, &limits, &Trial::waived())?;

    let sender = Address::parse(b"alice@example.com", false).map_err(|_| "no address")?;
    let case = decide(&policies, &rules(&config), mail(), Found::bare(status, None, Some(sender))).await;
    println!("{}", case.line());
    println!("{}", serde_json::to_string_pretty(&WrittenCase::of(&case))?);
    Ok(())
}

/// What an MTA told of a message; its key is not in the fields.
fn mail() -> Mail {
    let from = Field { name: "From".into(), value: b" Alice <alice@example.com>".to_vec() };
    let envelope = Envelope { recipients: vec![Recipient::new("<bob@example.net>")], ..Envelope::default() };
    Mail::new(envelope, Head { fields: vec![from], keys: vec![None], ..Head::default() })
}

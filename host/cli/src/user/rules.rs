//! A user's own rules: read from a file, checked as the filter would read them, kept among his choices.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use addrauth::case::{KeyStatus, Why, Wish};
use addrauth::config::{Config, Limits};
use addrauth::files;
use addrauth::policy::{NotChosen, Policies};
use addrauth::proto::address::Address;
use addrauth::store::OWN_RULES;
use serde_json::json;

use super::refusal::Error;
use super::{load, open, recipient};

/// Takes the rules of the file in, or nothing of them.
pub(super) async fn set(config: &Config, address: &Address, file: &Path, json: bool) -> Result<bool, Error> {
    let policies = load(config)?;
    let text = read(file)?;
    policies.check_rules(&text).map_err(|error| match error {
        NotChosen::Rules(text) => Error::File(file.to_owned(), text),
        other => other.into(),
    })?;
    let open_to_users = open_to_users(&policies);
    let mailbox = address.mailbox();
    let ledger = open(config).await?;
    let written = ledger.choose(&mailbox, OWN_RULES, &text).await;
    let chosen = ledger.choices(&mailbox).await;
    ledger.close().await;
    written?;
    let (lines, before) = (count(&text), stronger(&policies, address, &text, chosen?.keys()));
    if json {
        let told = json!({
            "address": mailbox.as_str(), "rules": lines, "may_decide": open_to_users, "without_effect": before,
        });
        println!("{told}");
        return Ok(true);
    }
    println!("{mailbox}: {lines} rules; they may decide: {}", open_to_users.join(", "));
    for name in before {
        println!("note: for {name} a choice of its own, or the administrator's line for {mailbox}, goes before them");
    }
    Ok(true)
}

/// Why these rules do not count here.
pub(super) fn idle(policies: &Policies, text: &str) -> Option<String> {
    match policies.read_own_rules(text) {
        None => Some(NotChosen::NoRules.to_string()),
        Some(read) => read.err(),
    }
}

/// How `user show` prints them.
pub(super) fn shown(text: &str, idle: Option<&str>) -> String {
    let mut shown = match idle {
        Some(why) => format!("rules: (do not count: {why})\n"),
        None => "rules:\n".into(),
    };
    for line in text.lines() {
        // Writing to a string cannot fail.
        let _ = writeln!(shown, "  {line}");
    }
    shown
}

/// The text, within the room that rules have.
fn read(file: &Path) -> Result<String, Error> {
    let most = u64::try_from(Limits::default().policy.own_rules).unwrap_or(u64::MAX);
    let text = files::read_given(file, most).and_then(files::text);
    text.map_err(|e| Error::File(file.to_owned(), e.to_string()))
}

/// How many lines are rules.
fn count(text: &str) -> usize {
    let is_rule = |line: &&str| !line.trim_start().is_empty() && !line.trim_start().starts_with('#');
    text.lines().filter(is_rule).count()
}

/// The policies that bound what they decide.
fn open_to_users(policies: &Policies) -> Vec<&str> {
    let all = KeyStatus::ALL.into_iter().flat_map(|status| policies.open_to_users(status));
    all.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The results that a stronger word treats.
fn stronger<'a>(
    policies: &Policies,
    address: &Address,
    text: &str,
    chosen: impl Iterator<Item = &'a String>,
) -> Vec<&'static str> {
    let chosen: BTreeSet<&str> = chosen.map(String::as_str).collect();
    let wish = Wish { rules: Some(text.into()), ..Wish::default() };
    let recipient = recipient(address);
    let is_treated = |status: &KeyStatus| {
        let why = (*status == KeyStatus::Invalid).then_some(Why::Wrong);
        *status != KeyStatus::Valid
            && (chosen.contains(status.word()) || !policies.choose(&recipient, *status, why, &wish).has_own_rules())
    };
    KeyStatus::ALL.into_iter().filter(is_treated).map(KeyStatus::word).collect()
}

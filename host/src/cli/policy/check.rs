//! `addrauth policy check`: loads components as the server would, and says what they are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Error, cases, lock};
use crate::case;
use crate::config::Limits;
use crate::policy::sandbox::Sandbox;
use crate::policy::sandbox::contract::{
    Decision, Description, Disposition, Facts, INTERFACE, KeyStatus, Notify, Wants,
};
use crate::policy::{Trial, printable, shelf};

/// Says what each file is; false where one is refused or odd.
pub(super) fn run(files: &[PathBuf], json: bool, trial: &Trial) -> Result<bool, Error> {
    let sandbox = Sandbox::new(&Arc::new(Limits::default())).map_err(Error::Setup)?;
    let mut good = true;
    for file in files {
        let file = &cases::files(file).0;
        match look(&sandbox, file, trial) {
            Ok(report) => {
                good &= report["odd"].as_array().is_none_or(Vec::is_empty);
                print(&report, json);
            }
            Err(Error::Policy(crate::policy::Error::Read { path, source })) => {
                return Err(Error::Read { path, source });
            }
            Err(e) => {
                good = false;
                let text = e.to_string();
                match json {
                    true => println!("{}", serde_json::json!({"file": file, "refused": text})),
                    false => println!("{}: {text}", file.display()),
                }
            }
        }
    }
    Ok(good)
}

fn look(sandbox: &Sandbox, file: &Path, trial: &Trial) -> Result<serde_json::Value, Error> {
    let octets = shelf::read(file, &Limits::default())?;
    let guest = trial.load(sandbox, &octets).map_err(|why| Error::Refused { path: file.to_owned(), why })?;
    let fault = |during| move |fault| Error::Fault { path: file.to_owned(), during, fault };
    let description = sandbox.describe(&guest).map_err(fault("describe"))?;
    shelf::check_description("policy", &description, &Limits::default())?;
    let mut odd = Vec::new();
    let mut table = serde_json::Map::new();
    // Without an administrator's values, a policy whose settings all have defaults is tried on the bare results.
    if let Ok(settings) = shelf::fit(&description, &Default::default()) {
        match sandbox.check_settings(&guest, &settings).map_err(fault("check-settings"))? {
            Ok(()) => {}
            Err(text) => odd.push(format!("refuses its own defaults: {}", line(&text))),
        }
        for (status, word) in STATUSES.into_iter().zip(case::KeyStatus::ALL.map(case::KeyStatus::word)) {
            let said = match sandbox.decide(&guest, &Facts::of(status), &settings) {
                Ok(decision) => {
                    odd.extend(meaningless(&decision).map(|text| format!("{word}: {text}")));
                    line(&cases::words(&decision))
                }
                Err(fault) => {
                    odd.push(format!("{word}: {fault}"));
                    format!("fault: {fault}")
                }
            };
            table.insert(word.into(), said.into());
        }
    }
    let finite = description.wants == Wants::default() && description.headers.is_empty();
    Ok(serde_json::json!({
        "file": file, "octets": octets.len(), "digest": lock::hex(&Sha256::digest(&octets)), "contract": INTERFACE,
        "imports": [], "name": line(&description.name), "version": line(&description.version),
        "summary": line(&description.summary), "wants": description.wants.words(), "headers": description.headers,
        "settings": settings(&description), "finite": finite, "decisions": table, "odd": odd,
    }))
}

const STATUSES: [KeyStatus; 6] = [
    KeyStatus::Valid,
    KeyStatus::Invalid,
    KeyStatus::Missing,
    KeyStatus::None,
    KeyStatus::Unverified,
    KeyStatus::Unusable,
];

/// What a decision asks for that means nothing.
fn meaningless(decision: &Decision) -> Option<&'static str> {
    let told = decision.notify != Notify::default();
    let sender = decision.notify & Notify::SENDER == Notify::SENDER;
    match decision.disposition {
        Disposition::Accept | Disposition::Mark | Disposition::Defer if told => {
            Some("tells somebody of a message that is delivered or comes again: it means nothing")
        }
        Disposition::Quarantine if sender => Some("tells the sender of a quarantine: only the recipient can be told"),
        _ => None,
    }
}

fn settings(description: &Description) -> Vec<serde_json::Value> {
    let setting = |setting: &crate::policy::sandbox::contract::Setting| {
        serde_json::json!({
            "name": line(&setting.name), "kind": setting.kind.word(), "default": setting.kind.default_value(),
            "summary": line(&setting.summary),
        })
    };
    description.settings.iter().map(setting).collect()
}

fn line(text: &str) -> String {
    printable(text, Limits::default().policy_text)
}

fn print(report: &serde_json::Value, json: bool) {
    if json {
        println!("{report}");
        return;
    }
    let text = |key: &str| report[key].as_str().unwrap_or_default().to_owned();
    let list = |key: &str| {
        let items = report[key].as_array().into_iter().flatten().filter_map(serde_json::Value::as_str);
        let items = items.collect::<Vec<_>>().join(", ");
        if items.is_empty() { "none".to_owned() } else { items }
    };
    println!("{}: {} {}\n  {}", text("file"), text("name"), text("version"), text("summary"));
    println!("  contract    {}, no imports\n  SHA-256     {}", text("contract"), text("digest"));
    println!("  facts       {}\n  fields      {}", list("wants"), list("headers"));
    for setting in report["settings"].as_array().into_iter().flatten() {
        let default = match &setting["default"] {
            serde_json::Value::Null => "must be set".to_owned(),
            default => format!("default {default}"),
        };
        let word = |key: &str| setting[key].as_str().unwrap_or_default();
        println!("  setting     {}: {}, {default}: {}", word("name"), word("kind"), word("summary"));
    }
    for (status, said) in report["decisions"].as_object().into_iter().flatten() {
        println!("  {status:<12}{}", said.as_str().unwrap_or_default());
    }
    for odd in report["odd"].as_array().into_iter().flatten() {
        println!("  ODD         {}", odd.as_str().unwrap_or_default());
    }
}

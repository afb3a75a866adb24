//! `addrauth policy check`: loads components as the server would, and says what they are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Error, cases, lock};
use addrauth::case::{Disposition, KeyStatus};
use addrauth::config::Limits;
use addrauth::policy::rehearse::{self, Stage, Wanted};
use addrauth::policy::{self, Proposal, Trial};

/// Says what each file is; false where one is refused or odd.
pub(super) fn run(files: &[PathBuf], json: bool, trial: &Trial) -> Result<bool, Error> {
    let stage = Stage::new(&Arc::new(Limits::default())).map_err(Error::Setup)?;
    let mut good = true;
    for file in files {
        let file = &cases::files(file).0;
        match look(&stage, file, trial) {
            Ok(report) => {
                good &= report["odd"].as_array().is_none_or(Vec::is_empty);
                print(&report, json);
            }
            Err(Error::Policy(policy::Error::Read { path, source })) => {
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

fn look(stage: &Stage, file: &Path, trial: &Trial) -> Result<serde_json::Value, Error> {
    let octets = rehearse::read(file, &Limits::default())?;
    let component = stage.load(&octets, trial).map_err(|why| Error::Unfit { path: file.to_owned(), why })?;
    let mut odd = Vec::new();
    let mut table = serde_json::Map::new();
    let mut wanted = None;
    // Without an administrator's values, a policy whose settings all have defaults is tried on the bare results.
    if let Ok(settings) = component.fit(&Default::default()) {
        match component.check(&settings) {
            Ok(wants) => wanted = Some(wants),
            Err(refusal) => odd.push(format!("its own defaults: {refusal}")),
        }
        for status in KeyStatus::ALL {
            let word = status.word();
            let said = match component.decide_bare(status, &settings) {
                Ok(proposal) => {
                    odd.extend(meaningless(&proposal).map(|text| format!("{word}: {text}")));
                    cases::words(&proposal)
                }
                Err(fault) => {
                    odd.push(format!("{word}: {fault}"));
                    fault.to_string()
                }
            };
            table.insert(word.into(), said.into());
        }
    }
    Ok(serde_json::json!({
        "file": file, "octets": octets.len(), "digest": lock::hex(&Sha256::digest(&octets)),
        "contract": component.contract(), "imports": [], "name": component.name(), "version": component.version(),
        "summary": component.summary(), "wants": wanted.as_ref().map(Wanted::facts),
        "headers": wanted.as_ref().map(Wanted::headers), "settings": component.settings(),
        "finite": wanted.as_ref().map(Wanted::is_nothing), "decisions": table, "odd": odd,
    }))
}

/// What a decision asks for that means nothing.
fn meaningless(proposal: &Proposal) -> Option<&'static str> {
    let told = proposal.notify.sender || proposal.notify.recipient;
    match proposal.disposition {
        Disposition::Accept | Disposition::Mark | Disposition::Defer if told => {
            Some("tells somebody of a message that is delivered or comes again: it means nothing")
        }
        Disposition::Quarantine if proposal.notify.sender => {
            Some("tells the sender of a quarantine: only the recipient can be told")
        }
        _ => None,
    }
}

fn print(report: &serde_json::Value, json: bool) {
    if json {
        println!("{report}");
        return;
    }
    let text = |key: &str| report[key].as_str().unwrap_or_default().to_owned();
    let list = |key: &str| {
        let Some(items) = report[key].as_array() else { return "they follow from its settings".to_owned() };
        let items = items.iter().filter_map(serde_json::Value::as_str);
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

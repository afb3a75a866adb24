//! `addrauth policy check`: loads components as the server would, and says what they are; `addrauth policy explain`.

use addrauth::case::KeyStatus;
use addrauth::policy::rehearse::{Finding, Odd, Samples, Undecided, Wanted, odd};
use addrauth::policy::{self, Origin};
use serde_json::{Value, json};

use super::named::{Named, Workshop};
use super::{Error, Setting};

/// Says what each policy is; false where one is refused, or something is to be put right.
pub(super) fn run(workshop: &Workshop, policies: &[String], set: &[Setting], json: bool) -> Result<bool, Error> {
    let mut good = true;
    for word in policies {
        match workshop.load(word, set) {
            Ok(named) => {
                let report = look(workshop, &named);
                good &= !report["odd"].as_array().into_iter().flatten().any(|odd| odd["wrong"] == true);
                print(&report, json);
            }
            Err(Error::Lost(policy::rehearse::Lost::Policy(policy::Error::Read { path, source }))) => {
                return Err(Error::Read { path, source });
            }
            Err(e @ (Error::Lost(_) | Error::Config(_) | Error::Setup(_))) => return Err(e),
            Err(e) => {
                good = false;
                let odd = Finding::Refused.says(e.to_string());
                match json {
                    true => println!("{}", json!({"policy": word, "refused": odd.text, "odd": [odd]})),
                    false => println!("{word}: {}\n  {}", odd.text, line(&json!(odd))),
                }
            }
        }
    }
    Ok(good)
}

/// Prints the page of a finding, or all titles.
pub(super) fn explain(id: Option<&str>, json: bool) -> Result<bool, Error> {
    let told = |finding: Finding| json!({"id": finding.id(), "title": finding.title(), "page": finding.page()});
    match id {
        Some(id) => {
            let finding = Finding::by_id(id).ok_or_else(|| Error::NoFinding(id.to_owned()))?;
            match json {
                true => println!("{:#}", told(finding)),
                false => print!("{}", finding.page()),
            }
        }
        None if json => println!("{:#}", Value::from(Finding::ALL.map(told).to_vec())),
        None => Finding::ALL.iter().for_each(|finding| println!("{} {}", finding.id(), finding.title())),
    }
    Ok(true)
}

/// What a policy is, as `--json` tells it.
pub(super) fn look(workshop: &Workshop, named: &Named) -> Value {
    let component = &named.component;
    let settings = component.fit(&named.given).map_err(Undecided::Settings);
    let mut table = serde_json::Map::new();
    let mut wanted = None;
    if let Ok(settings) = &settings {
        wanted = component.check(settings).ok();
        for status in KeyStatus::ALL {
            let said = component.decide_bare(status, settings);
            table.insert(
                status.word().into(),
                said.map_or_else(|fault| fault.to_string(), |told| told.to_string()).into(),
            );
        }
    }
    // Cases that cannot be read are found by `policy test`.
    let samples: Samples = named.samples(workshop).unwrap_or_default();
    let subject = settings.and_then(|settings| component.under(&named.located.name, settings));
    let must_be_set = matches!(&subject, Err(Undecided::Settings(_))) && named.given.is_empty() && has_none(named);
    let found: Vec<Odd> = match (&subject, must_be_set) {
        // An administrator has to set something first: nothing odd.
        (Err(_), true) => Vec::new(),
        (subject, _) => odd(component, subject.as_ref(), &samples, &workshop.limits),
    };
    let file = match &named.located.origin {
        Origin::File(path) => path.display().to_string(),
        other => other.to_string(),
    };
    json!({
        "file": file, "octets": named.located.octets.len(), "size": component.size(), "digest": named.located.digest,
        "contract": component.contract(), "imports": [], "name": component.name(), "version": component.version(),
        "summary": component.summary(), "wants": wanted.as_ref().map(Wanted::facts),
        "headers": wanted.as_ref().map(Wanted::headers), "settings": component.settings(),
        "finite": wanted.as_ref().map(Wanted::is_nothing), "decisions": table, "odd": found,
    })
}

/// Whether a setting has no default.
fn has_none(named: &Named) -> bool {
    named.component.settings().iter().any(|setting| setting.default.is_null())
}

pub(super) fn print(report: &Value, json: bool) {
    if json {
        println!("{report}");
        return;
    }
    let text = |key: &str| report[key].as_str().unwrap_or_default().to_owned();
    let list = |key: &str| {
        let Some(items) = report[key].as_array() else { return "they follow from its settings".to_owned() };
        let items = items.iter().filter_map(Value::as_str);
        let items = items.collect::<Vec<_>>().join(", ");
        if items.is_empty() { "none".to_owned() } else { items }
    };
    println!("{}: {} {}\n  {}", text("file"), text("name"), text("version"), text("summary"));
    println!("  contract    {}, no imports\n  SHA-256     {}", text("contract"), text("digest"));
    println!("  size        {} octets, class {}", report["octets"], text("size"));
    println!("  facts       {}\n  fields      {}", list("wants"), list("headers"));
    for setting in report["settings"].as_array().into_iter().flatten() {
        let default = match &setting["default"] {
            Value::Null => "must be set".to_owned(),
            default => format!("default {default}"),
        };
        let word = |key: &str| setting[key].as_str().unwrap_or_default();
        println!("  setting     {}: {}, {default}: {}", word("name"), word("kind"), word("summary"));
    }
    if report["decisions"].as_object().is_some_and(|table| !table.is_empty()) {
        println!("  mail of which nothing but the result is known:");
    }
    for (status, said) in report["decisions"].as_object().into_iter().flatten() {
        println!("  {status:<12}{}", said.as_str().unwrap_or_default());
    }
    report["odd"].as_array().into_iter().flatten().for_each(|odd| println!("  {}", line(odd)));
}

/// A finding in a line, with the facts for which it shows.
fn line(odd: &Value) -> String {
    let word = if odd["wrong"] == true { "ODD" } else { "note" };
    let (id, text) = (odd["id"].as_str().unwrap_or_default(), odd["text"].as_str().unwrap_or_default());
    let title = Finding::by_id(id).map_or("", Finding::title);
    let facts = odd["example"].as_str().and_then(|case| case.lines().find_map(|line| line.strip_prefix("facts = ")));
    let facts = facts.map(|facts| format!(" at {facts}")).unwrap_or_default();
    format!("{word:<5}{id}  {title}: {text}{facts}")
}

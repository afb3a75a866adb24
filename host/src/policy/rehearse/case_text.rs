//! A case as text to paste into `cases.toml`.

use super::WrittenFacts;
use super::subject::{Answer, Subject};

/// A case beside a policy, as text: `policy test` runs it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(transparent)]
pub struct CaseText(pub String);

impl std::fmt::Display for CaseText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The case that what is decided now makes.
pub(super) fn case_text(subject: &Subject, facts: &WrittenFacts, answer: &Answer) -> CaseText {
    let facts = toml::Value::try_from(facts).unwrap_or(toml::Value::Table(toml::Table::new()));
    let mut expect = toml::Table::new();
    match (&answer.decision, &answer.fault) {
        (Some(decision), None) => {
            expect.insert("disposition".into(), decision.disposition.word().into());
            let told = [("sender", decision.notify.sender), ("recipient", decision.notify.recipient)];
            let told: Vec<toml::Value> =
                told.into_iter().filter(|(_, told)| *told).map(|(word, _)| word.into()).collect();
            if !told.is_empty() {
                expect.insert("notify".into(), told.into());
            }
            if !decision.reason.is_empty() {
                expect.insert("reason".into(), decision.reason.as_str().into());
            }
        }
        (_, fault) => {
            expect.insert("fault".into(), fault.as_deref().unwrap_or_default().into());
        }
    }
    let name = toml::Value::from(title(&facts));
    let settings = subject.settings_changed();
    let mut text = format!("[[case]]\nname = {name}\nfacts = {}\n", inline(&facts));
    if !settings.is_empty() {
        text += &format!("settings = {}\n", toml::Value::Table(settings));
    }
    text += &format!("expect = {}\n", toml::Value::Table(expect));
    CaseText(text)
}

/// The facts as an inline table, the result and its reason first.
fn inline(facts: &toml::Value) -> String {
    let table = facts.as_table();
    let rank = |key: &str| ["status", "why"].iter().position(|first| *first == key).unwrap_or(2);
    let mut pairs: Vec<(&String, &toml::Value)> = table.into_iter().flatten().collect();
    pairs.sort_by_key(|(key, _)| rank(key));
    let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key} = {value}")).collect();
    format!("{{ {} }}", pairs.join(", "))
}

/// The facts in a line.
fn title(facts: &toml::Value) -> String {
    let mut words = Vec::new();
    for (fact, value) in facts.as_table().into_iter().flatten() {
        let value = match value {
            toml::Value::String(text) => text.clone(),
            toml::Value::Array(items) if items.is_empty() => "none".into(),
            toml::Value::Array(items) => {
                items.iter().map(|item| item.as_str().unwrap_or_default()).collect::<Vec<_>>().join("+")
            }
            toml::Value::Table(table) => {
                let pair = |(key, value): (&String, &toml::Value)| match value {
                    toml::Value::String(text) if text == "none" => None,
                    toml::Value::Boolean(false) => None,
                    toml::Value::Boolean(true) => Some(key.clone()),
                    toml::Value::String(text) => Some(format!("{key} {text}")),
                    other => Some(format!("{key} {other}")),
                };
                table.iter().filter_map(pair).collect::<Vec<_>>().join(" ")
            }
            other => other.to_string(),
        };
        match fact.as_str() {
            "status" => words.insert(0, value),
            _ => words.push(format!("{fact} {value}")),
        }
    }
    words.join(", ")
}

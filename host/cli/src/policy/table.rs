//! `addrauth policy table`: prints all that a policy decides.

use addrauth::policy::rehearse::{Row, Samples, Table};
use serde_json::json;

use super::named::Workshop;
use super::{Error, Setting, Told};

/// How a table is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    People,
    Markdown,
    Csv,
    Json,
}

impl Form {
    pub(super) fn of(json: bool, markdown: bool, csv: bool) -> Result<Form, Error> {
        Ok(match (json, markdown, csv) {
            (true, true, _) => return Err(Error::TwoForms("--markdown")),
            (true, _, true) => return Err(Error::TwoForms("--csv")),
            (true, ..) => Form::Json,
            (_, true, _) => Form::Markdown,
            (_, _, true) => Form::Csv,
            _ => Form::People,
        })
    }
}

/// Prints the table of a policy, or of all that the configuration binds.
pub(super) fn run(
    workshop: &Workshop,
    policy: Option<&str>,
    bindings: Option<&str>,
    form: Form,
    set: &[Setting],
) -> Result<Told, Error> {
    let (subject, samples) = match (policy, bindings) {
        (Some(word), _) => {
            let named = workshop.load(word, set)?;
            (named.subject()?, named.samples(workshop)?)
        }
        (None, recipient) => (workshop.site(recipient.filter(|word| !word.is_empty()))?, Samples::default()),
    };
    let table = Table::of(&subject, &samples, &workshop.limits)?;
    let (columns, rows) = (headings(&table), table.rows());
    match form {
        Form::Json => println!(
            "{:#}",
            json!({
                "policy": subject.name, "settings": subject.settings_json(), "columns": table.columns(), "rows": rows,
                "extent": table.extent(), "exact": table.extent().is_exact(), "unasked": table.unasked(), "cut": table.cut,
                "milliseconds": table.took().as_secs_f64() * 1_000.0,
            })
        ),
        Form::Csv => {
            println!("{}", columns.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(","));
            for row in &rows {
                println!("{}", cells(row, "any").iter().map(|word| quoted(word)).collect::<Vec<_>>().join(","));
            }
        }
        Form::Markdown => {
            let line = |cells: Vec<String>| format!("| {} |", cells.join(" | "));
            let safe = |text: String| text.replace('|', "\\|");
            println!("{}", line(columns.clone()));
            println!("{}", line(vec!["---".into(); columns.len()]));
            rows.iter().for_each(|row| println!("{}", line(cells(row, "").into_iter().map(safe).collect())));
            println!("\n{}", below(&table));
        }
        Form::People => {
            let settings = subject.settings_changed();
            let under =
                if settings.is_empty() { String::new() } else { format!(", with {}", toml::Value::Table(settings)) };
            println!("{}{under}\n", subject.name);
            let mut lines = vec![columns];
            lines.extend(rows.iter().map(|row| cells(row, "·")));
            aligned(&lines).iter().for_each(|line| println!("  {line}"));
            println!("\n{}", below(&table));
        }
    }
    Ok(if table.unasked() > 0 || table.cut { Told::Unknown } else { Told::Good })
}

/// What a table says of itself.
fn below(table: &Table) -> String {
    let extent = table.extent();
    let mut text = format!(
        "{} rows of {} combinations in {:.0} ms; {}.",
        table.rows().len(),
        extent.rows,
        ms(table),
        extent.words()
    );
    if table.cut {
        text += " There are more rows: they are left out.";
    }
    if table.unasked() > 0 {
        text += &format!(" {} combinations were not asked about in time.", table.unasked());
    }
    text
}

fn ms(table: &Table) -> f64 {
    table.took().as_secs_f64() * 1_000.0
}

fn headings(table: &Table) -> Vec<String> {
    table.columns().into_iter().chain(["decision".into()]).collect()
}

fn cells(row: &Row, any: &str) -> Vec<String> {
    let facts = row.facts.iter().map(|word| word.clone().unwrap_or_else(|| any.to_owned()));
    facts.chain([row.decision.clone()]).collect()
}

/// A value of a file of comma-separated values (RFC 4180).
fn quoted(text: &str) -> String {
    let plain = !text.contains([',', '"', '\n', '\r']);
    if plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}

/// Lines whose columns are as wide as their widest cell; the last column ends where it ends.
pub(super) fn aligned(lines: &[Vec<String>]) -> Vec<String> {
    let count = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let line = |cells: &Vec<String>| {
        let last = cells.len().saturating_sub(1);
        let cell = |(column, cell): (usize, &String)| {
            let room = if column == last { 0 } else { widths.get(column).copied().unwrap_or(0) };
            format!("{cell:<room$}")
        };
        cells.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ")
    };
    lines.iter().map(line).collect()
}

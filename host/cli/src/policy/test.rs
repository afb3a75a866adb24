//! `addrauth policy test`: runs a policy's cases in the sandbox, and says which rows of its table they reach.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use addrauth::policy::rehearse::{Covered, Ran, WrittenFacts, coverage};
use serde::Serialize;

use super::cases::{CASES_FILE, directories_with};
use super::named::Workshop;
use super::new::text;
use super::{Error, Set, Told};

/// Between two looks whether a file has changed.
const LOOK: Duration = Duration::from_millis(300);

/// What is run, and how it is told.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Policies; none: every one in ./policies that has cases.
    #[arg(value_name = "POLICY")]
    policies: Vec<String>,
    /// Only cases whose name holds this text.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Say which rows of the policy's table no case reaches, each as a case to paste. A row that is missing is a finding.
    #[arg(long)]
    coverage: bool,
    /// With --coverage: as good as so many of a hundred rows.
    #[arg(long, value_name = "PERCENT", default_value_t = 100, requires = "coverage", value_parser = clap::value_parser!(u8).range(0..=100))]
    threshold: u8,
    /// Write a JUnit report into this file.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print in the Test Anything Protocol.
    #[arg(long)]
    tap: bool,
    /// Run again whenever a component or its cases change, until Ctrl-C. A message that a case names is not watched.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    set: Set,
}

/// What came out for one policy.
#[derive(Serialize)]
struct Tried {
    policy: String,
    cases: Vec<Ran>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage: Option<Vec<Covered>>,
}

/// Runs the cases; a failure is a finding, and with `--coverage` a row that no case reaches.
pub(super) fn run(workshop: &Workshop, options: &Options, json: bool) -> Result<Told, Error> {
    if json && options.tap {
        return Err(Error::TwoForms("--tap"));
    }
    let policies = match options.policies.is_empty() {
        true => directories_with(CASES_FILE)?.into_iter().map(|dir| dir.to_string_lossy().into_owned()).collect(),
        false => options.policies.clone(),
    };
    if policies.is_empty() {
        return Err(Error::Nothing);
    }
    if options.watch {
        return watch(workshop, options, &policies, json);
    }
    once(workshop, options, &policies, json)
}

fn once(workshop: &Workshop, options: &Options, policies: &[String], json: bool) -> Result<Told, Error> {
    let tried = policies.iter().map(|word| one(workshop, options, word)).collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = &options.junit {
        std::fs::write(path, junit(&tried)).map_err(|source| Error::Write { path: path.clone(), source })?;
    }
    match (json, options.tap) {
        (true, _) => println!("{:#}", serde_json::to_value(&tried).unwrap_or_default()),
        (false, true) => print!("{}", tap(&tried)),
        (false, false) => print(&tried, options),
    }
    let passed = tried.iter().flat_map(|tried| &tried.cases).all(|ran| ran.passed);
    let reached = tried.iter().flat_map(|tried| tried.coverage.iter().flatten());
    let reached = reached.fold((0, 0), |(rows, reached), covered| (rows + covered.rows, reached + covered.reached()));
    let covered = reached.1 * 100 >= reached.0 * usize::from(options.threshold);
    let whole = tried.iter().flat_map(|tried| tried.coverage.iter().flatten()).all(Covered::is_whole);
    Ok(match passed && covered {
        true if !whole => Told::Unknown,
        good => Told::is(good),
    })
}

fn one(workshop: &Workshop, options: &Options, word: &str) -> Result<Tried, Error> {
    let named = workshop.load(word, &options.set.set)?;
    let suite = named.suite(&workshop.limits)?;
    let messages = |path: &Path, facts: &WrittenFacts| workshop.message(path, facts);
    let coverage = match options.coverage {
        true => Some(coverage(suite.as_ref(), &named.component, &named.given, &messages, &workshop.limits)?),
        false => None,
    };
    let cases = match suite {
        Some(mut suite) => {
            if let Some(text) = &options.only {
                suite.cases.retain(|case| case.name.contains(text));
                if suite.cases.is_empty() {
                    return Err(Error::Syntax { path: suite.path, text: format!("no case has {text:?} in its name") });
                }
            }
            suite.run(&named.component, &named.given, &messages)
        }
        // With --coverage all rows are printed as cases to begin with.
        None if options.coverage => Vec::new(),
        None => return Err(Error::NoCases(named.located.name)),
    };
    Ok(Tried { policy: named.located.name, cases, coverage })
}

fn print(tried: &[Tried], options: &Options) {
    for Tried { policy, cases, coverage } in tried {
        // One slip of the pen in a text fails every case alike.
        let mut told: Option<&str> = None;
        for ran in cases {
            println!("{} {policy}: {}", if ran.passed { "pass" } else { "FAIL" }, ran.case);
            if ran.passed {
                continue;
            }
            match &ran.wrong {
                Some(wrong) => println!("  {}:{}: {wrong}", ran.file.display(), ran.line),
                None => {
                    println!("  {}:{}", ran.file.display(), ran.expect_line);
                    let again = ran.actual.starts_with("refused: ") && told == Some(&ran.actual);
                    let actual = if again { "refused, as above" } else { &ran.actual };
                    println!("  expected: {}\n  actual:   {actual}", ran.expected);
                    told = Some(&ran.actual);
                }
            }
        }
        coverage.iter().flatten().for_each(|covered| covered_text(policy, covered));
    }
    let all = || tried.iter().flat_map(|tried| &tried.cases);
    let failed = all().filter(|ran| !ran.passed).count();
    println!("{} passed, {failed} failed", all().count() - failed);
    if options.coverage {
        let sum = |count: &dyn Fn(&Covered) -> usize| -> usize {
            tried.iter().flat_map(|tried| tried.coverage.iter().flatten()).map(count).sum()
        };
        println!("{} of {} rows reached", sum(&Covered::reached), sum(&|covered| covered.rows));
    }
}

fn covered_text(policy: &str, covered: &Covered) {
    let settings = if covered.settings.is_empty() { String::new() } else { format!(" with {}", covered.settings) };
    println!("rows {policy}{settings}: {} of {} reached; {}", covered.reached(), covered.rows, covered.extent.words());
    for name in &covered.impossible {
        println!("  the filter never finds the facts of {name:?} together, so it reaches no row");
    }
    for name in &covered.untold {
        println!(
            "  which row the case {name:?} reaches could not be told: its message cannot be read, or there are too many constants"
        );
    }
    if covered.unasked > 0 {
        println!("  UNKNOWN: {} combinations were not asked about in time", covered.unasked);
    }
    if covered.cut {
        println!("  UNKNOWN: there are more rows, which are not counted");
    }
    for missing in &covered.missing {
        println!("\n# {}\n{}", missing.when, missing.case);
    }
}

/// The Test Anything Protocol, version 13.
fn tap(tried: &[Tried]) -> String {
    let all: Vec<(&str, &Ran)> =
        tried.iter().flat_map(|tried| tried.cases.iter().map(|ran| (tried.policy.as_str(), ran))).collect();
    let mut text = format!("TAP version 13\n1..{}\n", all.len());
    for (number, (policy, ran)) in all.iter().enumerate() {
        let word = if ran.passed { "ok" } else { "not ok" };
        // A hash begins a directive.
        text += &format!("{word} {} - {policy}: {}\n", number + 1, ran.case.replace('#', "\\#").replace('\n', " "));
        if !ran.passed {
            let quote = |text: &str| serde_json::Value::from(text).to_string();
            let place = format!("{}:{}", ran.file.display(), ran.expect_line);
            let actual = ran.wrong.as_deref().unwrap_or(&ran.actual);
            let pairs = [("at", place.as_str()), ("expected", &ran.expected), ("actual", actual)];
            let pairs: Vec<String> = pairs.iter().map(|(key, text)| format!("  {key}: {}\n", quote(text))).collect();
            text += &format!("  ---\n{}  ...\n", pairs.concat());
        }
    }
    text
}

/// A JUnit report.
fn junit(tried: &[Tried]) -> String {
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for Tried { policy, cases, .. } in tried {
        let failures = cases.iter().filter(|ran| !ran.passed).count();
        text +=
            &format!("  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\">\n", escaped(policy), cases.len());
        for ran in cases {
            let name = escaped(&ran.case);
            let file = escaped(&ran.file.display().to_string());
            text += &format!(
                "    <testcase classname=\"{}\" name=\"{name}\" file=\"{file}\" line=\"{}\"",
                escaped(policy),
                ran.line
            );
            if ran.passed {
                text += "/>\n";
                continue;
            }
            let actual = escaped(ran.wrong.as_deref().unwrap_or(&ran.actual));
            let expected = escaped(&ran.expected);
            text += &format!(
                ">\n      <failure message=\"expected {expected}, but got {actual}\">{file}:{}\nexpected: {expected}\nactual:   \
                 {actual}</failure>\n    </testcase>\n",
                ran.expect_line
            );
        }
        text += "  </testsuite>\n";
    }
    text + "</testsuites>\n"
}

/// Text for an attribute or an element; what XML 1.0 has no character for becomes a question mark.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\n' => out += "&#10;",
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

/// Runs the cases whenever one of the files changes, until the program is ended.
fn watch(workshop: &Workshop, options: &Options, policies: &[String], json: bool) -> Result<Told, Error> {
    let mut before: Option<Vec<Option<SystemTime>>> = None;
    loop {
        let now = times(workshop, policies);
        if before.as_ref() != Some(&now) {
            // Written in pieces: the files are looked at once they rest.
            std::thread::sleep(LOOK);
            if times(workshop, policies) == now {
                match once(workshop, options, policies, json) {
                    Ok(_) => {}
                    Err(e) => eprintln!("addrauth: {e}"),
                }
                before = Some(now);
            }
        }
        std::thread::sleep(LOOK);
    }
}

/// When the components and their cases changed last.
fn times(workshop: &Workshop, policies: &[String]) -> Vec<Option<SystemTime>> {
    let changed = |path: &Path| std::fs::metadata(path).and_then(|found| found.modified()).ok();
    let mut times = Vec::new();
    for word in policies {
        let located = workshop.locate(word).ok();
        if let Some(addrauth::policy::Origin::File(path)) = located.as_ref().map(|located| &located.origin) {
            times.extend([changed(path), changed(&path.with_file_name(CASES_FILE))]);
        } else {
            times.push(None);
        }
        // A text that cannot be read is looked at until it can.
        let text = text::files(Path::new(word));
        times.extend(text.into_iter().flatten().map(|path| changed(&path)));
    }
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(case: &str, passed: bool) -> Ran {
        let (expected, actual) = ("accept".to_owned(), "reject: \"no\" & <none>".to_owned());
        let file = PathBuf::from("a/cases.toml");
        Ran { case: case.into(), file, line: 3, expect_line: 5, passed, expected, actual, wrong: None }
    }

    #[test]
    fn reports_for_machines_hold_names_and_words_of_any_shape() {
        let tried = [Tried {
            policy: "p".into(),
            cases: vec![ran("good # one\u{1}", true), ran("<bad>\n", false)],
            coverage: None,
        }];
        let xml = junit(&tried);
        assert!(xml.contains("tests=\"2\" failures=\"1\"") && xml.contains("name=\"good # one?\""), "{xml}");
        assert!(xml.contains("&lt;bad&gt;&#10;") && xml.contains("a/cases.toml:5") && !xml.contains("<none>"), "{xml}");
        let tap = tap(&tried);
        assert!(tap.contains("1..2\nok 1 - p: good \\# one") && tap.contains("not ok 2 - p: <bad> \n  ---\n"), "{tap}");
    }
}

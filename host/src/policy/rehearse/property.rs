//! Properties of policies, proved over the space of facts or refuted by an example.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use super::answers::Answers;
use super::axis::{Aspect, Kind};
use super::case_text::{CaseText, case_text};
use super::clause::{Clause, Malformed};
use super::order::badness;
use super::probe::fitted;
use super::samples::Samples;
use super::space::{Extent, Space};
use super::subject::{Answer, Subject, result};
use crate::config::Limits;

/// Something that may hold of a policy.
#[derive(Clone, Debug)]
pub enum Property {
    /// No facts make it fail.
    NeverErrors,
    /// It never decides so, or never so under a condition.
    Never(Clause),
    /// It decides so under the condition alone.
    Only(Clause),
    /// It decides so wherever the condition holds.
    Always(Clause),
    /// A worse result, all else being equal, is never treated less strictly.
    Monotone,
}

/// What was found out about a property.
#[derive(Debug)]
pub struct Proof {
    /// The property in its words.
    pub property: String,
    /// What was found out.
    pub outcome: Outcome,
    /// What was gone through.
    pub extent: Extent,
    /// How long it took.
    pub took: Duration,
}

/// What can be found out.
#[derive(Debug)]
pub enum Outcome {
    /// It holds for all rows: proved where the extent is exact, else it holds for these samples.
    Holds,
    /// It does not hold.
    Fails(Box<Counterexample>),
    /// It could not be told.
    Unknown(String),
}

/// Facts for which a property does not hold.
#[derive(Debug)]
pub struct Counterexample {
    /// What is decided there, and why that is against the property.
    pub text: String,
    /// The facts with what is decided as cases to paste into `cases.toml`: two where two rows are compared.
    pub cases: Vec<CaseText>,
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Property::NeverErrors => f.write_str("never-errors"),
            Property::Never(clause) => write!(f, "never \"{clause}\""),
            Property::Only(clause) => write!(f, "only \"{clause}\""),
            Property::Always(clause) => write!(f, "always \"{clause}\""),
            Property::Monotone => f.write_str("monotone"),
        }
    }
}

impl Property {
    /// Reads properties as they stand on a command line: `never-errors`, `monotone`, and `never`, `only` or `always` with a clause
    /// as the next word.
    ///
    /// # Errors
    /// In words for people.
    pub fn read(words: &[String]) -> Result<Vec<Property>, Malformed> {
        let parts: Vec<String> = words.iter().flat_map(|word| parted(word)).collect();
        let mut properties = Vec::new();
        let mut words = parts.iter();
        while let Some(word) = words.next() {
            let mut clause = |needs_condition: bool| {
                let example = "such as \"reject when result=valid\"";
                let text =
                    words.next().ok_or_else(|| Malformed(format!("`{word}` needs a clause behind it, {example}")))?;
                let clause = Clause::read(text)?;
                match needs_condition && clause.is_unconditional() {
                    true => Err(Malformed(format!("`{word}` needs a condition: write \"{text} when …\", {example}"))),
                    false => Ok(clause),
                }
            };
            properties.push(match word.as_str() {
                "never-errors" => Property::NeverErrors,
                "monotone" => Property::Monotone,
                "never" => Property::Never(clause(false)?),
                "only" => Property::Only(clause(true)?),
                "always" => Property::Always(clause(false)?),
                other => {
                    return Err(Malformed(format!(
                        "`{other}` is no property: write never-errors, monotone, or never, only or always with a clause such as \
                         \"reject when result=valid\""
                    )));
                }
            });
        }
        Ok(properties)
    }

    /// What is asked of every policy: it never fails, never refuses mail with a valid key, never drops mail without a key and tells
    /// nobody, and never treats a worse result less strictly.
    pub fn standard() -> Vec<Property> {
        let clause = |text| Clause::read(text).ok().map(Property::Never);
        let clauses = ["reject when result=valid", "reject, tell nobody when result=missing"];
        let mut all = vec![Property::NeverErrors];
        all.extend(clauses.into_iter().filter_map(clause));
        all.push(Property::Monotone);
        all
    }

    fn clause(&self) -> Option<&Clause> {
        match self {
            Property::Never(clause) | Property::Only(clause) | Property::Always(clause) => Some(clause),
            Property::NeverErrors | Property::Monotone => None,
        }
    }
}

/// A property in one word, in the form in which proofs print it, as its words.
fn parted(word: &str) -> Vec<String> {
    match word.split_once(' ') {
        Some((kind @ ("never" | "only" | "always"), clause)) => {
            let clause = clause.trim();
            let bare = clause.strip_prefix('"').and_then(|clause| clause.strip_suffix('"')).unwrap_or(clause);
            vec![kind.to_owned(), bare.to_owned()]
        }
        _ => vec![word.to_owned()],
    }
}

/// Proves these properties of a subject, or refutes them; `more` are constants that cases name.
pub fn prove(subject: &Subject, properties: &[Property], more: &Samples, limits: &Limits) -> Vec<Proof> {
    let mut named = super::nothing();
    let mut samples = more.clone();
    for clause in properties.iter().filter_map(Property::clause) {
        named = super::subject::both(&named, &clause.wanted());
        clause.tell(&mut samples);
    }
    let begin = Instant::now();
    let space = match fitted(&[subject], &samples, &named, limits) {
        Ok(space) => space,
        Err(wide) => return properties.iter().map(|property| unknown(property, wide.to_string(), begin)).collect(),
    };
    let answers = space.ask(subject, limits);
    let asked = begin.elapsed();
    let proof = |property: &Property| {
        let begin = Instant::now();
        let outcome = settled(property, subject, &space, &answers);
        Proof { property: property.to_string(), outcome, extent: space.extent(), took: asked + begin.elapsed() }
    };
    properties.iter().map(proof).collect()
}

/// What is found out over a space; where nothing is against the property and not all was asked, that could not be told.
pub(super) fn settled(property: &Property, subject: &Subject, space: &Space, answers: &Answers) -> Outcome {
    match (examined(property, subject, space, answers), answers.unasked(), space.extent().doubt()) {
        (Outcome::Holds, rows, _) if rows > 0 => {
            Outcome::Unknown(format!("{rows} of {} combinations were not asked about in time", space.len()))
        }
        (Outcome::Holds, _, Some(doubt)) => {
            Outcome::Unknown(format!("nothing against it was found, which proves nothing: {doubt}"))
        }
        (outcome, ..) => outcome,
    }
}

fn unknown(property: &Property, text: String, begin: Instant) -> Proof {
    let extent = Extent {
        rows: 0,
        exact: Vec::new(),
        alike: Vec::new(),
        sampled: Vec::new(),
        probed: Vec::new(),
        left_out: Vec::new(),
    };
    Proof { property: property.to_string(), outcome: Outcome::Unknown(text), extent, took: begin.elapsed() }
}

fn examined(property: &Property, subject: &Subject, space: &Space, answers: &Answers) -> Outcome {
    let breach = match property {
        Property::NeverErrors => first(space, |row| answers.of_row(row).is_some_and(|answer| answer.fault.is_some())),
        Property::Never(clause) => {
            let (when, said) = (clause.over(space), clause.among(answers));
            first(space, |row| said(row) && when.holds(space.row(row)))
        }
        Property::Only(clause) => {
            let (when, said) = (clause.over(space), clause.among(answers));
            first(space, |row| said(row) && !when.holds(space.row(row)))
        }
        Property::Always(clause) => {
            let (when, said) = (clause.over(space), clause.among(answers));
            first(space, |row| !said(row) && when.holds(space.row(row)))
        }
        Property::Monotone => return monotone(subject, space, answers),
    };
    let Some((row, answer)) = breach.and_then(|row| Some((row, answers.of_row(row)?))) else {
        return match property.clause().filter(|clause| !clause.is_unconditional()) {
            Some(clause) if !is_met(clause, space) => {
                Outcome::Unknown("no combination of facts meets its condition".into())
            }
            _ => Outcome::Holds,
        };
    };
    let text = format!("it decides {}", answer.words());
    let cases = vec![case_text(subject, &space.written(row, subject), answer)];
    Outcome::Fails(Box::new(Counterexample { text, cases }))
}

/// Whether a row meets the conditions.
fn is_met(clause: &Clause, space: &Space) -> bool {
    let when = clause.over(space);
    first(space, |row| when.holds(space.row(row))).is_some()
}

fn first(space: &Space, breaks: impl Fn(usize) -> bool) -> Option<usize> {
    (0..space.len()).find(|row| breaks(*row))
}

/// Compares rows that differ in the result, and in the claim where one of the two results has none.
fn monotone(subject: &Subject, space: &Space, answers: &Answers) -> Outcome {
    let claim = space.axes.iter().position(|axis| axis.kind == Kind::Claim);
    let mut alike: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
    for row in 0..space.len() {
        let key = space.row(row).iter().enumerate();
        let key = key.filter(|(axis, _)| *axis != 0 && Some(*axis) != claim).map(|(_, class)| *class).collect();
        alike.entry(key).or_default().push(row);
    }
    let bad = |row: usize| match space.axes.first()?.value(*space.row(row).first()?)? {
        Aspect::Result(status, _) => badness(result(*status)),
        _ => None,
    };
    let claimed = |row: usize| match claim {
        Some(axis) => space.axes.get(axis)?.value(*space.row(row).get(axis)?),
        None => None,
    };
    let none = |aspect: Option<&Aspect>| matches!(aspect, None | Some(Aspect::Claim(None)));
    let strict = |row: usize| answers.of_row(row)?.decision.as_ref()?.disposition.strictness();
    let breaks = |better: usize, worse: usize| {
        let claims = (claimed(better), claimed(worse));
        let comparable = claims.0 == claims.1 || none(claims.0) || none(claims.1);
        let order = bad(better).zip(bad(worse)).is_some_and(|(better, worse)| better < worse);
        comparable && order && strict(better).zip(strict(worse)).is_some_and(|(better, worse)| better > worse)
    };
    let mut pairs = Vec::new();
    for rows in alike.values() {
        // Nearly always all rows are treated alike.
        let one = rows.first().and_then(|row| answers.number(*row));
        if rows.iter().all(|row| answers.number(*row) == one) {
            continue;
        }
        let found = rows.iter().flat_map(|better| rows.iter().map(move |worse| (*better, *worse)));
        pairs.extend(found.filter(|(better, worse)| breaks(*better, *worse)).min());
    }
    let Some((better, worse)) = pairs.into_iter().min() else { return Outcome::Holds };
    let word = |row: usize| {
        let word = space.axes.first().zip(space.row(row).first()).and_then(|(axis, class)| axis.value(*class));
        word.map(Aspect::word).unwrap_or_default()
    };
    let decided = |row: usize| answers.of_row(row).map(Answer::words).unwrap_or_default();
    let text = format!(
        "{} leads to {}; {}, a worse result, leads to {}, all else being equal",
        word(better),
        decided(better),
        word(worse),
        decided(worse)
    );
    let case = |row: usize| Some(case_text(subject, &space.written(row, subject), answers.of_row(row)?));
    Outcome::Fails(Box::new(Counterexample { text, cases: [better, worse].into_iter().filter_map(case).collect() }))
}

/// How two subjects are held against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// Both decide the same for all facts, words included.
    Equivalent,
    /// The second lets through all that the first lets through: it is nowhere stricter, and a deferral or a fault of either is one
    /// of both.
    Implies,
}

/// Proves a relation between two subjects, or refutes it.
pub fn relate(relation: Relation, one: &Subject, other: &Subject, more: &Samples, limits: &Limits) -> Proof {
    let begin = Instant::now();
    let word = match relation {
        Relation::Equivalent => "equivalent",
        Relation::Implies => "implies",
    };
    let property = format!("{word} {} {}", one.name, other.name);
    let space = match fitted(&[one, other], more, &super::nothing(), limits) {
        Ok(space) => space,
        Err(wide) => return Proof { property, ..unknown(&Property::NeverErrors, wide.to_string(), begin) },
    };
    let (first_answers, other_answers) = (space.ask(one, limits), space.ask(other, limits));
    let unasked = first_answers.unasked() + other_answers.unasked();
    let breach = first(&space, |row| match (first_answers.of_row(row), other_answers.of_row(row)) {
        (Some(one), Some(other)) => !holds(relation, one, other),
        _ => false,
    });
    let outcome = match breach {
        None if unasked > 0 => Outcome::Unknown(format!("{unasked} combinations were not asked about in time")),
        None => match space.extent().doubt() {
            Some(doubt) => Outcome::Unknown(format!("no difference was found, which proves nothing: {doubt}")),
            None => Outcome::Holds,
        },
        Some(row) => {
            let answers = [(one, first_answers.of_row(row)), (other, other_answers.of_row(row))];
            let words = answers.map(|(subject, answer)| {
                format!("{} decides {}", subject.name, answer.map(Answer::words).unwrap_or_default())
            });
            let case = |(subject, answer): (&Subject, Option<&Answer>)| {
                Some(case_text(subject, &space.written(row, subject), answer?))
            };
            let cases = answers.into_iter().filter_map(case).collect();
            Outcome::Fails(Box::new(Counterexample { text: words.join(", and "), cases }))
        }
    };
    Proof { property, outcome, extent: space.extent(), took: begin.elapsed() }
}

fn holds(relation: Relation, one: &Answer, other: &Answer) -> bool {
    let strict = |answer: &Answer| answer.decision.as_ref().and_then(|decision| decision.disposition.strictness());
    match relation {
        Relation::Equivalent => one == other,
        Relation::Implies => match (strict(one), strict(other)) {
            (Some(one), Some(other)) => other <= one,
            // A deferral and a fault are beside the others.
            _ => {
                let kind = |answer: &Answer| answer.decision.as_ref().map(|decision| decision.disposition);
                kind(one) == kind(other)
            }
        },
    }
}

//! Which facts of a message count for a decision, and which single change of one would flip it.

use super::super::sandbox::contract::Facts;
use super::axis::{Aspect, Axis};
use super::samples::Samples;
use super::space::Space;
use super::subject::{Answer, Subject};
use super::{Undecided, WrittenFacts};
use crate::config::Limits;

/// A change of one fact that changes the decision.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Flip {
    /// The fact.
    pub fact: String,
    /// What it is.
    pub is: String,
    /// What it would be.
    pub would_be: String,
    /// What would be decided, in words.
    pub decision: String,
}

/// A decision, and the facts that counted for it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Reasons {
    /// The decision, in words.
    pub decision: String,
    /// For each fact that counts all single changes that flip the decision; those to another kind of decision come first.
    pub flips: Vec<Flip>,
    /// Facts that the policy sees and that change nothing here, whatever they are; of facts without an end of values those samples
    /// that were tried.
    pub idle: Vec<String>,
}

/// Tries every single change of these facts that the filter could find.
///
/// # Errors
/// What was written is no fact.
pub fn reasons(
    subject: &Subject,
    written: &WrittenFacts,
    more: &Samples,
    limits: &Limits,
) -> Result<Reasons, Undecided> {
    let facts = written.facts(subject.wanted()).map_err(Undecided::Facts)?;
    let mut samples = more.clone();
    samples.tell(&facts, subject.wanted());
    let (axes, wanted) = Space::wide(&[subject], &samples, &super::nothing(), limits);
    let told = axes
        .first()
        .is_some_and(|axis| axis.points.iter().any(|point| matches!(point.aspect, Aspect::Result(_, Some(_)))));
    // The points of facts; none where one of them is no point.
    let row = |facts: &Facts| -> Option<Vec<usize>> {
        let place = |axis: &Axis| {
            let value = Aspect::read(&axis.kind, facts, told);
            axis.points.iter().position(|point| point.aspect == value)
        };
        axes.iter().map(place).collect()
    };
    let now = subject.answer(&facts, &wanted.headers);
    let kind = |answer: &Answer| answer.decision.as_ref().map(|decision| (decision.disposition, decision.notify));
    let (mut flips, mut idle) = (Vec::new(), Vec::new());
    for axis in &axes {
        let is = Aspect::read(&axis.kind, &facts, told);
        let before = flips.len();
        for point in axis.points.iter().filter(|point| point.aspect != is) {
            let mut other = facts.clone();
            point.aspect.write(&mut other);
            if let (Aspect::Spf(_), Some(was), Some(auth)) = (&point.aspect, facts.mail_auth, other.mail_auth.as_mut())
            {
                (auth.dkim, auth.dkim_aligned, auth.dmarc) = (was.dkim, was.dkim_aligned, was.dmarc);
            }
            if let (Aspect::Ip(_), Some(was), Some(client)) = (&point.aspect, &facts.client, other.client.as_mut()) {
                (client.tls, client.name, client.helo) = (was.tls, was.name.clone(), was.helo.clone());
            }
            // What the filter never finds is no change of this message.
            if row(&other).is_none_or(|row| !Space::plain(&axes).allows(&row)) {
                continue;
            }
            let answer = subject.answer(&other, &wanted.headers);
            if answer != now {
                let weight = kind(&answer) == kind(&now);
                let (is, would_be) = (is.word(), point.label.clone());
                flips
                    .push((weight, Flip { fact: axis.kind.word().to_owned(), is, would_be, decision: answer.words() }));
            }
        }
        if flips.len() == before {
            idle.push(axis.kind.word().to_owned());
        }
    }
    flips.sort_by_key(|(weight, _)| *weight);
    Ok(Reasons { decision: now.words(), flips: flips.into_iter().map(|(_, flip)| flip).collect(), idle })
}

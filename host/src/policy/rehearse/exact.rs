//! What a text for the shipped `rules` can tell apart.
//!
//! A line of such a text asks whether a fact is one of the values that it names, or lies within a bound that it names; nothing else
//! tells two messages apart. So values of a closed fact that no word of the text names are one class, and the constants of the text
//! with what lies beside them stand for all that an open fact can be. A word counts for each fact that its line may ask for: that makes
//! more classes than there need be, and never fewer. The tests hold this against the component.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::super::sandbox::contract::{AuthResult, Trail, Value};
use super::axis::{Aspect, Axis, Kind};
use super::rule_line::{RuleLine, tells};
use super::subject::Subject;
use super::wording::{is_absent, numbers};

/// The conditions of some texts, line by line.
pub(super) struct Vocabulary(Vec<RuleLine>);

/// What a text sees of a value: values with the same sign are one to it.
#[derive(PartialEq, Eq, Hash)]
enum Sign {
    Claim(Option<&'static str>),
    /// The marks that it names, and whether there is none where it asks for that.
    Trail(u8, bool),
    Auth(Option<(Option<&'static str>, bool)>),
    /// Of each constant whether it is the value or names it.
    Named(Vec<bool>),
    /// Of each constant whether the value is below it, the same, or above it.
    Beside(Vec<Ordering>),
    /// Each value is one of its own.
    Own(usize),
}

/// The words of the conditions that may ask for one fact.
struct Words<'a>(BTreeSet<&'a str>);

impl Vocabulary {
    /// The conditions of the texts of these subjects; none where one of them is no text for `rules`.
    pub(super) fn of(subjects: &[&Subject]) -> Option<Vocabulary> {
        let mut lines = Vec::new();
        for subject in subjects {
            if !subject.is_rules() {
                return None;
            }
            let settings: Vec<&Value> = subject.settings().into_iter().map(|(value, _)| value).collect();
            lines.extend(RuleLine::all(&settings));
        }
        lines.iter().all(RuleLine::has_plain_networks).then_some(Vocabulary(lines))
    }

    /// Takes the values of an axis that the texts do not tell apart as one, unless `apart`, and its samples as all there can be
    /// where none is left out.
    pub(super) fn settle(&self, axis: &mut Axis, apart: bool) {
        let asking: Vec<&RuleLine> = self.0.iter().filter(|line| line.asks(&axis.kind)).collect();
        let is_asked = !asking.is_empty();
        let words = asking.iter().flat_map(|line| line.values(&axis.kind));
        let words = Words(words.map(String::as_str).collect());
        if !is_asked && !apart {
            axis.left_out = 0;
        }
        axis.closed |= axis.left_out == 0;
        if apart || axis.kind == Kind::Result {
            return;
        }
        let is_told_by_client = matches!(axis.kind, Kind::Tls | Kind::ClientName | Kind::Helo);
        let mut classes: Vec<Vec<usize>> = Vec::new();
        let mut known = HashMap::new();
        for (place, point) in axis.points.iter().enumerate() {
            // The first of what else a client tells stands beside every client, and beside none.
            let bears = (is_asked || !is_told_by_client).then(|| point.aspect.bearing());
            let sign = is_asked.then(|| words.sign(&point.aspect, place));
            let class = *known.entry((bears, sign)).or_insert(classes.len());
            match classes.get_mut(class) {
                Some(class) => class.push(place),
                None => classes.push(vec![place]),
            }
        }
        axis.classes = classes;
        axis.by_text = true;
    }
}

impl Words<'_> {
    fn has(&self, word: &str) -> bool {
        self.0.contains(word)
    }

    fn sign(&self, aspect: &Aspect, place: usize) -> Sign {
        let told = |result: AuthResult| {
            let is_named = self.has(result.word()) || result == AuthResult::Pass && self.has("aligned");
            is_named.then_some(result.word())
        };
        let beside = |value: Option<u64>| {
            // K, M and G are powers of 1024 in such a text.
            let bounds = self.0.iter().filter_map(|word| numbers(word).last().copied());
            value.map_or(Sign::Own(place), |value| Sign::Beside(bounds.map(|bound| value.cmp(&bound)).collect()))
        };
        match aspect {
            absent if is_absent(absent) => Sign::Own(place),
            Aspect::Claim(claim) => Sign::Claim(claim.map(|claim| claim.word()).filter(|word| self.has(word))),
            Aspect::Trail(trail) => {
                let named = Trail::WORDS.iter().enumerate().filter(|(_, (word, _))| self.has(word));
                let marks = named.filter(|(_, (_, mark))| trail.contains(*mark)).map(|(place, _)| 1 << place).sum();
                Sign::Trail(marks, self.has("none") && *trail == Trail::empty())
            }
            Aspect::Spf(auth) | Aspect::Dkim(auth) => Sign::Auth(auth.map(|(result, aligned)| (told(result), aligned))),
            Aspect::Dmarc(result) => Sign::Auth(result.map(|result| (told(result), false))),
            Aspect::Size(size) => beside(*size),
            Aspect::LastValid(days) => beside(days.map(u64::from)),
            Aspect::Result(..) | Aspect::Header(..) => Sign::Own(place),
            // An address that nobody can read is none, and no other one.
            Aspect::Ip(Some(ip)) if ip.parse::<IpAddr>().is_err() => Sign::Own(place),
            _ => Sign::Named(self.0.iter().map(|word| tells(aspect, word)).collect()),
        }
    }
}

#[cfg(test)]
mod tests;

//! Samples of facts that have no end of values: the constants found in settings and cases, what lies beside them, and one value
//! that is nobody's.

use std::collections::BTreeSet;

use super::super::sandbox::contract::{Facts, Value, Wanted};
use super::axis::{Aspect, Axis, Kind, Point};
use super::constants::Constants;
use super::rule_line::RuleLine;
use super::subject::Subject;
use super::wording::Wording;

/// The word of a value that no constant is.
const REST: &str = "anything else";
/// The longest text that is looked through for constants, in octets.
const TEXT: usize = 64 * 1024;

/// What settings and cases name.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    constants: Constants,
    /// The conditions of lines for `rules`.
    rules: Vec<RuleLine>,
    texts: BTreeSet<String>,
    /// Values that a property names.
    named: Vec<(Kind, Aspect)>,
    /// Facts that a property asks for.
    apart: Vec<Kind>,
    /// The facts of cases, as they are.
    pub(super) whole: Vec<Whole>,
    /// What the texts ask for, line by line, and all texts of a subject as one.
    pub(super) lines: Vec<Wording>,
}

/// The facts of a case, with the names of their header fields.
#[derive(Clone, Debug)]
pub(super) struct Whole {
    facts: Facts,
    headers: Vec<String>,
}

impl Whole {
    /// The value of a fact.
    pub(super) fn aspect(&self, kind: &Kind, has_why: bool) -> Aspect {
        match kind {
            Kind::Header(place, name) => {
                let known = self.headers.iter().position(|known| known.eq_ignore_ascii_case(name));
                let values = known.and_then(|known| self.facts.headers.get(known));
                Aspect::Header(*place, values.cloned().unwrap_or_default())
            }
            kind => Aspect::read(kind, &self.facts, has_why),
        }
    }
}

impl Samples {
    /// The constants in the settings of these subjects.
    pub(super) fn of(subjects: &[&Subject]) -> Samples {
        let mut samples = Samples::default();
        for subject in subjects {
            let begin = samples.lines.len();
            for (value, is_rules) in subject.settings() {
                match value {
                    Value::Texts(lines) if is_rules => lines.iter().for_each(|line| samples.rule(line)),
                    Value::Text(text) => samples.read(text),
                    Value::Texts(texts) => texts.iter().for_each(|text| samples.read(text)),
                    Value::Number(number) => samples.constants.numbers.extend(u64::try_from(*number)),
                    Value::Flag(_) => {}
                }
            }
            // Several settings, each with a word or two, count together.
            let mut all = Wording::default();
            samples.lines.iter().skip(begin).for_each(|line| all.join(line));
            samples.lines.push(all);
        }
        samples
    }

    /// Takes the constants of others in.
    pub fn extend(&mut self, other: &Samples) {
        self.constants.extend(&other.constants);
        self.rules.extend(other.rules.iter().cloned());
        self.texts.extend(other.texts.iter().cloned());
        self.named.extend(other.named.iter().cloned());
        self.apart.extend(other.apart.iter().cloned());
        self.whole.extend(other.whole.iter().cloned());
        self.lines.extend(other.lines.iter().cloned());
    }

    /// Takes the facts of a case in, which are told to a policy that wants these.
    pub(super) fn tell(&mut self, facts: &Facts, wanted: &Wanted) {
        self.whole.push(Whole { facts: facts.clone(), headers: wanted.headers.clone() });
    }

    /// The values of this fact stay apart: a property asks for it.
    pub(super) fn keep_apart(&mut self, kind: Kind) {
        self.apart.push(kind);
    }

    /// Whether a property asks for this fact.
    pub(super) fn keeps_apart(&self, kind: &Kind) -> bool {
        self.apart.iter().any(|known| match (known, kind) {
            (Kind::Header(_, one), Kind::Header(_, two)) => one.eq_ignore_ascii_case(two),
            _ => known == kind,
        })
    }

    /// Takes in a value that a property names: it comes before what is found in texts.
    pub(super) fn name(&mut self, kind: Kind, aspect: Aspect) {
        self.named.push((kind, aspect));
    }

    /// Takes in a value of a fact that a property names, with what lies beside it.
    pub(super) fn value(&mut self, kind: &Kind, value: &str) {
        self.constants.rule(kind, value);
    }

    /// Takes in what a property asks for.
    pub(super) fn ask(&mut self, text: &str) {
        self.constants.words(text);
        self.lines.push(Wording::of(text));
    }

    /// Takes in a line for `rules`.
    fn rule(&mut self, line: &str) {
        self.rules.push(RuleLine::read(line));
        self.lines.push(Wording::of(line));
    }

    /// The constants that may be one of this fact: of a line for `rules` where it asks for the fact.
    fn constants(&self, kind: &Kind) -> Constants {
        let mut constants = self.constants.clone();
        for line in self.rules.iter().filter(|line| line.asks(kind)) {
            line.values(kind).iter().for_each(|word| constants.rule(kind, word));
        }
        constants
    }

    /// Takes in what a text names.
    pub(super) fn read(&mut self, text: &str) {
        let mut end = text.len().min(TEXT);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text = &text[..end];
        if !text.is_empty() {
            self.texts.insert(text.to_owned());
        }
        self.constants.words(text);
        for line in text.lines() {
            let wording = Wording::of(line);
            let names = wording.names().filter(|name| !name.contains('.') || name.contains('['));
            self.constants.names.extend(names.map(str::to_owned));
            self.lines.push(wording);
        }
    }

    /// The axis of an open fact; at most so many samples.
    pub(super) fn axis(&self, kind: Kind, most: usize) -> Axis {
        let named = self.named.iter().filter_map(|(known, aspect)| placed(known, aspect, &kind));
        let told = self.whole.iter().map(|whole| whole.aspect(&kind, true));
        let (mut aspects, rest) = match &kind {
            Kind::Header(place, _) => self.fields(*place),
            kind => self.constants(kind).values(kind),
        };
        let first = usize::from(!aspects.is_empty());
        // Behind the value that is not there, and before what was guessed: somebody wrote these down.
        aspects.splice(first..first, named.chain(told).collect::<Vec<_>>());
        let mut points: Vec<Point> = Vec::new();
        for aspect in aspects {
            if !points.iter().any(|point| point.aspect == aspect) && !rest.contains(&aspect) {
                points.push(Point { label: aspect.word(), aspect });
            }
        }
        let left_out = points.len().saturating_sub(most);
        points.truncate(most);
        points.extend(rest.into_iter().map(|aspect| Point { label: REST.into(), aspect }));
        Axis::of(kind, points, false, left_out)
    }

    fn fields(&self, place: usize) -> (Vec<Aspect>, Vec<Aspect>) {
        let mut found = vec![Aspect::Header(place, Vec::new())];
        found.extend(self.texts.iter().map(|text| Aspect::Header(place, vec![text.clone()])));
        (found, vec![Aspect::Header(place, vec!["something else".into()])])
    }
}

/// The value where it is one of this fact; a header field is known by its name.
fn placed(known: &Kind, aspect: &Aspect, kind: &Kind) -> Option<Aspect> {
    match (known, aspect, kind) {
        (Kind::Header(_, one), Aspect::Header(_, values), Kind::Header(place, two)) => {
            one.eq_ignore_ascii_case(two).then(|| Aspect::Header(*place, values.clone()))
        }
        _ => (known == kind).then(|| aspect.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(samples: &Samples, kind: Kind) -> Vec<String> {
        samples.axis(kind, 20).points.into_iter().map(|point| point.label).collect()
    }

    #[test]
    fn constants_are_found_in_any_text_with_what_lies_beside_them() {
        let mut samples = Samples::default();
        samples.read(
            "when sender is in [\"boss@ours.example\", @bank.example], client in 192.0.2.0/24 and size > 10kb: defer",
        );
        assert_eq!(
            words(&samples, Kind::Sender),
            [
                "nobody",
                "boss@ours.example",
                "someone@bank.example",
                "someone@ours.example",
                "someone@below.bank.example",
                "anything else"
            ]
        );
        assert_eq!(words(&samples, Kind::Ip), ["local socket", "192.0.2.1", "anything else"]);
        assert_eq!(
            words(&samples, Kind::Size),
            ["not said", "1000", "9999", "10000", "10001", "10239", "10240", "10241", "1099511627776"]
        );
    }

    #[test]
    fn what_is_nobodys_is_none_of_the_constants() {
        let mut samples = Samples::default();
        samples.read("@elsewhere.example 203.0.113.0/24 @elsewhere.test");
        let last = |kind| samples.axis(kind, 20).points.pop().map(|point| point.aspect.word());
        assert_eq!(last(Kind::Recipient).as_deref(), Some("someone@elsewhere.invalid"));
        assert_eq!(last(Kind::Ip).as_deref(), Some("198.51.100.77"));
    }

    #[test]
    fn a_text_of_any_shape_is_read_and_too_many_samples_are_counted() {
        let mut samples = Samples::default();
        for text in [
            "",
            "@",
            "a@",
            "@@",
            "1/2/3",
            "999999999999999999999",
            "\u{fc}@\u{fc}",
            "*.",
            "@.",
            "::/0",
            "0.0.0.0/0",
            "%\0",
        ] {
            samples.read(text);
        }
        (0..50).for_each(|n| samples.read(&format!("user{n}@many.example")));
        let axis = samples.axis(Kind::Sender, 5);
        assert_eq!((axis.points.len(), axis.left_out > 40), (6, true));
        assert!(samples.axis(Kind::Ip, 5).points.iter().all(|point| !point.label.is_empty()));
    }
}

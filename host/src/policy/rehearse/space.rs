//! The space of facts: every combination that the filter can find, of the facts that policies want.
//!
//! A closed fact (result, reason, claim, trail, what SPF, DKIM and DMARC said, TLS) is there with all its values; an open one
//! (addresses, clients, sizes, days, header fields) with samples. What the filter never finds together is left out: a reason
//! belongs to its result, a claim to a domain that publishes one, an aligned pass to a message with a sender.

use std::time::Duration;

use super::super::sandbox::contract::{AuthResult, Claim, Facts, KeyStatus, Trail, Wanted, Wants, Why};
use super::WrittenFacts;
use super::axis::{Aspect, Axis, Kind, of_bits};
use super::exact::Vocabulary;
use super::samples::Samples;
use super::subject::{Subject, both, reason, result};
use crate::case;
use crate::config::Limits;

/// The space is too large to be gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TooWide {
    /// It has too many rows.
    #[error("there are more than {0} combinations of facts: leave out constants, or name fewer facts")]
    Rows(usize),
    /// Looking for values that make no difference took too long.
    #[error("which facts make no difference was not found out within {} s: name fewer facts", .0.as_secs())]
    Time(Duration),
}

/// The facts that can be, as rows.
pub(super) struct Space {
    pub(super) axes: Vec<Axis>,
    /// For each row one class of each axis; rows are in the order of the axes.
    rows: Vec<u8>,
    wanted: Wanted,
}

/// How much of what there is a space holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Extent {
    /// Rows.
    pub rows: usize,
    /// Facts that stand with all that they can be.
    pub exact: Vec<String>,
    /// Those of them of which values that no word of the text tells apart are one.
    pub alike: Vec<String>,
    /// Facts that stand with samples.
    pub sampled: Vec<String>,
    /// Facts of which a probe found values that make no difference; only one of them is in the rows.
    pub probed: Vec<String>,
    /// Facts with more constants than there was room for, and how many were left out.
    pub left_out: Vec<(String, usize)>,
}

impl Extent {
    /// Whether the rows are all that there can be.
    pub fn is_exact(&self) -> bool {
        self.sampled.is_empty() && self.probed.is_empty()
    }

    /// Why finding nothing in these rows proves nothing, apart from the samples: a probe took values for one, or constants were left
    /// out.
    pub fn doubt(&self) -> Option<String> {
        let mut words = Vec::new();
        if !self.probed.is_empty() {
            words.push(format!("values that a probe found alike count as one in {}", self.probed.join(", ")));
        }
        words.extend(self.left_out.iter().map(|(fact, count)| format!("{count} constants of {fact} are left out")));
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// What was gone through, in a sentence.
    pub fn words(&self) -> String {
        if self.is_exact() {
            return match self.alike.as_slice() {
                [] => "exact: these are all combinations that the filter can find".into(),
                alike => format!("exact: values that the text does not tell apart are one in {}", alike.join(", ")),
            };
        }
        let mut words = Vec::new();
        if !self.exact.is_empty() {
            words.push(format!("exact in {}", self.exact.join(", ")));
        }
        if !self.sampled.is_empty() {
            words.push(format!("by samples in {}", self.sampled.join(", ")));
        }
        if !self.probed.is_empty() {
            words.push(format!("values that a probe found alike are one in {}", self.probed.join(", ")));
        }
        words.extend(self.left_out.iter().map(|(fact, count)| format!("{count} constants of {fact} are left out")));
        words.join("; ")
    }
}

/// What is settled of a row so far, as far as it rules other facts out.
#[derive(Clone, Copy, Default)]
struct Partial {
    status: Option<KeyStatus>,
    /// The reason where a policy is told it.
    why: Option<Option<Why>>,
    claim: Option<bool>,
    sender: Option<bool>,
    aligned: bool,
    bounce: Option<bool>,
    path: Option<bool>,
    auth: Option<bool>,
    client: Option<bool>,
}

/// What the filter finds with a result and a reason.
struct Rule {
    why: Option<Why>,
    /// Whether there may be no claim, and whether there may be one.
    claim: (bool, bool),
    /// The same for the sender.
    sender: (bool, bool),
    /// Only of bounces from the null reverse-path.
    bounce: bool,
}

/// The reasons of a result, with what comes along. `limit` is none of them: such mail is put off.
fn rules(status: KeyStatus) -> Vec<Rule> {
    let rule = |why, claim, sender| Rule { why, claim, sender, bounce: false };
    let (never, always, either) = ((true, false), (false, true), (true, true));
    let nobody = |why| rule(Some(why), never, never);
    match status {
        // A login of ours needs no claim.
        KeyStatus::Valid => vec![rule(None, either, always)],
        KeyStatus::Invalid => [Why::Wrong, Why::Expired].map(|why| rule(Some(why), always, always)).into(),
        KeyStatus::Missing => vec![rule(None, always, always)],
        KeyStatus::None => vec![rule(None, never, always)],
        KeyStatus::Unverified => vec![
            // A second answer that differs from the first, or nobody is asked at all.
            rule(None, either, always),
            rule(Some(Why::Dns), either, always),
            rule(Some(Why::Timeout), always, always),
            rule(Some(Why::NoProof), always, always),
        ],
        KeyStatus::Unusable => vec![
            nobody(Why::NoFrom),
            nobody(Why::SeveralFrom),
            nobody(Why::BadAddress),
            rule(Some(Why::SeveralKeys), either, always),
            rule(Some(Why::BadKey), either, always),
            rule(Some(Why::MalformedHeader), either, always),
            // `no-address`, for which the contract has no word.
            Rule { bounce: true, ..nobody(Why::Other) },
        ],
    }
}

impl Partial {
    fn with(mut self, aspect: &Aspect) -> Partial {
        match aspect {
            // A reason that nobody is told may be any of the result's.
            Aspect::Result(status, why) => (self.status, self.why) = (Some(*status), why.map(Some)),
            Aspect::Claim(claim) => self.claim = Some(claim.is_some()),
            Aspect::Sender(sender) => self.sender = Some(sender.is_some()),
            Aspect::EnvelopeSender(path) => self.path = Some(path.is_some()),
            Aspect::Trail(trail) => self.bounce = Some(trail.contains(Trail::BOUNCE)),
            Aspect::Spf(told) => {
                self.auth = Some(told.is_some());
                self.aligned |= told.is_some_and(|(_, aligned)| aligned);
            }
            Aspect::Dkim(told) => self.aligned |= told.is_some_and(|(_, aligned)| aligned),
            Aspect::Ip(ip) => self.client = Some(ip.is_some()),
            _ => {}
        }
        self
    }

    /// Whether the value can stand beside what is settled already.
    fn allows(self, aspect: &Aspect) -> bool {
        let fits = match aspect {
            Aspect::Dkim(told) => Some(told.is_some()) == self.auth,
            Aspect::Dmarc(told) => Some(told.is_some()) == self.auth,
            Aspect::Tls(true) | Aspect::ClientName(Some(_)) => self.client == Some(true),
            // Without a client the first of the others stands for all.
            Aspect::Helo(helo) => self.client == Some(true) || helo.is_empty(),
            _ => true,
        };
        fits && self.with(aspect).is_possible()
    }

    fn is_possible(self) -> bool {
        let Some(status) = self.status else { return true };
        let may = |(without, with): (bool, bool), there: Option<bool>| {
            there.is_none_or(|there| if there { with } else { without })
        };
        rules(status).iter().any(|rule| {
            self.why.is_none_or(|why| why == rule.why)
                && may(rule.claim, self.claim)
                && may(rule.sender, self.sender)
                && (!self.aligned || self.sender != Some(false) && rule.sender.1)
                && (!rule.bounce || self.bounce != Some(false) && self.path != Some(true))
        })
    }
}

/// The reasons that the filter gives with a result; one that is none is a result without a reason.
pub fn reasons_of(status: case::KeyStatus) -> Vec<Option<case::Why>> {
    let known = RESULTS.into_iter().filter(|known| result(*known) == status);
    known.flat_map(rules).map(|rule| rule.why.map(reason)).collect()
}

/// Whether the filter can find these facts together.
pub fn can_be(written: &WrittenFacts) -> bool {
    let wanted = Wanted { facts: Wants::all(), headers: Vec::new() };
    let Ok(facts) = written.facts(&wanted) else { return false };
    // A result without a reason may be one that has to have one.
    let mut partial = Partial { status: Some(facts.status), why: Some(facts.why), ..Partial::default() };
    partial.is_possible()
        && KINDS.iter().all(|kind| {
            let aspect = Aspect::read(kind, &facts, true);
            let allowed = partial.allows(&aspect);
            partial = partial.with(&aspect);
            allowed
        })
}

impl Space {
    /// The space of all that these subjects want, and of the facts that are named besides. `more` are constants of cases.
    ///
    /// # Errors
    /// It has more than `limits.policy.rows` rows.
    pub(super) fn over(
        subjects: &[&Subject],
        more: &Samples,
        named: &Wanted,
        limits: &Limits,
    ) -> Result<Space, TooWide> {
        let (axes, wanted) = Space::wide(subjects, more, named, limits);
        Space::of_axes(axes, wanted, limits.policy.rows)
    }

    /// The axes of that space.
    pub(super) fn wide(subjects: &[&Subject], more: &Samples, named: &Wanted, limits: &Limits) -> (Vec<Axis>, Wanted) {
        let wanted = subjects.iter().fold(named.clone(), |all, subject| both(&all, subject.wanted()));
        let mut axes = axes(&wanted, &Space::samples(subjects, more), limits.policy.samples);
        if let Some(vocabulary) = Vocabulary::of(subjects) {
            axes.iter_mut().for_each(|axis| vocabulary.settle(axis, more.keeps_apart(&axis.kind)));
        }
        (axes, wanted)
    }

    /// The constants of these subjects, and more.
    pub(super) fn samples(subjects: &[&Subject], more: &Samples) -> Samples {
        let mut samples = Samples::of(subjects);
        samples.extend(more);
        samples
    }

    /// The rows of these axes.
    pub(super) fn of_axes(axes: Vec<Axis>, wanted: Wanted, most: usize) -> Result<Space, TooWide> {
        let mut rows = Vec::new();
        let mut row = Vec::with_capacity(axes.len());
        let whole = fill(&axes, Partial::default(), &mut row, &mut rows, most.saturating_mul(axes.len().max(1)));
        if whole { Ok(Space { axes, rows, wanted }) } else { Err(TooWide::Rows(most)) }
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len() / self.axes.len().max(1)
    }

    /// A row's classes.
    pub(super) fn row(&self, row: usize) -> &[u8] {
        let width = self.axes.len();
        self.rows.get(row * width..(row + 1) * width).unwrap_or_default()
    }

    /// What the facts of the rows hold.
    pub(super) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// How much of what there is the rows hold.
    pub(super) fn extent(&self) -> Extent {
        let named = |test: &dyn Fn(&Axis) -> bool| {
            self.axes.iter().filter(|axis| test(axis)).map(|axis| axis.kind.word().to_owned()).collect()
        };
        Extent {
            rows: self.len(),
            exact: named(&|axis| axis.closed && !axis.is_probed()),
            alike: named(&|axis| axis.has_classes() && axis.by_text),
            sampled: named(&|axis| !axis.closed),
            probed: named(&Axis::is_probed),
            left_out: (self.axes.iter().filter(|axis| axis.left_out > 0))
                .map(|axis| (axis.kind.word().to_owned(), axis.left_out))
                .collect(),
        }
    }

    /// What can stand together on these axes, by their points.
    pub(super) fn plain(axes: &[Axis]) -> Plain<'_> {
        Plain(axes)
    }

    /// The facts of these points.
    pub(super) fn facts_of(axes: &[Axis], wanted: &Wanted, points: &[usize]) -> Facts {
        let points = axes.iter().zip(points).filter_map(|(axis, point)| axis.points.get(*point));
        written(points.map(|point| &point.aspect), wanted)
    }

    /// The facts of a row.
    pub(super) fn facts(&self, row: &[u8]) -> Facts {
        written(self.axes.iter().zip(row).filter_map(|(axis, class)| axis.value(*class)), &self.wanted)
    }

    /// The facts of a row as a case has them, as far as this subject sees them.
    pub(super) fn written(&self, row: usize, subject: &Subject) -> WrittenFacts {
        let written = WrittenFacts::of(&self.facts(self.row(row)), &self.wanted);
        // What it does not want is in no case of it.
        let seen = written.facts(subject.wanted()).map(|seen| WrittenFacts::of(&seen, subject.wanted()));
        seen.unwrap_or(written)
    }

    /// The classes of these facts; none where one of them is no point of the space.
    pub(super) fn place(&self, facts: &Facts) -> Option<Vec<u8>> {
        let has_why = self.tells_why();
        self.axes.iter().map(|axis| axis.class(&Aspect::read(&axis.kind, facts, has_why))).collect()
    }

    /// Whether the rows tell the reason of a result.
    pub(super) fn tells_why(&self) -> bool {
        self.wanted.has(Wants::WHY)
    }

    /// The first class of the result that has the status of this one.
    pub(super) fn status_of(&self, class: u8) -> u8 {
        let status = |class: u8| match self.axes.first().and_then(|axis| axis.value(class)) {
            Some(Aspect::Result(status, _)) => Some(*status),
            _ => None,
        };
        (0..class).find(|first| status(*first) == status(class)).unwrap_or(class)
    }

    /// Whether the filter can find this row.
    pub(super) fn is_possible(&self, row: &[u8]) -> bool {
        let mut partial = Partial::default();
        self.axes.iter().zip(row).all(|(axis, class)| match axis.value(*class) {
            Some(aspect) if partial.allows(aspect) => {
                partial = partial.with(aspect);
                true
            }
            _ => false,
        })
    }
}

/// Facts of these values.
fn written<'a>(aspects: impl Iterator<Item = &'a Aspect>, wanted: &Wanted) -> Facts {
    let mut facts = Facts::of(KeyStatus::Valid);
    facts.headers = vec![Vec::new(); wanted.headers.len()];
    aspects.for_each(|aspect| aspect.write(&mut facts));
    facts
}

/// Which points can stand together.
pub(super) struct Plain<'a>(&'a [Axis]);

impl Plain<'_> {
    /// Whether the filter can find these points together, one of each of the first axes.
    pub(super) fn allows(&self, row: &[usize]) -> bool {
        let mut partial = Partial::default();
        self.0.iter().zip(row).all(|(axis, point)| match axis.points.get(*point) {
            Some(point) if partial.allows(&point.aspect) => {
                partial = partial.with(&point.aspect);
                true
            }
            _ => false,
        })
    }
}

/// Writes the rows that begin with `row`, and all that follows from it; false where there is no room for them.
fn fill(axes: &[Axis], partial: Partial, row: &mut Vec<u8>, rows: &mut Vec<u8>, room: usize) -> bool {
    let Some(axis) = axes.get(row.len()) else {
        rows.extend_from_slice(row);
        return rows.len() <= room;
    };
    for class in 0..axis.classes.len() {
        let class = u8::try_from(class).unwrap_or(u8::MAX);
        let Some(aspect) = axis.value(class).filter(|aspect| partial.allows(aspect)) else { continue };
        row.push(class);
        let whole = fill(axes, partial.with(aspect), row, rows, room);
        row.pop();
        if !whole {
            return false;
        }
    }
    true
}

/// The facts besides the result and header fields, in the order in which people read a table.
const KINDS: [Kind; 14] = [
    Kind::Claim,
    Kind::LastValid,
    Kind::Sender,
    Kind::EnvelopeSender,
    Kind::Recipient,
    Kind::Ip,
    Kind::Tls,
    Kind::ClientName,
    Kind::Helo,
    Kind::Size,
    Kind::Trail,
    Kind::Spf,
    Kind::Dkim,
    Kind::Dmarc,
];

/// The axes of what is wanted, in the order in which people read a table.
fn axes(wanted: &Wanted, samples: &Samples, most: usize) -> Vec<Axis> {
    let mut axes = vec![results(wanted.has(Wants::WHY))];
    for kind in KINDS.into_iter().filter(|kind| sees(wanted, kind)) {
        axes.push(closed(&kind).unwrap_or_else(|| samples.axis(kind, most)));
    }
    let headers = wanted.headers.iter().enumerate().map(|(place, name)| Kind::Header(place, name.clone()));
    axes.extend(headers.map(|kind| samples.axis(kind, most)));
    axes
}

/// Whether a subject that wants this sees the fact.
pub(super) fn sees(wanted: &Wanted, kind: &Kind) -> bool {
    match kind {
        Kind::Result => true,
        Kind::Header(_, name) => wanted.headers.iter().any(|known| known.eq_ignore_ascii_case(name)),
        kind => kind.wants().is_some_and(|fact| wanted.has(fact)),
    }
}

/// The axis of a fact that has an end of values.
fn closed(kind: &Kind) -> Option<Axis> {
    const RESULTS: [AuthResult; 8] = [
        AuthResult::None,
        AuthResult::Pass,
        AuthResult::Fail,
        AuthResult::Softfail,
        AuthResult::Neutral,
        AuthResult::Policy,
        AuthResult::Temperror,
        AuthResult::Permerror,
    ];
    let told = || {
        let results = RESULTS.into_iter().map(|result| Some((result, false)));
        // Aligned is a pass alone.
        [None, Some((AuthResult::Pass, true))].into_iter().chain(results)
    };
    let values: Vec<Aspect> = match kind {
        Kind::Claim => [None, Some(Claim::Testing), Some(Claim::Some), Some(Claim::All)].map(Aspect::Claim).into(),
        Kind::Tls => [false, true].map(Aspect::Tls).into(),
        Kind::Spf => told().map(Aspect::Spf).collect(),
        Kind::Dkim => told().map(Aspect::Dkim).collect(),
        Kind::Dmarc => std::iter::once(None).chain(RESULTS.into_iter().map(Some)).map(Aspect::Dmarc).collect(),
        Kind::Trail => {
            let mut bits: Vec<u8> = (0..1 << Trail::WORDS.len()).collect();
            bits.sort_by_key(|bits| bits.count_ones());
            bits.into_iter().map(of_bits).map(Aspect::Trail).collect()
        }
        _ => return None,
    };
    Some(Axis::closed(kind.clone(), values))
}

/// The axis of the results, with their reasons where a policy is told them.
fn results(with_why: bool) -> Axis {
    let words = |status: KeyStatus| {
        let whys = rules(status).into_iter().map(|rule| rule.why).filter(|_| with_why);
        let mut whys: Vec<Option<Why>> = whys.collect();
        if whys.is_empty() {
            whys.push(None);
        }
        whys.into_iter().map(move |why| Aspect::Result(status, why))
    };
    Axis::closed(Kind::Result, RESULTS.into_iter().flat_map(words))
}

const RESULTS: [KeyStatus; 6] = [
    KeyStatus::Valid,
    KeyStatus::Invalid,
    KeyStatus::Missing,
    KeyStatus::None,
    KeyStatus::Unverified,
    KeyStatus::Unusable,
];

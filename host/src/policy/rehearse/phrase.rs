//! The words for a set of a fact's values.

use super::super::sandbox::contract::Trail;
use super::axis::{Aspect, Axis, Kind, of_bits};

impl Axis {
    /// The words for these classes; none where they are all.
    pub(super) fn words(&self, classes: &[u8]) -> Option<String> {
        if classes.len() >= self.classes.len() {
            return None;
        }
        let mut points: Vec<usize> =
            classes.iter().filter_map(|class| self.classes.get(usize::from(*class))).flatten().copied().collect();
        points.sort_unstable();
        Some(match self.kind {
            Kind::Trail => self.trail_words(&points),
            Kind::Result => self.result_words(&points),
            Kind::LastValid | Kind::Size if self.closed => {
                self.number_words(&points).unwrap_or_else(|| self.plain_words(&points))
            }
            _ => self.plain_words(&points),
        })
    }

    fn labels(&self, points: &[usize]) -> Vec<&str> {
        points.iter().filter_map(|point| self.points.get(*point)).map(|point| point.label.as_str()).collect()
    }

    /// The others, for a text that says what is left out.
    fn others(&self, points: &[usize]) -> Vec<usize> {
        (0..self.points.len()).filter(|point| !points.contains(point)).collect()
    }

    fn plain_words(&self, points: &[usize]) -> String {
        let others = self.others(points);
        if others.len() < points.len() && others.len() <= 2 {
            return format!("all but {}", self.labels(&others).join(" and "));
        }
        self.labels(points).join(" or ")
    }

    /// A result all of whose reasons are in is named alone.
    fn result_words(&self, points: &[usize]) -> String {
        let status = |label: &str| label.split(' ').next().unwrap_or_default().to_owned();
        let why = |label: &str| label.split_once(" (").map(|(_, why)| why.trim_end_matches(')').to_owned());
        let (inside, outside) = (self.labels(points), self.labels(&self.others(points)));
        let mut named: Vec<String> = Vec::new();
        for label in self.points.iter().map(|point| status(&point.label)) {
            if !named.contains(&label) {
                named.push(label);
            }
        }
        let whys = |labels: &[&str], of: &str| -> Vec<String> {
            let has_reasons = self.points.iter().any(|point| status(&point.label) == of && why(&point.label).is_some());
            let told = |label: &&str| why(label).or_else(|| has_reasons.then(|| "no reason".to_owned()));
            labels.iter().filter(|label| status(label) == of).filter_map(told).collect()
        };
        let whole: Vec<&String> =
            named.iter().filter(|of| !outside.iter().any(|label| status(label) == **of)).collect();
        if let ([left], true) =
            (named.iter().filter(|of| !whole.contains(of)).collect::<Vec<_>>().as_slice(), named.len() > 2)
            && !inside.iter().any(|label| status(label) == **left)
        {
            return format!("all but {left}");
        }
        let word = |of: &String| {
            let (with, without) = (whys(&inside, of), whys(&outside, of));
            match inside.iter().any(|label| status(label) == *of) {
                false => None,
                true if whole.contains(&of) => Some(of.clone()),
                true if without.len() < with.len() && !without.is_empty() => {
                    Some(format!("{of} (not {})", without.join(", ")))
                }
                true => Some(format!("{of} ({})", with.join(", "))),
            }
        };
        named.iter().filter_map(word).collect::<Vec<_>>().join(" or ")
    }

    /// A set of trails by the marks that decide it, where some do.
    fn trail_words(&self, points: &[usize]) -> String {
        let trail = |point: &usize| match self.points.get(*point).map(|point| &point.aspect) {
            Some(Aspect::Trail(trail)) => Some(*trail),
            _ => None,
        };
        let (inside, outside): (Vec<Trail>, Vec<Trail>) =
            (points.iter().filter_map(trail).collect(), self.others(points).iter().filter_map(trail).collect());
        let is = |test: &dyn Fn(&Trail) -> bool| inside.iter().all(test) && !outside.iter().any(test);
        for marks in (1..1_u8 << Trail::WORDS.len()).map(of_bits) {
            let words = |between: &str| {
                let set = Trail::WORDS.iter().filter(|(_, mark)| marks.contains(*mark)).map(|(word, _)| *word);
                set.collect::<Vec<_>>().join(between)
            };
            let all = marks == Trail::all();
            if is(&|trail| trail.intersects(marks)) {
                return if all { "any mark".into() } else { words(" or ") };
            }
            if is(&|trail| !trail.intersects(marks)) {
                return if all { "none".into() } else { format!("no {}", words(", no ")) };
            }
        }
        // Some marks, and none of some others.
        let sets = || 1..1_u8 << Trail::WORDS.len();
        for (some, none) in sets().flat_map(|some| sets().map(move |none| (some, none))) {
            let (some, none) = (of_bits(some), of_bits(none));
            let words = |marks: Trail, between: &str| {
                let set = Trail::WORDS.iter().filter(|(_, mark)| marks.contains(*mark)).map(|(word, _)| *word);
                set.collect::<Vec<_>>().join(between)
            };
            if is(&|trail| trail.intersects(some) && !trail.intersects(none)) {
                let some = if (some | none) == Trail::all() { "any mark".into() } else { words(some, " or ") };
                return format!("{some}, but no {}", words(none, ", no "));
            }
        }
        let labels = self.labels(points);
        match labels.len() {
            0..=4 => labels.join(" or "),
            more => format!("{} of {} combinations, such as {}", more, self.points.len(), labels[..3].join(" or ")),
        }
    }

    /// A set of numbers that has no gap by its bounds, where the points stand for all numbers; none where there is a gap.
    fn number_words(&self, points: &[usize]) -> Option<String> {
        let number = |point: usize| match self.points.get(point).map(|point| &point.aspect) {
            Some(Aspect::LastValid(days)) => days.map(u64::from),
            Some(Aspect::Size(size)) => *size,
            _ => None,
        };
        let sorted = |points: &mut dyn Iterator<Item = usize>| {
            let mut numbers: Vec<u64> = points.filter_map(number).collect();
            numbers.sort_unstable();
            numbers
        };
        let (all, inside) = (sorted(&mut (0..self.points.len())), sorted(&mut points.iter().copied()));
        let absent = points.iter().find(|point| number(**point).is_none());
        let absent = absent.and_then(|point| self.points.get(*point)).map(|point| point.label.clone());
        let (Some(first), Some(last)) = (inside.first(), inside.last()) else { return absent };
        let begin = all.iter().position(|known| known == first)?;
        if all.get(begin..begin + inside.len())? != inside {
            return None;
        }
        let unit = if self.kind == Kind::Size { "octets" } else { "days ago" };
        let before = begin.checked_sub(1).and_then(|before| all.get(before));
        let said = match (before, all.last() == Some(last)) {
            (None, true) => format!("any number of {unit}"),
            (None, false) => format!("at most {last} {unit}"),
            (Some(before), true) => format!("more than {before} {unit}"),
            (Some(_), false) if first == last => format!("{first} {unit}"),
            (Some(_), false) => format!("{first} to {last} {unit}"),
        };
        Some(absent.map_or(said.clone(), |absent| format!("{absent} or {said}")))
    }
}

//! Figures of rounds: medians with their intervals, ratios round by round, a table to read and a JSON to keep.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value, json};

/// A median, and an interval that holds the true one in 95 of 100 runs, whatever the distribution; fewer than six rounds give
/// their least and their greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle.
    pub median: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Spread {
    /// Of these values; those that are no number are left out. `None` if none is left.
    pub fn of(values: &[f64]) -> Option<Spread> {
        let mut values: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let cut = cut(values.len());
        Some(Spread {
            median: quantile(&values, 0.5)?,
            low: *values.get(cut)?,
            high: *values.get(values.len() - 1 - cut)?,
        })
    }
}

impl fmt::Display for Spread {
    /// As many digits as tell something.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = match self.median.abs() {
            size if size >= 100.0 => 0,
            size if size >= 10.0 => 1,
            _ => 2,
        };
        write!(f, "{:.digits$} ({:.digits$}..{:.digits$})", self.median, self.low, self.high)
    }
}

/// How many of n sorted values to leave out at each end, so that the true median lies between the rest in 95 of 100 runs: it lies
/// below the value after the first c with the probability of at most c heads in n throws.
fn cut(n: usize) -> usize {
    let (mut exactly, mut at_most, mut cut) = (0.5_f64.powf(n as f64), 0.0, 0);
    for c in 0..n / 2 {
        at_most += exactly;
        if at_most > 0.025 {
            break;
        }
        cut = c;
        exactly *= (n - c) as f64 / (c + 1) as f64;
    }
    cut
}

/// The value below which this share of the sorted ones lies; two are averaged in the middle.
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let at = share * sorted.len().checked_sub(1)? as f64;
    let (low, high) = (sorted.get(at.floor() as usize)?, sorted.get(at.ceil() as usize)?);
    Some(low + (high - low) * at.fract())
}

/// The quantile of durations in milliseconds; no number if there are none.
pub fn milliseconds(durations: &[Duration], share: f64) -> f64 {
    let mut values: Vec<f64> = durations.iter().map(|took| took.as_secs_f64() * 1e3).collect();
    values.sort_by(f64::total_cmp);
    quantile(&values, share).unwrap_or(f64::NAN)
}

/// Columns of one lane: a value a round in each.
#[derive(Clone, Debug, Default)]
pub struct Columns(BTreeMap<&'static str, Vec<f64>>);

impl Columns {
    /// Puts a round's value into a column; no number where it cannot be had.
    pub fn push(&mut self, column: &'static str, value: f64) {
        self.0.entry(column).or_default().push(value);
    }

    fn column(&self, column: &str) -> &[f64] {
        self.0.get(column).map_or(&[], Vec::as_slice)
    }

    /// The median of a column.
    pub fn spread(&self, column: &str) -> Option<Spread> {
        Spread::of(self.column(column))
    }

    /// The quotients to another lane's column, round by round.
    pub fn to(&self, other: &Columns, column: &str) -> Option<Spread> {
        Spread::of(&self.pairs(other, column, |own, other| own / other))
    }

    /// What a column has more than another lane's, round by round.
    pub fn over(&self, other: &Columns, column: &str) -> Option<Spread> {
        Spread::of(&self.pairs(other, column, |own, other| own - other))
    }

    fn pairs(&self, other: &Columns, column: &str, by: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        self.column(column).iter().zip(other.column(column)).map(|(own, other)| by(*own, *other)).collect()
    }

    /// All rounds and their spread; what cannot be had is null.
    pub fn json(&self) -> Value {
        let column = |(name, values): (&&'static str, &Vec<f64>)| {
            let spread = Spread::of(values).map(json_spread);
            ((*name).to_owned(), json!({ "rounds": values, "spread": spread }))
        };
        Value::Object(self.0.iter().map(column).collect::<Map<_, _>>())
    }
}

/// A spread as JSON.
pub fn json_spread(spread: Spread) -> Value {
    json!({ "median": spread.median, "low": spread.low, "high": spread.high })
}

/// A cell of a table: the spread, or a dash.
pub fn cell(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "–".into(), |spread| spread.to_string())
}

/// Prints a table as Markdown has it, the first column to the left.
pub fn print(head: &[&str], rows: &[Vec<String>]) {
    println!("| {} |", head.join(" | "));
    println!("| --- |{}", " ---: |".repeat(head.len().saturating_sub(1)));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
}

/// What a reader has to know of the machine: processors, kernel, load.
pub fn machine() -> Value {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    json!({
        "cores": super::cost::cores(),
        "kernel": read("/proc/sys/kernel/osrelease"),
        "load": read("/proc/loadavg"),
    })
}

/// Writes what a bench found to NAME.json in the folder that `BENCH_JSON` names, else in `bench` below cargo's target, and
/// says where.
pub fn keep(name: &str, found: &Value) {
    let target = || {
        // TARGET/PROFILE/deps/BENCH
        let bench = std::env::current_exe().unwrap();
        bench.ancestors().nth(3).unwrap().join("bench")
    };
    let folder = std::env::var_os("BENCH_JSON").map_or_else(target, PathBuf::from);
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join(format!("{name}.json"));
    std::fs::write(&file, serde_json::to_string_pretty(found).unwrap() + "\n").unwrap();
    println!("kept: {}", file.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_nine_rounds_leaves_one_out_at_each_end_and_of_five_none() {
        // At most 1 head in 9 throws: 10/512, below 0.025; in 8 throws: 9/256, above it.
        assert_eq!([0, 1, 5, 6, 8, 9, 12, 15].map(cut), [0, 0, 0, 0, 0, 1, 2, 3]);
    }

    #[test]
    fn a_spread_is_of_numbers_alone() {
        let spread = Spread::of(&[3.0, f64::NAN, 1.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.0, low: 1.0, high: 3.0 });
        assert_eq!(spread.to_string(), "2.00 (1.00..3.00)");
        assert_eq!(Spread::of(&[f64::NAN]), None);
        assert_eq!(cell(None), "–");
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        let (mut own, mut other) = (Columns::default(), Columns::default());
        for (a, b) in [(1.0, 2.0), (4.0, 8.0), (10.0, 20.0)] {
            own.push("rate", a);
            other.push("rate", b);
        }
        assert_eq!(own.to(&other, "rate"), Some(Spread { median: 0.5, low: 0.5, high: 0.5 }));
        assert_eq!(other.over(&own, "rate").unwrap().median, 4.0);
        assert_eq!(own.to(&other, "cost"), None);
        assert_eq!(own.json()["rate"]["spread"]["median"], 4.0);
    }
}

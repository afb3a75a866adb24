//! Parts that several pages have: times, results, notices, and where a form leads back to.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use addrauth::case::stamp;
use addrauth::proto::address::Mailbox;
use addrauth::proto::text::shown;
use humantime_serde::re::humantime::{parse_duration, parse_rfc3339_weak};
use maud::{Markup, html};

use crate::form::{Form, segment};
use crate::who::Who;

/// A moment as a reader takes it in: to the minute, the whole of it beside.
pub(super) fn moment(at: SystemTime) -> Markup {
    let whole = stamp(at);
    let (day, time) = (whole.get(..10).unwrap_or_default(), whole.get(11..16).unwrap_or_default());
    html! { time datetime=(whole) title=(whole) { (day) " " (time) } }
}

/// A word of a result or decision, in its colour.
pub(super) fn word(word: &str) -> Markup {
    let class = match word {
        "valid" | "accept" | "done" => "good",
        "invalid" | "reject" | "unusable" => "bad",
        "mark" | "quarantine" | "missing" | "hold" | "defer" | "discard" | "postponed" => "odd",
        _ => "plain",
    };
    html! { span class={ "word " (class) } { (word) } }
}

/// What was done a moment ago, by a word in the query; no other text of the query is shown.
pub(super) fn done(query: &Form) -> Markup {
    let words = match query.text("done") {
        "release" => "Released: it is delivered in a moment.",
        "want" => "Released, and its sender is wanted from now on.",
        "delete" => "Deleted.",
        "wanted" => "The sender is wanted from now on.",
        "unwanted" => "The sender is off the list.",
        "choices" => "Your choices count from the next message on.",
        "rules" => "The rules count from the next message on.",
        "mailed" => {
            "If mail for this address ends here, a link is on its way to it. It works once, for a quarter of an hour."
        }
        "out" => "You are signed out.",
        "some" => "Not all of it could be done: somebody was quicker, or it is none of yours.",
        _ => return html! {},
    };
    html! { p.notice.good role="status" { (words) } }
}

/// A text of a stranger's: nothing hidden in it.
pub(super) fn plain(text: &str) -> String {
    shown(text)
}

/// A path without its angle brackets.
pub(super) fn bare(path: &str) -> &str {
    path.trim_start_matches('<').trim_end_matches('>')
}

/// Where the pages about a mailbox's choices begin, for this reader.
pub(super) fn base(who: &Who, mailbox: &Mailbox) -> String {
    match who.mailbox() {
        Some(_) => "/me".to_owned(),
        None => format!("/users/{}", segment(mailbox.as_str())),
    }
}

/// Octets as people count them.
pub(super) fn size(octets: u64) -> String {
    match octets {
        0..1_024 => format!("{octets} octets"),
        1_024..1_048_576 => format!("{} KiB", octets.div_ceil(1_024)),
        _ => format!("{} MiB", octets.div_ceil(1_048_576)),
    }
}

/// An age, or the beginning of a day in UTC.
pub(super) fn since(text: &str) -> Option<SystemTime> {
    match parse_duration(text) {
        Ok(age) => Some(SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH)),
        Err(_) => parse_rfc3339_weak(&format!("{text} 00:00:00")).or_else(|_| parse_rfc3339_weak(text)).ok(),
    }
}

/// One of the ages that an overview is for, by its word.
pub(super) fn age(word: &str) -> (&'static str, Duration) {
    let days = |count: u64| Duration::from_secs(count * 86_400);
    match word {
        "1h" => ("1h", Duration::from_secs(3_600)),
        "7d" => ("7d", days(7)),
        "30d" => ("30d", days(30)),
        _ => ("1d", days(1)),
    }
}

/// A list to choose from.
pub(super) fn select(name: &str, label: &str, options: &[(&str, &str)], chosen: &str) -> Markup {
    html! {
        label { (label)
            select name=(name) {
                @for (value, words) in options {
                    option value=(value) selected[*value == chosen] { (words) }
                }
            }
        }
    }
}

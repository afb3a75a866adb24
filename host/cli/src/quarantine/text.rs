//! What is printed of a message that is kept: nothing of a stranger's moves the cursor.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use humantime_serde::re::humantime::format_rfc3339_seconds;
use serde_json::{Value, json};

use addrauth::proto::preview::plain;
use addrauth::store::{Ending, Held, HeldFor};

/// A message as JSON, without its text.
pub(super) fn row(held: &Held) -> Value {
    let recipients: Vec<Value> = held
        .recipients
        .iter()
        .map(|r| {
            let way = r.under_way.as_ref();
            let way = way.map(|way| json!({ "tries": way.tries, "next": text(way.next_try), "last": way.last }));
            json!({ "recipient": r.recipient, "outcome": r.outcome.map(Ending::word), "note": r.note, "under_way": way })
        })
        .collect();
    json!({
        "id": held.id, "at": text(held.at), "expires": text(held.expires), "queue_id": held.queue_id,
        "from": held.sender, "reverse_path": held.reverse_path, "recipients": recipients, "subject": held.subject,
        "size": held.size, "reason": held.reason.as_str(),
    })
}

/// A message for people: its number and times, then who, what and why, a line each.
pub(super) fn write_row(out: &mut impl std::io::Write, held: &Held) -> std::io::Result<()> {
    let path = if held.reverse_path.is_empty() { "<>" } else { &held.reverse_path };
    let from = held.sender.as_deref().unwrap_or("(no usable address)");
    let bounces = if from == path { String::new() } else { format!(" (envelope: {})", plain(path)) };
    let queue_id = held.queue_id.as_deref().map(|id| format!("  queue id {}", plain(id))).unwrap_or_default();
    let (at, expires) = (text(held.at), text(held.expires));
    writeln!(out, "{}  {at}  kept until {expires}  {} octets{queue_id}", held.id, held.size)?;
    writeln!(out, "    From: {}{bounces}", plain(from))?;
    for r in &held.recipients {
        writeln!(out, "    To: {}{}", plain(&r.recipient), fate(r))?;
    }
    writeln!(out, "    Subject: {}", plain(&held.subject))?;
    writeln!(out, "    Reason: {}", plain(held.reason.as_str()))
}

/// What became of the message for him, in brackets.
fn fate(r: &HeldFor) -> String {
    if let Some(way) = &r.under_way {
        let last = way.last.as_deref().map(|last| format!(", last: {}", plain(last))).unwrap_or_default();
        let tries = if way.tries == 1 { "1 try".into() } else { format!("{} tries", way.tries) };
        return format!(" (being delivered: {tries}, next at {}{last})", text(way.next_try));
    }
    let outcome = r.outcome.map(|outcome| format!(" ({outcome})")).unwrap_or_default();
    let note = r.note.as_deref().map(|note| format!(" (not taken: {})", plain(note))).unwrap_or_default();
    outcome + &note
}

/// Octets in KiB, every one begun counted.
pub(super) fn kib(octets: u64) -> u64 {
    octets.div_ceil(1_024)
}

/// So many of a thing.
pub(super) fn messages(count: u64) -> String {
    if count == 1 { "1 message".into() } else { format!("{count} messages") }
}

/// A time as RFC 3339; what no calendar reaches, as the last moment of it.
fn text(at: SystemTime) -> String {
    let most = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    format_rfc3339_seconds(at.clamp(UNIX_EPOCH, most)).to_string()
}

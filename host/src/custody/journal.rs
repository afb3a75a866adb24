//! A case as a journal row: what may be kept of it, and never a key.

use humantime_serde::re::humantime::format_rfc3339_millis;
use serde::Serialize;

use crate::case::{Case, Client, Decision, Finding, Reply, ReversePath, Verdict};
use crate::store::Entry;

/// The version of the row's JSON; a change that a reader must know of raises it.
const VERSION: u32 = 1;

/// What the row keeps: the envelope and the story, no field of the message but the address of its From.
#[derive(Serialize)]
struct View<'a> {
    version: u32,
    received: String,
    queue_id: Option<&'a str>,
    client: &'a Client,
    daemon: &'a str,
    login: Option<&'a str>,
    reverse_path: String,
    recipients: Vec<String>,
    size: Option<u64>,
    finding: &'a Finding,
    decisions: &'a [Decision],
    reply: &'a Reply,
}

/// The row of this case.
pub(super) fn entry(case: &Case, note: String) -> Entry {
    let mail = &case.mail;
    let view = View {
        version: VERSION,
        received: received(mail.received),
        queue_id: mail.queue_id.as_deref(),
        client: &mail.client,
        daemon: &mail.daemon,
        login: mail.login.as_deref(),
        reverse_path: match &mail.reverse_path {
            ReversePath::Null => "<>".to_owned(),
            ReversePath::Path(Some(address)) => format!("<{address}>"),
            ReversePath::Path(None) => "no address".to_owned(),
        },
        recipients: mail.recipients.iter().map(|r| r.path.escape_ascii().to_string()).collect(),
        size: mail.size,
        finding: &case.finding,
        decisions: &case.decisions,
        reply: &case.reply,
    };
    let (result, sender) = match &case.finding {
        Finding::Found(found) => (found.status.word(), found.sender.as_ref().map(ToString::to_string)),
        Finding::Passing(_) => ("passing", None),
    };
    Entry {
        queue_id: mail.queue_id.clone(),
        sender,
        result: result.to_owned(),
        verdict: word(&case.reply.verdict).to_owned(),
        // Plain data with string keys: it always serialises; were it otherwise, the columns still tell the story.
        json: serde_json::to_string(&view).unwrap_or_else(|e| format!("{{\"version\":{VERSION},\"error\":\"{e}\"}}")),
        note,
    }
}

fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Accept => "accept",
        Verdict::Hold(_) => "hold",
        Verdict::Discard => "discard",
        Verdict::Reject(_) => "reject",
        Verdict::Defer(_) => "defer",
    }
}

fn received(at: std::time::SystemTime) -> String {
    let most = std::time::UNIX_EPOCH + std::time::Duration::from_secs(253_402_300_799);
    format_rfc3339_millis(at.clamp(std::time::UNIX_EPOCH, most)).to_string()
}

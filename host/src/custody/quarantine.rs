//! A message as it is kept: the original octet by octet, less the keys, our status on top.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::case::{Body, Case, Decision, Field, Finding, Owed, Recipient};
use crate::config::{Config, Limits};
use crate::proto::header::{
    KEY_FIELDS, MARK_FIELD, RESULTS_FIELD, SPAM_FIELD, STATUS_FIELD, hidden_keys, hides_field, strip_hidden,
};
use crate::proto::redact::Redactor;
use crate::proto::results::is_forged;
use crate::proto::text::ascii;
use crate::settle::status;
use crate::store::{Kept, Reason, Upon};

/// What keeping messages needs of the configuration.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The `by=` of the status field.
    hostname: String,
    /// Whether results that bear our own name are forged: nobody before us writes any.
    first_in_chain: bool,
    /// How long a message is kept.
    kept_for: Duration,
    /// Octets of all kept messages.
    most: u64,
    limits: Arc<Limits>,
}

impl Settings {
    pub(super) fn from_config(config: &Config, limits: &Arc<Limits>) -> Settings {
        Settings {
            hostname: config.hostname.clone(),
            first_in_chain: config.first_in_chain,
            kept_for: config.custody.quarantine_kept,
            most: config.custody.quarantine_mib.saturating_mul(1024 * 1024),
            limits: Arc::clone(limits),
        }
    }

    /// How many octets all kept messages may have together.
    pub(super) fn most(&self) -> u64 {
        self.most
    }

    /// The messages that this case owes: what is quarantined, and what goes out as a copy of some recipients' own.
    pub(super) fn kept(&self, case: &Case, body: &Body, now: SystemTime) -> Vec<Kept> {
        let mut all = Vec::new();
        let clean = Clean::of(case, body);
        for owed in &case.reply.owed {
            match owed {
                Owed::Quarantine(indices) => all.push(self.one(case, &clean, indices, Form::Kept, now)),
                Owed::Copy(indices) => all.push(self.one(case, &clean, indices, Form::Marked, now)),
                Owed::Apart(indices) => all.push(self.one(case, &clean, indices, Form::Plain, now)),
                Owed::Folder(redirects) => {
                    let indices: Vec<usize> = redirects.iter().map(|redirect| redirect.recipient).collect();
                    let recipients = redirects.iter().map(|redirect| redirect.to.to_string()).collect();
                    all.push(Kept { recipients, ..self.one(case, &clean, &indices, Form::Plain, now) });
                }
                Owed::Record | Owed::Notice(_) | Owed::RulesUnread(_) | Owed::Report(_) => {}
            }
        }
        all
    }

    fn one(&self, case: &Case, clean: &Clean<'_>, indices: &[usize], form: Form, now: SystemTime) -> Kept {
        let (mail, redactor) = (&case.mail, &clean.redactor);
        let sender = case.finding.sender().map(|sender| redactor.cut_text(&sender.to_string()).into_owned());
        let subject = mail.named("Subject").next().map(|field| field.value.as_slice()).unwrap_or_default();
        // A reverse-path with a key in it is none that anything may be sent from.
        let path = mail.reverse_path.address().map(ToString::to_string);
        let path = path.filter(|path| !redactor.holds(path.as_bytes()));
        // A time that no clock reaches would be an error in the middle of the mail; it is as good as for ever.
        let expires = now.checked_add(self.kept_for).unwrap_or(now + Duration::from_secs(100 * 366 * 86_400));
        Kept {
            queue_id: mail.queue_id.clone(),
            sender,
            reverse_path: path.unwrap_or_default(),
            recipients: indices.iter().filter_map(|&index| mail.recipients.get(index)).map(Recipient::shown).collect(),
            subject: printable(&redactor.cut_value("Subject", subject), self.limits.custody.subject_shown),
            reason: Reason::written(redactor.cut_text(reason(case, indices, form).as_str()).into_owned()),
            message: message(case, clean, form, self),
            expires,
            copy: form != Form::Kept,
        }
    }
}

/// What all copies of a message share.
struct Clean<'a> {
    redactor: Redactor,
    /// The body without keys.
    body: Cow<'a, [u8]>,
}

impl<'a> Clean<'a> {
    fn of(case: &Case, body: &'a Body) -> Clean<'a> {
        // Where a line of junk ended the header, its keys are in the body, some further down than the door sees.
        let hidden = hidden_keys(&body.0, &KEY_FIELDS);
        let redactor = case.mail.redactor_with(&hidden);
        // The body's beginning may be what a line of junk cut off the header, however long it is.
        let stripped = strip_hidden(&body.0, &KEY_FIELDS);
        let body = match redactor.cut(&stripped) {
            Cow::Borrowed(same) if same.len() == body.0.len() => Cow::Borrowed(body.0.as_slice()),
            clean => Cow::Owned(clean.into_owned()),
        };
        Clean { redactor, body }
    }
}

/// What a message is kept for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// To wait for a word about it.
    Kept,
    /// To go on at once, as the copy of some recipients alone.
    Plain,
    /// The same with the mark's field.
    Marked,
}

/// The whole message: our fields, its own less the keys and forged ones of ours, an empty line, the body; without any copy of
/// a key.
fn message(case: &Case, clean: &Clean<'_>, form: Form, settings: &Settings) -> Vec<u8> {
    let host = case.mail.client.server.as_ref().unwrap_or(&settings.hostname);
    let own_id = settings.first_in_chain.then_some(host.as_str());
    let mut octets = Vec::with_capacity(4_096);
    let mut ours = |name: &str, value: &str| octets.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    if let Some(found) = case.finding.found() {
        ours(STATUS_FIELD, &status(found, host));
    }
    if form == Form::Marked {
        ours(SPAM_FIELD, "YES");
    }
    let is = |field: &Field, name: &str| field.name.eq_ignore_ascii_case(name);
    let forged = |field: &Field| {
        [STATUS_FIELD, MARK_FIELD].iter().any(|name| is(field, name))
            || is(field, RESULTS_FIELD) && is_forged(&field.value, own_id)
    };
    // Where a bare CR or a line of junk hides a key from the MTA, a copy need not hold it all the same.
    let hides = |field: &Field| {
        // As at the door: the first line of a folded value may be empty.
        let lines = field.value.strip_prefix(b"\n").unwrap_or(&field.value);
        field.value.contains(&b'\r') && KEY_FIELDS.iter().any(|key| hides_field(lines, key))
    };
    for field in case.mail.head().fields.iter().filter(|field| !forged(field) && !hides(field)) {
        octets.extend_from_slice(field.name.as_bytes());
        octets.push(b':');
        write_value(&mut octets, &field.value);
        octets.extend_from_slice(b"\r\n");
    }
    octets.extend_from_slice(b"\r\n");
    [clean.redactor.cut(&octets).as_ref(), clean.body.as_ref()].concat()
}

/// A field's value, its folds with CRLF, as it was in SMTP; the milter protocol tells them with LF.
fn write_value(octets: &mut Vec<u8>, value: &[u8]) {
    let mut lines = value.split(|&octet| octet == b'\n').enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        if number > 0 {
            // No MTA tells a line break without a blank behind it; were there one, it must not begin a field of its own.
            let folds = matches!(line.first(), Some(b' ' | b'\t'));
            octets.extend_from_slice(if folds { b"\r\n".as_slice() } else { b" " });
        }
        let ends = lines.peek().is_some();
        octets.extend_from_slice(if ends { line.strip_suffix(b"\r").unwrap_or(line) } else { line });
    }
}

/// Who decided so and why: the policy, and its own words or else the result.
fn reason(case: &Case, indices: &[usize], form: Form) -> Reason {
    let decides = |decision: &&Decision| indices.iter().any(|index| decision.recipients.contains(index));
    let upon = match (case.finding.found(), &case.finding) {
        (Some(found), _) => Upon::Found(found.status, found.why),
        (None, Finding::Passing(direction)) => Upon::Other(direction.word()),
        (None, _) => Upon::Other(""),
    };
    let decision = case.decisions.iter().find(decides);
    let reason = Reason::new(decision.map(|decision| (decision.policy.as_str(), decision.reason.as_str())), upon);
    if form == Form::Kept { reason } else { reason.of_copy() }
}

/// A field's value for lists: unfolded, printable ASCII, at most so many characters.
fn printable(value: &[u8], most: usize) -> String {
    let text = String::from_utf8_lossy(value);
    ascii(&text.split_ascii_whitespace().collect::<Vec<_>>().join(" "), most)
}

#[cfg(test)]
mod tests;

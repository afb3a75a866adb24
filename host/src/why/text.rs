//! The account of one message, line by line, and as text of a bearable width.

use serde_json::Value;

use super::proof::Proof;
use super::{Account, keys, words};
use crate::case::{Compared, Decision, Differs, KeyStatus, Opinion, WrittenCase, WrittenFinding, stamp};
use crate::policy::Proposal;
use crate::proto::text::shown;
use crate::store::{Ending, HeldTrace, Kind, Sending, SentTrace};

/// As wide as a line may be.
const WIDTH: usize = 100;

/// What a reader must know to read on.
const ABOUT: &str = "(A policy is a small program that is shown some facts about a message and says what is to happen. \
    SHA-256 is the fingerprint of the program.)";

/// The account in plain words.
pub(super) fn of(account: &Account) -> Vec<Line> {
    let story = &account.story;
    let mut page = Page::default();
    let name = story.queue_id.as_deref().unwrap_or("without a queue id");
    page.lines.push(Line::Title(shown(&format!("Message {name} (journal row {})", account.id))));
    envelope(&mut page, story);
    page.heading("What was found");
    let status = found(&mut page, &story.finding);
    page.heading("What was decided");
    if story.decisions.is_empty() {
        page.line(2, keys::undecided(&story.finding));
    }
    if !story.decisions.is_empty() {
        page.line(2, ABOUT);
    }
    for (decision, proof) in story.decisions.iter().zip(&account.proofs) {
        decided(&mut page, account, decision, status, proof);
    }
    onward(&mut page, story);
    page.heading("What the mail server was told");
    page.line(2, &words::verdict(story));
    if !(account.traces.sent.is_empty() && account.traces.held.is_empty() && account.note.is_empty()) {
        page.heading("What came of it");
    }
    account.traces.sent.iter().for_each(|sent| page.line(2, &sent_words(sent)));
    account.traces.held.iter().for_each(|held| page.line(2, &held_words(held)));
    if !account.note.is_empty() {
        page.line(2, &format!("Noted: {}.", account.note.trim_end_matches('.')));
    }
    if story.erased {
        page.line(2, "An address was erased from this row since: erased@erased.invalid stands in its place.");
    }
    page.lines
}

fn envelope(page: &mut Page, story: &WrittenCase) {
    let mut field = |name: &'static str, value: &str| page.field(name, value);
    field("When", &moment(&story.received));
    let author = match story.author() {
        Some(author) => format!("{author} (as the message itself says)"),
        None if story.is_judged() => "no single usable address".into(),
        None => "not kept, since the message was not judged".into(),
    };
    field("From", &author);
    field(
        "Envelope",
        match story.reverse_path.as_deref() {
            Some("<>") => "<> (nobody is to be told of trouble: a bounce or another automatic message)",
            Some(path) => path,
            None => "a return address that is none",
        },
    );
    field("To", &story.recipients.join(", "));
    let client = &story.client;
    let ip = client.ip.map_or_else(|| "a local program".to_owned(), |ip| ip.to_string());
    let name = client.name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let helo = if client.helo.is_empty() { String::new() } else { format!(", which called itself {}", client.helo) };
    let login = story.login.as_ref().map(|login| format!(", logged in as {login}")).unwrap_or_default();
    let tls = if client.tls { ", over an encrypted connection" } else { ", unencrypted" };
    field("Brought by", &format!("{ip}{name}{helo}{login}{tls}"));
    if let Some(size) = story.size {
        field("Size", &format!("{size} octets, as the sending server said"));
    }
}

/// Whose mail does not end here, and what became of it.
fn onward(page: &mut Page, story: &WrittenCase) {
    let elsewhere = story.finding.found().map(|found| found.elsewhere.as_slice()).unwrap_or_default();
    let names: Vec<&str> =
        elsewhere.iter().filter_map(|index| story.recipients.get(*index)).map(String::as_str).collect();
    if !names.is_empty() {
        page.line(2, &format!("For {}:", names.join(", ")));
        page.line(4, "Nothing: their mail does not end here, and nobody here decides about it.");
        page.line(4, &format!("So the message was {}.", words::onward(story)));
    }
}

fn found(page: &mut Page, finding: &WrittenFinding) -> Option<KeyStatus> {
    let found = match finding {
        WrittenFinding::Found(found) => found,
        WrittenFinding::Passing(direction) => {
            page.line(2, &format!("Nothing was looked for: the message only passes through ({}).", direction.word()));
            return None;
        }
        WrittenFinding::Submitted(submitted) => {
            page.line(2, &keys::stamp(&submitted.stamp));
            let found = submitted.inside.as_ref()?;
            page.line(
                2,
                "For those of its recipients whose mail ends here, it was examined as if it went to them alone:",
            );
            found
        }
        WrittenFinding::Unclear => {
            page.line(2, keys::UNCLEAR);
            return None;
        }
        WrittenFinding::Postponed(postponed) => {
            page.line(2, &format!("Nothing could be told yet: {}.", postponed.text()));
            return None;
        }
    };
    let why = found.why.map(|why| format!(" ({})", why.word())).unwrap_or_default();
    page.line(2, &format!("{}{why}", found.status.word()));
    page.line(2, &words::meaning(found));
    if let Some(new_key) = &found.new_key {
        page.line(2, &keys::new_key(new_key));
    }
    if let (true, Some(sender)) = (found.own_key, &found.sender) {
        page.line(2, &keys::own_key(sender));
    }
    if let Some(others) = &found.mail_auth {
        let aligned: Vec<&str> = [(others.spf_aligned, "SPF"), (others.dkim_aligned, "DKIM")]
            .into_iter()
            .filter_map(|(is, name)| is.then_some(name))
            .collect();
        let aligned = match aligned.as_slice() {
            [] => "neither SPF nor DKIM speaks for the domain in From".to_owned(),
            names => format!("{} speaks for the domain in From", names.join(" and ")),
        };
        page.line(2, &format!("Other checks, by servers that are trusted here: {}; {aligned}.", others.words()));
    }
    Some(found.status)
}

fn decided(page: &mut Page, account: &Account, decision: &Decision, status: Option<KeyStatus>, proof: &Proof) {
    let name =
        |index: &usize| account.story.recipients.get(*index).cloned().unwrap_or_else(|| format!("recipient {index}"));
    let names: Vec<String> = decision.recipients.iter().map(name).collect();
    page.line(2, &format!("For {}:", names.join(", ")));
    page.line(4, &format!("The policy `{}` was asked, {}.", decision.policy, words::by(decision, status)));
    if let Some(why) = &decision.passed_over {
        page.line(4, &format!("The recipient's own rules did not count: {why}."));
    }
    let wish = words::wish(decision.disposition, decision.notify);
    match (&decision.fault, &decision.clamped) {
        (Some(fault), _) => {
            page.line(4, &format!("It failed: it {fault}. What is configured for that case (on_fault): {wish}."));
        }
        (None, Some(clamped)) => page.line(
            4,
            &format!("It was held back, since it {clamped}: where the key is not plainly wrong, somebody is told. So: {wish}."),
        ),
        (None, None) => page.line(4, &format!("Its decision: {wish}.")),
    }
    if !decision.reason.is_empty() && decision.fault.is_none() {
        page.line(4, &format!("In its own words: \"{}\".", decision.reason));
    }
    let mut fates: Vec<(String, Vec<String>)> = Vec::new();
    for (index, name) in decision.recipients.iter().zip(&names) {
        let fate = words::fate(account, decision, *index);
        match fates.iter_mut().find(|(known, _)| *known == fate) {
            Some((_, members)) => members.push(name.clone()),
            None => fates.push((fate, vec![name.clone()])),
        }
    }
    for (fate, members) in &fates {
        let whose = if fates.len() > 1 { format!(" for {}", members.join(", ")) } else { String::new() };
        page.line(4, &format!("So the message was{whose} {fate}."));
    }
    basis(page, decision);
    page.line(4, &proof_words(proof, decision));
    beside(page, account, decision);
}

/// What a candidate decided beside it.
fn beside(page: &mut Page, account: &Account, decision: &Decision) {
    let Some(shadow) = &decision.shadow else { return };
    let candidate = shadow.candidate();
    for Compared { differs, opinion, .. } in decision.compared() {
        let whose = match opinion.map(|opinion| opinion.recipients.as_slice()) {
            None | Some([]) => String::new(),
            Some(some) => {
                let names = some.iter().filter_map(|index| account.story.recipients.get(*index));
                format!(" for {}", names.map(String::as_str).collect::<Vec<_>>().join(", "))
            }
        };
        let said = match opinion {
            None => "did not decide in time".to_owned(),
            Some(Opinion { fault: Some(fault), .. }) => format!("failed{whose}: it {fault}"),
            Some(Opinion { disposition, notify, reason, .. }) => {
                let wish = disposition.map_or("nothing".into(), |disposition| words::wish(disposition, *notify));
                let reason = if reason.is_empty() { String::new() } else { format!(" (\"{reason}\")") };
                let same = if differs == Differs::Same { "the same" } else { differs.word() };
                format!("would have decided{whose}: {wish}{reason}; that is {same}")
            }
        };
        page.line(4, &format!("Beside it the candidate {candidate} {said}. It is only recorded."));
    }
}

/// What the decision rests on: facts and settings.
fn basis(page: &mut Page, decision: &Decision) {
    let facts = pairs(&decision.facts);
    let table = decision.facts.as_object().is_some_and(|facts| facts.len() == 1 && facts.contains_key("status"));
    page.line(4, &format!("It saw: {}.", if facts.is_empty() { "nothing that was kept" } else { &facts }));
    if table && decision.fault.is_none() {
        page.line(4, "It asks for nothing but the result, so its answer stood in a table made when it was loaded.");
    }
    if let Some(days) = decision.facts.get("last-valid").and_then(Value::as_u64) {
        page.line(4, &format!("The sender's mail had its last right key here {}.", words::ago(days)));
    }
    let settings = pairs(&decision.settings);
    if let Some(digest) = decision.settings.as_str() {
        let short = digest.get(..12).unwrap_or(digest);
        page.line(4, &format!("Its settings are too long to be kept: SHA-256 {short}…."));
    } else if !settings.is_empty() {
        page.line(4, &format!("Its settings: {settings}."));
    }
}

/// `name = value` for each member.
fn pairs(value: &Value) -> String {
    let Some(object) = value.as_object() else { return String::new() };
    let pair = |(name, value): (&String, &Value)| match value.as_str() {
        Some(text) => format!("{name} = {text}"),
        None => format!("{name} = {value}"),
    };
    object.iter().map(pair).collect::<Vec<_>>().join("; ")
}

fn proof_words(proof: &Proof, decision: &Decision) -> String {
    let short = decision.digest.get(..12).unwrap_or(&decision.digest);
    let again = format!("Recomputed with the same component (SHA-256 {short}…)");
    let now = |now: &Proposal| {
        let reason = if now.reason.is_empty() { String::new() } else { format!(" (\"{}\")", now.reason) };
        format!("{}{reason}", words::wish(now.disposition, now.notify))
    };
    match proof {
        Proof::Same => format!("{again}: the same decision."),
        Proof::SameHeldBack => format!("{again}: it asks for the same again, and would be held back again."),
        Proof::FailsAgain(fault) => format!("{again}: it fails again: it {fault}."),
        Proof::FailedThen(decided) => {
            format!("{again}, with time to spare: it does not fail now, and decides: {}.", now(decided))
        }
        Proof::Differs(decided) => format!("{again}: ANOTHER DECISION: {}.", now(decided)),
        Proof::Impossible(why) => format!("Decided by the component with SHA-256 {short}…; not recomputed: {why}."),
    }
}

fn sent_words(sent: &SentTrace) -> String {
    let what = match sent.kind {
        Kind::Notice => format!("A notice to {}", sent.recipient),
        Kind::RulesUnread => format!("A letter about rules that cannot be read to {}", sent.recipient),
        Kind::Digest => format!("A summary of notices to {}", sent.recipient),
        Kind::Report => format!("A report of non-delivery to {}", sent.recipient),
        Kind::Release => format!("The message, released from quarantine, to {}", sent.recipient),
        Kind::Copy => format!("A separate copy to {}", sent.recipient),
    };
    let tries = |tries: u32| if tries == 1 { "1 try".to_owned() } else { format!("{tries} tries") };
    match (&sent.outcome, sent.ended) {
        (Some(Sending::Sent), Some(at)) => format!("{what}: sent at {}.", moment(&stamp(at))),
        (Some(why), _) => {
            let untold = match sent.kind {
                Kind::Notice | Kind::RulesUnread | Kind::Digest => " The recipient was not told.",
                Kind::Report => " The sender was not told.",
                _ => "",
            };
            format!("{what}: given up after {}: {}.{untold}", tries(sent.tries), why.words().trim_end_matches('.'))
        }
        (None, _) if sent.tries == 0 => format!("{what}: still to be sent."),
        (None, _) => {
            format!("{what}: not sent after {}; next one at {}.", tries(sent.tries), moment(&stamp(sent.next_try)))
        }
    }
}

fn held_words(held: &HeldTrace) -> String {
    let HeldTrace { quarantine, recipient, .. } = held;
    match held.outcome {
        None => {
            let until = moment(&stamp(held.expires));
            format!(
                "In quarantine as number {quarantine} for {recipient}, until {until}: `addrauth quarantine release \
                 {quarantine}` delivers it."
            )
        }
        Some(Ending::Released) => format!("In quarantine as number {quarantine}; released to {recipient}."),
        Some(Ending::Deleted) => format!("In quarantine as number {quarantine}; deleted, {recipient} does not get it."),
        Some(Ending::Expired) => format!("In quarantine as number {quarantine}; its time for {recipient} ran out."),
        Some(other) => format!("In quarantine as number {quarantine} for {recipient}: {other}."),
    }
}

/// A time of RFC 3339 as a person reads it.
fn moment(stamp: &str) -> String {
    match (stamp.get(..10), stamp.get(11..19)) {
        (Some(date), Some(time)) => format!("{date} {time} UTC"),
        _ => stamp.to_owned(),
    }
}

/// A line of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Line {
    /// What the account is about.
    Title(String),
    /// What the lines below are about.
    Heading(String),
    /// A name, and what it has.
    Field(&'static str, String),
    /// A sentence or two.
    Words(String),
    /// The same, as a part of the last line of [`Line::Words`].
    Part(String),
}

/// The lines so far, each safe to print.
#[derive(Default)]
struct Page {
    lines: Vec<Line>,
}

impl Page {
    fn heading(&mut self, words: &str) {
        self.lines.push(Line::Heading(shown(words)));
    }

    fn line(&mut self, indent: usize, words: &str) {
        let words = shown(words);
        self.lines.push(if indent > 2 { Line::Part(words) } else { Line::Words(words) });
    }

    fn field(&mut self, name: &'static str, value: &str) {
        self.lines.push(Line::Field(name, shown(value)));
    }
}

/// The lines as text, folded to the width.
pub(super) fn folded(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        match line {
            Line::Title(words) => {
                fold(&mut text, "", 0, words);
                fold(&mut text, "", 0, &"=".repeat(words.chars().count().min(WIDTH)));
            }
            Line::Heading(words) => {
                text.push('\n');
                fold(&mut text, "", 0, words);
            }
            Line::Field(name, value) => fold(&mut text, &format!("{name:<12}"), 12, value),
            Line::Words(words) => fold(&mut text, "  ", 2, words),
            Line::Part(words) => fold(&mut text, "    ", 4, words),
        }
    }
    text
}

fn fold(text: &mut String, first: &str, indent: usize, words: &str) {
    let mut line = first.to_owned();
    let mut begun = false;
    for word in words.split(' ') {
        if begun && line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(line.trim_end());
            text.push('\n');
            line = " ".repeat(indent);
        } else if begun {
            line.push(' ');
        }
        line.push_str(word);
        begun = true;
    }
    text.push_str(line.trim_end());
    text.push('\n');
}

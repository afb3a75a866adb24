//! `addrauth policy run`: decides a message in a file, and says what the mail server would be told.

use std::net::IpAddr;
use std::path::PathBuf;

use addrauth::case::{Case, Decision, Found, KeyStatus, Mail, Owed, Verdict, Why};
use addrauth::filter::{answered, rules};
use addrauth::policy::Proposal;
use addrauth::policy::rehearse::{self, Reasons, Subject, WrittenFacts};
use addrauth::proto::header::Edit;
use addrauth::proto::record::Claim;
use serde_json::json;

use super::mail::{self, Said};
use super::named::{Named, Workshop};
use super::{Error, Set};

/// The message, and what does not stand in it.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// The policy.
    policy: String,
    /// The message (.eml), or - for standard input.
    message: PathBuf,
    /// The result, with its reason behind a colon where there is one: valid, invalid:wrong, invalid:expired, missing, none,
    /// unverified:dns, unverified:timeout. Not needed where the message is unusable, which it stays.
    #[arg(long, value_parser = super::result)]
    result: Option<(KeyStatus, Option<Why>)>,
    /// What the sender's domain claims: testing, some or all.
    #[arg(long, value_parser = super::claim)]
    claim: Option<Claim>,
    /// Who it is for [default: Delivered-To, else the address in To where it is one].
    #[arg(long, value_name = "ADDRESS", value_parser = super::address)]
    to: Vec<String>,
    /// The reverse-path; <> for none [default: Return-Path, else From].
    #[arg(long, value_name = "ADDRESS")]
    from: Option<String>,
    /// The address of the client that brings it.
    #[arg(long, value_name = "IP", value_parser = super::client)]
    client: Option<IpAddr>,
    /// The client's name in DNS.
    #[arg(long, value_name = "NAME", requires = "client")]
    client_name: Option<String>,
    /// What the client calls itself.
    #[arg(long, value_name = "NAME", requires = "client")]
    helo: Option<String>,
    /// The connection is encrypted.
    #[arg(long, requires = "client")]
    tls: bool,
    /// Days since the sender was valid here last.
    #[arg(long, value_name = "DAYS")]
    last_valid: Option<u32>,
    /// Decide it by the candidate of the policy (policies.ID.shadow) instead.
    #[arg(long, conflicts_with = "set")]
    candidate: bool,
    /// Say which facts counted, and which single change of one would flip the decision.
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    set: Set,
}

/// Where the facts that were said do not go together.
const NEVER: &str = "the filter never finds these facts together: mail whose key is missing or invalid has a claim (--claim some), and \
                     mail of result none has no claim";

/// What is decided for recipients that the policy cannot tell apart.
struct Group {
    facts: WrittenFacts,
    recipients: Vec<usize>,
    decided: Result<Proposal, String>,
    reasons: Option<Reasons>,
}

/// Decides the message; false where the policy fails.
pub(super) fn run(workshop: &Workshop, options: &Options, json: bool) -> Result<bool, Error> {
    let config = workshop.config()?;
    let named = match options.candidate {
        true => workshop.candidate(&options.policy).ok_or_else(|| Error::NoCandidate(options.policy.clone()))?,
        false => workshop.load(&options.policy, &options.set.set)?,
    };
    let subject = named.subject()?;
    let bracketed = |path: &String| if path.starts_with('<') { path.clone() } else { format!("<{path}>") };
    let said = Said {
        result: options.result,
        claim: options.claim,
        from: options.from.as_ref().map(bracketed),
        to: options.to.clone(),
        client: options.client,
        client_name: options.client_name.clone(),
        helo: options.helo.clone().unwrap_or_default(),
        tls: options.tls,
    };
    let mail = mail::read(&options.message, &said, config, &workshop.limits).map_err(Error::Mail)?;
    let found = mail::found(&mail, &said, config).map_err(Error::Mail)?;
    let groups = groups(workshop, options, &named, &subject, &mail, &found)?;
    let good = groups.iter().all(|group| group.decided.is_ok());
    let case = good.then(|| {
        let decisions = groups.iter().filter_map(|group| decision(&named, &subject, group, &found)).collect();
        answered(mail.clone(), found.clone(), decisions, &rules(config))
    });
    match json {
        true => println!("{:#}", told(&mail, &found, &groups, case.as_ref())),
        false => print(&mail, &found, &groups, case.as_ref(), config.observe.0),
    }
    Ok(good)
}

/// The recipients by what the policy sees of them, with what it decides.
fn groups(
    workshop: &Workshop,
    options: &Options,
    named: &Named,
    subject: &Subject,
    mail: &Mail,
    found: &Found,
) -> Result<Vec<Group>, Error> {
    let apart = subject.facts().contains(&"recipient");
    let mut groups: Vec<Group> = Vec::new();
    for (facts, recipients) in rehearse::facts_of(mail, found, subject.headers()) {
        let facts = facts.last_valid(options.last_valid);
        if let (false, Some(group)) = (apart, groups.first_mut()) {
            group.recipients.extend(recipients);
            continue;
        }
        let decided = subject.decide(&facts).map_err(|text| Error::Mail(text.to_string()))?;
        let reasons = match options.explain {
            true => {
                let samples = named.samples(workshop)?;
                let reasons = rehearse::reasons(subject, &facts, &samples, &workshop.limits);
                Some(reasons.map_err(|e| Error::Mail(e.to_string()))?)
            }
            false => None,
        };
        let decided = match (decided.decision, decided.fault) {
            (Some(proposal), None) => Ok(proposal),
            (_, fault) => Err(fault.unwrap_or_default()),
        };
        groups.push(Group { facts, recipients, decided, reasons });
    }
    Ok(groups)
}

fn decision(named: &Named, subject: &Subject, group: &Group, found: &Found) -> Option<Decision> {
    let proposal = group.decided.as_ref().ok()?;
    let (facts, settings) = (group.facts.json(), subject.settings_json());
    let (name, digest) = (&named.located.name, &named.located.digest);
    Some(rehearse::decision(proposal, (name, digest), found, (facts, settings), group.recipients.clone()))
}

fn print(mail: &Mail, found: &Found, groups: &[Group], case: Option<&Case>, observes: bool) {
    let names = |indices: &[usize]| recipients(mail, indices);
    let why = found.why.map(|why| format!(" ({})", why.word())).unwrap_or_default();
    println!("result    {}{why}", found.status.word());
    println!("from      {}", found.sender.as_ref().map_or("nobody that can be told".into(), ToString::to_string));
    for group in groups {
        println!("to        {}", names(&group.recipients));
        match &group.decided {
            Ok(proposal) => println!("decides   {proposal}"),
            Err(fault) => println!("FAILS     {fault}; then `on_fault` of the configuration decides"),
        }
        let Some(reasons) = &group.reasons else { continue };
        let mut facts: Vec<&str> = Vec::new();
        for flip in &reasons.flips {
            if !facts.contains(&flip.fact.as_str()) {
                facts.push(&flip.fact);
            }
        }
        println!(
            "counted   {}",
            if facts.is_empty() { "nothing by itself: no single change flips it".into() } else { facts.join(", ") }
        );
        if !reasons.idle.is_empty() {
            println!("idle      {}", reasons.idle.join(", "));
        }
        for fact in facts {
            let flips: Vec<_> = reasons.flips.iter().filter(|flip| flip.fact == fact).collect();
            let Some(first) = flips.first() else { continue };
            let same: Vec<&str> = flips
                .iter()
                .filter(|flip| flip.decision == first.decision)
                .map(|flip| flip.would_be.as_str())
                .collect();
            // One more takes no more room than the words for it.
            let named = if same.len() == 4 { 4 } else { 3 };
            let more = if same.len() > named { format!(" or {} others", same.len() - named) } else { String::new() };
            let shown: Vec<&str> = same.into_iter().take(named).collect();
            println!("flips if  {fact} were {}{more} instead of {}: {}", shown.join(" or "), first.is, first.decision);
        }
    }
    if groups.iter().any(|group| !rehearse::can_be(&group.facts)) {
        println!("note      {NEVER}");
    }
    let Some(case) = case else { return };
    answer(case).iter().for_each(|line| println!("{line}"));
    if observes {
        println!("note      `observe = true` is in force: the filter would say so in its log, and do nothing");
    }
}

/// What the mail server is told, and what the filter owes.
fn answer(case: &Case) -> Vec<String> {
    let names = |indices: &[usize]| recipients(&case.mail, indices);
    let mut lines = vec![format!("milter    {}", verdict(&case.reply.verdict))];
    for edit in &case.reply.edits {
        if let Edit::Insert { name, value, .. } = edit {
            lines.push(format!("adds      {name}:{value}"));
        }
    }
    if !case.reply.removed.is_empty() {
        lines.push(format!("strikes   {}", names(&case.reply.removed)));
    }
    for redirect in &case.reply.redirected {
        lines.push(format!("instead   {} goes to {}", names(&[redirect.recipient]), redirect.to));
    }
    let owed = |owed: &Owed| match owed {
        Owed::Record => "a journal row that is on disk before the answer".to_owned(),
        Owed::Notice(recipient) => format!("a notice to {}", names(&[*recipient])),
        Owed::RulesUnread(user) => format!("a letter to {} about rules that cannot be read", names(&[*user])),
        Owed::Report(of) => format!("a report to the sender about {}", names(of)),
        Owed::Quarantine(of) => format!("a copy in quarantine for {}", names(of)),
        Owed::Copy(of) => format!("a marked copy to {}", names(of)),
        Owed::Apart(of) => format!("a copy to {}", names(of)),
        Owed::Folder(of) => format!("a copy to the spam folder of {}", of.len()),
    };
    lines.extend(case.reply.owed.iter().map(|what| format!("owes      {}", owed(what))));
    lines
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accepts: the mail server delivers it".into(),
        Verdict::Hold(reason) => format!("holds it in the mail server's queue: {reason}"),
        Verdict::Discard => "says 250 and drops it".into(),
        Verdict::Reject(refusal) | Verdict::Defer(refusal) => {
            format!("{} {} {}", refusal.code, refusal.status, refusal.text)
        }
    }
}

fn recipients(mail: &Mail, indices: &[usize]) -> String {
    let name = |index: &usize| {
        let recipient = mail.recipients.get(*index)?;
        Some(recipient.address().map_or_else(|| "a path without an address".to_owned(), ToString::to_string))
    };
    indices.iter().filter_map(name).collect::<Vec<_>>().join(", ")
}

fn told(mail: &Mail, found: &Found, groups: &[Group], case: Option<&Case>) -> serde_json::Value {
    let group = |group: &Group| {
        let (decision, fault) = match &group.decided {
            Ok(proposal) => (
                Some(json!({
                    "disposition": proposal.disposition, "notify": proposal.notify, "reason": proposal.reason,
                })),
                None,
            ),
            Err(fault) => (None, Some(fault)),
        };
        let names: Vec<String> = group.recipients.iter().map(|index| recipients(mail, &[*index])).collect();
        json!({
            "recipients": names, "facts": group.facts.json(), "decision": decision, "fault": fault, "reasons": group.reasons,
        })
    };
    json!({
        "result": found.status, "why": found.why, "from": found.sender.as_ref().map(ToString::to_string),
        "groups": groups.iter().map(group).collect::<Vec<_>>(),
        "never_found": groups.iter().any(|group| !rehearse::can_be(&group.facts)),
        "verdict": case.map(|case| case.reply.verdict.word()), "answer": case.map(answer),
    })
}

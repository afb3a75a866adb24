//! `addrauth config explain`: what becomes of a recipient's mail, whose word that is, and whose word loses.

use std::process::ExitCode;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::user::recipient;
use super::super::{Context, database, exit, fail, ledger, trial};
use super::refused;
use addrauth::case::Wish;
use addrauth::case::{By, KeyStatus, MarkAs, Recipient, Why};
use addrauth::config::Config;
use addrauth::policy::{Explained, LevelChoice, MarkExplained, Origin, Policies};
use addrauth::proto::address::{Address, Mailbox};
use addrauth::store;

/// All that is known about one recipient's mail.
struct View {
    recipient: Address,
    /// As bindings and choices are looked up.
    mailbox: Mailbox,
    sender: Option<Address>,
    /// Whether his domain is among `final_domains`.
    ours: bool,
    /// In the order of the results; a second `invalid` where an expired key is treated otherwise than a wrong one.
    results: Vec<(Option<Why>, Explained)>,
    mark: MarkExplained,
    notes: Vec<String>,
}

/// Exit code 0: shown; 1: the address or the configuration is refused; 2: users' choices cannot be read.
pub(super) async fn run(context: &Context, config: &Config, to: &str, from: Option<&str>) -> ExitCode {
    let read = |text: &str| {
        let wrong = |_| format!("{text:?} is no address: write one such as bob@example.com");
        Address::parse(text.as_bytes(), true).map_err(wrong)
    };
    let (to, from) = match (read(to), from.map(read).transpose()) {
        (Ok(to), Ok(from)) => (to, from),
        (Err(error), _) | (_, Err(error)) => return fail(error),
    };
    let policies = match Policies::load(&config.policy, &config.policies, &Arc::default(), &trial()) {
        Ok(policies) => policies,
        Err(error) => return refused(&error.to_string()),
    };
    let view = match view(config, &policies, to, from).await {
        Ok(view) => view,
        Err(error) => return fail(error),
    };
    match context.json {
        true => println!("{}", object(&view)),
        false => table(config, &view),
    }
    exit::YES
}

async fn view(
    config: &Config,
    policies: &Policies,
    to: Address,
    sender: Option<Address>,
) -> Result<View, store::Error> {
    let rcpt = recipient(&to);
    let mailbox = to.mailbox();
    let mut notes = Vec::new();
    let wish = wish(config, &mailbox, sender.as_ref(), &mut notes).await?;
    if config.observe.0 {
        notes.push("observe = true: this is decided and logged, and the status field is all that is done".into());
    }
    notes.extend(own_rules(policies, &rcpt, &wish));
    let explain = |status, why| (why, policies.explain(&rcpt, status, why, &wish));
    let mut results = Vec::new();
    for status in KeyStatus::ALL {
        let why = (status == KeyStatus::Invalid).then_some(Why::Wrong);
        let usual = explain(status, why);
        let late = why.map(|_| explain(status, Some(Why::Expired))).filter(|(_, late)| late.word != usual.1.word);
        if let Some(id) = &usual.1.ignored {
            notes.push(format!("the user's choice {}={id} does not count: it is not open to users", status.word()));
        }
        results.push(usual);
        results.extend(late);
        results.extend((status == KeyStatus::Unusable).then(|| explain(status, Some(Why::NoAddress))));
    }
    let missing = results.iter().map(|(_, result)| result).find(|result| result.status == KeyStatus::Missing);
    if let Some((LevelChoice { by: By::AllowList, .. }, Some(next))) = missing.map(|m| (&m.word, m.lost.first())) {
        notes.push(format!(
            "where the sender's domain claims that all its mail has a key (m=all), no list helps mail without one: \
             {} treats it",
            next.policy
        ));
    }
    let mark = policies.explain_mark(&rcpt, &wish);
    if mark.ignored {
        notes.push("the user's choice mark=folder does not count: policy.spam_folder is not set".into());
    }
    let ours = config.final_domains.contains(to.domain());
    Ok(View { recipient: to, mailbox, sender, ours, results, mark, notes })
}

/// What is to be said of the recipient's own rules.
fn own_rules(policies: &Policies, recipient: &Recipient, wish: &Wish) -> Option<String> {
    let text = wish.rules.as_ref()?;
    Some(match policies.read_own_rules(text) {
        None => "the user's own rules do not count: policy.user_rules is not true".into(),
        Some(Err(why)) => format!("the user's own rules do not count: {why}"),
        Some(Ok(())) => {
            let are_asked = |status: &KeyStatus| {
                let why = (*status == KeyStatus::Invalid).then_some(Why::Wrong);
                policies.choose(recipient, *status, why, wish).has_own_rules()
            };
            let results: Vec<&str> = KeyStatus::ALL.into_iter().filter(are_asked).map(KeyStatus::word).collect();
            match results.as_slice() {
                [] => "the user's own rules treat nothing: stronger words treat every result".into(),
                results => format!(
                    "the user's own rules go first for {}, within what is open to users; `addrauth policy table \
                     --bindings={}` tells what comes of it",
                    results.join(", "),
                    recipient.mailbox().map(String::from).unwrap_or_default()
                ),
            }
        }
    })
}

/// The recipient's own wishes, and what is to be said about them.
async fn wish(
    config: &Config,
    mailbox: &Mailbox,
    sender: Option<&Address>,
    notes: &mut Vec<String>,
) -> Result<Wish, store::Error> {
    let Some(ledger) = ledger(config).await? else {
        let path = database(config);
        notes.push(format!("without users' choices: none are kept yet, there is no {}", path.display()));
        return Ok(Wish::default());
    };
    let wishes = ledger.wishes(&[Some(mailbox.clone())], sender.map(Address::mailbox).as_ref()).await?;
    let allowed = ledger.allowed(mailbox).await?.len();
    ledger.close().await;
    let wish = wishes.into_iter().next().unwrap_or_default();
    match sender {
        Some(sender) if wish.allows => notes.push(format!("{sender} is on the user's list of wanted senders")),
        None if allowed > 0 => {
            notes.push(format!(
                "senders wanted by the user: {allowed}; --sender ADDRESS shows what becomes of their mail"
            ));
        }
        _ => {}
    }
    Ok(wish)
}

/// Where a level's word stands, as it would be written.
fn place(view: &View, by: By, name: &str) -> String {
    match by {
        By::AllowList => "the user's list of wanted senders".into(),
        By::User => "the user's choice".into(),
        By::Recipient => format!("[policy.recipient.{:?}].{name}", view.mailbox.as_str()),
        By::Domain => format!("[policy.domain.{:?}].{name}", view.recipient.domain()),
        By::Site => format!("[policy].{name}"),
    }
}

/// The lines that lose, each with what it loses to.
fn lost(view: &View) -> Vec<String> {
    let line = |by, name: &str, value: &str| match by {
        By::AllowList | By::User => format!("{} {name}={value}", place(view, by, name)),
        _ => format!("{} = {value:?}", place(view, by, name)),
    };
    let mut lines = Vec::new();
    let mut known: &[LevelChoice] = &[];
    for (why, result) in &view.results {
        let name = setting(*why, result.status);
        let winner = place(view, result.word.by, name);
        let late = *why == Some(Why::Expired);
        let ending = if late { " where the key has expired" } else { "" };
        // What lost to the one for a wrong key already is not told again.
        let told = |word: &&LevelChoice| late && known.iter().any(|other| other.by == word.by);
        let losers = result.lost.iter().filter(|word| !told(word)).map(|word| line(word.by, name, &word.policy));
        lines.extend(losers.map(|loser| format!("{loser} loses to {winner}{ending}")));
        known = &result.lost;
    }
    let winner = place(view, view.mark.mark.0, "mark");
    lines.extend(
        view.mark.lost.iter().map(|(by, mark)| format!("{} loses to {winner}", line(*by, "mark", word(*mark)))),
    );
    lines
}

fn word(mark: MarkAs) -> &'static str {
    match mark {
        MarkAs::Header => "header",
        MarkAs::Folder => "folder",
    }
}

/// The key of the configuration that binds a policy to this result.
fn setting(why: Option<Why>, status: KeyStatus) -> &'static str {
    match why {
        Some(Why::NoAddress) => "no_address",
        _ => status.word(),
    }
}

fn result_name(why: Option<Why>, result: &Explained) -> String {
    match why {
        Some(why @ (Why::Expired | Why::NoAddress)) => format!("  ({})", why.word()),
        _ => result.status.word().into(),
    }
}

fn effect(word: &LevelChoice) -> String {
    word.effect.map_or_else(|| "depends on the message".into(), |effect| effect.to_string())
}

fn origin(origin: &Origin) -> Value {
    match origin {
        Origin::Shipped => json!("shipped"),
        Origin::File(path) => json!({ "file": path }),
    }
}

fn table(config: &Config, view: &View) {
    if !view.ours {
        let finals = match config.final_domains.as_slice() {
            [] => "which is empty".into(),
            domains => domains.join(", "),
        };
        println!(
            "{} is in none of final_domains ({finals}): its mail is passed untouched, key and all.",
            view.recipient
        );
        println!("A message that also goes to a recipient of ours is decided for both.");
        return;
    }
    let sender = view.sender.as_ref().map(|sender| format!(" from {sender}")).unwrap_or_default();
    println!("Mail{sender} to {}:\n", view.mailbox);
    println!("{:<16}{:<26}{:<12}{:<34}COMPONENT", "RESULT", "POLICY", "WHOSE WORD", "WHAT HAPPENS");
    for (why, result) in &view.results {
        let word = &result.word;
        let (name, happens) = (result_name(*why, result), effect(word));
        let digest = word.digest.get(..12).unwrap_or(&word.digest);
        println!("{name:<16}{:<26}{:<12}{happens:<34}{}, sha256 {digest}…", word.policy, word.by.word(), word.origin);
    }
    let (by, mark) = view.mark.mark;
    let shown = match mark {
        MarkAs::Header => "by the field X-Spam-Flag: YES".to_owned(),
        MarkAs::Folder => format!("by delivery to his spam folder ({})", config.policy.spam_folder),
    };
    println!("{:<16}{:<26}{:<12}a marked message is shown {shown}", "mark", word(mark), by.word());
    let lost = lost(view);
    if !lost.is_empty() {
        println!();
    }
    lost.iter().for_each(|line| println!("{line}"));
    if !view.notes.is_empty() {
        println!();
    }
    view.notes.iter().for_each(|note| println!("note: {note}"));
}

fn object(view: &View) -> Value {
    let one = |name: &str, word: &LevelChoice| {
        json!({
            "policy": word.policy, "by": word.by.word(), "place": place(view, word.by, name),
            "origin": origin(&word.origin), "digest": word.digest, "does": word.effect.map(|e| e.to_string()),
        })
    };
    let result = |(why, result): &(Option<Why>, Explained)| {
        let name = setting(*why, result.status);
        let mut object = one(name, &result.word);
        object["result"] = json!(result.status.word());
        object["why"] = json!(why.map(Why::word));
        object["lost"] = result.lost.iter().map(|word| one(name, word)).collect();
        object["ignored"] = json!(result.ignored);
        object
    };
    let mark =
        |(by, mark): &(By, MarkAs)| json!({ "mark": word(*mark), "by": by.word(), "place": place(view, *by, "mark") });
    let mut shown = mark(&view.mark.mark);
    shown["lost"] = view.mark.lost.iter().map(mark).collect();
    json!({
        "recipient": view.recipient.to_string(), "mailbox": view.mailbox,
        "sender": view.sender.as_ref().map(Address::to_string), "ours": view.ours,
        "results": view.results.iter().map(result).collect::<Vec<_>>(), "mark": shown, "notes": view.notes,
    })
}

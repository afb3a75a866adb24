//! `addrauth why`: why a message was treated as it was, and whether its decisions come out the same again.

mod keys;
mod proof;
pub(crate) mod text;
mod words;

use std::process::ExitCode;
use std::time::SystemTime;

use serde_json::json;

use super::journal::{self, Unread};
use super::{Context, exit};
use addrauth::case::{WrittenCase, stamp};
use addrauth::config::Config;
use addrauth::policy::{self, Policies};
use addrauth::store::{Ending, JournalRow, Ledger, Sending, Traces};
use proof::Proof;

/// Tell why a message was treated as it was
///
/// The journal says what was found, which policy decided by whose word, who was told, and what became of it. Then every
/// decision is made again, by the policies of today's configuration on the facts of that day, and compared.
///
/// Exit code: 0 told, and every decision came out the same; 1 one came out otherwise; 2 it could not be told: there is no such
/// row, or a component is not there any more.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The mail server's queue id, as in its log; or the number of a row of `addrauth journal list`
    #[arg(value_name = "ID|QUEUE-ID")]
    id: String,
}

/// All that is to be told of one message.
#[derive(Debug)]
pub(crate) struct Account {
    id: i64,
    at: SystemTime,
    story: WrittenCase,
    note: String,
    traces: Traces,
    /// One for each decision.
    proofs: Vec<Proof>,
}

/// Runs the verb.
pub(crate) async fn run(args: Args, context: &Context) -> ExitCode {
    match why(&args.id, context).await {
        Ok(code) => code,
        Err(error) => super::fail(error),
    }
}

async fn why(id: &str, context: &Context) -> Result<ExitCode, Unread> {
    let config = context.read_config()?;
    let ledger = journal::open(&config).await?;
    let rows = journal::rows(&ledger, id).await?;
    let accounts = tell(&config, &ledger, rows).await;
    ledger.close().await;
    let accounts = accounts?;
    for (n, account) in accounts.iter().enumerate() {
        match context.json {
            true => println!("{}", account.json()),
            false if n > 0 => print!("\n{}", account.text()),
            false => print!("{}", account.text()),
        }
    }
    Ok(code(&accounts))
}

/// 1 where a decision came out otherwise, 2 where one could not be made again.
fn code(accounts: &[Account]) -> ExitCode {
    let any = |word: &str| accounts.iter().flat_map(|account| &account.proofs).any(|proof| proof.word() == word);
    match (any("differs"), any("unknown")) {
        (true, _) => exit::no(),
        (false, true) => exit::unknown(),
        (false, false) => exit::YES,
    }
}

/// The accounts of these rows; policies that cannot be loaded make every proof impossible, and no more.
pub(crate) async fn tell(config: &Config, ledger: &Ledger, rows: Vec<JournalRow>) -> Result<Vec<Account>, Unread> {
    let mut accounts = Vec::new();
    for row in rows {
        let story = journal::story(&row)?;
        let traces = ledger.traces(row.id).await?;
        accounts.push(Account { id: row.id, at: row.at, story, note: row.entry.note, traces, proofs: Vec::new() });
    }
    let policies = proof::policies(config, &accounts.iter().map(|account| &account.story).collect::<Vec<_>>());
    for account in &mut accounts {
        account.prove(&policies);
    }
    Ok(accounts)
}

impl Account {
    fn prove(&mut self, policies: &Result<Policies, policy::Error>) {
        let prove = |decision| match policies {
            Ok(policies) => proof::prove(policies, &self.story, decision),
            Err(error) => Proof::Impossible(format!("today's policies cannot be loaded: {error}")),
        };
        self.proofs = self.story.decisions.iter().map(prove).collect();
    }

    /// In plain words.
    pub(crate) fn text(&self) -> String {
        text::of(self)
    }

    fn json(&self) -> serde_json::Value {
        let proofs: Vec<_> = self.proofs.iter().map(proof_json).collect();
        let sent: Vec<_> = (self.traces.sent.iter())
            .map(|sent| {
                json!({ "kind": sent.kind.word(), "recipient": sent.recipient, "tries": sent.tries,
                    "next_try": sent.outcome.is_none().then(|| stamp(sent.next_try)),
                    "ended": sent.ended.map(stamp), "outcome": sent.outcome.as_ref().map(Sending::words) })
            })
            .collect();
        let held: Vec<_> = (self.traces.held.iter())
            .map(|held| {
                json!({ "quarantine": held.quarantine, "recipient": held.recipient, "expires": stamp(held.expires),
                    "outcome": held.outcome.map(Ending::word) })
            })
            .collect();
        json!({ "id": self.id, "at": stamp(self.at), "case": self.story, "note": self.note, "outbox": sent, "held": held,
            "proofs": proofs })
    }
}

fn proof_json(proof: &Proof) -> serde_json::Value {
    let now = match proof {
        Proof::Differs(now) | Proof::FailedThen(now) => {
            Some(json!({ "disposition": now.disposition, "notify": now.notify, "reason": now.reason }))
        }
        _ => None,
    };
    let text = match proof {
        Proof::Impossible(text) | Proof::FailsAgain(text) => Some(text),
        _ => None,
    };
    json!({ "recomputed": proof.word(), "now": now, "why": text })
}

#[cfg(test)]
mod tests;

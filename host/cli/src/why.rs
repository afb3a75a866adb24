//! `addrauth why`: why a message was treated as it was, and whether its decisions come out the same again.

use std::process::ExitCode;

use serde_json::json;

use super::journal::{self, Unread};
use super::{Context, exit, trial};
use addrauth::case::stamp;
use addrauth::store::{Ending, Sending};
use addrauth::why::{self, Account, Proof};

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

/// Runs the verb.
pub(crate) async fn run(args: Args, context: &Context) -> ExitCode {
    match told(&args.id, context).await {
        Ok(code) => code,
        Err(error) => super::fail(error),
    }
}

async fn told(id: &str, context: &Context) -> Result<ExitCode, Unread> {
    let config = context.read_config()?;
    let ledger = journal::open(&config).await?;
    let rows = journal::rows(&ledger, id).await?;
    let accounts = why::tell(&config, &ledger, rows, &trial()).await;
    ledger.close().await;
    let accounts = accounts?;
    for (n, account) in accounts.iter().enumerate() {
        match context.json {
            true => println!("{}", json(account)),
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

fn json(account: &Account) -> serde_json::Value {
    let proofs: Vec<_> = account.proofs.iter().map(proof_json).collect();
    let sent: Vec<_> = (account.traces.sent.iter())
        .map(|sent| {
            json!({ "kind": sent.kind.word(), "recipient": sent.recipient, "tries": sent.tries,
                "next_try": sent.outcome.is_none().then(|| stamp(sent.next_try)),
                "ended": sent.ended.map(stamp), "outcome": sent.outcome.as_ref().map(Sending::words) })
        })
        .collect();
    let held: Vec<_> = (account.traces.held.iter())
        .map(|held| {
            json!({ "quarantine": held.quarantine, "recipient": held.recipient, "expires": stamp(held.expires),
                "outcome": held.outcome.map(Ending::word) })
        })
        .collect();
    json!({ "id": account.id, "at": stamp(account.at), "case": account.story, "note": account.note, "outbox": sent, "held": held,
        "proofs": proofs })
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

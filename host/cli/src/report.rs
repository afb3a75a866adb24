//! `addrauth report`: who is being forged, how often, and where it was seen.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use humantime_serde::re::humantime::parse_duration;
use serde_json::json;

use super::{Context, exit, key};
use addrauth::authority::{self, Authority, Forged, SeenBy};

/// Tell who is being forged, how often, and where it was seen
///
/// Whoever receives mail in the name of an address of yours, with a wrong key, asks the Authentication Server and is answered
/// INVALIDKEY; these answers are counted by address, by the name that the asking server gave itself and by its network, a
/// day at a time, and kept for 90 days. Addresses that have no key are counted together. Keys that merely ended do not count;
/// a revoked one does. A server may ask more than once about one message, what the rate limit held back is missing, and
/// neither a name nor a UDP sender's network proves anything: read it as a trend.
///
/// Exit code: 0 told, 1 the domain is none of `authority.domains`, 2 it could not be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this domain
    domain: Option<String>,
    /// How far to look back, such as 7d; days (UTC) count as a whole
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse_duration)]
    since: Duration,
    /// Verifiers that are named for each address
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    seen_by: usize,
}

/// Runs the verb.
pub(crate) async fn run(args: Args, context: &Context) -> ExitCode {
    match gather(&args, context).await {
        Ok(forged) => {
            let text =
                if context.json { as_json(&forged, args.seen_by) } else { as_text(&forged, args.seen_by) + "\n" };
            print!("{text}");
            exit::YES
        }
        Err(e) => {
            exit::complain(&e);
            let foreign = matches!(e.downcast_ref(), Some(authority::Error::NoDomain { .. }));
            if foreign { exit::no() } else { exit::unknown() }
        }
    }
}

async fn gather(args: &Args, context: &Context) -> Result<Vec<Forged>, Box<dyn std::error::Error>> {
    let authority = Authority::open(&context.read_config()?, &Arc::new(key::patient())).await?;
    let forged = authority.forged(args.domain.as_deref(), args.since).await;
    authority.close().await;
    Ok(forged?)
}

fn as_text(all: &[Forged], most: usize) -> String {
    if all.is_empty() {
        return "no wrong key was asked about".into();
    }
    let mut text = String::from("ANSWERS  FIRST                 LAST                  ADDRESS");
    for forged in all {
        let who = forged.address.clone().unwrap_or_else(|| format!("others at {}", forged.domain));
        let (first, last) = (key::text(forged.first), key::text(forged.last));
        text.push_str(&format!("\n{:>7}  {first}  {last}  {who}", forged.answers));
        for seen in forged.seen_by.iter().take(most) {
            text.push_str(&format!("\n{:>7}    seen by {}", seen.answers, by(seen)));
        }
        let left = forged.seen_by.len().saturating_sub(most);
        if left > 0 {
            let answers: u64 = forged.seen_by.iter().skip(most).map(|seen| seen.answers).sum();
            text.push_str(&format!("\n{answers:>7}    seen by {left} more"));
        }
    }
    text
}

fn by(seen: &SeenBy) -> String {
    match (&seen.verifier, &seen.network) {
        (Some(name), Some(network)) => format!("{name} at {network}"),
        (Some(one), None) => one.clone(),
        (None, Some(network)) => format!("somebody at {network}"),
        (None, None) => "many".into(),
    }
}

fn as_json(all: &[Forged], most: usize) -> String {
    let seen = |seen: &SeenBy| json!({ "verifier": seen.verifier, "network": seen.network, "answers": seen.answers });
    let row = |forged: &Forged| {
        json!({
            "domain": forged.domain, "address": forged.address, "answers": forged.answers,
            "first": key::text(forged.first), "last": key::text(forged.last), "seen_by_all": forged.seen_by.len(),
            "seen_by": forged.seen_by.iter().take(most).map(seen).collect::<Vec<_>>(),
        })
    };
    all.iter().map(|forged| format!("{}\n", row(forged))).collect()
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn forged(address: Option<&str>, seen_by: Vec<SeenBy>) -> Forged {
        let at = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let answers = seen_by.iter().map(|seen| seen.answers).sum();
        Forged {
            domain: "example.com".into(),
            address: address.map(str::to_owned),
            answers,
            first: at,
            last: at,
            seen_by,
        }
    }

    fn seen(verifier: &str, answers: u64) -> SeenBy {
        SeenBy { verifier: Some(verifier.into()), network: Some("192.0.2.0/24".into()), answers }
    }

    #[test]
    fn a_report_tells_who_how_often_and_where() {
        let nobody = SeenBy { verifier: None, network: None, answers: 1 };
        let all = [
            forged(
                Some("alice@example.com"),
                vec![seen("mx.example.net", 7), seen("mx.example.org", 2), seen("x.test", 1)],
            ),
            forged(None, vec![nobody]),
        ];
        assert_eq!(
            as_text(&all, 1),
            "ANSWERS  FIRST                 LAST                  ADDRESS\n     \
             10  2027-01-15T08:00:00Z  2027-01-15T08:00:00Z  alice@example.com\n      \
             7    seen by mx.example.net at 192.0.2.0/24\n      \
             3    seen by 2 more\n      \
             1  2027-01-15T08:00:00Z  2027-01-15T08:00:00Z  others at example.com\n      \
             1    seen by many"
        );
        let json: Vec<serde_json::Value> =
            as_json(&all, 1).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(json[0]["seen_by"][0]["verifier"], "mx.example.net");
        assert_eq!((json[0]["seen_by_all"].as_u64(), json[1]["address"].is_null()), (Some(3), true));
        assert_eq!(as_text(&[], 1), "no wrong key was asked about");
    }
}

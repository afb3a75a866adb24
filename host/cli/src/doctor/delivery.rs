//! The door between queue and mailboxes: whether it is open, what stands behind it, and what policies cannot do there.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::Report;
use super::network::within_reach;
use addrauth::config::{Config, Listen, Module, OnFault, QuarantineIn};
use addrauth::mta::lmtp::hop::{Hop, LHLO_NAME};

/// How long anybody may take to answer: a person waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// The octets of a greeting that are looked at.
const GREETING: usize = 512;

/// Looks at the door, where the configuration opens one.
pub(super) async fn examine(config: &Config, report: &mut Report) {
    if config.lmtp.listen.is_empty() {
        return;
    }
    for place in &config.lmtp.listen {
        let about = format!("lmtp.listen {place}");
        match timeout(PATIENCE, greets(place)).await {
            Ok(Ok(true)) => report.good(&about, "an LMTP server answers"),
            Ok(Ok(false)) => {
                report.wrong(&about, "what listens there is not this filter: does another program have this place?")
            }
            Ok(Err(e)) => {
                report.wrong(&about, format!("nobody can be reached there: {e}; is `addrauth filter` running?"))
            }
            Err(_) => report.wrong(&about, format!("no answer within {PATIENCE:?}; is `addrauth filter` running?")),
        }
    }
    if let Some(next) = &config.lmtp.next {
        let about = format!("lmtp.next {next}");
        let name = if config.hostname.is_empty() { LHLO_NAME } else { &config.hostname };
        match Hop::connect(next, name, PATIENCE).await {
            Ok(mut hop) => {
                hop.quit().await;
                report.good(&about, "the delivery agent answers LHLO");
            }
            Err(e) => report.wrong(&about, format!("{e}; until it answers, mail waits in the mail server's queue")),
        }
    }
    policies(config, report);
}

/// What suits a milter, and not this door.
fn policies(config: &Config, report: &mut Report) {
    let about = "lmtp and the policies";
    for (id, module) in &config.policies {
        if module.on_fault == OnFault::Defer {
            report.warn(
                about,
                format!("policies.{id}.on_fault = \"defer\": mail waits in your own queue, and ends as a bounce to a reverse-path that may be \
                         forged: set \"quarantine\""),
            );
        }
        if defers(module) {
            report.warn(
                about,
                format!("the text of policies.{id} defers: such mail waits in your own queue, and ends as a bounce to a reverse-path that may \
                         be forged: let it quarantine"),
            );
        }
    }
    let policy = &config.policy;
    let everybody =
        [&policy.valid, &policy.invalid, &policy.missing, &policy.none, &policy.unverified, &policy.unusable];
    let bindings = policy.domain.values().chain(policy.recipient.values());
    let narrower =
        bindings.flat_map(|b| [&b.valid, &b.invalid, &b.missing, &b.none, &b.unverified, &b.unusable]).flatten();
    let tells = |id: &&String| matches!(id.as_str(), "reject-notify-sender" | "reject-notify-both");
    if everybody.into_iter().chain(narrower).any(|id| tells(&id)) && config.trusted_authserv_ids.is_empty() {
        report.warn(
            about,
            "a policy tells the sender, which takes a report at this door, never a 5xx; without trusted_authserv_ids no report may go out, and \
             such mail is quarantined",
        );
    }
    if policy.quarantine == QuarantineIn::Mta {
        report.warn(
            about,
            "policy.quarantine = \"mta\" is for milters: mail that comes this way is kept in our own quarantine",
        );
    }
    if !config.milter.listen.is_empty() {
        report.warn(
            about,
            "milter.listen and lmtp.listen are both open: a message that passes both is examined twice, and has no key the second time. Let each \
             message pass one of them",
        );
    }
}

/// Whether a text in the settings says that something is deferred.
fn defers(module: &Module) -> bool {
    fn says(value: &toml::Value) -> bool {
        match value {
            toml::Value::String(text) => {
                text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word.eq_ignore_ascii_case("defer"))
            }
            toml::Value::Array(values) => values.iter().any(says),
            _ => false,
        }
    }
    module.settings.values().any(says)
}

async fn greets(place: &Listen) -> std::io::Result<bool> {
    match place {
        Listen::Inet(address) => greeting(TcpStream::connect(within_reach(*address)).await?).await,
        Listen::Unix(path) => greeting(UnixStream::connect(path).await?).await,
    }
}

/// Whether the other side greets as this filter does.
async fn greeting(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<bool> {
    let (mut line, mut octet) = (Vec::new(), [0]);
    while line.len() < GREETING && !line.ends_with(b"\n") && stream.read(&mut octet).await? > 0 {
        line.extend_from_slice(&octet);
    }
    // A farewell is a courtesy.
    let _ = stream.write_all(b"QUIT\r\n").await;
    Ok(line.starts_with(b"220 ") && line.ends_with(b" LMTP addrauth\r\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(text: &str) -> String {
        let (config, mut report) = (Config::parse(text, "filter.toml".as_ref()).unwrap(), Report::default());
        policies(&config, &mut report);
        report.text()
    }

    #[test]
    fn what_does_not_suit_this_door_is_told() {
        let defaults = warnings("[milter]\nlisten = []");
        assert!(defaults.starts_with("0 wrong, 0 warnings"), "{defaults}");
        let text = "[policy]\nquarantine = \"mta\"\ninvalid = \"reject-notify-both\"\nmissing = \"ours\"\n\
                    [policies.ours]\nmodule = \"rules\"\nsettings.rules = [\"when result is missing: defer\", \"otherwise accept\"]";
        let told = warnings(text);
        for part in [
            "ours.on_fault",
            "the text of policies.ours",
            "trusted_authserv_ids",
            "quarantine = \"mta\"",
            "examined twice",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }

    #[tokio::test]
    async fn a_door_that_nobody_serves_and_an_agent_that_is_not_there_are_wrong() {
        let text = "[lmtp]\nlisten = [\"unix:/nonexistent/a\"]\nnext = \"unix:/nonexistent/b\"";
        let (config, mut report) = (Config::parse(text, "filter.toml".as_ref()).unwrap(), Report::default());
        examine(&config, &mut report).await;
        let text = report.text();
        assert!(text.contains("2 wrong"), "{text}");
    }
}

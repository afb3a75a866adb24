//! What a Stalwart's configuration file tells of its milter (up to 0.15: later ones keep their settings in a database).

use std::net::SocketAddr;
use std::path::Path;

use super::{Args, Report, State};
use addrauth::config::{Config, Limits, Listen, Mixed, Peer, Unfit};
use addrauth::files;

/// Where Stalwart's own installation puts it.
const USUAL: &str = "/opt/stalwart/etc/config.toml";

/// Looks at the file that is named, or at the usual one where there is one.
pub(super) fn examine(args: &Args, config: &Config, report: &mut Report) {
    let path = args.stalwart.as_deref().unwrap_or(Path::new(USUAL));
    let about = format!("Stalwart ({})", path.display());
    match files::read_text(path, Limits::default().files.config) {
        Ok(text) => match toml::from_str::<toml::Table>(&text) {
            Ok(table) => judge(&table, config).into_iter().for_each(|(state, text)| report.add(state, &about, text)),
            Err(e) => report.unknown(&about, format!("it cannot be read as TOML: {}", e.message())),
        },
        Err(e) if e.is_absent() && args.stalwart.is_none() => {}
        Err(e) => report.unknown(&about, format!("it cannot be read: {e}")),
    }
}

/// What is to be said of the milters that lead to our door.
fn judge(table: &toml::Table, config: &Config) -> Vec<(State, String)> {
    let section = table.get("session").and_then(|session| session.get("milter")).and_then(toml::Value::as_table);
    let ours = section.into_iter().flatten().filter(|(_, milter)| leads_here(milter, &config.milter.listen));
    let mut said: Vec<(State, String)> = ours.flat_map(|(name, milter)| of_milter(name, milter, config)).collect();
    if said.is_empty() {
        let text = "no session.milter leads to a place of milter.listen: with hooks alone that is as it should be";
        said.push((State::Warning, text.into()));
    }
    said
}

/// Whether a milter's address is one where we listen.
fn leads_here(milter: &toml::Value, places: &[Listen]) -> bool {
    let port = match milter.get("port") {
        Some(toml::Value::Integer(port)) => u16::try_from(*port).ok(),
        Some(toml::Value::String(port)) => port.parse().ok(),
        _ => None,
    };
    let listens = |place: &Listen| matches!(place, Listen::Inet(at) if Some(SocketAddr::port(at)) == port);
    places.iter().any(listens)
}

fn of_milter(name: &str, milter: &toml::Value, config: &Config) -> Vec<(State, String)> {
    let mut said = Vec::new();
    let mut say = |state, text: String| said.push((state, format!("session.milter.{name}: {text}")));
    // It may be an expression; none is false.
    if matches!(milter.get("enable"), None | Some(toml::Value::Boolean(false))) {
        say(State::Wrong, "enable is false, as it is by default: no message is examined. Set enable = true".into());
    }
    let stages: Vec<&str> = milter
        .get("stages")
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(toml::Value::as_str)
        .collect();
    if !stages.contains(&"data") {
        say(State::Wrong, "stages lacks \"data\", and messages are examined there alone".into());
    }
    if config.policy.mixed == Mixed::Split && !stages.contains(&"rcpt") {
        say(State::Wrong, Unfit::RcptStage.to_string());
    }
    if let Some(unfit) = config.unfit(Peer::Stalwart) {
        say(State::Wrong, format!("every message gets 451: {unfit}"));
    }
    let fails_open = milter.get("options").and_then(|options| options.get("tempfail-on-error"));
    if fails_open.and_then(toml::Value::as_bool) == Some(false) {
        say(
            State::Wrong,
            "options.tempfail-on-error is false: while the filter is down, mail comes in with its keys".into(),
        );
    }
    if said.is_empty() {
        said.push((State::Good, format!("session.milter.{name}: it leads here, at DATA")));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[session.milter.\"x\"]\nenable = true\nport = 8891\nstages = [\"data\"]\n";

    fn said(text: &str, settings: &str) -> Vec<(State, String)> {
        let config = format!("observe = false\nfinal_domains = [\"a.example\"]\n{settings}");
        judge(&toml::from_str(text).unwrap(), &Config::parse(&config, "x".as_ref()).unwrap())
    }

    #[test]
    fn a_milter_that_leads_here_is_good_where_nothing_lets_mail_pass_unexamined() {
        assert!(matches!(said(GOOD, "").as_slice(), [(State::Good, _)]));
        let split = GOOD.replace("[\"data\"]", "[\"rcpt\", \"data\"]");
        assert!(matches!(said(&split, "[policy]\nmixed = \"split\"").as_slice(), [(State::Good, _)]));
        for (text, settings, words) in [
            (GOOD.replace("enable = true\n", ""), "", "enable"),
            (GOOD.replace("true", "false"), "", "enable"),
            (GOOD.replace("data", "rcpt"), "", "stages"),
            (GOOD.to_owned(), "[policy]\nmixed = \"split\"", "policy.mixed"),
            (GOOD.to_owned(), "[policy]\nquarantine = \"mta\"", "policy.quarantine"),
            (GOOD.to_owned(), "trusted_authserv_ids = [\"mx.a.example\"]", "trusted_authserv_ids"),
            (format!("{GOOD}options.tempfail-on-error = false\n"), "", "tempfail-on-error"),
        ] {
            let said = said(&text, settings);
            assert!(matches!(said.as_slice(), [(State::Wrong, said)] if said.contains(words)), "{words}: {said:?}");
        }
    }

    #[test]
    fn a_stalwart_without_a_milter_to_this_door_is_told_of() {
        for text in ["", "[session]\nmilter = 1\n", &GOOD.replace("8891", "8892"), &GOOD.replace("8891", "\"x\"")] {
            assert!(matches!(said(text, "").as_slice(), [(State::Warning, _)]), "{text}");
        }
        assert!(matches!(said(&GOOD.replace("8891", "\"8891\""), "").as_slice(), [(State::Good, _)]));
    }
}

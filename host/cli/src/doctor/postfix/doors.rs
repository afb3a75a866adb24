//! Whether mail reaches our milter: named by every smtpd, after those that check, with time enough, and no way around it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::{Report, State};
use super::milters::{Milter, items, list};
use super::{Service, Setup};
use addrauth::config::{Config, Limits, Listen};

/// Services that are named in one line at most.
const NAMED: usize = 5;

/// What is to be said, and of which services: many say the same.
#[derive(Default)]
struct Said(BTreeMap<(State, String), Vec<String>>);

impl Said {
    fn add(&mut self, state: State, text: impl Into<String>, service: &Service) {
        self.0.entry((state, text.into())).or_default().push(service.name.clone());
    }
}

/// Looks at every smtpd, and at mail that comes by no smtpd.
pub(super) fn judge(setup: &Setup, config: &Config, report: &mut Report) {
    let mut said = Said::default();
    let smtpds: Vec<&Service> = setup.services.iter().filter(|service| service.program == "smtpd").collect();
    let reached = smtpds.iter().filter(|service| one(setup, service, config, &mut said)).count();
    if reached == 0 {
        // Then all of them lack it, and need not be told one by one.
        said.0.retain(|(state, _), _| *state == State::Wrong);
        report.wrong("Postfix smtpd_milters", format!("no smtpd names our milter: {}", advice(config)));
    }
    for ((state, text), services) in said.0 {
        let more = if services.len() > NAMED { format!(" and {} more", services.len() - NAMED) } else { String::new() };
        let names: Vec<String> = services.into_iter().take(NAMED).collect();
        report.add(state, &format!("Postfix {}{more}", names.join(", ")), text);
    }
    let non_smtpd = list(setup.of("non_smtpd_milters"));
    if non_smtpd.iter().any(|milter| ours(milter, setup, config, false)) {
        report.good("Postfix non_smtpd_milters", "names our milter");
    } else {
        report.warn(
            "Postfix non_smtpd_milters",
            "does not name our milter: mail that programs of this machine hand over by sendmail(1) is not examined",
        );
    }
    if setup.of("milter_protocol") != "6" {
        let version = setup.of("milter_protocol");
        report.wrong("Postfix milter_protocol", format!("is {version}: `postconf -e milter_protocol=6`, the default"));
    }
}

/// The line for main.cf.
fn advice(config: &Config) -> String {
    let place = config.milter.listen.first().map_or_else(|| "unix:addrauth/milter".to_owned(), Listen::to_string);
    format!(
        "`postconf -e 'smtpd_milters = {{ {place}, default_action=tempfail, command_timeout=30s }}'`, the path as Postfix sees it"
    )
}

pub(super) fn ours(milter: &Milter, setup: &Setup, config: &Config, chrooted: bool) -> bool {
    config.milter.listen.iter().any(|place| milter.is_at(place, setup.queue(), chrooted))
}

/// Looks at one smtpd; whether its mail comes to us.
fn one(setup: &Setup, service: &Service, config: &Config, said: &mut Said) -> bool {
    let milters = list(setup.of_service(service, "smtpd_milters"));
    let chrooted = setup.is_chrooted(service);
    let Some(at) = milters.iter().position(|milter| ours(milter, setup, config, chrooted)) else {
        if chrooted && milters.iter().any(|milter| ours(milter, setup, config, false)) {
            said.add(State::Wrong, out_of_sight(setup, config), service);
        } else {
            said.add(State::Warning, "its smtpd_milters do not name our milter: this mail is not examined", service);
        }
        return false;
    };
    for (place, other) in milters.iter().enumerate() {
        match other.known() {
            Some(name) if place > at => {
                let state = if config.trusted_authserv_ids.is_empty() { State::Warning } else { State::Wrong };
                let text = format!(
                    "our milter comes before {name} ({}): what that one finds is not seen. Put ours behind it",
                    other.place
                );
                said.add(state, text, service);
            }
            None if place < at && other.place.contains("openarc") => {
                said.add(
                    State::Warning,
                    "openarc seals before our milter changes the header: put ours before it",
                    service,
                );
            }
            _ => {}
        }
    }
    if let Some(milter) = milters.get(at) {
        action(setup, service, milter, said);
        patience(setup, service, milter, config, said);
    }
    true
}

fn out_of_sight(setup: &Setup, config: &Config) -> String {
    let queue = setup.queue();
    let sockets = config.milter.listen.iter().filter_map(|place| match place {
        Listen::Unix(path) => Some(path),
        Listen::Inet(_) => None,
    });
    for path in sockets {
        if let Ok(seen) = path.strip_prefix(queue) {
            return format!("it runs in its chroot {}: name the socket unix:{}", queue.display(), seen.display());
        }
    }
    format!(
        "it runs in its chroot {0}, and milter.listen is outside of it: listen below it, such as unix:{0}/addrauth/milter",
        queue.display()
    )
}

fn action(setup: &Setup, service: &Service, milter: &Milter, said: &mut Said) {
    let action = milter.option("default_action").unwrap_or_else(|| setup.of_service(service, "milter_default_action"));
    match action {
        "tempfail" | "shutdown" => said.add(State::Good, "names our milter; while that is down, mail waits", service),
        "accept" => said.add(
            State::Wrong,
            "default_action=accept: while our milter is down, mail comes through unexamined, keys and forged results with it. \
             Write default_action=tempfail",
            service,
        ),
        other => said.add(
            State::Warning,
            format!("default_action={other}: while our milter is down, mail is not delivered. Write default_action=tempfail"),
            service,
        ),
    }
}

/// Both times count: Postfix takes one for commands, the other for the message's header, body and end.
fn patience(setup: &Setup, service: &Service, milter: &Milter, config: &Config, said: &mut Said) {
    let limits = Limits::default();
    let ours = limits.policy.message + limits.custody.keep;
    let need = config.verify.timeout + ours;
    for name in ["command_timeout", "content_timeout"] {
        let value = milter.option(name).unwrap_or_else(|| setup.of_service(service, &format!("milter_{name}")));
        match duration(value) {
            Some(time) if time >= need => {}
            Some(_) => said.add(
                State::Wrong,
                format!(
                    "{name}={value} is shorter than our answer may take (verify.timeout and {ours:?} more): write {}s",
                    need.as_secs_f64().ceil().max(30.0)
                ),
                service,
            ),
            None => said.add(State::Unknown, format!("{name}={value} is no time that is understood here"), service),
        }
    }
}

/// A time in Postfix's spelling: `30s`, `5m`, `30`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..)? {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit).map(Duration::from_secs)
}

/// OpenDKIM's documents use the port that is our default.
pub(super) fn clash(opendkim: &str, config: &Config, report: &mut Report) {
    let sockets = opendkim.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        words.next().filter(|word| word.eq_ignore_ascii_case("Socket")).and(words.next())
    });
    let ports: Vec<u16> =
        sockets.filter_map(|socket| socket.strip_prefix("inet:")?.split('@').next()?.parse().ok()).collect();
    for place in &config.milter.listen {
        if let Listen::Inet(address) = place
            && ports.contains(&address.port())
        {
            let port = address.port();
            report.wrong(
                &format!("milter.listen {place}"),
                format!(
                    "/etc/opendkim.conf takes port {port} too: give one of the two another, here such as inet:127.0.0.1:8894"
                ),
            );
        }
    }
}

/// Plain names and tables of a parameter such as `mydestination`.
pub(super) fn names_and_tables(text: &str) -> (Vec<String>, Vec<String>) {
    items(text).into_iter().partition(|item| !item.contains([':', '/']))
}

#[cfg(test)]
mod tests;

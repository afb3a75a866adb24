//! `addrauth doctor`: looks at the installation, the domains and Postfix, and says what to do.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::json;

use super::{Context, exit};
use addrauth::config::Config;
use addrauth::proto::address::Domain;
use addrauth::proto::text;

mod delivery;
mod domain;
pub(crate) mod hooks;
mod installation;
pub(crate) mod network;
mod postfix;
mod posts;
mod stalwart;
mod steps;
mod streams;

/// Look at the configuration, the domains' Authentication Servers, the places where mail servers ask, and Postfix or Stalwart
///
/// Each check is `ok`, `warning`, `WRONG` or `could not tell`. Without a domain, those of `authority.domains` and `final_domains`
/// are looked at. Every server of a domain is asked about an address that nobody has, with a key that nobody has; nothing is
/// changed anywhere. Run it as the user of the daemon, or as root.
///
/// Exit code: 0 nothing is wrong, 1 something is, 2 nothing is known to be wrong, but something could not be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The domain to look at: example.com
    pub domain: Option<String>,
    /// Only say how far the domain takes part with its own addresses, step by step, and what comes next; exit code 1: a step is open
    #[arg(long, requires = "domain")]
    pub steps: bool,
    /// Postfix's configuration directory [default: postconf's own]
    #[arg(long, value_name = "DIR")]
    pub postfix: Option<PathBuf>,
    /// Stalwart's configuration file, up to version 0.15 [default: /opt/stalwart/etc/config.toml if it exists]
    #[arg(long, value_name = "FILE")]
    pub stalwart: Option<PathBuf>,
    /// Where postconf is
    #[arg(long, value_name = "FILE", default_value = "postconf")]
    pub postconf: PathBuf,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
enum State {
    #[serde(rename = "ok")]
    Good,
    #[serde(rename = "warning")]
    Warning,
    #[serde(rename = "could not tell")]
    Unknown,
    #[serde(rename = "WRONG")]
    Wrong,
}

/// One check: how it came out, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    /// What was looked at.
    about: String,
    state: State,
    text: String,
}

/// All checks so far, in order.
#[derive(Debug, Default)]
struct Report(Vec<Check>);

impl Report {
    fn add(&mut self, state: State, about: &(impl AsRef<str> + ?Sized), text: impl Into<String>) {
        // What DNS, a server or another program said may hold control characters that a terminal would obey.
        self.0.push(Check { about: text::shown(about.as_ref()), state, text: text::shown(&text.into()) });
    }

    fn good(&mut self, about: &(impl AsRef<str> + ?Sized), text: impl Into<String>) {
        self.add(State::Good, about, text);
    }

    fn warn(&mut self, about: &(impl AsRef<str> + ?Sized), text: impl Into<String>) {
        self.add(State::Warning, about, text);
    }

    fn wrong(&mut self, about: &(impl AsRef<str> + ?Sized), text: impl Into<String>) {
        self.add(State::Wrong, about, text);
    }

    fn unknown(&mut self, about: &(impl AsRef<str> + ?Sized), text: impl Into<String>) {
        self.add(State::Unknown, about, text);
    }

    fn has(&self, state: State) -> bool {
        self.0.iter().any(|check| check.state == state)
    }

    fn exit(&self) -> ExitCode {
        match () {
            () if self.has(State::Wrong) => exit::no(),
            () if self.has(State::Unknown) => exit::unknown(),
            () => exit::YES,
        }
    }

    fn text(&self) -> String {
        let line = |check: &Check| format!("{:<14}  {}: {}\n", check.state.word(), check.about, check.text);
        let count = |state| self.0.iter().filter(|check| check.state == state).count();
        let lines: String = self.0.iter().map(line).collect();
        format!(
            "{lines}{} wrong, {} warnings, {} could not be told, {} ok\n",
            count(State::Wrong),
            count(State::Warning),
            count(State::Unknown),
            count(State::Good)
        )
    }
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Good => "ok",
            State::Warning => "warning",
            State::Unknown => "could not tell",
            State::Wrong => "WRONG",
        }
    }
}

/// Runs the verb.
pub(crate) async fn run(args: Args, context: &Context) -> ExitCode {
    let domain = match args.domain.as_deref().map(domain_name).transpose() {
        Ok(domain) => domain,
        Err(text) => return exit::fail(text),
    };
    if let (Some(domain), true) = (&domain, args.steps) {
        return follow(domain, context).await;
    }
    let mut report = Report::default();
    match context.read_config() {
        Ok(config) => examine(&args, domain, &config, &mut report).await,
        Err(e) => report.wrong("configuration", e.to_string()),
    }
    let text = if context.json {
        format!("{:#}\n", json!({ "ok": !report.has(State::Wrong), "checks": report.0 }))
    } else {
        report.text()
    };
    print!("{text}");
    report.exit()
}

/// Tells the steps of a domain.
async fn follow(domain: &Domain, context: &Context) -> ExitCode {
    match context.read_config() {
        Ok(config) => {
            let steps = steps::examine(domain, &config).await;
            let text = if context.json { format!("{:#}\n", steps.json()) } else { steps.text() };
            print!("{text}");
            if steps.is_whole() { exit::YES } else { exit::no() }
        }
        Err(e) => exit::fail(e),
    }
}

async fn examine(args: &Args, domain: Option<Domain>, config: &Config, report: &mut Report) {
    installation::policies(config, report);
    installation::state(config, report).await;
    installation::keys(config, report).await;
    network::clock(report).await;
    // A machine that is an Authentication Server alone has no milter, and owes no notice.
    let filters = !config.final_domains.is_empty() || config.authority.domains.is_empty();
    if filters {
        network::notices(config, report).await;
        network::door(config, report).await;
        hooks::door(config, report).await;
        delivery::examine(config, report).await;
    } else {
        report.good(
            "filter",
            "final_domains is empty: only the Authentication Server is looked at, no milter and no Postfix",
        );
    }
    streams::fetching(config, report).await;
    network::name_servers(config, report).await;
    let domains = match domain {
        Some(domain) => vec![domain],
        None => {
            let mut all = config.authority.domains.clone();
            all.extend(
                config.final_domains.iter().filter(|domain| !config.authority.domains.contains(domain)).cloned(),
            );
            all
        }
    };
    for domain in &domains {
        domain::examine(domain, config, report).await;
    }
    if filters && !config.milter.listen.is_empty() {
        postfix::examine(args, config, report).await;
        stalwart::examine(args, config, report);
    }
}

fn domain_name(text: &str) -> Result<Domain, String> {
    Domain::parse_full(text).map_err(|_| format!("{text:?} is no domain, write a name such as example.com"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(states: &[State]) -> String {
        let mut report = Report::default();
        states.iter().for_each(|state| report.add(*state, "x", "y"));
        format!("{:?}", report.exit())
    }

    #[test]
    fn the_exit_code_is_that_of_the_gravest_check() {
        let [yes, no, unknown] = [exit::YES, exit::no(), exit::unknown()].map(|code| format!("{code:?}"));
        assert_eq!(code(&[]), yes);
        assert_eq!(code(&[State::Good, State::Warning]), yes);
        assert_eq!(code(&[State::Unknown, State::Warning]), unknown);
        assert_eq!(code(&[State::Unknown, State::Wrong, State::Good]), no);
    }

    #[test]
    fn what_others_say_cannot_steer_a_terminal() {
        let mut report = Report::default();
        report.wrong("a\u{1b}[2J", "b\r\nok: all is well");
        let text = report.text();
        assert_eq!(text.lines().count(), 2);
        assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
    }

    #[test]
    fn a_domain_is_taken_in_any_spelling() {
        assert_eq!(domain_name("Example.COM.").unwrap().as_str(), "example.com");
        assert!(domain_name("exa mple").is_err() && domain_name("").is_err());
    }
}

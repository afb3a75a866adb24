//! Settings of Postfix that take the key away, send it elsewhere, or disagree with ours about where mail ends.

use std::path::Path;

use super::super::Report;
use super::doors::names_and_tables;
use super::milters::items;
use super::{Setup, Tables};
use addrauth::case::MarkAs;
use addrauth::config::{Config, Limits};
use addrauth::files;
use addrauth::proto::address::Domain;
use addrauth::proto::header::KEY_FIELD;

/// The field that a table may not touch before our milter has seen it.
fn field() -> String {
    format!("{KEY_FIELD}: {}", "a".repeat(32))
}

/// The classes of domains for which Postfix takes mail, and whether it is the last to have it.
const CLASSES: [(&str, bool); 4] = [
    ("mydestination", true),
    ("virtual_mailbox_domains", true),
    ("virtual_alias_domains", true),
    ("relay_domains", false),
];

/// Domains that are named in one line at most.
const NAMED: usize = 5;

/// What needs no look into tables.
pub(super) fn judge(setup: &Setup, config: &Config, report: &mut Report) {
    let always = setup.of("always_bcc");
    if !always.is_empty() {
        report
            .warn("Postfix always_bcc", format!("every message goes to {always} too, and a stamped one with its key"));
    }
    let local = items(setup.of("local_header_rewrite_clients"));
    if local.iter().any(|item| item.starts_with("static:") || item == "permit_mynetworks") {
        report.warn(
            "Postfix local_header_rewrite_clients",
            "From is completed in the mail of many clients, so its readers may see another address than was verified: \
             `postconf -e 'local_header_rewrite_clients = permit_inet_interfaces'`",
        );
    }
    if !setup.of("remote_header_rewrite_domain").is_empty() {
        report.warn(
            "Postfix remote_header_rewrite_domain",
            "an incomplete From is completed, so its readers see another address than was verified: leave it empty",
        );
    }
    folder(setup, config, report);
    local_domains(setup, config, report);
}

/// A row of a bare user that Postfix does not read there would give a login more than Postfix gives it.
fn local_domains(setup: &Setup, config: &Config, report: &mut Report) {
    let (mut local, tables) = names_and_tables(setup.of("mydestination"));
    local.push(setup.of("myorigin").to_owned());
    let is_local = |domain: &&String| local.iter().any(|known| known.eq_ignore_ascii_case(domain));
    let others: Vec<&str> = config.keyring.local_domains.iter().filter(|d| !is_local(d)).map(String::as_str).collect();
    if !others.is_empty() && tables.is_empty() {
        let others = others.join(", ");
        report.warn(
            "Postfix mydestination",
            format!("{others}: in keyring.local_domains, but Postfix reads no rows of bare users there"),
        );
    }
}

/// A spam folder that is named by a character which divides nothing is an unknown user.
fn folder(setup: &Setup, config: &Config, report: &mut Report) {
    let (about, folder) = ("Postfix recipient_delimiter", &config.policy.spam_folder);
    let levels = config.policy.domain.values().chain(config.policy.recipient.values()).map(|bindings| bindings.mark);
    let bound = levels.chain([Some(config.policy.mark)]).any(|mark| mark == Some(MarkAs::Folder));
    let Some(delimiter) = folder.chars().next() else { return };
    let known = setup.of("recipient_delimiter");
    if known.contains(delimiter) {
        report.good(about, format!("divides {folder:?} from the local part"));
    } else if bound {
        report.wrong(
            about,
            format!(
                "is {known:?}, so nobody gets mail to his {folder:?}: `postconf -e recipient_delimiter={delimiter}`"
            ),
        );
    } else {
        report.warn(about, format!("is {known:?}, so policy.spam_folder = {folder:?} would lead nowhere"));
    }
}

/// Tables that take the key away before our milter sees it.
pub(super) async fn header_checks(setup: &Setup, tables: &Tables, report: &mut Report) {
    let about = "Postfix header_checks";
    for table in items(setup.of("header_checks")) {
        match tables.find(&table, &field()).await {
            Ok(None) => report.good(about, format!("{table} leaves X-Auth-Key alone")),
            Ok(Some(action)) => report.wrong(
                about,
                format!(
                    "{table} does {action} to X-Auth-Key before our milter sees it: take that line out, the milter removes keys"
                ),
            ),
            Err(text) => report.unknown(about, text),
        }
    }
}

/// What the tables and names of one class say.
#[derive(Debug, Default)]
struct Class {
    names: Vec<String>,
    /// Those of `final_domains` that are in one of its tables.
    found: Vec<Domain>,
    /// Tables that could not be asked, and why.
    failed: Vec<String>,
    is_final: bool,
}

impl Class {
    fn has(&self, domain: &Domain) -> bool {
        self.found.contains(domain) || self.names.iter().any(|name| Domain::parse(name).as_ref() == Ok(domain))
    }
}

/// Whether `final_domains` are those whose mail ends here by Postfix's word.
pub(super) async fn domains(setup: &Setup, tables: &Tables, config: &Config, report: &mut Report) {
    let mut classes = Vec::new();
    for (parameter, is_final) in CLASSES {
        let (names, places) = names_and_tables(setup.of(parameter));
        let mut class = Class { names, is_final, ..Class::default() };
        for place in places {
            look_up(&place, tables, config, &mut class).await;
        }
        class.failed.iter().for_each(|text| report.unknown(&format!("Postfix {parameter}"), text.clone()));
        classes.push(class);
    }
    compare(&classes, config, report);
}

async fn look_up(place: &str, tables: &Tables, config: &Config, class: &mut Class) {
    if place.starts_with('/') {
        match files::read_text(Path::new(place), Limits::default().keyring.owner_octets) {
            Ok(text) => class.names.extend(text.lines().filter(|line| !line.starts_with('#')).flat_map(items)),
            Err(e) => class.failed.push(format!("{place} cannot be read: {e}")),
        }
        return;
    }
    for domain in &config.final_domains {
        match tables.find(place, domain.as_str()).await {
            Ok(Some(_)) => class.found.push(domain.clone()),
            Ok(None) => {}
            Err(text) => return class.failed.push(text),
        }
    }
}

/// The machine's own names count too: a stranger may write to a user of them as well. A name of one label is the MTA's own to
/// the filter anyway.
fn compare(classes: &[Class], config: &Config, report: &mut Report) {
    let about = "final_domains";
    let could_not_look = classes.iter().any(|class| !class.failed.is_empty());
    let before = report.0.len();
    for domain in &config.final_domains {
        let ends = classes.iter().any(|class| class.is_final && class.has(domain));
        let relayed = classes.iter().any(|class| !class.is_final && class.has(domain));
        if ends || (!relayed && could_not_look) {
            continue;
        }
        let text = match relayed {
            true => format!(
                "Postfix relays {domain} (relay_domains), and here its keys are removed: right where the server behind it \
                 examines nothing, wrong where that one verifies keys too"
            ),
            false => {
                format!("Postfix takes no mail for {domain}: is that name right, and does another server have it?")
            }
        };
        report.warn(about, text);
    }
    let unlisted = |name: &&String| !Domain::parse(name).is_ok_and(|name| config.final_domains.contains(&name));
    let names = classes.iter().filter(|class| class.is_final).flat_map(|class| &class.names);
    let full = |name: &&String| name.contains('.');
    let forgotten: Vec<&str> = names.filter(unlisted).filter(full).map(String::as_str).collect();
    if let Some(more) = forgotten.len().checked_sub(1) {
        let shown: Vec<&str> = forgotten.iter().copied().take(NAMED).collect();
        let more = if more < NAMED { String::new() } else { format!(" and {} more", forgotten.len() - shown.len()) };
        report.warn(
            about,
            format!(
                "Postfix delivers {}{more}, not among them: that mail is not examined, and keeps its keys",
                shown.join(", ")
            ),
        );
    }
    if report.0.len() == before && !could_not_look && !config.final_domains.is_empty() {
        report.good(about, "they are the domains whose mail ends here, by Postfix's word");
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::super::State;
    use super::*;

    fn says(report: &Report, state: State, words: &str) {
        let found = report.0.iter().any(|check| check.state == state && check.text.contains(words));
        assert!(found, "{words}:\n{}", report.text());
    }

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("x")).unwrap()
    }

    fn judged(main: &str, text: &str) -> Report {
        let mut report = Report::default();
        judge(&Setup::parse(main, "", ""), &config(text), &mut report);
        report
    }

    #[test]
    fn settings_that_do_no_harm_are_not_spoken_of() {
        let main =
            "always_bcc =\nlocal_header_rewrite_clients = permit_inet_interfaces\nremote_header_rewrite_domain =\n";
        assert!(judged(main, "").0.is_empty());
    }

    #[test]
    fn settings_that_copy_or_rewrite_are_told_of() {
        for (main, words) in [
            ("always_bcc = archive@example.com", "goes to archive@example.com too"),
            ("local_header_rewrite_clients = permit_mynetworks, permit_sasl_authenticated", "many clients"),
            ("local_header_rewrite_clients = static:all", "many clients"),
            ("remote_header_rewrite_domain = domain.invalid", "leave it empty"),
        ] {
            says(&judged(main, ""), State::Warning, words);
        }
    }

    #[test]
    fn a_domain_where_postfix_reads_no_rows_of_bare_users_is_told_of() {
        let text = "[keyring]\nlocal_domains = [\"A.example\", \"b.example\", \"c.example\"]\n";
        let main = "mydestination = localhost, a.example\nmyorigin = b.example\n";
        says(&judged(main, text), State::Warning, "c.example: in keyring.local_domains");
        assert!(judged(&main.replace("localhost", "c.example"), text).0.is_empty());
        assert!(judged(&main.replace("localhost", "hash:/x"), text).0.is_empty(), "nobody knows what the table says");
    }

    #[test]
    fn a_spam_folder_needs_its_delimiter() {
        let bound = "[policy]\nspam_folder = \"+Junk\"\nmark = \"folder\"\n";
        let unused = "[policy]\nspam_folder = \"+Junk\"\n";
        says(&judged("recipient_delimiter = -+", bound), State::Good, "divides");
        says(&judged("recipient_delimiter =", bound), State::Wrong, "recipient_delimiter=+");
        says(&judged("recipient_delimiter = -", unused), State::Warning, "lead nowhere");
    }

    #[tokio::test]
    async fn a_domain_that_is_relayed_forgotten_or_unknown_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("domains");
        std::fs::write(&file, "# ours\nfile.example\n").unwrap();
        let main = format!(
            "mydestination = localhost, localhost.localdomain, MX.example.com, a.example\nmyhostname = mx.example.com\n\
             virtual_mailbox_domains = {}, b.example\nrelay_domains = relayed.example\n",
            file.display()
        );
        let tables = Tables { postmap: "/nonexistent/postmap".into(), etc: String::new() };
        let looked_at = async |main: &str, text: &str| {
            let mut report = Report::default();
            domains(&Setup::parse(main, "", ""), &tables, &config(text), &mut report).await;
            report
        };
        let own = "\"a.example\", \"mx.example.com\", \"localhost.localdomain\"";
        let report = looked_at(&main, &format!("final_domains = [{own}, \"b.example\", \"file.example\"]")).await;
        assert_eq!(report.0.iter().map(|check| check.state).collect::<Vec<_>>(), [State::Good], "{}", report.text());
        let report = looked_at(&main, "final_domains = [\"a.example\", \"b.example\", \"file.example\"]").await;
        says(&report, State::Warning, "delivers localhost.localdomain, MX.example.com, not");
        let finals = format!("final_domains = [{own}, \"relayed.example\", \"other.example\"]");
        let report = looked_at(&main, &finals).await;
        for words in [
            "Postfix relays relayed.example",
            "takes no mail for other.example",
            "delivers b.example, file.example, not",
        ] {
            says(&report, State::Warning, words);
        }
        assert_eq!(report.0.len(), 3, "{}", report.text());
        let report = looked_at("mydestination = hash:/x\n", "final_domains = [\"a.example\"]").await;
        says(&report, State::Unknown, "cannot run");
        assert_eq!(report.0.len(), 1, "{}", report.text());
    }
}

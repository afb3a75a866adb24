//! Whether the daemons that learn and stamp are named as Postfix names them: a slip there is silent.

use super::super::Report;
use super::doors::ours;
use super::milters::list;
use super::{Service, Setup};
use addrauth::config::{Config, Where};

/// The parameter by which an smtpd tells its name to milters.
const DAEMON: &str = "milter_macro_daemon_name";

/// Looks at the names in `keyring.learn` and `keyring.stamp`.
pub(super) fn judge(setup: &Setup, config: &Config, report: &mut Report) {
    let is_ours = |service: &&Service| {
        let chrooted = setup.is_chrooted(service);
        service.program == "smtpd"
            && list(setup.of_service(service, "smtpd_milters")).iter().any(|m| ours(m, setup, config, chrooted))
    };
    let services: Vec<&Service> = setup.services.iter().filter(is_ours).collect();
    let called = |service: &Service| setup.of_service(service, DAEMON).to_owned();
    for (setting, place) in [("keyring.learn", &config.keyring.learn), ("keyring.stamp", &config.keyring.stamp)] {
        let Where::Daemons(names) = place else { continue };
        for name in names {
            let played: Vec<&str> =
                services.iter().filter(|service| called(service) == *name).map(|s| s.name.as_str()).collect();
            if played.is_empty() {
                let mut known: Vec<String> = services.iter().map(|service| called(service)).collect();
                known.sort();
                known.dedup();
                report.wrong(
                    setting,
                    format!(
                        "no smtpd before our milter calls itself {name:?}, so nothing comes of it; they say {}: name one of \
                         these, or set `-o {DAEMON}={name}` in master.cf",
                        known.join(", ")
                    ),
                );
            } else {
                report.good(setting, format!("{name}: mail of {}", played.join(", ")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::super::State;
    use super::*;

    #[test]
    fn a_name_that_no_daemon_bears_is_wrong() {
        let main = "smtpd_milters = inet:127.0.0.1:8891\nmilter_macro_daemon_name = mx.example.com\ncompatibility_level = 3.6\n";
        let master = "smtp inet n - n - - smtpd\nsubmission inet n - n - - smtpd\n10025 inet n - n - - smtpd\n";
        let own = "submission/inet/milter_macro_daemon_name = ORIGINATING\n10025/inet/smtpd_milters =\n\
                   10025/inet/milter_macro_daemon_name = smtpd\n";
        let setup = Setup::parse(main, master, own);
        let told = |keyring: &str| {
            let text = format!("final_domains = [\"example.com\"]\n[keyring]\n{keyring}\n");
            let mut report = Report::default();
            judge(&setup, &Config::parse(&text, Path::new("x.toml")).unwrap(), &mut report);
            (report.has(State::Wrong), report.has(State::Good))
        };
        assert_eq!(told("learn = true\nstamp = [\"ORIGINATING\"]"), (false, true));
        assert_eq!(told("learn = [\"mx.example.com\"]"), (false, true));
        assert_eq!(told("stamp = [\"ORIGNATING\"]"), (true, false));
        assert_eq!(told("learn = [\"smtpd\"]"), (true, false), "that one has no milter of ours");
        assert_eq!(told(""), (false, false));
    }
}

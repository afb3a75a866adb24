use std::path::Path;

use super::*;

const MASTER: &str = "smtp inet n - CHROOT - - smtpd\nqmgr unix n - n - - qmgr\n";
const OURS: &str = "{ unix:addrauth/milter, default_action=tempfail, command_timeout=30s }";

fn looked_at(chroot: &str, milters: &str, rest: &str, config: &str) -> Report {
    let main = format!(
        "queue_directory = /q\nsmtpd_milters = {milters}\nnon_smtpd_milters = {milters}\nmilter_protocol = 6\n\
         milter_default_action = tempfail\nmilter_command_timeout = 30s\nmilter_content_timeout = 300s\n{rest}\n"
    );
    let (own, main): (Vec<&str>, Vec<&str>) = main.lines().partition(|line| line.contains("/inet/"));
    let setup = Setup::parse(&main.join("\n"), &MASTER.replace("CHROOT", chroot), &own.join("\n"));
    let text = format!("{config}\n[milter]\nlisten = [\"unix:/q/addrauth/milter\"]\n");
    let mut report = Report::default();
    judge(&setup, &Config::parse(&text, Path::new("x")).unwrap(), &mut report);
    report
}

fn says(report: &Report, state: State, words: &str) {
    let found = report.0.iter().any(|check| check.state == state && check.text.contains(words));
    assert!(found, "{words}:\n{}", report.text());
}

#[test]
fn a_setup_as_the_manual_shows_it_is_good_in_the_chroot_and_outside() {
    for chroot in ["y", "n"] {
        for before in ["", "inet:localhost:11332, unix:opendkim/sock "] {
            let report = looked_at(chroot, &format!("{before}{OURS}"), "", "");
            assert!(report.0.iter().all(|check| check.state == State::Good), "{}", report.text());
        }
    }
}

#[test]
fn a_milter_that_nobody_names_is_wrong_and_one_door_without_it_a_warning() {
    let report = looked_at("n", "inet:localhost:11332", "", "");
    says(&report, State::Wrong, "default_action=tempfail, command_timeout=30s");
    says(&report, State::Warning, "sendmail(1)");
    let own = Setup::parse(
        &format!("queue_directory = /q\nmilter_protocol = 6\nsmtpd_milters = {OURS}\nmilter_content_timeout = 1m\n"),
        "smtp inet n - n - - smtpd\nsmtps inet n - n - - smtpd\n",
        "smtps/inet/smtpd_milters =\n",
    );
    let mut report = Report::default();
    let config = Config::parse("[milter]\nlisten = [\"unix:/q/addrauth/milter\"]\n", Path::new("x")).unwrap();
    judge(&own, &config, &mut report);
    says(&report, State::Warning, "this mail is not examined");
    says(&report, State::Good, "mail waits");
    assert!(!report.has(State::Wrong), "{}", report.text());
}

#[test]
fn what_lets_mail_around_us_or_cuts_us_off_is_wrong() {
    for (chroot, milters, rest, config, state, words) in [
        ("n", "{ unix:addrauth/milter, default_action=accept }", "", "", State::Wrong, "comes through unexamined"),
        ("n", "unix:addrauth/milter", "smtp/inet/milter_default_action = accept", "", State::Wrong, "unexamined"),
        ("n", "{ unix:addrauth/milter, default_action=reject }", "", "", State::Warning, "default_action=reject"),
        ("n", "{ unix:addrauth/milter, command_timeout=5s }", "", "", State::Wrong, "command_timeout=5s"),
        ("n", OURS, "", "[verify]\ntimeout = \"20s\"", State::Good, "mail waits"),
        ("n", OURS, "smtp/inet/milter_content_timeout = 10", "", State::Wrong, "content_timeout=10"),
        ("n", "{ unix:addrauth/milter, command_timeout=x }", "", "", State::Unknown, "command_timeout=x"),
        ("y", "unix:/q/addrauth/milter", "", "", State::Wrong, "name the socket unix:addrauth/milter"),
        ("n", &format!("{OURS} unix:opendmarc/sock"), "", "", State::Warning, "before opendmarc"),
        ("n", &format!("{OURS} inet:x:11332"), "", "trusted_authserv_ids = [\"x\"]", State::Wrong, "before rspamd"),
        ("n", &format!("unix:openarc/sock {OURS}"), "", "", State::Warning, "openarc"),
        ("n", OURS, "milter_protocol = 2", "", State::Wrong, "milter_protocol=6"),
    ] {
        says(&looked_at(chroot, milters, rest, config), state, words);
    }
}

#[test]
fn a_socket_outside_of_the_chroot_is_told_with_a_place_inside() {
    let main = "queue_directory = /q\nmilter_protocol = 6\nsmtpd_milters = unix:/run/m\n";
    let setup = Setup::parse(main, "smtp inet n - y - - smtpd\n", "");
    let config = Config::parse("[milter]\nlisten = [\"unix:/run/m\"]\n", Path::new("x")).unwrap();
    let mut report = Report::default();
    judge(&setup, &config, &mut report);
    says(&report, State::Wrong, "unix:/q/addrauth/milter");
}

#[test]
fn a_port_that_opendkim_has_is_wrong() {
    let found = |text: &str| {
        let mut report = Report::default();
        clash(text, &Config::default(), &mut report);
        report.has(State::Wrong)
    };
    assert!(found("Syslog yes\nSocket\t\t\tinet:8891@localhost\n"));
    assert!(!found("#Socket inet:8891@localhost\nSocket local:/run/opendkim.sock\nSocket inet:8892@localhost\n"));
}

#[test]
fn times_are_read_as_postfix_writes_them() {
    let seconds = |text| duration(text).map(|time| time.as_secs());
    assert_eq!(["30s", "5m", "30", "1h", "1d", "1w"].map(seconds), [30, 300, 30, 3_600, 86_400, 604_800].map(Some));
    assert_eq!(["", "s", "-1", "1y", "99999999999999999999"].map(seconds), [None; 5]);
}

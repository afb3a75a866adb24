use std::time::UNIX_EPOCH;

use super::*;
use crate::case::{Envelope, Field, Head, KeyStatus, MailAuth, Recipient};

const OWN: &str = "postmaster@mx.example.com";
const PASS: AuthResult = AuthResult::Pass;

fn address(text: &str) -> Option<Address> {
    Address::parse(text.as_bytes(), true).ok()
}

fn mail(reverse_path: ReversePath, fields: &[(&str, &str)]) -> Mail {
    let field = |(name, value): &(&str, &str)| Field { name: (*name).into(), value: value.as_bytes().to_vec() };
    Mail::new(
        Envelope { reverse_path, recipients: vec![Recipient::new(b"<bob@example.com>")], ..Envelope::default() },
        Head { fields: fields.iter().map(field).collect(), ..Head::default() },
    )
}

fn found(sender: &str, mail_auth: Option<MailAuth>) -> Found {
    Found { mail_auth, ..Found::bare(KeyStatus::Invalid, None, address(sender)) }
}

fn spf() -> MailAuth {
    MailAuth { spf: PASS, spf_of_path: true, ..MailAuth::default() }
}

fn dkim() -> MailAuth {
    MailAuth { dkim: PASS, dkim_aligned: true, ..MailAuth::default() }
}

fn path(text: &str) -> ReversePath {
    ReversePath::Path(address(text))
}

#[test]
fn guard_b_permits_a_report_only_where_every_condition_holds() {
    let alice = "alice@x.example";
    assert!(reportable(&mail(path(alice), &[]), &found(alice, Some(spf())), OWN).is_ok());
    assert!(
        reportable(&mail(path(alice), &[]), &found("other@y.example", Some(spf())), OWN).is_ok(),
        "SPF is of the path"
    );
    assert!(reportable(&mail(path(alice), &[]), &found("carol@x.example", Some(dkim())), OWN).is_ok(), "same domain");
    let refuse =
        |mail: Mail, found: Found, why: Unreported| assert_eq!(reportable(&mail, &found, OWN).unwrap_err(), why);
    let good = || found(alice, Some(spf()));
    refuse(mail(ReversePath::Null, &[]), good(), Unreported::NullPath);
    refuse(mail(ReversePath::Path(None), &[]), good(), Unreported::BadPath);
    for automatic in [
        "owner-list@x.example",
        "list-request@x.example",
        "MAILER-DAEMON@x.example",
        "noreply@x.example",
        "no-reply@x.example",
        "Postmaster@mx.example.com",
    ] {
        refuse(mail(path(automatic), &[]), good(), Unreported::AutomaticPath);
    }
    for field in [
        ("List-Id", " <x.example>"),
        ("List-Unsubscribe", " <mailto:x@x.example>"),
        ("Precedence", " bulk"),
        ("Precedence", " junk"),
        ("Auto-Submitted", " auto-generated"),
    ] {
        refuse(mail(path(alice), &[field]), good(), Unreported::Bulk);
    }
    let unproved = [
        None,
        Some(MailAuth::default()),
        Some(MailAuth { spf_of_path: false, ..spf() }),
        Some(MailAuth { spf: AuthResult::Softfail, ..spf() }),
        Some(MailAuth { spf: AuthResult::Neutral, ..spf() }),
        Some(MailAuth { spf_aligned: true, spf: PASS, ..MailAuth::default() }),
        Some(MailAuth { dkim_aligned: false, ..dkim() }),
        Some(MailAuth { dkim: AuthResult::Fail, ..dkim() }),
        Some(MailAuth { dmarc: PASS, ..MailAuth::default() }),
    ];
    for auth in unproved {
        refuse(mail(path(alice), &[]), found(alice, auth), Unreported::Unvouched);
    }
    // DKIM vouches for the domain of From: a reverse-path elsewhere is somebody else's.
    refuse(mail(path("victim@y.example"), &[]), found(alice, Some(dkim())), Unreported::Unvouched);
    refuse(mail(path("victim@sub.x.example"), &[]), found(alice, Some(dkim())), Unreported::Unvouched);
    refuse(mail(path(alice), &[]), found("nobody", Some(dkim())), Unreported::Unvouched);
}

#[test]
fn one_reservation_per_sender_and_hour_and_no_more_than_may_be_remembered() {
    let (reserved, hour) = (Reserved::default(), Duration::from_secs(3_600));
    let [a, b, c] = ["a", "b", "c"].map(|name| address(&format!("{name}@x.example")).unwrap().mailbox());
    let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
    assert!(reserved.reserve(&a, hour, 2, now));
    assert!(!reserved.reserve(&a, hour, 2, now + hour / 2));
    assert!(!reserved.reserve(&a, hour, 2, now - hour / 2), "nor by a clock that was set back");
    assert!(reserved.reserve(&b, hour, 2, now));
    assert!(!reserved.reserve(&c, hour, 2, now), "no room");
    assert!(reserved.reserve(&a, hour, 2, now + hour));
    assert!(reserved.reserve(&c, hour, 2, now + hour), "b's has lapsed");
    reserved.give_back(&c);
    assert!(reserved.reserve(&c, hour, 2, now + hour));
}

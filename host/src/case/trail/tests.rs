use super::*;
use crate::case::{Envelope, Head};

fn mail(path: &str, fields: &[(&str, &str)]) -> Mail {
    let field = |(name, value): &(&str, &str)| Field { name: (*name).into(), value: format!(" {value}").into_bytes() };
    let reverse_path = match path {
        "" => ReversePath::Null,
        path => ReversePath::Path(Address::parse(path.as_bytes(), true).ok()),
    };
    Mail::new(
        Envelope { reverse_path, ..Envelope::default() },
        Head { fields: fields.iter().map(field).collect(), ..Head::default() },
    )
}

/// The marks by their first letters.
fn marks(trail: Trail) -> String {
    let Trail { mailing_list, forwarded, resent, automatic, bounce } = trail;
    let marks = [(mailing_list, 'l'), (forwarded, 'f'), (resent, 'r'), (automatic, 'a'), (bounce, 'b')];
    marks.into_iter().filter(|(set, _)| *set).map(|(_, letter)| letter).collect()
}

#[test]
fn each_sign_sets_its_mark_and_what_only_looks_like_one_sets_none() {
    for (name, value, want) in [
        ("From", "alice@x.example", ""),
        ("list-id", "<l.x.example>", "l"),
        ("List-Archive", "<http://x.example>", "l"),
        ("List-", "x", "l"),
        ("Listing", "x", ""),
        ("Lis\u{e9}", "x", ""),
        ("Mailing-List", "contact x-help@x.example; run by ezmlm", "l"),
        ("X-Mailing-List", "l@x.example", "l"),
        ("x-beenthere", "l@x.example", "l"),
        ("X-Been-There", "l@x.example", ""),
        ("Precedence", "list", "l"),
        ("Precedence", "LIST (mailman)", "l"),
        ("Precedence", "bulk", "a"),
        ("Precedence", "Junk", "a"),
        ("Precedence", "auto_reply", "a"),
        ("Precedence", "first-class", ""),
        ("Auto-Submitted", "no", ""),
        ("Auto-Submitted", "No (written by hand)", ""),
        ("Auto-Submitted", "auto-replied; owner-email=\"x\"", "a"),
        ("Sender", "owner-l@x.example", "l"),
        ("Sender", "\"L\" <l-bounces+bob=y.example@x.example>", "l"),
        ("Sender", "<l-bounce@x.example>", "l"),
        ("Sender", "alice@x.example", ""),
        ("Sender", "owner-a@x.example, owner-b@x.example", ""),
        ("Delivered-To", "bob@y.example", "f"),
        ("X-Delivered-To", "bob@y.example", ""),
        ("X-Forwarded-To", "bob@y.example", "f"),
        ("X-Forwarded-For", "a@x.example b@y.example", "f"),
        ("ARC-Seal", "i=1; a=rsa-sha256", "f"),
        ("Resent-Date", "Thu, 1 Jan 1970 00:00:00 +0000", "r"),
        ("Resent-From", "bob@y.example", "r"),
        ("Content-Type", "multipart/report; report-type=delivery-status; boundary=x", "ab"),
        ("Content-Type", "Multipart/Report;\n boundary=\"x\";\n Report-Type=\"delivery-status\"", "ab"),
        ("Content-Type", "multipart/report; report-type=disposition-notification", ""),
        ("Content-Type", "multipart/report; x-report-type=delivery-status", ""),
        ("Content-Type", "multipart/mixed; report-type=delivery-status", ""),
        ("Content-Type", "text/plain", ""),
    ] {
        let trail = Trail::of(&mail("alice@x.example", &[(name, value)]), 0);
        assert_eq!(marks(trail), want, "{name}: {value}");
        assert_eq!(trail.is_bulk(), want.contains(['l', 'a']), "{name}: {value}");
    }
    assert_eq!(marks(Trail::of(&mail("", &[]), 0)), "b");
    // The second of two fields counts as well.
    assert_eq!(marks(Trail::of(&mail("a@x.example", &[("Precedence", "x"), ("Precedence", "list")]), 0)), "l");
}

#[test]
fn a_lists_address_is_told_from_a_persons() {
    for (local, list, automatic) in [
        ("owner-l", true, true),
        ("Owner-L", true, true),
        ("l-owner", true, true),
        ("l-bounce", true, true),
        ("my-l-bounces", true, true),
        ("l-bounces+bob=y.example", true, true),
        ("l-errors", true, true),
        ("l-request", true, true),
        ("l-return-17-bob=y.example", true, true),
        ("bounces-17", false, true),
        ("bounce-x", false, true),
        ("MAILER-DAEMON", false, true),
        ("no-reply", false, true),
        ("owner", false, false),
        ("-owner", false, false),
        ("bounces", false, false),
        ("request", false, false),
        ("l-return", false, false),
        ("l-return-", false, false),
        ("-return-1", false, false),
        ("l-requests", false, false),
        ("co-owner.x", false, false),
        ("alice+l-owner", false, false),
        ("alice", false, false),
    ] {
        let address = Address::parse(format!("{local}@x.example").as_bytes(), false).unwrap();
        assert_eq!((is_list(&address), is_automatic(&address)), (list, automatic), "{local}");
        assert_eq!(Trail::of(&mail(&address.to_string(), &[]), 0).mailing_list, list, "{local}");
    }
}

#[test]
fn a_delivered_to_that_our_own_servers_wrote_is_no_forwarding() {
    let fields = [("Delivered-To", "x"), ("Received", "by us"), ("From", "a@x.example"), ("Delivered-To", "y")];
    for (own, forwarded) in [(0, true), (2, true), (3, true), (4, false), (9, false)] {
        assert_eq!(Trail::of(&mail("a@x.example", &fields), own).forwarded, forwarded, "{own}");
    }
    assert!(!Trail::of(&mail("a@x.example", &fields[..3]), 2).forwarded);
}

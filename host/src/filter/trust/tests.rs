use super::*;
use crate::case::trail::Trail;
use crate::case::{Envelope, Field, Head, ReversePath};

/// A message that this client brings, with these fields.
fn mail(client: &str, fields: &[(&str, &str)]) -> Mail {
    let field = |(name, value): &(&str, &str)| Field { name: (*name).into(), value: format!(" {value}").into_bytes() };
    Mail::new(
        Envelope {
            client: Client { ip: client.parse().ok(), ..Client::default() },
            reverse_path: ReversePath::Path(None),
            ..Envelope::default()
        },
        Head { fields: fields.iter().map(field).collect(), ..Head::default() },
    )
}

fn config() -> Config {
    Config {
        trusted_relays: vec!["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()],
        trusted_hops: vec!["198.51.100.7/32".parse().unwrap()],
        ..Config::default()
    }
}

const TO: (&str, &str) = ("Delivered-To", "bob@home.example");
const IN: (&str, &str) = ("Received", "from x (x.example [203.0.113.9]) by mx2.home.example (Postfix) with ESMTP id 1");
const INSIDE: (&str, &str) =
    ("Received", "from mx2 (mx2.home.example [192.0.2.1])\n\tby mx1 (Postfix) with ESMTP id 2");
const LOCAL: (&str, &str) = ("Received", "by mx2.home.example (Postfix) id 3");
const AGENT: (&str, &str) = ("Received", "from localhost (localhost [127.0.0.1]) by mx2.home.example (Postfix) id 4");
const FROM: (&str, &str) = ("From", "alice@x.example");

/// Names and values.
type Fields = &'static [(&'static str, &'static str)];

#[test]
fn only_what_stands_below_the_first_hop_of_our_own_came_in_with_the_message() {
    let stranger = "203.0.113.9";
    let cases: &[(&str, Fields, usize, bool)] = &[
        // A stranger brings it: all that we are told was there before.
        (stranger, &[FROM], 0, false),
        (stranger, &[TO, IN, FROM], 0, true),
        (stranger, &[IN, TO, FROM], 0, true),
        ("", &[TO, FROM], 0, true),
        // A relay of ours brings it: above and among its own fields.
        ("192.0.2.1", &[TO, IN, FROM], 2, false),
        ("::ffff:192.0.2.1", &[TO, IN, FROM], 2, false),
        ("198.51.100.7", &[TO, IN, FROM], 2, false),
        ("192.0.2.1", &[LOCAL, TO, IN, FROM], 3, false),
        ("192.0.2.1", &[AGENT, TO, AGENT, IN, FROM], 4, false),
        ("198.51.100.7", &[INSIDE, TO, IN, FROM], 3, false),
        // Below them.
        ("192.0.2.1", &[IN, TO, FROM], 1, true),
        ("192.0.2.1", &[TO, IN, TO, FROM], 2, true),
        ("198.51.100.7", &[INSIDE, IN, IN, TO, FROM], 2, true),
        ("192.0.2.1", &[IN, FROM, IN], 1, false),
        // It wrote no Received field: nobody knows what is its own.
        ("192.0.2.1", &[TO, FROM], 0, true),
    ];
    for (client, fields, own, forwarded) in cases {
        let mail = mail(client, fields);
        assert_eq!(own_fields(&config(), &mail), *own, "{client} {fields:?}");
        assert_eq!(Trail::of(&mail, own_fields(&config(), &mail)).forwarded, *forwarded, "{client} {fields:?}");
    }
    assert_eq!(own_fields(&Config::default(), &mail("192.0.2.1", &[TO, IN])), 0);
}

#[test]
fn the_client_of_a_received_field_is_what_the_server_saw_and_not_what_was_said() {
    for (value, client) in [
        (" from h (n.example [203.0.113.9]) by mx", Some("203.0.113.9")),
        (" from [192.0.2.1] (unknown [203.0.113.9]) by mx", Some("203.0.113.9")),
        (" from n.example ([203.0.113.9] helo=[192.0.2.1]) by mx", Some("203.0.113.9")),
        (" from unknown (HELO 192.0.2.1) (203.0.113.9) by 0 with SMTP", Some("203.0.113.9")),
        (" from h (h [IPv6:2001:db8::1]) by mx", Some("2001:db8::1")),
        (" from h (h [::ffff:203.0.113.9])\n by mx", Some("203.0.113.9")),
        (" from h by mx ([192.0.2.1]) with SMTP; x", None),
        (" (qmail 17 invoked from network)", None),
        (" (from mail@localhost) by mx (8.11.6) id g7MBY7", None),
        ("", None),
        (" from \u{e9}\u{e9}\u{e9} by mx", None),
    ] {
        assert_eq!(client_of(value.as_bytes()), client.map(|ip| ip.parse().unwrap()), "{value}");
    }
}

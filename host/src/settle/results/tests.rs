//! Forged results, in every dress (INVARIANTS §5, attacks B).

use super::*;
use crate::case::{Decision, Envelope, Finding, Head, Verdict, Why};
use crate::proto::address::Address;
use crate::proto::header::STATUS_FIELD;
use crate::settle::{Permits, settle};

const HOST: &str = "mx.home.example";

fn mail(values: &[&str]) -> Mail {
    let field = |value: &&str| Field { name: RESULTS_FIELD.into(), value: value.as_bytes().to_vec() };
    Mail::new(Envelope::default(), Head { fields: values.iter().map(field).collect(), ..Head::default() })
}

fn rules(first_in_chain: bool) -> Rules {
    Rules { observe: true, hostname: HOST.into(), first_in_chain, ..Rules::default() }
}

/// The edits of the whole reply.
fn edits(mail: &Mail, rules: &Rules) -> Vec<Edit> {
    let finding = Finding::Found(Found::bare(KeyStatus::None, None, None));
    let nothing: [Decision; 0] = [];
    let reply = settle(mail, &finding, &nothing, rules, &Permits { report: Ok(()), refuse: true });
    assert_eq!(reply.verdict, Verdict::Accept);
    reply.edits
}

/// Which of these fields are deleted, as their indices in the order of deletion.
fn deleted(values: &[&str], first_in_chain: bool) -> Vec<u32> {
    let index = |edit| match edit {
        Edit::Delete { name, index } => {
            assert_eq!(name, RESULTS_FIELD);
            Some(index)
        }
        Edit::Insert { .. } | Edit::InsertKey { .. } => None,
    };
    edits(&mail(values), &rules(first_in_chain)).into_iter().filter_map(index).collect()
}

#[test]
fn b2_results_of_our_method_go_whoever_claims_to_have_written_them() {
    for value in [
        " mx.home.example; x-auth-key=pass header.from=a@b.example",
        " somebody.example; X-Auth-KEY=pass",
        " MX.HOME.EXAMPLE; spf=pass; x-auth-key=pass",
        " (a (b) c) mx.home.example (d) 1 (e); (f) x-auth-key (g) / 1 (h) = (i) pass",
        " \"mx.home.example\" 1; x-auth-key=pass",
        "\r\n mx.home.example\r\n\t;\r\n x-auth-key\r\n =\r\n pass",
        " mx.home.example; x-auth-key=pass (open",
        " x-auth-key=pass",
    ] {
        for first_in_chain in [false, true] {
            assert_eq!(deleted(&[value], first_in_chain), [1], "{value:?}");
        }
    }
}

#[test]
fn b2_other_methods_in_our_name_go_only_where_nobody_writes_before_us() {
    for value in [
        " mx.home.example; dkim=pass header.d=b.example",
        " MX.Home.Example.; dkim=pass",
        " (mx) \"mx.home\\.example\" 1; dkim=pass",
        "\r\n mx.home.example\r\n 1;\r\n none",
        " mx.home.example; dkim=pass (open",
        " mx.home.example; action=none dkim",
        " mx.home.example",
    ] {
        assert_eq!(deleted(&[value], false), [] as [u32; 0], "{value:?}");
        assert_eq!(deleted(&[value], true), [1], "{value:?}");
    }
    for value in [" mx.home.example.org; dkim=pass", " b.example; dkim=pass (mx.home.example)", " (mx.home.example", ""]
    {
        assert_eq!(deleted(&[value], true), [] as [u32; 0], "{value:?}");
    }
}

#[test]
fn b3_ten_of_them_go_from_the_last_to_the_first_and_the_honest_ones_stay() {
    let values: Vec<&str> =
        (0..20).map(|n| if n % 2 == 0 { " b.example; spf=pass" } else { " x.example; x-auth-key=pass" }).collect();
    assert_eq!(deleted(&values, false), [20, 18, 16, 14, 12, 10, 8, 6, 4, 2]);
}

#[test]
fn b3_beyond_the_limits_of_a_header_where_nobody_read_them_they_go() {
    let over = mail(&[" b.example; spf=pass", "", ""]).altered(|_, head| head.truncated = true);
    let delete = |index| Edit::Delete { name: RESULTS_FIELD.into(), index };
    assert_eq!(edits(&over, &rules(false))[..2], [delete(3), delete(2)]);
}

#[test]
fn without_a_host_name_no_field_is_taken_for_ours() {
    let nameless = Rules { hostname: String::new(), ..rules(true) };
    assert_eq!(edits(&mail(&[" \"\"; spf=pass"]), &nameless).len(), 1, "the status field alone");
}

#[test]
fn ours_is_on_top_after_every_deletion_and_only_if_wished() {
    let wished = Rules { authentication_results: true, ..rules(false) };
    let forged = mail(&[" mx.home.example; x-auth-key=pass"]);
    let all = edits(&forged, &wished);
    let [Edit::Delete { .. }, Edit::Insert { name: status, .. }, Edit::Insert { index: 0, name, value }] =
        all.as_slice()
    else {
        panic!("{all:?}")
    };
    assert_eq!((status.as_str(), name.as_str()), (STATUS_FIELD, RESULTS_FIELD));
    assert_eq!(value, " mx.home.example; x-auth-key=none");
    assert_eq!(edits(&forged, &rules(false)).len(), 2);
}

#[test]
fn each_of_the_six_results_has_its_word_and_the_address_its_quotes() {
    let words: Vec<&str> = KeyStatus::ALL.into_iter().map(word).collect();
    assert_eq!(words, ["pass", "fail", "none", "none", "temperror", "policy"]);
    for (sender, written) in [
        ("alice@example.com", "alice@example.com"),
        ("a.b+c=d/e@example.com", "a.b+c=d/e@example.com"),
        ("\"a b;c\"@example.com", "\"\\\"a b;c\\\"@example.com\""),
        ("ält@example.com", "\"ält@example.com\""),
    ] {
        let address = Address::parse(sender.as_bytes(), true).unwrap();
        let found = Found::bare(KeyStatus::Invalid, Some(Why::Wrong), Some(address.clone()));
        let value = value(&found, HOST);
        assert_eq!(value, format!("mx.home.example; x-auth-key=fail header.from={written}"));
        let read = Results::parse(value.as_bytes()).unwrap();
        assert_eq!(read.outcomes[0].values("header", "from").collect::<Vec<_>>(), [address.to_string()]);
    }
}

//! Who may not have alice's stamp, and who brings a key of his own.

use super::*;

#[test]
fn mallory_with_alices_from_is_not_stamped_and_a_key_she_found_does_not_help_her() {
    let Some(estate) = apart(Settings::default()) else { return };
    let key = enlist(&estate, ALICE);
    let hers = enlist(&estate, MALLORY);
    submit(&estate, MALLORY, &[BOB], &message(ALICE, "forged", ""));
    assert_status(&estate.far.delivered(BOB, "forged"), "NOKEY");
    let found = format!("X-Auth-Key: {key}\r\n");
    submit(&estate, MALLORY, &[BOB], &message(ALICE, "with-a-key", &found));
    assert_status(&estate.far.delivered(BOB, "with-a-key"), "NOKEY");
    submit(&estate, MALLORY, &[CAROL], &message(ALICE, "to-carol", ""));
    assert_status(&estate.mx.delivered(CAROL, "to-carol"), "NOKEY");
    submit(&estate, MALLORY, &[BOB], &message(MALLORY, "as-herself", ""));
    assert_status(&estate.far.delivered(BOB, "as-herself"), "VALIDKEY");
    assert_nowhere(&estate, &[&key, &hers]);
}

#[test]
fn a_forged_mail_with_a_new_key_teaches_nothing_and_switches_nothing_off() {
    let Some(estate) = apart(Settings::default()) else { return };
    let key = enlist(&estate, ALICE);
    let forged = format!("X-New-Auth-Key: {}\r\n", "f".repeat(64));
    let text = message("postmaster@one.test", "your-new-key", &forged).replace("To: somebody", &format!("To: {ALICE}"));
    assert_eq!(estate.to_mx("", &[ALICE], &text).code, 250);
    let got = estate.mx.delivered(ALICE, "your-new-key");
    assert_eq!(fields(&got, "X-New-Auth-Key"), [""; 0], "{got}");
    assert_eq!(estate.key_of(ALICE).as_ref(), Some(&key));
    submit(&estate, ALICE, &[BOB], &message(ALICE, "still-stamped", ""));
    assert_status(&estate.far.delivered(BOB, "still-stamped"), "VALIDKEY");
    assert_nowhere(&estate, &[&key]);
}

#[test]
fn a_client_that_keeps_its_own_key_gets_it_by_mail_and_its_stamp_is_left_as_it_is() {
    let Some(estate) = apart(Settings { learn: "deliver_key_mail = true", ..Settings::default() }) else { return };
    let first = enlist(&estate, ALICE);
    let mail = estate.wait_for("the mail with the key", || estate.mx.mailbox(ALICE).pop());
    assert_eq!(fields(&mail, "X-New-Auth-Key"), [&first]);
    assert!(mail.split("\n\n").nth(1).is_some_and(|body| !body.contains(&first)), "the key stands in the body");
    estate.at(60);
    let second = rotate(&estate, ALICE);
    // The older one still lives: so it is the client's own that bob's server asked about.
    let own = format!("X-Auth-Key: {first}\r\nX-Auth-Agent: Client 1.0\r\n");
    submit(&estate, ALICE, &[SINK], &message(ALICE, "own", &own));
    let sent = estate.far.delivered(SINK, "own");
    assert_eq!(fields(&sent, "X-Auth-Key"), [&first]);
    assert_eq!(fields(&sent, "X-Auth-Agent"), ["Client 1.0"]);
    submit(&estate, ALICE, &[BOB], &message(ALICE, "own-to-bob", &own));
    assert_status(&estate.far.delivered(BOB, "own-to-bob"), "VALIDKEY");
    estate.far.empty(SINK);
    estate.mx.empty(ALICE);
    assert_nowhere(&estate, &[&first, &second]);
}

#[test]
fn whoever_is_forged_at_two_test_learns_it_from_the_report_of_the_as() {
    let Some(estate) = apart(Settings::default()) else { return };
    let key = enlist(&estate, ALICE);
    let wrong = format!("X-Auth-Key: {}\r\n", "w".repeat(64));
    assert_eq!(estate.to_far("zoe@else.test", &[BOB], &message(ALICE, "forged", &wrong)).code, 250);
    assert_status(&estate.far.delivered(BOB, "forged"), "INVALIDKEY");
    // The counts are written down once a minute.
    estate.at(120);
    let said = estate.wait_for("alice in the report", || {
        let out = estate.addrauth(Role::Authority, &["report", "one.test"]);
        let said = String::from_utf8(out.stdout).unwrap();
        said.contains(ALICE).then_some(said)
    });
    assert!(said.contains("seen by mx.two.test at 127.0.0."), "{said}");
    assert_nowhere(&estate, &[&key]);
}

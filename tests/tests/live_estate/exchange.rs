//! The whole way of a key: made, mailed, learned, stamped, verified; once over three hosts and once over one.

use addrauth_lab::mailbox::Mailbox;
use addrauth_tests::estate::DAVE;

use super::*;

/// alice's first key reaches the keyring and nothing else; her mail to bob is stamped and found valid.
fn a_key_goes_all_the_way(estate: &Estate) -> String {
    let key = enlist(estate, ALICE);
    // Phase I: her MX learns the key from the mail, and drops it after a row in its journal.
    estate.mx.logged("milter-discard: END-OF-MESSAGE");
    let row = journal(estate, Role::Mx, ALICE);
    assert!(row.contains("learn"), "{row}");
    submit(estate, ALICE, &[BOB], &message(ALICE, "to-bob", ""));
    let got = estate.far.delivered(BOB, "to-bob");
    let status = assert_status(&got, "VALIDKEY");
    assert!(status.contains("address=alice@one.test"), "{status}");
    assert_eq!(estate.mx.mailbox(ALICE), [""; 0], "the mail that brought the key is in her mailbox");
    key
}

/// What went over the wire: one key, the newest, above what alice wrote, and the name of who stamped it.
fn the_stamp_is_on_top(estate: &Estate, key: &str) {
    submit(estate, ALICE, &[SINK], &message(ALICE, "to-sink", "X-First: of hers\r\n"));
    let sent = estate.far.delivered(SINK, "to-sink");
    assert_eq!(fields(&sent, "X-Auth-Key"), [key], "{}", head(&sent).replace(key, "KEY"));
    let agent = fields(&sent, "X-Auth-Agent");
    assert!(agent.len() == 1 && agent[0].starts_with("SMTP - postfix 3."), "{agent:?}");
    let (stamp, hers) = (sent.find("X-Auth-Key: ").unwrap(), sent.find("X-First: ").unwrap());
    assert!(stamp < hers, "the stamp is below the client's own fields");
    assert!(fields(&sent, "X-Auth-Key-Status").is_empty());
    // Where a key does lie, the search for keys finds it: here, and nowhere else.
    estate.submission().until_it_is_empty();
    estate.far.until_it_is_empty();
    let places = estate.places_of(key);
    assert!(places.len() == 1 && places[0].to_string_lossy().contains("raw.test/sink"), "{places:?}");
    estate.far.empty(SINK);
}

/// A colleague on the same server gets no key, and a true status.
fn a_colleague_gets_no_key(estate: &Estate) {
    submit(estate, ALICE, &[CAROL], &message(ALICE, "to-carol", ""));
    assert_status(&estate.mx.delivered(CAROL, "to-carol"), "VALIDKEY");
}

#[test]
fn a_key_is_made_mailed_learned_stamped_and_verified_over_three_hosts_and_postgresql() {
    let Some(estate) = apart(Settings::default()) else { return };
    let key = a_key_goes_all_the_way(&estate);
    the_stamp_is_on_top(&estate, &key);
    a_colleague_gets_no_key(&estate);
    assert_nowhere(&estate, &[&key]);
    the_mx_cannot_open_what_it_wrote(&estate);
}

/// Its host has no half that opens, and its role in the database may not read what is sealed.
fn the_mx_cannot_open_what_it_wrote(estate: &Estate) {
    let state = |role: Role| estate.config_file(role).with_extension("");
    assert!(state(Role::Submission).join("keyring.key").exists());
    assert!(!state(Role::Mx).join("keyring.key").exists() && !state(Role::Authority).join("keyring.key").exists());
    let sealed = "SELECT sealed FROM addrauth.keyring";
    assert!(estate.sql(Role::Submission, sealed).is_ok_and(|rows| !rows.is_empty()));
    let refused = estate.sql(Role::Mx, sealed).unwrap_err();
    assert!(refused.contains("permission denied"), "{refused}");
    assert!(estate.sql(Role::Submission, "DELETE FROM addrauth.keyring").is_err(), "who stamps may not write");
    assert!(estate.sql(Role::Mx, "SELECT * FROM addrauth.keys").is_err(), "who learns may not read the AS's table");
    let said = estate.says(Role::Submission, &["keyring", "list"]);
    assert!(said.contains(ALICE), "{said}");
}

#[test]
fn a_key_is_made_mailed_learned_stamped_and_verified_on_one_host_with_sqlite() {
    let Some(estate) = Estate::start(Settings::default()) else { return };
    let key = a_key_goes_all_the_way(&estate);
    the_stamp_is_on_top(&estate, &key);
    a_colleague_gets_no_key(&estate);
    assert_nowhere(&estate, &[&key]);
    let said = estate.says(Role::Mx, &["keyring", "list"]);
    assert!(said.contains(ALICE) && !said.contains(&key), "{said}");
}

#[test]
fn where_one_administrator_runs_both_the_as_fills_the_keyring_and_no_key_is_mailed() {
    let Some(estate) = apart(Settings { authority: "deliver = \"keyring\"", ..Settings::default() }) else { return };
    let key = enlist(&estate, ALICE);
    submit(&estate, ALICE, &[BOB], &message(ALICE, "to-bob", ""));
    assert_status(&estate.far.delivered(BOB, "to-bob"), "VALIDKEY");
    assert!(!estate.mx.log().contains("milter-discard"), "a mail with the key came by");
    assert_nowhere(&estate, &[&key]);
}

#[test]
fn one_message_to_a_colleague_and_to_bob_is_valid_for_both_and_leaves_no_key_with_either() {
    let Some(estate) = apart(Settings::default()) else { return };
    let key = enlist(&estate, ALICE);
    submit(&estate, ALICE, &[CAROL, BOB], &message(ALICE, "to-both", ""));
    assert_status(&estate.far.delivered(BOB, "to-both"), "VALIDKEY");
    assert_status(&estate.mx.delivered(CAROL, "to-both"), "VALIDKEY");
    assert_nowhere(&estate, &[&key]);
}

/// One Postfix stamps and delivers: one line of its configuration takes the stamp out of what stays.
#[test]
fn on_one_host_a_header_check_of_lmtp_keeps_the_stamp_from_a_colleague_among_others() {
    let dave = Mailbox::start().unwrap();
    let Some(estate) = Estate::start(Settings { lmtp: Some(dave.address().port()), ..Settings::default() }) else {
        return;
    };
    let key = enlist(&estate, ALICE);
    submit(&estate, ALICE, &[DAVE, BOB], &message(ALICE, "to-both", ""));
    assert_status(&estate.far.delivered(BOB, "to-both"), "VALIDKEY");
    let got = estate.wait_for("dave's mail", || dave.taken().pop());
    assert_eq!((got.field("Subject").as_deref(), got.field("X-Auth-Key")), (Some("to-both"), None));
    assert!(!got.text.contains(&key));
    assert_nowhere(&estate, &[&key]);
}

#[test]
fn a_forwarder_neither_stamps_nor_takes_the_key_and_the_last_server_finds_it_valid() {
    let Some(estate) = apart(Settings::default()) else { return };
    let key = enlist(&estate, ALICE);
    submit(&estate, ALICE, &[FRIEND], &message(ALICE, "by-way-of-friend", ""));
    let got = estate.far.delivered(BOB, "by-way-of-friend");
    assert_status(&got, "VALIDKEY");
    assert!(fields(&got, "Received").iter().any(|line| line.contains("[127.0.0.2]")), "not forwarded:\n{got}");
    // What comes from elsewhere and is forwarded gets no stamp, whoever From says it is.
    assert_eq!(estate.to_mx("zoe@else.test", &[FRIEND], &message(ALICE, "forged", "")).code, 250);
    assert_status(&estate.far.delivered(BOB, "forged"), "NOKEY");
    assert_nowhere(&estate, &[&key]);
}

//! What time does to keys: rotation, revocation, mail that waits for days, and a key that is about to end.

use addrauth_tests::estate::DAY;

use super::*;

const HOUR: i64 = 3_600;

/// A message of alice's that a server took days ago, with the key that she had then, arriving now.
fn arrives(estate: &Estate, key: &str, subject: &str, word: &str) -> String {
    let text = message(ALICE, subject, &format!("X-Auth-Key: {key}\r\n"));
    let reply = estate.to_far(ALICE, &[BOB], &text);
    assert_eq!(reply.code, 250, "{reply:?}");
    assert_status(&estate.far.delivered(BOB, subject), word)
}

#[test]
fn after_a_rotation_the_old_key_is_good_until_it_ends_and_then_bob_hears_that_it_expired() {
    let Some(estate) = apart(Settings { authority: "agi = \"60d\"\navt = \"2d\"", ..Settings::default() }) else {
        return;
    };
    let first = enlist(&estate, ALICE);
    estate.at(DAY);
    let second = rotate(&estate, ALICE);
    arrives(&estate, &first, "old-and-living", "VALIDKEY");
    submit(&estate, ALICE, &[SINK], &message(ALICE, "stamped", ""));
    assert_eq!(fields(&estate.far.delivered(SINK, "stamped"), "X-Auth-Key"), [&second]);
    estate.at(3 * DAY - HOUR);
    arrives(&estate, &first, "old-and-still-living", "VALIDKEY");
    estate.at(3 * DAY + HOUR);
    let status = arrives(&estate, &first, "old-and-ended", "INVALIDKEY");
    assert!(status.contains("reason=expired"), "{status}");
    arrives(&estate, &second, "new", "VALIDKEY");
    submit(&estate, ALICE, &[BOB], &message(ALICE, "stamped-later", ""));
    assert_status(&estate.far.delivered(BOB, "stamped-later"), "VALIDKEY");
    estate.far.empty(SINK);
    assert_nowhere(&estate, &[&first, &second]);
}

/// A key that ends before the present one is not learned, so the present one must go on being good.
#[test]
fn under_a_shorter_interval_what_is_stamped_stays_valid() {
    let Some(estate) = apart(Settings { authority: "agi = \"60d\"\navt = \"2d\"", ..Settings::default() }) else {
        return;
    };
    let key = enlist(&estate, ALICE);
    estate.says(Role::Authority, &["address", "set", ALICE, "--agi", "5d"]);
    estate.at(DAY);
    estate.says(Role::Authority, &["key", "rotate", ALICE]);
    estate.wait_for("the second key is sent", || {
        let table = estate.says(Role::Authority, &["key", "show", ALICE]);
        (table.lines().filter(|line| line.trim_end().ends_with("sent")).count() == 2).then_some(())
    });
    estate.mx.until_it_is_empty();
    for (day, subject) in [(2, "soon"), (4, "after-two-days"), (6, "after-its-end")] {
        estate.at(day * DAY);
        submit(&estate, ALICE, &[BOB], &message(ALICE, subject, ""));
        assert_status(&estate.far.delivered(BOB, subject), "VALIDKEY");
    }
    assert_nowhere(&estate, &[&key]);
}

#[test]
fn a_revoked_key_is_invalid_at_the_as_at_once_and_elsewhere_within_the_hour_that_answers_are_kept() {
    let Some(estate) = apart(Settings::default()) else { return };
    let key = enlist(&estate, ALICE);
    arrives(&estate, &key, "before", "VALIDKEY");
    estate.says(Role::Authority, &["key", "revoke", ALICE]);
    assert_eq!(estate.asked(ALICE, &key), Some(1), "the AS still says VALIDKEY");
    estate.at(HOUR + 60);
    arrives(&estate, &key, "after", "INVALIDKEY");
    let next =
        estate.wait_for("the key that the AS makes by itself", || estate.key_of(ALICE).filter(|next| *next != key));
    submit(&estate, ALICE, &[BOB], &message(ALICE, "with-the-next", ""));
    assert_status(&estate.far.delivered(BOB, "with-the-next"), "VALIDKEY");
    assert_nowhere(&estate, &[&key, &next]);
}

#[test]
fn a_message_that_waited_three_days_in_the_queue_is_valid_when_it_arrives() {
    let Some(estate) = apart(Settings::default()) else { return };
    let key = enlist(&estate, ALICE);
    estate.far.stop();
    submit(&estate, ALICE, &[BOB], &message(ALICE, "held", ""));
    estate.submission().logged("status=deferred");
    assert_eq!(estate.submission().queue().len(), 1);
    estate.at(3 * DAY);
    estate.far.start();
    estate.submission().flush();
    assert_status(&estate.far.delivered(BOB, "held"), "VALIDKEY");
    assert_nowhere(&estate, &[&key]);
}

#[test]
fn a_day_before_the_newest_key_ends_the_server_that_stamps_with_it_says_so_and_after_that_it_stamps_no_more() {
    let settings = Settings { authority: "agi = \"5d\"\navt = \"5d\"", ..Settings::default() };
    let Some(mut estate) = apart(settings) else { return };
    let key = enlist(&estate, ALICE);
    // Nobody makes another one.
    estate.end(Role::Authority);
    estate.at(9 * DAY + HOUR);
    estate.wait_for("a warning in the log of the submission server", || {
        let log = estate.daemon(Role::Submission).log();
        let warned = log.lines().any(|line| line.contains("WARN") && line.contains(ALICE));
        warned.then_some(())
    });
    submit(&estate, ALICE, &[SINK], &message(ALICE, "last-day", ""));
    assert_eq!(fields(&estate.far.delivered(SINK, "last-day"), "X-Auth-Key"), [&key]);
    estate.at(10 * DAY + HOUR);
    submit(&estate, ALICE, &[SINK], &message(ALICE, "too-late", ""));
    assert_eq!(fields(&estate.far.delivered(SINK, "too-late"), "X-Auth-Key"), [""; 0]);
    estate.far.empty(SINK);
    assert_nowhere(&estate, &[&key]);
}

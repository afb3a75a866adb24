//! Three hosts that share no database: the submission server fetches keys from the AS over TLS.

use addrauth_tests::certificates::Root;
use addrauth_tests::estate::Certified;

use super::*;

#[test]
fn the_submission_server_fetches_keys_over_tls_and_goes_on_while_the_as_is_away() {
    let root = Root::new();
    let tls = root.issue("localhost");
    let certified = Certified { certificate: tls.certificate, key: tls.key, roots: root.file() };
    let settings = Settings { shared: Shared::Stream(certified), ..Settings::default() };
    let Some(mut estate) = Estate::start(settings) else { return };
    let key = enlist(&estate, ALICE);
    submit(&estate, ALICE, &[BOB], &message(ALICE, "to-bob", ""));
    assert_status(&estate.far.delivered(BOB, "to-bob"), "VALIDKEY");
    estate.end(Role::Authority);
    submit(&estate, ALICE, &[SINK], &message(ALICE, "meanwhile", ""));
    assert_eq!(fields(&estate.far.delivered(SINK, "meanwhile"), "X-Auth-Key"), [&key]);
    // Whose key was never fetched waits until the AS is there again: a mail that nobody could stamp is not sent.
    let late = estate.submit(CAROL, &[BOB], &message(CAROL, "late", ""));
    assert_eq!(late.code, 451, "{late:?}");
    estate.run(Role::Authority);
    estate.at(600);
    let hers = enlist(&estate, CAROL);
    submit(&estate, CAROL, &[BOB], &message(CAROL, "late", ""));
    assert_status(&estate.far.delivered(BOB, "late"), "VALIDKEY");
    assert!(!estate.mx.log().contains("milter-discard"), "a mail with the key came by");
    estate.far.empty(SINK);
    assert_nowhere(&estate, &[&key, &hers]);
}

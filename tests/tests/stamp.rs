//! Mail that our logins send: the real filter behind its milter socket, and what goes out of it.

use std::time::{Duration, SystemTime};

use addrauth::case::KeyStatus;
use addrauth::config::{Config, Where};
use addrauth::filter::Filter;
use addrauth::policy::Trial;
use addrauth::proto::address::Address;
use addrauth::proto::header::{self, Bounds, Edit};
use addrauth::proto::key::AuthKey;
use addrauth::store::{RowResult, RowVerdict};
use addrauth_lab::mta::{Envelope, Fate, Outcome};
use addrauth_tests::keys::House;
use addrauth_tests::world::{GOOD, JUNK, key};
use proptest::prelude::*;

const ALICE: &str = "alice@home.example";
const CAROL: &str = "carol@elsewhere.example";
const UNBOUND: Bounds = Bounds { fields: usize::MAX, octets: usize::MAX };

fn stamping(config: &mut Config) {
    config.keyring.stamp = Where::Daemons(vec!["ORIGINATING".into()]);
}

/// A house that stamps, and whose keyring has a key of alice.
async fn house() -> House {
    let house = House::build(stamping).await;
    house.keep(ALICE, &key(GOOD), SystemTime::now() + Duration::from_secs(86_400)).await;
    house
}

/// What a login sends to somebody elsewhere.
fn by(login: &str) -> Envelope {
    Envelope {
        login: Some(login.into()),
        daemon: "ORIGINATING".into(),
        ..Envelope::inbound(&format!("{login}+bounce"), CAROL).with_path(login)
    }
}

trait WithPath {
    fn with_path(self, path: &str) -> Self;
}

impl WithPath for Envelope {
    fn with_path(self, path: &str) -> Envelope {
        Envelope { reverse_path: path.into(), ..self }
    }
}

fn letter(from: &str) -> String {
    format!("From: {from}\nTo: {CAROL}\nSubject: x\n\nbody\n")
}

fn text(outcome: &Outcome) -> String {
    assert_eq!(outcome.fate, Fate::Delivered);
    String::from_utf8(outcome.message.clone()).unwrap()
}

/// The copies that wait to be sent, oldest first: for whom, and the text.
fn copies(house: &House) -> Vec<(String, String)> {
    let text = |octets| String::from_utf8(octets).unwrap().replace("\r\n", "\n");
    let file = tables(house, "filter.db");
    let mut rows = file
        .prepare(
            "SELECT recipient, message FROM held JOIN quarantine ON quarantine = quarantine.id
             WHERE outcome = 'copied' ORDER BY quarantine",
        )
        .unwrap();
    let rows = rows.query_map((), |row| Ok((row.get(0)?, text(row.get(1)?)))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// The tables of this name, opened beside the filter.
fn tables(house: &House, name: &str) -> rusqlite::Connection {
    rusqlite::Connection::open(house.config.state_dir.0.join(name)).unwrap()
}

/// Asserts that the message went out exactly as it came.
fn expect_untouched(outcome: &Outcome, message: &str) {
    assert_eq!((&outcome.edits, text(outcome).as_str()), (&Vec::new(), message));
}

const STAMP: &str = "X-Auth-Key: Vb3kQ9w2Zr7tYp0sXn4mLc8dHf1gJa6eUi5oRk2yTq9wEz3xBv7nMs4pDl8hGj0K\n\
                     X-Auth-Agent: SMTP - postfix 3.7\n";

#[tokio::test]
async fn a_logins_own_mail_to_elsewhere_gets_its_newest_key_on_top_and_nothing_else_is_changed() {
    let house = house().await;
    for from in [ALICE, "Alice <ALICE@Home.Example>", "alice+shop@home.example"] {
        let outcome = house.send(&by(ALICE), &letter(from)).await;
        assert_eq!(text(&outcome), format!("{STAMP}{}", letter(from)));
    }
    for path in ["", "alice+carol=elsewhere.example@home.example", "prvs=0123456789=alice@home.example"] {
        let outcome = house.send(&by(ALICE).with_path(path), &letter(ALICE)).await;
        assert!(text(&outcome).starts_with(STAMP), "{path}");
    }
    assert!(house.journal().await.is_empty(), "what goes out as it should has no row");
}

#[tokio::test]
async fn a_colleague_gets_a_copy_of_his_own_without_the_key_that_goes_elsewhere() {
    let house = house().await;
    let mixed = Envelope { recipients: vec!["bob@home.example".into(), CAROL.into()], ..by(ALICE) };
    let outcome = house.send(&mixed, &letter(ALICE)).await;
    assert_eq!((text(&outcome), &outcome.recipients), (format!("{STAMP}{}", letter(ALICE)), &vec![CAROL.to_owned()]));
    let own = format!("X-Auth-Key: {JUNK}\n{}", letter(ALICE));
    let outcome = house.send(&mixed, &own).await;
    assert_eq!((text(&outcome), &outcome.recipients), (own, &vec![CAROL.to_owned()]), "the client's own key");
    let valid = "X-Auth-Key-Status: VALIDKEY; address=alice@home.example; by=mx.home.example\n";
    let copy = ("bob@home.example".to_owned(), format!("{valid}{}", letter(ALICE)));
    assert_eq!(copies(&house), [copy.clone(), copy]);
    let row = house.journal().await.remove(0).entry;
    assert_eq!((&row.result, &row.verdict), (&RowResult::Judged(KeyStatus::Valid), &RowVerdict::Accept));
}

#[tokio::test]
async fn a_clients_own_key_and_agent_stay_and_no_second_key_is_put_there() {
    let house = house().await;
    let own = format!("X-Auth-Key: {JUNK}\nX-Auth-Agent: Client - Mozilla Thunderbird 1.0\n{}", letter(ALICE));
    expect_untouched(&house.send(&by(ALICE), &own).await, &own);
    let agent = format!("X-Auth-Agent: Client - Mozilla Thunderbird 1.0\n{}", letter(ALICE));
    assert_eq!(text(&house.send(&by(ALICE), &agent).await), format!("{STAMP}{agent}"));
    let two = format!("X-Auth-Key: {JUNK}\nx-auth-key: {JUNK}\nX-Auth-Key : bad\n{}", letter(ALICE));
    assert_eq!(text(&house.send(&by(ALICE), &two).await), format!("{STAMP}{}", letter(ALICE)));
}

#[tokio::test]
async fn i_mallory_who_writes_as_alice_is_not_stamped_outward_and_not_valid_inside() {
    let house = house().await;
    let alices = house.issue(ALICE).await;
    let outcome = house.send(&by("mallory@home.example"), &letter(ALICE)).await;
    expect_untouched(&outcome, &letter(ALICE));
    // A key of alice's that she got hold of does not go out with it either.
    let stolen = format!("X-Auth-Key: {}\nX-AUTH-KEY : {JUNK}\n{}", alices.expose(), letter(ALICE));
    let outcome = house.send(&by("mallory@home.example"), &stolen).await;
    assert_eq!(text(&outcome), letter(ALICE));
    let row = house.journal().await.remove(0);
    assert_eq!(row.entry.sender.as_deref(), Some(ALICE));
    assert!(row.entry.note.contains("the login does not own the address in From"), "{}", row.entry.note);

    let inside = Envelope { recipients: vec!["bob@home.example".into()], ..by("mallory@home.example") };
    let outcome = house.send(&inside, &letter(ALICE)).await;
    assert!(text(&outcome).starts_with("X-Auth-Key-Status: NOKEY; address=alice@home.example;"));
}

#[tokio::test]
async fn i_mallory_who_adds_a_recipient_elsewhere_cannot_tell_a_colleague_that_she_is_alice() {
    let forged = format!(
        "X-Auth-Key-Status: VALIDKEY; address={ALICE}; by=mx.home.example\n\
         Authentication-Results: mx.home.example; x-auth-key=pass header.from={ALICE}\n"
    );
    let message = format!("{forged}{}", letter(ALICE));
    let (stamps, bare) = (house().await, House::build(|_| ()).await);
    for house in [&stamps, &bare] {
        let sent = async |login: &str, to: &[&str], message: &str| {
            let recipients = to.iter().map(|&to| to.to_owned()).collect();
            text(&house.send(&Envelope { recipients, ..by(login) }, message).await)
        };
        let both = ["bob@home.example", CAROL];
        // What goes out has no word of ours, whatever it brought; the colleague is told by his own copy.
        assert_eq!(sent("mallory@home.example", &both, &message).await, letter(ALICE));
        assert_eq!(sent("mallory@home.example", &[CAROL], &message).await, letter(ALICE));
        let alices = sent(ALICE, &both, &message).await;
        assert!(alices.ends_with(&letter(ALICE)) && !alices.contains("X-Auth-Key-Status"), "{alices}");
        let several = format!("From: eve@home.example\n{message}");
        assert!(!sent("mallory@home.example", &both, &several).await.contains("X-Auth-Key-Status"));
        // Somebody's key that goes on with mail that is passed on stays for those elsewhere.
        let resent = format!("Resent-From: {ALICE}\nX-Auth-Key: {JUNK}\n{forged}From: {CAROL}\nTo: {ALICE}\n\nbody\n");
        assert_eq!(sent(ALICE, &both, &resent).await, resent.replace(&forged, ""));
        let told = |word: &str, address: &str, rest: String| {
            let word = format!("X-Auth-Key-Status: {word}; address={address}; by=mx.home.example\n");
            ("bob@home.example".to_owned(), word + &rest)
        };
        let unkeyed = resent.replace(&forged, "").replace(&format!("X-Auth-Key: {JUNK}\n"), "");
        // The shipped default marks what names no single sender.
        let unusable = format!(
            "X-Auth-Key-Status: UNUSABLE; by=mx.home.example; reason=several-from\nX-Spam-Flag: YES\n{}",
            several.replace(&forged, "")
        );
        let due = [
            told("NOKEY", ALICE, letter(ALICE)),
            told("VALIDKEY", ALICE, letter(ALICE)),
            ("bob@home.example".to_owned(), unusable),
            told("NOSERVER", CAROL, unkeyed),
        ];
        assert_eq!(copies(house), due);
    }
}

#[tokio::test]
async fn mail_that_stays_inside_is_valid_by_login_and_no_key_is_put_there() {
    let house = house().await;
    let inside = Envelope { recipients: vec!["bob@home.example".into(), "dave@home.example".into()], ..by(ALICE) };
    for (login, from) in [(ALICE, ALICE), ("ALICE@home.example", "alice+x@home.example")] {
        let outcome = house.send(&Envelope { login: Some(login.into()), ..inside.clone() }, &letter(from)).await;
        let text = text(&outcome);
        assert!(text.starts_with("X-Auth-Key-Status: VALIDKEY;") && !text.contains("X-Auth-Key:"), "{text}");
    }
}

#[tokio::test]
async fn forwarded_resent_redistributed_and_bounced_mail_goes_out_as_it_came() {
    let house = house().await;
    let sender = format!("Sender: {ALICE}\n");
    let keyed = format!("X-Auth-Key: {JUNK}\n{sender}From: carol@elsewhere.example\nTo: a@b.example\n\nbody\n");
    for sign in [
        "Delivered-To: alice@home.example\n",
        "X-Forwarded-To: a@b.example\n",
        "Auto-Submitted: auto-forwarded\n",
        "List-Id: <l.home.example>\n",
        "Precedence: bulk\n",
        "Resent-From: alice@home.example\nResent-To: a@b.example\n",
    ] {
        for message in [
            format!("{sign}{keyed}"),
            format!("{sign}{}", letter(ALICE)),
            format!("{}{sign}\n\nbody\n", "From: alice@home.example\n"),
        ] {
            let message = message.replace("\n\n\n", "\n\n");
            expect_untouched(&house.send(&by(ALICE), &message).await, &message);
        }
    }
    // Who passes somebody's mail on under no name of his own cannot send anybody's key out like that.
    let carols = format!("List-Id: <l.home.example>\n{}", keyed.replace(&sender, ""));
    let outcome = house.send(&by(ALICE), &carols).await;
    assert_eq!(text(&outcome), carols.replace(&format!("X-Auth-Key: {JUNK}\n"), ""));
    assert!(house.journal().await[0].entry.note.contains("does not own the address in From"));
    let bounce = "From: alice@home.example\nContent-Type: multipart/report;\n report-type=delivery-status\n\nbody\n";
    expect_untouched(&house.send(&by(ALICE).with_path(""), bounce).await, bounce);
    let several = format!("From: {ALICE}\n{}", letter(ALICE));
    expect_untouched(&house.send(&by(ALICE), &several).await, &several);
    // Without a login it is relayed mail.
    let relayed = Envelope { login: None, ..by(ALICE) };
    expect_untouched(&house.send(&relayed, &keyed).await, &keyed);
}

#[tokio::test]
async fn a_key_does_not_go_where_a_refusal_would_carry_it_to_another() {
    let house = house().await;
    for path in ["mallory@home.example", "alice@elsewhere.example", "prvs=0123456789=bob@home.example"] {
        expect_untouched(&house.send(&by(ALICE).with_path(path), &letter(ALICE)).await, &letter(ALICE));
    }
}

#[tokio::test]
async fn only_mail_that_the_named_daemons_take_is_stamped() {
    let house = house().await;
    let elsewhere = Envelope { daemon: "smtpd".into(), ..by(ALICE) };
    expect_untouched(&house.send(&elsewhere, &letter(ALICE)).await, &letter(ALICE));
}

#[tokio::test]
async fn a_submitter_without_a_login_is_stamped_for_its_own_addresses() {
    let house = House::build(|config| {
        stamping(config);
        let own = [ALICE, "shop@home.example"].map(|own| Address::parse(own.as_bytes(), true).unwrap()).into();
        config.trusted_submitters.insert("192.0.2.7".parse().unwrap(), own);
    })
    .await;
    house.keep(ALICE, &key(GOOD), SystemTime::now() + Duration::from_secs(86_400)).await;
    let submitted = Envelope { login: None, ..by(ALICE) }.with_path("shop@home.example");
    assert!(text(&house.send(&submitted, &letter(ALICE)).await).starts_with(STAMP));
    expect_untouched(&house.send(&submitted, &letter("eve@home.example")).await, &letter("eve@home.example"));
    // A web mailer there that logs mallory in does not make her alice.
    let login = by("mallory@home.example");
    expect_untouched(&house.send(&login, &letter(ALICE)).await, &letter(ALICE));
    let inside = Envelope { recipients: vec!["bob@home.example".into()], ..login };
    assert!(text(&house.send(&inside, &letter(ALICE)).await).starts_with("X-Auth-Key-Status: NOKEY;"));
}

#[tokio::test]
async fn a_key_that_has_ended_is_never_stamped_and_its_absence_is_told() {
    let house = House::build(stamping).await;
    house.keep(ALICE, &key(GOOD), SystemTime::now() - Duration::from_secs(1)).await;
    expect_untouched(&house.send(&by(ALICE), &letter(ALICE)).await, &letter(ALICE));
    let row = house.journal().await.remove(0);
    assert_eq!((&row.entry.result, &row.entry.verdict), (&RowResult::Submitted, &RowVerdict::Accept));
    assert!(row.entry.note.contains("has ended"), "{}", row.entry.note);
    // An address that never had one takes no part: nothing is amiss.
    expect_untouched(
        &house.send(&by("bob@home.example"), &letter("bob@home.example")).await,
        &letter("bob@home.example"),
    );
    assert_eq!(house.journal().await.len(), 1);
}

#[tokio::test]
async fn where_the_keyring_cannot_be_read_or_opened_the_mail_is_put_off_and_not_sent_bare() {
    let house = house().await;
    let other = addrauth::proto::seal::Opener::new().unwrap();
    let sealed = other.seal_to().seal("bob@home.example", &key(GOOD)).unwrap();
    let expires = SystemTime::now() + Duration::from_secs(60);
    let (address, fingerprint, learned) = ("bob@home.example".into(), "00000000".into(), SystemTime::now());
    let newest = addrauth::store::NewestKey { address, fingerprint, sealed, learned, expires };
    house.keyring().await.learn(&newest).await.unwrap();
    let outcome = house.send(&by("bob@home.example"), &letter("bob@home.example")).await;
    let Fate::Refused(reply) = &outcome.fate else { panic!("{:?}", outcome.fate) };
    assert!(reply.starts_with("451 4.3.0 "), "{reply}");
    let row = house.journal().await.remove(0);
    assert!(row.entry.note.contains("addrauth keyring key"), "the way out: {}", row.entry.note);

    tables(&house, "keyring.db").execute_batch("DROP TABLE keyring").unwrap();
    let outcome = house.send(&by(ALICE), &letter(ALICE)).await;
    assert!(matches!(&outcome.fate, Fate::Refused(reply) if reply.starts_with("451 ")), "{:?}", outcome.fate);
}

#[tokio::test]
async fn owners_are_read_from_postfixs_tables_for_stamping_and_inside_alike() {
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("logins");
    std::fs::write(&table, "alice@home.example alice, helpdesk\n").unwrap();
    let house = House::build(|config| {
        stamping(config);
        config.keyring.owners = vec![format!("hash:{}", table.display())];
        config.keyring.login_domain = "home.example".into();
    })
    .await;
    house.keep(ALICE, &key(GOOD), SystemTime::now() + Duration::from_secs(86_400)).await;
    let as_helpdesk = |to: &str| Envelope { recipients: vec![to.into()], ..by("helpdesk") }.with_path(ALICE);
    assert!(text(&house.send(&as_helpdesk(CAROL), &letter(ALICE)).await).starts_with(STAMP));
    let inside = house.send(&as_helpdesk("bob@home.example"), &letter(ALICE)).await;
    assert!(text(&inside).starts_with("X-Auth-Key-Status: VALIDKEY;"), "valid by the login that owns the address");

    std::fs::write(&table, "alice@home.example alice\n").unwrap();
    expect_untouched(&house.send(&as_helpdesk(CAROL), &letter(ALICE)).await, &letter(ALICE));
    std::fs::remove_file(&table).unwrap();
    for to in [CAROL, "bob@home.example"] {
        let outcome = house.send(&as_helpdesk(to), &letter(ALICE)).await;
        assert!(
            matches!(&outcome.fate, Fate::Refused(reply) if reply.starts_with("451 4.3.0 ")),
            "{to}: {:?}",
            outcome.fate
        );
        assert!(house.journal().await[0].entry.note.contains("cannot be looked up"));
    }
}

#[tokio::test]
async fn while_observing_no_mail_waits_for_owners_unless_it_is_to_be_stamped() {
    let house = House::build(|config| {
        stamping(config);
        config.observe.0 = true;
        config.keyring.owners = vec!["hash:/no/such/logins".into()];
    })
    .await;
    let to = |to: &[&str]| Envelope { recipients: to.iter().map(|&to| to.to_owned()).collect(), ..by(ALICE) };
    let inside = text(&house.send(&to(&["bob@home.example"]), &letter(ALICE)).await);
    assert!(inside.starts_with("X-Auth-Key-Status: NOKEY;"), "{inside}");
    let both = Envelope { daemon: "smtpd".into(), ..to(&["bob@home.example", CAROL]) };
    let outcome = house.send(&both, &letter(ALICE)).await;
    expect_untouched(&outcome, &letter(ALICE));
    assert_eq!(outcome.recipients.len(), 2, "no key goes out with it, so nobody needs a copy of his own");
    let outcome = house.send(&to(&[CAROL]), &letter(ALICE)).await;
    assert!(matches!(&outcome.fate, Fate::Refused(reply) if reply.starts_with("451 4.3.0 ")), "{:?}", outcome.fate);
}

#[tokio::test]
async fn whoever_is_to_stamp_without_the_right_secret_half_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config { final_domains: vec!["home.example".parse().unwrap()], ..Config::default() };
    config.state_dir.0 = dir.path().to_owned();
    config.verify.dns = vec!["127.0.0.1:9".parse().unwrap()];
    stamping(&mut config);
    let open = async |config: &Config| {
        Filter::builder(config.clone(), Trial::waived()).open().await.err().map(|e| e.to_string())
    };
    let error = open(&config).await.unwrap();
    assert!(error.contains("addrauth keyring key") && error.contains("keyring.key"), "{error}");
    let opener = addrauth::store::read_or_make_opener(&dir.path().join("keyring.key")).unwrap();
    assert_eq!(open(&config).await, None);
    config.keyring.seal_to = opener.seal_to().to_string();
    assert_eq!(open(&config).await, None);
    config.keyring.seal_to = addrauth::proto::seal::Opener::new().unwrap().seal_to().to_string();
    assert!(open(&config).await.unwrap().contains("not the public half"));
}

#[tokio::test]
async fn a_reload_opens_the_keyring_anew_where_its_settings_changed_and_shares_it_where_not() {
    let house = house().await;
    let mut config = house.config.clone();
    assert!(house.filter.reload(config.clone()).await.is_ok());
    config.keyring.secret_file = "/no/such/half".into();
    assert!(house.filter.reload(config).await.err().unwrap().to_string().contains("/no/such/half"));
}

/// What is delivered to carol's server of a stamped message, and taken off there again.
fn taken_off(stamped: &[u8]) -> Vec<u8> {
    header::strip(stamped, &["X-Auth-Key", "X-Auth-Agent"], UNBOUND).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_stamp_that_is_taken_off_again_gives_back_every_octet(
        fields in proptest::collection::vec(("[A-Za-z][A-Za-z-]{0,11}", "[ -~]{0,40}(\r\n[ \t][!-~][ -~]{0,20}){0,2}"), 0..6),
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let known = |name: &str| ["x-auth", "from", "resent", "list", "precedence", "delivered", "arc", "auto", "x-forwarded", "content"]
            .iter().any(|begin| name.to_ascii_lowercase().starts_with(begin));
        let mut message = String::from("From: alice@home.example\r\n");
        for (name, value) in fields.iter().filter(|(name, _)| !known(name)) {
            message += &format!("{name}: {value}\r\n");
        }
        message += "\r\n";
        let message = [message.as_bytes(), &body].concat();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let edits = stamped_edits(&message).await;
            let stamped = addrauth_lab::mta::apply(&message, &edits);
            assert!(stamped.starts_with(b"X-Auth-Key: "), "{edits:?}");
            assert_eq!(taken_off(&stamped), message);
        });
    }
}

/// The edits that settling a stamp asks for, as they are written down for the MTA.
async fn stamped_edits(message: &[u8]) -> Vec<Edit> {
    use addrauth::case::{Finding, Stamp, Submitted};
    let mail = addrauth_tests::world::mail(&[], &[]).altered(|envelope, _| envelope.mta = "Postfix 3.7.11".into());
    let key: AuthKey = key(GOOD);
    let finding = Finding::Submitted(Submitted { sender: None, stamp: Stamp::Newest(key), inside: None });
    let permits = addrauth::settle::Permits { report: Err(addrauth::case::Unreported::Undecided), refuse: true };
    assert!(!message.is_empty());
    addrauth::settle::settle(&mail, &finding, &[], &Default::default(), &permits).edits
}

#[tokio::test]
async fn a_login_is_told_of_what_a_colleague_refuses_where_the_return_address_is_its_own() {
    let house = House::build(|config| {
        stamping(config);
        config.policy = toml::from_str("valid = \"reject-notify-sender\"").unwrap();
    })
    .await;
    house.keep(ALICE, &key(GOOD), SystemTime::now() + Duration::from_secs(86_400)).await;
    let both = Envelope { recipients: vec!["bob@home.example".into(), CAROL.into()], ..by(ALICE) };
    // A refusal for all would take it from carol, and mallory did not write it.
    for (path, note) in [("mallory@home.example", "kept in quarantine as 1"), (ALICE, "")] {
        let outcome = house.send(&both.clone().with_path(path), &letter(ALICE)).await;
        assert_eq!((text(&outcome).contains("Status"), outcome.recipients), (false, vec![CAROL.to_owned()]));
        let note_of_row = house.journal().await.remove(0).entry.note;
        assert!(note_of_row.contains(note), "{path}: {note_of_row}");
    }
    let custody = house.filter.custody().unwrap();
    let held = custody.held(None).await.unwrap();
    assert_eq!(held.iter().map(|held| held.recipients[0].recipient.as_str()).collect::<Vec<_>>(), ["bob@home.example"]);
    let reports = "SELECT group_concat(recipient) FROM outbox WHERE kind = 'report'";
    let reports: String = tables(&house, "filter.db").query_row(reports, (), |row| row.get(0)).unwrap();
    assert_eq!(reports, ALICE);
}

#[tokio::test]
async fn where_the_colleagues_copy_cannot_be_kept_the_message_goes_nowhere() {
    let house = house().await;
    house.filter.custody().unwrap().close().await;
    let both = Envelope { recipients: vec!["bob@home.example".into(), CAROL.into()], ..by(ALICE) };
    let outcome = house.send(&both, &letter(ALICE)).await;
    assert!(matches!(&outcome.fate, Fate::Refused(reply) if reply.starts_with("451 ")), "{:?}", outcome.fate);
    assert!(outcome.edits.is_empty() && outcome.recipients.is_empty());
    // Those elsewhere alone need nothing of it.
    assert!(text(&house.send(&by(ALICE), &letter(ALICE)).await).starts_with(STAMP));
}

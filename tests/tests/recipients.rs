//! Who a recipient is, for the filter as a whole: no spelling of RCPT leads past the examination or past a binding.

use addrauth::case::{By, Case, Client, Finding, Place, Recipient, Verdict};
use addrauth::config::{Bindings, Config, Mixed, Observe, StateDir};
use addrauth::filter::Filter;
use addrauth::policy::Trial;
use addrauth::proto::address::{Address, Domain, Mailbox};
use addrauth::proto::header::Edit;
use addrauth::store::{JournalRow, RowResult, RowVerdict};
use addrauth_lab::zone::Zone;
use addrauth_tests::authority::{Act, Authority};
use addrauth_tests::world::{self, ALICE, GOOD, leading_to};
use proptest::prelude::*;

/// A filter for home.example, whose boss wants forged mail refused, and what it stands on.
struct Stage {
    filter: Filter,
    _server: Authority,
    _zone: Zone,
    _home: tempfile::TempDir,
}

async fn stage(change: impl FnOnce(&mut Config)) -> Stage {
    let server = Authority::start([Act::invalid()]).await.unwrap();
    let zone = Zone::start(leading_to(&[&server], "")).await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut config = Config {
        hostname: "mx.home.example".into(),
        final_domains: vec!["home.example".parse().unwrap()],
        observe: Observe(false),
        state_dir: StateDir(home.path().to_owned()),
        verify: world::config(&zone),
        ..Config::default()
    };
    config.policy.invalid = "accept".into();
    // Whatever is found of so many messages at once.
    let drop = Some("reject-notify-sender".to_owned());
    let boss = Bindings { invalid: drop.clone(), unverified: drop, ..Bindings::default() };
    config.policy.recipient.insert(Mailbox::parse("boss@home.example").unwrap(), boss);
    change(&mut config);
    let filter = Filter::builder(config, Trial::waived()).open().await.unwrap();
    Stage { filter, _server: server, _zone: zone, _home: home }
}

/// A forged message in Alice's name to these.
async fn judged(stage: &Stage, recipients: Vec<Recipient>) -> Case {
    let mail = world::mail(&[ALICE], &[GOOD]).altered(|envelope, _| envelope.recipients = recipients);
    stage.filter.keep(stage.filter.examine(mail).await, None).await
}

/// The newest journal row.
async fn newest(stage: &Stage) -> JournalRow {
    let custody = stage.filter.custody().unwrap();
    custody.flush().await;
    custody.journal(1).await.unwrap().remove(0)
}

/// Spellings that Postfix 3.7.11 (measured) takes for boss@home.example, and whether they are read so without its word.
const BOSS: [(&str, bool); 31] = [
    ("<boss@home.example>", true),
    ("<BOSS@Home.Example>", true),
    ("<boss@home.example >", true),
    ("< boss@home.example>", true),
    ("<boss @home.example>", true),
    ("<boss@home .example>", true),
    ("<boss\t@home.example>", true),
    ("<boss@home.example(c)>", true),
    ("<(c)boss@home.example>", true),
    ("<boss(a(b)c)@home.example>", true),
    ("<\"boss\"@home.example>", true),
    ("<boss@\"home.example\">", true),
    ("<\"boss\"@\"home.example\">", true),
    ("<b\\oss@home.example>", true),
    ("<boss@\\home.example>", true),
    ("<\"b\\oss\"@home.example>", true),
    ("<boss@home.example.>", true),
    ("<@x.test:boss@home.example>", true),
    ("<@x.test,@y.test:boss@home.example>", true),
    ("<boss+news@home.example>", true),
    ("<@x.test:@y.test:boss@home.example>", false),
    ("<boss%home.example>", false),
    ("<home.example!boss>", false),
    ("<\"boss@home.example\">", false),
    ("<boss\\@home.example>", false),
    ("<boss>", false),
    ("<<boss@home.example>>", false),
    ("<Boss <boss@home.example>>", false),
    ("<boss:boss@home.example;>", false),
    ("<boss(@home.example>", false),
    ("<boss%home.example@home.example>", false),
];

#[tokio::test]
async fn every_spelling_of_the_boss_leads_to_his_own_policy_by_the_mtas_word() {
    let stage = stage(|_| {}).await;
    for (path, _) in BOSS {
        let said = if path.contains("+news") { "boss+news@home.example" } else { "boss@home.example" };
        let case = judged(&stage, vec![Recipient::by_mta(path, said.as_bytes())]).await;
        assert_eq!((case.decisions[0].by, case.reply.verdict.word()), (By::Recipient, "reject"), "{path}");
        let row = newest(&stage).await;
        assert!(row.entry.json.to_lowercase().contains(&format!("<{said}>")), "{path}: {}", row.entry.json);
    }
}

#[tokio::test]
async fn without_the_mtas_word_it_leads_to_his_own_policy_or_nowhere() {
    let stage = stage(|_| {}).await;
    for (path, read) in BOSS {
        let case = judged(&stage, vec![Recipient::new(path)]).await;
        if read {
            assert_eq!((case.decisions[0].by, case.reply.verdict.word()), (By::Recipient, "reject"), "{path}");
            continue;
        }
        assert_eq!((&case.finding, case.decisions.len()), (&Finding::Unclear, 0), "{path}");
        let Verdict::Reject(refusal) = &case.reply.verdict else { panic!("{path}: {:?}", case.reply) };
        assert_eq!((refusal.code, refusal.status), (553, "5.1.3"), "{path}");
    }
}

#[tokio::test]
async fn one_who_is_unclear_has_the_whole_message_refused_and_while_observing_stripped() {
    let both = || vec![Recipient::new("<bob@home.example>"), Recipient::new("<boss%home.example>")];
    let strict = stage(|_| {}).await;
    let case = judged(&strict, both()).await;
    assert_eq!((&case.finding, case.reply.verdict.word()), (&Finding::Unclear, "reject"));
    let row = newest(&strict).await;
    assert_eq!((&row.entry.result, &row.entry.verdict), (&RowResult::Unclear, &RowVerdict::Reject));

    let observing = stage(|config| config.observe = Observe(true)).await;
    let case = judged(&observing, vec![Recipient::new("<boss%home.example>")]).await;
    assert_eq!((case.reply.verdict, case.reply.owed.len()), (Verdict::Accept, 0));
    assert!(case.reply.edits.contains(&Edit::Delete { name: "X-Auth-Key".into(), index: 1 }));

    let relay = stage(|config| config.final_domains.clear()).await;
    let case = judged(&relay, both()).await;
    assert_eq!((case.reply.verdict, case.reply.edits.len()), (Verdict::Accept, 0), "nothing is changed");
}

#[tokio::test]
async fn a_login_and_a_server_of_ours_are_refused_too_where_somebody_is_unclear() {
    let stage = stage(|config| config.trusted_hops = vec!["192.0.2.0/24".parse().unwrap()]).await;
    let unclear = || vec![Recipient::new("<x@elsewhere.example>"), Recipient::new("<boss%home.example>")];
    let mail = world::mail(&[ALICE], &[GOOD]).altered(|envelope, _| envelope.recipients = unclear());
    for mail in [
        mail.clone().altered(|envelope, _| envelope.login = Some("alice@example.com".into())),
        mail.clone()
            .altered(|envelope, _| envelope.client = Client { ip: "192.0.2.1".parse().ok(), ..Client::default() }),
    ] {
        assert_eq!(stage.filter.examine(mail).await.finding, Finding::Unclear);
    }
}

#[tokio::test]
async fn told_apart_at_rcpt_one_who_is_unclear_is_alone() {
    let stage = stage(|config| config.policy.mixed = Mixed::Split).await;
    let [bob, boss, other] = ["<bob@home.example>", "<boss%home.example>", "<x!y>"].map(Recipient::new);
    let elsewhere = Recipient::new("<x@elsewhere.example>");
    let client = Client::default();
    for (one, next, alike) in [
        (&bob, &boss, false),
        (&boss, &bob, false),
        (&elsewhere, &boss, false),
        (&boss, &other, true),
        (&bob, &bob, true),
    ] {
        assert_eq!(stage.filter.alike(&client, one, next).await, alike, "{one:?} {next:?}");
    }
}

fn finals() -> Vec<Domain> {
    ["home.example", "xn--bcher-kva.example"].map(|domain| Domain::parse(domain).unwrap()).into()
}

#[test]
fn where_a_recipients_mail_goes() {
    use Place::{Elsewhere, Here, Unclear};
    for (path, place) in [
        ("<bob@home.example>", Here),
        ("<bob@Bücher.example>", Here),
        ("<bob@home。example>", Here),
        ("<postmaster>", Here),
        ("<bob@[192.0.2.1]>", Here),
        ("<bob@localhost>", Here),
        ("<bob@home>", Unclear),
        ("<a%b@home>", Unclear),
        ("<bob@elsewhere.example@home.example>", Unclear),
        ("<bob%elsewhere.example@home.example>", Unclear),
        ("<elsewhere.example!bob@home.example>", Unclear),
        ("<boss%Home.Example.@elsewhere.example>", Unclear),
        ("<\"boss@bücher.example\"@elsewhere.example>", Unclear),
        ("<boss%home@elsewhere.example>", Unclear),
        ("<boss%x.example@elsewhere.example>", Elsewhere),
        ("<a..b@elsewhere.example>", Elsewhere),
        ("<bob@nothome.example>", Elsewhere),
        ("<bob@home.example.elsewhere.example>", Elsewhere),
        ("<@home.example:bob@elsewhere.example>", Elsewhere),
    ] {
        assert_eq!(Recipient::new(path).place(&finals()), place, "{path}");
        assert_eq!(Recipient::new(path).place(&[]), Elsewhere, "{path}");
    }
    for (path, said, place) in [
        ("<bob>", "bob@mx.example", Here),
        ("<bob%elsewhere.example>", "bob@elsewhere.example", Elsewhere),
        ("<bob@home>", "bob@home", Here),
        ("<x@elsewhere.example>", "x@home.example", Here),
        ("<bob@home.example@elsewhere.example>", "bob@home.example", Here),
        ("<bob@home.example>", "", Unclear),
        ("<bob@home.example@home.example>", "bob@home.example@home.example", Unclear),
        ("<bob%home.example@elsewhere.example>", "bob%home.example@elsewhere.example", Elsewhere),
    ] {
        assert_eq!(Recipient::by_mta(path, said.as_bytes()).place(&finals()), place, "{path}");
    }
}

proptest! {
    /// Whatever stands around it: what ends in a final domain by one reading of RFC 822 is not Elsewhere.
    #[test]
    fn no_spelling_of_a_final_domain_is_elsewhere(
        local in "[a-z.%!@\\\\\"() \t]{0,12}",
        gap in "[ \t]{0,2}|\\([a-z ]{0,4}\\)",
        upper: bool,
        quoted: bool,
        dot in "\\.?",
        after in "[ \t]{0,2}|\\(x\\)",
        route in "|@x\\.test:|@x\\.test,@y\\.test:|x:",
        brackets in 0..3_usize,
    ) {
        let mut domain = if upper { "HOME.Example".to_owned() } else { "home.example".to_owned() };
        if quoted { domain = format!("\"{domain}\""); }
        let spec = format!("{route}{local}@{gap}{domain}{after}{dot}");
        let path = format!("{}{spec}{}", "<".repeat(brackets), ">".repeat(brackets));
        prop_assert_ne!(Recipient::new(path.clone()).place(&finals()), Place::Elsewhere, "{}", path);
    }

    /// Who is read as a mailbox gets the mail that he gets when spelled plainly.
    #[test]
    fn whoever_is_somewhere_for_certain_is_there_when_spelled_plainly(path in "<[a-z.%!@\\\\\"() :,]{0,16}@[a-z.]{1,3}home\\.example[ .]?>") {
        let recipient = Recipient::new(path);
        if let Some(address) = recipient.address() {
            let plain = Recipient::new(format!("<{address}>"));
            prop_assert_eq!(plain.address(), Some(address));
            prop_assert_eq!(plain.place(&finals()), recipient.place(&finals()));
            prop_assert_eq!(plain.mailbox(), recipient.mailbox());
        }
    }
}

#[test]
fn an_address_is_found_whatever_its_reading_was() {
    let same = Address::parse(b"boss@home.example", false).unwrap();
    for (path, read) in BOSS.iter().filter(|(path, _)| !path.contains("+news")) {
        let by_mta = Recipient::by_mta(*path, b"boss@home.example");
        assert_eq!(by_mta.mailbox().as_deref(), Some("boss@home.example"), "{path}");
        let own = Recipient::new(*path);
        assert_eq!(own.mailbox().as_deref(), read.then_some("boss@home.example"), "{path}");
        assert!(
            !read || own.address().is_some_and(|address| address.to_string().eq_ignore_ascii_case(&same.to_string()))
        );
    }
}

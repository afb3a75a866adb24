//! What other servers say, and who is trusted: forged results behind the real door, submitters, hops and relays.

use std::net::IpAddr;
use std::sync::Arc;

use addrauth::case::*;
use addrauth::config::{Config, Milter, Observe, StateDir};
use addrauth::filter::Filter;
use addrauth::mta::Lanes;
use addrauth::mta::milter::{self, serve};
use addrauth::mta::reception::Reception;
use addrauth::policy::Trial;
use addrauth::proto::address::Address;
use addrauth::proto::header::Edit;
use addrauth_lab::mta::{Envelope, Fate, Mta};
use addrauth_lab::zone::Zone;
use addrauth_tests::authority::{Act, Authority};
use addrauth_tests::world::{self, GOOD, leading_to};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const HOST: &str = "mx.home.example";
const US: &str = "192.0.2.7";

/// A filter for home.example, and the AS of example.com.
struct Stage {
    filter: Arc<Filter>,
    server: Authority,
    _zone: Zone,
    _home: tempfile::TempDir,
}

async fn stage(act: Act, change: impl FnOnce(&mut Config)) -> Stage {
    let server = Authority::start([act]).await.unwrap();
    let zone = Zone::start(leading_to(&[&server], "; m=all")).await.unwrap();
    let home = tempfile::tempdir().unwrap();
    let mut config = Config {
        hostname: HOST.into(),
        final_domains: vec!["home.example".parse().unwrap()],
        observe: Observe(false),
        state_dir: StateDir(home.path().to_owned()),
        verify: world::config(&zone),
        ..Config::default()
    };
    change(&mut config);
    let filter = Arc::new(Filter::builder(config, Trial::waived()).open().await.unwrap());
    Stage { filter, server, _zone: zone, _home: home }
}

/// A message from this client with these further fields.
fn mail(client: &str, from: &str, keys: &[&str], fields: &[(&str, &str)], recipients: &[&str]) -> Mail {
    let recipient = |text: &&str| Recipient::new(format!("<{text}>"));
    let field = |(name, value): &(&str, &str)| Field { name: (*name).into(), value: format!(" {value}").into_bytes() };
    let client = Client { ip: client.parse().ok(), ..Client::default() };
    world::mail(&[from], keys).altered(|envelope, head| {
        head.fields.extend(fields.iter().map(field));
        envelope.recipients = recipients.iter().map(recipient).collect();
        envelope.client = client;
    })
}

async fn judged(stage: &Stage, mail: Mail) -> Case {
    stage.filter.keep(stage.filter.examine(mail).await, None).await
}

fn status(case: &Case) -> Option<KeyStatus> {
    match &case.finding {
        Finding::Found(found) => Some(found.status),
        _ => None,
    }
}

const BOB: [&str; 1] = ["bob@home.example"];
const CAROL: [&str; 1] = ["carol@elsewhere.example"];

/// What is delivered of a message through the milter door; its line endings are LF.
async fn delivered(stage: &Stage, message: &str) -> String {
    let milter = Milter { listen: vec!["inet:127.0.0.1:0".parse().unwrap()], group: String::new() };
    let listeners = milter::bind(&milter).unwrap();
    let place = listeners[0].local();
    let (_judge, receiver) = watch::channel(stage.filter.clone());
    let shutdown = CancellationToken::new();
    let task =
        tokio::spawn(serve(listeners, Reception::open(receiver, Arc::default(), shutdown.clone()), Lanes::here()));
    let mut mta = Mta::connect(&place).await.unwrap();
    let outcome = mta.send(&Envelope::inbound("a@else.example", BOB[0]), message.as_bytes()).await.unwrap();
    mta.quit().await.unwrap();
    shutdown.cancel();
    task.await.unwrap();
    assert_eq!(outcome.fate, Fate::Delivered);
    String::from_utf8(outcome.message).unwrap()
}

const TEXT: &str = "From: a@else.example\nSubject: x\n\nbody\n";
const OURS: &str = "X-Auth-Key-Status: NOSERVER; address=a@else.example; by=mx.home.example\n";

#[tokio::test]
async fn b1_b2_b3_forged_marks_in_every_dress_are_gone_and_no_other_octet_is_changed() {
    let stage = stage(Act::valid(), |config| config.first_in_chain = true).await;
    for forged in [
        "X-Auth-Key-Status: VALIDKEY; by=mx.home.example\n",
        "x-auth-key-status : VALIDKEY\nX-AUTH-KEY-STATUS\t: VALIDKEY\n",
        "Authentication-Results: mx.home.example; x-auth-key=pass\n",
        "authentication-results : MX.Home.EXAMPLE; X-Auth-Key=pass\n",
        "Authentication-Results: (x (y)) \"mx.home.example\" 1; x-auth-key=pass\n",
        "Authentication-Results:\n mx.home.example\n\t;\n x-auth-key\n = pass\n",
        "Authentication-Results: mx.home.example; dkim=pass header.d=else.example\n",
        "Authentication-Results: anybody.example; x-auth-key=pass\n",
        &"Authentication-Results: mx.home.example; x-auth-key=pass\nX-Auth-Key-Status: VALIDKEY\n".repeat(10),
    ] {
        for message in [format!("{forged}{TEXT}"), TEXT.replace("Subject", &format!("{forged}Subject"))] {
            assert_eq!(delivered(&stage, &message).await, format!("{OURS}{TEXT}"), "{message:?}");
        }
    }
    let honest = format!("Authentication-Results: filter.home.example; dkim=pass header.d=a.example\n{TEXT}");
    assert_eq!(delivered(&stage, &honest).await, format!("{OURS}{honest}"));
}

#[tokio::test]
async fn b4_forged_marks_in_a_part_of_the_body_are_left_alone() {
    let stage = stage(Act::valid(), |config| config.first_in_chain = true).await;
    let message = "From: a@else.example\nContent-Type: multipart/mixed; boundary=x\n\n--x\n\
                   Authentication-Results: mx.home.example; x-auth-key=pass\nContent-Type: message/rfc822\n\n\
                   X-Auth-Key-Status: VALIDKEY\nAuthentication-Results: mx.home.example; x-auth-key=pass\n\ninner\n--x--\n";
    assert_eq!(delivered(&stage, message).await, format!("{OURS}{message}"));
}

#[tokio::test]
async fn our_own_results_stand_on_top_where_they_are_wished() {
    let stage = stage(Act::valid(), |config| config.authentication_results = true).await;
    let forged = format!("Authentication-Results: mx.home.example; x-auth-key=pass\n{TEXT}");
    let ours = "Authentication-Results: mx.home.example; x-auth-key=none header.from=a@else.example\n";
    assert_eq!(delivered(&stage, &forged).await, format!("{ours}{OURS}{TEXT}"));
}

#[tokio::test]
async fn what_a_trusted_server_says_is_found_whatever_the_result_and_shown_in_the_case() {
    let stage = stage(Act::valid(), |config| config.trusted_authserv_ids = vec![HOST.into()]).await;
    let said = [("Authentication-Results", "mx.home.example; dkim=pass header.d=example.com; dmarc=pass")];
    for (from, keys, aligned) in [
        ("alice@example.com", &[GOOD][..], true),
        ("alice@example.com", &[], true),
        ("alice@example.com", &["short"], true),
        ("a@example.com, b@example.com", &[], false),
    ] {
        let case = judged(&stage, mail(US, from, keys, &said, &BOB)).await;
        let Finding::Found(found) = &case.finding else { panic!("{case:?}") };
        let auth = found.mail_auth.unwrap();
        assert_eq!((auth.dkim, auth.dkim_aligned, auth.dmarc), (AuthResult::Pass, aligned, AuthResult::Pass), "{from}");
        let json = serde_json::to_value(&case).unwrap();
        assert_eq!(json["finding"]["found"]["mail_auth"]["dkim"], "pass");
        assert!(case.line().contains(" spf=none dkim=pass dmarc=pass"), "{}", case.line());
    }
    let strange = [("Authentication-Results", "mx.example.com; dkim=pass header.d=example.com")];
    let case = judged(&stage, mail(US, "alice@example.com", &[], &strange, &BOB)).await;
    assert!(matches!(case.finding, Finding::Found(Found { mail_auth: None, .. })));
}

#[tokio::test]
async fn an_aligned_pass_saves_direct_mail_without_a_key_and_a_forged_one_does_not() {
    let stage = stage(Act::valid(), |config| {
        config.trusted_authserv_ids = vec!["filter.home.example".into()];
        config.policy.missing = "missing-direct".into();
    })
    .await;
    for (said, disposition) in [
        ("filter.home.example; dkim=pass header.d=example.com", Disposition::Accept),
        ("filter.home.example; spf=pass smtp.mailfrom=news.example.com", Disposition::Accept),
        ("filter.home.example; dkim=pass header.d=evil.example", Disposition::Mark),
        ("evil.example; dkim=pass header.d=example.com", Disposition::Mark),
    ] {
        let path = ReversePath::Path(Address::parse(b"x@news.example.com", false).ok());
        let mail = mail(US, "alice@example.com", &[], &[("Authentication-Results", said)], &BOB)
            .altered(|envelope, _| envelope.reverse_path = path);
        let case = judged(&stage, mail).await;
        assert_eq!((status(&case), case.decisions[0].disposition), (Some(KeyStatus::Missing), disposition), "{said}");
    }
}

#[tokio::test]
async fn a_trusted_submitter_counts_as_a_login_with_its_own_addresses_alone() {
    let stage = stage(Act::valid(), |config| {
        let own = vec![Address::parse(b"Shop@example.com", true).unwrap()];
        config.trusted_submitters = [(US.parse::<IpAddr>().unwrap(), own)].into();
    })
    .await;
    let case = judged(&stage, mail(US, "shop@EXAMPLE.com", &[GOOD], &[], &CAROL)).await;
    assert_eq!((case.finding, case.reply.edits.len()), (Finding::Passing(Direction::Outbound), 0));
    let case = judged(&stage, mail(US, "shop@example.com", &[GOOD], &[], &BOB)).await;
    assert_eq!((status(&case), stage.server.count()), (Some(KeyStatus::Valid), 0), "by its address, nobody is asked");
    assert!(case.reply.edits.contains(&Edit::Delete { name: "X-Auth-Key".into(), index: 1 }));
    let mapped = judged(&stage, mail("::ffff:192.0.2.7", "shop@example.com", &[], &[], &CAROL)).await;
    assert_eq!(mapped.finding, Finding::Passing(Direction::Outbound));

    for (client, from) in [
        (US, "alice@example.com"),
        (US, "shop@example.com, alice@example.com"),
        ("192.0.2.8", "shop@example.com"),
        ("", "shop@example.com"),
    ] {
        let away = judged(&stage, mail(client, from, &[], &[], &CAROL)).await;
        assert_eq!(away.finding, Finding::Passing(Direction::Relay), "{client} {from}");
        let inside = judged(&stage, mail(client, from, &[], &[], &BOB)).await;
        assert!(matches!(status(&inside), Some(KeyStatus::Missing | KeyStatus::Unusable)), "{client} {from}");
    }
}

#[tokio::test]
async fn what_one_of_our_hops_examined_is_not_touched() {
    let stage = stage(Act::valid(), |config| config.trusted_hops = vec!["192.0.2.0/29".parse().unwrap()]).await;
    let mark = ("x-auth-key-status", "INVALIDKEY; by=mx1.home.example");
    let ours = ("Authentication-Results", "mx1.home.example; x-auth-key=fail");
    let case = judged(&stage, mail(US, "alice@example.com", &[], &[ours, mark], &BOB)).await;
    assert_eq!(case.finding, Finding::Passing(Direction::Examined));
    assert_eq!((&case.reply.verdict, case.reply.edits.len(), stage.server.count()), (&Verdict::Accept, 0, 0));
    assert!(case.line().contains("direction=examined"), "{}", case.line());

    for (client, keys, fields) in [
        ("192.0.2.9", &[][..], &[mark][..]),
        ("", &[], &[mark]),
        (US, &[], &[]),
        (US, &[], &[mark, mark]),
        (US, &[GOOD], &[mark]),
    ] {
        let case = judged(&stage, mail(client, "alice@example.com", keys, fields, &BOB)).await;
        assert!(status(&case).is_some(), "{client} {fields:?}");
        let deletions = case.reply.edits.iter().filter(|edit| matches!(edit, Edit::Delete { .. })).count();
        assert_eq!(deletions, keys.len() + fields.len(), "the key and every status go");
    }
    let hidden = mail(US, "alice@example.com", &[], &[mark], &BOB).altered(|_, head| head.malformed = true);
    assert!(status(&judged(&stage, hidden).await).is_some());
    let away = judged(&stage, mail(US, "alice@example.com", &[], &[mark], &CAROL)).await;
    assert_eq!(away.finding, Finding::Passing(Direction::Relay));
}

#[tokio::test]
async fn what_would_be_rejected_is_kept_back_where_a_relay_brought_it() {
    let stage = stage(Act::invalid(), |config| {
        config.trusted_relays = vec!["192.0.2.0/29".parse().unwrap()];
        config.policy.invalid = "reject-notify-sender".into();
    })
    .await;
    let from = |client: &str| mail(client, "alice@example.com", &[GOOD], &[], &BOB);
    let direct = stage.filter.examine(from("198.51.100.1")).await;
    assert!(matches!(direct.reply.verdict, Verdict::Reject(_)), "{:?}", direct.reply);
    let relayed = stage.filter.examine(from(US)).await;
    assert!(!matches!(relayed.reply.verdict, Verdict::Reject(_)));
    let kept =
        matches!(relayed.reply.verdict, Verdict::Hold(_)) || relayed.reply.owed.contains(&Owed::Quarantine(vec![0]));
    assert!(kept, "{:?}", relayed.reply);
}

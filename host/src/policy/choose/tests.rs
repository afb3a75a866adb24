use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::super::Policies;
use super::*;
use crate::case::{Envelope, Found, Head, Mail, ReversePath};
use crate::config::{Config, Limits};
use crate::policy::{Explained, Trial};
use crate::proto::record::Claim;

/// A recipient's line, a domain's line and a site's, each another policy for the same result.
const LEVELS: &str = r#"
[policy]
invalid = "reject-notify-both"
spam_folder = "+Junk"
user_may = ["accept", "mark", "quarantine", "reject-silently"]
[policy.domain."home.example"]
invalid = "reject-notify-sender"
none = "mark"
mark = "folder"
[policy.domain."bücher.example"]
none = "quarantine"
[policy.recipient."Boss+x@home.example"]
invalid = "reject-notify-recipient"
mark = "header"
[policy.recipient.'"the boss"@home.example']
none = "quarantine"
"#;

fn load(text: &str) -> Policies {
    let config = Config::parse(text, "x.toml".as_ref()).unwrap();
    let limits = Arc::new(Limits::default().with(|limits| limits.policy.time = Duration::from_millis(200)));
    Policies::load(&config.policy, &config.policies, &limits, &Trial::waived()).unwrap()
}

fn levels() -> &'static Policies {
    static LOADED: OnceLock<Policies> = OnceLock::new();
    LOADED.get_or_init(|| load(LEVELS))
}

/// A recipient as RCPT names him.
fn rcpt(text: &str) -> Recipient {
    Recipient::new(format!("<{text}>"))
}

fn wish(policies: &[(KeyStatus, &str)], mark: Option<MarkAs>, allows: bool) -> Wish {
    Wish {
        policies: policies.iter().map(|(status, id)| (*status, (*id).to_owned())).collect(),
        mark,
        allows,
        ..Wish::default()
    }
}

fn chosen(policies: &Policies, recipient: &str, status: KeyStatus, wish: &Wish) -> (String, By) {
    let why = (status == KeyStatus::Invalid).then_some(Why::Expired);
    let choice = policies.choose(&rcpt(recipient), status, why, wish);
    (choice.policy().to_owned(), choice.by)
}

fn invalid(recipient: &str, wish: &Wish) -> (String, By) {
    chosen(levels(), recipient, KeyStatus::Invalid, wish)
}

#[test]
fn each_level_counts_where_it_is_alone_and_the_nearer_one_where_there_are_several() {
    let nothing = Wish::default();
    let user = wish(&[(KeyStatus::Invalid, "quarantine")], None, false);
    let listed = wish(&[(KeyStatus::Invalid, "quarantine")], None, true);
    for (recipient, wish, id, by) in [
        ("a@elsewhere.example", &nothing, "reject-notify-both", By::Site),
        ("a@home.example", &nothing, "reject-notify-sender", By::Domain),
        ("a@elsewhere.example", &user, "quarantine", By::User),
        ("a@home.example", &user, "quarantine", By::User),
        ("boss@home.example", &nothing, "reject-notify-recipient", By::Recipient),
        ("boss@home.example", &user, "reject-notify-recipient", By::Recipient),
        ("boss@home.example", &listed, "accept", By::AllowList),
        ("a@home.example", &listed, "accept", By::AllowList),
        ("a@elsewhere.example", &listed, "accept", By::AllowList),
    ] {
        assert_eq!(invalid(recipient, wish), (id.to_owned(), by), "{recipient} {wish:?}");
    }
}

/// Every subset of the five levels, on one recipient: the strongest present counts.
#[test]
fn of_any_levels_that_have_a_word_the_strongest_counts() {
    let nearest_first = [By::AllowList, By::Recipient, By::User, By::Domain];
    for set in 0..4_u8 {
        let line = |bit: u8, text: &str| if set & bit > 0 { text.to_owned() } else { String::new() };
        let text = format!(
            "[policy]\nuser_may = [\"quarantine\"]\n{}{}",
            line(1, "[policy.recipient.\"a@home.example\"]\nnone = \"quarantine\"\nmark = \"header\"\n"),
            line(2, "[policy.domain.\"home.example\"]\nnone = \"mark\"\nmark = \"header\"\n"),
        );
        let policies = load(&text);
        for personal in 0..4_u8 {
            let wishes = if personal & 1 > 0 { vec![(KeyStatus::None, "quarantine")] } else { Vec::new() };
            let wish = wish(&wishes, None, personal & 2 > 0);
            let has = [personal & 2 > 0, set & 1 > 0, personal & 1 > 0, set & 2 > 0];
            let expected = nearest_first.into_iter().zip(has).find(|(_, has)| *has).map_or(By::Site, |(by, _)| by);
            assert_eq!(chosen(&policies, "a@home.example", KeyStatus::None, &wish).1, expected, "{has:?}");
        }
    }
}

#[test]
fn each_result_and_the_mark_fall_by_themselves() {
    let user = wish(&[(KeyStatus::Missing, "quarantine")], None, false);
    let boss = |status| chosen(levels(), "boss@home.example", status, &user);
    assert_eq!(boss(KeyStatus::Invalid), ("reject-notify-recipient".into(), By::Recipient));
    assert_eq!(boss(KeyStatus::Missing), ("quarantine".into(), By::User));
    assert_eq!(boss(KeyStatus::None), ("mark".into(), By::Domain));
    assert_eq!(boss(KeyStatus::Unverified), ("accept".into(), By::Site));
    assert_eq!(boss(KeyStatus::Unusable), ("mark".into(), By::Site));
    let shown = |recipient, mark| {
        let choice = levels().choose(&rcpt(recipient), KeyStatus::Unusable, None, &wish(&[], mark, false));
        (choice.mark, choice.mark_by)
    };
    assert_eq!(shown("a@elsewhere.example", None), (MarkAs::Header, By::Site));
    assert_eq!(shown("a@elsewhere.example", Some(MarkAs::Folder)), (MarkAs::Folder, By::User));
    assert_eq!(shown("a@home.example", None), (MarkAs::Folder, By::Domain));
    assert_eq!(shown("a@home.example", Some(MarkAs::Header)), (MarkAs::Header, By::User));
    assert_eq!(shown("boss@home.example", Some(MarkAs::Folder)), (MarkAs::Header, By::Recipient));
}

#[test]
fn a_users_wish_for_a_folder_counts_as_long_as_folders_have_an_address() {
    let policies = load("");
    let folder = wish(&[], Some(MarkAs::Folder), false);
    let choice = policies.choose(&rcpt("a@home.example"), KeyStatus::Unusable, None, &folder);
    assert_eq!((choice.mark, choice.mark_by), (MarkAs::Header, By::Site));
    assert!(policies.explain_mark(&rcpt("a@home.example"), &folder).ignored);
}

#[test]
fn a_mailbox_is_one_however_rcpt_spells_it() {
    let nothing = Wish::default();
    let names = ["boss@home.example", "BOSS@home.example", "boss+news@Home.Example", "\"boss\"@home.example"];
    for boss in names.into_iter().chain(["boss@HOME.example.", "@a.example,@b.example:Boss@home.example"]) {
        assert_eq!(invalid(boss, &nothing).1, By::Recipient, "{boss}");
    }
    for other in ["bos@home.example", "boss.x@home.example", "\"boss \"@home.example", "boss..x@home.example"] {
        assert_eq!(invalid(other, &nothing).1, By::Domain, "{other}");
    }
    for nobody in ["", "boss", "postmaster", "boss@[192.0.2.1]", "boss@sub.home.example", "@home.example"] {
        assert_eq!(invalid(nobody, &nothing).1, By::Site, "{nobody}");
    }
    let none = |recipient| chosen(levels(), recipient, KeyStatus::None, &nothing);
    assert_eq!(none("\"The Boss\"@home.example"), ("quarantine".into(), By::Recipient));
    assert_eq!(none("\"the boss+x\"@home.example").1, By::Domain, "a quoted local part has no tag");
    assert_eq!(none("a@XN--bcher-kva.example"), ("quarantine".into(), By::Domain));
    let raw = rcpt("a@bücher.example");
    assert_eq!(levels().choose(&raw, KeyStatus::None, None, &nothing).by, By::Domain);
    let raw = Recipient::new(&b"<a\xff@home.example>"[..]);
    assert_eq!(levels().choose(&raw, KeyStatus::None, None, &nothing).by, By::Site);
}

#[test]
fn no_list_helps_where_the_senders_own_domain_denied_the_message() {
    use Why::{BadKey, Dns, Expired, SeveralFrom, Timeout, Wrong};
    for (status, why, may) in [
        (KeyStatus::Valid, None, false),
        (KeyStatus::Invalid, Some(Wrong), false),
        (KeyStatus::Invalid, None, false),
        (KeyStatus::Invalid, Some(Expired), true),
        (KeyStatus::Missing, None, true),
        (KeyStatus::None, None, true),
        (KeyStatus::Unverified, Some(Dns), true),
        (KeyStatus::Unverified, Some(Timeout), true),
        (KeyStatus::Unusable, Some(SeveralFrom), false),
        (KeyStatus::Unusable, Some(BadKey), false),
    ] {
        assert_eq!(may_be_allowed(status, why), may, "{status:?} {why:?}");
        let choice = levels().choose(&rcpt("boss@home.example"), status, why, &wish(&[], None, true));
        assert_eq!(choice.by == By::AllowList, may, "{status:?} {why:?}");
    }
}

#[test]
fn what_is_not_open_to_users_any_more_counts_for_nothing() {
    let chose = wish(&[(KeyStatus::Invalid, "quarantine")], None, false);
    assert_eq!(invalid("a@home.example", &chose).1, By::User);
    let shrunk = load(&LEVELS.replace("\"quarantine\", ", ""));
    assert_eq!(chosen(&shrunk, "a@home.example", KeyStatus::Invalid, &chose).1, By::Domain);
    assert_eq!(
        shrunk.explain(&rcpt("a@home.example"), KeyStatus::Invalid, None, &chose).ignored.unwrap(),
        "quarantine"
    );
    assert_eq!(shrunk.open_to_users(KeyStatus::Invalid), ["accept", "mark", "reject-silently"]);
    // Loaded, and yet not offered.
    let sneaky = wish(&[(KeyStatus::Invalid, "reject-notify-both")], None, false);
    assert_eq!(invalid("a@home.example", &sneaky).1, By::Domain);
}

#[test]
fn what_any_level_names_or_a_user_may_choose_is_said_to_treat_it() {
    let treats = |id: &str| {
        let listed = levels().list().into_iter().find(|listed| listed.id == id).unwrap();
        listed.bound.into_iter().map(KeyStatus::word).collect::<Vec<_>>()
    };
    assert_eq!(treats("reject-notify-both"), ["invalid"], "by the site");
    assert_eq!(treats("reject-notify-sender"), ["invalid"], "by a domain's line");
    assert_eq!(treats("reject-notify-recipient"), ["invalid"], "by a recipient's line");
    assert_eq!(treats("reject-silently"), ["invalid", "none", "unverified", "unusable"], "where a user says so");
}

#[test]
fn a_user_has_no_say_over_valid_and_drops_no_mail_without_a_key_silently() {
    let wishes = wish(
        &[
            (KeyStatus::Valid, "quarantine"),
            (KeyStatus::Missing, "reject-silently"),
            (KeyStatus::Invalid, "reject-silently"),
        ],
        None,
        true,
    );
    assert_eq!(chosen(levels(), "a@home.example", KeyStatus::Valid, &wishes), ("accept".into(), By::Site));
    let alone = Wish { allows: false, ..wishes };
    assert_eq!(chosen(levels(), "a@home.example", KeyStatus::Missing, &alone), ("accept".into(), By::Site));
    assert_eq!(invalid("a@home.example", &alone), ("reject-silently".into(), By::User));
    assert!(levels().open_to_users(KeyStatus::Valid).is_empty());
    assert_eq!(levels().open_to_users(KeyStatus::Missing), ["accept", "mark", "quarantine"]);
}

#[test]
fn an_explanation_tells_who_counts_who_lost_and_what_happens() {
    let user = wish(&[(KeyStatus::Invalid, "reject-silently")], Some(MarkAs::Folder), true);
    let explain = |why| levels().explain(&rcpt("a@home.example"), KeyStatus::Invalid, Some(why), &user);
    let told = |explained: &Explained| {
        let all = std::iter::once(&explained.word).chain(&explained.lost);
        all.map(|w| (w.by, w.effect.map(|e| e.to_string()).unwrap_or_default())).collect::<Vec<_>>()
    };
    let wrong = explain(Why::Wrong);
    let rest = [(By::Domain, "reject, tell the sender"), (By::Site, "reject, tell sender and recipient")];
    let rest = rest.map(|(by, text)| (by, text.to_owned()));
    assert_eq!(told(&wrong), [&[(By::User, "reject, tell nobody".to_owned())][..], &rest].concat());
    assert_eq!((wrong.ignored, wrong.word.digest.len()), (None, 64));
    // Only a wrong key may be dropped silently, and no list helps it.
    let held = [(By::AllowList, "accept".to_owned()), (By::User, "reject, tell the sender".to_owned())];
    assert_eq!(told(&explain(Why::Expired)), [&held[..], &rest].concat());
    let mark = levels().explain_mark(&rcpt("a@home.example"), &user);
    assert_eq!((mark.mark, mark.ignored), ((By::User, MarkAs::Folder), false));
    assert_eq!(mark.lost, [(By::Domain, MarkAs::Folder), (By::Site, MarkAs::Header)]);
}

#[tokio::test]
async fn no_list_helps_mail_without_a_key_whose_domain_says_that_all_of_it_has_one() {
    let mail = mail(std::iter::once("boss@home.example".to_owned()));
    for (claim, by) in [(Claim::Testing, true), (Claim::Some, true), (Claim::All, false)] {
        let found = Found { claim: Some(claim), ..Found::bare(KeyStatus::Missing, None, None) };
        let decisions = levels().decide(&mail, &found, &[wish(&[], None, true)]).await;
        assert_eq!(decisions[0].by == By::AllowList, by, "{claim:?}");
    }
}

fn mail(recipients: impl Iterator<Item = String>) -> Mail {
    Mail::new(
        Envelope {
            reverse_path: ReversePath::Path(None),
            recipients: recipients.map(|text| rcpt(&text)).collect(),
            ..Envelope::default()
        },
        Head::default(),
    )
}

#[tokio::test]
async fn a_thousand_recipients_with_wishes_of_their_own_are_decided_within_the_bound() {
    let mail = mail((0..1000).map(|n| format!("u{n}@home.example")));
    let ids = ["quarantine", "accept", "mark"];
    let wishes: Vec<Wish> = (0..1000)
        .map(|n| match n % 4 {
            3 => Wish::default(),
            m => wish(&[(KeyStatus::None, ids[m])], Some(MarkAs::Header).filter(|_| n % 8 < 4), n % 5 == 0),
        })
        .collect();
    let begin = Instant::now();
    let decisions = levels().decide(&mail, &Found::bare(KeyStatus::None, None, None), &wishes).await;
    assert!(begin.elapsed() < Limits::default().policy.message, "{:?}", begin.elapsed());
    let mut all: Vec<usize> = decisions.iter().flat_map(|d| d.recipients.clone()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..1000).collect::<Vec<_>>(), "each exactly once");
    for decision in &decisions {
        for &n in &decision.recipients {
            let choice = levels().choose(&mail.recipients[n], KeyStatus::None, None, &wishes[n]);
            assert_eq!((choice.policy(), choice.by), (decision.policy.as_str(), decision.by), "{n}");
            assert_eq!(choice.mark, decision.mark, "{n}");
        }
    }
    assert!(decisions.len() <= 14, "as many as there are differences: {}", decisions.len());
}

/// The component loops until its time is over, so the time tells how often it was asked.
#[tokio::test]
async fn one_call_is_for_all_who_cannot_be_told_apart_whoever_had_the_word() {
    let file =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/hostile/hostile.wasm").display().to_string();
    let policies = load(&format!(
        "[policy]\nnone = \"hostile\"\nuser_may = [\"hostile\"]\n[policy.domain.\"two.example\"]\nnone = \"hostile\"\n\
         [policy.recipient.\"u1@home.example\"]\nnone = \"hostile\"\n\
         [policies.hostile]\nmodule = '{file}'\nsettings = {{ does = 'loop' }}\n"
    ));
    let addresses = ["u0@home.example", "u1@home.example", "u2@home.example", "u3@two.example", "u4@two.example"];
    let mail = mail(addresses.into_iter().map(String::from));
    let mut wishes = vec![Wish::default(); 5];
    wishes[2] = wish(&[(KeyStatus::None, "hostile")], None, false);
    wishes[4] = wish(&[], Some(MarkAs::Header), false);
    let found = Found::bare(KeyStatus::None, None, None);
    let begin = Instant::now();
    policies
        .decide(&mail.clone().altered(|envelope, _| envelope.recipients = vec![rcpt("u0@home.example")]), &found, &[])
        .await;
    let once = begin.elapsed();
    let begin = Instant::now();
    let decisions = policies.decide(&mail, &found, &wishes).await;
    let took = begin.elapsed();
    let words: Vec<_> = decisions.iter().map(|d| (d.by, d.recipients.clone())).collect();
    let expected = [(By::Site, vec![0]), (By::Recipient, vec![1]), (By::User, vec![2]), (By::Domain, vec![3, 4])];
    assert_eq!(words, expected);
    assert!(decisions.iter().all(|d| d.fault.as_deref().is_some_and(|fault| fault.contains("ran longer"))));
    assert!(took < 3 * once, "not once for each of the four: {took:?}, and {once:?} for one alone");
}

/// A bounce that names nobody impersonates nobody: it has a line of its own at each level of the administrator's, and no other.
#[test]
fn a_bounce_that_names_nobody_is_accepted_unless_the_administrator_says_otherwise() {
    let treated = |text: &str, why, wish: &Wish| {
        let choice = load(text).choose(&rcpt("a@home.example"), KeyStatus::Unusable, Some(why), wish);
        (choice.policy().to_owned(), choice.by)
    };
    let user = wish(&[(KeyStatus::Unusable, "quarantine")], None, true);
    let site = "[policy]\nuser_may = [\"quarantine\"]\nunusable = \"reject-notify-both\"\n";
    let bound = format!("{site}no_address = \"mark\"\n");
    let domain = format!("{bound}[policy.domain.\"home.example\"]\nno_address = \"quarantine\"\n");
    let recipient = format!("{domain}[policy.recipient.\"a@home.example\"]\nno_address = \"reject-notify-sender\"\n");
    let others = format!("{site}[policy.domain.\"home.example\"]\nunusable = \"quarantine\"\n");
    for (text, id, by) in [
        ("", "accept", By::Site),
        (site, "accept", By::Site),
        (&others, "accept", By::Site),
        (&bound, "mark", By::Site),
        (&domain, "quarantine", By::Domain),
        (&recipient, "reject-notify-sender", By::Recipient),
    ] {
        for wish in [&Wish::default(), &user] {
            assert_eq!(treated(text, Why::NoAddress, wish), (id.to_owned(), by), "{text}");
        }
        let usual = treated(text, Why::BadAddress, &Wish::default()).0;
        assert_ne!(usual, "accept", "{text}");
    }
    let explained = load(&domain).explain(&rcpt("a@home.example"), KeyStatus::Unusable, Some(Why::NoAddress), &user);
    assert_eq!((explained.word.policy.as_str(), explained.lost.len()), ("quarantine", 1));
    assert!(load(&bound).list().iter().any(|p| p.id == "mark" && p.bound.contains(&KeyStatus::Unusable)));
}

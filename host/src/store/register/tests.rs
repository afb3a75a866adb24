use std::time::Duration;

use super::*;
use crate::proto::address::Mailbox;
use crate::store::time;

const HOUR: Duration = Duration::from_secs(3_600);

async fn register(dir: &tempfile::TempDir) -> Register {
    Register::open(dir.path(), Opening { busy: Duration::from_secs(2), readers: 1 }).await.unwrap()
}

fn account(name: &str, role: Role) -> AccountRow {
    AccountRow { name: name.into(), role, scope: vec!["a.example".into(), "b.example".into()], password: "$x".into() }
}

#[tokio::test]
async fn a_session_ends_with_its_time_its_password_and_its_account() {
    let dir = tempfile::tempdir().unwrap();
    let register = register(&dir).await;
    let (begin, spans) = (time(1_000_000), (HOUR, 10 * HOUR));
    assert!(register.add_account(&account("ann", Role::Domain), begin).await.unwrap());
    assert!(!register.add_account(&account("ann", Role::Admin), begin).await.unwrap(), "the name is taken");
    let ann = Holder::Account("ann".into());
    let lasts = async |token: u8, at: SystemTime| register.session([token; 32], spans, at).await.unwrap();
    register.begin([1; 32], &ann, 2, begin).await.unwrap();
    let session = lasts(1, begin).await.unwrap();
    assert_eq!((session.who.as_str(), session.role, session.scope.len()), ("ann", Role::Domain, 2));
    assert!(lasts(2, begin).await.is_none(), "nobody holds that cookie");
    assert!(lasts(1, begin + HOUR / 2).await.is_some(), "and it is noted that it was used");
    assert!(lasts(1, begin + HOUR * 5 / 4).await.is_some());
    assert!(lasts(1, begin + HOUR * 9 / 4).await.is_none(), "it was not used for an hour");
    let mut at = begin;
    for _ in 0..19 {
        assert!(lasts(1, at).await.is_some() || at > begin + HOUR * 5 / 4);
        at += HOUR / 2;
    }
    assert!(lasts(1, begin + 10 * HOUR).await.is_none(), "none lasts longer, however it is used");
    register.begin([2; 32], &ann, 2, begin + HOUR).await.unwrap();
    register.begin([3; 32], &ann, 2, begin + 2 * HOUR).await.unwrap();
    let now = begin + 2 * HOUR;
    assert!(lasts(3, now).await.is_some());
    assert!(register.set_password("ann", "$y", now).await.unwrap() && lasts(3, now).await.is_none());
    register.begin([4; 32], &ann, 2, now).await.unwrap();
    assert!(lasts(4, now).await.is_some());
    assert!(register.remove_account("ann").await.unwrap() && lasts(4, now).await.is_none());
    assert!(!register.remove_account("ann").await.unwrap());
    assert!(register.begin([5; 32], &ann, 2, now).await.is_err(), "there is no such account");
}

#[tokio::test]
async fn a_mailbox_has_so_many_sessions_and_no_account() {
    let dir = tempfile::tempdir().unwrap();
    let register = register(&dir).await;
    let bob = Holder::Mailbox(Mailbox::parse("bob@a.example").unwrap());
    for token in 0..5 {
        register.begin([token; 32], &bob, 3, time(1_000 + i64::from(token))).await.unwrap();
    }
    let mut left = Vec::new();
    for token in 0..5 {
        left.extend(
            register.session([token; 32], (HOUR, HOUR), time(1_010)).await.unwrap().map(|found| (token, found)),
        );
    }
    let tokens: Vec<u8> = left.iter().map(|(token, _)| *token).collect();
    assert_eq!(tokens, [2, 3, 4]);
    assert!(left.iter().all(|(_, found)| found.role == Role::User && found.scope == ["bob@a.example"]));
    register.end_session([3; 32]).await.unwrap();
    assert!(register.session([3; 32], (HOUR, HOUR), time(1_010)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_link_works_once_and_in_time_and_a_mailbox_gets_few_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let register = register(&dir).await;
    let (now, ends) = (time(1_000_000), time(1_000_000) + HOUR);
    let link = Link { mailbox: "bob@a.example".into(), act: LinkAct::Want, quarantine: Some(7) };
    register.make_links(vec![([1; 32], link.clone()), ([2; 32], link.clone())], ends, now).await.unwrap();
    assert_eq!(register.link([1; 32], now).await.unwrap(), Some(link.clone()));
    assert_eq!(register.link([1; 32], now).await.unwrap(), Some(link.clone()), "to look uses nothing up");
    assert_eq!(register.use_link([1; 32], now).await.unwrap(), Some(link.clone()));
    assert_eq!(register.use_link([1; 32], now).await.unwrap(), None);
    assert_eq!(register.link([1; 32], now).await.unwrap(), None);
    assert_eq!(register.use_link([2; 32], ends).await.unwrap(), None, "its time is over");
    assert_eq!(register.use_link([3; 32], now).await.unwrap(), None, "it was never made");
    let bound = (2, now - HOUR);
    for (token, made) in [(10, true), (11, true), (12, false)] {
        assert_eq!(register.make_entrance([token; 32], "bob@a.example", bound, ends, now).await.unwrap(), made);
    }
    assert!(register.make_entrance([13; 32], "eve@a.example", bound, ends, now).await.unwrap());
    // Those that have ended still count for the hour.
    register.sweep(ends + HOUR / 2, now, now).await.unwrap();
    assert!(!register.make_entrance([14; 32], "bob@a.example", bound, ends, now).await.unwrap());
    register.sweep(ends + 2 * HOUR, now, now).await.unwrap();
    assert_eq!(register.link([10; 32], now).await.unwrap(), None);
}

#[tokio::test]
async fn acts_are_found_by_message_and_page_by_page() {
    let dir = tempfile::tempdir().unwrap();
    let register = register(&dir).await;
    for n in 0..5_i64 {
        let act = Act { who: format!("u{n}"), journal: Some(n), quarantine: Some(10 + n), ..Act::default() };
        register.note(act, time(n)).await.unwrap();
    }
    let who = |rows: Vec<ActRow>| rows.into_iter().map(|row| row.act.who).collect::<Vec<_>>();
    let newest = register.acts(None, 2).await.unwrap();
    let last = newest.last().map(|row| row.id);
    assert_eq!(who(newest), ["u4", "u3"]);
    assert_eq!(who(register.acts(last, 9).await.unwrap()), ["u2", "u1", "u0"]);
    assert_eq!(who(register.acts_on(1, &[13], 9).await.unwrap()), ["u1", "u3"]);
    assert_eq!(register.told_upto("bob@a.example").await.unwrap(), 0);
    register.note_told("bob@a.example", 9).await.unwrap();
    assert_eq!(register.told_upto("bob@a.example").await.unwrap(), 9);
}

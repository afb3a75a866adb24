//! A delivery agent that says a word too many a moment later: it is taken for no other one, behind DATA and behind BDAT.

use std::collections::HashMap;
use std::time::Duration;

use addrauth_tests::agent::{Client, Habits, stuffed};

use super::{BOTH, MESSAGE, Stage, accepted, mixed};

const SAVED: &str = "250 2.0.0 Saved";
const FULL: &str = "452 4.2.2 full";

/// What an agent says too late, and how late.
fn late() -> impl Iterator<Item = (Duration, &'static str)> {
    let times = [0, 5, 50].map(Duration::from_millis);
    let words = [SAVED, "354 Go on", "250 2.1.5 OK", FULL, "451-4.3.0 two\r\n451 4.3.0 lines"];
    times.into_iter().flat_map(move |time| words.map(|words| (time, words)))
}

/// Brings a message by BDAT in two chunks: the answer for each recipient.
async fn by_chunks(mta: &mut Client, to: &[&str], message: &[u8]) -> Vec<String> {
    assert!(mta.say("MAIL FROM:<a@b>").await[0].starts_with("250"));
    for to in to {
        assert!(mta.say(&format!("RCPT TO:<{to}>")).await[0].starts_with("250"));
    }
    let (one, two) = message.split_at(message.len() / 2);
    mta.write(format!("BDAT {}\r\n", one.len()).as_bytes()).await;
    mta.write(one).await;
    mta.write(format!("BDAT {} LAST\r\n", two.len()).as_bytes()).await;
    mta.write(two).await;
    assert!(mta.reply().await[0].starts_with("250 2.0.0 "));
    let mut answers = Vec::new();
    for _ in to {
        answers.push(mta.reply().await.join("\n"));
    }
    answers
}

async fn by_data(mta: &mut Client, to: &[&str], message: &[u8]) -> Vec<String> {
    mta.say("MAIL FROM:<a@b>").await;
    for to in to {
        mta.say(&format!("RCPT TO:<{to}>")).await;
    }
    assert!(mta.say("DATA").await[0].starts_with("354"));
    mta.write(&stuffed(message)).await;
    let mut answers = Vec::new();
    for _ in to {
        answers.push(mta.reply().await.join("\n"));
    }
    answers
}

#[tokio::test]
async fn a_word_too_many_a_moment_later_is_no_word_about_another_message() {
    for (chunks, (later, words)) in [false, true].into_iter().flat_map(|chunks| late().map(move |late| (chunks, late)))
    {
        // The second recipient's mailbox is full: whatever is said for the first one is not said for it.
        let habits = Habits {
            offers: vec!["CHUNKING"],
            at_end: HashMap::from([(BOTH[1].into(), FULL.into())]),
            says_again: Some((later, words)),
            ..Habits::default()
        };
        let stage = Stage::set(accepted(), habits).await;
        let (mut mta, _) = Client::open(stage.place).await;
        let mut told = [0, 0];
        for turn in 0..6 {
            let to = [BOTH[turn % 2]];
            let answers = match chunks {
                true => by_chunks(&mut mta, &to, MESSAGE).await,
                false => by_data(&mut mta, &to, MESSAGE).await,
            };
            let case = format!("{chunks} {later:?} {words:?} {turn} {answers:?}");
            assert!(answers[0].starts_with("250") || answers[0].starts_with("45"), "{case}");
            assert!(turn % 2 == 0 || !answers[0].starts_with("250"), "a full mailbox is no delivery: {case}");
            told[turn % 2] += usize::from(answers[0] == SAVED);
        }
        let delivered = stage.agent.take().iter().filter(|delivery| delivery.to == [BOTH[0]]).count();
        assert!(told[0] >= 1 && told[0] <= delivered, "{chunks} {later:?} {words:?}: {told:?} of {delivered}");
        stage.close().await;
    }
}

#[tokio::test]
async fn copies_of_one_message_by_chunks_each_have_their_own_word() {
    for (later, words) in late() {
        let habits = Habits {
            offers: vec!["CHUNKING"],
            at_end: HashMap::from([(BOTH[1].into(), FULL.into())]),
            says_again: Some((later, words)),
            ..Habits::default()
        };
        let stage = Stage::set(mixed(), habits).await;
        let (mut mta, _) = Client::open(stage.place).await;
        for _ in 0..3 {
            let answers = by_chunks(&mut mta, &BOTH, MESSAGE).await;
            assert!(!answers[1].starts_with("250"), "{later:?} {words:?} {answers:?}");
        }
        stage.close().await;
    }
}

#[tokio::test]
async fn chunks_go_on_as_chunks_where_the_agent_takes_them_and_behind_data_where_not() {
    for offers in [vec!["CHUNKING"], vec![]] {
        let stage = Stage::set(accepted(), Habits { offers: offers.clone(), ..Habits::default() }).await;
        let (mut mta, told) = Client::open(stage.place).await;
        assert_eq!(told.iter().any(|offer| offer.ends_with("CHUNKING")), !offers.is_empty(), "{told:?}");
        if offers.is_empty() {
            // What is not offered is not taken, and the next message is well.
            assert!(mta.say("MAIL FROM:<a@b>").await[0].starts_with("250"));
            assert!(mta.say("RCPT TO:<bob@home.example>").await[0].starts_with("250"));
            mta.write(b"BDAT 4 LAST\r\nabc\n").await;
            assert!(mta.reply().await[0].starts_with('5'));
            mta.say("RSET").await;
            assert_eq!(by_data(&mut mta, &BOTH, MESSAGE).await, [SAVED, SAVED]);
        } else {
            for _ in 0..3 {
                assert_eq!(by_chunks(&mut mta, &BOTH, MESSAGE).await, [SAVED, SAVED]);
            }
        }
        let got = stage.agent.take();
        assert!(got.iter().all(|delivery| delivery.message == super::PLAIN), "{got:?}");
        assert_eq!(got.len(), if offers.is_empty() { 1 } else { 3 });
        stage.close().await;
    }
}

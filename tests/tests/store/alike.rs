//! Whatever is asked, in whatever order: the three stores answer alike.

use addrauth::store::{ForgedRow, Owing, PostEnd};

use crate::*;

/// A sequence that looks random and is the same each time (Knuth's linear congruential numbers).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn time(&mut self) -> i64 {
        i64::try_from(self.below(3_000)).unwrap()
    }

    fn address(&mut self) -> String {
        let domain = if self.below(4) == 0 { "example.net" } else { "example.com" };
        format!("{}@{domain}", ["a", "b", "Bb", "c", "c.d"][usize::try_from(self.below(5)).unwrap()])
    }

    fn seldom<T>(&mut self, value: T) -> Option<T> {
        (self.below(3) == 0).then_some(value)
    }
}

/// Asks one question, and says what came of it.
async fn ask(dice: &mut Dice, keys: &Arc<dyn KeyTable>, keyring: &Arc<dyn Keyring>) -> String {
    let (address, when, small) = (dice.address(), dice.time(), dice.below(5));
    let generation = i64::try_from(small).unwrap();
    let addresses: Vec<String> = (0..small).map(|_| dice.address()).collect();
    match dice.below(20) {
        0..=3 => {
            let mut wanted = Vec::new();
            for address in &addresses {
                let (created, end, turn) = (dice.time(), dice.time(), dice.time());
                let post = dice.seldom(sealed(&format!("{created}")));
                let others_end = dice.seldom(at(end));
                let (turn, only_due) = (dice.seldom(at(turn)), dice.below(2) == 0);
                wanted.push(NewKey { others_end, turn, only_due, post, ..new_key(&mailbox(address), created) });
            }
            format!("{:?}", keys.add_all(&wanted, 3).await.unwrap())
        }
        4 => {
            let which: Vec<_> = addresses.into_iter().map(|address| (address, generation)).collect();
            format!("{:?}", keys.take_back(&which, at(when)).await.unwrap())
        }
        5 => format!("{:?}", keys.revoke(&mailbox(&address), &[generation, generation + 1], at(when)).await.unwrap()),
        6 => format!("{:?}", keys.running_out(at(when), at(when + 400)).await.unwrap()),
        7 => format!("{:?}", keys.sweep(at(when / 3)).await.unwrap()),
        8..=9 => {
            let mut rows = Vec::new();
            for address in &addresses {
                let (agi, avt, due) = (3_600 + dice.below(2), Duration::from_secs(dice.below(9)), dice.time());
                let agi = dice.seldom(agi);
                rows.push(SettingsRow { avt: dice.seldom(avt), ..row(address, agi, due) });
            }
            format!("{:?}", keys.enlist(&rows, &mut |_| {}).await.unwrap())
        }
        10 => format!("{:?}", keys.set(&row(&address, Some(60 + small), when)).await.unwrap()),
        11 => format!("{:?}", keys.strike(&addresses, at(when)).await.map_err(|e| e.to_string())),
        12 => format!("{:?}", keys.due(&domains(), at(when), u32::try_from(small).unwrap()).await.unwrap()),
        13..=14 => {
            let post = keys.take_post(at(when), |tries| Duration::from_secs(u64::from(tries) * 100)).await.unwrap();
            match &post {
                Some(post) if small == 0 => keys.end_post(post, &PostEnd::Sent, at(when)).await.unwrap(),
                Some(post) if small == 1 => keys.postpone_post(post, "later").await.unwrap(),
                _ => {}
            }
            format!("{post:?}")
        }
        15 => {
            let forged = |(n, address): (usize, String)| ForgedRow {
                domain: "example.com".into(),
                address,
                verifier: format!("v{n}.test"),
                network: "192.0.2.0/24".into(),
                answers: small,
                first: at(when * 100),
                last: at(when * 100 + 50),
            };
            let rows: Vec<_> = addresses.into_iter().enumerate().map(forged).collect();
            keys.count_forged(&rows, 12).await.unwrap();
            let swept = keys.sweep_forged(at(when * 20)).await.unwrap();
            format!("{swept} {:?}", keys.forged(dice.seldom("example.com"), at(when * 50)).await.unwrap())
        }
        16..=18 => {
            let key = learned(&address, &format!("f{}", dice.below(9)), when);
            format!("{:?} {:?}", keyring.learn(&key).await.unwrap(), keyring.newest(&mailbox(&address)).await.unwrap())
        }
        _ => {
            let swept = keyring.sweep(at(when / 4)).await.unwrap();
            let forgot = if small == 0 { keyring.forget(&mailbox(&address)).await.unwrap() } else { false };
            let ages = keyring.ages(at(when)).await.unwrap();
            format!("{swept} {forgot} {:?} {ages:?}", keyring.ending(at(when), 3).await.unwrap())
        }
    }
}

/// All that can be read. How many posts of dead keys end with one that is handed out is a store's own affair: all are dead by
/// then, and all have ended.
async fn whole(keys: &Arc<dyn KeyTable>, keyring: &Arc<dyn Keyring>) -> String {
    assert!(keys.take_post(at(100_000), |_| Duration::ZERO).await.unwrap().is_none());
    assert_eq!(keys.owing().await.unwrap(), Owing { waiting: 0, oldest: None });
    let mut text = format!("{:?}\n{:?}\n", keys.enlisted(None).await.unwrap(), keyring.rows(None).await.unwrap());
    text += &format!(
        "{:?}\n{:?}\n",
        keys.forged(None, at(0)).await.unwrap(),
        keyring.rows(Some("example.net")).await.unwrap()
    );
    for name in ["a", "bb", "c", "c.d"] {
        for domain in ["example.com", "example.net"] {
            let address = format!("{name}@{domain}");
            text += &format!("{:?}\n", keys.of(&mailbox(&address)).await.unwrap());
            for post in keys.posts_of(&mailbox(&address)).await.unwrap() {
                let sent = post.outcome == Some(PostEnd::Sent);
                text += &format!("{} {} {sent}\n", post.generation, post.tries);
            }
        }
    }
    text
}

#[tokio::test]
async fn the_stores_answer_alike_whatever_is_asked() {
    for seed in [1, 2, 3] {
        let mut beds = vec![Bed::sqlite(), Bed::memory()];
        beds.extend(Bed::postgres().await);
        let mut told: Vec<Vec<String>> = Vec::new();
        for bed in &beds {
            let (keys, keyring, mut dice) = (bed.keys().await, bed.keyring().await, Dice(seed));
            let mut mine = Vec::new();
            for _ in 0..400 {
                mine.push(ask(&mut dice, &keys, &keyring).await);
            }
            mine.push(whole(&keys, &keyring).await);
            told.push(mine);
        }
        for others in &told[1..] {
            for (number, (first, other)) in told[0].iter().zip(others).enumerate() {
                assert_eq!(first, other, "seed {seed}, question {number}");
            }
        }
        let grown = told[0].last().unwrap();
        assert!(grown.matches("KeyRow").count() > 5 && grown.contains("KeyringRow"), "too little was asked: {grown}");
    }
}

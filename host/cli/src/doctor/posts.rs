//! The keys of our own Authentication Server that are still to reach their addresses.

use std::time::{Duration, SystemTime};

use super::super::key::text;
use super::Report;
use addrauth::config::{Config, Deliver, Limits};
use addrauth::outbox::KeyMails;
use addrauth::store::{Owing, Posts};

/// A key that was owed for this long is no matter of a slow minute any more.
const LATE: Duration = Duration::from_secs(3_600);

/// Whether new keys can be posted, and are.
pub(super) async fn posts(config: &Config, table: &(impl Posts + ?Sized), report: &mut Report) {
    let deliver = config.authority.deliver;
    if let (Deliver::Mail, Err(e)) = (deliver, KeyMails::from_config(config, &Limits::default())) {
        report.wrong("key mail", format!("no new key can be sent: {e}"));
    }
    match table.owing().await {
        Ok(owing) => tell(owing, deliver, SystemTime::now(), report),
        Err(e) => report.unknown("key mail", e.to_string()),
    }
}

fn tell(owing: Owing, deliver: Deliver, now: SystemTime, report: &mut Report) {
    let about = "key mail";
    let Some(oldest) = owing.oldest.filter(|_| owing.waiting > 0) else {
        return report.good(about, "no new key waits to be posted");
    };
    let owed = format!("{} new keys wait to be posted, the oldest since {}", owing.waiting, text(oldest));
    if deliver == Deliver::Nobody {
        report.warn(about, format!("{owed}, and authority.deliver = \"nobody\": set it to \"mail\" or \"keyring\""));
    } else if now.duration_since(oldest).is_ok_and(|age| age >= LATE) {
        report.warn(
            about,
            format!(
                "{owed}: does `addrauth authority` run? Its log says what holds them back, and `addrauth key show ADDRESS` \
                 for one address"
            ),
        );
    } else {
        report.good(about, owed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::State;
    use super::*;

    #[test]
    fn keys_that_wait_for_long_or_for_nobody_are_told_of() {
        let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let told = |waiting, age, deliver| {
            let mut report = Report::default();
            let oldest = (waiting > 0).then(|| now - Duration::from_secs(age));
            tell(Owing { waiting, oldest }, deliver, now, &mut report);
            (report.0[0].state, report.0[0].text.clone())
        };
        assert_eq!(told(0, 0, Deliver::Mail).0, State::Good);
        assert_eq!(told(7, 3_599, Deliver::Mail).0, State::Good);
        let (state, text) = told(7, 3_600, Deliver::Keyring);
        assert!(
            state == State::Warning && text.contains("7 new keys") && text.contains("2027-01-15T07:00:00Z"),
            "{text}"
        );
        let (state, text) = told(1, 0, Deliver::Nobody);
        assert!(state == State::Warning && text.contains("authority.deliver"), "{text}");
    }

    #[tokio::test]
    async fn a_from_address_that_is_none_is_wrong_where_keys_go_by_mail() {
        let dir = tempfile::tempdir().unwrap();
        let opening = addrauth::store::Opening { busy: Duration::from_secs(2), readers: 1 };
        let table = addrauth::store::SqliteKeys::open(dir.path(), opening).await.unwrap();
        let mut config = Config { hostname: "as.example.com".into(), ..Config::default() };
        config.authority.from = "nobody".into();
        for (deliver, wrong) in [(Deliver::Mail, true), (Deliver::Keyring, false), (Deliver::Nobody, false)] {
            config.authority.deliver = deliver;
            let mut report = Report::default();
            posts(&config, &table, &mut report).await;
            assert_eq!(report.has(State::Wrong), wrong, "{}", report.text());
        }
    }
}

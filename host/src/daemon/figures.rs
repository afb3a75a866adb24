//! What a daemon counts, as Prometheus reads it.
//!
//! No label is an address or a name that a stranger chose, and of our own domains a bounded number has labels, so the number of
//! series is bounded.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::watched::Step;
use crate::case::{Answerer, Case, Disposition, Door, Verdict};
use crate::filter::{SLOW, Times};
use crate::store::KeyAges;

type One<M> = Family<[(&'static str, &'static str); 1], M>;

/// The figures of a filter.
pub(super) struct Figures {
    messages: One<Counter>,
    results: One<Counter>,
    decisions: Family<[(&'static str, &'static str); 2], Counter>,
    faults: Counter,
    answers: One<Counter>,
    verdicts: One<Counter>,
    given_up: Counter,
}

/// What is read when somebody asks.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Id, digest and origin of each policy in force.
    pub(super) policies: Vec<(String, String, String)>,
    /// How long each step of the messages took.
    pub(super) steps: Vec<StepTimes>,
    /// What is remembered.
    pub(super) caches: Vec<Cache>,
    /// Names looked up in DNS, and questions that were sent for them; absent where nobody asks.
    pub(super) dns: Option<(u64, u64)>,
    /// The keys of our own addresses, by domain; absent where there are none, or nobody can tell.
    pub(super) keys: Vec<DomainKeys>,
    /// Messages in quarantine, their octets, and mails that wait to be sent; absent where nothing is kept, or nobody can tell.
    pub(super) kept: Option<(u64, u64, u64)>,
}

/// How long a step of the messages took.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepTimes {
    step: &'static str,
    counts: [u64; 2],
    total: Duration,
}

impl StepTimes {
    pub(super) fn of(step: &'static str, times: &Times) -> StepTimes {
        StepTimes { step, counts: times.counts(), total: times.total() }
    }
}

/// A cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cache {
    /// What it remembers.
    pub(super) of: &'static str,
    /// How much of it.
    pub(super) entries: usize,
    /// How often it knew what was asked for, and how often not; absent where other figures tell.
    pub(super) asked: Option<[u64; 2]>,
}

/// The keys of our own addresses in one domain, or in several that have no figures of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DomainKeys {
    /// The domain; `other` is no domain, and stands for several.
    domain: String,
    addresses: u64,
    ended: u64,
    /// Seconds since the oldest living key was learned.
    oldest: u64,
}

/// The figures of the first `most` domains, and of all the others as one.
pub(super) fn by_domain(ages: &[KeyAges], now: std::time::SystemTime, most: usize) -> Vec<DomainKeys> {
    let figures = |ages: &KeyAges| {
        let age = ages.oldest.and_then(|oldest| now.duration_since(oldest).ok()).unwrap_or_default();
        DomainKeys { domain: ages.domain.clone(), addresses: ages.addresses, ended: ages.ended, oldest: age.as_secs() }
    };
    let (own, others) = ages.split_at(most.min(ages.len()));
    let other = others.iter().map(figures).reduce(|one, other| DomainKeys {
        domain: String::new(),
        addresses: one.addresses.saturating_add(other.addresses),
        ended: one.ended.saturating_add(other.ended),
        oldest: one.oldest.max(other.oldest),
    });
    let other = other.map(|other| DomainKeys { domain: "other".into(), ..other });
    own.iter().map(figures).chain(other).collect()
}

impl Collector for StepsOfAll {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "How long a message's sender is verified, its recipients decided for, and what is owed kept";
        let mut steps = encoder.encode_descriptor("step_seconds", help, None, MetricType::Histogram)?;
        for StepTimes { step, counts: [quick, slow], total } in &self.0 {
            let classes = [(SLOW.as_secs_f64(), *quick), (f64::MAX, *slow)];
            let count = quick.saturating_add(*slow);
            let labels = [("step", *step)];
            steps.encode_family(&labels)?.encode_histogram::<NoLabelSet>(total.as_secs_f64(), count, &classes, None)?;
        }
        Ok(())
    }
}

/// The steps as one family.
#[derive(Debug)]
struct StepsOfAll(Vec<StepTimes>);

impl Figures {
    pub(super) fn new() -> Figures {
        Figures {
            messages: Family::default(),
            results: Family::default(),
            decisions: Family::default(),
            faults: Counter::default(),
            answers: Family::default(),
            verdicts: Family::default(),
            given_up: Counter::default(),
        }
    }

    /// Counts a step of a message.
    pub(super) fn note(&self, step: Step<'_>) {
        match step {
            Step::Kept { case, observe } => self.count(case, observe),
            Step::GivenUp => _ = self.given_up.inc(),
        }
    }

    fn count(&self, case: &Case, observe: bool) {
        let door = match case.mail.door {
            Door::Reception => "reception",
            Door::Delivery => "delivery",
        };
        self.messages.get_or_create(&[("door", door)]).inc();
        self.results.get_or_create(&[("result", case.finding.word())]).inc();
        if let Some(found) = case.finding.found() {
            match &found.authority {
                Some(_) if found.cached => _ = self.answers.get_or_create(&[("over", "memory")]).inc(),
                Some(Answerer { over_tls: true, .. }) => _ = self.answers.get_or_create(&[("over", "tls")]).inc(),
                Some(_) => _ = self.answers.get_or_create(&[("over", "udp")]).inc(),
                None => {}
            }
        }
        self.verdicts.get_or_create(&[("verdict", case.reply.verdict.word())]).inc();
        let is_put_off = matches!(case.reply.verdict, Verdict::Defer(_));
        let comes_again =
            |index: &usize| is_put_off || case.reply.put_off.iter().any(|put_off| put_off.recipient == *index);
        for decision in &case.decisions {
            for recipient in &decision.recipients {
                // What comes again is decided again, whatever was decided now.
                let (decision, mode) = match () {
                    () if comes_again(recipient) => (Disposition::Defer, "put-off"),
                    () if observe => (decision.disposition, "observed"),
                    () => (decision.disposition, "in-force"),
                };
                self.decisions.get_or_create(&[("decision", decision.word()), ("mode", mode)]).inc();
            }
            if decision.fault.is_some() {
                self.faults.inc();
            }
        }
    }

    /// All of it as text (OpenMetrics 1.0).
    pub(super) fn text(&self, standing: &Standing) -> String {
        let mut registry = Registry::with_prefix("addrauth");
        let version: One<Gauge> = Family::default();
        version.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        registry.register("build_info", "The version of the program", version);
        registry.register("messages", "Messages that got their answer, by the kind of door", self.messages.clone());
        registry.register("verdicts", "The same by the answer", self.verdicts.clone());
        registry.register("results", "The same by what was found about their sender", self.results.clone());
        let given_up =
            "Messages that got 451 since judging or keeping them took too long or failed, or since they were given up";
        registry.register("given_up", given_up, self.given_up.clone());
        let decisions = "Recipients by what was decided, and whether it is in force, observed, or put off";
        registry.register("decisions", decisions, self.decisions.clone());
        registry.register("policy_faults", "Decisions that a policy failed to make", self.faults.clone());
        let answers = "Verdicts of Authentication Servers by how they came: udp, tls, or memory";
        registry.register("answers_used", answers, self.answers.clone());
        registry.register_collector(Box::new(StepsOfAll(standing.steps.clone())));
        caches(&mut registry, standing);
        keys(&mut registry, &standing.keys);
        let policies: Family<[(&'static str, String); 3], Gauge> = Family::default();
        for (policy, digest, origin) in &standing.policies {
            let labels = [("policy", policy), ("sha256", digest), ("origin", origin)];
            policies.get_or_create(&labels.map(|(name, value)| (name, escaped(value)))).set(1);
        }
        registry.register("policy_info", "The policies in force, and what reads users' own rules", policies);
        if let Some((messages, octets, mails)) = standing.kept {
            for (name, help, value) in [
                ("quarantined_messages", "Messages in quarantine", messages),
                ("quarantined_octets", "Octets of messages in quarantine", octets),
                ("outbox_mails", "Mails that are still to be sent", mails),
            ] {
                let gauge: Gauge = Gauge::default();
                gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
                registry.register(name, help, gauge);
            }
        }
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = encode(&mut text, &registry);
        text
    }
}

/// What is remembered, and how often that was enough.
fn caches(registry: &mut Registry, standing: &Standing) {
    let (entries, asked): (One<Gauge>, Family<_, Counter>) = Default::default();
    for cache in &standing.caches {
        entries.get_or_create(&[("cache", cache.of)]).set(i64::try_from(cache.entries).unwrap_or(i64::MAX));
        for (count, found) in cache.asked.into_iter().flatten().zip(["yes", "no"]) {
            asked.get_or_create(&[("cache", cache.of), ("found", found)]).inc_by(count);
        }
    }
    registry.register(
        "cache_entries",
        "What is remembered: answers of Authentication Servers, choices, rules",
        entries,
    );
    registry.register("cache_lookups", "How often a cache was asked, and whether it knew", asked);
    if let Some((lookups, questions)) = standing.dns {
        let counters = [
            ("dns_lookups", "Names looked up in DNS, most of them in memory", lookups),
            ("dns_questions", "Questions that were sent to name servers", questions),
        ];
        for (name, help, count) in counters {
            let counter: Counter = Counter::default();
            counter.inc_by(count);
            registry.register(name, help, counter);
        }
    }
}

/// The keys of our own addresses.
fn keys(registry: &mut Registry, domains: &[DomainKeys]) {
    if domains.is_empty() {
        return;
    }
    type Figure = fn(&DomainKeys) -> u64;
    let figures: [(&str, &str, Figure); 3] = [
        ("keyring_addresses", "Addresses of ours that have a key", |keys| keys.addresses),
        ("keyring_ended_keys", "Of these, those whose key has ended", |keys| keys.ended),
        ("keyring_oldest_key_seconds", "How long ago the oldest living key was learned", |keys| keys.oldest),
    ];
    for (name, help, figure) in figures {
        let family: Family<[(&'static str, String); 1], Gauge> = Family::default();
        for keys in domains {
            let value = i64::try_from(figure(keys)).unwrap_or(i64::MAX);
            family.get_or_create(&[("domain", escaped(&keys.domain))]).set(value);
        }
        registry.register(name, help, family);
    }
}

/// A value of a label, which stands between quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{
        By, Decision, Direction, Envelope, Finding, Found, Head, KeyStatus, Mail, MarkAs, Notify, Postponed, Refusal,
        Reply, Stamp, Submitted,
    };

    fn case(status: KeyStatus, disposition: Disposition, verdict: Verdict) -> Case {
        let decision = Decision {
            recipients: vec![0, 1],
            by: By::Site,
            mark: MarkAs::Header,
            policy: "p".into(),
            digest: String::new(),
            disposition,
            notify: Notify::default(),
            reason: "for alice@example.com".into(),
            fault: (disposition == Disposition::Defer).then(|| "trapped".into()),
            clamped: None,
            passed_over: None,
            rules_unread: None,
            facts: serde_json::Value::Null,
            settings: serde_json::Value::Null,
            shadow: None,
        };
        Case {
            mail: Mail::new(Envelope::default(), Head::default()),
            finding: Finding::Found(Found::bare(status, None, None)),
            decisions: vec![decision],
            reply: Reply::bare(verdict),
        }
    }

    /// All that a filter can tell that does not change between observing and not.
    fn everything(standing: &Standing) -> String {
        let figures = Figures::new();
        let refusal = || Refusal { code: 451, status: "4.7.1", text: "later".into() };
        let verdicts = [
            Verdict::Accept,
            Verdict::Discard,
            Verdict::Hold(String::new()),
            Verdict::Reject(refusal()),
            Verdict::Defer(refusal()),
        ];
        let dispositions =
            [Disposition::Accept, Disposition::Mark, Disposition::Quarantine, Disposition::Reject, Disposition::Defer];
        let note = |case: &Case| figures.note(Step::Kept { case, observe: false });
        for (status, verdict) in KeyStatus::ALL.into_iter().zip(verdicts.iter().cycle()) {
            for disposition in dispositions {
                note(&case(status, disposition, verdict.clone()));
            }
        }
        let mut answered = case(KeyStatus::Valid, Disposition::Accept, Verdict::Accept);
        for (over_tls, cached) in [(false, false), (true, false), (true, true)] {
            let found = answered.finding.found_mut().unwrap();
            (found.cached, found.authority) = (cached, Some(Answerer { authority: "as.example:1".into(), over_tls }));
            note(&answered);
        }
        answered.mail = answered.mail.altered(|envelope, _| envelope.door = Door::Delivery);
        let submitted = Submitted { sender: None, stamp: Stamp::Client, inside: None };
        let others = [
            Finding::Passing(Direction::Relay),
            Finding::Submitted(submitted),
            Finding::Postponed(Postponed::Keyring(String::new())),
            Finding::Unclear,
        ];
        for finding in others {
            note(&Case { finding, decisions: Vec::new(), ..answered.clone() });
        }
        figures.note(Step::GivenUp);
        figures.text(standing)
    }

    fn standing() -> Standing {
        let cache = |of, asked| Cache { of, entries: 7, asked };
        let times = [[18, 1], [9, 0], [4, 0]].into_iter().zip(["verify", "decide", "keep"]);
        Standing {
            policies: vec![("mark".into(), "b3eb417a5e49".into(), "a \"quoted\" \\ path".into())],
            steps: times
                .map(|(counts, step)| StepTimes { step, counts, total: Duration::from_millis(1_500) })
                .collect(),
            caches: vec![cache("answers", None), cache("choices", Some([5, 2])), cache("rules", Some([1, 0]))],
            dns: Some((40, 3)),
            keys: Vec::new(),
            kept: Some((3, 4_096, 2)),
        }
    }

    fn has(text: &str, lines: &[&str]) {
        for line in lines {
            assert!(text.lines().any(|known| known == *line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_series_stands_for_a_word_of_ours_and_they_are_few() {
        let text = everything(&standing());
        has(
            &text,
            &[
                "addrauth_messages_total{door=\"delivery\"} 4",
                "addrauth_results_total{result=\"invalid\"} 5",
                "addrauth_results_total{result=\"postponed\"} 1",
                "addrauth_answers_used_total{over=\"memory\"} 1",
                "addrauth_verdicts_total{verdict=\"hold\"} 5",
                "addrauth_decisions_total{decision=\"mark\",mode=\"in-force\"} 10",
                "addrauth_decisions_total{decision=\"defer\",mode=\"put-off\"} 10",
                "addrauth_policy_faults_total 6",
                "addrauth_given_up_total 1",
                "addrauth_step_seconds_sum{step=\"verify\"} 1.5",
                "addrauth_step_seconds_count{step=\"verify\"} 19",
                "addrauth_step_seconds_bucket{le=\"0.25\",step=\"verify\"} 18",
                "addrauth_step_seconds_bucket{le=\"+Inf\",step=\"verify\"} 19",
                "addrauth_cache_entries{cache=\"answers\"} 7",
                "addrauth_cache_lookups_total{cache=\"choices\",found=\"no\"} 2",
                "addrauth_dns_lookups_total 40",
                "addrauth_policy_info{policy=\"mark\",sha256=\"b3eb417a5e49\",origin=\"a \\\"quoted\\\" \\\\ path\"} 1",
                "addrauth_quarantined_messages 3",
                "addrauth_outbox_mails 2",
            ],
        );
        assert!(!text.contains("example") && text.ends_with("# EOF\n"), "{text}");
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        // Beside the policies, of which there is one here.
        assert_eq!(series - 1, MOST, "{text}");
        // A policy that went out of force is gone, and so is what nobody could tell.
        let bare = Figures::new().text(&Standing::default());
        assert!(!bare.contains("b3eb417a5e49") && !bare.contains("addrauth_outbox_mails"), "{bare}");
        assert!(!bare.contains("addrauth_keyring_"), "{bare}");
    }

    /// What `host/doc/metrics.md` promises.
    const MOST: usize = 53;

    #[test]
    fn keys_are_told_of_by_domain_up_to_a_bound_and_the_rest_as_one() {
        let now = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let ages = |number: u64| KeyAges {
            domain: format!("d{number}.example"),
            addresses: number,
            ended: 1,
            oldest: (number > 1).then(|| now - Duration::from_secs(10 * number)),
        };
        let all: Vec<KeyAges> = (1..=5).map(ages).collect();
        let told: Vec<_> = by_domain(&all, now, 3).into_iter().map(|keys| (keys.domain, keys.oldest)).collect();
        let names = ["d1.example", "d2.example", "d3.example", "other"].map(String::from);
        assert_eq!(told, names.into_iter().zip([0, 20, 30, 50]).collect::<Vec<_>>());
        assert_eq!(by_domain(&all, now, 9).len(), 5);
        assert_eq!(by_domain(&[], now, 3), []);
        let text = Figures::new().text(&Standing { keys: by_domain(&all, now, 3), ..Standing::default() });
        has(
            &text,
            &[
                "addrauth_keyring_addresses{domain=\"d3.example\"} 3",
                "addrauth_keyring_addresses{domain=\"other\"} 9",
                "addrauth_keyring_ended_keys{domain=\"other\"} 2",
                "addrauth_keyring_oldest_key_seconds{domain=\"other\"} 50",
            ],
        );
    }
}

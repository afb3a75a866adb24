//! What a daemon counts, as Prometheus reads it.
//!
//! No label is an address, a domain or a name that a stranger chose, so the number of series is bounded.

use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::watched::Step;
use crate::case::{Answerer, Case, Door, Finding, Verdict};

/// Seconds up to which a step is counted in a class of its own: from memory, by one question on the network, slow.
const SECONDS: [f64; 3] = [0.025, 0.25, 2.5];

type One<M> = Family<[(&'static str, &'static str); 1], M>;
type Steps = Family<[(&'static str, &'static str); 1], Histogram, fn() -> Histogram>;

/// The figures of a filter.
pub(super) struct Figures {
    messages: One<Counter>,
    results: One<Counter>,
    decisions: Family<[(&'static str, &'static str); 2], Counter>,
    faults: Counter,
    answers: One<Counter>,
    verdicts: One<Counter>,
    given_up: Counter,
    steps: Steps,
}

/// What is read when somebody asks.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Id, digest and origin of each policy in force.
    pub(super) policies: Vec<(String, String, String)>,
    /// Messages in quarantine, their octets, and mails that wait to be sent; absent where nothing is kept, or nobody can tell.
    pub(super) kept: Option<(u64, u64, u64)>,
}

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
            steps: Family::new_with_constructor(|| Histogram::new(SECONDS)),
        }
    }

    /// Counts a step of a message.
    pub(super) fn note(&self, step: Step<'_>) {
        match step {
            Step::Examined(took) => self.took("examine", took),
            Step::Kept { case, observe, took } => {
                self.took("keep", took);
                self.count(case, observe);
            }
            Step::GivenUp => _ = self.given_up.inc(),
        }
    }

    fn took(&self, step: &'static str, took: Duration) {
        self.steps.get_or_create(&[("step", step)]).observe(took.as_secs_f64());
    }

    fn count(&self, case: &Case, observe: bool) {
        let door = match case.mail.door {
            Door::Reception => "reception",
            Door::Delivery => "delivery",
        };
        self.messages.get_or_create(&[("door", door)]).inc();
        let result = match &case.finding {
            Finding::Found(found) => found.status.word(),
            Finding::Submitted(_) => "submitted",
            Finding::Passing(_) => "passing",
            Finding::Postponed(_) => "postponed",
            Finding::Unclear => "unclear",
        };
        self.results.get_or_create(&[("result", result)]).inc();
        if let Some(found) = case.finding.found() {
            match &found.authority {
                Some(_) if found.cached => _ = self.answers.get_or_create(&[("over", "memory")]).inc(),
                Some(Answerer { over_tls: true, .. }) => _ = self.answers.get_or_create(&[("over", "tls")]).inc(),
                Some(_) => _ = self.answers.get_or_create(&[("over", "udp")]).inc(),
                None => {}
            }
        }
        let verdict = match &case.reply.verdict {
            Verdict::Accept => "accept",
            Verdict::Hold(_) => "hold",
            Verdict::Discard => "discard",
            Verdict::Reject(_) => "reject",
            Verdict::Defer(_) => "defer",
        };
        self.verdicts.get_or_create(&[("verdict", verdict)]).inc();
        let comes_again =
            |index: &usize| verdict == "defer" || case.reply.put_off.iter().any(|put_off| put_off.recipient == *index);
        for decision in &case.decisions {
            for recipient in &decision.recipients {
                let mode = match () {
                    () if comes_again(recipient) => "put-off",
                    () if observe => "observed",
                    () => "in-force",
                };
                self.decisions.get_or_create(&[("decision", decision.disposition.word()), ("mode", mode)]).inc();
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
        registry.register("step_seconds", "How long a message is examined, and then kept", self.steps.clone());
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

/// A value of a label, which stands between quotes.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{By, Decision, Disposition, Envelope, Found, Head, KeyStatus, Mail, MarkAs, Notify, Reply};

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

    #[test]
    fn every_series_stands_for_a_word_of_ours_and_they_are_few() {
        let figures = Figures::new();
        let took = Duration::from_millis(30);
        for status in KeyStatus::ALL {
            for (disposition, verdict) in [
                (Disposition::Accept, Verdict::Accept),
                (Disposition::Mark, Verdict::Accept),
                (Disposition::Reject, Verdict::Discard),
            ] {
                figures.note(Step::Examined(took));
                let case = case(status, disposition, verdict);
                figures.note(Step::Kept { case: &case, observe: false, took });
            }
        }
        let deferred = case(KeyStatus::Unverified, Disposition::Defer, crate::settle::deferred().verdict);
        figures.note(Step::Kept { case: &deferred, observe: true, took });
        figures.note(Step::GivenUp);
        let standing = Standing {
            policies: vec![("mark".into(), "b3eb417a5e49".into(), "a \"quoted\" \\ path".into())],
            kept: Some((3, 4_096, 2)),
        };
        let text = figures.text(&standing);
        for line in [
            "addrauth_messages_total{door=\"reception\"} 19",
            "addrauth_results_total{result=\"invalid\"} 3",
            "addrauth_decisions_total{decision=\"mark\",mode=\"in-force\"} 12",
            "addrauth_decisions_total{decision=\"defer\",mode=\"put-off\"} 2",
            "addrauth_policy_faults_total 1",
            "addrauth_verdicts_total{verdict=\"accept\"} 12",
            "addrauth_verdicts_total{verdict=\"defer\"} 1",
            "addrauth_given_up_total 1",
            "addrauth_step_seconds_bucket{le=\"0.25\",step=\"examine\"} 18",
            "addrauth_policy_info{policy=\"mark\",sha256=\"b3eb417a5e49\",origin=\"a \\\"quoted\\\" \\\\ path\"} 1",
            "addrauth_quarantined_messages 3",
            "addrauth_outbox_mails 2",
        ] {
            assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("example.com") && text.ends_with("# EOF\n"), "{text}");
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        assert!(series <= 46, "{series}\n{text}");
        // A policy that went out of force is gone, and so is what nobody could tell.
        let bare = figures.text(&Standing::default());
        assert!(!bare.contains("b3eb417a5e49") && !bare.contains("addrauth_outbox_mails"), "{bare}");
    }
}

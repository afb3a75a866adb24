//! A case as one line for the log.

use super::{Case, Decision, Direction, Finding, Found, Learned, NewKey, Stamp, Submitted};
use crate::proto::redact::Redactor;
use crate::proto::text;

/// Recipients of one decision that a log line names.
const NAMED: usize = 3;

/// A line as far as it is written: words of the form `name=value`. What came from outside is escaped.
struct Line<'a> {
    text: String,
    /// Takes keys out of values.
    redactor: &'a Redactor,
}

impl Line<'_> {
    /// A word whose value has no key in it.
    fn word(&mut self, name: &str, value: &str) {
        let value = self.redactor.cut_text(value);
        self.as_it_is(name, &value);
    }

    /// A word whose value is told as it is.
    fn as_it_is(&mut self, name: &str, value: &str) {
        for part in [" ", name, "=", &text::word(value)] {
            self.text.push_str(part);
        }
    }

    fn finding(&mut self, finding: &Finding) {
        match finding {
            Finding::Passing(direction) => self.word("direction", direction.word()),
            Finding::Postponed(postponed) => self.word("postponed", postponed.word()),
            Finding::Unclear => self.word("result", "unclear"),
            Finding::Submitted(submitted) => self.submitted(submitted),
            Finding::Found(found) => self.found(found),
        }
    }

    fn submitted(&mut self, Submitted { sender, stamp, inside }: &Submitted) {
        self.word("direction", Direction::Outbound.word());
        if let Some(sender) = sender {
            self.word("from", &sender.to_string());
        }
        match stamp {
            Stamp::Newest(key) => self.word("stamped", &key.verify_key().fingerprint()),
            Stamp::Client => self.word("stamped", "client"),
            Stamp::Bare(why) => self.word("unstamped", why.word()),
        }
        if let Some(found) = inside {
            self.word("inside", found.status.word());
            if let Some(why) = found.why {
                self.word("why", why.word());
            }
            self.keys(found);
        }
    }

    fn found(&mut self, found: &Found) {
        self.word("result", found.status.word());
        if let Some(why) = found.why {
            self.word("why", why.word());
        }
        if let Some(limited) = found.limited {
            self.word("limit", limited.word());
        }
        if let Some(sender) = &found.sender {
            self.word("from", &sender.to_string());
        }
        if let Some(authority) = &found.authority {
            self.word("as", &authority.to_string());
            self.word("cached", if found.cached { "yes" } else { "no" });
        }
        self.keys(found);
        if let Some(auth) = found.mail_auth {
            for (name, result) in [("spf", auth.spf), ("dkim", auth.dkim), ("dmarc", auth.dmarc)] {
                self.word(name, result.word());
            }
        }
    }

    /// The words about new keys, and about ours that were seen.
    fn keys(&mut self, found: &Found) {
        match &found.new_key {
            Some(NewKey::Proven(proven)) => {
                self.word("new-key", proven.learned.map_or("proven", Learned::word));
                self.word("for", &proven.address.to_string());
            }
            Some(NewKey::Refused(why)) => self.word("new-key-refused", why.word()),
            None => {}
        }
        if found.own_key {
            self.word("own-key", "seen");
        }
    }

    /// The words of a decision; `to` names its recipients, where there are other decisions.
    fn decision(&mut self, decision: &Decision, to: Option<&str>) {
        self.word("policy", &decision.policy);
        self.word("decision", &decision.word());
        self.word("by", decision.by.word());
        if let Some(to) = to {
            self.as_it_is("to", to);
        }
        let beside =
            [("fault", &decision.fault), ("clamped", &decision.clamped), ("passed-over", &decision.passed_over)];
        for (name, text) in beside {
            if let Some(text) = text {
                self.word(name, text);
            }
        }
    }
}

impl Case {
    /// The case as one line for the log, queue id first; what came from outside is escaped, and has no key in it. The recipients
    /// are told as they are.
    pub fn line(&self) -> String {
        let redactor = &self.mail.redactor();
        let mut line = Line { text: format!("{}:", self.queue_id_word()), redactor };
        line.finding(&self.finding);
        for decision in &self.decisions {
            let to = (self.decisions.len() > 1).then(|| self.named(&decision.recipients));
            line.decision(decision, to.as_deref());
        }
        line.word("recipients", &self.mail.recipients.len().to_string());
        if let Some(found) = self.finding.found().filter(|found| !found.elsewhere.is_empty()) {
            line.word("elsewhere", &found.elsewhere.len().to_string());
        }
        if !self.reply.put_off.is_empty() {
            line.word("put-off", &self.reply.put_off.len().to_string());
        }
        line.word("verdict", self.reply.verdict.word());
        line.text
    }

    /// The queue id as the line has it; `-` where there is none.
    pub fn queue_id_word(&self) -> String {
        text::word(self.mail.queue_id.as_deref().unwrap_or("-"))
    }

    /// What was decided, as one word: `mixed` where it was not the same for all, absent where nothing was.
    pub fn decided(&self) -> Option<&'static str> {
        let mut words = self.decisions.iter().map(|decision| decision.disposition.word());
        let first = words.next()?;
        Some(if words.all(|word| word == first) { first } else { "mixed" })
    }

    /// The first few of these recipients, and how many more there are.
    fn named(&self, recipients: &[usize]) -> String {
        let path = |index: &usize| self.mail.recipients.get(*index).map(|recipient| format!("<{}>", recipient.shown()));
        let named: Vec<String> = recipients.iter().take(NAMED).filter_map(path).collect();
        match recipients.len().saturating_sub(NAMED) {
            0 => named.join(","),
            more => format!("{},+{more}", named.join(",")),
        }
    }
}

//! One question to the Authentication Servers of an address, and what came out of it.

use std::sync::Arc;

use tokio::time::Instant;

use super::bringer::Sponsors;
use super::locate::Endpoint;
use super::peers::Over;
use crate::case::{Answerer, Limited, Why};
use crate::proto::address::Address;
use crate::proto::key::AuthKey;
use crate::proto::wire::{Answer, Question, Reason, Status};

/// What came out of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// VALIDKEY, and for how many seconds more.
    Valid {
        /// `t=`
        valid_for: Option<u32>,
    },
    /// INVALIDKEY: wrong or expired.
    Invalid(Why),
    /// Nobody could say.
    Unverified(Why),
    /// A budget was spent, and nobody decided: the message is to come again.
    Limited(Limited),
}

impl Said {
    /// What an answer says.
    pub(super) fn by(answer: &Answer) -> Said {
        match (answer.status, answer.reason) {
            (Status::Valid, _) => Said::Valid { valid_for: answer.valid_for },
            (Status::Invalid, Some(Reason::Expired)) => Said::Invalid(Why::Expired),
            (Status::Invalid, _) => Said::Invalid(Why::Wrong),
            (Status::Unverified, Some(Reason::Limit | Reason::Stream)) => Said::Limited(Limited::There),
            // DNS led to a server that does not speak for this domain, or not this protocol.
            (Status::Unverified, Some(Reason::Domain | Reason::Version | Reason::Syntax)) => Said::Unverified(Why::Dns),
            (Status::Unverified, _) => Said::Unverified(Why::Timeout),
        }
    }
}

/// What came out of a question, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) said: Said,
    /// Absent where nobody answered.
    pub(super) endpoint: Option<Endpoint>,
    /// Over what it answered.
    pub(super) over: Over,
}

impl Verdict {
    pub(super) fn unverified(why: Why) -> Verdict {
        Verdict { said: Said::Unverified(why), endpoint: None, over: Over::Udp }
    }

    pub(super) fn limited() -> Verdict {
        Verdict { said: Said::Limited(Limited::Here), endpoint: None, over: Over::Udp }
    }

    /// Who said so.
    pub(super) fn answerer(&self) -> Option<Answerer> {
        let authority = self.endpoint.as_ref()?.authority.clone();
        Some(Answerer { authority, over_tls: self.over == Over::Tls })
    }

    pub(super) fn decides(&self) -> bool {
        matches!(self.said, Said::Valid { .. } | Said::Invalid(_))
    }

    /// What is left of two verdicts that decide nothing: a spent budget tells most, then an answer.
    pub(super) fn or(self, other: Verdict) -> Verdict {
        let weight = |verdict: &Verdict| (matches!(verdict.said, Said::Limited(_)), verdict.endpoint.is_some());
        if weight(&self) > weight(&other) { self } else { other }
    }
}

/// One question: who is asked, about what, and until when.
pub(super) struct Inquiry {
    pub(super) address: Address,
    pub(super) key: AuthKey,
    /// In order of priority; at most `limits.verify.endpoints`.
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) deadline: Instant,
    /// TLS goes before UDP, where an endpoint offers it.
    pub(super) stream_first: bool,
    /// Who wants it answered.
    pub(super) sponsors: Arc<Sponsors>,
}

/// The question with a new sequence number; without the claim of who asks where the line would be too long: that is worth
/// less than an answer.
pub(super) fn question(inquiry: &Inquiry, from: &str, room: usize) -> Arc<Question> {
    let seq = format!("{:032x}", rand::random::<u128>());
    let question = Question::new(seq.clone(), &inquiry.address, &inquiry.key, from);
    let fits = question.line(room).is_some();
    Arc::new(if fits { question } else { Question::new(seq, &inquiry.address, &inquiry.key, "") })
}

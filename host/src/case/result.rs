//! Which way a message goes, the six results of verification, and the reasons behind them.

use serde::{Deserialize, Serialize};

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// To a domain of ours: it is examined.
    Inbound,
    /// From a login or trusted submitter of ours, to somebody elsewhere.
    Outbound,
    /// Neither: we forward or relay it, and the key stays.
    Relay,
    /// Written by ourselves: it carries our mark.
    Own,
    /// One of our own servers examined the message before us. What it found stands, and its status field stays.
    Examined,
}

impl Direction {
    /// The word of the log.
    pub fn word(self) -> &'static str {
        match self {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
            Direction::Relay => "relay",
            Direction::Own => "own",
            Direction::Examined => "examined",
        }
    }
}

/// The six results (INVARIANTS §1.2); one word in the configuration, the contract, the journal and the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyStatus {
    /// An AS confirmed the key, now or within the cache's bound; or the sender is our own login.
    Valid,
    /// An AS said that key and address do not belong together.
    Invalid,
    /// The domain takes part, and there is no key.
    Missing,
    /// The domain publishes no AS.
    None,
    /// DNS or the AS failed.
    Unverified,
    /// No single address, or no single usable key.
    Unusable,
}

impl KeyStatus {
    /// All six, in the contract's order.
    pub const ALL: [KeyStatus; 6] = [
        KeyStatus::Valid,
        KeyStatus::Invalid,
        KeyStatus::Missing,
        KeyStatus::None,
        KeyStatus::Unverified,
        KeyStatus::Unusable,
    ];

    /// The word of the configuration, the contract and the journal.
    pub fn word(self) -> &'static str {
        match self {
            KeyStatus::Valid => "valid",
            KeyStatus::Invalid => "invalid",
            KeyStatus::Missing => "missing",
            KeyStatus::None => "none",
            KeyStatus::Unverified => "unverified",
            KeyStatus::Unusable => "unusable",
        }
    }

    /// The word of the `X-Auth-Key-Status` field.
    pub fn status_word(self) -> &'static str {
        match self {
            KeyStatus::Valid => "VALIDKEY",
            KeyStatus::Invalid => "INVALIDKEY",
            KeyStatus::Missing => "NOKEY",
            KeyStatus::None => "NOSERVER",
            KeyStatus::Unverified => "UNVERIFIED",
            KeyStatus::Unusable => "UNUSABLE",
        }
    }
}

/// The reason behind a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// The AS does not know this key for this address.
    Wrong,
    /// The key was right until at most 14 days ago.
    Expired,
    /// No From field.
    NoFrom,
    /// Several From fields, or several mailboxes in one.
    SeveralFrom,
    /// A From field without a usable address.
    BadAddress,
    /// A bounce: the null reverse-path, and a From field in which no reader finds an address. It impersonates nobody.
    NoAddress,
    /// Keys that differ.
    SeveralKeys,
    /// A key outside the grammar.
    BadKey,
    /// A key field that no MTA command can remove, or a header over its limits.
    MalformedHeader,
    /// DNS failed, or its answer is unusable.
    Dns,
    /// No answer from the AS in time.
    Timeout,
    /// A budget for questions was spent. Older versions found this, and old components may name it; now such a message is put
    /// off ([`super::Postponed::Limited`]).
    Limit,
    /// The AS cannot be asked with a proof: the question is too long for a datagram, and there is no TLS.
    NoProof,
}

impl Why {
    /// The word of the journal and the `reason=` of the status field; the contract has it too, or says `other`.
    pub fn word(self) -> &'static str {
        match self {
            Why::Wrong => "wrong",
            Why::Expired => "expired",
            Why::NoFrom => "no-from",
            Why::SeveralFrom => "several-from",
            Why::BadAddress => "bad-address",
            Why::NoAddress => "no-address",
            Why::SeveralKeys => "several-keys",
            Why::BadKey => "bad-key",
            Why::MalformedHeader => "malformed-header",
            Why::Dns => "dns",
            Why::Timeout => "timeout",
            Why::Limit => "limit",
            Why::NoProof => "no-proof",
        }
    }
}

//! The contract as the rest of this room speaks it: the types of its newest version, and their words in cases and journals.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) use super::since_v0_2::{
    Address, AuthResult, Claim, Client, Decision, Description, Disposition, Facts, KeyStatus, Kind, MailAuth, Notify,
    Setting, Trail, Value, Wanted, Wants, Why,
};

/// The cases of these types by the words that `wit/policy.wit` has for them; facts as text are written in them.
macro_rules! words {
    ($($type:ident { $($word:literal $case:ident)* })*) => {$(
        impl $type {
            /// Every case.
            #[cfg(test)]
            pub(crate) const ALL: &[$type] = &[$($type::$case),*];

            /// The contract's word.
            pub(crate) fn word(self) -> &'static str {
                match self { $($type::$case => $word),* }
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.word())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<$type, D::Error> {
                match String::deserialize(deserializer)?.as_str() {
                    $($word => Ok($type::$case),)*
                    other => Err(D::Error::unknown_variant(other, &[$($word),*])),
                }
            }
        }
    )*};
}

words! {
    KeyStatus {
        "valid" Valid "invalid" Invalid "missing" Missing "none" None "unverified" Unverified "unusable" Unusable
    }
    Why {
        "wrong" Wrong "expired" Expired "no-from" NoFrom "several-from" SeveralFrom "bad-address" BadAddress
        "several-keys" SeveralKeys "bad-key" BadKey "malformed-header" MalformedHeader "dns" Dns "timeout" Timeout
        "limit" Limit "no-proof" NoProof "other" Other
    }
    AuthResult {
        "none" None "pass" Pass "fail" Fail "softfail" Softfail "neutral" Neutral "policy" Policy
        "temperror" Temperror "permerror" Permerror
    }
    Claim { "testing" Testing "some" Some "all" All }
}

impl Wants {
    /// Every flag with its word.
    pub(crate) const WORDS: [(&'static str, Wants); 10] = [
        ("why", Wants::WHY),
        ("sender", Wants::SENDER),
        ("recipient", Wants::RECIPIENT),
        ("envelope-sender", Wants::ENVELOPE_SENDER),
        ("client", Wants::CLIENT),
        ("size", Wants::SIZE),
        ("trail", Wants::TRAIL),
        ("mail-auth", Wants::MAIL_AUTH),
        ("claim", Wants::CLAIM),
        ("last-valid", Wants::LAST_VALID),
    ];

    /// The words of the facts it asks for.
    pub(crate) fn words(self) -> Vec<&'static str> {
        Wants::WORDS.iter().filter(|(_, fact)| self.contains(*fact)).map(|(word, _)| *word).collect()
    }
}

impl Trail {
    /// Every flag with its word.
    pub(crate) const WORDS: [(&'static str, Trail); 5] = [
        ("mailing-list", Trail::MAILING_LIST),
        ("forwarded", Trail::FORWARDED),
        ("resent", Trail::RESENT),
        ("automatic", Trail::AUTOMATIC),
        ("bounce", Trail::BOUNCE),
    ];
}

impl Facts {
    /// The facts of a message of which only the result is told.
    pub(crate) fn of(status: KeyStatus) -> Facts {
        Facts {
            status,
            why: None,
            sender: None,
            recipient: None,
            envelope_sender: None,
            client: None,
            size: None,
            trail: None,
            mail_auth: None,
            claim: None,
            last_valid: None,
            headers: Vec::new(),
        }
    }
}

impl Wanted {
    /// Nothing but the result.
    #[cfg(test)]
    pub(crate) fn nothing() -> Wanted {
        Wanted { facts: Wants::empty(), headers: Vec::new() }
    }

    /// Whether it asks for this fact.
    pub(crate) fn has(&self, fact: Wants) -> bool {
        self.facts.contains(fact)
    }

    /// Whether it asks for nothing but the result, so that a table holds all decisions.
    pub(crate) fn is_nothing(&self) -> bool {
        self.facts == Wants::empty() && self.headers.is_empty()
    }
}

impl Value {
    /// The value as JSON, without its type.
    pub(crate) fn json(&self) -> serde_json::Value {
        match self {
            Value::Text(text) => text.as_str().into(),
            Value::Number(number) => (*number).into(),
            Value::Flag(flag) => (*flag).into(),
            Value::Texts(texts) => texts.as_slice().into(),
        }
    }
}

impl Kind {
    /// The type's name.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Kind::Text(_) => "a text",
            Kind::Number(_) => "a whole number",
            Kind::Flag(_) => "true or false",
            Kind::Texts(_) => "a list of texts",
        }
    }

    /// The default, where there is one.
    pub(crate) fn default_value(&self) -> Option<Value> {
        match self.clone() {
            Kind::Text(text) => text.map(Value::Text),
            Kind::Number(number) => number.map(Value::Number),
            Kind::Flag(flag) => flag.map(Value::Flag),
            Kind::Texts(texts) => texts.map(Value::Texts),
        }
    }
}

#[cfg(test)]
mod tests {
    use wit_parser::{Resolve, TypeDefKind};

    use super::*;

    /// The names that the contract has for the cases or flags of this type.
    fn published(name: &str) -> Vec<String> {
        let mut resolve = Resolve::default();
        resolve.push_str("policy.wit", include_str!("../../../wit/policy.wit")).unwrap();
        let (_, found) = resolve.types.iter().find(|(_, found)| found.name.as_deref() == Some(name)).unwrap();
        match &found.kind {
            TypeDefKind::Enum(cases) => cases.cases.iter().map(|case| case.name.clone()).collect(),
            TypeDefKind::Flags(flags) => flags.flags.iter().map(|flag| flag.name.clone()).collect(),
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn facts_are_written_in_the_words_of_the_contract() {
        assert_eq!(KeyStatus::ALL.iter().map(|case| case.word()).collect::<Vec<_>>(), published("key-status"));
        assert_eq!(Why::ALL.iter().map(|case| case.word()).collect::<Vec<_>>(), published("why"));
        assert_eq!(AuthResult::ALL.iter().map(|case| case.word()).collect::<Vec<_>>(), published("auth-result"));
        assert_eq!(Claim::ALL.iter().map(|case| case.word()).collect::<Vec<_>>(), published("claim"));
        assert_eq!(Wants::WORDS.map(|(word, _)| word).to_vec(), published("wants"));
        assert_eq!(Trail::WORDS.map(|(word, _)| word).to_vec(), published("trail"));
        assert_eq!(Wants::WORDS.iter().fold(Wants::empty(), |all, (_, fact)| all | *fact), Wants::all());
        assert_eq!(Trail::WORDS.iter().fold(Trail::empty(), |all, (_, mark)| all | *mark), Trail::all());
    }

    #[test]
    fn each_word_is_read_back_as_the_case_that_wrote_it_and_no_other_word_is_read() {
        for why in Why::ALL {
            let text = serde_json::to_string(why).unwrap();
            assert_eq!(text, format!("\"{}\"", why.word()));
            assert_eq!(serde_json::from_str::<Why>(&text).unwrap(), *why);
        }
        let odd = serde_json::from_str::<Why>("\"no-address\"").unwrap_err().to_string();
        assert!(odd.contains("unknown variant `no-address`") && odd.contains("`no-proof`"), "{odd}");
    }
}

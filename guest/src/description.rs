//! What a policy says of itself: its name, the facts that it wants, the settings that it has.

use crate::Wants;
use crate::wit::exports::addrauth::policy::policy as contract;
use contract::Kind;

/// What a policy is, which facts it wants to see, and which settings it has.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    name: &'static str,
    version: &'static str,
    summary: &'static str,
    wants: Wants,
    headers: Vec<&'static str>,
    settings: Vec<(&'static str, &'static str, Kind)>,
}

impl Description {
    /// A policy that sees the result alone. `summary` is one line.
    pub fn new(name: &'static str, version: &'static str, summary: &'static str) -> Description {
        Description { name, version, summary, wants: Wants::empty(), headers: Vec::new(), settings: Vec::new() }
    }

    /// It also wants these facts.
    pub fn wants(mut self, wants: Wants) -> Description {
        self.wants |= wants;
        self
    }

    /// It also wants the values of the header fields of this name; [`crate::Facts::header`] has them.
    pub fn header(mut self, name: &'static str) -> Description {
        self.headers.push(name);
        self
    }

    /// It has a setting that is a text. Without a default the administrator must set it.
    pub fn text<'a>(
        self,
        name: &'static str,
        summary: &'static str,
        default: impl Into<Option<&'a str>>,
    ) -> Description {
        self.setting(name, summary, Kind::Text(default.into().map(String::from)))
    }

    /// It has a setting that is a whole number. Without a default the administrator must set it.
    pub fn number(self, name: &'static str, summary: &'static str, default: impl Into<Option<i64>>) -> Description {
        self.setting(name, summary, Kind::Number(default.into()))
    }

    /// It has a setting that is true or false. Without a default the administrator must set it.
    pub fn flag(self, name: &'static str, summary: &'static str, default: impl Into<Option<bool>>) -> Description {
        self.setting(name, summary, Kind::Flag(default.into()))
    }

    /// It has a setting that is a list of texts. Without a default the administrator must set it.
    pub fn texts<'a>(
        self,
        name: &'static str,
        summary: &'static str,
        default: impl Into<Option<&'a [&'a str]>>,
    ) -> Description {
        let default = default.into().map(|texts| texts.iter().map(|text| text.to_string()).collect());
        self.setting(name, summary, Kind::Texts(default))
    }

    fn setting(mut self, name: &'static str, summary: &'static str, kind: Kind) -> Description {
        self.settings.push((name, summary, kind));
        self
    }

    /// The names of the settings, in the order declared.
    pub(crate) fn setting_names(&self) -> Vec<&'static str> {
        self.settings.iter().map(|(name, ..)| *name).collect()
    }

    /// The values of the settings that have defaults; natively, where no host fills them in.
    pub(crate) fn defaults(&self) -> Vec<(&'static str, crate::Value)> {
        use crate::Value;
        let value = |kind: &Kind| match kind.clone() {
            Kind::Text(text) => text.map(Value::Text),
            Kind::Number(number) => number.map(Value::Number),
            Kind::Flag(flag) => flag.map(Value::Flag),
            Kind::Texts(texts) => texts.map(Value::Texts),
        };
        self.settings.iter().filter_map(|(name, _, kind)| Some((*name, value(kind)?))).collect()
    }

    pub(crate) fn header_names(&self) -> &[&'static str] {
        &self.headers
    }

    pub(crate) fn into_contract(self) -> contract::Description {
        let setting = |(name, summary, kind): (&str, &str, Kind)| contract::Setting {
            name: name.to_owned(),
            summary: summary.to_owned(),
            kind,
        };
        contract::Description {
            name: self.name.to_owned(),
            version: self.version.to_owned(),
            summary: self.summary.to_owned(),
            wants: self.wants,
            headers: self.headers.into_iter().map(String::from).collect(),
            settings: self.settings.into_iter().map(setting).collect(),
        }
    }
}

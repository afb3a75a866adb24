//! What a policy says of itself: its name, and the settings that it has.

use crate::wit::exports::addrauth::policy::policy as contract;
use contract::Kind;

/// What a policy is, and which settings it has.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    name: &'static str,
    version: &'static str,
    summary: &'static str,
    settings: Vec<(&'static str, &'static str, Kind)>,
}

impl Description {
    /// A policy without settings. `summary` is one line.
    pub fn new(name: &'static str, version: &'static str, summary: &'static str) -> Description {
        Description { name, version, summary, settings: Vec::new() }
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
            settings: self.settings.into_iter().map(setting).collect(),
        }
    }
}

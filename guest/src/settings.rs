//! The administrator's settings, read by name.

use crate::{Description, Value};

/// The settings, by the names that the description declares.
///
/// A name that is not declared, or of another type, reads as empty, 0 or false: the host refuses a policy whose settings
/// do not match before it is ever asked, so this is a slip of the policy's author that a unit test finds.
#[derive(Clone, Debug, Default)]
pub struct Settings(Vec<(&'static str, Value)>);

impl Settings {
    /// The defaults of a description: where unit tests begin.
    pub fn defaults(description: &Description) -> Settings {
        Settings(description.defaults())
    }

    /// The same with one of them set.
    pub fn with(mut self, name: &'static str, value: Value) -> Settings {
        self.0.retain(|(known, _)| *known != name);
        self.0.push((name, value));
        self
    }

    /// A text.
    pub fn text(&self, name: &str) -> &str {
        match self.value(name) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    /// A whole number.
    pub fn number(&self, name: &str) -> i64 {
        match self.value(name) {
            Some(Value::Number(number)) => *number,
            _ => 0,
        }
    }

    /// True or false.
    pub fn flag(&self, name: &str) -> bool {
        matches!(self.value(name), Some(Value::Flag(true)))
    }

    /// A list of texts.
    pub fn texts(&self, name: &str) -> &[String] {
        match self.value(name) {
            Some(Value::Texts(texts)) => texts,
            _ => &[],
        }
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    pub(crate) fn from_contract(values: Vec<Value>, description: &Description) -> Settings {
        Settings(description.setting_names().into_iter().zip(values).collect())
    }
}

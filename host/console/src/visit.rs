//! A request that may be answered: who asks, for what, from where.

use std::sync::Arc;

use crate::desk::{Current, Desk};
use crate::fault::Fault;
use crate::form::Form;
use crate::secret::Secret;
use crate::who::Who;

/// The name of a form's token.
pub(crate) const TOKEN: &str = "token";

/// A request that may be answered.
pub(crate) struct Visit {
    pub(crate) desk: Arc<Desk>,
    pub(crate) current: Arc<Current>,
    /// Who asks; on pages of the table that are for roles there always is one.
    pub(crate) who: Option<Who>,
    /// From where, for bounds and for the record.
    pub(crate) source: String,
    /// What the browser holds.
    pub(crate) secret: Secret,
    /// Whether a proxy says who it is.
    pub(crate) by_proxy: bool,
    /// The parts of the path that the table leaves open.
    pub(crate) parts: Vec<(String, String)>,
    pub(crate) query: Form,
    pub(crate) form: Form,
    /// The path and query that were asked for.
    pub(crate) place: String,
}

impl Visit {
    /// Who asks.
    ///
    /// # Errors
    /// Nobody is signed in.
    pub(crate) fn who(&self) -> Result<&Who, Fault> {
        self.who.as_ref().ok_or(Fault::SignIn)
    }

    /// A part of the path.
    pub(crate) fn part(&self, name: &str) -> &str {
        self.parts.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// A part of the path that is a number.
    pub(crate) fn number(&self, name: &str) -> Result<i64, Fault> {
        self.part(name).parse().map_err(|_| Fault::NotFound)
    }
}

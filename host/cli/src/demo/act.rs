//! One case of the demonstration: what is sent, how it should end, and how it ended.

use addrauth::case::Case;
use addrauth_lab::mta::Envelope;

/// One case: which policy is bound, what is sent, and how that should end.
pub(super) struct Act {
    /// Its name.
    pub(super) name: String,
    /// The policy that is bound to `invalid` while it plays.
    pub(super) invalid: &'static str,
    /// The envelope.
    pub(super) envelope: Envelope,
    /// The message.
    pub(super) message: Vec<u8>,
    /// How it should end; absent for a person's own message.
    pub(super) expected: Option<Expected>,
}

/// How an act should end.
pub(super) struct Expected {
    /// Result and reason, such as `invalid (wrong)`.
    pub(super) found: &'static str,
    /// The policy that says so.
    pub(super) policy: &'static str,
    /// What the MTA is told: the first words.
    pub(super) told: &'static str,
    /// Fields that are added to the delivered message, top first; absent where nothing is delivered.
    pub(super) added: Option<&'static [&'static str]>,
    /// Whether the recipient gets a notice.
    pub(super) notice: bool,
}

/// How an act ended.
pub(super) struct Ending {
    /// What the filter found, decided and answered.
    pub(super) case: Case,
    /// What the MTA was told, in its own words.
    pub(super) told: String,
    /// The message as it is delivered or held.
    pub(super) delivered: Option<Vec<u8>>,
    /// The notice that reached the recipient.
    pub(super) notice: Option<String>,
}

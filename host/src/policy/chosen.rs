//! What a user may choose for his own mail, and why not.

use super::Policies;
use crate::case::{KeyStatus, MarkAs, Wish};
use crate::config::Config;
use crate::proto::address::Mailbox;

/// Why a user's choice does not count, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotChosen {
    /// It has not the form of a choice.
    #[error(
        "{0:?} is no choice: write RESULT=POLICY with a RESULT of invalid, missing, none, unverified or unusable; or \
         mark=header, mark=folder"
    )]
    Form(String),
    /// It is about mail with a right key.
    #[error("a user has no say over valid: an administrator binds it, in [policy] or [policy.recipient.\"{0}\"]")]
    Valid(Mailbox),
    /// The policy is not open to users.
    #[error(
        "{id:?} cannot be chosen for {result}. {}",
        if open.is_empty() {
            "Nothing can: an administrator names what users may choose, as in policy.user_may = [\"accept\", \"mark\"]".into()
        } else {
            format!("What can: {open}. An administrator adds others to policy.user_may")
        }
    )]
    NotOpen {
        /// The result that it was chosen for.
        result: &'static str,
        /// The policy.
        id: String,
        /// Those that can be chosen.
        open: String,
    },
    /// The policy drops mail silently that may only have lost its key.
    #[error(
        "missing={id} would drop mail without a key silently: forwarded and list mail lost its key on the way. What can be \
         chosen: {open}"
    )]
    Silent {
        /// The policy.
        id: String,
        /// Those that can be chosen.
        open: String,
    },
    /// There are no spam folders.
    #[error(
        "mark=folder needs policy.spam_folder, such as \"+Junk\": how a spam folder is addressed. mark=header does not"
    )]
    Folder,
    /// Users have no rules of their own.
    #[error("users have no rules of their own here: an administrator lets them by policy.user_rules = true")]
    NoRules,
    /// Nothing is open to users, so their rules would decide nothing.
    #[error(
        "no decision of theirs would count, since nothing is open to users: an administrator names what is, as in \
         policy.user_may = [\"accept\", \"mark\"]"
    )]
    NothingOpen,
    /// The rules cannot be read; the text names line and column.
    #[error("{0}")]
    Rules(String),
}

impl Policies {
    /// Whether this mailbox may choose this `value` under this `name`, a result's word or `mark`; what is good goes into `wish`.
    ///
    /// # Errors
    /// It may not.
    pub fn check_choice(
        &self,
        config: &Config,
        mailbox: &Mailbox,
        (name, value): (&str, &str),
        wish: &mut Wish,
    ) -> Result<(), NotChosen> {
        if name == "mark" {
            let mark = match value {
                "header" => MarkAs::Header,
                "folder" if config.policy.spam_folder.is_empty() => return Err(NotChosen::Folder),
                "folder" => MarkAs::Folder,
                _ => return Err(NotChosen::Form(format!("{name}={value}"))),
            };
            wish.mark = Some(mark);
            return Ok(());
        }
        let status = KeyStatus::ALL.into_iter().find(|status| status.word() == name);
        let status = status.ok_or_else(|| NotChosen::Form(format!("{name}={value}")))?;
        if status == KeyStatus::Valid {
            return Err(NotChosen::Valid(mailbox.clone()));
        }
        let open = self.open_to_users(status);
        if !open.contains(&value) {
            let (id, open) = (value.to_owned(), open.join(", "));
            let elsewhere = self.open_to_users(KeyStatus::Invalid).contains(&value);
            return Err(match status {
                KeyStatus::Missing if elsewhere => NotChosen::Silent { id, open },
                _ => NotChosen::NotOpen { result: status.word(), id, open },
            });
        }
        wish.policies.insert(status, value.to_owned());
        Ok(())
    }

    /// Whether rules of a user's own count here, and this text makes a policy.
    ///
    /// # Errors
    /// They do not, or it makes none.
    pub fn check_rules(&self, text: &str) -> Result<(), NotChosen> {
        self.read_own_rules(text).ok_or(NotChosen::NoRules)?.map_err(NotChosen::Rules)?;
        let is_open = KeyStatus::ALL.into_iter().any(|status| !self.open_to_users(status).is_empty());
        if is_open { Ok(()) } else { Err(NotChosen::NothingOpen) }
    }
}

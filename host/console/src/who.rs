//! Who asks, and whose mail that concerns.

use addrauth::proto::address::{Domain, Mailbox};
use addrauth::store::{Role, Session};

/// Whose mail somebody may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everybody's.
    All,
    /// That of recipients in these domains.
    Domains(Vec<Domain>),
    /// That of one recipient.
    Mailbox(Mailbox),
}

/// Somebody who is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// An account's name, or a mailbox.
    pub name: String,
    /// What he may do.
    pub role: Role,
    /// Whose mail he may see.
    pub scope: Scope,
}

impl Who {
    /// The holder of a session. Nobody, where it is of a user whose address is none.
    pub fn of(session: Session) -> Option<Who> {
        let scope = match session.role {
            Role::Admin | Role::Reader => Scope::All,
            Role::Domain => {
                let domains = session.scope.iter().filter_map(|text| Domain::parse_full(text).ok());
                Scope::Domains(domains.collect())
            }
            Role::User => Scope::Mailbox(session.scope.first().and_then(|text| Mailbox::parse(text))?),
            _ => return None,
        };
        Some(Who { name: session.who, role: session.role, scope })
    }

    /// The mailbox that is all he may see, if it is.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match &self.scope {
            Scope::Mailbox(mailbox) => Some(mailbox),
            Scope::All | Scope::Domains(_) => None,
        }
    }
}

impl Scope {
    /// Whether mail to this recipient, a path or an address in whatever spelling, may be seen.
    pub fn includes(&self, recipient: &str) -> bool {
        let bare = recipient.trim_start_matches('<').trim_end_matches('>');
        match self {
            Scope::All => true,
            Scope::Domains(domains) => {
                Mailbox::parse(bare).is_some_and(|mailbox| domains.iter().any(|domain| mailbox.is_of(domain)))
            }
            Scope::Mailbox(own) => Mailbox::parse(bare).is_some_and(|mailbox| mailbox == *own),
        }
    }

    /// Whether everybody's mail may be seen.
    pub fn is_all(&self) -> bool {
        *self == Scope::All
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(role: Role, scope: &[&str]) -> Option<Who> {
        let scope = scope.iter().map(|text| (*text).to_owned()).collect();
        Who::of(Session { who: "x".into(), role, scope })
    }

    #[test]
    fn each_role_sees_the_mail_of_its_scope_and_no_other() {
        let bob = who(Role::User, &["bob@a.example"]).unwrap().scope;
        let keeper = who(Role::Domain, &["a.example", "no domain", "b.example"]).unwrap().scope;
        let nothing = who(Role::Domain, &[]).unwrap().scope;
        for (recipient, users, domains) in [
            ("bob@a.example", true, true),
            ("<Bob+tag@A.example>", true, true),
            ("bobby@a.example", false, true),
            ("carol@b.example", false, true),
            ("bob@sub.a.example", false, false),
            ("bob@c.example", false, false),
            ("bob@a.example, carol@c.example", false, false),
            ("<>", false, false),
            ("", false, false),
            ("postmaster", false, false),
        ] {
            assert_eq!(bob.includes(recipient), users, "{recipient}");
            assert_eq!(keeper.includes(recipient), domains, "{recipient}");
            assert!(!nothing.includes(recipient) && Scope::All.includes(recipient));
        }
        assert!(who(Role::User, &[]).is_none() && who(Role::User, &["nobody"]).is_none());
    }
}

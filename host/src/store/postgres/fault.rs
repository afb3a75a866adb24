//! Why a statement failed: what the server says, in words that name the way out.

use crate::store::Error;

/// A failure inside a verb.
#[derive(Debug)]
pub(super) enum Fault {
    /// The library or the server.
    Sql(sqlx::Error),
    /// One that is told as it is.
    Known(Error),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Fault {
        Fault::Sql(error)
    }
}

impl Fault {
    /// Whether the connection is gone, or none can be made yet: another may work.
    pub(super) fn is_broken(&self) -> bool {
        match self {
            Fault::Sql(sqlx::Error::Io(_) | sqlx::Error::Protocol(_)) => true,
            // 57P01..3: shut down, crashed, starting; 53300: too many connections; class 08: connection exceptions.
            _ => self.code().is_some_and(|code| {
                matches!(code.as_str(), "57P01" | "57P02" | "57P03" | "53300") || code.starts_with("08")
            }),
        }
    }

    /// Whether the server took the transaction back because of another one: a serialization failure, a deadlock, or a row
    /// that somebody else was quicker to put in.
    pub(super) fn is_conflict(&self) -> bool {
        self.code().is_some_and(|code| matches!(code.as_str(), "40001" | "40P01" | "23505"))
    }

    /// Whether the server's encoding has no place for a value (class 22: data exceptions).
    pub(super) fn is_data(&self) -> bool {
        self.code().is_some_and(|code| code.starts_with("22"))
    }

    /// Whether the login lacks the right.
    pub(super) fn is_denied(&self) -> bool {
        self.code().as_deref() == Some("42501")
    }

    /// Whether the schema or one of its tables is not there.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self.code().as_deref(), Some("3F000" | "42P01"))
    }

    /// Whether somebody else made the same role at the same time.
    pub(super) fn is_taken(&self) -> bool {
        matches!(self.code().as_deref(), Some("42710" | "23505"))
    }

    /// As callers get it.
    pub(super) fn told(self, place: &str) -> Error {
        let source = match self {
            Fault::Known(error) => return error,
            Fault::Sql(source) => source,
        };
        let place = place.to_owned();
        let text = source.as_database_error().map_or_else(|| source.to_string(), |e| e.message().to_owned());
        let fault = Fault::Sql(source);
        if fault.is_broken() {
            return Error::Unreachable { place, text };
        }
        let way = match fault.code().as_deref() {
            Some("42501") => {
                let way = "`addrauth store status` shows the rights of this login: make it a member of addrauth_authority (the AS), \
                 addrauth_learn (the MX) or addrauth_stamp (the submission server)";
                return Error::NoRight { place, text, way };
            }
            Some("3F000" | "42P01") => "Make its tables with `addrauth store migrate`",
            Some("3D000") => "Make it, such as with `createdb`, then its tables with `addrauth store migrate`",
            Some("28000" | "28P01") => {
                "Name the file of the password in store.password_file or ~/.pgpass, or let peer authentication over a unix \
                 socket do without: postgres:///addrauth?host=/run/postgresql"
            }
            _ => "What was asked for is not done; nothing is half done",
        };
        Error::Postgres { place, text, way }
    }

    fn code(&self) -> Option<String> {
        match self {
            Fault::Sql(error) => error.as_database_error().and_then(|e| e.code()).map(|code| code.into_owned()),
            Fault::Known(_) => None,
        }
    }
}

//! Where the database is: `store.url`, read strictly, and never with a password in it.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use zeroize::Zeroizing;

use super::SCAN;
use crate::store::{Error, read_secret_line};

/// What may stand behind the question mark. Nothing else: a word spelt wrong would be a setting that silently does nothing.
const WORDS: [&str; 9] =
    ["host", "port", "user", "dbname", "sslmode", "sslrootcert", "sslcert", "sslkey", "application_name"];

/// How to get there.
#[derive(Clone)]
pub(super) struct Place {
    /// Everything that is needed to connect, a password too.
    pub(super) options: PgConnectOptions,
    /// What messages call it: no secret in it.
    pub(super) name: String,
    /// Whether it is reached over a network without proof of who answers.
    pub(super) unproved: bool,
}

impl Place {
    /// Reads a URL, and the file of the password where one is named.
    pub(super) fn parse(url: &str, password_file: &Path, busy: Duration) -> Result<Place, Error> {
        let wrong = |what: String| Error::StoreUrl { what };
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let rest = rest.ok_or_else(|| wrong("must begin with postgres://".into()))?;
        let (place, words) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = place.split('/').next().unwrap_or_default();
        if authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
            return Err(Error::StorePassword);
        }
        for word in words.split('&').filter(|word| !word.is_empty()) {
            let word = word.split('=').next().unwrap_or_default();
            match word {
                "password" => return Err(Error::StorePassword),
                known if WORDS.contains(&known) => {}
                _ => return Err(wrong(format!("has an unknown word {word:?}; known are {}", WORDS.join(", ")))),
            }
        }
        let mut options: PgConnectOptions =
            url.parse().map_err(|e: sqlx::Error| wrong(format!("cannot be read: {e}")))?;
        if !password_file.as_os_str().is_empty() {
            let password: Zeroizing<String> = read_secret_line(password_file)?;
            options = options.password(&password);
        }
        if options.get_application_name().is_none() {
            options = options.application_name("addrauth");
        }
        let unproved = options.get_socket().is_none()
            && !is_local(options.get_host())
            && !matches!(options.get_ssl_mode(), sqlx::postgres::PgSslMode::VerifyFull);
        let name = name(&options);
        Ok(Place { options: options.options(session(busy)), name, unproved })
    }
}

/// What each connection is told when it begins. A process that vanished must not hold locks for ever, and what is
/// acknowledged is on the disk.
fn session(busy: Duration) -> [(&'static str, String); 5] {
    let ms = |duration: Duration| duration.as_millis().to_string();
    [
        ("default_transaction_isolation", "read committed".into()),
        ("synchronous_commit", "on".into()),
        ("lock_timeout", ms(busy)),
        ("statement_timeout", ms(SCAN)),
        ("idle_in_transaction_session_timeout", ms(SCAN)),
    ]
}

fn is_local(host: &str) -> bool {
    host.starts_with('/')
        || host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn name(options: &PgConnectOptions) -> String {
    let mut name = format!("PostgreSQL database {}", options.get_database().unwrap_or(options.get_username()));
    // Writing to a string does not fail.
    let _ = match options.get_socket() {
        Some(socket) => write!(name, " at {}", socket.display()),
        None => write!(name, " at {}", options.get_host()),
    };
    let _ = write!(name, ":{} as {}", options.get_port(), options.get_username());
    name
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn parse(url: &str) -> Result<Place, Error> {
        Place::parse(url, Path::new(""), Duration::from_secs(2))
    }

    #[test]
    fn a_url_with_a_password_is_refused_with_the_ways_that_are_there() {
        for url in [
            "postgres://mx:secret@db.example.com/addrauth",
            "postgres://mx:@db.example.com/addrauth",
            "postgresql:///addrauth?user=mx&password=secret",
        ] {
            let error = parse(url).err().unwrap().to_string();
            assert!(error.contains("store.password_file") && error.contains(".pgpass"), "{error}");
            assert!(!error.contains("secret@") && !error.contains("=secret"), "{error}");
        }
    }

    #[test]
    fn what_is_no_url_or_has_unknown_words_is_refused() {
        for url in
            ["", "mysql://x/y", "/run/postgresql", "postgres:///x?sslmod=verify-full", "postgres:///x?pass%77ord=y"]
        {
            assert!(matches!(parse(url), Err(Error::StoreUrl { .. })), "{url}");
        }
        assert!(parse("postgres://u@[::1/x").is_err());
    }

    #[test]
    fn a_place_has_a_name_without_secrets() {
        let place = parse("postgres:///addrauth?host=/run/postgresql&user=mx").unwrap();
        assert_eq!(place.name, "PostgreSQL database addrauth at /run/postgresql:5432 as mx");
        assert!(!place.unproved);
        let place = parse("postgres://mx@db.example.com:5433/addrauth").unwrap();
        assert_eq!(place.name, "PostgreSQL database addrauth at db.example.com:5433 as mx");
        assert!(place.unproved);
        assert!(!parse("postgres://mx@db.example.com/addrauth?sslmode=verify-full").unwrap().unproved);
        assert!(!parse("postgres://mx@127.0.0.1/addrauth").unwrap().unproved);
    }

    #[test]
    fn the_file_of_the_password_is_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "secret\n").unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o644)).unwrap();
        let read = || Place::parse("postgres://mx@127.0.0.1/x", &file, Duration::from_secs(2));
        assert!(read().err().unwrap().to_string().contains("chmod 600"));
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
        assert!(read().is_ok());
    }
}

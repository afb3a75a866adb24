//! Whether the settings of `[keyring]` can be used, before anything is opened.

use std::path::Path;
use std::sync::Arc;

use super::fetch::Fetched;
use super::own_keys::opener;
use super::owner::Owners;
use super::{Error, owner};
use crate::config::{Config, Limits};
use crate::files;
use crate::proto::address::Domain;
use crate::proto::seal::SealTo;
use crate::store;

/// What the filter would say when it starts, and what it would say of each message afterwards: spellings, files, the pair.
/// Opens no keyring, makes no file, and connects to nothing.
pub fn check(config: &Config, limits: &Arc<Limits>) -> Result<(), Error> {
    let keyring = &config.keyring;
    Owners::new(keyring, limits)?;
    for path in keyring.owners.iter().filter_map(|table| owner::file(table)) {
        let missing = |e: files::Error| Error::Table { table: path.to_owned(), text: e.to_string() };
        owner::readable(Path::new(path), limits).map_err(missing)?;
    }
    if !keyring.login_domain.is_empty() && Domain::parse(&keyring.login_domain).is_err() {
        return Err(Error::LoginDomain(keyring.login_domain.clone()));
    }
    if let Some(wrong) = keyring.local_domains.iter().find(|domain| Domain::parse(domain).is_err()) {
        return Err(Error::LocalDomain(wrong.clone()));
    }
    if !keyring.seal_to.is_empty() {
        keyring
            .seal_to
            .parse::<SealTo>()
            .map_err(|bad| store::Error::Secret { path: "keyring.seal_to".into(), what: format!("is {bad}") })?;
    }
    if keyring.learn.is_anywhere() {
        store::check_keyring_seal_to(config)?;
    }
    if keyring.stamp.is_anywhere() {
        let path = store::keyring_key(config);
        let opener = opener(&path)?;
        if !keyring.seal_to.is_empty() && keyring.seal_to.parse() != Ok(opener.seal_to()) {
            return Err(Error::OtherPair { path });
        }
        if !keyring.fetch_from.is_empty() {
            Fetched::new(config, opener, limits)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{StateDir, Where};

    #[test]
    fn what_would_end_the_start_or_defer_every_message_is_told_before() {
        let dir = tempfile::tempdir().unwrap();
        let limits = Arc::new(Limits::default());
        let checked = |change: &dyn Fn(&mut Config)| {
            let mut config = Config { state_dir: StateDir(dir.path().to_owned()), ..Config::default() };
            change(&mut config);
            check(&config, &limits).map_err(|error| error.to_string())
        };
        assert_eq!(checked(&|_| {}), Ok(()));
        let wrong = |words: &str, change: &dyn Fn(&mut Config)| {
            let told = checked(change).unwrap_err();
            assert!(told.contains(words), "{told}");
        };
        wrong("is no table", &|config| config.keyring.owners = vec!["/etc/postfix/sender_logins".into()]);
        wrong("cannot be read", &|config| config.keyring.owners = vec!["hash:/nowhere/at/all".into()]);
        wrong("login_domain", &|config| config.keyring.login_domain = "@example.com".into());
        wrong("local_domains", &|config| config.keyring.local_domains = vec!["example.com".into(), "$myorigin".into()]);
        for (name, taken) in [
            ("example.com", true),
            ("Example.COM", true),
            ("b\u{fc}cher.example", true),
            ("example.com.", false),
            ("localhost", false),
            ("[192.0.2.1]", false),
            ("alice@example.com", false),
        ] {
            let login = checked(&|config| config.keyring.login_domain = name.into());
            let local = checked(&|config| config.keyring.local_domains = vec![name.into()]);
            assert_eq!((login.is_ok(), local.is_ok()), (taken, taken), "{name}: {login:?} {local:?}");
        }
        wrong("43 characters", &|config| config.keyring.seal_to = "seal1.abc".into());
        wrong("addrauth keyring key", &|config| config.keyring.stamp = Where::All(true));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is made");
        store::read_or_make_opener(&dir.path().join("keyring.key")).unwrap();
        assert_eq!(checked(&|config| config.keyring.stamp = Where::All(true)), Ok(()));
        wrong("fetch_from", &|config| {
            config.keyring.stamp = Where::All(true);
            config.keyring.fetch_from = "as.example.com".into();
        });
    }
}

//! Which logins own which addresses: by Postfix's own tables (`smtpd_sender_login_maps`), or each login the address that it is.

use std::path::Path;
use std::sync::Arc;

use super::Error;
use crate::config::{self, Limits};
use crate::files;
use crate::proto::address::{Address, Domain};

mod asked;
mod text;

use asked::Asked;
use text::Text;

/// Types of tables that Postfix makes of a text file, or reads as one: the text is read here.
const FILES: [&str; 7] = ["hash", "btree", "lmdb", "cdb", "dbm", "sdbm", "texthash"];
/// Types that Postfix asks about whole addresses alone.
const PATTERNS: [&str; 3] = ["regexp", "pcre", "cidr"];
/// Where a VERP path may end its local part (`mary-jane-bob=other.example`): beyond as many, none is a name.
const VERP: usize = 4;

/// Which logins own which addresses.
#[derive(Debug)]
pub struct Owners {
    tables: Vec<Table>,
    local_domains: Vec<Domain>,
    /// What is put behind a login, which is a text that is compared letter for letter.
    login_domain: String,
}

#[derive(Debug)]
enum Table {
    Text(Text),
    Asked(Asked),
}

/// The text file of a table, where it has one.
pub(super) fn file(table: &str) -> Option<&str> {
    let (kind, path) = table.strip_prefix("proxy:").unwrap_or(table).split_once(':')?;
    FILES.contains(&kind).then_some(path)
}

/// Whether the text file of a table can be read.
pub(super) fn readable(path: &Path, limits: &Limits) -> Result<(), files::Error> {
    text::check(path, limits.keyring.owner_octets)
}

impl Owners {
    /// The tables of `keyring.owners`; none is opened before it is needed.
    ///
    /// # Errors
    /// [`Error::Spelling`] where one is not spelt as Postfix spells tables.
    pub fn new(keyring: &config::Keyring, limits: &Arc<Limits>) -> Result<Owners, Error> {
        let table = |spelt: &String| {
            let name = spelt.strip_prefix("proxy:").unwrap_or(spelt);
            match name.split_once(':') {
                Some((kind, path)) if FILES.contains(&kind) && path.starts_with('/') => {
                    Ok(Table::Text(Text::new(path, limits.keyring.owner_octets)))
                }
                Some((kind, rest)) if !FILES.contains(&kind) && is_word(kind) && !rest.is_empty() => {
                    Ok(Table::Asked(Asked::new(name, PATTERNS.contains(&kind), limits)))
                }
                _ => Err(Error::Spelling(spelt.clone())),
            }
        };
        let tables = keyring.owners.iter().map(table).collect::<Result<_, _>>()?;
        let local_domains = keyring.local_domains.iter().filter_map(|domain| Domain::parse(domain).ok()).collect();
        Ok(Owners { tables, local_domains, login_domain: keyring.login_domain.to_ascii_lowercase() })
    }

    /// Whether this login owns this address.
    ///
    /// The address is looked up as Postfix does: whole, without its `+tag`, by its user alone in `keyring.local_domains` (with
    /// the tag, then without), and as `@domain`; the first that is found in any of the tables counts (measured on 3.7.11).
    /// Letter case does not matter. Without tables a login owns the address that it is.
    ///
    /// A login that is no UTF-8 owns nothing: two of them are told apart no more.
    pub async fn owns(&self, login: &str, address: &Address) -> Result<bool, Error> {
        if login.contains(char::REPLACEMENT_CHARACTER) {
            return Ok(false);
        }
        let login = self.whole(login);
        if self.tables.is_empty() {
            let own = Address::parse(login.as_bytes(), true);
            return Ok(own.is_ok_and(|own| own.mailbox() == address.mailbox()));
        }
        let owners = self.owners(address).await?;
        Ok(owners.split([',', ' ', '\t', '\n']).any(|owner| !owner.is_empty() && self.whole(owner) == login))
    }

    /// The same for a reverse-path, whose local part may be one that was made for this message: VERP, whether with `+` or
    /// `-`, and BATV (`prvs=`).
    pub async fn owns_path(&self, login: &str, path: &Address) -> Result<bool, Error> {
        for candidate in candidates(path) {
            if self.owns(login, &candidate).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What the tables say of an address; empty where they say nothing.
    async fn owners(&self, address: &Address) -> Result<String, Error> {
        let whole = address.to_string().to_ascii_lowercase();
        let base = String::from(address.mailbox());
        let domain = format!("@{}", address.domain());
        let forms: Vec<String> = if self.local_domains.contains(address.domain()) {
            let users = [&whole, &base].map(|form| form.strip_suffix(&domain).unwrap_or(form).to_owned());
            [vec![whole, base], users.to_vec(), vec![domain]].concat()
        } else {
            vec![whole, base, domain]
        };
        let mut found: Vec<Option<String>> = vec![None; forms.len()];
        for table in &self.tables {
            let values = match table {
                Table::Text(text) => text.find(&forms).await?,
                Table::Asked(asked) => asked.find(&forms).await?,
            };
            for (known, value) in found.iter_mut().zip(values) {
                if known.is_none() {
                    *known = value;
                }
            }
        }
        Ok(found.into_iter().flatten().next().unwrap_or_default())
    }

    /// A login in the form that is compared.
    fn whole(&self, login: &str) -> String {
        let login = login.to_ascii_lowercase();
        match login.contains('@') || self.login_domain.is_empty() {
            true => login,
            false => format!("{login}@{}", self.login_domain),
        }
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'-'))
}

/// A path, and what it may have been made of.
fn candidates(path: &Address) -> Vec<Address> {
    let spelt = |local: &str| Address::at(local, path.domain()).ok();
    let mut all = vec![path.clone()];
    let local = path.local();
    // BATV: `prvs=` key number, day and six hexadecimal digits `=` local part.
    let tagged = local.get(..5).filter(|begin| begin.eq_ignore_ascii_case("prvs=")).and_then(|_| local.get(5..));
    if let Some((tag, local)) = tagged.and_then(|rest| rest.split_once('='))
        && tag.len() == 10
        && tag.bytes().all(|octet| octet.is_ascii_hexdigit())
    {
        all.extend(spelt(local));
    }
    let dashes = local.match_indices('-').filter(|(at, _)| *at > 0);
    let verp = dashes.filter(|(at, _)| local.get(at + 1..).is_some_and(|rest| rest.contains('='))).take(VERP);
    all.extend(verp.filter_map(|(at, _)| spelt(local.get(..at)?)));
    all
}

#[cfg(test)]
mod tests;

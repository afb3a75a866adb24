//! The secret key of whoever signs, and its password: out of a file or from the terminal, never an argument or a variable.

use std::path::Path;

use addrauth::store::{read_secret, read_secret_line};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minisign::{SecretKey, SecretKeyBox};
use zeroize::Zeroizing;

use super::super::Error;

/// Octets of a secret key in its file.
const OCTETS: usize = 158;
/// The kind of a key without a password, in its third and fourth octet.
const OPEN: &[u8] = &[0, 0];

/// Where the password comes from.
pub(super) struct Password<'a> {
    /// Its file; absent: the terminal.
    pub(super) file: Option<&'a Path>,
}

impl Password<'_> {
    /// The password of a key that is there.
    fn known(&self, key: &Path) -> Result<Zeroizing<String>, Error> {
        match self.file {
            Some(file) => Ok(read_secret_line(file)?),
            None => asked(&format!("Password of {}: ", key.display())),
        }
    }

    /// A password for a new key; the terminal is asked twice.
    pub(super) fn chosen(&self, key: &Path) -> Result<Zeroizing<String>, Error> {
        if let Some(file) = self.file {
            return Ok(read_secret_line(file)?);
        }
        let first = asked(&format!("Password for {}: ", key.display()))?;
        let again = asked("The same once more: ")?;
        match () {
            () if first.is_empty() => Err(Error::Password("it is empty: --no-password makes a key without one")),
            () if *first != *again => Err(Error::Password("the two are not the same")),
            () => Ok(first),
        }
    }
}

/// Asks the terminal, which shows nothing of the answer.
fn asked(prompt: &str) -> Result<Zeroizing<String>, Error> {
    rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(Error::NoTerminal)
}

/// Reads a secret key that nobody else may read.
pub(super) fn read(path: &Path, password: &Password<'_>) -> Result<SecretKey, Error> {
    let wrong = |text: &str| Error::Key { path: path.to_owned(), text: text.to_owned() };
    let octets = read_secret(path)?;
    let text = str::from_utf8(&octets).map_err(|_| wrong("it is no minisign secret key"))?;
    let line = text.lines().nth(1).unwrap_or_default();
    let raw = Zeroizing::new(STANDARD.decode(line).unwrap_or_default());
    if raw.len() != OCTETS || !raw.starts_with(b"Ed") {
        return Err(wrong("it is no minisign secret key: two lines, of which the second begins with RW"));
    }
    let key = match raw.get(2..4) == Some(OPEN) {
        // minisign 0.11 writes no checksum into such a key; what is signed with it is verified.
        true => SecretKey::from_bytes(&raw),
        false => {
            let password = password.known(path)?;
            SecretKeyBox::from(text.to_owned()).into_secret_key(Some(password.as_str().to_owned()))
        }
    };
    key.map_err(|e| wrong(&e.to_string()))
}

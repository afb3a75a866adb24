//! `addrauth policy keygen`, `sign` and `verify`: keys, and who signed a component.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Cursor, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use addrauth::config::TrustedKey;
use addrauth::files;
use addrauth::policy::rehearse::{self, Located};
use addrauth::policy::trust::{self, Comment, FIRST_LINE, Signed, Untrusted, Version, floor};
use addrauth::policy::{self, Origin};
use minisign::{KeyPair, PublicKey, sign};
use serde_json::{Value, json};

use super::named::Workshop;
use super::{Error, Told};

mod secret;

use secret::Password;

/// What minisign has before the first line's words.
const UNTRUSTED: &str = "untrusted comment: ";

/// A new pair.
#[derive(Debug, clap::Args)]
pub(super) struct Keygen {
    /// The file of the secret key; the public one is written beside it, as FILE.pub
    file: PathBuf,
    /// A file that holds the password and nothing else, for its owner alone; without it the terminal is asked
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// No password: whoever can read the file can sign
    #[arg(long, conflicts_with = "password_file")]
    no_password: bool,
}

/// What is signed, and by whom.
#[derive(Debug, clap::Args)]
pub(super) struct Signing {
    /// A component file, the directory of a policy, or an id of the configuration
    policy: String,
    /// The file of the secret key, of `addrauth policy keygen` or `minisign -G`
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// A file that holds the key's password and nothing else, for its owner alone; without it the terminal is asked
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Sign nothing but this version: the one that the component calls itself has to be the same
    #[arg(long)]
    version: Option<Version>,
}

/// What is looked at.
#[derive(Debug, clap::Args)]
pub(super) struct Verifying {
    /// Component files, directories of policies, or ids of the configuration
    #[arg(required = true, value_name = "ID|FILE")]
    policies: Vec<String>,
    /// A public key that is trusted, or its file, instead of policy.trusted_keys
    #[arg(long, value_name = "KEY")]
    key: Vec<String>,
}

/// Makes a pair; neither file may be there.
pub(super) fn keygen(options: &Keygen, json: bool) -> Result<bool, Error> {
    let public = beside(&options.file);
    for path in [&options.file, &public] {
        if files::is_there(path).map_err(|e| Error::Write { path: path.clone(), source: e.into() })? {
            return Err(Error::KeyThere(path.clone()));
        }
    }
    let failed = |e: minisign::PError| Error::Key { path: options.file.clone(), text: e.to_string() };
    let pair = match options.no_password {
        true => KeyPair::generate_unencrypted_keypair(),
        false => {
            let password = Password { file: options.password_file.as_deref() }.chosen(&options.file)?;
            KeyPair::generate_encrypted_keypair(Some(password.as_str().to_owned()))
        }
    };
    let KeyPair { pk, sk } = pair.map_err(failed)?;
    let key = key_of(&pk, &options.file)?;
    let secret =
        zeroize::Zeroizing::new(sk.to_box(Some("minisign encrypted secret key")).map_err(failed)?.into_string());
    write_new(&options.file, &secret, 0o600)?;
    write_new(&public, &format!("{UNTRUSTED}minisign public key {:016X}\n{key}\n", key.number()), 0o644)?;
    match json {
        true => println!("{}", json!({"secret": options.file, "public": public, "key": key})),
        false => println!(
            "{}: the secret key, to be kept where components are signed, and on no mail server\n{}: the public key\n\n[policy]\n\
             trusted_keys = [\"{key}\"]\nrequire_signature = true",
            options.file.display(),
            public.display()
        ),
    }
    Ok(true)
}

/// Signs a component.
pub(super) fn run(workshop: &Workshop, options: &Signing, json: bool) -> Result<bool, Error> {
    let (located, path) = workshop.component_file(&options.policy)?;
    let described = workshop.open(&located)?.version();
    let version: Version = described.parse().map_err(|e| Error::Unsigned {
        path: path.clone(),
        text: format!("it calls itself version {described:?}: {e}"),
    })?;
    if let Some(stated) = options.version.as_ref().filter(|stated| stated.as_str() != version.as_str()) {
        let text = format!("it calls itself version {version}, and --version says {stated}");
        return Err(Error::Unsigned { path, text });
    }
    let comment = Comment { policy: trust::policy_of(&path), version }.to_string();
    if comment.parse::<Comment>().is_err() {
        let text = "its name up to the first dot is no policy id: a-z, 0-9 and - alone".into();
        return Err(Error::Unsigned { path, text });
    }
    let key = secret::read(&options.key, &Password { file: options.password_file.as_deref() })?;
    let failed = |e: minisign::PError| Error::Key { path: options.key.clone(), text: e.to_string() };
    let public = PublicKey::from_secret_key(&key).map_err(failed)?;
    let words = FIRST_LINE.strip_prefix(UNTRUSTED);
    let signature = sign(Some(&public), &key, located.octets.as_slice(), Some(&comment), words).map_err(failed)?;
    // A key that was changed signs what nobody can verify.
    minisign::verify(&public, &signature, Cursor::new(&located.octets), true, false, false).map_err(failed)?;
    let target = trust::signature_of(&path);
    write_over(&target, &signature.into_string())?;
    // As a filter would read it.
    let keys = [key_of(&public, &options.key)?];
    let signed = trust::verify(&located.octets, &path, &trust::policy_of(&path), &keys, &workshop.limits);
    let signed = signed.map_err(|e| Error::Unsigned { path: path.clone(), text: e.to_string() })?;
    let signed = signed.ok_or_else(|| Error::Unsigned { path, text: "its signature is gone".into() })?;
    match json {
        true => println!("{}", json!({"file": target, "sha256": located.digest, "signed": signed})),
        false => println!("{}: {signed}", target.display()),
    }
    Ok(true)
}

/// What became of one component.
enum Looked {
    /// Somebody who is trusted signed it, or it ships.
    Good(Option<Signed>),
    /// Nobody did, or not as what it is.
    Bad(String),
}

/// Says who signed what; false where one of them is refused.
pub(super) fn verify(workshop: &Workshop, options: &Verifying, json: bool) -> Result<Told, Error> {
    let mut told = Told::Good;
    for word in &options.policies {
        let located = workshop.located(word)?;
        let looked = look(
            workshop,
            &located,
            &options.key,
            rehearse::locate_path(Path::new(word), &workshop.limits)?.is_none(),
        )?;
        let file = match &located.origin {
            Origin::File(path) => path.display().to_string(),
            other => other.to_string(),
        };
        let (signed, refused): (Value, Option<&String>) = match &looked {
            Looked::Good(signed) => (json!(signed), None),
            Looked::Bad(why) => (Value::Null, Some(why)),
        };
        if json {
            let (good, digest) = (refused.is_none(), &located.digest);
            println!(
                "{}",
                json!({"policy": word, "file": file, "sha256": digest, "good": good, "signed": signed, "refused": refused})
            );
        } else {
            match &looked {
                Looked::Good(Some(signed)) => println!("good     {file}: {signed}"),
                Looked::Good(None) => println!("good     {word}: it ships with this program, and is part of it"),
                Looked::Bad(why) => println!("REFUSED  {file}: {why}"),
            }
        }
        told = told.max(Told::is(refused.is_none()));
    }
    Ok(told)
}

fn look(workshop: &Workshop, located: &Located, given: &[String], configured: bool) -> Result<Looked, Error> {
    let Origin::File(path) = &located.origin else { return Ok(Looked::Good(None)) };
    let keys = match given {
        [] => workshop.config()?.policy.trusted_keys.clone(),
        given => given.iter().map(|key| trusted(key, workshop)).collect::<Result<_, _>>()?,
    };
    if keys.is_empty() {
        return Err(Error::NoTrustedKeys);
    }
    let signed = match trust::verify(&located.octets, path, &trust::policy_of(path), &keys, &workshop.limits) {
        Ok(Some(signed)) => signed,
        Ok(None) => return Ok(Looked::Bad(format!("there is no signature {}", trust::signature_of(path).display()))),
        Err(Untrusted::Read { path, source }) => return Err(Error::Read { path, source }),
        Err(why) => return Ok(Looked::Bad(why.to_string())),
    };
    if let Err(why) = signed.check_version(&workshop.open(located)?.version()) {
        return Ok(Looked::Bad(why.to_string()));
    }
    if configured && !workshop.config()?.final_domains.is_empty() {
        let in_force = trust::InForce::of(signed.clone(), located.digest.clone());
        match floor::check(&workshop.config()?.state_dir.0, &[in_force]) {
            Err(why @ (floor::Error::Older { .. } | floor::Error::Other { .. })) => {
                return Ok(Looked::Bad(why.to_string()));
            }
            Err(e) => return Err(policy::Error::from(e).into()),
            Ok(()) => {}
        }
    }
    Ok(Looked::Good(Some(signed)))
}

/// A public key as it stands, or in the second line of its file.
fn trusted(word: &str, workshop: &Workshop) -> Result<TrustedKey, Error> {
    if let Ok(key) = TrustedKey::parse(word) {
        return Ok(key);
    }
    let path = PathBuf::from(word);
    let text = files::read_text(&path, workshop.limits.files.secret)
        .map_err(|e| Error::Read { path: path.clone(), source: e.into() })?;
    let key = text.lines().nth(1).unwrap_or_default();
    TrustedKey::parse(key).map_err(|e| Error::Key { path, text: e.to_string() })
}

/// The same key as the configuration has it.
fn key_of(key: &PublicKey, path: &Path) -> Result<TrustedKey, Error> {
    TrustedKey::parse(&key.to_base64()).map_err(|e| Error::Key { path: path.to_owned(), text: e.to_string() })
}

fn beside(path: &Path) -> PathBuf {
    let mut public = path.as_os_str().to_owned();
    public.push(".pub");
    public.into()
}

/// Writes a file that must not be there yet.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = made.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
    written.map_err(|source| Error::Write { path: path.to_owned(), source })
}

/// Writes a file that others may read, whole or not at all.
fn write_over(path: &Path, text: &str) -> Result<(), Error> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = tempfile::NamedTempFile::new_in(dir).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.as_file().set_permissions(Permissions::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        File::open(dir)?.sync_all()
    });
    written.map_err(|source| Error::Write { path: path.to_owned(), source })
}

//! Pairs of a component and its signature, whole and changed in every way.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minisign::{KeyPair, sign};
use proptest::prelude::*;
use tempfile::TempDir;

use super::super::shipped::SHIPPED;
use super::super::{Error, Policies, Trial};
use super::*;
use crate::config::Module;

#[cfg(feature = "filter")]
mod floor;

/// Somebody who signs, with a pair made for the test.
struct Signer(KeyPair);

impl Signer {
    fn new() -> Signer {
        Signer(KeyPair::generate_unencrypted_keypair().unwrap())
    }

    fn key(&self) -> TrustedKey {
        TrustedKey::parse(&self.0.pk.to_base64()).unwrap()
    }

    /// A signature with this comment.
    fn says(&self, octets: &[u8], comment: &str) -> String {
        sign(None, &self.0.sk, octets, Some(comment), Some("signature from minisign secret key")).unwrap().into_string()
    }

    fn signs(&self, octets: &[u8], policy: &str, version: &str) -> String {
        self.says(octets, &format!("addrauth policy={policy} version={version}"))
    }
}

/// The shipped component `mark`, which calls itself this version.
fn mark(version: &str) -> Vec<u8> {
    let (_, octets) = SHIPPED.iter().find(|(id, _)| *id == "mark").unwrap();
    let mut octets = octets.to_vec();
    let places: Vec<usize> = (0..octets.len() - 5).filter(|at| &octets[*at..*at + 5] == b"0.1.0").collect();
    assert!(!places.is_empty() && version.len() == 5);
    for at in places {
        octets[at..at + 5].copy_from_slice(version.as_bytes());
    }
    octets
}

/// A directory of component files, and who signs them.
struct Site {
    dir: TempDir,
    signer: Signer,
    keys: Vec<TrustedKey>,
    require: bool,
}

impl Site {
    /// With `strict.wasm` of version 0.1.0, signed.
    fn new() -> Site {
        let signer = Signer::new();
        let site = Site { dir: tempfile::tempdir().unwrap(), keys: vec![signer.key()], signer, require: true };
        site.put("strict", "0.1.0");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn put(&self, policy: &str, version: &str) {
        let octets = mark(version);
        self.write(policy, &octets, self.signer.signs(&octets, policy, version).as_bytes());
    }

    fn write(&self, policy: &str, octets: &[u8], signature: &[u8]) {
        fs::write(self.path(&format!("{policy}.wasm")), octets).unwrap();
        fs::write(self.path(&format!("{policy}.wasm.minisig")), signature).unwrap();
    }

    fn bindings(&self, id: &str) -> config::Policy {
        config::Policy {
            dir: self.dir.path().to_owned(),
            invalid: id.into(),
            trusted_keys: self.keys.clone(),
            require_signature: self.require,
            ..config::Policy::default()
        }
    }

    fn load(&self, id: &str, modules: &str) -> Result<Policies, Error> {
        let modules: BTreeMap<String, Module> = toml::from_str(modules).unwrap();
        Policies::load(&self.bindings(id), &modules, &Arc::default(), &Trial::waived())
    }

    /// Why the policy is not trusted.
    fn refusal(&self, id: &str) -> Untrusted {
        untrusted(self.load(id, "").unwrap_err())
    }

    /// What is found of a pair in memory, on a path of its own.
    fn verify(&self, octets: &[u8], signature: &[u8]) -> Result<Option<Signed>, Untrusted> {
        let path = self.path("tried.wasm");
        fs::write(signature_of(&path), signature).unwrap();
        verify(octets, &path, "strict", &self.keys, &Limits::default())
    }
}

fn untrusted(error: Error) -> Untrusted {
    match error {
        Error::At { source, .. } => untrusted(*source),
        Error::Untrusted { why, .. } => why,
        other => panic!("{other}"),
    }
}

/// The lines of a signature, changed.
fn line(signature: &str, at: usize, change: impl Fn(&str) -> String) -> String {
    signature.lines().enumerate().map(|(n, line)| if n == at { change(line) } else { line.into() } + "\n").collect()
}

/// A line of base64 with one octet changed.
fn octet(line: &str, at: usize) -> String {
    let mut octets = STANDARD.decode(line).unwrap();
    octets[at] ^= 1;
    STANDARD.encode(octets)
}

#[test]
fn a_signed_component_is_loaded_and_says_who_signed_it() {
    let site = Site::new();
    let listed = site.load("strict", "").unwrap().list().into_iter().find(|listed| listed.id == "strict").unwrap();
    let signed = listed.signed.clone().unwrap();
    assert_eq!((signed.policy.as_str(), signed.version.as_str()), ("strict", "0.1.0"));
    assert_eq!(signed.key, site.signer.key());
    assert!(
        listed.to_string().contains(&format!("version 0.1.0 signed by key {:016X}", site.keys[0].number())),
        "{listed}"
    );
    // The shipped ones beside it need no signature.
    assert!(
        site.load("strict", "").unwrap().list().iter().any(|listed| listed.id == "accept" && listed.signed.is_none())
    );
}

#[test]
fn k18_each_part_of_a_pair_that_is_changed_is_refused() {
    let site = Site::new();
    let (octets, other) = (mark("0.1.0"), mark("0.2.0"));
    let good = site.signer.signs(&octets, "strict", "0.1.0");
    site.verify(&octets, good.as_bytes()).unwrap().unwrap();
    assert!(matches!(site.verify(&other, good.as_bytes()), Err(Untrusted::Unfit(_))));
    assert!(matches!(site.verify(&[], good.as_bytes()), Err(Untrusted::Unfit(_))));
    let said = |text: String| site.verify(&octets, text.as_bytes()).unwrap_err();
    let misshapen = |text: String| match said(text) {
        Untrusted::Misshapen { why, .. } => why,
        other => panic!("{other}"),
    };
    assert_eq!(misshapen(line(&good, 0, |_| "untrusted comment: signed by Alice".into())), Misshapen::First);
    // The signature, its key's number, how it was made.
    assert!(matches!(said(line(&good, 1, |text| octet(text, 40))), Untrusted::Unfit(_)));
    assert!(matches!(said(line(&good, 1, |text| octet(text, 5))), Untrusted::Key { .. }));
    assert_eq!(misshapen(line(&good, 1, |text| octet(text, 0))), Misshapen::Second);
    // The trusted comment.
    assert!(matches!(said(line(&good, 2, |text| text.replace("0.1.0", "0.9.0"))), Untrusted::Unfit(_)));
    assert_eq!(misshapen(line(&good, 2, |text| format!("{text}\r"))), Misshapen::Third);
    assert_eq!(misshapen(line(&good, 2, |text| text.replace("trusted", "Trusted"))), Misshapen::Third);
    // The signature over both.
    assert!(matches!(said(line(&good, 3, |text| octet(text, 3))), Untrusted::Unfit(_)));
    assert_eq!(misshapen(line(&good, 3, |text| text.replace('=', ""))), Misshapen::Fourth);
    // Halves of two signatures by the same key.
    let second = site.signer.signs(&other, "strict", "0.2.0");
    let (first, second): (Vec<_>, Vec<_>) = (good.lines().collect(), second.lines().collect());
    let mixed = format!("{}\n{}\n{}\n{}\n", first[0], first[1], second[2], second[3]);
    assert!(matches!(said(mixed), Untrusted::Unfit(_)));
}

#[test]
fn no_bit_of_a_signature_can_be_turned_over() {
    let site = Site::new();
    let octets = mark("0.1.0");
    let good = site.signer.signs(&octets, "strict", "0.1.0").into_bytes();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            // What is left without its last line's end has the same four lines.
            assert!(site.verify(&octets, &bad).is_err(), "octet {at}, bit {bit}");
        }
    }
}

#[test]
fn a_signature_that_is_cut_is_refused_wherever_it_is_cut() {
    let site = Site::new();
    let octets = mark("0.1.0");
    let good = site.signer.signs(&octets, "strict", "0.1.0").into_bytes();
    for length in 0..good.len() - 1 {
        assert!(site.verify(&octets, &good[..length]).is_err(), "{length}");
    }
    // An editor may have taken the last line's end off.
    assert!(site.verify(&octets, &good[..good.len() - 1]).unwrap().is_some());
    for bad in
        [good.repeat(2), [&good[..], b"\n"].concat(), [b"\n", &good[..]].concat(), [&good[..], b"more\n"].concat()]
    {
        assert!(site.verify(&octets, &bad).is_err(), "{}", String::from_utf8_lossy(&bad));
    }
}

#[test]
fn what_is_no_signature_at_all_is_an_error_within_its_bound() {
    let site = Site::new();
    let octets = mark("0.1.0");
    for bad in [
        &b""[..],
        b"\xff\xfe\n\n\n",
        b"\n\n\n\n",
        &[0; 400],
        &b"untrusted comment: x\nRUQ=\ntrusted comment: \nAA==\n".repeat(2),
    ] {
        assert!(matches!(site.verify(&octets, bad), Err(Untrusted::Misshapen { .. })), "{bad:?}");
    }
    let long = vec![b'a'; usize::try_from(Limits::default().policy.signature).unwrap() + 1];
    let Err(Untrusted::Read { source, .. }) = site.verify(&octets, &long) else { panic!("it is too long") };
    assert!(source.to_string().contains("longer than 4096"), "{source}");
    let path = signature_of(&site.path("strict.wasm"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(matches!(site.refusal("strict"), Untrusted::Read { .. }));
    fs::remove_dir(&path).unwrap();
    std::os::unix::fs::symlink("nowhere", &path).unwrap();
    assert!(matches!(site.refusal("strict"), Untrusted::Read { .. }), "a link that leads nowhere is not absent");
}

#[test]
fn only_a_trusted_key_counts_and_its_number_proves_nothing() {
    let mut site = Site::new();
    let octets = mark("0.1.0");
    let stranger = Signer::new();
    let forged = stranger.signs(&octets, "strict", "0.1.0");
    assert!(
        matches!(site.verify(&octets, forged.as_bytes()), Err(Untrusted::Key { number, .. }) if number == stranger.key().number())
    );
    // The number of a key is no secret: anybody may write it.
    let number = site.keys[0].number().to_le_bytes();
    let forged = line(&forged, 1, |text| {
        let mut octets = STANDARD.decode(text).unwrap();
        octets[2..10].copy_from_slice(&number);
        STANDARD.encode(octets)
    });
    assert!(matches!(site.verify(&octets, forged.as_bytes()), Err(Untrusted::Unfit(_))));
    // Many keys, another one of the same number among them.
    let mut twin = STANDARD.decode(stranger.0.pk.to_base64()).unwrap();
    twin[2..10].copy_from_slice(&number);
    let mut keys: Vec<TrustedKey> = (0..100).map(|_| Signer::new().key()).collect();
    keys.push(TrustedKey::parse(&STANDARD.encode(twin)).unwrap());
    keys.append(&mut site.keys);
    site.keys = keys;
    assert!(site.load("strict", "").is_ok());
    let signed = site.verify(&octets, site.signer.signs(&octets, "strict", "0.1.0").as_bytes()).unwrap().unwrap();
    assert_eq!(signed.key, site.signer.key());
    site.keys.pop();
    assert!(matches!(site.refusal("strict"), Untrusted::Unfit(_)), "the key is taken away");
}

#[test]
fn the_legacy_kind_is_refused() {
    let site = Site::new();
    let octets = mark("0.1.0");
    let legacy = line(&site.signer.signs(&octets, "strict", "0.1.0"), 1, |text| {
        let mut octets = STANDARD.decode(text).unwrap();
        octets[..2].copy_from_slice(b"Ed");
        STANDARD.encode(octets)
    });
    let told = site.verify(&octets, legacy.as_bytes()).unwrap_err();
    assert!(matches!(told, Untrusted::Misshapen { why: Misshapen::Legacy, .. }), "{told}");
}

#[test]
fn a_renamed_pair_and_one_of_another_policy_are_refused() {
    let site = Site::new();
    for end in ["wasm", "wasm.minisig"] {
        fs::copy(site.path(&format!("strict.{end}")), site.path(&format!("mild.{end}"))).unwrap();
    }
    let told = site.refusal("mild");
    assert!(matches!(&told, Untrusted::Policy { signed, named } if signed == "strict" && named == "mild"), "{told}");
    // The same under a name that the configuration gives.
    site.load("ours", "[ours]\nmodule = \"strict.wasm\"\n[theirs]\nmodule = \"strict.wasm\"").unwrap();
    let told = untrusted(site.load("ours", "[ours]\nmodule = \"mild.wasm\"").unwrap_err());
    assert!(matches!(told, Untrusted::Policy { .. }), "{told}");
    // What follows the first dot is no part of the name.
    for end in ["wasm", "wasm.minisig"] {
        fs::copy(site.path(&format!("strict.{end}")), site.path(&format!("strict.next.{end}"))).unwrap();
    }
    site.load("next", "[next]\nmodule = \"strict.next.wasm\"").unwrap();
}

#[test]
fn the_version_that_is_signed_is_the_one_that_the_component_calls_itself() {
    let site = Site::new();
    let octets = mark("0.1.0");
    for (signed, good) in [("0.1.0", true), ("0.2.0", false), ("0.1", false), ("0.1.0.0", false)] {
        site.write("strict", &octets, site.signer.signs(&octets, "strict", signed).as_bytes());
        match site.load("strict", "") {
            Ok(_) => assert!(good, "{signed}"),
            Err(e) => assert!(!good && matches!(untrusted(e), Untrusted::Version { .. }), "{signed}"),
        }
    }
    for comment in ["timestamp:1\tfile:strict.wasm\thashed", "addrauth policy=strict", ""] {
        site.write("strict", &octets, site.signer.says(&octets, comment).as_bytes());
        assert!(matches!(site.refusal("strict"), Untrusted::Comment(_)), "{comment}");
    }
}

#[test]
fn a_missing_signature_is_refused_where_one_is_required_and_a_bad_one_wherever_a_key_is_trusted() {
    let mut site = Site::new();
    let signature = signature_of(&site.path("strict.wasm"));
    fs::remove_file(&signature).unwrap();
    assert!(matches!(site.refusal("strict"), Untrusted::Missing(path) if path == signature));
    site.require = false;
    assert!(site.load("strict", "").unwrap().signed().is_empty());
    fs::write(&signature, "junk").unwrap();
    assert!(matches!(site.refusal("strict"), Untrusted::Misshapen { .. }));
    site.keys.clear();
    site.load("strict", "").unwrap();
    site.require = true;
    assert!(matches!(site.refusal("strict"), Untrusted::NoKeys));
}

#[test]
fn nothing_reads_a_component_that_nobody_vouches_for() {
    let site = Site::new();
    // The process that tries components would end with an error of its own.
    let trial = Trial::by("/nonexistent/never-run", ["x"]);
    let load = || Policies::load(&site.bindings("strict"), &BTreeMap::new(), &Arc::default(), &trial).unwrap_err();
    let tried = |error: Error| matches!(error, Error::At { source, .. } if matches!(*source, Error::Refused { .. }));
    assert!(tried(load()), "a good pair is tried");
    fs::write(site.path("strict.wasm"), mark("0.2.0")).unwrap();
    assert!(matches!(untrusted(load()), Untrusted::Unfit(_)));
}

#[tokio::test]
async fn of_a_pair_that_is_half_new_nothing_comes_into_force_until_the_other_half_is_there() {
    for signature_first in [false, true] {
        let site = Site::new();
        let (bindings, none, trial) = (site.bindings("strict"), BTreeMap::new(), Trial::waived());
        let old = site.load("strict", "").unwrap();
        let octets = mark("0.2.0");
        let signature = site.signer.signs(&octets, "strict", "0.2.0");
        let halves: [(&Path, &[u8]); 2] =
            [(Path::new("strict.wasm"), &octets), (Path::new("strict.wasm.minisig"), signature.as_bytes())];
        let (first, second) = if signature_first { (halves[1], halves[0]) } else { (halves[0], halves[1]) };
        fs::write(site.dir.path().join(first.0), first.1).unwrap();
        let told = old.reload_apart(&bindings, &none, &trial).await.unwrap_err();
        assert!(matches!(untrusted(told), Untrusted::Unfit(_)), "{signature_first}");
        fs::write(site.dir.path().join(second.0), second.1).unwrap();
        let new = old.reload_apart(&bindings, &none, &trial).await.unwrap();
        assert_eq!(new.signed()[0].signed.version.as_str(), "0.2.0");
        assert_eq!(old.signed()[0].signed.version.as_str(), "0.1.0");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_octet_of_a_pair_that_is_another_one_is_refused(at in any::<prop::sample::Index>(), by in 1..=255_u8) {
        thread_local! {
            static PAIR: (Site, Vec<u8>, Vec<u8>) = {
                let (site, octets) = (Site::new(), mark("0.1.0"));
                let signature = site.signer.signs(&octets, "strict", "0.1.0").into_bytes();
                (site, octets, signature)
            };
        }
        PAIR.with(|(site, octets, signature)| {
            // As often in the one as in the other.
            for whole in [octets, signature] {
                let mut bad = whole.clone();
                bad[at.index(whole.len())] ^= by;
                let found = if std::ptr::eq(whole, octets) { site.verify(&bad, signature) } else { site.verify(octets, &bad) };
                prop_assert!(found.is_err());
            }
            Ok(())
        })?;
    }

    #[test]
    fn no_octets_make_a_signature(octets in prop::collection::vec(any::<u8>(), 0..500)) {
        prop_assert!(Signature::parse(&octets).is_err());
    }
}

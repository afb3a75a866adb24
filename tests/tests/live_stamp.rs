//! Stamping behind a real Postfix: a login by SASL, opendkim before us in the same chain, and the signature still good.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use addrauth::config::{Config, StateDir};
use addrauth::proto::key::AuthKey;
use addrauth::store::{NewestKey, Opening, open_keyring, read_or_make_opener};
use addrauth_tests::daemon::Rig;
use addrauth_tests::postfix::{ALICE, Bed, Kind, as_sent, without};
use addrauth_tests::smtp::{Reply, Session};

/// How long what has to come may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const SENDER: &str = "alice@send.test";

/// opendkim, signing for send.test; ended by its process id.
struct Signer {
    child: Child,
    dir: PathBuf,
}

impl Signer {
    fn start(dir: &Path, port: u16) -> Signer {
        let mut generate = Command::new("opendkim-genkey");
        generate.args(["-b", "2048", "-s", "sel", "-d", "send.test", "-D"]).arg(dir);
        assert!(generate.status().unwrap().success(), "opendkim-genkey");
        let key = dir.join("sel.private");
        let conf = format!(
            "Mode s\nDomain send.test\nSelector sel\nKeyFile {}\nRequireSafeKeys no\nSocket inet:{port}@127.0.0.1\n\
             Syslog no\nInternalHosts 127.0.0.1\n",
            key.display()
        );
        std::fs::write(dir.join("sign.conf"), conf).unwrap();
        let mut command = Command::new("opendkim");
        command.arg("-f").arg("-x").arg(dir.join("sign.conf")).stdin(Stdio::null());
        let child = command.spawn().unwrap();
        let begin = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begin.elapsed() < PATIENCE, "opendkim does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Signer { child, dir: dir.to_owned() }
    }

    /// What opendkim says of a message's signature, by the public key alone.
    fn verifies(&self, message: &[u8]) -> bool {
        let record = std::fs::read_to_string(self.dir.join("sel.txt")).unwrap();
        let value: String = record.split('"').skip(1).step_by(2).collect();
        let (keys, conf, file) = (self.dir.join("public"), self.dir.join("verify.conf"), self.dir.join("message"));
        std::fs::write(&keys, format!("sel._domainkey.send.test {value}\n")).unwrap();
        let text = format!("Mode v\nSyslog no\nTestPublicKeys {}\nOn-BadSignature reject\n", keys.display());
        std::fs::write(&conf, text).unwrap();
        std::fs::write(&file, message).unwrap();
        let out = Command::new("opendkim").arg("-x").arg(&conf).arg("-v").arg("-t").arg(&file).output().unwrap();
        let words = [out.stdout, out.stderr].concat();
        let words = String::from_utf8_lossy(&words);
        let good = words.contains("verification (s=sel, d=send.test, 2048-bit key) succeeded");
        assert!(good || words.contains("verification") && words.contains("failed"), "{words}");
        good
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// A door that signs and stamps, alice's key in the keyring.
struct Msa {
    rig: Rig,
    signer: Signer,
    bed: &'static Bed,
    _dir: tempfile::TempDir,
}

fn msa() -> Option<Msa> {
    let bed = Bed::shared()?;
    let dir = tempfile::tempdir().unwrap();
    let half = dir.path().join("keyring.key");
    let opener = read_or_make_opener(&half).unwrap();
    let rig = Rig::start_with_settings(bed, Kind::Signing, &[], |_| {
        [String::new(), format!("[keyring]\nstamp = [\"ORIGINATING\"]\nsecret_file = {half:?}\n")]
    });
    let key = AuthKey::parse(rig.key.as_bytes()).unwrap();
    let config = Config { state_dir: StateDir(rig.path("filter")), ..Config::default() };
    let learned = SystemTime::now();
    let newest = NewestKey {
        address: SENDER.into(),
        fingerprint: key.verify_key().fingerprint(),
        sealed: opener.seal_to().seal(SENDER, &key).unwrap(),
        learned,
        expires: learned + Duration::from_secs(3_600),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let keyring = open_keyring(&config, Opening { busy: Duration::from_secs(5), readers: 1 }).await.unwrap();
        keyring.learn(&newest).await.unwrap();
        keyring.close().await;
    });
    let signer = Signer::start(dir.path(), rig.door.signer);
    Some(Msa { rig, signer, bed, _dir: dir })
}

impl Msa {
    /// Alice, logged in, sends this.
    fn submit(&self, from: &str, to: &str, message: &str) -> Reply {
        self.submit_to(from, &[to], message)
    }

    fn submit_to(&self, from: &str, to: &[&str], message: &str) -> Reply {
        let mut session = Session::open(self.rig.door.port);
        session.log_in(ALICE);
        session.deliver(from, to, message.replace('\n', "\r\n").as_bytes())
    }

    /// What arrives at an address of send.test, which is elsewhere by this filter's configuration.
    fn arrived(&self, to: &str) -> Vec<u8> {
        let begin = Instant::now();
        loop {
            if let Some((_, file)) = self.bed.returned().into_iter().find(|(address, _)| address == to) {
                return as_sent(&file);
            }
            assert!(begin.elapsed() < PATIENCE, "nothing for {to}\n{}", self.rig.door.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn letter(from: &str, to: &str) -> String {
    format!(
        "From: {from}\nTo: {to}\nSubject: two  spaces,\n\ta fold\nDate: Thu, 1 Jan 2026 00:00:00 +0000\n\
         Message-ID: <1@send.test>\n\nhello\n\n.\n..dots \n"
    )
}

#[test]
fn a_stamp_leaves_the_signature_good_that_opendkim_made_before_it() {
    let Some(msa) = msa() else { return };
    let to = "stamped@send.test";
    assert_eq!(msa.submit(SENDER, to, &letter(SENDER, to)).code, 250);
    let arrived = msa.arrived(to);
    let text = String::from_utf8_lossy(&arrived).into_owned();
    let version =
        Command::new("postconf").arg("-c").arg(msa.rig.door.etc()).args(["-h", "mail_version"]).output().unwrap();
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let version: Vec<&str> = version.trim().split('.').take(2).collect();
    let stamp = format!("X-Auth-Key: {}\nX-Auth-Agent: SMTP - postfix {}\n", msa.rig.key, version.join("."));
    assert!(text.starts_with(&stamp), "on top of all, Postfix's own field among it:\n{text}");
    let signed = without(&arrived, |line| line.starts_with(b"X-Auth-"));
    let bare = without(&signed, |line| line.starts_with(b"DKIM-Signature:") || line.starts_with(b"DKIM-Filter:"));
    assert_eq!(String::from_utf8_lossy(&bare), letter(SENDER, to), "no other octet is changed");
    assert!(msa.signer.verifies(&arrived), "with the stamp");
    assert!(msa.signer.verifies(&signed), "and without it, as the recipient's server leaves it");
    assert!(!msa.signer.verifies(text.replace("hello", "hullo").as_bytes()), "another message is not signed by that");
}

#[test]
fn i_alice_who_writes_as_bob_is_signed_by_her_domain_and_not_stamped() {
    let Some(msa) = msa() else { return };
    for (from, to) in [("bob@send.test", "as-bob@send.test"), (SENDER, "forwarded@send.test")] {
        let sign = if from == SENDER { "X-Forwarded-To: x@else.test\n" } else { "" };
        assert_eq!(msa.submit(SENDER, to, &format!("{sign}{}", letter(from, to))).code, 250);
        let arrived = msa.arrived(to);
        assert!(!String::from_utf8_lossy(&arrived).contains("X-Auth-"), "{}", String::from_utf8_lossy(&arrived));
        assert!(msa.signer.verifies(&arrived));
    }
    let log = msa.rig.filter.as_ref().unwrap().log();
    assert!(log.contains("unstamped=not-owner") && log.contains("unstamped=forwarded"), "{log}");
}

#[test]
fn what_stays_inside_is_valid_by_login_and_carries_no_key() {
    let Some(msa) = msa() else { return };
    let bob = msa.rig.door.address("bob");
    assert_eq!(msa.submit(SENDER, &bob, &letter(SENDER, &bob)).code, 250);
    let file = msa.rig.door.delivered("bob", 1).pop().unwrap();
    let text = String::from_utf8_lossy(&as_sent(&file)).into_owned();
    assert!(text.starts_with("X-Auth-Key-Status: VALIDKEY; address=alice@send.test;"), "{text}");
    assert!(!text.contains("X-Auth-Key:"), "{text}");
}

#[test]
fn a_colleagues_own_copy_keeps_the_signature_and_has_no_key() {
    let Some(msa) = msa() else { return };
    let (bob, away) = (msa.rig.door.address("bob"), "both@send.test");
    assert_eq!(msa.submit_to(SENDER, &[&bob, away], &letter(SENDER, away)).code, 250);
    let stamped = msa.arrived(away);
    let text = String::from_utf8_lossy(&stamped).into_owned();
    assert!(text.starts_with(&format!("X-Auth-Key: {}\n", msa.rig.key)) && !text.contains("Status:"), "{text}");
    assert!(msa.signer.verifies(&stamped));
    let file = msa.rig.door.delivered("bob", 1).pop().unwrap();
    let copy = as_sent(&file);
    let text = String::from_utf8_lossy(&copy).into_owned();
    assert!(text.contains("X-Auth-Key-Status: VALIDKEY; address=alice@send.test;"), "{text}");
    assert!(!text.contains(&msa.rig.key), "{text}");
    assert!(msa.signer.verifies(&copy), "the copy has the octets that were signed");
}

#[test]
fn i_a_colleagues_live_key_reaches_nobody_here_by_way_of_one_more_recipient() {
    let Some(msa) = msa() else { return };
    let (bob, away) = (msa.rig.door.address("bob"), "stolen@send.test");
    let bobs_key = msa.rig.issue("bob@send.test");
    let stolen = format!("X-Auth-Key: {bobs_key}\n{}", letter("bob@send.test", away));
    assert_eq!(msa.submit_to(SENDER, &[&bob, away], &stolen).code, 250);
    let file = msa.rig.door.delivered("bob", 1).pop().unwrap();
    for text in [as_sent(&file), msa.arrived(away)].map(|octets| String::from_utf8_lossy(&octets).into_owned()) {
        assert!(!text.contains(&bobs_key), "{text}");
    }
    assert_eq!(msa.rig.door.mailbox("bob").len(), 1);
}

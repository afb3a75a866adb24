//! `addrauth store`, by the program itself.

use std::path::Path;
use std::process::{Command, Stdio};

use addrauth::store::PostEnd;
use addrauth_tests::daemon;

use crate::*;

/// Runs the program with this `[store]`; its exit code, and what it printed.
fn run(dir: &Path, url: &str, words: &[&str]) -> (i32, String, String) {
    let file = dir.join("addrauth.toml");
    let state = dir.join("state");
    std::fs::write(
        &file,
        format!("state_dir = {state:?}\n[store]\nurl = {url:?}\n[authority]\ndomains = [\"example.com\"]\n"),
    )
    .unwrap();
    let mut command = Command::new(daemon::binary());
    let out = command.arg("--config").arg(file).args(words).stdin(Stdio::null()).output().unwrap();
    let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
    (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
}

#[test]
fn with_files_there_is_nothing_to_migrate_and_looking_makes_none() {
    let dir = tempfile::tempdir().unwrap();
    let (code, out, _) = run(dir.path(), "", &["store", "migrate"]);
    assert!(code == 0 && out.contains("nothing to do"), "{out}");
    let (code, out, _) = run(dir.path(), "", &["store", "status"]);
    assert!(code == 0 && out.contains("authority.db: not there yet"), "{out}");
    assert!(!dir.path().join("state").exists());
    assert_eq!(run(dir.path(), "", &["address", "add", "a@example.com"]).0, 0);
    let (code, out, _) = run(dir.path(), "", &["--json", "store", "status"]);
    let status: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &status["usable"], &status["status"]["addresses"]), (0, &true.into(), &1.into()), "{out}");
    assert_eq!(status["status"]["schemas"][1]["version"], 0);
    assert!(!dir.path().join("state/keyring.db").exists());
}

#[test]
fn tables_are_made_told_of_and_used_by_the_other_verbs() {
    let Some(cluster) = Postgres::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let database = cluster.database();
    let url = cluster.url("postgres", &database);
    let (code, out, _) = run(dir.path(), &url, &["store", "status"]);
    assert!(code == 1 && out.contains("addrauth store migrate"), "{out}");
    let (code, _, err) = run(dir.path(), &url, &["address", "add", "a@example.com"]);
    assert!(code == 2 && err.contains("addrauth store migrate"), "{err}");
    let (code, out, _) = run(dir.path(), "postgres:///none", &["store", "migrate", "--url", &url]);
    assert!(code == 0 && out.contains(": made, schema "), "{out}");
    let (code, out, _) = run(dir.path(), &url, &["store", "migrate"]);
    assert!(code == 0 && out.contains("up to date"), "{out}");
    assert_eq!(run(dir.path(), &url, &["address", "add", "a@example.com"]).0, 0);
    let (code, key, _) = run(dir.path(), &url, &["key", "issue", "a@example.com"]);
    assert!(code == 0 && key.trim().len() == 64);
    let (code, out, _) = run(dir.path(), &url, &["store", "status"]);
    assert!(code == 0 && out.contains("rights of this login: own, authority, learn, stamp"), "{out}");
    assert!(out.contains("1  addresses that get keys") && out.contains("1  keys\n"), "{out}");
    let (_, out, _) = run(dir.path(), &url, &["doctor", "example.com"]);
    assert!(out.contains("store.url") && out.contains("it answers"), "{out}");
    assert!(!dir.path().join("state").exists(), "nothing lies on this host");
    let holds = |text: &str| {
        let count = format!("SELECT count(*) FROM addrauth.{text} t WHERE t::text LIKE '%{}%'", key.trim());
        cluster.sql("postgres", &database, &count).unwrap()
    };
    assert_eq!([holds("keys"), holds("posts"), holds("keyring")], ["0", "0", "0"], "no key is kept in clear");
}

#[test]
fn a_server_that_is_away_or_a_url_with_a_password_ends_with_code_2_and_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = format!("postgres:///x?host={}", dir.path().display());
    for words in [&["store", "status"][..], &["store", "migrate"], &["key", "show", "a@example.com"]] {
        let (code, out, err) = run(dir.path(), &nowhere, words);
        assert!(code == 2 && out.is_empty() && err.contains("cannot reach"), "{words:?}: {out}{err}");
        let (code, _, err) = run(dir.path(), "postgres://mx:verysecret@127.0.0.1/x", words);
        assert!(code == 2 && err.contains("store.password_file") && !err.contains("verysecret"), "{words:?}: {err}");
    }
}

#[tokio::test]
async fn the_files_of_one_host_are_copied_whole_into_empty_tables_alone() {
    let Some(cluster) = Postgres::shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (Bed::sqlite(), Bed::in_cluster(cluster).await);
    let mut files = from.config.clone();
    files.state_dir.0 = dir.path().join("state");
    let (keys, keyring) =
        (store::open_keys(&files, OPENING).await.unwrap(), store::open_keyring(&files, OPENING).await.unwrap());
    let rows: Vec<_> = (0..6_000).map(|n| row(&format!("u{n}@example.com"), (n == 7).then_some(7_200), 300)).collect();
    keys.enlist(&rows, &mut |_| {}).await.unwrap();
    let new: Vec<_> = rows[..50].iter().map(|row| turn_key(&row.address, 300, 900)).collect();
    keys.add_all(&new, 9).await.unwrap();
    keys.revoke(&mailbox("u3@example.com"), &[1], at(310)).await.unwrap();
    let post = keys.take_post(at(300), |_| Duration::from_secs(60)).await.unwrap().unwrap();
    keys.end_post(&post, &PostEnd::Sent, at(300)).await.unwrap();
    for (fingerprint, expires) in [("f1", 500), ("f2", 600)] {
        keyring.learn(&learned("u1@example.com", fingerprint, expires)).await.unwrap();
    }
    let all = async |keys: Arc<dyn KeyTable>, keyring: Arc<dyn Keyring>| {
        let mut text = format!("{:?} {:?}", keys.enlisted(None).await.unwrap(), keys.owing().await.unwrap());
        for n in 0..60 {
            let address = format!("u{n}@example.com");
            text += &format!(
                "{:?} {:?}",
                keys.of(&mailbox(&address)).await.unwrap(),
                keys.posts_of(&mailbox(&address)).await.unwrap()
            );
        }
        text + &format!("{:?}", keyring.newest(&mailbox("u1@example.com")).await.unwrap())
    };
    let before = all(keys, keyring).await;
    let (code, out, err) = run(dir.path(), "", &["store", "copy", "--to", &to.config.store.url]);
    assert!(code == 0 && out.contains("6000  settings") && out.contains("2  keyring"), "{out}{err}");
    let (keys, keyring) = (to.keys().await, to.keyring().await);
    assert_eq!(all(keys.clone(), keyring.clone()).await, before);
    assert_eq!(keys.add_all(&[new_key("u0@example.com", 400)], 9).await.unwrap(), [store::Added::Generation(2)]);
    let known = keyring.learn(&learned("u1@example.com", "f1", 900)).await.unwrap();
    assert_eq!(known, store::Learned::Superseded);
    let (code, _, err) = run(dir.path(), &to.config.store.url, &["store", "copy"]);
    assert!(code == 1 && err.contains("empty tables alone"), "{err}");
}

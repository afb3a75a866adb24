//! The rights of the three roles in PostgreSQL, and how the schema comes to be.

use addrauth::store::{Error, Learned};

use crate::*;

/// A bed whose URL is that of a login with these rights alone.
async fn as_member(bed: &Bed, cluster: &Postgres, role: &str) -> Bed {
    let login = format!("{}_{role}", bed.database);
    cluster.sql("postgres", &bed.database, &format!("CREATE ROLE {login} LOGIN IN ROLE addrauth_{role}")).unwrap();
    let mut member = Bed::sqlite();
    member.config.store.url = cluster.url(&login, &bed.database);
    member
}

fn denied<T: std::fmt::Debug>(what: Result<T, Error>) {
    let text = what.unwrap_err().to_string();
    assert!(text.contains("permission denied") && text.contains("addrauth store status"), "{text}");
}

#[tokio::test]
async fn each_role_may_do_its_own_part_and_no_other() {
    let Some(cluster) = Postgres::shared() else { return };
    let bed = Bed::in_cluster(cluster).await;
    let authority = as_member(&bed, cluster, "authority").await;
    let learn = as_member(&bed, cluster, "learn").await;
    let stamp = as_member(&bed, cluster, "stamp").await;
    let key = learned("a@example.com", "f1", 500);

    let table = authority.keys().await;
    table.enlist(&[row("a@example.com", None, 300)], &mut |_| {}).await.unwrap();
    table.add_all(&[turn_key("a@example.com", 300, 900)], 4).await.unwrap();
    assert_eq!(table.of(&mailbox("a@example.com")).await.unwrap().len(), 1);
    table.sweep(at(9_000)).await.unwrap();
    let keyring = authority.keyring().await;
    assert_eq!(keyring.learn(&key).await.unwrap(), Learned::Newest);
    denied(keyring.newest(&mailbox("a@example.com")).await);
    keyring.learn(&learned("b@example.com", "f1", 500)).await.unwrap();
    assert!(keyring.supersede(&mailbox("b@example.com"), &["f1".to_owned()]).await.unwrap());

    let keyring = learn.keyring().await;
    assert_eq!(keyring.learn(&key).await.unwrap(), Learned::Known);
    assert_eq!(keyring.learn(&learned("a@example.com", "f2", 600)).await.unwrap(), Learned::Newest);
    assert_eq!(keyring.rows(None).await.unwrap().len(), 1);
    assert_eq!(keyring.ending(at(900), 9).await.unwrap().len(), 1);
    denied(keyring.newest(&mailbox("a@example.com")).await);
    denied(learn.keys().await.of(&mailbox("a@example.com")).await);
    denied(learn.keys().await.add(&mailbox("a@example.com"), &k(1), at(1), at(2), 4).await);
    keyring.sweep(at(1)).await.unwrap();

    let keyring = stamp.keyring().await;
    assert_eq!(keyring.newest(&mailbox("a@example.com")).await.unwrap().unwrap().fingerprint, "f2");
    denied(keyring.learn(&learned("a@example.com", "f3", 700)).await);
    denied(keyring.forget(&mailbox("a@example.com")).await);
    denied(keyring.sweep(at(9_000)).await);
    denied(stamp.keys().await.of(&mailbox("a@example.com")).await);
    denied(stamp.keys().await.enlisted(None).await);

    // Ways around the program.
    let sql = |login: &str, text: &str| cluster.sql(&format!("{}_{login}", bed.database), &bed.database, text);
    for text in [
        "SELECT sealed FROM addrauth.keyring",
        "SELECT * FROM addrauth.keyring",
        "UPDATE addrauth.keyring SET fingerprint = encode(sealed, 'hex')",
        "UPDATE addrauth.keyring SET sealed = NULL RETURNING sealed",
        "DELETE FROM addrauth.keyring RETURNING sealed",
        "SELECT k FROM addrauth.keys",
        "SELECT sealed FROM addrauth.posts",
        "UPDATE addrauth.version SET version = 9",
        "CREATE TABLE addrauth.t (x int)",
    ] {
        for login in ["learn", "authority"] {
            let may = login == "authority" && (text.contains("addrauth.keys") || text.contains("addrauth.posts"));
            assert_eq!(sql(login, text).is_ok(), may, "{login}: {text}");
        }
    }
    for text in ["UPDATE addrauth.keyring SET present = present", "SELECT k FROM addrauth.keys", "CREATE SCHEMA other"]
    {
        assert!(sql("stamp", text).unwrap_err().contains("permission denied"), "{text}");
    }

    for (member, rights) in [(&authority, &["authority", "learn"][..]), (&learn, &["learn"]), (&stamp, &["stamp"])] {
        let status = store::status(&member.config, OPENING).await.unwrap();
        assert_eq!(status.rights.as_deref(), Some(rights));
        assert_eq!(status.keys.is_some(), rights.contains(&"authority"));
        assert_eq!(status.keyring, Some(1));
    }
}

#[tokio::test]
async fn tables_are_made_by_the_command_alone_and_as_often_as_it_is_run() {
    let Some(cluster) = Postgres::shared() else { return };
    let mut bed = Bed::sqlite();
    let database = cluster.database();
    bed.config.store.url = cluster.url("postgres", &database);
    let error = store::open_keys(&bed.config, OPENING).await.unwrap_err();
    assert!(matches!(error, Error::OldSchema { found: 0, known: 1, .. }), "{error}");
    assert!(error.to_string().contains("addrauth store migrate"), "{error}");
    assert_eq!(cluster.sql("postgres", &database, "SELECT to_regnamespace('addrauth')").unwrap(), "");
    let status = store::status(&bed.config, OPENING).await.unwrap();
    assert!(!status.is_usable() && status.schemas[0].version == 0 && status.keys.is_none(), "{status:?}");

    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let store = bed.config.store.clone();
            tokio::spawn(async move { store::migrate(&store, OPENING).await })
        })
        .collect();
    let mut found = Vec::new();
    for task in tasks {
        let migrated = task.await.unwrap().unwrap();
        assert_eq!((migrated.version, migrated.left), (1, None));
        found.push(migrated.found);
    }
    found.sort_unstable();
    assert_eq!(found, [0, 1, 1, 1], "one of them made it");
    store::open_keys(&bed.config, OPENING).await.unwrap();
    assert!(store::status(&bed.config, OPENING).await.unwrap().is_usable());

    cluster.sql("postgres", &database, "UPDATE addrauth.version SET version = 9").unwrap();
    let error = store::open_keyring(&bed.config, OPENING).await.unwrap_err();
    assert!(matches!(error, Error::Newer { found: 9, known: 1, .. }), "{error}");
    assert!(store::migrate(&bed.config.store, OPENING).await.is_err(), "and nobody makes it older");
}

#[tokio::test]
async fn where_roles_may_not_be_made_the_statements_for_it_are_given() {
    // A cluster of its own: roles belong to all databases.
    let Some(cluster) = Postgres::start() else { return };
    let mut bed = Bed::sqlite();
    cluster.sql("postgres", "postgres", "CREATE ROLE owner LOGIN").unwrap();
    cluster.sql("postgres", "postgres", "CREATE DATABASE mine OWNER owner").unwrap();
    bed.config.store.url = cluster.url("owner", "mine");
    let migrated = store::migrate(&bed.config.store, OPENING).await.unwrap();
    assert_eq!((migrated.found, migrated.version), (0, 1));
    let left = migrated.left.unwrap();
    assert!(left.contains("CREATE ROLE addrauth_learn") && left.contains("GRANT"), "{left}");
    bed.keys().await.enlist(&[row("a@example.com", None, 1)], &mut |_| {}).await.unwrap();
    cluster.sql("postgres", "mine", &left).unwrap();
    assert_eq!(store::migrate(&bed.config.store, OPENING).await.unwrap().left, None);
    cluster.sql("postgres", "mine", "CREATE ROLE mx LOGIN IN ROLE addrauth_learn").unwrap();
    bed.config.store.url = cluster.url("mx", "mine");
    bed.keyring().await.learn(&learned("a@example.com", "f1", 500)).await.unwrap();
}

#[tokio::test]
async fn over_tcp_the_password_comes_from_its_file() {
    use std::os::unix::fs::PermissionsExt;
    let Some(cluster) = Postgres::shared() else { return };
    let bed = Bed::in_cluster(cluster).await;
    let (login, password) = (format!("{}_tcp", bed.database), "pass word:@/'\\");
    let made = format!("CREATE ROLE {login} LOGIN PASSWORD E'pass word:@/''\\\\' IN ROLE addrauth_authority");
    cluster.sql("postgres", &bed.database, &made).unwrap();
    let mut config = bed.config.clone();
    config.store.url = cluster.tcp_url(&login, &bed.database);
    let error = store::open_keys(&config, OPENING).await.unwrap_err().to_string();
    assert!(error.contains("store.password_file"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    config.store.password_file = dir.path().join("password");
    std::fs::write(&config.store.password_file, format!("{password}\n")).unwrap();
    std::fs::set_permissions(&config.store.password_file, PermissionsExt::from_mode(0o600)).unwrap();
    let table = store::open_keys(&config, OPENING).await.unwrap();
    table.add(&mailbox("a@example.com"), &k(1), at(100), at(200), 4).await.unwrap();
    assert!(!format!("{table:?} {config:?}").contains("pass word"));
    std::fs::write(&config.store.password_file, "wrong one\n").unwrap();
    let error = store::open_keys(&config, OPENING).await.unwrap_err().to_string();
    assert!(error.contains("store.password_file") && !error.contains("wrong one"), "{error}");
}

#[tokio::test]
async fn who_hands_keys_out_and_may_not_read_them_is_told_so_at_the_start() {
    let Some(cluster) = Postgres::shared() else { return };
    let bed = Bed::in_cluster(cluster).await;
    let mut member = as_member(&bed, cluster, "authority").await;
    let (root, token) = (addrauth_tests::certificates::Root::new(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(token.path(), "0123456789abcdef0123456789abcdef").unwrap();
    member.config.authority.domains = vec!["example.com".parse().unwrap()];
    member.config.authority.listen = vec![([127, 0, 0, 1], 0).into()];
    member.config.authority.tls = root.issue("localhost");
    member.config.authority.fetch_token_file = token.path().to_owned();
    let authority = addrauth::authority::Authority::open(&member.config, &Default::default()).await.unwrap();
    let mut told = Vec::new();
    for _ in 0..2 {
        let sockets = authority.bind().unwrap();
        told.push(authority.bind_streams(&member.config, &sockets).await.err().map(|error| error.to_string()));
        let text = format!("GRANT addrauth_stamp TO {}_authority", bed.database);
        cluster.sql("postgres", &bed.database, &text).unwrap();
    }
    let refused = told[0].as_deref().unwrap();
    assert!(refused.contains("authority.fetch_token_file") && refused.contains("addrauth_stamp too"), "{refused}");
    assert_eq!(told[1], None);
}

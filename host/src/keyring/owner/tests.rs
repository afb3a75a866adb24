//! Who owns what: without tables, and by real files.

use super::*;

fn owners(tables: &[String], login_domain: &str) -> Owners {
    let keyring =
        config::Keyring { owners: tables.to_vec(), login_domain: login_domain.into(), ..config::Keyring::default() };
    Owners::new(&keyring, &Arc::default()).unwrap()
}

/// What Postfix 3.7.11 says with myorigin = origin.test, mydestination = local.test, other.test and these rows in its
/// smtpd_sender_login_maps: `tests/tests/postfix_facts.rs` asks it.
const ROWS: &str = include_str!("../../../../tests/vectors/owners/rows");
/// An address, and its owner there, or `-`.
const OWNERS: &str = include_str!("../../../../tests/vectors/owners/owners");

#[tokio::test]
async fn rows_count_as_postfix_counts_them() {
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("rows");
    std::fs::write(&table, ROWS).unwrap();
    let local_domains = ["Origin.test", "local.test", "other.test"].map(String::from).to_vec();
    let tables = vec![format!("hash:{}", table.display())];
    let keyring = config::Keyring { owners: tables.clone(), local_domains, ..config::Keyring::default() };
    let owners = Owners::new(&keyring, &Arc::default()).unwrap();
    let nowhere =
        Owners::new(&config::Keyring { owners: tables, ..config::Keyring::default() }, &Arc::default()).unwrap();
    let logins: Vec<&str> = ROWS.lines().flat_map(|row| row.split(['\t', ',']).skip(1)).collect();
    let mut asked = 0;
    for (sender, owner) in OWNERS.lines().filter_map(|line| line.split_once('\t')) {
        for login in &logins {
            let owns = owners.owns(login, &address(sender)).await.unwrap();
            assert_eq!(owns, *login == owner, "{login} {sender}");
            // Where no domain is known to be local, a bare user's row counts for nobody.
            let bare = ROWS.lines().any(|row| !row.contains('@') && row.ends_with(login));
            assert!(!bare || !nowhere.owns(login, &address(sender)).await.unwrap(), "{login} {sender}");
            asked += 1;
        }
    }
    assert!(asked > 300, "{asked}");
}

#[tokio::test]
async fn a_login_that_is_no_utf_8_owns_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("rows");
    std::fs::write(&table, b"ann@local.test m\xfcller\nbea@local.test ok\n").unwrap();
    let owners = owners(&[format!("hash:{}", table.display())], "");
    let told = String::from_utf8_lossy(b"m\xe4ller").into_owned();
    assert!(!owners.owns(&told, &address("ann@local.test")).await.unwrap());
    assert!(owners.owns("ok", &address("bea@local.test")).await.unwrap());
}

fn address(text: &str) -> Address {
    Address::parse(text.as_bytes(), true).unwrap()
}

#[tokio::test]
async fn without_tables_a_login_owns_the_address_that_it_is() {
    let plain = owners(&[], "");
    let based = owners(&[], "Example.COM");
    for (login, other, plainly, with_domain) in [
        ("alice@example.com", "alice@example.com", true, true),
        ("ALICE@Example.com", "alice+news@example.com", true, true),
        ("alice+x@example.com", "alice@example.com", true, true),
        ("alice", "alice@example.com", false, true),
        ("alice", "alice@example.org", false, false),
        ("mallory@example.com", "alice@example.com", false, false),
        ("", "alice@example.com", false, false),
        ("alice@example.com@example.com", "alice@example.com", false, false),
    ] {
        assert_eq!(plain.owns(login, &address(other)).await.unwrap(), plainly, "{login} {other}");
        assert_eq!(based.owns(login, &address(other)).await.unwrap(), with_domain, "{login} {other}, with a domain");
    }
}

#[tokio::test]
async fn tables_are_looked_up_in_postfixs_order_and_are_the_whole_truth() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let rows = "alice@example.com  alice, Helpdesk@example.com\nalice+vip@example.com bob\n@example.net carol dave\n";
    std::fs::write(&one, rows).unwrap();
    std::fs::write(&two, "info@example.net erin\nalice@example.com frank\n").unwrap();
    let tables = [format!("hash:{}", one.display()), format!("proxy:texthash:{}", two.display())];
    let owners = owners(&tables, "example.com");
    for (login, other, owns) in [
        ("alice@example.com", "Alice@example.com", true),
        ("ALICE", "alice+news@example.com", true),
        ("helpdesk", "alice@example.com", true),
        ("bob", "alice+vip@example.com", true),
        ("alice", "alice+vip@example.com", false),
        ("frank", "alice@example.com", false),
        ("carol", "anybody@example.net", true),
        ("dave", "any+body@example.net", true),
        ("erin", "info@example.net", true),
        ("carol", "info@example.net", false),
        ("bob@example.com", "bob@example.com", false),
        ("carol", "x@sub.example.net", false),
    ] {
        assert_eq!(owners.owns(login, &address(other)).await.unwrap(), owns, "{login} {other}");
    }
}

#[tokio::test]
async fn a_table_that_cannot_be_read_gives_nobody_anything() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good");
    std::fs::write(&good, "alice@example.com alice@example.com\n").unwrap();
    let tables = [format!("hash:{}", good.display()), "hash:/no/such/table".to_owned()];
    let error = owners(&tables, "").owns("alice@example.com", &address("alice@example.com")).await.unwrap_err();
    assert!(error.to_string().contains("/no/such/table"), "{error}");
}

#[test]
fn a_table_is_spelt_as_postfix_spells_it() {
    for wrong in ["", "/etc/postfix/owners", "hash:", "hash:owners", "hash", "my sql:/x", ":x", "proxy:", "mysql:"] {
        let keyring = config::Keyring { owners: vec![wrong.into()], ..config::Keyring::default() };
        let error = Owners::new(&keyring, &Arc::default()).err();
        assert!(error.is_some_and(|e| e.to_string().contains("hash:/etc/postfix")), "{wrong:?}");
    }
}

#[tokio::test]
async fn verp_and_batv_paths_are_their_owners() {
    let owners = owners(&[], "");
    for (login, path, owns) in [
        ("alice@example.com", "alice@example.com", true),
        ("alice@example.com", "alice+bob=other.test@example.com", true),
        ("alice@example.com", "alice-bob=other.test@example.com", true),
        ("mary-jane@example.com", "mary-jane-bob=other.test@example.com", true),
        ("alice@example.com", "prvs=1234abCDef=alice@example.com", true),
        ("alice@example.com", "PRVS=1234abcdef=alice+x@example.com", true),
        ("alice@example.com", "prvs=1234abcde=alice@example.com", false),
        ("alice@example.com", "prvs=1234abcdez=alice@example.com", false),
        ("alice@example.com", "alice-smith@example.com", false),
        ("alice@example.com", "-alice=x@example.com", false),
        ("alice@example.com", "alice-bob=other.test@example.org", false),
        ("alice@example.com", "bob-alice=example.com@example.com", false),
    ] {
        assert_eq!(owners.owns_path(login, &address(path)).await.unwrap(), owns, "{login} {path}");
    }
}

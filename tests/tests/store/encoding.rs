//! PostgreSQL databases that are not UTF8: no new one is used, and in an old one a question it cannot hold spoils no other.

use addrauth::store::Error;

use crate::*;

#[tokio::test]
async fn a_database_of_another_encoding_is_refused_with_the_way_out_and_left_alone() {
    let Some(cluster) = Postgres::shared() else { return };
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let database = format!("of_{}", encoding.to_lowercase());
        let make =
            format!("CREATE DATABASE {database} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'");
        cluster.sql("postgres", "postgres", &make).unwrap();
        let mut config = Config::default();
        config.store.url = cluster.url("postgres", &database);
        let error = store::migrate(&config.store, OPENING).await.unwrap_err();
        assert!(matches!(&error, Error::Encoding { encoding: found, .. } if found == encoding), "{error}");
        assert!(error.to_string().contains("createdb --encoding=UTF8"), "{error}");
        let made = "SELECT count(*) FROM pg_namespace WHERE nspname = 'addrauth'";
        assert_eq!(cluster.sql("postgres", &database, made).unwrap(), "0");
    }
}

#[tokio::test]
async fn a_question_that_the_encoding_has_no_place_for_spoils_no_other() {
    let Some(cluster) = Postgres::shared() else { return };
    let bed = Bed::in_cluster(cluster).await;
    let keys = bed.keys().await;
    for name in ["a", "b"] {
        keys.add(&mailbox(&format!("{name}@example.com")), &k(1), at(1), at(900), 4).await.unwrap();
    }
    keys.close().await;
    // As a database that an earlier version made its tables in; all that is in it is ASCII.
    let latin =
        format!("UPDATE pg_database SET encoding = pg_char_to_encoding('LATIN1') WHERE datname = '{}'", bed.database);
    cluster.sql("postgres", "postgres", &latin).unwrap();
    assert_eq!(cluster.sql("postgres", &bed.database, "SHOW server_encoding").unwrap(), "LATIN1");
    let keys = bed.keys().await;
    let asked =
        ["\u{4e16}@example.com", "b@example.com", "\u{e9}@example.com", "a@example.com", "\u{1f600}@example.com"];
    let asked: Vec<String> = asked.into_iter().chain(["none@example.com"]).map(String::from).collect();
    for _ in 0..3 {
        let found = keys.of_all(&asked).await.unwrap();
        let names: Vec<&str> = found.iter().map(|row| row.address.as_str()).collect();
        assert_eq!(names, ["a@example.com", "b@example.com"]);
    }
    assert!(keys.of_all(&asked[..1]).await.unwrap().is_empty(), "nobody has such an address there");
}

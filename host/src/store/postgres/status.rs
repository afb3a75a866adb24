//! How the database stands, and what this login may do in it.

use sqlx::{Connection as _, PgConnection};

use super::fault::Fault;
use super::{Place, SCAN, count, schema};
use crate::store::plan::POSTGRES;
use crate::store::status::{Schema, Status};
use crate::store::{Error, Opening};

/// What tells that a login has the rights of a part: its word, and a question that answers with true.
const RIGHTS: [(&str, &str); 4] = [
    ("own", "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'addrauth'"),
    ("authority", "SELECT has_table_privilege('addrauth.keys', 'INSERT')"),
    ("learn", "SELECT has_column_privilege('addrauth.keyring', 'sealed', 'INSERT')"),
    ("stamp", "SELECT has_column_privilege('addrauth.keyring', 'sealed', 'SELECT')"),
];

/// Looks, and changes nothing.
pub(super) async fn status(place: &Place, opening: Opening) -> Result<Status, Error> {
    let told = |fault: Fault| fault.told(&place.name);
    let late = |_| Error::Unreachable { place: place.name.clone(), text: "no answer".into() };
    let connect = PgConnection::connect_with(&place.options);
    let mut connection =
        tokio::time::timeout(opening.busy, connect).await.map_err(late)?.map_err(|e| told(e.into()))?;
    let look = tokio::time::timeout(SCAN, look(&mut connection, place));
    let status = look.await.map_err(late)?.map_err(told)?;
    let _ = connection.close().await;
    Ok(status)
}

async fn look(connection: &mut PgConnection, place: &Place) -> Result<Status, Fault> {
    let (version, known) = (schema::version(connection).await?, POSTGRES.known());
    let mut rights = Vec::new();
    if version > 0 {
        for (word, question) in RIGHTS {
            if sqlx::query_scalar(question).fetch_optional(&mut *connection).await?.unwrap_or_default() {
                rights.push(word);
            }
        }
    }
    let of = async |question: &'static str, connection: &mut PgConnection| {
        if version != known {
            return Ok(None);
        }
        match sqlx::query_scalar(question).fetch_one(connection).await.map_err(Fault::from) {
            Ok(number) => Ok(Some(count(number))),
            Err(fault) if fault.is_denied() => Ok(None),
            Err(fault) => Err(fault),
        }
    };
    Ok(Status {
        place: place.name.clone(),
        schemas: vec![Schema { of: "schema addrauth".into(), version, known }],
        addresses: of("SELECT count(*) FROM addrauth.settings", connection).await?,
        keys: of("SELECT count(*) FROM addrauth.keys", connection).await?,
        owed: of("SELECT count(*) FROM addrauth.posts WHERE ended IS NULL", connection).await?,
        keyring: of("SELECT count(*) FROM addrauth.keyring WHERE present", connection).await?,
        rights: Some(rights),
    })
}

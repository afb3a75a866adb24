//! From the SQLite files of one host into PostgreSQL, whole or not at all.

use std::path::Path;

use futures_util::TryStreamExt as _;
use serde::Serialize;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _, SqliteConnection};

use super::database::Database;
use super::fault::Fault;
use super::{Line, SCAN, place};
use crate::config::Store;
use crate::store::{Error, Opening, is_there, plan, sqlite};

/// Rows written by one statement.
const ROWS_AT_ONCE: usize = 5_000;

/// How many rows were copied, by table.
pub type Copied = Vec<CopiedTable>;

/// The rows of one table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CopiedTable {
    /// Its name.
    pub table: &'static str,
    /// How many.
    pub rows: u64,
}

/// What a column holds, and what it is called, or read as, in SQLite.
enum Column {
    Text(&'static str),
    Number(&'static str),
    Octets(&'static str),
    /// Whether another column is there.
    Present(&'static str),
}

/// A table, in an order in which what is referred to comes first.
struct Table {
    name: &'static str,
    columns: &'static [Column],
}

use Column::{Number, Octets, Present, Text};

const AUTHORITY: [Table; 5] = [
    Table { name: "addresses", columns: &[Text("address"), Number("generation")] },
    Table {
        name: "keys",
        columns: &[
            Text("address"),
            Number("generation"),
            Octets("k"),
            Number("created"),
            Number("expires"),
            Number("revoked"),
        ],
    },
    Table {
        name: "settings",
        columns: &[Text("address"), Text("domain"), Number("agi"), Number("avt"), Number("created"), Number("due")],
    },
    Table {
        name: "forged",
        columns: &[
            Text("domain"),
            Number("day"),
            Text("address"),
            Text("verifier"),
            Text("network"),
            Number("answers"),
            Number("first"),
            Number("last"),
        ],
    },
    Table {
        name: "posts",
        columns: &[
            Text("address"),
            Number("generation"),
            Octets("sealed"),
            Number("created"),
            Number("tries"),
            Number("next_try"),
            Number("ended"),
            Text("outcome"),
            Text("note"),
        ],
    },
];

const KEYRING: [Table; 1] = [Table {
    name: "keyring",
    columns: &[
        Text("address"),
        Text("fingerprint"),
        Octets("sealed"),
        Present("sealed"),
        Number("learned"),
        Number("expires"),
    ],
}];

/// Copies `authority.db` and `keyring.db` of this directory into the database that `store` names, in one transaction. The
/// files stay as they are; a file that is not there counts as empty.
///
/// # Errors
/// [`Error::NotEmpty`] where the database holds addresses or keys already: nothing is ever mixed.
pub async fn copy(dir: &Path, store: &Store, opening: Opening) -> Result<Copied, Error> {
    let database = Database::open(place(store, opening)?, opening).await?;
    let mut work = database.within(database.busy(), database.begin()).await?;
    let held: bool = database.within(SCAN, is_held(&mut work)).await?;
    if held {
        return Err(Error::NotEmpty { place: database.name().to_owned() });
    }
    let mut copied = Vec::new();
    for (plan, tables) in [(plan::AUTHORITY, &AUTHORITY[..]), (plan::KEYRING, &KEYRING)] {
        if !is_there(&dir.join(plan.of))? {
            continue;
        }
        let from = sqlite::Database::open(dir, plan, opening).await?;
        // All tables of the file as they are at one moment.
        let mut read = from.readers().begin().await.map_err(|e| from.failed(e))?;
        for table in tables {
            let rows = table.copy(&mut read, &mut work).await.map_err(|fault| match fault {
                Broken::From(e) => from.failed(e),
                Broken::To(fault) => fault.told(database.name()),
            })?;
            copied.push(CopiedTable { table: table.name, rows });
        }
        drop(read);
        from.close().await;
    }
    database.within(SCAN, database.commit(work)).await?;
    database.close().await;
    Ok(copied)
}

/// Whether any table has a row. Others who would write wait until the copy is done.
async fn is_held(work: &mut Line) -> Result<bool, Fault> {
    sqlx::raw_sql(
        "LOCK TABLE addrauth.addresses, addrauth.keys, addrauth.settings, addrauth.forged, addrauth.posts, addrauth.keyring
         IN SHARE ROW EXCLUSIVE MODE",
    )
    .execute(&mut **work)
    .await?;
    let question = "SELECT EXISTS (SELECT 1 FROM addrauth.addresses) OR EXISTS (SELECT 1 FROM addrauth.settings)
                    OR EXISTS (SELECT 1 FROM addrauth.forged) OR EXISTS (SELECT 1 FROM addrauth.keyring)";
    Ok(sqlx::query_scalar(question).fetch_one(&mut **work).await?)
}

/// Which side failed.
enum Broken {
    From(sqlx::Error),
    To(Fault),
}

/// The values of a column, for many rows.
enum Values {
    Texts(Vec<Option<String>>),
    Numbers(Vec<Option<i64>>),
    Octets(Vec<Option<Vec<u8>>>),
    Bools(Vec<bool>),
}

impl Table {
    async fn copy(&self, from: &mut SqliteConnection, to: &mut Line) -> Result<u64, Broken> {
        let read: Vec<String> = self.columns.iter().map(Column::read).collect();
        // Names of ours alone, in both statements.
        let select = AssertSqlSafe(format!("SELECT {} FROM {}", read.join(", "), self.name));
        let mut rows = sqlx::query(select).fetch(from);
        let (mut count, mut waiting) = (0, Vec::with_capacity(ROWS_AT_ONCE));
        loop {
            let row = rows.try_next().await.map_err(Broken::From)?;
            let last = row.is_none();
            waiting.extend(row);
            if !waiting.is_empty() && (last || waiting.len() == ROWS_AT_ONCE) {
                count += self.write(&waiting, to).await?;
                waiting.clear();
            }
            if last {
                return Ok(count);
            }
        }
    }

    async fn write(&self, rows: &[SqliteRow], to: &mut Line) -> Result<u64, Broken> {
        let names: Vec<&str> = self.columns.iter().map(Column::name).collect();
        let arrays: Vec<String> =
            self.columns.iter().enumerate().map(|(at, column)| format!("${}::{}[]", at + 1, column.kind())).collect();
        let (table, names, arrays) = (self.name, names.join(", "), arrays.join(", "));
        let insert = format!("INSERT INTO addrauth.{table} ({names}) SELECT * FROM unnest({arrays})");
        let mut query = sqlx::query(AssertSqlSafe(insert));
        for (at, column) in self.columns.iter().enumerate() {
            query = match column.values(rows, at).map_err(Broken::From)? {
                Values::Texts(values) => query.bind(values),
                Values::Numbers(values) => query.bind(values),
                Values::Octets(values) => query.bind(values),
                Values::Bools(values) => query.bind(values),
            };
        }
        let done = query.execute(&mut **to).await.map_err(|e| Broken::To(e.into()))?;
        Ok(done.rows_affected())
    }
}

impl Column {
    fn name(&self) -> &'static str {
        match self {
            Text(name) | Number(name) | Octets(name) => name,
            Present(_) => "present",
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Text(_) => "text",
            Number(_) => "bigint",
            Octets(_) => "bytea",
            Present(_) => "bool",
        }
    }

    fn read(&self) -> String {
        match self {
            Present(other) => format!("{other} IS NOT NULL"),
            _ => self.name().to_owned(),
        }
    }

    fn values(&self, rows: &[SqliteRow], at: usize) -> Result<Values, sqlx::Error> {
        let text = |row: &SqliteRow| {
            // PostgreSQL keeps no NUL.
            Ok(row.try_get::<Option<String>, _>(at)?.map(|text| text.replace('\0', "")))
        };
        Ok(match self {
            Text(_) => Values::Texts(rows.iter().map(text).collect::<Result<_, sqlx::Error>>()?),
            Number(_) => Values::Numbers(rows.iter().map(|row| row.try_get(at)).collect::<Result<_, _>>()?),
            Octets(_) => Values::Octets(rows.iter().map(|row| row.try_get(at)).collect::<Result<_, _>>()?),
            Present(_) => Values::Bools(rows.iter().map(|row| row.try_get(at)).collect::<Result<_, _>>()?),
        })
    }
}

//! From the SQLite files of one host into PostgreSQL, whole or not at all.

use std::path::Path;

use serde::Serialize;
use sqlx::AssertSqlSafe;
use tokio::sync::mpsc;

use super::database::Database;
use super::fault::Fault;
use super::{Line, SCAN, place};
use crate::config::Store;
use crate::store::plan::{self, Plan};
use crate::store::{Error, Opening, is_there, sqlite};

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

static AUTHORITY: [Table; 5] = [
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

static KEYRING: [Table; 1] = [Table {
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
    for (plan, tables) in [(plan::AUTHORITY, &AUTHORITY[..]), (plan::KEYRING, &KEYRING[..])] {
        if is_there(&dir.join(plan.of))? {
            copied.extend(copy_file(dir, plan, tables, opening, (&database, &mut work)).await?);
        }
    }
    database.within(SCAN, database.commit(work)).await?;
    database.close().await;
    Ok(copied)
}

/// Copies the tables of one file, all of them as they are at one moment. Some rows are read while others are written.
async fn copy_file(
    dir: &Path,
    plan: Plan,
    tables: &'static [Table],
    opening: Opening,
    (database, to): (&Database, &mut Line),
) -> Result<Copied, Error> {
    let from = sqlite::Database::open(dir, plan, opening).await?;
    let (read, lots) = mpsc::channel(1);
    let reading = from.scan(move |work| {
        for table in tables {
            table.read(work, &read)?;
        }
        Ok(())
    });
    let mut copied: Copied = tables.iter().map(|table| CopiedTable { table: table.name, rows: 0 }).collect();
    let writing = async {
        // It is gone where this ends early: then the reading ends too.
        let mut lots = lots;
        while let Some(lot) = lots.recv().await {
            let (table, rows) = write(lot, to).await?;
            for counted in copied.iter_mut().filter(|counted| counted.table == table) {
                counted.rows += rows;
            }
        }
        Ok::<(), Fault>(())
    };
    let (read, written) = tokio::join!(reading, writing);
    from.close().await;
    // A server that refuses ends the reading too, and says more than that.
    written.map_err(|fault| fault.told(database.name()))?;
    read?;
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

/// Rows of a table, column by column.
struct Lot {
    table: &'static Table,
    values: Vec<Values>,
}

/// The values of a column, for many rows.
enum Values {
    Texts(Vec<Option<String>>),
    Numbers(Vec<Option<i64>>),
    Octets(Vec<Option<Vec<u8>>>),
    Bools(Vec<bool>),
}

impl Table {
    /// Reads all rows, and hands them on in lots.
    fn read(&'static self, from: &rusqlite::Connection, lots: &mpsc::Sender<Lot>) -> Result<(), sqlite::Fault> {
        let columns: Vec<String> = self.columns.iter().map(Column::read).collect();
        // Names of ours alone.
        let mut statement = from.prepare(&format!("SELECT {} FROM {}", columns.join(", "), self.name))?;
        let mut rows = statement.query(())?;
        loop {
            let mut values: Vec<Values> = self.columns.iter().map(Column::none).collect();
            let mut count = 0;
            while count < ROWS_AT_ONCE {
                let Some(row) = rows.next()? else { break };
                for (at, values) in values.iter_mut().enumerate() {
                    values.take(row, at)?;
                }
                count += 1;
            }
            // Nobody takes it where the writing has failed.
            if count > 0 && lots.blocking_send(Lot { table: self, values }).is_err() {
                return Err(sqlite::Fault::GivenUp);
            }
            if count < ROWS_AT_ONCE {
                return Ok(());
            }
        }
    }
}

/// Writes the rows of a lot; their table, and how many.
async fn write(lot: Lot, to: &mut Line) -> Result<(&'static str, u64), Fault> {
    let Lot { table: Table { name, columns }, values } = lot;
    let names: Vec<&str> = columns.iter().map(Column::name).collect();
    let arrays: Vec<String> =
        columns.iter().enumerate().map(|(at, column)| format!("${}::{}[]", at + 1, column.kind())).collect();
    let (names, arrays) = (names.join(", "), arrays.join(", "));
    // Names of ours alone.
    let insert = format!("INSERT INTO addrauth.{name} ({names}) SELECT * FROM unnest({arrays})");
    let mut query = sqlx::query(AssertSqlSafe(insert));
    for values in values {
        query = match values {
            Values::Texts(values) => query.bind(values),
            Values::Numbers(values) => query.bind(values),
            Values::Octets(values) => query.bind(values),
            Values::Bools(values) => query.bind(values),
        };
    }
    Ok((*name, query.execute(&mut **to).await?.rows_affected()))
}

impl Values {
    /// The value of one row more.
    fn take(&mut self, row: &rusqlite::Row<'_>, at: usize) -> Result<(), sqlite::Fault> {
        match self {
            // PostgreSQL keeps no NUL.
            Values::Texts(all) => all.push(row.get::<_, Option<String>>(at)?.map(|text| text.replace('\0', ""))),
            Values::Numbers(all) => all.push(row.get(at)?),
            Values::Octets(all) => all.push(row.get(at)?),
            Values::Bools(all) => all.push(row.get(at)?),
        }
        Ok(())
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

    /// Its values in no row yet.
    fn none(&self) -> Values {
        match self {
            Text(_) => Values::Texts(Vec::new()),
            Number(_) => Values::Numbers(Vec::new()),
            Octets(_) => Values::Octets(Vec::new()),
            Present(_) => Values::Bools(Vec::new()),
        }
    }
}

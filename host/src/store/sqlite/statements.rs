//! Statements on a connection: each is prepared once, and read row by row.

use rusqlite::types::FromSql;
use rusqlite::{Connection, Params, Row};

use super::Fault;

/// What a verb asks of a connection.
pub(in crate::store) trait Statements {
    /// Carries a statement out; how many rows it changed.
    fn run(&self, sql: &str, values: impl Params) -> Result<u64, Fault>;

    /// All rows that it finds.
    fn all<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnMut(&Row<'_>) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault>;

    /// The first row that it finds; the others are not looked for.
    fn first<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault>;

    /// The first column of the first row; absent where there is no row.
    fn find<T: FromSql>(&self, sql: &str, values: impl Params) -> Result<Option<T>, Fault> {
        self.first(sql, values, |row| Ok(row.get(0)?))
    }

    /// The first column of the one row that there always is.
    fn one<T: FromSql>(&self, sql: &str, values: impl Params) -> Result<T, Fault> {
        self.find(sql, values)?.ok_or(Fault::Sql(rusqlite::Error::QueryReturnedNoRows))
    }
}

impl Statements for Connection {
    fn run(&self, sql: &str, values: impl Params) -> Result<u64, Fault> {
        let changed = self.prepare_cached(sql)?.execute(values)?;
        Ok(u64::try_from(changed).unwrap_or(u64::MAX))
    }

    fn all<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnMut(&Row<'_>) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        self.prepare_cached(sql)?.query_and_then(values, read)?.collect()
    }

    fn first<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        let mut statement = self.prepare_cached(sql)?;
        let mut rows = statement.query(values)?;
        rows.next()?.map(read).transpose()
    }
}

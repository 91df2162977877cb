//! Running SQL texts, and the place of database errors among ours.

use rusqlite::types::{FromSql, Value};
use rusqlite::{Connection, Row, params_from_iter};

use crate::error::{Error, Result};

/// A row's columns, taken by place.
pub(super) struct Columns<'r>(&'r Row<'r>);

impl Columns<'_> {
    pub(super) fn get<T: FromSql>(&self, index: usize) -> Result<T> {
        self.0.get(index).map_err(sql_error("reading a record"))
    }

    /// Counts are never negative where we write them.
    pub(super) fn count(&self, index: usize) -> Result<u64> {
        let found: i64 = self.get(index)?;
        u64::try_from(found).map_err(|error| Error::internal("reading a record", error))
    }
}

/// What runs inside a transaction.
pub(super) struct Sql<'c> {
    connection: &'c Connection,
}

impl<'c> Sql<'c> {
    pub(super) fn new(connection: &'c Connection) -> Sql<'c> {
        Sql { connection }
    }

    /// Gives how many rows were changed.
    pub(super) fn execute<const N: usize>(&self, text: &str, parameters: [Value; N]) -> Result<usize> {
        let mut statement = self.prepare(text)?;
        statement.execute(params_from_iter(parameters)).map_err(sql_error("changing a record"))
    }

    pub(super) fn rows<T>(
        &self,
        text: &str,
        parameters: impl IntoIterator<Item = Value>,
        read: impl Fn(&Columns<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.prepare(text)?;
        let mut rows = statement.query(params_from_iter(parameters)).map_err(sql_error("reading records"))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next().map_err(sql_error("reading records"))? {
            found.push(read(&Columns(row))?);
        }
        Ok(found)
    }

    /// The first row, if there is one.
    pub(super) fn row<T>(
        &self,
        text: &str,
        parameters: impl IntoIterator<Item = Value>,
        read: impl Fn(&Columns<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        Ok(self.rows(text, parameters, read)?.into_iter().next())
    }

    fn prepare(&self, text: &str) -> Result<rusqlite::CachedStatement<'c>> {
        debug_assert!(numbered_in_order(text), "{text}");
        self.connection.prepare_cached(text).map_err(sql_error("preparing a statement"))
    }
}

/// SQLite takes `$1` for a name and numbers parameters as they first appear: both numberings must agree.
fn numbered_in_order(text: &str) -> bool {
    let mut seen = 0;
    text.split('$').skip(1).all(|after| {
        let digits = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let number: usize = after[..digits].parse().unwrap_or(0);
        seen = seen.max(number.min(seen + 1));
        (1..=seen).contains(&number)
    })
}

pub(super) fn sql_error(doing: &'static str) -> impl Fn(rusqlite::Error) -> Error {
    move |error| {
        /// The index file of the log could not grow.
        const SHARED_MEMORY_SIZE: i32 = rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
        match error.sqlite_error() {
            Some(found) if found.code == rusqlite::ErrorCode::DiskFull => Error::Full,
            Some(found) if found.extended_code == SHARED_MEMORY_SIZE => Error::Full,
            _ => Error::internal(doing, error),
        }
    }
}

pub(super) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

/// Counts beyond what a database can hold do not occur; they would end as the greatest it can.
pub(super) fn count(count: u64) -> Value {
    Value::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_must_appear_in_the_order_of_their_numbers() {
        assert!(numbered_in_order("SELECT 1"));
        assert!(numbered_in_order("SELECT $1, $2, $1, $3"));
        assert!(!numbered_in_order("SELECT $2, $1"));
        assert!(!numbered_in_order("SELECT $1, $3"));
        assert!(!numbered_in_order("SELECT $x"));
    }
}

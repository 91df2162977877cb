//! SQLite: the settings durability rests on, and its values and errors among ours.

use std::fs::File;
use std::path::Path;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use rusqlite::{OpenFlags, ToSql, params_from_iter};
use rustix::fs::FallocateFlags;

use super::super::sql::{Columns, Value};
use super::{Control, folder};
use crate::error::{Error, Result};

const FILE: &str = "records.sqlite";
/// The index of the log, which SQLite makes anew for whoever opens the records first.
const INDEX: &str = "records.sqlite-shm";
/// Room for an index of 128 MiB of log, twice what is kept of that.
const INDEX_BYTES: u64 = 256 << 10;

/// Prepared statements kept per connection: more than there are texts.
const STATEMENTS: usize = 256;
/// Kept in memory by each connection that reads, at most: a page for each of a few thousand builds that lie far from one another.
const CACHE_KIB: i64 = 16 << 10;

pub(in super::super) struct Sqlite {
    connection: rusqlite::Connection,
    /// Of the writer, and dropped after its connection: to close any descriptor of this file gives up SQLite's own locks on it, which
    /// are the process's, and another process would take the index for nobody's.
    _index: Option<File>,
}

impl Sqlite {
    /// The one connection that writes.
    pub(super) fn own(data: &Path) -> Result<Sqlite> {
        let path = data.join(FILE);
        // Made here, as SQLite would let others read it.
        folder::private_file(&path)?;
        let connection = rusqlite::Connection::open(&path).map_err(failed("opening the records"))?;
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL;
                 PRAGMA synchronous = FULL;
                 PRAGMA foreign_keys = ON;
                 PRAGMA trusted_schema = OFF;
                 PRAGMA cell_size_check = ON;
                 PRAGMA journal_size_limit = 67108864;",
            )
            .map_err(failed("preparing the records"))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(Sqlite { connection, _index: reserve_index(data) })
    }

    pub(super) fn read(data: &Path) -> Result<Sqlite> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = rusqlite::Connection::open_with_flags(data.join(FILE), flags)
            .map_err(failed("opening the records for reading"))?;
        connection
            .pragma_update(None, "cache_size", -CACHE_KIB)
            .map_err(failed("preparing to read the records"))?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(Sqlite { connection, _index: None })
    }

    pub(super) fn execute(&self, text: &str, parameters: &[Value]) -> Result<usize> {
        let changed = self.prepare(text)?.execute(params_from_iter(parameters));
        changed.map_err(failed("changing a record"))
    }

    pub(super) fn query(
        &self,
        text: &str,
        parameters: &[Value],
        each: &mut dyn FnMut(&Columns<'_>) -> Result<()>,
    ) -> Result<()> {
        let doing = failed("reading records");
        let mut statement = self.prepare(text)?;
        let mut rows = statement.query(params_from_iter(parameters)).map_err(&doing)?;
        while let Some(row) = rows.next().map_err(&doing)? {
            each(&Columns::Sqlite(row))?;
        }
        Ok(())
    }

    pub(super) fn control(&self, control: Control) -> Result<()> {
        let text = match control {
            Control::BeginReading => "BEGIN",
            Control::BeginWriting => "BEGIN IMMEDIATE",
            Control::Savepoint => "SAVEPOINT call",
            Control::Release => "RELEASE call",
            Control::RollBackToSavepoint => "ROLLBACK TO call",
            Control::Commit => "COMMIT",
            Control::RollBack => "ROLLBACK",
        };
        let done = self.prepare(text)?.execute([]);
        done.map(drop).map_err(failed("committing records"))
    }

    /// Several statements that give nothing.
    pub(super) fn batch(&self, text: &str) -> Result<()> {
        self.connection.execute_batch(text).map_err(failed("migrating the records"))
    }

    /// False after some errors, a full disk among them: then the whole transaction was given up.
    pub(super) fn in_transaction(&self) -> bool {
        !self.connection.is_autocommit()
    }

    fn prepare(&self, text: &str) -> Result<rusqlite::CachedStatement<'_>> {
        self.connection.prepare_cached(text).map_err(failed("preparing a statement"))
    }

    #[cfg(test)]
    pub(super) fn in_memory() -> Sqlite {
        Sqlite { connection: rusqlite::Connection::open_in_memory().unwrap(), _index: None }
    }
}

/// Gives the index its room before it is needed. Whoever opens the records after a kill cuts the file off and writes it anew, and
/// so finds that room even when the disk has become full; and an index that is mapped has no holes, for which a full disk
/// would end the process.
fn reserve_index(data: &Path) -> Option<File> {
    // Where that is not possible, it grows when it has to.
    let index = File::options().write(true).open(data.join(INDEX)).ok()?;
    let _ = rustix::fs::fallocate(&index, FallocateFlags::empty(), 0, INDEX_BYTES);
    Some(index)
}

fn failed(doing: &'static str) -> impl Fn(rusqlite::Error) -> Error {
    move |error| {
        /// The index file of the log could not grow.
        const SHARED_MEMORY_SIZE: i32 = rusqlite::ffi::SQLITE_IOERR_SHMSIZE;
        use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, DiskFull, FileLockingProtocolFailed};
        match error.sqlite_error() {
            Some(found) if found.code == DiskFull => Error::Full,
            Some(found) if found.extended_code == SHARED_MEMORY_SIZE => Error::Full,
            Some(found)
                if [DatabaseBusy, DatabaseLocked, FileLockingProtocolFailed].contains(&found.code) =>
            {
                Error::Unavailable(format!("{FILE} is locked"))
            }
            _ => Error::internal(doing, error),
        }
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Value::Null => ToSqlOutput::Borrowed(ValueRef::Null),
            Value::Integer(value) => ToSqlOutput::Borrowed(ValueRef::Integer(*value)),
            Value::Text(value) => ToSqlOutput::Borrowed(ValueRef::Text(value.as_bytes())),
        })
    }
}

impl FromSql for Value {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Value> {
        match value {
            ValueRef::Null => Ok(Value::Null),
            ValueRef::Integer(value) => Ok(Value::Integer(value)),
            ValueRef::Text(_) => value.as_str().map(|text| Value::Text(text.to_owned())),
            ValueRef::Real(_) | ValueRef::Blob(_) => Err(FromSqlError::InvalidType),
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    #[test]
    fn what_another_time_may_succeed_is_told_from_what_is_broken() {
        let told = |code: i32| failed("reading")(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        // The last is what a reader hears of locks that are held for ten seconds.
        for code in [ffi::SQLITE_BUSY, ffi::SQLITE_BUSY_RECOVERY, ffi::SQLITE_LOCKED, ffi::SQLITE_PROTOCOL] {
            assert!(matches!(told(code), Error::Unavailable(_)), "{code}");
        }
        for code in [ffi::SQLITE_FULL, ffi::SQLITE_IOERR_SHMSIZE] {
            assert!(matches!(told(code), Error::Full), "{code}");
        }
        for code in [ffi::SQLITE_IOERR, ffi::SQLITE_CORRUPT, ffi::SQLITE_READONLY] {
            assert!(matches!(told(code), Error::Internal { .. }), "{code}");
        }
    }
}

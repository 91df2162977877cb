//! Opening the database: the lock on the data folder, the settings durability rests on, and migrations.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::sql::sql_error;
use crate::error::{Doing, Error, Result};

const FILE: &str = "records.sqlite";
const LOCK: &str = "records.lock";

/// Each brings the schema one further; `user_version` counts how many were run.
const MIGRATIONS: &[&str] =
    &[include_str!("migrations/1.sql"), include_str!("migrations/2.sql"), include_str!("migrations/3.sql")];

/// Prepared statements kept per connection: more than there are texts.
const STATEMENTS: usize = 128;

/// How long a lock that somebody has is tried again. A process that a killed server was just starting has the server's
/// files until it executes its program.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Held for as long as the returned file is open, and by one process at a time.
pub(super) fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let file = private_file(&path)?;
    let begun = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if begun.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_PAUSE),
            Err(Errno::WOULDBLOCK) => return Err(Error::Locked(path)),
            locked => return locked.doing("locking the records").map(|()| file),
        }
    }
}

/// The one connection that writes.
pub(super) fn open_writer(folder: &Path) -> Result<Connection> {
    let path = folder.join(FILE);
    // Made here, as SQLite would let others read it.
    private_file(&path)?;
    let mut connection = Connection::open(&path).map_err(sql_error("opening the records"))?;
    let doing = sql_error("preparing the records");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA foreign_keys = ON;
             PRAGMA trusted_schema = OFF;
             PRAGMA cell_size_check = ON;
             PRAGMA journal_size_limit = 67108864;",
        )
        .map_err(&doing)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    migrate(&mut connection, MIGRATIONS)?;
    Ok(connection)
}

pub(super) fn open_reader(folder: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let doing = sql_error("opening the records for reading");
    let connection = Connection::open_with_flags(folder.join(FILE), flags).map_err(&doing)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Documents may hold secrets: nobody but us reads these files.
fn private_file(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .doing("opening the records")
}

fn migrate(connection: &mut Connection, migrations: &[&str]) -> Result<()> {
    let doing = sql_error("migrating the records");
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(&doing)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(&doing)?;
    let known = i64::try_from(migrations.len()).expect("few migrations");
    let done = usize::try_from(found).ok().filter(|done| *done <= migrations.len());
    let done = done.ok_or(Error::NewerSchema { found, known })?;
    for migration in &migrations[done..] {
        transaction.execute_batch(migration).map_err(&doing)?;
    }
    transaction.pragma_update(None, "user_version", known).map_err(&doing)?;
    transaction.commit().map_err(&doing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(connection: &Connection) -> i64 {
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn migrations_run_once_each_and_all_or_none() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &["CREATE TABLE a (x)"]).unwrap();
        migrate(&mut connection, &["CREATE TABLE a (x)"]).unwrap();
        assert_eq!(version(&connection), 1);
        let broken = ["CREATE TABLE a (x)", "CREATE TABLE b (x)", "CREATE TABLE b (x)"];
        assert!(migrate(&mut connection, &broken).is_err());
        assert_eq!(version(&connection), 1);
        assert!(connection.prepare("SELECT * FROM b").is_err());
        migrate(&mut connection, &broken[..2]).unwrap();
        assert_eq!(version(&connection), 2);
    }

    #[test]
    fn a_newer_schema_is_refused_and_left_alone() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "user_version", 7).unwrap();
        let refused = migrate(&mut connection, &["CREATE TABLE a (x)"]);
        assert!(matches!(refused, Err(Error::NewerSchema { found: 7, known: 1 })));
        assert_eq!(version(&connection), 7);
        assert!(connection.prepare("SELECT * FROM a").is_err());
    }
}

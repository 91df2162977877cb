//! The schema, from one set of texts for both databases: which version is there, what brings it further, whose it is.

use super::super::address::Address;
use super::super::builds::write_keys;
use super::super::sql::Sql;
use super::{Connection, Control};
use crate::error::{Error, Result};

/// A part of a migration.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// Written for SQLite; [`for_postgres`] is all that differs.
    Text(&'static str),
    /// What SQL cannot do.
    Fill(fn(&Sql<'_>) -> Result<()>),
}

/// Each brings the schema one further.
pub(super) const MIGRATIONS: &[&[Part]] = &[
    &[Part::Text(include_str!("../migrations/1.sql"))],
    &[Part::Text(include_str!("../migrations/2.sql"))],
    &[Part::Text(include_str!("../migrations/3.sql"))],
    &[Part::Text(include_str!("../migrations/4.sql"))],
    &[Part::Text(include_str!("../migrations/5.sql"))],
    &[Part::Text(include_str!("../migrations/6.sql"))],
    &[
        Part::Text("ALTER TABLE builds ADD COLUMN key BIGINT"),
        Part::Fill(write_keys),
        Part::Text(include_str!("../migrations/7.sql")),
    ],
];

/// What SQLite keeps in `user_version`; who has the records, for which SQLite's folder has a lock; and how many
/// transactions were committed. The database's own ids of transactions would not do: those of a server that is killed
/// may be given again.
const VERSION_TABLE: &str =
    "CREATE TABLE IF NOT EXISTS records_version (version BIGINT NOT NULL, owner BIGINT NOT NULL);
     ALTER TABLE records_version ADD COLUMN IF NOT EXISTS transactions BIGINT NOT NULL DEFAULT 0;
     INSERT INTO records_version SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM records_version)";

/// Runs what is missing, in one transaction. `NewerSchema` if more is there than is known.
pub(super) fn migrate(connection: &Connection, migrations: &[&[Part]]) -> Result<()> {
    if is_up_to_date(connection, migrations)? {
        return Ok(());
    }
    connection.control(Control::BeginWriting)?;
    let migrated = run_missing(connection, migrations);
    let end = if migrated.is_ok() { Control::Commit } else { Control::RollBack };
    let ended = connection.control(end);
    migrated.and(ended)
}

/// Whoever has nothing to write can open a database on a disk that is full.
fn is_up_to_date(connection: &Connection, migrations: &[&[Part]]) -> Result<bool> {
    match connection {
        Connection::Sqlite(_) => {
            Ok(usize::try_from(version(connection)?).is_ok_and(|v| v == migrations.len()))
        }
        // Asking for the version makes the table that has it.
        Connection::Postgres(_) => Ok(false),
    }
}

fn run_missing(connection: &Connection, migrations: &[&[Part]]) -> Result<()> {
    let found = version(connection)?;
    let known = i64::try_from(migrations.len()).expect("few migrations");
    let done = usize::try_from(found).ok().filter(|done| *done <= migrations.len());
    let done = done.ok_or(Error::NewerSchema { found, known })?;
    for part in migrations[done..].iter().copied().flatten() {
        match (part, connection) {
            (Part::Text(text), Connection::Sqlite(sqlite)) => sqlite.batch(text)?,
            (Part::Text(text), Connection::Postgres(postgres)) => postgres.batch(&for_postgres(text))?,
            (Part::Fill(fill), _) => fill(&Sql::new(connection))?,
        }
    }
    set_version(connection, known)
}

/// Types only: numbers have 64 bits, rows are numbered by the database, and text is compared byte by byte whatever
/// the database's language is.
fn for_postgres(migration: &str) -> String {
    migration
        .replace("INTEGER PRIMARY KEY AUTOINCREMENT", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY")
        .replace(" INTEGER", " BIGINT")
        .replace(" TEXT", " TEXT COLLATE \"C\"")
}

fn version(connection: &Connection) -> Result<i64> {
    match connection {
        Connection::Sqlite(_) => number(connection, "PRAGMA user_version"),
        Connection::Postgres(postgres) => {
            postgres.batch(VERSION_TABLE)?;
            number(connection, "SELECT version FROM records_version")
        }
    }
}

fn set_version(connection: &Connection, version: i64) -> Result<()> {
    match connection {
        Connection::Sqlite(sqlite) => sqlite.batch(&format!("PRAGMA user_version = {version}")),
        Connection::Postgres(_) => {
            connection.execute("UPDATE records_version SET version = $1", &[version.into()]).map(drop)
        }
    }
}

/// Makes whoever has the lock the next owner, and gives the owner's number.
pub(super) fn become_owner(connection: &Connection) -> Result<i64> {
    number(connection, "UPDATE records_version SET owner = owner + 1 RETURNING owner")
}

/// Counts the transaction it is a part of, and gives its number. Whoever has the lock is the only one to count.
pub(super) fn count_transaction(connection: &Connection) -> Result<i64> {
    number(connection, "UPDATE records_version SET transactions = transactions + 1 RETURNING transactions")
}

/// How many transactions were committed.
pub(super) fn transactions(connection: &Connection) -> Result<i64> {
    number(connection, "SELECT transactions FROM records_version")
}

/// `TakenOver` if somebody has become owner after `owner`.
pub(super) fn check_owner(connection: &Connection, owner: i64, address: &Address) -> Result<()> {
    match number(connection, "SELECT owner FROM records_version")? == owner {
        true => Ok(()),
        false => Err(Error::TakenOver(address.to_string())),
    }
}

fn number(connection: &Connection, query: &str) -> Result<i64> {
    let mut found = None;
    connection.query(query, &[], &mut |row| {
        found = Some(row.get(0)?);
        Ok(())
    })?;
    found.ok_or_else(|| Error::internal("reading the records' version", "there is none"))
}

#[cfg(test)]
mod tests {
    use super::super::Sqlite;
    use super::*;

    fn empty() -> Connection {
        Connection::Sqlite(Sqlite::in_memory())
    }

    fn exists(connection: &Connection, table: &str) -> bool {
        connection.query(&format!("SELECT * FROM {table}"), &[], &mut |_| Ok(())).is_ok()
    }

    #[test]
    fn migrations_run_once_each_and_all_or_none() {
        let connection = empty();
        let (first, second) = ([Part::Text("CREATE TABLE a (x)")], [Part::Text("CREATE TABLE b (x)")]);
        migrate(&connection, &[&first]).unwrap();
        migrate(&connection, &[&first]).unwrap();
        assert_eq!(version(&connection).unwrap(), 1);
        let broken = [&first[..], &second, &second];
        assert!(migrate(&connection, &broken).is_err());
        assert_eq!(version(&connection).unwrap(), 1);
        assert!(!exists(&connection, "b"));
        migrate(&connection, &broken[..2]).unwrap();
        assert_eq!(version(&connection).unwrap(), 2);
    }

    #[test]
    fn a_newer_schema_is_refused_and_left_alone() {
        let connection = empty();
        set_version(&connection, 7).unwrap();
        let refused = migrate(&connection, &[&[Part::Text("CREATE TABLE a (x)")]]);
        assert!(matches!(refused, Err(Error::NewerSchema { found: 7, known: 1 })));
        assert_eq!(version(&connection).unwrap(), 7);
        assert!(!exists(&connection, "a"));
    }

    #[test]
    fn only_types_differ_for_postgres() {
        assert_eq!(
            for_postgres(
                "CREATE TABLE a (b INTEGER PRIMARY KEY AUTOINCREMENT, c INTEGER NOT NULL, d TEXT NOT NULL)"
            ),
            "CREATE TABLE a (b BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, c BIGINT NOT NULL, d TEXT COLLATE \"C\" NOT NULL)"
        );
    }
}

//! A connection to either database, with one face: statements, the control of transactions, and what became of it.
//!
//! [`sqlite`] and [`postgres`] are what the face hides; [`schema`] brings either up to date from one set of texts.

mod folder;
mod postgres;
mod schema;
mod sqlite;

use std::fs::File;
use std::path::PathBuf;

use tokio::sync::mpsc;

use super::address::Address;
use super::sql::{Columns, Value};
use crate::error::Result;
use postgres::Postgres;
use sqlite::Sqlite;

pub(super) enum Connection {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

/// What moves a transaction on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Control {
    BeginReading,
    BeginWriting,
    Savepoint,
    Release,
    RollBackToSavepoint,
    Commit,
    RollBack,
}

/// A transaction's place among all that were committed, by which its end can be asked for after its connection has
/// broken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ordinal(i64);

impl Connection {
    /// Gives how many rows were changed.
    pub(super) fn execute(&self, text: &str, parameters: &[Value]) -> Result<usize> {
        match self {
            Connection::Sqlite(sqlite) => sqlite.execute(text, parameters),
            Connection::Postgres(postgres) => postgres.execute(text, parameters),
        }
    }

    pub(super) fn query(
        &self,
        text: &str,
        parameters: &[Value],
        each: &mut dyn FnMut(&Columns<'_>) -> Result<()>,
    ) -> Result<()> {
        match self {
            Connection::Sqlite(sqlite) => sqlite.query(text, parameters, each),
            Connection::Postgres(postgres) => postgres.query(text, parameters, each),
        }
    }

    pub(super) fn control(&self, control: Control) -> Result<()> {
        match self {
            Connection::Sqlite(sqlite) => sqlite.control(control),
            Connection::Postgres(postgres) => postgres.control(control),
        }
    }

    /// Whether what has been begun can still be gone on with: a failure may have ended it.
    pub(super) fn in_transaction(&self) -> bool {
        match self {
            Connection::Sqlite(sqlite) => sqlite.in_transaction(),
            Connection::Postgres(postgres) => !postgres.is_lost(),
        }
    }

    /// Whether nothing more will come of this connection.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self, Connection::Postgres(postgres) if postgres.is_lost())
    }

    /// Waits for the next in a queue (`Some(None)` when it is closed), or until this connection is lost (`None`).
    pub(super) fn next<T>(&self, queue: &mut mpsc::Receiver<T>) -> Option<Option<T>> {
        match self {
            Connection::Sqlite(_) => Some(queue.blocking_recv()),
            Connection::Postgres(postgres) => postgres.until_lost(queue.recv()),
        }
    }

    /// Counts the transaction that is about to be committed, as a part of it; `None` if there will be nothing to
    /// ask, as a COMMIT that fails has not committed.
    pub(super) fn count_transaction(&self) -> Result<Option<Ordinal>> {
        match self {
            Connection::Sqlite(_) => Ok(None),
            Connection::Postgres(_) => schema::count_transaction(self).map(|counted| Some(Ordinal(counted))),
        }
    }

    /// Whether a transaction that another connection of the owner's had was committed.
    pub(super) fn committed(&self, transaction: Ordinal) -> Result<bool> {
        match self {
            Connection::Sqlite(_) => Ok(false),
            Connection::Postgres(_) => Ok(schema::transactions(self)? >= transaction.0),
        }
    }
}

/// Where records are.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Folder(PathBuf),
    /// The folder is what else the server has, and shared with nobody either.
    Database(Address, PathBuf),
}

/// Whoever has the records. In a database the next owner has another number.
#[derive(Debug)]
pub(super) struct Owner {
    number: Option<i64>,
    /// Held as long as it is open.
    _folder: File,
}

impl Place {
    /// Takes the records, and brings their schema up to date.
    /// `Locked` while somebody else has them, `NewerSchema` if a newer version wrote them.
    pub(super) fn own(&self) -> Result<(Connection, Owner)> {
        match self {
            Place::Folder(data) => {
                let folder = folder::lock(data)?;
                let connection = Connection::Sqlite(Sqlite::own(data)?);
                schema::migrate(&connection, schema::MIGRATIONS)?;
                Ok((connection, Owner { number: None, _folder: folder }))
            }
            Place::Database(address, data) => {
                let folder = folder::lock(data)?;
                let postgres = Postgres::connect(address)?;
                postgres.lock(address)?;
                let connection = Connection::Postgres(postgres);
                schema::migrate(&connection, schema::MIGRATIONS)?;
                let number = schema::become_owner(&connection)?;
                Ok((connection, Owner { number: Some(number), _folder: folder }))
            }
        }
    }

    /// Another connection for the owner, whose own was lost.
    /// `TakenOver` if somebody else has owned the records since, `Unavailable` while that is not known.
    pub(super) fn own_again(&self, owner: &Owner) -> Result<Connection> {
        match (self, owner.number) {
            (Place::Database(address, _), Some(number)) => {
                let postgres = Postgres::connect(address)?;
                let locked = postgres.lock_again(address);
                let connection = Connection::Postgres(postgres);
                // Whoever has the lock may be our lost connection, whose end is on its way, or the next owner.
                schema::check_owner(&connection, number, address)?;
                locked.map(|()| connection)
            }
            // The connection to a file is not lost.
            _ => self.own().map(|(connection, _)| connection),
        }
    }

    /// A connection for reading.
    pub(super) fn read(&self) -> Result<Connection> {
        match self {
            Place::Folder(folder) => Sqlite::read(folder).map(Connection::Sqlite),
            Place::Database(address, _) => Postgres::connect(address).map(Connection::Postgres),
        }
    }
}

#[cfg(test)]
pub(super) fn migrations() -> usize {
    schema::MIGRATIONS.len()
}

#[cfg(test)]
impl Place {
    /// Makes a database of version `examples.len()`, each version having left its example before the next one came.
    pub(super) fn leave_examples(&self, examples: &[&str]) -> Result<()> {
        let connection = match self {
            Place::Folder(data) => Connection::Sqlite(Sqlite::own(data)?),
            Place::Database(address, _) => Connection::Postgres(Postgres::connect(address)?),
        };
        for (before, example) in examples.iter().enumerate() {
            schema::migrate(&connection, &schema::MIGRATIONS[..=before])?;
            match &connection {
                Connection::Sqlite(sqlite) => sqlite.batch(example)?,
                Connection::Postgres(postgres) => postgres.batch(example)?,
            }
        }
        Ok(())
    }
}

//! Records: the rows we remember, in an SQLite database in the data folder or in a PostgreSQL database. All SQL of the
//! project is here.
//!
//! An async face over threads: one writes, a few read. What several callers write at the same time is committed
//! together, and nobody is answered before the commit is on the disk. Documents are JSON texts whose meaning is
//! their writer's; times come from the caller, as milliseconds since the epoch.
//!
//! There is one text of each query and each migration, with numbered parameters and nothing of one database's own.
//! `connection` is where the two differ: their settings, locks, types and failures.

mod address;
mod builds;
mod by_hand;
mod connection;
mod key;
mod logs;
mod page;
mod projects;
mod reports;
mod settings;
mod sharing;
mod sql;
mod threads;
mod vault;
mod writer;

use std::path::Path;
use std::sync::Arc;

pub use address::Address;
pub use builds::{Acceptance, Build, BuildUpdate, Deletion, IncompleteBuild, NewBuild, Succession, Token};
pub use by_hand::{Fate, Hand};
pub use logs::{LogGroup, LogStream, StreamOrder};
pub use page::{Order, Page};
pub use projects::{Project, ProjectDeletion, ProjectSort};
pub use reports::{Report, ReportGroup, ReportGroupDeletion, ReportGroupSort, ReportSelection};
pub use sharing::{ForeignPolicy, Shareable};
pub use vault::{
    AccessKey, Draft, NewParameter, NewSecret, Parameter, Secret, SecretValue, Selection, SourceCredential,
    Vault, VersionValue,
};

use crate::error::Result;
use connection::Place;
use sql::Sql;
use threads::Threads;

/// The account and the region that a record belongs to: part of every key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// Twelve digits.
    pub account: String,
    pub region: String,
}

/// All records of a server. Cheap to clone; closed, after all that was asked is done, with the last clone.
#[derive(Debug, Clone)]
pub struct Records {
    threads: Arc<Threads>,
}

impl Records {
    /// Opens the records in `folder`, which must exist, bringing their schema up to date.
    /// `Locked` while another process (or another handle) has them, `NewerSchema` if a newer version wrote them.
    /// Blocks, though never for long: for start-up.
    pub fn open(folder: &Path) -> Result<Records> {
        Ok(Records { threads: Arc::new(Threads::start(&Place::Folder(folder.to_owned()))?) })
    }

    /// As [`Records::open`], in a PostgreSQL database, in the schema of the address's `search_path`. `folder` is locked
    /// all the same. `Unavailable` if the database cannot be reached, `Database` if it does not promise enough.
    pub fn connect(address: &Address, folder: &Path) -> Result<Records> {
        let place = Place::Database(address.clone(), folder.to_owned());
        Ok(Records { threads: Arc::new(Threads::start(&place)?) })
    }

    /// As [`Records::open`], without threads: what is asked is done, in this one, when the [`Hand`] is told to.
    pub fn by_hand(folder: &Path) -> Result<(Records, Hand)> {
        let (threads, hand) = Hand::open(folder)?;
        Ok((Records { threads: Arc::new(threads) }, hand))
    }

    /// Completes when another process has taken the records over, while the connection to their database was lost.
    /// From then on nothing can be written; whoever has them open should end.
    pub async fn taken_over(&self) {
        self.threads.taken_over().await;
    }

    /// Runs `work` in a transaction of its own kind: all of it is kept, or after an error nothing.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Sql<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.threads.write(work).await
    }

    /// Runs `work` on one consistent state of all records.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Sql<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.threads.read(work).await
    }
}

#[cfg(test)]
mod tests;

//! Records: the rows we remember, in one SQLite database in the data folder. All SQL of the project is here.
//!
//! An async face over threads: one writes, a few read. What several callers write at the same time is committed
//! together, and nobody is answered before the commit is on the disk. Documents are JSON texts whose meaning is
//! their writer's; times come from the caller, as milliseconds since the epoch.
//!
//! The SQL is meant to run on PostgreSQL too: numbered parameters, nothing of SQLite's own outside `migrations`.

mod builds;
mod connection;
mod logs;
mod page;
mod projects;
mod settings;
mod sql;
mod threads;
mod vault;

use std::path::Path;
use std::sync::Arc;

pub use builds::{Acceptance, Build, BuildUpdate, Deletion, IncompleteBuild, NewBuild, Succession, Token};
pub use logs::{LogGroup, LogStream, StreamOrder};
pub use page::{Order, Page};
pub use projects::{Project, ProjectSort};
pub use vault::{
    Draft, NewParameter, NewSecret, Parameter, Secret, SecretValue, Selection, SourceCredential, Vault,
    VersionValue,
};

use crate::error::Result;
use sql::Sql;
use threads::Threads;

/// The account and the region that a record belongs to: part of every key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    /// Twelve digits.
    pub account: String,
    pub region: String,
}

/// All records of a data folder. Cheap to clone; closed, after all that was asked is done, with the last clone.
#[derive(Debug, Clone)]
pub struct Records {
    threads: Arc<Threads>,
}

impl Records {
    /// Opens the records in `folder`, which must exist, bringing their schema up to date.
    /// `Locked` while another process (or another handle) has them, `NewerSchema` if a newer version wrote them.
    /// Blocks, though never for long: for start-up.
    pub fn open(folder: &Path) -> Result<Records> {
        Ok(Records { threads: Arc::new(Threads::start(folder)?) })
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

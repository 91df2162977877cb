//! Records without threads: what is asked of them is done when somebody says so, by them, and fails when they say so.
//!
//! For trying out what depends on when something is kept, or whether it is. Everything but the threads is the real thing:
//! the [writer](super::writer), its groups and its transactions, and an SQLite database in a folder.

use std::fmt;
use std::path::Path;

use tokio::sync::{mpsc, watch};

use super::builds::{self, Build};
use super::connection::{Connection, Control, Place};
use super::sql::Sql;
use super::threads::{Call, Calls, QUEUE_LIMIT, Threads};
use super::writer::Writer;
use crate::error::{Error, Result};

/// Whoever does the work of [`Records`](super::Records) that have no threads. When it is dropped, what was asked and not
/// done never happens, as when a server is killed.
pub struct Hand {
    reading: Connection,
    reads: Calls,
    writer: Writer,
    writes: Calls,
}

impl fmt::Debug for Hand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hand").finish_non_exhaustive()
    }
}

/// What becomes of work that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// What would become of it anyway.
    Natural,
    /// Reads cannot begin; writes go well up to the commit, which fails.
    Failing,
}

impl Hand {
    pub(super) fn open(folder: &Path) -> Result<(Threads, Hand)> {
        let place = Place::Folder(folder.to_owned());
        let (writes, write_queue) = mpsc::channel(QUEUE_LIMIT);
        let (reads, read_queue) = mpsc::channel(QUEUE_LIMIT);
        let (taken, taken_over) = watch::channel(false);
        let writer = Writer::open(place.clone(), taken)?;
        let hand = Hand { reading: place.read()?, reads: read_queue, writer, writes: write_queue };
        Ok((Threads::none(reads, writes, taken_over), hand))
    }

    /// How many calls wait to read, and how many to write.
    pub fn waiting(&self) -> (usize, usize) {
        (self.reads.len(), self.writes.len())
    }

    /// Commits the first calls that wait to write, `most` of them, as one group, and answers them. How many those were.
    pub fn write(&mut self, most: usize, fate: Fate) -> usize {
        let mut group: Vec<Box<dyn Call>> = Vec::new();
        while group.len() < most
            && let Ok(call) = self.writes.try_recv()
        {
            group.push(call);
        }
        let count = group.len();
        if fate == Fate::Failing && count > 0 {
            group.push(Box::new(Poison));
        }
        self.writer.commit(group);
        count
    }

    /// Answers the first call that waits to read; false if none does.
    pub fn read(&mut self, fate: Fate) -> bool {
        let Ok(mut call) = self.reads.try_recv() else { return false };
        let begun = match fate {
            Fate::Natural => self.reading.control(Control::BeginReading),
            Fate::Failing => Err(Error::Unavailable("it was told to be".to_owned())),
        };
        let failure = begun.err();
        if failure.is_none() {
            call.run(&Sql::new(&self.reading));
        }
        call.answer(failure);
        // Where nothing was begun, nothing is to be ended.
        let _ = self.reading.control(Control::RollBack);
        true
    }

    /// Lets the database grow no more, as on a full disk, or grow again.
    pub fn fill_disk(&mut self, full: bool) -> Result<()> {
        // SQLite takes a number below the present one for the present one.
        let pages = if full { 1 } else { i64::from(i32::MAX) };
        self.writer.query(&format!("PRAGMA max_page_count = {pages}"))
    }

    /// All builds, in the order in which they were accepted, as a server would find them if this one were killed now.
    pub fn kept_builds(&self) -> Result<Vec<Build>> {
        builds::all(&Sql::new(&self.reading))
    }
}

/// A call that breaks the transaction it is in, when that is to be committed.
struct Poison;

impl Call for Poison {
    fn run(&mut self, sql: &Sql<'_>) {
        let broken = sql.execute("PRAGMA defer_foreign_keys = ON", []).and_then(|_| {
            sql.execute(
                "INSERT INTO log_streams
                     (account, region, log_group, name, created_ms, segment, first_event_ms, last_event_ms, stored_bytes)
                 VALUES ('', '', 'of no group', '', 0, '', 0, 0, 0)",
                [],
            )
        });
        // On a full disk it cannot be written, and need not be: the transaction is over by then.
        let _ = broken;
    }

    fn failure(&self) -> Option<&Error> {
        None
    }

    fn answer(self: Box<Self>, _failure: Option<Error>) {}
}

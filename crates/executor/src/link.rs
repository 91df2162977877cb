//! A driver's connection to one running agent: wakes, stops, liveness, and the way to the journal.

use std::fmt;
use std::io;
use std::path::PathBuf;

use agent::answer::{Answer, Word};
use agent::journal::{self, Event};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::{Error, Result};

/// What an agent told. Several of a kind are folded into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// There are new records to read with [`Link::events_after`].
    JournalGrew,
    /// There are new bytes in the build's log segment.
    LogGrew,
    /// The agent has closed the connection: it finished, or it died. The journal tells which.
    Lost,
}

pub struct Link {
    stream: UnixStream,
    journal: PathBuf,
    /// Ends the agent without asking it.
    kill: Box<dyn Fn() + Send + Sync>,
    journal_grew: bool,
    log_grew: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("journal", &self.journal).finish_non_exhaustive()
    }
}

impl Link {
    pub(crate) fn new(stream: UnixStream, journal: PathBuf, kill: Box<dyn Fn() + Send + Sync>) -> Link {
        // What the agent wrote before we connected was announced to nobody: the first read must not wait.
        Link { stream, journal, kill, journal_grew: true, log_grew: true }
    }

    /// Waits for the next signal. Cancel-safe: a signal not returned is returned by the next call.
    pub async fn signal(&mut self) -> Signal {
        loop {
            if std::mem::take(&mut self.journal_grew) {
                return Signal::JournalGrew;
            }
            if std::mem::take(&mut self.log_grew) {
                return Signal::LogGrew;
            }
            if self.stream.readable().await.is_err() || !self.read_waiting() {
                return Signal::Lost;
            }
        }
    }

    /// Takes in what has arrived; false once the agent has closed the connection.
    fn read_waiting(&mut self) -> bool {
        let mut bytes = [0; 256];
        match self.stream.try_read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                self.journal_grew |= bytes[..count].contains(&b'J');
                self.log_grew |= bytes[..count].contains(&b'L');
                true
            }
            Err(e) => e.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// Asks the agent to stop the build. An agent that is gone already needs no telling.
    pub async fn stop(&mut self) {
        // A failed write means the connection is closed, which `signal` reports.
        let _ = self.stream.write_all(&Word::Stop.to_bytes()).await;
    }

    /// Sends the values of the references that the agent asked for. An agent that is gone needs none.
    ///
    /// Not cancel-safe: half an answer is none.
    pub async fn answer(&self, answer: Answer) {
        let bytes = Word::Answer(answer).to_bytes();
        let mut left = bytes.as_slice();
        while !left.is_empty() {
            // A failed write means the connection is closed, which `signal` reports.
            if self.stream.writable().await.is_err() {
                return;
            }
            match self.stream.try_write(left) {
                Ok(written) => left = &left[written..],
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    /// Ends the agent at once, and with it the environment; for one that does not answer. The build is then
    /// [`crate::Adopted::Dead`].
    pub fn kill(&self) {
        (self.kill)();
    }

    /// The journal's records from `offset` on, and the offset after the last of them.
    pub fn events_after(&self, offset: u64) -> Result<(Vec<Event>, u64)> {
        journal::read(&self.journal, offset).map_err(Error::folder("read", &self.journal))
    }
}

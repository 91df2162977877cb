//! The threads that own the connections: one that writes, in groups, and a few that read.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::connection;
use super::sql::{Sql, sql_error};
use crate::error::{Doing, Error, Result};

/// Calls that may wait for the writer, or for the readers; more wait at their callers.
const QUEUE_LIMIT: usize = 1024;
/// Calls committed together at most.
const GROUP_LIMIT: usize = 256;
const READERS: usize = 2;

type Queue = mpsc::Sender<Box<dyn Call>>;

pub(super) struct Threads {
    /// Taken away to let the threads end.
    queues: Option<(Queue, Queue)>,
    handles: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").finish_non_exhaustive()
    }
}

impl Threads {
    pub(super) fn start(folder: &Path) -> Result<Threads> {
        let lock = connection::lock(folder)?;
        let writer = connection::open_writer(folder)?;
        let readers: Vec<_> = (0..READERS).map(|_| connection::open_reader(folder)).collect::<Result<_>>()?;
        let (writes, write_queue) = mpsc::channel(QUEUE_LIMIT);
        let (reads, read_queue) = mpsc::channel(QUEUE_LIMIT);
        let read_queue = Arc::new(Mutex::new(read_queue));
        let mut threads = Threads { queues: Some((writes, reads)), handles: Vec::new() };
        for reader in readers {
            let queue = read_queue.clone();
            threads.spawn("records-read", move || read_all(&reader, &queue))?;
        }
        threads.spawn("records-write", move || write_all(writer, write_queue, lock))?;
        Ok(threads)
    }

    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
        self.handles.push(thread.doing("starting a thread")?);
        Ok(())
    }

    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Sql<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        ask(self.queues.as_ref().map(|(writes, _)| writes), work).await
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Sql<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        ask(self.queues.as_ref().map(|(_, reads)| reads), work).await
    }
}

impl Drop for Threads {
    /// Waits until everything asked is done and the lock is free again.
    fn drop(&mut self) {
        self.queues = None;
        for handle in self.handles.drain(..) {
            // A thread that panicked has said so already.
            let _ = handle.join();
        }
    }
}

async fn ask<T: Send + 'static>(
    queue: Option<&Queue>,
    work: impl FnOnce(&Sql<'_>) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (reply, answer) = oneshot::channel();
    let call = Box::new(Waiting { work: Some(work), result: None, reply });
    let queue = queue.ok_or_else(stopped)?;
    queue.send(call).await.map_err(|_| stopped())?;
    answer.await.map_err(|_| stopped())?
}

fn stopped() -> Error {
    Error::internal("asking for records", "the thread of the records has stopped")
}

/// One caller's work, whatever its result.
trait Call: Send {
    fn run(&mut self, sql: &Sql<'_>);
    /// Why nothing of what was done is to be kept, if so.
    fn failure(&self) -> Option<&Error>;
    /// Tells the caller; `failure` is why what was done could not be kept.
    fn answer(self: Box<Self>, failure: Option<Error>);
}

struct Waiting<T, F> {
    work: Option<F>,
    result: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T: Send, F: FnOnce(&Sql<'_>) -> Result<T> + Send> Call for Waiting<T, F> {
    fn run(&mut self, sql: &Sql<'_>) {
        self.result = self.work.take().map(|work| work(sql));
    }

    fn failure(&self) -> Option<&Error> {
        self.result.as_ref().and_then(|result| result.as_ref().err())
    }

    fn answer(self: Box<Self>, failure: Option<Error>) {
        let answer = match (self.result, failure) {
            (Some(Err(error)), _) | (_, Some(error)) => Err(error),
            (Some(Ok(value)), None) => Ok(value),
            (None, None) => Err(stopped()),
        };
        // A caller that no longer waits has given up the answer, not the work.
        let _ = self.reply.send(answer);
    }
}

fn read_all(connection: &Connection, queue: &Mutex<mpsc::Receiver<Box<dyn Call>>>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(mut call) = next else { return };
        let failure = match connection.unchecked_transaction() {
            Ok(transaction) => {
                call.run(&Sql::new(&transaction));
                None
            }
            Err(error) => Some(sql_error("reading records")(error)),
        };
        call.answer(failure);
    }
}

fn write_all(connection: Connection, mut queue: mpsc::Receiver<Box<dyn Call>>, lock: File) {
    while let Some(first) = queue.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP_LIMIT
            && let Ok(next) = queue.try_recv()
        {
            group.push(next);
        }
        let mut waiting = group.into_iter();
        while waiting.len() > 0 {
            commit_group(&connection, &mut waiting);
        }
    }
    drop(connection);
    drop(lock);
}

/// Runs calls in one transaction until it is committed, or has failed: then none of them has happened.
fn commit_group(connection: &Connection, waiting: &mut impl Iterator<Item = Box<dyn Call>>) {
    let mut done = Vec::new();
    let committed = run_group(connection, waiting, &mut done);
    if committed.is_err() && !connection.is_autocommit() {
        // Nothing more can be done than to report the first failure.
        let _ = connection.execute_batch("ROLLBACK");
    }
    let failure = committed.err();
    if done.is_empty() {
        // The transaction could not even begin: whoever is first hears of it, so that there is progress.
        done.extend(waiting.next());
    }
    for call in done {
        call.answer(failure.as_ref().map(again));
    }
}

fn run_group(
    connection: &Connection,
    waiting: &mut impl Iterator<Item = Box<dyn Call>>,
    done: &mut Vec<Box<dyn Call>>,
) -> Result<()> {
    let control = |text: &str| {
        let statement = connection.prepare_cached(text).and_then(|mut statement| statement.execute([]));
        statement.map(|_| ()).map_err(sql_error("committing records"))
    };
    control("BEGIN IMMEDIATE")?;
    for mut call in waiting {
        let savepoint = control("SAVEPOINT call");
        if savepoint.is_ok() {
            call.run(&Sql::new(connection));
        }
        let failed = call.failure().map(again);
        done.push(call);
        savepoint?;
        match failed {
            None => {}
            // SQLite gives up the whole transaction after some errors, a full disk among them.
            Some(error) if connection.is_autocommit() => return Err(error),
            Some(_) => control("ROLLBACK TO call")?,
        }
        control("RELEASE call")?;
    }
    control("COMMIT")
}

/// The same failure, for the next caller of its group.
fn again(error: &Error) -> Error {
    match error {
        Error::Full => Error::Full,
        other => Error::internal("committing records", other.to_string()),
    }
}

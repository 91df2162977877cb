//! The threads that own the connections: one that writes, in groups ([`writer`](super::writer)), and a few that read.

use std::fmt;
use std::sync::mpsc as handover;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot, watch};

use super::connection::{Connection, Control, Place};
use super::sql::Sql;
use super::writer::Writer;
use crate::error::{Doing, Error, Result};

/// Calls that may wait for the writer, or for the readers; more wait at their callers.
pub(super) const QUEUE_LIMIT: usize = 1024;
const READERS: usize = 2;

pub(super) type Queue = mpsc::Sender<Box<dyn Call>>;
pub(super) type Calls = mpsc::Receiver<Box<dyn Call>>;

pub(super) struct Threads {
    /// Each with its threads; the queue is taken away to let them end.
    reading: Group,
    writing: Group,
    taken_over: watch::Receiver<bool>,
}

struct Group {
    queue: Option<Queue>,
    handles: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").finish_non_exhaustive()
    }
}

impl Threads {
    /// Each thread makes its own connection; what goes wrong with the first ones is told here.
    pub(super) fn start(place: &Place) -> Result<Threads> {
        let (writes, write_queue) = mpsc::channel(QUEUE_LIMIT);
        let (reads, read_queue) = mpsc::channel(QUEUE_LIMIT);
        let (taken, taken_over) = watch::channel(false);
        let mut threads = Threads { reading: Group::of(reads), writing: Group::of(writes), taken_over };
        let own = place.clone();
        threads.writing.spawn("records-write", move |ready| {
            if let Some(writer) = told(&ready, Writer::open(own, taken)) {
                writer.run(write_queue);
            }
        })?;
        let read_queue = Arc::new(Mutex::new(read_queue));
        for _ in 0..READERS {
            let (place, queue) = (place.clone(), read_queue.clone());
            threads.reading.spawn("records-read", move |ready| {
                if let Some(connection) = told(&ready, place.read()) {
                    read_all(&place, connection, &queue);
                }
            })?;
        }
        Ok(threads)
    }

    /// None at all: whoever has the other ends of the queues does the work.
    pub(super) fn none(reads: Queue, writes: Queue, taken_over: watch::Receiver<bool>) -> Threads {
        Threads { reading: Group::of(reads), writing: Group::of(writes), taken_over }
    }

    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Sql<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        ask(self.writing.queue.as_ref(), work).await
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Sql<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        ask(self.reading.queue.as_ref(), work).await
    }

    pub(super) async fn taken_over(&self) {
        let mut taken_over = self.taken_over.clone();
        if taken_over.wait_for(|taken_over| *taken_over).await.is_err() {
            // The writer is gone, and nobody can take from it what it does not have.
            std::future::pending().await
        }
    }
}

impl Drop for Threads {
    /// Waits until everything asked is done and the lock is free again. The writer goes last: SQLite's last connection
    /// brings everything into the database's file.
    fn drop(&mut self) {
        self.reading.end();
        self.writing.end();
    }
}

impl Group {
    fn of(queue: Queue) -> Group {
        Group { queue: Some(queue), handles: Vec::new() }
    }

    /// Waits until the thread is ready, or has failed to be.
    fn spawn(
        &mut self,
        name: &str,
        body: impl FnOnce(handover::Sender<Result<()>>) + Send + 'static,
    ) -> Result<()> {
        let (ready, opened) = handover::channel();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || body(ready));
        self.handles.push(thread.doing("starting a thread")?);
        opened.recv().map_err(|_| stopped())?
    }

    fn end(&mut self) {
        self.queue = None;
        for handle in self.handles.drain(..) {
            // A thread that panicked has said so already.
            let _ = handle.join();
        }
    }
}

fn told<T>(ready: &handover::Sender<Result<()>>, opened: Result<T>) -> Option<T> {
    let (opened, told) = match opened {
        Ok(opened) => (Some(opened), Ok(())),
        Err(error) => (None, Err(error)),
    };
    // Whoever starts the threads waits for this.
    let _ = ready.send(told);
    opened
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
pub(super) trait Call: Send {
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

fn read_all(place: &Place, first: Connection, queue: &Mutex<Calls>) {
    let mut connection = Some(first);
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
        let Some(mut call) = next else { return };
        match begin_reading(place, &mut connection) {
            Ok(begun) => {
                call.run(&Sql::new(begun));
                // There is nothing to keep, so nobody waits for the end; what could not even be ended shows in `is_lost`.
                call.answer(None);
                let _ = begun.control(Control::RollBack);
            }
            Err(error) => call.answer(Some(error)),
        }
        connection = connection.filter(|connection| !connection.is_lost());
    }
}

/// What became of an idle connection is seen when it is needed: then another is made, once.
fn begin_reading<'c>(place: &Place, connection: &'c mut Option<Connection>) -> Result<&'c Connection> {
    if let Some(idle) = &*connection
        && let Err(error) = idle.control(Control::BeginReading)
    {
        if !idle.is_lost() {
            return Err(error);
        }
        *connection = None;
    } else if let Some(begun) = connection {
        return Ok(begun);
    }
    let made = connection.insert(place.read()?);
    made.control(Control::BeginReading)?;
    Ok(made)
}

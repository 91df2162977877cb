//! The writer: commits in groups what callers ask for at the same time, and never says that something is kept unless
//! it is.
//!
//! A connection to a database server can break. Then the calls of its transaction fail and another connection is
//! made; only where the COMMIT itself was under way nobody knows what became of it. Such a group is in doubt, and
//! its callers wait until the server is back and has said whether it was committed.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::connection::{Connection, Control, Ordinal, Owner, Place};
use super::sql::Sql;
use super::threads::{Call, Calls};
use crate::error::{Error, Result};

/// Calls committed together at most.
const GROUP_LIMIT: usize = 256;

/// After an attempt to connect that failed, the next one is not made before this has passed.
const PAUSE: Duration = Duration::from_millis(500);
/// How often is looked for calls while the database is away.
const LOOK: Duration = Duration::from_millis(20);

pub(super) struct Writer {
    place: Place,
    connection: Option<Connection>,
    /// Dropped after the connection.
    owner: Owner,
    /// When the last attempt to connect failed, and why.
    refused: Option<(Instant, Error)>,
    doubt: Option<Doubt>,
    taken_over: watch::Sender<bool>,
}

/// Calls whose transaction may be committed or not.
struct Doubt {
    transaction: Ordinal,
    calls: Vec<Box<dyn Call>>,
}

/// Why a group is not known to be kept.
struct Failure {
    error: Error,
    /// Set if it may be kept all the same.
    in_doubt: Option<Ordinal>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { error, in_doubt: None }
    }
}

impl Writer {
    pub(super) fn open(place: Place, taken_over: watch::Sender<bool>) -> Result<Writer> {
        let (connection, owner) = place.own()?;
        Ok(Writer { place, owner, connection: Some(connection), refused: None, doubt: None, taken_over })
    }

    /// Until nobody can ask any more.
    pub(super) fn run(mut self, mut queue: Calls) {
        while let Some(first) = self.next(&mut queue) {
            let mut group = vec![first];
            while group.len() < GROUP_LIMIT
                && let Ok(next) = queue.try_recv()
            {
                group.push(next);
            }
            self.commit(group);
        }
        if let Some(doubt) = self.doubt.take() {
            answer(
                doubt.calls,
                Some(&Error::Unavailable("it is not known whether this was kept".to_owned())),
            );
        }
    }

    /// Commits calls as one group, or as many as it takes, and answers them.
    pub(super) fn commit(&mut self, group: Vec<Box<dyn Call>>) {
        let mut waiting = group.into_iter();
        while waiting.len() > 0 {
            self.commit_group(&mut waiting);
        }
    }

    /// Asks something outside of any transaction; what it gives is not looked at.
    pub(super) fn query(&mut self, text: &str) -> Result<()> {
        self.connected()?.query(text, &[], &mut |_| Ok(()))
    }

    /// The next call; `None` when there will be no more. A connection that is lost is made again meanwhile.
    fn next(&mut self, queue: &mut Calls) -> Option<Box<dyn Call>> {
        use tokio::sync::mpsc::error::TryRecvError;
        loop {
            if let Some(connection) = &self.connection {
                if let Some(next) = connection.next(queue) {
                    return next;
                }
            } else if *self.taken_over.borrow() {
                return queue.blocking_recv();
            } else {
                match queue.try_recv() {
                    Ok(call) => return Some(call),
                    Err(TryRecvError::Disconnected) => return None,
                    Err(TryRecvError::Empty) => std::thread::sleep(LOOK),
                }
            }
            // What is wrong is told to whoever calls.
            let _ = self.connected();
        }
    }

    /// The connection, or another one in its place; doubts are resolved first.
    fn connected(&mut self) -> Result<&Connection> {
        if self.is_lost() {
            self.connection = None;
            if let Some((at, error)) = &self.refused
                && (at.elapsed() < PAUSE || *self.taken_over.borrow())
            {
                return Err(again(error));
            }
            match self.connect() {
                Ok(made) => (self.connection, self.refused) = (Some(made), None),
                Err(error) => {
                    self.refused = Some((Instant::now(), again(&error)));
                    return Err(error);
                }
            }
        }
        Ok(self.connection.as_ref().expect("it was made if it was not there"))
    }

    fn connect(&mut self) -> Result<Connection> {
        let connected = self.place.own_again(&self.owner).and_then(|connection| {
            if let Some(Doubt { transaction, .. }) = self.doubt {
                let kept = connection.committed(transaction)?;
                let failure = (!kept).then(|| Error::Unavailable("it went away".to_owned()));
                answer(self.doubt.take().map_or(Vec::new(), |doubt| doubt.calls), failure.as_ref());
            }
            Ok(connection)
        });
        if let Err(error @ Error::TakenOver(_)) = &connected {
            answer(self.doubt.take().map_or(Vec::new(), |doubt| doubt.calls), Some(error));
            self.taken_over.send_replace(true);
        }
        connected
    }

    /// Runs calls in one transaction until it is committed, or has failed: then none of them has happened.
    fn commit_group(&mut self, waiting: &mut impl Iterator<Item = Box<dyn Call>>) {
        let mut done = Vec::new();
        let committed = match self.begin() {
            Ok(connection) => run_group(connection, waiting, &mut done),
            Err(error) => Err(error.into()),
        };
        if let Some(connection) = &self.connection
            && committed.is_err()
            && connection.in_transaction()
        {
            // Nothing more can be done than to report the first failure.
            let _ = connection.control(Control::RollBack);
        }
        if self.is_lost() {
            self.connection = None;
        }
        if done.is_empty() {
            // The transaction could not even begin: whoever is first hears of it, so that there is progress.
            done.extend(waiting.next());
        }
        match committed {
            Ok(()) => answer(done, None),
            Err(Failure { in_doubt: Some(transaction), .. }) => {
                self.doubt = Some(Doubt { transaction, calls: done });
            }
            Err(Failure { error, .. }) => answer(done, Some(&error)),
        }
    }

    /// What became of an idle connection is seen when it is needed: then another is made, once.
    fn begin(&mut self) -> Result<&Connection> {
        if let Err(error) = self.connected()?.control(Control::BeginWriting) {
            if !self.is_lost() {
                return Err(error);
            }
            self.connected()?.control(Control::BeginWriting)?;
        }
        self.connected()
    }

    fn is_lost(&self) -> bool {
        self.connection.as_ref().is_none_or(Connection::is_lost)
    }
}

fn run_group(
    connection: &Connection,
    waiting: &mut impl Iterator<Item = Box<dyn Call>>,
    done: &mut Vec<Box<dyn Call>>,
) -> Result<(), Failure> {
    for mut call in waiting {
        let savepoint = connection.control(Control::Savepoint);
        if savepoint.is_ok() {
            call.run(&Sql::new(connection));
        }
        let failed = call.failure().map(again);
        done.push(call);
        savepoint?;
        match failed {
            None => {}
            Some(error) if !connection.in_transaction() => return Err(error.into()),
            Some(_) => connection.control(Control::RollBackToSavepoint)?,
        }
        connection.control(Control::Release)?;
    }
    let transaction = connection.count_transaction()?;
    connection
        .control(Control::Commit)
        .map_err(|error| Failure { error, in_doubt: transaction.filter(|_| connection.is_lost()) })
}

fn answer(calls: Vec<Box<dyn Call>>, failure: Option<&Error>) {
    for call in calls {
        call.answer(failure.map(again));
    }
}

/// The same failure, for the next caller of its group.
fn again(error: &Error) -> Error {
    match error {
        Error::Full => Error::Full,
        Error::Unavailable(reason) => Error::Unavailable(reason.clone()),
        Error::TakenOver(place) => Error::TakenOver(place.clone()),
        other => Error::internal("committing records", other.to_string()),
    }
}

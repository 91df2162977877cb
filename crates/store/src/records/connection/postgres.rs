//! PostgreSQL: what a server must promise, the lock on the records, and its values, errors and silences among ours.
//!
//! A connection lives on the thread that uses it, with a runtime of its own, and whatever it is asked has a time limit:
//! a database that does not answer is as good as none.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, NoTls, Statement};

use super::super::address::Address;
use super::super::sql::{Columns, Value};
use super::Control;
use crate::error::{Doing, Error, Result};

/// The oldest version that is still maintained.
const OLDEST: i64 = 140_000;

/// Prepared statements kept per connection: more than there are texts.
const STATEMENTS: usize = 256;

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How long a change of the schema may take.
const BATCH_LIMIT: Duration = Duration::from_secs(3600);

/// How long a lock that somebody has is tried again: a killed server's connections end a moment after it.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
/// The same where callers wait for it.
const LOCK_AGAIN_PATIENCE: Duration = Duration::from_millis(250);
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Ours among the advisory locks of a database; the second half of the key is the schema's.
const LOCK: &str = "pg_try_advisory_lock(1114207300, hashtext(current_schema()))";

/// Every query of ours has an index that gives its rows in order. The planner shall not guess otherwise from
/// statistics that are old, nor plan the same text again. No time limit of the server's may end a connection, for it holds the lock.
const SESSION: &str =
    "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_sort = off; SET jit = off;
     SET plan_cache_mode = force_generic_plan;
     SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0;
     SET idle_session_timeout = 0; SET client_min_messages = warning;
     SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3";

pub(in super::super) struct Postgres {
    client: Client,
    statements: RefCell<HashMap<String, Statement>>,
    lost: Cell<bool>,
    /// Told when the connection has ended.
    ended: Arc<Notify>,
    /// The last to go: what drives the connection.
    runtime: Runtime,
}

impl Postgres {
    /// Connects, and sees to it that what is committed will stay.
    pub(super) fn connect(address: &Address) -> Result<Postgres> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.doing("connecting to the database")?;
        let connected = runtime
            .block_on(async { tokio::time::timeout(ANSWER_LIMIT, address.config().connect(NoTls)).await });
        let (client, connection) = match connected {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => return Err(Error::Unavailable(format!("{address}: {}", reason(&error)))),
            Err(_) => return Err(Error::Unavailable(format!("{address} does not answer"))),
        };
        // It ends with the client, or tells the client why it ended.
        let ended = Arc::new(Notify::new());
        let tell = ended.clone();
        runtime.spawn(async move {
            let _ = connection.await;
            tell.notify_one();
        });
        let (statements, lost) = (RefCell::default(), Cell::new(false));
        let postgres = Postgres { client, statements, lost, ended, runtime };
        postgres.batch(SESSION)?;
        postgres.check(address)?;
        Ok(postgres)
    }

    /// What the records' promises rest on.
    fn check(&self, address: &Address) -> Result<()> {
        let setting = |name: &str| {
            self.one(&format!("SELECT current_setting('{name}')"), &[]).map(|found| match found {
                Some(Value::Text(text)) => text,
                _ => String::new(),
            })
        };
        let refuse = |rule: &str| Err(Error::Database { place: address.to_string(), rule: rule.to_owned() });
        if setting("server_version_num")?.parse::<i64>().unwrap_or(0) < OLDEST {
            return refuse("it is older than PostgreSQL 14");
        }
        if setting("server_encoding")? != "UTF8" {
            return refuse("its encoding is not UTF8");
        }
        for name in ["fsync", "full_page_writes"] {
            if setting(name)? != "on" {
                return refuse(&format!(
                    "its setting {name} is off, so that a power cut could undo what was answered"
                ));
            }
        }
        if self.one("SELECT current_schema()::text", &[])?.is_none_or(|schema| schema == Value::Null) {
            return refuse("the schema of its search_path does not exist");
        }
        // `remote_apply` promises more, and is its administrator's wish.
        match setting("synchronous_commit")?.as_str() {
            "on" | "remote_apply" => Ok(()),
            _ => self.batch("SET synchronous_commit = on"),
        }
    }

    /// Takes the records; they are free again when this connection ends, however it does.
    pub(super) fn lock(&self, address: &Address) -> Result<()> {
        match self.locks_within(LOCK_PATIENCE)? {
            true => Ok(()),
            false => Err(Error::Locked(address.to_string())),
        }
    }

    /// As [`Postgres::lock`], for whoever had it: the lost connection's own end may still be on its way.
    pub(super) fn lock_again(&self, address: &Address) -> Result<()> {
        match self.locks_within(LOCK_AGAIN_PATIENCE)? {
            true => Ok(()),
            false => Err(Error::Unavailable(format!("{address} is locked"))),
        }
    }

    fn locks_within(&self, patience: Duration) -> Result<bool> {
        let begun = Instant::now();
        loop {
            let locked = self.try_lock()?;
            if locked || begun.elapsed() >= patience {
                return Ok(locked);
            }
            std::thread::sleep(LOCK_PAUSE);
        }
    }

    fn try_lock(&self) -> Result<bool> {
        Ok(self.one(&format!("SELECT CASE WHEN {LOCK} THEN 1 ELSE 0 END"), &[])? == Some(Value::Integer(1)))
    }

    pub(super) fn execute(&self, text: &str, parameters: &[Value]) -> Result<usize> {
        let statement = self.prepare(text)?;
        let changed = self.client.execute_raw(&statement, parameters);
        // More than fits into memory cannot have changed.
        self.wait("changing a record", ANSWER_LIMIT, changed)
            .map(|rows| usize::try_from(rows).unwrap_or(usize::MAX))
    }

    pub(super) fn query(
        &self,
        text: &str,
        parameters: &[Value],
        each: &mut dyn FnMut(&Columns<'_>) -> Result<()>,
    ) -> Result<()> {
        let statement = self.prepare(text)?;
        let parameters: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|value| value as _).collect();
        let rows = self.wait("reading records", ANSWER_LIMIT, self.client.query(&statement, &parameters))?;
        rows.iter().try_for_each(|row| each(&Columns::Postgres(row)))
    }

    pub(super) fn control(&self, control: Control) -> Result<()> {
        let text = match control {
            Control::BeginReading => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Control::BeginWriting => "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
            Control::Savepoint => "SAVEPOINT call",
            Control::Release => "RELEASE call",
            Control::RollBackToSavepoint => "ROLLBACK TO call",
            Control::Commit => "COMMIT",
            Control::RollBack => "ROLLBACK",
        };
        self.wait("committing records", ANSWER_LIMIT, self.client.batch_execute(text))
    }

    /// Several statements that give nothing.
    pub(super) fn batch(&self, text: &str) -> Result<()> {
        self.wait("preparing the records", BATCH_LIMIT, self.client.batch_execute(text))
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.get()
    }

    /// What `next` gives, or `None` if the connection ends before.
    pub(super) fn until_lost<T>(&self, next: impl Future<Output = T>) -> Option<T> {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                next = next => Some(next),
                () = self.ended.notified() => {
                    self.lost.set(true);
                    None
                }
            }
        })
    }

    /// The first column of the first row.
    fn one(&self, text: &str, parameters: &[Value]) -> Result<Option<Value>> {
        let mut found = None;
        self.query(text, parameters, &mut |row| {
            let Columns::Postgres(row) = row else { return Ok(()) };
            let value = row.try_get(0).map_err(|error| Error::internal("reading records", error))?;
            found.get_or_insert(value);
            Ok(())
        })?;
        Ok(found)
    }

    fn prepare(&self, text: &str) -> Result<Statement> {
        if let Some(found) = self.statements.borrow().get(text) {
            return Ok(found.clone());
        }
        let statement = self.wait("preparing a statement", ANSWER_LIMIT, self.client.prepare(text))?;
        let mut statements = self.statements.borrow_mut();
        if statements.len() >= STATEMENTS {
            statements.clear();
        }
        statements.insert(text.to_owned(), statement.clone());
        Ok(statement)
    }

    fn wait<T>(
        &self,
        doing: &'static str,
        limit: Duration,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        match self.runtime.block_on(async { tokio::time::timeout(limit, answer).await }) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                if ends_connection(&error) {
                    self.lost.set(true);
                }
                Err(failed(doing, error))
            }
            Err(_) => {
                self.lost.set(true);
                Err(Error::Unavailable("it does not answer".to_owned()))
            }
        }
    }
}

impl Drop for Postgres {
    /// Says good-bye, so that the lock is free when this returns.
    fn drop(&mut self) {
        if !self.is_lost() {
            let _ = self.batch("SELECT pg_advisory_unlock_all()");
        }
    }
}

fn ends_connection(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        Some(error) => matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic)),
        None => error.is_closed() || error.source().is_some_and(|source| source.is::<std::io::Error>()),
    }
}

fn failed(doing: &'static str, error: tokio_postgres::Error) -> Error {
    let Some(state) = error.code() else {
        return match ends_connection(&error) {
            true => Error::Unavailable(reason(&error)),
            false => Error::internal(doing, error),
        };
    };
    match state {
        state if *state == SqlState::DISK_FULL => Error::Full,
        state if *state == SqlState::PROGRAM_LIMIT_EXCEEDED => {
            Error::InvalidText("it is too long for an index")
        }
        // A server that became another's copy.
        state if *state == SqlState::READ_ONLY_SQL_TRANSACTION => Error::Unavailable(reason(&error)),
        _ if ends_connection(&error) => Error::Unavailable(reason(&error)),
        _ => Error::internal(doing, reason(&error)),
    }
}

/// The whole chain of reasons in one line; drivers keep the telling ones for the end.
fn reason(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{} (SQLSTATE {})", error.message(), error.code().code());
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(next) = source {
        let next_text = next.to_string();
        if !text.contains(&next_text) {
            text = format!("{text}: {next_text}");
        }
        source = next.source();
    }
    text
}

impl ToSql for Value {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Value::Null => Ok(IsNull::Yes),
            Value::Integer(value) if *ty == Type::INT4 => i32::try_from(*value)?.to_sql(ty, out),
            Value::Integer(value) => value.to_sql(ty, out),
            Value::Text(value) => value.to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::INT8 | Type::INT4) || <&str as ToSql>::accepts(ty)
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Value {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Value, Box<dyn std::error::Error + Sync + Send>> {
        match *ty {
            Type::INT8 => i64::from_sql(ty, raw).map(Value::Integer),
            Type::INT4 => i32::from_sql(ty, raw).map(|value| Value::Integer(value.into())),
            _ => String::from_sql(ty, raw).map(Value::Text),
        }
    }

    fn from_sql_null(_: &Type) -> Result<Value, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Value::Null)
    }

    fn accepts(ty: &Type) -> bool {
        <Value as ToSql>::accepts(ty)
    }
}

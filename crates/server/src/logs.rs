//! CloudWatch Logs over [`store::logs`] (the bytes) and [`store::records`] (which groups and streams there are).
//!
//! Below: `groups` (groups, streams, tags), `retention`, `put`, `get`, `filter` and `tail` (the operations on
//! events), `pattern` (filter patterns), `wakes` (who is told that a log grew). Builds do not come through here:
//! their agents write segments themselves, and whoever owns a build records its stream and rings [`Wakes`].

mod filter;
mod get;
mod groups;
mod pattern;
mod put;
mod retention;
mod tail;
mod wakes;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use api::ServiceError;
use api::logs::Operation;
use serde::de::DeserializeOwned;
use serde_json::Value;
use store::logs::{LogEvent, SegmentReader};
use store::records::{LogGroup, LogStream, Records, Scope};
use tokio::sync::watch;

use crate::keys::Caller;
use crate::reply::Reply;
use crate::time::Clock;
use put::Writers;
pub use wakes::Wakes;

/// Most events of one answer.
const EVENTS_MAX: usize = 10_000;
/// Most bytes of events in one answer.
const PAGE_MAX_BYTES: usize = 1024 * 1024;

/// The CloudWatch Logs endpoint. Cheap to clone.
#[derive(Clone)]
pub struct Logs {
    inner: Arc<Inner>,
}

struct Inner {
    records: Records,
    /// Where the segments of streams lie whose events come through PutLogEvents.
    folder: PathBuf,
    region: String,
    clock: Clock,
    wakes: Wakes,
    writers: Writers,
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs").field("folder", &self.inner.folder).finish_non_exhaustive()
    }
}

impl Logs {
    /// `folder` gets the segments of streams that clients write, and is made with the first of them. Relative segment paths in the
    /// records are taken from there.
    pub fn new(records: Records, folder: PathBuf, region: &str, clock: Clock, wakes: Wakes) -> Logs {
        let inner =
            Inner { records, folder, region: region.to_owned(), clock, wakes, writers: Writers::default() };
        Logs { inner: Arc::new(inner) }
    }

    /// Answers one call; `closing` turns true when answers that never end must end.
    pub(crate) async fn answer(
        &self,
        operation: Operation,
        caller: Caller,
        request: Value,
        closing: watch::Receiver<bool>,
    ) -> Result<Reply, ServiceError> {
        let call = Call { logs: self.inner.clone(), scope: self.inner.scope(caller) };
        Ok(match operation {
            Operation::StartLiveTail => Reply::Stream(tail::start(call, typed(request)?, closing).await?),
            Operation::CreateLogGroup => done(call.create_log_group(typed(request)?).await?),
            Operation::DeleteLogGroup => done(call.delete_log_group(typed(request)?).await?),
            Operation::DescribeLogGroups => Reply::of(&call.describe_log_groups(typed(request)?).await?),
            Operation::CreateLogStream => done(call.create_log_stream(typed(request)?).await?),
            Operation::DeleteLogStream => done(call.delete_log_stream(typed(request)?).await?),
            Operation::DescribeLogStreams => Reply::of(&call.describe_log_streams(typed(request)?).await?),
            Operation::PutRetentionPolicy => done(call.put_retention_policy(typed(request)?).await?),
            Operation::DeleteRetentionPolicy => done(call.delete_retention_policy(typed(request)?).await?),
            Operation::TagResource => done(call.tag_resource(typed(request)?).await?),
            Operation::UntagResource => done(call.untag_resource(typed(request)?).await?),
            Operation::ListTagsForResource => Reply::of(&call.list_tags(typed(request)?).await?),
            Operation::PutLogEvents => Reply::of(&call.put_log_events(typed(request)?).await?),
            Operation::GetLogEvents => Reply::of(&call.get_log_events(typed(request)?).await?),
            Operation::FilterLogEvents => Reply::of(&call.filter_log_events(typed(request)?).await?),
        })
    }
}

impl Inner {
    fn scope(&self, caller: Caller) -> Scope {
        Scope { account: caller.account, region: self.region.clone() }
    }
}

/// One call: the endpoint and whose groups it is about.
#[derive(Clone)]
struct Call {
    logs: Arc<Inner>,
    scope: Scope,
}

impl Call {
    fn now_ms(&self) -> i64 {
        (self.logs.clock)()
    }

    fn group_arn(&self, group: &str) -> String {
        let Scope { account, region } = &self.scope;
        format!("arn:{}:logs:{region}:{account}:log-group:{group}", api::arn::partition(region))
    }

    /// A group's name from what a client may give instead: its ARN, with or without `:*` at the end.
    fn group_name(&self, identifier: &str) -> Result<String, ServiceError> {
        if !identifier.starts_with("arn:") {
            return Ok(identifier.to_owned());
        }
        let own = self.group_arn("");
        let name = identifier.strip_prefix(&own).map(|name| name.strip_suffix(":*").unwrap_or(name));
        name.map(str::to_owned).ok_or_else(no_such_group)
    }

    /// The one group that a request names, by name or by identifier.
    fn named_group(&self, name: Option<String>, identifier: Option<String>) -> Result<String, ServiceError> {
        match (name, identifier) {
            (Some(name), None) => Ok(name),
            (None, Some(identifier)) => self.group_name(&identifier),
            (Some(_), Some(_)) => Err(ServiceError::invalid_parameter(
                "Only one of logGroupName and logGroupIdentifier may be specified.",
            )),
            (None, None) => Err(ServiceError::invalid_parameter(
                "Either logGroupName or logGroupIdentifier must be specified.",
            )),
        }
    }

    async fn group(&self, name: &str) -> Result<LogGroup, ServiceError> {
        self.logs.records.get_log_group(&self.scope, name).await.map_err(error)?.ok_or_else(no_such_group)
    }

    async fn stream(&self, group: &str, name: &str) -> Result<LogStream, ServiceError> {
        let found = self.logs.records.get_log_stream(&self.scope, group, name).await.map_err(error)?;
        match found {
            Some(stream) => Ok(stream),
            None => {
                self.group(group).await?;
                Err(no_such_stream())
            }
        }
    }

    fn segment(&self, stream: &LogStream) -> PathBuf {
        self.logs.folder.join(&stream.segment)
    }
}

/// Opens a stream's segment; `None` when nothing was written yet.
fn open(segment: &std::path::Path) -> Result<Option<SegmentReader>, ServiceError> {
    match SegmentReader::open(segment) {
        Ok(reader) => Ok(Some(reader)),
        Err(store::Error::NotFound { .. }) => Ok(None),
        Err(failed) => Err(error(failed)),
    }
}

/// Runs file work where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ServiceError> + Send + 'static,
) -> Result<T, ServiceError> {
    tokio::task::spawn_blocking(work).await.map_err(internal)?
}

/// An event's text. What is stored stays as it is; only the answer is made UTF-8.
fn message(event: LogEvent) -> String {
    String::from_utf8(event.bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The times that a request asks for, milliseconds: from `start`, before `end`.
fn times(start: Option<i64>, end: Option<i64>) -> std::ops::Range<i64> {
    start.unwrap_or(i64::MIN)..end.unwrap_or(i64::MAX)
}

fn limit(asked: Option<i32>, most: usize) -> usize {
    asked.and_then(|asked| usize::try_from(asked).ok()).map_or(most, |asked| asked.clamp(1, most))
}

/// A request, validated before, in its type.
fn typed<T: DeserializeOwned>(request: Value) -> Result<T, ServiceError> {
    serde_json::from_value(request).map_err(|error| ServiceError::serialization(error.to_string()))
}

/// The body of an answer that has no members.
// COMPAT: AWS JSON 1.1 such operations of CloudWatch Logs answer with no body at all.
fn done((): ()) -> Reply {
    Reply::Nothing
}

/// The model makes it required, and validation ran.
fn required(member: Option<String>) -> Result<String, ServiceError> {
    member.ok_or_else(|| ServiceError::invalid_parameter("A required parameter is missing."))
}

fn error(failed: store::Error) -> ServiceError {
    use store::Error;
    match failed {
        Error::NotFound { what: "log group", .. } => no_such_group(),
        Error::NotFound { .. } => no_such_stream(),
        Error::AlreadyExists { what: "log group", .. } => {
            ServiceError::resource_already_exists("The specified log group already exists")
        }
        Error::AlreadyExists { .. } => {
            ServiceError::resource_already_exists("The specified log stream already exists")
        }
        Error::InvalidToken(_) => invalid_token(),
        Error::Locked(_) => {
            ServiceError::operation_aborted("The log stream is being written by a running build.")
        }
        Error::Sealed(_) => {
            ServiceError::invalid_parameter("The log stream is complete and takes no more events.")
        }
        Error::InvalidText(rule) => ServiceError::invalid_parameter(format!("Invalid text: {rule}.")),
        failed @ (Error::Unavailable(_) | Error::TakenOver(_)) => {
            tracing::error!(%failed, "a request could not be kept");
            ServiceError::service_unavailable("The database is unavailable.")
        }
        Error::Full => {
            tracing::error!("the disk that holds the logs is full");
            ServiceError::service_unavailable("There is no space left for log events.")
        }
        failed => internal(failed),
    }
}

fn internal(cause: impl fmt::Display) -> ServiceError {
    tracing::error!(%cause, "a log request failed inside the server");
    ServiceError::internal_failure()
}

fn no_such_group() -> ServiceError {
    ServiceError::resource_not_found("The specified log group does not exist.")
}

fn no_such_stream() -> ServiceError {
    ServiceError::resource_not_found("The specified log stream does not exist.")
}

fn invalid_token() -> ServiceError {
    ServiceError::invalid_parameter("The specified nextToken is invalid.")
}

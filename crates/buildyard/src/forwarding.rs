//! What builds log, forwarded to CloudWatch Logs or to an OpenTelemetry collector: at least once, each log in its order.
//!
//! Records say which logs are to be forwarded and how far they are, segments hold them. So nothing waits in memory but one batch, no
//! build waits for anybody, and whoever comes after a crash goes on where the last one was.

mod cloudwatch;
mod opentelemetry;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use engine::clock::Clock;
use store::logs::{LogEvent, Position, SegmentReader};
use store::records::{LogStream, Records, Scope};

pub(crate) use cloudwatch::CloudWatch;
pub(crate) use opentelemetry::OpenTelemetry;

/// Logs that are looked at in turn; further ones wait until one of these is forwarded in all.
const STREAMS_MAX: usize = 1_000;
/// Of one request. PutLogEvents takes 1,048,576 bytes, of which every event costs 26, and text of any bytes may be three times as long.
const EVENTS_MAX: usize = 8_000;
const BATCH_BYTES: usize = 250_000;
/// Requests for one log before it is the next one's turn.
const TURN: usize = 8;
/// How long is waited where there is nothing new.
const REST: Duration = Duration::from_secs(1);
/// How long at most until a sink that failed is asked again.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A log that has had no segment for so long will have none.
const MISSING_MS: i64 = 48 * 60 * 60 * 1000;

/// Where logs go.
#[derive(Debug)]
pub(crate) enum Sink {
    CloudWatch(CloudWatch),
    OpenTelemetry(OpenTelemetry),
}

/// What came of events that were sent: how many of them the sink will never take.
type Sent = Result<u64, Failure>;

/// Why events are still to be sent.
#[derive(Debug)]
enum Failure {
    /// Nobody answered, or not now.
    Unavailable(String),
    /// There was an answer, and it was no. It may be about this log only.
    Refused(String),
    /// Ours: records or segments could not be read.
    Store(store::Error),
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Failure {
        Failure::Store(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Unavailable(reason) | Failure::Refused(reason) => f.write_str(reason),
            Failure::Store(error) => error.fmt(f),
        }
    }
}

/// Events, by what became of them.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    forwarded: AtomicU64,
    refused: AtomicU64,
}

impl Counts {
    pub(crate) fn forwarded(&self) -> u64 {
        self.forwarded.load(Ordering::Relaxed)
    }

    /// Those that the sink said it will never take.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

pub(crate) struct Forwarding {
    pub(crate) records: Records,
    /// What segments are named from.
    pub(crate) logs: PathBuf,
    pub(crate) sink: Sink,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) counts: Arc<Counts>,
}

/// Events of a log that follow each other.
struct Batch {
    events: Vec<LogEvent>,
    next: Position,
    /// There were no more, and there will be none.
    is_last: bool,
}

impl Forwarding {
    /// Forwards for as long as it is polled.
    pub(crate) async fn run(&self) {
        let mut failures = 0;
        loop {
            match self.round().await {
                Ok(is_moving) => {
                    failures = 0;
                    if !is_moving {
                        tokio::time::sleep(REST).await;
                    }
                }
                Err(failure) => {
                    if failures == 0 {
                        tracing::warn!(%failure, "logs are not forwarded now; they will be later");
                    }
                    failures += 1;
                    tokio::time::sleep(pause(failures)).await;
                }
            }
        }
    }

    /// A turn for each log; whether something was sent.
    async fn round(&self) -> Result<bool, Failure> {
        let (mut is_moving, mut refused) = (false, None);
        for (scope, stream) in self.records.log_streams_to_forward(STREAMS_MAX).await? {
            match self.turn(&scope, &stream).await {
                Ok(moved) => is_moving |= moved,
                // Others need not wait for what is wrong with this one.
                Err(failure @ Failure::Refused(_)) => refused = Some(failure),
                Err(failure) => return Err(failure),
            }
        }
        refused.map_or(Ok(is_moving), Err)
    }

    async fn turn(&self, scope: &Scope, stream: &LogStream) -> Result<bool, Failure> {
        let begin =
            stream.forwarding.as_deref().and_then(|text| text.parse().ok()).unwrap_or(Position::START);
        let mut at = begin;
        let went = self.send_some(scope, stream, &mut at).await;
        let until = match &went {
            Ok(true) => None,
            _ if at == begin => return went.map(|_| false),
            _ => Some(at.to_string()),
        };
        self.records.forwarded_log_stream(scope, stream, until).await?;
        went.map(|_| at != begin)
    }

    /// Whether that was all of it. `at` is moved behind what was sent, also where something went wrong later.
    async fn send_some(&self, scope: &Scope, stream: &LogStream, at: &mut Position) -> Result<bool, Failure> {
        for _ in 0..TURN {
            let Some(batch) = self.read(stream, *at).await? else { return Ok(true) };
            if batch.events.is_empty() {
                return Ok(batch.is_last);
            }
            let refused = match &self.sink {
                Sink::CloudWatch(sink) => sink.send(stream, &batch.events).await?,
                Sink::OpenTelemetry(sink) => sink.send(scope, stream, &batch.events).await?,
            };
            let refused = refused.min(batch.events.len() as u64);
            self.counts.forwarded.fetch_add(batch.events.len() as u64 - refused, Ordering::Relaxed);
            self.counts.refused.fetch_add(refused, Ordering::Relaxed);
            if refused > 0 {
                tracing::warn!(
                    group = stream.group,
                    stream = stream.name,
                    refused,
                    "log events were refused"
                );
            }
            *at = batch.next;
        }
        Ok(false)
    }

    /// `None` if nothing more of this log can be had.
    async fn read(&self, stream: &LogStream, at: Position) -> Result<Option<Batch>, Failure> {
        let path = self.logs.join(&stream.segment);
        let reading = tokio::task::spawn_blocking(move || {
            let mut reader = SegmentReader::open(&path)?;
            // First: what was there before the seal is then all there is.
            let is_last = reader.sealed()?;
            let (events, next) = reader.forward(at, EVENTS_MAX, BATCH_BYTES)?;
            Ok(Batch { events, next, is_last })
        });
        let read = reading.await.map_err(|e| Failure::Unavailable(e.to_string()))?;
        match read {
            Ok(batch) => Ok(Some(batch)),
            // Its agent is still to come; or retention has removed it, or somebody.
            Err(store::Error::NotFound { .. }) => {
                let is_lost = self.clock.now_ms() - stream.created_ms > MISSING_MS;
                Ok((!is_lost).then_some(Batch { events: Vec::new(), next: at, is_last: false }))
            }
            Err(error @ store::Error::Damaged { .. }) => {
                tracing::error!(%error, group = stream.group, stream = stream.name, "the rest of a log is not forwarded");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn pause(failures: u32) -> Duration {
    (REST * 2_u32.pow(failures.saturating_sub(1).min(10))).min(PAUSE_MAX)
}

/// What an event says, as text; the same that GetLogEvents shows.
fn message(event: &LogEvent) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(&event.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_minute() {
        let seconds: Vec<u64> = [1, 2, 3, 7, 1000].map(|failures| pause(failures).as_secs()).into();
        assert_eq!(seconds, [1, 2, 4, 60, 60]);
    }
}

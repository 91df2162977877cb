//! StartLiveTail: events as they are written, over one answer that does not end.
//!
//! A session is a task that sleeps until [`Wakes`](super::Wakes) says that a stream grew, reads what is new and
//! sends it on. It reads no faster than its client takes the events; whoever writes them never waits for it.

use std::collections::HashMap;
use std::time::Duration;

use api::ServiceError;
use api::event_stream;
use api::logs::*;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::Response;
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use store::logs::{LogEvent, Position, SegmentReader};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::pattern::Pattern;
use super::wakes::{Grown, Listener};
use super::{Call, blocking, error, message, no_such_group, open};
use crate::http::Answer;

/// COMPAT: CloudWatch Logs a session ends after three hours.
const SESSION_MAX: Duration = Duration::from_secs(3 * 3_600);
/// COMPAT: CloudWatch Logs an update comes every second, if only an empty one; it shows that the client is there.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Events of one update.
const UPDATE_EVENTS: usize = 500;
const UPDATE_BYTES: usize = 256 * 1024;
/// Updates that may wait for a slow client before reading pauses.
const UPDATES_WAITING: usize = 4;

/// A running session.
struct Session {
    call: Call,
    listener: Listener,
    filter: Filter,
    started_ms: i64,
    /// Where each stream, by group and name, was read up to.
    places: HashMap<(String, String), Position>,
    client: mpsc::Sender<Bytes>,
}

/// Which events a session is about.
struct Filter {
    names: Vec<String>,
    prefixes: Vec<String>,
    pattern: Pattern,
}

/// Why a session is over.
enum End {
    /// Nobody is left to be told.
    Gone,
    /// It went on for as long as it may.
    TimedOut,
    Failed(ServiceError),
}

/// Starts a session and gives its answer, whose body goes on until the client leaves or `closing` turns true.
pub(super) async fn start(
    call: Call,
    request: StartLiveTailRequest,
    closing: watch::Receiver<bool>,
) -> Result<Answer, ServiceError> {
    let groups = groups(&call, request.log_group_identifiers.as_deref().unwrap_or_default()).await?;
    let filter = Filter::of(&request, groups.len())?;
    // Before the client hears that the session started, so that nothing written from then on is missed.
    let listener = call.logs.wakes.listen(&call.scope.account, &groups);
    let (client, updates) = mpsc::channel(UPDATES_WAITING);
    let started_ms = call.now_ms();
    let session = Session { call, listener, filter, started_ms, places: HashMap::new(), client };
    tokio::spawn(session.run(session_start(request), closing));
    Ok(endless(updates))
}

async fn groups(call: &Call, identifiers: &[String]) -> Result<Vec<String>, ServiceError> {
    let mut groups = Vec::with_capacity(identifiers.len());
    for identifier in identifiers {
        // COMPAT: CloudWatch Logs wants ARNs without `:*` here; names are taken too.
        if identifier.ends_with(":*") {
            return Err(no_such_group());
        }
        groups.push(call.group(&call.group_name(identifier)?).await?.name);
    }
    groups.sort();
    groups.dedup();
    Ok(groups)
}

impl Filter {
    fn of(request: &StartLiveTailRequest, groups: usize) -> Result<Filter, ServiceError> {
        let names = request.log_stream_names.clone().unwrap_or_default();
        let prefixes = request.log_stream_name_prefixes.clone().unwrap_or_default();
        if !names.is_empty() && !prefixes.is_empty() {
            return Err(ServiceError::invalid_parameter(
                "logStreamNames and logStreamNamePrefixes are mutually exclusive.",
            ));
        }
        if groups > 1 && !(names.is_empty() && prefixes.is_empty()) {
            return Err(ServiceError::invalid_parameter(
                "Log streams can only be chosen when a single log group is given.",
            ));
        }
        let pattern = Pattern::parse(request.log_event_filter_pattern.as_deref().unwrap_or_default())?;
        Ok(Filter { names, prefixes, pattern })
    }

    fn wants(&self, stream: &str) -> bool {
        let everything = self.names.is_empty() && self.prefixes.is_empty();
        everything
            || self.names.iter().any(|name| name == stream)
            || self.prefixes.iter().any(|prefix| stream.starts_with(prefix))
    }
}

fn session_start(request: StartLiveTailRequest) -> LiveTailSessionStart {
    LiveTailSessionStart {
        request_id: Some(uuid::Uuid::new_v4().to_string()),
        session_id: Some(uuid::Uuid::new_v4().to_string()),
        log_group_identifiers: request.log_group_identifiers,
        log_stream_names: request.log_stream_names,
        log_stream_name_prefixes: request.log_stream_name_prefixes,
        log_event_filter_pattern: request.log_event_filter_pattern,
    }
}

fn endless(updates: mpsc::Receiver<Bytes>) -> Answer {
    let frames = stream::unfold(updates, |mut updates| async {
        let bytes = updates.recv().await?;
        Some((Ok(Frame::data(bytes)), updates))
    });
    let mut answer = Response::new(StreamBody::new(frames).boxed_unsync());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(event_stream::CONTENT_TYPE));
    answer
}

impl Session {
    async fn run(mut self, start: LiveTailSessionStart, mut closing: watch::Receiver<bool>) {
        let client = self.client.clone();
        let end = tokio::select! {
            end = self.tell(start) => end,
            _ = closing.wait_for(|closing| *closing) => End::Gone,
            () = client.closed() => End::Gone,
        };
        let last = match end {
            End::Gone => return,
            End::TimedOut => StartLiveTailResponseStream::SessionTimeoutException(SessionTimeoutException {
                message: Some("Your Live Tail session has timed out.".to_owned()),
            }),
            End::Failed(error) => {
                StartLiveTailResponseStream::SessionStreamingException(SessionStreamingException {
                    message: Some(error.message),
                })
            }
        };
        // A client that is gone by now needs no farewell.
        let _ = client.send(last.to_bytes().into()).await;
    }

    /// Sends updates until there is a reason not to.
    async fn tell(&mut self, start: LiveTailSessionStart) -> End {
        if let Err(end) = self.greet(start).await {
            return end;
        }
        let deadline = Instant::now() + SESSION_MAX;
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let told = tokio::select! {
                grown = self.listener.grown() => self.catch_up(grown).await,
                _ = heartbeat.tick() => self.update(Vec::new()).await,
                () = sleep_until(deadline) => Err(End::TimedOut),
            };
            if let Err(end) = told {
                return end;
            }
        }
    }

    async fn greet(&self, start: LiveTailSessionStart) -> Result<(), End> {
        self.send(event_stream::initial_response()).await?;
        self.send(StartLiveTailResponseStream::SessionStart(start).to_bytes()).await
    }

    async fn catch_up(&mut self, grown: Grown) -> Result<(), End> {
        for ((group, name), from) in grown {
            if self.filter.wants(&name) {
                self.follow(group, name, from).await?;
            }
        }
        Ok(())
    }

    /// Sends what is new in one stream.
    async fn follow(&mut self, group: String, name: String, from: Option<Position>) -> Result<(), End> {
        let found = self.call.logs.records.get_log_stream(&self.call.scope, &group, &name).await;
        // Deleted between the ring and now.
        let Some(stream) = found.map_err(|failed| End::Failed(error(failed)))? else { return Ok(()) };
        let segment = self.call.segment(&stream);
        let key = (group, name);
        let begun = (stream.created_ms >= self.started_ms).then_some(Position::START);
        let mut place = self.places.get(&key).copied().or(begun).or(from);
        loop {
            let (segment, started_ms) = (segment.clone(), self.started_ms);
            let read = move || read(&segment, place, started_ms);
            let Some((events, next)) = blocking(read).await.map_err(End::Failed)? else { return Ok(()) };
            place = Some(next);
            self.places.insert(key.clone(), next);
            if events.is_empty() {
                return Ok(());
            }
            self.update(self.results(&key, events)).await?;
        }
    }

    fn results(
        &self,
        (group, name): &(String, String),
        events: Vec<LogEvent>,
    ) -> Vec<LiveTailSessionLogEvent> {
        let matching = events.into_iter().filter(|event| self.filter.pattern.matches(&event.bytes));
        // COMPAT: CloudWatch Logs names the group as `<account>:<group>` here.
        let identifier = format!("{}:{group}", self.call.scope.account);
        let result = |event: LogEvent| LiveTailSessionLogEvent {
            log_stream_name: Some(name.clone()),
            log_group_identifier: Some(identifier.clone()),
            timestamp: Some(event.time_ms),
            ingestion_time: Some(event.time_ms),
            message: Some(message(event)),
        };
        matching.map(result).collect()
    }

    async fn update(&self, results: Vec<LiveTailSessionLogEvent>) -> Result<(), End> {
        let update = LiveTailSessionUpdate {
            session_metadata: Some(LiveTailSessionMetadata { sampled: Some(false) }),
            session_results: Some(results),
        };
        self.send(StartLiveTailResponseStream::SessionUpdate(update).to_bytes()).await
    }

    async fn send(&self, bytes: Vec<u8>) -> Result<(), End> {
        self.client.send(bytes.into()).await.map_err(|_| End::Gone)
    }
}

/// Events from `place` on and where to go on; `None` while there is no segment. Without a place, from where the
/// session started.
fn read(
    segment: &std::path::Path,
    place: Option<Position>,
    started_ms: i64,
) -> Result<Option<(Vec<LogEvent>, Position)>, ServiceError> {
    let Some(mut reader) = open(segment)? else { return Ok(None) };
    let from = match place {
        Some(place) => place,
        None => place_at(&mut reader, started_ms).map_err(error)?,
    };
    reader.forward(from, UPDATE_EVENTS, UPDATE_BYTES).map(Some).map_err(error)
}

/// The first of the last events that are not older than `time_ms`.
fn place_at(reader: &mut SegmentReader, time_ms: i64) -> store::Result<Position> {
    let mut place = reader.end()?;
    loop {
        let (events, before) = reader.backward(place, UPDATE_EVENTS, UPDATE_BYTES)?;
        let Some(older) = events.iter().rposition(|event| event.time_ms < time_ms) else {
            if events.is_empty() {
                return Ok(place);
            }
            place = before;
            continue;
        };
        return Ok(events.get(older + 1).map_or(place, |event| event.position));
    }
}

#[cfg(test)]
mod tests {
    use store::logs::{FrameKind, SegmentWriter};

    use super::*;

    #[test]
    fn a_session_begins_with_the_events_of_its_own_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let mut writer = SegmentWriter::create(&path).unwrap();
        for time in 0..2_000 {
            writer.write(time, FrameKind::Event, format!("e{time}").as_bytes()).unwrap();
        }
        for (started, first) in [(0, Some("e0")), (700, Some("e700")), (1_999, Some("e1999")), (2_000, None)]
        {
            let (events, _) = read(&path, None, started).unwrap().unwrap();
            let bytes = events.first().map(|event| String::from_utf8(event.bytes.clone()).unwrap());
            assert_eq!(bytes.as_deref(), first, "{started}");
        }
    }
}

//! FilterLogEvents: the streams of a group as one log, in the order of time.
//!
//! Streams are merged by each stream's latest time so far, which never falls even where clients wrote out of
//! order; ties go by name. That order is total and the same on every call, so a token is a place in it. A stream
//! is opened when the merge reaches the time it began, and its file is closed between two reads: a group may
//! have thousands.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use api::ServiceError;
use api::logs::{FilterLogEventsRequest, FilterLogEventsResponse, FilteredLogEvent};
use store::logs::{LogEvent, Position};
use store::records::{LogStream, Order, StreamOrder};

use super::pattern::Pattern;
use super::{Call, EVENTS_MAX, PAGE_MAX_BYTES, blocking, error, invalid_token, limit, message, open};

/// Streams searched by one call: the ones that grew last.
const STREAMS_MAX: usize = 10_000;
/// Bytes looked at by one call, matching or not, before it answers with what it has.
const SEARCH_MAX_BYTES: usize = 64 * 1024 * 1024;
/// Events read from one stream at a time.
const READ_EVENTS: usize = 1_000;
const READ_BYTES: usize = 256 * 1024;
/// Records read at a time.
const RECORDS_PAGE: usize = 1_000;

/// The event that a page ended with: latest time in its stream, stream, place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    time_ms: i64,
    position: Position,
    stream: String,
}

impl Token {
    fn parse(text: &str) -> Option<Token> {
        let (time, rest) = text.split_once('/')?;
        let (position, stream) = rest.split_once('/')?;
        Some(Token {
            time_ms: time.parse().ok()?,
            position: position.parse().ok()?,
            stream: stream.to_owned(),
        })
    }

    fn to_text(&self) -> String {
        format!("{}/{}/{}", self.time_ms, self.position, self.stream)
    }
}

impl Call {
    pub(super) async fn filter_log_events(
        &self,
        request: FilterLogEventsRequest,
    ) -> Result<FilterLogEventsResponse, ServiceError> {
        let group = self.named_group(request.log_group_name, request.log_group_identifier)?;
        let pattern = Pattern::parse(request.filter_pattern.as_deref().unwrap_or_default())?;
        let parse = |text: &String| Token::parse(text).ok_or_else(invalid_token);
        let token = request.next_token.as_ref().map(parse).transpose()?;
        if request.start_from_head == Some(false) {
            return Err(ServiceError::invalid_parameter("startFromHead can only be true here."));
        }
        let limit = limit(request.limit, EVENTS_MAX);
        let times = self.shown_times(&group, request.start_time, request.end_time).await?;
        let streams = match (request.log_stream_names, request.log_stream_name_prefix) {
            (Some(_), Some(_)) => {
                return Err(ServiceError::invalid_parameter(
                    "logStreamNamePrefix and logStreamNames are mutually exclusive.",
                ));
            }
            (Some(names), None) => self.named_streams(&group, names).await?,
            (None, prefix) => self.streams(&group, prefix).await?,
        };
        let sources = streams.into_iter().map(|stream| Source::new(self.segment(&stream), stream)).collect();
        let found = blocking(move || Search::new(sources, times, token).page(&pattern, limit)).await?;
        Ok(FilterLogEventsResponse {
            events: Some(found.events),
            searched_log_streams: Some(Vec::new()),
            next_token: found.next.map(|token| token.to_text()),
        })
    }

    async fn named_streams(
        &self,
        group: &str,
        mut names: Vec<String>,
    ) -> Result<Vec<LogStream>, ServiceError> {
        names.sort();
        names.dedup();
        let mut streams = Vec::with_capacity(names.len());
        for name in names {
            streams.push(self.stream(group, &name).await?);
        }
        Ok(streams)
    }

    async fn streams(&self, group: &str, prefix: Option<String>) -> Result<Vec<LogStream>, ServiceError> {
        let order = match prefix {
            Some(_) => (StreamOrder::LogStreamName, Order::Ascending),
            None => (StreamOrder::LastEventTime, Order::Descending),
        };
        let prefix = prefix.unwrap_or_default();
        let (mut streams, mut next) = (Vec::new(), None::<String>);
        loop {
            let at = (group, prefix.as_str());
            let page = self
                .logs
                .records
                .list_log_streams(&self.scope, at, order, next.as_deref(), RECORDS_PAGE)
                .await
                .map_err(error)?;
            streams.extend(page.items);
            next = page.next;
            if next.is_none() || streams.len() >= STREAMS_MAX {
                streams.truncate(STREAMS_MAX);
                return Ok(streams);
            }
        }
    }
}

/// A stream that is being searched.
#[derive(Debug)]
struct Source {
    name: String,
    segment: PathBuf,
    /// No event is older.
    begins_ms: i64,
    /// No event is newer, as far as the records know.
    ends_ms: i64,
    /// Where the next read goes on.
    position: Position,
    /// Latest time of the events taken so far.
    latest_ms: i64,
    read: VecDeque<LogEvent>,
}

impl Source {
    fn new(segment: PathBuf, stream: LogStream) -> Source {
        Source {
            name: stream.name,
            segment,
            begins_ms: stream.first_event_ms.map_or(stream.created_ms, |first| first.min(stream.created_ms)),
            ends_ms: stream.last_event_ms.unwrap_or(i64::MIN),
            position: Position::START,
            latest_ms: i64::MIN,
            read: VecDeque::new(),
        }
    }

    /// Whether there can be events in `times`. Records lag behind running builds, files do not.
    fn may_have(&self, times: &Range<i64>) -> bool {
        self.begins_ms < times.end
            && (self.ends_ms >= times.start || modified_ms(&self.segment) >= times.start)
    }

    /// The time that places the next event in the merge; `None` at the end of the stream.
    fn next_ms(&mut self, times: &Range<i64>) -> Result<Option<i64>, ServiceError> {
        if self.read.is_empty() {
            self.fill(times)?;
        }
        Ok(self.read.front().map(|event| event.time_ms.max(self.latest_ms)))
    }

    fn take(&mut self) -> Option<LogEvent> {
        let event = self.read.pop_front()?;
        self.latest_ms = self.latest_ms.max(event.time_ms);
        Some(event)
    }

    fn fill(&mut self, times: &Range<i64>) -> Result<(), ServiceError> {
        let Some(mut reader) = open(&self.segment)? else { return Ok(()) };
        let (events, next) =
            reader.forward_within(self.position, times.clone(), READ_EVENTS, READ_BYTES).map_err(error)?;
        self.position = next;
        self.read = events.into();
        Ok(())
    }

    /// Goes to just behind the token's place in the merge.
    fn resume(&mut self, token: &Token, times: &Range<i64>) -> Result<(), ServiceError> {
        if self.name == token.stream {
            self.position = token.position;
            self.latest_ms = token.time_ms;
            self.fill(times)?;
            self.take();
            return Ok(());
        }
        // Ties go by name: of the streams before it, events of the token's own time have been given.
        let from = if self.name < token.stream { token.time_ms.saturating_add(1) } else { token.time_ms };
        while self.next_ms(times)?.is_some_and(|time| time < from) {
            self.take();
        }
        Ok(())
    }
}

fn modified_ms(path: &Path) -> i64 {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    let since = modified.and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(i64::MIN)
}

/// The merge.
struct Search {
    times: Range<i64>,
    token: Option<Token>,
    /// Streams that the merge has not reached, the latest to begin first.
    waiting: Vec<Source>,
    sources: Vec<Source>,
    /// Next events: time, stream, index into `sources`.
    heads: BinaryHeap<Reverse<(i64, String, usize)>>,
}

/// A page of matches.
#[derive(Debug)]
struct Found {
    events: Vec<FilteredLogEvent>,
    next: Option<Token>,
}

impl Search {
    fn new(mut sources: Vec<Source>, times: Range<i64>, token: Option<Token>) -> Search {
        sources.retain(|source| source.may_have(&times));
        sources.sort_by_key(|source| Reverse(source.begins_ms));
        Search { times, token, waiting: sources, sources: Vec::new(), heads: BinaryHeap::new() }
    }

    fn page(mut self, pattern: &Pattern, limit: usize) -> Result<Found, ServiceError> {
        let (mut events, mut bytes, mut searched) = (Vec::new(), 0, 0);
        while let Some((time_ms, name, event)) = self.next()? {
            searched += event.bytes.len();
            let token = Token { time_ms, position: event.position, stream: name.clone() };
            if pattern.matches(&event.bytes) {
                bytes += event.bytes.len();
                events.push(filtered(name, event));
            }
            if events.len() >= limit || bytes >= PAGE_MAX_BYTES || searched >= SEARCH_MAX_BYTES {
                let next = self.peek()?.then_some(token);
                return Ok(Found { events, next });
            }
        }
        Ok(Found { events, next: None })
    }

    fn next(&mut self) -> Result<Option<(i64, String, LogEvent)>, ServiceError> {
        if !self.peek()? {
            return Ok(None);
        }
        let Some(Reverse((time, name, index))) = self.heads.pop() else { return Ok(None) };
        let event = self.sources[index].take();
        self.push_head(index)?;
        Ok(event.map(|event| (time, name, event)))
    }

    /// Brings every stream that may hold the next event into the merge; false at the end of all of them.
    fn peek(&mut self) -> Result<bool, ServiceError> {
        loop {
            let next = self.heads.peek().map(|Reverse((time, ..))| *time);
            let begun = |source: &Source| next.is_none_or(|next| source.begins_ms <= next);
            if !self.waiting.last().is_some_and(begun) {
                return Ok(next.is_some());
            }
            if let Some(mut source) = self.waiting.pop() {
                if let Some(token) = &self.token {
                    source.resume(token, &self.times)?;
                }
                self.sources.push(source);
                self.push_head(self.sources.len() - 1)?;
            }
        }
    }

    fn push_head(&mut self, index: usize) -> Result<(), ServiceError> {
        let source = &mut self.sources[index];
        if let Some(time) = source.next_ms(&self.times)? {
            self.heads.push(Reverse((time, source.name.clone(), index)));
        }
        Ok(())
    }
}

fn filtered(stream: String, event: LogEvent) -> FilteredLogEvent {
    FilteredLogEvent {
        event_id: Some(event_id(&stream, &event)),
        log_stream_name: Some(stream),
        timestamp: Some(event.time_ms),
        ingestion_time: Some(event.time_ms),
        message: Some(message(event)),
    }
}

/// 56 digits, the same for the same event always: `aws logs tail` knows by them what it has shown.
fn event_id(stream: &str, event: &LogEvent) -> String {
    let position = event.position.to_string();
    let (frame, byte) = position.split_once('.').unwrap_or((&position, "0"));
    let number = |hex: &str| u64::from_str_radix(hex, 16).unwrap_or_default();
    format!("{:014}{:020}{:017}{:05}", event.time_ms.max(0), fnv1a(stream), number(frame), number(byte))
}

fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use store::logs::{FrameKind, SegmentWriter};

    use super::*;

    fn source(folder: &Path, name: &str, events: &[(i64, &str)]) -> Source {
        let segment = folder.join(name);
        let mut writer = SegmentWriter::create(&segment).unwrap();
        for (time, text) in events {
            writer.write(*time, FrameKind::Event, text.as_bytes()).unwrap();
        }
        let first = events.iter().map(|(time, _)| *time).min();
        let stream = LogStream {
            group: "g".into(),
            name: name.into(),
            created_ms: first.unwrap_or(0),
            segment: String::new(),
            first_event_ms: first,
            last_event_ms: events.iter().map(|(time, _)| *time).max(),
            stored_bytes: 0,
            forwarding: None,
        };
        Source::new(segment, stream)
    }

    fn all(sources: impl Fn() -> Vec<Source>, times: Range<i64>, pattern: &str, limit: usize) -> Vec<String> {
        let pattern = Pattern::parse(pattern).unwrap();
        let (mut messages, mut token) = (Vec::new(), None);
        loop {
            let found = Search::new(sources(), times.clone(), token).page(&pattern, limit).unwrap();
            messages.extend(found.events.into_iter().filter_map(|event| event.message));
            // Through text and back, as a client does it.
            token = found.next.map(|token| Token::parse(&token.to_text()).unwrap());
            if token.is_none() {
                return messages;
            }
        }
    }

    #[test]
    fn streams_are_merged_by_time_whatever_the_page_size() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, events: &[(i64, &str)]| drop(source(folder.path(), name, events));
        write("a", &[(1, "a1"), (5, "a5"), (3, "a3 late"), (9, "a9")]);
        write("b", &[(2, "b2"), (5, "b5"), (5, "b5 again"), (6, "b6")]);
        write("c", &[(8, "c8")]);
        let known = |name: &str, begins: i64, ends: i64| Source {
            name: name.into(),
            segment: folder.path().join(name),
            begins_ms: begins,
            ends_ms: ends,
            position: Position::START,
            latest_ms: i64::MIN,
            read: VecDeque::new(),
        };
        let sources =
            || vec![known("a", 1, 9), known("b", 2, 6), known("c", 8, 8), known("never written", 0, 0)];
        let expect = ["a1", "b2", "a5", "a3 late", "b5", "b5 again", "b6", "c8", "a9"];
        for limit in 1..=expect.len() + 1 {
            assert_eq!(all(sources, i64::MIN..i64::MAX, "", limit), expect, "pages of {limit}");
        }
        assert_eq!(all(sources, 5..9, "", 2), ["a5", "b5", "b5 again", "b6", "c8"]);
        assert_eq!(all(sources, i64::MIN..i64::MAX, "again", 1), ["b5 again"]);
        assert_eq!(all(sources, i64::MIN..i64::MAX, "nothing", 1), [""; 0]);
    }

    #[test]
    fn event_ids_are_unique_and_have_56_digits() {
        let folder = tempfile::tempdir().unwrap();
        let mut one = source(folder.path(), "one", &[(7, "x"), (7, "x")]);
        one.fill(&(0..100)).unwrap();
        let ids: Vec<String> = one.read.iter().map(|event| event_id("one", event)).collect();
        assert!(ids.iter().all(|id| id.len() == 56 && id.bytes().all(|byte| byte.is_ascii_digit())));
        assert_ne!(ids[0], ids[1]);
        assert_ne!(event_id("two", &one.read[0]), ids[0]);
    }

    #[test]
    fn only_our_own_tokens_are_read() {
        for text in ["", "1", "1/10.0", "x/10.0/s", "1/zz/s"] {
            assert_eq!(Token::parse(text), None, "{text}");
        }
        let token = Token { time_ms: 5, position: Position::START, stream: "a/b".into() };
        assert_eq!(Token::parse(&token.to_text()), Some(token));
    }
}

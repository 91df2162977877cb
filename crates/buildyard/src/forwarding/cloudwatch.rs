//! Logs to CloudWatch Logs, or to what speaks like it: in groups and streams of the same names, which are made where they are missing.

use aws::{Client, LOGS};
use serde_json::{Value, json};
use store::logs::LogEvent;
use store::records::LogStream;

use super::{Failure, Sent, message};

/// PutLogEvents takes no events further apart.
const SPAN_MS: i64 = 24 * 60 * 60 * 1000;

#[derive(Debug)]
pub(crate) struct CloudWatch {
    pub(crate) client: Client,
}

impl CloudWatch {
    pub(super) async fn send(&self, stream: &LogStream, events: &[LogEvent]) -> Sent {
        let mut refused = 0;
        for events in spans(events) {
            refused += self.put(stream, events).await?;
        }
        Ok(refused)
    }

    async fn put(&self, stream: &LogStream, events: &[LogEvent]) -> Sent {
        // An event without text would have all others refused.
        let events: Vec<Value> = events
            .iter()
            .filter(|event| !event.bytes.is_empty())
            .map(|event| json!({ "timestamp": event.time_ms, "message": message(event) }))
            .collect();
        let count = events.len();
        let input =
            json!({ "logGroupName": stream.group, "logStreamName": stream.name, "logEvents": events });
        let mut answer = self.client.call(&LOGS, "PutLogEvents", &input).await;
        if answer.as_ref().is_err_and(|error| error.is("ResourceNotFoundException")) {
            self.make(stream).await?;
            answer = self.client.call(&LOGS, "PutLogEvents", &input).await;
        }
        match answer {
            Ok(answer) => Ok(rejected(&answer["rejectedLogEventsInfo"], count)),
            Err(error) if error.is("InvalidParameterException") => {
                tracing::warn!(%error, group = stream.group, stream = stream.name, "log events are refused");
                Ok(count as u64)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn make(&self, stream: &LogStream) -> Result<(), Failure> {
        let LogStream { group, name, .. } = stream;
        for (operation, input) in [
            ("CreateLogGroup", json!({ "logGroupName": group })),
            ("CreateLogStream", json!({ "logGroupName": group, "logStreamName": name })),
        ] {
            match self.client.call(&LOGS, operation, &input).await {
                Err(error) if !error.is("ResourceAlreadyExistsException") => return Err(error.into()),
                _ => {}
            }
        }
        Ok(())
    }
}

impl From<aws::Error> for Failure {
    fn from(error: aws::Error) -> Failure {
        match error {
            aws::Error::Unreachable { .. } | aws::Error::Answer { .. } => {
                Failure::Unavailable(error.to_string())
            }
            _ => Failure::Refused(error.to_string()),
        }
    }
}

/// The same events, in pieces that one call takes.
fn spans(mut events: &[LogEvent]) -> impl Iterator<Item = &[LogEvent]> {
    std::iter::from_fn(move || {
        let first = events.first()?.time_ms;
        let length = events.iter().take_while(|event| event.time_ms - first < SPAN_MS).count().max(1);
        let (span, rest) = events.split_at(length);
        events = rest;
        Some(span)
    })
}

/// How many of `count` events were too old or too new.
fn rejected(info: &Value, count: usize) -> u64 {
    let index = |name: &str| info[name].as_u64();
    let old = index("tooOldLogEventEndIndex").max(index("expiredLogEventEndIndex")).unwrap_or(0);
    let new = index("tooNewLogEventStartIndex").map_or(0, |start| (count as u64).saturating_sub(start));
    (old + new).min(count as u64)
}

#[cfg(test)]
mod tests {
    use store::logs::Position;

    use super::*;

    #[test]
    fn no_call_holds_events_of_more_than_a_day() {
        let event = |hours: i64| LogEvent {
            time_ms: hours * 3_600_000,
            position: Position::START,
            bytes: b"x".to_vec(),
        };
        let events: Vec<LogEvent> = [0, 1, 23, 24, 30, 100].map(event).into();
        let lengths: Vec<usize> = spans(&events).map(<[_]>::len).collect();
        assert_eq!(lengths, [3, 2, 1]);
        assert_eq!(spans(&[]).count(), 0);
    }

    #[test]
    fn what_was_rejected_is_counted() {
        for (info, expect) in [
            (Value::Null, 0),
            (json!({ "tooOldLogEventEndIndex": 3 }), 3),
            (json!({ "tooOldLogEventEndIndex": 3, "expiredLogEventEndIndex": 5 }), 5),
            (json!({ "tooNewLogEventStartIndex": 8 }), 2),
            (json!({ "tooNewLogEventStartIndex": 0, "expiredLogEventEndIndex": 5 }), 10),
        ] {
            assert_eq!(rejected(&info, 10), expect, "{info}");
        }
    }
}

//! PutLogEvents: events that clients write.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use api::ServiceError;
use api::logs::{InputLogEvent, PutLogEventsRequest, PutLogEventsResponse, RejectedLogEventsInfo};
use store::logs::{Position, SegmentReader, SegmentWriter};

use super::retention::kept_since;
use super::{Call, blocking, error, required};

/// COMPAT: CloudWatch Logs a batch's size is its text plus this much for each event.
const EVENT_OVERHEAD_BYTES: usize = 26;
const BATCH_MAX_BYTES: usize = 1_048_576;
const BATCH_SPAN_MS: i64 = 24 * HOUR_MS;
const TOO_NEW_MS: i64 = 2 * HOUR_MS;
const TOO_OLD_MS: i64 = 14 * 24 * HOUR_MS;
pub(super) const HOUR_MS: i64 = 3_600_000;
/// Segments kept open for writing.
const WRITERS_MAX: usize = 64;

/// Segments being written, kept open: opening one for appending reads all of it.
#[derive(Debug, Default)]
pub(super) struct Writers {
    open: Mutex<HashMap<PathBuf, Arc<Mutex<Option<SegmentWriter>>>>>,
}

/// What a write did.
struct Written {
    from: Position,
    stored_bytes: u64,
}

impl Writers {
    /// Closes a segment, for good if it is to be deleted.
    pub(super) fn forget(&self, path: &Path) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(path);
    }

    /// Removes a segment that has no event younger than this; false if it has one. Nobody writes to it meanwhile.
    pub(super) fn remove_if_last_is(&self, path: &Path, last_ms: i64) -> store::Result<bool> {
        let slot = self.slot(path);
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let mut reader = match SegmentReader::open(path) {
            Err(store::Error::NotFound { .. }) => return Ok(true),
            opened => opened?,
        };
        let end = reader.end()?;
        let (last, _) = reader.backward(end, 1, 1)?;
        if last.first().is_some_and(|event| event.time_ms > last_ms) {
            return Ok(false);
        }
        *slot = None;
        store::logs::remove(path).map(|()| true)
    }

    fn slot(&self, path: &Path) -> Arc<Mutex<Option<SegmentWriter>>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= WRITERS_MAX && !open.contains_key(path) {
            // Whoever holds a clone is writing; any of the others may go.
            let idle =
                open.iter().find(|(_, slot)| Arc::strong_count(slot) == 1).map(|(path, _)| path.clone());
            idle.map(|path| open.remove(&path));
        }
        open.entry(path.to_owned()).or_default().clone()
    }

    /// Appends events to a segment, creating it with the first: all of them are on the disk then, or none.
    fn write(&self, path: &Path, events: &[InputLogEvent]) -> store::Result<Written> {
        let slot = self.slot(path);
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = match &mut *slot {
            Some(writer) => writer,
            closed => closed.insert(open(path)?),
        };
        let from = SegmentReader::open(path)?.end()?;
        writer.write_durably(events.iter().map(|event| {
            let text = event.message.as_deref().unwrap_or_default();
            (event.timestamp.unwrap_or_default(), text.as_bytes())
        }))?;
        Ok(Written { from, stored_bytes: writer.total().payload_bytes })
    }
}

fn open(path: &Path) -> store::Result<SegmentWriter> {
    match SegmentWriter::append(path) {
        Err(store::Error::NotFound { .. }) => {
            // A failure shows in the creation, with its cause.
            path.parent().map(std::fs::create_dir_all);
            SegmentWriter::create(path)
        }
        opened => opened,
    }
}

impl Call {
    pub(super) async fn put_log_events(
        &self,
        request: PutLogEventsRequest,
    ) -> Result<PutLogEventsResponse, ServiceError> {
        let group = required(request.log_group_name)?;
        let name = required(request.log_stream_name)?;
        let events = request.log_events.unwrap_or_default();
        check_batch(&events)?;
        let stream = self.stream(&group, &name).await?;
        let retention_days = self.group(&group).await?.retention_days;
        let (accepted, rejected) = accept(events, self.now_ms(), retention_days);
        let token = match (accepted.first(), accepted.last()) {
            (Some(first), Some(last)) => {
                let (first, last) = (first.timestamp.unwrap_or_default(), last.timestamp.unwrap_or_default());
                let (call, path) = (self.clone(), self.segment(&stream));
                let written =
                    blocking(move || call.logs.writers.write(&path, &accepted).map_err(error)).await?;
                let times = (
                    Some(stream.first_event_ms.map_or(first, |known| known.min(first))),
                    Some(stream.last_event_ms.map_or(last, |known| known.max(last))),
                );
                let records = &self.logs.records;
                let at = (group.as_str(), name.as_str());
                records
                    .update_log_stream(&self.scope, at, times, written.stored_bytes)
                    .await
                    .map_err(error)?;
                self.logs.wakes.ring_from(&self.scope.account, &group, &name, Some(written.from));
                written.stored_bytes
            }
            _ => stream.stored_bytes,
        };
        // COMPAT: CloudWatch Logs still gives a sequence token, and ignores the one it gets.
        let next_sequence_token = Some(format!("{token:056}"));
        Ok(PutLogEventsResponse {
            next_sequence_token,
            rejected_log_events_info: rejected,
            ..Default::default()
        })
    }
}

fn check_batch(events: &[InputLogEvent]) -> Result<(), ServiceError> {
    let size = |event: &InputLogEvent| event.message.as_ref().map_or(0, String::len) + EVENT_OVERHEAD_BYTES;
    let bytes: usize = events.iter().map(size).sum();
    if bytes > BATCH_MAX_BYTES {
        return Err(ServiceError::invalid_parameter(format!(
            "Upload too large: {bytes} bytes exceeds limit of {BATCH_MAX_BYTES}"
        )));
    }
    let times: Vec<i64> = events.iter().map(|event| event.timestamp.unwrap_or_default()).collect();
    if times.iter().any(|time| *time < 0) {
        return Err(ServiceError::invalid_parameter("The timestamp of a log event must not be negative."));
    }
    if !times.is_sorted() {
        return Err(ServiceError::invalid_parameter(
            "Log events in a single PutLogEvents request must be in chronological order.",
        ));
    }
    match (times.first(), times.last()) {
        (Some(first), Some(last)) if last - first > BATCH_SPAN_MS => Err(ServiceError::invalid_parameter(
            "The batch of log events in a single PutLogEvents request cannot span more than 24 hours.",
        )),
        _ => Ok(()),
    }
}

/// Separates events that are too old or too new, by the service's rules, from those that are stored.
fn accept(
    mut events: Vec<InputLogEvent>,
    now_ms: i64,
    retention_days: Option<i64>,
) -> (Vec<InputLogEvent>, Option<RejectedLogEventsInfo>) {
    let before = |limit: i64| events.partition_point(|event| event.timestamp.unwrap_or_default() < limit);
    let old = before(now_ms - TOO_OLD_MS);
    let expired = before(kept_since(now_ms, retention_days));
    let new = before(now_ms.saturating_add(TOO_NEW_MS).saturating_add(1));
    let index = |at: usize| i32::try_from(at).ok();
    let rejected = RejectedLogEventsInfo {
        too_new_log_event_start_index: index(new).filter(|_| new < events.len()),
        too_old_log_event_end_index: index(old).filter(|_| old > 0),
        expired_log_event_end_index: index(expired).filter(|_| expired > 0),
    };
    let any = new < events.len() || old > 0 || expired > 0;
    events.truncate(new);
    events.drain(..old.max(expired).min(events.len()));
    (events, any.then_some(rejected))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(times: &[i64]) -> Vec<InputLogEvent> {
        let event = |time: &i64| InputLogEvent { timestamp: Some(*time), message: Some("m".into()) };
        times.iter().map(event).collect()
    }

    #[test]
    fn a_batch_is_in_order_within_a_day_and_a_mebibyte() {
        assert!(check_batch(&events(&[1, 1, 2])).is_ok());
        assert!(check_batch(&events(&[2, 1])).is_err());
        assert!(check_batch(&events(&[-1])).is_err());
        assert!(check_batch(&events(&[0, BATCH_SPAN_MS])).is_ok());
        assert!(check_batch(&events(&[0, BATCH_SPAN_MS + 1])).is_err());
        let large =
            vec![InputLogEvent { timestamp: Some(1), message: Some("x".repeat(BATCH_MAX_BYTES - 25)) }];
        assert!(check_batch(&large).unwrap_err().message.starts_with("Upload too large: 1048577 bytes"));
    }

    #[test]
    fn events_out_of_their_time_are_told_and_not_stored() {
        let now = 100 * 24 * HOUR_MS;
        let day = |days: i64| now - days * 24 * HOUR_MS;
        let (kept, rejected) =
            accept(events(&[day(20), day(10), day(1), now, now + TOO_NEW_MS + 1]), now, Some(5));
        assert_eq!(kept, events(&[day(1), now]));
        let rejected = rejected.unwrap();
        assert_eq!(rejected.too_old_log_event_end_index, Some(1));
        assert_eq!(rejected.expired_log_event_end_index, Some(2));
        assert_eq!(rejected.too_new_log_event_start_index, Some(4));
        assert_eq!(accept(events(&[now]), now, None), (events(&[now]), None));
    }
}

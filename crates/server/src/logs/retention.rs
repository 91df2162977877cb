//! Retention: events older than their group keeps them are not shown, and the files of streams that hold nothing else
//! are removed. The streams stay, empty.

use std::ops::Range;
use std::time::Duration;

use api::ServiceError;
use store::records::{LogStream, Scope};

use super::put::HOUR_MS;
use super::{Call, Inner, Logs, blocking, error, times};

/// How often expired events are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
/// Streams looked at together.
const STREAMS_AT_ONCE: usize = 100;

impl Call {
    /// The times that a request may see of a group, milliseconds.
    pub(super) async fn shown_times(
        &self,
        group: &str,
        start: Option<i64>,
        end: Option<i64>,
    ) -> Result<Range<i64>, ServiceError> {
        let times = times(start, end);
        let kept = kept_since(self.now_ms(), self.group(group).await?.retention_days);
        Ok(times.start.max(kept)..times.end)
    }
}

/// The oldest time that a group shows.
pub(super) fn kept_since(now_ms: i64, retention_days: Option<i64>) -> i64 {
    let kept = |days: i64| now_ms.saturating_sub(days.saturating_mul(24 * HOUR_MS));
    retention_days.map_or(i64::MIN, kept)
}

impl Logs {
    /// Removes what has expired, now and every hour; never returns.
    pub async fn keep_retention(&self) {
        loop {
            if let Err(failed) = self.remove_expired().await {
                tracing::warn!(error = %failed.message, "expired log events could not be removed; trying again in an hour");
            }
            tokio::time::sleep(SWEEP_EVERY).await;
        }
    }

    /// Removes what has expired by now; gives the number of streams that lost all they had.
    ///
    /// # Errors
    /// If the records cannot be read or a file cannot be removed. What was removed before stays so.
    pub async fn remove_expired(&self) -> Result<usize, ServiceError> {
        let mut emptied = 0;
        loop {
            let now_ms = (self.inner.clock)();
            let found =
                self.inner.records.expired_log_streams(now_ms, STREAMS_AT_ONCE).await.map_err(error)?;
            let (last_page, before) = (found.len() < STREAMS_AT_ONCE, emptied);
            for (scope, stream) in found {
                emptied += usize::from(self.inner.empty(&scope, stream).await?);
            }
            // Streams that were written to meanwhile are found again, and are not waited for.
            if last_page || emptied == before {
                return Ok(emptied);
            }
        }
    }
}

impl Inner {
    /// False if the stream has younger events by now.
    async fn empty(
        self: &std::sync::Arc<Inner>,
        scope: &Scope,
        stream: LogStream,
    ) -> Result<bool, ServiceError> {
        let (inner, path) = (self.clone(), self.folder.join(&stream.segment));
        let last_ms = stream.last_event_ms.unwrap_or(i64::MIN);
        let remove = move || inner.writers.remove_if_last_is(&path, last_ms).map_err(error);
        Ok(blocking(remove).await? && self.records.empty_log_stream(scope, &stream).await.map_err(error)?)
    }
}

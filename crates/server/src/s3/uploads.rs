//! Uploads in parts that nobody completes: after a week they are aborted, as a lifecycle rule does it that AWS recommends for every bucket.

use std::time::{Duration, SystemTime};

use store::objects::Objects;

use super::S3;
use crate::time::Clock;

/// How long an upload may take from when it was begun.
const UPLOAD_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How often is looked for older ones.
const SWEEP_EVERY: Duration = Duration::from_secs(3_600);

impl S3 {
    /// Aborts uploads that are too old, now and every hour; never returns.
    pub async fn abort_old_uploads(&self, clock: Clock) {
        loop {
            let (objects, now_ms) = (self.objects.clone(), clock());
            let aborted = tokio::task::spawn_blocking(move || abort_old(&objects, now_ms));
            match aborted.await.expect("aborting uploads does not panic") {
                Ok(0) => {}
                Ok(uploads) => tracing::info!(uploads, "uploads in parts that nobody completed were aborted"),
                Err(error) => {
                    tracing::warn!(%error, "old uploads could not be aborted; trying again in an hour");
                }
            }
            tokio::time::sleep(SWEEP_EVERY).await;
        }
    }
}

/// Gives how many those were. `now_ms` since 1970.
fn abort_old(objects: &Objects, now_ms: i64) -> store::Result<usize> {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(now_ms.try_into().unwrap_or_default());
    match now.checked_sub(UPLOAD_MAX) {
        Some(cutoff) => objects.abort_uploads_before(cutoff),
        None => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_has_a_week_from_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::open(folder.path()).unwrap();
        objects.create_bucket("bucket").unwrap();
        let upload = objects.create_upload("bucket", "key", store::objects::Metadata::default()).unwrap();
        let begun = objects.head_upload(&upload).unwrap().initiated;
        let begun = begun.duration_since(SystemTime::UNIX_EPOCH).unwrap() + UPLOAD_MAX;
        let begun_ms = i64::try_from(begun.as_millis()).unwrap();
        assert_eq!(abort_old(&objects, 0).unwrap(), 0);
        assert_eq!(abort_old(&objects, begun_ms).unwrap(), 0);
        assert_eq!(abort_old(&objects, begun_ms + 1).unwrap(), 1);
        assert!(objects.list_uploads("bucket").unwrap().is_empty());
    }
}

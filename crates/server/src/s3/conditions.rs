//! `If-Match`, `If-None-Match`, `If-Modified-Since`, `If-Unmodified-Since`: for reads here, for writes as the
//! store's own condition, which it checks at the moment of the write.

use std::time::{SystemTime, UNIX_EPOCH};

use s3s::dto::{ETagCondition, Timestamp};
use s3s::{S3Error, S3Result, s3_error};
use store::objects::{Condition, ObjectInfo};

use super::shapes;

/// The conditions of a read.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    pub(super) if_match: Option<ETagCondition>,
    pub(super) if_none_match: Option<ETagCondition>,
    pub(super) if_modified_since: Option<Timestamp>,
    pub(super) if_unmodified_since: Option<Timestamp>,
}

impl Conditions {
    /// Checks in the order of RFC 9110: a condition on the ETag makes that on the time moot.
    ///
    /// # Errors
    /// `PreconditionFailed`, or `NotModified` for clients that have the object already.
    pub(super) fn check(&self, info: &ObjectInfo) -> S3Result<()> {
        self.check_or(info, shapes::not_modified)
    }

    /// As `check`, for the source of a copy: nobody has it already, so every failure is the same.
    pub(super) fn check_source(&self, info: &ObjectInfo) -> S3Result<()> {
        self.check_or(info, shapes::precondition_failed)
    }

    fn check_or(&self, info: &ObjectInfo, had: fn() -> S3Error) -> S3Result<()> {
        let modified = whole_seconds(info.modified);
        let changed_since = |moment: &Timestamp| seconds(moment).is_none_or(|moment| modified > moment);
        match (&self.if_match, &self.if_unmodified_since) {
            (Some(condition), _) if !matches(condition, &info.etag) => {
                return Err(shapes::precondition_failed());
            }
            (None, Some(moment)) if changed_since(moment) => return Err(shapes::precondition_failed()),
            _ => {}
        }
        match (&self.if_none_match, &self.if_modified_since) {
            (Some(condition), _) if matches(condition, &info.etag) => Err(had()),
            (None, Some(moment)) if !changed_since(moment) => Err(had()),
            _ => Ok(()),
        }
    }
}

fn matches(condition: &ETagCondition, etag: &str) -> bool {
    condition.is_any() || condition.as_etag().is_some_and(|wanted| wanted.value() == etag)
}

/// HTTP dates have no fractions.
fn whole_seconds(moment: SystemTime) -> i64 {
    moment.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

fn seconds(moment: &Timestamp) -> Option<i64> {
    let mut text = Vec::new();
    moment.format(s3s::dto::TimestampFormat::EpochSeconds, &mut text).ok()?;
    str::from_utf8(&text).ok()?.parse::<f64>().ok().map(|seconds| seconds as i64)
}

/// The condition of a write.
///
/// # Errors
/// `NotImplemented` for conditions that S3 does not have on writes either.
pub(super) fn of_write(
    if_match: Option<ETagCondition>,
    if_none_match: Option<ETagCondition>,
) -> S3Result<Condition> {
    match (if_match, if_none_match) {
        (None, None) => Ok(Condition::Any),
        (None, Some(ETagCondition::Any)) => Ok(Condition::Absent),
        (Some(ETagCondition::ETag(etag)), None) => Ok(Condition::HasEtag(etag.value().to_owned())),
        _ => Err(s3_error!(
            NotImplemented,
            "A header you provided implies functionality that is not implemented: writes take If-None-Match: * or If-Match with one ETag"
        )),
    }
}

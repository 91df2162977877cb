//! Log groups and log streams as such: made, listed, deleted, kept for so many days, tagged.

use std::collections::BTreeMap;
use std::path::PathBuf;

use api::ServiceError;
use api::logs::*;
use store::records::{Order, StreamOrder};

use super::{Call, blocking, error, internal, limit, no_such_group, required};

/// Most entries of one page.
const PAGE_MAX: usize = 50;
/// COMPAT: CloudWatch Logs the only retention periods there are, days.
const RETENTION_DAYS: [i32; 23] = [
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
    36500,
];
/// Most tags of a group.
const TAGS_MAX: usize = 50;

type Tags = BTreeMap<String, String>;

impl Call {
    pub(super) async fn create_log_group(&self, request: CreateLogGroupRequest) -> Result<(), ServiceError> {
        let tags = request.tags.unwrap_or_default();
        let group = store::records::LogGroup {
            name: required(request.log_group_name)?,
            created_ms: self.now_ms(),
            retention_days: None,
            tags: write_tags(&tags),
        };
        self.logs.records.create_log_group(&self.scope, group).await.map_err(error)
    }

    pub(super) async fn delete_log_group(&self, request: DeleteLogGroupRequest) -> Result<(), ServiceError> {
        let name = required(request.log_group_name)?;
        let segments = self.logs.records.delete_log_group(&self.scope, &name).await.map_err(error)?;
        self.remove(segments).await
    }

    pub(super) async fn create_log_stream(
        &self,
        request: CreateLogStreamRequest,
    ) -> Result<(), ServiceError> {
        let stream = store::records::LogStream {
            group: required(request.log_group_name)?,
            name: required(request.log_stream_name)?,
            created_ms: self.now_ms(),
            segment: format!("{}.log", uuid::Uuid::new_v4()),
            first_event_ms: None,
            last_event_ms: None,
            stored_bytes: 0,
            forwarding: None,
        };
        self.logs.records.create_log_stream(&self.scope, stream).await.map_err(error)
    }

    pub(super) async fn delete_log_stream(
        &self,
        request: DeleteLogStreamRequest,
    ) -> Result<(), ServiceError> {
        let group = required(request.log_group_name)?;
        let name = required(request.log_stream_name)?;
        self.stream(&group, &name).await?;
        let segment = self.logs.records.delete_log_stream(&self.scope, &group, &name).await.map_err(error)?;
        self.remove(vec![segment]).await
    }

    /// Removes segments that no stream has any more.
    async fn remove(&self, segments: Vec<String>) -> Result<(), ServiceError> {
        let call = self.clone();
        blocking(move || {
            for segment in segments {
                let path: PathBuf = call.logs.folder.join(segment);
                call.logs.writers.forget(&path);
                store::logs::remove(&path).map_err(error)?;
            }
            Ok(())
        })
        .await
    }

    pub(super) async fn describe_log_groups(
        &self,
        request: DescribeLogGroupsRequest,
    ) -> Result<DescribeLogGroupsResponse, ServiceError> {
        if request.log_group_name_prefix.is_some() && request.log_group_name_pattern.is_some() {
            return Err(ServiceError::invalid_parameter(
                "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.",
            ));
        }
        let limit = limit(request.limit, PAGE_MAX);
        let prefix = request.log_group_name_prefix.unwrap_or_default();
        let pattern = request.log_group_name_pattern.unwrap_or_default();
        let (mut groups, mut next) = (Vec::new(), request.next_token);
        loop {
            let (records, wanted) = (&self.logs.records, limit - groups.len());
            let page = records
                .list_log_groups(&self.scope, &prefix, next.as_deref(), wanted)
                .await
                .map_err(error)?;
            groups.extend(page.items.into_iter().filter(|group| group.name.contains(&pattern)));
            next = page.next;
            if next.is_none() || groups.len() >= limit {
                break;
            }
        }
        let groups = groups.into_iter().map(|group| self.described_group(group)).collect();
        Ok(DescribeLogGroupsResponse { log_groups: Some(groups), next_token: next })
    }

    fn described_group(&self, group: store::records::LogGroup) -> LogGroup {
        let arn = self.group_arn(&group.name);
        LogGroup {
            arn: Some(format!("{arn}:*")),
            log_group_arn: Some(arn),
            log_group_name: Some(group.name),
            creation_time: Some(group.created_ms),
            retention_in_days: group.retention_days.and_then(|days| i32::try_from(days).ok()),
            metric_filter_count: Some(0),
            log_group_class: Some(LogGroupClass::Standard),
            ..LogGroup::default()
        }
    }

    pub(super) async fn describe_log_streams(
        &self,
        request: DescribeLogStreamsRequest,
    ) -> Result<DescribeLogStreamsResponse, ServiceError> {
        let group = self.named_group(request.log_group_name, request.log_group_identifier)?;
        let by = match request.order_by {
            Some(OrderBy::LastEventTime) => StreamOrder::LastEventTime,
            _ => StreamOrder::LogStreamName,
        };
        if by == StreamOrder::LastEventTime && request.log_stream_name_prefix.is_some() {
            return Err(ServiceError::invalid_parameter(
                "Cannot order by LastEventTime with a logStreamNamePrefix.",
            ));
        }
        let order = if request.descending == Some(true) { Order::Descending } else { Order::Ascending };
        let prefix = request.log_stream_name_prefix.unwrap_or_default();
        let limit = limit(request.limit, PAGE_MAX);
        let (records, after) = (&self.logs.records, request.next_token);
        let page = records
            .list_log_streams(&self.scope, (&group, &prefix), (by, order), after.as_deref(), limit)
            .await
            .map_err(error)?;
        let streams = page.items.into_iter().map(|stream| self.described_stream(stream)).collect();
        Ok(DescribeLogStreamsResponse { log_streams: Some(streams), next_token: page.next })
    }

    fn described_stream(&self, stream: store::records::LogStream) -> LogStream {
        LogStream {
            arn: Some(format!("{}:log-stream:{}", self.group_arn(&stream.group), stream.name)),
            log_stream_name: Some(stream.name),
            creation_time: Some(stream.created_ms),
            first_event_timestamp: stream.first_event_ms,
            last_event_timestamp: stream.last_event_ms,
            last_ingestion_time: stream.last_event_ms,
            upload_sequence_token: None,
            stored_bytes: i64::try_from(stream.stored_bytes).ok(),
        }
    }

    pub(super) async fn put_retention_policy(
        &self,
        request: PutRetentionPolicyRequest,
    ) -> Result<(), ServiceError> {
        let group = required(request.log_group_name)?;
        let days = request.retention_in_days.filter(|days| RETENTION_DAYS.contains(days)).ok_or_else(|| {
            let known: Vec<String> = RETENTION_DAYS.iter().map(i32::to_string).collect();
            ServiceError::invalid_parameter(format!(
                "1 validation error detected: Value '{}' at 'retentionInDays' failed to satisfy constraint: Member must satisfy enum value set: [{}]",
                request.retention_in_days.unwrap_or_default(),
                known.join(", ")
            ))
        })?;
        let (records, days) = (&self.logs.records, Some(i64::from(days)));
        records.set_log_retention(&self.scope, &group, days).await.map_err(error)
    }

    pub(super) async fn delete_retention_policy(
        &self,
        request: DeleteRetentionPolicyRequest,
    ) -> Result<(), ServiceError> {
        let group = required(request.log_group_name)?;
        self.logs.records.set_log_retention(&self.scope, &group, None).await.map_err(error)
    }

    pub(super) async fn tag_resource(&self, request: TagResourceRequest) -> Result<(), ServiceError> {
        let (group, mut tags) = self.tagged(request.resource_arn).await?;
        tags.extend(request.tags.unwrap_or_default());
        if tags.len() > TAGS_MAX {
            let message = format!("A resource can have at most {TAGS_MAX} tags.");
            return Err(ServiceError::new("TooManyTagsException", message, 400));
        }
        self.set_tags(&group, &tags).await
    }

    pub(super) async fn untag_resource(&self, request: UntagResourceRequest) -> Result<(), ServiceError> {
        let (group, mut tags) = self.tagged(request.resource_arn).await?;
        for key in request.tag_keys.unwrap_or_default() {
            tags.remove(&key);
        }
        self.set_tags(&group, &tags).await
    }

    pub(super) async fn list_tags(
        &self,
        request: ListTagsForResourceRequest,
    ) -> Result<ListTagsForResourceResponse, ServiceError> {
        let (_, tags) = self.tagged(request.resource_arn).await?;
        Ok(ListTagsForResourceResponse { tags: Some(tags) })
    }

    /// The group an ARN names, and its tags.
    async fn tagged(&self, arn: Option<String>) -> Result<(String, Tags), ServiceError> {
        let arn = required(arn)?;
        if !arn.starts_with("arn:") {
            return Err(no_such_group());
        }
        let name = self.group_name(&arn)?;
        let tags = read_tags(&self.group(&name).await?.tags)?;
        Ok((name, tags))
    }

    async fn set_tags(&self, group: &str, tags: &Tags) -> Result<(), ServiceError> {
        self.logs.records.set_log_group_tags(&self.scope, group, &write_tags(tags)).await.map_err(error)
    }
}

fn write_tags(tags: &Tags) -> String {
    serde_json::to_string(tags).expect("a map of strings is always JSON")
}

fn read_tags(text: &str) -> Result<Tags, ServiceError> {
    if text.is_empty() { Ok(Tags::new()) } else { serde_json::from_str(text).map_err(internal) }
}

//! CloudWatch Logs: groups, and where events are read or written, streams.

use access::Request;
use api::ServiceError;
use api::logs::Operation;
use serde_json::Value;

use super::{Asker, text, texts};

/// Asks for everything the call is about.
pub(crate) fn permit(operation: Operation, asker: &Asker<'_>, request: &Value) -> Result<(), ServiceError> {
    let action = format!("logs:{}", operation.name());
    let group =
        || text(request, "logGroupName").or_else(|| text(request, "logGroupIdentifier")).unwrap_or_default();
    match operation {
        Operation::CreateLogGroup
        | Operation::CreateLogStream
        | Operation::DeleteLogGroup
        | Operation::DeleteRetentionPolicy
        | Operation::DescribeLogStreams
        | Operation::FilterLogEvents
        | Operation::PutRetentionPolicy => asker.may_with_group(&action, group(), request),
        Operation::TagResource | Operation::UntagResource | Operation::ListTagsForResource => {
            asker.may_with_group(&action, text(request, "resourceArn").unwrap_or_default(), request)
        }
        Operation::DeleteLogStream | Operation::GetLogEvents | Operation::PutLogEvents => {
            let stream = text(request, "logStreamName").unwrap_or_default();
            asker.may(&Request::new(action, format!("{}:log-stream:{stream}", asker.group(group()))))
        }
        Operation::StartLiveTail => texts(request, "logGroupIdentifiers")
            .try_for_each(|group| asker.may_with_group(&action, group, request)),
        Operation::DescribeLogGroups => asker.may_with_group(&action, "", request),
    }
}

impl Asker<'_> {
    /// COMPAT: policies name a group with and without `:*` behind it, and mean the same.
    fn may_with_group(&self, action: &str, named: &str, request: &Value) -> Result<(), ServiceError> {
        let arn = self.group(named);
        let tags = request.get("tags").and_then(Value::as_object).into_iter().flatten();
        let tags = tags.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
        let about = access::Context::default().with_request_tags(tags);
        self.may(&Request::new(action, arn.as_str()).also(format!("{arn}:*")).about(about))
    }

    /// A group's ARN, from its name or from an ARN with or without `:*`. One of elsewhere stays what it is.
    fn group(&self, named: &str) -> String {
        match named.starts_with("arn:") {
            true => named.strip_suffix(":*").unwrap_or(named).to_owned(),
            false => format!("{}log-group:{named}", self.prefix("logs")),
        }
    }
}

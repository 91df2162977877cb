//! What a call wants to do and with what, for every operation of the JSON services, and the question whether it may.
//!
//! One table for each service says which resources an operation is about; each resource is asked for by itself. The answer
//! does not depend on whether the resource is there, so that nobody without rights learns that. What policies say is
//! `access`'s business; S3 asks in its own module, because its requests are no JSON.

pub(crate) mod codebuild;
pub(crate) mod logs;
pub(crate) mod parameters;
pub(crate) mod secrets;

use access::{Context, Request};
use api::{AccountId, Region, ServiceError};
use serde_json::Value;

use crate::keys::Caller;

/// Who asks, and where: names are of his account and this Region unless they are ARNs that say otherwise.
pub(crate) struct Asker<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) region: Region,
    pub(crate) account: AccountId,
}

impl<'a> Asker<'a> {
    pub(crate) fn new(caller: &'a Caller, region: &str) -> Result<Asker<'a>, ServiceError> {
        let region = region.parse().map_err(|_| ServiceError::internal_failure())?;
        let account = caller.account.parse().map_err(|_| ServiceError::internal_failure())?;
        Ok(Asker { caller, region, account })
    }

    /// COMPAT: AP-004.
    fn may(&self, request: &Request) -> Result<(), ServiceError> {
        self.caller.rights.may(request).map_err(refused)
    }

    /// The beginning of this account's ARNs of a service: `arn:aws:ssm:eu-west-1:123456789012:`.
    fn prefix(&self, service: &str) -> String {
        format!("arn:{}:{service}:{}:{}:", self.region.partition(), self.region, self.account)
    }
}

fn refused(denied: access::Denied) -> ServiceError {
    ServiceError::access_denied(denied.to_string())
}

/// COMPAT: whoever may list resources by tag is shown them all, as at AWS.
pub(crate) fn tagging(asker: &Asker<'_>) -> Result<(), ServiceError> {
    asker.may(&Request::new("tag:GetResources", "*"))
}

/// A member that is text; nothing if it is absent.
fn text<'a>(request: &'a Value, member: &str) -> Option<&'a str> {
    request.get(member).and_then(Value::as_str)
}

/// A member that is a list of texts.
fn texts<'a>(request: &'a Value, member: &str) -> impl Iterator<Item = &'a str> {
    request.get(member).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// The tags that a request brings, as a list of keys and values; `names` are what those are called.
fn wanted_tags(request: &Value, member: &str, names: (&str, &str)) -> Context {
    let tags = request.get(member).and_then(Value::as_array).into_iter().flatten();
    let pairs =
        tags.filter_map(|tag| Some((tag.get(names.0)?.as_str()?, text(tag, names.1).unwrap_or_default())));
    Context::default().with_request_tags(pairs)
}

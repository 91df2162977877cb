//! What the log and the metrics say of one request.

use std::time::Instant;

use hyper::{Method, StatusCode};

use super::answer::RequestId;
use crate::metrics::Metrics;

/// Filled in while a request is understood. Nothing in it is a secret, and nothing but `caller` is a client's own word.
#[derive(Debug)]
pub(super) struct Entry {
    started: Instant,
    method: &'static str,
    /// As in a credential scope; empty while it is not known.
    pub(super) service: &'static str,
    /// Of a service of ours; of S3, the method; empty if there is none.
    pub(super) operation: &'static str,
    /// The ARN of who signed, once that is known.
    pub(super) caller: Option<String>,
}

impl Entry {
    pub(super) fn new(method: &Method) -> Entry {
        let method = known(method);
        Entry { started: Instant::now(), method, service: "", operation: "", caller: None }
    }

    /// It is for S3, which knows its operations itself.
    pub(super) fn is_s3(&mut self) {
        (self.service, self.operation) = ("s3", self.method);
    }

    /// Counts and notes the request, which is being answered.
    pub(super) fn write(self, id: &RequestId, status: StatusCode, metrics: &Metrics) {
        let Entry { started, method, service, operation, caller } = self;
        let (took, status) = (started.elapsed(), status.as_u16());
        metrics.request_answered(service, operation, status, took.as_secs_f64());
        tracing::info!(
            target: "request", id = id.as_str(), method, service, operation, status,
            caller = caller.as_deref().unwrap_or_default(), micros = took.as_micros() as u64, "answered"
        );
    }
}

/// Of a method only its name if it has one that we know: clients can invent others.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

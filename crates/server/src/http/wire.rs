//! The two protocols in which operations are called by name: AWS JSON 1.1 and smithy-rpc-v2-cbor.
//!
//! Here: how each names an operation, and its bytes. What both have in common, from the signature on, is in `dispatch`.

use api::ServiceError;
use api::operation::Service;
use api::schema::Shape;
use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use serde_json::Value;

use super::answer::{Answer, answer, status};
use crate::reply::Reply;

const SMITHY_PROTOCOL: HeaderName = HeaderName::from_static("smithy-protocol");
const TARGETS: [&str; 2] = ["x-amz-target", "x-amzn-target"];
const JSON: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");
const CBOR: HeaderValue = HeaderValue::from_static("application/cbor");
const RPC_V2_CBOR: HeaderValue = HeaderValue::from_static("rpc-v2-cbor");

/// A protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Json,
    Cbor,
}

/// What a request calls, as it says itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) wire: Wire,
    /// As in an `X-Amz-Target`. `None` when it names nothing that could be an operation.
    pub(super) target: Option<String>,
}

impl Named {
    /// `None` for requests of other protocols.
    pub(super) fn of(parts: &Parts) -> Option<Named> {
        // COMPAT: AP-001 the service and operation are named by X-Amz-Target.
        if let Some(target) = parts.headers.get("x-amz-target") {
            let is_call = parts.method == Method::POST && parts.uri.path() == "/";
            let target = target.to_str().ok().filter(|_| is_call).map(str::to_owned);
            return Some(Named { wire: Wire::Json, target });
        }
        // COMPAT: AP-001 current SDKs know CodeBuild in CBOR as well: it is named by the path.
        if parts.headers.contains_key(SMITHY_PROTOCOL) && parts.method == Method::POST {
            let known = parts.headers.get_all(SMITHY_PROTOCOL).iter().eq([&RPC_V2_CBOR]);
            let is_call = known && !TARGETS.iter().any(|name| parts.headers.contains_key(*name));
            let path = parts.uri.path().strip_prefix("/service/");
            let named = path.and_then(|path| path.split_once("/operation/")).filter(|_| is_call);
            let target = named.map(|(service, operation)| format!("{service}.{operation}"));
            return Some(Named { wire: Wire::Cbor, target });
        }
        None
    }
}

impl Wire {
    /// Whether the service can be spoken to in this protocol.
    pub(super) fn is_of(self, service: &Service) -> bool {
        match self {
            Wire::Json => true,
            Wire::Cbor => service.speaks_cbor(),
        }
    }

    /// A body's value.
    pub(super) fn parse(
        self,
        parts: &Parts,
        body: &[u8],
        limit: usize,
        service: &Service,
        input: &'static Shape,
    ) -> Result<Value, ServiceError> {
        let value = match self {
            Wire::Json => api::json::parse(body, limit),
            Wire::Cbor if body.is_empty() || parts.headers.get(CONTENT_TYPE) == Some(&CBOR) => {
                api::cbor::parse(body, limit, input)
            }
            Wire::Cbor => return Err(not_cbor()),
        };
        value.map_err(|error| error.answer(service))
    }

    /// `200`, with the members of an operation's output or without a body.
    pub(super) fn reply(self, output: &Shape, reply: Reply) -> Answer {
        let body = match (self, reply) {
            (_, Reply::Stream(answer)) => return answer,
            (_, Reply::Nothing) => Bytes::new(),
            (Wire::Json, Reply::Members(members)) => members.into_text().into(),
            (Wire::Cbor, Reply::Members(members)) => api::cbor::encode(output, &members.into_value()).into(),
        };
        self.answer(StatusCode::OK, body)
    }

    /// An error.
    // COMPAT: AP-003 `{"__type":"...","message":"..."}`.
    pub(super) fn error(self, error: &ServiceError) -> Answer {
        let body = match self {
            Wire::Json => error.to_json(),
            Wire::Cbor => error.to_cbor(),
        };
        self.answer(status(error), body)
    }

    fn answer(self, status: StatusCode, body: impl Into<Bytes>) -> Answer {
        match self {
            Wire::Json => answer(status, JSON, body),
            Wire::Cbor => {
                let mut answer = answer(status, CBOR, body);
                answer.headers_mut().insert(SMITHY_PROTOCOL, RPC_V2_CBOR);
                answer
            }
        }
    }
}

fn not_cbor() -> ServiceError {
    ServiceError::new("UnsupportedMediaTypeException", "The Content-Type must be application/cbor.", 415)
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn named(request: hyper::http::request::Builder) -> Option<Named> {
        Named::of(&request.body(()).unwrap().into_parts().0)
    }

    fn cbor(path: &str) -> hyper::http::request::Builder {
        Request::post(path).header("smithy-protocol", "rpc-v2-cbor")
    }

    fn target(wire: Wire, target: &str) -> Option<Named> {
        Some(Named { wire, target: Some(target.into()) })
    }

    // AP-001
    #[test]
    fn an_operation_is_named_by_a_header_in_json_and_by_the_path_in_cbor() {
        let json = Request::post("/").header("x-amz-target", "CodeBuild_20161006.ListBuilds");
        assert_eq!(named(json), target(Wire::Json, "CodeBuild_20161006.ListBuilds"));
        let path = "/service/CodeBuild_20161006/operation/ListBuilds";
        assert_eq!(named(cbor(path)), target(Wire::Cbor, "CodeBuild_20161006.ListBuilds"));
        assert_eq!(named(Request::post(path)), None);
        assert_eq!(named(Request::get("/")), None);
    }

    // AP-001
    #[test]
    fn what_could_be_understood_as_either_names_nothing() {
        let path = "/service/CodeBuild_20161006/operation/ListBuilds";
        let nothing = |wire| Some(Named { wire, target: None });
        let both = cbor(path).header("x-amz-target", "CodeBuild_20161006.StartBuild");
        assert_eq!(named(both), nothing(Wire::Json));
        assert_eq!(named(cbor(path).header("x-amzn-target", "x")), nothing(Wire::Cbor));
        assert_eq!(named(cbor(path).header("smithy-protocol", "rpc-v2-cbor")), nothing(Wire::Cbor));
        assert_eq!(named(Request::post(path).header("smithy-protocol", "rpc-v3")), nothing(Wire::Cbor));
        assert_eq!(named(cbor("/")), nothing(Wire::Cbor));
        assert_eq!(named(cbor("//service/CodeBuild_20161006/operation/ListBuilds")), nothing(Wire::Cbor));
    }
}

//! Answers in each protocol's shape. The wordings come from the services.

use std::convert::Infallible;
use std::fmt::Write as _;

use api::ServiceError;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};

/// A body that may still be in the making while its beginning is sent.
pub(crate) type AnswerBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;
/// What goes back to a client.
pub(crate) type Answer = Response<AnswerBody>;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const S3_REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

/// The id of one request, which a user quotes and the server's log knows.
#[derive(Debug, Clone)]
pub(super) struct RequestId(String);

impl RequestId {
    pub(super) fn new() -> RequestId {
        RequestId(uuid::Uuid::new_v4().to_string())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    // COMPAT: AP-003
    /// Marks an answer with this id.
    pub(super) fn mark(&self, answer: &mut Answer) {
        answer.headers_mut().insert(REQUEST_ID, self.value());
    }

    /// Marks an answer of S3, which has a name of its own for this.
    pub(super) fn mark_s3(&self, answer: &mut Answer) {
        answer.headers_mut().insert(S3_REQUEST_ID, self.value());
    }

    fn value(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("a UUID is plain ASCII")
    }
}

/// A body that is all there.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> AnswerBody {
    let never = |never: Infallible| match never {};
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

pub(super) fn answer(status: StatusCode, content_type: HeaderValue, bytes: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(whole(bytes));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, content_type);
    answer
}

/// `200` with an XML body.
pub(super) fn xml(body: String) -> Answer {
    answer(StatusCode::OK, HeaderValue::from_static("text/xml"), body)
}

/// An error of a Query service.
pub(super) fn query_error(service: &api::operation::Service, error: &ServiceError, id: &RequestId) -> Answer {
    let body = api::query::error(service, error, id.as_str());
    answer(status(error), HeaderValue::from_static("text/xml"), body)
}

/// An error of S3 that arose before S3 itself was asked, with the error's further members.
pub(super) fn s3_error(
    error: &ServiceError,
    details: &[(&str, String)],
    resource: &str,
    id: &RequestId,
) -> Answer {
    let mut body = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error>");
    let mut member = |name: &str, text: &str| {
        write!(body, "<{name}>{}</{name}>", escape(text)).expect("writing to a String cannot fail");
    };
    member("Code", &error.code);
    member("Message", &error.message);
    details.iter().for_each(|(name, text)| member(name, text));
    member("Resource", resource);
    member("RequestId", id.as_str());
    body.push_str("</Error>");
    answer(status(error), HeaderValue::from_static("application/xml"), body)
}

/// A short answer for people and probes.
pub(super) fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    answer(status, HeaderValue::from_static("text/plain; charset=utf-8"), text)
}

pub(super) fn status(error: &ServiceError) -> StatusCode {
    StatusCode::from_u16(error.http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, letter| {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            // XML 1.0 has no way to write these.
            '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{fffe}' | '\u{ffff}' => {
                escaped.push('\u{fffd}')
            }
            letter => escaped.push(letter),
        }
        escaped
    })
}

/// A fault of ours before any service could give it its shape.
pub(crate) fn internal_failure(cause: &dyn std::fmt::Display) -> Answer {
    tracing::error!(%cause, "a request failed inside the server");
    text(StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure")
}

//! What can be wrong with a request's form ([`Error`]), and errors as services answer them ([`ServiceError`]).
//!
//! Which error an operation answers when is decided elsewhere; here are their codes, status and JSON form.

use std::borrow::Cow;

use serde_json::json;

use crate::operation::Service;
use crate::schema::Shape;

/// A request that does not have the form its operation asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not JSON, or a value of a type its member cannot take: `SerializationException`.
    #[error("{0}")]
    Serialization(String),
    /// Well-formed, but outside the model's constraints; all violations in AWS's words.
    #[error("{0}")]
    Validation(String),
    /// The body is longer than the `limit` bytes its reader allows.
    #[error("Request body is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("Invalid ARN: {0}")]
    Arn(String),
    #[error("Invalid Region: {0}")]
    Region(String),
    #[error("Invalid account ID: {0}")]
    AccountId(String),
    /// Not an `application/x-www-form-urlencoded` body.
    #[error("{0}")]
    Form(String),
}

impl Error {
    /// The answer of `service` to such a request.
    pub fn answer(&self, service: &Service) -> ServiceError {
        let message = self.to_string();
        match self {
            Error::Serialization(_) => ServiceError::serialization(message),
            Error::TooLarge { .. } => ServiceError::new("RequestEntityTooLargeException", message, 413),
            Error::Form(_) => ServiceError::new("MalformedQueryString", message, 400),
            Error::Validation(_) | Error::Arn(_) | Error::Region(_) | Error::AccountId(_) => {
                ServiceError::new(service.validation_code(), message, 400)
            }
        }
    }
}

static UNSHAPED: Shape = Shape::structure("Error", &[]);

/// An error as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ServiceError {
    pub code: Cow<'static, str>,
    pub message: String,
    pub http_status: u16,
}

/// Constructors for codes that are always answered with HTTP 400 (AP-003, AP-004).
macro_rules! client_errors {
    ($($function:ident = $code:literal,)*) => {
        impl ServiceError {
            $(
                #[doc = concat!("`", $code, "`, HTTP 400.")]
                pub fn $function(message: impl Into<String>) -> ServiceError {
                    ServiceError::new($code, message, 400)
                }
            )*
        }
    };
}

client_errors! {
    invalid_input = "InvalidInputException",
    resource_not_found = "ResourceNotFoundException",
    resource_already_exists = "ResourceAlreadyExistsException",
    account_limit_exceeded = "AccountLimitExceededException",
    account_suspended = "AccountSuspendedException",
    oauth_provider = "OAuthProviderException",
    access_denied = "AccessDeniedException",
    expired_token = "ExpiredTokenException",
    incomplete_signature = "IncompleteSignatureException",
    invalid_parameter = "InvalidParameterException",
    invalid_signature = "InvalidSignatureException",
    limit_exceeded = "LimitExceededException",
    missing_authentication_token = "MissingAuthenticationTokenException",
    operation_aborted = "OperationAbortedException",
    serialization = "SerializationException",
    unknown_operation = "UnknownOperationException",
    unrecognized_client = "UnrecognizedClientException",
    validation = "ValidationException",
}

impl ServiceError {
    pub fn new(code: &'static str, message: impl Into<String>, http_status: u16) -> ServiceError {
        ServiceError { code: Cow::Borrowed(code), message: message.into(), http_status }
    }

    /// `ThrottlingException`, HTTP 400, which clients retry after a while.
    pub fn throttling() -> ServiceError {
        ServiceError::new("ThrottlingException", "Rate exceeded", 400)
    }

    /// A fault of ours, HTTP 500, which clients retry; its cause belongs in our log, not in the answer.
    pub fn internal_failure() -> ServiceError {
        ServiceError::new(
            "InternalFailure",
            "The request processing has failed because of an unknown error.",
            500,
        )
    }

    /// `ServiceUnavailableException`, HTTP 503: nothing was done, and the client may try again.
    pub fn service_unavailable(message: impl Into<String>) -> ServiceError {
        ServiceError::new("ServiceUnavailableException", message, 503)
    }

    // COMPAT: AP-003 `__type` without a namespace, `message` in lower case.
    /// The body AWS JSON clients expect: `{"__type": code, "message": text}`.
    pub fn to_json(&self) -> Vec<u8> {
        json!({ "__type": self.code, "message": self.message }).to_string().into_bytes()
    }

    // COMPAT: AP-003 in CBOR the type is a shape's whole id; clients take what is behind the `#`.
    /// The body that clients of smithy-rpc-v2-cbor expect.
    pub fn to_cbor(&self) -> Vec<u8> {
        let id = format!("com.amazonaws.codebuild#{}", self.code);
        crate::cbor::encode(&UNSHAPED, &json!({ "__type": id, "message": self.message }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codebuild, logs, sts};

    #[test]
    fn an_error_is_answered_with_its_type_and_message() {
        let error = ServiceError::invalid_input("Invalid project name");
        assert_eq!(
            error.to_json(),
            br#"{"__type":"InvalidInputException","message":"Invalid project name"}"#
        );
        assert_eq!(error.http_status, 400);
        assert_eq!(
            error.to_cbor(),
            b"\xa2\x66__type\x78\x2dcom.amazonaws.codebuild#InvalidInputException\x67message\x74Invalid project name"
        );
    }

    #[test]
    fn each_service_has_its_own_code_for_broken_constraints() {
        let error = Error::Validation("1 validation error detected: ...".into());
        let codes =
            [&codebuild::SERVICE, &logs::SERVICE, &sts::SERVICE].map(|service| error.answer(service).code);
        assert_eq!(codes, ["ValidationException", "InvalidParameterException", "ValidationError"]);
    }
}

//! Why a signature was refused, in AWS's words for each protocol.

use api::ServiceError;

use crate::time;

/// What is wrong with a request's signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// There is none.
    Missing,
    /// Another algorithm, e.g. Signature Version 2 or 4A.
    Algorithm(String),
    /// The `Authorization` header, or a header it depends on, is malformed.
    Incomplete(String),
    /// The query parameters of a presigned request are malformed.
    Query(String),
    /// The query parameters of a link with a Version 2 signature are malformed or more than it may have.
    Link(String),
    /// A link with a Version 2 signature past its life. Seconds since 1970.
    LinkExpired { expires_at: i64, now: i64 },
    /// Both header and query string carry one, or one in two versions.
    TwoMechanisms,
    /// `SignedHeaders` is not lower case, sorted and unique.
    SignedHeaders,
    /// The signature does not cover `host`.
    HostNotSigned,
    /// The signature does not cover headers it must.
    HeadersNotSigned(Vec<String>),
    /// The credential scope has a wrong date or terminator.
    Scope(String),
    /// The credential scope names another region.
    Region { given: String, expected: String },
    /// The credential scope names another service.
    Service { given: String, expected: String },
    /// Signed too long ago. Seconds since 1970.
    Expired { signed_at: i64, now: i64, skew_seconds: i64 },
    /// Signed in the future. Seconds since 1970.
    NotYetCurrent { signed_at: i64, now: i64, skew_seconds: i64 },
    /// A presigned request past its life. Seconds since 1970.
    PresignedExpired { signed_at: i64, expires_seconds: i64, now: i64 },
    /// `x-amz-content-sha256` is missing where it must not be.
    PayloadHashMissing,
    /// `x-amz-content-sha256` is neither a hash nor a known word.
    PayloadKind,
    /// `x-amz-content-sha256` is not the body's hash.
    PayloadMismatch,
    /// Wrong secret, unknown key or altered request: deliberately one case.
    Mismatch,
    /// A session token is missing, wrong, or sent with a permanent key.
    TokenInvalid,
    /// The session is over.
    TokenExpired,
    /// The same signed request came again later.
    Replayed,
}

const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.";

impl Rejection {
    /// As the JSON services say it (HTTP 400).
    pub fn json(&self) -> ServiceError {
        let (code, message) = match self {
            Rejection::Missing => {
                ("MissingAuthenticationTokenException", "Missing Authentication Token".to_owned())
            }
            Rejection::Incomplete(_) | Rejection::Algorithm(_) | Rejection::Query(_) => {
                ("IncompleteSignatureException", self.text())
            }
            Rejection::TokenInvalid => ("UnrecognizedClientException", self.text()),
            Rejection::TokenExpired => ("ExpiredTokenException", self.text()),
            _ => ("InvalidSignatureException", self.text()),
        };
        ServiceError::new(code, message, 400)
    }

    /// As the Query services (STS) say it.
    pub fn query(&self) -> ServiceError {
        let (code, status) = match self {
            Rejection::Missing => ("MissingAuthenticationToken", 403),
            Rejection::Incomplete(_) | Rejection::Algorithm(_) | Rejection::Query(_) => {
                ("IncompleteSignature", 400)
            }
            Rejection::TokenInvalid => ("InvalidClientTokenId", 403),
            Rejection::TokenExpired => ("ExpiredToken", 403),
            _ => ("SignatureDoesNotMatch", 403),
        };
        ServiceError::new(code, self.text(), status)
    }

    /// As S3 says it, but for the members of [`Rejection::s3_details`].
    pub fn s3(&self) -> ServiceError {
        let forbidden = |code, message: &str| ServiceError::new(code, message, 403);
        let bad = |code, message: String| ServiceError::new(code, message, 400);
        let malformed = |why: &str| {
            bad("AuthorizationHeaderMalformed", format!("The authorization header is malformed; {why}"))
        };
        match self {
            Rejection::Missing => forbidden("AccessDenied", "Access Denied"),
            Rejection::Algorithm(_) => bad(
                "InvalidRequest",
                "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.".to_owned(),
            ),
            Rejection::Incomplete(_) | Rejection::Scope(_) | Rejection::SignedHeaders | Rejection::HostNotSigned => {
                malformed(&self.text())
            }
            Rejection::Query(why) => bad("AuthorizationQueryParametersError", why.clone()),
            Rejection::TwoMechanisms | Rejection::PayloadKind => bad("InvalidArgument", self.text()),
            Rejection::HeadersNotSigned(_) => {
                forbidden("AccessDenied", "There were headers present in the request which were not signed")
            }
            Rejection::Region { given, expected } => {
                malformed(&format!("the region '{given}' is wrong; expecting '{expected}'"))
            }
            Rejection::Service { given, expected } => {
                malformed(&format!("incorrect service \"{given}\". This endpoint belongs to \"{expected}\"."))
            }
            Rejection::Expired { .. } | Rejection::NotYetCurrent { .. } => forbidden(
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
            ),
            Rejection::Link(why) => forbidden("AccessDenied", why),
            Rejection::PresignedExpired { .. } | Rejection::LinkExpired { .. } => {
                forbidden("AccessDenied", "Request has expired")
            }
            Rejection::PayloadHashMissing => bad("InvalidRequest", self.text()),
            Rejection::PayloadMismatch => bad("XAmzContentSHA256Mismatch", self.text()),
            Rejection::TokenInvalid => {
                bad("InvalidToken", "The provided token is malformed or otherwise invalid.".to_owned())
            }
            Rejection::TokenExpired => bad("ExpiredToken", "The provided token has expired.".to_owned()),
            Rejection::Mismatch | Rejection::Replayed => forbidden(
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided. Check your key and signing method.",
            ),
        }
    }

    /// Members that S3 adds to an error; SDKs correct their region and clock from them.
    pub fn s3_details(&self) -> Vec<(&'static str, String)> {
        match self {
            Rejection::HeadersNotSigned(names) => vec![("HeadersNotSigned", names.join(", "))],
            Rejection::Region { expected, .. } => vec![("Region", expected.clone())],
            Rejection::Expired { signed_at, now, skew_seconds }
            | Rejection::NotYetCurrent { signed_at, now, skew_seconds } => vec![
                ("RequestTime", time::basic(*signed_at)),
                ("ServerTime", time::extended(*now)),
                ("MaxAllowedSkewMilliseconds", (skew_seconds * 1_000).to_string()),
            ],
            Rejection::PresignedExpired { signed_at, expires_seconds, now } => vec![
                ("X-Amz-Expires", expires_seconds.to_string()),
                ("Expires", time::extended(signed_at + expires_seconds)),
                ("ServerTime", time::extended(*now)),
            ],
            Rejection::LinkExpired { expires_at, now } => {
                vec![("Expires", time::extended(*expires_at)), ("ServerTime", time::extended(*now))]
            }
            _ => Vec::new(),
        }
    }

    fn text(&self) -> String {
        match self {
            Rejection::Missing => "Request is missing Authentication Token".to_owned(),
            Rejection::Algorithm(given) => {
                format!("Unsupported AWS 'algorithm': '{given}'. The only one supported is 'AWS4-HMAC-SHA256'.")
            }
            Rejection::Incomplete(why)
            | Rejection::Query(why)
            | Rejection::Scope(why)
            | Rejection::Link(why) => why.clone(),
            Rejection::TwoMechanisms => {
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified".to_owned()
            }
            Rejection::SignedHeaders => "SignedHeaders must be lower case, sorted and without repetition.".to_owned(),
            Rejection::HostNotSigned => {
                "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.".to_owned()
            }
            Rejection::HeadersNotSigned(names) => {
                format!("'{}' must be a 'SignedHeader' in the AWS Authorization.", names.join("', '"))
            }
            Rejection::Region { given, .. } => {
                format!("Credential should be scoped to a valid region, not '{given}'. ")
            }
            Rejection::Service { expected, .. } => {
                format!("Credential should be scoped to correct service: '{expected}'. ")
            }
            Rejection::Expired { signed_at, now, skew_seconds } => format!(
                "Signature expired: {} is now earlier than {} ({} - {} min.)",
                time::basic(*signed_at),
                time::basic(now - skew_seconds),
                time::basic(*now),
                skew_seconds / 60
            ),
            Rejection::NotYetCurrent { signed_at, now, skew_seconds } => format!(
                "Signature not yet current: {} is still later than {} ({} + {} min.)",
                time::basic(*signed_at),
                time::basic(now + skew_seconds),
                time::basic(*now),
                skew_seconds / 60
            ),
            Rejection::PresignedExpired { signed_at, expires_seconds, now } => format!(
                "Signature expired: {} is now earlier than {}",
                time::basic(signed_at + expires_seconds),
                time::basic(*now)
            ),
            Rejection::LinkExpired { .. } => "Request has expired".to_owned(),
            Rejection::PayloadHashMissing => {
                "Missing required header for this request: x-amz-content-sha256".to_owned()
            }
            Rejection::PayloadKind => "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.".to_owned(),
            Rejection::PayloadMismatch => {
                "The provided 'x-amz-content-sha256' header does not match what was computed.".to_owned()
            }
            Rejection::TokenInvalid => "The security token included in the request is invalid.".to_owned(),
            Rejection::TokenExpired => "The security token included in the request is expired".to_owned(),
            Rejection::Mismatch | Rejection::Replayed => MISMATCH.to_owned(),
        }
    }
}

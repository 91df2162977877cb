//! Reading a request's body whole: bounded in size and time.

use std::time::Duration;

use api::ServiceError;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};

/// How long a client may take for a body that we wait for as a whole.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads at most `limit` bytes.
///
/// # Errors
/// 413 for a longer body (told at once when the length is announced), 408 for a slow one, 400 for a broken one.
pub(super) async fn read(body: Incoming, limit: usize) -> Result<Bytes, ServiceError> {
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large(limit));
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limit)),
        Ok(Err(_)) => Err(ServiceError::serialization("The request body ended early or is malformed.")),
        Err(_) => Err(ServiceError::new("RequestTimeoutException", "The request body took too long.", 408)),
    }
}

fn too_large(limit: usize) -> ServiceError {
    let message = format!("Request body is larger than {limit} bytes");
    ServiceError::new("RequestEntityTooLargeException", message, 413)
}

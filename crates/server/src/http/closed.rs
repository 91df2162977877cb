//! A server that has nothing to serve from yet: it answers probes, and everything else with why.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use api::ServiceError;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::answer::{self, Answer, RequestId};
use super::wire::Named;
use super::{ACCEPT_PAUSE, HEAD_MAX_BYTES, HEAD_TIMEOUT, HEADERS_MAX, accept};

/// Connections at a time; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;
/// A connection's life. It has one request, so that the next one finds a server that is open by then.
const CONNECTION_MAX: Duration = Duration::from_secs(10);

/// For as long as it is polled: `/healthz` is `ok`, and whatever else is asked is answered with 503 and `why`.
pub async fn stay_closed(listener: &TcpListener, why: &str) {
    let (free, why) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), Arc::<str>::from(why));
    loop {
        match accept(listener, &free).await {
            Ok((stream, _, permit)) => {
                let why = why.clone();
                tokio::spawn(async move {
                    // Whoever hangs up has been told nothing, and asks again.
                    let _ = tokio::time::timeout(CONNECTION_MAX, talk(stream, why)).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn talk(stream: TcpStream, why: Arc<str>) -> hyper::Result<()> {
    let answer = service_fn(move |request| {
        let answer = refuse(request, &why);
        async move { Ok::<_, Infallible>(answer) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_MAX_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer)
        .await
}

fn refuse(request: Request<Incoming>, why: &str) -> Answer {
    let (parts, _) = request.into_parts();
    let id = RequestId::new();
    let mut answer = match parts.uri.path() {
        "/healthz" => return answer::text(StatusCode::OK, "ok\n"),
        "/readyz" => answer::text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
        path => match Named::of(&parts) {
            Some(named) => named.wire.error(&unavailable("ServiceUnavailableException", why)),
            None => answer::s3_error(&unavailable("ServiceUnavailable", why), &[], path, &id),
        },
    };
    id.mark(&mut answer);
    answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    answer
}

fn unavailable(code: &'static str, why: &str) -> ServiceError {
    ServiceError::new(code, format!("The server has not opened yet: {why}"), 503)
}

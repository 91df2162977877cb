//! The HTTP front: one listener, HTTP/1.1 and HTTP/2 by prior knowledge, limits, orderly shutdown.
//!
//! Below: `framing` (requests that two readers could understand differently are refused), `dispatch` (which
//! service a request is for), `wire` (operations called by name, in JSON and in CBOR), `answer` (the other protocols'
//! shapes), `body` (bounded reading), `builds` (the way in for builds), `closed` (a server that cannot serve yet), `opening` (a client must start talking soon), `entry` (what log and
//! metrics say of a request). What an operation does is in the
//! services' own modules.

mod answer;
mod body;
mod builds;
mod closed;
mod dispatch;
mod entry;
mod framing;
mod opening;
mod wire;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::Error;
pub(crate) use answer::{Answer, internal_failure};
pub use closed::stay_closed;
pub use dispatch::{Endpoint, Ready, Services, Settings};
use opening::Opening;

/// Request line and headers together, bytes.
pub const HEAD_MAX_BYTES: usize = 16 * 1024;
/// Header fields of one request.
pub const HEADERS_MAX: usize = 100;
/// How long a client may take to send a request's head.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests at a time on one HTTP/2 connection.
pub const STREAMS_MAX: u32 = 100;
/// Connections at a time; further ones wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 4_096;
/// The same for connections of builds.
pub const BUILDS_CONNECTIONS_MAX: usize = 1_024;
/// How long requests under way may go on once the server is asked to stop.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept: it fails when descriptors run out, and they come back one by one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where a request comes from, among its extensions.
#[derive(Debug, Clone, Copy)]
struct Peer(SocketAddr);

/// How long an address that is taken is tried again. A process that a killed server was just starting has the server's files
/// until it executes its program, for which it may have to wait where others have the processors.
const LISTEN_PATIENCE: Duration = Duration::from_secs(3);
const LISTEN_PAUSE: Duration = Duration::from_millis(5);

/// Listens on `address`; port 0 takes a free one.
///
/// # Errors
/// [`Error::Listen`] when the address is taken, for longer than a killed server's could be, or not ours.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let begun = Instant::now();
    loop {
        match TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < LISTEN_PATIENCE => {
                tokio::time::sleep(LISTEN_PAUSE).await;
            }
            listening => return listening.map_err(|source| Error::Listen { address, source }),
        }
    }
}

/// Listens at a path for builds, which agents bring in. The folder it is in must be closed to everybody else.
///
/// # Errors
/// The kernel's, if the path cannot be bound. One that a killed server left is taken over.
pub fn listen_for_builds(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let folder = std::fs::File::open(path.parent().unwrap_or(Path::new(".")))?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    // A socket's address has room for little, however deep the folder is.
    let short = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
    UnixListener::bind(short)
}

/// Serves until `stop` completes, then lets requests under way finish for up to [`DRAIN_TIMEOUT`]. `builds` is where agents knock.
pub async fn serve(
    listener: TcpListener,
    builds: Option<UnixListener>,
    endpoint: Arc<Endpoint>,
    stop: impl Future<Output = ()>,
) {
    let front = Front { protocols: Arc::new(protocols()), endpoint };
    let graceful = GracefulShutdown::new();
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let free_for_builds = Arc::new(Semaphore::new(BUILDS_CONNECTIONS_MAX));
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener, &free) => accepted.map(|(stream, peer, permit)| {
                tokio::spawn(front.clone().talk(stream, peer, permit, graceful.watcher()));
            }),
            accepted = accept_build(builds.as_ref(), &free_for_builds) => accepted.map(|(stream, permit)| {
                tokio::spawn(front.clone().introduce(stream, permit, graceful.watcher()));
            }),
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
    drop((listener, builds));
    front.endpoint.close();
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way when the server stopped");
    }
}

/// What every connection needs.
#[derive(Clone)]
struct Front {
    protocols: Arc<Builder<TokioExecutor>>,
    endpoint: Arc<Endpoint>,
}

impl Front {
    /// Answers on one connection to its end. `origin` goes with each request.
    async fn talk<S, O>(self, stream: S, origin: O, permit: OwnedSemaphorePermit, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        O: Clone + Send + Sync + 'static,
    {
        let answer = service_fn(move |mut request: Request<Incoming>| {
            let endpoint = self.endpoint.clone();
            request.extensions_mut().insert(origin.clone());
            async move { Ok::<_, Infallible>(endpoint.answer(request).await) }
        });
        let io = TokioIo::new(Opening::new(stream, HEAD_TIMEOUT));
        let connection = watcher.watch(self.protocols.serve_connection(io, answer).into_owned());
        if let Err(error) = connection.await {
            tracing::debug!(error = &*error, "a connection ended badly");
        }
        drop(permit);
    }

    async fn introduce(self, mut stream: UnixStream, permit: OwnedSemaphorePermit, watcher: Watcher) {
        match builds::introduced(&mut stream).await {
            Ok(build) => self.talk(stream, build, permit, watcher).await,
            Err(error) => tracing::debug!(%error, "nobody said whose connection it is"),
        }
    }
}

async fn accept(
    listener: &TcpListener,
    free: &Arc<Semaphore>,
) -> io::Result<(TcpStream, Peer, OwnedSemaphorePermit)> {
    let permit = free.clone().acquire_owned().await.expect("this semaphore is never closed");
    let (stream, address) = listener.accept().await?;
    // Answers are small and wanted at once.
    stream.set_nodelay(true)?;
    Ok((stream, Peer(address), permit))
}

async fn accept_build(
    listener: Option<&UnixListener>,
    free: &Arc<Semaphore>,
) -> io::Result<(UnixStream, OwnedSemaphorePermit)> {
    let Some(listener) = listener else { return std::future::pending().await };
    let permit = free.clone().acquire_owned().await.expect("this semaphore is never closed");
    let (stream, _) = listener.accept().await?;
    Ok((stream, permit))
}

/// HTTP/1.1 and HTTP/2 within our limits.
fn protocols() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_MAX_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_MAX_BYTES as u32)
        .max_concurrent_streams(STREAMS_MAX)
        .keep_alive_interval(HEAD_TIMEOUT)
        .keep_alive_timeout(HEAD_TIMEOUT);
    builder
}

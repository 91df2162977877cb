//! Bytes from a client into a file: bounded memory, no thread held while the client is slow, checksums on the way.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use hyper::{HeaderMap, StatusCode};
use s3s::checksum::ChecksumHasher;
use s3s::crypto::{Checksum as _, Crc32, Crc32c, Crc64Nvme, Sha1, Sha256};
use s3s::dto::{Checksum, ChecksumAlgorithm, StreamingBlob};
use s3s::{S3Error, S3ErrorCode, S3Result, StdError, TrailingHeaders, s3_error};

use super::shapes;

/// Bytes gathered before a file is written to.
const GATHER_BYTES: usize = 256 * 1024;
/// How long a client may pause within a body.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// What a client promised about a body.
#[derive(Default)]
pub(super) struct Promise {
    /// Checksums in the request's head.
    pub(super) checksum: Checksum,
    /// Algorithms to compute because the client named them, wherever the value is.
    pub(super) algorithms: Vec<String>,
    /// `Content-MD5`, base64.
    pub(super) md5: Option<String>,
    /// Where a checksum that follows the body will be.
    pub(super) trailers: Option<TrailingHeaders>,
}

impl Promise {
    pub(super) fn new(
        checksum: Checksum,
        algorithm: Option<&ChecksumAlgorithm>,
        md5: Option<String>,
        headers: &HeaderMap,
        trailers: Option<TrailingHeaders>,
    ) -> Promise {
        let mut algorithms: Vec<String> = algorithm.iter().map(|name| name.as_str().to_owned()).collect();
        algorithms.extend(shapes::checksums(&checksum).iter().map(|(name, _)| (*name).to_owned()));
        let announced = headers.get_all("x-amz-trailer").iter().filter_map(|value| value.to_str().ok());
        algorithms.extend(announced.flat_map(|names| names.split(',')).filter_map(|name| {
            name.trim().to_ascii_lowercase().strip_prefix("x-amz-checksum-").map(str::to_ascii_uppercase)
        }));
        Promise { checksum, algorithms, md5, trailers }
    }

    fn hasher(&self) -> ChecksumHasher {
        let wanted = |name: &str| self.algorithms.iter().any(|algorithm| algorithm == name);
        ChecksumHasher {
            crc32: wanted("CRC32").then(Crc32::new),
            crc32c: wanted("CRC32C").then(Crc32c::new),
            sha1: wanted("SHA1").then(Sha1::new),
            sha256: wanted("SHA256").then(Sha256::new),
            crc64nvme: wanted("CRC64NVME").then(Crc64Nvme::new),
        }
    }

    /// Compares what came with what was promised; gives the checksums to keep.
    fn check(self, computed: &Checksum, md5: [u8; 16]) -> S3Result<BTreeMap<String, String>> {
        let bad = |what: &str| {
            s3_error!(BadDigest, "The {} you specified did not match the calculated checksum.", what)
        };
        if self.md5.is_some_and(|promised| promised != base64_simd::STANDARD.encode_to_string(md5)) {
            return Err(s3_error!(
                BadDigest,
                "The Content-MD5 you specified did not match what we received."
            ));
        }
        let trailing = self.trailers.and_then(|trailers| trailers.take()).unwrap_or_default();
        let kept = shapes::checksums(computed);
        for (algorithm, value) in &kept {
            let name = format!("x-amz-checksum-{}", algorithm.to_ascii_lowercase());
            let trailed = trailing.get(&name).map(|value| value.as_bytes());
            let heads = shapes::checksums(&self.checksum);
            let head = heads.iter().find(|(name, _)| name == algorithm).map(|(_, value)| value.as_bytes());
            if [trailed, head].into_iter().flatten().any(|promised| promised != value.as_bytes()) {
                return Err(bad(algorithm));
            }
        }
        Ok(kept.into_iter().map(|(algorithm, value)| (algorithm.to_owned(), value.to_owned())).collect())
    }
}

/// A file that a body is written to, which knows the MD5 of what it got.
pub(super) trait Sink: Write + Send + 'static {
    fn md5(&self) -> [u8; 16];
}

impl Sink for store::objects::ObjectWriter {
    fn md5(&self) -> [u8; 16] {
        self.digests().0
    }
}

impl Sink for store::objects::PartWriter {
    fn md5(&self) -> [u8; 16] {
        self.digests().0
    }
}

/// Writes the whole body into `sink` and holds it to what was promised. Gives the sink, still to be finished, and
/// the checksums to keep.
pub(super) async fn receive<S: Sink>(
    body: Option<StreamingBlob>,
    sink: S,
    promise: Promise,
) -> S3Result<(S, BTreeMap<String, String>)> {
    let mut state = (sink, promise.hasher());
    if let Some(mut body) = body {
        while let Some(gathered) = gather(&mut body).await? {
            state = write(state, gathered).await?;
        }
    }
    let (sink, hasher) = state;
    let checksums = promise.check(&hasher.finalize(), sink.md5())?;
    Ok((sink, checksums))
}

async fn write<S: Sink>(
    (mut sink, mut hasher): (S, ChecksumHasher),
    bytes: Bytes,
) -> S3Result<(S, ChecksumHasher)> {
    blocking(move || {
        hasher.update(&bytes);
        sink.write_all(&bytes).map_err(disk_error)?;
        Ok((sink, hasher))
    })
    .await
}

/// The next piece of a body, large enough to be worth a visit to the disk. `None` at the end.
async fn gather(body: &mut StreamingBlob) -> S3Result<Option<Bytes>> {
    let mut gathered = BytesMut::new();
    while gathered.len() < GATHER_BYTES {
        match tokio::time::timeout(IDLE_TIMEOUT, body.next()).await {
            Ok(Some(Ok(bytes))) if gathered.is_empty() && bytes.len() >= GATHER_BYTES => {
                return Ok(Some(bytes));
            }
            Ok(Some(Ok(bytes))) => gathered.extend_from_slice(&bytes),
            Ok(Some(Err(error))) => return Err(body_error(&error)),
            Ok(None) => break,
            Err(_) => {
                return Err(s3_error!(
                    RequestTimeout,
                    "Your socket connection to the server was not read from or written to within the timeout period. Idle connections will be closed."
                ));
            }
        }
    }
    Ok((!gathered.is_empty()).then(|| gathered.freeze()))
}

/// Runs file work where it may block.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> S3Result<T> + Send + 'static,
) -> S3Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(shapes::internal)?
}

fn disk_error(error: std::io::Error) -> S3Error {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            shapes::error(store::Error::Full)
        }
        _ => shapes::internal(error),
    }
}

/// A body that broke off, or that is not what its signatures say. s3s keeps its error types to itself, so their
/// texts are all there is to tell them apart by.
fn body_error(error: &StdError) -> S3Error {
    let text = error.to_string();
    if text.contains("Sha256Mismatch") {
        let mut error = S3Error::with_message(
            S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into()),
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        );
        error.set_status_code(StatusCode::BAD_REQUEST);
        error
    } else if text.contains("SignatureMismatch") {
        s3_error!(SignatureDoesNotMatch)
    } else {
        s3_error!(
            IncompleteBody,
            "You did not provide the number of bytes specified by the Content-Length HTTP header"
        )
    }
}

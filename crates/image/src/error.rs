//! What can go wrong with an image, told apart by what a caller does about it. No wire texts live here.

use std::io;
use std::path::{Path, PathBuf};

/// Why an image could not be had.
///
/// A caller retries [`Error::Registry`] and [`Error::Io`]; every other variant stays true until the
/// reference, the image or the operator's configuration changes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text names no image: neither an existing path nor a well-formed registry reference.
    #[error("{reference:?} is not an image reference: {reason}")]
    Reference { reference: String, reason: &'static str },
    /// The place exists but holds no such image, tag, digest or blob.
    #[error("no such image: {0}")]
    NotFound(String),
    /// The registry refused the credentials given, or wants some and none were given.
    #[error("registry {registry} refused access: {reason}")]
    Denied { registry: String, reason: String },
    /// The registry, or where it sends us, is at an address that may not be connected to; nothing was sent there.
    #[error("{host} is at {address}, which is no public address; the operator can allow it (images_allow)")]
    Address { host: String, address: std::net::IpAddr },
    /// The registry could not be reached, broke off, or answered with something unexpected.
    #[error("registry {registry}: {reason}")]
    Registry { registry: String, reason: String },
    /// The image is there, but not for this host's platform (`os/architecture`, in Go's words).
    #[error("the image is for {found}, this host needs {wanted}")]
    Platform { wanted: String, found: String },
    /// The bytes are not what the OCI image specification (or `docker save`) says they should be.
    #[error("malformed image: {what}: {reason}")]
    Malformed { what: String, reason: String },
    /// The content is not the content its name promises.
    #[error("{what}: expected {expected}, the content is {found}")]
    Mismatch { what: String, expected: String, found: String },
    /// A limit with a name was exceeded (see [`crate::Limits`]).
    #[error("the image exceeds the limit on {name} ({limit})")]
    Limit { name: &'static str, limit: u64 },
    /// There is no room for the image: it takes up `bytes` or more, and what others that are in use leave of the quota is less. All in bytes.
    #[error(
        "the image needs {bytes} bytes or more, and of the {quota} that all images may take up (images_quota) {in_use} are in use"
    )]
    Quota { bytes: u64, quota: u64, in_use: u64 },
    /// A layer entry tried to reach outside the image's root file system.
    #[error("layer entry {entry:?} refused: {reason}")]
    Unsafe { entry: String, reason: &'static str },
    /// Somebody uses the image, so that it cannot be removed.
    #[error("the image {0} is in use")]
    InUse(crate::Digest),
    /// This host's file system said no.
    #[error("{doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
}

impl Error {
    pub(crate) fn malformed(what: impl Into<String>, reason: impl ToString) -> Error {
        Error::Malformed { what: what.into(), reason: reason.to_string() }
    }

    pub(crate) fn not_safe(entry: &[u8], reason: &'static str) -> Error {
        Error::Unsafe { entry: String::from_utf8_lossy(entry).into_owned(), reason }
    }

    /// For `map_err`: an `io::Error` (or rustix `Errno`) met while `doing` something to `path`.
    pub(crate) fn io<S: Into<io::Error>>(doing: &'static str, path: &Path) -> impl FnOnce(S) -> Error {
        move |source| Error::Io { doing, path: path.to_owned(), source: source.into() }
    }

    /// For `map_err` on reads of image content: our own errors that travelled through `io::Read` come
    /// out as they went in; anything else means that the content itself cannot be read.
    pub(crate) fn reading(what: &str) -> impl FnOnce(io::Error) -> Error {
        move |error| match error.downcast::<Error>() {
            Ok(own) => own,
            Err(error) => Error::malformed(what, error),
        }
    }
}

/// Lets our errors pass through `io::Read`; [`Error::reading`] takes them out again.
impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::other(error)
    }
}

//! The one error type of this crate: each variant is something a caller treats differently.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A record (project, log group, ...) that the call needs does not exist.
    #[error("{what} {name} does not exist")]
    NotFound { what: &'static str, name: String },
    /// A record or file with this name is there already.
    #[error("{what} {name} already exists")]
    AlreadyExists { what: &'static str, name: String },
    /// A paging token or log position that we never handed out, or not for this kind of list.
    #[error("{0:?} is not a token of this list")]
    InvalidToken(String),

    #[error("bucket {0} does not exist")]
    NoSuchBucket(String),
    /// It is another account's than the one that asks.
    #[error("bucket {0} belongs to another account")]
    ForeignBucket(String),
    #[error("bucket {0} already exists")]
    BucketAlreadyExists(String),
    #[error("bucket {0} still holds objects or foreign files")]
    BucketNotEmpty(String),
    #[error("{name:?} is no bucket name: {rule}")]
    InvalidBucketName { name: String, rule: BucketNameRule },
    #[error("object {0} does not exist")]
    NoSuchKey(String),
    #[error("object {key} has no version {version}")]
    NoSuchVersion { key: String, version: String },
    /// Keys are 1 to 1024 bytes of UTF-8; the length found is given, in bytes.
    #[error("a key has 1 to 1024 bytes, not {0}")]
    InvalidKey(usize),
    /// Something on the way to the object is neither a folder nor a plain file (a symbolic link, say).
    #[error("the path of object {0} is blocked by something that is neither folder nor plain file")]
    Blocked(String),
    /// The object is not (or no longer) what the condition of the write asks for.
    #[error("object {0} does not meet the condition of the write")]
    PreconditionFailed(String),
    /// Metadata that does not fit beside the object; the size is that of its stored form, in bytes.
    #[error("the object's metadata is too large: {0} bytes")]
    MetadataTooLarge(usize),
    #[error("upload {0} does not exist")]
    NoSuchUpload(String),
    /// Part numbers go from 1 to 10,000.
    #[error("{0} is no part number (1 to 10000)")]
    InvalidPartNumber(u32),
    /// A part named at completion was never uploaded, or with another ETag.
    #[error("part {0} was not uploaded with that ETag")]
    InvalidPart(u32),
    /// Parts must be named at completion, in ascending order.
    #[error("the parts are not in ascending order")]
    InvalidPartOrder,
    /// Every part but the last has at least 5 MiB; the size found is given, in bytes.
    #[error("part {number} is too small: {size} bytes")]
    PartTooSmall { number: u32, size: u64 },
    /// The folder's file system cannot hold object metadata at all.
    #[error(
        "the file system of {0} has no user extended attributes; choose a folder on ext4, xfs, btrfs or tmpfs"
    )]
    NoExtendedAttributes(PathBuf),

    /// Another process (or another handle in this one) has it open for writing.
    #[error("{0} is in use by another process")]
    Locked(String),
    /// Another process has owned the records since: whoever gets this has to leave them alone.
    #[error("another process has taken over {0}")]
    TakenOver(String),
    /// The database cannot be reached, or has gone away in the middle. Nothing of the call was kept; later calls find
    /// out by themselves whether it is back.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// A database that does not promise what the records rest on; says which rule it breaks.
    #[error("the database {place} cannot be used: {rule}")]
    Database { place: String, rule: String },
    /// What should be the URL of a database. It is not shown, for it may hold a password.
    #[error("that is not the URL of a database: {0}")]
    InvalidAddress(&'static str),
    /// A text that not every database can hold.
    #[error("a text cannot be stored: {0}")]
    InvalidText(&'static str),
    /// The records were written by a newer version than this one.
    #[error(
        "the records have schema {found}, this version knows schemas up to {known}; use the newer version"
    )]
    NewerSchema { found: i64, known: i64 },
    /// There are as many as there may be.
    #[error("there are {limit} {what} already, which is the limit")]
    TooMany { what: &'static str, limit: u64 },
    /// The key of parameters and secrets is not what it should be.
    #[error("the key file {path} cannot be used: {reason}")]
    Key { path: PathBuf, reason: String },
    /// A log segment that ended; nothing can be appended.
    #[error("log segment {0} is sealed")]
    Sealed(PathBuf),
    /// A file that does not hold what we wrote there.
    #[error("{path} is damaged or of another kind, at byte {offset}")]
    Damaged { path: PathBuf, offset: u64 },

    /// No space or quota left, or a file as large as it may be. Nothing of the call was kept.
    #[error("the disk is full")]
    Full,
    /// Everything else: nothing a caller can do but report it.
    #[error("{doing}: {source}")]
    Internal { doing: &'static str, source: Source },
}

/// The rule of S3 that a bucket name breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BucketNameRule {
    #[error("it must have 3 to 63 characters")]
    Length,
    #[error("only lower-case letters, digits, dots and hyphens are allowed")]
    Characters,
    #[error("it must begin and end with a letter or digit")]
    Ends,
    #[error("two dots must not be adjacent")]
    AdjacentDots,
    #[error("it must not look like an IP address")]
    IpAddress,
    #[error("this beginning or ending is reserved")]
    Reserved,
}

impl Error {
    pub(crate) fn internal(doing: &'static str, source: impl Into<Source>) -> Error {
        Error::Internal { doing, source: source.into() }
    }

    pub(crate) fn key(path: &std::path::Path, reason: impl Into<String>) -> Error {
        Error::Key { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn not_found(what: &'static str, name: &str) -> Error {
        Error::NotFound { what, name: name.to_owned() }
    }

    pub(crate) fn already_exists(what: &'static str, name: &str) -> Error {
        Error::AlreadyExists { what, name: name.to_owned() }
    }
}

/// Gives a failed system call its place among the errors above.
pub(crate) trait Doing<T> {
    /// `doing` says what was being done, for the one line that an operator reads.
    fn doing(self, doing: &'static str) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: &'static str) -> Result<T> {
        self.map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Error::Full,
            _ => Error::internal(doing, error),
        })
    }
}

impl<T> Doing<T> for rustix::io::Result<T> {
    fn doing(self, doing: &'static str) -> Result<T> {
        self.map_err(io::Error::from).doing(doing)
    }
}

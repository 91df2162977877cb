//! Everything that can go wrong, as far as a caller treats it differently.

use std::io;
use std::path::PathBuf;

/// Why a container could not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host does not permit containers to this user; nothing short of `remedy` will help.
    #[error("{what} is not permitted on this host: {why}. {remedy}")]
    Forbidden { what: String, why: String, remedy: String },
    /// The caller has several threads, so forking it is not safe.
    #[error("a container can only be made by a process with one thread, and this one has {0}")]
    Threads(usize),
    /// The spec makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// No such user or group inside the container, or it has no number here (an ordinary user has only one).
    #[error("the container has no user {0:?}")]
    UnknownUser(String),
    /// The working folder cannot be entered.
    #[error("cannot enter the working folder {path}: {source}", path = path.display())]
    WorkingFolder { path: PathBuf, source: io::Error },
    /// A file could not be written before the start.
    #[error("cannot write {path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    /// The program could not be executed; `source` tells whether it was missing.
    #[error("cannot execute {program}: {source}")]
    Exec { program: String, source: io::Error },
    /// The container has no room for one more process.
    #[error("cannot start one more process in the container: {0}")]
    Full(io::Error),
    /// [`crate::Spec::functions`] holds no such name.
    #[error("the container knows no function {0:?}")]
    UnknownFunction(String),
    /// The container's init has ended.
    #[error("the container is gone")]
    Gone,
    /// A step of the making or removal failed.
    #[error("{what}: {source}")]
    Failed { what: String, source: io::Error },
}

/// Adds what was being done to an error of the operating system.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl Into<String>) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: impl Into<String>) -> Result<T, Error> {
        self.map_err(|source| Error::Failed { what: what.into(), source: source.into() })
    }
}

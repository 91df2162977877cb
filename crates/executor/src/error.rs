//! What can go wrong between the engine and an agent. All of it is ours: a build's own failure is in its journal.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No agent took the build; `reason` quotes its own words where it left any.
    #[error("no agent took the build: {reason}")]
    NotStarted { reason: String },
    /// The build's folder, or something in it, could not be made, read or removed.
    #[error("cannot {action} {}: {source}", path.display())]
    Folder { action: &'static str, path: PathBuf, source: io::Error },
    /// The agent could not be reached though it may be alive.
    #[error("cannot reach the build's agent: {0}")]
    Unreachable(io::Error),
    /// The daemon that makes containers was asked something and would not, or could not be reached.
    #[error("the daemon was asked {asked}: {reason}")]
    Daemon { asked: String, reason: String },
    /// A program that containers are to start with cannot be that.
    #[error("{} cannot be used: {rule}", path.display())]
    Program { path: PathBuf, rule: &'static str },
    /// What a dead agent left could not be cleaned up.
    #[error("cannot clean up after a dead agent: {0}")]
    Container(#[from] container::Error),
}

impl Error {
    /// For `map_err`: names what was being done to which path.
    pub(crate) fn folder(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Folder { action, path, source }
    }
}

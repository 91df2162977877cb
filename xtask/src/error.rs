//! Why a chore stops.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("usage:\n{0}")]
    Usage(String),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path}: not a service model: {source}")]
    Model { path: PathBuf, source: serde_json::Error },
    /// The model says something the generator was never taught.
    #[error("{0}")]
    Unsupported(String),
    #[error("stale, run `cargo xtask {command}`: {}", .files.join(", "))]
    Stale { command: &'static str, files: Vec<String> },
    #[error("{path}: {source}")]
    Toml { path: PathBuf, source: toml::de::Error },
    /// One line for each thing that breaks a rule.
    #[error("{} finding(s)\n{}", .0.len(), .0.join("\n"))]
    Untidy(Vec<String>),
    #[error("{command}: {status}")]
    Check { command: String, status: std::process::ExitStatus },
    #[error("{0}")]
    Bench(String),
    /// The evidence could not be taken, or is against us.
    #[error("torture: {0}")]
    Torture(String),
    #[error("virtual machine: {0}")]
    Vm(String),
}

/// Attaches the file's name to what went wrong with it.
pub(crate) fn at(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    move |source| Error::File { path: path.to_path_buf(), source }
}

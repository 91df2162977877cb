//! What is wrong with a file: where, what, and by which rule. Which file, the caller knows.

use crate::format::Format;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("it has {bytes} bytes; at most {limit} are read")]
    TooLarge { bytes: usize, limit: usize },
    #[error("line {line}: {what}")]
    Malformed { line: usize, what: String },
    #[error("it has more than {limit} {what}")]
    TooMany { what: &'static str, limit: usize },
    /// Sound, but another format's.
    #[error("it is not {format}: it begins with `{begins}`, and {expected} is expected")]
    OtherFormat { format: Format, begins: String, expected: &'static str },
    #[error("test results and code coverage cannot be in one report")]
    OtherKind,
}

impl Error {
    /// At a byte of `text`.
    pub(crate) fn malformed(text: &str, byte: usize, what: impl Into<String>) -> Error {
        let before = &text.as_bytes()[..byte.min(text.len())];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Error::Malformed { line, what: what.into() }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Error {
        Error::Malformed { line: error.line(), what: error.to_string() }
    }
}

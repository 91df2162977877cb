//! Why an operation is refused, by what the caller can do about it. How the wire says so is `server`'s.

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request asks for something that is wrong, or not available; the text names the member.
    #[error("{0}")]
    InvalidInput(String),
    /// What the request names does not exist.
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    AlreadyExists(String),
    #[error("{0}")]
    AccountLimitExceeded(String),
    /// Nothing was done and trying again later may help: the disk is full, or we are shutting down.
    #[error("{0}")]
    Unavailable(String),
    /// A fault of ours.
    #[error("{0}")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub(crate) fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::Internal(source.into())
    }

    pub(crate) fn invalid<T>(message: impl Into<String>) -> Result<T> {
        Err(Error::InvalidInput(message.into()))
    }

    /// The refusal, told by the member of the request that it is about.
    pub(crate) fn within(self, member: &str) -> Error {
        match self {
            Error::InvalidInput(message) => Error::InvalidInput(format!("{member}: {message}")),
            other => other,
        }
    }

    /// Refuses what would change how a build runs in a way that is not built yet.
    pub(crate) fn not_available<T>(member: &str, value: &str) -> Result<T> {
        Error::invalid(format!("{member} {value} is not available in this version"))
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Error {
        match error {
            store::Error::Full => Error::Unavailable("The disk is full".to_string()),
            store::Error::Unavailable(_) | store::Error::TakenOver(_) => {
                tracing::error!(%error, "a request could not be kept");
                Error::Unavailable("The database is unavailable".to_string())
            }
            store::Error::InvalidText(rule) => Error::InvalidInput(format!("Invalid text: {rule}")),
            store::Error::InvalidToken(token) => Error::InvalidInput(format!("Invalid next token: {token}")),
            other => Error::internal(other),
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Error {
        Error::internal(error)
    }
}

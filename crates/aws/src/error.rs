//! Why a call brought no answer, by what the caller can do about it.

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The service's own refusal, in its words: `AccessDeniedException: User: ... is not authorized ...`.
    #[error("{code}: {message}")]
    Refused { code: String, message: String, http_status: u16 },
    /// Nobody answered, or not in time, or the connection broke; however often it was tried.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable { url: String, reason: String },
    /// An answer that is none of this protocol's.
    #[error("{url} answered what no AWS service answers: {reason}")]
    Answer { url: String, reason: String },
    /// Bytes that are not those that were stored, or not what is said of them; however often they were asked for.
    #[error("{url} answered wrongly: {reason}")]
    Damaged { url: String, reason: String },
    /// Whoever asked wants nothing more.
    #[error("it was given up before it was done")]
    Stopped,
    /// A name that cannot be asked for.
    #[error("{name:?} cannot be asked for: {rule}")]
    Name { name: String, rule: &'static str },
    /// The file here that bytes come from or go to.
    #[error("a file of this host cannot be used: {0}")]
    File(#[from] std::io::Error),
    /// An endpoint that cannot be one.
    #[error("the endpoint {url} is wrong: {rule}")]
    Endpoint { url: String, rule: &'static str },
    /// A key id, region or the like that does not fit into a request.
    #[error("the {what} cannot be sent: it may hold only visible ASCII characters")]
    Unsendable { what: &'static str },
    /// No HTTP client could be made on this host; no certificates, most likely.
    #[error("no HTTPS client can be made on this host: {0}")]
    NoTransport(String),
}

impl Error {
    /// Whether the service refused with this code.
    pub fn is(&self, wanted: &str) -> bool {
        matches!(self, Error::Refused { code, .. } if code == wanted)
    }
}

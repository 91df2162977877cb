//! What is wrong with a policy: where, with which value, and by which rule.

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the policy has {bytes} bytes; at most {limit} are allowed")]
    TooLong { bytes: usize, limit: usize },
    #[error("{place} has {count} values; at most {limit} are allowed")]
    TooMany { place: String, count: usize, limit: usize },
    /// No JSON, or an object that names a member twice, which two readers would understand differently.
    #[error("the policy is not JSON that can be understood: {0}")]
    Json(String),
    /// An element, operator or key that is not known here, and therefore cannot be honoured.
    #[error("{place} holds `{name}`, which is not understood here")]
    Unknown { place: String, name: String },
    #[error("{place} has no {element}")]
    Missing { place: String, element: &'static str },
    #[error("{place}: `{value}` {rule}")]
    Wrong { place: String, value: String, rule: &'static str },
}

impl Error {
    pub(crate) fn unknown(place: &str, name: &str) -> Error {
        Error::Unknown { place: place.to_owned(), name: shortened(name) }
    }

    pub(crate) fn wrong(place: &str, value: &str, rule: &'static str) -> Error {
        Error::Wrong { place: place.to_owned(), value: shortened(value), rule }
    }
}

/// What others wrote, short enough for a message.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 100;
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}

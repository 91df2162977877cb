//! A YAML document as a tree that keeps what a buildspec needs: each scalar's spelling, each value's place.
//!
//! Scalars are not typed here: whether `3.10` is text or `yes` a boolean is for the reader of a field to say
//! (BS-013, BS-014). Aliases and merge keys are already followed.

mod load;
mod wording;

use std::sync::Arc;

use crate::diagnostic::Span;
pub(crate) use load::load;

/// One value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// What it is.
    pub(crate) value: Value,
    /// Its text. What an alias brought in stands where it was written, not where it is used.
    pub(crate) span: Span,
}

/// What a [`Node`] is. Parts reached through an alias are shared, not copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// A scalar: its text with quotes, escapes and block indentation resolved, otherwise as written.
    Scalar {
        /// The text.
        text: String,
        /// Written without quotes or block indicator, so that `no` may be a boolean and nothing a null.
        plain: bool,
    },
    /// A list.
    List(Vec<Arc<Node>>),
    /// A map in the order of the text, merged entries last; keys are unique.
    Map(Vec<Entry>),
}

/// A key of a map with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The key's text.
    pub(crate) key: String,
    /// Where the key stands.
    pub(crate) span: Span,
    /// Its value.
    pub(crate) node: Arc<Node>,
}

impl Node {
    /// Whether nothing is written here: `key:` with no value at all.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, plain: true } if text.is_empty())
    }

    /// Whether YAML reads this as null: nothing at all, `~` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        match &self.value {
            Value::Scalar { text, plain: true } => {
                matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL")
            }
            _ => false,
        }
    }

    /// CodeBuild's word for the kind of value, as in `Cannot unmarshal map to string`.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            _ if self.is_null() => "null",
            Value::Scalar { .. } => "string",
            Value::List(_) => "list",
            Value::Map(_) => "map",
        }
    }
}

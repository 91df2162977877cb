//! What a service answers to a call, before a protocol gives it bytes.

use serde::Serialize;
use serde_json::Value;

use crate::http::Answer;

/// An operation's answer.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The members of the operation's output.
    Members(Value),
    /// An output without members, which some services answer with no body at all.
    Nothing,
    /// An answer that goes on, in the shape of its own protocol.
    Stream(Answer),
}

impl Reply {
    /// The members of a generated type.
    pub(crate) fn of(output: &impl Serialize) -> Reply {
        Reply::Members(serde_json::to_value(output).expect("generated types have string keys only"))
    }
}

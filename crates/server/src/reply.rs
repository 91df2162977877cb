//! What a service answers to a call, before a protocol gives it bytes.

use serde::Serialize;
use serde_json::Value;

use crate::http::Answer;

/// An operation's answer.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The members of the operation's output.
    Members(Members),
    /// An output without members, which some services answer with no body at all.
    Nothing,
    /// An answer that goes on, in the shape of its own protocol.
    Stream(Answer),
}

impl Reply {
    /// The members of a generated type.
    pub(crate) fn of(output: &impl Serialize) -> Reply {
        Reply::Members(Members::of(output))
    }
}

/// The members of an output. They are written as JSON at once, and read again only if somebody has to change them or
/// another protocol is spoken: most answers are long, and go to the client as they are.
#[derive(Debug)]
pub struct Members(Form);

#[derive(Debug)]
enum Form {
    Written(String),
    Read(Value),
}

impl From<Value> for Members {
    fn from(members: Value) -> Members {
        Members(Form::Read(members))
    }
}

impl Members {
    /// Those of a generated type.
    pub(crate) fn of(output: &impl Serialize) -> Members {
        let text = serde_json::to_string(output).expect("generated types have string keys only");
        Members(Form::Written(text))
    }

    /// Those of this JSON object.
    pub(crate) fn written(text: String) -> Members {
        Members(Form::Written(text))
    }

    pub(crate) fn value(&mut self) -> &mut Value {
        if let Form::Written(text) = &self.0 {
            self.0 = Form::Read(serde_json::from_str(text).expect("it was written as JSON"));
        }
        let Form::Read(value) = &mut self.0 else { unreachable!("it was read just now") };
        value
    }

    pub(crate) fn into_value(mut self) -> Value {
        self.value().take()
    }

    /// As JSON.
    pub(crate) fn into_text(self) -> String {
        match self.0 {
            Form::Written(text) => text,
            Form::Read(value) => value.to_string(),
        }
    }
}

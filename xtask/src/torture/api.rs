//! Requests whose answer may never come: what was answered, what was refused, and what nobody knows.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::bench::client::{Client, GET_LOG_EVENTS, whole_log};

/// How often something is read whose answer is lost.
const READS: usize = 5;
const CODEBUILD: &str = "CodeBuild_20161006.";

#[derive(Debug)]
pub(super) enum Answer {
    Done(Value),
    /// An error in AWS's form.
    Refused {
        status: u16,
        code: String,
        message: String,
    },
    /// No answer, or not all of it: it may have been carried out.
    Lost(String),
}

impl Answer {
    /// Refused because the clocks of the two sides were not alike.
    pub(super) fn is_skew(&self) -> bool {
        matches!(self, Answer::Refused { status: 400 | 403, message, .. } if message.contains("Signature expired") || message.contains("Signature not yet current"))
    }

    pub(super) fn done(self) -> Result<Value, String> {
        match self {
            Answer::Done(value) => Ok(value),
            Answer::Refused { status, code, message } => Err(format!("{status} {code}: {message}")),
            Answer::Lost(reason) => Err(reason),
        }
    }
}

/// One connection, made again after it was lost.
pub(super) struct Api {
    host: String,
    /// Seconds by which the server's clock is ahead.
    ahead: Arc<AtomicI64>,
    client: Option<Client>,
}

impl Api {
    pub(super) fn new(host: &str, ahead: Arc<AtomicI64>) -> Api {
        Api { host: host.to_owned(), ahead, client: None }
    }

    pub(super) fn ask(&mut self, operation: &str, input: &Value) -> Answer {
        self.of("codebuild", &format!("{CODEBUILD}{operation}"), input)
    }

    /// [`Api::read`] of CodeBuild.
    pub(super) fn get(&mut self, operation: &str, input: &Value) -> Result<Value, String> {
        self.read("codebuild", &format!("{CODEBUILD}{operation}"), input)
    }

    pub(super) fn of(&mut self, service: &str, target: &str, input: &Value) -> Answer {
        let body = format!("{input}{}", padding());
        match self.exchange(service, target, body.as_bytes()) {
            Ok((200, body)) if body.is_empty() => Answer::Done(Value::Null),
            Ok((200, body)) => serde_json::from_slice(&body)
                .map_or_else(|e| Answer::Lost(format!("{target}: {e}")), Answer::Done),
            Ok((status, body)) => refusal(status, &body),
            Err(reason) => {
                self.client = None;
                Answer::Lost(reason)
            }
        }
    }

    /// What changes nothing may be asked for again: a connection that was not used for a while is closed.
    pub(super) fn read(&mut self, service: &str, target: &str, input: &Value) -> Result<Value, String> {
        for _ in 1..READS {
            match self.of(service, target, input) {
                Answer::Lost(_) => std::thread::sleep(Duration::from_millis(20)),
                answer => return answer.done(),
            }
        }
        self.of(service, target, input).done()
    }

    /// All of a build's log.
    pub(super) fn log(&mut self, build: &Value) -> Result<String, String> {
        whole_log(build, |input| self.read("logs", GET_LOG_EVENTS, input))
    }

    fn exchange(&mut self, service: &str, target: &str, body: &[u8]) -> Result<(u16, Vec<u8>), String> {
        if self.client.is_none() {
            self.client = Some(Client::connect(&self.host)?);
        }
        let client = self.client.as_mut().expect("was just made");
        client.set_ahead(self.ahead.load(Ordering::Relaxed));
        client.bytes(service, target, body)
    }
}

/// Blanks after a body, as many as for no other request of late: a signature is good for one change, and a change that is asked for again within
/// the same second would have the same one.
fn padding() -> String {
    thread_local!(static REQUESTS: Cell<usize> = const { Cell::new(0) });
    let number = REQUESTS.with(|requests| requests.replace(requests.get() + 1));
    " ".repeat(number % 97)
}

fn refusal(status: u16, body: &[u8]) -> Answer {
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let code = text("__type").rsplit('#').next().unwrap_or_default().to_owned();
    let message = if body["message"].is_null() { text("Message") } else { text("message") };
    Answer::Refused { status, code, message }
}

//! Requests made of bytes, and what the verifier says of them; shared by the targets that sign.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use server::{keys, sigv4};

/// As the room of that name has it.
#[derive(Debug)]
pub struct ServiceError;

impl ServiceError {
    pub fn new(_code: &str, _message: impl Into<String>, _status: u16) -> ServiceError {
        ServiceError
    }
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Principal {
    pub account: String,
    pub arn: String,
    pub user_id: String,
}

/// Nobody asks here what a caller may do.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rights(Principal);

impl Rights {
    pub fn principal(&self) -> &Principal {
        &self.0
    }
}

// The room would bring SQLite and a web server along; these modules need nothing of them.
#[allow(dead_code, unused_imports)]
#[path = "../../crates/server/src"]
pub mod server {
    pub mod keys;
    pub mod sigv4;
    pub mod time;
}

pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
pub const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
pub const DATE: &str = "20150830T123600Z";
pub const NOW: i64 = 1_440_938_160;

/// Lines: path and query, then headers up to an empty line, then the body.
pub struct Input<'a> {
    pub path: &'a str,
    pub query: &'a str,
    pub headers: HeaderMap,
    pub body: &'a [u8],
}

pub fn read(bytes: &[u8]) -> Option<Input<'_>> {
    let cut = bytes.windows(2).position(|pair| pair == b"\n\n")?;
    let (head, body) = (std::str::from_utf8(&bytes[..cut]).ok()?, &bytes[cut + 2..]);
    let mut lines = head.split('\n');
    let target = lines.next()?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).ok()?);
    }
    Some(Input { path, query, headers, body })
}

pub fn verdict(input: &Input<'_>, service: &str) -> Result<sigv4::Verified, sigv4::Rejection> {
    let Input { path, query, headers, body } = input;
    let rules = sigv4::Rules { region: "us-east-1", service, skew_seconds: 300, presigned: service == "s3" };
    let request = sigv4::Request { method: "POST", path, query, headers };
    let payload = if service == "s3" { sigv4::Payload::Announced } else { sigv4::Payload::Body(body) };
    let caller = keys::Caller::of(Rights::default());
    let key = keys::AccessKey { id: KEY.into(), secret: SECRET.into(), caller, session: None };
    sigv4::verify(&request, payload, &rules, NOW, &[key].into_iter().collect())
}

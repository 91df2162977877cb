//! One request: its URL, its signature, what is tried again and what is not.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Method, Response, StatusCode, Url};

use super::answer;
use super::{At, Store, text};
use crate::client::{bounded, chain, host, pause, sendable};
use crate::error::{Error, Result};
use crate::sign::{self, Name};

/// How often a request is tried in all.
pub(super) const ATTEMPTS: u32 = 5;

/// What is asked.
#[derive(Debug, Clone)]
pub(super) struct Call<'a> {
    method: &'static str,
    at: &'a At,
    query: Vec<(&'static str, String)>,
    headers: Vec<(Name, String)>,
    body: Bytes,
    tidies_up: bool,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// A try that brought nothing, and whether another may.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) again: bool,
    pub(super) error: Error,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed { again: false, error }
    }
}

impl Failed {
    pub(super) fn again(error: Error) -> Failed {
        Failed { again: true, error }
    }
}

impl<'a> Call<'a> {
    pub(super) fn new(method: &'static str, at: &'a At) -> Call<'a> {
        Call { method, at, query: Vec::new(), headers: Vec::new(), body: Bytes::new(), tidies_up: false }
    }

    /// Nothing is added without a value.
    pub(super) fn query(mut self, name: &'static str, value: Option<&str>) -> Call<'a> {
        self.query.extend(value.map(|value| (name, value.to_owned())));
        self
    }

    /// Lower case.
    pub(super) fn header(mut self, name: &'static str, value: Option<String>) -> Call<'a> {
        self.headers.extend(value.map(|value| (name.into(), value)));
        self
    }

    pub(super) fn headers(mut self, headers: Vec<(Name, String)>) -> Call<'a> {
        self.headers.extend(headers);
        self
    }

    /// It is made even when nothing else is any more.
    pub(super) fn tidies_up(mut self) -> Call<'a> {
        self.tidies_up = true;
        self
    }

    pub(super) fn body(mut self, body: Bytes) -> Call<'a> {
        self.body = body;
        self
    }

    pub(super) fn url(&self, endpoint: &Url, path_style: bool) -> Result<Url> {
        let At { bucket, key } = self.at;
        check(bucket, key)?;
        let mut url = endpoint.clone();
        let path = match path_style {
            true => format!("/{bucket}/{}", encoded(key, true)),
            false => format!("/{}", encoded(key, true)),
        };
        if !path_style {
            let name = format!("{bucket}.{}", endpoint.host_str().unwrap_or_default());
            let rule = "the endpoint takes no bucket in front of its name: set path_style = true";
            url.set_host(Some(&name)).map_err(|_| Error::Endpoint { url: name, rule })?;
        }
        url.set_path(&path);
        url.set_query(Some(&self.query_text()).filter(|query| !query.is_empty()).map(String::as_str));
        Ok(url)
    }

    fn query_text(&self) -> String {
        let mut pairs: Vec<String> =
            self.query.iter().map(|(name, value)| format!("{name}={}", encoded(value, false))).collect();
        pairs.sort();
        pairs.join("&")
    }
}

impl Store {
    /// Asks until there is an answer or enough was tried: every request here may be made twice.
    ///
    /// # Errors
    /// [`Error::Stopped`] after [`Store::stop`].
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Answer> {
        tokio::select! {
            biased;
            answer = self.sent(call) => answer,
            () = self.stopped(), if !call.tidies_up => Err(Error::Stopped),
        }
    }

    async fn sent(&self, call: &Call<'_>) -> Result<Answer> {
        let mut attempt = 1;
        loop {
            let failed = match self.attempt(call).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            if !failed.again || attempt == ATTEMPTS {
                return Err(failed.error);
            }
            tokio::time::sleep(pause(attempt)).await;
            attempt += 1;
        }
    }

    async fn attempt(&self, call: &Call<'_>) -> Result<Answer, Failed> {
        let response = self.begin(call).await?;
        let (url, headers) = (response.url().clone(), response.headers().clone());
        if call.method == "HEAD" {
            return Ok(Answer { headers, body: Vec::new() });
        }
        let body = bounded(&url, response).await.map_err(Failed::again)?;
        match answer::refusal(&body) {
            // A success in name only: the store noticed while it was answering.
            Some((code, message)) => Err(self.refused(&url, StatusCode::INTERNAL_SERVER_ERROR, code, message)),
            None => Ok(Answer { headers, body }),
        }
    }

    /// Sends a request and gives the answer if its status is a success; its body is still to come.
    pub(super) async fn begin(&self, call: &Call<'_>) -> Result<Response, Failed> {
        let url = self.url(call)?;
        let method = Method::from_bytes(call.method.as_bytes()).unwrap_or_default();
        let request = self.http.request(method, url.clone()).headers(self.signed(call, &url)?);
        let sent = request.body(call.body.clone()).send().await;
        let response = sent.map_err(|error| Failed::again(unreachable(&url, &error)))?;
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_success() {
            return Ok(response);
        }
        let body = bounded(&url, response).await.map_err(Failed::again)?;
        let (code, message) = answer::refusal(&body).unwrap_or_else(|| unsaid(status));
        if code == "RequestTimeTooSkewed" {
            self.set_clock(&headers);
        }
        Err(self.refused(&url, status, code, message))
    }

    fn refused(&self, url: &Url, status: StatusCode, code: String, message: String) -> Failed {
        let again = matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
            || matches!(
                code.as_str(),
                "BadDigest" | "InternalError" | "OperationAborted" | "RequestTimeTooSkewed" | "RequestTimeout"
                    | "ServiceUnavailable" | "SlowDown" | "Throttling" | "XAmzContentSHA256Mismatch"
            );
        let message = if message.is_empty() { format!("{url} answered with HTTP status {status}") } else { message };
        Failed { again, error: Error::Refused { code, message, http_status: status.as_u16() } }
    }

    /// By the store's own time from now on: one of the two clocks is wrong, and it decides.
    fn set_clock(&self, headers: &HeaderMap) {
        if let Some(theirs) = text(headers, "date").and_then(answer::http_date_ms) {
            self.ahead_ms.store(theirs.saturating_sub((self.config.clock)()), Ordering::Relaxed);
        }
    }

    fn signed(&self, call: &Call<'_>, url: &Url) -> Result<HeaderMap> {
        let body_hash = sign::hash(&call.body);
        let mut own = call.headers.clone();
        own.push(("x-amz-content-sha256".into(), body_hash.clone()));
        let host = host(url);
        let signed = sign::Call {
            method: call.method,
            host: &host,
            path: url.path(),
            query: url.query().unwrap_or_default(),
            headers: &own,
            body_hash: &body_hash,
            region: &self.config.region,
            service: "s3",
        };
        let now_seconds = u64::try_from(self.now_ms().div_euclid(1000)).unwrap_or_default();
        let added = signed.signed(&self.config.credentials, now_seconds);
        let mut headers = HeaderMap::new();
        for (name, value) in own.into_iter().chain(added.into_iter().map(|(name, value)| (name.into(), value))) {
            let value = sendable("key, metadata or credential", &value)?;
            let name = HeaderName::try_from(&*name).map_err(|_| Error::Unsendable { what: "name of metadata" })?;
            headers.insert(name, value);
        }
        Ok(headers)
    }
}

pub(super) fn unreachable(url: &Url, error: &reqwest::Error) -> Error {
    let reason = if error.is_timeout() { "it kept silent for too long".to_owned() } else { chain(error) };
    Error::Unreachable { url: url.to_string(), reason }
}

/// What a status means that comes without words, as to HEAD.
fn unsaid(status: StatusCode) -> (String, String) {
    let (code, message) = match status.as_u16() {
        301 | 307 | 308 => (
            "PermanentRedirect",
            // COMPAT: SA-005.
            "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint.",
        ),
        403 => ("AccessDenied", "Access Denied"),
        404 => ("NoSuchKey", "The specified key does not exist."),
        412 => ("PreconditionFailed", "At least one of the pre-conditions you specified did not hold"),
        _ => return (status.as_str().to_owned(), String::new()),
    };
    (code.to_owned(), message.to_owned())
}

fn check(bucket: &str, key: &str) -> Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    if bucket.len() < 3 || bucket.starts_with('.') || !bucket.bytes().all(is_plain) {
        let rule = "a bucket has at least 3 lower-case letters, digits, dots and hyphens";
        return Err(Error::Name { name: bucket.to_owned(), rule });
    }
    if key.split('/').any(|part| matches!(part, "." | "..")) {
        let rule = "a URL cannot hold a key with . or .. between its slashes";
        return Err(Error::Name { name: key.to_owned(), rule });
    }
    Ok(())
}

/// As the signature wants it.
fn encoded(text: &str, is_path: bool) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (is_path && byte == b'/') {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a String cannot fail");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(bucket: &str, key: &str, path_style: bool) -> Result<String> {
        let at = At { bucket: bucket.into(), key: key.into() };
        let call = Call::new("GET", &at).query("uploads", Some("")).query("prefix", Some("a b/ü"));
        call.url(&Url::parse("http://s3.example:9000").unwrap(), path_style).map(String::from)
    }

    #[test]
    fn a_url_holds_bucket_key_and_query_as_they_are_signed() {
        let query = "prefix=a%20b%2F%C3%BC&uploads=";
        assert_eq!(url("bucket", "a b/+//ü", true).unwrap(), format!("http://s3.example:9000/bucket/a%20b/%2B//%C3%BC?{query}"));
        assert_eq!(url("bucket", "k", false).unwrap(), format!("http://bucket.s3.example:9000/k?{query}"));
        for (bucket, key) in [("a/b", "k"), ("..", "k"), ("bucket", "a/../b"), ("bucket", "."), ("Bucket", "k")] {
            assert!(matches!(url(bucket, key, true), Err(Error::Name { .. })), "{bucket} {key}");
        }
    }
}

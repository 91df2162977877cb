//! One signed call: sent, tried again, its answer bounded.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Response, StatusCode, Url};
use serde_json::Value;

use crate::credentials::Credentials;
use crate::endpoint::{Endpoints, Service};
use crate::error::{Error, Result};
use crate::sign;

/// Longest answer that is taken.
const ANSWER_MAX_BYTES: usize = 16 << 20;
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From sending to the answer's last byte.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a call is tried in all.
const ATTEMPTS: u32 = 4;
/// The longest pause before the first repetition; it doubles with each.
const FIRST_PAUSE_MS: u64 = 200;

/// Milliseconds since 1970, as a function so that nobody here asks the system.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// Whom to call, and as whom.
#[derive(Clone)]
pub struct Config {
    pub region: String,
    pub credentials: Credentials,
    pub endpoints: Endpoints,
    pub clock: Clock,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("region", &self.region)
            .field("credentials", &self.credentials)
            .field("endpoints", &self.endpoints)
            .finish_non_exhaustive()
    }
}

/// Calls services. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    config: Arc<Config>,
    transports: Arc<Transports>,
}

/// Made when first needed: certificates are read from the host's store, which takes its time.
#[derive(Debug, Default)]
struct Transports {
    plain: OnceLock<reqwest::Client>,
    encrypted: OnceLock<reqwest::Client>,
}

impl Client {
    pub fn new(config: Config) -> Client {
        Client { config: Arc::new(config), transports: Arc::default() }
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Calls an operation and gives its output. What throttles, or faults on the service's side, is tried again
    /// after a pause of random length; so is a connection that could not be made, but not one that broke: the call
    /// may have been carried out. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Refused`] with the service's code and message; see [`Error`] for the others.
    pub async fn call(&self, service: &Service, operation: &str, input: &Value) -> Result<Value> {
        let url = self.config.endpoints.of(service, &self.config.region)?;
        let body = input.to_string().into_bytes();
        let invocation = invocation();
        let mut attempt = 1;
        loop {
            let headers = self.headers(&url, service, operation, &body, (&invocation, attempt))?;
            let failed = match self.attempt(&url, headers, &body).await {
                Ok(output) => return Ok(output),
                Err(failed) => failed,
            };
            if !failed.again || attempt == ATTEMPTS {
                return Err(failed.error);
            }
            tokio::time::sleep(pause(attempt)).await;
            attempt += 1;
        }
    }

    async fn attempt(&self, url: &Url, headers: HeaderMap, body: &[u8]) -> Result<Value, Failed> {
        let request = self.transport(url)?.post(url.clone()).headers(headers).body(body.to_vec());
        let response = request.send().await.map_err(|error| Failed {
            again: error.is_connect(),
            error: Error::Unreachable { url: url.to_string(), reason: chain(&error) },
        })?;
        let status = response.status();
        let bytes = bounded(url, response).await?;
        match status.is_success() {
            true => Ok(output(url, &bytes)?),
            false => Err(refusal(url, status, &bytes)),
        }
    }

    fn headers(
        &self,
        url: &Url,
        service: &Service,
        operation: &str,
        body: &[u8],
        (invocation, attempt): (&str, u32),
    ) -> Result<HeaderMap> {
        let Config { region, credentials, clock, .. } = &*self.config;
        let target = format!("{}.{operation}", service.target);
        let host = host(url);
        let service = service.name;
        let request =
            sign::Request { host: &host, region, service, target: &target, body, invocation, attempt };
        let now_seconds = u64::try_from(clock().div_euclid(1000)).unwrap_or_default();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(sign::CONTENT_TYPE));
        headers.insert("x-amz-target", sendable("operation", &target)?);
        for (name, value) in sign::headers(&request, credentials, now_seconds) {
            headers.insert(name, sendable("access key, region or session token", &value)?);
        }
        Ok(headers)
    }

    fn transport(&self, url: &Url) -> Result<&reqwest::Client> {
        let (place, plain) = match url.scheme() {
            "http" => (&self.transports.plain, true),
            _ => (&self.transports.encrypted, false),
        };
        if let Some(made) = place.get() {
            return Ok(made);
        }
        let made = transport(plain).map_err(|error| Error::NoTransport(chain(&error)))?;
        Ok(place.get_or_init(|| made))
    }
}

/// Makes ring the provider of all TLS in this process, unless there is one.
pub fn use_ring() {
    // Fails when some provider is installed already, which is just as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn transport(plain: bool) -> reqwest::Result<reqwest::Client> {
    made(plain, reqwest::Client::builder().timeout(CALL_TIMEOUT))
}

/// A client for plain HTTP or for HTTPS.
pub(crate) fn made(plain: bool, builder: reqwest::ClientBuilder) -> reqwest::Result<reqwest::Client> {
    use_ring();
    let builder = builder
        .user_agent(concat!("buildyard/", env!("CARGO_PKG_VERSION")))
        // What is signed for one place must not be sent to another.
        .redirect(Policy::none())
        .connect_timeout(CONNECT_TIMEOUT);
    match plain {
        // No certificates needed, so none on the host required.
        true => builder.tls_certs_only([]).no_proxy().build(),
        false => builder.build(),
    }
}

/// A try that brought nothing, and whether another may.
struct Failed {
    again: bool,
    error: Error,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed { again: false, error }
    }
}

/// As the `Host` header has it.
pub(crate) fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

pub(crate) fn sendable(what: &'static str, value: &str) -> Result<HeaderValue> {
    let mut header = HeaderValue::from_str(value).map_err(|_| Error::Unsendable { what })?;
    header.set_sensitive(true);
    Ok(header)
}

pub(crate) async fn bounded(url: &Url, mut response: Response) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let broken = |error: reqwest::Error| Error::Unreachable { url: url.to_string(), reason: chain(&error) };
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        if bytes.len() + piece.len() > ANSWER_MAX_BYTES {
            let reason = format!("more than {ANSWER_MAX_BYTES} bytes");
            return Err(Error::Answer { url: url.to_string(), reason });
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

fn output(url: &Url, bytes: &[u8]) -> Result<Value> {
    // Operations without members answer with nothing at all.
    if bytes.is_empty() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    serde_json::from_slice(bytes)
        .map_err(|error| Error::Answer { url: url.to_string(), reason: error.to_string() })
}

/// An error as the service words it. Code and message have been spelled in several ways over the years.
fn refusal(url: &Url, status: StatusCode, bytes: &[u8]) -> Failed {
    let body: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let text = |names: [&str; 2]| names.iter().find_map(|name| body.get(name)?.as_str()).map(str::to_owned);
    let Some(code) = text(["__type", "code"]) else {
        let error = Error::Answer { url: url.to_string(), reason: format!("HTTP status {status}") };
        return Failed { again: may_pass(status, ""), error };
    };
    // `com.amazonaws.ssm#ParameterNotFound`, `ThrottlingException:http://...`.
    let code = code.rsplit('#').next().unwrap_or_default().split(':').next().unwrap_or_default().to_owned();
    let message = text(["message", "Message"]).unwrap_or_default();
    let again = may_pass(status, &code);
    Failed { again, error: Error::Refused { code, message, http_status: status.as_u16() } }
}

/// Whether AWS's clients would try again after this.
fn may_pass(status: StatusCode, code: &str) -> bool {
    const CODES: [&str; 9] = [
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "ProvisionedThroughputExceededException",
        "TransactionInProgressException",
    ];
    matches!(status.as_u16(), 429 | 500 | 502 | 503 | 504) || CODES.contains(&code)
}

/// A name for one call that no other has. Without randomness all have the same, as if they had none.
fn invocation() -> String {
    let mut random = [0; 16];
    let _ = getrandom::fill(&mut random);
    sign::hex(&random)
}

/// From nothing to twice as long as the attempt before: whoever is throttled together does not return together.
pub(crate) fn pause(attempt: u32) -> Duration {
    let longest = FIRST_PAUSE_MS << attempt.min(10).saturating_sub(1);
    let mut random = [0; 8];
    // Without randomness the pause is the longest one.
    let share = match getrandom::fill(&mut random) {
        Ok(()) => u64::from_le_bytes(random) % (longest + 1),
        Err(_) => longest,
    };
    Duration::from_millis(share)
}

/// The whole chain of causes: reqwest's own message stops before the interesting one.
pub(crate) fn chain(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.last().map_or_else(|| error.to_string(), ToString::to_string)
}

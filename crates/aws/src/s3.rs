//! S3, as far as builds need it: objects go between buckets and files of this host.
//!
//! An object is read whole or not at all, and is there whole or not at all: broken answers are asked for again, bytes are
//! held against the checksums that came with them, a success that holds an error is one, and what was put is looked at
//! before it counts. Memory is bounded by [`PARALLEL`] parts, whatever the objects' sizes.
//!
//! Below: `call` (one request, signed, tried again), `answer` (what the XML says), `get` and `put`, `sums` (what bytes are held against).

mod answer;
mod call;
mod get;
mod put;
mod sums;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use reqwest::Url;
use reqwest::header::HeaderMap;
use tokio::sync::{Semaphore, watch};

use crate::client::{self, Clock, chain};
use crate::credentials::Credentials;
use crate::endpoint::overridden;
use crate::error::{Error, Result};
use answer::Listed;
pub use answer::{Listing, ObjectInList};
use call::{ATTEMPTS, Call};

/// How many requests are under way at once.
pub const PARALLEL: usize = 6;
/// Bytes of a part, the least that S3 takes being 5 MiB. Other tools take as many.
const PART_BYTES: u64 = 8 << 20;
/// Most parts of an object.
const PARTS_MAX: u64 = 10_000;
/// Most keys in one page of a listing.
const PAGE: &str = "1000";

/// Which store, and as whom.
#[derive(Clone)]
pub struct Config {
    /// `http(s)://host[:port]`; AWS's own if there is none.
    pub endpoint: Option<String>,
    pub region: String,
    /// The bucket is the first part of the path rather than of the host's name.
    pub path_style: bool,
    pub credentials: Credentials,
    /// How long a store may keep silent before a request counts as lost.
    pub patience: Duration,
    pub clock: Clock,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

/// Speaks to one store. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct Store {
    config: Arc<Config>,
    endpoint: Url,
    http: reqwest::Client,
    /// How far the store's clock is ahead of ours, in milliseconds.
    ahead_ms: Arc<AtomicI64>,
    /// Taken by whoever holds a part in memory.
    places: Arc<Semaphore>,
    stop: watch::Sender<bool>,
}

/// A key in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    pub bucket: String,
    pub key: String,
}

/// What is known of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Bytes.
    pub size: u64,
    /// Without quotes.
    pub etag: String,
    /// Where the bucket keeps versions.
    pub version: Option<String>,
}

/// What an object is to say of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    pub content_type: Option<String>,
    /// `x-amz-meta-*`, by the name behind that prefix.
    pub user: BTreeMap<String, String>,
    pub encryption: Option<Encryption>,
    /// Nothing is put where there is an object already.
    pub only_new: bool,
}

/// How the store encrypts an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// With keys of its own: `AES256`.
    Own,
    /// With this key of KMS, or its default one.
    Kms(Option<String>),
}

/// A part of a file that becomes an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    pub at: At,
    pub offset: u64,
    pub size: u64,
    pub headers: Headers,
}

impl Store {
    /// # Errors
    /// [`Error::Endpoint`] for what is none, [`Error::NoTransport`] where no certificates are.
    pub fn new(config: Config) -> Result<Store> {
        let endpoint = match &config.endpoint {
            Some(endpoint) => overridden(endpoint)?,
            None => of_aws(&config.region)?,
        };
        let patient = reqwest::Client::builder().read_timeout(config.patience);
        let http = client::made(endpoint.scheme() == "http", patient);
        let http = http.map_err(|error| Error::NoTransport(chain(&error)))?;
        let (ahead_ms, places) = (Arc::default(), Arc::new(Semaphore::new(PARALLEL)));
        Ok(Store {
            config: Arc::new(config),
            endpoint,
            http,
            ahead_ms,
            places,
            stop: watch::Sender::new(false),
        })
    }

    /// Ends whatever this store and its clones do, as soon as nothing half done is left there.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Completes after [`Store::stop`].
    async fn stopped(&self) {
        // The sender is ours, so there is always one.
        let _ = self.stop.subscribe().wait_for(|stopped| *stopped).await;
    }

    /// What is known of an object: of its latest version, or of this one.
    ///
    /// # Errors
    /// `NoSuchKey` as [`Error::Refused`], as for all others.
    pub async fn head(&self, at: &At, version: Option<&str>) -> Result<Object> {
        let call = Call::new("HEAD", at).query("versionId", version);
        let url = self.url(&call)?;
        let mut attempt = 1;
        loop {
            match described(&self.send(&call).await?.headers, &url) {
                Err(Error::Answer { .. }) if attempt < ATTEMPTS => attempt += 1,
                described => return described,
            }
        }
    }

    /// The keys that begin with `prefix` and come behind `after`, a page of them.
    pub async fn list(&self, bucket: &str, prefix: &str, after: Option<&str>) -> Result<Listing> {
        let at = At { bucket: bucket.to_owned(), key: String::new() };
        let call = Call::new("GET", &at)
            .query("list-type", Some("2"))
            .query("encoding-type", Some("url"))
            .query("max-keys", Some(PAGE))
            .query("prefix", Some(prefix))
            .query("start-after", after);
        let body = self.send(&call).await?.body;
        Listed::read(&body).ok_or_else(|| self.nonsense(&call, "no list of objects"))
    }

    /// Deletes an object, or one of its versions. It may be gone already.
    pub async fn delete(&self, at: &At, version: Option<&str>) -> Result<()> {
        self.send(&Call::new("DELETE", at).query("versionId", version).tidies_up()).await.map(drop)
    }

    fn url(&self, call: &Call<'_>) -> Result<Url> {
        call.url(&self.endpoint, self.config.path_style)
    }

    fn nonsense(&self, call: &Call<'_>, reason: &str) -> Error {
        let url = self.url(call).map_or_else(|_| self.endpoint.to_string(), String::from);
        Error::Answer { url, reason: reason.to_owned() }
    }

    fn now_ms(&self) -> i64 {
        (self.config.clock)().saturating_add(self.ahead_ms.load(Ordering::Relaxed))
    }
}

/// How large the parts are that an object of so many bytes is uploaded in.
fn part_size(size: u64) -> u64 {
    PART_BYTES.max(size.div_ceil(PARTS_MAX))
}

fn of_aws(region: &str) -> Result<Url> {
    let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let is_plain =
        !region.is_empty() && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let url = format!("https://s3.{region}.{domain}/");
    match Url::parse(&url) {
        Ok(parsed) if is_plain => Ok(parsed),
        _ => Err(Error::Endpoint { url, rule: "a region has only letters, digits and hyphens" }),
    }
}

/// What an answer's headers say of an object.
fn described(headers: &HeaderMap, url: &Url) -> Result<Object> {
    let size = text(headers, "content-length").and_then(|text| text.parse().ok());
    let size =
        size.ok_or_else(|| Error::Answer { url: url.to_string(), reason: "no Content-Length".into() })?;
    // An object has one: what has none is something else that goes by the name of a success.
    let etag = text(headers, "etag").map(|etag| etag.trim_matches('"').to_owned());
    let etag = etag.ok_or_else(|| Error::Answer { url: url.to_string(), reason: "no ETag".into() })?;
    Ok(Object { size, etag, version: text(headers, "x-amz-version-id").map(str::to_owned) })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether an ETag is the MD5 of the bytes, going by it and by what came with it.
fn is_md5(etag: &str, headers: &HeaderMap) -> bool {
    let has_key = text(headers, "x-amz-server-side-encryption")
        .is_some_and(|kind| kind.starts_with("aws:kms"))
        || headers.contains_key("x-amz-server-side-encryption-customer-algorithm");
    !has_key && etag.len() == 32 && etag.bytes().all(|byte| byte.is_ascii_hexdigit())
}

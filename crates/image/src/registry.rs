//! Pulling from a registry: the distribution API's two reads (manifests and blobs) and its token dance.
//! The only file of this crate that touches the network.
//!
//! Not on a ready-made registry client: those buffer manifests and tokens of any size, and here a project's
//! owner chooses the registry.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use reqwest::blocking::{Client, RequestBuilder, Response};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, RANGE, WWW_AUTHENTICATE};
use reqwest::redirect::Policy;
use reqwest::{StatusCode, Url};

use crate::manifest::{self, Descriptor};
use crate::origin::{Blob, Origin, within_document_limit};
use crate::{Digest, Error, Limits, Login, Pace, Progress, Reach, Repository};

const DOCUMENTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
const TOKEN_BYTES: u64 = 1 << 20;
const REDIRECTS: usize = 10;
/// How often a download that breaks off is taken up again before it counts as failed.
const ATTEMPTS: u32 = 3;
const REPORT_EVERY_BYTES: u64 = 1 << 20;

/// One repository of a registry, as this pull sees it.
#[derive(Debug)]
pub(crate) struct Registry {
    client: Client,
    registry: String,
    /// `https://host/v2/name`
    base: String,
    reach: Reach,
    name: String,
    wanted: String,
    pinned: Option<Digest>,
    login: Option<Login>,
    authorization: Option<HeaderValue>,
    /// What the reference itself named, fetched already.
    first: Option<(Digest, Vec<u8>)>,
    limits: Limits,
}

/// A `WWW-Authenticate` challenge.
#[derive(Debug, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String> },
}

impl Registry {
    /// Prepares to pull; nothing is sent yet. Registries on this host's loopback are spoken to in plain HTTP, as
    /// Docker does, all others by HTTPS only.
    pub(crate) fn open(
        repository: &Repository,
        login: Option<&Login>,
        limits: &Limits,
        reach: &Reach,
    ) -> Result<Registry, Error> {
        let host = match repository.registry.as_str() {
            "docker.io" => "registry-1.docker.io",
            host => host,
        };
        let plain = is_loopback(host);
        let scheme = if plain { "http" } else { "https" };
        let wanted = match (&repository.digest, &repository.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| "latest".into()),
        };
        Ok(Registry {
            client: client(plain, reach).map_err(|error| failed(&repository.registry, error))?,
            registry: repository.registry.clone(),
            base: format!("{scheme}://{host}/v2/{}", repository.name),
            reach: reach.clone(),
            name: repository.name.clone(),
            wanted,
            pinned: repository.digest,
            login: login.cloned(),
            authorization: None,
            first: None,
            limits: limits.clone(),
        })
    }

    /// What the reference names: an index or a manifest.
    pub(crate) fn start(&mut self) -> Result<Descriptor, Error> {
        let bytes = self.fetch_document(&self.wanted.clone())?;
        let digest = Digest::of(&bytes);
        if let Some(pinned) = self.pinned {
            pinned.verify("manifest", digest)?;
        }
        let size = bytes.len() as u64;
        self.first = Some((digest, bytes));
        Ok(Descriptor { media_type: String::new(), digest, size, platform: None, annotations: None })
    }

    fn fetch_document(&mut self, wanted: &str) -> Result<Vec<u8>, Error> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(DOCUMENTS))]);
        let response = self.get(&format!("manifests/{wanted}"), headers)?;
        let bytes = self.read_up_to(response, self.limits.document_bytes)?;
        within_document_limit(bytes.len() as u64, &self.limits)?;
        Ok(bytes)
    }

    /// At most one byte more than `limit`, for the caller to notice.
    fn read_up_to(&self, response: Response, limit: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        let read = Paced::new(response, self.limits.slowest).take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| failed(&self.registry, error))?;
        Ok(bytes)
    }

    /// A successful answer, after logging in if the registry asks for it.
    fn get(&mut self, path: &str, headers: HeaderMap) -> Result<Response, Error> {
        let response = self.send(path, headers.clone())?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return self.succeeded(path, response);
        }
        self.authorization = Some(self.authorize(response.headers())?);
        let response = self.send(path, headers)?;
        self.succeeded(path, response)
    }

    fn send(&self, path: &str, mut headers: HeaderMap) -> Result<Response, Error> {
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        self.request(&format!("{}/{path}", self.base), |request| request.headers(headers))
    }

    fn request(
        &self,
        url: &str,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Error> {
        let url = Url::parse(url).map_err(|error| failed(&self.registry, error))?;
        check_literal(&url, &self.reach)?;
        with(self.client.get(url)).send().map_err(|error| failed(&self.registry, error))
    }

    fn succeeded(&self, path: &str, response: Response) -> Result<Response, Error> {
        match response.status() {
            status if status.is_success() => Ok(response),
            StatusCode::NOT_FOUND => {
                Err(Error::NotFound(format!("{}/{}: {path} not found", self.registry, self.name)))
            }
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Err(self.denied(status)),
            status => Err(failed(&self.registry, format!("answered {status} for {path}"))),
        }
    }

    fn denied(&self, reason: impl ToString) -> Error {
        let how = if self.login.is_some() { "with the login given" } else { "without a login" };
        Error::Denied { registry: self.registry.clone(), reason: format!("{} {how}", reason.to_string()) }
    }

    /// The header that answers the registry's challenge.
    fn authorize(&self, headers: &HeaderMap) -> Result<HeaderValue, Error> {
        if let Some(Login::Token(token)) = &self.login {
            return self.secret(format!("Bearer {token}"));
        }
        let asked = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        match asked.filter_map(Challenge::parse).next() {
            Some(Challenge::Bearer { realm, service }) => self.token(&realm, service.as_deref()),
            Some(Challenge::Basic) => match self.basic() {
                Some(basic) => self.secret(basic),
                None => Err(self.denied(StatusCode::UNAUTHORIZED)),
            },
            None => Err(failed(&self.registry, "asks for a login in no known way")),
        }
    }

    /// A token for reading this repository.
    fn token(&self, realm: &str, service: Option<&str>) -> Result<HeaderValue, Error> {
        if !realm.starts_with("https://") && self.base.starts_with("https://") {
            return Err(failed(&self.registry, "wants its login sent unencrypted"));
        }
        let scope = format!("repository:{}:pull", self.name);
        let mut query = vec![("scope", scope.as_str())];
        query.extend(service.map(|service| ("service", service)));
        let basic = self.basic().map(|basic| self.secret(basic)).transpose()?;
        let headers = HeaderMap::from_iter(basic.map(|basic| (AUTHORIZATION, basic)));
        let response = self.request(realm, |request| request.query(&query).headers(headers))?;
        if !response.status().is_success() {
            return Err(self.denied(response.status()));
        }
        let bytes = self.read_up_to(response, TOKEN_BYTES)?;
        #[derive(serde::Deserialize)]
        struct Token {
            token: Option<String>,
            access_token: Option<String>,
        }
        let token: Token = manifest::parse("registry token", &bytes)?;
        match token.token.or(token.access_token) {
            Some(token) => self.secret(format!("Bearer {token}")),
            None => Err(failed(&self.registry, "gave no token")),
        }
    }

    fn basic(&self) -> Option<String> {
        let Some(Login::Password { username, password }) = &self.login else { return None };
        Some(format!("Basic {}", crate::credentials::to_base64(format!("{username}:{password}").as_bytes())))
    }

    /// A header value that is left out of debug output.
    fn secret(&self, value: String) -> Result<HeaderValue, Error> {
        let mut value = HeaderValue::try_from(value).map_err(|_| self.denied("malformed login"))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Downloads a blob to `path`, taking up again what breaks off.
    fn download(
        &mut self,
        descriptor: &Descriptor,
        path: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Error> {
        let mut file = File::create(path).map_err(Error::io("creating", path))?;
        let mut transfer = Transfer { descriptor, path, bytes: 0, reported: 0, progress };
        let mut attempt = 1;
        loop {
            match self.download_rest(&mut transfer, &mut file) {
                Err(Error::Registry { .. }) if attempt < ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    fn download_rest(&mut self, transfer: &mut Transfer<'_>, file: &mut File) -> Result<(), Error> {
        let mut headers = HeaderMap::new();
        if transfer.bytes > 0 {
            let range =
                HeaderValue::try_from(format!("bytes={}-", transfer.bytes)).expect("digits and ASCII");
            headers.insert(RANGE, range);
        }
        let response = self.get(&format!("blobs/{}", transfer.descriptor.digest), headers)?;
        if transfer.bytes > 0 && response.status() != StatusCode::PARTIAL_CONTENT {
            transfer.restart(file)?;
        }
        let mut response = Paced::new(response, self.limits.slowest);
        let mut buffer = vec![0; 256 << 10];
        while transfer.bytes < transfer.descriptor.size {
            match response.read(&mut buffer).map_err(|error| failed(&self.registry, error))? {
                0 => return Err(failed(&self.registry, "broke off a download")),
                count => transfer.write(file, &buffer[..count])?,
            }
        }
        Ok(())
    }
}

impl Origin for Registry {
    fn document(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        match self.first.take() {
            Some((digest, bytes)) if digest == descriptor.digest => Ok(bytes),
            _ => self.fetch_document(&descriptor.digest.to_string()),
        }
    }

    fn is_afar(&self) -> bool {
        true
    }

    fn blob(
        &mut self,
        descriptor: &Descriptor,
        keep: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Blob, Error> {
        if descriptor.size > self.limits.unpacked_bytes {
            return Err(Error::Limit { name: "unpacked_bytes", limit: self.limits.unpacked_bytes });
        }
        let path = keep.join(descriptor.digest.file_name());
        if let Ok(blob) = open(&path)
            && blob.verify("blob", descriptor).is_ok()
        {
            return Ok(blob);
        }
        let partial = path.with_extension("partial");
        self.download(descriptor, &partial, progress).inspect_err(|_| drop(fs::remove_file(&partial)))?;
        fs::rename(&partial, &path).map_err(Error::io("renaming", &partial))?;
        open(&path)
    }
}

/// An answer that has to come at a pace: a byte now and then would keep us for ever, as each of them restarts the client's own patience.
struct Paced {
    response: Response,
    slowest: Pace,
    since: Instant,
    bytes: u64,
}

impl Paced {
    fn new(response: Response, slowest: Pace) -> Paced {
        Paced { response, slowest, since: Instant::now(), bytes: 0 }
    }
}

impl Read for Paced {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.response.read(buffer)?;
        self.bytes += count as u64;
        let Pace { bytes, seconds } = self.slowest;
        if count > 0 && self.since.elapsed() >= Duration::from_secs(seconds) {
            if self.bytes < bytes {
                return Err(io::Error::other(format!("sends less than {bytes} bytes in {seconds} s")));
            }
            (self.since, self.bytes) = (Instant::now(), 0);
        }
        Ok(count)
    }
}

/// A download under way.
struct Transfer<'a> {
    descriptor: &'a Descriptor,
    path: &'a Path,
    bytes: u64,
    reported: u64,
    progress: &'a mut dyn FnMut(Progress),
}

impl Transfer<'_> {
    fn write(&mut self, file: &mut File, bytes: &[u8]) -> Result<(), Error> {
        file.write_all(bytes).map_err(Error::io("writing", self.path))?;
        self.bytes += bytes.len() as u64;
        if self.bytes - self.reported >= REPORT_EVERY_BYTES || self.bytes == self.descriptor.size {
            self.reported = self.bytes;
            let Descriptor { digest, size, .. } = *self.descriptor;
            (self.progress)(Progress::Fetching { digest, bytes: self.bytes, total: size });
        }
        Ok(())
    }

    fn restart(&mut self, file: &mut File) -> Result<(), Error> {
        (self.bytes, self.reported) = (0, 0);
        *file = File::create(self.path).map_err(Error::io("creating", self.path))?;
        Ok(())
    }
}

impl Challenge {
    /// Parses `Basic ...` and `Bearer realm="...",service="..."`; other parameters do not matter here.
    fn parse(text: &str) -> Option<Challenge> {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        while let Some((key, after)) = rest.trim_start_matches([',', ' ']).split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            match key.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value.to_owned()),
                "service" => service = Some(value.to_owned()),
                _ => {}
            }
            rest = after;
        }
        Some(Challenge::Bearer { realm: realm?, service })
    }
}

fn client(plain: bool, reach: &Reach) -> reqwest::Result<Client> {
    // Fails when some provider is installed already, which is just as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .user_agent(concat!("buildyard/", env!("CARGO_PKG_VERSION")))
        .redirect(policy(reach.clone()));
    if reach.is_limited() {
        builder = builder.no_proxy().dns_resolver(Arc::new(Checked(reach.clone())));
    }
    match plain {
        // No certificates needed, so none on the host required.
        true => builder.tls_certs_only([]).no_proxy().build(),
        false => builder.build(),
    }
}

/// Blobs are often served from elsewhere; never from less protected places.
fn policy(reach: Reach) -> Policy {
    Policy::custom(move |attempt| {
        let downgrade =
            attempt.url().scheme() == "http" && attempt.previous().iter().any(|u| u.scheme() == "https");
        let refused = check_literal(attempt.url(), &reach);
        match attempt.previous().len() {
            _ if downgrade => attempt.error("redirected from HTTPS to HTTP"),
            REDIRECTS.. => attempt.error("redirected too often"),
            _ => match refused {
                Ok(()) => attempt.follow(),
                Err(error) => attempt.error(error),
            },
        }
    })
}

/// Looks up names, and gives only addresses that may be connected to: those that are connected to are those that were checked. One that is
/// refused spoils the others, as of a repository's host.
#[derive(Debug)]
struct Checked(Reach);

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        // It blocks the client's own thread, which has nothing else to do.
        let found = (name.as_str(), 0).to_socket_addrs().map_err(Into::into);
        let checked = found.and_then(|addresses| {
            let addresses: Vec<SocketAddr> = addresses.collect();
            addresses.iter().try_for_each(|address| check(name.as_str(), address.ip(), &self.0))?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        });
        Box::pin(std::future::ready(checked))
    }
}

fn check(host: &str, address: IpAddr, reach: &Reach) -> Result<(), Error> {
    match reach.allows(address) {
        true => Ok(()),
        false => Err(Error::Address { host: host.into(), address }),
    }
}

/// An address that stands in a URL is not looked up.
fn check_literal(url: &Url, reach: &Reach) -> Result<(), Error> {
    let host = url.host_str().unwrap_or_default();
    match host.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(address) => check(host, address, reach),
        Err(_) => Ok(()),
    }
}

fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn open(path: &Path) -> Result<Blob, Error> {
    let file = File::open(path).map_err(Error::io("opening", path))?;
    let length = file.metadata().map_err(Error::io("examining", path))?.len();
    Ok(Blob::new(file, 0, length))
}

/// The whole chain of causes: reqwest's own message stops before the interesting one.
fn failed(registry: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let error = error.into();
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(Error::Address { host, address }) = error.downcast_ref() {
            return Error::Address { host: host.clone(), address: *address };
        }
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    Error::Registry { registry: registry.into(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.into(), service: service.map(Into::into) })
        };
        let check = |text: &str, expect| assert_eq!(Challenge::parse(text), expect, "{text}");
        check(r#"Basic realm="x""#, Some(Challenge::Basic));
        check(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="a:b,c:pull,push""#,
            bearer("https://auth.docker.io/token", Some("registry.docker.io")),
        );
        check(r#"bearer scope="a,b", realm="https://a/""#, bearer("https://a/", None));
        check("Bearer realm=https://a/,service=b", bearer("https://a/", Some("b")));
        check(r#"Bearer realm="open"#, None);
        check("Negotiate", None);
        check("", None);
    }

    #[test]
    fn only_the_loopback_is_spoken_to_unencrypted() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:5000", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.evil.example", "10.0.0.1:5000", "docker.io", "127.0.0.1.example:80"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}

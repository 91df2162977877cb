//! S3 over folders: the REST-XML endpoint in front of [`store::objects`].
//!
//! Parsing and writing S3's XML and headers is the crate `s3s`'s; requests reach it only after our own verifier
//! accepted them, and it checks the signature once more, together with what only it can: bodies signed or
//! checksummed while they stream. Every operation that is not implemented in `buckets` answers `NotImplemented`.
//!
//! Below: `buckets` (the operations), `incoming` and `outgoing` (bytes between sockets and files), `conditions`
//! (`If-Match` and its like), `rights` (which action on which resource), `shapes` (our types as S3's), `uploads`
//! (those that nobody completes).

mod buckets;
mod conditions;
mod incoming;
mod outgoing;
mod rights;
mod shapes;
mod uploads;

use std::fmt;
use std::sync::Arc;

use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use s3s::auth::{S3Auth, SecretKey};
use s3s::host::{S3Host, VirtualHost};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Result, s3_error};
use store::objects::{Objects, Owner};

use crate::http::{Answer, internal_failure};
use crate::keys::{Caller, Keys};
use crate::paging::Tokens;
use buckets::Buckets;
use rights::Rights;

/// Names that paths of this server have already; no bucket may be called so.
pub const RESERVED_BUCKETS: [&str; 6] = ["badges", "console", "healthz", "readyz", "webhook", "webhooks"];

/// The S3 endpoint.
#[derive(Clone)]
pub struct S3 {
    objects: Objects,
    keys: Keys,
    region: Arc<str>,
    /// Has the buckets that nobody is said to own.
    default_account: Arc<str>,
    domains: Domains,
    tokens: Tokens,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("domains", &self.domains).finish_non_exhaustive()
    }
}

impl S3 {
    /// `domains` are the host names below which a bucket's own name may stand (`<bucket>.<domain>`), without
    /// ports; for every other host the bucket is the first part of the path. `default_account` has the buckets that nobody is said
    /// to own. `tokens` seals the continuation tokens of ListObjectsV2.
    pub fn new(
        objects: Objects,
        keys: Keys,
        region: &str,
        default_account: &str,
        domains: Vec<String>,
        tokens: Tokens,
    ) -> S3 {
        let (region, default_account) = (region.into(), default_account.into());
        S3 { objects, keys, region, default_account, domains: Domains(domains), tokens }
    }

    /// S3 as this caller has it: with the buckets of the own account and no others.
    fn service(&self, caller: Caller) -> S3Service {
        let unclaimed = *caller.account == *self.default_account;
        let owner = Owner { account: caller.account.clone(), unclaimed };
        let partition = api::arn::partition(&self.region);
        let rights = Rights { caller, objects: self.objects.of(owner), partition };
        let mut builder =
            S3ServiceBuilder::new(Buckets::new(&self.region, rights.clone(), self.tokens.clone()));
        builder.set_auth(Secrets(self.keys.clone()));
        builder.set_access(rights);
        builder.set_host(self.domains.clone());
        builder.build()
    }

    /// The bucket that this `Host` header names, if it names one.
    pub(crate) fn bucket_of_host<'a>(&self, host: &'a str) -> Option<&'a str> {
        self.domains.bucket(host)
    }

    /// Answers a request whose head was verified to be this caller's.
    pub(crate) async fn answer(&self, caller: Caller, request: Request<Incoming>) -> Answer {
        match self.service(caller).call(request.map(s3s::Body::from)).await {
            Ok(answer) => answer.map(|body| body.boxed_unsync()),
            Err(error) => internal_failure(&format_args!("{error:?}")),
        }
    }
}

/// The secrets for s3s's own check of signatures.
struct Secrets(Keys);

#[async_trait::async_trait]
impl S3Auth for Secrets {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let key = self.0.get(access_key).ok_or_else(|| s3_error!(SignatureDoesNotMatch))?;
        Ok(SecretKey::from(key.secret.as_str()))
    }
}

/// Host names that buckets may be put in front of.
#[derive(Debug, Clone)]
struct Domains(Vec<String>);

impl Domains {
    fn bucket<'a>(&self, host: &'a str) -> Option<&'a str> {
        let host = without_port(host);
        self.0
            .iter()
            .find_map(|domain| host.strip_suffix(domain.as_str())?.strip_suffix('.'))
            .filter(|b| !b.is_empty())
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

impl S3Host for Domains {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let plain = VirtualHost::new(without_port(host));
        Ok(match self.bucket(host) {
            Some(bucket) => plain.with_bucket(bucket),
            None => plain,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_may_stand_in_front_of_a_known_domain() {
        let domains = Domains(vec!["localhost".into(), "s3.example.com".into()]);
        for (host, bucket) in [
            ("b.localhost:8080", Some("b")),
            ("a.b.s3.example.com", Some("a.b")),
            ("localhost:8080", None),
            ("localhost", None),
            (".localhost", None),
            ("blocalhost", None),
            ("127.0.0.1:80", None),
            ("[::1]:80", None),
            ("example.com", None),
        ] {
            assert_eq!(domains.bucket(host), bucket, "{host}");
        }
    }
}

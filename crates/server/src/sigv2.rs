//! Signature Version 2 in the query string, verified: links to S3 objects as `aws s3 presign` of AWS CLI v1 and
//! boto3 in us-east-1 still make them. Pure; no I/O, no clock of its own.
//!
//! As little of Version 2 as such links need: S3 only, `GET`, `HEAD` and `PUT`, at most a week of life, and never
//! beside another signature. The text that is signed is older and looser than Version 4's: it covers neither the
//! host nor the body, nor every query parameter. So parameters it does not cover are accepted only when they
//! cannot turn the request into another operation.
//!
//! What does not live here: Version 2 in an `Authorization` header, which is refused with every other algorithm.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use sha1::Sha1;
use subtle::ConstantTimeEq;

use crate::keys::{Caller, Keys};
use crate::sigv4::{
    DUMMY_SECRET, EXPIRES_MAX_SECONDS, Rejection, Request, Rules, UNSIGNED_PAYLOAD, check_token,
    percent_decode, query_pairs, single_header,
};

const METHODS: [&str; 3] = ["GET", "HEAD", "PUT"];

/// Query parameters that are part of the resource and therefore signed, in the order they are signed in.
const SUBRESOURCES: [&str; 35] = [
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "defaultObjectAcl",
    "delete",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "partNumber",
    "policy",
    "replication",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "select",
    "select-type",
    "storageClass",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
    "versions",
    "website",
];

/// Parameters that nobody signs and that only shape a listing, or repeat what is signed elsewhere.
const UNSIGNED: [&str; 21] = [
    "AWSAccessKeyId",
    "Expires",
    "Signature",
    "content-md5",
    "content-type",
    "continuation-token",
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "key-marker",
    "list-type",
    "marker",
    "max-keys",
    "max-parts",
    "max-uploads",
    "part-number-marker",
    "prefix",
    "start-after",
    "upload-id-marker",
    "version-id-marker",
    "x-id",
];

/// Parameters by which a request says that it is signed with Version 4.
const VERSION_4: [&str; 6] = [
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-signature",
    "x-amz-signedheaders",
];

/// A request whose signature holds.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Who signed it.
    pub caller: Caller,
    /// `x-amz-` headers that were signed as headers and came as query parameters, among them the session token:
    /// to be acted on as if they had been sent.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The path as it was signed: with a slash behind a bucket that stands alone.
    pub path: String,
}

/// Whether a query string says that it carries a Version 2 signature, rightly or not.
pub fn is_claimed(query: &str) -> bool {
    query_pairs(query)
        .map(|(name, _)| form_decode(name))
        .any(|name| name.eq_ignore_ascii_case(b"AWSAccessKeyId") || name.eq_ignore_ascii_case(b"Signature"))
}

/// The path that is signed: that of a bucket ends with a slash even where the request leaves it away.
fn signed_path<'a>(path: &'a str, bucket: Option<&str>) -> Cow<'a, str> {
    let only_bucket = bucket.is_none() && path.len() > 1 && !path[1..].contains('/');
    if only_bucket { format!("{path}/").into() } else { path.into() }
}

/// Verifies one request at the time `now` (seconds since 1970). `bucket` is the one that the host names, if it
/// names one.
///
/// # Errors
/// A [`Rejection`] saying what is wrong in terms that do not help to guess a key or a signature.
pub fn verify(
    request: &Request<'_>,
    bucket: Option<&str>,
    rules: &Rules<'_>,
    now: i64,
    keys: &Keys,
) -> Result<Verified, Rejection> {
    let link = Link::find(request, rules)?;
    check_time(link.expires_at, now, rules.skew_seconds)?;
    if !request.path.starts_with('/') || !bucket.is_none_or(is_plain) {
        return Err(Rejection::Mismatch);
    }
    let headers = link.headers_of_query(request.headers)?;
    let signed_headers = amz_headers(request.headers, &headers)?;
    check_payload(&signed_headers)?;

    let to_sign = link.string_to_sign(request, bucket, &signed_headers)?;
    let key = keys.get(link.key_id());
    let secret = key.as_ref().map_or(DUMMY_SECRET, |key| key.secret.as_str());
    let equal = sign(secret, &to_sign).as_bytes().ct_eq(link.signature().as_bytes());
    let key = key.filter(|_| equal.into()).ok_or(Rejection::Mismatch)?;

    check_token(&key, signed_headers.get("x-amz-security-token").map(String::as_str), now)?;
    let path = signed_path(request.path, bucket).into_owned();
    Ok(Verified { caller: key.caller.clone(), headers, path })
}

/// The decoded query of a link, each name once.
struct Link {
    parameters: BTreeMap<String, String>,
    /// Seconds since 1970.
    expires_at: i64,
}

impl Link {
    fn find(request: &Request<'_>, rules: &Rules<'_>) -> Result<Link, Rejection> {
        if rules.service != "s3" || !rules.presigned || !METHODS.contains(&request.method) {
            return Err(Rejection::Algorithm("AWS".to_owned()));
        }
        let parameters = parameters(request.query)?;
        let version_4 = |name: &String| VERSION_4.contains(&name.to_ascii_lowercase().as_str());
        if request.headers.contains_key("authorization") || parameters.keys().any(version_4) {
            return Err(Rejection::TwoMechanisms);
        }
        if let Some(name) = parameters.keys().find(|name| !is_known(name)) {
            return Err(Rejection::Link(format!("The signature does not cover the parameter '{name}'")));
        }
        if ["AWSAccessKeyId", "Expires", "Signature"].iter().any(|name| !parameters.contains_key(*name)) {
            return Err(Rejection::Link(
                "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters"
                    .to_owned(),
            ));
        }
        let expires_at = parse_expires(&parameters["Expires"])?;
        Ok(Link { parameters, expires_at })
    }

    fn key_id(&self) -> &str {
        &self.parameters["AWSAccessKeyId"]
    }

    fn signature(&self) -> &str {
        &self.parameters["Signature"]
    }

    /// The query's `x-amz-` parameters as the headers they stand for, but for those that were sent as well.
    fn headers_of_query(&self, sent: &HeaderMap) -> Result<Vec<(HeaderName, HeaderValue)>, Rejection> {
        let mut headers = Vec::new();
        for (name, value) in self.parameters.iter().filter(|(name, _)| name.starts_with("x-amz-")) {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Rejection::Mismatch)?;
            // No line break gets through here, so nobody can make one header look like two in what is signed.
            let value = HeaderValue::from_bytes(value.trim().as_bytes()).map_err(|_| Rejection::Mismatch)?;
            match single_header(sent, name.as_str())? {
                None => headers.push((name, value)),
                Some(sent) if sent.trim().as_bytes() == value.as_bytes() => {}
                Some(_) => return Err(Rejection::Mismatch),
            }
        }
        Ok(headers)
    }

    fn string_to_sign(
        &self,
        request: &Request<'_>,
        bucket: Option<&str>,
        signed_headers: &BTreeMap<String, String>,
    ) -> Result<String, Rejection> {
        let header = |name| Ok(single_header(request.headers, name)?.unwrap_or_default().trim());
        let mut lines = vec![
            request.method.to_owned(),
            header("content-md5")?.to_owned(),
            header("content-type")?.to_owned(),
            self.parameters["Expires"].clone(),
        ];
        lines.extend(signed_headers.iter().map(|(name, value)| format!("{name}:{value}")));
        lines.push(self.resource(request.path, bucket));
        Ok(lines.join("\n"))
    }

    /// `/bucket/key?acl&versionId=1`: the path as on the wire, the parameters decoded.
    fn resource(&self, path: &str, bucket: Option<&str>) -> String {
        let path = signed_path(path, bucket);
        let bucket = bucket.map(|bucket| format!("/{bucket}")).unwrap_or_default();
        let parameters: Vec<String> = SUBRESOURCES
            .iter()
            .filter_map(|name| self.parameters.get_key_value(*name))
            .map(|(name, value)| if value.is_empty() { name.clone() } else { format!("{name}={value}") })
            .collect();
        let mark = if parameters.is_empty() { "" } else { "?" };
        format!("{bucket}{path}{mark}{}", parameters.join("&"))
    }
}

/// All parameters, decoded. One that comes twice could be read as either, so it is refused.
fn parameters(query: &str) -> Result<BTreeMap<String, String>, Rejection> {
    let mut all = BTreeMap::new();
    for (name, value) in query_pairs(query) {
        let text = |text| String::from_utf8(form_decode(text)).map_err(|_| Rejection::Mismatch);
        let (name, value) = (text(name)?, text(value)?);
        if all.contains_key(&name) {
            return Err(Rejection::Link(format!("The parameter '{name}' must be given once")));
        }
        all.insert(name, value);
    }
    Ok(all)
}

/// As S3 reads its parameters: `+` is a space there.
fn form_decode(text: &str) -> Vec<u8> {
    percent_decode(&text.replace('+', " "))
}

/// Headers must be in lower case: two spellings of one name would be one header.
fn is_known(name: &str) -> bool {
    let header = name.starts_with("x-amz-") && !name.bytes().any(|byte| byte.is_ascii_uppercase());
    header || SUBRESOURCES.contains(&name) || UNSIGNED.contains(&name)
}

/// Whether a bucket from a host name cannot be mistaken for more than one segment of a path.
fn is_plain(bucket: &str) -> bool {
    bucket.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

fn parse_expires(text: &str) -> Result<i64, Rejection> {
    let digits = !text.is_empty() && text.len() <= 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    let malformed = || {
        Rejection::Link(format!("Invalid date (should be seconds since epoch): {}", text.escape_default()))
    };
    if digits { text.parse().map_err(|_| malformed()) } else { Err(malformed()) }
}

/// AWS lets a Version 2 link live for ever; here it lives no longer than one of Version 4. The maker's clock may
/// be ahead of ours.
fn check_time(expires_at: i64, now: i64, skew_seconds: i64) -> Result<(), Rejection> {
    if expires_at <= now {
        return Err(Rejection::LinkExpired { expires_at, now });
    }
    if expires_at - now > EXPIRES_MAX_SECONDS + skew_seconds {
        return Err(Rejection::Link(format!(
            "Expires must be at most a week ({EXPIRES_MAX_SECONDS} seconds) ahead"
        )));
    }
    Ok(())
}

/// All `x-amz-` headers by name, several of one name joined: whatever is acted on is signed.
fn amz_headers(
    sent: &HeaderMap,
    of_query: &[(HeaderName, HeaderValue)],
) -> Result<BTreeMap<String, String>, Rejection> {
    let mut all = BTreeMap::new();
    for name in sent.keys().filter(|name| name.as_str().starts_with("x-amz-")) {
        let values: Result<Vec<&str>, Rejection> = sent.get_all(name).iter().map(text).collect();
        all.insert(name.to_string(), values?.join(","));
    }
    for (name, value) in of_query {
        all.insert(name.to_string(), text(value)?.to_owned());
    }
    Ok(all)
}

fn text(value: &HeaderValue) -> Result<&str, Rejection> {
    str::from_utf8(value.as_bytes()).map(str::trim).map_err(|_| Rejection::Mismatch)
}

/// Nothing would verify a body that is said to be hashed or signed in chunks.
fn check_payload(signed_headers: &BTreeMap<String, String>) -> Result<(), Rejection> {
    let declared = signed_headers.get("x-amz-content-sha256");
    if declared.is_none_or(|declared| declared == UNSIGNED_PAYLOAD) {
        Ok(())
    } else {
        Err(Rejection::PayloadKind)
    }
}

/// HMAC-SHA1 in base64. What is known to be broken about SHA-1 are collisions, which HMAC does not rest on.
fn sign(secret: &str, to_sign: &str) -> String {
    let mut mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of every length");
    mac.update(to_sign.as_bytes());
    base64_simd::STANDARD.encode_to_string(mac.finalize().into_bytes())
}

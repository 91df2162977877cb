//! Signature Version 4, verified: the question "who sent exactly this request?" answered from the request's
//! parts, a clock reading and the access keys. Pure; no I/O, no clock of its own.
//!
//! Header and query ("presigned") authentication, for the JSON and Query services and with S3's deviations
//! (path encoded once and not normalised, unsigned and streaming payloads). The order of the checks is: shape,
//! scope, time, signed headers, signature, and only then the session token, so that an answer about a token is
//! given only to someone who holds the secret.
//!
//! What does not live here: what a caller may do, and the hashing of S3 payloads while they stream in.

mod canonical;
mod credential;
mod rejection;
mod replays;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::keys::{AccessKey, Caller, Keys};
use crate::time;
pub(crate) use canonical::{percent_decode, query_pairs};
use credential::{Authorization, Scope};
pub use rejection::Rejection;
pub use replays::Replays;
pub(crate) use replays::SdkCall;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
pub(crate) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
/// Longest life of a presigned request, seconds: one week, as at AWS.
pub(crate) const EXPIRES_MAX_SECONDS: i64 = 604_800;
/// Stands in for the secret of a key that does not exist, so that the same work is done for it.
pub(crate) const DUMMY_SECRET: &str = "this-secret-belongs-to-nobody-at-all-0000";

/// The parts of a request that a signature covers, as received: nothing decoded, nothing normalised.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// `GET`, `POST`, ...
    pub method: &'a str,
    /// Path as on the wire, percent-encoding untouched.
    pub path: &'a str,
    /// Query string as on the wire without the `?`; empty when there is none.
    pub query: &'a str,
    /// All headers, `host` among them (taken from `:authority` for HTTP/2).
    pub headers: &'a HeaderMap,
}

/// What the payload hash is taken from.
#[derive(Debug, Clone, Copy)]
pub enum Payload<'a> {
    /// The whole body, at hand: hashed here, and `x-amz-content-sha256` must agree if it was sent.
    Body(&'a [u8]),
    /// S3: the body is still to come; `x-amz-content-sha256` says what it will hash to, or that it is signed
    /// in chunks, or not at all. The caller must hold the body to that.
    Announced,
}

/// What one endpoint demands.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// Region of this endpoint, e.g. `us-east-1`.
    pub region: &'a str,
    /// `codebuild`, `logs`, `sts`, `s3`.
    pub service: &'a str,
    /// Furthest a request's time may be from ours, seconds, either way.
    pub skew_seconds: i64,
    /// Whether a signature in the query string is accepted.
    pub presigned: bool,
}

impl Rules<'_> {
    fn is_s3(&self) -> bool {
        self.service == "s3"
    }
}

/// A request whose signature holds.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Who signed it.
    pub caller: Caller,
    /// Access key id it was signed with.
    pub key_id: String,
    /// The signature, 64 hex digits.
    pub signature: String,
    /// When it was signed, seconds since 1970.
    pub signed_at: i64,
}

/// Verifies one request at the time `now` (seconds since 1970).
///
/// # Errors
/// A [`Rejection`] saying what is wrong in terms that do not help to guess a key or a signature.
pub fn verify(
    request: &Request<'_>,
    payload: Payload<'_>,
    rules: &Rules<'_>,
    now: i64,
    keys: &Keys,
) -> Result<Verified, Rejection> {
    let authorization = credential::find(request, rules)?;
    // Normalising would lend a path without a root one; `*` and absolute targets are nothing we serve.
    if !request.path.starts_with('/') {
        return Err(Rejection::Mismatch);
    }
    let signed_at = check_time(&authorization, rules, now)?;
    check_scope(&authorization, rules)?;
    check_signed_headers(&authorization, request, rules)?;
    let payload_hash = payload_hash(&authorization, request, payload, rules)?;

    let canonical = canonical::request(request, &authorization, &payload_hash, rules.is_s3());
    let to_sign = string_to_sign(&authorization.date, &authorization.scope, &canonical);
    let key = keys.get(&authorization.key_id);
    let secret = key.as_ref().map_or(DUMMY_SECRET, |key| key.secret.as_str());
    let expected = sign(secret, &authorization.scope, &to_sign);
    let equal = expected.as_bytes().ct_eq(authorization.signature.as_bytes());
    let key = key.filter(|_| equal.into()).ok_or(Rejection::Mismatch)?;

    check_token(&key, authorization.token.as_deref(), now)?;
    Ok(Verified {
        caller: key.caller.clone(),
        key_id: authorization.key_id,
        signature: authorization.signature,
        signed_at,
    })
}

/// Returns the signed time when it is near enough to `now`.
fn check_time(authorization: &Authorization, rules: &Rules<'_>, now: i64) -> Result<i64, Rejection> {
    let signed_at = authorization.signed_at;
    if signed_at - now > rules.skew_seconds {
        return Err(Rejection::NotYetCurrent { signed_at, now, skew_seconds: rules.skew_seconds });
    }
    match authorization.expires_seconds {
        Some(expires_seconds) if now > signed_at + expires_seconds => {
            Err(Rejection::PresignedExpired { signed_at, expires_seconds, now })
        }
        None if now - signed_at > rules.skew_seconds => {
            Err(Rejection::Expired { signed_at, now, skew_seconds: rules.skew_seconds })
        }
        _ => Ok(signed_at),
    }
}

fn check_scope(authorization: &Authorization, rules: &Rules<'_>) -> Result<(), Rejection> {
    let scope = &authorization.scope;
    if scope.terminator != "aws4_request" {
        return Err(Rejection::Scope(format!(
            "Credential should be scoped with a valid terminator: 'aws4_request', not '{}'.",
            scope.terminator
        )));
    }
    if scope.date != authorization.date[..8] {
        return Err(Rejection::Scope(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}' != '{}', from '{}'.",
            scope.date,
            &authorization.date[..8],
            authorization.date
        )));
    }
    if scope.service != rules.service {
        return Err(Rejection::Service { given: scope.service.clone(), expected: rules.service.to_owned() });
    }
    if scope.region != rules.region {
        return Err(Rejection::Region { given: scope.region.clone(), expected: rules.region.to_owned() });
    }
    Ok(())
}

/// Headers a signature must cover when they are present, because we act on them.
fn must_be_signed(name: &str, authorization: &Authorization, rules: &Rules<'_>) -> bool {
    match name {
        "host" => true,
        // Both are part of what is signed anyway: one of the string to sign, the other of the canonical request.
        "x-amz-date" => false,
        "x-amz-content-sha256" if rules.is_s3() => false,
        // Browsers and curl add a content type to a presigned upload that its maker could not know.
        "content-type" => !rules.is_s3(),
        "x-amz-security-token" => authorization.expires_seconds.is_none(),
        _ if rules.is_s3() => name.starts_with("x-amz-") && name != "x-amz-cf-id",
        _ => name == "x-amz-target" || name == "x-amz-content-sha256",
    }
}

fn check_signed_headers(
    authorization: &Authorization,
    request: &Request<'_>,
    rules: &Rules<'_>,
) -> Result<(), Rejection> {
    let signed = &authorization.signed_headers;
    let present = |name: &str| request.headers.contains_key(name);
    let is_signed = |name: &str| signed.iter().any(|signed| signed == name);
    if !is_signed("host") {
        return Err(Rejection::HostNotSigned);
    }
    // A signed header that was not sent would be hashed as empty: someone on the way could have removed it. And
    // bytes that are no text have no one spelling in the canonical request.
    let readable = |name: &str| {
        request.headers.get_all(name).iter().all(|value| str::from_utf8(value.as_bytes()).is_ok())
    };
    if !signed.iter().all(|name| present(name) && readable(name)) {
        return Err(Rejection::Mismatch);
    }
    let unsigned: Vec<String> = request
        .headers
        .keys()
        .map(|name| name.as_str())
        .filter(|name| must_be_signed(name, authorization, rules) && !is_signed(name))
        .map(str::to_owned)
        .collect();
    if unsigned.is_empty() { Ok(()) } else { Err(Rejection::HeadersNotSigned(unsigned)) }
}

/// The last line of the canonical request.
fn payload_hash<'a>(
    authorization: &Authorization,
    request: &Request<'a>,
    payload: Payload<'_>,
    rules: &Rules<'_>,
) -> Result<Cow<'a, str>, Rejection> {
    let declared = single_header(request.headers, "x-amz-content-sha256")?;
    match payload {
        Payload::Body(body) => {
            let computed = hex(&Sha256::digest(body));
            let agrees = declared.is_none_or(|declared| declared == computed);
            if agrees { Ok(computed.into()) } else { Err(Rejection::PayloadMismatch) }
        }
        // A presigned S3 request was made before its body was known.
        Payload::Announced if authorization.expires_seconds.is_some() => {
            let plain = declared.is_none_or(|declared| declared == UNSIGNED_PAYLOAD || is_sha256(declared));
            if plain { Ok(UNSIGNED_PAYLOAD.into()) } else { Err(Rejection::PayloadKind) }
        }
        Payload::Announced => {
            let declared = declared.ok_or(Rejection::PayloadHashMissing)?;
            debug_assert!(rules.is_s3(), "only S3 bodies are verified while they stream in");
            if is_payload_kind(declared) { Ok(declared.into()) } else { Err(Rejection::PayloadKind) }
        }
    }
}

fn is_payload_kind(declared: &str) -> bool {
    const KINDS: [&str; 4] = [
        UNSIGNED_PAYLOAD,
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    ];
    KINDS.contains(&declared) || is_sha256(declared)
}

/// 64 lower-case hex digits.
fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The value of a header that may come at most once.
pub(crate) fn single_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Rejection> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(Rejection::Incomplete(format!("Only one '{name}' header is allowed.")));
    }
    first
        .map(|value| {
            value.to_str().map_err(|_| Rejection::Incomplete(format!("The '{name}' header is not ASCII.")))
        })
        .transpose()
}

/// A temporary key's token must come with it, and none with a permanent key.
pub(crate) fn check_token(key: &AccessKey, sent: Option<&str>, now: i64) -> Result<(), Rejection> {
    match (&key.session, sent) {
        (None, None) => Ok(()),
        (Some(session), Some(sent)) if bool::from(session.token.as_bytes().ct_eq(sent.as_bytes())) => {
            if now < session.expires_at { Ok(()) } else { Err(Rejection::TokenExpired) }
        }
        _ => Err(Rejection::TokenInvalid),
    }
}

fn string_to_sign(date: &str, scope: &Scope, canonical: &str) -> String {
    format!("{ALGORITHM}\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())))
}

fn sign(secret: &str, scope: &Scope, to_sign: &str) -> String {
    let start = format!("AWS4{secret}");
    let key = [&scope.date, &scope.region, &scope.service, &scope.terminator]
        .into_iter()
        .fold(start.into_bytes(), |key, part| hmac(&key, part.as_bytes()).to_vec());
    hex(&hmac(&key, to_sign.as_bytes()))
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

/// When the request says it was made, from text to seconds.
fn parse_date(text: &str) -> Result<i64, Rejection> {
    time::parse_basic(text).ok_or_else(|| {
        Rejection::Incomplete(format!(
            "Date must be in ISO-8601 'basic format'. Got '{text}'. See http://en.wikipedia.org/wiki/ISO_8601"
        ))
    })
}

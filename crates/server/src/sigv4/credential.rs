//! Where a signature stands in a request, taken apart: the `Authorization` header or the query string.

use std::fmt;

use super::canonical::{percent_decode, query_pairs};
use super::{
    ALGORITHM, EXPIRES_MAX_SECONDS, Rejection, Request, Rules, is_sha256, parse_date, single_header,
};
use crate::time;

/// Longest `Authorization` header read.
const HEADER_MAX_BYTES: usize = 8 * 1024;

/// Everything a request says about its own signature.
#[derive(Debug)]
pub(super) struct Authorization {
    pub(super) key_id: String,
    pub(super) scope: Scope,
    /// Lower case, sorted, unique: checked.
    pub(super) signed_headers: Vec<String>,
    /// 64 lower-case hex digits: checked.
    pub(super) signature: String,
    /// The signed time as it goes into the string to sign, `20150830T123600Z`.
    pub(super) date: String,
    pub(super) signed_at: i64,
    /// Session token, if one was sent.
    pub(super) token: Option<String>,
    /// Set for presigned requests.
    pub(super) expires_seconds: Option<i64>,
}

/// What a signing key was derived for.
#[derive(Debug)]
pub(super) struct Scope {
    pub(super) date: String,
    pub(super) region: String,
    pub(super) service: String,
    pub(super) terminator: String,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}/{}", self.date, self.region, self.service, self.terminator)
    }
}

/// Finds the one signature of a request.
pub(super) fn find(request: &Request<'_>, rules: &Rules<'_>) -> Result<Authorization, Rejection> {
    let header = single_header(request.headers, "authorization")?;
    let presigned = query_pairs(request.query).any(|(name, _)| {
        let name = percent_decode(name);
        name.eq_ignore_ascii_case(b"X-Amz-Algorithm") || name.eq_ignore_ascii_case(b"X-Amz-Signature")
    });
    match (header, presigned) {
        (None, false) => Err(Rejection::Missing),
        (Some(_), true) => Err(Rejection::TwoMechanisms),
        (Some(header), false) => from_header(header, request),
        (None, true) if rules.presigned => from_query(request),
        (None, true) => Err(Rejection::Missing),
    }
}

fn from_header(header: &str, request: &Request<'_>) -> Result<Authorization, Rejection> {
    if header.len() > HEADER_MAX_BYTES {
        return Err(Rejection::Incomplete("Authorization header is too long.".to_owned()));
    }
    let (algorithm, rest) = header.split_once(' ').unwrap_or((header, ""));
    if algorithm != ALGORITHM {
        return Err(Rejection::Algorithm(algorithm.to_owned()));
    }
    let fields = HeaderFields::parse(rest)?;
    let (key_id, scope) = parse_credential(fields.credential)?;
    let (date, signed_at) = header_date(request)?;
    Ok(Authorization {
        key_id,
        scope,
        signed_headers: parse_signed_headers(fields.signed_headers)?,
        signature: parse_signature(fields.signature)?,
        date,
        signed_at,
        token: header_token(request)?,
        expires_seconds: None,
    })
}

/// Without blanks around it, as the canonical request has it: HTTP/2 carries them on.
fn header_token(request: &Request<'_>) -> Result<Option<String>, Rejection> {
    let token = single_header(request.headers, "x-amz-security-token")?;
    Ok(token.map(|token| token.trim_matches([' ', '\t']).to_owned()))
}

/// `Credential=..., SignedHeaders=..., Signature=...` in any order, each exactly once.
struct HeaderFields<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> HeaderFields<'a> {
    fn parse(text: &'a str) -> Result<HeaderFields<'a>, Rejection> {
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for part in text.split(',') {
            let part = part.trim_matches([' ', '\t']);
            let (name, value) = part
                .split_once('=')
                .ok_or_else(|| Rejection::Incomplete(format!("'{part}' not a valid key=value pair (missing equal-sign) in Authorization header: '{text}'.")))?;
            let slot = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed_headers,
                "Signature" => &mut signature,
                _ => {
                    return Err(Rejection::Incomplete(format!(
                        "'{name}' is no parameter of the Authorization header."
                    )));
                }
            };
            if slot.replace(value).is_some() {
                return Err(Rejection::Incomplete(format!(
                    "Authorization header has more than one '{name}' parameter."
                )));
            }
        }
        let required = |value: Option<&'a str>, name: &str| {
            value.filter(|value| !value.is_empty()).ok_or_else(|| {
                Rejection::Incomplete(format!("Authorization header requires '{name}' parameter."))
            })
        };
        Ok(HeaderFields {
            credential: required(credential, "Credential")?,
            signature: required(signature, "Signature")?,
            signed_headers: required(signed_headers, "SignedHeaders")?,
        })
    }
}

/// `X-Amz-Date`, or `Date` when that is absent.
fn header_date(request: &Request<'_>) -> Result<(String, i64), Rejection> {
    if let Some(date) = single_header(request.headers, "x-amz-date")? {
        return Ok((date.to_owned(), parse_date(date)?));
    }
    let date = single_header(request.headers, "date")?.ok_or_else(|| {
        Rejection::Incomplete(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.".to_owned(),
        )
    })?;
    let signed_at = time::parse_http_date(date).map_or_else(|| parse_date(date), Ok)?;
    Ok((time::basic(signed_at), signed_at))
}

fn from_query(request: &Request<'_>) -> Result<Authorization, Rejection> {
    let field = |name: &'static str| query_field(request.query, name);
    let required = |name: &'static str| {
        field(name)?.ok_or_else(|| {
            Rejection::Query(
                "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."
                    .to_owned(),
            )
        })
    };
    if required("X-Amz-Algorithm")? != ALGORITHM {
        return Err(Rejection::Query(format!("X-Amz-Algorithm only supports \"{ALGORITHM}\"")));
    }
    let (key_id, scope) = parse_credential(&required("X-Amz-Credential")?)?;
    let date = required("X-Amz-Date")?;
    let signed_at = parse_date(&date)?;
    Ok(Authorization {
        key_id,
        scope,
        signed_headers: parse_signed_headers(&required("X-Amz-SignedHeaders")?)?,
        signature: parse_signature(&required("X-Amz-Signature")?)?,
        date,
        signed_at,
        token: field("X-Amz-Security-Token")?,
        expires_seconds: Some(parse_expires(&required("X-Amz-Expires")?)?),
    })
}

/// A query parameter's decoded value; an error when it comes twice or is not UTF-8.
fn query_field(query: &str, name: &'static str) -> Result<Option<String>, Rejection> {
    let mut values = query_pairs(query).filter(|(key, _)| percent_decode(key) == name.as_bytes());
    let first = values.next();
    if values.next().is_some() {
        return Err(Rejection::Query(format!("{name} must be given once")));
    }
    first
        .map(|(_, value)| {
            String::from_utf8(percent_decode(value))
                .map_err(|_| Rejection::Query(format!("{name} is not UTF-8")))
        })
        .transpose()
}

fn parse_expires(text: &str) -> Result<i64, Rejection> {
    if text.is_empty() || text.len() > 9 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Rejection::Query("X-Amz-Expires should be a number".to_owned()));
    }
    match text.parse() {
        Ok(seconds @ 1..=EXPIRES_MAX_SECONDS) => Ok(seconds),
        _ => Err(Rejection::Query(
            "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds"
                .to_owned(),
        )),
    }
}

/// `<key id>/<date>/<region>/<service>/aws4_request`: exactly five parts, none empty.
fn parse_credential(text: &str) -> Result<(String, Scope), Rejection> {
    let parts: Vec<&str> = text.split('/').collect();
    let [key_id, date, region, service, terminator] = parts[..] else {
        return Err(Rejection::Incomplete(format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{text}'"
        )));
    };
    if parts.iter().any(|part| part.is_empty()) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Rejection::Incomplete(format!(
            "Credential has an empty or malformed element, got '{}'",
            text.escape_debug()
        )));
    }
    let scope = Scope {
        date: date.to_owned(),
        region: region.to_owned(),
        service: service.to_owned(),
        terminator: terminator.to_owned(),
    };
    Ok((key_id.to_owned(), scope))
}

fn parse_signed_headers(text: &str) -> Result<Vec<String>, Rejection> {
    let names: Vec<String> = text.split(';').map(str::to_owned).collect();
    let lower = names.iter().all(|name| !name.is_empty() && name.bytes().all(is_header_name_byte));
    let ascending = names.windows(2).all(|pair| pair[0] < pair[1]);
    if lower && ascending { Ok(names) } else { Err(Rejection::SignedHeaders) }
}

fn is_header_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn parse_signature(text: &str) -> Result<String, Rejection> {
    // The shape of a wrong signature is no secret, but saying more about it helps nobody honest.
    if is_sha256(text) { Ok(text.to_owned()) } else { Err(Rejection::Mismatch) }
}

//! Our verdict on signatures beside that of another verifier, on requests that botocore signed and on thousands that
//! were changed afterwards.
//!
//! What the other refuses we must refuse, too; what only we refuse must be for a rule that we know to be stricter.

use std::collections::BTreeMap;
use std::error::Error;

use chrono::{DateTime, Utc};
use hyper::http::Request;
use scratchstack_aws_signature::principal::User;
use scratchstack_aws_signature::{
    GetSigningKeyRequest, GetSigningKeyResponse, KSecretKey, NO_ADDITIONAL_SIGNED_HEADERS, SignatureOptions,
    service_for_signing_key_fn, sigv4_validate_request,
};
use serde_json::Value;
use server::sigv4::{self, Payload, Rejection, Rules};

use crate::{ACCOUNT, KEY_ID, SECRET, keys_of, signed_by_botocore};

/// Requests that botocore signs.
const SIGNED: usize = 600;
/// What becomes of each of them.
const CHANGED: u64 = 60;

type Refused = Box<dyn Error + Send + Sync>;

/// A small generator: the same requests for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }

    fn one<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }
}

/// Changes one thing; often it changes nothing that matters.
fn change(case: &Value, random: &mut Random) -> Value {
    let mut case = case.clone();
    let headers = case["headers"].as_array().unwrap().len();
    let which = random.below(headers);
    match random.below(9) {
        0 => edit(&mut case["path"], random),
        1 => edit(&mut case["query"], random),
        2 => edit(&mut case["body"], random),
        3 | 4 => edit(&mut case["headers"][which][1], random),
        5 => drop(case["headers"].as_array_mut().unwrap().remove(which)),
        6 => {
            let twin = case["headers"][which].clone();
            case["headers"].as_array_mut().unwrap().push(twin);
        }
        7 => case["method"] = random.one(&["GET", "POST", "PUT", "get"]).into(),
        _ => {
            let name = random.one(&["X-Other", "Accept", "X-Amz-Other", "Content-Encoding"]);
            case["headers"].as_array_mut().unwrap().push(serde_json::json!([name, "x"]));
        }
    }
    case
}

fn edit(text: &mut Value, random: &mut Random) {
    let mut letters: Vec<char> = text.as_str().unwrap().chars().collect();
    let at = random.below(letters.len());
    let letter =
        random.one(&["a", "A", "0", "/", "%", "=", "&", " ", ";", ",", "+", ".", "~"]).chars().next();
    match random.below(4) {
        0 if !letters.is_empty() => drop(letters.remove(at)),
        1 if !letters.is_empty() => letters[at] = letter.unwrap(),
        2 if at + 1 < letters.len() => letters.swap(at, at + 1),
        _ => letters.insert(at, letter.unwrap()),
    }
    *text = letters.into_iter().collect::<String>().into();
}

/// The request as the other verifier takes it; nothing for what is no request.
fn request(case: &Value) -> Option<Request<Vec<u8>>> {
    let text = |name: &str| case[name].as_str().unwrap();
    let uri = match text("query") {
        "" => text("path").to_owned(),
        query => format!("{}?{query}", text("path")),
    };
    let mut request = Request::builder().method(text("method")).uri(uri);
    for pair in case["headers"].as_array().unwrap() {
        request = request.header(pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
    }
    request.body(text("body").as_bytes().to_vec()).ok()
}

fn ours(case: &Value, request: &Request<Vec<u8>>) -> Result<(), Rejection> {
    let signed = sigv4::Request {
        method: request.method().as_str(),
        path: request.uri().path(),
        query: request.uri().query().unwrap_or_default(),
        headers: request.headers(),
    };
    let rules = Rules { region: "us-east-1", service: "codebuild", skew_seconds: 900, presigned: false };
    let (now, keys) = (case["now"].as_i64().unwrap(), keys_of(case));
    sigv4::verify(&signed, Payload::Body(request.body()), &rules, now, &keys).map(drop)
}

async fn signing_key(
    request: GetSigningKeyRequest,
    token: Option<String>,
) -> Result<GetSigningKeyResponse, Refused> {
    if request.access_key() != KEY_ID || request.session_token() != token.as_deref() {
        return Err("another key or token".into());
    }
    let secret: KSecretKey = SECRET.parse()?;
    let key = secret.to_ksigning(request.request_date(), request.region(), request.service());
    let user = User::new("aws", ACCOUNT, "/", "alice")?;
    Ok(GetSigningKeyResponse::builder().principal(user).signing_key(key).build()?)
}

async fn theirs(case: &Value, request: Request<Vec<u8>>) -> Result<(), Refused> {
    let token = case["token"].as_str().map(str::to_owned);
    let key = move |request: GetSigningKeyRequest| signing_key(request, token.clone());
    let mut keys = service_for_signing_key_fn(key);
    let now = DateTime::<Utc>::from_timestamp(case["now"].as_i64().unwrap(), 0).unwrap();
    let (rules, options) = (NO_ADDITIONAL_SIGNED_HEADERS, SignatureOptions::default());
    let verdict =
        sigv4_validate_request(request, "us-east-1", "codebuild", &mut keys, now, &rules, options).await;
    verdict.map(drop)
}

// AP-004
#[tokio::test]
async fn our_verdict_is_another_verifiers_on_signed_and_on_changed_requests() {
    let seed = std::process::id();
    let mut random = Random(u64::from(seed) << 20 | 1);
    let (mut comparable, mut looked_at, mut accepted) = (0, 0, 0);
    let mut disputed = Vec::new();
    let mut stricter: BTreeMap<String, usize> = BTreeMap::new();
    let signed = signed_by_botocore("random-headers", SIGNED, seed);
    assert_eq!(signed.len(), SIGNED);
    for signed in signed {
        let whole = request(&signed).expect("botocore signs requests");
        assert!(ours(&signed, &whole).is_ok(), "seed {seed}: {signed}");
        // Some paths and queries that AWS's own signer signs are beyond the other: nothing to compare.
        if theirs(&signed, whole).await.is_err() {
            continue;
        }
        comparable += 1;
        for _ in 0..CHANGED {
            let case = change(&signed, &mut random);
            let Some(request) = request(&case) else { continue };
            looked_at += 1;
            match (ours(&case, &request), theirs(&case, request).await) {
                (Ok(()), Ok(())) => accepted += 1,
                // They read paths more strictly than AWS's own signer writes them: not above the root, no lone `%`.
                (Ok(()), Err(refused)) if !refused.to_string().contains("does not match") => {}
                (Ok(()), Err(refused)) => disputed.push(format!("{refused}: {case} of {signed}")),
                (Err(_), Err(_)) => {}
                (Err(why), Ok(())) => *stricter.entry(rule(&why, &case)).or_default() += 1,
            }
        }
    }
    assert!(disputed.is_empty(), "seed {seed}: {} only they refuse, such as {}", disputed.len(), disputed[0]);
    let known = [
        "a header unsigned",
        "a header twice",
        "a header of another form",
        "the hash of another body",
        "a path without a root",
        "a blank before the algorithm",
    ];
    let unknown: Vec<_> = stricter.keys().filter(|rule| !known.contains(&rule.as_str())).collect();
    assert!(unknown.is_empty(), "seed {seed}: only we refuse: {unknown:?} in {stricter:?}");
    let figures = format!("{comparable} signed, {accepted} of {looked_at} accepted: {stricter:?}");
    assert!(comparable > 100 && looked_at > 5_000 && accepted > 500, "{figures}");
}

fn authorization(case: &Value) -> &str {
    let mut headers = case["headers"].as_array().unwrap().iter();
    let pair = headers.find(|pair| pair[0] == "Authorization").unwrap();
    pair[1].as_str().unwrap()
}

/// Which of our own rules a request broke.
fn rule(why: &Rejection, case: &Value) -> String {
    match why {
        Rejection::HeadersNotSigned(_) => "a header unsigned".into(),
        Rejection::Incomplete(text) if text.contains("Only one") => "a header twice".into(),
        Rejection::Incomplete(_) | Rejection::SignedHeaders => "a header of another form".into(),
        Rejection::Algorithm(algorithm) if algorithm.is_empty() && authorization(case).starts_with(' ') => {
            "a blank before the algorithm".into()
        }
        Rejection::PayloadMismatch => "the hash of another body".into(),
        Rejection::Mismatch if !case["path"].as_str().unwrap().starts_with('/') => {
            "a path without a root".into()
        }
        other => format!("{other:?} {case}"),
    }
}

//! Any request, signed by a slow signer that was written from the service's description alone: it is let in, and so is exactly what
//! comes to the same canonical request with the same signature.

#![no_main]

// To the modules of the verifier, this program is the rooms that they take their errors and their callers' rights from.
extern crate self as access;
extern crate self as api;

use hmac::{Hmac, KeyInit, Mac};
use hyper::header::HeaderValue;
use libfuzzer_sys::fuzz_target;
use sha2::{Digest, Sha256};
use signing::server::{keys, time};
use signing::{DATE, Input, KEY, NOW, Principal, Rights, SECRET, ServiceError, read, verdict};

#[allow(dead_code)]
mod signing;

fn escape(bytes: &[u8], also: &str) -> String {
    let plain = |byte: &u8| {
        byte.is_ascii_alphanumeric() || "-._~".contains(char::from(*byte)) || also.contains(char::from(*byte))
    };
    bytes
        .iter()
        .map(|byte| if plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn unescape(text: &str) -> Vec<u8> {
    let mut found = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let is_hex = |digits: &&str| digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        match digits.filter(is_hex).filter(|_| *first == b'%') {
            Some(digits) => {
                found.push(u8::from_str_radix(digits, 16).expect("two hex digits"));
                rest = &after[2..];
            }
            None => {
                found.push(*first);
                rest = after;
            }
        }
    }
    found
}

fn canonical(input: &Input<'_>, is_s3: bool) -> String {
    let path = if is_s3 {
        escape(&unescape(input.path), "/")
    } else {
        let mut kept: Vec<&str> = Vec::new();
        for part in input.path.split('/') {
            if part == ".." {
                kept.pop();
            } else if part != "." && !part.is_empty() {
                kept.push(part);
            }
        }
        let end = if input.path.ends_with('/') && !kept.is_empty() { "/" } else { "" };
        escape(format!("/{}{end}", kept.join("/")).as_bytes(), "/")
    };
    let mut pairs: Vec<(String, String)> = Vec::new();
    for pair in input.query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((escape(&unescape(name), ""), escape(&unescape(value), "")));
    }
    pairs.sort();
    let query: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut lines = format!("POST\n{path}\n{}\n", query.join("&"));
    let names = names(input);
    for name in &names {
        let values: Vec<String> =
            input.headers.get_all(name).iter().map(|value| words(value.as_bytes())).collect();
        lines += &format!("{name}:{}\n", values.join(","));
    }
    format!("{lines}\n{}\n{}", names.join(";"), hash(input, is_s3))
}

fn hash(input: &Input<'_>, is_s3: bool) -> String {
    let announced = input.headers.get("x-amz-content-sha256").and_then(|value| value.to_str().ok());
    match announced {
        Some(announced) if is_s3 => announced.to_owned(),
        _ => hex(&Sha256::digest(input.body)),
    }
}

fn words(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    text.split([' ', '\t']).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn names(input: &Input<'_>) -> Vec<String> {
    let mut names: Vec<String> = input.headers.keys().map(|name| name.as_str().to_owned()).collect();
    names.sort();
    names
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn code(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("every length will do");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn authorization(input: &Input<'_>, service: &str) -> String {
    let scope = format!("20150830/us-east-1/{service}/aws4_request");
    let digest = hex(&Sha256::digest(canonical(input, service == "s3").as_bytes()));
    let text = format!("AWS4-HMAC-SHA256\n{DATE}\n{scope}\n{digest}");
    let key = scope.split('/').fold(format!("AWS4{SECRET}").into_bytes(), |key, part| code(&key, part));
    let signature = hex(&code(&key, &text));
    let names = names(input).join(";");
    format!("AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={names}, Signature={signature}")
}

/// Signed well, if it is a request that a client could sign.
fn sign(input: &mut Input<'_>, service: &str) -> bool {
    let reserved =
        ["authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token", "date", "host"];
    reserved.iter().for_each(|name| drop(input.headers.remove(*name)));
    let is_text = |value: &HeaderValue| std::str::from_utf8(value.as_bytes()).is_ok();
    let says_signed = |pair: &str| {
        let name = unescape(pair.split('=').next().unwrap_or_default()).to_ascii_lowercase();
        name == b"x-amz-signature" || name == b"x-amz-algorithm"
    };
    if !input.path.starts_with('/')
        || !input.headers.values().all(is_text)
        || input.query.split('&').any(says_signed)
    {
        return false;
    }
    input.headers.insert("host", HeaderValue::from_static("codebuild.us-east-1.amazonaws.com"));
    input.headers.insert("x-amz-date", HeaderValue::from_static(DATE));
    if service == "s3" {
        let digest = hex(&Sha256::digest(input.body));
        input.headers.insert("x-amz-content-sha256", HeaderValue::from_str(&digest).expect("hex digits"));
    }
    let authorization = authorization(input, service);
    input.headers.insert("authorization", HeaderValue::from_str(&authorization).expect("names and digits"));
    true
}

/// Removes the authorization, as the canonical request does not have it.
fn bare<'a>(input: &Input<'a>) -> Input<'a> {
    let mut headers = input.headers.clone();
    headers.remove("authorization");
    Input { path: input.path, query: input.query, headers, body: input.body }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    let service = if first & 1 == 0 { "codebuild" } else { "s3" };
    let Some(mut input) = read(rest) else { return };
    if !sign(&mut input, service) {
        return;
    }
    let verified = verdict(&input, service).expect("it is signed well");
    assert_eq!((verified.key_id.as_str(), verified.signed_at), (KEY, NOW));
    // Something else with this signature: let in exactly if it comes to the same.
    let before = canonical(&bare(&input), service == "s3");
    let headers = input.headers.clone();
    let body = [input.body, b"x"].concat();
    let path = format!("{}/./", input.path);
    let query = input.query.split('&').rev().collect::<Vec<_>>().join("&");
    let mut others = vec![
        Input { path: &path, query: input.query, headers: headers.clone(), body: input.body },
        Input { path: input.path, query: &query, headers: headers.clone(), body: input.body },
        Input { path: input.path, query: input.query, headers: headers.clone(), body: &body },
    ];
    for name in headers.keys().filter(|name| *name != "authorization" && *name != "x-amz-date") {
        let mut other = headers.clone();
        other.append(name, HeaderValue::from_static("more"));
        others.push(Input { path: input.path, query: input.query, headers: other, body: input.body });
    }
    for other in &others {
        let is_same = canonical(&bare(other), service == "s3") == before;
        let found = verdict(other, service);
        assert_eq!(found.is_ok(), is_same, "{found:?}");
    }
});

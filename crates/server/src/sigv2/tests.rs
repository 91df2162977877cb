//! The verifier against links made by botocore (fixtures/links.jsonl, made by tests/sign.py), and against every way
//! of being nearly right.

use access::{Principal, Rights};
use serde_json::Value;

use super::*;
use crate::keys::{AccessKey, Session};

/// A link that can be altered before it is followed.
#[derive(Debug, Clone)]
struct Followed {
    method: String,
    path: String,
    query: String,
    headers: HeaderMap,
    bucket: Option<String>,
    token: Option<String>,
    now: i64,
}

fn caller() -> Caller {
    let arn = "arn:aws:iam::123456789012:user/a".into();
    let principal = Principal { account: "123456789012".into(), arn, user_id: "AIDA".into() };
    Caller::of(Rights::everything(principal))
}

fn rules() -> Rules<'static> {
    Rules { region: "us-east-1", service: "s3", skew_seconds: 300, presigned: true }
}

impl Followed {
    fn from_json(case: &Value) -> Followed {
        let text = |name: &str| case[name].as_str().unwrap().to_owned();
        let mut headers = HeaderMap::new();
        for pair in case["headers"].as_array().unwrap() {
            let name = HeaderName::from_bytes(pair[0].as_str().unwrap().as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(pair[1].as_str().unwrap()).unwrap());
        }
        Followed {
            method: text("method"),
            path: text("path"),
            query: text("query"),
            headers,
            bucket: case["bucket"].as_str().map(str::to_owned),
            token: case["token"].as_str().map(str::to_owned),
            now: case["now"].as_i64().unwrap(),
        }
    }

    fn with(mut self, name: &'static str, value: &str) -> Followed {
        self.headers.insert(name, HeaderValue::from_str(value).unwrap());
        self
    }

    fn asking(mut self, parameter: &str) -> Followed {
        self.query = format!("{}&{parameter}", self.query);
        self
    }

    fn keys(&self) -> Keys {
        let session = self.token.clone().map(|token| Session { token, expires_at: 2_000_000_000 });
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into();
        Keys::from_iter([AccessKey { id: "AKIDEXAMPLE".into(), secret, caller: caller(), session }])
    }

    fn verify(&self) -> Result<Verified, Rejection> {
        self.verify_by(&rules(), &self.keys())
    }

    fn verify_by(&self, rules: &Rules<'_>, keys: &Keys) -> Result<Verified, Rejection> {
        let request =
            Request { method: &self.method, path: &self.path, query: &self.query, headers: &self.headers };
        verify(&request, self.bucket.as_deref(), rules, self.now, keys)
    }
}

fn fixtures() -> Vec<(String, Followed)> {
    include_str!("../../tests/fixtures/links.jsonl")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|case| (case["name"].as_str().unwrap().to_owned(), Followed::from_json(&case)))
        .collect()
}

fn link(name: &str) -> Followed {
    fixtures().into_iter().find(|(known, _)| known == name).unwrap().1
}

#[test]
fn links_made_by_botocore_are_accepted() {
    for (name, link) in fixtures() {
        let verified = link.verify().unwrap_or_else(|why| panic!("{name}: {why:?}"));
        assert_eq!(verified.caller, caller(), "{name}");
        assert!(is_claimed(&link.query), "{name}");
    }
}

#[test]
fn aws_own_example_gives_aws_own_signature() {
    // "Query string request authentication alternative" of the S3 Developer Guide. Later editions name another
    // bucket and kept the signature.
    let to_sign = "GET\n\n\n1175139620\n/johnsmith/photos/puppy.jpg";
    assert_eq!(sign("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", to_sign), "NpgCjnDzrM+WFzoENXmpNDUsSn8=");
}

#[test]
fn signed_parameters_become_the_headers_they_stand_for_unless_they_were_sent() {
    let names = |name: &str| -> Vec<(String, String)> {
        let headers = link(name).verify().unwrap().headers;
        headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(names("metadata in the query"), [pair("x-amz-meta-a", "1 1"), pair("x-amz-meta-b", "2")]);
    assert_eq!(names("metadata in both"), []);
    assert_eq!(names("a token"), [pair("x-amz-security-token", "IQoJ+/==")]);
}

#[test]
fn no_single_flipped_bit_in_what_is_signed_goes_unnoticed() {
    for (name, link) in fixtures() {
        for (what, altered) in flips(&link) {
            assert!(altered.verify().is_err(), "{name}: accepted with {what} altered: {altered:?}");
        }
    }
}

/// Every request that differs from `link` in one bit of what its signature covers.
fn flips(link: &Followed) -> Vec<(&'static str, Followed)> {
    let mut all = Vec::new();
    for method in texts(&link.method) {
        all.push(("method", Followed { method, ..link.clone() }));
    }
    for path in texts(&link.path) {
        all.push(("path", Followed { path, ..link.clone() }));
    }
    for query in texts(&link.query).filter(|query| signed_part(query) != signed_part(&link.query)) {
        all.push(("query", Followed { query, ..link.clone() }));
    }
    for bucket in link.bucket.iter().flat_map(|bucket| texts(bucket)) {
        all.push(("bucket", Followed { bucket: Some(bucket), ..link.clone() }));
    }
    for (name, value) in link.headers.iter().filter(|(name, _)| *name != "host") {
        for value in texts(value.to_str().unwrap()) {
            let Ok(value) = HeaderValue::from_str(&value) else { continue };
            let mut altered = link.clone();
            altered.headers.insert(name.clone(), value);
            all.push(("header", altered));
        }
    }
    all
}

fn texts(text: &str) -> impl Iterator<Item = String> {
    (0..text.len() * 8).filter_map(|bit| {
        let mut bytes = text.as_bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        String::from_utf8(bytes).ok()
    })
}

/// What a query means, without the values that Version 2 leaves unsigned. `None` for what is not to be had at all.
fn signed_part(query: &str) -> Option<BTreeMap<String, String>> {
    let mut all = parameters(query).ok()?;
    let free =
        |name: &str| UNSIGNED.contains(&name) && !["AWSAccessKeyId", "Expires", "Signature"].contains(&name);
    all.retain(|name, _| !free(name));
    Some(all)
}

#[test]
fn a_link_lives_until_it_expires_and_at_most_a_week() {
    let link = link("an object");
    for (offset, expected) in [
        (0, "Ok"),
        (3_599, "Ok"),
        (3_600, "Err(LinkExpired"),
        (4_000_000, "Err(LinkExpired"),
        (3_600 - 604_800 - 300, "Ok"),
        (3_600 - 604_800 - 301, "Err(Link("),
    ] {
        let verdict = format!("{:?}", Followed { now: link.now + offset, ..link.clone() }.verify());
        assert!(verdict.starts_with(expected), "{offset}: {verdict}");
    }
    for expires in ["", "-1", "+1440941760", "1e9", "1440941760.0", "9999999999999", " 1440941760"] {
        let query = link.query.replace("1440941760", expires);
        let verdict = Followed { query, ..link.clone() }.verify().unwrap_err();
        assert!(matches!(verdict, Rejection::Link(_)), "{expires}: {verdict:?}");
    }
}

#[test]
fn only_reading_and_putting_through_s3_is_to_be_had() {
    for method in ["DELETE", "POST", "PATCH", "OPTIONS", "get", ""] {
        let verdict = Followed { method: method.into(), ..link("an object") }.verify().unwrap_err();
        assert_eq!(verdict, Rejection::Algorithm("AWS".into()), "{method}");
    }
    for method in ["PUT", "HEAD"] {
        let verdict = Followed { method: method.into(), ..link("an object") }.verify().unwrap_err();
        assert_eq!(verdict, Rejection::Mismatch, "{method}");
    }
    let link = link("an object");
    for rules in [Rules { service: "codebuild", ..rules() }, Rules { presigned: false, ..rules() }] {
        assert_eq!(link.verify_by(&rules, &link.keys()).unwrap_err(), Rejection::Algorithm("AWS".into()));
    }
}

#[test]
fn a_link_beside_another_signature_is_refused() {
    let header = link("an object").with("authorization", "AWS AKIDEXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg=");
    assert_eq!(header.verify().unwrap_err(), Rejection::TwoMechanisms);
    for parameter in
        ["X-Amz-Algorithm=AWS4-HMAC-SHA256", "X-Amz-Signature=0", "x-amz-date=1", "X-Amz-Credential"]
    {
        assert_eq!(link("an object").asking(parameter).verify().unwrap_err(), Rejection::TwoMechanisms);
    }
}

#[test]
fn a_parameter_that_is_not_signed_cannot_change_what_is_done() {
    for parameter in
        ["attributes", "legal-hold", "session", "id=1", "signature=1", "Acl", "acl+", "acl%00", "x-amz-Acl=1"]
    {
        let verdict = link("an object").asking(parameter).verify().unwrap_err();
        assert!(matches!(verdict, Rejection::Link(_)), "{parameter}: {verdict:?}");
    }
    for parameter in
        ["acl", "uploadId=1", "tagging=", "versionId=1", "response-expires=0", "x-amz-acl=private"]
    {
        assert_eq!(
            link("an object").asking(parameter).verify().unwrap_err(),
            Rejection::Mismatch,
            "{parameter}"
        );
    }
    for parameter in ["Expires=1440941760", "Signature=", "AWSAccessKeyId=B", "%45xpires=9"] {
        let verdict = link("an object").asking(parameter).verify().unwrap_err();
        assert!(matches!(verdict, Rejection::Link(_)), "{parameter}: {verdict:?}");
    }
    assert!(link("a listing").asking("max-keys=1&x-id=ListObjectsV2").verify().is_ok());
}

#[test]
fn a_parameter_that_is_missing_is_told() {
    for name in ["AWSAccessKeyId", "Expires", "Signature"] {
        let mut link = link("an object");
        let pairs: Vec<&str> = link.query.split('&').filter(|pair| !pair.starts_with(name)).collect();
        link.query = pairs.join("&");
        assert!(matches!(link.verify().unwrap_err(), Rejection::Link(_)), "{name}");
    }
    for (query, claimed) in [
        ("Signature=a", true),
        ("a&%53ignature", true),
        ("awsaccesskeyid=a", true),
        ("Expires=1", false),
        ("X-Amz-Signature=a", false),
        ("", false),
    ] {
        assert_eq!(is_claimed(query), claimed, "{query}");
    }
}

#[test]
fn a_header_that_is_not_signed_is_refused() {
    for (name, value) in [
        ("x-amz-acl", "public-read"),
        ("x-amz-copy-source", "/bucket/other"),
        ("x-amz-security-token", "any"),
        ("content-type", "text/html"),
        ("content-md5", "XrY7u+Ae7tCTyyK7j1rNww=="),
    ] {
        assert_eq!(link("an object").with(name, value).verify().unwrap_err(), Rejection::Mismatch, "{name}");
    }
    let other = link("metadata in both").with("x-amz-meta-b", "3");
    assert_eq!(other.verify().unwrap_err(), Rejection::Mismatch);
    let chunked = link("an object").with("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER");
    assert_eq!(chunked.verify().unwrap_err(), Rejection::PayloadKind);
    let mut twice = link("an upload");
    twice.headers.append("content-type", HeaderValue::from_static("text/plain"));
    assert!(matches!(twice.verify().unwrap_err(), Rejection::Incomplete(_)));
    for value in ["a%0Ax-amz-acl:private", "%00", "%0d"] {
        let verdict = link("an object").asking(&format!("x-amz-meta-a={value}")).verify().unwrap_err();
        assert_eq!(verdict, Rejection::Mismatch, "{value}");
    }
}

#[test]
fn a_temporary_key_needs_its_token_and_a_permanent_one_none() {
    let good = link("a token");
    let verdict = |keys: &Keys| good.verify_by(&rules(), keys).map(drop);
    assert_eq!(verdict(&good.keys()), Ok(()));
    assert_eq!(verdict(&link("an object").keys()), Err(Rejection::TokenInvalid));
    let other = Followed { token: Some("other".into()), ..good.clone() };
    assert_eq!(verdict(&other.keys()), Err(Rejection::TokenInvalid));
    let tokenless = Followed { token: Some("T".into()), ..link("an object") };
    assert_eq!(tokenless.verify().unwrap_err(), Rejection::TokenInvalid);
    let key = AccessKey::clone(&good.keys().get("AKIDEXAMPLE").unwrap());
    let session = Some(Session { token: "IQoJ+/==".into(), expires_at: good.now });
    assert_eq!(verdict(&Keys::from_iter([AccessKey { session, ..key }])), Err(Rejection::TokenExpired));
}

#[test]
fn an_unknown_key_and_a_wrong_secret_are_told_alike() {
    let link = link("an object");
    assert_eq!(link.verify_by(&rules(), &Keys::new()).unwrap_err(), Rejection::Mismatch);
    let wrong =
        AccessKey { secret: "wrong".into(), ..AccessKey::clone(&link.keys().get("AKIDEXAMPLE").unwrap()) };
    assert_eq!(link.verify_by(&rules(), &Keys::from_iter([wrong])).unwrap_err(), Rejection::Mismatch);
}

#[test]
fn the_bucket_is_signed_wherever_it_stands() {
    let virtual_host = link("a virtual host");
    let by_path =
        Followed { path: format!("/bucket{}", virtual_host.path), bucket: None, ..virtual_host.clone() };
    assert!(by_path.verify().is_ok(), "both name the same object");
    for bucket in [None, Some("other"), Some("bucket/a"), Some("")] {
        let altered = Followed { bucket: bucket.map(str::to_owned), ..virtual_host.clone() };
        assert_eq!(altered.verify().unwrap_err(), Rejection::Mismatch, "{bucket:?}");
    }
    let listing = link("a listing");
    assert_eq!((listing.path.as_str(), listing.verify().unwrap().path.as_str()), ("/bucket", "/bucket/"));
    assert_eq!(link("an object").verify().unwrap().path, link("an object").path);
    let split = Followed { path: "/k".into(), bucket: Some("a/b".into()), ..link("an object") };
    assert_eq!(split.verify().unwrap_err(), Rejection::Mismatch);
}

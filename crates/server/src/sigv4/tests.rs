//! The verifier against requests signed by botocore (fixtures/signed.jsonl, made by tests/sign.py), and against
//! every way of being nearly right.

use access::{Principal, Rights};
use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value;

use super::*;
use crate::keys::Session;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// A request that can be altered before it is verified.
#[derive(Debug, Clone)]
struct Signed {
    method: String,
    path: String,
    query: String,
    headers: HeaderMap,
    body: Vec<u8>,
    service: String,
    token: Option<String>,
    now: i64,
}

fn caller() -> Caller {
    let arn = "arn:aws:iam::123456789012:user/a".into();
    let principal = Principal { account: "123456789012".into(), arn, user_id: "AIDA".into() };
    Caller::of(Rights::everything(principal))
}

fn keys(token: Option<&str>) -> Keys {
    let session = token.map(|token| Session { token: token.to_owned(), expires_at: i64::MAX });
    let key = AccessKey { id: "AKIDEXAMPLE".into(), secret: SECRET.into(), caller: caller(), session };
    Keys::from_iter([key])
}

impl Signed {
    fn from_json(case: &Value) -> Signed {
        let text = |name: &str| case[name].as_str().unwrap().to_owned();
        let mut headers = HeaderMap::new();
        for pair in case["headers"].as_array().unwrap() {
            let name = HeaderName::from_bytes(pair[0].as_str().unwrap().as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(pair[1].as_str().unwrap()).unwrap());
        }
        Signed {
            method: text("method"),
            path: text("path"),
            query: text("query"),
            headers,
            body: text("body").into_bytes(),
            service: text("service"),
            token: case["token"].as_str().map(str::to_owned),
            now: case["now"].as_i64().unwrap(),
        }
    }

    /// Signs what is there, with this module's own signer, after the test has arranged the parts.
    fn new(service: &str, method: &str, path: &str, body: &str) -> Signed {
        let mut signed = Signed {
            method: method.into(),
            path: path.into(),
            query: String::new(),
            headers: HeaderMap::new(),
            body: body.as_bytes().to_vec(),
            service: service.into(),
            token: None,
            now: 1_440_938_160,
        };
        signed.set("host", "localhost:8080");
        signed.set("x-amz-date", "20150830T123600Z");
        if service == "s3" {
            let hash = hex(&Sha256::digest(body));
            signed.set("x-amz-content-sha256", &hash);
        } else {
            signed.set("content-type", "application/x-amz-json-1.1");
            signed.set("x-amz-target", "CodeBuild_20161006.ListProjects");
        }
        signed
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.headers.insert(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }

    fn sign(mut self) -> Signed {
        let mut names: Vec<String> = self.headers.keys().map(|name| name.as_str().to_owned()).collect();
        names.sort();
        self.sign_with(
            &names.join(";"),
            &format!("AKIDEXAMPLE/20150830/us-east-1/{}/aws4_request", self.service.clone()),
        );
        self
    }

    fn sign_with(&mut self, signed_headers: &str, credential: &str) {
        let parts: Vec<&str> = credential.split('/').collect();
        let date = self
            .headers
            .get("x-amz-date")
            .map_or("20150830T123600Z", |date| date.to_str().unwrap())
            .to_owned();
        let authorization = Authorization {
            key_id: parts[0].into(),
            scope: Scope {
                date: parts[1].into(),
                region: parts[2].into(),
                service: parts[3].into(),
                terminator: parts.get(4).copied().unwrap_or_default().into(),
            },
            signed_headers: signed_headers.split(';').map(str::to_owned).collect(),
            signature: String::new(),
            signed_at: 0,
            date,
            token: None,
            expires_seconds: None,
        };
        let declared = self.headers.get("x-amz-content-sha256").map(|hash| hash.to_str().unwrap().to_owned());
        let hash = declared.unwrap_or_else(|| hex(&Sha256::digest(&self.body)));
        let canonical = canonical::request(&self.request(), &authorization, &hash, self.service == "s3");
        let signature = sign(
            SECRET,
            &authorization.scope,
            &string_to_sign(&authorization.date, &authorization.scope, &canonical),
        );
        let header = format!(
            "AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed_headers}, Signature={signature}"
        );
        self.set("authorization", &header);
    }

    fn request(&self) -> Request<'_> {
        Request { method: &self.method, path: &self.path, query: &self.query, headers: &self.headers }
    }

    fn verify(&self) -> Result<Verified, Rejection> {
        self.verify_with(&keys(self.token.as_deref()))
    }

    fn verify_with(&self, keys: &Keys) -> Result<Verified, Rejection> {
        let s3 = self.service == "s3";
        let rules = Rules { region: "us-east-1", service: &self.service, skew_seconds: 300, presigned: s3 };
        let payload = if s3 { Payload::Announced } else { Payload::Body(&self.body) };
        verify(&self.request(), payload, &rules, self.now, keys)
    }

    fn authorization(&self) -> String {
        self.headers["authorization"].to_str().unwrap().to_owned()
    }
}

fn fixtures() -> Vec<(String, Signed)> {
    include_str!("../../tests/fixtures/signed.jsonl")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|case| (case["name"].as_str().unwrap().to_owned(), Signed::from_json(&case)))
        .collect()
}

fn json_call() -> Signed {
    Signed::new("codebuild", "POST", "/", "{}").sign()
}

#[test]
fn requests_signed_by_botocore_are_accepted() {
    for (name, signed) in fixtures() {
        let verified = signed.verify().unwrap_or_else(|why| panic!("{name}: {why:?}"));
        assert_eq!(verified.caller, caller(), "{name}");
        assert_eq!(verified.key_id, "AKIDEXAMPLE", "{name}");
    }
}

#[test]
fn no_single_flipped_bit_in_what_is_signed_goes_unnoticed() {
    for (name, signed) in fixtures() {
        for (what, altered) in flips(&signed) {
            let verdict = altered.verify();
            assert!(verdict.is_err(), "{name}: accepted with {what} altered: {altered:?}");
        }
    }
}

/// Every request that differs from `signed` in one bit of what its signature covers.
fn flips(signed: &Signed) -> Vec<(String, Signed)> {
    let mut all = Vec::new();
    for (what, part) in [("method", &signed.method), ("path", &signed.path), ("query", &signed.query)] {
        for altered in flipped(part.as_bytes()) {
            let Ok(altered) = String::from_utf8(altered) else { continue };
            if same_meaning(what, part, &altered, signed.service == "s3") {
                continue;
            }
            let mut copy = signed.clone();
            *match what {
                "method" => &mut copy.method,
                "path" => &mut copy.path,
                _ => &mut copy.query,
            } = altered;
            all.push((what.to_owned(), copy));
        }
    }
    for (name, value) in &signed.headers {
        for altered in flipped(value.as_bytes()) {
            let Ok(altered_value) = HeaderValue::from_bytes(&altered) else { continue };
            let mut copy = signed.clone();
            copy.headers.insert(name.clone(), altered_value);
            all.push((name.to_string(), copy));
        }
    }
    // S3 bodies are hashed as they stream in, not here.
    if signed.service != "s3" {
        all.extend(flipped(&signed.body).map(|body| ("body".to_owned(), Signed { body, ..signed.clone() })));
    }
    all
}

fn flipped(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..bytes.len() * 8).map(|bit| {
        let mut copy = bytes.to_vec();
        copy[bit / 8] ^= 1 << (bit % 8);
        copy
    })
}

/// Other spellings of the same thing, which must be accepted: `%2f` for `%2F`, and paths that normalise alike.
fn same_meaning(what: &str, one: &str, other: &str, s3: bool) -> bool {
    match what {
        "method" => false,
        "path" if !s3 => {
            canonical::normalised_path(one) == canonical::normalised_path(other) && other.starts_with('/')
        }
        _ => percent_decode(one) == percent_decode(other),
    }
}

#[test]
fn an_authorization_header_of_another_form_is_refused() {
    let good = json_call().authorization();
    let signature = good.rsplit('=').next().unwrap().to_owned();
    let cases = [
        ("", "Algorithm"),
        ("AWS AKIDEXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg=", "Algorithm"),
        (&good.replace("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), "Algorithm"),
        (&good.replace("AWS4-HMAC-SHA256", "aws4-hmac-sha256"), "Algorithm"),
        (&good.replace("Credential=", "credential="), "Incomplete"),
        (&good.replace("Credential=", ""), "Incomplete"),
        (&good.replace("Signature=", "Signature=a, Signature="), "Incomplete"),
        (&format!("{good}, Extra=1"), "Incomplete"),
        (&good.replace("/aws4_request", ""), "Incomplete"),
        (&good.replace("/aws4_request", "/x/aws4_request"), "Incomplete"),
        (&good.replace("AKIDEXAMPLE/", "AKID/EXAMPLE/"), "Incomplete"),
        (&good.replace("AKIDEXAMPLE/", "/"), "Incomplete"),
        (&good.replace("/aws4_request", "/aws4_reques"), "Scope"),
        (&good.replace("/20150830/", "/20150831/"), "Scope"),
        (&good.replace("/us-east-1/", "/eu-west-1/"), "Region"),
        (&good.replace("/us-east-1/", "/us-east-1a/"), "Region"),
        (&good.replace("/codebuild/", "/s3/"), "Service"),
        (&good.replace("host;x-amz-date", "x-amz-date;host"), "SignedHeaders"),
        (&good.replace("host;", "host;host;"), "SignedHeaders"),
        (&good.replace("host;", "Host;"), "SignedHeaders"),
        (&good.replace("host;", ""), "HostNotSigned"),
        (&good.replace(";x-amz-target", ";x-amz-target;x-amz-zzz"), "Mismatch"),
        (&good.replace(";x-amz-target", ""), "HeadersNotSigned"),
        (&good.replace("content-type;", ""), "HeadersNotSigned"),
        (&good.replace(&signature, &signature.to_uppercase()), "Mismatch"),
        (&good.replace(&signature, &format!("{signature}0")), "Mismatch"),
        (&good.replace(&signature, &signature[1..]), "Mismatch"),
        (&good.replace(&signature, &"z".repeat(64)), "Mismatch"),
        (&good.replace("AKIDEXAMPLE", "AKIDNOBODY0"), "Mismatch"),
        (&format!("{good}{}", " ".repeat(9_000)), "Incomplete"),
    ];
    for (header, expect) in cases {
        let mut signed = json_call();
        signed.set("authorization", header);
        let why = format!("{:?}", signed.verify().unwrap_err());
        assert!(why.starts_with(expect), "{header}: {why}, not {expect}");
    }
}

#[test]
fn a_signed_header_that_was_not_sent_is_refused_though_the_signature_holds() {
    let mut signed = Signed::new("codebuild", "POST", "/", "{}");
    let credential = "AKIDEXAMPLE/20150830/us-east-1/codebuild/aws4_request";
    signed.sign_with("content-type;host;x-amz-date;x-amz-target", credential);
    assert!(signed.verify().is_ok());
    signed.sign_with("content-type;host;x-amz-date;x-amz-target;x-removed", credential);
    assert_eq!(signed.verify().unwrap_err(), Rejection::Mismatch);
}

#[test]
fn a_request_without_or_with_two_signatures_is_refused() {
    let mut none = json_call();
    none.headers.remove("authorization");
    assert_eq!(none.verify().unwrap_err(), Rejection::Missing);

    let mut two = json_call();
    two.headers.append("authorization", two.headers["authorization"].clone());
    assert!(matches!(two.verify().unwrap_err(), Rejection::Incomplete(_)));

    let mut both = Signed::new("s3", "GET", "/b/k", "").sign();
    both.query = "X-Amz-Signature=00".into();
    assert_eq!(both.verify().unwrap_err(), Rejection::TwoMechanisms);
}

#[test]
fn a_presigned_request_is_refused_where_none_are_expected() {
    let (_, presigned) = fixtures().into_iter().find(|(name, _)| name == "s3-query object").unwrap();
    let rules = Rules { region: "us-east-1", service: "s3", skew_seconds: 300, presigned: false };
    let verdict = verify(&presigned.request(), Payload::Body(b""), &rules, presigned.now, &keys(None));
    assert_eq!(verdict.unwrap_err(), Rejection::Missing);
}

#[test]
fn a_presigned_request_lives_as_long_as_it_says() {
    let (_, mut presigned) = fixtures().into_iter().find(|(name, _)| name == "s3-query object").unwrap();
    presigned.now += 3_600;
    assert!(presigned.verify().is_ok());
    presigned.now += 1;
    assert!(matches!(presigned.verify().unwrap_err(), Rejection::PresignedExpired { .. }));
    presigned.now -= 3_601 + 301;
    assert!(matches!(presigned.verify().unwrap_err(), Rejection::NotYetCurrent { .. }));
    for expires in ["0", "604801", "-1", "1e3", "", "99999999999999999999"] {
        let mut altered = presigned.clone();
        altered.query = altered.query.replace("X-Amz-Expires=3600", &format!("X-Amz-Expires={expires}"));
        assert!(matches!(altered.verify().unwrap_err(), Rejection::Query(_)), "{expires}");
    }
}

#[test]
fn a_signed_time_is_good_for_five_minutes_either_way() {
    for (offset, good) in [(-300, true), (-301, false), (0, true), (300, true), (301, false)] {
        let mut signed = json_call();
        signed.now += offset;
        assert_eq!(signed.verify().is_ok(), good, "{offset}");
    }
    let mut late = json_call();
    late.now += 360;
    assert_eq!(
        late.verify().unwrap_err().json().message,
        "Signature expired: 20150830T123600Z is now earlier than 20150830T123700Z (20150830T124200Z - 5 min.)"
    );
}

#[test]
fn the_date_header_stands_in_for_x_amz_date() {
    let mut signed = Signed::new("codebuild", "POST", "/", "{}");
    signed.headers.remove("x-amz-date");
    signed.set("date", "Sun, 30 Aug 2015 12:36:00 GMT");
    assert!(signed.clone().sign().verify().is_ok());
    signed.set("date", "Sun, 30 Aug 2015 12:36 GMT");
    assert!(matches!(signed.clone().sign().verify().unwrap_err(), Rejection::Incomplete(_)));
    signed.headers.remove("date");
    assert!(matches!(signed.sign().verify().unwrap_err(), Rejection::Incomplete(_)));
}

#[test]
fn two_dates_are_refused() {
    let mut signed = json_call();
    signed.headers.append("x-amz-date", HeaderValue::from_static("20150830T123600Z"));
    assert!(matches!(signed.verify().unwrap_err(), Rejection::Incomplete(_)));
}

#[test]
fn a_body_or_declared_hash_that_differs_is_refused() {
    let mut altered = json_call();
    altered.body = b"{ }".to_vec();
    assert_eq!(altered.verify().unwrap_err(), Rejection::Mismatch);
    for declared in ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", &"0".repeat(64)] {
        let mut signed = Signed::new("codebuild", "POST", "/", "{}");
        signed.set("x-amz-content-sha256", declared);
        assert_eq!(signed.sign().verify().unwrap_err(), Rejection::PayloadMismatch, "{declared}");
    }
}

#[test]
fn s3_takes_the_payload_kinds_it_knows() {
    for (declared, good) in [
        ("UNSIGNED-PAYLOAD", true),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", true),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", true),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER", true),
        ("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", false),
        ("unsigned-payload", false),
        ("0", false),
    ] {
        let mut signed = Signed::new("s3", "PUT", "/b/k", "hello");
        signed.set("x-amz-content-sha256", declared);
        assert_eq!(signed.sign().verify().is_ok(), good, "{declared}");
    }
    let mut missing = Signed::new("s3", "PUT", "/b/k", "");
    missing.headers.remove("x-amz-content-sha256");
    assert_eq!(missing.sign().verify().unwrap_err(), Rejection::PayloadHashMissing);
}

#[test]
fn an_unsigned_header_that_s3_would_act_on_is_refused() {
    let mut signed = Signed::new("s3", "PUT", "/b/k", "").sign();
    signed.set("x-amz-copy-source", "/other/secret");
    assert_eq!(signed.verify().unwrap_err(), Rejection::HeadersNotSigned(vec!["x-amz-copy-source".into()]));
}

#[test]
fn a_signed_header_value_that_is_not_utf8_is_refused() {
    let mut signed = json_call();
    signed.headers.insert("x-amz-target", HeaderValue::from_bytes(b"CodeBuild\xff").unwrap());
    assert_eq!(signed.verify().unwrap_err(), Rejection::Mismatch);
}

#[test]
fn a_session_token_belongs_to_temporary_keys_and_ends_with_them() {
    let mut with_token = Signed::new("codebuild", "POST", "/", "{}");
    with_token.set("x-amz-security-token", "token-1");
    let with_token = with_token.sign();
    assert!(with_token.verify_with(&keys(Some("token-1"))).is_ok());
    assert_eq!(with_token.verify_with(&keys(Some("token-2"))).unwrap_err(), Rejection::TokenInvalid);
    assert_eq!(with_token.verify_with(&keys(None)).unwrap_err(), Rejection::TokenInvalid);
    assert_eq!(json_call().verify_with(&keys(Some("token-1"))).unwrap_err(), Rejection::TokenInvalid);

    let over = keys(Some("token-1"));
    let mut key = (*over.get("AKIDEXAMPLE").unwrap()).clone();
    key.session = Some(Session { token: "token-1".into(), expires_at: with_token.now });
    over.insert(key);
    assert_eq!(with_token.verify_with(&over).unwrap_err(), Rejection::TokenExpired);
}

// Canonical requests are trimmed, and HTTP/2 does not trim: what is signed and what is read must be the same text.
#[test]
fn blanks_around_a_session_token_are_no_part_of_it() {
    let mut signed = Signed::new("codebuild", "POST", "/", "{}");
    signed.set("x-amz-security-token", " token-1\t");
    assert_eq!(signed.sign().verify_with(&keys(Some("token-1"))).map(drop), Ok(()));
}

#[test]
fn an_unsigned_session_token_is_refused() {
    let mut signed = json_call();
    signed.set("x-amz-security-token", "token-1");
    let verdict = signed.verify_with(&keys(Some("token-1")));
    assert_eq!(verdict.unwrap_err(), Rejection::HeadersNotSigned(vec!["x-amz-security-token".into()]));
}

#[test]
fn an_unknown_key_and_a_wrong_secret_get_the_same_answer() {
    let nobody = json_call().verify_with(&Keys::new()).unwrap_err();
    let wrong = Keys::from_iter([AccessKey {
        id: "AKIDEXAMPLE".into(),
        secret: "wrong".into(),
        caller: caller(),
        session: None,
    }]);
    assert_eq!(json_call().verify_with(&wrong).unwrap_err(), nobody);
    assert_eq!(nobody.json().code, "InvalidSignatureException");
    assert_eq!(nobody.query().code, "SignatureDoesNotMatch");
    assert_eq!(nobody.s3().code, "SignatureDoesNotMatch");
}

#[test]
fn a_replaced_or_removed_key_is_refused_at_once() {
    let keys = keys(None);
    assert!(json_call().verify_with(&keys).is_ok());
    keys.remove("AKIDEXAMPLE");
    assert_eq!(json_call().verify_with(&keys).unwrap_err(), Rejection::Mismatch);
}

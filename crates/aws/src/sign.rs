//! AWS Signature Version 4, by headers: of any request, and of a POST of JSON to `/`.
//!
//! The server's verifier is written apart from this, by its own rules; each is held against the other, and both
//! against AWS's clients.

use std::borrow::Cow;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::credentials::Credentials;

/// A header's name, lower case.
pub(crate) type Name = Cow<'static, str>;

pub(crate) const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// A request of the JSON protocol.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    /// As it goes over the wire, with the port where it is not the scheme's own.
    pub(crate) host: &'a str,
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
    /// `X-Amz-Target`.
    pub(crate) target: &'a str,
    pub(crate) body: &'a [u8],
    /// Tells this call from another one that asks for the same within the same second.
    pub(crate) invocation: &'a str,
    /// The first is 1.
    pub(crate) attempt: u32,
}

/// The headers that the request is sent with besides `Host`, `Content-Type` and `X-Amz-Target`, lower case.
pub(crate) fn headers(
    request: &Request<'_>,
    credentials: &Credentials,
    now_seconds: u64,
) -> Vec<(&'static str, String)> {
    let Request { host, region, service, target, body, invocation, attempt } = request;
    let told = [
        ("amz-sdk-invocation-id", (*invocation).to_owned()),
        ("amz-sdk-request", format!("attempt={attempt}")),
    ];
    let mut named: Vec<(Name, String)> =
        vec![("content-type".into(), CONTENT_TYPE.to_owned()), ("x-amz-target".into(), (*target).to_owned())];
    named.extend(told.iter().map(|(name, value)| ((*name).into(), value.clone())));
    let call = Call {
        method: "POST",
        host,
        path: "/",
        query: "",
        headers: &named,
        body_hash: &hash(body),
        region,
        service,
    };
    let mut headers = call.signed(credentials, now_seconds);
    headers.extend(told);
    headers
}

/// Any request, ready to be signed.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: &'a str,
    pub(crate) host: &'a str,
    /// Percent-encoded, exactly as it is sent.
    pub(crate) path: &'a str,
    /// Percent-encoded, sorted, and with `=` for what has no value.
    pub(crate) query: &'a str,
    /// Beside `host` and those that signing adds; lower case.
    pub(crate) headers: &'a [(Name, String)],
    /// SHA-256 of the body in hex.
    pub(crate) body_hash: &'a str,
    pub(crate) region: &'a str,
    pub(crate) service: &'a str,
}

impl Call<'_> {
    /// The headers to be sent beside its own.
    pub(crate) fn signed(&self, credentials: &Credentials, now_seconds: u64) -> Vec<(&'static str, String)> {
        let time = basic_time(now_seconds);
        let scope = format!("{}/{}/{}/aws4_request", &time[..8], self.region, self.service);
        let token = credentials.session_token.clone().map(|token| ("x-amz-security-token", token));
        let mut signed: Vec<(Name, String)> =
            vec![("host".into(), self.host.to_owned()), ("x-amz-date".into(), time.clone())];
        signed.extend(token.clone().map(|(name, token)| (name.into(), token)));
        signed.extend(self.headers.iter().cloned());
        signed.sort();
        let names = signed.iter().map(|(name, _)| name.as_ref()).collect::<Vec<_>>().join(";");
        let lines: String = signed.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        let Call { method, path, query, body_hash, .. } = self;
        let canonical = format!("{method}\n{path}\n{query}\n{lines}\n{names}\n{body_hash}");
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hash(canonical.as_bytes()));
        let start = format!("AWS4{}", credentials.secret_access_key).into_bytes();
        let key = [&time[..8], self.region, self.service, "aws4_request"]
            .iter()
            .fold(start, |key, part| mac(&key, part));
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={}",
            credentials.access_key_id,
            hex(&mac(&key, &to_sign))
        );
        let mut headers = vec![("x-amz-date", time), ("authorization", authorization)];
        headers.extend(token);
        headers
    }
}

/// SHA-256 in hex.
pub(crate) fn hash(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What git says to CodeCommit in place of a password, for the repository at `path` of a host: the time and a signature that is good for
/// some minutes. The port is not signed.
pub(crate) fn git_password(
    (host, path, region): (&str, &str, &str),
    credentials: &Credentials,
    now_seconds: u64,
) -> String {
    let time = basic_time(now_seconds);
    let time = time.trim_end_matches('Z');
    let scope = format!("{}/{region}/codecommit/aws4_request", &time[..8]);
    let canonical = format!("GIT\n{path}\n\nhost:{host}\n\nhost\n");
    let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let start = format!("AWS4{}", credentials.secret_access_key).into_bytes();
    let key =
        [&time[..8], region, "codecommit", "aws4_request"].iter().fold(start, |key, part| mac(&key, part));
    format!("{time}Z{}", hex(&mac(&key, &to_sign)))
}

/// `20260102T030405Z` of seconds since 1970.
fn basic_time(seconds: u64) -> String {
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Year, month, day of a number of days since 1970-01-01, by counting in eras of 400 years that begin in March.
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What botocore's SigV4Auth makes of the same requests.
    #[test]
    fn requests_are_signed_as_botocore_signs_them() {
        let credentials = |id: &str, secret: &str, token: Option<&str>| Credentials {
            access_key_id: id.into(),
            secret_access_key: secret.into(),
            session_token: token.map(str::to_owned),
        };
        let request = Request {
            host: "ssm.eu-west-1.amazonaws.com",
            region: "eu-west-1",
            service: "ssm",
            target: "AmazonSSM.GetParameters",
            body: br#"{"Names":["a"]}"#,
            invocation: "0f",
            attempt: 1,
        };
        let key = credentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None);
        assert_eq!(
            headers(&request, &key, 1_709_210_096),
            [
                ("x-amz-date", "20240229T123456Z".to_owned()),
                (
                    "authorization",
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20240229/eu-west-1/ssm/aws4_request, \
                 SignedHeaders=amz-sdk-invocation-id;amz-sdk-request;content-type;host;x-amz-date;x-amz-target, \
                 Signature=368eb2b65704a396d0b37ca16219f8c26a5a858aee054599fd10cd8796707db4"
                        .to_owned()
                ),
                ("amz-sdk-invocation-id", "0f".to_owned()),
                ("amz-sdk-request", "attempt=1".to_owned()),
            ]
        );
        let request = Request {
            host: "127.0.0.1:4500",
            region: "us-east-1",
            service: "secretsmanager",
            target: "secretsmanager.GetSecretValue",
            body: r#"{"SecretId":"grün"}"#.as_bytes(),
            invocation: "a7",
            attempt: 3,
        };
        let key = credentials("ASIAEXAMPLE", "secret", Some("to/ken+=="));
        assert_eq!(headers(&request, &key, 1_795_362_896), [
            ("x-amz-date", "20261122T155456Z".to_owned()),
            (
                "authorization",
                "AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE/20261122/us-east-1/secretsmanager/aws4_request, \
                 SignedHeaders=amz-sdk-invocation-id;amz-sdk-request;content-type;host;x-amz-date;x-amz-security-token;x-amz-target, \
                 Signature=7548d5451042b5b258961344ef9a95942f13874246b38b75df730cf8702ba5d6"
                    .to_owned()
            ),
            ("x-amz-security-token", "to/ken+==".to_owned()),
            ("amz-sdk-invocation-id", "a7".to_owned()),
            ("amz-sdk-request", "attempt=3".to_owned()),
        ]);
    }

    #[test]
    fn times_are_utc_in_basic_form() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (1_709_210_096, "20240229T123456Z"),
            (4_102_444_799, "20991231T235959Z"),
        ] {
            assert_eq!(basic_time(seconds), text);
        }
    }
}

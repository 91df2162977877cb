//! Temporary keys of builds: what a build's commands may do at this server, in the name of its project's service role.
//!
//! Nothing is remembered: a session token carries for whom it is good, until when and under which policy, all of it authenticated,
//! and key id and secret follow from it. So keys are good after a restart, and no longer than their build. Who may fetch them is
//! `http::builds`'s business.

use std::fmt;
use std::sync::Arc;

use access::{Policy, Principal, Rights};
use base64_simd::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::keys::{AccessKey, Caller, Keys, Session};
use crate::time;

/// How long a key is good, seconds. SDKs fetch new ones some minutes before.
const LIFE_SECONDS: i64 = 3_600;
/// Ends fall on whole minutes, so that asking again and again makes few keys.
const GRAIN_SECONDS: i64 = 60;
/// Longest session token that is looked at.
const TOKEN_MAX_BYTES: usize = 8 * 1024;
/// Where credentials are fetched: COMPAT: EN-062.
pub(crate) const PATH: &str = "/v2/credentials/";
const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

type PoliciesOfRole = dyn Fn(&str, &str) -> Option<Vec<Policy>> + Send + Sync;

/// Makes keys for builds, and recognises them. Cheap to clone.
#[derive(Clone)]
pub struct Roles {
    keyed: Hmac<Sha256>,
    policies: Arc<PoliciesOfRole>,
}

/// A build, as whoever connects on its behalf says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OfBuild {
    /// Twelve digits.
    pub(crate) account: String,
    /// `project:uuid`.
    pub(crate) id: String,
    /// What has to be shown for credentials, where others than the build can connect.
    pub(crate) token: Option<String>,
}

impl OfBuild {
    /// Whether what was sent as `Authorization`, if anything, is enough.
    pub(crate) fn is_shown(&self, authorization: Option<&[u8]>) -> bool {
        let Some(token) = &self.token else { return true };
        authorization.is_some_and(|sent| bool::from(token.as_bytes().ct_eq(sent)))
    }
}

/// What a session token says.
#[derive(Debug, Serialize, Deserialize)]
struct Grant {
    account: String,
    build: String,
    /// The role's name, without its path.
    role: String,
    /// Seconds since 1970.
    expires_at: i64,
    /// What holds if the operator has said nothing about the role.
    policy: String,
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Roles")
    }
}

impl Roles {
    /// `policies` gives those the operator has set for a role, by account and name; without any, a build may do what its own project needs.
    pub fn new(
        key: &[u8; 32],
        policies: impl Fn(&str, &str) -> Option<Vec<Policy>> + Send + Sync + 'static,
    ) -> Roles {
        let keyed = Hmac::new_from_slice(key).expect("HMAC takes keys of any length");
        Roles { keyed, policies: Arc::new(policies) }
    }

    /// Where the credentials of the build `project:uuid` are fetched: a path nobody can guess.
    pub fn path(&self, build_id: &str) -> String {
        let digits =
            self.mac("path", build_id.as_bytes()).into_iter().take(16).map(|byte| format!("{byte:02x}"));
        format!("{PATH}{}", digits.collect::<String>())
    }

    /// What the operator lets the build `project:uuid` do whose project has this role: with its keys, and what the server does for it
    /// in the role's name. None, if he has said nothing.
    pub fn rights(&self, account: &str, build: &str, role_arn: &str) -> Option<Rights> {
        let role = role_name(role_arn, account);
        let policies = (self.policies)(account, &role)?;
        Some(Rights::new(self.principal(account, build, &role), policies))
    }

    /// The credentials that AWS's clients expect at such a path, if it is this build's. `shown` is the build as the API shows it, and
    /// `project` its project, or null if that is gone.
    pub(crate) fn credentials(
        &self,
        build: &OfBuild,
        path: &str,
        shown: &Value,
        project: &Value,
        now: i64,
    ) -> Option<Value> {
        if !bool::from(self.path(&build.id).as_bytes().ct_eq(path.as_bytes())) {
            return None;
        }
        let arn = shown["serviceRole"].as_str().unwrap_or_default();
        let expires_at = (now + LIFE_SECONDS) / GRAIN_SECONDS * GRAIN_SECONDS;
        let grant = Grant {
            account: build.account.clone(),
            build: build.id.clone(),
            role: role_name(arn, &build.account),
            expires_at,
            policy: default_policy(shown, project),
        };
        let key = self.key(&grant, &self.token(&grant))?;
        let session = key.session.as_ref()?;
        Some(json!({
            "RoleArn": arn,
            "AccessKeyId": key.id,
            "SecretAccessKey": key.secret,
            "Token": session.token,
            "Expiration": time::extended(expires_at),
        }))
    }

    /// Makes the key of this session token good, or bad if its build is over; tokens of anybody else change nothing.
    pub(crate) fn recognize(
        &self,
        token: &str,
        now: i64,
        keys: &Keys,
        is_under_way: impl FnOnce(&str) -> bool,
    ) {
        let Some(grant) = self.open(token) else { return };
        let Some(key) = self.key(&grant, token) else { return };
        if !is_under_way(&grant.build) {
            keys.remove(&key.id);
        } else if keys.get(&key.id).is_none() {
            keys.forget_expired(now);
            keys.insert(key);
        }
    }

    fn token(&self, grant: &Grant) -> String {
        let body = serde_json::to_vec(grant).expect("texts and a number are JSON");
        let body = URL_SAFE_NO_PAD.encode_to_string(body);
        let mac = URL_SAFE_NO_PAD.encode_to_string(self.mac("token", body.as_bytes()));
        format!("{body}.{mac}")
    }

    fn open(&self, token: &str) -> Option<Grant> {
        if token.len() > TOKEN_MAX_BYTES {
            return None;
        }
        let (body, mac) = token.split_once('.')?;
        let expected = URL_SAFE_NO_PAD.encode_to_string(self.mac("token", body.as_bytes()));
        if !bool::from(expected.as_bytes().ct_eq(mac.as_bytes())) {
            return None;
        }
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode_to_vec(body).ok()?).ok()
    }

    fn key(&self, grant: &Grant, token: &str) -> Option<AccessKey> {
        let letters =
            self.mac("id", token.as_bytes()).into_iter().take(16).map(|b| BASE32[usize::from(b % 32)]);
        let secret = base64_simd::STANDARD.encode_to_string(&self.mac("secret", token.as_bytes())[..30]);
        let Grant { account, build, role, .. } = grant;
        let policies = match (self.policies)(account, role) {
            Some(policies) => policies,
            None => vec![Policy::of_user(&grant.policy).ok()?],
        };
        Some(AccessKey {
            id: format!("ASIA{}", letters.map(char::from).collect::<String>()),
            secret,
            caller: Caller::of(Rights::new(self.principal(account, build, role), policies)),
            session: Some(Session { token: token.to_owned(), expires_at: grant.expires_at }),
        })
    }

    fn principal(&self, account: &str, build: &str, role: &str) -> Principal {
        let session = format!("AWSCodeBuild-{}", build.rsplit(':').next().unwrap_or_default());
        let letters = self.mac("role", format!("{account}/{role}").as_bytes()).into_iter().take(17);
        let id: String = letters.map(|byte| char::from(BASE32[usize::from(byte % 32)])).collect();
        Principal {
            account: account.to_owned(),
            arn: format!("arn:aws:sts::{account}:assumed-role/{role}/{session}"),
            user_id: format!("AROA{id}:{session}"),
        }
    }

    fn mac(&self, purpose: &str, bytes: &[u8]) -> [u8; 32] {
        let mut keyed = self.keyed.clone();
        keyed.update(purpose.as_bytes());
        keyed.update(&[0]);
        keyed.update(bytes);
        keyed.finalize().into_bytes().into()
    }
}

/// The name of a role of this account; a role of another account's is nobody the operator has spoken of.
fn role_name(arn: &str, account: &str) -> String {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    match parts[..] {
        ["arn", _, "iam", _, of, resource] if of == account && resource.starts_with("role/") => {
            resource.rsplit('/').next().unwrap_or_default().to_owned()
        }
        _ => "-".to_owned(),
    }
}

/// What a project needs and no more: its log group, its report groups, the buckets it names; to write only where it writes itself. What
/// the build was told to use instead gives its commands nothing: whoever may start builds could name any bucket.
fn default_policy(build: &Value, project: &Value) -> String {
    let arn: Vec<&str> = build["arn"].as_str().unwrap_or_default().splitn(6, ':').collect();
    let [_, partition, _, region, account, _] = arn[..] else { return r#"{"Statement":[]}"#.to_owned() };
    let name = build["projectName"].as_str().unwrap_or_default();
    let logs = format!("arn:{partition}:logs:{region}:{account}:log-group:/aws/codebuild/{name}");
    let mut statements = vec![
        allow(
            &["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"],
            &[logs.clone(), format!("{logs}:*")],
        ),
        allow(
            &[
                "codebuild:CreateReportGroup",
                "codebuild:CreateReport",
                "codebuild:UpdateReport",
                "codebuild:BatchPutTestCases",
                "codebuild:BatchPutCodeCoverages",
            ],
            &[format!("arn:{partition}:codebuild:{region}:{account}:report-group/{name}-*")],
        ),
        allow(&["s3:ListAllMyBuckets"], &["*".to_owned()]),
    ];
    let (read, written) = (buckets(project, &READ), buckets(project, &WRITTEN));
    let named = |buckets: &[String]| -> Vec<String> {
        let both = |bucket: &String| {
            [format!("arn:{partition}:s3:::{bucket}"), format!("arn:{partition}:s3:::{bucket}/*")]
        };
        buckets.iter().flat_map(both).collect()
    };
    let all = named(&[read, written.clone()].concat());
    if !all.is_empty() {
        let actions = [
            "s3:GetObject",
            "s3:GetObjectVersion",
            "s3:ListBucket",
            "s3:GetBucketAcl",
            "s3:GetBucketLocation",
        ];
        statements.push(allow(&actions, &all));
    }
    if !written.is_empty() {
        statements.push(allow(&["s3:PutObject"], &named(&written)));
    }
    json!({ "Version": "2012-10-17", "Statement": statements }).to_string()
}

fn allow(actions: &[&str], resources: &[String]) -> Value {
    json!({ "Effect": "Allow", "Action": actions, "Resource": resources })
}

/// Members of a project that name places of S3.
const READ: [&str; 2] = ["/source", "/secondarySources"];
const WRITTEN: [&str; 4] = ["/artifacts", "/secondaryArtifacts", "/cache", "/logsConfig/s3Logs"];

fn buckets(project: &Value, members: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for member in members.iter().filter_map(|member| project.pointer(member)) {
        let places: Vec<&Value> = member.as_array().map_or_else(|| vec![member], |all| all.iter().collect());
        for place in places {
            let in_s3 = place["type"].as_str().is_none_or(|kind| kind == "S3");
            let location = place["location"].as_str().filter(|_| in_s3).unwrap_or_default();
            let location = location.split_once(":::").map_or(location, |(_, rest)| rest);
            let bucket = location.split('/').next().unwrap_or_default();
            let plain =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
            if (3..=63).contains(&bucket.len()) && bucket.bytes().all(plain) {
                found.push(bucket.to_owned());
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use access::Request;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn roles() -> Roles {
        Roles::new(&[7; 32], |_, role| {
            let policy = r#"{"Statement": {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}}"#;
            (role == "deploy").then(|| vec![Policy::of_user(policy).unwrap()])
        })
    }

    fn build() -> OfBuild {
        OfBuild { account: "123456789012".into(), id: "app:0-1".into(), token: None }
    }

    /// It was told to use other places than its project's.
    fn shown(role: &str) -> Value {
        json!({
            "arn": "arn:aws:codebuild:eu-west-1:123456789012:build/app:0-1",
            "projectName": "app",
            "serviceRole": format!("arn:aws:iam::123456789012:role/service-role/{role}"),
            "source": { "type": "S3", "location": "others/x" },
            "artifacts": { "location": "arn:aws:s3:::others/x" },
            "logs": { "s3Logs": { "status": "ENABLED", "location": "others/x" } },
            "logsConfig": { "s3Logs": { "status": "ENABLED", "location": "others/x" } },
        })
    }

    fn project() -> Value {
        json!({
            "source": { "type": "S3", "location": "sources/app.zip" },
            "secondarySources": [{ "type": "GITHUB", "location": "https://github.com/a/b" }],
            "artifacts": { "type": "S3", "location": "results" },
            "cache": { "type": "S3", "location": "caches/app" },
            "logsConfig": { "s3Logs": { "status": "ENABLED", "location": "s3logs/app" } },
        })
    }

    fn key(roles: &Roles, role: &str) -> (Keys, String, String) {
        let path = roles.path("app:0-1");
        let made = roles.credentials(&build(), &path, &shown(role), &project(), NOW).unwrap();
        let keys = Keys::new();
        let token = made["Token"].as_str().unwrap().to_owned();
        roles.recognize(&token, NOW, &keys, |id| id == "app:0-1");
        (keys, made["AccessKeyId"].as_str().unwrap().to_owned(), token)
    }

    fn may(keys: &Keys, id: &str, action: &str, resource: &str) -> bool {
        keys.get(id).unwrap().caller.rights.may(&Request::new(action, resource)).is_ok()
    }

    // EN-062
    #[test]
    fn a_build_may_by_default_what_its_own_project_needs() {
        let (keys, id, _) = key(&roles(), "builds");
        for (action, resource, expect) in [
            ("s3:ListAllMyBuckets", "*", true),
            ("s3:GetObject", "arn:aws:s3:::sources/app.zip", true),
            ("s3:PutObject", "arn:aws:s3:::sources/app.zip", false),
            ("s3:PutObject", "arn:aws:s3:::results/app/x", true),
            ("s3:DeleteObject", "arn:aws:s3:::results/app/x", false),
            ("s3:PutObject", "arn:aws:s3:::caches/app/x", true),
            ("s3:PutObject", "arn:aws:s3:::s3logs/app/x.gz", true),
            ("s3:GetObject", "arn:aws:s3:::others/x", false),
            ("s3:PutObject", "arn:aws:s3:::others/x", false),
            ("s3:GetObject", "arn:aws:s3:::https:/x", false),
            (
                "logs:PutLogEvents",
                "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/codebuild/app:log-stream:a",
                true,
            ),
            (
                "logs:PutLogEvents",
                "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/codebuild/apple",
                false,
            ),
            (
                "codebuild:CreateReport",
                "arn:aws:codebuild:eu-west-1:123456789012:report-group/app-unit",
                true,
            ),
            ("codebuild:StartBuild", "arn:aws:codebuild:eu-west-1:123456789012:project/app", false),
            ("ssm:GetParameter", "arn:aws:ssm:eu-west-1:123456789012:parameter/a", false),
        ] {
            assert_eq!(may(&keys, &id, action, resource), expect, "{action} {resource}");
        }
        let caller = keys.get(&id).unwrap().caller.clone();
        assert_eq!(caller.arn, "arn:aws:sts::123456789012:assumed-role/builds/AWSCodeBuild-0-1");
        assert!(caller.user_id.starts_with("AROA") && caller.user_id.ends_with(":AWSCodeBuild-0-1"));
    }

    #[test]
    fn the_operators_policies_of_a_role_replace_the_default() {
        let (keys, id, _) = key(&roles(), "deploy");
        assert!(may(&keys, &id, "s3:DeleteObject", "arn:aws:s3:::others/x"));
        assert!(!may(
            &keys,
            &id,
            "logs:PutLogEvents",
            "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/codebuild/app"
        ));
    }

    #[test]
    fn what_the_server_does_for_a_build_is_decided_by_the_rights_of_its_keys() {
        let roles = roles();
        let arn = "arn:aws:iam::123456789012:role/service-role/deploy";
        let rights = roles.rights("123456789012", &build().id, arn).unwrap();
        let (keys, id, _) = key(&roles, "deploy");
        assert_eq!(rights, keys.get(&id).unwrap().caller.rights);
        for nobody in ["arn:aws:iam::123456789012:role/builds", "arn:aws:iam::999999999999:role/deploy", ""] {
            assert_eq!(roles.rights("123456789012", &build().id, nobody), None, "{nobody}");
        }
    }

    #[test]
    fn a_token_has_to_be_shown_where_there_is_one() {
        assert!(build().is_shown(None) && build().is_shown(Some(b"any")));
        let guarded = OfBuild { token: Some("secret".into()), ..build() };
        assert!(guarded.is_shown(Some(b"secret")));
        for other in [None, Some(&b""[..]), Some(b"secre"), Some(b"secret "), Some(b"Bearer secret")] {
            assert!(!guarded.is_shown(other));
        }
    }

    #[test]
    fn a_path_is_good_for_its_own_build_only() {
        let roles = roles();
        let path = roles.path("app:0-1");
        assert_eq!(path.len(), PATH.len() + 32);
        let other = OfBuild { id: "app:0-2".into(), ..build() };
        assert!(roles.credentials(&other, &path, &shown("builds"), &project(), NOW).is_none());
        let strange = Roles::new(&[8; 32], |_, _| None);
        assert!(strange.credentials(&build(), &path, &shown("builds"), &project(), NOW).is_none());
    }

    #[test]
    fn a_token_that_was_changed_is_nobodys_and_that_of_an_ended_build_is_revoked() {
        let roles = roles();
        let (keys, id, token) = key(&roles, "builds");
        let fresh = Keys::new();
        let (body, mac) = token.split_once('.').unwrap();
        let other = Grant { role: "deploy".into(), ..roles.open(&token).unwrap() };
        let other = URL_SAFE_NO_PAD.encode_to_string(serde_json::to_vec(&other).unwrap());
        for changed in [format!("{other}.{mac}"), body.to_owned(), format!("{body}."), "x".repeat(9000)] {
            roles.recognize(&changed, NOW, &fresh, |_| true);
            assert!(roles.open(&changed).is_none(), "{changed}");
        }
        // After a restart nothing is remembered, and the key is good all the same.
        assert!(fresh.get(&id).is_none());
        roles.recognize(&token, NOW, &fresh, |_| true);
        assert_eq!(fresh.get(&id).unwrap().secret, keys.get(&id).unwrap().secret);
        roles.recognize(&token, NOW, &keys, |_| false);
        assert!(keys.get(&id).is_none());
        let session = fresh.get(&id).unwrap().session.clone().unwrap();
        assert!(session.expires_at > NOW && session.expires_at <= NOW + LIFE_SECONDS);
        fresh.forget_expired(session.expires_at);
        assert!(fresh.get(&id).is_none());
    }

    #[test]
    fn a_role_of_another_account_is_not_the_operators() {
        for (arn, expect) in [
            ("arn:aws:iam::123456789012:role/service-role/deploy", "deploy"),
            ("arn:aws-cn:iam:eu-west-1:123456789012:role/deploy", "deploy"),
            ("arn:aws:iam::999999999999:role/deploy", "-"),
            ("deploy", "-"),
        ] {
            assert_eq!(role_name(arn, "123456789012"), expect);
        }
    }
}

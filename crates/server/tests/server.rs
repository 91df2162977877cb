//! The whole server on a port, with the clients people use: the AWS CLI, boto3, and sockets that misbehave.
//!
//! CodeBuild itself is a function of this test here; folders, logs and records are the real ones.
#![allow(clippy::unwrap_used, reason = "a test's helpers fail as the test does")]

#[path = "server/differential.rs"]
mod differential;
#[path = "server/rights.rs"]
mod rights;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use access::{Policy, Principal, Rights};
use api::ServiceError;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};
use server::logs::Wakes;
use server::sigv2;
use server::sigv4::{self, Payload, Rules};
use server::time::Clock;
use server::{
    AccessKey, Caller, CodeBuild, Endpoint, Keys, Logs, Metrics, Parameters, Ready, Replays, Roles, S3,
    Secrets, Services, Session, Settings, Tokens,
};
use store::logs::SegmentWriter;
use store::objects::Objects;
use store::records::{LogGroup, LogStream, Records, Scope, Vault};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

const KEY_ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const ACCOUNT: &str = "123456789012";

/// A server of its own for one test.
struct Server {
    address: SocketAddr,
    folder: tempfile::TempDir,
    clock_offset_ms: Arc<AtomicI64>,
    keys: Keys,
    records: Records,
    wakes: Wakes,
    logs: Logs,
    stop: Option<oneshot::Sender<()>>,
    stopped: Option<tokio::task::JoinHandle<()>>,
    runtime: Runtime,
}

fn caller() -> Caller {
    Caller::of(Rights::everything(alice(ACCOUNT)))
}

fn alice(account: &str) -> Principal {
    somebody(account, "alice")
}

fn somebody(account: &str, name: &str) -> Principal {
    let arn = format!("arn:aws:iam::{account}:user/{name}");
    Principal { account: account.into(), arn, user_id: "AIDAEXAMPLE".into() }
}

/// May do a little in each service.
const PARTLY: &str = r#"{"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "codebuild:*", "Resource": "arn:aws:codebuild:*:123456789012:project/open"},
    {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::of-alice/in/*"},
    {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::of-alice/in/c"},
    {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": "arn:aws:s3:::of-alice",
     "Condition": {"StringLike": {"s3:prefix": "in/*"}}},
    {"Effect": "Allow", "Action": "ssm:GetParameter*", "Resource": "arn:aws:ssm:*:*:parameter/app/*"},
    {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue",
     "Resource": "arn:aws:secretsmanager:*:*:secret:app-?-??????"},
    {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "*",
     "Condition": {"StringEquals": {"aws:ResourceTag/team": "red"}}}]}"#;

fn keys() -> Keys {
    let key = AccessKey { id: KEY_ID.into(), secret: SECRET.into(), caller: caller(), session: None };
    let session = Some(Session { token: "the-token".into(), expires_at: i64::MAX });
    let temporary = AccessKey { id: "ASIAEXAMPLE".into(), session, ..key.clone() };
    let another =
        |id: &str, rights: Rights| AccessKey { id: id.into(), caller: Caller::of(rights), ..key.clone() };
    let eve = another("AKIDEVE", Rights::everything(somebody("444455556666", "eve")));
    let nobody = another("AKIDNOBODY", Rights::new(somebody(ACCOUNT, "nobody"), Vec::new()));
    let policies = vec![Policy::of_user(PARTLY).unwrap()];
    let partly = another("AKIDPARTLY", Rights::new(somebody(ACCOUNT, "partly"), policies));
    Keys::from_iter([key, temporary, eve, nobody, partly])
}

/// Answers as much of CodeBuild as the tests here ask for.
fn codebuild() -> CodeBuild {
    CodeBuild::new(|operation, caller, request| async move {
        match operation.name() {
            "ListProjects" => Ok(json!({ "projects": [caller.account] })),
            "StartBuild" => {
                Ok(json!({ "build": { "id": format!("{}:1", request["projectName"].as_str().unwrap()) } }))
            }
            "BatchGetBuilds" => Ok(json!({ "builds": request["ids"] })),
            name if name.starts_with("Batch") => Ok(json!({})),
            name => Err(ServiceError::invalid_input(format!("{name} is not for this test"))),
        }
    })
}

impl Server {
    fn start() -> Server {
        let runtime = Runtime::new().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let clock_offset_ms = Arc::new(AtomicI64::new(0));
        let offset = clock_offset_ms.clone();
        let clock: Clock = Arc::new(move || now_ms() + offset.load(Ordering::SeqCst));
        let records = Records::open(folder.path()).unwrap();
        let wakes = Wakes::new();
        // Not there before somebody writes events.
        let logs_folder = folder.path().join("logs");
        let logs = Logs::new(records.clone(), logs_folder, "us-east-1", clock.clone(), wakes.clone());
        let keys = keys();
        let objects = Objects::open(&folder.path().join("objects")).unwrap();
        let tokens = Tokens::new(&[7; 32]);
        let s3 =
            S3::new(objects, keys.clone(), "us-east-1", ACCOUNT, vec!["localhost".into()], tokens.clone());
        let settings = Settings {
            region: "us-east-1".into(),
            skew_seconds: 300,
            keys: keys.clone(),
            clock,
            tokens,
            ready: Ready::new(|| async { Ok(()) }),
            roles: Roles::new(&[8; 32], |_, _| None),
            replays: Replays::default(),
            metrics: Metrics::new(),
        };
        let vault =
            runtime.block_on(Vault::open(records.clone(), &folder.path().join("secret.key"))).unwrap();
        let parameters = Parameters::new(vault.clone(), "us-east-1", settings.clock.clone());
        let secrets = Secrets::new(vault, "us-east-1", settings.clock.clone());
        let services = Services { codebuild: codebuild(), logs: logs.clone(), parameters, s3, secrets };
        let endpoint = Arc::new(Endpoint::new(settings, services));
        let listener = runtime.block_on(server::listen("127.0.0.1:0".parse().unwrap())).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = oneshot::channel::<()>();
        let stopped = runtime.spawn(server::serve(listener, None, endpoint, async { drop(stopping.await) }));
        let (stop, stopped) = (Some(stop), Some(stopped));
        Server { address, folder, clock_offset_ms, keys, records, wakes, logs, stop, stopped, runtime }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.path())
            .env("AWS_ACCESS_KEY_ID", KEY_ID)
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_ENDPOINT_URL", format!("http://localhost:{}", self.address.port()))
            .env("AWS_CONFIG_FILE", "/dev/null")
            .env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_MAX_ATTEMPTS", "1")
            .env("AWS_PAGER", "")
            .env_remove("AWS_PROFILE")
            .env_remove("AWS_SESSION_TOKEN");
        command
    }

    fn aws(&self, arguments: &[&str]) -> String {
        succeeded(self.command("aws").args(arguments).output().unwrap())
    }

    fn aws_refusal(&self, arguments: &[&str]) -> String {
        let output = self.command("aws").args(arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Runs a script with boto3 and helpers at hand; its asserts are the test's.
    fn python(&self, script: &str) -> String {
        let prelude = concat!(
            "import boto3, botocore, email.utils, hashlib, json, os, sys, time, urllib.request, http.client\n",
            "from botocore.config import Config\n",
            "from botocore.exceptions import ClientError\n",
            "endpoint = os.environ['AWS_ENDPOINT_URL']\n",
            "def client(name, **config):\n",
            "    return boto3.client(name, config=Config(**config))\n",
            "def refused(code, call, *args, **kwargs):\n",
            "    try: call(*args, **kwargs)\n",
            "    except ClientError as error:\n",
            "        assert error.response['Error']['Code'] == code, error.response\n",
            "        return error.response\n",
            "    raise AssertionError(f'{code} expected')\n",
        );
        succeeded(self.command("python3").arg("-c").arg(format!("{prelude}{script}")).output().unwrap())
    }

    /// Calls with our own client, by the server's clock; with the temporary key if there is a token.
    fn call(
        &self,
        token: Option<&str>,
        service: &aws::Service,
        operation: &str,
        input: Value,
    ) -> aws::Result<Value> {
        let id = if token.is_some() { "ASIAEXAMPLE" } else { KEY_ID };
        self.call_with(id, token, service, operation, input)
    }

    /// Calls with another key than the usual one.
    fn call_as(&self, id: &str, service: &aws::Service, operation: &str, input: Value) -> aws::Result<Value> {
        self.call_with(id, None, service, operation, input)
    }

    fn call_with(
        &self,
        id: &str,
        token: Option<&str>,
        service: &aws::Service,
        operation: &str,
        input: Value,
    ) -> aws::Result<Value> {
        let offset = self.clock_offset_ms.clone();
        let client = aws::Client::new(aws::Config {
            region: "us-east-1".into(),
            credentials: aws::Credentials {
                access_key_id: id.into(),
                secret_access_key: SECRET.into(),
                session_token: token.map(str::to_owned),
            },
            endpoints: aws::Endpoints::everything_at(format!("http://localhost:{}", self.address.port())),
            clock: Arc::new(move || now_ms() + offset.load(Ordering::SeqCst)),
        });
        self.runtime.block_on(client.call(service, operation, &input))
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Sends bytes as they are and reads until the server closes.
    fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(request);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn scope(&self) -> Scope {
        Scope { account: ACCOUNT.into(), region: "us-east-1".into() }
    }

    /// A stream as a build makes it: recorded by its driver, written by its agent.
    fn build_log(&self, group: &str, stream: &str) -> SegmentWriter {
        let path = self.folder.path().join(format!("{}.segment", stream.replace('/', "_")));
        let writer = SegmentWriter::create(&path).unwrap();
        let row = LogStream {
            group: group.into(),
            name: stream.into(),
            created_ms: now_ms(),
            segment: path.to_str().unwrap().into(),
            first_event_ms: None,
            last_event_ms: None,
            stored_bytes: 0,
            forwarding: None,
        };
        let group =
            LogGroup { name: group.into(), created_ms: now_ms(), retention_days: None, tags: "{}".into() };
        self.runtime.block_on(async {
            let _ = self.records.create_log_group(&self.scope(), group).await;
            self.records.create_log_stream(&self.scope(), row).await.unwrap();
        });
        writer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(stopped) = self.stopped.take() {
            let _ = self.runtime.block_on(stopped);
        }
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

fn succeeded(output: Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    out.into_owned()
}

/// Bytes without a period that a wrong offset would meet.
fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

fn same_files(one: &Path, other: &Path) {
    assert!(std::fs::read(one).unwrap() == std::fs::read(other).unwrap(), "{one:?} and {other:?} differ");
}

#[test]
fn the_cli_moves_files_in_and_out_of_buckets() {
    let server = Server::start();
    let large = server.file("large", &noise(30 * 1024 * 1024));
    server.file("tree/a.txt", b"a");
    server.file("tree/sub dir/\u{fc}+b.txt", b"b");
    server.file("tree/empty", b"");

    server.aws(&["s3", "mb", "s3://bucket"]);
    assert!(server.aws(&["s3", "ls"]).contains("bucket"));
    server.aws(&["s3", "cp", "large", "s3://bucket/in/large", "--no-progress"]);
    server.aws(&["s3", "cp", "s3://bucket/in/large", "back", "--no-progress"]);
    same_files(&large, &server.folder.path().join("back"));
    same_files(&large, &server.folder.path().join("objects/bucket/in/large"));

    server.aws(&["s3", "cp", "s3://bucket/in/large", "s3://bucket/copied", "--no-progress"]);
    server.aws(&["s3", "cp", "s3://bucket/copied", "back2", "--no-progress"]);
    same_files(&large, &server.folder.path().join("back2"));

    server.aws(&["s3", "sync", "tree", "s3://bucket/tree"]);
    assert_eq!(server.aws(&["s3", "sync", "tree", "s3://bucket/tree"]), "", "nothing is left to do");
    let listed = server.aws(&["s3", "ls", "--recursive", "s3://bucket/tree/"]);
    assert!(listed.contains("tree/sub dir/\u{fc}+b.txt") && listed.contains("tree/empty"), "{listed}");
    server.aws(&["s3", "sync", "s3://bucket/tree", "tree2"]);
    same_files(
        &server.folder.path().join("tree/sub dir/\u{fc}+b.txt"),
        &server.folder.path().join("tree2/sub dir/\u{fc}+b.txt"),
    );

    assert!(server.aws_refusal(&["s3", "rb", "s3://bucket"]).contains("BucketNotEmpty"));
    server.aws(&["s3", "rm", "--recursive", "s3://bucket"]);
    server.aws(&["s3", "rb", "s3://bucket"]);
    assert_eq!(server.aws(&["s3", "ls"]), "");
}

/// Follows a link with nothing but HTTP.
fn follow(url: &str, arguments: &[&str]) -> String {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-w", " %{http_code}"]).args(arguments).arg(url.trim());
    succeeded(curl.output().unwrap())
}

#[test]
fn a_link_that_the_cli_presigns_without_any_configuration_works_until_it_expires() {
    let server = Server::start();
    server.file("a", b"content of a");
    server.aws(&["s3", "mb", "s3://bucket"]);
    server.aws(&["s3", "cp", "a", "s3://bucket/sub folder/\u{fc}+a", "--no-progress"]);
    let presign = ["s3", "presign", "s3://bucket/sub folder/\u{fc}+a", "--expires-in", "600"];
    let url = server.aws(&presign);
    // Should the CLI have moved on to Version 4 one day, boto3 in s3.py still tests Version 2.
    assert!(url.contains("AWSAccessKeyId=") || url.contains("X-Amz-Credential="), "{url}");
    assert_eq!(follow(&url, &[]), "content of a 200");
    assert_eq!(follow(&url, &["-H", "Range: bytes=-1"]), "a 206");

    let mut temporary = server.command("aws");
    temporary.env("AWS_ACCESS_KEY_ID", "ASIAEXAMPLE").env("AWS_SESSION_TOKEN", "the-token");
    let with_token = succeeded(temporary.args(presign).output().unwrap());
    assert_eq!(follow(&with_token, &[]), "content of a 200");
    assert!(follow(&with_token.replace("the-token", "a-token"), &[]).ends_with(" 403"));

    assert!(follow(&url, &["-X", "DELETE"]).ends_with(" 400"), "links neither delete");
    assert!(follow(&url, &["-T", server.file("b", b"b").to_str().unwrap()]).ends_with(" 403"), "nor write");
    assert!(follow(&url.replace("AKIDEXAMPLE", "AKIDNOBODY0"), &[]).ends_with(" 403"));
    assert!(follow(&format!("{}&versionId=1", url.trim()), &[]).ends_with(" 403"));
    server.clock_offset_ms.store(601_000, Ordering::SeqCst);
    let expired = follow(&url, &[]);
    assert!(
        expired.contains("<Message>Request has expired</Message>") && expired.ends_with(" 403"),
        "{expired}"
    );
}

#[test]
fn a_version_2_link_opens_nothing_but_s3() {
    let server = Server::start();
    let url = server
        .python("print(client('s3', signature_version='s3').generate_presigned_url('list_buckets'), end='')");
    assert!(url.contains("AWSAccessKeyId="), "{url}");
    assert!(follow(&url, &[]).ends_with(" 200"));
    let target = ["-H", "X-Amz-Target: CodeBuild_20161006.ListProjects", "-d", "{}"];
    assert!(follow(&url, &target).starts_with(r#"{"__type":"MissingAuthenticationTokenException""#));
    let identity = ["-d", "Action=GetCallerIdentity&Version=2011-06-15"];
    assert!(follow(&url, &identity).contains("<Code>MissingAuthenticationToken</Code>"));
}

#[test]
fn sdks_find_the_details_of_s3() {
    let server = Server::start();
    server.python(include_str!("s3.py"));
}

#[test]
fn sdks_find_cloudwatch_logs() {
    let server = Server::start();
    server.python(include_str!("logs.py"));
}

#[test]
fn sdks_find_parameter_store() {
    let server = Server::start();
    server.python(include_str!("parameters.py"));
}

#[test]
fn sdks_find_secrets_manager() {
    let server = Server::start();
    server.python(include_str!("secrets.py"));
}

#[test]
fn the_cli_puts_and_gets_parameters_and_secrets() {
    let server = Server::start();
    let put = ["ssm", "put-parameter", "--name", "/a/b", "--value", "v", "--type", "SecureString"];
    assert!(server.aws(&put).contains("\"Version\": 1"));
    let get = ["ssm", "get-parameter", "--name", "/a/b", "--with-decryption", "--query", "Parameter.Value"];
    assert_eq!(server.aws(&get).trim(), "\"v\"");
    server.aws(&["secretsmanager", "create-secret", "--name", "s", "--secret-string", "w"]);
    let get = ["secretsmanager", "get-secret-value", "--secret-id", "s", "--query", "SecretString"];
    assert_eq!(server.aws(&get).trim(), "\"w\"");
}

#[test]
fn a_secret_is_gone_when_its_recovery_window_is_over() {
    let server = Server::start();
    server.aws(&["secretsmanager", "create-secret", "--name", "s", "--secret-string", "w"]);
    server.aws(&["secretsmanager", "delete-secret", "--secret-id", "s", "--recovery-window-in-days", "7"]);
    server.clock_offset_ms.fetch_add(7 * 86_400_000, Ordering::SeqCst);
    // Clients that sign by their own clocks are too late by then; ours is told the time.
    let call = |operation, input| server.call(None, &aws::SECRETS_MANAGER, operation, input);
    let error = call("DescribeSecret", json!({ "SecretId": "s" })).unwrap_err();
    assert!(error.is("ResourceNotFoundException"), "{error}");
    call("CreateSecret", json!({ "Name": "s", "SecretString": "x" })).unwrap();
}

/// Our own client signs as our own server verifies, also with a temporary key.
#[test]
fn the_client_of_builds_is_let_in() {
    let server = Server::start();
    for token in [None, Some("the-token")] {
        let listed = server.call(token, &aws::CODEBUILD, "ListProjects", json!({})).unwrap();
        assert_eq!(listed, json!({ "projects": [ACCOUNT] }));
    }
    let error = server.call(Some("another"), &aws::CODEBUILD, "ListProjects", json!({})).unwrap_err();
    assert!(error.is("UnrecognizedClientException"), "{error}");
}

/// Class 44 of the ways around a signature: a session that is over, asked through each service, from its last moment on.
// AP-004
#[test]
fn a_session_that_is_over_is_over_for_every_service() {
    let server = Server::start();
    let calls = [
        (&aws::CODEBUILD, "ListProjects"),
        (&aws::CODEBUILD, "BatchGetBuilds"),
        (&aws::SSM, "DescribeParameters"),
        (&aws::SECRETS_MANAGER, "ListSecrets"),
        (&aws::SECRETS_MANAGER, "CreateSecret"),
    ];
    for (round, late_seconds) in [0, 1, 60, 86_400].into_iter().enumerate() {
        for (service, operation) in calls {
            let (input, token) = (json!({ "ids": ["a:1"], "Name": "s" }), format!("the-token-{round}"));
            let now = (now_ms() + server.clock_offset_ms.load(Ordering::SeqCst)).div_euclid(1_000);
            let session = Some(Session { token: token.clone(), expires_at: now + 3_600 });
            let usual = server.keys.get(KEY_ID).unwrap();
            let temporary = AccessKey { id: "ASIAEXAMPLE".into(), session, ..(*usual).clone() };
            server.keys.insert(temporary);
            let call = || server.call(Some(&token), service, operation, input.clone());
            let refused = call().err();
            assert!(!refused.as_ref().is_some_and(|error| error.is("ExpiredTokenException")), "{refused:?}");
            server.clock_offset_ms.fetch_add((3_600 + late_seconds) * 1_000, Ordering::SeqCst);
            let error = call().unwrap_err();
            assert!(error.is("ExpiredTokenException"), "{operation} {late_seconds} s late: {error}");
        }
    }
}

#[test]
fn events_older_than_their_group_keeps_them_are_not_shown_and_go_with_the_last_of_their_stream() {
    let server = Server::start();
    let prelude = "logs = client('logs')\nnow = int(time.time() * 1000)\nday = 86400000\n\
                   def put(stream, days, text):\n    \
                       logs.put_log_events(logGroupName='g', logStreamName=stream, \
                           logEvents=[{'timestamp': now - days * day, 'message': text}])\n\
                   def shown(stream):\n    \
                       one = dict(logGroupName='g', logStreamName=stream, startFromHead=True)\n    \
                       return [event['message'] for event in logs.get_log_events(**one)['events']]\n";
    server.python(&format!(
        "{prelude}
logs.create_log_group(logGroupName='g')
for stream in 'old', 'both': logs.create_log_stream(logGroupName='g', logStreamName=stream)
put('old', 4, 'four days'); put('old', 3, 'three days'); put('both', 4, 'before'); put('both', 0, 'now')
assert shown('both') == ['before', 'now']
logs.put_retention_policy(logGroupName='g', retentionInDays=1)
assert shown('both') == ['now'] and shown('old') == []
assert [e['message'] for e in logs.filter_log_events(logGroupName='g')['events']] == ['now']
logs.delete_retention_policy(logGroupName='g')
assert shown('old') == ['four days', 'three days']
logs.put_retention_policy(logGroupName='g', retentionInDays=1)"
    ));
    let files = || std::fs::read_dir(server.folder.path().join("logs")).unwrap().count();
    assert_eq!(files(), 2);
    assert_eq!(server.runtime.block_on(server.logs.remove_expired()).unwrap(), 1);
    assert_eq!(server.runtime.block_on(server.logs.remove_expired()).unwrap(), 0);
    assert_eq!(files(), 1);
    server.python(&format!(
        "{prelude}
assert shown('old') == []
put('old', 0, 'again')
assert shown('old') == ['again'] and shown('both') == ['now']
streams = {{s['logStreamName']: s for s in logs.describe_log_streams(logGroupName='g')['logStreams']}}
assert streams['old']['storedBytes'] == 5, streams"
    ));
}

#[test]
fn the_cli_shows_what_builds_wrote() {
    let server = Server::start();
    let mut log = server.build_log("/aws/codebuild/project", "one");
    let mut other = server.build_log("/aws/codebuild/project", "prefix/two");
    let now = now_ms();
    log.write_raw(now - 2_000, b"[Container] first\nsecond\n").unwrap();
    other.write_raw(now - 1_000, b"between \xff\n").unwrap();
    log.write_raw(now, b"last").unwrap();
    let shown = server.aws(&["logs", "filter-log-events", "--log-group-name", "/aws/codebuild/project"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let messages: Vec<&str> =
        shown["events"].as_array().unwrap().iter().filter_map(|event| event["message"].as_str()).collect();
    assert_eq!(messages, ["[Container] first\n", "second\n", "between \u{fffd}\n", "last"]);
    let listed = server.aws(&["logs", "describe-log-streams", "--log-group-name", "/aws/codebuild/project"]);
    assert!(listed.contains("prefix/two"));
}

#[test]
fn following_a_live_build_sees_each_line_once_and_whole_and_then_the_same_token_again() {
    let server = Server::start();
    let mut log = server.build_log("group", "stream");
    let writing = std::thread::spawn(move || {
        // In as many pieces as an agent writes them: several lines at once, and now and then only one.
        let lines: Vec<String> = (0..20_000).map(|n| format!("{n} {}\n", "x".repeat(n % 97))).collect();
        for some in lines.chunks(7) {
            log.write_raw(now_ms(), some.concat().as_bytes()).unwrap();
        }
        log.seal().unwrap();
    });
    let followed = server.python(
        "
logs = client('logs')
here = dict(logGroupName='group', logStreamName='stream', startFromHead=True)
seen, token, limit = [], None, 1
while len(seen) < 20000:
    page = logs.get_log_events(limit=limit, **here, **({'nextToken': token} if token else {}))
    assert page['events'] or page['nextForwardToken'] == token or token is None, page
    seen += [e['message'] for e in page['events']]
    token, limit = page['nextForwardToken'], limit % 997 + 130
assert seen == [f'{n} ' + 'x' * (n % 97) + '\\n' for n in range(20000)]
print(token, flush=True)
",
    );
    writing.join().unwrap();
    let again = server.python(&format!(
        "
logs = client('logs')
here = dict(logGroupName='group', logStreamName='stream', startFromHead=True)
for _ in range(3):
    page = logs.get_log_events(nextToken={:?}, **here)
    assert page['events'] == [] and page['nextForwardToken'] == {0:?}, page
assert logs.get_log_events(logGroupName='group', logStreamName='stream')['nextForwardToken'] == {0:?}
",
        followed.trim()
    ));
    assert_eq!(again, "");
}

#[test]
fn a_live_tail_gets_lines_as_they_are_written_and_ends_with_the_server() {
    let mut server = Server::start();
    let mut log = server.build_log("group", "stream");
    log.write_raw(now_ms() - 60_000, b"old\n").unwrap();
    let script = "
logs = client('logs', inject_host_prefix=False)
arn = 'arn:aws:logs:us-east-1:123456789012:log-group:group'
stream = logs.start_live_tail(logGroupIdentifiers=[arn], logEventFilterPattern='-skip')['responseStream']
seen = []
for event in stream:
    if 'sessionStart' in event:
        print('started', flush=True)
    for result in event.get('sessionUpdate', {}).get('sessionResults', []):
        assert result['logStreamName'] == 'stream' and result['logGroupIdentifier'] == '123456789012:group', result
        print(result['message'], end='', flush=True)
print('end', flush=True)
";
    let prelude = "import boto3\nfrom botocore.config import Config\ndef client(name, **config):\n    return boto3.client(name, config=Config(**config))\n";
    let mut child = server
        .command("python3")
        .args(["-u", "-c", &format!("{prelude}{script}")])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "started");
    let mut took = Vec::new();
    for line in ["one", "two", "three"] {
        log.write_raw(now_ms(), format!("skip\n{line}\n").as_bytes()).unwrap();
        let written = Instant::now();
        server.wakes.ring(ACCOUNT, "group", "stream");
        assert_eq!(lines.next().unwrap().unwrap(), line);
        took.push(written.elapsed());
    }
    // Whoever waits for a line is woken by it; that this host was held up for some of them is no matter.
    assert!(took.iter().min().unwrap() < &Duration::from_secs(1), "{took:?}");
    drop(server.stop.take());
    let stopping = Instant::now();
    server.runtime.block_on(server.stopped.take().unwrap()).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "end");
    assert!(child.wait().unwrap().success());
    assert!(stopping.elapsed() < server::http::DRAIN_TIMEOUT, "{:?}", stopping.elapsed());
}

#[test]
fn sts_says_who_signed() {
    let server = Server::start();
    let identity: Value = serde_json::from_str(&server.aws(&["sts", "get-caller-identity"])).unwrap();
    assert_eq!(identity["Account"], ACCOUNT);
    assert_eq!(identity["Arn"], caller().arn.as_str());
    let mut wrong = server.command("aws");
    let output =
        wrong.env("AWS_SECRET_ACCESS_KEY", "wrong").args(["sts", "get-caller-identity"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("SignatureDoesNotMatch"));
    for arguments in [["sts", "get-caller-identity"], ["s3", "ls"]] {
        let mut temporary = server.command("aws");
        temporary.env("AWS_ACCESS_KEY_ID", "ASIAEXAMPLE").env("AWS_SESSION_TOKEN", "the-token");
        succeeded(temporary.args(arguments).output().unwrap());
    }
}

#[test]
fn codebuild_calls_reach_the_function_validated_and_authenticated() {
    let server = Server::start();
    server.python(
        "
codebuild = client('codebuild', parameter_validation=False)
answer = codebuild.list_projects()
assert answer['projects'] == ['123456789012']
meta = answer['ResponseMetadata']
assert len(meta['RequestId']) == 36 and meta['HTTPHeaders']['content-type'] == 'application/x-amz-json-1.1', meta
assert codebuild.start_build(projectName='ab')['build']['id'] == 'ab:1'
error = refused('InvalidInputException', codebuild.list_builds)
assert error['Error']['Message'] == 'ListBuilds is not for this test'
error = refused('ValidationException', codebuild.start_build)
assert error['Error']['Message'].startswith('1 validation error detected:'), error
stranger = boto3.client('codebuild', aws_access_key_id=os.environ['AWS_ACCESS_KEY_ID'], aws_secret_access_key='wrong')
error = refused('InvalidSignatureException', stranger.list_projects)
assert error['Error']['Message'].startswith('The request signature we calculated does not match'), error
error = refused('InvalidSignatureException', boto3.client('codebuild', region_name='eu-west-1').list_projects)
assert error['Error']['Message'].startswith('Credential should be scoped to a valid region'), error
",
    );
}

#[test]
fn http2_and_http1_clients_with_another_signer_get_the_same_answer() {
    let server = Server::start();
    for protocol in ["--http1.1", "--http2-prior-knowledge"] {
        let mut curl = server.command("curl");
        curl.args(["-sS", protocol, "--aws-sigv4", "aws:amz:us-east-1:codebuild"])
            .args(["--user", &format!("{KEY_ID}:{SECRET}"), "-d", "{}", "-w", "%{http_code} %{http_version}"])
            .args(["-H", "Content-Type: application/x-amz-json-1.1"])
            .args(["-H", "X-Amz-Target: CodeBuild_20161006.ListProjects"])
            .arg(format!("http://127.0.0.1:{}/", server.address.port()));
        let answer = succeeded(curl.output().unwrap());
        assert!(answer.starts_with(r#"{"projects":["123456789012"]}200 "#), "{protocol}: {answer}");
        assert_eq!(answer.ends_with(" 2"), protocol == "--http2-prior-knowledge", "{answer}");
    }
}

#[test]
fn an_old_signature_is_refused_with_the_words_sdks_correct_their_clocks_by() {
    let server = Server::start();
    server.clock_offset_ms.store(360_000, Ordering::SeqCst);
    let refusal = server.aws_refusal(&["codebuild", "list-projects"]);
    assert!(
        refusal.contains("Signature expired: ") && refusal.contains(" is now earlier than "),
        "{refusal}"
    );
    server.python(
        "
error = refused('RequestTimeTooSkewed', client('s3').list_buckets)
assert error['Error']['MaxAllowedSkewMilliseconds'] == '300000', error
before = time.time()
answer = refused('InvalidSignatureException', client('codebuild').list_projects)
date = email.utils.parsedate_to_datetime(answer['ResponseMetadata']['HTTPHeaders']['date']).timestamp()
assert before + 359 <= date <= time.time() + 361, (before, date)
",
    );
}

// AP-004
#[test]
fn a_recorded_change_cannot_be_played_again() {
    let server = Server::start();
    let signed = server.python(
        "
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
keys = Credentials(os.environ['AWS_ACCESS_KEY_ID'], os.environ['AWS_SECRET_ACCESS_KEY'])
for target in ['StartBuild', 'ListProjects']:
    request = AWSRequest('POST', endpoint + '/', data=b'{\"projectName\":\"ab\"}', headers={
        'Content-Type': 'application/x-amz-json-1.1', 'X-Amz-Target': 'CodeBuild_20161006.' + target,
        'Host': endpoint[7:]})
    SigV4Auth(keys, 'codebuild', 'us-east-1').add_auth(request)
    print(json.dumps(list(request.headers.items()) + [['Connection', 'close'], ['Content-Length', '20']]))
",
    );
    let requests: Vec<Vec<u8>> = signed
        .lines()
        .map(|line| {
            let headers: Vec<(String, String)> = serde_json::from_str(line).unwrap();
            let head: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            format!("POST / HTTP/1.1\r\n{head}\r\n{{\"projectName\":\"ab\"}}").into_bytes()
        })
        .collect();
    let (change, reading) = (&requests[0], &requests[1]);
    let head = "POST / HTTP/1.1\r\n";
    let told = |header: &str| {
        let change = String::from_utf8(change.clone()).unwrap();
        change.replacen(head, &format!("{head}{header}\r\n"), 1).into_bytes()
    };
    let (another, retried) = (told("amz-sdk-invocation-id: 1"), told("amz-sdk-request: attempt=2; max=3"));
    assert!(server.raw(change).starts_with("HTTP/1.1 200"));
    // So that it is no later, however long this host may be held up.
    server.clock_offset_ms.store(-4_000, Ordering::SeqCst);
    assert!(
        server.raw(change).starts_with("HTTP/1.1 200"),
        "who does not number his calls may mean it again"
    );
    for call in [&another, &retried] {
        assert!(
            server.raw(call).starts_with("HTTP/1.1 200"),
            "another call or attempt within a second is meant"
        );
        assert!(server.raw(call).contains("InvalidSignatureException"), "that one again");
    }
    assert!(server.raw(reading).starts_with("HTTP/1.1 200"));
    server.clock_offset_ms.store(10_000, Ordering::SeqCst);
    for late in [change, &another, &told("amz-sdk-invocation-id: 2")] {
        assert!(server.raw(late).contains("InvalidSignatureException"));
    }
    assert!(server.raw(reading).starts_with("HTTP/1.1 200"), "reading again changes nothing");
}

/// Requests signed by botocore, the same ones for the same seed.
fn signed_by_botocore(kind: &str, count: usize, seed: u32) -> Vec<Value> {
    let signer = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sign.py");
    let (count, seed) = (count.to_string(), seed.to_string());
    let output = Command::new("python3").args([signer, kind, &count, &seed]).output().unwrap();
    succeeded(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn headers_of(case: &Value) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for pair in case["headers"].as_array().unwrap() {
        let name = HeaderName::from_bytes(pair[0].as_str().unwrap().as_bytes()).unwrap();
        headers.append(name, HeaderValue::from_str(pair[1].as_str().unwrap()).unwrap());
    }
    headers
}

fn keys_of(case: &Value) -> Keys {
    let session = case["token"].as_str().map(|token| Session { token: token.into(), expires_at: i64::MAX });
    Keys::from_iter([AccessKey { id: KEY_ID.into(), secret: SECRET.into(), caller: caller(), session }])
}

#[test]
fn our_verdict_is_botocores_on_random_version_2_links() {
    let seed = std::process::id();
    let cases = signed_by_botocore("random-links", 300, seed);
    assert_eq!(cases.len(), 300);
    for case in cases {
        let text = |name: &str| case[name].as_str().unwrap();
        let (headers, keys) = (headers_of(&case), keys_of(&case));
        let request =
            |query| sigv4::Request { method: text("method"), path: text("path"), query, headers: &headers };
        let rules = Rules { region: "us-east-1", service: "s3", skew_seconds: 300, presigned: true };
        let (bucket, now) = (case["bucket"].as_str(), case["now"].as_i64().unwrap());
        let verdict = sigv2::verify(&request(text("query")), bucket, &rules, now, &keys);
        assert!(verdict.is_ok(), "seed {seed}: {verdict:?} for {case}");
        let later = text("query").replacen("Expires=", "Expires=1", 1);
        assert!(sigv2::verify(&request(&later), bucket, &rules, now, &keys).is_err(), "seed {seed}: {case}");
    }
}

#[test]
fn our_verdict_is_botocores_on_random_requests() {
    let seed = std::process::id();
    let mut verified = 0;
    for case in signed_by_botocore("random", 300, seed) {
        let text = |name: &str| case[name].as_str().unwrap();
        let (headers, keys) = (headers_of(&case), keys_of(&case));
        let request = sigv4::Request {
            method: text("method"),
            path: text("path"),
            query: text("query"),
            headers: &headers,
        };
        let s3 = text("service") == "s3";
        let rules = Rules { region: "us-east-1", service: text("service"), skew_seconds: 300, presigned: s3 };
        let payload = if s3 { Payload::Announced } else { Payload::Body(text("body").as_bytes()) };
        let now = case["now"].as_i64().unwrap();
        let verdict = sigv4::verify(&request, payload, &rules, now, &keys);
        assert!(verdict.is_ok(), "seed {seed}: {verdict:?} for {case}");
        verified += 1;
    }
    assert_eq!(verified, 300);
}

#[test]
fn probes_need_no_signature_and_no_bucket_takes_their_names() {
    let server = Server::start();
    let probe = |path: &str| {
        server.raw(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
    };
    assert!(probe("/healthz").starts_with("HTTP/1.1 200"));
    assert!(probe("/readyz").ends_with("ready\n"));
    assert!(probe("/other").contains("<Code>AccessDenied</Code>"));
    assert!(server.aws_refusal(&["s3", "mb", "s3://healthz"]).contains("InvalidBucketName"));
}

#[test]
fn requests_that_are_too_large_or_ambiguous_are_refused() {
    let server = Server::start();
    let start = "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Amz-Target: CodeBuild_20161006.ListProjects\r\n";
    let get = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let long = "x".repeat(20_000);
    let many: String = (0..101).map(|n| format!("X-{n}: a\r\n")).collect();
    for (what, request, expect) in [
        ("a long header", format!("{get}X-Long: {long}\r\n\r\n"), "HTTP/1.1 431"),
        ("a long request line", format!("GET /{long} HTTP/1.1\r\n\r\n"), "HTTP/1.1 4"),
        ("many headers", format!("{get}{many}\r\n"), "HTTP/1.1 431"),
        (
            "length and chunks",
            format!("{start}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            "HTTP/1.1 400",
        ),
        (
            "chunks and length",
            format!("{start}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
            "HTTP/1.1 400",
        ),
        ("chunks", format!("{start}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "HTTP/1.1 400"),
        ("an odd encoding", format!("{start}Transfer-Encoding: gzip\r\n\r\n"), "HTTP/1.1 400"),
        (
            "two lengths",
            format!("{start}Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345"),
            "HTTP/1.1 400",
        ),
        ("two hosts", format!("{get}Host: other\r\n\r\n"), "HTTP/1.1 400"),
        ("no host", "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(), "HTTP/1.1 400"),
        ("a folded header", format!("{get}X-Folded: a\r\n b\r\n\r\n"), "HTTP/1.1 400"),
        ("a blank before the colon", format!("{get}X-Odd : a\r\n\r\n"), "HTTP/1.1 400"),
        (
            "two targets",
            format!("{start}X-Amz-Target: CodeBuild_20161006.StartBuild\r\nContent-Length: 0\r\n\r\n"),
            "HTTP/1.1 400",
        ),
        ("a large body", format!("{start}Content-Length: 1048577\r\n\r\n"), "HTTP/1.1 413"),
        ("no such service", format!("{start}\r\n").replace("CodeBuild_20161006", "Nothing"), "HTTP/1.1 400"),
        ("no signature", format!("{start}Content-Length: 2\r\n\r\n{{}}"), "HTTP/1.1 400"),
        ("no HTTP", "\x16\x03\x01\x02\0 hello".to_owned() + &"\r\n".repeat(20), "HTTP/1.1 400"),
    ] {
        let answer = server.raw(request.as_bytes());
        assert!(answer.starts_with(expect), "{what}: {answer}");
    }
    let answer = server.raw(format!("{start}Content-Length: 2\r\n\r\n{{}}").as_bytes());
    assert!(
        answer.contains(
            r#"{"__type":"MissingAuthenticationTokenException","message":"Missing Authentication Token"}"#
        ),
        "{answer}"
    );
}

#[test]
fn an_address_that_a_killed_servers_process_still_has_is_waited_for() {
    let runtime = Runtime::new().unwrap();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let release = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(held);
    });
    assert_eq!(runtime.block_on(server::listen(address)).unwrap().local_addr().unwrap(), address);
    release.join().unwrap();
}

#[test]
fn a_client_that_stalls_before_its_request_is_complete_is_cut_off() {
    let server = Server::start();
    let started = Instant::now();
    let stalls = ["", "GE", "PRI * HT", "GET /healthz HTTP/1.1\r\nHost: loc"];
    let waiting: Vec<_> = stalls
        .map(|start| {
            let mut stream = TcpStream::connect(server.address).unwrap();
            stream.write_all(start.as_bytes()).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            stream
        })
        .into_iter()
        .collect();
    for (mut stream, start) in waiting.into_iter().zip(stalls) {
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap_or_else(|error| panic!("{start:?} was kept: {error}"));
    }
    let elapsed = started.elapsed();
    // Each of them would be waited for 60 seconds.
    assert!((Duration::from_secs(9)..Duration::from_secs(60)).contains(&elapsed), "{elapsed:?}");
}

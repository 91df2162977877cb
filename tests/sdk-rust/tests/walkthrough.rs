//! The user guide's getting-started walk-through with the AWS SDK for Rust, against the real binary.
//!
//! `BUILDYARD` names the binary; else it is `target/release/buildyard` of the repository.

use std::collections::HashMap;
use std::io::{Cursor, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_codebuild::types::{
    ArtifactPackaging, ArtifactsType, Build, BuildPhaseType, ComputeType, EnvironmentType,
    EnvironmentVariable, ProjectArtifacts, ProjectEnvironment, ProjectSource, SourceType, StatusType,
};
use aws_smithy_http_client::Builder;

const KEY_ID: &str = "AKIDRUSTSDK000000001";
const SECRET: &str = "rust/sdk+secret00000000000000000000000000";
const PATIENCE: Duration = Duration::from_secs(60);

const BUILDSPEC: &str = r#"
version: 0.2
env:
  exported-variables: [GREETED]
phases:
  build:
    commands:
      - cc -Wall -Werror -o messageUtil messageUtil.c
  post_build:
    commands:
      - GREETED=$(./messageUtil "$NAME")
      - echo "$GREETED"
artifacts:
  files: [messageUtil]
"#;

const PROGRAM: &str = r#"
#include <stdio.h>
int main(int count, char **arguments) { return printf("Hi!%s\n", count > 1 ? arguments[1] : "nobody") < 0; }
"#;

/// A server of this test's own; killed when the test ends.
struct Server {
    process: Child,
    endpoint: String,
    _data: tempfile::TempDir,
}

impl Server {
    async fn start() -> Server {
        let data = tempfile::tempdir().unwrap();
        let process = Command::new(binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data.path())
            .env("BUILDYARD_ACCESS_KEY_ID", KEY_ID)
            .env("BUILDYARD_SECRET_ACCESS_KEY", SECRET)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let note = data.path().join("endpoint");
        let endpoint =
            wait_for("the endpoint", async || Some(read_line(&note)).filter(|line| !line.is_empty())).await;
        Server { process, endpoint, _data: data }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn binary() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release/buildyard");
    std::env::var_os("BUILDYARD").map_or_else(default, PathBuf::from)
}

fn read_line(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Asks again until there is an answer, for a minute at most.
async fn wait_for<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "still no {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The three services' clients; each SDK crate has the same settings under a type of its own.
macro_rules! client {
    ($sdk:ident, $endpoint:expr $(, $setting:ident)?) => {
        $sdk::Client::from_conf(
            $sdk::Config::builder()
                .endpoint_url($endpoint)
                .region($sdk::config::Region::new("us-east-1"))
                .credentials_provider($sdk::config::Credentials::new(KEY_ID, SECRET, None, None, "test"))
                .http_client(Builder::new().build_http())
                $(.$setting(true))?
                .build(),
        )
    };
}

struct Clients {
    codebuild: aws_sdk_codebuild::Client,
    s3: aws_sdk_s3::Client,
    logs: aws_sdk_cloudwatchlogs::Client,
}

impl Clients {
    fn of(server: &Server) -> Clients {
        Clients {
            codebuild: client!(aws_sdk_codebuild, &server.endpoint),
            s3: client!(aws_sdk_s3, &server.endpoint, force_path_style),
            logs: client!(aws_sdk_cloudwatchlogs, &server.endpoint),
        }
    }

    async fn upload_source(&self) {
        for bucket in ["input-bucket", "output-bucket"] {
            self.s3.create_bucket().bucket(bucket).send().await.unwrap();
        }
        let body = aws_sdk_s3::primitives::ByteStream::from(zipped());
        self.s3.put_object().bucket("input-bucket").key("MessageUtil.zip").body(body).send().await.unwrap();
    }

    async fn create_project(&self) {
        let source = ProjectSource::builder().r#type(SourceType::S3).location("input-bucket/MessageUtil.zip");
        let artifacts = ProjectArtifacts::builder()
            .r#type(ArtifactsType::S3)
            .location("output-bucket")
            .packaging(ArtifactPackaging::Zip)
            .name("MessageUtil.zip");
        let environment = ProjectEnvironment::builder()
            .r#type(EnvironmentType::LinuxContainer)
            .image("aws/codebuild/standard:7.0")
            .compute_type(ComputeType::BuildGeneral1Small);
        let project = self
            .codebuild
            .create_project()
            .name("codebuild-demo-project")
            .source(source.build().unwrap())
            .artifacts(artifacts.build().unwrap())
            .environment(environment.build().unwrap())
            .service_role("arn:aws:iam::123456789012:role/CodeBuildServiceRole");
        let created = project.send().await.unwrap().project.unwrap();
        assert_eq!(created.timeout_in_minutes, Some(60));
    }

    async fn build(&self) -> Build {
        let name = EnvironmentVariable::builder().name("NAME").value("Robert").build().unwrap();
        let start = self.codebuild.start_build().project_name("codebuild-demo-project");
        let started = start.environment_variables_override(name).send().await.unwrap().build_value.unwrap();
        assert_eq!(started.build_status, Some(StatusType::InProgress));
        let id = started.id.unwrap();
        wait_for("end of the build", async || {
            let found = self.codebuild.batch_get_builds().ids(&id).send().await.unwrap();
            found.builds.unwrap().pop().filter(|build| build.build_complete)
        })
        .await
    }

    async fn log(&self, build: &Build) -> String {
        let place = build.logs.as_ref().unwrap();
        let page = self
            .logs
            .get_log_events()
            .log_group_name(place.group_name.clone().unwrap())
            .log_stream_name(place.stream_name.clone().unwrap())
            .start_from_head(true);
        let events = page.send().await.unwrap().events.unwrap();
        events.into_iter().filter_map(|event| event.message).collect()
    }

    async fn artifact(&self) -> (Vec<u8>, HashMap<String, String>) {
        let object =
            self.s3.get_object().bucket("output-bucket").key("MessageUtil.zip").send().await.unwrap();
        let metadata = object.metadata.clone().unwrap();
        (object.body.collect().await.unwrap().to_vec(), metadata)
    }
}

fn zipped() -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in [("messageUtil.c", PROGRAM), ("buildspec.yml", BUILDSPEC)] {
        archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(content.as_bytes()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// What the program in the artifact prints.
fn run_artifact(archive: Vec<u8>) -> String {
    let mut archive = zip::ZipArchive::new(Cursor::new(archive)).unwrap();
    let mut program = Vec::new();
    archive.by_name("messageUtil").unwrap().read_to_end(&mut program).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("messageUtil");
    std::fs::write(&path, program).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    String::from_utf8(Command::new(path).arg("artifact").output().unwrap().stdout).unwrap()
}

#[tokio::test]
async fn the_walk_through_works_with_the_aws_sdk_for_rust() {
    let server = Server::start().await;
    let clients = Clients::of(&server);
    clients.upload_source().await;
    clients.create_project().await;
    let build = clients.build().await;

    assert_eq!(build.build_status, Some(StatusType::Succeeded), "{:?}", build.phases);
    let phases = build.phases.as_deref().unwrap();
    assert_eq!(phases.len(), 11);
    assert_eq!(phases[10].phase_type, Some(BuildPhaseType::Completed));
    assert_eq!(phases[10].start_time, build.end_time);
    let exported = build.exported_environment_variables.as_deref().unwrap();
    assert_eq!(exported[0].value.as_deref(), Some("Hi!Robert"));
    assert!(clients.log(&build).await.contains("\nHi!Robert\n"));

    let (archive, metadata) = clients.artifact().await;
    let artifacts = build.artifacts.as_ref().unwrap();
    assert_eq!(metadata.get("codebuild-content-sha256"), artifacts.sha256_sum.as_ref());
    assert_eq!(run_artifact(archive), "Hi!artifact\n");
}

#[tokio::test]
async fn errors_have_the_types_of_the_model() {
    let server = Server::start().await;
    let clients = Clients::of(&server);
    let missing = clients.codebuild.start_build().project_name("nobody").send().await.unwrap_err();
    assert!(missing.into_service_error().is_resource_not_found_exception());
    let bad = clients.codebuild.batch_get_builds().set_ids(Some(Vec::new())).send().await.unwrap_err();
    assert_eq!(bad.into_service_error().meta().code(), Some("ValidationException"));
    let missing = clients.s3.get_object().bucket("nobody").key("x").send().await.unwrap_err();
    assert_eq!(missing.into_service_error().meta().code(), Some("NoSuchBucket"));
    let missing = clients.logs.get_log_events().log_group_name("none").log_stream_name("none").send().await;
    assert!(missing.unwrap_err().into_service_error().is_resource_not_found_exception());
}

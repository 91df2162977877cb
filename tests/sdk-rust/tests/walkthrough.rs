//! The user guide's getting-started walk-through with the AWS SDK for Rust, against the real binary.
//!
//! `BUILDYARD` names the binary; else it is `target/release/buildyard` of the repository.

use std::collections::HashMap;
use std::io::{Cursor, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_sdk_codebuild::operation::create_project::builders::CreateProjectFluentBuilder;
use aws_sdk_codebuild::types::{
    ArtifactPackaging, ArtifactsType, AuthType, Build, BuildPhaseType, ComputeType, EnvironmentType,
    EnvironmentVariable, ProjectArtifacts, ProjectEnvironment, ProjectSource, ProjectVisibilityType,
    ServerType, SortOrderType, SourceType, StatusType, Tag,
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
        self.ended(started.id().unwrap()).await
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

/// A project that can be built at once: its buildspec prints a line.
fn inline(clients: &Clients, name: &str) -> CreateProjectFluentBuilder {
    let buildspec = "{version: 0.2, phases: {build: {commands: [echo hello]}}}";
    let source = ProjectSource::builder().r#type(SourceType::NoSource).buildspec(buildspec);
    let environment = ProjectEnvironment::builder()
        .r#type(EnvironmentType::LinuxContainer)
        .image("aws/codebuild/standard:7.0")
        .compute_type(ComputeType::BuildGeneral1Small);
    clients
        .codebuild
        .create_project()
        .name(name)
        .source(source.build().unwrap())
        .artifacts(ProjectArtifacts::builder().r#type(ArtifactsType::NoArtifacts).build().unwrap())
        .environment(environment.build().unwrap())
        .service_role("arn:aws:iam::123456789012:role/CodeBuildServiceRole")
}

impl Clients {
    async fn ended(&self, id: &str) -> Build {
        wait_for("end of the build", async || {
            let found = self.codebuild.batch_get_builds().ids(id).send().await.unwrap();
            found.builds.unwrap().pop().filter(|build| build.build_complete)
        })
        .await
    }
}

// AP-002, AP-005, AP-009, AP-053, AP-061..067
#[tokio::test]
async fn projects_are_made_changed_shown_and_deleted() {
    let server = Server::start().await;
    let clients = Clients::of(&server);
    let codebuild = &clients.codebuild;
    let tags = ["b", "a"].map(|key| Tag::builder().key(key).value("").build());
    let made = inline(&clients, "rust").set_tags(Some(tags.to_vec())).send().await.unwrap().project.unwrap();
    assert_eq!(made.tags(), tags);
    assert_eq!(made.badge.as_ref().map(|badge| badge.badge_enabled), Some(false));
    assert_eq!((made.description(), made.project_visibility()), (None, Some(&ProjectVisibilityType::Private)));

    let change = codebuild.update_project().name("rust").description("changed").set_tags(Some(Vec::new()));
    let changed = change.send().await.unwrap().project.unwrap();
    assert_eq!((changed.description(), changed.tags()), (Some("changed"), [].as_slice()));
    assert_eq!((changed.source(), changed.created()), (made.source(), made.created()));
    assert!(changed.last_modified() >= made.last_modified());

    let arn = made.arn().unwrap();
    let found = codebuild.batch_get_projects().names(arn).names("nobody").send().await.unwrap();
    assert_eq!(found.projects(), [changed]);
    assert_eq!(found.projects_not_found(), ["nobody"]);
    codebuild.invalidate_project_cache().project_name("rust").send().await.unwrap();
    let public = codebuild.update_project_visibility().project_arn(arn);
    let public = public.project_visibility(ProjectVisibilityType::PublicRead).resource_access_role("r");
    assert!(public.send().await.unwrap().public_project_alias().is_some_and(|alias| !alias.is_empty()));
    let images = codebuild.list_curated_environment_images().send().await.unwrap();
    assert!(images.platforms().iter().any(|platform| !platform.languages().is_empty()));
    for _ in 0..2 {
        codebuild.delete_project().name("rust").send().await.unwrap();
    }
    assert!(codebuild.list_projects().send().await.unwrap().projects().is_empty());
}

// AP-006, AP-064, AP-065
#[tokio::test]
async fn paginators_go_through_all_pages() {
    let server = Server::start().await;
    let clients = Clients::of(&server);
    let names: Vec<String> = (0..205).map(|number| format!("page-{number:03}")).collect();
    for name in &names {
        inline(&clients, name).send().await.unwrap();
    }
    let mut pages = clients.codebuild.list_projects().into_paginator().send();
    let (mut sizes, mut listed) = (Vec::new(), Vec::new());
    while let Some(page) = pages.next().await {
        let page = page.unwrap().projects.unwrap();
        sizes.push(page.len());
        listed.extend(page);
    }
    assert_eq!((sizes, listed), (vec![100, 100, 5], names));
    let shared = clients.codebuild.list_shared_projects().into_paginator().page_size(1).items().send();
    assert_eq!(shared.collect::<Vec<_>>().await.len(), 0);
}

// AP-008, AP-073..078
#[tokio::test]
async fn builds_are_started_once_tried_again_listed_and_deleted() {
    let server = Server::start().await;
    let clients = Clients::of(&server);
    let codebuild = &clients.codebuild;
    inline(&clients, "built").send().await.unwrap();
    let start = codebuild.start_build().project_name("built").idempotency_token("token");
    let first = start.clone().send().await.unwrap().build_value.unwrap();
    let same = start.send().await.unwrap().build_value.unwrap();
    assert_eq!((first.id(), first.build_number()), (same.id(), same.build_number()));
    let id = first.id().unwrap();
    assert_eq!(clients.ended(id).await.build_status, Some(StatusType::Succeeded));
    let stopped = codebuild.stop_build().id(id).send().await.unwrap().build_value.unwrap();
    assert_eq!(stopped.build_status, Some(StatusType::Succeeded));

    let again = codebuild.retry_build().id(id).send().await.unwrap().build_value.unwrap();
    assert_eq!(again.build_number, Some(2));
    let second = again.id().unwrap();
    clients.ended(second).await;
    let pages = codebuild.list_builds_for_project().project_name("built").into_paginator().items().send();
    assert_eq!(pages.try_collect().await.unwrap(), [second, id]);
    let pages = codebuild.list_builds().sort_order(SortOrderType::Ascending).into_paginator().items().send();
    assert_eq!(pages.try_collect().await.unwrap(), [id, second]);
    let deleted = codebuild.batch_delete_builds().ids(id).ids(second).send().await.unwrap();
    assert_eq!(deleted.builds_deleted().len(), 2);
    let found = codebuild.batch_get_builds().ids(id).send().await.unwrap();
    assert_eq!(found.builds_not_found(), [id]);
}

// AP-110..115
#[tokio::test]
async fn credentials_and_policies_are_kept_and_given_up() {
    let server = Server::start().await;
    let clients = Clients::of(&server);
    let codebuild = &clients.codebuild;
    let import = codebuild.import_source_credentials().server_type(ServerType::Github).token("secret");
    let import = import.auth_type(AuthType::PersonalAccessToken);
    let arn = import.clone().send().await.unwrap().arn.unwrap();
    let taken = import.should_overwrite(false).send().await.unwrap_err();
    assert!(taken.into_service_error().is_resource_already_exists_exception());
    let listed = codebuild.list_source_credentials().send().await.unwrap();
    assert_eq!(listed.source_credentials_infos()[0].arn(), Some(arn.as_str()));
    codebuild.delete_source_credentials().arn(&arn).send().await.unwrap();
    let missing = codebuild.delete_source_credentials().arn(&arn).send().await.unwrap_err();
    assert!(missing.into_service_error().is_resource_not_found_exception());

    let project = inline(&clients, "shared").send().await.unwrap().project.unwrap().arn.unwrap();
    let policy = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"210987654321"}},
            "Action":["codebuild:BatchGetProjects"],"Resource":"{project}"}}]}}"#
    );
    codebuild.put_resource_policy().resource_arn(&project).policy(policy).send().await.unwrap();
    let kept = codebuild.get_resource_policy().resource_arn(&project).send().await.unwrap();
    assert!(kept.policy().is_some_and(|text| text.contains("210987654321")));
    codebuild.delete_resource_policy().resource_arn(&project).send().await.unwrap();
    let gone = codebuild.get_resource_policy().resource_arn(&project).send().await.unwrap_err();
    assert!(gone.into_service_error().is_resource_not_found_exception());
}

// AP-003, AP-004
#[tokio::test]
async fn errors_have_the_types_of_the_model() {
    let server = Server::start().await;
    let clients = Clients::of(&server);
    let missing = clients.codebuild.start_build().project_name("nobody").send().await.unwrap_err();
    assert!(missing.into_service_error().is_resource_not_found_exception());
    let wrong = clients.codebuild.stop_build().id("wrong").send().await.unwrap_err();
    assert!(wrong.into_service_error().is_invalid_input_exception());
    inline(&clients, "twice").send().await.unwrap();
    let twice = inline(&clients, "twice").send().await.unwrap_err();
    assert!(twice.into_service_error().is_resource_already_exists_exception());
    let token = clients.codebuild.list_projects().next_token("made up").send().await.unwrap_err();
    assert!(token.into_service_error().is_invalid_input_exception());
    let bad = clients.codebuild.batch_get_builds().set_ids(Some(Vec::new())).send().await.unwrap_err();
    assert_eq!(bad.into_service_error().meta().code(), Some("ValidationException"));
    let missing = clients.s3.get_object().bucket("nobody").key("x").send().await.unwrap_err();
    assert_eq!(missing.into_service_error().meta().code(), Some("NoSuchBucket"));
    let missing = clients.logs.get_log_events().log_group_name("none").log_stream_name("none").send().await;
    assert!(missing.unwrap_err().into_service_error().is_resource_not_found_exception());
}

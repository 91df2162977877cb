//! What becomes of a project and the overrides of one build.

use agent::plan::{ArtifactTarget, Artifacts, Buildspec, Rootfs, Source};
use api::codebuild::{
    ArtifactPackaging, ArtifactsType, CacheType, CloudWatchLogsConfig, ComputeType, CreateProjectInput,
    EnvironmentType, EnvironmentVariable, GitSubmodulesConfig, LogsConfig, LogsConfigStatusType,
    ProjectArtifacts, ProjectCache, ProjectEnvironment, ProjectSource, ProjectSourceVersion, S3LogsConfig,
    SourceType,
};

use super::*;
use crate::config::Size;
use crate::error::Error;

const UUID: &str = "0c8a3fd5-5a2f-4f0e-9d57-8b6d63f3c6a1";
const INLINE: &str = "version: 0.2\nphases: {}\n";

fn config() -> Config {
    let mut config = Config::new("eu-west-1".parse().unwrap(), "/data/objects".into(), "/data/logs".into());
    config.environment_types = vec![EnvironmentType::LinuxContainer];
    config
}

fn account() -> AccountId {
    "123456789012".parse().unwrap()
}

fn project(source: ProjectSource, artifacts: ProjectArtifacts) -> Project {
    let input = CreateProjectInput {
        name: Some("demo".to_string()),
        source: Some(source),
        artifacts: Some(artifacts),
        environment: Some(ProjectEnvironment {
            r#type: Some(EnvironmentType::LinuxContainer),
            image: Some("aws/codebuild/standard:7.0".to_string()),
            compute_type: Some(ComputeType::BuildGeneral1Small),
            environment_variables: Some(vec![plain("A", "1"), plain("B", "2")]),
            ..ProjectEnvironment::default()
        }),
        service_role: Some("builder".to_string()),
        ..CreateProjectInput::default()
    };
    let (config, account) = (config(), account());
    let setting = Setting {
        region: &config.region,
        account: &account,
        now_ms: 1000,
        concurrent_builds: 2,
        codecommit: None,
    };
    crate::project::create(input, setting).unwrap()
}

fn plain(name: &str, value: &str) -> EnvironmentVariable {
    EnvironmentVariable { name: Some(name.to_string()), value: Some(value.to_string()), r#type: None }
}

fn no_source() -> ProjectSource {
    ProjectSource {
        r#type: Some(SourceType::NoSource),
        buildspec: Some(INLINE.to_string()),
        ..ProjectSource::default()
    }
}

fn s3_source(location: &str) -> ProjectSource {
    ProjectSource {
        r#type: Some(SourceType::S3),
        location: Some(location.to_string()),
        ..ProjectSource::default()
    }
}

fn no_artifacts() -> ProjectArtifacts {
    ProjectArtifacts { r#type: Some(ArtifactsType::NoArtifacts), ..ProjectArtifacts::default() }
}

fn simple() -> Project {
    project(no_source(), no_artifacts())
}

fn try_plan(project: Project, over: StartBuildInput) -> Result<(Build, Order)> {
    try_plan_with(project, over, &config())
}

fn try_plan_with(project: Project, over: StartBuildInput, config: &Config) -> Result<(Build, Order)> {
    let request = Request {
        uuid: UUID.parse().unwrap(),
        account: account(),
        initiator: "alice".to_string(),
        now_ms: 1_585_485_986_820,
        tries: Tries::default(),
        cache_generation: 3,
    };
    Ok(draft(project, over, request, config)?.numbered(7, config))
}

fn refusal(project: Project, over: StartBuildInput) -> String {
    match try_plan(project, over) {
        Err(Error::InvalidInput(message)) => message,
        other => panic!("not refused: {other:?}"),
    }
}

// LC-060, LC-061, AP-050, AP-051, SA-110, SA-061, SA-113
#[test]
fn start_build_answers_the_documented_document() {
    let (build, _) = try_plan(simple(), StartBuildInput::default()).unwrap();
    let shown = serde_json::to_value(&build).unwrap();
    let expect = serde_json::json!({
        "id": format!("demo:{UUID}"),
        "arn": format!("arn:aws:codebuild:eu-west-1:123456789012:build/demo:{UUID}"),
        "buildNumber": 7,
        "startTime": 1585485986.82,
        "currentPhase": "QUEUED",
        "buildStatus": "IN_PROGRESS",
        "projectName": "demo",
        "phases": [
            {
                "phaseType": "SUBMITTED", "phaseStatus": "SUCCEEDED", "startTime": 1585485986.82,
                "endTime": 1585485986.82, "durationInSeconds": 0
            },
            { "phaseType": "QUEUED", "startTime": 1585485986.82 }
        ],
        "source": {
            "type": "NO_SOURCE", "buildspec": INLINE, "reportBuildStatus": false, "insecureSsl": false
        },
        "secondarySources": [],
        "secondarySourceVersions": [],
        "artifacts": { "location": "" },
        "secondaryArtifacts": [],
        "cache": { "type": "NO_CACHE" },
        "environment": {
            "type": "LINUX_CONTAINER", "image": "aws/codebuild/standard:7.0",
            "computeType": "BUILD_GENERAL1_SMALL",
            "environmentVariables": [{ "name": "A", "value": "1" }, { "name": "B", "value": "2" }],
            "privilegedMode": false, "imagePullCredentialsType": "CODEBUILD"
        },
        "serviceRole": "arn:aws:iam::123456789012:role/builder",
        "logs": {
            "deepLink":
                "https://console.aws.amazon.com/cloudwatch/home?region=eu-west-1#logEvent:group=null;stream=null",
            "cloudWatchLogsArn": "arn:aws:logs:eu-west-1:123456789012:log-group:null:log-stream:null",
            "cloudWatchLogs": { "status": "ENABLED" },
            "s3Logs": { "status": "DISABLED", "encryptionDisabled": false }
        },
        "timeoutInMinutes": 60,
        "queuedTimeoutInMinutes": 480,
        "buildComplete": false,
        "initiator": "alice",
        "encryptionKey": "arn:aws:kms:eu-west-1:123456789012:alias/aws/s3"
    });
    assert_eq!(shown, expect);
}

// BS-044, AP-011
#[test]
fn variables_merge_by_name_and_the_override_wins() {
    let over = StartBuildInput {
        environment_variables_override: Some(vec![plain("B", "3"), plain("C", "4")]),
        ..StartBuildInput::default()
    };
    let (build, order) = try_plan(simple(), over).unwrap();
    let variables: Vec<_> = order.plan.variables.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(variables, [("A", "1"), ("B", "3"), ("C", "4")]);
    let shown = build.environment.unwrap().environment_variables.unwrap();
    assert_eq!(shown, [plain("A", "1"), plain("B", "3"), plain("C", "4")]);
}

#[test]
fn a_build_finds_codebuilds_variables() {
    let source = ProjectSource { buildspec: None, ..s3_source("in/source.zip") };
    let over = StartBuildInput { source_version: Some("v1".to_string()), ..StartBuildInput::default() };
    let (_, order) = try_plan(project(source, no_artifacts()), over).unwrap();
    let find = |name: &str| order.plan.service_variables.get(name).map(String::as_str);
    for (name, value) in [
        ("AWS_REGION", "eu-west-1"),
        ("AWS_DEFAULT_REGION", "eu-west-1"),
        ("CODEBUILD_BUILD_ID", &format!("demo:{UUID}")),
        ("CODEBUILD_BUILD_NUMBER", "7"),
        ("CODEBUILD_BUILD_IMAGE", "aws/codebuild/standard:7.0"),
        ("CODEBUILD_INITIATOR", "alice"),
        ("CODEBUILD_KMS_KEY_ID", "arn:aws:kms:eu-west-1:123456789012:alias/aws/s3"),
        ("CODEBUILD_LOG_PATH", UUID),
        ("CODEBUILD_PROJECT_ARN", "arn:aws:codebuild:eu-west-1:123456789012:project/demo"),
        ("CODEBUILD_SOURCE_REPO_URL", "s3://in/source.zip"),
        ("CODEBUILD_SOURCE_VERSION", "v1"),
        ("CODEBUILD_START_TIME", "1585485986820"),
        ("HOME", "/root"),
    ] {
        assert_eq!(find(name), Some(value), "{name}");
    }
    assert_eq!(find("AWS_ACCOUNT_ID"), None, "EN-068");
}

// AP-071
#[test]
fn a_builds_source_version_is_its_own_or_else_the_projects() {
    let version = |of_project: &str, of_build: Option<&str>| {
        let project = Project { source_version: Some(of_project.to_string()), ..simple() };
        let over =
            StartBuildInput { source_version: of_build.map(str::to_string), ..StartBuildInput::default() };
        try_plan(project, over).unwrap().0.source_version
    };
    assert_eq!(version("main", Some("v1")).as_deref(), Some("v1"));
    assert_eq!(version("main", None).as_deref(), Some("main"));
    assert_eq!(version("main", Some("")).as_deref(), Some("main"));
    assert_eq!(try_plan(simple(), StartBuildInput::default()).unwrap().0.source_version, None);
}

// AP-072
#[test]
fn an_explicit_false_overrides_the_project() {
    let mut privileged = simple();
    privileged.environment.as_mut().unwrap().privileged_mode = Some(true);
    let over = StartBuildInput { privileged_mode_override: Some(false), ..StartBuildInput::default() };
    let (build, _) = try_plan(privileged.clone(), over).unwrap();
    assert_eq!(build.environment.unwrap().privileged_mode, Some(false));
    assert!(refusal(privileged, StartBuildInput::default()).contains("privilegedMode"));
}

// EN-090
#[test]
fn a_build_is_privileged_only_where_the_operator_allows_it() {
    let mut privileged = simple();
    privileged.environment.as_mut().unwrap().privileged_mode = Some(true);
    assert!(refusal(privileged.clone(), StartBuildInput::default()).contains("privilegedMode"));
    let allowed = Config { privileged: true, ..config() };
    // EN-026, EN-027 only CodeBuild's own images have an entry point that counts.
    for (project, image, expect) in [
        (&privileged, "host", (true, false)),
        (&privileged, "registry.example/docker:1", (true, false)),
        (&privileged, "aws/codebuild/standard:7.0", (true, true)),
        (&simple(), "aws/codebuild/standard:7.0", (false, false)),
    ] {
        let mut project = project.clone();
        project.environment.as_mut().unwrap().image = Some(image.to_string());
        let (_, order) = try_plan_with(project, StartBuildInput::default(), &allowed).unwrap();
        let environment = order.plan.environment;
        assert_eq!((environment.privileged, environment.starts_docker), expect, "{image}");
    }
}

// BS-002, BS-003
#[test]
fn a_buildspec_is_a_path_or_text_or_an_object() {
    let kind = |text: &str| {
        let source = ProjectSource { buildspec: Some(text.to_string()), ..s3_source("in/source.zip") };
        try_plan(project(source, no_artifacts()), StartBuildInput::default())
            .map(|(_, order)| order.plan.buildspec)
    };
    assert!(matches!(kind("").unwrap(), Buildspec::File(path) if path == "buildspec.yml"));
    assert!(matches!(kind("ci/build.yaml").unwrap(), Buildspec::File(path) if path == "ci/build.yaml"));
    assert!(matches!(kind("version: 0.2").unwrap(), Buildspec::Inline(_)));
    assert!(matches!(kind("{\"version\": 0.2}").unwrap(), Buildspec::Inline(_)));
    assert!(matches!(kind(INLINE).unwrap(), Buildspec::Inline(text) if text == INLINE));
    let object = kind("arn:aws:s3:::specs/demo.yml").unwrap();
    assert!(
        matches!(object, Buildspec::Object { bucket, key, .. } if bucket == "specs" && key == "demo.yml")
    );
    assert!(kind("arn:aws:s3:::specs").is_err());
}

// BS-001, BS-002, AP-070
#[test]
fn an_empty_buildspec_override_means_the_default_file() {
    let source = ProjectSource { buildspec: Some(INLINE.to_string()), ..s3_source("in/source.zip") };
    let over = StartBuildInput { buildspec_override: Some(String::new()), ..StartBuildInput::default() };
    let (_, order) = try_plan(project(source, no_artifacts()), over).unwrap();
    assert!(matches!(order.plan.buildspec, Buildspec::File(path) if path == "buildspec.yml"));
}

// SA-004
#[test]
fn an_s3_source_is_an_archive_or_a_folder() {
    let source = |location: &str| {
        let project = project(s3_source(location), no_artifacts());
        try_plan(project, StartBuildInput::default()).map(|(_, order)| order.plan.source)
    };
    let zip = source("in/path/source.zip").unwrap();
    assert!(
        matches!(zip, Source::ObjectZip { bucket, key, .. } if bucket == "in" && key == "path/source.zip")
    );
    let arn = source("arn:aws:s3:::in/source.zip").unwrap();
    assert!(matches!(arn, Source::ObjectZip { bucket, key, .. } if bucket == "in" && key == "source.zip"));
    let folder = source("in/path/").unwrap();
    assert!(matches!(folder, Source::ObjectFolder { prefix, .. } if prefix == "path/"));
    let bucket = source("in/").unwrap();
    assert!(matches!(bucket, Source::ObjectFolder { prefix, .. } if prefix.is_empty()));
    let bucket = source("arn:aws:s3:::in/").unwrap();
    assert!(matches!(bucket, Source::ObjectFolder { prefix, .. } if prefix.is_empty()));
}

// SA-001, SA-020, SA-021, SA-022, SA-026, SA-041
#[test]
fn a_git_source_is_fetched_as_the_project_and_its_build_say() {
    let git = |location: &str, depth| ProjectSource {
        r#type: Some(SourceType::Gitlab),
        location: Some(location.to_string()),
        git_clone_depth: depth,
        git_submodules_config: Some(GitSubmodulesConfig { fetch_submodules: Some(true) }),
        ..ProjectSource::default()
    };
    let version = |identifier: &str, version: &str| ProjectSourceVersion {
        source_identifier: Some(identifier.to_string()),
        source_version: Some(version.to_string()),
    };
    let two =
        ProjectSource { source_identifier: Some("two".to_string()), ..git("https://gitlab.com/a/two", None) };
    let project = Project {
        source_version: Some("of-the-project".to_string()),
        secondary_sources: Some(vec![two]),
        secondary_source_versions: Some(vec![version("two", "v1")]),
        ..project(git("https://gitlab.com/a/b", Some(25)), no_artifacts())
    };
    let over = StartBuildInput {
        source_version: Some("of-the-build".to_string()),
        insecure_ssl_override: Some(true),
        git_clone_depth_override: Some(26),
        ..StartBuildInput::default()
    };
    for (over, expect, depth) in
        [(StartBuildInput::default(), "of-the-project", Some(25)), (over, "of-the-build", None)]
    {
        let insecure = over.insecure_ssl_override == Some(true);
        let (_, order) = try_plan(project.clone(), over).unwrap();
        let Source::Git(git) = &order.plan.source else { panic!("{:?}", order.plan.source) };
        assert_eq!((git.version.as_deref(), git.depth), (Some(expect), depth));
        assert_eq!((git.submodules, git.insecure_ssl), (true, insecure));
        let Source::Git(two) = &order.plan.secondary_sources[0].source else { panic!("not git") };
        assert_eq!((two.version.as_deref(), two.location.as_str()), (Some("v1"), "https://gitlab.com/a/two"));
        let variables = &order.plan.service_variables;
        assert_eq!(variables["CODEBUILD_SOURCE_REPO_URL"], "https://gitlab.com/a/b");
        assert_eq!(variables["CODEBUILD_SOURCE_VERSION"], expect);
        assert_eq!(variables["CODEBUILD_SOURCE_REPO_URL_two"], "https://gitlab.com/a/two");
        assert_eq!(variables["CODEBUILD_SOURCE_VERSION_two"], "v1");
    }
}

#[test]
fn artifacts_are_expected_where_the_layout_says() {
    let target = |path: &str, namespace: bool, name: &str| ArtifactTarget {
        identifier: None,
        bucket: "out".to_string(),
        path: path.to_string(),
        name: name.to_string(),
        namespace_build_id: namespace,
        zip: true,
        override_name: false,
        build_arn: String::new(),
        encryption_key: None,
    };
    for (path, namespace, name, expect) in [
        ("MyArtifacts", false, "MyArtifact.zip", "MyArtifacts/MyArtifact.zip"),
        ("MyArtifacts", true, "MyArtifact.zip", "MyArtifacts/u/MyArtifact.zip"),
        ("", false, "N", "N"),
        ("", true, "N", "u/N"),
        ("", false, "/", ""),
        ("MyArtifacts", true, "/", "MyArtifacts/u"),
    ] {
        assert_eq!(expected_key(&target(path, namespace, name), "u"), expect);
    }
}

#[test]
fn s3_artifacts_become_a_target_and_a_location() {
    let artifacts = ProjectArtifacts {
        r#type: Some(ArtifactsType::S3),
        location: Some("out".to_string()),
        path: Some("builds".to_string()),
        packaging: Some(ArtifactPackaging::Zip),
        ..ProjectArtifacts::default()
    };
    let (build, order) = try_plan(project(no_source(), artifacts), StartBuildInput::default()).unwrap();
    let Artifacts::Objects { primary: Some(target), secondary, .. } = order.plan.artifacts else {
        panic!("no target");
    };
    assert_eq!((target.bucket.as_str(), target.name.as_str(), target.zip), ("out", "demo", true));
    assert!(secondary.is_empty());
    assert_eq!(build.artifacts.unwrap().location.as_deref(), Some("arn:aws:s3:::out/builds/demo"));
}

// AP-054, SA-061, SA-064
#[test]
fn a_build_tells_of_its_artifacts_what_was_ordered() {
    use serde_json::json;
    let ordered = |identifier: &str, location: &str| {
        json!({
            "type": "S3", "location": location, "artifactIdentifier": identifier, "overrideArtifactName": true,
            "encryptionDisabled": true, "bucketOwnerAccess": "FULL", "name": "n", "packaging": "ZIP"
        })
    };
    let shown = |identifier: &str, location: &str| {
        json!({
            "location": location, "artifactIdentifier": identifier, "overrideArtifactName": true,
            "encryptionDisabled": true, "bucketOwnerAccess": "FULL"
        })
    };
    let over = json!({
        "artifactsOverride": ordered("first", "out"),
        "secondaryArtifactsOverride": [
            ordered("second", "arn:aws:s3:::other"),
            {"type": "NO_ARTIFACTS", "artifactIdentifier": "none"},
            ordered("third", "third"),
        ]
    });
    let (build, _) = try_plan(simple(), serde_json::from_value(over).unwrap()).unwrap();
    let build = serde_json::to_value(build).unwrap();
    assert_eq!(build["artifacts"], shown("first", "arn:aws:s3:::out/n"));
    let none = json!({"location": "", "artifactIdentifier": "none"});
    let secondary =
        json!([shown("second", "arn:aws:s3:::other/n"), none, shown("third", "arn:aws:s3:::third/n")]);
    assert_eq!(build["secondaryArtifacts"], secondary);
}

// SA-111, SA-112
#[test]
fn a_configured_stream_name_is_a_prefix() {
    let over = StartBuildInput {
        logs_config_override: Some(LogsConfig {
            cloud_watch_logs: Some(CloudWatchLogsConfig {
                status: Some(LogsConfigStatusType::Enabled),
                group_name: Some("ci".to_string()),
                stream_name: Some("nightly".to_string()),
            }),
            s3_logs: None,
        }),
        ..StartBuildInput::default()
    };
    let (_, order) = try_plan(simple(), over).unwrap();
    let stream = order.stream.unwrap();
    assert_eq!((stream.group.as_str(), stream.name), ("ci", format!("nightly/{UUID}")));
    assert_eq!(order.plan.service_variables["CODEBUILD_LOG_PATH"], format!("nightly/{UUID}"));
    let (_, order) = try_plan(simple(), StartBuildInput::default()).unwrap();
    assert_eq!(order.stream.unwrap().group, "/aws/codebuild/demo");
}

#[test]
fn curated_images_are_the_host_and_others_are_left_to_provisioning() {
    let (_, order) = try_plan(simple(), StartBuildInput::default()).unwrap();
    assert!(matches!(order.plan.environment.rootfs, Rootfs::Host) && order.image.is_none());
    let over =
        StartBuildInput { image_override: Some("debian:12".to_string()), ..StartBuildInput::default() };
    let (_, order) = try_plan(simple(), over).unwrap();
    assert_eq!(order.image.as_deref(), Some("debian:12"));
}

fn sized(compute: ComputeType, kind: EnvironmentType, config: &Config) -> agent::plan::Limits {
    let over = StartBuildInput {
        compute_type_override: Some(compute),
        environment_type_override: Some(kind),
        ..StartBuildInput::default()
    };
    try_plan_with(simple(), over, config).unwrap().1.plan.environment.limits
}

// EN-010, EN-011, EN-015
#[test]
fn the_size_is_the_compute_types() {
    let mut config = config();
    config.environment_types = vec![EnvironmentType::LinuxContainer, EnvironmentType::ArmContainer];
    let linux = |compute| sized(compute, EnvironmentType::LinuxContainer, &config);
    let arm = |compute| sized(compute, EnvironmentType::ArmContainer, &config);
    for (limits, gib, processors) in [
        (linux(ComputeType::BuildGeneral1Small), 4, 2),
        (linux(ComputeType::BuildGeneral1Medium), 8, 4),
        (linux(ComputeType::BuildGeneral1Large), 16, 8),
        (linux(ComputeType::BuildGeneral1Xlarge), 72, 36),
        (linux(ComputeType::BuildGeneral1_2xlarge), 144, 72),
        (arm(ComputeType::BuildGeneral1Large), 16, 8),
        (arm(ComputeType::BuildGeneral1Xlarge), 64, 32),
        (arm(ComputeType::BuildGeneral1_2xlarge), 96, 48),
    ] {
        assert_eq!((limits.memory_bytes, limits.cpu_millis), (Some(gib << 30), Some(processors * 1000)));
        assert_eq!((limits.pids, limits.disk_bytes), (Some(4096), None));
    }
}

// EN-010, EN-016
#[test]
fn the_operator_may_say_what_a_compute_type_is() {
    let mut config = config();
    let size = Size { memory_bytes: Some(1 << 30), disk_bytes: Some(64_000_000_000), ..Size::default() };
    config.sizes.insert("BUILD_GENERAL1_SMALL".into(), size);
    let limits = sized(ComputeType::BuildGeneral1Small, EnvironmentType::LinuxContainer, &config);
    assert_eq!((limits.memory_bytes, limits.cpu_millis), (Some(1 << 30), Some(2000)));
    assert_eq!(limits.disk_bytes, Some(64_000_000_000));
    let limits = sized(ComputeType::BuildGeneral1Medium, EnvironmentType::LinuxContainer, &config);
    assert_eq!((limits.memory_bytes, limits.disk_bytes), (Some(8 << 30), None));
}

#[test]
fn a_build_started_again_from_its_settings_is_the_same_build() {
    let over = StartBuildInput {
        environment_variables_override: Some(vec![plain("B", "3")]),
        timeout_in_minutes_override: Some(5),
        ..StartBuildInput::default()
    };
    let (first, order) = try_plan(simple(), over).unwrap();
    let (second, _) = try_plan(order.settings, StartBuildInput::default()).unwrap();
    assert_eq!(first, second);
}

// BS-005, SA-008
#[test]
fn what_cannot_run_yet_is_refused_by_name() {
    let none = StartBuildInput::default;
    for (over, expect) in [
        (
            StartBuildInput { source_type_override: Some(SourceType::Codepipeline), ..none() },
            "source.type CODEPIPELINE is not available in this version",
        ),
        (
            StartBuildInput { privileged_mode_override: Some(true), ..none() },
            "environment.privilegedMode true",
        ),
        (
            StartBuildInput { environment_type_override: Some(EnvironmentType::MacArm), ..none() },
            "environment.type MAC_ARM",
        ),
        (
            StartBuildInput { compute_type_override: Some(ComputeType::BuildLambda1gb), ..none() },
            "environment.computeType BUILD_LAMBDA_1GB",
        ),
        (
            StartBuildInput {
                cache_override: Some(ProjectCache {
                    r#type: Some(CacheType::S3),
                    location: Some("/prefix".to_string()),
                    ..ProjectCache::default()
                }),
                ..none()
            },
            "Invalid cache: location must be a valid S3 bucket",
        ),
        (
            StartBuildInput {
                logs_config_override: Some(LogsConfig {
                    cloud_watch_logs: None,
                    s3_logs: Some(S3LogsConfig {
                        status: Some(LogsConfigStatusType::Enabled),
                        ..S3LogsConfig::default()
                    }),
                }),
                ..none()
            },
            "location is required for logsConfig.s3Logs",
        ),
        (
            StartBuildInput {
                secondary_sources_override: Some(vec![ProjectSource {
                    source_identifier: Some("two".to_string()),
                    r#type: Some(SourceType::Codepipeline),
                    ..ProjectSource::default()
                }]),
                ..none()
            },
            "source.type CODEPIPELINE",
        ),
        (
            StartBuildInput { buildspec_override: Some("buildspec.yml".to_string()), ..none() },
            "source.buildspec must be inline",
        ),
    ] {
        let message = refusal(simple(), over);
        assert!(message.contains(expect), "{message}");
    }
}

// SA-090, SA-091, SA-093, SA-096, SA-097, SA-099
#[test]
fn a_cache_is_where_and_whose_the_project_says() {
    use agent::cache::Owner;
    use agent::plan::Cache;
    use api::codebuild::CacheMode;
    let planned = |cache: ProjectCache, compute: ComputeType| {
        let over = StartBuildInput {
            cache_override: Some(cache),
            compute_type_override: Some(compute),
            ..StartBuildInput::default()
        };
        try_plan(simple(), over).unwrap().1.plan.cache
    };
    let s3 = |location: &str, namespace: Option<&str>| ProjectCache {
        r#type: Some(CacheType::S3),
        location: Some(location.to_string()),
        cache_namespace: namespace.map(str::to_string),
        ..ProjectCache::default()
    };
    let small = || ComputeType::BuildGeneral1Small;
    for (location, expect) in [
        ("bucket", ("bucket", "")),
        ("bucket/some/prefix", ("bucket", "some/prefix")),
        ("arn:aws:s3:::bucket/prefix/", ("bucket", "prefix")),
    ] {
        let Cache::Objects { bucket, prefix, scope, .. } = planned(s3(location, None), small()) else {
            panic!("{location}")
        };
        assert_eq!((bucket.as_str(), prefix.as_str()), expect);
        assert_eq!((scope.owner, scope.generation), (Owner::Project("demo".to_string()), 3));
    }
    let Cache::Objects { scope, .. } = planned(s3("bucket", Some("shared")), small()) else { panic!() };
    assert_eq!(scope.owner, Owner::Namespace("shared".to_string()));
    let local = |modes: &[CacheMode]| ProjectCache {
        r#type: Some(CacheType::Local),
        // It says nothing for a local cache.
        location: Some("ignored".to_string()),
        modes: Some(modes.to_vec()),
        ..ProjectCache::default()
    };
    let kept = |modes: &[CacheMode], compute: ComputeType| {
        let project = Project { cache: Some(local(modes)), ..simple() };
        let over = StartBuildInput { compute_type_override: Some(compute), ..StartBuildInput::default() };
        try_plan(project, over).unwrap().1.plan.fetching.kept
    };
    assert!(kept(&[CacheMode::LocalSourceCache], small()).is_some());
    assert!(kept(&[CacheMode::LocalSourceCache], ComputeType::BuildGeneral1_2xlarge).is_none());
    assert!(kept(&[CacheMode::LocalCustomCache], small()).is_none());
    let custom = || local(&[CacheMode::LocalSourceCache, CacheMode::LocalCustomCache]);
    assert!(matches!(planned(custom(), small()), Cache::Layers { .. }));
    assert_eq!(planned(custom(), ComputeType::BuildGeneral1_2xlarge), Cache::None);
    assert_eq!(planned(local(&[CacheMode::LocalSourceCache]), small()), Cache::None);
    assert_eq!(planned(local(&[CacheMode::LocalDockerLayerCache]), small()), Cache::None);
    let none = ProjectCache { r#type: Some(CacheType::NoCache), ..ProjectCache::default() };
    assert_eq!(planned(none, small()), Cache::None);
}

/// The refusal of a build that is started with this JSON.
fn refused_start(over: serde_json::Value) -> String {
    refusal(simple(), serde_json::from_value(over).unwrap())
}

// AP-028, AP-037, AP-039, AP-040, SA-002, SA-003, SA-040, SA-060, SA-063
#[test]
fn overrides_keep_the_rules_of_projects_and_are_refused_by_their_names() {
    use serde_json::json;
    let source = |identifier: &str| json!({"type": "S3", "location": "b/k", "sourceIdentifier": identifier});
    let output = |identifier: &str| json!({"type": "S3", "location": "b", "artifactIdentifier": identifier});
    let version = |identifier: &str| json!({"sourceIdentifier": identifier, "sourceVersion": "v"});
    for (member, value, expect) in [
        (
            "secondarySourcesOverride",
            json!([{"type": "S3", "location": "b/k"}]),
            "need their sourceIdentifier",
        ),
        ("secondarySourcesOverride", json!([source("a"), source("a")]), "sourceIdentifier a twice"),
        ("secondarySourcesOverride", json!([source("../../a b")]), "identifier must contain only"),
        (
            "secondarySourcesOverride",
            json!([{"type": "S3", "sourceIdentifier": "a"}]),
            "location is required",
        ),
        (
            "secondaryArtifactsOverride",
            json!([{"type": "S3", "location": "b"}]),
            "need their artifactIdentifier",
        ),
        ("secondaryArtifactsOverride", json!([output("a"), output("a")]), "artifactIdentifier a twice"),
        ("secondaryArtifactsOverride", json!([output("x/../y z")]), "identifier must contain only"),
        (
            "secondaryArtifactsOverride",
            json!([{"type": "CODEPIPELINE", "artifactIdentifier": "a"}]),
            "cannot be secondary artifacts",
        ),
        ("secondarySourcesVersionOverride", json!([version("a")]), "no secondary source has it"),
        ("artifactsOverride", json!({"type": "S3"}), "location is required"),
        ("artifactsOverride", output("a b"), "identifier must contain only"),
        (
            "artifactsOverride",
            json!({"type": "NO_ARTIFACTS", "encryptionDisabled": true}),
            "encryptionDisabled",
        ),
        ("artifactsOverride", json!({"type": "S3", "location": "b/prefix"}), "without a slash"),
        (
            "secondaryArtifactsOverride",
            json!([{"type": "S3", "location": "arn:aws:s3:::b/prefix", "artifactIdentifier": "a"}]),
            "without a slash",
        ),
        ("logsConfigOverride", json!({"s3Logs": {"status": "ENABLED"}}), "location is required"),
        ("cacheOverride", json!({"type": "S3"}), "location is required"),
        ("serviceRoleOverride", json!("arn:aws:iam::999999999999:role/r"), "does not match caller's account"),
        ("autoRetryLimitOverride", json!(101), "not between 0 and 100"),
        ("sourceTypeOverride", json!("S3"), "location is required"),
        ("reportBuildStatusOverride", json!(true), "reportBuildStatus is not supported"),
        ("imagePullCredentialsTypeOverride", json!("SERVICE_ROLE"), "curated image"),
    ] {
        let message = refused_start(json!({ member: value }));
        assert!(message.starts_with(&format!("{member}: ")) && message.contains(expect), "{message}");
    }
    let of = |member: &str, settings: serde_json::Value, value: serde_json::Value| {
        let mut project = serde_json::to_value(simple()).unwrap();
        for (name, value) in settings.as_object().unwrap() {
            project[name] = value.clone();
        }
        let project = serde_json::from_value(project).unwrap();
        let message = refusal(project, serde_json::from_value(json!({ member: value })).unwrap());
        assert!(message.starts_with(&format!("{member}: ")), "{message}");
    };
    let environment = |image: &str| {
        json!({"type": "LINUX_CONTAINER", "image": image, "computeType": "CUSTOM_INSTANCE_TYPE",
            "computeConfiguration": {"instanceType": "m7"}, "imagePullCredentialsType": "SERVICE_ROLE"})
    };
    let own = json!({ "environment": environment("registry.example/own:1") });
    let credential = json!({"credential": "c", "credentialProvider": "SECRETS_MANAGER"});
    of("sourceLocationOverride", json!({"source": {"type": "S3", "location": "b/k"}}), json!("justbucket"));
    of("computeTypeOverride", own.clone(), json!("BUILD_GENERAL1_SMALL"));
    of("imageOverride", own, json!("aws/codebuild/standard:7.0"));
    of("registryCredentialOverride", json!({}), credential);
    let both = json!({"sourceTypeOverride": "CODECOMMIT", "sourceLocationOverride": "https://example.com"});
    let message = refused_start(both);
    assert!(
        message.starts_with("sourceTypeOverride, sourceLocationOverride: Invalid project source"),
        "{message}"
    );
}

// AP-070, SA-041, SA-042
#[test]
fn a_build_has_the_versions_of_the_sources_that_it_has() {
    use serde_json::json;
    let source = |name: &str| json!({"type": "S3", "location": "b/k.zip", "sourceIdentifier": name});
    let version = |name: &str, version: &str| json!({"sourceIdentifier": name, "sourceVersion": version});
    let project = Project {
        secondary_sources: Some(serde_json::from_value(json!([source("one"), source("two")])).unwrap()),
        secondary_source_versions: Some(
            serde_json::from_value(json!([version("one", "1"), version("two", "2")])).unwrap(),
        ),
        ..simple()
    };
    let versions = "secondarySourcesVersionOverride";
    for (over, expect) in [
        (json!({}), json!([version("one", "1"), version("two", "2")])),
        (json!({ versions: [] }), json!([])),
        (json!({ versions: [version("two", "3")] }), json!([version("two", "3")])),
        (json!({ "secondarySourcesOverride": [] }), json!([])),
        (
            json!({ "secondarySourcesOverride": [source("two"), source("three")] }),
            json!([version("two", "2")]),
        ),
        (
            json!({ "secondarySourcesOverride": [source("three")], versions: [version("three", "3")] }),
            json!([version("three", "3")]),
        ),
    ] {
        let (build, order) =
            try_plan(project.clone(), serde_json::from_value(over.clone()).unwrap()).unwrap();
        assert_eq!(serde_json::to_value(build.secondary_source_versions).unwrap(), expect, "{over}");
        let found = order.plan.service_variables.iter();
        let found =
            found.filter_map(|(name, value)| Some((name.strip_prefix("CODEBUILD_SOURCE_VERSION_")?, value)));
        let found: Vec<_> = found.map(|(name, value)| version(name, value)).collect();
        assert_eq!(json!(found), expect, "{over}");
    }
}

/// Members of StartBuild that change the build itself and not what it has of its project; each has tests of its own.
const NO_SETTINGS: [&str; 3] = ["debugSessionEnabled", "idempotencyToken", "projectName"];

/// For each override what it says, and where in the project that is.
fn every_override() -> Vec<(&'static str, serde_json::Value, &'static str)> {
    use serde_json::json;
    vec![
        ("artifactsOverride", json!(s3_output("over", "first")), "/artifacts"),
        ("autoRetryLimitOverride", json!(9), "/autoRetryLimit"),
        ("buildStatusConfigOverride", json!({"context": "over"}), "/source/buildStatusConfig"),
        ("buildspecOverride", json!("over.yml"), "/source/buildspec"),
        ("cacheOverride", json!({"type": "S3", "location": "over"}), "/cache"),
        ("certificateOverride", json!("over/c.pem"), "/environment/certificate"),
        ("computeTypeOverride", json!("BUILD_GENERAL1_LARGE"), "/environment/computeType"),
        ("encryptionKeyOverride", json!("over"), "/encryptionKey"),
        ("environmentTypeOverride", json!("ARM_CONTAINER"), "/environment/type"),
        (
            "environmentVariablesOverride",
            json!([{"name": "A", "value": "over", "type": "PLAINTEXT"}]),
            "/environment/environmentVariables",
        ),
        ("fleetOverride", json!({"fleetArn": "arn:over"}), "/environment/fleet"),
        ("gitCloneDepthOverride", json!(9), "/source/gitCloneDepth"),
        ("gitSubmodulesConfigOverride", json!({"fetchSubmodules": false}), "/source/gitSubmodulesConfig"),
        ("hostKernelOverride", json!("LINUX_KERNEL_6"), "/environment/hostKernel"),
        ("imageOverride", json!("registry.example/over:1"), "/environment/image"),
        ("imagePullCredentialsTypeOverride", json!("CODEBUILD"), "/environment/imagePullCredentialsType"),
        ("insecureSslOverride", json!(false), "/source/insecureSsl"),
        (
            "logsConfigOverride",
            json!({"cloudWatchLogs": {"status": "DISABLED"}, "s3Logs": {"status": "ENABLED", "location": "over"}}),
            "/logsConfig",
        ),
        ("privilegedModeOverride", json!(false), "/environment/privilegedMode"),
        ("queuedTimeoutInMinutesOverride", json!(99), "/queuedTimeoutInMinutes"),
        (
            "registryCredentialOverride",
            json!({"credential": "over", "credentialProvider": "SECRETS_MANAGER"}),
            "/environment/registryCredential",
        ),
        ("reportBuildStatusOverride", json!(false), "/source/reportBuildStatus"),
        ("secondaryArtifactsOverride", json!([s3_output("over", "one")]), "/secondaryArtifacts"),
        ("secondarySourcesOverride", json!([git("over", "one")]), "/secondarySources"),
        (
            "secondarySourcesVersionOverride",
            json!([{"sourceIdentifier": "one", "sourceVersion": "over"}]),
            "/secondarySourceVersions",
        ),
        ("serviceRoleOverride", json!("arn:aws:iam::123456789012:role/over"), "/serviceRole"),
        ("sourceAuthOverride", json!({"type": "OAUTH", "resource": "over"}), "/source/auth"),
        ("sourceLocationOverride", json!("https://git.example/over"), "/source/location"),
        ("sourceTypeOverride", json!("GITLAB"), "/source/type"),
        ("sourceVersion", json!("over"), "/sourceVersion"),
        ("timeoutInMinutesOverride", json!(99), "/timeoutInMinutes"),
    ]
}

fn s3_output(bucket: &str, identifier: &str) -> serde_json::Value {
    serde_json::json!({
        "type": "S3", "location": bucket, "artifactIdentifier": identifier, "name": bucket, "namespaceType": "NONE",
        "packaging": "NONE", "encryptionDisabled": false
    })
}

fn git(name: &str, identifier: &str) -> serde_json::Value {
    serde_json::json!({
        "type": "GITHUB_ENTERPRISE", "location": format!("https://git.example/{name}"),
        "sourceIdentifier": identifier, "reportBuildStatus": true, "insecureSsl": true
    })
}

/// A project that says everything, and all of it otherwise than [`every_override`].
fn outspoken() -> serde_json::Value {
    let mut source = git("project", "primary");
    source["gitCloneDepth"] = 1.into();
    source["gitSubmodulesConfig"] = serde_json::json!({"fetchSubmodules": true});
    source["buildspec"] = "project.yml".into();
    source["auth"] = serde_json::json!({"type": "OAUTH", "resource": "project"});
    source["buildStatusConfig"] = serde_json::json!({"context": "project"});
    serde_json::json!({
        "name": "demo", "source": source, "secondarySources": [git("project", "one")], "sourceVersion": "project",
        "secondarySourceVersions": [{"sourceIdentifier": "one", "sourceVersion": "project"}],
        "artifacts": s3_output("project", "first"), "secondaryArtifacts": [s3_output("project", "one")],
        "cache": {"type": "S3", "location": "project"},
        "environment": {
            "type": "LINUX_CONTAINER", "image": "registry.example/project:1", "computeType": "BUILD_GENERAL1_SMALL",
            "fleet": {"fleetArn": "arn:project"}, "certificate": "project/c.pem", "privilegedMode": true,
            "environmentVariables": [{"name": "A", "value": "project", "type": "PLAINTEXT"}],
            "imagePullCredentialsType": "SERVICE_ROLE", "hostKernel": "LINUX_KERNEL_4"
        },
        "serviceRole": "arn:aws:iam::123456789012:role/project", "timeoutInMinutes": 10,
        "queuedTimeoutInMinutes": 10, "encryptionKey": "project", "autoRetryLimit": 1,
        "logsConfig": {"cloudWatchLogs": {"status": "ENABLED"}, "s3Logs": {"status": "DISABLED"}}
    })
}

// AP-070
#[test]
fn each_override_is_taken_and_changes_nothing_else() {
    let model: serde_json::Value =
        serde_json::from_str(include_str!("../../../api/models/codebuild.json")).unwrap();
    let members = model["shapes"]["StartBuildInput"]["members"].as_object().unwrap();
    let overrides = every_override();
    let mut told: Vec<&str> = overrides.iter().map(|(member, ..)| *member).chain(NO_SETTINGS).collect();
    told.sort_unstable();
    let mut known: Vec<&str> = members.keys().map(String::as_str).collect();
    known.sort_unstable();
    assert_eq!(told, known, "a member of the model's that is not looked at here");

    let (config, account) = (config(), account());
    let setting = Setting {
        region: &config.region,
        account: &account,
        now_ms: 1000,
        concurrent_builds: 2,
        codecommit: None,
    };
    let applied = |over: serde_json::Value| {
        let project = serde_json::from_value(outspoken()).unwrap();
        let over = serde_json::from_value(over).unwrap();
        serde_json::to_value(overrides::apply(project, over, setting).unwrap()).unwrap()
    };
    assert_eq!(applied(serde_json::json!({})), outspoken());
    for (member, value, place) in overrides {
        let mut expect = outspoken();
        match expect.pointer_mut(place) {
            Some(there) => *there = value.clone(),
            // The project has none, lest the override of who pulls its image contradict them.
            None => expect["environment"]["registryCredential"] = value.clone(),
        }
        assert_ne!(expect, outspoken(), "{member} says what the project says");
        assert_eq!(applied(serde_json::json!({ member: value })), expect, "{member}");
    }
}

//! Projects as they are made and changed.

use api::codebuild::{ComputeType, EnvironmentType};

use super::*;

fn setting() -> (Region, AccountId) {
    ("eu-west-1".parse().unwrap(), "123456789012".parse().unwrap())
}

fn input() -> CreateProjectInput {
    CreateProjectInput {
        name: Some("demo".to_string()),
        source: Some(ProjectSource {
            r#type: Some(SourceType::S3),
            location: Some("in/source.zip".to_string()),
            ..ProjectSource::default()
        }),
        artifacts: Some(ProjectArtifacts {
            r#type: Some(ArtifactsType::S3),
            location: Some("out".to_string()),
            ..ProjectArtifacts::default()
        }),
        environment: Some(ProjectEnvironment {
            r#type: Some(EnvironmentType::LinuxContainer),
            image: Some("aws/codebuild/standard:7.0".to_string()),
            compute_type: Some(ComputeType::BuildGeneral1Small),
            ..ProjectEnvironment::default()
        }),
        service_role: Some("builder".to_string()),
        ..CreateProjectInput::default()
    }
}

fn try_create(input: CreateProjectInput) -> Result<Project> {
    let (region, account) = setting();
    create(input, Setting { region: &region, account: &account, now_ms: 1_500, concurrent_builds: 2 })
}

fn try_update(project: Project, input: UpdateProjectInput) -> Result<Project> {
    let (region, account) = setting();
    let setting = Setting { region: &region, account: &account, now_ms: 9_500, concurrent_builds: 2 };
    update(project, input, setting)
}

fn refusal(input: CreateProjectInput) -> String {
    match try_create(input) {
        Err(Error::InvalidInput(message)) => message,
        other => panic!("not refused: {other:?}"),
    }
}

// LC-060, LC-061, AP-053
#[test]
fn a_new_project_has_every_default_filled_in() {
    let project = try_create(input()).unwrap();
    let shown = serde_json::to_value(&project).unwrap();
    let expect = serde_json::json!({
        "name": "demo",
        "arn": "arn:aws:codebuild:eu-west-1:123456789012:project/demo",
        "source": {
            "type": "S3", "location": "in/source.zip", "reportBuildStatus": false, "insecureSsl": false
        },
        "secondarySources": [],
        "secondarySourceVersions": [],
        "artifacts": {
            "type": "S3", "location": "out", "name": "demo", "namespaceType": "NONE", "packaging": "NONE",
            "encryptionDisabled": false
        },
        "secondaryArtifacts": [],
        "cache": { "type": "NO_CACHE" },
        "environment": {
            "type": "LINUX_CONTAINER", "image": "aws/codebuild/standard:7.0",
            "computeType": "BUILD_GENERAL1_SMALL", "environmentVariables": [], "privilegedMode": false,
            "imagePullCredentialsType": "CODEBUILD"
        },
        "serviceRole": "arn:aws:iam::123456789012:role/builder",
        "timeoutInMinutes": 60,
        "queuedTimeoutInMinutes": 480,
        "encryptionKey": "arn:aws:kms:eu-west-1:123456789012:alias/aws/s3",
        "tags": [],
        "created": 1.5,
        "lastModified": 1.5,
        "badge": { "badgeEnabled": false },
        "logsConfig": {
            "cloudWatchLogs": { "status": "ENABLED" },
            "s3Logs": { "status": "DISABLED", "encryptionDisabled": false }
        },
        "projectVisibility": "PRIVATE"
    });
    assert_eq!(shown, expect);
}

// AP-061
#[test]
fn an_update_keeps_what_was_not_sent_and_replaces_what_was() {
    let project = try_create(input()).unwrap();
    let changed = UpdateProjectInput {
        name: Some("demo".to_string()),
        timeout_in_minutes: Some(30),
        environment: Some(ProjectEnvironment {
            image: Some("debian:12".to_string()),
            ..input().environment.unwrap()
        }),
        ..UpdateProjectInput::default()
    };
    let updated = try_update(project.clone(), changed).unwrap();
    assert_eq!(updated.timeout_in_minutes, Some(30));
    assert_eq!(updated.environment.unwrap().image.as_deref(), Some("debian:12"));
    assert_eq!((updated.source, updated.created), (project.source, project.created));
    assert_eq!(updated.last_modified, Some(Timestamp::from_millis(9_500)));
}

#[test]
fn an_update_with_nothing_to_change_changes_the_time_only() {
    let project = try_create(input()).unwrap();
    let updated = try_update(project.clone(), UpdateProjectInput::default()).unwrap();
    let expect = Project { last_modified: updated.last_modified, ..project };
    assert_eq!(updated, expect);
}

// LC-066, AP-041
#[test]
fn minus_one_removes_the_concurrency_limit() {
    let project = try_create(CreateProjectInput { concurrent_build_limit: Some(2), ..input() }).unwrap();
    assert_eq!(project.concurrent_build_limit, Some(2));
    let input = UpdateProjectInput { concurrent_build_limit: Some(-1), ..UpdateProjectInput::default() };
    assert_eq!(try_update(project, input).unwrap().concurrent_build_limit, None);
}

// AP-026, AP-038, AP-039, AP-041, SA-063
#[test]
fn what_breaks_the_rules_is_refused_by_name() {
    let source = |change: fn(&mut ProjectSource)| {
        let mut source = input().source.unwrap();
        change(&mut source);
        CreateProjectInput { source: Some(source), ..input() }
    };
    let artifacts =
        |artifacts: ProjectArtifacts| CreateProjectInput { artifacts: Some(artifacts), ..input() };
    let tags = |keys: &[&str]| {
        let tags = keys.iter().map(|key| Tag { key: Some(key.to_string()), ..Tag::default() }).collect();
        CreateProjectInput { tags: Some(tags), ..input() }
    };
    for (input, expect) in [
        (source(|source| source.location = None), "Project source location is required"),
        (source(|source| source.r#type = Some("SVN".into())), "Invalid type provided: Project source type"),
        (source(|source| source.report_build_status = Some(true)), "reportBuildStatus is not supported"),
        (
            artifacts(ProjectArtifacts {
                r#type: Some(ArtifactsType::NoArtifacts),
                location: Some("out".to_string()),
                ..ProjectArtifacts::default()
            }),
            "artifact type NO_ARTIFACTS should have null location",
        ),
        (
            artifacts(ProjectArtifacts { r#type: Some(ArtifactsType::S3), ..ProjectArtifacts::default() }),
            "location is required for artifact type S3",
        ),
        (
            artifacts(ProjectArtifacts {
                r#type: Some(ArtifactsType::NoArtifacts),
                encryption_disabled: Some(true),
                ..ProjectArtifacts::default()
            }),
            "encryptionDisabled",
        ),
        (tags(&["a", "a"]), "Duplicate tag key: a"),
        (tags(&["aws:x"]), "Invalid tag key"),
        (CreateProjectInput { concurrent_build_limit: Some(3), ..input() }, "the account limit is 2"),
        (
            CreateProjectInput { service_role: Some("arn:aws:s3:::x".to_string()), ..input() },
            "Invalid service role",
        ),
        (CreateProjectInput { environment: None, ..input() }, "environment is required"),
    ] {
        let message = refusal(input);
        assert!(message.contains(expect), "{message}");
    }
}

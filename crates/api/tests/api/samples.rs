//! Requests and answers as real clients and the real service write them.

use api::codebuild::{
    self, Build, BuildPhase, BuildPhaseType, CreateProjectInput, SourceType, StartBuildInput,
    StartBuildOutput, StatusType, TestReportSummary,
};
use api::logs::{self, GetLogEventsResponse, PutLogEventsRequest};
use api::{Timestamp, json, sts};
use serde_json::{Value, json};

#[test]
fn every_operation_of_the_services_is_there() {
    assert_eq!(codebuild::Operation::ALL.len(), 59);
    assert_eq!(logs::Operation::ALL.len(), 15);
    assert_eq!(sts::Operation::ALL.len(), 1);
    for operation in codebuild::Operation::ALL {
        assert_eq!(codebuild::Operation::from_name(operation.name()), Some(*operation));
        assert!(operation.input().name.ends_with("Input") && operation.output().name.ends_with("Output"));
    }
    assert_eq!(codebuild::Operation::from_name("startBuild"), None);
}

#[test]
fn a_target_header_names_service_and_operation() {
    let operation = |header| codebuild::SERVICE.target(header).and_then(codebuild::Operation::from_name);
    assert_eq!(operation("CodeBuild_20161006.StartBuild"), Some(codebuild::Operation::StartBuild));
    assert_eq!(operation("Logs_20140328.GetLogEvents"), None);
    assert_eq!(logs::SERVICE.target("Logs_20140328.GetLogEvents"), Some("GetLogEvents"));
    assert_eq!(operation("CodeBuild_20161006StartBuild"), None);
}

#[test]
fn declared_errors_are_known() {
    assert_eq!(
        codebuild::Operation::StartBuild.errors(),
        ["InvalidInputException", "ResourceNotFoundException", "AccountLimitExceededException"]
    );
}

#[test]
fn a_create_project_request_gets_its_types() {
    let body = br#"{
        "name": "my-project",
        "source": {"type": "GITHUB", "location": "https://github.com/o/r.git", "gitCloneDepth": 1},
        "artifacts": {"type": "S3", "location": "out", "packaging": "ZIP"},
        "environment": {
            "type": "LINUX_CONTAINER", "image": "aws/codebuild/standard:7.0", "computeType": "BUILD_GENERAL1_2XLARGE",
            "environmentVariables": [{"name": "A", "value": "1", "type": "PLAINTEXT"}]
        },
        "serviceRole": "arn:aws:iam::123456789012:role/build",
        "tags": [{"key": "team", "value": "caf\u00e9"}]
    }"#;
    let project: CreateProjectInput = json::decode(json::parse(body, 1 << 20).unwrap()).unwrap();
    assert_eq!(project.source.unwrap().r#type, Some(SourceType::Github));
    let environment = project.environment.unwrap();
    assert_eq!(environment.compute_type, Some(codebuild::ComputeType::BuildGeneral1_2xlarge));
    assert_eq!(environment.environment_variables.unwrap()[0].value.as_deref(), Some("1"));
}

#[test]
fn a_started_build_is_answered_with_numbers_for_times_and_without_what_is_unknown() {
    let start = Timestamp::from_millis(1_472_848_787_882);
    let build = Build {
        id: Some("demo:12345678-a1b2-c3d4-e5f6-0123456789ab".into()),
        start_time: Some(start),
        build_status: Some(StatusType::InProgress),
        current_phase: Some("QUEUED".into()),
        phases: Some(vec![BuildPhase {
            phase_type: Some(BuildPhaseType::Submitted),
            phase_status: Some(StatusType::Succeeded),
            start_time: Some(start),
            duration_in_seconds: Some(0),
            ..BuildPhase::default()
        }]),
        build_complete: Some(false),
        ..Build::default()
    };
    let answer: Value =
        serde_json::from_slice(&json::encode(&StartBuildOutput { build: Some(build) })).unwrap();
    assert_eq!(
        answer,
        json!({"build": {
            "id": "demo:12345678-a1b2-c3d4-e5f6-0123456789ab",
            "startTime": 1472848787.882,
            "buildStatus": "IN_PROGRESS",
            "currentPhase": "QUEUED",
            "phases": [{
                "phaseType": "SUBMITTED", "phaseStatus": "SUCCEEDED", "startTime": 1472848787.882, "durationInSeconds": 0
            }],
            "buildComplete": false
        }})
    );
}

#[test]
fn an_explicit_false_can_be_told_from_nothing() {
    let decode = |request| json::decode::<StartBuildInput>(request).unwrap().privileged_mode_override;
    assert_eq!(decode(json!({"projectName": "demo", "privilegedModeOverride": false})), Some(false));
    assert_eq!(decode(json!({"projectName": "demo"})), None);
}

#[test]
fn requests_that_mean_the_same_have_one_canonical_form() {
    let canonical = |request| codebuild::Operation::StartBuild.canonical_input(request).unwrap();
    let plain = canonical(json!({"projectName": "demo", "idempotencyToken": "t"}));
    assert_eq!(
        canonical(json!({"idempotencyToken": "t", "projectName": "demo", "cacheOverride": null, "x": 1})),
        plain
    );
    assert_ne!(canonical(json!({"projectName": "demo", "idempotencyToken": "u"})), plain);
}

#[test]
fn counts_by_status_are_a_map() {
    let summary: TestReportSummary = serde_json::from_value(
        json!({"total": 2, "statusCounts": {"SUCCEEDED": 2}, "durationInNanoSeconds": 9}),
    )
    .unwrap();
    assert_eq!(summary.status_counts.unwrap()["SUCCEEDED"], 2);
}

#[test]
fn log_events_carry_milliseconds_as_whole_numbers() {
    let request = json!({
        "logGroupName": "/aws/codebuild/demo",
        "logStreamName": "0f1e",
        "logEvents": [{"timestamp": 1_396_035_378_988_i64, "message": "hello\n"}]
    });
    let request: PutLogEventsRequest = json::decode(request).unwrap();
    assert_eq!(request.log_events.unwrap()[0].timestamp, Some(1_396_035_378_988));
    assert_eq!(json::encode(&GetLogEventsResponse::default()), b"{}");
}

#[test]
fn a_secret_goes_over_the_wire_and_not_into_debug_output() {
    let request = json!({"token": "ghp_x", "serverType": "GITHUB", "authType": "PERSONAL_ACCESS_TOKEN"});
    let input: codebuild::ImportSourceCredentialsInput = json::decode(request).unwrap();
    assert!(!format!("{input:?}").contains("ghp_x"));
    assert_eq!(input.token.unwrap().expose(), "ghp_x");
}

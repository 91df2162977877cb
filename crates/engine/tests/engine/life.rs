//! A build's life as its document tells it.

use std::path::Path;

use agent::journal::{Context, Outcome, Phase, UploadedArtifact};
use api::codebuild::*;
use executor::fake::Script;

use crate::user::*;

// LC-010, LC-020, LC-021, LC-023, LC-025, LC-033, LC-040
#[tokio::test]
async fn a_build_goes_through_every_phase_and_leaves_nothing_but_its_record() {
    let tester = Tester::new().await;
    tester.agents.script(|_| Script {
        resolved_version: Some("abc".to_string()),
        exported: [("TAG".to_string(), "v1".to_string())].into(),
        artifacts: vec![UploadedArtifact {
            identifier: None,
            location: "arn:aws:s3:::out/demo".to_string(),
            sha256: Some("aa".to_string()),
            md5: Some("bb".to_string()),
            files: 1,
        }],
        ..Script::default()
    });
    let accepted = tester.start_with(|_| {}).await.unwrap();
    assert_eq!((status(&accepted), accepted.current_phase.as_deref()), ("IN_PROGRESS", Some("QUEUED")));
    assert_eq!((accepted.build_number, accepted.initiator.as_deref()), (Some(1), Some("alice")));
    assert!(accepted.logs.as_ref().unwrap().group_name.is_none());

    let id = accepted.id.unwrap();
    let build = tester.done(&id).await;
    let expect = [
        "SUBMITTED SUCCEEDED",
        "QUEUED SUCCEEDED",
        "PROVISIONING SUCCEEDED",
        "DOWNLOAD_SOURCE SUCCEEDED",
        "INSTALL SUCCEEDED",
        "PRE_BUILD SUCCEEDED",
        "BUILD SUCCEEDED",
        "POST_BUILD SUCCEEDED",
        "UPLOAD_ARTIFACTS SUCCEEDED",
        "FINALIZING SUCCEEDED",
        "COMPLETED -",
    ];
    assert_eq!(phases(&build), expect);
    assert_eq!(status(&build), "SUCCEEDED");
    assert_eq!(context_of(&build, "BUILD"), (String::new(), String::new()));
    let all = build.phases.as_ref().unwrap();
    assert!(all[0].contexts.is_none() && all[1].contexts.is_none());
    assert_eq!(all.last().unwrap().start_time, build.end_time);
    assert_eq!(build.resolved_source_version.as_deref(), Some("abc"));
    let exported = build.exported_environment_variables.unwrap();
    assert_eq!(exported[0].value.as_deref(), Some("v1"));
    let artifacts = build.artifacts.unwrap();
    assert_eq!((artifacts.sha256sum.as_deref(), artifacts.md5sum.as_deref()), (Some("aa"), Some("bb")));
    let logs = build.logs.unwrap();
    assert_eq!(logs.group_name.as_deref(), Some("/aws/codebuild/demo"));
    assert_eq!(logs.stream_name.as_deref(), Some(uuid(&id)));
    assert_eq!(
        logs.cloud_watch_logs_arn.unwrap(),
        format!("arn:aws:logs:eu-west-1:123456789012:log-group:/aws/codebuild/demo:log-stream:{}", uuid(&id))
    );
    tester.removed(&id).await;
}

#[tokio::test]
async fn a_finished_builds_log_stream_can_be_found_and_is_sealed() {
    let tester = Tester::new().await;
    let id = tester.start().await;
    tester.done(&id).await;
    let found = tester.records.get_log_stream(&tester.scope(), "/aws/codebuild/demo", uuid(&id)).await;
    let stream = found.unwrap().unwrap();
    assert_eq!(Path::new(&stream.segment), tester.log(&id));
    assert!(store::logs::SegmentReader::open(&tester.log(&id)).unwrap().sealed().unwrap());
}

#[tokio::test]
async fn a_build_without_cloudwatch_logs_has_no_stream() {
    let tester = Tester::new().await;
    let disabled = LogsConfig {
        cloud_watch_logs: Some(CloudWatchLogsConfig {
            status: Some(LogsConfigStatusType::Disabled),
            ..CloudWatchLogsConfig::default()
        }),
        s3_logs: None,
    };
    let build = tester.start_with(|input| input.logs_config_override = Some(disabled)).await.unwrap();
    let build = tester.done(&build.id.unwrap()).await;
    assert!(build.logs.unwrap().group_name.is_none());
    assert!(tester.records.get_log_group(&tester.scope(), "/aws/codebuild/demo").await.unwrap().is_none());
}

#[tokio::test]
async fn a_failing_command_fails_the_build_and_says_why() {
    let tester = Tester::new().await;
    tester.agents.script(|_| Script {
        fail_in: Some((
            Phase::Build,
            Outcome::Failed,
            Context {
                status_code: "COMMAND_EXECUTION_ERROR".to_string(),
                message: "Error while executing command: false. Reason: exit status 1".to_string(),
            },
        )),
        ..Script::default()
    });
    let build = tester.done(&tester.start().await).await;
    assert_eq!(status(&build), "FAILED");
    assert_eq!(context_of(&build, "BUILD").0, "COMMAND_EXECUTION_ERROR");
    assert_eq!(phases(&build)[6..], ["BUILD FAILED", "FINALIZING SUCCEEDED", "COMPLETED -"]);
}

// LC-026, LC-041
#[tokio::test]
async fn an_agent_that_dies_makes_the_build_a_fault() {
    let tester = Tester::new().await;
    tester.agents.script(|_| Script { die_in: Some(Phase::Install), ..Script::default() });
    let id = tester.start().await;
    let build = tester.done(&id).await;
    assert_eq!(status(&build), "FAULT");
    assert_eq!(phases(&build)[4..], ["INSTALL FAULT", "COMPLETED -"]);
    assert_eq!(context_of(&build, "INSTALL").0, "INTERNAL_SERVICE_ERROR");
    tester.removed(&id).await;
}

#[tokio::test]
async fn a_build_no_agent_takes_is_a_fault_and_frees_its_place() {
    let tester = Tester::with(|config| config.concurrent_builds = 1).await;
    tester.agents.script(|_| Script { refuse: true, ..Script::default() });
    let build = tester.done(&tester.start().await).await;
    assert_eq!(status(&build), "FAULT");
    assert_eq!(phases(&build)[2..], ["PROVISIONING FAULT", "COMPLETED -"]);
    tester.agents.script(|_| Script::default());
    assert_eq!(status(&tester.done(&tester.start().await).await), "SUCCEEDED");
}

//! A build's life as its document tells it.

use std::path::Path;
use std::time::Duration;

use agent::journal::{Context, Outcome, Phase, UploadedArtifact};
use api::codebuild::*;
use executor::fake::Script;

use crate::user::*;

// LC-010, LC-020, LC-021, LC-022, LC-023, LC-025, LC-027, LC-033, LC-040
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

// LC-031, LC-041, LC-050
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

// LC-026, LC-041, LC-059
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

// LC-028
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

// LC-024, LC-026, LC-033, LC-040
#[tokio::test]
async fn every_status_of_a_phase_becomes_the_builds() {
    let tester = Tester::new().await;
    for outcome in [Outcome::Succeeded, Outcome::Failed, Outcome::Fault, Outcome::TimedOut, Outcome::Stopped]
    {
        let context = Context { status_code: "CODE".to_string(), message: "why".to_string() };
        let script = Script {
            hold_in: Some(Phase::Build),
            fail_in: Some((Phase::Build, outcome, context)),
            ..Script::default()
        };
        tester.agents.script(move |_| script.clone());
        let id = tester.start().await;
        let running = tester.in_phase(&id, "BUILD").await;
        assert_eq!((status(&running), running.build_complete), ("IN_PROGRESS", Some(false)));
        assert_eq!(phases(&running).last().unwrap(), "BUILD -");
        tester.clock.advance(Duration::from_secs(3));
        tester.agents.release(uuid(&id));
        let build = tester.done(&id).await;
        assert_eq!((status(&build), build.current_phase.as_deref()), (outcome.name(), Some("COMPLETED")));
        assert!(phases(&build).contains(&format!("BUILD {}", outcome.name())));
        let all = build.phases.as_ref().unwrap();
        assert!(all.windows(2).all(|pair| pair[0].end_time == pair[1].start_time));
        assert_eq!(all[6].duration_in_seconds, Some(3));
    }
}

// LC-029, LC-030, LC-032, LC-051, LC-052
#[tokio::test]
async fn where_a_build_fails_says_which_phases_it_has() {
    let tester = Tester::new().await;
    for (phase, code, last) in [
        (Phase::DownloadSource, "YAML_FILE_ERROR", 3),
        (Phase::Install, "COMMAND_EXECUTION_ERROR", 4),
        (Phase::PreBuild, "COMMAND_EXECUTION_ERROR", 5),
        (Phase::UploadArtifacts, "CLIENT_ERROR", 8),
    ] {
        let context = Context { status_code: code.to_string(), message: "why".to_string() };
        let failure = Some((phase, Outcome::Failed, context));
        tester.agents.script(move |_| Script { fail_in: failure.clone(), ..Script::default() });
        let build = tester.done(&tester.start().await).await;
        assert_eq!(status(&build), "FAILED");
        let name = phase.name();
        assert_eq!(
            phases(&build)[last..],
            [&format!("{name} FAILED"), "FINALIZING SUCCEEDED", "COMPLETED -"]
        );
        assert_eq!(context_of(&build, name), (code.to_string(), "why".to_string()));
    }
}

// LC-001, LC-008
#[tokio::test]
async fn ids_and_times_have_the_services_form() {
    let tester = Tester::new().await;
    tester.clock.advance(Duration::from_millis(787));
    let build = tester.start_with(|_| {}).await.unwrap();
    let id = build.id.clone().unwrap();
    let shown = serde_json::to_value(&build).unwrap();
    assert_eq!(shown["startTime"], serde_json::json!(1_700_000_000.787));
    assert_eq!(shown["arn"], format!("arn:aws:codebuild:eu-west-1:123456789012:build/{id}"));
    assert!(id.starts_with("demo:") && uuid(&id).chars().all(|c| !c.is_ascii_uppercase()));
}

// LC-100
#[tokio::test]
async fn a_debug_session_is_shown_and_can_be_entered_while_there_is_an_environment() {
    let tester = Tester::new().await;
    tester.hold_all_in(Phase::Build);
    let session = |build: &Build| {
        let session = build.debug_session.clone().unwrap();
        (session.session_enabled, session.session_target)
    };
    let build = tester.start_with(|input| input.debug_session_enabled = Some(true)).await.unwrap();
    assert_eq!(session(&build), (Some(true), None));
    let id = build.id.unwrap();
    let build = tester.in_phase(&id, "BUILD").await;
    assert_eq!(session(&build), (Some(true), Some(format!("codebuild:{}", uuid(&id)))));
    tester.agents.release(uuid(&id));
    assert_eq!(session(&tester.done(&id).await), (Some(true), None));
    let build = tester.start_with(|_| {}).await.unwrap();
    assert_eq!(build.debug_session, None);
}

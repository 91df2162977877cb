//! Limits, turns, and how long builds wait.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use agent::journal::Phase;
use api::codebuild::*;
use engine::Error;
use engine::clock::ManualClock;
use engine::config::{BuildNews, TellBuilds};

use crate::user::*;

#[tokio::test]
async fn builds_start_in_the_order_they_came_as_places_become_free() {
    let tester = Tester::new().await;
    tester.hold_all_in(Phase::Build);
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(tester.start().await);
    }
    for id in &ids[..2] {
        tester.in_phase(id, "BUILD").await;
    }
    assert_eq!(tester.get(&ids[2]).await.current_phase.as_deref(), Some("QUEUED"));
    tester.agents.release(uuid(&ids[0]));
    tester.in_phase(&ids[2], "BUILD").await;
    assert_eq!(tester.get(&ids[3]).await.current_phase.as_deref(), Some("QUEUED"));
    tester.stop(&ids[1]).await;
    tester.in_phase(&ids[3], "BUILD").await;
}

// LC-066, LC-068
#[tokio::test]
async fn a_projects_own_limit_holds_back_its_builds_only() {
    let tester = Tester::new().await;
    tester.create_project("narrow", |input| input.concurrent_build_limit = Some(1)).await.unwrap();
    tester.hold_all_in(Phase::Build);
    let narrow = |input: &mut StartBuildInput| input.project_name = Some("narrow".to_string());
    let first = tester.start_with(narrow).await.unwrap().id.unwrap();
    let second = tester.start_with(narrow).await.unwrap().id.unwrap();
    let other = tester.start().await;
    tester.in_phase(&first, "BUILD").await;
    tester.in_phase(&other, "BUILD").await;
    assert_eq!(tester.get(&second).await.current_phase.as_deref(), Some("QUEUED"));
    tester.agents.release(uuid(&first));
    tester.in_phase(&second, "BUILD").await;
}

// LC-065
#[tokio::test]
async fn a_full_queue_refuses_further_builds_and_remembers_none_of_them() {
    let tester = Tester::with(|config| (config.concurrent_builds, config.queued_builds) = (1, 2)).await;
    tester.hold_all_in(Phase::Build);
    for _ in 0..3 {
        tester.start().await;
    }
    match tester.start_with(|_| {}).await {
        Err(Error::AccountLimitExceeded(message)) => {
            assert_eq!(message, "Cannot have more than 2 builds in queue for the account");
        }
        other => panic!("not refused: {other:?}"),
    }
    let listed = tester.engine.list_builds(&tester.caller, ListBuildsInput::default()).await.unwrap();
    assert_eq!(listed.ids.unwrap().len(), 3);
}

// LC-062
#[tokio::test]
async fn a_build_that_waits_too_long_times_out_in_the_queue() {
    let tester = Tester::with(|config| config.concurrent_builds = 1).await;
    tester.hold_all_in(Phase::Build);
    let first = tester.start_with(|input| input.timeout_in_minutes_override = Some(60)).await.unwrap();
    let build = tester.start_with(|input| input.queued_timeout_in_minutes_override = Some(5)).await.unwrap();
    let id = build.id.unwrap();
    tester.clock.advance(Duration::from_secs(299));
    assert_eq!(tester.get(&id).await.build_complete, Some(false));
    tester.clock.advance(Duration::from_secs(1));
    let build = tester.done(&id).await;
    assert_eq!(status(&build), "TIMED_OUT");
    assert_eq!(phases(&build), ["SUBMITTED SUCCEEDED", "QUEUED TIMED_OUT", "COMPLETED -"]);
    assert_eq!(build.end_time.unwrap().millis(), START_MS + 300_000);
    assert_eq!(tester.agents.starts(uuid(&id)), 0);
    tester.agents.release(uuid(&first.id.clone().unwrap()));
    assert_eq!(status(&tester.done(&first.id.unwrap()).await), "SUCCEEDED");
}

// LC-005
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_builds_started_at_once_all_succeed_and_are_numbered_without_gaps() {
    let tester = Arc::new(Tester::with(|config| config.concurrent_builds = 16).await);
    let starting: Vec<_> = (0..1000)
        .map(|_| {
            let tester = tester.clone();
            tokio::spawn(async move { tester.start_with(|_| {}).await.unwrap() })
        })
        .collect();
    let mut numbers = Vec::new();
    let mut ids = Vec::new();
    for build in starting {
        let build = build.await.unwrap();
        numbers.push(build.build_number.unwrap());
        ids.push(build.id.unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=1000).collect::<Vec<_>>());
    for id in &ids {
        assert_eq!(status(&tester.done(id).await), "SUCCEEDED");
        assert_eq!(tester.agents.starts(uuid(id)), 1);
    }
    assert!(tester.records.incomplete_builds().await.unwrap().is_empty());
}

/// The one context of QUEUED, if it has one.
fn why(build: &Build) -> Option<(String, String)> {
    let queued = build.phases.iter().flatten().nth(1).unwrap();
    let context = queued.contexts.as_ref()?[0].clone();
    Some((context.status_code.unwrap(), context.message.unwrap()))
}

// LC-025, LC-057, LC-065
#[tokio::test]
async fn a_waiting_build_says_why_until_it_starts_and_nothing_of_it_is_stored() {
    let tester = Tester::with(|config| config.concurrent_builds = 1).await;
    tester.hold_all_in(Phase::Build);
    let first = tester.start().await;
    let second = tester.start().await;
    let third = tester.start().await;
    tester.in_phase(&first, "BUILD").await;
    let (code, message) = why(&tester.get(&third).await).unwrap();
    assert_eq!(code, "QUEUED: ACCOUNT_LIMIT");
    let expect = format!(
        "1 of 1 builds of the account are running; this build is 2 of 2 waiting, after {second}. Running: {first}"
    );
    assert_eq!(message, expect);
    let stored = tester.records.get_build(&tester.scope(), &third).await.unwrap().unwrap();
    assert!(!stored.document.contains("ACCOUNT_LIMIT"));
    tester.agents.release(uuid(&first));
    let running = tester.in_phase(&second, "BUILD").await;
    assert_eq!(why(&running), None);
    let (_, message) = why(&tester.get(&third).await).unwrap();
    assert!(message.contains("this build is 1 of 1 waiting. Running"), "{message}");
}

// LC-064, LC-066
#[tokio::test]
async fn a_waiting_build_names_the_limit_that_holds_it_back() {
    let tester = Tester::with(|config| {
        config.concurrent_builds = 4;
        config.concurrent_builds_of = [("BUILD_GENERAL1_LARGE".to_string(), 1)].into();
    })
    .await;
    tester.create_project("narrow", |input| input.concurrent_build_limit = Some(1)).await.unwrap();
    tester.hold_all_in(Phase::Build);
    let start = async |project: &str, compute: ComputeType| {
        let over = |input: &mut StartBuildInput| {
            input.project_name = Some(project.to_string());
            input.compute_type_override = Some(compute);
        };
        tester.start_with(over).await.unwrap().id.unwrap()
    };
    start("narrow", ComputeType::BuildGeneral1Small).await;
    let by_project = start("narrow", ComputeType::BuildGeneral1Small).await;
    start("demo", ComputeType::BuildGeneral1Large).await;
    let by_type = start("demo", ComputeType::BuildGeneral1Large).await;
    let (code, message) = why(&tester.get(&by_project).await).unwrap();
    assert_eq!(code, "QUEUED: PROJECT_LIMIT");
    assert!(
        message.starts_with("1 of 1 builds of project narrow are running; this build is 1 of 1"),
        "{message}"
    );
    let (code, message) = why(&tester.get(&by_type).await).unwrap();
    assert_eq!(code, "QUEUED: COMPUTE_TYPE_LIMIT");
    assert!(message.starts_with("1 of 1 builds of BUILD_GENERAL1_LARGE are running"), "{message}");
}

#[tokio::test]
async fn a_project_with_many_waiting_builds_does_not_starve_another() {
    let tester = Tester::with(|config| config.concurrent_builds = 1).await;
    tester.create_project("small", |_| {}).await.unwrap();
    tester.hold_all_in(Phase::Build);
    let mut flood = Vec::new();
    for _ in 0..10 {
        flood.push(tester.start().await);
    }
    let small = |input: &mut StartBuildInput| input.project_name = Some("small".to_string());
    let small = tester.start_with(small).await.unwrap().id.unwrap();
    // One of the others may have had its turn before.
    for id in &flood[..2] {
        tester.in_phase(id, "BUILD").await;
        tester.agents.release(uuid(id));
    }
    tester.in_phase(&small, "BUILD").await;
}

// LC-060, LC-061, LC-063
#[tokio::test]
async fn waiting_does_not_count_as_building() {
    let tester = Tester::with(|config| config.concurrent_builds = 1).await;
    tester.hold_all_in(Phase::Build);
    let first = tester.start_with(|_| {}).await.unwrap();
    assert_eq!((first.timeout_in_minutes, first.queued_timeout_in_minutes), (Some(60), Some(480)));
    let first = first.id.unwrap();
    tester.in_phase(&first, "BUILD").await;
    let second = tester.start_with(|input| input.timeout_in_minutes_override = Some(5)).await.unwrap();
    let second = second.id.unwrap();
    tester.clock.advance(Duration::from_secs(20 * 60));
    tester.agents.release(uuid(&first));
    tester.in_phase(&second, "BUILD").await;
    tester.clock.advance(Duration::from_secs(4 * 60));
    tester.agents.release(uuid(&second));
    assert_eq!(status(&tester.done(&second).await), "SUCCEEDED");
}

#[tokio::test]
async fn a_clock_that_is_set_forward_while_a_build_is_accepted_does_not_end_its_waiting() {
    let jumping = Arc::new(OnceLock::<ManualClock>::new());
    let told = jumping.clone();
    let tester = Tester::with(|config| {
        config.concurrent_builds = 1;
        config.tell_builds = TellBuilds::new(move |news| {
            if let (BuildNews::Accepted(_), Some(clock)) = (news, told.get()) {
                clock.jump(Duration::from_secs(365 * 86_400));
            }
        });
    })
    .await;
    tester.hold_all_in(Phase::Build);
    let first = tester.start().await;
    tester.in_phase(&first, "BUILD").await;
    jumping.set(tester.clock.clone()).unwrap();
    let second = tester.start().await;
    tester.agents.release(uuid(&first));
    tester.in_phase(&second, "BUILD").await;
}

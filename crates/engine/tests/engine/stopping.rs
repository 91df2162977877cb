//! StopBuild at any moment.

use std::time::Duration;

use agent::journal::Phase;
use api::codebuild::*;
use engine::Error;
use executor::fake::Script;

use crate::user::*;

// LC-033, LC-044
#[tokio::test]
async fn a_build_can_be_stopped_in_every_phase_of_its_agent() {
    let tester = Tester::new().await;
    for phase in [
        Phase::Provisioning,
        Phase::DownloadSource,
        Phase::Install,
        Phase::PreBuild,
        Phase::Build,
        Phase::PostBuild,
        Phase::UploadArtifacts,
    ] {
        tester.hold_all_in(phase);
        let id = tester.start().await;
        // In PROVISIONING the build is before its agent is: wait for the agent.
        eventually(|| async { tester.agents.starts(uuid(&id)) == 1 }).await;
        tester.in_phase(&id, phase.name()).await;
        tester.stop(&id).await;
        let build = tester.done(&id).await;
        assert_eq!(status(&build), "STOPPED", "{phase:?}");
        assert!(phases(&build).contains(&format!("{} STOPPED", phase.name())), "{:?}", phases(&build));
        tester.removed(&id).await;
    }
}

// LC-044
#[tokio::test]
async fn a_build_stopped_in_the_queue_is_stopped_in_the_answer_and_never_launched() {
    let tester = Tester::with(|config| config.concurrent_builds = 1).await;
    tester.hold_all_in(Phase::Build);
    let first = tester.start().await;
    let second = tester.start().await;
    let build = tester.stop(&second).await;
    assert_eq!((status(&build), build.build_complete), ("STOPPED", Some(true)));
    assert_eq!(phases(&build), ["SUBMITTED SUCCEEDED", "QUEUED STOPPED", "COMPLETED -"]);
    tester.agents.release(uuid(&first));
    tester.done(&first).await;
    assert_eq!(tester.agents.starts(uuid(&second)), 0);
}

// LC-044
#[tokio::test]
async fn stopping_a_finished_build_answers_it_unchanged() {
    let tester = Tester::new().await;
    let id = tester.start().await;
    let done = tester.done(&id).await;
    assert_eq!(tester.stop(&id).await, done);
}

#[tokio::test]
async fn an_agent_that_does_not_stop_is_killed() {
    let tester = Tester::new().await;
    tester.agents.script(|_| Script { hold_in: Some(Phase::Build), deaf: true, ..Script::default() });
    let id = tester.start().await;
    tester.in_phase(&id, "BUILD").await;
    assert_eq!(status(&tester.stop(&id).await), "IN_PROGRESS");
    let build = tester.done_in_time(&id, Duration::from_secs(8)).await;
    assert_eq!(status(&build), "STOPPED");
    assert_eq!(phases(&build)[6..], ["BUILD STOPPED", "COMPLETED -"]);
}

// LC-042, LC-043, LC-056
#[tokio::test]
async fn an_agent_that_overlooks_its_timeout_is_killed() {
    let tester = Tester::new().await;
    tester.hold_all_in(Phase::Build);
    let build = tester.start_with(|input| input.timeout_in_minutes_override = Some(5)).await.unwrap();
    let id = build.id.unwrap();
    tester.in_phase(&id, "BUILD").await;
    let build = tester.done_in_time(&id, Duration::from_secs(5 * 60 + 30)).await;
    assert_eq!(status(&build), "TIMED_OUT");
    let expect = ("BUILD_TIMED_OUT".to_string(), "Build has timed out. ".to_string());
    assert_eq!(context_of(&build, "BUILD"), expect);
}

#[tokio::test]
async fn unknown_builds_cannot_be_stopped() {
    let tester = Tester::new().await;
    let stop = |id: &str| {
        let input = StopBuildInput { id: Some(id.to_string()) };
        let engine = &tester.engine;
        async move { engine.stop_build(&caller(), input).await }
    };
    assert!(matches!(stop("nonsense").await, Err(Error::InvalidInput(_))));
    let unknown = stop("demo:0c8a3fd5-5a2f-4f0e-9d57-8b6d63f3c6a1").await;
    assert!(matches!(unknown, Err(Error::NotFound(_))), "{unknown:?}");
}

// LC-044
#[tokio::test]
async fn a_stop_at_any_moment_ends_the_build_once_and_leaves_nothing() {
    let tester = Tester::new().await;
    let (mut stopped, mut late) = (0, 0);
    let phases_held =
        [None, Some(Phase::Provisioning), Some(Phase::DownloadSource), Some(Phase::Build), None];
    for moment in 0..120u32 {
        let hold_in = phases_held[moment as usize % phases_held.len()];
        tester.agents.script(move |_| Script { hold_in, ..Script::default() });
        let id = tester.start().await;
        for _ in 0..moment * 37 % 1500 {
            tokio::task::yield_now().await;
        }
        let answered = tester.stop(&id).await;
        let build = tester.done(&id).await;
        match status(&build) {
            "STOPPED" => stopped += 1,
            "SUCCEEDED" => late += 1,
            other => panic!("{other}: {:?}", phases(&build)),
        }
        if answered.build_complete == Some(true) {
            assert_eq!(build, answered, "an end that was told is the end");
        }
        assert!(tester.agents.starts(uuid(&id)) <= 1);
        tester.removed(&id).await;
        assert_eq!(tester.stop(&id).await, build);
    }
    assert!(stopped > 0 && late > 0, "{stopped} stopped, {late} too late");
}

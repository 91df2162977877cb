//! What the next engine makes of what the last one left.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use agent::journal::Phase;
use api::codebuild::*;
use engine::clock::ManualClock;
use engine::{Engine, Error};
use executor::fake::Script;
use store::records::Records;

use crate::user::*;

#[tokio::test]
async fn a_running_build_goes_on_under_the_next_engine() {
    let mut tester = Tester::new().await;
    tester.hold_all_in(Phase::Build);
    let id = tester.start().await;
    tester.in_phase(&id, "BUILD").await;
    tester.restart().await;
    tester.agents.release(uuid(&id));
    let build = tester.done(&id).await;
    assert_eq!((status(&build), tester.agents.starts(uuid(&id))), ("SUCCEEDED", 1));
    assert_eq!(phases(&build).len(), 11);
    tester.removed(&id).await;
}

#[tokio::test]
async fn an_adopted_build_takes_up_its_place_in_the_limits() {
    let mut tester = Tester::with(|config| config.concurrent_builds = 1).await;
    tester.hold_all_in(Phase::Build);
    let first = tester.start().await;
    tester.in_phase(&first, "BUILD").await;
    let second = tester.start().await;
    tester.restart().await;
    assert_eq!(tester.get(&second).await.current_phase.as_deref(), Some("QUEUED"));
    tester.agents.release(uuid(&first));
    tester.in_phase(&second, "BUILD").await;
}

#[tokio::test]
async fn a_build_that_ended_while_no_engine_was_there_is_taken_as_it_ended() {
    let mut tester = Tester::new().await;
    tester.hold_all_in(Phase::Build);
    let id = tester.start().await;
    tester.in_phase(&id, "BUILD").await;
    tester.engine.shut_down().await;
    tester.agents.release(uuid(&id));
    tester.start_again().await;
    let build = tester.done(&id).await;
    assert_eq!((status(&build), tester.agents.starts(uuid(&id))), ("SUCCEEDED", 1));
    tester.removed(&id).await;
}

#[tokio::test]
async fn a_build_whose_agent_died_while_no_engine_was_there_is_a_fault_and_not_run_again() {
    let mut tester = Tester::new().await;
    tester.hold_all_in(Phase::Build);
    let id = tester.start().await;
    tester.in_phase(&id, "BUILD").await;
    tester.engine.shut_down().await;
    tester.agents.kill(uuid(&id));
    tester.start_again().await;
    let build = tester.done(&id).await;
    assert_eq!((status(&build), tester.agents.starts(uuid(&id))), ("FAULT", 1));
    assert!(store::logs::SegmentReader::open(&tester.log(&id)).unwrap().sealed().unwrap());
}

#[tokio::test]
async fn queued_builds_keep_their_order_and_their_deadline() {
    let mut tester = Tester::with(|config| config.concurrent_builds = 1).await;
    tester.hold_all_in(Phase::Build);
    let first = tester.start().await;
    let second = tester.start_with(|input| input.queued_timeout_in_minutes_override = Some(5)).await.unwrap();
    let (second, third) = (second.id.unwrap(), tester.start().await);
    tester.in_phase(&first, "BUILD").await;
    tester.engine.shut_down().await;
    tester.clock.advance(Duration::from_secs(200));
    tester.start_again().await;
    tester.clock.advance(Duration::from_secs(100));
    assert_eq!(status(&tester.done(&second).await), "TIMED_OUT");
    tester.agents.release(uuid(&first));
    tester.in_phase(&third, "BUILD").await;
}

#[tokio::test]
async fn a_stop_is_remembered_by_the_next_engine() {
    let mut tester = Tester::new().await;
    tester.agents.script(|_| Script { hold_in: Some(Phase::Build), deaf: true, ..Script::default() });
    let id = tester.start().await;
    tester.in_phase(&id, "BUILD").await;
    tester.stop(&id).await;
    tester.restart().await;
    let build = tester.done_in_time(&id, Duration::from_secs(8)).await;
    assert_eq!((status(&build), tester.agents.starts(uuid(&id))), ("STOPPED", 1));
}

#[tokio::test]
async fn a_closing_engine_takes_no_builds() {
    let tester = Tester::new().await;
    tester.engine.shut_down().await;
    assert!(matches!(tester.start_with(|_| {}).await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn what_ended_builds_left_behind_is_removed_at_the_next_start() {
    let mut tester = Tester::new().await;
    tester.engine.shut_down().await;
    let left = tester.folder.path().join("builds").join("0c8a3fd5-5a2f-4f0e-9d57-8b6d63f3c6a1");
    std::fs::create_dir_all(&left).unwrap();
    tester.start_again().await;
    assert!(!left.exists());
}

/// Runs `what` on a runtime that is then gone with all its tasks, as if the process had been killed.
fn in_a_life_of_its_own<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(what)
}

#[test]
fn accepted_builds_and_tokens_survive_an_engine_that_vanishes() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(START_MS);
    let life = async |concurrent: usize| {
        let mut config = config(folder.path(), &clock);
        config.concurrent_builds = concurrent;
        let agents = agents(folder.path(), &clock);
        let records = Records::open(folder.path()).unwrap();
        let engine = Engine::start(config.clone(), records.clone(), Arc::new(agents.clone())).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        Tester { folder, config, clock: clock.clone(), records, agents, engine, caller: caller() }
    };
    let with_token = |input: &mut StartBuildInput| input.idempotency_token = Some("once".to_string());
    let (first, second) = in_a_life_of_its_own(async {
        let tester = life(0).await;
        tester.create_project("demo", |_| {}).await.unwrap();
        (tester.start_with(with_token).await.unwrap(), tester.start().await)
    });
    in_a_life_of_its_own(async {
        let tester = life(1).await;
        let again = tester.start_with(with_token).await.unwrap();
        assert_eq!((&again.id, again.build_number), (&first.id, Some(1)));
        for id in [first.id.as_deref().unwrap(), &second] {
            assert_eq!(status(&tester.done(id).await), "SUCCEEDED");
        }
        let listed = tester.engine.list_builds(&tester.caller, ListBuildsInput::default()).await.unwrap();
        assert_eq!(listed.ids.unwrap(), [second.clone(), first.id.clone().unwrap()]);
    });
}

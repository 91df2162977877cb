//! What the next engine makes of what the last one left.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use agent::journal::{Context, Outcome, Phase};
use agent::plan::Plan;
use api::codebuild::*;
use engine::clock::ManualClock;
use engine::{Engine, Error};
use executor::fake::Script;
use executor::{Adopted, Executor, Fake, Link};

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

/// As after a power cut: nothing that was written last can be relied on.
#[tokio::test]
async fn a_build_whose_dead_agents_journal_is_damaged_is_a_fault_that_says_so() {
    let mut tester = Tester::new().await;
    tester.hold_all_in(Phase::Build);
    let id = tester.start().await;
    tester.in_phase(&id, "BUILD").await;
    tester.engine.shut_down().await;
    tester.agents.kill(uuid(&id));
    damage(&tester, &id);
    tester.start_again().await;
    let build = tester.done(&id).await;
    assert_eq!((status(&build), tester.agents.starts(uuid(&id))), ("FAULT", 1));
    let told = format!("{:?}", build.phases);
    assert!(told.contains("the journal is damaged at byte"), "{told}");
}

#[tokio::test]
async fn a_build_whose_living_agents_journal_is_damaged_is_a_fault_that_says_so() {
    let mut tester = Tester::new().await;
    tester.hold_all_in(Phase::Build);
    let id = tester.start().await;
    tester.in_phase(&id, "BUILD").await;
    tester.engine.shut_down().await;
    damage(&tester, &id);
    tester.start_again().await;
    let build = tester.done(&id).await;
    assert_eq!((status(&build), tester.agents.starts(uuid(&id))), ("FAULT", 1));
    let told = format!("{:?}", build.phases);
    assert!(told.contains("the journal is damaged at byte"), "{told}");
    assert!(tester.agents.agents().is_empty());
}

fn damage(tester: &Tester, id: &str) {
    let journal = tester.folder.path().join("builds").join(uuid(id)).join("journal");
    let length = std::fs::metadata(&journal).unwrap().len();
    let file = std::fs::OpenOptions::new().write(true).open(&journal).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0; 20], length - 20).unwrap();
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
    // Some minutes at most, long before the build's own time is over.
    let steps = AtomicU32::new(0);
    eventually(|| async {
        if steps.fetch_add(1, Relaxed) < 100 {
            tester.clock.advance(Duration::from_secs(8));
        }
        tester.agents.agents().is_empty()
    })
    .await;
    let build = tester.done(&id).await;
    assert_eq!((status(&build), tester.agents.starts(uuid(&id))), ("STOPPED", 1));
}

#[tokio::test]
async fn a_closing_engine_takes_no_builds() {
    let tester = Tester::new().await;
    tester.engine.shut_down().await;
    assert!(matches!(tester.start_with(|_| {}).await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn an_engine_that_has_shut_down_has_tidied_up_after_every_build_that_ended() {
    let tester = Tester::new().await;
    let id = tester.start().await;
    tester.done(&id).await;
    tester.engine.shut_down().await;
    assert!(tester.agents.is_removed(uuid(&id)));
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

#[test]
fn accepted_builds_and_tokens_survive_an_engine_that_vanishes() {
    let folder = fast_folder();
    let clock = ManualClock::new(START_MS);
    let life = |concurrent: usize| Tester::living_in(folder.path(), &clock, concurrent, Script::default());
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

// LC-072, BS-084
#[test]
fn no_kill_loses_or_doubles_a_next_try() {
    let (folder, clock) = (fast_folder(), ManualClock::new(START_MS));
    let failure = Some((Phase::Build, Outcome::Failed, Context::default()));
    let script = Script { fail_in: failure, ..Script::default() };
    let life = || Tester::living_in(folder.path(), &clock, 2, script.clone());
    let mut first_tries = Vec::new();
    for round in 0..40u32 {
        in_a_life_of_its_own(async {
            let tester = life().await;
            if round == 0 {
                tester.create_project("demo", |input| input.auto_retry_limit = Some(2)).await.unwrap();
            }
            first_tries.push(tester.start().await);
            // It ends wherever it has come to by then.
            for _ in 0..round * 211 % 4001 {
                tokio::task::yield_now().await;
            }
        });
    }
    in_a_life_of_its_own(async {
        let tester = life().await;
        let mut count = 0;
        for first in &first_tries {
            let mut id = first.clone();
            for number in 0..=2 {
                let build = tester.done(&id).await;
                let config = build.auto_retry_config.unwrap();
                assert_eq!(config.auto_retry_number, Some(number));
                count += 1;
                match config.next_auto_retry {
                    Some(next) => id = next.rsplit_once('/').unwrap().1.to_string(),
                    None => assert_eq!(number, 2),
                }
            }
        }
        let mut listed = 0;
        let mut next_token = None;
        loop {
            let input = ListBuildsInput { next_token, ..ListBuildsInput::default() };
            let page = tester.engine.list_builds(&tester.caller, input).await.unwrap();
            listed += page.ids.unwrap().len();
            next_token = page.next_token;
            if next_token.is_none() {
                break;
            }
        }
        assert_eq!((count, listed), (120, 120));
    });
}

/// An executor that cannot tell at first what became of its builds.
#[derive(Debug)]
struct Forgetful {
    agents: Fake,
    fails: Arc<AtomicU32>,
}

impl Executor for Forgetful {
    fn launch<'a>(&'a self, uuid: &'a str, plan: &'a Plan) -> executor::Future<'a, Link> {
        self.agents.launch(uuid, plan)
    }

    fn adopt<'a>(&'a self, uuid: &'a str) -> executor::Future<'a, Adopted> {
        let fails = self.fails.fetch_update(Relaxed, Relaxed, |fails| fails.checked_sub(1)).is_ok();
        if fails {
            let refused = std::io::ErrorKind::PermissionDenied.into();
            return Box::pin(async move { Err(executor::Error::Unreachable(refused)) });
        }
        self.agents.adopt(uuid)
    }

    fn left<'a>(&'a self, uuid: &'a str, file: &'a str) -> executor::Future<'a, Vec<u8>> {
        self.agents.left(uuid, file)
    }

    fn remove<'a>(&'a self, uuid: &'a str) -> executor::Future<'a, ()> {
        self.agents.remove(uuid)
    }

    fn remaining<'a>(&'a self) -> executor::Future<'a, Vec<String>> {
        self.agents.remaining()
    }
}

#[tokio::test]
async fn an_agent_that_cannot_be_reached_at_first_is_not_given_up() {
    let mut tester = Tester::with(|config| config.concurrent_builds = 1).await;
    tester.hold_all_in(Phase::Build);
    let id = tester.start().await;
    tester.in_phase(&id, "BUILD").await;
    let waiting = tester.start().await;
    tester.engine.shut_down().await;
    // Twice: at the start, and when its driver asks.
    let forgetful = Forgetful { agents: tester.agents.clone(), fails: Arc::new(AtomicU32::new(2)) };
    let (config, records) = (tester.config.clone(), tester.records.clone());
    tester.engine = Engine::start(config, records, tester.vault.clone(), Arc::new(forgetful)).await.unwrap();
    assert_eq!(tester.get(&waiting).await.current_phase.as_deref(), Some("QUEUED"), "its place is taken");
    tester.stop(&id).await;
    let build = tester.done(&id).await;
    assert_eq!((status(&build), tester.agents.starts(uuid(&id))), ("STOPPED", 1));
    assert_eq!(phases(&build)[6..], ["BUILD STOPPED", "FINALIZING SUCCEEDED", "COMPLETED -"]);
}

#[tokio::test]
async fn a_build_whose_agent_is_never_found_ends_once_its_time_is_over() {
    let mut tester = Tester::new().await;
    tester.hold_all_in(Phase::Build);
    let id = tester.start().await;
    tester.in_phase(&id, "BUILD").await;
    tester.engine.shut_down().await;
    let fails = Arc::new(AtomicU32::new(u32::MAX));
    let forgetful = Forgetful { agents: tester.agents.clone(), fails: fails.clone() };
    let (config, records) = (tester.config.clone(), tester.records.clone());
    tester.engine = Engine::start(config, records, tester.vault.clone(), Arc::new(forgetful)).await.unwrap();
    // At the start, and when its driver asks.
    while fails.load(Relaxed) > u32::MAX - 2 {
        tokio::task::yield_now().await;
    }
    tester.clock.advance(Duration::from_secs(60 * 60));
    assert_eq!(status(&tester.get(&id).await), "IN_PROGRESS");
    tester.clock.advance(Duration::from_secs(30));
    assert_eq!(status(&tester.done(&id).await), "FAULT");
}

impl Tester {
    /// The engine goes away, and the next one cannot tell so often what became of its builds.
    async fn restart_forgetfully(&mut self, times: u32, concurrent: usize) {
        self.engine.shut_down().await;
        self.config.concurrent_builds = concurrent;
        let forgetful = Forgetful { agents: self.agents.clone(), fails: Arc::new(AtomicU32::new(times)) };
        let (config, records, vault) = (self.config.clone(), self.records.clone(), self.vault.clone());
        self.engine = Engine::start(config, records, vault, Arc::new(forgetful)).await.unwrap();
    }
}

#[tokio::test]
async fn a_stop_reaches_an_agent_that_is_found_after_it() {
    let mut tester = Tester::with(|config| config.concurrent_builds = 0).await;
    tester.hold_all_in(Phase::Build);
    let id = tester.start().await;
    // A kill came between the launch and the storing of PROVISIONING.
    let order = tester.records.get_plan(&tester.scope(), &id).await.unwrap().unwrap();
    let order: serde_json::Value = serde_json::from_str(&order).unwrap();
    let plan: Plan = serde_json::from_value(order["plan"].clone()).unwrap();
    drop(tester.agents.launch(uuid(&id), &plan).await.unwrap());
    // At the start, and when its driver asks.
    tester.restart_forgetfully(2, 1).await;
    tester.stop(&id).await;
    let build = tester.done(&id).await;
    assert_eq!((status(&build), tester.agents.starts(uuid(&id))), ("STOPPED", 1));
    assert_eq!(phases(&build)[6..], ["BUILD STOPPED", "FINALIZING SUCCEEDED", "COMPLETED -"]);
}

#[tokio::test]
async fn builds_that_could_not_be_asked_after_start_within_the_limits() {
    let mut tester = Tester::with(|config| config.concurrent_builds = 0).await;
    tester.hold_all_in(Phase::Build);
    let ids = [tester.start().await, tester.start().await, tester.start().await];
    tester.restart_forgetfully(3, 1).await;
    for id in &ids {
        eventually(|| async { tester.agents.agents() == [uuid(id)] }).await;
        tester.in_phase(id, "BUILD").await;
        assert_eq!(tester.agents.agents(), [uuid(id)]);
        tester.agents.release(uuid(id));
        assert_eq!(status(&tester.done(id).await), "SUCCEEDED");
    }
}

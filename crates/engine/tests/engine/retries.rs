//! Idempotency tokens, RetryBuild, automatic retries.

use std::time::Duration;

use agent::journal::{Context, Outcome, Phase};
use api::codebuild::*;
use engine::Error;
use executor::fake::Script;

use crate::user::*;

#[tokio::test]
async fn a_token_means_one_build_for_five_minutes() {
    let tester = Tester::new().await;
    let with_token = |input: &mut StartBuildInput| input.idempotency_token = Some("once".to_string());
    let first = tester.start_with(with_token).await.unwrap().id;
    assert_eq!(tester.start_with(with_token).await.unwrap().id, first);
    let other = tester
        .start_with(|input| {
            with_token(input);
            input.timeout_in_minutes_override = Some(7);
        })
        .await;
    assert!(matches!(other, Err(Error::InvalidInput(_))), "{other:?}");
    tester.clock.advance(Duration::from_secs(5 * 60));
    assert_ne!(tester.start_with(with_token).await.unwrap().id, first);
}

// AP-008
#[tokio::test]
async fn a_token_means_its_build_whatever_became_of_queue_and_project() {
    let tester = Tester::with(|config| (config.concurrent_builds, config.queued_builds) = (1, 1)).await;
    tester.hold_all_in(Phase::Build);
    let named = |project: &'static str, token: Option<&'static str>| {
        move |input: &mut StartBuildInput| {
            input.project_name = Some(project.to_string());
            input.idempotency_token = token.map(str::to_string);
        }
    };
    let arn = "arn:aws:codebuild:eu-west-1:123456789012:project/demo";
    let first = tester.start_with(named("demo", Some("once"))).await.unwrap().id.unwrap();
    tester.in_phase(&first, "BUILD").await;
    let again = async |id: &str| {
        let (id, idempotency_token) = (Some(id.to_string()), Some("again".to_string()));
        let input = RetryBuildInput { id, idempotency_token };
        Ok(tester.engine.retry_build(&tester.caller, input).await?.build.unwrap().id.unwrap())
    };
    let retried: engine::Result<String> = again(&first).await;
    let retried = retried.unwrap();
    // The queue is full now.
    let refused = tester.start_with(named("demo", None)).await;
    assert!(matches!(refused, Err(Error::AccountLimitExceeded(_))), "{refused:?}");
    let same = async || {
        for project in ["demo", arn] {
            let id = tester.start_with(named(project, Some("once"))).await.unwrap().id.unwrap();
            assert_eq!(id, first, "{project}");
        }
        for id in [first.clone(), format!("arn:aws:codebuild:eu-west-1:123456789012:build/{first}")] {
            assert_eq!(again(&id).await.unwrap(), retried);
        }
    };
    same().await;
    // Another parameter is a mismatch also where the request could not be done.
    let other = tester.start_with(named("nobody", Some("once"))).await;
    assert!(matches!(&other, Err(Error::InvalidInput(message)) if message.contains("token")), "{other:?}");
    // The project changes to what cannot run, and goes.
    let environment = ProjectEnvironment {
        r#type: Some(EnvironmentType::MacArm),
        image: Some("host".to_string()),
        compute_type: Some(ComputeType::BuildGeneral1Small),
        ..ProjectEnvironment::default()
    };
    let name = Some("demo".to_string());
    let input = UpdateProjectInput { name, environment: Some(environment), ..Default::default() };
    tester.engine.update_project(&tester.caller, input).await.unwrap();
    same().await;
    let input = DeleteProjectInput { name: Some("demo".to_string()) };
    tester.engine.delete_project(&tester.caller, input).await.unwrap();
    same().await;
    assert_eq!(tester.listed().await, 2);
}

// AP-008
#[tokio::test]
async fn of_one_request_sent_many_times_at_once_all_get_the_build_that_takes_the_last_place() {
    let tester = Tester::with(|config| (config.concurrent_builds, config.queued_builds) = (1, 1)).await;
    tester.hold_all_in(Phase::Build);
    let running = tester.start().await;
    tester.in_phase(&running, "BUILD").await;
    let sent = (0..16).map(|_| {
        let (engine, caller) = (tester.engine.clone(), tester.caller.clone());
        let (project_name, idempotency_token) = (Some("demo".to_string()), Some("once".to_string()));
        let input = StartBuildInput { project_name, idempotency_token, ..StartBuildInput::default() };
        tokio::spawn(async move { engine.start_build(&caller, input).await })
    });
    let mut ids = std::collections::BTreeSet::new();
    for answer in sent.collect::<Vec<_>>() {
        ids.insert(answer.await.unwrap().unwrap().build.unwrap().id);
    }
    assert_eq!((ids.len(), tester.listed().await), (1, 2));
}

// LC-011, LC-070
#[tokio::test]
async fn a_retry_is_a_new_build_with_the_same_settings() {
    let tester = Tester::new().await;
    let first = tester
        .start_with(|input| {
            input.timeout_in_minutes_override = Some(7);
            input.source_version = Some("v1".to_string());
        })
        .await
        .unwrap();
    let id = first.id.clone().unwrap();
    tester.done(&id).await;
    let input = RetryBuildInput { id: first.arn, idempotency_token: None };
    let retried = tester.engine.retry_build(&tester.caller, input).await.unwrap().build.unwrap();
    assert_eq!((retried.build_number, retried.timeout_in_minutes), (Some(2), Some(7)));
    assert_eq!(retried.source_version.as_deref(), Some("v1"));
    assert_ne!(retried.id.as_deref(), Some(id.as_str()));
    assert_eq!(status(&tester.done(&retried.id.unwrap()).await), "SUCCEEDED");
}

// LC-070, LC-071
#[tokio::test]
async fn a_retry_by_hand_can_be_entered_as_the_first_could_and_one_by_itself_cannot() {
    let tester = Tester::new().await;
    tester.agents.script(|_| failing(None));
    let over = |input: &mut StartBuildInput| {
        input.debug_session_enabled = Some(true);
        input.auto_retry_limit_override = Some(1);
    };
    let first = tester.start_with(over).await.unwrap().id.unwrap();
    let sessions = |builds: &[Build]| -> Vec<bool> {
        builds.iter().map(|build| build.debug_session.is_some()).collect()
    };
    assert_eq!(sessions(&tester.all_tries(&first).await), [true, false]);
    let input = RetryBuildInput { id: Some(first), idempotency_token: None };
    let by_hand = tester.engine.retry_build(&tester.caller, input).await.unwrap().build.unwrap();
    assert_eq!(by_hand.debug_session.unwrap().session_enabled, Some(true));
    tester.all_tries(&by_hand.id.unwrap()).await;
}

// ---- tries that follow by themselves ------------------------------------------------------------------------

fn failing(retry: Option<u32>) -> Script {
    Script { fail_in: Some((Phase::Build, Outcome::Failed, Context::default())), retry, ..Script::default() }
}

/// `(number, limit)` and ARNs of the tries before and after.
fn tries(build: &Build) -> (i32, i32, Option<String>, Option<String>) {
    let config = build.auto_retry_config.clone().unwrap();
    let number = config.auto_retry_number.unwrap();
    (number, config.auto_retry_limit.unwrap(), config.previous_auto_retry, config.next_auto_retry)
}

impl Tester {
    /// The builds from this one on, each the next try of the one before.
    async fn all_tries(&self, first: &str) -> Vec<Build> {
        let mut builds = vec![self.done(first).await];
        while let (_, _, _, Some(next)) = tries(&builds[builds.len() - 1]) {
            builds.push(self.done(next.rsplit_once('/').unwrap().1).await);
        }
        builds
    }

    async fn listed(&self) -> usize {
        let listed = self.engine.list_builds(&self.caller, ListBuildsInput::default()).await.unwrap();
        listed.ids.unwrap().len()
    }
}

// LC-009, LC-071, LC-072
#[tokio::test]
async fn a_failed_build_is_tried_again_as_often_as_its_project_says() {
    let tester = Tester::new().await;
    tester.create_project("stubborn", |input| input.auto_retry_limit = Some(2)).await.unwrap();
    tester.agents.script(|_| failing(None));
    let over = |input: &mut StartBuildInput| {
        input.project_name = Some("stubborn".to_string());
        input.timeout_in_minutes_override = Some(7);
    };
    let first = tester.start_with(over).await.unwrap();
    assert_eq!(tries(&first), (0, 2, None, None));
    let builds = tester.all_tries(first.id.as_deref().unwrap()).await;
    assert_eq!(builds.len(), 3);
    for (number, build) in builds.iter().enumerate() {
        let number = i32::try_from(number).unwrap();
        let before = number.checked_sub(1).and_then(|before| builds.get(before as usize)?.arn.clone());
        let after = builds.get(number as usize + 1).and_then(|after| after.arn.clone());
        assert_eq!(tries(build), (number, 2, before, after));
        assert_eq!((status(build), build.timeout_in_minutes), ("FAILED", Some(7)));
        assert_eq!(build.build_number, Some(i64::from(number) + 1));
    }
    let expect = format!("builder/AWSCodeBuild-{}", uuid(first.id.as_deref().unwrap()));
    assert_eq!(builds[1].initiator, Some(expect));
    assert_eq!(tester.listed().await, 3);
}

// LC-071
#[tokio::test]
async fn tries_end_with_the_first_that_succeeds_and_the_override_beats_the_project() {
    let tester = Tester::new().await;
    let fails = std::sync::atomic::AtomicBool::new(true);
    tester.agents.script(move |_| match fails.swap(false, std::sync::atomic::Ordering::Relaxed) {
        true => failing(None),
        false => Script::default(),
    });
    let first = tester.start_with(|input| input.auto_retry_limit_override = Some(5)).await.unwrap();
    let builds = tester.all_tries(&first.id.unwrap()).await;
    assert_eq!(builds.iter().map(status).collect::<Vec<_>>(), ["FAILED", "SUCCEEDED"]);
    for wrong in [-1, 101] {
        let refused = tester.start_with(|input| input.auto_retry_limit_override = Some(wrong)).await;
        assert!(matches!(refused, Err(Error::InvalidInput(_))), "{refused:?}");
    }
}

// BS-082, BS-083, BS-084
#[tokio::test]
async fn a_phase_that_asks_for_tries_gets_them_though_the_project_has_none() {
    let tester = Tester::new().await;
    tester.agents.script(|plan| failing((!plan.build_id.is_empty()).then_some(3)));
    let builds = tester.all_tries(&tester.start().await).await;
    assert_eq!(builds.len(), 4);
    assert_eq!(tries(&builds[0]).1, 3);
    // Another failure, for which it asks nothing.
    tester.agents.script(|_| failing(None));
    let build = tester.done(&tester.start().await).await;
    assert_eq!((status(&build), build.auto_retry_config.as_ref()), ("FAILED", None));
}

// LC-074
#[tokio::test]
async fn faults_and_timeouts_are_tried_again_but_not_what_was_stopped_or_never_ran() {
    let tester = Tester::with(|config| config.concurrent_builds = 1).await;
    let over = |input: &mut StartBuildInput| input.auto_retry_limit_override = Some(1);
    tester.agents.script(|_| Script { die_in: Some(Phase::Install), ..Script::default() });
    let first = tester.start_with(over).await.unwrap().id.unwrap();
    let statuses = tester.all_tries(&first).await;
    assert_eq!(statuses.iter().map(status).collect::<Vec<_>>(), ["FAULT", "FAULT"]);
    let timed_out = Some((Phase::Build, Outcome::TimedOut, Context::default()));
    tester.agents.script(move |_| Script { fail_in: timed_out.clone(), ..Script::default() });
    let first = tester.start_with(over).await.unwrap().id.unwrap();
    assert_eq!(tester.all_tries(&first).await.len(), 2);

    tester.hold_all_in(Phase::Build);
    let stopped = tester.start_with(over).await.unwrap().id.unwrap();
    tester.in_phase(&stopped, "BUILD").await;
    let patient = |input: &mut StartBuildInput| {
        over(input);
        input.queued_timeout_in_minutes_override = Some(5);
    };
    let waiting = tester.start_with(patient).await.unwrap().id.unwrap();
    tester.clock.advance(Duration::from_secs(5 * 60));
    let build = tester.done(&waiting).await;
    assert_eq!((status(&build), tries(&build).3), ("TIMED_OUT", None));
    tester.stop(&stopped).await;
    let build = tester.done(&stopped).await;
    assert_eq!((status(&build), tries(&build).3), ("STOPPED", None));
}

// LC-065, LC-072
#[tokio::test]
async fn a_next_try_waits_its_turn_and_a_full_queue_does_not_refuse_it() {
    let tester = Tester::with(|config| (config.concurrent_builds, config.queued_builds) = (1, 1)).await;
    tester.agents.script(|_| Script { hold_in: Some(Phase::Build), ..failing(None) });
    let first = tester.start_with(|input| input.auto_retry_limit_override = Some(1)).await.unwrap();
    let first = first.id.unwrap();
    tester.in_phase(&first, "BUILD").await;
    let waiting = tester.start().await;
    assert!(matches!(tester.start_with(|_| {}).await, Err(Error::AccountLimitExceeded(_))));
    tester.agents.release(uuid(&first));
    let (_, _, _, next) = tries(&tester.done(&first).await);
    let next = next.unwrap().rsplit_once('/').unwrap().1.to_string();
    tester.in_phase(&waiting, "BUILD").await;
    assert_eq!(tester.get(&next).await.current_phase.as_deref(), Some("QUEUED"));
    tester.agents.release(uuid(&waiting));
    tester.in_phase(&next, "BUILD").await;
}

// LC-006
#[tokio::test]
async fn a_build_whose_project_is_gone_is_not_tried_again() {
    let tester = Tester::new().await;
    tester.agents.script(|_| Script { hold_in: Some(Phase::Build), ..failing(None) });
    let id = tester.start_with(|input| input.auto_retry_limit_override = Some(3)).await.unwrap().id.unwrap();
    tester.in_phase(&id, "BUILD").await;
    let input = DeleteProjectInput { name: Some("demo".to_string()) };
    tester.engine.delete_project(&tester.caller, input).await.unwrap();
    tester.agents.release(uuid(&id));
    let build = tester.done(&id).await;
    assert_eq!((status(&build), tries(&build).3), ("FAILED", None));
    assert_eq!(tester.listed().await, 1);
}

// LC-070
#[tokio::test]
async fn a_retry_by_hand_begins_its_own_row_of_tries() {
    let tester = Tester::new().await;
    tester.agents.script(|_| failing(None));
    let first = tester.start_with(|input| input.auto_retry_limit_override = Some(1)).await.unwrap();
    let builds = tester.all_tries(&first.id.unwrap()).await;
    let again = RetryBuildInput { id: builds[1].id.clone(), idempotency_token: Some("once".to_string()) };
    let retried = tester.engine.retry_build(&tester.caller, again.clone()).await.unwrap().build.unwrap();
    assert_eq!(
        (retried.current_phase.as_deref(), retried.initiator.as_deref()),
        (Some("QUEUED"), Some("alice"))
    );
    assert_eq!(tries(&retried), (0, 1, None, None));
    let replayed = tester.engine.retry_build(&tester.caller, again).await.unwrap().build.unwrap();
    assert_eq!(replayed.id, retried.id);
    assert_eq!(tester.all_tries(&retried.id.unwrap()).await.len(), 2);
}

// AP-077
#[tokio::test]
async fn a_build_that_runs_can_be_retried_too() {
    let tester = Tester::new().await;
    tester.hold_all_in(Phase::Build);
    let id = tester.start().await;
    tester.in_phase(&id, "BUILD").await;
    let input = RetryBuildInput { id: Some(id.clone()), idempotency_token: None };
    let retried = tester.engine.retry_build(&tester.caller, input).await.unwrap().build.unwrap();
    assert_eq!(retried.build_number, Some(2));
    let second = retried.id.unwrap();
    tester.in_phase(&second, "BUILD").await;
    for id in [&id, &second] {
        tester.agents.release(uuid(id));
        assert_eq!(status(&tester.done(id).await), "SUCCEEDED");
    }
}

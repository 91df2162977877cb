//! The state machine under every order of events that a journal, an impatient user and a bad day can make.

use agent::journal::Used;
use proptest::prelude::*;

use super::*;

fn started(phase: AgentPhase, at_ms: i64) -> Event {
    Event::Reported(Report::PhaseStarted { phase, at_ms })
}

fn ended(phase: AgentPhase, at_ms: i64, outcome: Outcome) -> Event {
    Event::Reported(Report::PhaseEnded { phase, at_ms, outcome, context: Context::default() })
}

fn finished(at_ms: i64, outcome: Outcome) -> Event {
    Event::Reported(Report::Finished { at_ms, outcome })
}

fn run(events: impl IntoIterator<Item = Event>) -> (State, Vec<Effect>) {
    let mut all = Vec::new();
    let mut state = State::accepted(1000);
    for event in events {
        let (next, effects) = step(state, event);
        state = next;
        all.extend(effects);
    }
    (state, all)
}

fn phases(state: &State) -> Vec<(Phase, Option<Outcome>)> {
    state.phases.iter().map(|record| (record.phase, record.end.as_ref().map(|end| end.outcome))).collect()
}

#[test]
fn an_accepted_build_is_queued() {
    let state = State::accepted(1000);
    assert_eq!(phases(&state), [(Phase::Submitted, Some(Outcome::Succeeded)), (Phase::Queued, None)]);
    assert!(!state.is_over());
}

#[test]
fn a_build_that_succeeds_ends_with_the_time_of_completed() {
    let (state, effects) = run([
        Event::Admitted { at_ms: 2000 },
        started(AgentPhase::Provisioning, 2050),
        ended(AgentPhase::Provisioning, 2100, Outcome::Succeeded),
        started(AgentPhase::Build, 2200),
        ended(AgentPhase::Build, 2300, Outcome::Succeeded),
        finished(2400, Outcome::Succeeded),
    ]);
    assert_eq!(effects, [Effect::Launch, Effect::Release]);
    assert_eq!(state.outcome, Some(Outcome::Succeeded));
    assert_eq!(state.ended_ms(), Some(2300));
    let starts: Vec<_> = state.phases.iter().map(|record| record.started_ms).collect();
    assert_eq!(starts, [1000, 1000, 2000, 2100, 2300]);
}

#[test]
fn a_stop_in_the_queue_never_launches() {
    let (state, effects) = run([Event::StopRequested { at_ms: 1500 }, Event::Admitted { at_ms: 1600 }]);
    assert_eq!(effects, [Effect::Release]);
    assert_eq!(state.outcome, Some(Outcome::Stopped));
    assert_eq!(phases(&state)[1..], [(Phase::Queued, Some(Outcome::Stopped)), (Phase::Completed, None)]);
}

#[test]
fn a_stop_of_a_running_build_waits_for_its_agent() {
    let (state, effects) = run([
        Event::Admitted { at_ms: 2000 },
        started(AgentPhase::Build, 2100),
        Event::StopRequested { at_ms: 2200 },
    ]);
    assert_eq!(effects, [Effect::Launch, Effect::Stop]);
    assert!(!state.is_over());
    let (state, _) = step(state, ended(AgentPhase::Build, 2300, Outcome::Stopped));
    let (state, effects) = step(state, finished(2400, Outcome::Stopped));
    assert_eq!(effects, [Effect::Release]);
    assert_eq!(state.outcome, Some(Outcome::Stopped));
}

#[test]
fn waiting_too_long_times_the_queued_phase_out() {
    let (state, effects) = run([Event::QueuedTimedOut { at_ms: 9000 }]);
    assert_eq!(effects, [Effect::Release]);
    assert_eq!(phases(&state)[1..], [(Phase::Queued, Some(Outcome::TimedOut)), (Phase::Completed, None)]);
    assert_eq!(state.outcome, Some(Outcome::TimedOut));
}

#[test]
fn a_build_that_waits_again_after_a_restart_can_wait_too_long_as_well() {
    let (state, effects) = run([Event::Admitted { at_ms: 2000 }, Event::QueuedTimedOut { at_ms: 9000 }]);
    assert_eq!(effects.last(), Some(&Effect::Release));
    assert_eq!(
        phases(&state)[2..],
        [(Phase::Provisioning, Some(Outcome::TimedOut)), (Phase::Completed, None)]
    );
    let launched = Event::Reported(Report::Started { at_ms: 2100, process: 1 });
    let (state, _) = run([Event::Admitted { at_ms: 2000 }, launched, Event::QueuedTimedOut { at_ms: 9000 }]);
    assert!(!state.is_over(), "its agent ends it");
}

#[test]
fn a_lost_agent_ends_the_phase_it_was_in() {
    let context = Context { status_code: "X".to_string(), message: "gone".to_string() };
    let (state, _) = run([
        Event::Admitted { at_ms: 2000 },
        started(AgentPhase::Install, 2100),
        Event::AgentLost { at_ms: 2500, outcome: Outcome::Fault, context: context.clone() },
    ]);
    assert_eq!(state.outcome, Some(Outcome::Fault));
    let install = &state.phases[3];
    let end = PhaseEnd { at_ms: 2500, outcome: Outcome::Fault, context };
    assert_eq!((install.phase, install.end.as_ref()), (Phase::Install, Some(&end)));
}

#[test]
fn a_build_admitted_again_before_any_agent_took_it_stays_in_its_phase() {
    let (state, effects) = run([Event::Admitted { at_ms: 2000 }, Event::Admitted { at_ms: 3000 }]);
    assert_eq!(effects, [Effect::Launch, Effect::Launch]);
    assert_eq!(phases(&state).len(), 3);
}

#[test]
fn a_state_survives_its_stored_form() {
    let (state, _) = run([Event::Admitted { at_ms: 2000 }, started(AgentPhase::Build, 2100)]);
    let text = serde_json::to_string(&state).expect("it is plain data");
    assert_eq!(serde_json::from_str::<State>(&text).expect("as written"), state);
}

// ---- properties ---------------------------------------------------------------------------------------------

fn any_outcome() -> impl Strategy<Value = Outcome> {
    prop::sample::select(vec![
        Outcome::Succeeded,
        Outcome::Failed,
        Outcome::Fault,
        Outcome::TimedOut,
        Outcome::Stopped,
    ])
}

fn any_phase() -> impl Strategy<Value = AgentPhase> {
    prop::sample::select(vec![
        AgentPhase::Provisioning,
        AgentPhase::DownloadSource,
        AgentPhase::Install,
        AgentPhase::PreBuild,
        AgentPhase::Build,
        AgentPhase::PostBuild,
        AgentPhase::UploadArtifacts,
        AgentPhase::Finalizing,
    ])
}

/// Times are not in order: clocks jump.
fn any_event() -> impl Strategy<Value = Event> {
    let at_ms = || 0..10_000i64;
    prop_oneof![
        2 => at_ms().prop_map(|at_ms| Event::Admitted { at_ms }),
        1 => at_ms().prop_map(|at_ms| Event::QueuedTimedOut { at_ms }),
        1 => at_ms().prop_map(|at_ms| Event::StopRequested { at_ms }),
        1 => (at_ms(), any_outcome()).prop_map(|(at_ms, outcome)| {
            Event::ProvisioningFailed { at_ms, outcome, context: Context::default() }
        }),
        1 => (at_ms(), any_outcome()).prop_map(|(at_ms, outcome)| {
            Event::AgentLost { at_ms, outcome, context: Context::default() }
        }),
        1 => at_ms().prop_map(|at_ms| Event::Reported(Report::Started { at_ms, process: 1 })),
        8 => (any_phase(), at_ms()).prop_map(|(phase, at_ms)| started(phase, at_ms)),
        8 => (any_phase(), at_ms(), any_outcome()).prop_map(|(phase, at, outcome)| ended(phase, at, outcome)),
        1 => (at_ms(), any_outcome()).prop_map(|(at_ms, outcome)| finished(at_ms, outcome)),
    ]
}

proptest! {
    #[test]
    fn no_path_leaves_a_terminal_status(events in prop::collection::vec(any_event(), 0..60)) {
        let mut state = State::accepted(1000);
        for event in events {
            let before = state.clone();
            let (next, effects) = step(state, event);
            if before.is_over() {
                prop_assert_eq!(&next, &before);
                prop_assert!(effects.is_empty());
            }
            state = next;
        }
    }

    #[test]
    fn phases_are_ordered_and_contiguous(events in prop::collection::vec(any_event(), 0..60)) {
        let (state, _) = run(events);
        for pair in state.phases.windows(2) {
            prop_assert!(pair[0].phase < pair[1].phase);
            let end = pair[0].end.as_ref().expect("a phase that was left has ended");
            prop_assert_eq!(end.at_ms, pair[1].started_ms);
            prop_assert!(pair[0].started_ms <= end.at_ms);
        }
        prop_assert_eq!(state.is_over(), state.phase() == Phase::Completed);
    }

    #[test]
    fn every_launch_is_followed_by_one_release(events in prop::collection::vec(any_event(), 0..60)) {
        let (mut state, mut effects) = run(events);
        if !state.is_over() {
            let lost = Event::AgentLost { at_ms: 1, outcome: Outcome::Fault, context: Context::default() };
            let (over, more) = step(state, lost);
            state = over;
            effects.extend(more);
        }
        prop_assert!(state.is_over());
        let releases = effects.iter().filter(|effect| **effect == Effect::Release).count();
        prop_assert_eq!(releases, 1);
        prop_assert_eq!(effects.last(), Some(&Effect::Release));
    }

    #[test]
    fn a_journal_told_twice_changes_nothing(reports in prop::collection::vec(any_event(), 0..40)) {
        let mut journal: Vec<Event> = Vec::new();
        let mut highest = None;
        for event in reports {
            // A journal's phases go forward, and each ends before the next begins.
            let Event::Reported(Report::PhaseStarted { phase, .. }) = &event else { continue };
            if highest.is_none_or(|highest| *phase > highest) {
                highest = Some(*phase);
                journal.push(event);
            }
        }
        let admitted = [Event::Admitted { at_ms: 1500 }];
        let (once, _) = run(admitted.iter().chain(&journal).cloned());
        let (twice, _) = run(admitted.iter().chain(&journal).chain(&journal).cloned());
        prop_assert_eq!(once, twice);
    }
}

#[test]
fn what_phases_used_is_kept_once_each() {
    let told = |phase, cpu_millis| {
        let used = Used { cpu_millis, ..Used::default() };
        let told = PhaseUsed { phase, used, disk_used_bytes: None, commands: Vec::new(), more_commands: 0 };
        Event::Reported(Report::Used(told))
    };
    let journal = || [told(AgentPhase::Install, 5), told(AgentPhase::Build, 7)];
    let (state, _) = run([Event::Admitted { at_ms: 2000 }].into_iter().chain(journal()).chain(journal()));
    let kept: Vec<_> = state.used.iter().map(|one| (one.phase, one.used.cpu_millis)).collect();
    assert_eq!(kept, [(AgentPhase::Install, 5), (AgentPhase::Build, 7)]);
    // A build that was stored before anything was told.
    let mut stored = serde_json::to_value(&state).unwrap();
    stored.as_object_mut().unwrap().remove("used");
    assert!(serde_json::from_value::<State>(stored).unwrap().used.is_empty());
}

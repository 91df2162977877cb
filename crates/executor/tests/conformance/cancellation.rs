//! Stops and time limits.

use std::time::{Duration, Instant};

use agent::journal::{Outcome, Phase};
use serde_json::json;

use crate::world::{World, has_processes, outcome_of, processes_of};

/// How soon after a stop everything is gone (P7).
const STOPPED_WITHIN: Duration = Duration::from_secs(10);

crate::cases!(
    Contract:
        a_stopped_build_says_so,
        a_stop_asked_for_twice_is_one,
        a_build_can_be_stopped_as_soon_as_it_is_launched,
        the_next_driver_can_stop_the_build,
        a_stopped_build_is_torn_down_all_the_same;
    Environment:
        a_command_that_hears_no_signal_is_stopped_in_time,
        what_runs_in_the_background_ends_with_the_build,
        a_stop_ends_no_other_build,
        nothing_runs_after_a_stop,
        a_build_that_takes_too_long_is_timed_out,
        a_build_can_be_stopped_while_it_waits_for_an_answer;
);

fn a_stopped_build_says_so(world: &World) {
    let ended = world.launch(&world.waits()).until_it_waits().stop().ended().with(Outcome::Stopped);
    assert_eq!(ended.phase(Phase::Build).0, Outcome::Stopped);
}

fn a_stop_asked_for_twice_is_one(world: &World) {
    world.launch(&world.waits()).until_it_waits().stop().stop().ended().with(Outcome::Stopped);
}

fn a_build_can_be_stopped_as_soon_as_it_is_launched(world: &World) {
    world.launch(&world.waits()).stop().ended().with(Outcome::Stopped);
}

fn the_next_driver_can_stop_the_build(world: &World) {
    let build = world.waits();
    let first = world.launch(&build).until_it_waits();
    world.adopted(&build).stop().ended().with(Outcome::Stopped);
    first.ended().with(Outcome::Stopped);
}

fn a_stopped_build_is_torn_down_all_the_same(world: &World) {
    let ended = world.launch(&world.waits()).until_it_waits().stop().ended();
    assert_eq!(ended.phase(Phase::Finalizing).0, Outcome::Succeeded);
}

fn a_command_that_hears_no_signal_is_stopped_in_time(world: &World) {
    let deaf = "trap '' TERM INT HUP QUIT; echo deaf; while :; do sleep 1; done";
    let stopped = || {
        let build = world.commands(&[deaf]);
        let running = world.launch(&build).until_it_says("deaf");
        let asked = Instant::now();
        running.stop().ended().with(Outcome::Stopped);
        let took = asked.elapsed();
        assert_eq!(processes_of(build.uuid()), Vec::<u32>::new());
        took
    };
    // Once the host may be held up.
    let mut took = [stopped(), stopped(), stopped()];
    took.sort();
    assert!(took[1] < STOPPED_WITHIN, "it took {took:?}");
}

fn what_runs_in_the_background_ends_with_the_build(world: &World) {
    let build =
        world.commands(&["setsid sleep 1000 >/dev/null 2>&1 &", "(trap '' HUP; sleep 1000) & echo left"]);
    let running = world.launch(&build).until_it_says("left");
    running.ended().with(Outcome::Succeeded);
    assert_eq!(processes_of(build.uuid()), Vec::<u32>::new());
}

fn a_stop_ends_no_other_build(world: &World) {
    let (one, other) = (world.waits(), world.waits());
    let (first, second) = (world.launch(&one).until_it_waits(), world.launch(&other).until_it_waits());
    first.stop().ended().with(Outcome::Stopped);
    assert!(has_processes(other.uuid()));
    assert_eq!(outcome_of(&second.events()), None);
    second.stop().ended().with(Outcome::Stopped);
}

fn nothing_runs_after_a_stop(world: &World) {
    let build = world.waits().phase("post_build", json!({"commands": ["echo afterwards"]}));
    let ended = world.launch(&build).until_it_waits().stop().ended().with(Outcome::Stopped);
    assert_eq!(ended.output(), ["waiting"]);
}

fn a_build_that_takes_too_long_is_timed_out(world: &World) {
    let mut build = world.waits();
    // Enough to get there on a host that is held up.
    build.plan.timeout_seconds = 10;
    let ended = world.run(&build).with(Outcome::TimedOut);
    assert_eq!(ended.phase(Phase::Build).1.status_code, "BUILD_TIMED_OUT");
    assert_eq!(processes_of(build.uuid()), Vec::<u32>::new());
}

fn a_build_can_be_stopped_while_it_waits_for_an_answer(world: &World) {
    let running = world.launch(&world.asks());
    let running = running.until(|events, _| {
        events.iter().any(|event| matches!(event, agent::journal::Event::ReferencesNeeded { .. }))
    });
    running.stop().ended().with(Outcome::Stopped);
}

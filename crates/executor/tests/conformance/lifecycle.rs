//! From launch to removal, as the journal tells it.

use std::collections::BTreeMap;

use agent::answer::Answer;
use agent::journal::{Event, Outcome, Phase};
use executor::{Adopted, Error};

use crate::world::{World, outcome_of};

crate::cases!(Contract:
    a_build_that_succeeds_says_so_last,
    a_build_that_fails_is_no_error_of_the_executor,
    the_agent_has_taken_the_build_before_anything_else,
    phases_come_in_order_and_each_ends_before_the_next,
    a_journal_read_from_an_offset_has_the_rest,
    what_happened_before_a_driver_came_is_announced_to_it,
    builds_side_by_side_do_not_mix,
    builds_are_listed_until_they_are_removed,
    removing_what_is_not_there_is_fine,
    what_an_agent_left_is_read_by_its_name,
    a_question_waits_for_its_answer,
    a_refused_question_fails_the_phase;
);

fn a_build_that_succeeds_says_so_last(world: &World) {
    world.run(&world.succeeds()).with(Outcome::Succeeded);
}

fn a_build_that_fails_is_no_error_of_the_executor(world: &World) {
    let ended = world.run(&world.fails()).with(Outcome::Failed);
    let (outcome, context) = ended.phase(Phase::Build);
    assert_eq!((outcome, context.status_code.as_str()), (Outcome::Failed, "COMMAND_EXECUTION_ERROR"));
}

fn the_agent_has_taken_the_build_before_anything_else(world: &World) {
    let running = world.launch(&world.waits());
    assert!(matches!(running.events().first(), None | Some(Event::Started { .. })));
    let ended = running.stop().ended();
    assert!(matches!(ended.events.first(), Some(Event::Started { .. })), "{:?}", ended.events);
}

fn phases_come_in_order_and_each_ends_before_the_next(world: &World) {
    let ended = world.run(&world.succeeds());
    let phases = ended.phases();
    assert!(phases.is_sorted(), "{phases:?}");
    assert_eq!((phases.first(), phases.last()), (Some(&Phase::Provisioning), Some(&Phase::Finalizing)));
    let mut open = None;
    for event in &ended.events {
        match event {
            Event::PhaseStarted { phase, .. } => assert_eq!(open.replace(*phase), None),
            Event::PhaseEnded { phase, .. } => assert_eq!(open.take(), Some(*phase)),
            _ => {}
        }
    }
    assert_eq!(open, None);
}

fn a_journal_read_from_an_offset_has_the_rest(world: &World) {
    let running = world.launch(&world.waits()).until_it_waits();
    let (before, offset) = running.link.events_after(0).unwrap();
    let mut running = running.stop();
    world.block_on(async { while running.link.signal().await != executor::Signal::Lost {} });
    let (rest, _) = running.link.events_after(offset).unwrap();
    assert!(!before.is_empty() && !rest.is_empty());
    assert_eq!([before, rest].concat(), running.events());
}

fn what_happened_before_a_driver_came_is_announced_to_it(world: &World) {
    let build = world.waits();
    let first = world.launch(&build).until_it_waits();
    let mut second = world.adopted(&build);
    assert_eq!(world.block_on(second.link.signal()), executor::Signal::JournalGrew);
    assert_eq!(second.events(), first.events());
    first.stop().ended();
}

fn builds_side_by_side_do_not_mix(world: &World) {
    let (waits, fails, succeeds) = (world.waits(), world.fails(), world.succeeds());
    let waiting = world.launch(&waits).until_it_waits();
    let (failing, succeeding) = (world.launch(&fails), world.launch(&succeeds));
    failing.ended().with(Outcome::Failed);
    succeeding.ended().with(Outcome::Succeeded);
    assert_eq!(outcome_of(&waiting.events()), None);
    waiting.stop().ended().with(Outcome::Stopped);
}

fn builds_are_listed_until_they_are_removed(world: &World) {
    let (one, other) = (world.succeeds(), world.waits());
    world.run(&one);
    let running = world.launch(&other);
    let mut expected = [one.uuid().to_string(), other.uuid().to_string()];
    expected.sort();
    let mut remaining = world.remaining();
    remaining.sort();
    assert_eq!(remaining, expected);
    running.stop().ended();
    for build in [&one, &other] {
        world.remove(build.uuid());
    }
    assert_eq!(world.remaining(), Vec::<String>::new());
}

fn removing_what_is_not_there_is_fine(world: &World) {
    let build = world.succeeds();
    world.remove(build.uuid());
    world.run(&build);
    world.remove(build.uuid());
    world.remove(build.uuid());
    assert!(matches!(world.adopt(build.uuid()), Adopted::NeverStarted));
}

fn what_an_agent_left_is_read_by_its_name(world: &World) {
    let build = world.succeeds();
    world.run(&build);
    let left = |file| world.block_on(world.executor().left(build.uuid(), file));
    assert!(!left(agent::JOURNAL).unwrap().is_empty());
    let missing = left("no-such-file").unwrap_err();
    assert!(matches!(&missing, Error::Folder { path, .. } if path.ends_with("no-such-file")), "{missing:?}");
}

fn values(parameter: &str) -> Answer {
    Answer::Values {
        parameters: BTreeMap::from([("/parameter".to_string(), parameter.to_string())]),
        secrets: BTreeMap::new(),
        git: Vec::new(),
    }
}

fn asked(events: &[Event], _log: &str) -> bool {
    events.iter().any(
        |event| matches!(event, Event::ReferencesNeeded { parameters, .. } if parameters == &["/parameter"]),
    )
}

fn a_question_waits_for_its_answer(world: &World) {
    let running = world.launch(&world.asks()).until(asked);
    world.block_on(running.link.answer(values("told")));
    running.ended().with(Outcome::Succeeded);
}

fn a_refused_question_fails_the_phase(world: &World) {
    let running = world.launch(&world.asks()).until(asked);
    let refusal =
        Answer::Refused { status_code: "NO".to_string(), message: "There is no such thing".to_string() };
    world.block_on(running.link.answer(refusal));
    let (outcome, context) = running.ended().with(Outcome::Failed).phase(Phase::DownloadSource);
    assert_eq!((outcome, context.status_code.as_str()), (Outcome::Failed, "NO"));
    assert_eq!(context.message, "There is no such thing");
}

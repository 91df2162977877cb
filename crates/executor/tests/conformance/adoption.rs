//! Builds that are found again: by another driver, by the next server, after their agent was killed.

use agent::journal::{Event, Outcome};
use executor::Adopted;

use crate::world::{World, has_processes, outcome_of, processes_of, read_log, text};

crate::cases!(
    Contract:
        a_build_that_nobody_launched_never_started,
        a_build_that_never_started_can_be_launched,
        a_build_goes_on_without_its_driver,
        the_next_driver_reads_the_journal_from_its_beginning,
        two_drivers_both_hear_of_the_end,
        a_build_that_ended_unseen_is_dead_and_its_last_word_is_there,
        a_killed_agent_is_dead_with_what_it_had_written;
    Environment:
        a_build_goes_on_when_its_server_is_killed,
        a_build_that_ends_while_no_server_is_there_ends_properly,
        commands_run_once_whoever_looks,
        a_killed_agent_takes_its_environment_with_it,
        an_agent_killed_with_its_server_leaves_nothing_running,
        a_new_server_knows_of_what_an_earlier_one_left;
);

fn a_build_that_nobody_launched_never_started(world: &World) {
    for _ in 0..2 {
        assert!(matches!(world.adopt(world.succeeds().uuid()), Adopted::NeverStarted));
    }
}

fn a_build_that_never_started_can_be_launched(world: &World) {
    let build = world.succeeds();
    assert!(matches!(world.adopt(build.uuid()), Adopted::NeverStarted));
    world.run(&build).with(Outcome::Succeeded);
}

fn a_build_goes_on_without_its_driver(world: &World) {
    let build = world.waits();
    drop(world.launch(&build));
    world.restart();
    let running = world.adopted(&build).until_it_waits();
    running.stop().ended().with(Outcome::Stopped);
}

fn the_next_driver_reads_the_journal_from_its_beginning(world: &World) {
    let build = world.waits();
    let first = world.launch(&build).until_it_waits();
    let seen = first.events();
    drop(first);
    world.restart();
    let second = world.adopted(&build);
    assert_eq!(second.events(), seen);
    second.stop().ended();
}

fn two_drivers_both_hear_of_the_end(world: &World) {
    let build = world.waits();
    let first = world.launch(&build).until_it_waits();
    let second = world.adopted(&build);
    let first = first.stop().ended().with(Outcome::Stopped);
    assert_eq!(second.ended().events, first.events);
}

fn a_build_that_ended_unseen_is_dead_and_its_last_word_is_there(world: &World) {
    let build = world.succeeds();
    drop(world.launch(&build));
    assert_eq!(outcome_of(&world.dead(build.uuid())), Some(Outcome::Succeeded));
}

fn a_killed_agent_is_dead_with_what_it_had_written(world: &World) {
    let build = world.waits();
    let killed = world.launch(&build).until_it_waits().killed();
    assert_eq!(outcome_of(&killed.events), None);
    assert_eq!(world.dead(build.uuid()), killed.events);
}

// ---- with a server that is really killed --------------------------------------------------------------------

fn a_build_goes_on_when_its_server_is_killed(world: &World) {
    let build = world.waits();
    world.launch_by_a_server_killed_at(&build, "waiting");
    let running = world.adopted(&build);
    assert_eq!(outcome_of(&running.events()), None);
    running.stop().ended().with(Outcome::Stopped);
}

fn a_build_that_ends_while_no_server_is_there_ends_properly(world: &World) {
    let build = world.commands(&["echo begun; sleep 1; echo over"]);
    world.launch_by_a_server_killed_at(&build, "begun");
    assert_eq!(outcome_of(&world.dead(build.uuid())), Some(Outcome::Succeeded));
    assert!(text(&read_log(&build.plan.log)).contains("over\n"));
}

fn commands_run_once_whoever_looks(world: &World) {
    let build = world.commands(&["echo once; sleep 1"]);
    world.launch_by_a_server_killed_at(&build, "once");
    for _ in 0..3 {
        world.restart();
        world.adopt(build.uuid());
    }
    let events = world.dead(build.uuid());
    let starts = events.iter().filter(|event| matches!(event, Event::Started { .. })).count();
    let log = text(&read_log(&build.plan.log));
    assert_eq!((starts, log.lines().filter(|line| *line == "once").count()), (1, 1), "{log}");
}

fn a_killed_agent_takes_its_environment_with_it(world: &World) {
    let build = world.waits();
    let running = world.launch(&build).until_it_waits();
    assert!(has_processes(build.uuid()), "it has processes by which it is known");
    running.killed();
    world.dead(build.uuid());
    assert_eq!(processes_of(build.uuid()), Vec::<u32>::new());
}

fn an_agent_killed_with_its_server_leaves_nothing_running(world: &World) {
    let build = world.waits();
    world.launch_by_a_server_killed_at(&build, "waiting");
    world.adopted(&build).killed();
    world.restart();
    world.dead(build.uuid());
    assert_eq!(processes_of(build.uuid()), Vec::<u32>::new());
}

fn a_new_server_knows_of_what_an_earlier_one_left(world: &World) {
    let build = world.waits();
    world.launch_by_a_server_killed_at(&build, "waiting");
    world.restart();
    assert_eq!(world.remaining(), [build.uuid()]);
    world.adopted(&build).stop().ended();
    world.remove(build.uuid());
    assert_eq!(world.remaining(), Vec::<String>::new());
}

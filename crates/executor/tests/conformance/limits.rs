//! Limits of a build, and what it is told to have used.

use agent::journal::{Context, Event, Outcome, Phase};
use agent::plan::Limits;

use crate::world::World;

crate::cases!(
    Limits:
        a_build_beyond_its_memory_fails_and_nothing_else_does,
        a_build_within_its_memory_is_left_in_peace,
        a_build_cannot_have_more_processes_than_it_may,
        a_build_gets_no_more_processor_than_it_may,
        the_most_memory_is_told;
    Environment:
        processor_time_is_told_by_phase,
        programs_leave_no_memory_image_behind,
        many_files_can_be_open;
);

const MEGABYTE: u64 = 1 << 20;

fn a_build_beyond_its_memory_fails_and_nothing_else_does(world: &World) {
    let neighbour = world.launch(&world.waits()).until_it_waits();
    let limits = Limits { memory_bytes: Some(64 * MEGABYTE), ..Limits::default() };
    // tail keeps a line that never ends.
    let ended = world.run(&world.commands(&["tail /dev/zero"]).limited(limits)).with(Outcome::Failed);
    // LC-058
    let (_, Context { message: said, .. }) = ended.phase(Phase::Build);
    assert!(said.ends_with("build container died because it was out of memory; it has 67 MB"), "{said}");
    neighbour.stop().ended().with(Outcome::Stopped);
}

fn a_build_within_its_memory_is_left_in_peace(world: &World) {
    let limits = Limits { memory_bytes: Some(256 * MEGABYTE), ..Limits::default() };
    let build = world.commands(&["head -c 30000000 /dev/zero | tail | wc -c"]).limited(limits);
    assert_eq!(world.run(&build).with(Outcome::Succeeded).output(), ["30000000"]);
}

fn a_build_cannot_have_more_processes_than_it_may(world: &World) {
    let limits = Limits { pids: Some(32), ..Limits::default() };
    let fork = "for i in $(seq 100); do sleep 1000 >/dev/null 2>&1 & done; true";
    let count = world.run(&world.commands(&[fork]).limited(limits));
    // The shell that cannot fork fails; it had begun some.
    count.with(Outcome::Failed);
    let few = "for i in $(seq 10); do sleep 1000 >/dev/null 2>&1 & done; echo enough";
    let few = world.run(&world.commands(&[few]).limited(limits)).with(Outcome::Succeeded);
    assert_eq!(few.output(), ["enough"]);
}

fn a_build_gets_no_more_processor_than_it_may(world: &World) {
    let limits = Limits { cpu_millis: Some(200), ..Limits::default() };
    let busy = "timeout 2 sh -c 'while :; do :; done' || true";
    let ended = world.run(&world.commands(&[busy]).limited(limits)).with(Outcome::Succeeded);
    let used = cpu_millis(&ended.events);
    assert!(used < 800, "{used} ms of 2 s at a fifth of a processor");
}

fn the_most_memory_is_told(world: &World) {
    let ended = world.run(&world.commands(&["head -c 50000000 /dev/zero | tail | wc -c"]));
    let peak = ended.events.iter().filter_map(|event| match event {
        Event::Used { memory_peak_bytes, .. } => *memory_peak_bytes,
        _ => None,
    });
    let peak = peak.max().unwrap();
    assert!((50_000_000..2_000_000_000).contains(&peak), "{peak}");
}

fn processor_time_is_told_by_phase(world: &World) {
    let ended = world.run(&world.commands(&["timeout 1 sh -c 'while :; do :; done' || true"]));
    // However busy the host is.
    assert!(cpu_millis(&ended.events) >= 20, "{:?}", ended.events);
}

fn cpu_millis(events: &[Event]) -> u64 {
    let used = events.iter().filter_map(|event| match event {
        Event::Used { phase: Phase::Build, cpu_millis, .. } => Some(*cpu_millis),
        _ => None,
    });
    used.sum()
}

fn programs_leave_no_memory_image_behind(world: &World) {
    assert_eq!(world.output(&["ulimit -c; ulimit -H -c"]), ["0", "0"]);
}

fn many_files_can_be_open(world: &World) {
    let limit: u64 = world.output(&["ulimit -n"])[0].parse().unwrap();
    assert!((1024..=1 << 20).contains(&limit), "{limit}");
}

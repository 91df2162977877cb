//! Limits of a build, and what it is told to have used.

use agent::journal::{CommandUsed, Context, Event, Outcome, Phase, PhaseUsed};
use agent::plan::Limits;

use crate::world::World;

crate::cases!(
    Limits:
        a_build_beyond_its_memory_fails_and_nothing_else_does,
        a_build_within_its_memory_is_left_in_peace,
        a_build_cannot_have_more_processes_than_it_may,
        a_build_gets_no_more_processor_than_it_may,
        the_most_memory_is_told_by_command;
    Environment:
        processor_time_is_told_by_phase_and_command,
        what_goes_to_disk_is_told,
        very_many_commands_are_told_of_together,
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
    let used = used(&ended.events, Phase::Build).used.cpu_millis;
    assert!(used < 800, "{used} ms of 2 s at a fifth of a processor");
}

fn the_most_memory_is_told_by_command(world: &World) {
    let ended = world.run(&world.commands(&["head -c 50000000 /dev/zero | tail | wc -c", "true"]));
    let phase = used(&ended.events, Phase::Build);
    let peak = |command: &CommandUsed| command.used.memory_peak_bytes.unwrap();
    let (large, small) = (peak(&phase.commands[0]), peak(&phase.commands[1]));
    assert!((50_000_000..2_000_000_000).contains(&large), "{large}");
    assert!(small < large && phase.used.memory_peak_bytes == Some(large), "{phase:?}");
    assert!(phase.used.memory_mean_bytes.unwrap() <= large, "{phase:?}");
}

/// A second of processor time, however long that takes.
const SECOND: &str = "sh -c 'ulimit -t 1; while :; do :; done' || true";
/// Half of one in the background, by somebody who lives on.
const BEHIND: &str = "(while :; do :; done) >/dev/null 2>&1 & until [ $(cut -d' ' -f14 /proc/$!/stat) -ge 50 ]; do sleep 0.05; done";

fn processor_time_is_told_by_phase_and_command(world: &World) {
    let ended = world.run(&world.commands(&["true", SECOND, BEHIND])).with(Outcome::Succeeded);
    let phase = used(&ended.events, Phase::Build);
    let [idle, second, behind] = &phase.commands[..] else { panic!("{phase:?}") };
    assert!(idle.used.cpu_millis < 400, "{phase:?}");
    // On a busy host the limit counts a whole tick for a part of one.
    assert!((500..2000).contains(&second.used.cpu_millis), "{phase:?}");
    assert!((400..3000).contains(&behind.used.cpu_millis), "{phase:?}");
    assert!(second.command.starts_with("sh -c 'ulimit") && second.took_ms >= second.used.cpu_millis / 8);
    assert!(phase.used.cpu_millis >= 900, "{phase:?}");
    assert!(used(&ended.events, Phase::PreBuild).used.cpu_millis < 400);
}

fn what_goes_to_disk_is_told(world: &World) {
    let writes = "head -c 20000000 /dev/zero > /large && sync /large";
    let ended = world.run(&world.commands(&["true", writes])).with(Outcome::Succeeded);
    let phase = used(&ended.events, Phase::Build);
    // An ordinary user's kernel may not tell.
    if let Some(written) = phase.commands[1].used.disk_written_bytes {
        assert!((20_000_000..40_000_000).contains(&written), "{phase:?}");
        assert!(phase.commands[0].used.disk_written_bytes.unwrap() < 10_000_000, "{phase:?}");
    }
    // What somebody else's container takes is not ours to know.
    if let Some(room) = phase.disk_used_bytes {
        assert!((20_000_000..100_000_000).contains(&room), "{phase:?}");
    }
}

fn very_many_commands_are_told_of_together(world: &World) {
    let commands = vec!["true"; agent::MOST_COMMANDS + 5];
    let ended = world.run(&world.commands(&commands)).with(Outcome::Succeeded);
    let phase = used(&ended.events, Phase::Build);
    assert_eq!((phase.commands.len(), phase.more_commands), (agent::MOST_COMMANDS, 5));
}

fn used(events: &[Event], wanted: Phase) -> PhaseUsed {
    let found = events.iter().find_map(|event| match event {
        Event::Used(used) if used.phase == wanted => Some(used.clone()),
        _ => None,
    });
    found.unwrap()
}

fn programs_leave_no_memory_image_behind(world: &World) {
    assert_eq!(world.output(&["ulimit -c; ulimit -H -c"]), ["0", "0"]);
}

fn many_files_can_be_open(world: &World) {
    let limit: u64 = world.output(&["ulimit -n"])[0].parse().unwrap();
    assert!((1024..=1 << 20).contains(&limit), "{limit}");
}

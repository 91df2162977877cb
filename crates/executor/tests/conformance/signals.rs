//! How commands end, and what they and init do about signals.

use agent::journal::{Outcome, Phase};
use serde_json::json;

use crate::world::World;

crate::cases!(Environment:
    an_exit_status_fails_the_phase_and_is_told,
    a_command_that_is_killed_fails_the_phase,
    a_program_that_is_not_there_fails_the_phase,
    commands_after_a_failure_do_not_run_but_those_of_finally_do,
    no_signal_is_blocked_or_ignored,
    a_closed_pipe_ends_its_writer,
    the_first_process_cannot_be_killed_from_inside,
    orphans_are_buried,
    what_runs_on_in_the_background_holds_no_command_up,
    a_command_in_a_session_of_its_own_is_no_harm;
);

fn an_exit_status_fails_the_phase_and_is_told(world: &World) {
    let (outcome, context) =
        world.run(&world.commands(&["exit 3"])).with(Outcome::Failed).phase(Phase::Build);
    assert_eq!((outcome, context.status_code.as_str()), (Outcome::Failed, "COMMAND_EXECUTION_ERROR"));
    assert!(context.message.contains("exit status 3"), "{}", context.message);
}

fn a_command_that_is_killed_fails_the_phase(world: &World) {
    let ended = world.run(&world.commands(&["kill -9 $$"])).with(Outcome::Failed);
    assert_eq!(ended.phase(Phase::Build).1.status_code, "COMMAND_EXECUTION_ERROR");
}

fn a_program_that_is_not_there_fails_the_phase(world: &World) {
    let ended = world.run(&world.commands(&["no-such-program"])).with(Outcome::Failed);
    assert!(
        ended.phase(Phase::Build).1.message.contains("exit status 127"),
        "{:?}",
        ended.phase(Phase::Build)
    );
}

fn commands_after_a_failure_do_not_run_but_those_of_finally_do(world: &World) {
    let build = world
        .commands(&[])
        .phase("build", json!({"commands": ["false", "echo after"], "finally": ["echo finally"]}));
    assert_eq!(world.run(&build).with(Outcome::Failed).output(), ["finally"]);
}

fn no_signal_is_blocked_or_ignored(world: &World) {
    let output = world.output(&["grep -E 'SigBlk|SigIgn' /proc/self/status"]);
    for line in &output {
        let set = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
        // Beyond them are those that the C library has for itself and does not let anybody touch.
        assert_eq!(set & 0x7fff_ffff, 0, "{line}");
    }
    assert_eq!(output.len(), 2);
}

fn a_closed_pipe_ends_its_writer(world: &World) {
    assert_eq!(world.output(&["yes | head -n 1"]), ["y"]);
}

fn the_first_process_cannot_be_killed_from_inside(world: &World) {
    let output =
        world.output(&["kill -9 1; kill -TERM 1; kill -INT 1; kill -HUP 1; echo tried", "echo alive"]);
    assert!(output.ends_with(&["tried".to_string(), "alive".to_string()]), "{output:?}");
}

fn orphans_are_buried(world: &World) {
    let orphans = "for i in 1 2 3 4 5; do (sh -c 'sleep 0.1 & exit 0'); done; sleep 0.5";
    // What has just ended may not be buried yet.
    let count = "for i in $(seq 600); do n=$(cat /proc/[0-9]*/stat 2>/dev/null | grep -c ') Z '); \
         [ $n = 0 ] && break; sleep 0.1; done; echo $n";
    assert_eq!(world.output(&[orphans, count]), ["0"]);
}

fn what_runs_on_in_the_background_holds_no_command_up(world: &World) {
    assert_eq!(world.output(&["sleep 1000 >/dev/null 2>&1 &", "echo next"]), ["next"]);
}

fn a_command_in_a_session_of_its_own_is_no_harm(world: &World) {
    assert_eq!(world.output(&["setsid sh -c 'echo apart'", "echo next"]), ["apart", "next"]);
}

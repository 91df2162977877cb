//! What is left on the host once a build is over and removed: nothing.

use std::fs;

use agent::journal::Outcome;
use agent::plan::Limits;

use crate::world::{World, processes_of};

crate::cases!(
    Contract:
        a_removed_build_leaves_no_file;
    Environment:
        a_build_that_succeeded_leaves_nothing,
        a_build_that_failed_leaves_nothing,
        a_stopped_build_leaves_nothing,
        a_build_with_many_processes_leaves_nothing,
        a_killed_agent_leaves_nothing_once_its_build_is_removed,
        folders_that_nobody_may_enter_are_removed_too,
        many_builds_leave_no_descriptor_open;
    Users:
        what_belongs_to_other_users_is_removed_too;
);

fn a_removed_build_leaves_no_file(world: &World) {
    let build = world.succeeds();
    world.run(&build);
    world.remove(build.uuid());
    let left: Vec<_> =
        fs::read_dir(world.folder().join("builds")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains(build.uuid())), "{left:?}");
}

/// Processes, mounts, cgroups and files of this build, wherever they are.
#[track_caller]
fn assert_nothing_left(world: &World, uuid: &str) {
    assert_eq!(processes_of(uuid), Vec::<u32>::new(), "processes");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert_eq!(mounts.lines().find(|line| line.contains(uuid)), None, "mounts");
    assert_eq!(cgroups_named(uuid), Vec::<String>::new(), "cgroups");
    assert!(!world.folder().join("builds").join(uuid).exists(), "its folder");
    assert_eq!(world.remaining(), Vec::<String>::new());
    assert_eq!(world.subject.left_behind(uuid), Vec::<String>::new());
}

/// Folders of control groups with the build in their name.
fn cgroups_named(uuid: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                found.extend(
                    entry.file_name().to_str().filter(|name| name.contains(uuid)).map(str::to_string),
                );
                open.push(entry.path());
            }
        }
    }
    found
}

fn a_build_that_succeeded_leaves_nothing(world: &World) {
    let limits =
        Limits { memory_bytes: Some(256 << 20), pids: Some(100), cpu_millis: Some(1000), disk_bytes: None };
    let build = world.succeeds().limited(limits);
    world.run(&build).with(Outcome::Succeeded);
    world.remove(build.uuid());
    assert_nothing_left(world, build.uuid());
}

fn a_build_that_failed_leaves_nothing(world: &World) {
    let build = world.fails();
    world.run(&build).with(Outcome::Failed);
    world.remove(build.uuid());
    assert_nothing_left(world, build.uuid());
}

fn a_stopped_build_leaves_nothing(world: &World) {
    let build = world.waits();
    world.launch(&build).until_it_waits().stop().ended();
    world.remove(build.uuid());
    assert_nothing_left(world, build.uuid());
}

fn a_build_with_many_processes_leaves_nothing(world: &World) {
    let many = "for i in $(seq 200); do setsid sleep 1000 >/dev/null 2>&1 & done; echo many";
    let build = world.commands(&[many]);
    world.run(&build).with(Outcome::Succeeded);
    world.remove(build.uuid());
    assert_nothing_left(world, build.uuid());
}

fn a_killed_agent_leaves_nothing_once_its_build_is_removed(world: &World) {
    let build = world.waits();
    world.launch(&build).until_it_waits().killed();
    world.dead(build.uuid());
    world.remove(build.uuid());
    assert_nothing_left(world, build.uuid());
}

fn folders_that_nobody_may_enter_are_removed_too(world: &World) {
    let build = world.commands(&[
        "mkdir -p /var/closed/deep; echo x >/var/closed/deep/file; chmod 000 /var/closed/deep /var/closed",
    ]);
    world.run(&build).with(Outcome::Succeeded);
    world.remove(build.uuid());
    assert_nothing_left(world, build.uuid());
}

fn what_belongs_to_other_users_is_removed_too(world: &World) {
    let hers = "mkdir -p /var/hers/deep; echo x >/var/hers/deep/file; chown -R ada:makers /var/hers; chmod -R go= /var/hers";
    let build = world.commands(&[hers, "mkdir /var/of; touch /var/of/60000; chown -R 60000 /var/of"]);
    world.run(&build).with(Outcome::Succeeded);
    world.remove(build.uuid());
    assert_nothing_left(world, build.uuid());
    // Nor where nobody was there to end it in order.
    let build = world.commands(&[hers, "echo waiting; sleep 1000"]);
    world.launch(&build).until_it_waits().killed();
    world.restart();
    world.dead(build.uuid());
    world.remove(build.uuid());
    assert_nothing_left(world, build.uuid());
}

fn many_builds_leave_no_descriptor_open(world: &World) {
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let round = || {
        let build = world.succeeds();
        world.run(&build);
        world.remove(build.uuid());
    };
    round();
    let before = open();
    for _ in 0..10 {
        round();
    }
    // An agent that waits for the next build may be just in the making.
    assert!(open() <= before + 4, "{before} and then {}", open());
}

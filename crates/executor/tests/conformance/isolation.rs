//! What a build does not get at. `docs/isolation.md` promises more of the embedded executor; this is what all promise.

use agent::journal::Outcome;

use crate::world::World;

crate::cases!(Environment:
    processes_of_the_host_are_out_of_sight,
    builds_do_not_see_each_other,
    without_a_network_there_is_a_loopback_interface_and_nothing_else,
    file_systems_cannot_be_mounted,
    settings_of_the_kernel_cannot_be_changed,
    privileges_cannot_be_gained,
    system_calls_are_filtered,
    the_agents_own_files_are_out_of_sight,
    devices_cannot_be_made,
    the_first_process_gives_nothing_away;
Privileges:
    a_privileged_build_mounts_and_makes_namespaces,
    a_privileged_build_has_control_groups_to_write_to,
    a_privileged_build_has_a_folder_for_docker_that_is_no_overlay;
);

fn processes_of_the_host_are_out_of_sight(world: &World) {
    let output = world.output(&["ls -d /proc/[0-9]* | wc -l"]);
    let count: u32 = output[0].trim().parse().unwrap();
    assert!(count < 12, "{count}");
    assert_eq!(
        world.output(&[&format!("ls -d /proc/{} 2>/dev/null || echo none", i32::MAX / 512)]),
        ["none"]
    );
}

fn builds_do_not_see_each_other(world: &World) {
    let other = world
        .launch(&world.commands(&["echo secret >/tmp/secret; echo ready; sleep 1000"]))
        .until_it_says("ready");
    assert_eq!(world.output(&["ls /tmp; ps | grep -c 'sleep 100[0]' || true"]), ["0"]);
    other.stop().ended().with(Outcome::Stopped);
}

fn without_a_network_there_is_a_loopback_interface_and_nothing_else(world: &World) {
    let output = world.output(&[
        "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '",
        // It may be a while until it listens.
        "nc -l -p 7000 -e echo hello & for i in $(seq 600); do nc 127.0.0.1 7000 </dev/null 2>/dev/null && break; sleep 0.1; done",
    ]);
    // Some kernels put tunnels that lead nowhere into every new network.
    let leads_somewhere = |name: &&String| name.starts_with("eth") || name.starts_with("en");
    assert!(
        output.contains(&"lo".to_string()) && !output.iter().any(|name| leads_somewhere(&name)),
        "{output:?}"
    );
    assert_eq!(output.last().unwrap(), "hello");
}

fn file_systems_cannot_be_mounted(world: &World) {
    let commands = [
        "mkdir /m; mount -t tmpfs none /m 2>/dev/null && echo mounted; umount /proc 2>/dev/null && echo unmounted; echo tried",
    ];
    assert_eq!(world.output(&commands), ["tried"]);
}

/// What the commands of a privileged build say.
fn privileged(world: &World, commands: &[&str]) -> Vec<String> {
    let mut build = world.commands(commands);
    build.plan.environment.privileged = true;
    world.run(&build).with(Outcome::Succeeded).output()
}

fn a_privileged_build_mounts_and_makes_namespaces(world: &World) {
    let commands = [
        "mkdir /m; mount -t tmpfs none /m && echo mounted",
        "unshare -m -p -f sh -c 'mount -t proc proc /proc && test $$ = 1' && echo a proc within",
        "unshare -n true && echo a network within",
    ];
    assert_eq!(privileged(world, &commands), ["mounted", "a proc within", "a network within"]);
}

fn a_privileged_build_has_control_groups_to_write_to(world: &World) {
    let make = "for at in $(grep -E ' cgroup2? ' /proc/mounts | cut -d' ' -f2); do mkdir $at/within && rmdir $at/within && echo made; done | sort -u";
    assert_eq!(privileged(world, &[make]), ["made"]);
}

fn a_privileged_build_has_a_folder_for_docker_that_is_no_overlay(world: &World) {
    let commands = [
        "cd /var/lib/docker && mkdir l u w m && mount -t overlay -o lowerdir=l,upperdir=u,workdir=w none m || \
         mount -t overlay -o userxattr,lowerdir=l,upperdir=u,workdir=w none m; touch m/x && ls u",
    ];
    assert_eq!(privileged(world, &commands), ["x"]);
}

fn settings_of_the_kernel_cannot_be_changed(world: &World) {
    let commands = [
        "for f in kernel/panic kernel/core_pattern vm/swappiness; do (echo 1 >/proc/sys/$f) 2>/dev/null && echo $f; done; echo tried",
    ];
    assert_eq!(world.output(&commands), ["tried"]);
}

fn privileges_cannot_be_gained(world: &World) {
    let output = world.output(&["grep NoNewPrivs /proc/self/status; grep CapBnd /proc/self/status"]);
    assert_eq!(output[0], "NoNewPrivs:\t1");
    let capabilities = u64::from_str_radix(output[1].trim_start_matches("CapBnd:").trim(), 16).unwrap();
    // SYS_MODULE, SYS_RAWIO, SYS_PTRACE, SYS_ADMIN, SYS_BOOT, SYS_TIME, NET_ADMIN, BPF
    for forbidden in [16, 17, 19, 21, 22, 25, 12, 39] {
        assert_eq!(capabilities >> forbidden & 1, 0, "capability {forbidden} in {capabilities:x}");
    }
}

fn system_calls_are_filtered(world: &World) {
    assert_eq!(world.output(&["grep 'Seccomp:' /proc/self/status"]), ["Seccomp:\t2"]);
}

fn the_agents_own_files_are_out_of_sight(world: &World) {
    let output = world.output(&[
        "find / -xdev -name plan.json -o -xdev -name journal -o -xdev -name agent.sock 2>/dev/null",
    ]);
    assert_eq!(output, Vec::<String>::new());
}

fn devices_cannot_be_made(world: &World) {
    // Where one can be made it must not open.
    let commands = ["mknod /tmp/disk b 254 0 2>/dev/null; head -c 1 /tmp/disk 2>/dev/null | wc -c"];
    assert_eq!(world.output(&commands), ["0"]);
}

fn the_first_process_gives_nothing_away(world: &World) {
    // That it has descriptors may show, but not what they are.
    let commands = [
        "cat /proc/1/environ /proc/1/mem 2>/dev/null | wc -c",
        "readlink /proc/1/fd/0 /proc/1/fd/1 /proc/1/fd/3 /proc/1/root /proc/1/cwd 2>/dev/null | wc -l",
        "(echo x >/proc/1/fd/3) 2>/dev/null || echo refused",
    ];
    assert_eq!(world.output(&commands), ["0", "0", "refused"]);
}

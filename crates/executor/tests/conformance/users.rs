//! Who commands are.

use agent::journal::{Outcome, Phase};
use serde_json::json;

use crate::world::World;

crate::cases!(
    Environment:
        commands_are_roots,
        roots_home_is_root,
        root_writes_where_it_likes,
        a_user_that_is_not_there_fails_the_phase;
    Users:
        commands_run_as_the_user_they_are_to,
        a_user_has_the_groups_of_the_image,
        what_a_user_writes_is_its_own,
        a_user_does_not_write_where_only_root_may,
        a_user_does_not_become_root_again,
        files_can_be_given_away;
);

fn commands_are_roots(world: &World) {
    assert_eq!(world.output(&["id -u; id -g; id -un"]), ["0", "0", "root"]);
}

fn roots_home_is_root(world: &World) {
    // EN-058
    assert_eq!(world.output(&["echo $HOME; cd; pwd"]), ["/root", "/root"]);
}

fn root_writes_where_it_likes(world: &World) {
    let commands = ["echo new >/etc/new; mkdir /opt /usr/more; rm /etc/group; cat /etc/new; ls /usr"];
    assert_eq!(world.output(&commands), ["new", "more"]);
}

fn a_user_that_is_not_there_fails_the_phase(world: &World) {
    let build =
        world.commands(&[]).phase("build", json!({"run-as": "nobody-knows", "commands": ["echo ran"]}));
    let ended = world.run(&build).with(Outcome::Failed);
    assert_eq!((ended.phase(Phase::Build).0, ended.output()), (Outcome::Failed, Vec::new()));
}

fn as_ada(world: &World, commands: &[&str]) -> Vec<String> {
    let build = world.commands(&[]).phase("build", json!({"run-as": "ada", "commands": commands}));
    world.run(&build).with(Outcome::Succeeded).output()
}

fn commands_run_as_the_user_they_are_to(world: &World) {
    assert_eq!(as_ada(world, &["id -u; id -g; id -un"]), ["1000", "1000", "ada"]);
}

fn a_user_has_the_groups_of_the_image(world: &World) {
    assert_eq!(as_ada(world, &["id -G"]), ["1000 2000"]);
}

fn what_a_user_writes_is_its_own(world: &World) {
    assert_eq!(as_ada(world, &["echo x >/tmp/hers; stat -c '%U %G' /tmp/hers"]), ["ada ada"]);
}

fn a_user_does_not_write_where_only_root_may(world: &World) {
    assert_eq!(
        as_ada(
            world,
            &[
                "if echo x 2>/dev/null >/etc/hers; then echo written; fi; ls /etc/hers 2>/dev/null || echo none"
            ]
        ),
        ["none"]
    );
}

fn a_user_does_not_become_root_again(world: &World) {
    // A file that changes who runs it is without effect: this su says so before it asks for anything.
    let prepare = "mkdir /opt; cp /bin/busybox /opt/su; chmod 4755 /opt/su";
    let build = world.commands(&[]).phase("install", json!({"commands": [prepare]})).phase(
        "build",
        json!({"run-as": "ada", "commands": ["/opt/su -c 'id -u' root 2>&1 | grep -c 'must be suid'"]}),
    );
    assert_eq!(world.run(&build).with(Outcome::Succeeded).output(), ["1"]);
}

fn files_can_be_given_away(world: &World) {
    let commands =
        ["touch /tmp/f; chown ada:makers /tmp/f; chown 60000 /tmp; stat -c '%u %g' /tmp/f; stat -c %u /tmp"];
    assert_eq!(world.output(&commands), ["1000 2000", "60000"]);
}

//! What of files a build finds, and what becomes of those it writes.

use std::fs;

use agent::journal::Outcome;
use agent::plan::{Artifacts, Source};
use serde_json::json;

use crate::world::World;

crate::cases!(Environment:
    commands_begin_in_the_source_folder,
    a_source_folder_is_there_and_stays_as_it_is,
    a_buildspec_that_is_no_file_is_shown_read_only,
    variables_of_the_plan_are_there,
    variables_of_the_server_are_not,
    what_a_command_sets_is_there_for_the_next,
    an_image_is_the_same_for_every_build,
    the_temporary_folder_is_everybodys,
    devices_are_there,
    the_host_is_named_after_the_build,
    artifacts_arrive_byte_for_byte,
    an_artifact_of_many_megabytes_arrives_whole,
    a_missing_artifact_fails_the_build,
    the_programs_folder_of_codebuild_is_in_the_path,
    removed_files_of_the_image_are_gone;
);

fn commands_begin_in_the_source_folder(world: &World) {
    // EN-080
    assert_eq!(world.output(&["pwd; echo $CODEBUILD_SRC_DIR"]), ["/codebuild/output/src123/src"; 2]);
}

fn a_source_folder_is_there_and_stays_as_it_is(world: &World) {
    let source = world.folder().join("source");
    fs::create_dir_all(source.join("deep/er")).unwrap();
    fs::write(source.join("deep/er/file"), "content").unwrap();
    std::os::unix::fs::symlink("deep/er/file", source.join("link")).unwrap();
    let mut build =
        world.commands(&["cat link; echo; echo changed >deep/er/file; rm link; touch new; cat deep/er/file"]);
    build.plan.source = Source::Folder(source.clone());
    assert_eq!(world.run(&build).with(Outcome::Succeeded).output(), ["content", "changed"]);
    assert_eq!(fs::read_to_string(source.join("link")).unwrap(), "content");
    assert!(!source.join("new").exists());
}

fn a_buildspec_that_is_no_file_is_shown_read_only(world: &World) {
    // BS-004
    let output = world.output(&[
        "grep -c phases /codebuild/readonly/buildspec.yml; stat -c %a /codebuild/readonly/buildspec.yml",
    ]);
    assert_eq!(output, ["1", "444"]);
}

fn variables_of_the_plan_are_there(world: &World) {
    let mut build = world.commands(&["echo \"$ODD\"; echo $CODEBUILD_BUILD_SUCCEEDING"]);
    build.plan.variables.insert("ODD".to_string(), "two  words, \"quoted\" $HOME `x` \\".to_string());
    let output = world.run(&build).with(Outcome::Succeeded).output();
    assert_eq!(output, ["two  words, \"quoted\" $HOME `x` \\", "1"]);
}

fn variables_of_the_server_are_not(world: &World) {
    // Cargo and the test's own runner have set plenty.
    let output = world.output(&["env | cut -d= -f1 | sort"]);
    let of_ours = std::env::vars()
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("CARGO") || name.starts_with("NEXTEST"));
    let shown: Vec<String> = of_ours.filter(|name| output.contains(name)).collect();
    assert_eq!(shown, Vec::<String>::new());
}

fn what_a_command_sets_is_there_for_the_next(world: &World) {
    let build = world
        .commands(&["echo $KEPT; pwd"])
        .phase("pre_build", json!({"commands": ["export KEPT=kept; mkdir -p /tmp/there", "cd /tmp/there"]}));
    assert_eq!(world.run(&build).with(Outcome::Succeeded).output(), ["kept", "/tmp/there"]);
}

fn an_image_is_the_same_for_every_build(world: &World) {
    world.output(&["echo changed >/etc/passwd; echo new >/etc/new; rm /bin/tac; touch /tmp/left"]);
    let output =
        world.output(&["grep -c ada /etc/passwd; ls /etc/new /tmp/left 2>/dev/null | wc -l; echo y | tac"]);
    assert_eq!(output, ["1", "0", "y"]);
}

fn the_temporary_folder_is_everybodys(world: &World) {
    assert_eq!(world.output(&["stat -c %a /tmp; touch /tmp/mine && echo written"]), ["1777", "written"]);
}

fn devices_are_there(world: &World) {
    let ask = "for d in null zero full random urandom tty; do test -c /dev/$d || echo no $d; done";
    let use_them = "head -c 3 /dev/urandom | wc -c; echo gone >/dev/null; head -c 2 /dev/zero | od -An -tx1; ls -d /dev/shm /dev/pts";
    assert_eq!(world.output(&[ask, use_them]), ["3", " 00 00", "/dev/pts", "/dev/shm"]);
}

fn the_host_is_named_after_the_build(world: &World) {
    // EN-065
    let build = world.commands(&["hostname"]);
    let expected: String = build.uuid().chars().filter(char::is_ascii_hexdigit).take(12).collect();
    assert_eq!(world.run(&build).with(Outcome::Succeeded).output(), [expected]);
}

/// A build whose artifacts come to a folder.
fn with_artifacts(
    world: &World,
    commands: &[&str],
    files: &[&str],
) -> (crate::world::Build, std::path::PathBuf) {
    let folder = world.folder().join("artifacts");
    fs::create_dir_all(&folder).unwrap();
    let mut build = world.commands(commands).section("artifacts", json!({"files": files}));
    build.plan.artifacts = Artifacts::Folder(folder.clone());
    (build, folder)
}

fn artifacts_arrive_byte_for_byte(world: &World) {
    let make = "mkdir -p out/deep; printf 'a\\000\\377b' >out/deep/file; printf x >out/other; printf no >not";
    let (build, folder) = with_artifacts(world, &[make], &["out/**/*"]);
    world.run(&build).with(Outcome::Succeeded);
    assert_eq!(fs::read(folder.join("out/deep/file")).unwrap(), b"a\0\xffb");
    assert_eq!(fs::read(folder.join("out/other")).unwrap(), b"x");
    assert!(!folder.join("not").exists());
}

fn an_artifact_of_many_megabytes_arrives_whole(world: &World) {
    let (build, folder) = with_artifacts(world, &["seq 1 2000000 >large; md5sum <large"], &["large"]);
    let ended = world.run(&build).with(Outcome::Succeeded);
    let sum =
        std::process::Command::new("md5sum").stdin(fs::File::open(folder.join("large")).unwrap()).output();
    assert_eq!(crate::world::text(&sum.unwrap().stdout).trim(), ended.output()[0].trim());
}

fn a_missing_artifact_fails_the_build(world: &World) {
    let (build, _) = with_artifacts(world, &["true"], &["nothing-like-it"]);
    let ended = world.run(&build).with(Outcome::Failed);
    assert!(ended.service_says("no matching"), "{:?}", crate::world::text(&ended.log));
}

fn the_programs_folder_of_codebuild_is_in_the_path(world: &World) {
    // EN-064
    let program = "printf '#!/bin/sh\\necho mine\\n' >/codebuild/user/bin/my-program; chmod 755 /codebuild/user/bin/my-program";
    assert_eq!(world.output(&[program, "my-program"]), ["mine"]);
}

fn removed_files_of_the_image_are_gone(world: &World) {
    assert_eq!(world.output(&["rm /bin/tac; rm -r /home", "ls /bin/tac /home 2>/dev/null | wc -l"]), ["0"]);
}

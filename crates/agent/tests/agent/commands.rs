//! Commands and phases: which follow which, what they find set.

use std::fs;

use agent::journal::{Outcome, Phase};

use crate::world::Build;

crate::cases![
    a_background_process_goes_on_printing_and_holds_nothing_up,
    commands_run_as_the_user_they_are_given_or_root,
    a_user_that_is_not_there_fails_the_phase,
    a_shell_that_is_not_in_the_image_fails_the_phase,
    an_image_without_sh_fails_provisioning,
    options_of_a_shell_do_not_survive_their_command,
    artifacts_follow_a_failed_build,
];

fn a_background_process_goes_on_printing_and_holds_nothing_up() {
    // BS-087
    let ended = Build::of(
        "  install: {commands: ['(while :; do echo tick; sleep 0.05; done) & echo started']}\n  \
         build: {commands: ['sleep 0.5', 'echo done']}\n",
    )
    .run()
    .with(Outcome::Succeeded);
    let after = ended.log.split("Entering phase BUILD").nth(1).unwrap();
    assert!(after.contains("tick\n"), "{}", ended.log);
}

const PASSWD: (&str, &str) =
    ("etc/passwd", "root:x:0:0::/root:/bin/sh\ncodebuild-user:x:1000:1000::/home/codebuild-user:/bin/sh\n");

fn commands_run_as_the_user_they_are_given_or_root() {
    // BS-030, BS-031
    let ended = Build::new(
        "version: 0.2\nrun-as: codebuild-user\nphases:\n  install: {run-as: root, commands: [id -u, X=kept]}\n  \
         build: {commands: ['id -u; echo $X; test -r /codebuild/output/tmp/script.sh && echo readable']}\n",
    )
    .image(&[PASSWD])
    .run()
    .with(Outcome::Succeeded);
    assert_eq!(ended.output(), ["0", "1000", "kept", "readable"]);
}

fn a_user_that_is_not_there_fails_the_phase() {
    // BS-032
    let ended = Build::of("  build: {run-as: nobody-here, commands: [ls]}\n").run().with(Outcome::Failed);
    let reason = "Error while executing command: ls. Reason: the container has no user \"nobody-here\"";
    ended.failed_in(Phase::Build, "COMMAND_EXECUTION_ERROR", reason);
}

fn a_shell_that_is_not_in_the_image_fails_the_phase() {
    // BS-040
    let ended = Build::new("version: 0.2\nenv: {shell: bash}\nphases: {build: {commands: [ls]}}\n")
        .image(&[])
        .run()
        .with(Outcome::Failed);
    let (_, context) = ended.phase(Phase::Build).unwrap();
    assert_eq!(context.status_code, "COMMAND_EXECUTION_ERROR");
    assert!(context.message.contains("bash"), "{}", context.message);
}

fn an_image_without_sh_fails_provisioning() {
    // BS-041, LC-058
    let build = Build::of("  build: {commands: [ls]}\n").image(&[]);
    fs::remove_file(build.folder.path().join("root/bin/sh")).unwrap();
    let ended = build.run().with(Outcome::Failed);
    let message = "Build container found dead before completing the build. build container died because it was out of \
                   memory, or the Docker image is not supported. ErrorCode: 500";
    ended.failed_in(Phase::Provisioning, "CLIENT_ERROR", message);
    assert_eq!(ended.phases(), [Phase::Provisioning, Phase::Finalizing]);
}

fn options_of_a_shell_do_not_survive_their_command() {
    // BS-026
    let commands = "['set -eu; f() { echo f; }; alias ll=ls', 'false; echo on${UNSET}', 'f || echo gone']";
    let ended = Build::of(&format!("  build: {{commands: {commands}}}\n")).run().with(Outcome::Succeeded);
    assert!(ended.output().contains(&"on") && ended.output().contains(&"gone"), "{}", ended.log);
}

fn artifacts_follow_a_failed_build() {
    // BS-077
    let ended = Build::new(
        "version: 0.2\nphases: {build: {commands: [echo x > x, 'false']}}\nartifacts: {files: [x]}\n",
    )
    .run()
    .with(Outcome::Failed);
    assert_eq!(fs::read_to_string(ended.folder.path().join("artifacts/x")).unwrap(), "x\n");
}

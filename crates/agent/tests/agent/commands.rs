//! Commands and phases: which follow which, what they find set.

use std::fs;

use agent::journal::{Event, Outcome, Phase};
use agent::plan::{Rootfs, Unpacked};

use crate::world::Build;

crate::cases![
    a_background_process_goes_on_printing_and_holds_nothing_up,
    commands_run_as_the_user_they_are_given_or_root,
    a_user_that_is_not_there_fails_the_phase,
    a_shell_that_is_not_in_the_image_fails_the_phase,
    an_image_without_sh_fails_provisioning,
    an_image_of_several_layers_is_one_and_without_its_lock_there_is_none,
    options_of_a_shell_do_not_survive_their_command,
    artifacts_follow_a_failed_build,
    a_failed_phase_leads_to_what_its_on_failure_says,
    a_retry_is_asked_for_where_the_failure_matches,
    steps_are_refused,
    proxies_have_no_effect_and_the_log_says_so,
    finally_runs_and_the_first_failure_is_told,
    a_command_finds_how_the_one_before_ended,
    a_variable_replaces_the_images_and_the_project_has_the_last_word,
    the_projects_proxy_reaches_commands,
];

fn a_background_process_goes_on_printing_and_holds_nothing_up() {
    // BS-087
    let ended = Build::of(
        "  install: {commands: ['(while :; do echo tick; echo >>ticks; sleep 0.05; done) & echo started']}\n  \
         build: {commands: ['n=$(wc -l <ticks); until [ $(wc -l <ticks) -gt $((n + 1)) ]; do sleep 0.05; done', 'echo done']}\n",
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
                   memory, or the Docker image is not supported. ErrorCode: 500. The image has no `sh` in /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin, which has to be \
                   there whatever env.shell says";
    ended.failed_in(Phase::Provisioning, "CLIENT_ERROR", message);
    assert_eq!(ended.phases(), [Phase::Provisioning, Phase::Finalizing]);
}

fn an_image_of_several_layers_is_one_and_without_its_lock_there_is_none() {
    let build = |is_removed: bool| {
        let mut build =
            Build::of("  build: {commands: [cat /etc/name, 'test -e /etc/passwd || echo gone']}\n")
                .image(&[PASSWD]);
        let folder = build.folder.path().to_owned();
        let (base, top) = (folder.join("root"), folder.join("top"));
        // The shell lies behind a link of another layer.
        fs::create_dir_all(top.join("etc")).unwrap();
        fs::create_dir(top.join("programs")).unwrap();
        fs::rename(base.join("bin/busybox"), top.join("programs/busybox")).unwrap();
        std::os::unix::fs::symlink("../programs/busybox", base.join("bin/busybox")).unwrap();
        fs::write(top.join("etc/name"), "of the topmost layer\n").unwrap();
        let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::RUSR);
        rustix::fs::mknodat(rustix::fs::CWD, top.join("etc/passwd"), kind, mode, 0).unwrap();
        let lock = folder.join("lock");
        if !is_removed {
            fs::write(&lock, "").unwrap();
        }
        build.plan.environment.rootfs = Rootfs::Unpacked(Unpacked { layers: vec![top, base], lock });
        build.run()
    };
    assert_eq!(build(false).with(Outcome::Succeeded).output(), ["of the topmost layer", "gone"]);
    let ended = build(true).with(Outcome::Failed);
    let (_, context) = ended.phase(Phase::Provisioning).unwrap();
    assert!(context.message.contains("removed"), "{}", context.message);
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

fn a_failed_phase_leads_to_what_its_on_failure_says() {
    // BS-076, BS-077, BS-078, BS-080, BS-081, LC-030, LC-031, LC-041
    use Phase::{Build as BuildPhase, Finalizing, Install, PostBuild, PreBuild, UploadArtifacts};
    let upload = [UploadArtifacts, Finalizing];
    let cases: [(&str, &str, Vec<Phase>); 10] = [
        ("install", "", vec![Install, Finalizing]),
        ("install", "ABORT", vec![Install, Finalizing]),
        ("install", "CONTINUE", [&[Install, PreBuild, BuildPhase, PostBuild][..], &upload].concat()),
        ("pre_build", "", vec![Install, PreBuild, Finalizing]),
        ("pre_build", "RETRY", vec![Install, PreBuild, Finalizing]),
        ("build", "", [&[Install, PreBuild, BuildPhase, PostBuild][..], &upload].concat()),
        ("build", "abort", vec![Install, PreBuild, BuildPhase, Finalizing]),
        ("build", "CONTINUE", [&[Install, PreBuild, BuildPhase, PostBuild][..], &upload].concat()),
        ("post_build", "", [&[Install, PreBuild, BuildPhase, PostBuild][..], &upload].concat()),
        ("post_build", "ABORT", vec![Install, PreBuild, BuildPhase, PostBuild, Finalizing]),
    ];
    for (phase, on_failure, expect) in cases {
        let on_failure_key =
            if on_failure.is_empty() { String::new() } else { format!("on-failure: {on_failure}, ") };
        let ended = Build::of(&format!("  {phase}: {{{on_failure_key}commands: ['false']}}\n")).run();
        let ended = ended.with(Outcome::Failed);
        assert_eq!(ended.phases()[2..], expect, "{phase} {on_failure}");
    }
}

fn a_retry_is_asked_for_where_the_failure_matches() {
    // BS-082, BS-083, BS-084
    let cases = [
        ("RETRY", Some(3)),
        ("retry-7", Some(7)),
        ("RETRY-0", None),
        ("'RETRY-.*exit status 1'", Some(3)),
        ("'RETRY-2-.*no such thing.*'", None),
        ("'Retry-2-command: false'", Some(2)),
        ("'RETRY-2-('", None),
        ("ABORT", None),
    ];
    for (on_failure, limit) in cases {
        let ended = Build::of(&format!("  build: {{on-failure: {on_failure}, commands: ['false']}}\n")).run();
        let ended = ended.with(Outcome::Failed);
        let asked = ended.events.iter().find_map(|event| match event {
            Event::RetryAsked { limit } => Some(*limit),
            _ => None,
        });
        assert_eq!(asked, limit, "{on_failure}\n{}", ended.log);
    }
}

fn steps_are_refused() {
    // BS-088
    let ended = Build::of("  build: {steps: [{name: x, uses: actions/checkout@v4}]}\n").run();
    let message =
        "unsupported field \"steps\" in buildspec. No GitHub token has been configured for your account";
    ended.with(Outcome::Failed).failed_in(Phase::DownloadSource, "YAML_FILE_ERROR", message);
}

fn proxies_have_no_effect_and_the_log_says_so() {
    // BS-060
    let ended = Build::new("version: 0.2\nproxy: {logs: yes, upload-artifacts: yes}\nphases: {}\n").run();
    let said = "Skip proxy due to: logs and artifacts are kept where the build runs";
    assert!(ended.with(Outcome::Succeeded).said(said));
}

fn finally_runs_and_the_first_failure_is_told() {
    // BS-073, BS-074, BS-075, LC-050
    let ended =
        Build::of("  build: {commands: [exit 3, echo never], finally: [echo last, exit 4, echo never]}\n");
    let ended = ended.run().with(Outcome::Failed);
    assert_eq!(ended.output(), ["last"]);
    let message = "Error while executing command: exit 3. Reason: exit status 3";
    ended.failed_in(Phase::Build, "COMMAND_EXECUTION_ERROR", message);
}

fn a_command_finds_how_the_one_before_ended() {
    // BS-025, BS-027, BS-079
    let state = "echo $CODEBUILD_LAST_EXIT $CODEBUILD_BUILD_SUCCEEDING";
    let ended = Build::of(&format!(
        "  build: {{commands: ['{state}; exit 0', '{state}; exit 5'], finally: ['{state}']}}\n  \
         post_build: {{commands: ['{state}']}}\n"
    ));
    let ended = ended.run().with(Outcome::Failed);
    assert_eq!(ended.output(), ["0 1", "0 1", "5 1", "0 0"]);
}

fn a_variable_replaces_the_images_and_the_project_has_the_last_word() {
    // BS-042, BS-043, BS-044
    let commands = "['echo \"$A $B $C\"']";
    let mut build = Build::new(&format!(
        "version: 0.2\nenv: {{variables: {{B: '$A/spec', C: spec}}}}\nphases: {{build: {{commands: {commands}}}}}\n"
    ))
    .variable("C", "project");
    for name in ["A", "B", "C"] {
        build.plan.environment.variables.insert(name.into(), "image".into());
    }
    let ended = build.run().with(Outcome::Succeeded);
    assert_eq!(ended.output(), ["image $A/spec project"]);
}

fn the_projects_proxy_reaches_commands() {
    // BS-061
    let ended = Build::of("  build: {commands: ['echo $HTTP_PROXY $NO_PROXY']}\n")
        .variable("HTTP_PROXY", "http://proxy:3128")
        .variable("NO_PROXY", "localhost")
        .run()
        .with(Outcome::Succeeded);
    assert_eq!(ended.output(), ["http://proxy:3128 localhost"]);
}

//! Runtimes of an image: selected in DOWNLOAD_SOURCE, ready in the phases.

use agent::journal::{Outcome, Phase};

use crate::world::{Build, Ended};

crate::cases![
    runtimes_are_made_ready_before_the_phases_which_find_what_they_set,
    a_custom_version_is_installed_with_version_set_and_not_after,
    an_unknown_version_fails_download_source,
    an_image_without_runtimes_says_that_it_has_none,
    a_runtime_that_cannot_be_made_ready_fails_download_source,
    version_0_1_finds_its_runtimes_too,
];

const RUNTIMES: (&str, &str) = (
    "codebuild/image/config/runtimes.yml",
    "version: 0.1
runtimes:
  java:
    versions:
      corretto17:
        commands:
          - echo \"Installing Java version 17 ...\"
          - export JAVA_HOME=\"$JAVA_17_HOME\"
  golang:
    versions:
      1.9: {commands: [GO=1.9]}
      1.20: {commands: [GO=1.20]}
  ruby:
    versions:
      3.2: {commands: [exit 9]}
    default:
      commands: ['echo custom $VERSION; RUBY=$VERSION']
",
);

fn run(version: &str, wanted: &str, commands: &str) -> Ended {
    let mut build = Build::new(&format!(
        "version: {version}\nenv: {{variables: {{WHICH: 1.x, VERSION: mine}}}}\nphases:\n  install:\n    runtime-versions: \
         {wanted}\n  build: {{commands: {commands}}}\n"
    ))
    .image(&[RUNTIMES]);
    build.plan.environment.variables.insert("JAVA_17_HOME".into(), "/opt/java17".into());
    build.run()
}

fn runtimes_are_made_ready_before_the_phases_which_find_what_they_set() {
    // BS-090, BS-091, BS-093, BS-094, BS-190, BS-191, LC-113
    let ended =
        run("0.2", "{java: corretto17, golang: $WHICH}", "['echo $JAVA_HOME $GO']").with(Outcome::Succeeded);
    assert_eq!(ended.output(), ["Installing Java version 17 ...", "/opt/java17 1.20"]);
    let lines = ended.service_lines();
    let from = lines.iter().position(|line| *line == "Processing environment variables").unwrap();
    let expect = [
        "Selecting 'java' runtime version 'corretto17' based on manual selections...",
        "Selecting 'golang' runtime version '1.x' based on manual selections...",
        "Running command echo \"Installing Java version 17 ...\"",
        "Running command export JAVA_HOME=\"$JAVA_17_HOME\"",
        "Running command GO=1.20",
        "Moving to directory /codebuild/output/src123/src",
    ];
    assert_eq!(lines[from + 1..from + 1 + expect.len()], expect, "{}", ended.log);
}

fn a_custom_version_is_installed_with_version_set_and_not_after() {
    // BS-092
    let ended = run("0.2", "{ruby: 3.5.0}", "['echo $RUBY $VERSION']").with(Outcome::Succeeded);
    assert_eq!(ended.output(), ["custom 3.5.0", "3.5.0 mine"]);
}

fn an_unknown_version_fails_download_source() {
    // BS-095, LC-029, LC-051
    let ended = run("0.2", "{golang: 1.8}", "[ls]").with(Outcome::Failed);
    let message = "Unknown runtime version named '1.8' of golang. This build image has the following versions: 1.9, 1.20";
    ended.failed_in(Phase::DownloadSource, "YAML_FILE_ERROR", message);
    assert!(ended.said("Selecting 'golang' runtime version '1.8' based on manual selections..."));
    assert_eq!(ended.phases(), [Phase::Provisioning, Phase::DownloadSource, Phase::Finalizing]);
}

fn an_image_without_runtimes_says_that_it_has_none() {
    // BS-096, BS-097
    let spec =
        "version: 0.2\nphases: {install: {runtime-versions: {java: 11}}, build: {commands: [echo ran]}}\n";
    let ended = Build::new(spec).image(&[]).run().with(Outcome::Succeeded);
    let skipped =
        "Skipping install of runtimes. Runtime version selection is not supported by this build image";
    assert!(ended.said(skipped), "{}", ended.log);
    let ended =
        Build::of("  build: {commands: [echo ran]}\n").image(&[RUNTIMES]).run().with(Outcome::Succeeded);
    assert!(ended.said("No runtime version selected in buildspec."), "{}", ended.log);
}

fn a_runtime_that_cannot_be_made_ready_fails_download_source() {
    // BS-093
    let ended = run("0.2", "{ruby: 3.2}", "[ls]").with(Outcome::Failed);
    let message = "Error while executing command: exit 9. Reason: exit status 9";
    ended.failed_in(Phase::DownloadSource, "COMMAND_EXECUTION_ERROR", message);
}

fn version_0_1_finds_its_runtimes_too() {
    // BS-020, BS-093
    let ended = run("0.1", "{java: corretto17}", "['X=1', 'echo $JAVA_HOME [$X]']").with(Outcome::Succeeded);
    assert_eq!(ended.output()[1..], ["/opt/java17 []"]);
}

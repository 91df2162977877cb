//! Variables whose values are elsewhere: asked for, answered, masked.

use std::collections::BTreeMap;

use agent::answer::{Answer, GitCredential};
use agent::journal::{Event, Outcome, Phase, Secret};
use agent::plan::Reference;

use crate::world::Build;

crate::cases![
    references_are_asked_for_and_reach_the_commands_masked,
    a_refusal_fails_download_source_with_its_context,
    a_build_that_waits_for_its_references_can_be_stopped,
    a_command_that_fails_with_a_secret_in_it_does_not_tell,
    access_key_ids_are_masked_without_any_reference,
    a_secret_in_many_writes_is_masked_and_a_prompt_is_not_held_back,
    variables_that_the_project_has_from_elsewhere_are_not_exported,
    git_is_given_credentials,
];

fn current(id: &str) -> Secret {
    Secret { id: id.into(), stage: None, version: None }
}

fn answer(parameters: &[(&str, &str)], secrets: &[(&str, &str)]) -> Answer {
    Answer::Values {
        parameters: parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
        secrets: secrets.iter().map(|(id, value)| (current(id), (*value).into())).collect(),
        git: Vec::new(),
    }
}

fn references_are_asked_for_and_reach_the_commands_masked() {
    // BS-044, BS-046, BS-049, BS-050, BS-052
    let mut build = Build::new(
        "version: 0.2\nenv:\n  variables: {PLAIN: shown, OVER: spec}\n  parameter-store: {P: /p, OVER: /q}\n  \
         secrets-manager: {S: 'db:pass'}\nphases:\n  build:\n    commands:\n      \
         - '[ \"$P/$S/$H\" = \"p-value/s-value/h-value\" ] && echo same'\n      \
         - 'echo $P $S $H $PLAIN $OVER'\n      - 'echo s-value'\n",
    )
    .variable("OVER", "project")
    .answered(answer(&[("/p", "p-value"), ("/h", "h-value")], &[("db", "{\"pass\": \"s-value\"}")]));
    build.plan.references = BTreeMap::from([("H".into(), Reference::Parameter("/h".into()))]);
    let ended = build.run().with(Outcome::Succeeded);
    let asked = Event::ReferencesNeeded {
        parameters: vec!["/h".into(), "/p".into()],
        secrets: vec![current("db")],
        git: false,
    };
    assert!(ended.events.contains(&asked), "{:?}", ended.events);
    assert_eq!(ended.output(), ["same", "*** *** *** shown project", "***"]);
    assert!(ended.said("Running command echo ***"), "{}", ended.log);
    assert!(!ended.log.contains("-value"), "{}", ended.log);
}

fn a_refusal_fails_download_source_with_its_context() {
    // BS-047, LC-055
    let refused = Answer::Refused {
        status_code: "Decrypted Variables Error".into(),
        message: "parameter does not exist: /gone".into(),
    };
    let ended =
        Build::new("version: 0.2\nenv: {parameter-store: {P: /gone}}\nphases: {build: {commands: [ls]}}\n")
            .answered(refused)
            .run()
            .with(Outcome::Failed);
    let message = "parameter does not exist: /gone";
    ended.failed_in(Phase::DownloadSource, "Decrypted Variables Error", message);
    assert_eq!(ended.phases(), [Phase::Provisioning, Phase::DownloadSource, Phase::Finalizing]);
}

fn a_build_that_waits_for_its_references_can_be_stopped() {
    // LC-044
    let ended =
        Build::new("version: 0.2\nenv: {parameter-store: {P: /p}}\nphases: {build: {commands: [ls]}}\n")
            .stopped_when("Processing environment variables")
            .run()
            .with(Outcome::Stopped);
    assert_eq!(ended.phase(Phase::DownloadSource).unwrap().0, Outcome::Stopped);
}

fn a_command_that_fails_with_a_secret_in_it_does_not_tell() {
    // BS-052, BS-074
    let ended = Build::new(
        "version: 0.2\nenv: {parameter-store: {P: /p}}\nphases: {build: {commands: [test x = hunter2]}}\n",
    )
    .answered(answer(&[("/p", "hunter2")], &[]))
    .run()
    .with(Outcome::Failed);
    let message = "Error while executing command: test x = ***. Reason: exit status 1";
    ended.failed_in(Phase::Build, "COMMAND_EXECUTION_ERROR", message);
    assert!(!ended.log.contains("hunter2"), "{}", ended.log);
}

fn access_key_ids_are_masked_without_any_reference() {
    // BS-052
    let ended =
        Build::of("  build: {commands: ['echo id=AKIAIOSFODNN7EXAMPLE; echo xAKIAIOSFODNN7EXAMPLE']}\n")
            .run();
    let output = ended.with(Outcome::Succeeded);
    assert!(output.said("Running command echo id=***; echo xAKIAIOSFODNN7EXAMPLE"));
    assert_eq!(output.output(), ["id=***", "xAKIAIOSFODNN7EXAMPLE"]);
}

fn a_secret_in_many_writes_is_masked_and_a_prompt_is_not_held_back() {
    // BS-052: longer than an unfinished line is held back, the secret's end is not there yet.
    let ended = Build::new(
        "version: 0.2\nenv: {parameter-store: {P: /p}}\nphases:\n  build:\n    commands:\n      \
         - 'printf \"ready? hun\"; sleep 0.5; printf te; sleep 0.5; printf \"r2\\nhun\"; sleep 0.4'\n      - echo ter2\n",
    )
    .answered(answer(&[("/p", "hunter2")], &[]))
    .run()
    .with(Outcome::Succeeded);
    assert_eq!(ended.output(), ["ready? ***", "hun", "ter2"]);
}

fn variables_that_the_project_has_from_elsewhere_are_not_exported() {
    // BS-053, BS-054
    let mut build = Build::new(
        "version: 0.2\nenv:\n  parameter-store: {MINE: /mine}\n  exported-variables: [MINE, THEIRS, AWS_X, PLAIN, NONE]\n\
         phases: {build: {commands: [PLAIN=1 AWS_X=1]}}\n",
    )
    .answered(answer(&[("/mine", "one"), ("/theirs", "two")], &[]));
    build.plan.references = BTreeMap::from([("THEIRS".into(), Reference::Parameter("/theirs".into()))]);
    let ended = build.run().with(Outcome::Succeeded);
    let expect = [("MINE", "one"), ("PLAIN", "1")];
    assert_eq!(ended.exported(), expect.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
}

fn git_is_given_credentials() {
    // BS-055
    let credential = GitCredential {
        url: "https://git.example".into(),
        username: "octo".into(),
        password: "hunter2".into(),
    };
    let given =
        Answer::Values { parameters: BTreeMap::new(), secrets: BTreeMap::new(), git: vec![credential] };
    let ended = Build::new(
        "version: 0.2\nenv: {git-credential-helper: yes}\nphases:\n  build:\n    commands:\n      \
         - 'printf \"protocol=https\\nhost=git.example\\n\\n\" | git credential fill'\n      \
         - 'git config user.name || echo none'\n",
    )
    .answered(given)
    .run()
    .with(Outcome::Succeeded);
    let expect = ["protocol=https", "host=git.example", "username=octo", "password=***", "none"];
    assert_eq!(ended.output(), expect);
}

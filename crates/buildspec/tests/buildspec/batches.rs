//! The batch section: which builds there are, and which cannot be.

use buildspec::{Batch, BatchBuilds, Code, Error, limits, parse};

fn read(body: &str) -> Result<Batch, Error> {
    let indented: String = body.lines().map(|line| format!("  {line}\n")).collect();
    let text = format!("version: 0.2\nbatch:\n{indented}phases: {{build: {{commands: [a]}}}}\n");
    parse(&text)
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
        .buildspec
        .batch
        .expect("there is a batch section")
}

#[track_caller]
fn refused(body: &str, code: Code, message: &str) {
    let error = read(body).expect_err(body);
    assert!(error.code == code && error.message.contains(message), "{body}\n{error:?}");
}

// BS-160, BS-161
#[test]
fn a_batch_has_one_kind_of_builds() {
    let batch = read("fast-fail: yes\nbuild-list:\n  - identifier: a").unwrap();
    assert!(batch.fast_fail && matches!(&batch.builds, BatchBuilds::List(builds) if builds.len() == 1));
    assert!(!read("build-fanout: {parallelism: 2}").unwrap().fast_fail);
    refused(
        "fast-fail: true",
        Code::Batch,
        "exactly one of build-list, build-graph, build-matrix, build-fanout: found none",
    );
    refused(
        "build-list: [{identifier: a}]\nbuild-fanout: {parallelism: 2}",
        Code::Batch,
        "found build-list and build-fanout",
    );
    refused("build-list: []", Code::Batch, "has no builds");
    refused("build-list: {identifier: a}", Code::Type, "batch.build-list must be a list");
    refused("fast-fail: maybe\nbuild-list: [{identifier: a}]", Code::Type, "batch.fast-fail");
}

// BS-162
#[test]
fn a_build_of_a_list_has_an_identifier_and_an_environment() {
    let batch = read(
        "build-list:\n  - identifier: a\n    buildspec: a.yml\n    debug-session: true\n    ignore-failure: yes\n    env:\n      \
         compute-type: BUILD_GENERAL1_LARGE\n      image: x:1\n      privileged-mode: true\n      type: ARM_CONTAINER\n      variables: {A: 1.10, B: }",
    )
    .unwrap();
    let build = batch.builds().remove(0);
    assert_eq!((build.identifier.as_str(), build.buildspec.as_deref()), ("a", Some("a.yml")));
    assert!(build.debug_session && build.ignore_failure);
    assert_eq!(build.env.compute_type.as_deref(), Some("BUILD_GENERAL1_LARGE"));
    assert_eq!(build.env.privileged_mode, Some(true));
    assert_eq!(build.env.environment_type.as_deref(), Some("ARM_CONTAINER"));
    assert_eq!(build.env.variables, [("A".to_owned(), "1.10".to_owned()), ("B".to_owned(), String::new())]);
    refused("build-list: [{buildspec: x}]", Code::Missing, "batch.build-list[0].identifier");
    refused(
        "build-list: [{identifier: a, env: {fleet: f, compute-type: BUILD_GENERAL1_SMALL}}]",
        Code::Batch,
        "has both compute-type and fleet",
    );
    refused(
        "build-list: [{identifier: a}, {identifier: a}]",
        Code::Batch,
        "Identifier \"a\" is already that of line 3",
    );
}

// BS-172
#[test]
fn compute_types_are_those_of_the_service_and_slips_are_guessed() {
    let hint = |name: &str| {
        read(&format!("build-list: [{{identifier: a, env: {{compute-type: {name}}}}}]")).unwrap_err().hint
    };
    for (slip, meant) in [
        ("ARM_LAMBDA_1GB", "BUILD_LAMBDA_1GB"),
        ("GENERAL_LINUX_XLAGRE", "BUILD_GENERAL1_XLARGE"),
        ("BUILD_GENERAL1_MEDUIM", "BUILD_GENERAL1_MEDIUM"),
        ("build_general1_small", "BUILD_GENERAL1_SMALL"),
        ("LARGE_SMALL", "BUILD_GENERAL1_SMALL"),
    ] {
        assert_eq!(hint(slip), Some(format!("Did you mean {meant}?")), "{slip}");
    }
    assert_eq!(hint("huge"), None);
    refused(
        "build-list: [{identifier: a, env: {type: LINUX}}]",
        Code::Value,
        "Invalid environment type: LINUX",
    );
}

// BS-168
#[test]
fn builds_of_a_graph_wait_for_builds_that_are_there() {
    let batch = read("build-graph:\n  - {identifier: a}\n  - {identifier: b, depend-on: [a, c]}\n  - {identifier: c, depend-on: [a]}").unwrap();
    assert_eq!(batch.builds()[1].depend_on, ["a", "c"]);
    let unknown = "build-graph: [{identifier: compile}, {identifier: b, depend-on: [compiled]}]";
    refused(unknown, Code::Batch, "No build has the identifier \"compiled\"");
    assert_eq!(read(unknown).unwrap_err().hint.as_deref(), Some("Did you mean compile?"));
    refused("build-graph: [{identifier: a, depend-on: [a]}]", Code::Batch, "Build \"a\" waits for itself");
    refused(
        "build-graph: [{identifier: z, depend-on: [a]}, {identifier: a, depend-on: [b]}, {identifier: b, depend-on: [a]}]",
        Code::Batch,
        "waits for itself",
    );
    let after = "build-graph: [{identifier: z, depend-on: [a]}, {identifier: a, depend-on: [b]}, {identifier: b, depend-on: [a]}]";
    assert!(!read(after).unwrap_err().message.contains("\"z\""));
}

// BS-164
#[test]
fn a_matrix_is_multiplied_out() {
    let batch = read(
        "build-matrix:\n  static: {ignore-failure: true, env: {privileged-mode: yes, type: LINUX_CONTAINER}}\n  dynamic:\n    \
         buildspec: [a.yml, b.yml]\n    env:\n      variables: {V: [1, 2, 3]}",
    )
    .unwrap();
    let builds = batch.builds();
    assert_eq!(builds.len(), 6);
    let shown: Vec<String> = builds
        .iter()
        .map(|build| {
            format!(
                "{} {} {}",
                build.identifier,
                build.buildspec.as_deref().unwrap(),
                build.env.variables[0].1
            )
        })
        .collect();
    assert_eq!(shown[..4], ["matrix_1 a.yml 1", "matrix_2 a.yml 2", "matrix_3 a.yml 3", "matrix_4 b.yml 1"]);
    assert!(builds.iter().all(|build| build.ignore_failure && build.env.privileged_mode == Some(true)));
    assert_eq!(read("build-matrix: {}").unwrap().builds().len(), 1);
}

// BS-165
#[test]
fn a_fanout_is_so_many_equal_builds() {
    let builds = read("build-fanout: {parallelism: 3, ignore-failure: yes}").unwrap().builds();
    assert_eq!(
        builds.iter().map(|build| build.identifier.as_str()).collect::<Vec<_>>(),
        ["fanout_1", "fanout_2", "fanout_3"]
    );
    assert!(builds.iter().all(|build| build.ignore_failure));
    refused("build-fanout: {}", Code::Missing, "batch.build-fanout.parallelism");
    for bad in ["0", "-1", "1.5", "many", "101", "99999999999999999999"] {
        refused(
            &format!("build-fanout: {{parallelism: {bad}}}"),
            Code::Value,
            "Invalid batch.build-fanout.parallelism",
        );
    }
}

#[test]
fn a_batch_has_at_most_as_many_builds_as_aws_allows() {
    let values = |count: usize| vec!["x"; count].join(", ");
    refused(
        &format!(
            "build-matrix: {{dynamic: {{env: {{image: [{}], variables: {{A: [{}]}}}}}}}}",
            values(11),
            values(10)
        ),
        Code::Limit,
        "Too many builds in batch.build-matrix: 110. At most 100",
    );
    let names: String = (0..70).map(|at| format!("V{at}: [{}], ", values(2))).collect();
    refused(
        &format!("build-matrix: {{dynamic: {{env: {{variables: {{{names}}}}}}}}}"),
        Code::Limit,
        "very many",
    );
    let list: String = (0..=limits::BATCH_BUILDS).map(|at| format!("  - identifier: b{at}\n")).collect();
    refused(&format!("build-list:\n{list}"), Code::Limit, "101");
}

// BS-163
#[test]
fn a_single_build_does_not_look_at_the_batch() {
    let parsed =
        parse("version: 0.2\nbatch: {build-list: [{}], fast-fail: [x]}\nphases: {build: {commands: [a]}}\n")
            .unwrap();
    assert!(parsed.buildspec.batch.unwrap().is_err());
}

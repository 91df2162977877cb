//! Reports: what a build's files become, and what is said of them.

use std::collections::BTreeMap;

use agent::answer::{Answer, ReportTarget};
use agent::journal::{Event, Outcome, Phase};
use agent::plan::Reports;
use report::{Findings, Status};

use crate::world::{Build, Ended};

crate::cases![
    reports_are_made_though_the_build_failed,
    a_broken_report_file_is_named_and_leaves_the_report_incomplete,
    what_is_masked_in_the_log_is_masked_in_reports,
    a_report_group_of_another_account_fails_the_build,
    report_files_are_discovered_unless_a_command_says_otherwise,
];

const OWN: &str = "arn:aws:codebuild:eu-west-1:111122223333:report-group/";
const JUNIT: &str =
    "<testsuite name='s'><testcase name='a'/><testcase name='b'><failure/></testcase></testsuite>";

/// A build of these commands with this `reports` section, whose driver allows these groups.
fn build(commands: &[&str], reports: &str, groups: &[&str], discover: bool) -> Ended {
    let commands: Vec<String> = commands.iter().map(|one| format!("{one:?}")).collect();
    let mut build = Build::new(&format!(
        "version: 0.2\nphases: {{build: {{commands: [{}]}}}}\nreports: {{{reports}}}\n",
        commands.join(", ")
    ));
    build.plan.reports = Some(Reports { group_arns: Some(OWN.into()), objects: None, discover });
    let target = |name: &str| Ok(ReportTarget { arn: format!("report/{name}"), export: None });
    let targets: BTreeMap<_, _> = groups.iter().map(|name| ((*name).to_owned(), target(name))).collect();
    build.answered(Answer::Reports(targets)).run()
}

fn write(name: &str, text: &str) -> String {
    format!("mkdir -p \"$(dirname {name})\" && printf %s \"{text}\" > {name}")
}

/// `(arn, findings, is complete)` of each report.
fn reports(ended: &Ended) -> Vec<(String, Option<Findings>, bool)> {
    let place = ended.folder.path().join("build");
    let read = |file: &String| serde_json::from_slice(&std::fs::read(place.join(file)).unwrap()).unwrap();
    let of = |event: &Event| match event {
        Event::ReportEnded { arn, findings, is_complete } => {
            Some((arn.clone(), findings.as_ref().map(read), *is_complete))
        }
        _ => None,
    };
    ended.events.iter().filter_map(of).collect()
}

// BS-110, BS-112, BS-115, BS-190, IN-101
fn reports_are_made_though_the_build_failed() {
    let junit = write("out/x/junit.xml", JUNIT);
    let commands = [&junit, "export GROUP=unit OUT=out", "false"];
    let section = "$GROUP: {files: ['**/*.xml'], base-directory: $OUT}, none: {files: [nothing]}";
    let ended = build(&commands, section, &["demo-unit", "demo-none"], false).with(Outcome::Failed);
    let found = reports(&ended);
    let (arn, Some(Findings::Tests(tests)), true) = &found[0] else { panic!("{found:?}\n{}", ended.log) };
    assert_eq!((arn.as_str(), tests.total(), tests.counts[&Status::Failed]), ("report/demo-unit", 2, 1));
    assert_eq!(found[1], ("report/demo-none".to_owned(), None, false));
    assert!(ended.said("Report demo-none: no matching report paths found"), "{}", ended.log);
    assert_eq!(ended.phase(Phase::UploadArtifacts).unwrap().0, Outcome::Succeeded);
}

// BS-052
fn what_is_masked_in_the_log_is_masked_in_reports() {
    let told = "<testsuite name='s'><testcase name='a'><failure message='id=AKIAIOSFODNN7EXAMPLE.'/></testcase></testsuite>";
    let ended = build(&[&write("a.xml", told)], "unit: {files: [a.xml]}", &["demo-unit"], false);
    let found = reports(&ended);
    let [(_, Some(Findings::Tests(tests)), true)] = &found[..] else { panic!("{found:?}\n{}", ended.log) };
    assert_eq!((tests.cases[0].name.as_str(), tests.cases[0].message.as_str()), ("a", "id=***."));
}

// IN-100, BS-113
fn a_broken_report_file_is_named_and_leaves_the_report_incomplete() {
    let commands = [write("a.xml", JUNIT), write("b.xml", "<html/>")];
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let ended = build(&commands, "unit: {files: ['*.xml']}", &["demo-unit"], false).with(Outcome::Succeeded);
    let found = reports(&ended);
    assert!(
        matches!(&found[..], [(_, Some(Findings::Tests(tests)), false)] if tests.total() == 2),
        "{found:?}"
    );
    assert!(
        ended.log.contains("Report demo-unit: b.xml cannot be read: it is not JUNITXML"),
        "{}",
        ended.log
    );
}

// BS-116
fn a_report_group_of_another_account_fails_the_build() {
    let group = "'arn:aws:codebuild:eu-west-1:444455556666:report-group/unit': {files: [a]}";
    let ended = build(&["true"], group, &[], false).with(Outcome::Failed);
    let (outcome, context) = ended.phase(Phase::UploadArtifacts).unwrap();
    assert_eq!((outcome, context.status_code.as_str()), (Outcome::Failed, "CLIENT_ERROR"));
}

// BS-117, BS-118
fn report_files_are_discovered_unless_a_command_says_otherwise() {
    let junit = write("deep/junit.xml", JUNIT);
    let group = "demo-JUNITXML-AutoDiscovered";
    let ended = build(&[&junit], "", &[group], true).with(Outcome::Succeeded);
    assert!(matches!(&reports(&ended)[..], [(arn, Some(_), true)] if arn.ends_with(group)), "{}", ended.log);
    let lines = ended.service_lines();
    let start =
        lines.iter().position(|line| *line == "Set report auto-discover timeout to 5 seconds").unwrap();
    let expect = [
        "Expanding base directory path: .",
        "Assembling file list",
        "Expanding .",
        "Expanding file paths for base directory .",
        "Assembling file list",
        "Expanding **/*",
        "Found 1 file(s)",
    ];
    assert_eq!(&lines[start + 1..start + 8], expect);
    let took = lines[start + 8];
    let seconds = took.strip_prefix("Report auto-discover file discovery took ");
    let seconds = seconds.and_then(|rest| rest.strip_suffix(" seconds")).and_then(|text| text.parse().ok());
    assert!(seconds.is_some_and(|seconds: f64| (0.0..5.0).contains(&seconds)), "{took}");
    let ended = build(&[&junit, "export CODEBUILD_CONFIG_AUTO_DISCOVER=false"], "", &[], true);
    assert!(!ended.log.contains("auto-discover") && reports(&ended).is_empty(), "{}", ended.log);
    let ended = build(&[&junit, "export CODEBUILD_CONFIG_AUTO_DISCOVER_DIR=elsewhere"], "", &[], true);
    assert!(ended.said("No matching auto-discover report paths found"), "{}", ended.log);
}

//! Golden logs: the whole log of example builds, as `tests/cases/logs` has it, but for times.
//!
//! A case is a folder with `buildspec.yml` and `log`; with `runtimes.yml` it runs in an image that has that file, and
//! `parameters.json` is what Parameter Store has. `cargo test -p agent --test agent -- --update` writes the logs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use agent::answer::Answer;
use agent::journal::{Outcome, Phase};

use crate::world::Build;

const CASES_FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/cases/logs");

crate::cases![
    a_log_that_lost_a_write_ends_there_and_the_build_with_it,
    logs_are_what_codebuild_would_write,
    output_beyond_the_quota_is_left_out_and_that_is_told,
];

fn a_log_that_lost_a_write_ends_there_and_the_build_with_it() {
    // P5. All numbers are printed at once, and there is no room for them; there would be for what follows.
    let numbers: String = (1..=30_000).map(|number| format!("{number}\n")).collect();
    let build = Build::of(
        "  build: {commands: ['echo before', 'seq 30000 | dd bs=1M iflag=fullblock status=none', 'echo after']}\n",
    );
    let ended = build.with_files_up_to(numbers.len() as u64 - 40_000).run().with(Outcome::Fault);
    let (before, printed) = ended.log.split_once("status=none\n").unwrap();
    assert!(before.contains("\nbefore\n"), "{before}");
    assert!(numbers.starts_with(printed), "something is missing before: {}", last_lines(printed));
    let (outcome, context) = ended.phase(Phase::Build).unwrap();
    let told = (outcome, context.status_code.as_str(), context.message.as_str());
    assert_eq!(told, (Outcome::Fault, "INTERNAL_SERVICE_ERROR", "the disk is full"));
}

fn last_lines(text: &str) -> &str {
    &text[text.len().saturating_sub(500)..]
}

fn output_beyond_the_quota_is_left_out_and_that_is_told() {
    let mut build = Build::of(
        "  build: {commands: ['yes 0123456789 | head -c 150000', 'printf more', 'echo and more']}\n  \
         post_build: {commands: ['exit 3']}\n",
    );
    build.plan.log_quota_bytes = Some(100_000);
    let log = build.run().log;
    let (kept, after) = log.split_once("The log has reached its quota of 100000 bytes of output").unwrap();
    let (_, output) = kept.split_once("head -c 150000\n").unwrap();
    let output = output.rsplit_once("[Container]").unwrap().0;
    // The quota ends within a line, which the record must not be part of.
    assert_eq!(output.len(), 100_001, "{}", &output[output.len() - 50..]);
    assert!("0123456789\n".repeat(10_000).starts_with(output.trim_end()));
    assert!(!after.contains("\nmore") && !after.contains("\nand more"), "{after}");
    assert!(after.contains("Running command echo and more"), "what the service says is kept: {after}");
    assert!(after.ends_with(" 50013 bytes of output were left out\n"), "{after}");
}

fn logs_are_what_codebuild_would_write() {
    // LC-110..117
    let mut different = Vec::new();
    for case in cases() {
        let expect = fs::read_to_string(case.join("log")).unwrap_or_default();
        let log = log(&case);
        if log != expect {
            different.push(format!("--- {}\n{log}", case.display()));
        }
    }
    assert!(different.is_empty(), "these logs are not as expected:\n{}", different.join("\n"));
}

/// Writes the logs that builds have now.
pub(crate) fn update() {
    for case in cases() {
        fs::write(case.join("log"), log(&case)).unwrap();
    }
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> =
        fs::read_dir(CASES_FOLDER).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(cases.len() >= 10, "{CASES_FOLDER} has too few cases");
    cases.sort();
    cases
}

/// The log of the case's build, with `<time>` for times. Every event ends in a line feed (LC-117).
fn log(case: &Path) -> String {
    let read = |name: &str| fs::read_to_string(case.join(name)).ok();
    let mut build = Build::new(&read("buildspec.yml").unwrap());
    if let Some(runtimes) = read("runtimes.yml") {
        build = build.image(&[("codebuild/image/config/runtimes.yml", &runtimes)]);
    }
    if let Some(parameters) = read("parameters.json") {
        let parameters = serde_json::from_str(&parameters).unwrap();
        build = build.answered(Answer::Values { parameters, secrets: BTreeMap::new(), git: Vec::new() });
    }
    let log = build.run().log;
    assert!(log.ends_with('\n'), "the last event has no line feed");
    log.lines().map(|line| without_time(line) + "\n").collect()
}

/// COMPAT: LC-110 `[Container] YYYY/MM/DD HH:MM:SS.ffffff `, which must be there to the digit.
fn without_time(line: &str) -> String {
    const FORM: &str = "0000/00/00 00:00:00.000000 ";
    let Some(rest) = line.strip_prefix("[Container] ") else { return line.to_owned() };
    let (time, text) = rest.split_at(FORM.len());
    let form: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(form, FORM, "{line}");
    format!("[Container] <time> {text}")
}

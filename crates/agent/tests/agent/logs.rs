//! Golden logs: the whole log of example builds, as `tests/cases/logs` has it, but for times.
//!
//! A case is a folder with `buildspec.yml` and `log`; with `runtimes.yml` it runs in an image that has that file, and
//! `parameters.json` is what Parameter Store has. `cargo test -p agent --test agent -- --update` writes the logs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use agent::answer::Answer;

use crate::world::Build;

const CASES_FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/cases/logs");

crate::cases![logs_are_what_codebuild_would_write];

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

//! Words that are retired as names of files, modules and types (GLOSSARY.md): each says less than the one it displaces.

use super::Finding;
use super::text::Rust;

const RETIRED: &[&str] = &[
    "job", "jobs", "pipeline", "step", "stage", "runner", "worker", "manager", "helper", "helpers", "util",
    "utils", "common", "core", "misc",
];

/// Names in which a retired word is somebody else's own.
const PROPER_NAMES: &[&[&str]] =
    &[&["code", "pipeline"], &["codepipeline"], &["github", "runner"], &["gitlab", "runner"]];

/// Generated from Amazon's models, in Amazon's words.
const FOREIGN: &str = "crates/api/src/generated/";

const DECLARATIONS: &[&str] = &["mod", "struct", "enum", "trait", "type", "union"];

pub(super) fn check_path(path: &str) -> Option<Finding> {
    if !path.ends_with(".rs") && !path.ends_with("Cargo.toml") {
        return None;
    }
    let retired = path.split(['/', '.']).find_map(retired)?;
    Some(Finding { path: path.into(), line: 0, what: format!("`{retired}` is retired as a name") })
}

pub(super) fn check_declarations(path: &str, rust: &Rust) -> Vec<Finding> {
    if path.starts_with(FOREIGN) {
        return Vec::new();
    }
    let finding = |(line, name): (usize, &str)| {
        let what = format!("`{name}`: `{}` is retired as a name", retired(name)?);
        Some(Finding { path: path.into(), line, what })
    };
    let declared = |(line, text)| declared(text).map(move |name| (line, name));
    rust.all_code_lines().flat_map(declared).filter_map(finding).collect()
}

/// The names that a line declares.
fn declared(line: &str) -> impl Iterator<Item = &str> {
    let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty());
    std::iter::from_fn(move || {
        words.by_ref().find(|word| DECLARATIONS.contains(word))?;
        words.next()
    })
}

/// The retired word that a name is made with.
fn retired(name: &str) -> Option<&'static str> {
    let words = words(name);
    let proper = |at: usize| {
        PROPER_NAMES
            .iter()
            .any(|proper| (at + 1).checked_sub(proper.len()).is_some_and(|from| words[from..=at] == **proper))
    };
    let found = (0..words.len()).find(|at| RETIRED.contains(&words[*at].as_str()) && !proper(*at))?;
    RETIRED.iter().find(|word| **word == words[found]).copied()
}

/// `BuildPhase`, `build_phase` and `build-phase` are `build phase`.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut starts = true;
    for c in name.chars() {
        if !c.is_alphanumeric() {
            starts = true;
            continue;
        }
        if starts || c.is_uppercase() {
            words.push(String::new());
        }
        starts = false;
        if let Some(word) = words.last_mut() {
            word.extend(c.to_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retired_words_are_found_in_names_however_they_are_written() {
        for (name, expect) in [
            ("BuildJob", Some("job")),
            ("log_utils", Some("utils")),
            ("queue-worker", Some("worker")),
            ("Core", Some("core")),
            ("CodePipeline", None),
            ("GithubRunner", None),
            ("Scoreboard", None),
            ("Utilisation", None),
            ("Phase", None),
        ] {
            assert_eq!(retired(name), expect, "{name}");
        }
    }

    #[test]
    fn declarations_and_files_are_looked_at_and_nothing_else() {
        let text = "pub(crate) struct QueueManager<T>(T);\nlet worker = 1;\nfn step() {}\n// struct Job\nmod common;";
        let findings = check_declarations("a.rs", &Rust::read(text));
        assert_eq!(findings.iter().map(|finding| finding.line).collect::<Vec<_>>(), [1, 5]);
        assert!(check_path("crates/a/src/helpers.rs").is_some());
        assert!(check_path("crates/core/Cargo.toml").is_some());
        assert!(check_path("docs/common.md").is_none());
    }
}

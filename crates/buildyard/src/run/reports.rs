//! Reports of a local build: what its driver answers, and the results as files beside its artifacts.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use agent::answer::{Answer, ReportTarget};
use agent::journal::Event;
use agent::plan::Source;
use executor::Executor;
use report::{Findings, TestCase};

use super::Build;

/// Failed test cases that are named in the summary, of one report.
const NAMED: usize = 10;

/// The answer to the reports that `events` ask for: all may be made, and none is exported.
pub(super) fn answer(events: &[Event]) -> Option<Answer> {
    let groups = events.iter().rev().find_map(|event| match event {
        Event::ReportsNeeded { groups } => Some(groups),
        _ => None,
    })?;
    let target = |name: &str| Ok(ReportTarget { arn: name.to_owned(), export: None });
    let targets: BTreeMap<_, _> =
        groups.iter().map(|group| (group.name.clone(), target(&group.name))).collect();
    Some(Answer::Reports(targets))
}

/// Where the results of a folder's latest build are.
pub(super) fn folder(folder: &Path) -> PathBuf {
    folder.join(".buildyard/reports")
}

/// Keeps the results as JSON, and gives lines that tell of them, each with whether it is good news.
pub(super) async fn keep(
    executor: &dyn Executor,
    build: &Build,
    events: &[Event],
) -> Result<Vec<(String, bool)>, String> {
    let Source::Folder(source) = &build.plan.source else { return Ok(Vec::new()) };
    let folder = folder(source);
    remove_old(&folder).map_err(|e| format!("cannot empty {}: {e}", folder.display()))?;
    let mut lines = Vec::new();
    for event in events {
        let Event::ReportEnded { arn: group, findings, is_complete } = event else { continue };
        let Some(file) = findings else {
            lines.push((format!("Report {group}: no matching report paths found"), false));
            continue;
        };
        let json = executor.left(&build.plan.uuid, file).await.map_err(|e| e.to_string())?;
        let findings: Findings = serde_json::from_slice(&json).map_err(|e| e.to_string())?;
        let path = folder.join(format!("{}.json", plain(group)));
        let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, &json));
        written.map_err(|e| format!("cannot write {}: {e}", path.display()))?;
        lines.extend(told(group, &findings, *is_complete, &path));
    }
    Ok(lines)
}

fn told(group: &str, findings: &Findings, is_complete: bool, path: &Path) -> Vec<(String, bool)> {
    let rest = if is_complete { "" } else { "; some files could not be read" };
    match findings {
        Findings::Tests(tests) => {
            let bad: Vec<&TestCase> = tests.cases.iter().filter(|case| case.status.is_bad()).collect();
            let count: u64 =
                tests.counts.iter().filter(|(status, _)| status.is_bad()).map(|(_, count)| count).sum();
            let text = format!(
                "Report {group}: {} test case(s), {count} failed{rest}; {}",
                tests.total(),
                path.display()
            );
            let mut lines = vec![(text, count == 0 && is_complete)];
            let name = |case: &&TestCase| match case.prefix.is_empty() {
                true => format!("  {} {}", case.status.name(), case.name),
                false => format!("  {} {}: {}", case.status.name(), case.prefix, case.name),
            };
            lines.extend(bad.iter().take(NAMED).map(|case| (name(case), false)));
            if count > NAMED as u64 && bad.len() > NAMED {
                lines.push((format!("  and {} more", count - NAMED as u64), false));
            }
            lines
        }
        Findings::Coverages(coverages) => {
            let (files, lines) = (coverages.files.len(), coverages.sum().lines.percentage());
            let text = format!(
                "Report {group}: {lines:.1} % of lines in {files} source file(s) covered{rest}; {}",
                path.display()
            );
            vec![(text, is_complete)]
        }
    }
}

/// The results of the build before.
fn remove_old(folder: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A group's name as a file's.
fn plain(group: &str) -> String {
    group.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect()
}

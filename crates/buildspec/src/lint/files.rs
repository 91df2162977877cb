//! Patterns of files: those that select nothing, or not what they seem to.

use super::{Document, scalar};
use crate::diagnostic::{Code, Findings, quoted};
use crate::read::Field;

/// Names that are hardly ever those of files.
const DIRECTORIES: &[&str] = &[
    ".",
    "./",
    "bin",
    "build",
    "cdk.out",
    "coverage",
    "dist",
    "docs",
    "lib",
    "node_modules",
    "obj",
    "out",
    "output",
    "public",
    "publish",
    "release",
    "reports",
    "site",
    "src",
    "static",
    "target",
    "test-results",
    "vendor",
    "www",
    ".next",
    ".aws-sam",
    ".terraform",
];

pub(super) fn check(document: &Document<'_>, findings: &mut Findings) {
    let mut artifacts = vec![document.get(&["artifacts"])];
    artifacts.extend(document.entries(&["artifacts", "secondary-artifacts"]).into_iter().map(Some));
    for field in artifacts.into_iter().flatten() {
        for pattern in items(&field, "files") {
            check_selects(&pattern, findings);
            check_inside(document, &pattern, findings);
        }
        items(&field, "exclude-paths").iter().for_each(|pattern| check_negated(pattern, findings));
    }
    for report in document.entries(&["reports"]) {
        items(&report, "files").iter().for_each(|pattern| check_selects(pattern, findings));
    }
    document.items(&["cache", "paths"]).iter().for_each(|pattern| check_negated(pattern, findings));
}

fn items<'a>(field: &Field<'a>, name: &str) -> Vec<Field<'a>> {
    field.get(name).and_then(|list| list.items().ok()).unwrap_or_default()
}

fn check_selects(pattern: &Field<'_>, findings: &mut Findings) {
    check_negated(pattern, findings);
    let Some(text) = scalar(pattern) else { return };
    let name = text.strip_prefix("./").filter(|rest| !rest.is_empty()).unwrap_or(text);
    // COMPAT: BS-143, BS-182
    if (text.ends_with('/') || DIRECTORIES.contains(&name)) && !text.contains('$') {
        let message = format!("{} is a directory, and a directory selects no file", quoted(text));
        let all = match name.trim_end_matches('/') {
            "" | "." => "**/*".to_owned(),
            name => format!("{name}/**/*"),
        };
        findings.warn(|| {
            pattern
                .node
                .span
                .finding(Code::BareDirectory, message)
                .hint(format!("Write '{all}' for all files below it."))
        });
    }
}

/// COMPAT: BS-184
fn check_negated(pattern: &Field<'_>, findings: &mut Findings) {
    let Some(text) = scalar(pattern).filter(|text| text.starts_with('!')) else { return };
    let message = format!("{} excludes nothing: it selects files whose names begin with !", quoted(text));
    findings.warn(|| {
        let finding = pattern.node.span.finding(Code::NegatedGlob, message);
        finding.hint("Name what to leave out in artifacts.exclude-paths.")
    });
}

/// No file's path has such a component.
fn check_inside(document: &Document<'_>, pattern: &Field<'_>, findings: &mut Findings) {
    let Some(text) = scalar(pattern) else { return };
    let Some(part) = text.split('/').find(|component| *component == "..") else { return };
    let message = format!("{} leads out of the directory that artifacts are collected in", quoted(text));
    findings.warn(|| {
        let finding = document.within(pattern.node, part, Code::OutsideGlob, message);
        finding.hint("Name that directory in base-directory, and the files relative to it.")
    });
}

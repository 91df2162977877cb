//! For programs: one object with everything.

use serde_json::{Value, json};

use super::CheckedFile;
use crate::diagnostic::{Diagnostic, Severity};

/// An object with `findings` (in the order of files and text), `errors` and `warnings` (how many), ending in a line feed.
pub fn json(files: &[CheckedFile]) -> String {
    let findings = files
        .iter()
        .flat_map(|(file, checked)| checked.findings.iter().map(move |found| object(file, found)));
    let count = |severity| files.iter().map(|(_, checked)| checked.count(severity)).sum::<usize>();
    let written = json!({
        "findings": findings.collect::<Vec<Value>>(),
        "errors": count(Severity::Error),
        "warnings": count(Severity::Warning),
    });
    pretty(&written)
}

pub(super) fn pretty(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("a JSON value is JSON");
    text.push('\n');
    text
}

fn object(file: &str, finding: &Diagnostic) -> Value {
    let Diagnostic { code, message, span, hint } = finding;
    json!({
        "file": file,
        "line": span.start.line,
        "column": span.start.column,
        "end_line": span.end.line,
        "end_column": span.end.column,
        "code": code.id(),
        "name": code.name(),
        "severity": finding.severity().to_string(),
        "message": message,
        "hint": hint,
    })
}

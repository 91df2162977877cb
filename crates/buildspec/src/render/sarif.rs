//! For code scanning: SARIF 2.1.0.

use serde_json::{Value, json};

use super::CheckedFile;
use crate::diagnostic::{Code, Diagnostic, Severity, Span};

/// A SARIF log with one run of `buildyard check`, ending in a line feed.
pub fn sarif(files: &[CheckedFile], tool_version: &str) -> String {
    let results = files
        .iter()
        .flat_map(|(file, checked)| checked.findings.iter().map(move |finding| result(file, finding)));
    super::json::pretty(&json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "buildyard check",
                "version": tool_version,
                "rules": Code::ALL.iter().copied().map(rule).collect::<Vec<Value>>(),
            } },
            "columnKind": "unicodeCodePoints",
            "results": results.collect::<Vec<Value>>(),
        }],
    }))
}

fn rule(code: Code) -> Value {
    json!({
        "id": code.id(),
        "name": code.name(),
        "shortDescription": { "text": code.summary() },
        "defaultConfiguration": { "level": level(code.severity()) },
    })
}

fn result(file: &str, finding: &Diagnostic) -> Value {
    let Diagnostic { code, message, span, hint } = finding;
    let text = match hint {
        Some(hint) => format!("{message}\n{hint}"),
        None => message.clone(),
    };
    json!({
        "ruleId": code.id(),
        "ruleIndex": Code::ALL.iter().position(|known| known == code),
        "level": level(finding.severity()),
        "message": { "text": text },
        "locations": [{ "physicalLocation": {
            "artifactLocation": { "uri": uri(file) },
            "region": region(*span),
        } }],
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn region(span: Span) -> Value {
    json!({
        "startLine": span.start.line,
        "startColumn": span.start.column,
        "endLine": span.end.line,
        "endColumn": span.end.column,
    })
}

/// A path as a relative reference.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => {
                uri.push(char::from(byte))
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri
}

//! For GitHub Actions: workflow commands, which become annotations of the changed lines.

use super::CheckedFile;
use crate::diagnostic::Diagnostic;

/// A line for each finding.
pub fn github(files: &[CheckedFile]) -> String {
    files
        .iter()
        .flat_map(|(file, checked)| checked.findings.iter().map(move |finding| line(file, finding)))
        .collect()
}

fn line(file: &str, finding: &Diagnostic) -> String {
    let Diagnostic { code, message, span, hint } = finding;
    let mut properties = vec![
        ("file", file.to_owned()),
        ("line", span.start.line.to_string()),
        ("endLine", span.end.line.to_string()),
    ];
    // Columns are for findings on one line only.
    if span.start.line == span.end.line {
        properties.push(("col", span.start.column.to_string()));
        properties.push(("endColumn", span.end.column.to_string()));
    }
    properties.push(("title", format!("{} {code}", code.id())));
    let properties: Vec<String> =
        properties.iter().map(|(name, value)| format!("{name}={}", property(value))).collect();
    let text = match hint {
        Some(hint) => format!("{message}\n{hint}"),
        None => message.clone(),
    };
    format!("::{} {}::{}\n", finding.severity(), properties.join(","), data(&text))
}

/// A text behind `::`.
fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// A value between `=` and `,`.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

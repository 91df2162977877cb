//! Everything worth saying about a buildspec, for people who are writing it: what the reader refuses and warns about, and what
//! [`lint`](crate::lint) finds besides. A build is told less: only what CodeBuild would refuse, and what has no effect.

use crate::diagnostic::{self, Code, Diagnostic, Severity};
use crate::limits;
use crate::lint;
use crate::model::Buildspec;
use crate::read;

/// A buildspec's text and what there is to say about it.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The text, decoded; with replacement characters if the bytes are no text, empty if they are too many.
    pub text: String,
    /// In the order of the text.
    pub findings: Vec<Diagnostic>,
    /// What a build would get; `None` if it would be refused.
    pub buildspec: Option<Buildspec>,
}

impl Checked {
    /// How many findings there are of that severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity() == severity).count()
    }
}

/// Checks a buildspec file: UTF-8 or, with a byte order mark, UTF-16. Findings whose codes are in `allowed` are left out, unless
/// they are errors.
pub fn check(bytes: &[u8], allowed: &[Code]) -> Checked {
    let text = match read::decode(bytes) {
        Ok(text) => text,
        Err(error) => return Checked { text: guessed(bytes), findings: vec![error], buildspec: None },
    };
    let reading = match read::read(&text) {
        Ok(reading) => reading,
        Err(error) => return Checked { text, findings: vec![error], buildspec: None },
    };
    let mut findings = lint::findings(&text, &reading);
    findings.extend(reading.warnings);
    findings.retain(|finding| !allowed.contains(&finding.code));
    let refused = !reading.errors.is_empty();
    findings.extend(reading.errors);
    findings.extend(reading.batch_errors);
    diagnostic::sort(&mut findings);
    Checked { text, findings, buildspec: (!refused).then_some(reading.buildspec) }
}

/// What can be shown of bytes that are no text.
fn guessed(bytes: &[u8]) -> String {
    if bytes.len() > limits::TEXT_BYTES { String::new() } else { String::from_utf8_lossy(bytes).into_owned() }
}

//! What is wrong with a text, where, and how to put it right. Which text goes with which finding is decided
//! where the finding is made, and what kinds there are in [`code`]; here are the shape, the collection and the quoting.

mod code;

use crate::limits;

pub use code::{Code, Severity};

/// A finding in a text: one that a build would be refused for, or one worth knowing ([`Code::severity`]).
///
/// `message` is what a build's phase context shows beside the status code `YAML_FILE_ERROR`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Diagnostic {
    /// What kind of finding, for programs.
    pub code: Code,
    /// One sentence for people: CodeBuild's own text where one is known.
    pub message: String,
    /// The offending text.
    pub span: Span,
    /// What to do about it.
    pub hint: Option<String>,
}

/// The error of this crate: a [`Diagnostic`] of severity [`Severity::Error`]. Callers tell errors apart by their [`Code`].
pub type Error = Diagnostic;

/// A place in a text; line and column count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

/// A stretch of text. `end` is just behind it, on the same line or a later one; it is `start` for a mere place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The first character.
    pub start: Position,
    /// Behind the last character.
    pub end: Position,
}

impl Position {
    /// The first character of a text.
    pub const START: Position = Position { line: 1, column: 1 };
}

impl Span {
    /// The beginning of a text, for what is about the whole.
    pub const START: Span = Span { start: Position::START, end: Position::START };

    /// The line it begins on.
    pub fn line(self) -> usize {
        self.start.line
    }

    /// A finding about this text.
    pub(crate) fn finding(self, code: Code, message: impl Into<String>) -> Diagnostic {
        Diagnostic { code, message: message.into(), span: self, hint: None }
    }
}

impl From<Position> for Span {
    fn from(position: Position) -> Span {
        Span { start: position, end: position }
    }
}

impl Diagnostic {
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }

    /// How bad it is; follows from the code.
    pub fn severity(&self) -> Severity {
        self.code.severity()
    }
}

/// Findings in the order made: errors and warnings, at most [`limits::ERRORS`] and [`limits::WARNINGS`] of them.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    dropped: usize,
}

impl Findings {
    /// Adds what `make` builds, which is not called once the limit for warnings is reached.
    pub(crate) fn warn(&mut self, make: impl FnOnce() -> Diagnostic) {
        if self.warnings.len() < limits::WARNINGS {
            self.warnings.push(make());
        } else {
            self.dropped += 1;
        }
    }

    pub(crate) fn refuse(&mut self, error: Error) {
        if self.errors.len() < limits::ERRORS {
            self.errors.push(error);
        }
    }

    /// The value, or nothing and the error among the findings.
    pub(crate) fn keep<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        result.map_err(|error| self.refuse(error)).ok()
    }

    /// What has been refused so far, in the order found; the list begins anew.
    pub(crate) fn take_errors(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.errors)
    }

    /// All warnings in the order of the text; a last one tells of those dropped.
    pub(crate) fn into_warnings(mut self) -> Vec<Diagnostic> {
        sort(&mut self.warnings);
        if self.dropped > 0 {
            let message = format!("{} more warnings are not shown", self.dropped);
            self.warnings.push(Span::START.finding(Code::MoreWarnings, message));
        }
        self.warnings
    }
}

/// Puts findings in the order of the text.
pub(crate) fn sort(findings: &mut [Diagnostic]) {
    findings.sort_by_key(|finding| (finding.span.start, finding.code));
}

/// A user's text as shown in a message: between quotes, on one line and cut to [`limits::QUOTED_CHARS`].
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", excerpt(text))
}

/// A user's text as shown in a message without quotes, as CodeBuild does with names.
pub(crate) fn excerpt(text: &str) -> String {
    let shown = |character: char| if character.is_control() { '\u{fffd}' } else { character };
    let mut cut: String = text.chars().take(limits::QUOTED_CHARS).map(shown).collect();
    if cut.len() < text.len() && text.chars().nth(limits::QUOTED_CHARS).is_some() {
        cut.push('…');
    }
    cut
}

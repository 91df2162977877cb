//! What is wrong with a text, where, and how to put it right. Which text goes with which finding is decided
//! where the finding is made; here are only the shape, the collection of warnings and the quoting.

use std::fmt;

use crate::limits;

/// A finding in a text: fatal as an `Err`, otherwise a warning.
///
/// `message` is what a build's phase context shows beside the status code `YAML_FILE_ERROR`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Diagnostic {
    /// What kind of finding, for programs.
    pub code: Code,
    /// One sentence for people: CodeBuild's own text where one is known.
    pub message: String,
    /// Line in the text parsed, from 1.
    pub line: usize,
    /// Column in that line in characters, from 1.
    pub column: usize,
    /// What to do about it.
    pub hint: Option<String>,
}

/// The error of this crate: a fatal [`Diagnostic`]. Callers tell errors apart by their [`Code`].
pub type Error = Diagnostic;

/// Kinds of findings. `Display` gives a stable name such as `unknown-phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Code {
    /// Not YAML, or not text at all.
    Syntax,
    /// One of [`limits`] is crossed.
    Limit,
    /// A value of the wrong kind: a map where text is wanted.
    Type,
    /// A value of the right kind that is not one of those allowed.
    Value,
    /// A required key is absent.
    Missing,
    /// `version` is absent or not supported.
    Version,
    /// A phase CodeBuild does not have.
    UnknownPhase,
    /// A key CodeBuild does not have (warning).
    UnknownKey,
    /// A key given twice (warning: the last one counts).
    DuplicateKey,
    /// A key or value that is accepted and has no effect (warning).
    Ignored,
    /// A feature of CodeBuild's that is not supported.
    Unsupported,
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Code::Syntax => "syntax",
            Code::Limit => "limit",
            Code::Type => "type",
            Code::Value => "value",
            Code::Missing => "missing",
            Code::Version => "version",
            Code::UnknownPhase => "unknown-phase",
            Code::UnknownKey => "unknown-key",
            Code::DuplicateKey => "duplicate-key",
            Code::Ignored => "ignored",
            Code::Unsupported => "unsupported",
        })
    }
}

/// A place in a text; line and column count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl Position {
    /// The first character of a text.
    pub const START: Position = Position { line: 1, column: 1 };

    /// A finding at this place.
    pub(crate) fn finding(self, code: Code, message: impl Into<String>) -> Diagnostic {
        Diagnostic { code, message: message.into(), line: self.line, column: self.column, hint: None }
    }
}

impl Diagnostic {
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Diagnostic {
        self.hint = Some(hint.into());
        self
    }
}

/// Warnings in the order found, at most [`limits::WARNINGS`] of them.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    kept: Vec<Diagnostic>,
    dropped: usize,
}

impl Warnings {
    /// Adds the warning `make` builds, which is not called once the limit is reached.
    pub(crate) fn add(&mut self, make: impl FnOnce() -> Diagnostic) {
        if self.kept.len() < limits::WARNINGS {
            self.kept.push(make());
        } else {
            self.dropped += 1;
        }
    }

    /// All warnings in the order of the text; a last one tells of those dropped.
    pub(crate) fn into_vec(mut self) -> Vec<Diagnostic> {
        self.kept.sort_by_key(|warning| (warning.line, warning.column));
        if self.dropped > 0 {
            let message = format!("{} more warnings are not shown", self.dropped);
            self.kept.push(Position::START.finding(Code::Limit, message));
        }
        self.kept
    }
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

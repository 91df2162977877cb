//! What a buildspec says that its author hardly means: nothing of this stops a build. Each kind of finding is a [`Code`] with its
//! example in `docs/check.md`; which text goes with which is decided in the modules below.

mod commands;
mod files;
mod phases;
pub(crate) mod secrets;
mod shell;
mod variables;

use crate::diagnostic::{Code, Diagnostic, Findings, Span};
use crate::model::{Buildspec, PhaseName};
use crate::read::{Field, Reading};
use crate::source::Source;
use crate::yaml::{Node, Value};

/// All findings, in the order of the text.
pub(crate) fn findings(text: &str, reading: &Reading) -> Vec<Diagnostic> {
    let root = Field::root(&reading.root);
    let document = Document {
        source: Source::new(text),
        commands: commands_of(&root),
        root,
        buildspec: &reading.buildspec,
        whole: reading.errors.is_empty(),
    };
    let mut findings = Findings::default();
    variables::check(&document, &mut findings);
    secrets::check(&document, &mut findings);
    phases::check(&document, &mut findings);
    commands::check(&document, &mut findings);
    files::check(&document, &mut findings);
    findings.into_warnings()
}

/// A buildspec as text, tree and values at once.
struct Document<'a> {
    source: Source<'a>,
    root: Field<'a>,
    buildspec: &'a Buildspec,
    /// Whether nothing was refused, so that what is absent is not there.
    whole: bool,
    commands: Vec<Command<'a>>,
}

/// One item of a phase's `commands` or `finally`.
struct Command<'a> {
    phase: PhaseName,
    /// `commands` or `finally`.
    list: &'static str,
    /// In its list.
    index: usize,
    script: &'a str,
    field: Field<'a>,
}

fn commands_of<'a>(root: &Field<'a>) -> Vec<Command<'a>> {
    let mut commands = Vec::new();
    let phases = root.get("phases");
    for phase in PhaseName::ALL {
        let Some(field) = phases.as_ref().and_then(|phases| phases.get(phase.as_str())) else { continue };
        for list in ["commands", "finally"] {
            let Some(Ok(items)) = field.get(list).map(|list| list.items()) else { continue };
            for (index, field) in items.into_iter().enumerate() {
                if let Value::Scalar { text, .. } = &field.node.value {
                    commands.push(Command { phase, list, index, script: text, field });
                }
            }
        }
    }
    commands
}

impl<'a> Document<'a> {
    /// The field at the end of a path of keys.
    fn get(&self, path: &[&str]) -> Option<Field<'a>> {
        path.iter().try_fold(self.root.clone(), |field, name| field.get(name))
    }

    /// The entries of the map at the end of a path of keys.
    fn entries(&self, path: &[&str]) -> Vec<Field<'a>> {
        self.get(path).and_then(|field| field.entries().ok()).unwrap_or_default()
    }

    /// The items of the list at the end of a path of keys.
    fn items(&self, path: &[&str]) -> Vec<Field<'a>> {
        self.get(path).and_then(|field| field.items().ok()).unwrap_or_default()
    }

    /// A finding about `part` of a scalar's text.
    fn within(&self, node: &Node, part: &str, code: Code, message: impl Into<String>) -> Diagnostic {
        let span = match &node.value {
            Value::Scalar { text, .. } => self.source.find(node.span, text, part),
            _ => node.span,
        };
        span.finding(code, message)
    }
}

impl Command<'_> {
    /// Whether `other` runs in the same list after this one.
    fn is_before(&self, other: &Command<'_>) -> bool {
        self.phase == other.phase && self.list == other.list && self.index < other.index
    }
}

/// The text of a scalar.
fn scalar<'a>(field: &Field<'a>) -> Option<&'a str> {
    match &field.node.value {
        Value::Scalar { text, .. } => Some(text),
        _ => None,
    }
}

/// Where the key stands.
fn at_key(field: &Field<'_>) -> Span {
    field.span
}

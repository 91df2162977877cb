//! Variables: values that nobody expands, names that mean something else, exports of nothing.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use regex::Regex;

use super::{Document, at_key, scalar, shell};
use crate::diagnostic::{Code, Findings, quoted};
use crate::model::Shell;
use crate::read::Field;

/// Kinds of variables in `env`, with their names in both versions; what comes first wins.
const KINDS: [&str; 4] = ["variables", "plaintext", "parameter-store", "secrets-manager"];

/// Names beginning so are CodeBuild's own.
const RESERVED: &str = "CODEBUILD_";
/// Names that are meant to be set by buildspecs (BS-117).
const FREE: &str = "CODEBUILD_CONFIG_AUTO_DISCOVER";
/// COMPAT: BS-054
const NEVER_EXPORTED: &str = "AWS_";

pub(super) fn check(document: &Document<'_>, findings: &mut Findings) {
    let mut kinds: HashMap<&str, &str> = HashMap::new();
    for (kind, field) in variables(document) {
        check_name(&field, findings);
        if matches!(kind, "variables" | "plaintext") {
            check_value(document, &field, findings);
        }
        if let Some(other) = kinds.insert(field.name, kind).filter(|other| *other != kind) {
            let message = format!("Variable {} is in env.{other} and in env.{kind}", quoted(field.name));
            findings
                .warn(|| at_key(&field).finding(Code::VariableTwice, message).hint("Keep one of the two."));
        }
    }
    check_exports(document, &kinds, findings);
}

/// Every variable of `env` with its kind.
pub(super) fn variables<'a>(document: &Document<'a>) -> Vec<(&'static str, Field<'a>)> {
    let sections = ["env", "environment_variables"].into_iter();
    let both = sections.flat_map(|section| KINDS.into_iter().map(move |kind| (section, kind)));
    both.flat_map(|(section, kind)| {
        document.entries(&[section, kind]).into_iter().map(move |field| (kind, field))
    })
    .collect()
}

fn check_name(field: &Field<'_>, findings: &mut Findings) {
    let name = field.name;
    // COMPAT: BS-045
    if name.starts_with(RESERVED) && !name.starts_with(FREE) {
        let message = format!("Variable {} has a name that is reserved for CodeBuild's own", quoted(name));
        findings.warn(|| at_key(field).finding(Code::ReservedName, message).hint("Choose another name."));
    } else if !name.is_empty() && !name.contains('=') && !shell::is_name(name) {
        let message = format!("Variable {} has a name that no shell can refer to", quoted(name));
        let hint = "Use letters, digits and \"_\"; the first is no digit.";
        findings.warn(|| at_key(field).finding(Code::UnusableName, message).hint(hint));
    }
}

/// COMPAT: BS-042 nothing is expanded in a value.
fn check_value(document: &Document<'_>, field: &Field<'_>, findings: &mut Findings) {
    static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\$([A-Za-z_][A-Za-z0-9_]*|\{[A-Za-z_][^}]*\}?|\()|`[^`]+`").expect("an expression")
    });
    let Some(reference) = scalar(field).and_then(|text| REFERENCE.find(text)) else { return };
    findings.warn(|| {
        let message = format!(
            "{} is set to this very text: nothing expands {} in it",
            field.shown(),
            quoted(reference.as_str())
        );
        let finding = document.within(field.node, reference.as_str(), Code::LiteralVariable, message);
        finding.hint(format!("Set it with a command: export {}=\"...\"", field.name))
    });
}

fn check_exports(document: &Document<'_>, declared: &HashMap<&str, &str>, findings: &mut Findings) {
    let exported =
        ["env", "environment_variables"].map(|section| document.items(&[section, "exported-variables"]));
    let exported: Vec<Field<'_>> = exported.into_iter().flatten().collect();
    let set = match exported.is_empty() {
        true => Set::Unknown,
        false => Set::by(document),
    };
    for field in &exported {
        let Some(name) = scalar(field) else { continue };
        if name.starts_with(NEVER_EXPORTED) {
            let message =
                format!("Variable {} is never exported: its name begins with {NEVER_EXPORTED}", quoted(name));
            findings.warn(|| {
                field.node.span.finding(Code::NotExported, message).hint("Copy it to another variable.")
            });
        } else if !declared.contains_key(name) && !name.starts_with(RESERVED) && !set.may_have(name) {
            let message = format!("Nothing in this buildspec sets the exported variable {}", quoted(name));
            let hint = format!("Set it with a command, such as export {name}=..., or in the project.");
            findings.warn(|| field.node.span.finding(Code::ExportedNeverSet, message).hint(hint));
        }
    }
}

/// What commands set.
enum Set<'a> {
    /// They run what stands elsewhere, or in a language nobody here reads.
    Unknown,
    Names(HashSet<&'a str>),
}

impl<'a> Set<'a> {
    fn by(document: &Document<'a>) -> Set<'a> {
        static ASSIGNMENT: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"([A-Za-z_][A-Za-z0-9_]*)\+?=").expect("an expression"));
        if matches!(document.buildspec.env.shell, Some(Shell::PowerShell | Shell::Cmd)) {
            return Set::Unknown;
        }
        let mut names = HashSet::new();
        for command in &document.commands {
            let assigned = ASSIGNMENT.captures_iter(command.script).filter_map(|captures| captures.get(1));
            names.extend(assigned.map(|name| name.as_str()));
            for simple in shell::commands(command.script) {
                match simple.named() {
                    ["source" | "." | "eval", ..] => return Set::Unknown,
                    [
                        "read" | "for" | "mapfile" | "readarray" | "getopts" | "printf" | "export",
                        rest @ ..,
                    ] => names.extend(rest),
                    _ => {}
                }
            }
        }
        Set::Names(names)
    }

    fn may_have(&self, name: &str) -> bool {
        match self {
            Set::Unknown => true,
            Set::Names(names) => names.contains(name),
        }
    }
}

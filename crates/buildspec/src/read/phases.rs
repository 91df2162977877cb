//! `phases`: what runs.

use super::Context;
use super::field::{Field, Section};
use crate::diagnostic::{Code, Error, excerpt};
use crate::limits;
use crate::model::{NoOnFailure, OnFailure, Phase, PhaseName, Phases, Variables, Version};
use crate::schema;
use crate::yaml::Value;

/// COMPAT: BS-011 no phases at all is fine; BS-071 so is a phase without commands.
pub(super) fn read(field: &Field<'_>, context: &mut Context) -> Phases {
    let mut phases = Phases::default();
    for entry in context.entries(field) {
        match PhaseName::named(entry.name) {
            Some(name) => *phases.get_mut(name) = Some(phase(name, &entry, context)),
            None => context.findings.refuse(unknown_phase(&entry)),
        }
    }
    phases
}

/// COMPAT: BS-008 CodeBuild's text, names sorted.
fn unknown_phase(field: &Field<'_>) -> Error {
    let mut names = schema::PHASES.names(Version::V02);
    names.sort_unstable();
    let message =
        format!("Invalid buildspec phase name: {}. Expecting: {}", excerpt(field.name), names.join(","));
    let finding = field.span.finding(Code::UnknownPhase, message);
    if schema::BUILDSPEC.key(field.name).is_some() {
        return finding.hint(format!("{} belongs to the top level: remove its indentation.", field.name));
    }
    match crate::suggest::nearest(field.name, &names) {
        Some(known) => finding.hint(format!("Did you mean {known}?")),
        None => finding,
    }
}

fn phase(name: PhaseName, field: &Field<'_>, context: &mut Context) -> Phase {
    let table = if name == PhaseName::Install { &schema::INSTALL } else { &schema::PHASE };
    let section = Section::open(field, table, context);
    if let Some(steps) = section.get("steps") {
        context.findings.refuse(unsupported_steps(&steps));
    }
    Phase {
        run_as: section.text("run-as", context),
        on_failure: section.read("on-failure", context, on_failure),
        commands: section
            .open_in("commands", context, |field, context| commands(field, "Commands", context))
            .unwrap_or_default(),
        finally: section
            .open_in("finally", context, |field, context| commands(field, "Finally", context))
            .unwrap_or_default(),
        runtime_versions: match name {
            PhaseName::Install => {
                section.open_in("runtime-versions", context, runtime_versions).unwrap_or_default()
            }
            _ => Vec::new(),
        },
    }
}

/// COMPAT: BS-088 GitHub Actions in a buildspec; a build must not succeed by leaving them out.
fn unsupported_steps(field: &Field<'_>) -> Error {
    let message =
        "unsupported field \"steps\" in buildspec. No GitHub token has been configured for your account";
    field.span.finding(Code::Unsupported, message).hint("Write the steps as commands.")
}

fn commands(field: &Field<'_>, list: &str, context: &mut Context) -> Vec<String> {
    let items = context.items(field);
    let commands = items.iter().enumerate().map(|(index, item)| command(index, item, list));
    commands.filter_map(|command| context.findings.keep(command)).collect()
}

/// COMPAT: BS-009 an item that YAML reads as anything but text. An empty item gets the same message.
fn command(index: usize, item: &Field<'_>, list: &str) -> Result<String, Error> {
    match &item.node.value {
        Value::Scalar { text, .. } if !item.node.is_empty() => item.without_nul(text),
        value => {
            let line = item.node.span.line();
            let message = format!(
                "Expected {list}[{index}] to be of string type: found subkeys instead at line {line}, \
                 value of the key tag on line {} might be empty",
                line - 1
            );
            Err(item.node.span.finding(Code::CommandNotText, message).hint(advice(value)))
        }
    }
}

fn advice(value: &Value) -> &'static str {
    match value {
        Value::Map(_) => {
            "Quote the command or use a block scalar (- |): YAML reads \": \" outside quotes as key and value."
        }
        Value::List(_) => "Quote the command if it begins with [; lists of lists are not commands.",
        Value::Scalar { .. } => "Remove the empty item.",
    }
}

fn on_failure(field: &Field<'_>) -> Result<OnFailure, Error> {
    let text = field.text()?;
    OnFailure::parse(text.trim()).map_err(|reason| {
        let message = format!("Invalid {}: {}", field.shown(), excerpt(&text));
        match reason {
            NoOnFailure::Form => field.invalid(Code::Value, format_args!("{message}. Expecting: {}", OnFailure::FORMS)),
            NoOnFailure::Count => {
                field.invalid(Code::Value, message).hint(format!("The count of RETRY is 0 to {}.", limits::RETRY_COUNT))
            }
            NoOnFailure::Pattern(rule) => field.invalid(Code::Value, format_args!("{message}: {rule}")).hint(
                "What follows RETRY is a count, a regular expression, or a count and one: RETRY-2-.*timed out.*",
            ),
        }
    })
}

fn runtime_versions(field: &Field<'_>, context: &mut Context) -> Variables {
    context.each_entry(field, |entry| Ok((entry.name.to_owned(), entry.text()?)))
}

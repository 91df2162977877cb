//! `phases`: what runs.

use super::Context;
use super::field::{Field, Section};
use crate::diagnostic::{Code, Error, excerpt, quoted};
use crate::limits;
use crate::model::{OnFailure, Phase, PhaseName, Phases, Variables};
use crate::yaml::Value;

/// COMPAT: BS-011 no phases at all is fine; BS-071 so is a phase without commands.
pub(super) fn read(field: &Field<'_>, context: &mut Context) -> Result<Phases, Error> {
    let mut phases = Phases::default();
    for entry in field.entries()? {
        let name = PhaseName::named(entry.name).ok_or_else(|| unknown_phase(&entry))?;
        *phases.get_mut(name) = Some(phase(name, &entry, context)?);
    }
    Ok(phases)
}

/// COMPAT: BS-008 CodeBuild's text, names sorted.
fn unknown_phase(field: &Field<'_>) -> Error {
    const SORTED: [&str; 4] = ["build", "install", "post_build", "pre_build"];
    const TOP_LEVEL: [&str; 8] =
        ["artifacts", "batch", "cache", "env", "proxy", "reports", "run-as", "version"];
    let message =
        format!("Invalid buildspec phase name: {}. Expecting: {}", excerpt(field.name), SORTED.join(","));
    let finding = field.position.finding(Code::UnknownPhase, message);
    if TOP_LEVEL.contains(&field.name) {
        return finding.hint(format!("{} belongs to the top level: remove its indentation.", field.name));
    }
    match crate::suggest::nearest(field.name, &SORTED) {
        Some(known) => finding.hint(format!("Did you mean {known}?")),
        None => finding,
    }
}

fn phase(name: PhaseName, field: &Field<'_>, context: &mut Context) -> Result<Phase, Error> {
    // `steps` is known only to be refused below; `runtime-versions` to be warned about in other phases.
    let known = ["run-as", "on-failure", "runtime-versions", "commands", "finally", "steps"];
    let section = Section::open(field, &known, context)?;
    if let Some(steps) = section.get("steps") {
        return Err(unsupported_steps(&steps));
    }
    Ok(Phase {
        run_as: section.text("run-as")?,
        on_failure: section.read("on-failure", on_failure)?,
        commands: section.read("commands", |field| commands(field, "Commands"))?.unwrap_or_default(),
        finally: section.read("finally", |field| commands(field, "Finally"))?.unwrap_or_default(),
        runtime_versions: section
            .read("runtime-versions", |field| runtime_versions(name, field, context))?
            .unwrap_or_default(),
    })
}

/// COMPAT: BS-088 GitHub Actions in a buildspec; a build must not succeed by leaving them out.
fn unsupported_steps(field: &Field<'_>) -> Error {
    let message =
        "unsupported field \"steps\" in buildspec. No GitHub token has been configured for your account";
    field.position.finding(Code::Unsupported, message).hint("Write the steps as commands.")
}

/// COMPAT: BS-009 an item that YAML reads as anything but text. An empty item gets the same message.
fn commands(field: &Field<'_>, list: &str) -> Result<Vec<String>, Error> {
    field.items()?.iter().enumerate().map(|(index, item)| command(index, item, list)).collect()
}

fn command(index: usize, item: &Field<'_>, list: &str) -> Result<String, Error> {
    match &item.node.value {
        Value::Scalar { text, .. } if !item.node.is_empty() => item.without_nul(text),
        value => {
            let line = item.node.position.line;
            let message = format!(
                "Expected {list}[{index}] to be of string type: found subkeys instead at line {line}, \
                 value of the key tag on line {} might be empty",
                line - 1
            );
            Err(item.node.position.finding(Code::Type, message).hint(advice(value)))
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
    match OnFailure::named(text.trim()) {
        Some(OnFailure::Retry { count, .. }) if count > limits::RETRY_COUNT => {
            let message = format!("Invalid {}: {}", field.shown(), quoted(&text));
            let hint = format!("The count of RETRY is 0 to {}.", limits::RETRY_COUNT);
            Err(field.invalid(Code::Value, message).hint(hint))
        }
        Some(on_failure) => Ok(on_failure),
        None => {
            let expecting = "ABORT,CONTINUE,RETRY,RETRY-<count>,RETRY-<regex>,RETRY-<count>-<regex>";
            let message = format!("Invalid {}: {}. Expecting: {expecting}", field.shown(), excerpt(&text));
            Err(field.invalid(Code::Value, message))
        }
    }
}

fn runtime_versions(name: PhaseName, field: &Field<'_>, context: &mut Context) -> Result<Variables, Error> {
    if name != PhaseName::Install {
        context.warnings.add(|| {
            let message = format!("{} has no effect at line {}", field.shown(), field.position.line);
            let finding = field.position.finding(Code::Ignored, message);
            finding.hint("Runtime versions are chosen in the install phase.")
        });
        return Ok(Vec::new());
    }
    field.entries()?.iter().map(|entry| Ok((entry.name.to_owned(), entry.text()?))).collect()
}

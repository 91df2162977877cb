//! Phases: nothing to do, runtimes nobody has, and what is never reached.

use super::{Command, Document, at_key, shell};
use crate::diagnostic::{Code, Findings, Span, quoted};
use crate::model::{OnFailure, Phase, PhaseName, Shell, Version};

/// The runtimes that images of CodeBuild have had.
const RUNTIMES: &[&str] =
    &["android", "docker", "dotnet", "golang", "java", "nodejs", "php", "python", "ruby"];

/// What people call them.
const ALSO_CALLED: &[(&str, &str)] = &[
    ("node", "nodejs"),
    ("node.js", "nodejs"),
    ("npm", "nodejs"),
    ("go", "golang"),
    ("jdk", "java"),
    ("openjdk", "java"),
    ("corretto", "java"),
    ("dotnetcore", "dotnet"),
    (".net", "dotnet"),
    ("python3", "python"),
];

pub(super) fn check(document: &Document<'_>, findings: &mut Findings) {
    check_something_to_do(document, findings);
    check_runtimes(document, findings);
    if !matches!(document.buildspec.env.shell, Some(Shell::PowerShell | Shell::Cmd)) {
        check_reached(document, findings);
    }
}

fn check_something_to_do(document: &Document<'_>, findings: &mut Findings) {
    let idle = |phase: &Phase| phase.commands.is_empty() && phase.finally.is_empty();
    let phases = document.buildspec.phases_in_yaml();
    if document.whole && document.buildspec.batch.is_none() && phases.iter().all(|(_, phase)| idle(phase)) {
        let at = document.get(&["phases"]).map_or(Span::START, |field| at_key(&field));
        let message = "No phase has a command: a build with it does nothing";
        findings.warn(|| {
            at.finding(Code::NothingToDo, message).hint("Write commands below phases.build.commands.")
        });
    }
}

fn check_runtimes(document: &Document<'_>, findings: &mut Findings) {
    for field in document.entries(&["phases", "install", "runtime-versions"]) {
        let name = field.name.to_ascii_lowercase();
        if RUNTIMES.contains(&field.name) {
            continue;
        }
        let other = ALSO_CALLED.iter().find(|(called, _)| *called == name).map(|&(_, runtime)| runtime);
        let guess = other.or_else(|| crate::suggest::nearest(field.name, RUNTIMES));
        let message = format!("No image of CodeBuild has a runtime {}", quoted(field.name));
        findings.warn(|| match guess {
            Some(guess) => {
                at_key(&field).finding(Code::UnknownRuntime, message).hint(format!("Did you mean {guess}?"))
            }
            None => at_key(&field)
                .finding(Code::UnknownRuntime, message)
                .hint(format!("Known are {}.", RUNTIMES.join(", "))),
        });
    }
}

/// How a command ends, if that is certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Failing,
    Succeeding,
}

/// An `exit` in a command.
struct Exit<'t> {
    /// As written, such as `exit 1`.
    text: &'t str,
    ends: Option<Ends>,
    unconditional: bool,
    /// The command behind it in the same script.
    next: Option<&'t str>,
}

fn check_reached(document: &Document<'_>, findings: &mut Findings) {
    let mut failing: Vec<PhaseName> = Vec::new();
    for (number, command) in document.commands.iter().enumerate() {
        let next = document.commands.get(number + 1).filter(|next| command.is_before(next));
        let mut certain = false;
        for exit in exits(command.script) {
            check_exit(document, command, &exit, next, findings);
            certain |= exit.unconditional && exit.ends == Some(Ends::Failing);
            if exit.unconditional {
                break;
            }
        }
        // A command of `finally` comes too late to keep the phase's other commands from running.
        if certain {
            failing.push(command.phase);
        }
        if let Some(next) = next.filter(|_| certain) {
            let message = "This command never runs: the one before it always fails";
            findings.warn(|| {
                next.field
                    .node
                    .span
                    .finding(Code::Unreachable, message)
                    .hint("Remove it, or the exit before it.")
            });
        }
    }
    check_phases_reached(document, &failing, findings);
}

fn check_exit(
    document: &Document<'_>,
    command: &Command<'_>,
    exit: &Exit<'_>,
    next: Option<&Command<'_>>,
    findings: &mut Findings,
) {
    if let Some(unreached) = exit.next.filter(|_| exit.unconditional) {
        let message = format!("Nothing behind {} runs", quoted(exit.text));
        let finding = || document.within(command.field.node, unreached, Code::Unreachable, message);
        findings.warn(|| finding().hint("Remove it, or the exit before it."));
    } else if exit.ends == Some(Ends::Succeeding) && next.is_some() {
        // COMPAT: BS-025
        let message =
            format!("{} ends only its own command: the next one runs all the same", quoted(exit.text));
        let hint = "Put what it should skip into the same command, or ask for the condition there too.";
        findings.warn(|| {
            document.within(command.field.node, exit.text, Code::ExitEndsCommand, message).hint(hint)
        });
    }
}

fn exits(script: &str) -> Vec<Exit<'_>> {
    let simple = shell::commands(script);
    let mut exits = Vec::new();
    for (at, command) in simple.iter().enumerate() {
        let ["exit", arguments @ ..] = command.named() else { continue };
        let next = simple.get(at + 1).filter(|_| command.unconditional).map(|next| next.words[0]);
        let ends = ends(arguments.first().copied());
        exits.push(Exit { text: written(script, command), ends, unconditional: command.unconditional, next });
    }
    exits
}

fn ends(status: Option<&str>) -> Option<Ends> {
    match status {
        None | Some("0") => Some(Ends::Succeeding),
        Some(status) if status.bytes().all(|byte| byte.is_ascii_digit()) => Some(Ends::Failing),
        Some(_) => None,
    }
}

/// The stretch of the script from the command's first word to its last.
fn written<'t>(script: &'t str, simple: &shell::Simple<'t>) -> &'t str {
    let last = simple.words.last().expect("a command has words");
    let offset = |word| crate::source::offset_in(script, word).expect("a word stands in its script");
    &script[offset(simple.words[0])..offset(last) + last.len()]
}

/// COMPAT: BS-076, BS-077, BS-080 which phases follow one that fails.
fn check_phases_reached(document: &Document<'_>, failing: &[PhaseName], findings: &mut Findings) {
    if document.buildspec.version == Version::V01 && failing.is_empty() {
        return;
    }
    for (name, phase) in document.buildspec.phases_in_yaml() {
        if !failing.contains(&name) {
            continue;
        }
        let goes_on = match &phase.on_failure {
            Some(OnFailure::Continue) => true,
            Some(OnFailure::Abort) => false,
            Some(OnFailure::Retry { .. }) | None => name == PhaseName::Build,
        };
        let later = PhaseName::ALL.into_iter().filter(|later| *later > name);
        let unreached = later.filter_map(|later| document.get(&["phases", later.as_str()])).next();
        if let Some(field) = unreached.filter(|_| !goes_on) {
            let message = format!("Phase {} never runs: {name} always fails", field.name);
            findings.warn(|| {
                at_key(&field)
                    .finding(Code::Unreachable, message)
                    .hint(format!("Remove the exit from {name}."))
            });
            return;
        }
    }
}

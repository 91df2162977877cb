//! Commands: what does not work in the shell that will run them.

use std::sync::LazyLock;

use regex::Regex;

use super::{Command, Document, shell};
use crate::diagnostic::{Code, Findings, quoted};
use crate::model::{Shell, Version};

pub(super) fn check(document: &Document<'_>, findings: &mut Findings) {
    let shell = document.buildspec.env.shell;
    for command in &document.commands {
        check_get_login(document, command, findings);
        if matches!(shell, Some(Shell::PowerShell | Shell::Cmd)) {
            continue;
        }
        if shell != Some(Shell::Bash) {
            check_bashisms(document, command, findings);
        }
        if document.buildspec.version == Version::V01 {
            check_lost_state(document, command, findings);
        }
    }
}

fn check_get_login(document: &Document<'_>, command: &Command<'_>, findings: &mut Findings) {
    static GET_LOGIN: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"aws\s+ecr\s+get-login(?:[\s)`]|$)").expect("an expression"));
    let Some(found) = GET_LOGIN.find(command.script) else { return };
    let text = found.as_str().trim_end_matches([')', '`']).trim_end();
    let message = "aws ecr get-login is gone since version 2 of the AWS CLI";
    let hint = "Write: aws ecr get-login-password | docker login --username AWS --password-stdin REGISTRY";
    findings.warn(|| document.within(command.field.node, text, Code::GetLogin, message).hint(hint));
}

/// COMPAT: BS-020 in 0.1 each command has a shell of its own.
fn check_lost_state(document: &Document<'_>, command: &Command<'_>, findings: &mut Findings) {
    let simple = shell::commands(command.script);
    let only_state = !simple.is_empty() && simple.iter().all(|simple| leaves_only_state(simple.named()));
    let used = document.commands.iter().any(|later| command.is_before(later));
    if only_state && used {
        let message = "In version 0.1 the next command does not see what this one sets";
        let hint = "Write \"version: 0.2\", or join the commands with &&.";
        findings.warn(|| command.field.node.span.finding(Code::LostState, message).hint(hint));
    }
}

fn leaves_only_state(named: &[&str]) -> bool {
    matches!(
        named,
        [] | ["cd" | "pushd" | "export" | "set" | "unset" | "umask" | "alias" | "source" | ".", ..]
    )
}

/// Commands that sh does not have.
const BASH_COMMANDS: &[&str] = &[
    "[[",
    "((",
    "source",
    "function",
    "pushd",
    "popd",
    "dirs",
    "declare",
    "typeset",
    "let",
    "shopt",
    "mapfile",
    "readarray",
    "select",
];
/// Operators that sh does not have.
const BASH_OPERATORS: &[&str] = &["<<<", "&>", "<(", ">("];

/// COMPAT: BS-040 the shell is sh where the buildspec names none.
fn check_bashisms(document: &Document<'_>, command: &Command<'_>, findings: &mut Findings) {
    let Some(bashism) = shell::commands(command.script).iter().find_map(bashism) else { return };
    findings.warn(|| {
        let message = format!("{} needs bash, and the shell is sh", quoted(bashism));
        let finding = document.within(command.field.node, bashism, Code::Bashism, message);
        finding.hint("Write \"shell: bash\" under env, or write it for sh.")
    });
}

/// The first part of a command that only bash understands.
fn bashism<'t>(simple: &shell::Simple<'t>) -> Option<&'t str> {
    static EXPANSION: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\$\{!?[A-Za-z_][A-Za-z0-9_]*(?:\[[^\]]*\]|,,?|\^\^?|//?[^}]|:-?[0-9]+)[^}]*\}?|\$\{![A-Za-z_]+\}?").expect("an expression")
    });
    static BRACES: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\{[A-Za-z0-9]+\.\.[A-Za-z0-9]+\}").expect("an expression"));
    let named = simple.named();
    if let Some(name) = named.first().filter(|name| BASH_COMMANDS.contains(name)) {
        return Some(name);
    }
    let argument = match named {
        ["[" | "test", rest @ ..] => rest.iter().find(|word| **word == "=="),
        ["set", rest @ ..] => rest.iter().find(|word| **word == "pipefail"),
        ["read", rest @ ..] => rest.iter().find(|word| ["-a", "-p", "-rp", "-ra", "-s", "-n"].contains(word)),
        ["trap", rest @ ..] => rest.iter().find(|word| **word == "ERR"),
        ["export", rest @ ..] => rest.iter().find(|word| **word == "-f"),
        _ => None,
    };
    if let Some(argument) = argument {
        return Some(argument);
    }
    simple.words.iter().find_map(|word| {
        if BASH_OPERATORS.contains(word) {
            return Some(*word);
        }
        if shell::assigned(word)
            .is_some_and(|name| word[name.len()..].trim_start_matches('+').starts_with("=("))
        {
            return Some(*word);
        }
        if word.starts_with('\'') {
            return None;
        }
        let expansion = EXPANSION.find(word).map(|found| found.as_str());
        let braces = || BRACES.find(word).filter(|_| !word.contains(['"', '\''])).map(|found| found.as_str());
        expansion.or_else(braces)
    })
}

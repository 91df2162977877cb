//! The parser from outside: buildspecs in, values and diagnostics out.
//!
//! `cases/` holds whole buildspecs, `cases/bad/` those CodeBuild refuses; `snapshots/` what becomes of them.

#![allow(clippy::unwrap_used)]

#[path = "buildspec/batches.rs"]
mod batches;
#[path = "buildspec/checking.rs"]
mod checking;
#[path = "buildspec/plans.rs"]
mod plans;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use buildspec::{
    Buildspec, CacheAction, Code, Diagnostic, FileFormat, OnFailure, Parsed, Phase, PhaseName, ReportType,
    Shell, Version, limits, parse, parse_bytes,
};
use proptest::prelude::*;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn case_files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(folder);
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// A finding with the line it is about.
fn render(text: &str, finding: &Diagnostic) -> String {
    let Diagnostic { code, message, span, hint } = finding;
    let (line, column) = (span.start.line, span.start.column);
    let mut rendered = format!("{code}: {message}\n");
    let source = text.lines().nth(line - 1).unwrap_or_default().replace('\t', " ");
    writeln!(rendered, "{line:>4} | {source}\n     | {:>column$}", "^").unwrap();
    if let Some(hint) = hint {
        writeln!(rendered, "hint: {hint}").unwrap();
    }
    rendered
}

fn snapshot(path: &Path, prefix: &str, content: &str) {
    let name = format!("{prefix}-{}", path.file_stem().unwrap().to_str().unwrap());
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!(name, content);
    });
}

#[test]
fn every_refused_buildspec_is_told_where_and_why() {
    for path in case_files("cases/bad") {
        let text = fs::read_to_string(&path).unwrap();
        let Err(error) = parse(&text) else { panic!("{} is not refused", path.display()) };
        snapshot(&path, "bad", &render(&text, &error));
    }
}

#[test]
fn every_good_buildspec_becomes_the_same_values_as_before() {
    for path in case_files("cases") {
        let text = fs::read_to_string(&path).unwrap();
        let parsed = parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let warnings: Vec<String> = parsed.warnings.iter().map(|warning| render(&text, warning)).collect();
        snapshot(&path, "good", &format!("{:#?}\n\n{}", parsed.buildspec, warnings.join("\n")));
    }
}

#[track_caller]
fn parsed(text: &str) -> Parsed {
    parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The buildspec of version 0.2 with `body`.
#[track_caller]
fn read(body: &str) -> Buildspec {
    parsed(&format!("version: 0.2\n{body}\n")).buildspec
}

/// The error of the buildspec of version 0.2 with `body`.
#[track_caller]
fn refused(body: &str) -> Diagnostic {
    let text = format!("version: 0.2\n{body}\n");
    match parse(&text) {
        Ok(_) => panic!("not refused:\n{text}"),
        Err(error) => error,
    }
}

#[track_caller]
fn build_phase(body: &str) -> Phase {
    let indented = body.lines().map(|line| format!("    {line}\n")).collect::<String>();
    read(&format!("phases:\n  build:\n{indented}")).phases.build.unwrap()
}

// BS-010
#[test]
fn the_version_may_be_a_number_or_text() {
    #[track_caller]
    fn check(version: &str, expect: Option<Version>) {
        let result = parse(&format!("version: {version}\nphases: {{}}\n"));
        match (result, expect) {
            (Ok(parsed), Some(expect)) => assert_eq!(parsed.buildspec.version, expect),
            (Err(error), None) => assert!(matches!(error.code, Code::Version | Code::Type), "{error}"),
            (result, _) => panic!("{version}: {result:?}"),
        }
    }
    for version in ["0.2", "\"0.2\"", "'0.2'", " 0.2 ", "0.2 # comment", "!!str 0.2", "&v 0.2", "\" 0.2 \""] {
        check(version, Some(Version::V02));
    }
    for version in ["0.1", "\"0.1\""] {
        check(version, Some(Version::V01));
    }
    for version in ["", "~", "0.3", "0", "1", "2", "0.20", "v0.2", ".2", "[0.2]", "{a: b}", "latest", "''"] {
        check(version, None);
    }
}

// BS-013
#[test]
fn booleans_are_those_of_yaml_1_1_in_any_case_and_quoted() {
    #[track_caller]
    fn check(text: &str, expect: bool) {
        let artifacts = read(&format!("artifacts: {{files: [a], discard-paths: {text}}}")).artifacts.unwrap();
        assert_eq!(artifacts.discard_paths, expect, "{text}");
        assert_eq!(
            read(&format!("env: {{git-credential-helper: {text}}}")).env.git_credential_helper,
            expect
        );
        assert_eq!(read(&format!("proxy: {{logs: {text}}}")).proxy.logs, expect);
    }
    for text in ["yes", "Yes", "YES", "true", "True", "on", "ON", "y", "Y", "'yes'", "\"true\""] {
        check(text, true);
    }
    for text in ["no", "No", "NO", "false", "False", "off", "OFF", "n", "N", "'no'", "\"false\"", "~"] {
        check(text, false);
    }
}

#[test]
fn what_is_no_boolean_is_refused() {
    for text in ["maybe", "1", "0", "''", "[yes]", "{yes: no}", "yess"] {
        let error = refused(&format!("artifacts: {{files: [a], enable-symlinks: {text}}}"));
        assert_eq!(error.code, Code::Type, "{text}");
        assert!(error.message.contains("to bool: artifacts.enable-symlinks"), "{error}");
    }
}

// BS-014
#[test]
fn texts_keep_their_spelling() {
    #[track_caller]
    fn check(written: &str, expect: &str) {
        let variables = read(&format!("env:\n  variables:\n    X: {written}")).env.variables;
        assert_eq!(variables, [("X".to_owned(), expect.to_owned())], "{written}");
    }
    for text in [
        "1.10",
        "3.10",
        "0755",
        "0x1F",
        "0o17",
        "1_000",
        "1e3",
        "+1",
        "-0",
        ".5",
        "5.",
        "010",
        "1.0.0",
        "yes",
        "No",
        "on",
        "true",
        "FALSE",
        "y",
        "n",
        "~",
        "null",
        "Null",
        "NULL",
        ".inf",
        ".NaN",
        "2024-01-01",
        "12:30:45",
        "$PATH:/x",
        "${A}",
        "$(date)",
        "a b",
        "a#b",
        "a:b",
        "http://x/y?z=1&w=2",
        "é日",
    ] {
        check(text, text);
        check(&format!("'{text}'"), text);
        check(&format!("\"{text}\""), text);
    }
    check("", "");
    check("''", "");
    check("a # comment", "a");
    check("'a # b'", "a # b");
    check("'it''s'", "it's");
    check(r#""a\tb\n""#, "a\tb\n");
    check("!!str 1.10", "1.10");
    check("|\n      two\n      lines", "two\nlines\n");
    check("\"  spaces  \"", "  spaces  ");
}

// BS-014
#[test]
fn runtime_versions_keep_their_spelling_and_order() {
    let install =
        "phases:\n  install:\n    runtime-versions: {python: 3.10, golang: 1.20, nodejs: 20.x, java: $J}";
    let expect = [("python", "3.10"), ("golang", "1.20"), ("nodejs", "20.x"), ("java", "$J")];
    let versions = read(install).phases.install.unwrap().runtime_versions;
    assert_eq!(versions, expect.map(|(name, version)| (name.to_owned(), version.to_owned())));
}

// BS-015
#[test]
fn each_item_is_one_command_as_the_shell_gets_it() {
    #[track_caller]
    fn check(item: &str, expect: &str) {
        let phase = build_phase(&format!("commands:\n  - {item}\n  - next"));
        assert_eq!(phase.commands, [expect, "next"], "{item}");
        let phase = build_phase(&format!("finally:\n  - {item}\n  - next"));
        assert_eq!(phase.finally, [expect, "next"], "{item}");
    }
    check("make", "make");
    check("true", "true");
    check("42", "42");
    check("~", "~");
    check("null", "null");
    check("''", "");
    check("echo a:b", "echo a:b");
    check("echo 'a'", "echo 'a'");
    check("echo a # comment", "echo a");
    check("echo a#b", "echo a#b");
    check("\"echo \\\"a: b\\\"\"", "echo \"a: b\"");
    check("'echo \"a: b\"'", "echo \"a: b\"");
    check("'[ -f x ] && y'", "[ -f x ] && y");
    check("echo [a] {b}", "echo [a] {b}");
    check("docker ps | grep x > y && z || w; v", "docker ps | grep x > y && z || w; v");
    check("curl http://x:80/y", "curl http://x:80/y");
    check("|\n    a\n    b", "a\nb\n");
    check("|-\n    a\n    b", "a\nb");
    check("|\n    a\n      b", "a\n  b\n");
    check(">\n    a\n    b", "a b\n");
    check(">-\n    a\n    b", "a b");
    check("|\n    # not a comment\n    key: value", "# not a comment\nkey: value\n");
    check("a\n    b", "a b");
    check("echo %PATH% @x `y`", "echo %PATH% @x `y`");
    check("codebuild-breakpoint", "codebuild-breakpoint");
}

#[test]
fn a_last_block_scalar_without_line_feed_gets_none() {
    let parsed = parsed("version: 0.2\nphases:\n  build:\n    commands:\n      - |\n        a\n        b");
    assert_eq!(parsed.buildspec.phases.build.unwrap().commands, ["a\nb"]);
}

// BS-011, BS-071
#[test]
fn empty_phases_and_no_phases_are_fine() {
    for body in ["", "phases:", "phases: {}", "phases: ~"] {
        assert_eq!(read(body).phases_in_yaml(), [], "{body}");
    }
    for body in ["build:", "build: {}", "build: ~", "build: {commands: }", "build: {commands: []}"] {
        let buildspec = read(&format!("phases:\n  {body}"));
        assert_eq!(buildspec.phases_in_yaml(), [(PhaseName::Build, &Phase::default())], "{body}");
    }
}

// BS-070, BS-089
#[test]
fn phases_are_listed_in_the_order_they_run() {
    let buildspec = read("phases: {post_build: {}, build: {commands: [a, b]}, install: {}, pre_build: {}}");
    let listed: Vec<_> = buildspec
        .phases_in_yaml()
        .iter()
        .map(|(name, phase)| (name.as_str(), phase.commands.len()))
        .collect();
    assert_eq!(listed, [("install", 0), ("pre_build", 0), ("build", 2), ("post_build", 0)]);
    assert_eq!(PhaseName::ALL.map(PhaseName::as_upper_str), ["INSTALL", "PRE_BUILD", "BUILD", "POST_BUILD"]);
}

// BS-008
#[test]
fn an_unknown_phase_gets_codebuilds_own_text() {
    for name in ["artifacts", "Build", "deploy", "test", "PRE_BUILD", "prebuild", "finally", "''"] {
        let error = refused(&format!("phases:\n  build: {{}}\n  {name}: {{}}"));
        let shown = name.trim_matches('\'');
        let expect =
            format!("Invalid buildspec phase name: {shown}. Expecting: build,install,post_build,pre_build");
        assert_eq!((error.code, error.message, error.span.line()), (Code::UnknownPhase, expect, 4), "{name}");
    }
}

// BS-009
#[test]
fn a_command_that_is_no_text_gets_codebuilds_own_text_with_its_lines() {
    #[track_caller]
    fn check(commands: &str, index: usize, line: usize) {
        let error = refused(&format!("phases:\n  build:\n    commands:\n{commands}"));
        let expect = format!(
            "Expected Commands[{index}] to be of string type: found subkeys instead at line {line}, \
             value of the key tag on line {} might be empty",
            line - 1
        );
        assert_eq!(
            (error.code, error.message, error.span.line()),
            (Code::CommandNotText, expect, line),
            "{commands}"
        );
    }
    check("      - echo \"a: b\"", 0, 5);
    check("      - a\n      - b\n      - echo c: d", 2, 7);
    check("      # comment\n\n      - echo a: b", 0, 7);
    check("      - a\n      - key:", 1, 6);
    check("      - a\n      -\n      - c", 1, 6);
    check("      - a\n      -\n        k: v", 1, 7);
    check("      - |\n        a\n        b\n      - x: y", 1, 8);
    check("      - command -v x || { echo \"ERROR: y\"; exit 1; }", 0, 5);
    check("      - {}", 0, 5);
    check("      - []", 0, 5);
    check("      - - a", 0, 5);
    check("      - \"a\": b", 0, 5);
    check("      - ? a", 0, 5);
}

// BS-012
#[test]
fn keys_nobody_reads_draw_a_warning_with_a_guess() {
    #[track_caller]
    fn check(body: &str, place: &str, hint: Option<&str>) {
        let parsed = parsed(&format!("version: 0.2\n{body}\n"));
        let [warning] = &parsed.warnings[..] else { panic!("{body}: {:?}", parsed.warnings) };
        assert_eq!(warning.code, Code::UnknownKey, "{body}");
        assert!(warning.message.contains(place), "{body}: {warning}");
        assert_eq!(warning.hint.as_deref(), hint, "{body}");
    }
    check("artefacts: {}", "\"artefacts\" at the top level", Some("Did you mean artifacts?"));
    check("phase: {}", "\"phase\" at the top level", Some("Did you mean phases?"));
    check("Env: {}", "\"Env\" at the top level", Some("Did you mean env?"));
    check("run_as: x", "\"run_as\" at the top level", Some("Did you mean run-as?"));
    check("build: {}", "\"build\" at the top level", Some("Indent build to put it under phases."));
    check("x-common: {a: [b, {c: d}]}", "\"x-common\" at the top level", None);
    check("environment_variables: {}", "top level", Some("In version 0.2 it is called env."));
    check("env: {plaintext: {A: b}}", "\"plaintext\" in env", Some("In version 0.2 it is called variables."));
    check("env: {variable: {A: b}}", "\"variable\" in env", Some("Did you mean variables?"));
    check("env: {parameter_store: {A: b}}", "in env", Some("Did you mean parameter-store?"));
    check("phases: {build: {command: [a]}}", "\"command\" in phases.build", Some("Did you mean commands?"));
    check("phases: {build: {on_failure: x}}", "in phases.build", Some("Did you mean on-failure?"));
    check("proxy: {log: yes}", "\"log\" in proxy", Some("Did you mean logs?"));
    check("artifacts: {files: [a], exclude: [b]}", "in artifacts", Some("Did you mean exclude-paths?"));
    check("artifacts: {files: [a], paths: [b]}", "\"paths\" in artifacts", Some("paths belongs in cache."));
    check(
        "phases: {build: {runtime-versions: {x: 1}}}",
        "\"runtime-versions\" in phases.build",
        Some("runtime-versions belongs in phases.install."),
    );
    check("phases: {build: {env: {}}}", "\"env\" in phases.build", Some("env belongs to the top level."));
    check(
        "base-directory: x",
        "at the top level",
        Some("base-directory belongs in reports.<name> and the like."),
    );
    check("reports: {r: {files: [a], format: b}}", "\"format\" in reports.r", None);
    check("cache: {path: [a]}", "\"path\" in cache", Some("Did you mean paths?"));
    check(
        "artifacts: {files: [a], secondary-artifacts: {s: {files: [a], secondary-artifacts: {}}}}",
        "in artifacts.secondary-artifacts.s",
        Some("secondary-artifacts belongs in artifacts."),
    );
}

#[test]
fn values_without_effect_draw_a_warning() {
    #[track_caller]
    fn check(body: &str, code: Code, message: &str) {
        let parsed = parsed(&format!("version: 0.2\n{body}\n"));
        let found: Vec<_> = parsed.warnings.iter().map(|w| (w.code, w.message.as_str())).collect();
        assert_eq!(found, [(code, message)], "{body}");
    }
    check(
        "cache: {fallback-keys: [a]}",
        Code::Ignored,
        "cache.fallback-keys has no effect without cache.key at line 2",
    );
    check(
        "artifacts: {files: [a], type: zip}",
        Code::Deprecated,
        "artifacts.type is deprecated and has no effect at line 2",
    );
    check(
        "artifacts: {secondary-artifacts: {s: {files: [a]}}}",
        Code::NoPrimaryArtifact,
        "artifacts.files is missing: there is no primary artifact at line 2",
    );
    check(
        "run-as: a\nrun-as: b",
        Code::DuplicateKey,
        "The key \"run-as\" at line 3 replaces the one at line 2",
    );
    check("run-as: ! x", Code::Ignored, "The tag ! has no effect at line 2");
    check("run-as: !Sub x", Code::Ignored, "The tag !Sub has no effect at line 2");
    check(
        "---\nversion: 0.2",
        Code::Ignored,
        "Only the first YAML document is used; another begins at line 2",
    );
}

#[test]
fn nothing_after_the_first_document_matters() {
    assert_eq!(parsed("---\nversion: 0.2\n...\n").warnings, []);
    assert_eq!(parsed("%YAML 1.1\n---\nversion: 0.2\n").warnings, []);
    assert_eq!(parsed("version: 0.2\n---\n{{{{\n").warnings.len(), 1);
}

#[test]
fn warnings_stop_at_their_limit_and_say_so() {
    let unknown: String = (0..limits::WARNINGS + 50).map(|i| format!("unknown{i}: x\n")).collect();
    let warnings = parsed(&format!("version: 0.2\n{unknown}")).warnings;
    assert_eq!(warnings.len(), limits::WARNINGS + 1);
    assert_eq!(warnings.last().unwrap().message, "50 more warnings are not shown");
}

#[test]
fn version_0_1_has_names_of_its_own() {
    let text =
        "version: 0.1\nenvironment_variables:\n  plaintext:\n    A: b\nartifacts: {type: zip, files: [x]}\n";
    let parsed = parsed(text);
    assert_eq!(parsed.buildspec.version, Version::V01);
    assert_eq!(parsed.buildspec.env.variables, [("A".to_owned(), "b".to_owned())]);
    assert_eq!(parsed.warnings, []);
}

#[test]
fn version_0_1_takes_the_names_of_0_2_as_well() {
    let parsed = parsed("version: 0.1\nenv:\n  variables:\n    A: b\n");
    assert_eq!(parsed.buildspec.env.variables, [("A".to_owned(), "b".to_owned())]);
}

#[test]
fn version_0_2_does_not_read_the_names_of_0_1() {
    assert_eq!(read("environment_variables: {variables: {A: b}}").env.variables, []);
    assert_eq!(read("env: {plaintext: {A: b}}").env.variables, []);
}

// BS-040
#[test]
fn shells_go_by_their_documented_names() {
    #[track_caller]
    fn check(name: &str, expect: Shell) {
        assert_eq!(read(&format!("env: {{shell: {name}}}")).env.shell, Some(expect), "{name}");
    }
    check("bash", Shell::Bash);
    check("/bin/bash", Shell::Bash);
    check("/bin/sh", Shell::Sh);
    check("sh", Shell::Sh);
    check("powershell.exe", Shell::PowerShell);
    check("cmd.exe", Shell::Cmd);
    assert_eq!(read("env: {shell: }").env.shell, None);
    for name in ["zsh", "''", "fish", "BASH", "/usr/bin/env bash"] {
        assert_eq!(refused(&format!("env: {{shell: {name}}}")).code, Code::Value, "{name}");
    }
}

// BS-080..083
#[test]
fn on_failure_is_read_in_every_phase() {
    #[track_caller]
    fn check(text: &str, expect: OnFailure) {
        for phase in PhaseName::ALL {
            let buildspec = read(&format!("phases: {{{phase}: {{on-failure: {text}}}}}"));
            assert_eq!(buildspec.phases.get(phase).unwrap().on_failure.as_ref(), Some(&expect), "{text}");
        }
    }
    check("ABORT", OnFailure::Abort);
    check("continue", OnFailure::Continue);
    let retry =
        read("phases: {build: {on-failure: 'Retry-3-.*connection timed out.*'}}").phases.build.unwrap();
    let retry = retry.on_failure.unwrap();
    assert_eq!(retry.to_string(), "RETRY-3-.*connection timed out.*");
    assert_eq!(retry.retries("curl: connection timed out"), Some(3));
    assert_eq!(retry.retries("no such host"), None);
    for text in [
        "RETRY-101",
        "RETRY-101-x",
        "'RETRY-2-['",
        "retry-99999999999999",
        "STOP",
        "ABORT-1",
        "[ABORT]",
        "{RETRY: 3}",
    ] {
        refused(&format!("phases: {{build: {{on-failure: {text}}}}}"));
    }
}

// BS-113, BS-114
#[test]
fn report_formats_are_known_in_any_case_and_say_their_type() {
    let coverage = ["CLOVERXML", "COBERTURAXML", "JACOCOXML", "SIMPLECOV"];
    for format in FileFormat::ALL {
        for name in [format.to_string(), format.to_string().to_lowercase()] {
            let report =
                read(&format!("reports: {{r: {{files: [x], file-format: {name}}}}}")).reports.remove(0);
            assert_eq!(report.file_format, format);
        }
        let expect =
            if coverage.contains(&format.as_str()) { ReportType::CodeCoverage } else { ReportType::Test };
        assert_eq!(format.report_type(), expect, "{format}");
    }
    assert_eq!(read("reports: {r: {files: [x]}}").reports[0].file_format, FileFormat::JunitXml);
}

// BS-130
#[test]
fn required_keys_are_asked_for_by_name() {
    #[track_caller]
    fn check(body: &str, expect: &str) {
        let error = refused(body);
        assert_eq!((error.code, error.message.as_str()), (Code::Missing, expect), "{body}");
    }
    check("artifacts: {name: x}", "Missing required key: artifacts.files at line 2");
    check("artifacts: {}", "Missing required key: artifacts.files at line 2");
    check("artifacts: {files: }", "Missing required key: artifacts.files at line 2");
    check("reports: {r: {}}", "Missing required key: reports.r.files at line 2");
    check("reports: {r: }", "Missing required key: reports.r.files at line 2");
    check(
        "artifacts:\n  files: [a]\n  secondary-artifacts:\n    s: {}",
        "Missing required key: artifacts.secondary-artifacts.s.files at line 5",
    );
}

#[test]
fn values_of_the_wrong_kind_are_named() {
    #[track_caller]
    fn check(body: &str, expect: &str) {
        let error = refused(body);
        assert_eq!((error.code, error.message.as_str()), (Code::Type, expect), "{body}");
    }
    check("run-as: [root]", "Cannot unmarshal list to string: run-as must be text at line 2");
    check("run-as: {a: b}", "Cannot unmarshal map to string: run-as must be text at line 2");
    check("env: text", "Cannot unmarshal string to map: env must be a map at line 2");
    check("env: [a]", "Cannot unmarshal list to map: env must be a map at line 2");
    check("env: {variables: text}", "Cannot unmarshal string to map: env.variables must be a map at line 2");
    check(
        "env:\n  variables:\n    A: [b]",
        "Cannot unmarshal list to string: env.variables.A must be text at line 4",
    );
    check(
        "env: {exported-variables: A}",
        "Cannot unmarshal string to list: env.exported-variables must be a list at line 2",
    );
    check(
        "env: {exported-variables: {A: b}}",
        "Cannot unmarshal map to list: env.exported-variables must be a list at line 2",
    );
    check(
        "env: {exported-variables: [[A]]}",
        "Cannot unmarshal list to string: env.exported-variables[0] must be text at line 2",
    );
    check(
        "env: {parameter-store: {A: }}",
        "Cannot unmarshal null to string: env.parameter-store.A must be text at line 2",
    );
    check("phases: [build]", "Cannot unmarshal list to map: phases must be a map at line 2");
    check("phases: {build: [a]}", "Cannot unmarshal list to map: phases.build must be a map at line 2");
    check(
        "phases: {build: {commands: a}}",
        "Cannot unmarshal string to list: phases.build.commands must be a list at line 2",
    );
    check(
        "phases: {build: {commands: {a: b}}}",
        "Cannot unmarshal map to list: phases.build.commands must be a list at line 2",
    );
    check(
        "phases: {install: {runtime-versions: [a]}}",
        "Cannot unmarshal list to map: phases.install.runtime-versions must be a map at line 2",
    );
    check(
        "phases: {install: {runtime-versions: {python: }}}",
        "Cannot unmarshal null to string: phases.install.runtime-versions.python must be text at line 2",
    );
    check("artifacts: [a]", "Cannot unmarshal list to map: artifacts must be a map at line 2");
    check(
        "artifacts: {files: a}",
        "Cannot unmarshal string to list: artifacts.files must be a list at line 2",
    );
    check(
        "artifacts: {files: [{a: b}]}",
        "Cannot unmarshal map to string: artifacts.files[0] must be text at line 2",
    );
    check(
        "artifacts:\n  files:\n    - a\n    -",
        "Cannot unmarshal null to string: artifacts.files[1] must be text at line 5",
    );
    check("cache: {paths: a}", "Cannot unmarshal string to list: cache.paths must be a list at line 2");
    check("reports: [a]", "Cannot unmarshal list to map: reports must be a map at line 2");
}

// BS-153, BS-154
#[test]
fn cache_limits_and_actions_are_kept() {
    let cache =
        read("cache: {key: k, fallback-keys: [a, b, c, d, e], action: Save, paths: [x]}").cache.unwrap();
    assert_eq!((cache.fallback_keys.len(), cache.action), (5, Some(CacheAction::Save)));
    assert_eq!(refused("cache: {key: k, fallback-keys: [a, b, c, d, e, f]}").code, Code::Limit);
}

// BS-111
#[test]
fn five_report_groups_are_enough() {
    assert_eq!(
        read(
            "reports: {a: {files: [x]}, b: {files: [x]}, c: {files: [x]}, d: {files: [x]}, e: {files: [x]}}"
        )
        .reports
        .len(),
        5
    );
}

// BS-016
#[test]
fn merged_keys_give_way_to_own_keys_and_later_merges_to_earlier_ones() {
    let buildspec = read(
        "x: &x {A: x, B: x}\ny: &y {B: y, C: y}\nenv:\n  variables:\n    <<: [*x, *y]\n    A: own\n    D: own",
    );
    let variables: Vec<_> = buildspec.env.variables.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(variables, [("A", "own"), ("D", "own"), ("B", "x"), ("C", "y")]);
}

// BS-016
#[test]
fn aliases_stand_for_keys_and_values_of_every_kind() {
    let buildspec = read(
        "x: [&name NAME, &list [a, b], &map {commands: [c]}]\nenv: {variables: {*name : *name}, exported-variables: *list}\nphases: {build: *map}",
    );
    assert_eq!(buildspec.env.variables, [("NAME".to_owned(), "NAME".to_owned())]);
    assert_eq!(buildspec.env.exported_variables, ["a", "b"]);
    assert_eq!(buildspec.phases.build.unwrap().commands, ["c"]);
}

#[test]
fn line_ends_and_byte_order_marks_of_every_kind_are_read() {
    let text = "version: 0.2\nphases:\n  build:\n    commands:\n      - |\n        a\n        b\n";
    let expect = parsed(text);
    assert_eq!(parsed(&text.replace('\n', "\r\n")), expect);
    assert_eq!(parsed(&format!("\u{feff}{text}")), expect);
    let little: Vec<u8> =
        [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    let big: Vec<u8> =
        [0xfe, 0xff].into_iter().chain(text.encode_utf16().flat_map(u16::to_be_bytes)).collect();
    assert_eq!(parse_bytes(&little), Ok(expect.clone()));
    assert_eq!(parse_bytes(&big), Ok(expect.clone()));
    assert_eq!(parse_bytes(text.as_bytes()), Ok(expect));
}

#[test]
fn bytes_that_are_no_text_are_refused_where_they_stand() {
    let error = parse_bytes(b"version: 0.2\nrun-as: \xc3\xa9\xff\n").unwrap_err();
    assert_eq!((error.code, error.span.start.line, error.span.start.column), (Code::Syntax, 2, 10));
    assert_eq!(error.message, "invalid leading UTF-8 octet at line 2");
    assert_eq!(parse_bytes(&[0xff, 0xfe, 0x00, 0xd8]).unwrap_err().code, Code::Syntax);
}

#[test]
fn places_count_characters_not_bytes() {
    let error = refused("env: {variables: {é: é, 日本: [x]}}");
    assert_eq!((error.span.start.line, error.span.start.column), (2, 29));
}

/// What no input may take to compute. The slowest here takes half a second in a debug build on an idle machine; one that took
/// time in proportion to the square of its size would take minutes.
const HOSTILE_COMPUTES: Duration = Duration::from_secs(8);

/// Hostile inputs get an error or a value within their time, in a thread with a small stack.
#[track_caller]
fn check_hostile(name: &'static str, text: String, expect: Option<Code>) {
    let parsing = move || {
        let result = parse(&text).map(|_| ());
        let checked = buildspec::check(text.as_bytes(), &[]);
        let shown = buildspec::render::human(name, &checked, false);
        assert!(shown.len() < 1024 * 1024, "{}", shown.len());
        (result, computed())
    };
    let thread = std::thread::Builder::new().stack_size(256 * 1024).spawn(parsing).unwrap();
    let (result, elapsed) = thread.join().unwrap_or_else(|_| panic!("{name} panics"));
    assert!(elapsed < HOSTILE_COMPUTES, "{name} takes {elapsed:?}");
    if let Some(code) = expect {
        assert_eq!(result.map_err(|error| error.code), Err(code), "{name}");
    }
}

/// Time that the calling thread has computed, whatever else the machine does.
fn computed() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

#[test]
fn deep_nesting_is_refused_at_once() {
    for deep in ["[", "{", "[{a: ", "- ", "? ", "a: [", "{a: ", "!!seq [", "&a ["] {
        check_hostile(deep, format!("version: 0.2\nx: {}", deep.repeat(200_000 / deep.len())), None);
        check_hostile(deep, format!("version: 0.2\nx:\n  {}", deep.repeat(200_000 / deep.len())), None);
    }
    check_hostile("brackets", format!("version: 0.2\nx: {}", "[".repeat(200_000)), Some(Code::Limit));
    let closed = format!("version: 0.2\nx: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    check_hostile("closed brackets", closed, Some(Code::Limit));
    let maps: String = (0..600).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    check_hostile("block maps", format!("version: 0.2\n{maps}"), Some(Code::Limit));
    check_hostile("block lists", format!("version: 0.2\nx:\n  {}", "- ".repeat(100_000)), Some(Code::Limit));
}

#[test]
fn nesting_is_allowed_up_to_its_limit() {
    let nested = |levels: usize| format!("version: 0.2\nx: {}{}\n", "[".repeat(levels), "]".repeat(levels));
    assert!(parse(&nested(limits::DEPTH - 1)).is_ok());
    assert_eq!(parse(&nested(limits::DEPTH)).unwrap_err().code, Code::Limit);
}

#[test]
fn nesting_through_aliases_counts_as_well() {
    let mut text = String::from("version: 0.2\na0: &a0 [x]\n");
    for level in 1..=limits::DEPTH {
        writeln!(text, "a{level}: &a{level} [*a{}]", level - 1).unwrap();
    }
    assert_eq!(parse(&text).unwrap_err().code, Code::Limit);
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut laughs =
        String::from("version: 0.2\na0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for level in 1..20 {
        let before = format!("*a{}", level - 1);
        writeln!(laughs, "a{level}: &a{level} [{}]", vec![before; 10].join(", ")).unwrap();
    }
    check_hostile("laughs", laughs, Some(Code::Limit));

    let mut merges = String::from("version: 0.2\na0: &a0 {k: v}\n");
    for level in 1..60 {
        writeln!(merges, "a{level}: &a{level} {{<<: [*a{0}, *a{0}], k{level}: *a{0}}}", level - 1).unwrap();
    }
    check_hostile("merges", merges, Some(Code::Limit));

    let long = "x".repeat(500_000);
    let copies = "      - *long\n".repeat(1000);
    let commands = format!("version: 0.2\nx: &long {long}\nphases:\n  build:\n    commands:\n{copies}");
    check_hostile("long text", commands, Some(Code::Limit));
}

#[test]
fn text_beyond_its_limit_is_refused() {
    check_hostile("large", format!("version: 0.2\n#{}", "x".repeat(limits::TEXT_BYTES)), Some(Code::Limit));
    assert_eq!(parse_bytes(&vec![b' '; limits::TEXT_BYTES + 1]).unwrap_err().code, Code::Limit);
}

#[test]
fn large_inputs_take_time_in_proportion() {
    let fill = |unit: &str| unit.repeat(40_000 / unit.len());
    check_hostile(
        "commands",
        format!("version: 0.2\nphases:\n  build:\n    commands:\n{}", fill("      - echo a\n")),
        None,
    );
    let variables: String = (0..30_000).map(|i| format!("    V{i}: x\n")).collect();
    check_hostile("variables", format!("version: 0.2\nenv:\n  variables:\n{variables}"), None);
    let unknown: String = (0..40_000).map(|i| format!("k{i}: x\n")).collect();
    check_hostile("unknown keys", format!("version: 0.2\n{unknown}"), None);
    check_hostile("one key twice", format!("version: 0.2\n{}", fill("k: x\n")), None);
    check_hostile("long key", format!("version: 0.2\n? {}\n: x\n", fill("k")), None);
    check_hostile(
        "long phase",
        format!("version: 0.2\nphases:\n  ? {}\n  : x\n", fill("k")),
        Some(Code::UnknownPhase),
    );
    for unit in [
        ": ",
        "- ",
        "? ",
        "&a ",
        "*a ",
        "!t ",
        "| ",
        "> ",
        "' ",
        "\" ",
        "%",
        "@",
        "`",
        "\t",
        " ",
        "\n",
        "\r",
        "#",
        ",",
        "[]",
        "{}",
        "[],",
        "{},",
        "a: b\n",
        "- a\n",
        "&a b\n",
        "a\n",
        " a\n",
        "a: |\n b\n",
        "---\n",
        "...\n",
        "\\",
        "\"\\",
        "''",
        "<<: ",
        "<<: {}\n",
        "é",
        "\u{2028}",
        "a:",
        ":a",
        "-",
        "--",
        "~\n",
        "{a, ",
        "{a: b, ",
        "[a, ",
        "? a\n: b\n",
        "- - ",
        "- ? ",
        "a: &a\n",
        "!!map {},",
        "!<x> a\n",
        "%TAG ! x\n",
        "# c\n",
        " #",
    ] {
        check_hostile(unit, fill(unit), None);
        check_hostile(unit, format!("version: 0.2\nx: {}", fill(unit)), None);
        check_hostile(unit, format!("version: 0.2\nx: [{}", fill(unit)), None);
        check_hostile(unit, format!("version: 0.2\nx: \"{}", fill(unit)), None);
        check_hostile(unit, format!("version: 0.2\nx: |\n  {}", fill(unit)), None);
    }
}

/// Whatever comes out has a place in the text and a message of bounded length.
fn check_sane(text: &str) -> Result<(), TestCaseError> {
    let findings = match parse(text) {
        Ok(parsed) => parsed.warnings,
        Err(error) => vec![error],
    };
    let lines = text.split('\n').count() + text.matches(['\r', '\u{85}', '\u{2028}', '\u{2029}']).count();
    for finding in findings {
        prop_assert!(finding.span.start.line >= 1 && finding.span.start.line <= lines + 1, "{:?}", finding);
        prop_assert!(
            finding.span.start.column >= 1 && finding.span.start.column <= text.chars().count() + 1,
            "{:?}",
            finding
        );
        prop_assert!(!finding.message.is_empty() && finding.message.len() < 1000, "{:?}", finding);
    }
    Ok(())
}

/// Pieces that matter to YAML or to a buildspec.
const PIECES: [&str; 40] = [
    "\n",
    " ",
    "  ",
    "\t",
    ": ",
    "- ",
    "? ",
    ",",
    "[",
    "]",
    "{",
    "}",
    "#",
    "&a ",
    "*a",
    "!t ",
    "!!str ",
    "|",
    ">",
    "'",
    "\"",
    "\\",
    "<<: ",
    "---\n",
    "...\n",
    "%YAML 1.2\n",
    "~",
    "yes",
    "0.2",
    "version: ",
    "phases:\n",
    "build:\n",
    "commands:\n",
    "env: ",
    "variables: ",
    "artifacts: ",
    "files: ",
    "\0",
    "\u{feff}",
    "日",
];

fn mutated(text: &str, edits: &[(prop::sample::Index, usize, prop::sample::Index)]) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for (at, removed, piece) in edits {
        let at = at.index(characters.len() + 1);
        let end = (at + removed).min(characters.len());
        characters.splice(at..end, PIECES[piece.index(PIECES.len())].chars());
    }
    characters.into_iter().collect()
}

fn good_texts() -> Vec<String> {
    case_files("cases").iter().map(|path| fs::read_to_string(path).unwrap()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        check_sane(&text)?;
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_bytes(&bytes);
    }

    #[test]
    fn arbitrary_pieces_never_panic(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..60)) {
        check_sane(&pieces.concat())?;
        check_sane(&format!("version: 0.2\n{}", pieces.concat()))?;
    }

    #[test]
    fn mutated_buildspecs_never_panic(
        text in prop::sample::select(good_texts()),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, any::<prop::sample::Index>()), 1..8),
    ) {
        check_sane(&mutated(&text, &edits))?;
    }

    #[test]
    fn any_text_survives_as_a_quoted_command(command in "[^\\p{C}'\u{2028}\u{2029}]{0,80}") {
        let phase = parsed(&format!("version: 0.2\nphases: {{build: {{commands: ['{command}']}}}}\n"))
            .buildspec.phases.build.unwrap();
        prop_assert_eq!(phase.commands, [command]);
    }

    #[test]
    fn any_glob_pattern_is_parsed_and_matched_without_panic(
        pattern in "[a-c*?/\\[\\]!^{},.\\\\é-]{0,24}",
        path in prop::collection::vec("[a-cé.]{1,6}", 0..5),
    ) {
        if let Ok(pattern) = buildspec::glob::Pattern::parse(&pattern) {
            let matched = pattern.matches(&path);
            for depth in 0..path.len() {
                prop_assert!(!matched || pattern.could_match_below(&path[..depth]));
            }
        }
    }
}

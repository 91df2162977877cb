//! `check`: its findings, its places, and the examples of docs/check.md, each of which has to have its finding.

use buildspec::{Code, Severity, check, render};

/// The codes found in a text.
fn codes(text: &str) -> Vec<Code> {
    check(text.as_bytes(), &[]).findings.iter().map(|finding| finding.code).collect()
}

/// The code blocks of docs/check.md of one kind, with the id of the section each is in.
fn examples(kind: &str) -> Vec<(String, String)> {
    let page = std::fs::read_to_string(super::repository().join("docs/check.md")).unwrap();
    let mut examples = Vec::new();
    for section in page.split("\n### ").skip(1) {
        let id = section.split(' ').next().unwrap();
        for block in section.split(&format!("```yaml {kind}\n")).skip(1) {
            examples.push((id.to_owned(), block.split("```").next().unwrap().to_owned()));
        }
    }
    examples
}

#[test]
fn every_bad_example_of_the_documentation_has_its_finding_and_no_other() {
    for (id, text) in examples("bad") {
        let found = codes(&text);
        assert_eq!(found.iter().map(|code| code.id()).collect::<Vec<_>>(), [id], "{text}");
    }
}

#[test]
fn every_good_example_of_the_documentation_is_clean() {
    for (id, text) in examples("good") {
        assert_eq!(codes(&text), [], "{id}:\n{text}");
    }
}

#[test]
fn every_code_has_its_section_and_its_examples() {
    let page = std::fs::read_to_string(super::repository().join("docs/check.md")).unwrap();
    let (bad, good) = (examples("bad"), examples("good"));
    for code in Code::ALL {
        assert!(page.contains(&format!("\n### {} {}\n", code.id(), code.name())), "{code} has no section");
        // What is about a hundred warnings is no example.
        if *code != Code::MoreWarnings {
            assert!(bad.iter().any(|(id, _)| id == code.id()), "{code} has no bad example");
            assert!(good.iter().any(|(id, _)| id == code.id()), "{code} has no good example");
        }
    }
    let mut ids: Vec<&str> = Code::ALL.iter().map(|code| code.id()).collect();
    ids.dedup();
    assert!(ids.is_sorted() && ids.len() == Code::ALL.len());
}

/// The text of each finding of that code, as `line:column-column`.
#[track_caller]
fn places(text: &str, code: Code, expect: &[&str]) {
    let found = check(text.as_bytes(), &[]);
    let places: Vec<String> = found
        .findings
        .iter()
        .filter(|finding| finding.code == code)
        .map(|finding| {
            let (start, end) = (finding.span.start, finding.span.end);
            let line = if start.line == end.line { String::new() } else { format!("{}:", end.line) };
            format!("{}:{}-{line}{}", start.line, start.column, end.column)
        })
        .collect();
    assert_eq!(places, expect, "{text}\n{:#?}", found.findings);
}

fn commands(version: &str, phase: &str, commands: &[&str]) -> String {
    let items: String = commands.iter().map(|command| format!("      - {command}\n")).collect();
    format!("version: {version}\nphases:\n  {phase}:\n    commands:\n{items}")
}

fn build(items: &[&str]) -> String {
    commands("0.2", "build", items)
}

#[test]
fn all_errors_are_told_at_once_in_the_order_of_the_text() {
    let text = "version: 0.2\nenv: []\nphases:\n  build:\n    commands: x\n    on-failure: STOP\n  deploy: {}\n\
                reports: {r: {file-format: X}}\nbatch: {build-list: []}\n";
    let found = codes(text);
    let expect =
        [Code::Type, Code::Type, Code::Value, Code::UnknownPhase, Code::Missing, Code::Value, Code::Batch];
    assert_eq!(found, expect);
    assert!(check(text.as_bytes(), &[]).buildspec.is_none());
    // BS-163
    let batch_only = check(b"version: 0.2\nbatch: {}\nphases: {build: {commands: [a]}}\n", &[]);
    assert_eq!((batch_only.count(Severity::Error), batch_only.buildspec.is_some()), (1, true));
}

#[test]
fn findings_point_at_the_part_they_are_about() {
    places("version: 0.2\nphasse: {}\nphases: {build: {commands: [a]}}\n", Code::UnknownKey, &["2:1-7"]);
    places("version: 0.2\nenv: {variables: {A: é $B}}\n", Code::LiteralVariable, &["2:24-26"]);
    places(&build(&["echo a: b"]), Code::CommandNotText, &["5:9-18"]);
    places(&build(&["|\n        set -eu\n        if [[ -f x ]]; then y; fi"]), Code::Bashism, &["7:12-14"]);
    places(&build(&["\"a; source b\""]), Code::Bashism, &["5:13-19"]);
    places(&build(&["a", "exit 1", "b", "c"]), Code::Unreachable, &["7:9-10"]);
    places(&build(&["|\n        echo b\n        exit 1\n        echo c"]), Code::Unreachable, &["8:9-13"]);
    places("version: 0.2\nartifacts:\n  files:\n    - a\n    - dist/\n", Code::BareDirectory, &["5:7-12"]);
}

// BS-020, BS-022
#[test]
fn state_is_lost_in_0_1_where_another_command_follows() {
    let lost = |items: &[&str]| codes(&commands("0.1", "build", items)).contains(&Code::LostState);
    assert!(lost(&["cd a", "make"]));
    assert!(lost(&["export A=b", "make"]));
    assert!(lost(&["A=$(cat x)", "make"]));
    assert!(!lost(&["cd a && make", "make"]));
    assert!(!lost(&["make", "cd a"]));
    assert!(!codes(&build(&["cd a", "make"])).contains(&Code::LostState));
}

// BS-025
#[test]
fn an_exit_that_skips_nothing_is_told() {
    let told = |items: &[&str]| codes(&build(items)).contains(&Code::ExitEndsCommand);
    assert!(told(&["exit 0", "make"]));
    assert!(told(&["test -f x || exit 0", "make"]));
    assert!(told(&["if a; then exit; fi", "make"]));
    assert!(!told(&["make", "exit 0"]));
    assert!(!told(&["echo 'exit 0'", "make"]));
    assert!(!told(&["a || exit 1", "make"]));
    assert!(!told(&["exit $STATUS", "make"]));
}

// BS-076, BS-077, BS-080
#[test]
fn what_never_runs_is_told() {
    let told = |text: &str| codes(text).contains(&Code::Unreachable);
    let phases = |first: &str, on_failure: &str, second: &str| {
        format!(
            "version: 0.2\nphases:\n  {first}: {{commands: [exit 1], on-failure: {on_failure}}}\n  {second}: {{commands: [a]}}\n"
        )
    };
    assert!(told(&phases("install", "~", "build")));
    assert!(told(&phases("pre_build", "ABORT", "post_build")));
    assert!(told(&phases("build", "ABORT", "post_build")));
    assert!(!told(&phases("build", "~", "post_build")));
    assert!(!told(&phases("install", "CONTINUE", "build")));
    assert!(!told(&build(&["a || exit 1", "b"])));
    assert!(!told(&build(&["f() { exit 1; }", "b"])));
    assert!(!told(&build(&["(exit 1) || true", "b"])));
}

// BS-040
#[test]
fn bashisms_are_told_for_sh_only() {
    let told = |script: &str| {
        let text = build(&[&format!("|\n        {}", script.replace('\n', "\n        "))]);
        codes(&text).contains(&Code::Bashism)
    };
    for script in [
        "[[ a ]]",
        "source x",
        "a=(1 2)",
        "echo ${a[0]}",
        "echo ${a[@]}",
        "echo \"${a^^}\"",
        "echo ${a//x/y}",
        "echo ${a:0:3}",
        "cat <<< x",
        "x &> y",
        "diff <(a) <(b)",
        "set -o pipefail",
        "set -euo pipefail",
        "[ a == b ]",
        "function f { a; }",
        "for i in {1..3}; do a; done",
        "pushd x",
        "declare -A m",
        "((x++))",
        "read -p x y",
        "a\nb && source c",
    ] {
        assert!(told(script), "{script}");
    }
    for script in [
        "[ a = b ]",
        ". ./x",
        "echo '[[ a ]]'",
        "echo \"source\"",
        "bash -c 'source x; [[ a ]]'",
        "echo ${a:-b} ${a:=/c} ${a%/*} ${a##*/} ${#a}",
        "x > y 2>&1",
        "cat <<EOF\n[[ a ]]\nEOF",
        "grep '[[:alpha:]]' x",
        "read -r x",
        "npm run source",
        "aws s3 cp x 's3://b/{1..2}'",
        "# source x",
    ] {
        assert!(!told(script), "{script}");
    }
    assert!(!codes(&format!("env: {{shell: bash}}\n{}", build(&["'[[ a ]]'"]))).contains(&Code::Bashism));
}

// BS-042
#[test]
fn values_that_look_expanded_are_told() {
    let told = |value: &str| {
        codes(&format!(
            "version: 0.2\nenv: {{variables: {{A: '{value}'}}}}\nphases: {{build: {{commands: [a]}}}}\n"
        ))
        .contains(&Code::LiteralVariable)
    };
    for value in ["$B", "x${B}y", "$(date)", "${B:-c}", "`date`", "$PATH:/x"] {
        assert!(told(value), "{value}");
    }
    for value in ["", "a$", "$1", "5$", "a$$b", "^x$", "`"] {
        assert!(!told(value) || value == "a$$b", "{value}");
    }
}

// BS-045, BS-053, BS-054, BS-117
#[test]
fn names_of_variables_are_looked_at() {
    let found = |env: &str| {
        let text = format!(
            "version: 0.2\nenv: {env}\nphases: {{build: {{commands: ['export SET=1', 'read -r READ', 'for EACH in a; do b; done']}}}}\n"
        );
        codes(&text)
    };
    assert_eq!(found("{variables: {CODEBUILD_X: y}}"), [Code::ReservedName]);
    assert_eq!(found("{variables: {CODEBUILD_CONFIG_AUTO_DISCOVER: 'false'}}"), []);
    assert_eq!(found("{variables: {a.b: y}}"), [Code::UnusableName]);
    assert_eq!(found("{variables: {A: y}, parameter-store: {A: y}}"), [Code::VariableTwice]);
    assert_eq!(found("{exported-variables: [SET, READ, EACH, CODEBUILD_BUILD_ID]}"), []);
    assert_eq!(found("{exported-variables: [UNSET]}"), [Code::ExportedNeverSet]);
    assert_eq!(found("{exported-variables: [AWS_REGION]}"), [Code::NotExported]);
    assert_eq!(found("{parameter-store: {P: p}, secrets-manager: {S: s}, exported-variables: [P, S]}"), []);
}

/// Put together here, so that no program takes this file for a leak.
fn credentials() -> Vec<String> {
    let filler = "Ab1Cd2Ef3Gh4Ij5Kl6Mn7Op8Qr9St0Uv1Wx2Yz3";
    vec![
        format!("AKIA{}", "ABCDEFGH12345678"),
        format!("ASIA{}", "ABCDEFGH12345678"),
        format!("-----BEGIN RSA {} KEY-----", "PRIVATE"),
        format!("-----BEGIN {} KEY-----", "PRIVATE"),
        format!("ghp_{}", &filler[..36]),
        format!("github_pat_{filler}{filler}"),
        format!("glpat-{}", &filler[..20]),
        format!("xoxb-{}", &filler[..20]),
        format!("npm_{}", &filler[..36]),
        format!("pypi-{filler}{filler}"),
        format!("AIza{}", &filler[..35]),
        format!("sk_live_{}", &filler[..24]),
        format!("eyJ{filler}.eyJ{filler}.{filler}"),
        "https://robot:hunter2@example.com/x".to_owned(),
    ]
}

#[test]
fn credentials_are_told_and_never_shown() {
    for credential in credentials() {
        for text in [
            build(&[&format!("'x \"{credential}\"'")]),
            build(&[&format!("|\n        a\n        x \"{credential}\" y")]),
            format!(
                "version: 0.2\nenv: {{variables: {{A_TOKEN: '{credential}'}}}}\nphases: {{build: {{commands: [a]}}}}\n"
            ),
        ] {
            let checked = check(text.as_bytes(), &[]);
            assert!(checked.findings.iter().any(|finding| finding.code == Code::PlainSecret), "{text}");
            let files = [("b.yml".to_owned(), checked.clone())];
            let plan = buildspec::plan(checked.buildspec.as_ref().unwrap());
            let shown = [
                render::human("b.yml", &checked, true),
                render::json(&files),
                render::sarif(&files, "1"),
                render::github(&files),
                plan,
            ];
            for shown in shown {
                assert!(!shown.contains(&credential), "{shown}");
            }
        }
    }
    for fine in [
        "AKIAIOSFODNN7EXAMPLE",
        "https://user:$PASSWORD@example.com",
        "https://example.com:443/a@b",
        "ghp_short",
    ] {
        assert!(!codes(&build(&[&format!("'x {fine}'")])).contains(&Code::PlainSecret), "{fine}");
    }
}

#[test]
fn variables_named_like_secrets_are_told_unless_they_only_point_to_one() {
    let told = |name: &str, value: &str| {
        codes(&format!(
            "version: 0.2\nenv: {{variables: {{{name}: '{value}'}}}}\nphases: {{build: {{commands: [a]}}}}\n"
        ))
        .contains(&Code::SecretName)
    };
    for name in [
        "PASSWORD",
        "DB_PASSWORD",
        "db_password",
        "GITHUB_TOKEN",
        "API_KEY",
        "STRIPE_APIKEY",
        "AWS_SECRET_ACCESS_KEY",
    ] {
        assert!(told(name, "hunter22"), "{name}");
        for value in
            ["", "yes", "true", "$OTHER", "/app/password", "arn:aws:secretsmanager:x", "<set in project>"]
        {
            assert!(!told(name, value), "{name}={value}");
        }
    }
    for name in ["TOKENIZER", "PASSWORD_MIN_LENGTH", "SECRETARY", "KEY_NAME", "TOKEN_URL"] {
        assert!(!told(name, "hunter22"), "{name}");
    }
}

#[test]
fn warnings_can_be_allowed_and_errors_cannot() {
    let text = b"version: 0.2\nphasse: {}\nphases: {build: {commands: x}}\n";
    let found = |allowed: &[Code]| -> Vec<Code> {
        check(text, allowed).findings.iter().map(|finding| finding.code).collect()
    };
    assert_eq!(found(&[]), [Code::UnknownKey, Code::Type]);
    assert_eq!(found(&[Code::UnknownKey, Code::Type]), [Code::Type]);
}

#[test]
fn people_get_the_text_underlined() {
    let text = "version: 0.2\nenv:\n  variables:\n    PATH: \"$PATH:/x\"\nphases:\n  build:\n    comands: [a]\n    commands: [make]\n";
    let checked = check(text.as_bytes(), &[]);
    let coloured = render::human("b", &checked, true).replace('\u{1b}', "ESC");
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true, snapshot_path => "../snapshots" }, {
        insta::assert_snapshot!("checked-plain", render::human("ci/buildspec.yml", &checked, false));
        insta::assert_snapshot!("checked-coloured", coloured);
    });
}

#[test]
fn nothing_in_a_buildspec_steers_a_terminal_or_floods_it() {
    let long = "x".repeat(100_000);
    for text in [
        "version: 0.2\n\u{1b}[31mred\u{1b}[0m: x\n".to_owned(),
        "version: 0.2\n? \"\\e]8;;x\\a\\u202e\"\n: x\n".to_owned(),
        format!("version: 0.2\nenv: {{variables: {{A: '{long}$B{long}'}}}}\n"),
    ] {
        let shown = render::human("a\u{1b}b", &check(text.as_bytes(), &[]), false);
        assert!(!shown.is_empty() && shown.len() < 2500, "{}", shown.len());
        assert!(!shown.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'), "{shown:?}");
    }
    let shown = render::human(
        "a",
        &check(format!("version: 0.2\nenv: {{variables: {{A: '{long}$B'}}}}\n").as_bytes(), &[]),
        false,
    );
    let lines: Vec<&str> = shown.lines().collect();
    let mark = lines.iter().position(|line| line.contains("^^")).unwrap();
    let column = lines[mark].chars().position(|c| c == '^').unwrap();
    assert_eq!(lines[mark - 1].chars().skip(column).take(2).collect::<String>(), "$B");
}

#[test]
fn github_gets_one_escaped_line_for_each_finding() {
    let text = "version: 0.2\n\"a%b:c,d\\n\\r::error::e\": x\nphases: {build: {commands: [a]}}\n";
    let github = render::github(&[("dir,1/b:2%.yml".to_owned(), check(text.as_bytes(), &[]))]);
    assert_eq!(
        github,
        "::warning file=dir%2C1/b%3A2%25.yml,line=2,endLine=2,col=1,endColumn=24,title=BY101 unknown-key::\
         Unknown key \"a%25b:c,d\u{fffd}\u{fffd}::error::e\" at the top level has no effect at line 2\n"
    );
    let text = "version: 0.2\nartifacts: {files: [dist]}\nphases: {build: {commands: [a]}}\n";
    let github = render::github(&[("b.yml".to_owned(), check(text.as_bytes(), &[]))]);
    assert!(github.contains("selects no file%0AWrite 'dist/**/*'"), "{github}");
}

#[test]
fn programs_get_every_finding_with_its_place() {
    let good = ("good.yml".to_owned(), check(b"version: 0.2\nphases: {build: {commands: [a]}}\n", &[]));
    let bad = ("b d/%.yml".to_owned(), check(b"version: 0.2\nphases: {build: {commands: [a: b]}}\n", &[]));
    let files = [good, bad];
    let json: serde_json::Value = serde_json::from_str(&render::json(&files)).unwrap();
    assert_eq!((json["errors"].as_u64(), json["warnings"].as_u64()), (Some(1), Some(0)));
    let finding =
        json["findings"].as_array().unwrap().iter().find(|finding| finding["severity"] == "error").unwrap();
    assert_eq!(finding["file"], "b d/%.yml");
    assert_eq!(
        (finding["code"].as_str(), finding["name"].as_str()),
        (Some("BY008"), Some("command-not-text"))
    );
    assert_eq!(
        [&finding["line"], &finding["column"], &finding["end_line"], &finding["end_column"]],
        [2, 29, 2, 33]
    );

    let sarif: serde_json::Value = serde_json::from_str(&render::sarif(&files, "1.2.3")).unwrap();
    let run = &sarif["runs"][0];
    assert_eq!(
        (sarif["version"].as_str(), run["tool"]["driver"]["version"].as_str()),
        (Some("2.1.0"), Some("1.2.3"))
    );
    for result in run["results"].as_array().unwrap() {
        let rule = result["ruleIndex"].as_u64().unwrap() as usize;
        assert_eq!(run["tool"]["driver"]["rules"][rule]["id"], result["ruleId"]);
        let location = &result["locations"][0]["physicalLocation"];
        assert_eq!(location["artifactLocation"]["uri"], "b%20d/%25.yml");
    }
}

#[test]
fn a_clean_buildspec_has_no_findings() {
    let checked = check(b"version: 0.2\nphases: {build: {commands: [make]}}\n", &[]);
    assert_eq!((checked.findings.len(), render::human("b", &checked, true)), (0, String::new()));
}

/// Found by fuzzing: the line was not shown.
#[test]
fn bytes_that_are_no_text_are_shown_where_they_stand() {
    let checked = check(b"version: 0.2\nrun-as: b\xc3\xffb\n", &[]);
    let shown = render::human("b.yml", &checked, false);
    assert!(shown.contains("2 | run-as: b\u{fffd}\u{fffd}b\n  |          ^\n"), "{shown}");
}

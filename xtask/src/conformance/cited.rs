//! Which tests cite a row and which code says that it keeps one.
//!
//! A test is a Rust `#[test]`, a function without parameters and result in a file of tests, or a pytest function, with the comments and attributes directly above it; what stands
//! between the tests of a file, such as a table of cases, and a case file is evidence without a function's name. Code keeps a row
//! with a `COMPAT:` comment. Every other mention of a row is only checked to name one that exists.

use std::collections::BTreeMap;
use std::ops::Range;

use super::row;
use super::sheet::Sheet;
use crate::tree::TextFile;

/// Where a row is shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Test {
    /// From the repository's root.
    pub(super) path: String,
    /// None for case files, and for what several tests of a file use.
    pub(super) function: Option<String>,
}

/// By row, sorted.
#[derive(Default)]
pub(super) struct Evidence {
    pub(super) tests: BTreeMap<String, Vec<Test>>,
    /// Files with `COMPAT:` comments.
    pub(super) kept: BTreeMap<String, Vec<String>>,
    /// Citations of rows that do not exist.
    pub(super) findings: Vec<String>,
}

/// Not looked at: the sheet itself, what is made from it, and this tool, whose tests name rows that do not exist.
const LEFT_OUT: &[&str] = &["docs/conformance", "xtask/", "target/"];

/// What a line is part of.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Test(Option<String>),
    Kept,
    Mention,
}

impl Evidence {
    pub(super) fn gather(sheet: &Sheet, files: &[TextFile]) -> Evidence {
        let mut evidence = Evidence::default();
        let looked_at = |file: &&TextFile| !LEFT_OUT.iter().any(|left_out| file.path.starts_with(left_out));
        for file in files.iter().filter(looked_at) {
            evidence.read(sheet, file);
        }
        evidence.tests.values_mut().for_each(tidy);
        evidence.kept.values_mut().for_each(tidy);
        evidence
    }

    fn read(&mut self, sheet: &Sheet, file: &TextFile) {
        let lines: Vec<&str> = file.text.lines().collect();
        // Most files cite nothing.
        if lines.iter().all(|line| row::named(line).is_empty()) {
            return;
        }
        let parts = parts(&file.path, &lines);
        for (index, line) in lines.iter().enumerate() {
            for named in row::named(line) {
                match sheet.resolve(&named) {
                    Some(rows) => self.add(&file.path, &parts[index], &rows),
                    None => self.findings.push(format!(
                        "{}:{}: {}..{} names no row",
                        file.path,
                        index + 1,
                        named.first,
                        named.last
                    )),
                }
            }
        }
    }

    fn add(&mut self, path: &str, part: &Part, rows: &[&str]) {
        for row in rows.iter().map(|row| row.to_string()) {
            match part {
                Part::Test(function) => {
                    let test = Test { path: path.into(), function: function.clone() };
                    self.tests.entry(row).or_default().push(test);
                }
                Part::Kept => self.kept.entry(row).or_default().push(path.into()),
                Part::Mention => {}
            }
        }
    }
}

fn tidy<T: Ord>(list: &mut Vec<T>) {
    list.sort();
    list.dedup();
}

/// What each line is part of.
fn parts(path: &str, lines: &[&str]) -> Vec<Part> {
    let name = path.rsplit('/').next().unwrap_or(path);
    if path.contains("/cases/") {
        return vec![Part::Test(None); lines.len()];
    }
    match name.rsplit_once('.') {
        Some((_, "rs")) => rust_parts(path, lines),
        Some((stem, "py")) if stem.starts_with("test_") => python_parts(lines),
        _ => vec![Part::Mention; lines.len()],
    }
}

fn rust_parts(path: &str, lines: &[&str]) -> Vec<Part> {
    let only_tests = path.contains("/tests/") || path.ends_with("/tests.rs");
    let tests_from = if only_tests { 0 } else { unit_tests_from(lines) };
    let mut parts = kept(&lines[..tests_from]);
    parts.resize(lines.len(), Part::Test(None));
    for (index, line) in lines.iter().enumerate() {
        // What a file says of itself is a claim and no test.
        if line.starts_with("//!") && index >= tests_from {
            parts[index] = Part::Mention;
        }
        let is_test = is_test_attribute(line) || (only_tests && is_case(line));
        if is_test && let Some((span, function)) = rust_test(lines, index) {
            parts[span].fill(Part::Test(Some(function)));
        }
    }
    parts
}

/// `COMPAT:` comments, to their ends.
fn kept(lines: &[&str]) -> Vec<Part> {
    let mut keeping = false;
    let part = |line: &&str| {
        let comment = line.trim_start().starts_with("//");
        keeping = line.contains("COMPAT:") || (keeping && comment);
        if keeping { Part::Kept } else { Part::Mention }
    };
    lines.iter().map(part).collect()
}

fn unit_tests_from(lines: &[&str]) -> usize {
    let begins =
        |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].contains("mod ") && pair[1].ends_with('{');
    lines.windows(2).position(begins).unwrap_or(lines.len())
}

fn is_test_attribute(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("#[test]") || line.starts_with("#[tokio::test")
}

/// Whether a function begins that takes and gives nothing: a test, where a room brings its own harness.
fn is_case(line: &str) -> bool {
    let line = line.strip_prefix("pub(crate) ").unwrap_or(line);
    line.starts_with("fn ") && line.ends_with("() {")
}

/// The lines of the test whose attribute, or head, stands at `attribute`, with what stands directly above, and its name.
fn rust_test(lines: &[&str], attribute: usize) -> Option<(Range<usize>, String)> {
    let above = |line: &&str| line.trim_start().starts_with("//") || line.trim_start().starts_with("#[");
    let start = attribute - lines[..attribute].iter().rev().take_while(|line| above(line)).count();
    let head = attribute + lines[attribute..].iter().position(|line| line.contains("fn "))?;
    let function = identifier(lines[head].split("fn ").nth(1)?);
    let indent = &lines[head][..lines[head].len() - lines[head].trim_start().len()];
    let closes = |line: &&str| line.strip_prefix(indent) == Some("}");
    let end = head + lines[head..].iter().position(closes).unwrap_or(0);
    Some((start..end + 1, function))
}

fn python_parts(lines: &[&str]) -> Vec<Part> {
    let mut parts = vec![Part::Test(None); lines.len()];
    // The module's docstring.
    if lines.first().is_some_and(|line| line.starts_with("\"\"\"")) {
        let rest = lines.iter().skip(1).position(|line| line.contains("\"\"\"")).map_or(0, |at| at + 1);
        let length = if lines[0].len() > 3 && lines[0].ends_with("\"\"\"") { 0 } else { rest };
        parts[..=length].fill(Part::Mention);
    }
    for (head, line) in lines.iter().enumerate() {
        let Some(name) = line.trim_start().trim_start_matches("async ").strip_prefix("def ") else {
            continue;
        };
        let function = identifier(name);
        if function.starts_with("test_") {
            let start = head - lines[..head].iter().rev().take_while(|line| !line.trim().is_empty()).count();
            let end = head + 1 + lines[head + 1..].iter().take_while(|line| !begins_anew(line)).count();
            parts[start..end].fill(Part::Test(Some(function)));
        }
    }
    parts
}

/// Whether a line stands at the left edge and begins something new, rather than being text in a literal.
fn begins_anew(line: &str) -> bool {
    let constant = line.split(' ').next().is_some_and(|word| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase() || c == '_' || c.is_ascii_digit())
    });
    constant || ["def ", "async def ", "class ", "@", "# "].iter().any(|start| line.starts_with(start))
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::sheet::tests::sheet;

    fn evidence(path: &str, text: &str) -> Evidence {
        Evidence::gather(&sheet(""), &[TextFile { path: path.into(), text: text.into() }])
    }

    fn tests(path: &str, text: &str) -> Vec<(String, Option<String>)> {
        let tests = evidence(path, text).tests.into_iter();
        tests
            .flat_map(|(row, tests)| tests.into_iter().map(move |test| (row.clone(), test.function)))
            .collect()
    }

    fn check(path: &str, text: &str, expect: &[(&str, Option<&str>)]) {
        let expect: Vec<_> =
            expect.iter().map(|(row, name)| (row.to_string(), name.map(str::to_owned))).collect();
        assert_eq!(tests(path, text), expect, "{text}");
    }

    #[test]
    fn a_rust_test_is_cited_in_or_directly_above() {
        let above = "// BS-001\n#[test]\nfn a_b() {\n}\n";
        check("crates/a/tests/a.rs", above, &[("BS-001", Some("a_b"))]);
        let inside =
            "#[cfg(test)]\nmod tests {\n    #[test]\n    fn a() {\n        b(); // BS-003\n    }\n}\n";
        check("crates/a/src/a.rs", inside, &[("BS-003", Some("a"))]);
        check("crates/a/tests/a/b.rs", "// BS-001\npub(crate) fn a() {\n}\n", &[("BS-001", Some("a"))]);
        let between = "// BS-001\nconst A: u8 = 1;\n\n#[test]\nfn a() {\n}\n// BS-002\nfn b() -> u8 {\n}\n";
        check("crates/a/src/b/tests.rs", between, &[("BS-001", None), ("BS-002", None)]);
        check("crates/a/tests/a.rs", "//! BS-001\n", &[]);
        check("crates/a/src/a.rs", "// BS-001\nfn a() {}\n", &[]);
    }

    #[test]
    fn a_python_test_is_cited_in_or_directly_above() {
        let text = "\"\"\"BS-003\"\"\"\n\n# BS-001\n@mark(\n    1\n)\ndef test_a():\n    x = '''\nversion: 0.2\n'''  # BS-002\n\n\nTABLE = 1  # BS-001\n";
        let expect = [("BS-001", None), ("BS-001", Some("test_a")), ("BS-002", Some("test_a"))];
        check("tests/system/test_a.py", text, &expect);
        check("tests/system/served.py", "# BS-001\n", &[]);
    }

    #[test]
    fn case_files_are_tests() {
        check(
            "tests/cases/a.yml",
            "# BS-001..003\n",
            &[("BS-001", None), ("BS-002", None), ("BS-003", None)],
        );
    }

    #[test]
    fn a_compat_comment_is_read_to_its_end() {
        let text = "// COMPAT: BS-001 this\n// and BS-002 that\nfn a() {} // BS-003\n";
        let evidence = evidence("crates/a/src/a.rs", text);
        assert_eq!(evidence.kept.keys().collect::<Vec<_>>(), ["BS-001", "BS-002"]);
        assert!(evidence.tests.is_empty());
    }

    #[test]
    fn a_row_that_is_not_there_is_named_wherever_it_is_cited() {
        let findings = evidence("docs/a.md", "x\nBS-999 BS-001..999\n").findings;
        assert_eq!(
            findings,
            ["docs/a.md:2: BS-999..BS-999 names no row", "docs/a.md:2: BS-001..BS-999 names no row"]
        );
    }
}

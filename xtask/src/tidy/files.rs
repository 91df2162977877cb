//! Rules for every file: what it opens with, how long it is, and that it means the same on every machine.

use super::Finding;

/// A longer file holds two things.
const LINE_LIMIT: usize = 1200;

const GENERATED: &str = "crates/api/src/generated/";

/// Places that exist on one machine only, and addresses that are the reader's to choose: a package comes from where the
/// reader's own package client is told to look. In pieces, so that this file passes too.
const ELSEWHERE: &[&str] = &[
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("py", "pi.org"),
    concat!("files.", "pythonhosted.org"),
    concat!("registry.", "npmjs.org"),
    concat!("deb.", "debian.org"),
    concat!("sub", "agent"),
];

/// A checkout's own folder on some machine.
const CHECKOUT: &str = concat!("/wo", "rk");

pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = elsewhere(path, text);
    if path.ends_with(".rs") {
        findings.extend(check_rust(path, text));
    }
    if path.ends_with("/Cargo.toml")
        && path.starts_with("crates/")
        && !text.contains("[lints]\nworkspace = true")
    {
        findings
            .push(whole(path, "the workspace's lints are missing: `[lints]` with `workspace = true`".into()));
    }
    findings
}

fn check_rust(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !text.starts_with("//!") {
        findings.push(whole(path, "a file opens with `//!`: what lives here and what does not".into()));
    }
    if path.ends_with("/mod.rs") {
        findings.push(whole(path, "modules are `name.rs` beside `name/`".into()));
    }
    let lines = text.lines().count();
    if lines > LINE_LIMIT && !path.starts_with(GENERATED) {
        findings.push(whole(path, format!("{lines} lines; {LINE_LIMIT} is the limit")));
    }
    findings
}

fn whole(path: &str, what: String) -> Finding {
    Finding { path: path.into(), line: 0, what }
}

fn elsewhere(path: &str, text: &str) -> Vec<Finding> {
    let finding = |(index, line): (usize, &str)| {
        let word = word_from_elsewhere(line)?;
        Some(Finding {
            path: path.into(),
            line: index + 1,
            what: format!("`{word}` means nothing to other readers"),
        })
    };
    text.lines().enumerate().filter_map(finding).collect()
}

fn word_from_elsewhere(line: &str) -> Option<&'static str> {
    let lower = line.to_ascii_lowercase();
    let word = ELSEWHERE.iter().find(|word| lower.contains(**word)).copied();
    word.or_else(|| names_checkout(&lower).then_some(CHECKOUT))
}

/// The folder itself or something in it, not a longer path that has the word in its middle.
fn names_checkout(line: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || "_-.{}/)*".contains(c);
    line.match_indices(CHECKOUT).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + CHECKOUT.len()..]);
        !before.chars().next_back().is_some_and(part) && after.starts_with('/')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check(path, text).len()
    }

    #[test]
    fn rust_files_open_with_words_and_stay_short() {
        assert_eq!(findings("crates/a/src/a.rs", "//! A.\n"), 0);
        assert_eq!(findings("crates/a/src/a.rs", "fn a() {}\n"), 1);
        assert_eq!(findings("crates/a/src/b/mod.rs", "//! B.\n"), 1);
        let long = format!("//! C.\n{}", "\n".repeat(LINE_LIMIT));
        assert_eq!(findings("crates/a/src/c.rs", &long), 1);
        assert_eq!(findings("crates/api/src/generated/c.rs", &long), 0);
    }

    #[test]
    fn a_crate_without_the_lints_is_named() {
        assert_eq!(findings("crates/a/Cargo.toml", "[package]\n"), 1);
        assert_eq!(findings("crates/a/Cargo.toml", "[lints]\nworkspace = true\n"), 0);
    }

    #[test]
    fn no_file_leans_on_one_machine() {
        assert_eq!(findings("a.md", &format!("cd {CHECKOUT}/main")), 1);
        assert_eq!(findings("a.md", &format!("`https://{}/simple`", ELSEWHERE[2])), 1);
        for fine in ["upper/work/x", "/workspace/a", "a.b/work/c", "/home/me/work/c", "pip install boto3"] {
            assert_eq!(findings("a.md", fine), 0, "{fine}");
        }
    }
}

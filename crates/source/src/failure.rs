//! What git complains about, in CodeBuild's words.

use crate::location::Location;

/// Characters of git's own words that are told.
const TOLD: usize = 1000;

/// The message for a git command that failed; `source` is such as `primary source`, `version` as it was asked for.
#[must_use]
pub fn message(printed: &str, location: &Location, source: &str, version: &str) -> String {
    let text = printed.to_ascii_lowercase();
    let says = |any: &[&str]| any.iter().any(|words| text.contains(words));
    let of = |what: &str| format!("{what} for {source} and source version {version}");
    if says(&["self-signed certificate", "self signed certificate", "server certificate verification failed"])
    {
        // COMPAT: SA-028.
        return format!(
            "Git clone failed: Unable to access '{location}': SSL certificate problem: Self signed certificate"
        );
    }
    if says(&[
        "could not read username",
        "could not read password",
        "authentication failed",
        "returned error: 401",
        "returned error: 403",
    ]) {
        return of("authentication required");
    }
    if says(&["repository not found", "returned error: 404", "not found"])
        && says(&["fatal: repository", "fatal: remote error", "error: 404"])
    {
        return of("repository not found");
    }
    if says(&["couldn't find remote ref"]) {
        return reference_not_found(source, version);
    }
    format!("Git clone failed: {}", first_complaint(printed))
}

/// There is no such branch, tag or commit.
#[must_use]
pub fn reference_not_found(source: &str, version: &str) -> String {
    format!("reference not found for {source} and source version {version}")
}

/// git's first line that says what was wrong, or its last one; without control characters.
fn first_complaint(printed: &str) -> String {
    let complaint = printed
        .lines()
        .find_map(|line| line.strip_prefix("fatal: ").or_else(|| line.strip_prefix("error: ")));
    let line = complaint.or_else(|| printed.lines().last()).unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).take(TOLD).collect();
    let mut chars = line.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => "git ended without a word".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(printed: &str, expect: &str) {
        let location = Location::parse("https://git.example/a/b").unwrap();
        assert_eq!(message(printed, &location, "primary source", "main"), expect);
    }

    // SA-028
    #[test]
    fn git_is_quoted_as_codebuild_does() {
        let expect = "Git clone failed: Unable to access 'https://git.example/a/b': SSL certificate problem: Self signed certificate";
        check(
            "fatal: unable to access 'https://git.example/a/b/': SSL certificate problem: self-signed certificate\n",
            expect,
        );
        check(
            "fatal: unable to access 'https://git.example/a/b/': server certificate verification failed. CAfile: none CRLfile: none\n",
            expect,
        );
        check(
            "fatal: could not read Username for 'https://git.example': terminal prompts disabled\n",
            "authentication required for primary source and source version main",
        );
        check(
            "remote: no\nfatal: Authentication failed for 'x'\n",
            "authentication required for primary source and source version main",
        );
        check(
            "fatal: repository 'https://x/' not found\n",
            "repository not found for primary source and source version main",
        );
        check(
            "fatal: couldn't find remote ref refs/heads/x\n",
            "reference not found for primary source and source version main",
        );
        check(
            "warning: a\nfatal: the remote end hung up\u{1b}[31m\nerror: b\n",
            "Git clone failed: The remote end hung up[31m",
        );
        check("", "Git clone failed: git ended without a word");
    }
}

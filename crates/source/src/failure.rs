//! What git complains about, in CodeBuild's words.

use crate::location::{Location, Scheme};

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
    if location.scheme() == Scheme::Ssh
        && let Some(message) = of_ssh(&text, location, &of)
    {
        return message;
    }
    if says(&[
        "could not read username",
        "could not read password",
        "authentication failed",
        "returned error: 401",
        "returned error: 403",
    ]) {
        let wants = match location.is_codecommit() {
            true => {
                "; CodeCommit takes AWS credentials: sources.codecommit (`buildyard run`: the usual variables and files)"
            }
            false => "",
        };
        return of("authentication required") + wants;
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

/// What ssh complains about itself, in small letters.
fn of_ssh(text: &str, location: &Location, of: &dyn Fn(&str) -> String) -> Option<String> {
    let (says, host) = (|words: &str| text.contains(words), location.known_as());
    let known = "sources.ssh_known_hosts (`buildyard run`: ~/.ssh/known_hosts)";
    if says("host key verification failed") && says("host identification has changed") {
        return Some(format!("Git clone failed: {host} has another key than the one in {known}"));
    }
    if says("host key verification failed") {
        return Some(format!("Git clone failed: the key of {host} is not in {known}"));
    }
    if says("permission denied (") {
        let none = "takes no key of sources.ssh_key (`buildyard run`: of ~/.ssh or SSH_AUTH_SOCK)";
        return Some(format!("{}: {host} {none}", of("authentication required")));
    }
    if says("does not appear to be a git repository") || says("error: repository not found") {
        return Some(of("repository not found"));
    }
    says("cannot run ssh").then(|| "Git clone failed: this host has no ssh (openssh-client)".to_owned())
}

/// Whether ssh came to nobody, so that another address of the same host may do.
#[must_use]
pub fn is_unreachable(printed: &str) -> bool {
    printed.lines().any(|line| line.starts_with("ssh: connect to host "))
}

/// There is no such branch, tag or commit.
#[must_use]
pub fn reference_not_found(source: &str, version: &str) -> String {
    format!("reference not found for {source} and source version {version}")
}

/// git's first line that says what was wrong, or its last one; without control characters.
fn first_complaint(printed: &str) -> String {
    // What ssh says is the cause of what git says behind it.
    let complaint = printed.lines().find(|line| line.starts_with("ssh: ")).or_else(|| {
        let says = |line: &'_ str| line.starts_with("fatal: ") || line.starts_with("error: ");
        printed.lines().find(|line| says(line)).map(|line| &line["fatal: ".len()..])
    });
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

    #[test]
    fn ssh_is_understood() {
        let location = Location::parse("ssh://git@git.example:2222/a").unwrap();
        for (printed, expect) in [
            (
                "No ED25519 host key is known for x\nHost key verification failed.\nfatal: Could not read from remote repository.\n",
                "the key of [git.example]:2222 is not in sources.ssh_known_hosts",
            ),
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.\n",
                "has another key than the one in sources.ssh_known_hosts",
            ),
            (
                "git@x: Permission denied (publickey).\n",
                "authentication required for primary source and source version main: [git.example]:2222 takes no key of sources.ssh_key",
            ),
            (
                "fatal: '/a' does not appear to be a git repository\n",
                "repository not found for primary source",
            ),
            (
                "ssh: connect to host 1.1.1.1 port 2222: Connection refused\nfatal: Could not read from remote repository.\n",
                "Git clone failed: Ssh: connect to host 1.1.1.1 port 2222: Connection refused",
            ),
            ("error: cannot run ssh: No such file or directory\n", "openssh-client"),
        ] {
            let told = message(printed, &location, "primary source", "main");
            assert!(told.contains(expect), "{told}");
        }
    }
}

//! Locations that are read, and those that are refused.

use super::*;

#[track_caller]
fn check(text: &str, url: &str, folder: &str) {
    let location = Location::parse(text).unwrap();
    assert_eq!((location.to_string().as_str(), location.folder().as_str()), (url, folder));
    assert_eq!(Location::parse(url).as_ref(), Ok(&location), "what is written reads as the same");
}

// EN-081
#[test]
fn locations_are_read_and_written_again() {
    check("https://github.com/owner/repo.git", "https://github.com/owner/repo.git", "github.com/owner/repo");
    check("https://GitHub.com/Owner/repo", "https://github.com/Owner/repo", "github.com/Owner/repo");
    check(
        "https://git-codecommit.us-east-2.amazonaws.com/v1/repos/Name",
        "https://git-codecommit.us-east-2.amazonaws.com/v1/repos/Name",
        "git-codecommit.us-east-2.amazonaws.com/v1/repos/Name",
    );
    check("https://git.example:8443/a/b/", "https://git.example:8443/a/b/", "git.example/a/b");
    check("https://10.0.0.1/a", "https://10.0.0.1/a", "10.0.0.1/a");
    check("https://[::1]:8443/a", "https://[::1]:8443/a", "__1/a");
    check("git@github.com:owner/repo.git", "git@github.com:owner/repo.git", "github.com/owner/repo");
    check("git@git.example:/srv/repo.git", "ssh://git@git.example/srv/repo.git", "git.example/srv/repo");
    check("ssh://git@git.example:2222/a/b.git", "ssh://git@git.example:2222/a/b.git", "git.example/a/b");
}

// Reliability: E6.
#[test]
fn what_could_be_understood_differently_is_refused() {
    let long = format!("https://x/{}", "a".repeat(3000));
    for text in [
        "",
        "/srv/repo.git",
        "./repo",
        "repo",
        "file:///srv/repo.git",
        "ext::sh -c id",
        "ext::sh%20-c%20id",
        "fd::17",
        "git://x/y",
        "ftp://x/y",
        "gopher://x/y",
        "-oProxyCommand=id:x",
        "--upload-pack=id",
        "ssh://-oProxyCommand=id/x",
        "git@-oProxyCommand=id:x",
        "git@host:-x",
        "ssh://-u@host/x",
        "https://user@host/x",
        "https://user:pass@host/x",
        "https://@host/x",
        "https:///x",
        "https://",
        "https://host",
        "https://host/",
        "https://host//",
        "https://host/a\r\nb",
        "https://host/a\0b",
        "https://host/%00",
        "https://host/%0a",
        "https://host/%0D%0Ax",
        "https://host/%2e%2e/x",
        "https://host/a%2fb",
        "https://host/../x",
        "https://host/a/../b",
        "https://host/.git",
        "https://host/a\\b",
        "https://host\\@evil/x",
        "https://host/a b",
        "https://host/ä",
        "https://hö.st/x",
        "https://host/a?b=c",
        "https://host/a#b",
        "https://host/%zz",
        "https://host/%2",
        "https://host:0/x",
        "https://host:99999/x",
        "https://host:/x",
        "https://host:+1/x",
        "https://2130706433/x",
        "https://0x7f000001/x",
        "https://0x7f.1/x",
        "https://0177.0.0.1/x",
        "https://127.1/x",
        "https://127.0.0.1./x",
        "https://[::1/x",
        "https://[fe80::1%25eth0]/x",
        "https://[::ffff:127.0.0.1]x/y",
        "https://host./x",
        "https://.host/x",
        "https://a..b/x",
        "https://-host/x",
        "https://host-/x",
        "http//host/x",
        "https:host/x/",
        "https:/host/x",
        "host::path",
        long.as_str(),
    ] {
        let read = Location::parse(text);
        assert!(matches!(read, Err(Error::Location { .. })), "{text:?} was read as {read:?}");
    }
}

// SA-003
#[test]
fn each_provider_has_its_places() {
    use Provider::{Bitbucket, CodeCommit, GitHub, GitHubEnterprise, GitLab, GitLabSelfManaged};
    for (provider, text, expect) in [
        (GitHub, "https://github.com/a/b", true),
        (GitHub, "https://www.github.com/a/b", true),
        (GitHub, "https://github.com.evil.example/a/b", false),
        (GitHub, "https://evilgithub.com/a/b", false),
        (GitHub, "http://github.com/a/b", false),
        (GitHub, "git@github.com:a/b", true),
        (GitHub, "git@git.example:a/b", false),
        (GitHubEnterprise, "https://git.example/a/b", true),
        (GitHubEnterprise, "http://git.example/a/b", true),
        (GitHubEnterprise, "ssh://git@git.example/a/b", true),
        (GitLab, "https://gitlab.com/a/b/c", true),
        (GitLabSelfManaged, "https://git.example/a/b/c", true),
        (GitLabSelfManaged, "http://git.example/a/b/c", false),
        (Bitbucket, "https://bitbucket.org/a/b", true),
        (Bitbucket, "https://bitbucket.example/a/b", false),
        (CodeCommit, "https://git-codecommit.eu-west-1.amazonaws.com/v1/repos/x", true),
        (CodeCommit, "https://git-codecommit.eu-west-1.evil.example/v1/repos/x", false),
        (CodeCommit, "ssh://KEY@git-codecommit.eu-west-1.amazonaws.com/v1/repos/x", false),
        (CodeCommit, "https://git-codecommit.eu-west-1.amazonaws.com/x", false),
    ] {
        assert_eq!(Location::of(provider, text).is_ok(), expect, "{provider:?} {text}");
    }
}

#[test]
fn known_hosts_are_named_as_ssh_names_them() {
    for (location, expect) in [
        ("git@git.example:a/b", "git.example"),
        ("ssh://git.example:22/a", "git.example"),
        ("ssh://git.example:2222/a", "[git.example]:2222"),
        ("ssh://[::1]/a", "::1"),
        ("ssh://[::1]:2222/a", "[::1]:2222"),
    ] {
        assert_eq!(Location::parse(location).unwrap().known_as(), expect, "{location}");
    }
}

// SA-021
#[test]
fn a_submodule_may_be_named_from_where_its_repository_is() {
    let parent = Location::parse("https://git.example/team/app.git").unwrap();
    for (url, expect) in [
        ("../lib.git", Some("https://git.example/team/lib.git")),
        ("../../other/lib", Some("https://git.example/other/lib")),
        ("./nested", Some("https://git.example/team/app.git/nested")),
        ("https://else.example/x", Some("https://else.example/x")),
        ("../../../../etc", None),
        ("../-x\r", None),
        ("../.git", None),
        ("-u./payload", None),
        ("file:///x", None),
    ] {
        let joined = parent.join(url).ok().map(|location| location.to_string());
        assert_eq!(joined.as_deref(), expect, "{url:?}");
    }
}

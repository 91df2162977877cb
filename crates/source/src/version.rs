//! Which version of a repository is meant: `sourceVersion`, read.

use crate::error::{Error, Result};

/// COMPAT: SA-023.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// The head of the default branch.
    Default,
    /// A branch, a tag, or the beginning of a commit's id.
    Name(String),
    /// A whole reference, such as `refs/heads/main`.
    Reference(String),
    /// A whole commit id.
    Commit(String),
    /// A commit that is found by way of a reference. COMPAT: SA-024.
    At { reference: Box<Version>, commit: String },
}

impl Version {
    /// Reads a source version; none, or an empty one, is the default branch.
    ///
    /// # Errors
    /// [`Error::Version`] if git could not have a reference of that name.
    pub fn parse(text: Option<&str>) -> Result<Version> {
        let text = text.unwrap_or_default();
        if text.is_empty() {
            return Ok(Version::Default);
        }
        read(text).map_err(|rule| Error::Version { version: text.chars().take(200).collect(), rule })
    }
}

fn read(text: &str) -> Result<Version, &'static str> {
    if let Some((reference, rest)) = text.split_once("^{") {
        let commit = rest.strip_suffix('}').filter(|commit| is_commit(commit));
        let commit = commit.ok_or("after `^{` comes a commit's 40 hexadecimal digits and `}`")?;
        let reference = read(reference)?;
        return match reference {
            Version::Commit(_) | Version::At { .. } => {
                Err("before `^{` comes a branch, a tag or a pull request")
            }
            reference => {
                Ok(Version::At { reference: Box::new(reference), commit: commit.to_ascii_lowercase() })
            }
        };
    }
    if is_commit(text) {
        return Ok(Version::Commit(text.to_ascii_lowercase()));
    }
    // COMPAT: SA-025 `pr/7` is what GitHub calls refs/pull/7/head.
    if let Some(number) = text.strip_prefix("pr/").filter(|number| is_number(number)) {
        return Ok(Version::Reference(format!("refs/pull/{number}/head")));
    }
    check_name(text)?;
    match text.starts_with("refs/") {
        true => Ok(Version::Reference(text.to_owned())),
        false => Ok(Version::Name(text.to_owned())),
    }
}

fn is_number(text: &str) -> bool {
    (1..=18).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// git's own rules for references.
pub(crate) fn check_name(text: &str) -> Result<(), &'static str> {
    if text.len() > 1024 {
        return Err("it is longer than 1024 bytes");
    }
    if text.starts_with('-') {
        return Err("it begins with a hyphen");
    }
    if text.bytes().any(|byte| byte.is_ascii_control() || b" ~^:?*[\\".contains(&byte)) {
        return Err("it holds a character that no reference has");
    }
    let is_part = |part: &str| !part.is_empty() && !part.starts_with('.') && !part.ends_with(".lock");
    if text.contains("..")
        || text.contains("@{")
        || text == "@"
        || text.ends_with('.')
        || !text.split('/').all(is_part)
    {
        return Err("git has no such references");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "0123456789abcdef0123456789ABCDEF01234567";

    // SA-023, SA-024, SA-025
    #[test]
    fn the_whole_grammar_is_read() {
        let sha = SHA.to_ascii_lowercase();
        let at = |reference: Version| Version::At { reference: Box::new(reference), commit: sha.clone() };
        let reference = |text: &str| Version::Reference(text.into());
        for (text, expect) in [
            ("", Version::Default),
            ("main", Version::Name("main".into())),
            ("feature/x-1", Version::Name("feature/x-1".into())),
            ("v1.0.0", Version::Name("v1.0.0".into())),
            ("0123abc", Version::Name("0123abc".into())),
            (SHA, Version::Commit(sha.clone())),
            ("refs/heads/main", reference("refs/heads/main")),
            ("refs/tags/v1", reference("refs/tags/v1")),
            ("refs/pull/7/head", reference("refs/pull/7/head")),
            ("refs/merge-requests/7/head", reference("refs/merge-requests/7/head")),
            ("pr/7", reference("refs/pull/7/head")),
            ("pr/x", Version::Name("pr/x".into())),
            (&format!("main^{{{SHA}}}"), at(Version::Name("main".into()))),
            (&format!("pr/7^{{{SHA}}}"), at(reference("refs/pull/7/head"))),
            (&format!("refs/heads/main^{{{SHA}}}"), at(reference("refs/heads/main"))),
        ] {
            assert_eq!(Version::parse(Some(text)), Ok(expect), "{text}");
        }
        assert_eq!(Version::parse(None), Ok(Version::Default));
    }

    // SA-023
    #[test]
    fn what_git_would_read_as_something_else_is_refused() {
        for text in [
            "-x",
            "--upload-pack=id",
            "a b",
            "a\nb",
            "a..b",
            "main^",
            "main~1",
            "main:path",
            "a^{abc}",
            "^{0}",
            "a@{1}",
            "@",
            "/a",
            "a/",
            "a//b",
            ".a",
            "a.lock",
            "a.",
            "refs/heads/*",
            "+main",
            &format!("{SHA}^{{{SHA}}}"),
            &format!("a^{{{SHA}"),
        ] {
            let read = Version::parse(Some(text));
            if text == "+main" {
                assert_eq!(read, Ok(Version::Name(text.into())), "a plus is a letter like others");
            } else {
                assert!(matches!(read, Err(Error::Version { .. })), "{text:?} was read as {read:?}");
            }
        }
    }
}

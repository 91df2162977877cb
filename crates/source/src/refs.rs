//! The references that a repository has, and which of them a version means.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::version::{Version, check_name, is_commit};

/// What `git ls-remote --symref` told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct References {
    /// By full name; of an annotated tag it is the commit.
    commits: BTreeMap<String, String>,
    /// What HEAD stands for.
    default: Option<String>,
}

/// What to fetch, and what is to be checked out then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The reference that leads there; without one, all branches and tags are needed to find it.
    pub reference: Option<String>,
    /// A commit's id, or the beginning of one.
    pub commit: String,
    /// The branches' history is needed to find the commit, however little of it was asked for.
    pub needs_history: bool,
}

/// Patterns for `git ls-remote`, so that a repository of many references need not tell them all.
#[must_use]
pub fn patterns(version: &Version) -> Vec<String> {
    let mut patterns = vec!["HEAD".to_owned()];
    match version {
        Version::Default | Version::Commit(_) => {}
        Version::Name(name) => patterns.extend([format!("refs/heads/{name}"), format!("refs/tags/{name}*")]),
        Version::Reference(name) => patterns.push(format!("{name}*")),
        Version::At { reference, .. } => return self::patterns(reference),
    }
    patterns
}

impl References {
    /// Reads lines of `ID<tab>NAME` and `ref: NAME<tab>HEAD`; others are left out.
    #[must_use]
    pub fn read(text: &str) -> References {
        let mut references = References::default();
        for line in text.lines() {
            let Some((what, name)) = line.split_once('\t') else { continue };
            match what.strip_prefix("ref: ") {
                Some(target) if name == "HEAD" && check_name(target).is_ok() => {
                    references.default = Some(target.to_owned());
                }
                None if is_commit(what) => {
                    // The line of a tag's commit follows the tag's own.
                    let name = name.strip_suffix("^{}").unwrap_or(name);
                    if check_name(name).is_ok() {
                        references.commits.insert(name.to_owned(), what.to_owned());
                    }
                }
                _ => {}
            }
        }
        references
    }

    /// What the version means here; `None` if the repository has no such reference. A branch comes before a tag of the same name.
    ///
    /// # Errors
    /// [`Error::Answer`] if the repository is empty and the default branch is meant.
    pub fn find(&self, version: &Version) -> Result<Option<Wanted>> {
        Ok(match version {
            Version::Default => {
                let commit = self.commits.get("HEAD");
                let commit =
                    commit.ok_or_else(|| Error::Answer { what: "the repository has no HEAD".into() })?;
                let reference = self.default.clone().filter(|name| name.starts_with("refs/heads/"));
                Some(wanted(Some(reference.unwrap_or_else(|| "HEAD".into())), commit))
            }
            Version::Reference(name) => self.exactly(name),
            Version::Name(name) => self
                .exactly(&format!("refs/heads/{name}"))
                .or_else(|| self.exactly(&format!("refs/tags/{name}")))
                .or_else(|| is_beginning(name).then(|| searched(name))),
            Version::Commit(commit) => Some(searched(commit)),
            Version::At { reference, commit } => {
                let found = self.find(reference)?;
                found.map(|found| Wanted { commit: commit.clone(), needs_history: true, ..found })
            }
        })
    }

    fn exactly(&self, name: &str) -> Option<Wanted> {
        self.commits.get(name).map(|commit| wanted(Some(name.to_owned()), commit))
    }
}

fn wanted(reference: Option<String>, commit: &str) -> Wanted {
    Wanted { reference, commit: commit.to_owned(), needs_history: false }
}

/// COMPAT: SA-024 a commit alone is found among all that there is.
fn searched(commit: &str) -> Wanted {
    Wanted { reference: None, commit: commit.to_owned(), needs_history: true }
}

fn is_beginning(name: &str) -> bool {
    (7..40).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> String {
        digit.to_string().repeat(40)
    }

    fn references() -> References {
        let lines = [
            "warning: something else".to_owned(),
            "ref: refs/heads/trunk\tHEAD".into(),
            format!("{}\tHEAD", id('1')),
            format!("{}\trefs/heads/both", id('2')),
            format!("{}\trefs/tags/both", id('3')),
            format!("{}\trefs/tags/v1", id('4')),
            format!("{}\trefs/tags/v1^{{}}", id('5')),
            format!("{}\trefs/pull/7/head", id('6')),
            format!("{}\trefs/heads/--evil", id('7')),
            format!("{}\trefs/heads/a\u{1}b", id('8')),
            "junk\trefs/heads/junk".into(),
        ];
        References::read(&lines.join("\n"))
    }

    #[track_caller]
    fn check(version: &str, reference: Option<&str>, commit: &str, needs_history: bool) {
        let found = references().find(&Version::parse(Some(version)).unwrap()).unwrap().unwrap();
        let expect = Wanted { reference: reference.map(str::to_owned), commit: commit.into(), needs_history };
        assert_eq!(found, expect, "{version}");
    }

    // SA-023, SA-024, SA-025
    #[test]
    fn a_version_is_found_among_the_references() {
        check("", Some("refs/heads/trunk"), &id('1'), false);
        check("both", Some("refs/heads/both"), &id('2'), false);
        check("refs/tags/both", Some("refs/tags/both"), &id('3'), false);
        check("v1", Some("refs/tags/v1"), &id('5'), false);
        check("pr/7", Some("refs/pull/7/head"), &id('6'), false);
        check(&id('9'), None, &id('9'), true);
        check("9999999", None, "9999999", true);
        check(&format!("both^{{{}}}", id('9')), Some("refs/heads/both"), &id('9'), true);
    }

    // SA-023
    #[test]
    fn what_is_not_there_is_not_found() {
        for version in ["gone", "pr/8", "refs/heads/v1", "junk", &format!("gone^{{{}}}", id('9'))] {
            assert_eq!(references().find(&Version::parse(Some(version)).unwrap()), Ok(None), "{version}");
        }
        assert!(References::default().find(&Version::Default).is_err());
    }
}

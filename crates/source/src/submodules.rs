//! `.gitmodules`: where the repositories are that belong into a tree. Nothing else in that file counts: no branch, no update rule.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::location::{Location, Scheme};
use crate::tree::Submodule;

/// A submodule and where its repository is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Below the repository's folder; plain parts only.
    pub path: String,
    pub commit: String,
    pub location: Location,
}

/// The submodules that `.gitmodules`, as `git config --list --null` tells it, has a URL for; git leaves the others empty as well.
///
/// # Errors
/// [`Error::Location`] for a place or path that is refused. COMPAT: SA-021 only https.
pub fn read(text: &[u8], parent: &Location, submodules: &[Submodule]) -> Result<Vec<Placed>> {
    let urls = urls(text);
    let placed = submodules.iter().filter_map(|submodule| {
        let url = urls.get(submodule.path.as_str())?;
        Some(place(url, parent, submodule))
    });
    placed.collect()
}

fn place(url: &str, parent: &Location, submodule: &Submodule) -> Result<Placed> {
    let location = parent.join(url)?;
    let wrong = |rule| Error::Location { location: url.chars().take(200).collect(), rule };
    if location.scheme() != Scheme::Https && location.scheme() != parent.scheme() {
        return Err(wrong("a submodule's scheme must be https"));
    }
    let is_plain = |part: &str| !matches!(part, "" | "." | "..") && !part.eq_ignore_ascii_case(".git");
    let has_control = submodule.path.chars().any(char::is_control);
    if has_control || submodule.path.starts_with('-') || !submodule.path.split('/').all(is_plain) {
        return Err(wrong("the submodule's path is not plain"));
    }
    Ok(Placed { path: submodule.path.clone(), commit: submodule.commit.clone(), location })
}

/// URLs by path.
fn urls(text: &[u8]) -> BTreeMap<String, String> {
    let mut sections: BTreeMap<String, (Option<String>, Option<String>)> = BTreeMap::new();
    for entry in String::from_utf8_lossy(text).split('\0') {
        let Some((key, value)) = entry.split_once('\n') else { continue };
        let Some((section, member)) = key.strip_prefix("submodule.").and_then(|rest| rest.rsplit_once('.'))
        else {
            continue;
        };
        let known = sections.entry(section.to_owned()).or_default();
        match member {
            "path" => known.0 = Some(value.to_owned()),
            "url" => known.1 = Some(value.to_owned()),
            _ => {}
        }
    }
    sections.into_values().filter_map(|(path, url)| Some((path?, url?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, path: &str) -> Result<Vec<Placed>> {
        let text = format!(
            "submodule.x.y.path\n{path}\0submodule.x.y.url\n{url}\0submodule.x.y.update\n!id\0submodule.z.path\nz\0core.hookspath\n/tmp\0"
        );
        let parent = Location::parse("https://git.example/team/app").unwrap();
        let of = |path: &str| Submodule { path: path.into(), commit: "c".repeat(40) };
        read(text.as_bytes(), &parent, &[of(path), of("z"), of("unknown")])
    }

    // SA-021
    #[test]
    fn submodules_are_found_by_their_path() {
        let placed = check("../lib.git", "libs/a").unwrap();
        assert_eq!(placed.len(), 1);
        assert_eq!(
            (placed[0].path.as_str(), placed[0].location.to_string().as_str()),
            ("libs/a", "https://git.example/team/lib.git")
        );
        assert!(check("https://else.example/x", "a").is_ok());
    }

    // SA-021
    #[test]
    fn hostile_submodules_are_refused() {
        for url in [
            "-u./payload",
            "--upload-pack=id",
            "ext::sh -c id",
            "file:///etc",
            "ssh://git@h/x",
            "http://h/x",
            "git@h:x",
            "../../../../x",
            "https://u:p@h/x",
            "https://h/a\nb",
        ] {
            assert!(check(url, "a").is_err() || url.contains('\n'), "{url}");
        }
        for path in ["../a", "a/../../b", ".git", "a/.GIT/hooks", "-a", "/a", "a\rb", "a//b"] {
            assert!(check("https://h/x", path).is_err(), "{path:?}");
        }
    }
}

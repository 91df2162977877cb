//! What an image reference means: a place on this host, or a repository of a registry. Reads no content.

use std::path::{Path, PathBuf};

use crate::{Digest, Error};

/// A parsed image reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// An OCI layout folder, or an OCI or docker archive, and which of its images is meant.
    Local { path: PathBuf, select: Select },
    /// A repository of a registry.
    Registry(Repository),
}

/// Which image of a layout or archive is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Select {
    /// The only one, or the one tagged `latest`.
    Default,
    Tag(String),
    Digest(Digest),
}

/// An image in a registry; COMPAT: EN-023 `<registry>/<repository>:<tag>` or `...@sha256:<digest>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Host with optional port; `docker.io` when the reference names none.
    pub registry: String,
    /// Path in the registry; one-word names of `docker.io` get their `library/` in front.
    pub name: String,
    /// `latest` when the reference names neither tag nor digest.
    pub tag: Option<String>,
    /// Wins over the tag.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Parses `text`. What begins with `/`, `./` or `../` is a path (its file system is looked at, to tell
    /// a colon in the path from one before a tag); all else is a registry reference, as for Docker.
    ///
    /// Errors: [`Error::Reference`], and [`Error::NotFound`] for a path with nothing there.
    pub fn parse(text: &str) -> Result<Reference, Error> {
        if text.starts_with(['/', '.']) { local(text) } else { registry(text).map(Reference::Registry) }
    }

    /// Whether resolving may need the network.
    pub fn is_remote(&self) -> bool {
        matches!(self, Reference::Registry(_))
    }
}

/// The shortest existing path wins, after the whole text: `/a/layout:x/y:1` is `/a/layout` and tag `x/y:1`.
fn local(text: &str) -> Result<Reference, Error> {
    let found = |path: &str, select| Ok(Reference::Local { path: path.into(), select });
    if Path::new(text).exists() {
        return found(text, Select::Default);
    }
    for (at, separator) in text.match_indices([':', '@']) {
        let (path, rest) = (&text[..at], &text[at + 1..]);
        if !Path::new(path).exists() {
            continue;
        }
        return match separator {
            "@" => found(path, Select::Digest(rest.parse().map_err(|_| invalid(text, "malformed digest"))?)),
            _ => found(path, Select::Tag(rest.into())),
        };
    }
    Err(Error::NotFound(text.into()))
}

fn registry(text: &str) -> Result<Repository, Error> {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (
            rest,
            Some(digest.parse().map_err(|_| invalid(text, "the digest is not sha256:<64 hex digits>"))?),
        ),
        None => (text, None),
    };
    let (registry, rest) = split_registry(rest);
    let (name, tag) = match rest.split_once(':') {
        Some((name, tag)) => (name, Some(tag.to_owned())),
        None => (rest, digest.is_none().then(|| "latest".to_owned())),
    };
    if !registry.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]_".contains(&b)) {
        return Err(invalid(text, "malformed registry name"));
    }
    if name.len() > 255 || !name.split('/').all(is_name_component) {
        return Err(invalid(text, "a repository name is lower-case words joined by . _ - or /"));
    }
    if !tag.as_deref().is_none_or(is_tag) {
        return Err(invalid(text, "a tag is 1 to 128 letters, digits, _ . or -"));
    }
    let official = registry == "docker.io" && !name.contains('/');
    let name = if official { format!("library/{name}") } else { name.to_owned() };
    Ok(Repository { registry, name, tag, digest })
}

/// The first component is a registry if it could not be a repository: it has a dot or colon, or is localhost.
fn split_registry(text: &str) -> (String, &str) {
    match text.split_once('/') {
        Some(("index.docker.io", rest)) => ("docker.io".into(), rest),
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first.into(), rest),
        _ => ("docker.io".into(), text),
    }
}

fn is_name_component(component: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    component.bytes().all(|b| word(b) || b"._-".contains(&b))
        && component.bytes().next().is_some_and(word)
        && component.bytes().last().is_some_and(word)
        && !component.contains("..")
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn invalid(text: &str, reason: &'static str) -> Error {
    Error::Reference { reference: text.into(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, registry: &str, name: &str, tag: Option<&str>) {
        let Reference::Registry(found) = Reference::parse(text).unwrap() else { panic!("{text} is a path") };
        assert_eq!(
            (found.registry.as_str(), found.name.as_str(), found.tag.as_deref()),
            (registry, name, tag)
        );
    }

    #[test]
    fn registry_references_read_as_docker_reads_them() {
        check("debian", "docker.io", "library/debian", Some("latest"));
        check("debian:12", "docker.io", "library/debian", Some("12"));
        check("docker.io/debian:12", "docker.io", "library/debian", Some("12"));
        check("amazon/aws-cli", "docker.io", "amazon/aws-cli", Some("latest"));
        check("localhost/a", "localhost", "a", Some("latest"));
        check("localhost:5000/a/b:x.y-Z", "localhost:5000", "a/b", Some("x.y-Z"));
        check("public.ecr.aws/codebuild/amazonlinux:5", "public.ecr.aws", "codebuild/amazonlinux", Some("5"));
        let digest = Digest::of(b"");
        check(&format!("a.b/c@{digest}"), "a.b", "c", None);
        check(&format!("a.b/c:1@{digest}"), "a.b", "c", Some("1"));
    }

    #[test]
    fn what_is_no_reference_is_said_to_be_none() {
        for text in
            ["", "Debian", "a//b", "a/../b", "a:", "a: b", "a@sha256:1", "a b/c", "-a", "host:1/", "a:b:c"]
        {
            assert!(matches!(Reference::parse(text), Err(Error::Reference { .. })), "{text:?}");
        }
    }

    #[test]
    fn a_path_may_hold_colons_and_carry_a_tag_or_digest() {
        let folder = tempfile::tempdir().unwrap();
        let layout = folder.path().join("with:colon");
        std::fs::create_dir(&layout).unwrap();
        let select = |suffix: &str| match Reference::parse(&format!("{}{suffix}", layout.display())) {
            Ok(Reference::Local { path, select }) if path == layout => select,
            other => panic!("{other:?}"),
        };
        assert_eq!(select(""), Select::Default);
        assert_eq!(select(":1.0"), Select::Tag("1.0".into()));
        assert_eq!(select(":host:5000/a:1.0"), Select::Tag("host:5000/a:1.0".into()));
        let digest = Digest::of(b"x");
        assert_eq!(select(&format!("@{digest}")), Select::Digest(digest));
        assert!(matches!(Reference::parse("/nowhere/at/all:1"), Err(Error::NotFound(_))));
    }
}

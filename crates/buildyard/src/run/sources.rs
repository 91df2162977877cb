//! What a local build is made of: a folder as it is, changes and all, a repository, or what is in S3; and further ones beside it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use agent::plan::{Git, LeftOut, SecondarySource, Source};
use source::{Location, Version};

use super::Arguments;
use super::s3::{self, Bringing};

/// COMPAT: SA-040 as many as a project may have.
const SECONDARY_SOURCES: usize = 12;

#[derive(Debug)]
pub(super) struct Sources {
    /// Of the primary one, for the project.
    pub(super) name: String,
    pub(super) primary: Source,
    pub(super) secondary: Vec<SecondarySource>,
    /// COMPAT: EN-050, EN-051 of what is no folder.
    pub(super) variables: BTreeMap<String, String>,
}

impl Sources {
    pub(super) fn find(arguments: &Arguments) -> Result<Sources, String> {
        let version = arguments.source_version.as_deref();
        let (name, primary) = find(&arguments.source, version)?;
        if version.is_some() && matches!(primary, Source::Folder(_)) {
            return Err("--source-version is for repositories and objects; a folder is built as it is".into());
        }
        let mut secondary: Vec<SecondarySource> = Vec::new();
        for text in &arguments.secondary_sources {
            let found = find_secondary(text)?;
            if secondary.iter().any(|known| known.identifier == found.identifier) {
                return Err(format!("--secondary-source {text}: {} is there twice", found.identifier));
            }
            secondary.push(found);
        }
        if secondary.len() > SECONDARY_SOURCES {
            return Err(format!("--secondary-source: at most {SECONDARY_SOURCES} are allowed"));
        }
        let variables = variables(&primary, &secondary);
        Ok(Sources { name, primary, secondary, variables })
    }

    /// Brings what is in S3 into this folder of the build's.
    pub(super) fn bring(&mut self, folder: &Path) -> Result<(), String> {
        let secondary = self.secondary.iter_mut().map(|one| &mut one.source);
        let all = std::iter::once(&mut self.primary).chain(secondary);
        let mut in_s3 = all.filter(|source| s3::url(source).is_some()).peekable();
        if in_s3.peek().is_none() {
            return Ok(());
        }
        let bringing = Bringing::into(folder)?;
        in_s3.try_for_each(|source| bringing.bring(source))
    }

    /// The primary source, if it is a folder of this host.
    pub(super) fn folder(&self) -> Option<&Path> {
        match &self.primary {
            Source::Folder(folder) => Some(folder),
            _ => None,
        }
    }

    /// What git ignores in the folders, if it is to be left out.
    pub(super) fn left_out(&self, wanted: bool) -> Result<Vec<LeftOut>, String> {
        if !wanted {
            return Ok(Vec::new());
        }
        let secondary = self.secondary.iter().map(|one| (Some(one.identifier.clone()), &one.source));
        let all = std::iter::once((None, &self.primary)).chain(secondary);
        let folders = all.filter_map(|(identifier, source)| match source {
            Source::Folder(folder) => Some((identifier, folder)),
            _ => None,
        });
        folders.map(|(identifier, folder)| Ok(LeftOut { identifier, paths: ignored(folder)? })).collect()
    }

    /// What tells the builds of this source from those of others.
    pub(super) fn place(&self) -> String {
        match &self.primary {
            Source::Folder(folder) => folder.display().to_string(),
            Source::Git(git) => git.location.clone(),
            source => s3::url(source).unwrap_or_else(|| self.name.clone()),
        }
    }
}

fn variables(primary: &Source, secondary: &[SecondarySource]) -> BTreeMap<String, String> {
    let primary = of_source(primary, "");
    let secondary = secondary.iter();
    let secondary = secondary.flat_map(|one| of_source(&one.source, &format!("_{}", one.identifier)));
    primary.into_iter().chain(secondary).collect()
}

/// The user's own git says what it ignores: the settings that count are theirs.
fn ignored(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut git = Command::new("git");
    git.arg("-C").arg(folder).args([
        "ls-files",
        "--others",
        "--ignored",
        "--exclude-standard",
        "--directory",
        "-z",
    ]);
    let output = git.output().map_err(|e| format!("--respect-gitignore: git cannot be run: {e}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(format!("--respect-gitignore: git cannot read {}: {}", folder.display(), why.trim()));
    }
    let names = output.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    // Where artifacts go is hidden already.
    let names = names.filter(|name| !name.starts_with(b".buildyard"));
    Ok(names.map(|name| PathBuf::from(OsStr::from_bytes(name))).collect())
}

fn of_source(source: &Source, ending: &str) -> Vec<(String, String)> {
    let (url, version) = match source {
        Source::Git(git) => (Some(git.location.clone()), &git.version),
        Source::ObjectZip { version, .. } => (s3::url(source), version),
        source => (s3::url(source), &None),
    };
    let url = url.map(|url| (format!("CODEBUILD_SOURCE_REPO_URL{ending}"), url));
    let version = version.clone().map(|version| (format!("CODEBUILD_SOURCE_VERSION{ending}"), version));
    url.into_iter().chain(version).collect()
}

fn find_secondary(text: &str) -> Result<SecondarySource, String> {
    let wrong = || format!("--secondary-source {text}: it must be ID:FOLDER or ID:URL");
    let (identifier, source) = text.split_once(':').ok_or_else(wrong)?;
    let is_sound = (1..128).contains(&identifier.len())
        && identifier.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !is_sound {
        return Err(format!("--secondary-source {text}: an ID has 1 to 127 letters, digits and underscores"));
    }
    let (_, source) = find(source, None)?;
    Ok(SecondarySource { identifier: identifier.to_owned(), source })
}

/// A folder that is there is what is meant, however much its name looks like a URL.
fn find(text: &str, version: Option<&str>) -> Result<(String, Source), String> {
    let folder = Path::new(text);
    if !folder.exists() && text.starts_with("s3://") {
        return s3::find(text, version);
    }
    if !folder.exists() && text.contains("://") || !folder.exists() && text.contains('@') {
        return repository(text, version);
    }
    let folder = folder.canonicalize().map_err(|e| format!("cannot build {text}: {e}"))?;
    if !folder.is_dir() {
        return Err(format!("cannot build {text}: it is not a folder"));
    }
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok((name, Source::Folder(folder)))
}

fn repository(text: &str, version: Option<&str>) -> Result<(String, Source), String> {
    let location = Location::parse(text).map_err(|e| e.to_string())?;
    Version::parse(version).map_err(|e| e.to_string())?;
    let name = PathBuf::from(location.folder());
    let name = name.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let git = Git {
        location: location.to_string(),
        version: version.map(str::to_owned),
        depth: None,
        submodules: true,
        insecure_ssl: false,
    };
    Ok((name, Source::Git(git)))
}

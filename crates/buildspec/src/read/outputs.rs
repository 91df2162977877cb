//! What a build leaves behind: `reports`, `artifacts`, `cache`.

use std::collections::BTreeMap;

use super::Context;
use super::field::{Field, Section};
use crate::diagnostic::{Code, Error, excerpt, quoted};
use crate::glob::Pattern;
use crate::limits;
use crate::model::{Artifacts, Cache, CacheAction, FileFormat, Report, Version};

pub(super) fn reports(field: &Field<'_>, context: &mut Context) -> Result<Vec<Report>, Error> {
    let groups = field.entries()?;
    if let Some(beyond) = groups.get(limits::REPORT_GROUPS) {
        let (line, most) = (beyond.position.line, limits::REPORT_GROUPS);
        let message = format!("Too many report groups: {}. At most {most} at line {line}", groups.len());
        return Err(beyond.position.finding(Code::Limit, message));
    }
    groups.iter().map(|group| report(group, context)).collect()
}

fn report(field: &Field<'_>, context: &mut Context) -> Result<Report, Error> {
    let known = ["files", "file-format", "base-directory", "discard-paths"];
    let section = Section::open(field, &known, context)?;
    Ok(Report {
        group: field.name.to_owned(),
        files: section.read("files", patterns)?.ok_or_else(|| missing(field, "files"))?,
        file_format: section.read("file-format", file_format)?.unwrap_or_default(),
        base_directory: section.text("base-directory")?,
        discard_paths: section.boolean("discard-paths")?,
    })
}

fn file_format(field: &Field<'_>) -> Result<FileFormat, Error> {
    let text = field.text()?;
    FileFormat::named(text.trim()).ok_or_else(|| {
        let formats = FileFormat::ALL.map(FileFormat::as_str);
        let message =
            format!("Invalid report file format: {}. Expecting: {}", excerpt(&text), formats.join(","));
        let finding = field.invalid(Code::Value, message);
        match crate::suggest::nearest(&text, &formats) {
            Some(format) => finding.hint(format!("Did you mean {format}?")),
            None => finding,
        }
    })
}

/// Keys of `artifacts` and of each secondary artifact; `artifacts` has [`SECONDARY`] and [`TYPE`] besides.
const ARTIFACT_KEYS: [&str; 7] =
    ["files", "name", "discard-paths", "base-directory", "exclude-paths", "enable-symlinks", "s3-prefix"];
const SECONDARY: &str = "secondary-artifacts";
/// Deprecated (BS-021), read by nobody.
const TYPE: &str = "type";

pub(super) fn artifacts(field: &Field<'_>, context: &mut Context) -> Result<Artifacts, Error> {
    let known: Vec<&str> = ARTIFACT_KEYS.into_iter().chain([SECONDARY, TYPE]).collect();
    let section = Section::open(field, &known, context)?;
    if let Some(deprecated) = section.get(TYPE).filter(|_| context.version == Version::V02) {
        warn(&deprecated, format!("{} is deprecated and has no effect", deprecated.shown()), context);
    }
    let secondary = section.read(SECONDARY, |field| secondary_artifacts(field, context))?.unwrap_or_default();
    let files = match section.read("files", patterns)? {
        Some(files) => files,
        None if secondary.is_empty() => return Err(missing(field, "files")),
        None => {
            // COMPAT: BS-130 documented as required here too, yet the guide's own sample leaves it out.
            warn(field, format!("{}.files is missing: there is no primary artifact", field.shown()), context);
            Vec::new()
        }
    };
    Ok(Artifacts { secondary, ..artifact(&section, files)? })
}

fn secondary_artifacts(
    field: &Field<'_>,
    context: &mut Context,
) -> Result<BTreeMap<String, Artifacts>, Error> {
    let mut secondary = BTreeMap::new();
    for entry in field.entries()? {
        check_identifier(&entry)?;
        let section = Section::open(&entry, &ARTIFACT_KEYS, context)?;
        let files = section.read("files", patterns)?.ok_or_else(|| missing(&entry, "files"))?;
        secondary.insert(entry.name.to_owned(), artifact(&section, files)?);
    }
    Ok(secondary)
}

fn artifact(section: &Section<'_>, files: Vec<String>) -> Result<Artifacts, Error> {
    Ok(Artifacts {
        files,
        name: section.text("name")?,
        discard_paths: section.boolean("discard-paths")?,
        base_directory: section.text("base-directory")?,
        exclude_paths: section.read("exclude-paths", patterns)?.unwrap_or_default(),
        enable_symlinks: section.boolean("enable-symlinks")?,
        s3_prefix: section.text("s3-prefix")?,
        secondary: BTreeMap::new(),
    })
}

/// Identifiers become names of folders and parts of variables' names.
fn check_identifier(field: &Field<'_>) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let name = field.name;
    if (1..=127).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(allowed) {
        return Ok(());
    }
    let line = field.position.line;
    let message = format!("Invalid artifact identifier {} at line {line}", quoted(name));
    let hint = "Use up to 127 letters, digits, \"_\" and \"-\"; the first is not \"-\".";
    Err(field.position.finding(Code::Value, message).hint(hint))
}

pub(super) fn cache(field: &Field<'_>, context: &mut Context) -> Result<Cache, Error> {
    let section = Section::open(field, &["key", "fallback-keys", "action", "paths"], context)?;
    let key = section.text("key")?;
    if let Some(ignored) = section.get("fallback-keys").filter(|_| key.is_none()) {
        // COMPAT: BS-153
        warn(&ignored, format!("{} has no effect without cache.key", ignored.shown()), context);
    }
    Ok(Cache {
        key,
        fallback_keys: section.read("fallback-keys", fallback_keys)?.unwrap_or_default(),
        action: section.read("action", cache_action)?,
        paths: section.read("paths", patterns)?.unwrap_or_default(),
    })
}

fn fallback_keys(field: &Field<'_>) -> Result<Vec<String>, Error> {
    let keys = field.texts()?;
    if keys.len() > limits::FALLBACK_KEYS {
        let most = limits::FALLBACK_KEYS;
        let message = format!("Too many {}: {}. At most {most}", field.shown(), keys.len());
        return Err(field.invalid(Code::Limit, message));
    }
    Ok(keys)
}

fn cache_action(field: &Field<'_>) -> Result<CacheAction, Error> {
    let text = field.text()?;
    match text.trim().to_ascii_lowercase().as_str() {
        "restore" => Ok(CacheAction::Restore),
        "save" => Ok(CacheAction::Save),
        _ => {
            let message = format!("Invalid {}: {}. Expecting: restore,save", field.shown(), excerpt(&text));
            Err(field.invalid(Code::Value, message))
        }
    }
}

/// A list of glob patterns, each within bounds.
fn patterns(field: &Field<'_>) -> Result<Vec<String>, Error> {
    field.items()?.iter().map(pattern).collect()
}

fn pattern(field: &Field<'_>) -> Result<String, Error> {
    let text = field.text()?;
    match Pattern::parse(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(field.invalid(error.code, format_args!("{} in {}", error.message, field.shown()))),
    }
}

fn missing(field: &Field<'_>, key: &str) -> Error {
    let line = field.position.line;
    let message = format!("Missing required key: {}.{key} at line {line}", field.shown());
    field.position.finding(Code::Missing, message)
}

fn warn(field: &Field<'_>, message: String, context: &mut Context) {
    let line = field.position.line;
    context.warnings.add(|| field.position.finding(Code::Ignored, format!("{message} at line {line}")));
}

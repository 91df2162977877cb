//! What a build leaves behind: `reports`, `artifacts`, `cache`.

use std::collections::BTreeMap;

use super::Context;
use super::field::{Field, Section};
use crate::diagnostic::{Code, Error, excerpt, quoted};
use crate::glob::Pattern;
use crate::limits;
use crate::model::{Artifacts, Cache, CacheAction, FileFormat, Report, Version};
use crate::schema;

pub(super) fn reports(field: &Field<'_>, context: &mut Context) -> Vec<Report> {
    let groups = context.entries(field);
    if let Some(beyond) = groups.get(limits::REPORT_GROUPS) {
        let message = format!("Too many report groups: {}. At most {}", groups.len(), limits::REPORT_GROUPS);
        context.findings.refuse(beyond.misnamed(Code::Limit, message));
    }
    groups.iter().take(limits::REPORT_GROUPS).map(|group| report(group, context)).collect()
}

fn report(field: &Field<'_>, context: &mut Context) -> Report {
    let section = Section::open(field, &schema::REPORT, context);
    section.require("files", context);
    Report {
        group: field.name.to_owned(),
        files: patterns(&section, "files", context),
        file_format: section.read("file-format", context, file_format).unwrap_or_default(),
        base_directory: section.text("base-directory", context),
        discard_paths: section.boolean("discard-paths", context),
    }
}

fn file_format(field: &Field<'_>) -> Result<FileFormat, Error> {
    let text = field.text()?;
    FileFormat::named(text.trim()).ok_or_else(|| {
        let formats = FileFormat::NAMES;
        let message =
            format!("Invalid report file format: {}. Expecting: {}", excerpt(&text), formats.join(","));
        let finding = field.invalid(Code::Value, message);
        match crate::suggest::nearest(&text, &formats) {
            Some(format) => finding.hint(format!("Did you mean {format}?")),
            None => finding,
        }
    })
}

pub(super) fn artifacts(field: &Field<'_>, context: &mut Context) -> Artifacts {
    let section = Section::open(field, &schema::ARTIFACTS, context);
    if let Some(deprecated) = section.get("type").filter(|_| context.version == Version::V02) {
        // COMPAT: BS-021
        let message = format!("{} is deprecated and has no effect", deprecated.shown());
        context.findings.warn(|| deprecated.misnamed(Code::Deprecated, message).hint("Remove it."));
    }
    let secondary = section.open_in("secondary-artifacts", context, secondary_artifacts).unwrap_or_default();
    if secondary.is_empty() {
        section.require("files", context);
    } else if section.get("files").is_none() {
        // COMPAT: BS-130 documented as required here too, yet the guide's own sample leaves it out.
        let message = format!("{}.files is missing: there is no primary artifact", field.shown());
        context.findings.warn(|| field.misnamed(Code::NoPrimaryArtifact, message));
    }
    Artifacts { secondary, ..artifact(&section, context) }
}

fn secondary_artifacts(field: &Field<'_>, context: &mut Context) -> BTreeMap<String, Artifacts> {
    let mut secondary = BTreeMap::new();
    for entry in context.entries(field) {
        if !is_identifier(entry.name) {
            context.findings.refuse(invalid_identifier(&entry));
        }
        let section = Section::open(&entry, &schema::SECONDARY_ARTIFACT, context);
        section.require("files", context);
        secondary.insert(entry.name.to_owned(), artifact(&section, context));
    }
    secondary
}

fn artifact(section: &Section<'_>, context: &mut Context) -> Artifacts {
    Artifacts {
        files: patterns(section, "files", context),
        name: section.text("name", context),
        discard_paths: section.boolean("discard-paths", context),
        base_directory: section.text("base-directory", context),
        exclude_paths: patterns(section, "exclude-paths", context),
        enable_symlinks: section.boolean("enable-symlinks", context),
        s3_prefix: section.text("s3-prefix", context),
        secondary: BTreeMap::new(),
    }
}

/// Identifiers become names of folders and parts of variables' names.
fn is_identifier(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=127).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(allowed)
}

fn invalid_identifier(field: &Field<'_>) -> Error {
    let message = format!("Invalid artifact identifier {}", quoted(field.name));
    let hint = "Use up to 127 letters, digits, \"_\" and \"-\"; the first is not \"-\".";
    field.misnamed(Code::Value, message).hint(hint)
}

pub(super) fn cache(field: &Field<'_>, context: &mut Context) -> Cache {
    let section = Section::open(field, &schema::CACHE, context);
    let key = section.text("key", context);
    let fallback_keys = section.texts("fallback-keys", context);
    if let Some(field) = section.get("fallback-keys") {
        check_fallback_keys(&field, fallback_keys.len(), key.is_some(), context);
    }
    Cache {
        key,
        fallback_keys,
        action: section.read("action", context, cache_action),
        paths: patterns(&section, "paths", context),
    }
}

fn check_fallback_keys(field: &Field<'_>, count: usize, keyed: bool, context: &mut Context) {
    if count > limits::FALLBACK_KEYS {
        let message = format!("Too many {}: {count}. At most {}", field.shown(), limits::FALLBACK_KEYS);
        context.findings.refuse(field.invalid(Code::Limit, message));
    }
    if !keyed {
        // COMPAT: BS-153
        let message = format!("{} has no effect without cache.key", field.shown());
        context.findings.warn(|| field.misnamed(Code::Ignored, message));
    }
}

fn cache_action(field: &Field<'_>) -> Result<CacheAction, Error> {
    let text = field.text()?;
    CacheAction::named(text.trim()).ok_or_else(|| {
        let expecting = CacheAction::NAMES.join(",");
        field.invalid(
            Code::Value,
            format_args!("Invalid {}: {}. Expecting: {expecting}", field.shown(), excerpt(&text)),
        )
    })
}

/// A list of glob patterns, each within bounds.
fn patterns(section: &Section<'_>, name: &str, context: &mut Context) -> Vec<String> {
    section.get(name).map(|field| context.each(&field, pattern)).unwrap_or_default()
}

fn pattern(field: &Field<'_>) -> Result<String, Error> {
    let text = field.text()?;
    match Pattern::parse(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(field.invalid(error.code, format_args!("{} in {}", error.message, field.shown()))),
    }
}

//! Where a build's files and its buildspec come from.

use std::collections::BTreeMap;

use agent::plan::{Buildspec, Git, SecondarySource, Source};
use api::Arn;
use api::codebuild::{Project, ProjectSource, SourceType};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::project::{self, required};

const DEFAULT_BUILDSPEC: &str = "buildspec.yml";

pub(super) fn primary(settings: &Project, config: &Config) -> Result<Source> {
    let source = settings.source.clone().unwrap_or_default();
    of(&source, settings.source_version.clone(), config)
}

/// COMPAT: SA-041 each with the version that is listed for its identifier.
pub(super) fn secondary(settings: &Project, config: &Config) -> Result<Vec<SecondarySource>> {
    let versions = settings.secondary_source_versions.iter().flatten();
    let versions: BTreeMap<&str, &str> = versions
        .filter_map(|version| {
            Some((version.source_identifier.as_deref()?, version.source_version.as_deref()?))
        })
        .collect();
    let all = settings.secondary_sources.iter().flatten();
    let each = all.map(|source| {
        let identifier = source.source_identifier.clone().unwrap_or_default();
        let version = versions.get(identifier.as_str()).filter(|version| !version.is_empty());
        let version = version.map(|version| (*version).to_string());
        Ok(SecondarySource { source: of(source, version, config)?, identifier })
    });
    each.collect()
}

fn of(source: &ProjectSource, version: Option<String>, config: &Config) -> Result<Source> {
    match source.r#type.as_ref() {
        Some(SourceType::S3) => s3_source(source, version, config),
        Some(kind) => match project::provider(kind) {
            Some(_) => Ok(Source::Git(git_source(source, version))),
            None => Ok(Source::None),
        },
        None => Ok(Source::None),
    }
}

/// The location was checked with the project.
fn git_source(source: &ProjectSource, version: Option<String>) -> Git {
    let submodules = source.git_submodules_config.as_ref().and_then(|config| config.fetch_submodules);
    Git {
        location: source.location.clone().unwrap_or_default(),
        version,
        // COMPAT: SA-020 more than 25 commits are all.
        depth: source
            .git_clone_depth
            .and_then(|depth| u32::try_from(depth).ok())
            .filter(|depth| (1..=25).contains(depth)),
        submodules: submodules == Some(true),
        insecure_ssl: source.insecure_ssl == Some(true),
    }
}

/// COMPAT: SA-004 `bucket/key.zip` is a ZIP, `bucket/prefix/` all objects below it, `bucket/` the whole bucket.
fn s3_source(source: &ProjectSource, version: Option<String>, config: &Config) -> Result<Source> {
    let location = project::s3_location(source.location.as_deref().unwrap_or_default());
    let (bucket, key) = required(location, "source.location")?;
    let objects = config.objects.clone();
    if key.is_empty() || key.ends_with('/') {
        return Ok(Source::ObjectFolder { objects, bucket, prefix: key });
    }
    Ok(Source::ObjectZip { objects, bucket, key, version })
}

/// COMPAT: BS-002, BS-003 tells inline text, a path and an S3 object apart.
pub(super) fn buildspec(settings: &Project, config: &Config) -> Result<Buildspec> {
    let source = settings.source.as_ref();
    let text = source.and_then(|source| source.buildspec.as_deref()).unwrap_or_default();
    let kind = classify(text, config)?;
    // COMPAT: BS-005, SA-008.
    let no_source = source.and_then(|source| source.r#type.as_ref()) == Some(&SourceType::NoSource);
    if no_source && matches!(kind, Buildspec::File(_)) {
        return Error::invalid("source.buildspec must be inline YAML or an S3 ARN for source type NO_SOURCE");
    }
    Ok(kind)
}

fn classify(text: &str, config: &Config) -> Result<Buildspec> {
    let start = text.trim_start();
    if start.is_empty() {
        Ok(Buildspec::File(DEFAULT_BUILDSPEC.to_string()))
    } else if start.starts_with("arn:") {
        object(start.trim_end(), config)
    } else if text.contains('\n') || start.starts_with('{') || is_version(start) {
        Ok(Buildspec::Inline(text.to_string()))
    } else {
        Ok(Buildspec::File(text.to_string()))
    }
}

fn is_version(text: &str) -> bool {
    text.strip_prefix("version").is_some_and(|rest| rest.trim_start().starts_with(':'))
}

fn object(arn: &str, config: &Config) -> Result<Buildspec> {
    let parsed: Option<Arn> = arn.parse().ok();
    match parsed.as_ref().and_then(Arn::s3_location) {
        Some((bucket, key)) if !key.is_empty() => Ok(Buildspec::Object {
            objects: config.objects.clone(),
            bucket: bucket.to_string(),
            key: key.to_string(),
        }),
        _ => Error::invalid(format!("source.buildspec {arn} is not the ARN of an S3 object")),
    }
}

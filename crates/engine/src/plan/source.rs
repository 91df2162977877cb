//! Where a build's files and its buildspec come from.

use agent::plan::{Buildspec, Source};
use api::Arn;
use api::codebuild::{Project, SourceType};

use crate::config::Config;
use crate::error::{Error, Result};

const DEFAULT_BUILDSPEC: &str = "buildspec.yml";

pub(super) fn source(settings: &Project, config: &Config) -> Result<Source> {
    match settings.source.as_ref().and_then(|source| source.r#type.as_ref()) {
        Some(SourceType::S3) => s3_source(settings, config),
        _ => Ok(Source::None),
    }
}

/// COMPAT: SA-004 `bucket/key.zip` is a ZIP, `bucket/prefix/` all objects below it, `bucket/` the whole bucket.
fn s3_source(settings: &Project, config: &Config) -> Result<Source> {
    let location = settings.source.as_ref().and_then(|source| source.location.as_deref()).unwrap_or_default();
    let (bucket, key) = bucket_and_key(location)?;
    let objects = config.objects.clone();
    if key.is_empty() || key.ends_with('/') {
        return Ok(Source::ObjectFolder { objects, bucket, prefix: key });
    }
    Ok(Source::ObjectZip { objects, bucket, key, version: settings.source_version.clone() })
}

fn bucket_and_key(location: &str) -> Result<(String, String)> {
    let plain = match location.parse::<Arn>() {
        Ok(arn) if arn.service() == "s3" => arn.resource().to_string(),
        _ => location.to_string(),
    };
    match plain.split_once('/') {
        Some((bucket, key)) if !bucket.is_empty() => Ok((bucket.to_string(), key.to_string())),
        _ => Error::invalid("Invalid project source: location must be a valid S3 source"),
    }
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

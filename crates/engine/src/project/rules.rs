//! CodeBuild's rules about several members of a project together, and about names in lists. Pure.

use std::collections::BTreeSet;

use api::codebuild::{
    ArtifactsType, CacheType, ComputeType, ImagePullCredentialsType, LogsConfigStatusType, Project,
    ProjectArtifacts, ProjectCache, ProjectEnvironment, ProjectSource, ProjectSourceVersion, S3LogsConfig,
    SourceType, Tag, VpcConfig,
};

use crate::curated;
use crate::error::{Error, Result};
use crate::log_object;

/// Checks what a project says as a whole.
pub(super) fn check(project: &Project) -> Result<()> {
    check_tags(project.tags.as_deref().unwrap_or_default())?;
    check_pipeline(project)?;
    check_has_buildspec(project.source.as_ref())?;
    check_identifiers(project)?;
    check_vpc(project.vpc_config.as_ref())
}

/// COMPAT: AP-026, as far as the model's patterns do not say it already. A space is what Unicode calls one, as for the pattern.
fn check_tags(tags: &[Tag]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for tag in tags {
        let key = tag.key.as_deref().unwrap_or_default();
        if key.is_empty()
            || key.ends_with(char::is_whitespace)
            || key.to_ascii_lowercase().starts_with("aws:")
        {
            return Error::invalid(format!("Invalid tag key: {key:?}"));
        }
        if !seen.insert(key) {
            return Error::invalid(format!("Duplicate tag key: {key}"));
        }
    }
    Ok(())
}

/// What belongs to a pipeline has both from it.
fn check_pipeline(project: &Project) -> Result<()> {
    let source = project.source.as_ref().and_then(|source| source.r#type.as_ref());
    let artifacts = project.artifacts.as_ref().and_then(|artifacts| artifacts.r#type.as_ref());
    let (of_source, of_artifacts) =
        (source == Some(&SourceType::Codepipeline), artifacts == Some(&ArtifactsType::Codepipeline));
    match of_source == of_artifacts {
        true => Ok(()),
        false => Error::invalid(
            "Invalid input: when using CodePipeline both sourceType, and artifactType must be set to: CODEPIPELINE",
        ),
    }
}

/// COMPAT: BS-005, SA-008 where there are no files, there is no `buildspec.yml`.
fn check_has_buildspec(source: Option<&ProjectSource>) -> Result<()> {
    let of_nothing = source.filter(|source| source.r#type == Some(SourceType::NoSource));
    match of_nothing.is_some_and(|source| source.buildspec.as_deref().unwrap_or_default().trim().is_empty()) {
        true => {
            Error::invalid("Invalid project source: source.buildspec is required for source type NO_SOURCE")
        }
        false => Ok(()),
    }
}

/// COMPAT: AP-028 identifiers name something once; what is secondary has one.
fn check_identifiers(project: &Project) -> Result<()> {
    let primary = project.source.as_ref().and_then(|source| source.source_identifier.as_deref());
    primary.filter(|text| !text.is_empty()).map_or(Ok(()), check_identifier)?;
    let file_systems = project.file_system_locations.iter().flatten();
    let file_systems = file_systems.map(|location| location.identifier.as_deref());
    check_unique("fileSystemLocations", "identifier", file_systems)
}

/// COMPAT: AP-028 the primary artifact need not have one.
pub(super) fn check_artifact_identifier(artifacts: &ProjectArtifacts) -> Result<()> {
    let identifier = artifacts.artifact_identifier.as_deref().filter(|text| !text.is_empty());
    identifier.map_or(Ok(()), check_identifier)
}

/// COMPAT: AP-028, SA-040.
pub(super) fn check_secondary_sources(sources: &[ProjectSource]) -> Result<()> {
    let identifiers = sources.iter().map(|source| source.source_identifier.as_deref());
    check_unique("secondarySources", "sourceIdentifier", identifiers)
}

/// COMPAT: AP-028, SA-060.
pub(super) fn check_secondary_artifacts(artifacts: &[ProjectArtifacts]) -> Result<()> {
    let identifiers = artifacts.iter().map(|artifacts| artifacts.artifact_identifier.as_deref());
    check_unique("secondaryArtifacts", "artifactIdentifier", identifiers)?;
    match artifacts.iter().any(|artifacts| artifacts.r#type == Some(ArtifactsType::Codepipeline)) {
        true => Error::invalid("CODEPIPELINE artifacts cannot be secondary artifacts"),
        false => Ok(()),
    }
}

/// COMPAT: AP-028, SA-041 a version is that of a secondary source, which has but one.
pub(crate) fn check_versions(versions: &[ProjectSourceVersion], sources: &[ProjectSource]) -> Result<()> {
    let identifiers = versions.iter().map(|version| version.source_identifier.as_deref());
    check_unique("secondarySourceVersions", "sourceIdentifier", identifiers)?;
    match versions.iter().find(|version| !is_of_one(version, sources)) {
        Some(stray) => {
            let identifier = stray.source_identifier.as_deref().unwrap_or_default();
            Error::invalid(format!(
                "Invalid input: secondarySourceVersions have sourceIdentifier {identifier}, and no secondary source has it"
            ))
        }
        None => Ok(()),
    }
}

/// Whether one of these sources is meant.
pub(crate) fn is_of_one(version: &ProjectSourceVersion, sources: &[ProjectSource]) -> bool {
    sources.iter().any(|source| source.source_identifier == version.source_identifier)
}

fn check_unique<'a>(
    list: &str,
    member: &str,
    identifiers: impl Iterator<Item = Option<&'a str>>,
) -> Result<()> {
    let mut seen = BTreeSet::new();
    for identifier in identifiers {
        let identifier = identifier.unwrap_or_default();
        if identifier.is_empty() {
            return Error::invalid(format!("Invalid input: all {list} need their {member}"));
        }
        check_identifier(identifier)?;
        if !seen.insert(identifier) {
            return Error::invalid(format!("Invalid input: {list} have {member} {identifier} twice"));
        }
    }
    Ok(())
}

fn check_identifier(text: &str) -> Result<()> {
    /// The guide gives file systems one more, the service's message does not.
    const CHARS_MAX: usize = 127;
    let sound =
        text.len() <= CHARS_MAX && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match sound {
        true => Ok(()),
        false => Error::invalid(
            "Invalid input: identifier must contain only alphanumeric characters and underscores and be less than \
             128 characters in length",
        ),
    }
}

pub(super) fn check_cache(cache: &ProjectCache) -> Result<()> {
    let lacks_location = cache.location.as_deref().is_none_or(str::is_empty);
    match cache.r#type == Some(CacheType::S3) && lacks_location {
        true => Error::invalid("Invalid cache: location is required for cache type S3"),
        false => Ok(()),
    }
}

/// COMPAT: AP-029 all three or none.
fn check_vpc(vpc: Option<&VpcConfig>) -> Result<()> {
    let Some(vpc) = vpc else { return Ok(()) };
    let lacks = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    let missing = match vpc {
        vpc if vpc.vpc_id.as_deref().is_none_or(str::is_empty) => "vpcId",
        vpc if lacks(&vpc.subnets) => "subnets",
        vpc if lacks(&vpc.security_group_ids) => "securityGroupIds",
        vpc => return check_vpc_sizes(vpc),
    };
    Error::invalid(format!("Invalid vpc config: {missing} is required"))
}

/// COMPAT: EN-100.
fn check_vpc_sizes(vpc: &VpcConfig) -> Result<()> {
    const MOST: [(&str, usize); 2] = [("subnets", 16), ("securityGroupIds", 5)];
    let lists = [&vpc.subnets, &vpc.security_group_ids];
    let mut sizes = MOST.iter().zip(lists.map(|list| list.as_ref().map_or(0, Vec::len)));
    match sizes.find(|((_, most), size)| size > most) {
        Some(((name, most), size)) => Error::invalid(format!(
            "Invalid vpc config: {name} has {size} members, and at most {most} are allowed"
        )),
        None => Ok(()),
    }
}

/// COMPAT: SA-061, of which the ARN is understood too.
pub(super) fn check_artifacts_bucket(location: &str) -> Result<()> {
    match super::bucket(location).contains('/') {
        true => Error::invalid(format!(
            "Invalid artifacts: artifacts.location {location} must be the name of a bucket, without a slash; a prefix is \
             artifacts.path"
        )),
        false => Ok(()),
    }
}

/// COMPAT: SA-116.
pub(super) fn check_s3_logs(logs: &S3LogsConfig) -> Result<()> {
    let is_on = logs.status == Some(LogsConfigStatusType::Enabled);
    match is_on && log_object::lacks_location(logs) {
        true => {
            Error::invalid("Invalid input: location is required for logsConfig.s3Logs with status ENABLED")
        }
        false => Ok(()),
    }
}

/// COMPAT: EN-005.
pub(super) fn check_compute(environment: &ProjectEnvironment) -> Result<()> {
    let by_attributes = [ComputeType::AttributeBasedCompute, ComputeType::CustomInstanceType];
    let says_attributes =
        environment.compute_configuration.as_ref().is_some_and(|it| *it != Default::default());
    match says_attributes && !environment.compute_type.as_ref().is_some_and(|it| by_attributes.contains(it)) {
        true => Error::invalid(
            "Invalid input: environment.computeConfiguration is for computeType ATTRIBUTE_BASED_COMPUTE and \
             CUSTOM_INSTANCE_TYPE only",
        ),
        false => Ok(()),
    }
}

/// COMPAT: AP-040 who pulls which image: CodeBuild its own, the service role those that need credentials.
pub(super) fn check_image(environment: &ProjectEnvironment) -> Result<()> {
    let by_role = environment.image_pull_credentials_type == Some(ImagePullCredentialsType::ServiceRole);
    let is_curated = environment.image.as_deref().is_some_and(curated::is_curated);
    if by_role && is_curated {
        return Error::invalid(
            "Invalid input: cannot use a CodeBuild curated image with imagePullCredentialsType SERVICE_ROLE",
        );
    }
    if !by_role && environment.registry_credential.is_some() {
        return Error::invalid(
            "Invalid input: registryCredential needs imagePullCredentialsType SERVICE_ROLE",
        );
    }
    // COMPAT: EN-025.
    if environment.registry_credential.is_some() && environment.image.as_deref().is_some_and(is_in_ecr) {
        return Error::invalid("Invalid input: registryCredential cannot be used with an Amazon ECR image");
    }
    Ok(())
}

/// An account's own registry at AWS.
fn is_in_ecr(image: &str) -> bool {
    let host = image.split('/').next().unwrap_or_default();
    host.contains(".dkr.ecr.") && (host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn"))
}

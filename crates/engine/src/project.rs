//! Projects: what CreateProject and UpdateProject make of their input. Pure.
//!
//! What can be stored is decided here, by CodeBuild's rules; what can *run* is decided when a build starts, by
//! `plan`, because a build may override what its project says.

use api::arn::Resource;
use api::codebuild::{
    ArtifactNamespace, ArtifactPackaging, ArtifactsType, CacheType, CloudWatchLogsConfig, CreateProjectInput,
    ImagePullCredentialsType, LogsConfig, LogsConfigStatusType, Project, ProjectArtifacts, ProjectBadge,
    ProjectCache, ProjectEnvironment, ProjectSource, ProjectVisibilityType, S3LogsConfig, SourceType,
    UpdateProjectInput, VpcConfig,
};
use api::{AccountId, Arn, Region, Timestamp};
use source::{Location, Provider};

use crate::error::{Error, Result};
use crate::retry;

pub(crate) mod rules;
#[cfg(test)]
mod tests;

const TIMEOUT_MINUTES: i32 = 60;
const QUEUED_TIMEOUT_MINUTES: i32 = 480;

/// Where and when a project is made or changed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting<'a> {
    pub(crate) region: &'a Region,
    pub(crate) account: &'a AccountId,
    pub(crate) now_ms: i64,
    /// No project's `concurrentBuildLimit` may exceed it (AP-041).
    pub(crate) concurrent_builds: usize,
    /// Where CodeCommit is, beside AWS's own places.
    pub(crate) codecommit: Option<&'a str>,
}

/// The project that CreateProject makes, with every default filled in (AP-053).
pub(crate) fn create(input: CreateProjectInput, setting: Setting<'_>) -> Result<Project> {
    let name = required(input.name, "name")?;
    let now = Timestamp::from_millis(setting.now_ms);
    let project = Project {
        arn: Some(Arn::codebuild(setting.region, setting.account, Resource::Project(&name)).to_string()),
        description: input.description,
        source: Some(required(input.source, "source")?),
        secondary_sources: input.secondary_sources,
        source_version: input.source_version,
        secondary_source_versions: input.secondary_source_versions,
        artifacts: Some(required(input.artifacts, "artifacts")?),
        secondary_artifacts: input.secondary_artifacts,
        cache: input.cache,
        environment: Some(required(input.environment, "environment")?),
        service_role: Some(required(input.service_role, "serviceRole")?),
        timeout_in_minutes: input.timeout_in_minutes,
        queued_timeout_in_minutes: input.queued_timeout_in_minutes,
        encryption_key: input.encryption_key,
        tags: input.tags,
        created: Some(now),
        last_modified: Some(now),
        vpc_config: input.vpc_config,
        badge: Some(badge(input.badge_enabled.unwrap_or(false))?),
        logs_config: input.logs_config,
        file_system_locations: input.file_system_locations,
        build_batch_config: input.build_batch_config,
        concurrent_build_limit: input.concurrent_build_limit,
        project_visibility: Some(ProjectVisibilityType::Private),
        auto_retry_limit: input.auto_retry_limit,
        name: Some(name),
        ..Project::default()
    };
    complete(project, setting)
}

/// The project after UpdateProject: members not sent stay, members sent replace (AP-061).
pub(crate) fn update(project: Project, input: UpdateProjectInput, setting: Setting<'_>) -> Result<Project> {
    let project = Project {
        description: input.description.or(project.description),
        source: input.source.or(project.source),
        secondary_sources: input.secondary_sources.or(project.secondary_sources),
        source_version: input.source_version.or(project.source_version),
        secondary_source_versions: input.secondary_source_versions.or(project.secondary_source_versions),
        artifacts: input.artifacts.or(project.artifacts),
        secondary_artifacts: input.secondary_artifacts.or(project.secondary_artifacts),
        cache: input.cache.or(project.cache),
        environment: input.environment.or(project.environment),
        service_role: input.service_role.or(project.service_role),
        timeout_in_minutes: input.timeout_in_minutes.or(project.timeout_in_minutes),
        queued_timeout_in_minutes: input.queued_timeout_in_minutes.or(project.queued_timeout_in_minutes),
        encryption_key: input.encryption_key.or(project.encryption_key),
        tags: input.tags.or(project.tags),
        last_modified: Some(Timestamp::from_millis(setting.now_ms)),
        vpc_config: input.vpc_config.or(project.vpc_config),
        badge: input.badge_enabled.map(badge).transpose()?.or(project.badge),
        logs_config: input.logs_config.or(project.logs_config),
        file_system_locations: input.file_system_locations.or(project.file_system_locations),
        build_batch_config: input.build_batch_config.or(project.build_batch_config),
        concurrent_build_limit: input.concurrent_build_limit.or(project.concurrent_build_limit),
        auto_retry_limit: input.auto_retry_limit.or(project.auto_retry_limit),
        ..project
    };
    complete(project, setting)
}

/// Checks a project and fills in what was left out. Completing a complete project changes nothing.
fn complete(project: Project, setting: Setting<'_>) -> Result<Project> {
    // COMPAT: AP-061 an empty structure, or text, takes away what was there.
    let project = Project {
        vpc_config: project.vpc_config.filter(|vpc| *vpc != VpcConfig::default()),
        build_batch_config: project.build_batch_config.filter(|batch| *batch != Default::default()),
        source_version: project.source_version.filter(|version| !version.is_empty()),
        ..project
    };
    rules::check(&project)?;
    let name = required(project.name, "name")?;
    let secondary_sources = project.secondary_sources.unwrap_or_default();
    let versions = project.secondary_source_versions.unwrap_or_default();
    rules::check_versions(&versions, &secondary_sources)?;
    let secondary_artifacts = project.secondary_artifacts.unwrap_or_default();
    Ok(Project {
        source: Some(complete_source(required(project.source, "source")?, setting)?),
        secondary_sources: Some(complete_secondary_sources(secondary_sources, setting)?),
        secondary_source_versions: Some(versions),
        artifacts: Some(complete_artifacts(required(project.artifacts, "artifacts")?, &name)?),
        secondary_artifacts: Some(complete_secondary_artifacts(secondary_artifacts, &name)?),
        cache: Some(complete_cache(project.cache.unwrap_or_else(no_cache))?),
        environment: Some(complete_environment(required(project.environment, "environment")?)?),
        service_role: Some(role_arn(&required(project.service_role, "serviceRole")?, setting)?),
        timeout_in_minutes: project.timeout_in_minutes.or(Some(TIMEOUT_MINUTES)),
        queued_timeout_in_minutes: project.queued_timeout_in_minutes.or(Some(QUEUED_TIMEOUT_MINUTES)),
        encryption_key: Some(encryption_key(project.encryption_key, setting)),
        tags: Some(project.tags.unwrap_or_default()),
        logs_config: Some(complete_logs(project.logs_config.unwrap_or_default())?),
        concurrent_build_limit: concurrent_limit(project.concurrent_build_limit, setting)?,
        auto_retry_limit: retry::check_limit(project.auto_retry_limit)?,
        name: Some(name),
        ..project
    })
}

/// The member, which the model calls required and the front has checked to be there.
pub(crate) fn required<T>(member: Option<T>, name: &str) -> Result<T> {
    member.ok_or_else(|| Error::InvalidInput(format!("{name} is required")))
}

/// IN-094: there are none.
fn badge(enabled: bool) -> Result<ProjectBadge> {
    match enabled {
        true => Error::not_available("badgeEnabled", "true"),
        false => Ok(ProjectBadge { badge_enabled: Some(false), badge_request_url: None }),
    }
}

/// Checks a source and fills in its defaults (AP-050).
pub(crate) fn complete_source(source: ProjectSource, setting: Setting<'_>) -> Result<ProjectSource> {
    let kind = required(source.r#type.clone(), "source.type")?;
    if let SourceType::Unknown(_) = kind {
        return Error::invalid("Invalid type provided: Project source type");
    }
    let needs_location = !matches!(kind, SourceType::Codepipeline | SourceType::NoSource);
    if needs_location && source.location.as_deref().is_none_or(str::is_empty) {
        return Error::invalid("Project source location is required");
    }
    let location = source.location.as_deref().unwrap_or_default();
    check_repository(&kind, location, setting)?;
    if kind == SourceType::S3 && s3_location(location).is_none() {
        return Error::invalid("Invalid project source: location must be a valid S3 source");
    }
    let has_status = matches!(
        kind,
        SourceType::Github
            | SourceType::GithubEnterprise
            | SourceType::Bitbucket
            | SourceType::Gitlab
            | SourceType::GitlabSelfManaged
    );
    if source.report_build_status == Some(true) && !has_status {
        // COMPAT: AP-039.
        return Error::invalid(format!("reportBuildStatus is not supported for source type {kind}"));
    }
    Ok(ProjectSource {
        report_build_status: Some(source.report_build_status.unwrap_or(false)),
        insecure_ssl: Some(source.insecure_ssl.unwrap_or(false)),
        ..source
    })
}

/// Who keeps the repositories of git sources; `None` for other sources.
pub(crate) fn provider(kind: &SourceType) -> Option<Provider> {
    match kind {
        SourceType::Codecommit => Some(Provider::CodeCommit),
        SourceType::Github => Some(Provider::GitHub),
        SourceType::GithubEnterprise => Some(Provider::GitHubEnterprise),
        SourceType::Gitlab => Some(Provider::GitLab),
        SourceType::GitlabSelfManaged => Some(Provider::GitLabSelfManaged),
        SourceType::Bitbucket => Some(Provider::Bitbucket),
        _ => None,
    }
}

/// COMPAT: SA-003.
fn check_repository(kind: &SourceType, location: &str, setting: Setting<'_>) -> Result<()> {
    let Some(provider) = provider(kind) else { return Ok(()) };
    let is_elsewhere = provider == Provider::CodeCommit
        && setting.codecommit.is_some_and(|origin| location.starts_with(&format!("{origin}/v1/repos/")));
    match Location::of(if is_elsewhere { Provider::Any } else { provider }, location) {
        Ok(_) => Ok(()),
        Err(error) => {
            Error::invalid(format!("Invalid project source: location must be a valid {kind} source: {error}"))
        }
    }
}

/// Bucket and key, or prefix, of an S3 source. COMPAT: SA-004 `bucket/key`, or its ARN.
pub(crate) fn s3_location(location: &str) -> Option<(String, String)> {
    let plain = match location.parse::<Arn>() {
        Ok(arn) if arn.service() == "s3" => arn.resource().to_string(),
        _ => location.to_string(),
    };
    let (bucket, key) = plain.split_once('/')?;
    // What has a colon is a URL, or the ARN of something else.
    (!bucket.is_empty() && !bucket.contains(':')).then(|| (bucket.to_string(), key.to_string()))
}

/// Where artifacts go: a bucket's name (SA-061); its ARN is understood too.
pub(crate) fn bucket(location: &str) -> &str {
    location.strip_prefix("arn:aws:s3:::").unwrap_or(location)
}

/// Checks secondary sources, one by one and all together, and fills in their defaults.
pub(crate) fn complete_secondary_sources(
    sources: Vec<ProjectSource>,
    setting: Setting<'_>,
) -> Result<Vec<ProjectSource>> {
    rules::check_secondary_sources(&sources)?;
    sources.into_iter().map(|source| complete_source(source, setting)).collect()
}

/// As [`complete_secondary_sources`]. Those that nothing names are called by their identifier, lest two lie at one place.
pub(crate) fn complete_secondary_artifacts(
    artifacts: Vec<ProjectArtifacts>,
    project: &str,
) -> Result<Vec<ProjectArtifacts>> {
    rules::check_secondary_artifacts(&artifacts)?;
    let complete = |artifacts: ProjectArtifacts| {
        let identifier = artifacts.artifact_identifier.clone();
        complete_artifacts(artifacts, identifier.as_deref().unwrap_or(project))
    };
    artifacts.into_iter().map(complete).collect()
}

/// Checks artifacts and fills in their defaults (SA-062); what nothing names is called `fallback`.
pub(crate) fn complete_artifacts(artifacts: ProjectArtifacts, fallback: &str) -> Result<ProjectArtifacts> {
    rules::check_artifact_identifier(&artifacts)?;
    match required(artifacts.r#type.clone(), "artifacts.type")? {
        ArtifactsType::S3 => complete_s3_artifacts(artifacts, fallback),
        ArtifactsType::Unknown(_) => Error::invalid("Invalid type provided: Artifact type"),
        kind => {
            check_unused_artifact_members(&artifacts, &kind)?;
            Ok(artifacts)
        }
    }
}

fn complete_s3_artifacts(artifacts: ProjectArtifacts, fallback: &str) -> Result<ProjectArtifacts> {
    if artifacts.location.as_deref().is_none_or(str::is_empty) {
        return Error::invalid("Invalid artifacts: location is required for artifact type S3");
    }
    rules::check_artifacts_bucket(artifacts.location.as_deref().unwrap_or_default())?;
    let given = artifacts.name.filter(|name| !name.is_empty());
    Ok(ProjectArtifacts {
        name: given.or_else(|| Some(fallback.to_string())),
        namespace_type: artifacts.namespace_type.or(Some(ArtifactNamespace::None)),
        packaging: artifacts.packaging.or(Some(ArtifactPackaging::None)),
        encryption_disabled: artifacts.encryption_disabled.or(Some(false)),
        ..artifacts
    })
}

fn check_unused_artifact_members(artifacts: &ProjectArtifacts, kind: &ArtifactsType) -> Result<()> {
    if *kind == ArtifactsType::NoArtifacts && artifacts.location.as_deref().is_some_and(|l| !l.is_empty()) {
        return Error::invalid("Invalid artifacts: artifact type NO_ARTIFACTS should have null location");
    }
    if artifacts.encryption_disabled == Some(true) {
        // COMPAT: SA-063.
        return Error::invalid(format!(
            "Invalid artifacts: encryptionDisabled is not for artifact type {kind}"
        ));
    }
    Ok(())
}

pub(crate) fn complete_cache(cache: ProjectCache) -> Result<ProjectCache> {
    rules::check_cache(&cache)?;
    Ok(cache)
}

pub(crate) fn no_cache() -> ProjectCache {
    ProjectCache { r#type: Some(CacheType::NoCache), ..ProjectCache::default() }
}

/// Checks an environment and fills in its defaults (AP-050).
pub(crate) fn complete_environment(environment: ProjectEnvironment) -> Result<ProjectEnvironment> {
    rules::check_image(&environment)?;
    rules::check_compute(&environment)?;
    let credentials = environment.image_pull_credentials_type;
    Ok(ProjectEnvironment {
        environment_variables: Some(environment.environment_variables.unwrap_or_default()),
        privileged_mode: Some(environment.privileged_mode.unwrap_or(false)),
        image_pull_credentials_type: credentials.or(Some(ImagePullCredentialsType::Codebuild)),
        ..environment
    })
}

/// COMPAT: SA-110 CloudWatch Logs are on and S3 logs off unless said otherwise.
pub(crate) fn complete_logs(logs: LogsConfig) -> Result<LogsConfig> {
    let enabled = || CloudWatchLogsConfig {
        status: Some(LogsConfigStatusType::Enabled),
        ..CloudWatchLogsConfig::default()
    };
    let disabled = || S3LogsConfig {
        status: Some(LogsConfigStatusType::Disabled),
        encryption_disabled: Some(false),
        ..S3LogsConfig::default()
    };
    let s3_logs = logs.s3_logs.unwrap_or_else(disabled);
    rules::check_s3_logs(&s3_logs)?;
    let cloud_watch_logs = logs.cloud_watch_logs.unwrap_or_else(enabled);
    Ok(LogsConfig { cloud_watch_logs: Some(cloud_watch_logs), s3_logs: Some(s3_logs) })
}

/// A role's ARN, from the ARN or from the bare name. Only its form is checked: roles live elsewhere.
pub(crate) fn role_arn(role: &str, setting: Setting<'_>) -> Result<String> {
    let (partition, account) = (setting.region.partition(), setting.account);
    let whole = match role.starts_with("arn:") {
        true => role.to_string(),
        false => format!("arn:{partition}:iam::{account}:role/{role}"),
    };
    let arn: Option<Arn> = whole.parse().ok();
    match arn {
        // COMPAT: AP-037.
        Some(arn) if !arn.is_in_partition_of(setting.region) => {
            let partition = setting.region.partition();
            Error::invalid(format!("Invalid service role: {role} is not in the partition {partition}"))
        }
        Some(arn) if is_role(&arn) && arn.account() != setting.account.as_str() => {
            Error::invalid("Invalid service role: Service role account ID does not match caller's account")
        }
        Some(arn) if is_role(&arn) => Ok(whole),
        _ => Error::invalid(format!("Invalid service role: {role} is not the ARN of a role")),
    }
}

fn is_role(arn: &Arn) -> bool {
    let name = arn.resource().strip_prefix("role/").and_then(|path| path.rsplit('/').next());
    arn.service() == "iam" && arn.region().is_empty() && name.is_some_and(|name| !name.is_empty())
}

pub(crate) fn encryption_key(key: Option<String>, setting: Setting<'_>) -> String {
    key.unwrap_or_else(|| Arn::default_encryption_key(setting.region, setting.account).to_string())
}

/// COMPAT: AP-041, LC-066 -1 removes the limit.
fn concurrent_limit(limit: Option<i32>, setting: Setting<'_>) -> Result<Option<i32>> {
    match limit {
        None | Some(-1) => Ok(None),
        Some(limit) if limit < 1 => Error::invalid("Invalid concurrentBuildLimit: it must be at least 1"),
        Some(limit) if usize::try_from(limit).is_ok_and(|limit| limit > setting.concurrent_builds) => {
            let most = setting.concurrent_builds;
            Error::invalid(format!("Invalid concurrentBuildLimit: the account limit is {most}"))
        }
        limit => Ok(limit),
    }
}

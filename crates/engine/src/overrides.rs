//! What a build changes of its project: StartBuild's overrides. Pure.
//!
//! The result is again a project, of which the build is then planned; a retry starts from it. All that a build can change
//! satisfies the rules that CreateProject has for it, and what does not is refused by the override's name. What belongs to a
//! pipeline is refused as a whole by `plan`.

use std::collections::BTreeMap;

use api::codebuild::{
    EnvironmentVariable, LogsConfig, Project, ProjectArtifacts, ProjectCache, ProjectEnvironment,
    ProjectSource, ProjectSourceVersion, StartBuildInput,
};

use crate::error::{Error, Result};
use crate::project::{self, Setting, rules};
use crate::retry;

/// The project as this build sees it.
pub(crate) fn apply(project: Project, over: StartBuildInput, setting: Setting<'_>) -> Result<Project> {
    let name = project.name.clone().unwrap_or_default();
    let source = source(project.source.unwrap_or_default(), &over, setting)?;
    let environment = environment(project.environment.unwrap_or_default(), &over)?;
    let sources = secondary_sources(project.secondary_sources, over.secondary_sources_override, setting)?;
    let versions =
        versions(project.secondary_source_versions, over.secondary_sources_version_override, &sources)?;
    Ok(Project {
        source: Some(source),
        environment: Some(environment),
        secondary_sources: Some(sources),
        source_version: over.source_version.filter(|version| !version.is_empty()).or(project.source_version),
        secondary_source_versions: Some(versions),
        artifacts: Some(artifacts(project.artifacts, over.artifacts_override, &name)?),
        secondary_artifacts: Some(secondary_artifacts(
            project.secondary_artifacts,
            over.secondary_artifacts_override,
            &name,
        )?),
        cache: Some(cache(project.cache, over.cache_override)?),
        service_role: service_role(project.service_role, over.service_role_override, setting)?,
        timeout_in_minutes: over.timeout_in_minutes_override.or(project.timeout_in_minutes),
        queued_timeout_in_minutes: over
            .queued_timeout_in_minutes_override
            .or(project.queued_timeout_in_minutes),
        encryption_key: over.encryption_key_override.or(project.encryption_key),
        logs_config: Some(logs(project.logs_config, over.logs_config_override)?),
        auto_retry_limit: auto_retry_limit(project.auto_retry_limit, over.auto_retry_limit_override)?,
        ..project
    })
}

/// What is made of the override if there is one, or else of what the project says.
fn either<T, U>(
    over: Option<T>,
    member: &str,
    of_project: impl FnOnce() -> T,
    make: impl FnOnce(T) -> Result<U>,
) -> Result<U> {
    match over {
        Some(over) => make(over).map_err(|error| error.within(member)),
        None => make(of_project()),
    }
}

fn secondary_sources(
    of_project: Option<Vec<ProjectSource>>,
    over: Option<Vec<ProjectSource>>,
    setting: Setting<'_>,
) -> Result<Vec<ProjectSource>> {
    let make = |sources| project::complete_secondary_sources(sources, setting);
    either(over, "secondarySourcesOverride", || of_project.unwrap_or_default(), make)
}

/// COMPAT: AP-070, SA-041 an empty override means none; the project's are those of the sources that this build has.
fn versions(
    of_project: Option<Vec<ProjectSourceVersion>>,
    over: Option<Vec<ProjectSourceVersion>>,
    sources: &[ProjectSource],
) -> Result<Vec<ProjectSourceVersion>> {
    let Some(over) = over else {
        let of_project = of_project.unwrap_or_default().into_iter();
        return Ok(of_project.filter(|version| rules::is_of_one(version, sources)).collect());
    };
    let checked = rules::check_versions(&over, sources);
    checked.map_err(|error| error.within("secondarySourcesVersionOverride")).map(|()| over)
}

fn artifacts(
    of_project: Option<ProjectArtifacts>,
    over: Option<ProjectArtifacts>,
    name: &str,
) -> Result<ProjectArtifacts> {
    let make = |artifacts| project::complete_artifacts(artifacts, name);
    either(over, "artifactsOverride", || of_project.unwrap_or_default(), make)
}

fn secondary_artifacts(
    of_project: Option<Vec<ProjectArtifacts>>,
    over: Option<Vec<ProjectArtifacts>>,
    name: &str,
) -> Result<Vec<ProjectArtifacts>> {
    let make = |artifacts| project::complete_secondary_artifacts(artifacts, name);
    either(over, "secondaryArtifactsOverride", || of_project.unwrap_or_default(), make)
}

fn cache(of_project: Option<ProjectCache>, over: Option<ProjectCache>) -> Result<ProjectCache> {
    let of_project = || of_project.unwrap_or_else(project::no_cache);
    either(over, "cacheOverride", of_project, project::complete_cache)
}

fn logs(of_project: Option<LogsConfig>, over: Option<LogsConfig>) -> Result<LogsConfig> {
    either(over, "logsConfigOverride", || of_project.unwrap_or_default(), project::complete_logs)
}

fn service_role(
    of_project: Option<String>,
    over: Option<String>,
    setting: Setting<'_>,
) -> Result<Option<String>> {
    let over = over.map(|role| project::role_arn(&role, setting)).transpose();
    Ok(over.map_err(|error| error.within("serviceRoleOverride"))?.or(of_project))
}

fn auto_retry_limit(of_project: Option<i32>, over: Option<i32>) -> Result<Option<i32>> {
    let over = retry::check_limit(over).map_err(|error| error.within("autoRetryLimitOverride"));
    Ok(over?.or(of_project))
}

fn source(source: ProjectSource, over: &StartBuildInput, setting: Setting<'_>) -> Result<ProjectSource> {
    let source = ProjectSource {
        r#type: over.source_type_override.clone().or(source.r#type),
        location: over.source_location_override.clone().or(source.location),
        git_clone_depth: over.git_clone_depth_override.or(source.git_clone_depth),
        git_submodules_config: over.git_submodules_config_override.clone().or(source.git_submodules_config),
        // COMPAT: AP-070 an empty override means the default file, not the project's buildspec.
        buildspec: over.buildspec_override.clone().or(source.buildspec),
        auth: over.source_auth_override.clone().or(source.auth),
        report_build_status: over.report_build_status_override.or(source.report_build_status),
        build_status_config: over.build_status_config_override.clone().or(source.build_status_config),
        insecure_ssl: over.insecure_ssl_override.or(source.insecure_ssl),
        source_identifier: source.source_identifier,
    };
    let given = [
        ("sourceTypeOverride", over.source_type_override.is_some()),
        ("sourceLocationOverride", over.source_location_override.is_some()),
        ("reportBuildStatusOverride", over.report_build_status_override.is_some()),
    ];
    project::complete_source(source, setting).map_err(|error| told_by(error, &given))
}

fn environment(environment: ProjectEnvironment, over: &StartBuildInput) -> Result<ProjectEnvironment> {
    let variables = environment.environment_variables.unwrap_or_default();
    let overrides = over.environment_variables_override.clone().unwrap_or_default();
    let environment = ProjectEnvironment {
        r#type: over.environment_type_override.clone().or(environment.r#type),
        image: over.image_override.clone().or(environment.image),
        compute_type: over.compute_type_override.clone().or(environment.compute_type),
        fleet: over.fleet_override.clone().or(environment.fleet),
        environment_variables: Some(merge(variables, overrides)),
        // COMPAT: AP-072 an explicit false counts.
        privileged_mode: over.privileged_mode_override.or(environment.privileged_mode),
        certificate: over.certificate_override.clone().or(environment.certificate),
        registry_credential: over.registry_credential_override.clone().or(environment.registry_credential),
        image_pull_credentials_type: over
            .image_pull_credentials_type_override
            .clone()
            .or(environment.image_pull_credentials_type),
        host_kernel: over.host_kernel_override.clone().or(environment.host_kernel),
        ..environment
    };
    let given = [
        ("imageOverride", over.image_override.is_some()),
        ("computeTypeOverride", over.compute_type_override.is_some()),
        ("registryCredentialOverride", over.registry_credential_override.is_some()),
        ("imagePullCredentialsTypeOverride", over.image_pull_credentials_type_override.is_some()),
    ];
    project::complete_environment(environment).map_err(|error| told_by(error, &given))
}

/// The refusal, told by those of these overrides that were given: what they make together is wrong.
fn told_by(error: Error, overrides: &[(&str, bool)]) -> Error {
    let given = overrides.iter().filter(|(_, is_given)| *is_given).map(|(member, _)| *member);
    match given.collect::<Vec<_>>().join(", ") {
        given if given.is_empty() => error,
        given => error.within(&given),
    }
}

/// COMPAT: AP-011, BS-044 variables are merged by name; the override wins, and the project's order stays.
fn merge(
    variables: Vec<EnvironmentVariable>,
    overrides: Vec<EnvironmentVariable>,
) -> Vec<EnvironmentVariable> {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut merged: Vec<EnvironmentVariable> = Vec::new();
    for variable in variables.into_iter().chain(overrides) {
        let name = variable.name.clone().unwrap_or_default();
        match places.get(&name) {
            Some(place) => merged[*place] = variable,
            None => {
                places.insert(name, merged.len());
                merged.push(variable);
            }
        }
    }
    merged
}

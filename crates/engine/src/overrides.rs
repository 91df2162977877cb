//! What a build changes of its project: StartBuild's overrides. Pure.
//!
//! The result is again a project, of which the build is then planned; a retry starts from it.

use std::collections::BTreeMap;

use api::codebuild::{
    EnvironmentVariable, Project, ProjectEnvironment, ProjectSource, ProjectSourceVersion, StartBuildInput,
};

use crate::error::Result;
use crate::project::{self, Setting};
use crate::retry;

/// The project as this build sees it.
pub(crate) fn apply(project: Project, over: StartBuildInput, setting: Setting<'_>) -> Result<Project> {
    let name = project.name.clone().unwrap_or_default();
    let source = source(project.source.unwrap_or_default(), &over);
    let environment = environment(project.environment.unwrap_or_default(), &over);
    let secondary_sources = over.secondary_sources_override.or(project.secondary_sources);
    let complete_source = |source| project::complete_source(source, setting);
    let secondary_sources = secondary_sources.unwrap_or_default().into_iter().map(complete_source);
    let secondary_artifacts = over.secondary_artifacts_override.or(project.secondary_artifacts);
    let secondary_artifacts = secondary_artifacts.unwrap_or_default().into_iter();
    let secondary_artifacts = secondary_artifacts.map(|one| project::complete_secondary(one, &name));
    let artifacts = over.artifacts_override.or(project.artifacts).unwrap_or_default();
    let role = over.service_role_override.map(|role| project::role_arn(&role, setting)).transpose()?;
    Ok(Project {
        source: Some(complete_source(source)?),
        secondary_sources: Some(secondary_sources.collect::<Result<_>>()?),
        source_version: over.source_version.filter(|version| !version.is_empty()).or(project.source_version),
        secondary_source_versions: versions(over.secondary_sources_version_override)
            .or(project.secondary_source_versions),
        artifacts: Some(project::complete_artifacts(artifacts, &name)?),
        secondary_artifacts: Some(secondary_artifacts.collect::<Result<_>>()?),
        cache: Some(project::complete_cache(over.cache_override.or(project.cache))),
        environment: Some(project::complete_environment(environment)?),
        service_role: role.or(project.service_role),
        timeout_in_minutes: over.timeout_in_minutes_override.or(project.timeout_in_minutes),
        queued_timeout_in_minutes: over
            .queued_timeout_in_minutes_override
            .or(project.queued_timeout_in_minutes),
        encryption_key: over.encryption_key_override.or(project.encryption_key),
        logs_config: Some(project::complete_logs(over.logs_config_override.or(project.logs_config))),
        auto_retry_limit: retry::check_limit(over.auto_retry_limit_override)?.or(project.auto_retry_limit),
        ..project
    })
}

fn versions(versions: Option<Vec<ProjectSourceVersion>>) -> Option<Vec<ProjectSourceVersion>> {
    versions.filter(|versions| !versions.is_empty())
}

fn source(source: ProjectSource, over: &StartBuildInput) -> ProjectSource {
    ProjectSource {
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
    }
}

fn environment(environment: ProjectEnvironment, over: &StartBuildInput) -> ProjectEnvironment {
    let variables = environment.environment_variables.unwrap_or_default();
    let overrides = over.environment_variables_override.clone().unwrap_or_default();
    ProjectEnvironment {
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

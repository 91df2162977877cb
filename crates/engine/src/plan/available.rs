//! What cannot run in this version, refused by name rather than run differently than asked.

use api::codebuild::{ArtifactsType, Project, ProjectEnvironment, SourceType};

use super::environment;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::project;

/// Checks the project as the build sees it.
pub(super) fn check(settings: &Project, config: &Config) -> Result<()> {
    check_source(settings)?;
    check_environment(settings.environment.as_ref(), config)?;
    check_artifacts(settings)?;
    check_surroundings(settings, config)
}

fn check_source(settings: &Project) -> Result<()> {
    let all = settings.source.iter().chain(settings.secondary_sources.iter().flatten());
    let mut kinds = all.map(|source| source.r#type.as_ref());
    match kinds.find(|kind| !matches!(kind, Some(kind) if is_available(kind))) {
        None => Ok(()),
        Some(Some(kind)) => Error::not_available("source.type", kind.as_str()),
        Some(None) => Error::invalid("source.type is required"),
    }
}

fn is_available(kind: &SourceType) -> bool {
    matches!(kind, SourceType::S3 | SourceType::NoSource) || project::provider(kind).is_some()
}

fn check_environment(environment: Option<&ProjectEnvironment>, config: &Config) -> Result<()> {
    let Some(environment) = environment else { return Error::invalid("environment is required") };
    if let Some(kind) = environment.r#type.as_ref().filter(|kind| !config.environment_types.contains(kind)) {
        return Error::not_available("environment.type", kind.as_str());
    }
    if let Some(compute) =
        environment.compute_type.as_ref().filter(|compute| !super::is_compute_type(compute))
    {
        return Error::not_available("environment.computeType", compute.as_str());
    }
    if environment.privileged_mode == Some(true) && !config.privileged {
        return Error::not_available("environment.privilegedMode", "true");
    }
    if let Some(certificate) = environment.certificate.as_deref().filter(|text| !text.is_empty()) {
        return Error::not_available("environment.certificate", certificate);
    }
    if let Some(arn) = environment.fleet.as_ref().and_then(|fleet| fleet.fleet_arn.as_deref()) {
        return Error::not_available("environment.fleet", arn);
    }
    if environment.docker_server.is_some() {
        return Error::not_available("environment.dockerServer", "");
    }
    Ok(())
}

fn check_artifacts(settings: &Project) -> Result<()> {
    let all = settings.artifacts.iter().chain(settings.secondary_artifacts.iter().flatten());
    let mut kinds = all.filter_map(|artifacts| artifacts.r#type.as_ref());
    match kinds.find(|kind| !matches!(kind, ArtifactsType::S3 | ArtifactsType::NoArtifacts)) {
        Some(kind) => Error::not_available("artifacts.type", kind.as_str()),
        None => Ok(()),
    }
}

/// Networks and file systems.
fn check_surroundings(settings: &Project, config: &Config) -> Result<()> {
    if let Some(vpc) = environment::vpc(settings).filter(|_| config.vpc_network.is_none()) {
        return Error::not_available("vpcConfig", vpc);
    }
    if let Some([first, ..]) = settings.file_system_locations.as_deref() {
        let identifier = first.identifier.as_deref().unwrap_or_default();
        return Error::not_available("fileSystemLocations", identifier);
    }
    Ok(())
}

//! Where a build's artifacts go.

use agent::plan::{ArtifactTarget, Artifacts};
use api::codebuild::{ArtifactNamespace, ArtifactPackaging, ArtifactsType, Project, ProjectArtifacts};

use crate::config::Config;
use crate::error::Result;
use crate::project::{bucket, required};

pub(super) fn artifacts(settings: &Project, build_arn: &str, config: &Config) -> Result<Artifacts> {
    let primary = settings.artifacts.iter().filter(|artifacts| is_s3(artifacts));
    let key = settings.encryption_key.as_deref();
    let primary = primary.map(|artifacts| target(artifacts, None, build_arn, key)).next().transpose()?;
    let secondary = settings.secondary_artifacts.iter().flatten().filter(|artifacts| is_s3(artifacts));
    let secondary = secondary
        .map(|artifacts| target(artifacts, artifacts.artifact_identifier.clone(), build_arn, key))
        .collect::<Result<Vec<_>>>()?;
    if primary.is_none() && secondary.is_empty() {
        return Ok(Artifacts::None);
    }
    Ok(Artifacts::Objects { objects: config.objects.clone(), primary, secondary })
}

fn is_s3(artifacts: &ProjectArtifacts) -> bool {
    artifacts.r#type == Some(ArtifactsType::S3)
}

fn target(
    artifacts: &ProjectArtifacts,
    identifier: Option<String>,
    build_arn: &str,
    key: Option<&str>,
) -> Result<ArtifactTarget> {
    Ok(ArtifactTarget {
        identifier,
        bucket: bucket(required(artifacts.location.as_deref(), "artifacts.location")?).to_string(),
        path: artifacts.path.clone().unwrap_or_default(),
        name: required(artifacts.name.clone(), "artifacts.name")?,
        namespace_build_id: artifacts.namespace_type == Some(ArtifactNamespace::BuildId),
        zip: artifacts.packaging == Some(ArtifactPackaging::Zip),
        override_name: artifacts.override_artifact_name == Some(true),
        build_arn: build_arn.to_string(),
        encryption_key: encryption_key(artifacts, key),
    })
}

/// COMPAT: SA-065 the project's key, or S3's own.
fn encryption_key(artifacts: &ProjectArtifacts, key: Option<&str>) -> Option<String> {
    let is_wanted = artifacts.encryption_disabled != Some(true);
    key.filter(|_| is_wanted).map(str::to_string)
}

/// The key an artifact is expected at, before the buildspec has its say (SA-070..078).
pub(crate) fn expected_key(target: &ArtifactTarget, uuid: &str) -> String {
    let namespace = if target.namespace_build_id { uuid } else { "" };
    let parts = [target.path.as_str(), namespace, target.name.as_str()];
    let parts = parts.map(|part| part.trim_matches('/'));
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

//! The variables a build finds set.

use std::collections::BTreeMap;

use agent::plan::Reference;
use api::Arn;
use api::arn::Resource;
use api::codebuild::{EnvironmentVariable, EnvironmentVariableType, Project, ProjectSource, SourceType};

use super::Draft;
use crate::config::Config;
use crate::project;

/// The project's and StartBuild's own with a plain value.
pub(super) fn of_project(settings: &Project) -> BTreeMap<String, String> {
    let plain = by_name(settings).into_iter().filter(|(_, variable)| reference(variable).is_none());
    plain.map(|(name, variable)| (name, variable.value.clone().unwrap_or_default())).collect()
}

/// Those whose values are in Parameter Store or Secrets Manager (BS-050).
pub(super) fn references(settings: &Project) -> BTreeMap<String, Reference> {
    let referring = by_name(settings).into_iter();
    referring.filter_map(|(name, variable)| Some((name, reference(variable)?))).collect()
}

/// COMPAT: BS-044 a name counts once over all kinds; overrides were merged into the project before, and of two
/// with one name the last counts.
fn by_name(settings: &Project) -> BTreeMap<String, &EnvironmentVariable> {
    let variables = settings.environment.iter().flat_map(|environment| &environment.environment_variables);
    variables.flatten().filter_map(|variable| Some((variable.name.clone()?, variable))).collect()
}

fn reference(variable: &EnvironmentVariable) -> Option<Reference> {
    let value = variable.value.clone().unwrap_or_default();
    match variable.r#type.as_ref()? {
        EnvironmentVariableType::ParameterStore => Some(Reference::Parameter(value)),
        EnvironmentVariableType::SecretsManager => Some(Reference::Secret(value)),
        EnvironmentVariableType::Plaintext | EnvironmentVariableType::Unknown(_) => None,
    }
}

/// CodeBuild's, as far as they are known before the build starts (EN-040..065). The agent adds those that
/// depend on it, such as `CODEBUILD_SRC_DIR`.
pub(super) fn of_service(draft: &Draft, number: u64, config: &Config) -> BTreeMap<String, String> {
    let (region, account) = (&config.region, &draft.request.account);
    let project = &draft.plan.project_name;
    let environment = draft.settings.environment.as_ref();
    let image = environment.and_then(|environment| environment.image.clone()).unwrap_or_default();
    let log_path = draft.stream().map_or_else(|| draft.plan.uuid.clone(), |stream| stream.name);
    let url = format!(
        "https://{region}.console.aws.amazon.com/codebuild/home?region={region}#/builds/{}/view/new",
        draft.id
    );
    let mut variables: BTreeMap<String, String> = [
        ("AWS_DEFAULT_REGION", region.to_string()),
        ("AWS_REGION", region.to_string()),
        ("CODEBUILD_BUILD_ARN", draft.arn.clone()),
        ("CODEBUILD_BUILD_ID", draft.id.clone()),
        ("CODEBUILD_BUILD_IMAGE", image),
        ("CODEBUILD_BUILD_NUMBER", number.to_string()),
        ("CODEBUILD_BUILD_SUCCEEDING", "1".to_string()),
        ("CODEBUILD_BUILD_URL", url),
        ("CODEBUILD_CI", "true".to_string()),
        ("CODEBUILD_CONTAINER_NAME", "default".to_string()),
        ("CODEBUILD_EXECUTION_ROLE_BUILD", String::new()),
        ("CODEBUILD_INITIATOR", draft.request.initiator.clone()),
        ("CODEBUILD_KMS_KEY_ID", draft.settings.encryption_key.clone().unwrap_or_default()),
        ("CODEBUILD_LAST_EXIT", "0".to_string()),
        ("CODEBUILD_LOG_PATH", log_path),
        ("CODEBUILD_PROJECT_ARN", Arn::codebuild(region, account, Resource::Project(project)).to_string()),
        ("CODEBUILD_START_TIME", draft.request.now_ms.to_string()),
        ("HOME", "/root".to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_string(), value))
    .collect();
    variables.extend(of_source(&draft.settings));
    variables
}

fn of_source(settings: &Project) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    let Some(source) = &settings.source else { return variables };
    if let Some(url) = url(source) {
        variables.insert("CODEBUILD_SOURCE_REPO_URL".to_string(), url);
    }
    if let Some(version) = &settings.source_version {
        variables.insert("CODEBUILD_SOURCE_VERSION".to_string(), version.clone());
    }
    // COMPAT: SA-042, EN-050, EN-051.
    for source in settings.secondary_sources.iter().flatten() {
        let identifier = source.source_identifier.as_deref().unwrap_or_default();
        if let Some(url) = url(source) {
            variables.insert(format!("CODEBUILD_SOURCE_REPO_URL_{identifier}"), url);
        }
    }
    for version in settings.secondary_source_versions.iter().flatten() {
        let identifier = version.source_identifier.as_deref().unwrap_or_default();
        let version = version.source_version.clone().unwrap_or_default();
        variables.insert(format!("CODEBUILD_SOURCE_VERSION_{identifier}"), version);
    }
    variables
}

/// COMPAT: EN-050 a clone URL as it is; an S3 source is shown as `s3://bucket/key`.
fn url(source: &ProjectSource) -> Option<String> {
    let kind = source.r#type.as_ref()?;
    let location = source.location.as_deref().unwrap_or_default();
    if *kind == SourceType::S3 {
        return Some(format!("s3://{}", location.strip_prefix("arn:aws:s3:::").unwrap_or(location)));
    }
    project::provider(kind).map(|_| location.to_string())
}

//! The variables a build finds set.

use std::collections::BTreeMap;

use agent::plan::Reference;
use api::Arn;
use api::arn::Resource;
use api::codebuild::{EnvironmentVariable, EnvironmentVariableType, Project, SourceType};

use super::Draft;
use crate::config::Config;

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
    if source.r#type == Some(SourceType::S3) {
        // COMPAT: EN-050 an S3 source is shown as `s3://bucket/key`.
        let location = source.location.as_deref().unwrap_or_default();
        let plain = location.strip_prefix("arn:aws:s3:::").unwrap_or(location);
        variables.insert("CODEBUILD_SOURCE_REPO_URL".to_string(), format!("s3://{plain}"));
    }
    if let Some(version) = &settings.source_version {
        variables.insert("CODEBUILD_SOURCE_VERSION".to_string(), version.clone());
    }
    variables
}

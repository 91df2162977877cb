//! Secrets Manager over [`store::records::Vault`]: the operations on secrets, their versions and tags.
//!
//! Below: `change` (what makes and alters secrets), `list`. Values are sealed in the vault; keys of KMS are remembered
//! and shown, and used for nothing. Rotation, replicas and policies are not here.
// COMPAT: stages, recovery windows and wordings are Secrets Manager's.

mod change;
mod list;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use api::secretsmanager::*;
use api::{Sensitive, ServiceError, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::records::{Scope, Secret, SecretValue, Selection, Vault};

use crate::keys::Caller;
use crate::reply::Reply;
use crate::time::Clock;

const CURRENT: &str = "AWSCURRENT";
const PREVIOUS: &str = "AWSPREVIOUS";
const TAGS_MAX: usize = 50;

/// The Secrets Manager endpoint. Cheap to clone.
#[derive(Clone)]
pub struct Secrets {
    vault: Vault,
    region: Arc<str>,
    clock: Clock,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("vault", &self.vault).finish_non_exhaustive()
    }
}

/// What is remembered beside a secret's versions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Document {
    description: Option<String>,
    kms_key_id: Option<String>,
    tags: BTreeMap<String, String>,
}

impl Document {
    fn of(secret: &Secret) -> Result<Document, ServiceError> {
        serde_json::from_str(&secret.document).map_err(internal)
    }

    fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts in a map are JSON")
    }

    fn shown_tags(&self) -> Vec<Tag> {
        let tags = self.tags.iter();
        tags.map(|(key, value)| Tag { key: Some(key.clone()), value: Some(value.clone()) }).collect()
    }
}

impl Secrets {
    pub fn new(vault: Vault, region: &str, clock: Clock) -> Secrets {
        Secrets { vault, region: region.into(), clock }
    }

    /// The ARN and the tags of the secret that the caller names so, by name or ARN.
    pub(crate) async fn found(
        &self,
        caller: &Caller,
        named: &str,
    ) -> Result<Option<(String, BTreeMap<String, String>)>, ServiceError> {
        let scope = Scope { account: caller.account.clone(), region: self.region.to_string() };
        let found = self.vault.get_secret(&scope, named, (self.clock)()).await.map_err(error)?;
        found.map(|secret| Ok((arn(&scope, &secret), Document::of(&secret)?.tags))).transpose()
    }

    /// Answers one call.
    pub(crate) async fn answer(
        &self,
        operation: Operation,
        caller: Caller,
        request: Value,
    ) -> Result<Reply, ServiceError> {
        let scope = Scope { account: caller.account, region: self.region.to_string() };
        let call = Call { secrets: self, scope };
        Ok(match operation {
            Operation::CreateSecret => Reply::of(&call.create(typed(request)?).await?),
            Operation::PutSecretValue => Reply::of(&call.put_value(typed(request)?).await?),
            Operation::UpdateSecret => Reply::of(&call.update(typed(request)?).await?),
            Operation::GetSecretValue => Reply::of(&call.get_value(typed(request)?).await?),
            Operation::DescribeSecret => Reply::of(&call.describe(typed(request)?).await?),
            Operation::ListSecrets => Reply::of(&call.list(typed(request)?).await?),
            Operation::DeleteSecret => Reply::of(&call.delete(typed(request)?).await?),
            Operation::RestoreSecret => Reply::of(&call.restore(typed(request)?).await?),
            Operation::TagResource => call.tag(typed(request)?).await.map(|()| Reply::Nothing)?,
            Operation::UntagResource => call.untag(typed(request)?).await.map(|()| Reply::Nothing)?,
        })
    }
}

/// One call: the endpoint and whose secrets it is about.
struct Call<'a> {
    secrets: &'a Secrets,
    scope: Scope,
}

impl Call<'_> {
    fn vault(&self) -> &Vault {
        &self.secrets.vault
    }

    fn now_ms(&self) -> i64 {
        (self.secrets.clock)()
    }

    async fn get_value(
        &self,
        request: GetSecretValueRequest,
    ) -> Result<GetSecretValueResponse, ServiceError> {
        let id = required(request.secret_id)?;
        let selection =
            Selection { stage: request.version_stage.as_deref(), version: request.version_id.as_deref() };
        let found = self.vault().get_secret_value(&self.scope, &id, selection, self.now_ms()).await;
        let (secret, found) = found.map_err(error)?.ok_or_else(not_found)?;
        refuse_deleted(&secret)?;
        let found = found.ok_or_else(|| no_version(selection))?;
        let (text, binary) = shown(found.value);
        let made = secret.versions.get(&found.version).copied().unwrap_or_default();
        Ok(GetSecretValueResponse {
            arn: Some(arn(&self.scope, &secret)),
            name: Some(secret.name.clone()),
            version_stages: Some(secret.stages_of(&found.version)).filter(|stages| !stages.is_empty()),
            version_id: Some(found.version),
            secret_string: text,
            secret_binary: binary,
            created_date: Some(Timestamp::from_millis(made)),
        })
    }

    async fn describe(&self, request: DescribeSecretRequest) -> Result<DescribeSecretResponse, ServiceError> {
        let id = required(request.secret_id)?;
        let found = self.vault().get_secret(&self.scope, &id, self.now_ms()).await.map_err(error)?;
        let secret = found.ok_or_else(not_found)?;
        let document = Document::of(&secret)?;
        let stages = stages_by_version(&secret);
        Ok(DescribeSecretResponse {
            arn: Some(arn(&self.scope, &secret)),
            description: document.description.clone(),
            kms_key_id: document.kms_key_id.clone(),
            tags: Some(document.shown_tags()).filter(|tags| !tags.is_empty()),
            created_date: Some(Timestamp::from_millis(secret.created_ms)),
            last_changed_date: Some(Timestamp::from_millis(secret.changed_ms)),
            deleted_date: secret.deletion_ms.map(Timestamp::from_millis),
            version_ids_to_stages: Some(stages).filter(|stages| !stages.is_empty()),
            name: Some(secret.name),
            ..DescribeSecretResponse::default()
        })
    }
}

fn arn(scope: &Scope, secret: &Secret) -> String {
    arn_of(scope, &secret.name, &secret.suffix)
}

fn arn_of(scope: &Scope, name: &str, suffix: &str) -> String {
    let Scope { account, region } = scope;
    let partition = api::arn::partition(region);
    format!("arn:{partition}:secretsmanager:{region}:{account}:secret:{name}-{suffix}")
}

/// Versions that no stage points at are on their way out, and not shown.
fn stages_by_version(secret: &Secret) -> BTreeMap<String, Vec<String>> {
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (stage, version) in &secret.stages {
        versions.entry(version.clone()).or_default().push(stage.clone());
    }
    versions
}

fn shown(value: SecretValue) -> (Option<Sensitive>, Option<Sensitive>) {
    match value {
        SecretValue::Text(text) => (Some(Sensitive::new(text)), None),
        SecretValue::Binary(bytes) => {
            (None, Some(Sensitive::new(base64_simd::STANDARD.encode_to_string(bytes))))
        }
    }
}

fn refuse_deleted(secret: &Secret) -> Result<(), ServiceError> {
    match secret.deletion_ms {
        None => Ok(()),
        Some(_) => Err(invalid_request(
            "You can't perform this operation on the secret because it was marked for deletion.",
        )),
    }
}

/// A request, validated before, in its type.
fn typed<T: serde::de::DeserializeOwned>(request: Value) -> Result<T, ServiceError> {
    serde_json::from_value(request).map_err(|error| ServiceError::serialization(error.to_string()))
}

/// The model makes it required, and validation ran.
fn required(member: Option<String>) -> Result<String, ServiceError> {
    member.ok_or_else(|| ServiceError::invalid_parameter("A required member is missing."))
}

fn not_found() -> ServiceError {
    ServiceError::resource_not_found("Secrets Manager can't find the specified secret.")
}

fn no_version(selection: Selection<'_>) -> ServiceError {
    let which = match (selection.version, selection.stage) {
        (Some(version), _) => format!("VersionId: {version}"),
        (None, stage) => format!("staging label: {}", stage.unwrap_or(CURRENT)),
    };
    ServiceError::resource_not_found(format!(
        "Secrets Manager can't find the specified secret value for {which}"
    ))
}

fn invalid_request(message: impl Into<String>) -> ServiceError {
    ServiceError::new("InvalidRequestException", message, 400)
}

fn exists(message: impl Into<String>) -> ServiceError {
    ServiceError::new("ResourceExistsException", message, 400)
}

fn not_available(member: &str) -> ServiceError {
    ServiceError::invalid_parameter(format!("{member} is not available in this version"))
}

fn error(failed: store::Error) -> ServiceError {
    use store::Error;
    match failed {
        Error::InvalidToken(_) => {
            ServiceError::new("InvalidNextTokenException", "The NextToken value is invalid.", 400)
        }
        Error::TooMany { limit, .. } => {
            ServiceError::limit_exceeded(format!("You have exceeded the number of secrets: {limit}."))
        }
        Error::InvalidText(rule) => ServiceError::invalid_parameter(format!("Invalid text: {rule}.")),
        failed @ (Error::Unavailable(_) | Error::TakenOver(_)) => {
            tracing::error!(%failed, "a request could not be kept");
            ServiceError::service_unavailable("The database is unavailable.")
        }
        Error::Full => {
            tracing::error!("the disk that holds the records is full");
            ServiceError::service_unavailable("There is no space left for secrets.")
        }
        failed => internal(failed),
    }
}

fn internal(cause: impl fmt::Display) -> ServiceError {
    tracing::error!(%cause, "a Secrets Manager request failed inside the server");
    ServiceError::new("InternalServiceError", "An error occurred on the server side.", 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secrets_arn_has_its_regions_partition() {
        let scope = Scope { account: "123456789012".into(), region: "cn-north-1".into() };
        let arn = "arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:a-AbCdEf";
        assert_eq!(arn_of(&scope, "a", "AbCdEf"), arn);
    }
}

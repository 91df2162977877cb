//! What makes and alters secrets: versions and the stages that move over them, deletion and its recovery, tags.

use std::collections::BTreeMap;

use api::secretsmanager::*;
use api::{Sensitive, ServiceError, Timestamp};
use store::records::{Draft, NewSecret, Secret, SecretValue};

use super::{
    CURRENT, Call, Document, PREVIOUS, TAGS_MAX, arn, arn_of, error, exists, invalid_request, not_available,
    not_found, refuse_deleted, required,
};

/// Stages that a secret's versions have in all.
const STAGES_MAX: usize = 20;
const VALUE_MAX_BYTES: usize = 65_536;
const RECOVERY_DAYS: std::ops::RangeInclusive<i64> = 7..=30;
const RECOVERY_DEFAULT_DAYS: i64 = 30;
const DAY_MS: i64 = 86_400_000;

/// A change, or why there is none; the outer failure is the store's.
type Changed<T> = store::Result<Result<T, ServiceError>>;

impl Call<'_> {
    pub(super) async fn create(
        &self,
        request: CreateSecretRequest,
    ) -> Result<CreateSecretResponse, ServiceError> {
        let name = required(request.name)?;
        check_name(&name)?;
        refuse_foreign(request.add_replica_regions.is_some(), "AddReplicaRegions")?;
        refuse_foreign(request.r#type.is_some(), "Type")?;
        refuse_foreign(request.cross_account_primary_arn.is_some(), "CrossAccountPrimaryARN")?;
        let value = value(request.secret_string, request.secret_binary)?;
        let document = Document {
            description: request.description,
            kms_key_id: request.kms_key_id,
            tags: tag_map(request.tags.unwrap_or_default())?,
        };
        let version = version_id(request.client_request_token);
        let new = NewSecret { name: name.clone(), suffix: suffix(), document: document.to_json() };
        let (now_ms, given) = (self.now_ms(), value.is_some());
        let token = version.clone();
        let fill = move |draft: &mut Draft<'_>, is_new: bool| match (is_new, value) {
            (true, Some(value)) => put(draft, version, value, &[CURRENT.to_owned()], now_ms),
            (true, None) => Ok(Ok(draft.secret.clone())),
            (false, value) => again(draft, &version, value),
        };
        let made = self.vault().create_secret(&self.scope, new, now_ms, fill).await.map_err(error)??;
        Ok(CreateSecretResponse {
            arn: Some(arn(&self.scope, &made)),
            name: Some(name),
            version_id: given.then_some(token),
            replication_status: None,
        })
    }

    pub(super) async fn put_value(
        &self,
        request: PutSecretValueRequest,
    ) -> Result<PutSecretValueResponse, ServiceError> {
        refuse_foreign(request.rotation_token.is_some(), "RotationToken")?;
        let value = value(request.secret_string, request.secret_binary)?;
        let value =
            value.ok_or_else(|| invalid_request("You must provide either SecretString or SecretBinary."))?;
        let version = version_id(request.client_request_token);
        let stages = request.version_stages.unwrap_or_else(|| vec![CURRENT.to_owned()]);
        let (token, now_ms) = (version.clone(), self.now_ms());
        let id = required(request.secret_id)?;
        let changed = self.change(&id, move |draft| put(draft, version, value, &stages, now_ms)).await?;
        Ok(PutSecretValueResponse {
            arn: Some(arn(&self.scope, &changed)),
            version_stages: Some(changed.stages_of(&token)).filter(|stages| !stages.is_empty()),
            name: Some(changed.name),
            version_id: Some(token),
        })
    }

    pub(super) async fn update(
        &self,
        request: UpdateSecretRequest,
    ) -> Result<UpdateSecretResponse, ServiceError> {
        refuse_foreign(request.r#type.is_some(), "Type")?;
        let value = value(request.secret_string, request.secret_binary)?;
        let version = version_id(request.client_request_token);
        let (token, given, now_ms) = (version.clone(), value.is_some(), self.now_ms());
        let (description, kms_key_id) = (request.description, request.kms_key_id);
        let id = required(request.secret_id)?;
        let changed = self.change(&id, move |draft| {
            let mut document = match Document::of(&draft.secret) {
                Ok(document) => document,
                Err(refusal) => return Ok(Err(refusal)),
            };
            document.description = description.or(document.description);
            document.kms_key_id = kms_key_id.or(document.kms_key_id);
            draft.secret.document = document.to_json();
            draft.secret.changed_ms = now_ms;
            match value {
                Some(value) => put(draft, version, value, &[CURRENT.to_owned()], now_ms),
                None => Ok(Ok(draft.secret.clone())),
            }
        });
        let changed = changed.await?;
        Ok(UpdateSecretResponse {
            arn: Some(arn(&self.scope, &changed)),
            name: Some(changed.name),
            version_id: given.then_some(token),
        })
    }

    pub(super) async fn delete(
        &self,
        request: DeleteSecretRequest,
    ) -> Result<DeleteSecretResponse, ServiceError> {
        let id = required(request.secret_id)?;
        let forced = request.force_delete_without_recovery == Some(true);
        if forced && request.recovery_window_in_days.is_some() {
            return Err(ServiceError::invalid_parameter(
                "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.",
            ));
        }
        let days = request.recovery_window_in_days.unwrap_or(RECOVERY_DEFAULT_DAYS);
        if !RECOVERY_DAYS.contains(&days) {
            return Err(ServiceError::invalid_parameter(
                "The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).",
            ));
        }
        let now_ms = self.now_ms();
        let gone_ms = if forced { now_ms } else { now_ms + days * DAY_MS };
        let alter = move |draft: &mut Draft<'_>| {
            if !forced && let Err(refusal) = refuse_deleted(&draft.secret) {
                return Ok(Err(refusal));
            }
            draft.secret.deletion_ms = Some(gone_ms);
            Ok(Ok(draft.secret.clone()))
        };
        let doomed = self.vault().change_secret(&self.scope, &id, now_ms, alter).await.map_err(error)?;
        let Some(doomed) = doomed else { return self.nothing_to_delete(id, forced) };
        let doomed = doomed?;
        if forced {
            self.vault().remove_secret(&self.scope, &doomed.name).await.map_err(error)?;
        }
        Ok(DeleteSecretResponse {
            arn: Some(arn(&self.scope, &doomed)),
            name: Some(doomed.name),
            deletion_date: Some(Timestamp::from_millis(gone_ms)),
        })
    }

    /// COMPAT: what is not there counts as deleted if that was to be without recovery.
    fn nothing_to_delete(&self, id: String, forced: bool) -> Result<DeleteSecretResponse, ServiceError> {
        match forced && !id.starts_with("arn:") {
            false => Err(not_found()),
            true => Ok(DeleteSecretResponse {
                arn: Some(arn_of(&self.scope, &id, &suffix())),
                name: Some(id),
                deletion_date: Some(Timestamp::from_millis(self.now_ms())),
            }),
        }
    }

    pub(super) async fn restore(
        &self,
        request: RestoreSecretRequest,
    ) -> Result<RestoreSecretResponse, ServiceError> {
        let id = required(request.secret_id)?;
        let alter = |draft: &mut Draft<'_>| {
            draft.secret.deletion_ms = None;
            Ok(Ok::<_, ServiceError>(draft.secret.clone()))
        };
        let kept = self.vault().change_secret(&self.scope, &id, self.now_ms(), alter).await.map_err(error)?;
        let kept = kept.ok_or_else(not_found)??;
        Ok(RestoreSecretResponse { arn: Some(arn(&self.scope, &kept)), name: Some(kept.name) })
    }

    pub(super) async fn tag(&self, request: TagResourceRequest) -> Result<(), ServiceError> {
        let added = tag_map(request.tags.unwrap_or_default())?;
        self.change_tags(required(request.secret_id)?, move |tags| tags.extend(added)).await
    }

    pub(super) async fn untag(&self, request: UntagResourceRequest) -> Result<(), ServiceError> {
        let keys = request.tag_keys.unwrap_or_default();
        let id = required(request.secret_id)?;
        self.change_tags(id, move |tags| tags.retain(|key, _| !keys.contains(key))).await
    }

    async fn change_tags(
        &self,
        id: String,
        change: impl FnOnce(&mut BTreeMap<String, String>) + Send + 'static,
    ) -> Result<(), ServiceError> {
        let changed = self.change(&id, move |draft| {
            let changed = Document::of(&draft.secret).and_then(|mut document| {
                change(&mut document.tags);
                check_tags(&document.tags).map(|()| document)
            });
            Ok(changed.map(|document| {
                draft.secret.document = document.to_json();
                draft.secret.clone()
            }))
        });
        changed.await.map(drop)
    }

    /// Changes a secret that is not marked for deletion.
    async fn change(
        &self,
        id: &str,
        alter: impl FnOnce(&mut Draft<'_>) -> Changed<Secret> + Send + 'static,
    ) -> Result<Secret, ServiceError> {
        let alter = |draft: &mut Draft<'_>| match refuse_deleted(&draft.secret) {
            Ok(()) => alter(draft),
            Err(refusal) => Ok(Err(refusal)),
        };
        let changed =
            self.vault().change_secret(&self.scope, id, self.now_ms(), alter).await.map_err(error)?;
        changed.ok_or_else(not_found)?
    }
}

/// Adds a version and moves the stages to it. The same request again changes nothing.
fn put(
    draft: &mut Draft<'_>,
    version: String,
    value: SecretValue,
    stages: &[String],
    now_ms: i64,
) -> Changed<Secret> {
    if draft.secret.versions.contains_key(&version) {
        return Ok(match draft.value(&version)? == Some(value) {
            true => Ok(draft.secret.clone()),
            false => Err(exists(format!(
                "You can't use ClientRequestToken {version} because that value is already in use for a version of secret {}.",
                draft.secret.name
            ))),
        });
    }
    draft.add(version.clone(), value, now_ms);
    let before = draft.secret.stages.get(CURRENT).cloned();
    for stage in stages {
        draft.secret.stages.insert(stage.clone(), version.clone());
    }
    if stages.iter().any(|stage| stage == CURRENT)
        && let Some(before) = before
    {
        draft.secret.stages.insert(PREVIOUS.to_owned(), before);
    }
    draft.secret.changed_ms = now_ms;
    Ok(match draft.secret.stages.len() > STAGES_MAX {
        true => {
            Err(ServiceError::limit_exceeded(format!("A secret has at most {STAGES_MAX} staging labels.")))
        }
        false => Ok(draft.secret.clone()),
    })
}

/// CreateSecret of a name that is taken: the same request again is answered as the first time.
fn again(draft: &Draft<'_>, version: &str, value: Option<SecretValue>) -> Changed<Secret> {
    if draft.secret.deletion_ms.is_some() {
        return Ok(Err(invalid_request(
            "You can't create this secret because a secret with this name is already scheduled for deletion.",
        )));
    }
    let before = draft.value(version)?;
    Ok(match before.is_some() && before == value {
        true => Ok(draft.secret.clone()),
        false => Err(exists(format!(
            "The operation failed because the secret {} already exists.",
            draft.secret.name
        ))),
    })
}

fn check_name(name: &str) -> Result<(), ServiceError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c);
    match name.chars().all(plain) {
        true => Ok(()),
        false => Err(ServiceError::validation(
            "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@",
        )),
    }
}

fn value(text: Option<Sensitive>, binary: Option<Sensitive>) -> Result<Option<SecretValue>, ServiceError> {
    let value = match (text, binary) {
        (Some(_), Some(_)) => {
            return Err(ServiceError::invalid_parameter(
                "You can't specify both a binary secret value and a string secret value in the same secret.",
            ));
        }
        (Some(text), None) => SecretValue::Text(text.expose().to_owned()),
        (None, Some(base64)) => {
            let bytes = base64_simd::STANDARD.decode_to_vec(base64.expose());
            SecretValue::Binary(
                bytes.map_err(|_| ServiceError::serialization("SecretBinary is not base64."))?,
            )
        }
        (None, None) => return Ok(None),
    };
    let bytes = match &value {
        SecretValue::Text(text) => text.len(),
        SecretValue::Binary(bytes) => bytes.len(),
    };
    match bytes > VALUE_MAX_BYTES {
        true => Err(ServiceError::invalid_parameter(format!(
            "A secret's value has at most {VALUE_MAX_BYTES} bytes, not {bytes}."
        ))),
        false => Ok(Some(value)),
    }
}

/// The client's token names the version, so that the same request again is known.
fn version_id(token: Option<String>) -> String {
    token.unwrap_or_else(|| uuid::Uuid::new_v4().to_string())
}

/// Six letters and digits that tell a secret from later ones of its name.
fn suffix() -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let random = uuid::Uuid::new_v4().into_bytes();
    random[..6].iter().map(|byte| char::from(LETTERS[usize::from(*byte) % LETTERS.len()])).collect()
}

fn refuse_foreign(given: bool, member: &str) -> Result<(), ServiceError> {
    if given { Err(not_available(member)) } else { Ok(()) }
}

fn tag_map(tags: Vec<Tag>) -> Result<BTreeMap<String, String>, ServiceError> {
    let pairs = tags.into_iter().map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default()));
    let tags: BTreeMap<String, String> = pairs.collect();
    check_tags(&tags).map(|()| tags)
}

fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), ServiceError> {
    if tags.keys().any(|key| key.is_empty() || key.to_ascii_lowercase().starts_with("aws:")) {
        return Err(ServiceError::invalid_parameter("A tag key must not be empty or begin with aws:."));
    }
    match tags.len() > TAGS_MAX {
        true => Err(ServiceError::limit_exceeded(format!("A secret has at most {TAGS_MAX} tags."))),
        false => Ok(()),
    }
}

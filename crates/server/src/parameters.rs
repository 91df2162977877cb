//! Parameter Store over [`store::records::Vault`]: the operations on parameters and their tags.
//!
//! Below: `names` (what a parameter may be called, and what is asked for with a name), `filters` (which parameters
//! a list holds), `put`. Values are sealed in the vault; keys of KMS are remembered and shown, and used for nothing.

mod filters;
mod names;
mod put;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use api::ssm::*;
use api::{Sensitive, ServiceError, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::records::{Parameter as Stored, Scope, Vault};

use crate::keys::Caller;
use crate::reply::Reply;
use crate::time::Clock;
use filters::Filters;
use names::Asked;

/// Parameters that one call looks at for a list, whatever its filters let through.
const LOOKED_AT_MAX: usize = 1000;
/// COMPAT: GetParametersByPath answers with so many at most.
const BY_PATH_MAX: usize = 10;
const DESCRIBED_MAX: usize = 50;
const TAGS_MAX: usize = 50;

/// The Parameter Store endpoint. Cheap to clone.
#[derive(Clone)]
pub struct Parameters {
    vault: Vault,
    region: Arc<str>,
    clock: Clock,
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parameters").field("vault", &self.vault).finish_non_exhaustive()
    }
}

/// What is remembered beside a version's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Document {
    kind: ParameterType,
    description: Option<String>,
    key_id: Option<String>,
    allowed_pattern: Option<String>,
    tier: ParameterTier,
    data_type: String,
    user: String,
}

impl Document {
    fn of(stored: &Stored) -> Result<Document, ServiceError> {
        serde_json::from_str(&stored.document).map_err(internal)
    }
}

type Tags = BTreeMap<String, String>;

impl Parameters {
    pub fn new(vault: Vault, region: &str, clock: Clock) -> Parameters {
        Parameters { vault, region: region.into(), clock }
    }

    /// Answers one call.
    pub(crate) async fn answer(
        &self,
        operation: Operation,
        caller: Caller,
        request: Value,
    ) -> Result<Reply, ServiceError> {
        let scope = Scope { account: caller.account, region: self.region.to_string() };
        let call = Call { parameters: self, scope, user: caller.arn };
        Ok(match operation {
            Operation::PutParameter => Reply::of(&call.put(typed(request)?).await?),
            Operation::GetParameter => Reply::of(&call.get(typed(request)?).await?),
            Operation::GetParameters => Reply::of(&call.get_some(typed(request)?).await?),
            Operation::GetParametersByPath => Reply::of(&call.get_by_path(typed(request)?).await?),
            Operation::DescribeParameters => Reply::of(&call.describe(typed(request)?).await?),
            Operation::DeleteParameter => Reply::of(&call.delete(typed(request)?).await?),
            Operation::DeleteParameters => Reply::of(&call.delete_some(typed(request)?).await?),
            Operation::AddTagsToResource => Reply::of(&call.add_tags(typed(request)?).await?),
            Operation::RemoveTagsFromResource => Reply::of(&call.remove_tags(typed(request)?).await?),
            Operation::ListTagsForResource => Reply::of(&call.list_tags(typed(request)?).await?),
        })
    }
}

/// One call: the endpoint, whose parameters it is about, and who asks.
struct Call<'a> {
    parameters: &'a Parameters,
    scope: Scope,
    user: String,
}

impl Call<'_> {
    fn vault(&self) -> &Vault {
        &self.parameters.vault
    }

    fn arn(&self, name: &str) -> String {
        let Scope { account, region } = &self.scope;
        let partition = api::arn::partition(region);
        format!("arn:{partition}:ssm:{region}:{account}:parameter/{}", name.trim_start_matches('/'))
    }

    // ---- reading --------------------------------------------------------------------------------------------

    async fn get(&self, request: GetParameterRequest) -> Result<GetParameterResult, ServiceError> {
        let asked = Asked::parse(&required(request.name)?)?;
        let decrypted = request.with_decryption == Some(true);
        match self.look_up(&asked).await? {
            Some(found) => {
                let parameter = Some(self.shown(found, decrypted, asked.selector())?);
                Ok(GetParameterResult { parameter })
            }
            None => Err(self.missing(&asked).await?),
        }
    }

    async fn look_up(&self, asked: &Asked) -> Result<Option<Stored>, ServiceError> {
        self.vault().get_parameter(&self.scope, &asked.id, asked.version).await.map_err(error)
    }

    async fn missing(&self, asked: &Asked) -> Result<ServiceError, ServiceError> {
        let latest = self.vault().get_parameter(&self.scope, &asked.id, None).await.map_err(error)?;
        Ok(match (asked.version, latest) {
            (Some(version), Some(_)) => ServiceError::new(
                "ParameterVersionNotFound",
                format!(
                    "Systems Manager could not find version {version} of {}. Verify the version and try again.",
                    asked.id
                ),
                400,
            ),
            _ => not_found(&asked.id),
        })
    }

    async fn get_some(&self, request: GetParametersRequest) -> Result<GetParametersResult, ServiceError> {
        let names = request.names.unwrap_or_default();
        refuse_twins(&names)?;
        let decrypted = request.with_decryption == Some(true);
        let (mut parameters, mut invalid) = (Vec::new(), Vec::new());
        for name in names {
            let asked = Asked::parse(&name)?;
            match self.look_up(&asked).await? {
                Some(found) => parameters.push(self.shown(found, decrypted, asked.selector())?),
                None => invalid.push(name),
            }
        }
        Ok(GetParametersResult { parameters: Some(parameters), invalid_parameters: Some(invalid) })
    }

    async fn get_by_path(
        &self,
        request: GetParametersByPathRequest,
    ) -> Result<GetParametersByPathResult, ServiceError> {
        let path = names::path(&required(request.path)?)?;
        let recursive = request.recursive == Some(true);
        let filters =
            Filters::by_path(request.parameter_filters.unwrap_or_default())?.below(&path, recursive);
        let decrypted = request.with_decryption == Some(true);
        let limit = limit(request.max_results, BY_PATH_MAX);
        let (found, next_token) = self.list(&filters, request.next_token, limit).await?;
        let shown = found.into_iter().map(|found| self.shown(found, decrypted, None));
        Ok(GetParametersByPathResult { parameters: Some(shown.collect::<Result<_, _>>()?), next_token })
    }

    async fn describe(
        &self,
        request: DescribeParametersRequest,
    ) -> Result<DescribeParametersResult, ServiceError> {
        if request.shared == Some(true) {
            return Err(not_available("Shared", "true"));
        }
        let filters = Filters::described(
            request.filters.unwrap_or_default(),
            request.parameter_filters.unwrap_or_default(),
        )?;
        let limit = limit(request.max_results, DESCRIBED_MAX);
        let (found, next_token) = self.list(&filters, request.next_token, limit).await?;
        let described = found.iter().map(|found| self.described(found));
        Ok(DescribeParametersResult { parameters: Some(described.collect::<Result<_, _>>()?), next_token })
    }

    /// What the filters let through, from a place in the list on, and where the rest begins. May end before `limit`
    /// when much had to be looked at.
    async fn list(
        &self,
        filters: &Filters,
        mut next: Option<String>,
        limit: usize,
    ) -> Result<(Vec<Stored>, Option<String>), ServiceError> {
        let (mut found, mut looked_at) = (Vec::new(), 0);
        while found.len() < limit && looked_at < LOOKED_AT_MAX {
            let wanted = limit - found.len();
            let prefix = filters.prefix();
            let page = self.vault().list_parameters(&self.scope, prefix, next.as_deref(), wanted).await;
            let page = page.map_err(error)?;
            looked_at += page.items.len();
            for stored in page.items {
                if filters.let_through(&stored.name, &Document::of(&stored)?, &tags(&stored.tags)) {
                    found.push(stored);
                }
            }
            next = page.next;
            if next.is_none() {
                break;
            }
        }
        Ok((found, next))
    }

    fn shown(
        &self,
        stored: Stored,
        decrypted: bool,
        selector: Option<String>,
    ) -> Result<Parameter, ServiceError> {
        let document = Document::of(&stored)?;
        let secure = document.kind == ParameterType::SecureString;
        let value = if secure && !decrypted { stored.sealed } else { stored.value };
        Ok(Parameter {
            arn: Some(self.arn(&stored.name)),
            name: Some(stored.name),
            r#type: Some(document.kind),
            value: Some(Sensitive::new(value)),
            version: Some(stored.version),
            selector,
            last_modified_date: Some(Timestamp::from_millis(stored.modified_ms)),
            data_type: Some(document.data_type),
            source_result: None,
        })
    }

    fn described(&self, stored: &Stored) -> Result<ParameterMetadata, ServiceError> {
        let document = Document::of(stored)?;
        Ok(ParameterMetadata {
            name: Some(stored.name.clone()),
            arn: Some(self.arn(&stored.name)),
            r#type: Some(document.kind),
            key_id: document.key_id,
            last_modified_date: Some(Timestamp::from_millis(stored.modified_ms)),
            last_modified_user: Some(document.user),
            description: document.description,
            allowed_pattern: document.allowed_pattern,
            version: Some(stored.version),
            tier: Some(document.tier),
            policies: Some(Vec::new()),
            data_type: Some(document.data_type),
        })
    }

    // ---- deleting -------------------------------------------------------------------------------------------

    async fn delete(&self, request: DeleteParameterRequest) -> Result<DeleteParameterResult, ServiceError> {
        let name = required(request.name)?;
        let deleted = self.vault().delete_parameters(&self.scope, std::slice::from_ref(&name)).await;
        match deleted.map_err(error)?.is_empty() {
            true => Err(not_found(&name)),
            false => Ok(DeleteParameterResult {}),
        }
    }

    async fn delete_some(
        &self,
        request: DeleteParametersRequest,
    ) -> Result<DeleteParametersResult, ServiceError> {
        let names = request.names.unwrap_or_default();
        refuse_twins(&names)?;
        let deleted = self.vault().delete_parameters(&self.scope, &names).await.map_err(error)?;
        let invalid = names.into_iter().filter(|name| !deleted.contains(name)).collect();
        Ok(DeleteParametersResult { deleted_parameters: Some(deleted), invalid_parameters: Some(invalid) })
    }

    // ---- tags -----------------------------------------------------------------------------------------------

    async fn add_tags(
        &self,
        request: AddTagsToResourceRequest,
    ) -> Result<AddTagsToResourceResult, ServiceError> {
        let name = tagged(request.resource_type, request.resource_id)?;
        let added = tag_map(request.tags.unwrap_or_default())?;
        self.change_tags(&name, |tags| tags.extend(added)).await?;
        Ok(AddTagsToResourceResult {})
    }

    async fn remove_tags(
        &self,
        request: RemoveTagsFromResourceRequest,
    ) -> Result<RemoveTagsFromResourceResult, ServiceError> {
        let name = tagged(request.resource_type, request.resource_id)?;
        let keys = request.tag_keys.unwrap_or_default();
        self.change_tags(&name, move |tags| tags.retain(|key, _| !keys.contains(key))).await?;
        Ok(RemoveTagsFromResourceResult {})
    }

    async fn change_tags(
        &self,
        name: &str,
        change: impl FnOnce(&mut Tags) + Send + 'static,
    ) -> Result<(), ServiceError> {
        let changed = self.vault().change_parameter_tags(&self.scope, name, |before| {
            let mut tags = tags(before);
            change(&mut tags);
            match tags.len() > TAGS_MAX {
                true => Err(too_many_tags()),
                false => Ok(serde_json::to_string(&tags).expect("texts in a map are JSON")),
            }
        });
        changed.await.map_err(error)?.unwrap_or_else(|| Err(no_such_resource(name)))
    }

    async fn list_tags(
        &self,
        request: ListTagsForResourceRequest,
    ) -> Result<ListTagsForResourceResult, ServiceError> {
        let name = tagged(request.resource_type, request.resource_id)?;
        let found = self.vault().get_parameter(&self.scope, &name, None).await.map_err(error)?;
        let found = found.ok_or_else(|| no_such_resource(&name))?;
        let shown =
            tags(&found.tags).into_iter().map(|(key, value)| Tag { key: Some(key), value: Some(value) });
        Ok(ListTagsForResourceResult { tag_list: Some(shown.collect()) })
    }
}

/// The parameter whose tags a request is about.
fn tagged(kind: Option<ResourceTypeForTagging>, id: Option<String>) -> Result<String, ServiceError> {
    match kind {
        Some(ResourceTypeForTagging::Parameter) => required(id),
        kind => Err(not_available("ResourceType", kind.as_ref().map_or("", |kind| kind.as_str()))),
    }
}

fn tag_map(tags: Vec<Tag>) -> Result<Tags, ServiceError> {
    let tags: Tags =
        tags.into_iter().map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default())).collect();
    if tags.keys().any(|key| key.to_ascii_lowercase().starts_with("aws:")) {
        return Err(ServiceError::validation("Tag keys must not begin with aws:, which is reserved."));
    }
    if tags.len() > TAGS_MAX { Err(too_many_tags()) } else { Ok(tags) }
}

/// What was stored by us is sound.
fn tags(json: &str) -> Tags {
    serde_json::from_str(json).unwrap_or_default()
}

fn limit(asked: Option<i32>, most: usize) -> usize {
    asked.and_then(|asked| usize::try_from(asked).ok()).map_or(most, |asked| asked.clamp(1, most))
}

fn refuse_twins(names: &[String]) -> Result<(), ServiceError> {
    let mut seen = std::collections::BTreeSet::new();
    match names.iter().all(|name| seen.insert(name)) {
        true => Ok(()),
        false => Err(ServiceError::validation("Duplicate parameter names are not allowed.")),
    }
}

/// A request, validated before, in its type.
fn typed<T: serde::de::DeserializeOwned>(request: Value) -> Result<T, ServiceError> {
    serde_json::from_value(request).map_err(|error| ServiceError::serialization(error.to_string()))
}

/// The model makes it required, and validation ran.
fn required(member: Option<String>) -> Result<String, ServiceError> {
    member.ok_or_else(|| ServiceError::validation("A required member is missing."))
}

fn not_found(name: &str) -> ServiceError {
    ServiceError::new("ParameterNotFound", format!("Parameter {name} not found."), 400)
}

fn no_such_resource(name: &str) -> ServiceError {
    let message =
        format!("The resource ID \"{name}\" is not valid. Verify that the ID is correct and try again.");
    ServiceError::new("InvalidResourceId", message, 400)
}

fn too_many_tags() -> ServiceError {
    ServiceError::new("TooManyTagsError", format!("A parameter has at most {TAGS_MAX} tags."), 400)
}

fn not_available(member: &str, value: &str) -> ServiceError {
    ServiceError::validation(format!("{member} {value} is not available in this version"))
}

fn error(failed: store::Error) -> ServiceError {
    use store::Error;
    match failed {
        Error::InvalidToken(_) => {
            ServiceError::new("InvalidNextToken", "The specified token isn't valid.", 400)
        }
        Error::TooMany { limit, .. } => ServiceError::new(
            "ParameterLimitExceeded",
            format!("You have exceeded the number of parameters for this account: {limit}."),
            400,
        ),
        Error::InvalidText(rule) => ServiceError::validation(format!("Invalid text: {rule}.")),
        failed @ (Error::Unavailable(_) | Error::TakenOver(_)) => {
            tracing::error!(%failed, "a request could not be kept");
            ServiceError::service_unavailable("The database is unavailable.")
        }
        Error::Full => {
            tracing::error!("the disk that holds the records is full");
            ServiceError::service_unavailable("There is no space left for parameters.")
        }
        failed => internal(failed),
    }
}

fn internal(cause: impl fmt::Display) -> ServiceError {
    tracing::error!(%cause, "a Parameter Store request failed inside the server");
    ServiceError::new("InternalServerError", "An error occurred on the server side.", 500)
}

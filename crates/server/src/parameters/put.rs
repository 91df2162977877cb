//! PutParameter: what a new version may be, given the one before.
// COMPAT: limits and wordings are Parameter Store's.

use api::ServiceError;
use api::ssm::{ParameterTier, ParameterType, PutParameterRequest, PutParameterResult};
use store::records::{NewParameter, Parameter as Stored};

use super::{Call, Document, Tags, error, internal, names, not_available, required, tag_map};

const STANDARD_MAX_BYTES: usize = 4096;
const ADVANCED_MAX_BYTES: usize = 8192;
/// The key that AWS makes for every account.
const DEFAULT_KEY: &str = "alias/aws/ssm";
/// A pattern that was compiled must not take more memory than this.
const PATTERN_MAX_BYTES: usize = 1 << 20;

impl Call<'_> {
    pub(super) async fn put(&self, request: PutParameterRequest) -> Result<PutParameterResult, ServiceError> {
        let name = required(request.name.clone())?;
        names::check(&name)?;
        let wish = Wish::of(request, self.user.clone())?;
        let tier = wish.tier.clone();
        let now_ms = (self.parameters.clock)();
        let put = self.vault().put_parameter(&self.scope, &name, now_ms, move |before| wish.version(before));
        let version = put.await.map_err(error)??;
        Ok(PutParameterResult { version: Some(version), tier: Some(tier) })
    }
}

/// What is asked for, as far as it can be told without the version before.
struct Wish {
    request: PutParameterRequest,
    value: String,
    tags: Option<Tags>,
    tier: ParameterTier,
    user: String,
}

impl Wish {
    fn of(mut request: PutParameterRequest, user: String) -> Result<Wish, ServiceError> {
        let value = request.value.take().map(|value| value.expose().to_owned()).unwrap_or_default();
        if value.is_empty() {
            return Err(ServiceError::validation(
                "1 validation error detected: Value '' at 'value' failed to satisfy constraint: Member must have length greater than or equal to 1",
            ));
        }
        if let Some(policies) =
            request.policies.as_deref().filter(|text| !matches!(text.trim(), "[{}]" | "[]" | "{}"))
        {
            return Err(not_available("Policies", policies));
        }
        let tags = request.tags.take().filter(|tags| !tags.is_empty()).map(tag_map).transpose()?;
        if tags.is_some() && request.overwrite == Some(true) {
            return Err(ServiceError::validation(
                "Invalid request: tags and overwrite can't be used together. To create a parameter with tags, please remove overwrite flag. To update tags for an existing parameter, please use AddTagsToResource or RemoveTagsFromResource.",
            ));
        }
        let tier = tier(request.tier.as_ref(), value.len())?;
        check_pattern(request.allowed_pattern.as_deref(), &value)?;
        check_data_type(request.data_type.as_deref())?;
        Ok(Wish { request, value, tags, tier, user })
    }

    fn version(self, before: Option<&Stored>) -> Result<NewParameter, ServiceError> {
        let before = before.map(Document::of).transpose()?;
        if before.is_some() && self.request.overwrite != Some(true) {
            return Err(ServiceError::new(
                "ParameterAlreadyExists",
                "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.",
                400,
            ));
        }
        let kind = self.kind(before.as_ref())?;
        let before_key = before.as_ref().and_then(|before| before.key_id.clone());
        let document = Document {
            key_id: key_id(&kind, self.request.key_id, before_key)?,
            kind,
            description: self.request.description.or(before.and_then(|before| before.description)),
            allowed_pattern: self.request.allowed_pattern.filter(|pattern| !pattern.is_empty()),
            tier: self.tier,
            data_type: self.request.data_type.unwrap_or_else(|| "text".to_owned()),
            user: self.user,
        };
        let tags = self.tags.map(|tags| serde_json::to_string(&tags).expect("texts in a map are JSON"));
        let document = serde_json::to_string(&document).map_err(internal)?;
        Ok(NewParameter { value: self.value, document, tags })
    }

    /// The type asked for, or that of the version before; it never changes.
    fn kind(&self, before: Option<&Document>) -> Result<ParameterType, ServiceError> {
        match (&self.request.r#type, before) {
            (Some(asked), Some(before)) if *asked != before.kind => Err(ServiceError::new(
                "HierarchyTypeMismatchException",
                format!(
                    "Parameter type cannot be changed from {} to {asked}. Delete the parameter and create it anew.",
                    before.kind
                ),
                400,
            )),
            (Some(asked), _) => Ok(asked.clone()),
            (None, Some(before)) => Ok(before.kind.clone()),
            (None, None) => {
                Err(ServiceError::validation("A parameter type is required when you create a parameter."))
            }
        }
    }
}

fn key_id(
    kind: &ParameterType,
    asked: Option<String>,
    before: Option<String>,
) -> Result<Option<String>, ServiceError> {
    match (kind, asked) {
        (ParameterType::SecureString, asked) => {
            Ok(Some(asked.or(before).unwrap_or_else(|| DEFAULT_KEY.to_owned())))
        }
        (_, Some(_)) => {
            Err(ServiceError::validation("KeyId is required for SecureString type parameter only."))
        }
        (_, None) => Ok(None),
    }
}

fn tier(asked: Option<&ParameterTier>, bytes: usize) -> Result<ParameterTier, ServiceError> {
    let small = bytes <= STANDARD_MAX_BYTES;
    match asked {
        _ if bytes > ADVANCED_MAX_BYTES => Err(ServiceError::validation(format!(
            "Advanced tier parameters support a maximum parameter value of {ADVANCED_MAX_BYTES} characters."
        ))),
        Some(ParameterTier::Advanced) => Ok(ParameterTier::Advanced),
        Some(ParameterTier::IntelligentTiering) if !small => Ok(ParameterTier::Advanced),
        _ if small => Ok(ParameterTier::Standard),
        _ => Err(ServiceError::validation(format!(
            "Standard tier parameters support a maximum parameter value of {STANDARD_MAX_BYTES} characters. To create a larger parameter value, upgrade the parameter to use the advanced-parameter tier."
        ))),
    }
}

/// The pattern finds something in the value, as Java's matcher of the service does with the whole of it.
fn check_pattern(pattern: Option<&str>, value: &str) -> Result<(), ServiceError> {
    let Some(pattern) = pattern.filter(|pattern| !pattern.is_empty()) else { return Ok(()) };
    let whole = format!(r"\A(?:{pattern})\z");
    let compiled = regex::RegexBuilder::new(&whole).size_limit(PATTERN_MAX_BYTES).build();
    match compiled {
        Err(_) => Err(ServiceError::new(
            "InvalidAllowedPatternException",
            format!("The request doesn't meet the regular expression requirement: {pattern}"),
            400,
        )),
        Ok(compiled) if compiled.is_match(value) => Ok(()),
        Ok(_) => Err(ServiceError::new(
            "ParameterPatternMismatchException",
            format!("Parameter value, cannot be validated against allowedPattern: {pattern}"),
            400,
        )),
    }
}

fn check_data_type(data_type: Option<&str>) -> Result<(), ServiceError> {
    match data_type {
        None | Some("text") => Ok(()),
        Some("aws:ec2:image" | "aws:ssm:integration") => {
            Err(not_available("DataType", data_type.unwrap_or_default()))
        }
        Some(other) => Err(ServiceError::validation(format!(
            "The following data type is not supported: {other} (Data type names are all lowercase.)"
        ))),
    }
}

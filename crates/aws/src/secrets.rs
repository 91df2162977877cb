//! Secrets Manager: reading one version of a secret.

use serde_json::json;

use crate::client::Client;
use crate::endpoint::SECRETS_MANAGER;
use crate::error::{Error, Result};

/// Which version of which secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selected {
    /// A name or an ARN.
    pub id: String,
    /// `AWSCURRENT` if neither is given.
    pub stage: Option<String>,
    pub version: Option<String>,
}

/// What a secret holds.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    Text(String),
    /// Base64, as the service sends it.
    Binary(String),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Client {
    /// The ARN of a secret, as the service says it, and its value.
    ///
    /// # Errors
    /// As for [`Client::call`]: a secret that does not exist is a refusal, `ResourceNotFoundException`.
    pub async fn get_secret_value(&self, selected: &Selected) -> Result<(Option<String>, Secret)> {
        let mut input = json!({ "SecretId": selected.id });
        if let Some(stage) = &selected.stage {
            input["VersionStage"] = json!(stage);
        }
        if let Some(version) = &selected.version {
            input["VersionId"] = json!(version);
        }
        let output = self.call(&SECRETS_MANAGER, "GetSecretValue", &input).await?;
        let text = |name: &str| output[name].as_str().map(str::to_owned);
        let value = text("SecretString")
            .map(Secret::Text)
            .or_else(|| text("SecretBinary").map(Secret::Binary))
            .ok_or_else(|| Error::Answer {
                url: SECRETS_MANAGER.name.to_owned(),
                reason: "neither SecretString nor SecretBinary".to_owned(),
            })?;
        Ok((text("ARN"), value))
    }
}

//! Secrets Manager: secrets by their whole ARN, which only those know who look.

use access::{Context, Request};
use api::ServiceError;
use api::secretsmanager::Operation;
use serde_json::Value;

use super::{Asker, text, wanted_tags};
use crate::secrets::Secrets;

/// Asks for everything the call is about.
pub(crate) async fn permit(
    secrets: &Secrets,
    operation: Operation,
    asker: &Asker<'_>,
    request: &Value,
) -> Result<(), ServiceError> {
    let action = format!("secretsmanager:{}", operation.name());
    let wishes = wanted_tags(request, "Tags", ("Key", "Value"));
    match operation {
        Operation::ListSecrets => asker.may(&Request::new(action, "*")),
        Operation::CreateSecret => {
            let arn = asker.secret(text(request, "Name").unwrap_or_default());
            // What is to come behind the name is not known yet.
            asker.may(&Request::new(action, arn.as_str()).also(format!("{arn}-??????")).about(wishes))
        }
        Operation::DeleteSecret
        | Operation::DescribeSecret
        | Operation::GetSecretValue
        | Operation::PutSecretValue
        | Operation::RestoreSecret
        | Operation::TagResource
        | Operation::UntagResource
        | Operation::UpdateSecret => {
            let named = text(request, "SecretId").unwrap_or_default();
            let found = secrets.found(asker.caller, named).await?;
            let request = match found {
                Some((arn, tags)) => {
                    let tags = tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
                    Request::new(action, arn).about(wishes.and(&Context::default().with_resource_tags(tags)))
                }
                None => Request::new(action, asker.secret(named)).about(wishes),
            };
            asker.may(&request)
        }
    }
}

impl Asker<'_> {
    fn secret(&self, named: &str) -> String {
        match named.starts_with("arn:") {
            true => named.to_owned(),
            false => format!("{}secret:{named}", self.prefix("secretsmanager")),
        }
    }
}

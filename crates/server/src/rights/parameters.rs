//! Parameter Store: parameters by name, and for lists by path.
// COMPAT: whoever may read a path may read all that is below it, as at AWS.

use access::Request;
use api::ServiceError;
use api::ssm::Operation;
use serde_json::Value;

use super::{Asker, text, texts, wanted_tags};

/// Asks for everything the call is about.
pub(crate) fn permit(operation: Operation, asker: &Asker<'_>, request: &Value) -> Result<(), ServiceError> {
    let action = format!("ssm:{}", operation.name());
    let one = |named: &str| {
        let wishes = wanted_tags(request, "Tags", ("Key", "Value"));
        asker.may(&Request::new(action.as_str(), asker.parameter(named)).about(wishes))
    };
    match operation {
        Operation::DeleteParameter | Operation::GetParameter | Operation::PutParameter => {
            one(text(request, "Name").unwrap_or_default())
        }
        Operation::DeleteParameters | Operation::GetParameters => texts(request, "Names").try_for_each(one),
        Operation::AddTagsToResource | Operation::ListTagsForResource | Operation::RemoveTagsFromResource => {
            one(text(request, "ResourceId").unwrap_or_default())
        }
        Operation::GetParametersByPath => {
            let arn = asker.parameter(text(request, "Path").unwrap_or_default().trim_end_matches('/'));
            asker.may(&Request::new(action.as_str(), arn.as_str()).also(format!("{arn}/")))
        }
        Operation::DescribeParameters => {
            asker.may(&Request::new(action.as_str(), format!("{}*", asker.prefix("ssm"))))
        }
    }
}

impl Asker<'_> {
    /// A parameter's ARN, from its name or ARN, with or without a version behind it. An ARN of this account and Region is
    /// written anew; one of elsewhere stays what it is.
    fn parameter(&self, named: &str) -> String {
        let name = match named.starts_with("arn:") {
            true => match self.own_parameter(named) {
                Some(name) => name,
                None => return named.to_owned(),
            },
            false => named,
        };
        let name = name.split(':').next().unwrap_or_default().trim_start_matches('/');
        format!("{}parameter/{name}", self.prefix("ssm"))
    }

    fn own_parameter<'b>(&self, arn: &'b str) -> Option<&'b str> {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let [_, _, service, region, account, resource] = parts[..] else { return None };
        let own = service == "ssm" && region == self.region.as_str() && account == self.account.as_str();
        resource.strip_prefix("parameter/").filter(|_| own)
    }
}

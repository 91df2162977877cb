//! Parameter Store: reading parameters by name.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::client::Client;
use crate::endpoint::SSM;
use crate::error::Result;

/// COMPAT: BS-048 names in one call.
const BATCH: usize = 10;

/// What came of the names asked for. A name is in one of the two.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters {
    /// Decrypted, by the name they were asked with.
    pub values: BTreeMap<String, String>,
    /// The ARNs of those, likewise.
    pub arns: BTreeMap<String, String>,
    /// In the order asked.
    pub missing: Vec<String>,
}

impl Client {
    /// The decrypted values of parameters: names, names with `:version` or `:label`, or ARNs.
    ///
    /// # Errors
    /// As for [`Client::call`]; a parameter that does not exist is none.
    pub async fn get_parameters(&self, names: &[String]) -> Result<Parameters> {
        let mut found = Parameters::default();
        for batch in names.chunks(BATCH) {
            let input = json!({ "Names": batch, "WithDecryption": true });
            let output = self.call(&SSM, "GetParameters", &input).await?;
            let values = values(&output);
            for name in batch {
                match values.get(name.as_str()) {
                    Some((value, arn)) => {
                        found.values.insert(name.clone(), (*value).to_owned());
                        found.arns.insert(name.clone(), (*arn).to_owned());
                    }
                    None => found.missing.push(name.clone()),
                }
            }
        }
        Ok(found)
    }
}

/// The values of an answer and their ARNs, by every way that they may have been asked for.
fn values(output: &Value) -> BTreeMap<String, (&str, &str)> {
    let parameters = output["Parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut values = BTreeMap::new();
    for parameter in parameters {
        let text = |name: &str| parameter[name].as_str().unwrap_or_default();
        let (value, selector) = (text("Value"), text("Selector"));
        for name in [text("Name"), text("ARN")].into_iter().filter(|name| !name.is_empty()) {
            values.insert(format!("{name}{selector}"), (value, text("ARN")));
        }
    }
    values
}

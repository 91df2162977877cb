//! The circumstances of a request, by condition key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::date;

/// Values by condition key. Upper and lower case of keys do not count; a key may have several values, or none. So a tag has
/// several values where there are keys of tags that differ in nothing else: what depends on it is decided against whoever asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    values: BTreeMap<String, Vec<String>>,
}

/// Keys whose values are known here, though at times to be none: nobody here has an organisation or comes through a VPC.
const KNOWN_KEYS: [&str; 39] = [
    "aws:calledvia",
    "aws:calledviafirst",
    "aws:calledvialast",
    "aws:currenttime",
    "aws:ec2instancesourcevpc",
    "aws:epochtime",
    "aws:federatedprovider",
    "aws:multifactorauthage",
    "aws:multifactorauthpresent",
    "aws:principalaccount",
    "aws:principalarn",
    "aws:principalisawsservice",
    "aws:principalorgid",
    "aws:principalorgpaths",
    "aws:principalservicename",
    "aws:principaltype",
    "aws:referer",
    "aws:requestedregion",
    "aws:resourceaccount",
    "aws:resourceorgid",
    "aws:resourceorgpaths",
    "aws:securetransport",
    "aws:sourceaccount",
    "aws:sourcearn",
    "aws:sourceidentity",
    "aws:sourceip",
    "aws:sourceorgid",
    "aws:sourcevpc",
    "aws:sourcevpce",
    "aws:tagkeys",
    "aws:tokenissuetime",
    "aws:useragent",
    "aws:userid",
    "aws:username",
    "aws:viaawsservice",
    "iam:passedtoservice",
    "s3:delimiter",
    "s3:max-keys",
    "s3:prefix",
];

/// Keys with a name of the user's behind the slash.
const KNOWN_FAMILIES: [&str; 3] = ["aws:principaltag/", "aws:requesttag/", "aws:resourcetag/"];

/// Whether policies may use this condition key. Any other is refused when a policy is parsed, because a denial that
/// depends on what nobody here can know would never hold.
pub fn is_known_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    KNOWN_KEYS.binary_search(&key.as_str()).is_ok()
        || KNOWN_FAMILIES.iter().any(|family| key.len() > family.len() && key.starts_with(family))
}

impl Context {
    /// Sets a key to one value.
    #[must_use]
    pub fn with(self, key: &str, value: &str) -> Context {
        self.with_all(key, [value.to_owned()])
    }

    /// Sets a key to several values; to none, and it is as if it was not there.
    #[must_use]
    pub fn with_all(mut self, key: &str, values: impl IntoIterator<Item = String>) -> Context {
        let values: Vec<String> = values.into_iter().collect();
        let key = key.to_lowercase();
        match values.is_empty() {
            true => self.values.remove(&key),
            false => self.values.insert(key, values),
        };
        self
    }

    /// Says what time it is, in milliseconds since the epoch.
    #[must_use]
    pub fn at(self, now_ms: i64) -> Context {
        self.with("aws:CurrentTime", &date::written(now_ms))
            .with("aws:EpochTime", &now_ms.div_euclid(1_000).to_string())
    }

    /// Says which tags the resource has.
    #[must_use]
    pub fn with_resource_tags<'a>(self, tags: impl IntoIterator<Item = (&'a str, &'a str)>) -> Context {
        self.with_tags("aws:ResourceTag", tags)
    }

    /// Says which tags the request wants the resource to have.
    #[must_use]
    pub fn with_request_tags<'a>(self, tags: impl IntoIterator<Item = (&'a str, &'a str)>) -> Context {
        let tags: Vec<(&str, &str)> = tags.into_iter().collect();
        let keys: Vec<String> = tags.iter().map(|(key, _)| (*key).to_owned()).collect();
        self.with_tags("aws:RequestTag", tags).with_all("aws:TagKeys", keys)
    }

    fn with_tags<'a>(mut self, family: &str, tags: impl IntoIterator<Item = (&'a str, &'a str)>) -> Context {
        for (key, value) in tags {
            let key = format!("{family}/{key}").to_lowercase();
            self.values.entry(key).or_default().push(value.to_owned());
        }
        self
    }

    /// Both together; of a key that both have, `other`'s values.
    #[must_use]
    pub fn and(mut self, other: &Context) -> Context {
        self.values.extend(other.values.iter().map(|(key, values)| (key.clone(), values.clone())));
        self
    }

    pub(crate) fn get(&self, key: &str) -> Option<&[String]> {
        self.values.get(&key.to_lowercase()).map(Vec::as_slice)
    }

    /// Whether this is a tag of several values, of which nobody can say which counts.
    pub(crate) fn is_ambiguous(&self, key: &str) -> bool {
        let is_tag = || {
            let key = key.to_lowercase();
            KNOWN_FAMILIES.iter().any(|family| key.starts_with(family))
        };
        self.get(key).is_some_and(|values| values.len() > 1) && is_tag()
    }

    /// The value of a key that has exactly one.
    pub(crate) fn single(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some([value]) => Some(value),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_keys_are_in_order_and_in_lower_case() {
        let mut sorted = KNOWN_KEYS;
        sorted.sort_unstable();
        assert_eq!(sorted, KNOWN_KEYS);
        assert!(KNOWN_KEYS.iter().all(|key| key.to_ascii_lowercase() == **key));
        assert!(is_known_key("AWS:SourceIp") && is_known_key("aws:ResourceTag/Team"));
        assert!(!is_known_key("aws:ResourceTag/") && !is_known_key("aws:frogs"));
    }
}

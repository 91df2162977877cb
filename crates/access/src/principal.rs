//! Who asks, and how policies of resources name those they speak of.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// Twelve digits.
    pub account: String,
    /// `arn:aws:iam::<account>:user/<name>`, or the ARN of an assumed role's session.
    pub arn: String,
    /// The unique id, `AIDA...` for users.
    pub user_id: String,
}

impl Principal {
    /// The name of a user, without the path; nothing for roles and accounts.
    pub fn user_name(&self) -> Option<&str> {
        let name = self.resource().strip_prefix("user/")?;
        Some(name.rsplit('/').next().unwrap_or(name))
    }

    /// As `aws:PrincipalType` says it.
    pub(crate) fn kind(&self) -> &'static str {
        match self.resource().split('/').next() {
            Some("user") => "User",
            Some("assumed-role") => "AssumedRole",
            _ => "Account",
        }
    }

    fn resource(&self) -> &str {
        self.arn.splitn(6, ':').nth(5).unwrap_or_default()
    }

    /// The role behind a session: its account, and its name without the path.
    fn role(&self) -> Option<(&str, &str)> {
        let rest = self.resource().strip_prefix("assumed-role/")?;
        Some((&self.account, rest.split('/').next()?))
    }
}

/// How closely somebody is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fit {
    /// With the whole account, which then decides by its own policies.
    Account,
    /// By ARN, or as everybody.
    Person,
}

/// One value of a `Principal` element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Named {
    Everybody,
    /// By id, or as its root.
    Account(String),
    Arn(String),
    /// A role, whose sessions are meant: account and name.
    Role(String, String),
    /// An AWS service or somebody federated: nobody who could come here.
    Stranger,
}

impl Named {
    /// A value under `AWS`.
    pub(crate) fn parse(text: &str, place: &str) -> Result<Named> {
        if text == "*" {
            return Ok(Named::Everybody);
        }
        if is_account(text) {
            return Ok(Named::Account(text.to_owned()));
        }
        let rule = "is neither `*`, nor an account of twelve digits, nor the whole ARN of a user or role";
        let wrong = || Error::wrong(place, text, rule);
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let [head, partition, service, region, account, resource] = parts[..] else { return Err(wrong()) };
        let sound = head == "arn" && !partition.is_empty() && region.is_empty() && is_account(account);
        if !sound || text.contains(['*', '?']) {
            return Err(wrong());
        }
        let named = |name: &str| !name.is_empty() && !name.ends_with('/');
        match (service, resource.split_once('/')) {
            ("iam", None) if resource == "root" => Ok(Named::Account(account.to_owned())),
            ("iam", Some(("role", name))) if named(name) => {
                let name = name.rsplit('/').next().unwrap_or(name);
                Ok(Named::Role(account.to_owned(), name.to_owned()))
            }
            ("iam", Some(("user", name))) | ("sts", Some(("assumed-role", name))) if named(name) => {
                Ok(Named::Arn(text.to_owned()))
            }
            _ => Err(wrong()),
        }
    }

    pub(crate) fn fit(&self, principal: &Principal) -> Option<Fit> {
        match self {
            Named::Everybody => Some(Fit::Person),
            Named::Account(account) => (*account == principal.account).then_some(Fit::Account),
            Named::Arn(arn) => (*arn == principal.arn).then_some(Fit::Person),
            Named::Role(account, name) => (principal.role() == Some((account, name))).then_some(Fit::Person),
            Named::Stranger => None,
        }
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(arn: &str) -> Principal {
        let account = arn.split(':').nth(4).unwrap().to_owned();
        Principal { account, arn: arn.to_owned(), user_id: "AIDA".to_owned() }
    }

    #[test]
    fn people_are_named_as_everybody_by_account_or_by_arn() {
        let ann = principal("arn:aws:iam::111122223333:user/team/ann");
        let session = principal("arn:aws:sts::111122223333:assumed-role/deploy/one");
        for (named, who, expect) in [
            ("*", &ann, Some(Fit::Person)),
            ("111122223333", &ann, Some(Fit::Account)),
            ("arn:aws:iam::111122223333:root", &ann, Some(Fit::Account)),
            ("444455556666", &ann, None),
            ("arn:aws:iam::111122223333:user/team/ann", &ann, Some(Fit::Person)),
            ("arn:aws:iam::111122223333:user/ann", &ann, None),
            ("arn:aws:iam::111122223333:role/service/deploy", &session, Some(Fit::Person)),
            ("arn:aws:iam::444455556666:role/deploy", &session, None),
            ("arn:aws:sts::111122223333:assumed-role/deploy/one", &session, Some(Fit::Person)),
            ("arn:aws:sts::111122223333:assumed-role/deploy/two", &session, None),
        ] {
            assert_eq!(Named::parse(named, "a").unwrap().fit(who), expect, "{named}");
        }
        assert_eq!((ann.user_name(), session.user_name()), (Some("ann"), None));
    }

    #[test]
    fn a_principal_that_names_nobody_clearly_is_refused() {
        for text in [
            "",
            "ann",
            "1111",
            "arn:aws:iam::111122223333:user/*",
            "arn:aws:iam::111122223333:user/",
            "arn:aws:iam::111122223333:group/a",
            "arn:aws:iam::1111:user/ann",
            "arn:aws:s3:::bucket",
        ] {
            assert!(Named::parse(text, "a").is_err(), "{text}");
        }
    }
}

//! Who asks.

use access::Rights;
use api::{AccountId, Arn};

#[derive(Debug, Clone, PartialEq)]
pub struct Caller {
    pub account: AccountId,
    /// `arn:aws:iam::<account>:user/<name>`, or the ARN of an assumed role.
    pub arn: String,
    /// What the caller may do. Whether the operation itself is allowed has been asked before; this is for what only the engine
    /// knows, such as projects that other accounts share.
    pub rights: Rights,
}

impl Caller {
    /// The principal that has these rights.
    ///
    /// # Errors
    /// If its account is not twelve digits.
    pub fn of(rights: Rights) -> Result<Caller, api::Error> {
        let principal = rights.principal();
        Ok(Caller { account: principal.account.parse()?, arn: principal.arn.clone(), rights })
    }

    /// COMPAT: LC-009 what a build shows as its initiator: the user's name, or role and session.
    pub(crate) fn initiator(&self) -> String {
        let arn: Option<Arn> = self.arn.parse().ok();
        let Some(arn) = arn else { return self.arn.clone() };
        let resource = arn.resource();
        let name = match resource.split_once('/') {
            // A user's path is no part of the name.
            Some(("user", name)) => name.rsplit('/').next().unwrap_or(name),
            Some((_, name)) => name,
            None => resource,
        };
        name.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_initiator_is_named_as_codebuild_names_it() {
        for (arn, expect) in [
            ("arn:aws:iam::123456789012:user/alice", "alice"),
            ("arn:aws:iam::123456789012:user/team/alice", "alice"),
            ("arn:aws:sts::123456789012:assumed-role/deploy/session-1", "deploy/session-1"),
            ("arn:aws:iam::123456789012:root", "root"),
            ("local", "local"),
        ] {
            let principal = access::Principal {
                account: "123456789012".to_string(),
                arn: arn.to_string(),
                user_id: "AIDA".to_string(),
            };
            let caller = Caller::of(Rights::everything(principal)).expect("twelve digits");
            assert_eq!(caller.initiator(), expect);
        }
    }
}

//! Who asks.

use access::{Principal, Rights};
use api::{AccountId, Arn};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub account: AccountId,
    /// `arn:aws:iam::<account>:user/<name>`, or the ARN of an assumed role.
    pub arn: String,
}

impl Caller {
    /// What the caller may do; what is of the own account, everything.
    pub(crate) fn rights(&self) -> Rights {
        let (account, arn) = (self.account.to_string(), self.arn.clone());
        Rights::everything(Principal { account, arn, user_id: String::new() })
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
            let account = "123456789012".parse().expect("twelve digits");
            let caller = Caller { account, arn: arn.to_string() };
            assert_eq!(caller.initiator(), expect);
        }
    }
}

//! What somebody may do: the decision.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::Error;
use crate::policy::{Asked, Policy, Say};
use crate::principal::Principal;

/// Somebody who asks, with the policies that say what he may do and the circumstances under which he asks. Cheap to clone. Written
/// down with the texts of the policies, which are read again as strictly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub struct Rights {
    principal: Arc<Principal>,
    policies: Arc<[Policy]>,
    context: Context,
}

/// Rights as they are told to another process.
#[derive(Serialize, Deserialize)]
struct Written {
    principal: Principal,
    policies: Vec<String>,
    context: Context,
}

impl From<Rights> for Written {
    fn from(rights: Rights) -> Written {
        let Rights { principal, policies, context } = rights;
        let policies = policies.iter().map(|policy| policy.text.to_string()).collect();
        Written { principal: (*principal).clone(), policies, context }
    }
}

impl TryFrom<Written> for Rights {
    type Error = Error;

    fn try_from(written: Written) -> Result<Rights, Error> {
        let Written { principal, policies, context } = written;
        let policies = policies.iter().map(|text| Policy::of_user(text)).collect::<Result<Vec<_>, _>>()?;
        Ok(Rights { principal: Arc::new(principal), policies: policies.into(), context })
    }
}

/// One thing that somebody wants to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    action: String,
    /// The resource's ARN, then its other names.
    names: Vec<String>,
    about: Context,
}

/// Whose the resource is, and what it says itself.
#[derive(Debug, Clone, Copy)]
pub struct Holder<'a> {
    /// Twelve digits.
    pub account: &'a str,
    pub policy: Option<&'a Policy>,
}

/// A refusal. Its text is AWS's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Denied {
    /// The caller's ARN.
    pub arn: String,
    pub action: String,
    pub resource: String,
    pub reason: Reason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// No policy of the caller's allows it.
    NoUserPolicy,
    /// No policy of the resource allows it, and it is another account's.
    NoResourcePolicy,
    /// A policy of the caller's denies it.
    UserPolicyDenies,
    /// The policy of the resource denies it.
    ResourcePolicyDenies,
}

impl Request {
    /// `action` is of the form `codebuild:StartBuild`, `resource` an ARN, or `*` where an action has none.
    pub fn new(action: impl Into<String>, resource: impl Into<String>) -> Request {
        Request { action: action.into(), names: vec![resource.into()], about: Context::default() }
    }

    /// A further ARN of the same resource, by which policies name it too.
    #[must_use]
    pub fn also(mut self, resource: impl Into<String>) -> Request {
        self.names.push(resource.into());
        self
    }

    /// With what is known of the resource and the wish, such as tags.
    #[must_use]
    pub fn about(self, about: Context) -> Request {
        Request { about, ..self }
    }
}

impl Rights {
    pub fn new(principal: Principal, policies: impl Into<Arc<[Policy]>>) -> Rights {
        let context = Context::default()
            .with("aws:PrincipalArn", &principal.arn)
            .with("aws:PrincipalAccount", &principal.account)
            .with("aws:PrincipalType", principal.kind())
            .with("aws:PrincipalIsAWSService", "false")
            .with("aws:ViaAWSService", "false")
            .with("aws:userid", &principal.user_id)
            .with_all("aws:username", principal.user_name().map(str::to_owned));
        Rights { principal: Arc::new(principal), policies: policies.into(), context }
    }

    /// Somebody who may do everything in the own account: the operator.
    pub fn everything(principal: Principal) -> Rights {
        let everything = r#"{"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}"#;
        Rights::new(principal, vec![Policy::of_user(everything).expect("the policy is sound")])
    }

    /// The same rights under these circumstances.
    #[must_use]
    pub fn under(mut self, circumstances: &Context) -> Rights {
        self.context = self.context.and(circumstances);
        self
    }

    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// Whether this may be done with something of the own account that has no policy of its own.
    ///
    /// # Errors
    /// [`Denied`], which says why.
    pub fn may(&self, request: &Request) -> Result<(), Denied> {
        self.may_with(request, Holder { account: &self.principal.account, policy: None })
    }

    /// Whether this may be done with a resource of anybody's. An explicit denial on either side is the last word. In the own
    /// account either side may allow it; between accounts both must.
    ///
    /// # Errors
    /// [`Denied`], which says why.
    pub fn may_with(&self, request: &Request, holder: Holder<'_>) -> Result<(), Denied> {
        let context = self.context.clone().and(&request.about).with("aws:ResourceAccount", holder.account);
        let asked = Asked {
            principal: &self.principal,
            action: &request.action,
            resources: &request.names,
            context: &context,
        };
        let user = self.policies.iter().map(|policy| policy.say(&asked)).max().unwrap_or(Say::Nothing);
        let resource = holder.policy.map_or(Say::Nothing, |policy| policy.say(&asked));
        let refused = match (user, resource) {
            (Say::Denies, _) => Some(Reason::UserPolicyDenies),
            (_, Say::Denies) => Some(Reason::ResourcePolicyDenies),
            _ if holder.account == self.principal.account => {
                (user.max(resource) < Say::Allows).then_some(Reason::NoUserPolicy)
            }
            (Say::Nothing | Say::AllowsAccount, _) => Some(Reason::NoUserPolicy),
            (Say::Allows, Say::Nothing) => Some(Reason::NoResourcePolicy),
            (Say::Allows, _) => None,
        };
        refused.map_or(Ok(()), |reason| Err(self.denied(request, reason)))
    }

    /// Whether the caller's side allows this with a resource of another account. Its holder has to ask [`Rights::may_with`] with
    /// the resource's policy; without one nothing is shared.
    ///
    /// # Errors
    /// [`Denied`], which says why.
    pub fn may_ask(&self, request: &Request, account: &str) -> Result<(), Denied> {
        match self.may_with(request, Holder { account, policy: None }) {
            Err(Denied { reason: Reason::NoResourcePolicy, .. }) => Ok(()),
            answer => answer,
        }
    }

    /// Whether the tags of resources matter to these policies: where they do not, nobody needs to look them up.
    pub fn ask_for_resource_tags(&self) -> bool {
        self.policies.iter().any(Policy::asks_for_resource_tags)
    }

    fn denied(&self, request: &Request, reason: Reason) -> Denied {
        Denied {
            arn: self.principal.arn.clone(),
            action: request.action.clone(),
            resource: request.names[0].clone(),
            reason,
        }
    }
}

// COMPAT: AP-004 the texts of AWS.
impl fmt::Display for Denied {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Denied { arn, action, resource, reason } = self;
        write!(formatter, "User: {arn} is not authorized to perform: {action} on resource: {resource} ")?;
        match reason {
            Reason::NoUserPolicy => {
                write!(formatter, "because no identity-based policy allows the {action} action")
            }
            Reason::NoResourcePolicy => {
                write!(formatter, "because no resource-based policy allows the {action} action")
            }
            Reason::UserPolicyDenies => {
                formatter.write_str("with an explicit deny in an identity-based policy")
            }
            Reason::ResourcePolicyDenies => {
                formatter.write_str("with an explicit deny in a resource-based policy")
            }
        }
    }
}

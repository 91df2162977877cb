//! PutResourcePolicy, GetResourcePolicy, DeleteResourcePolicy, ListSharedProjects, and what a policy opens for other
//! accounts: BatchGetProjects, BatchGetBuilds and ListBuildsForProject, by ARN.

use std::cmp::Ordering;

use access::{Holder, Policy, Request};
use api::arn::Resource;
use api::codebuild::{
    DeleteResourcePolicyInput, DeleteResourcePolicyOutput, GetResourcePolicyInput, GetResourcePolicyOutput,
    ListSharedProjectsInput, ListSharedProjectsOutput, PutResourcePolicyInput, PutResourcePolicyOutput,
    SharedResourceSortByType, SortOrderType,
};
use api::{AccountId, Arn, codebuild};
use store::records::{ForeignPolicy, Scope};

use crate::caller::Caller;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::paging::{self, PAGE};
use crate::project::required;

/// COMPAT: AP-113 what the owner of a project may give away.
const ACTIONS: [&str; 3] =
    ["codebuild:BatchGetProjects", "codebuild:BatchGetBuilds", "codebuild:ListBuildsForProject"];

/// Before the keys of this list's tokens.
const TOKEN: &str = "shared-projects";

impl Engine {
    /// Shares a project with those whom the policy names. COMPAT: AP-113.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a policy that is not understood as a whole or gives away something else;
    /// [`Error::NotFound`] (resource).
    pub async fn put_resource_policy(
        &self,
        caller: &Caller,
        input: PutResourcePolicyInput,
    ) -> Result<PutResourcePolicyOutput> {
        let arn = required(input.resource_arn, "resourceArn")?;
        let resource = self.shareable(caller, &arn)?;
        let text = required(input.policy, "policy")?;
        let policy = Policy::of_resource(&text)
            .map_err(|error| Error::InvalidInput(format!("Invalid resource policy: {error}")))?;
        if !policy.names_only(&ACTIONS) {
            let allowed = ACTIONS.join(", ");
            return Error::invalid(format!("Invalid resource policy: its actions can only be {allowed}"));
        }
        let (scope, now_ms) = (self.scope(caller), self.shared.config.clock.now_ms());
        match self.shared.records.put_policy(&scope, &resource, &text, now_ms).await {
            Ok(()) => Ok(PutResourcePolicyOutput { resource_arn: Some(arn) }),
            Err(store::Error::NotFound { .. }) => Err(no_such_resource(&arn)),
            Err(error) => Err(error.into()),
        }
    }

    /// COMPAT: AP-114.
    ///
    /// # Errors
    /// [`Error::InvalidInput`], [`Error::NotFound`] (resource, or its policy).
    pub async fn get_resource_policy(
        &self,
        caller: &Caller,
        input: GetResourcePolicyInput,
    ) -> Result<GetResourcePolicyOutput> {
        let arn = required(input.resource_arn, "resourceArn")?;
        let resource = self.shareable(caller, &arn)?;
        let found = self.shared.records.get_policy(&self.scope(caller), &resource).await?;
        let missing = || Error::NotFound(format!("The resource policy of {arn} does not exist"));
        Ok(GetResourcePolicyOutput { policy: Some(found.ok_or_else(missing)?) })
    }

    /// COMPAT: AP-115 no matter whether there was one.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for what cannot have a policy.
    pub async fn delete_resource_policy(
        &self,
        caller: &Caller,
        input: DeleteResourcePolicyInput,
    ) -> Result<DeleteResourcePolicyOutput> {
        match self.shareable(caller, &required(input.resource_arn, "resourceArn")?) {
            Ok(resource) => {
                self.shared.records.delete_policy(&self.scope(caller), &resource).await?;
            }
            // The model declares no NotFound: what is not of this account has no policy here either.
            Err(Error::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        Ok(DeleteResourcePolicyOutput::default())
    }

    /// ARNs of projects that other accounts share with the caller, 100 a page unless asked otherwise.
    /// COMPAT: AP-065.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a token that is not of this list.
    pub async fn list_shared_projects(
        &self,
        caller: &Caller,
        input: ListSharedProjectsInput,
    ) -> Result<ListSharedProjectsOutput> {
        let by_time = input.sort_by == Some(SharedResourceSortByType::ModifiedTime);
        let descending = input.sort_order == Some(SortOrderType::Descending);
        let after = paging::after(input.next_token.as_deref()).map(parse).transpose()?;
        let limit = input.max_results.and_then(|max| usize::try_from(max).ok()).unwrap_or(PAGE);
        let compare = |a: &(i64, String), b: &(i64, String)| {
            let order = if by_time { a.cmp(b) } else { a.1.cmp(&b.1) };
            if descending { order.reverse() } else { order }
        };
        let policies = self.shared.records.foreign_policies(&self.scope(caller)).await?;
        let shared = policies.into_iter().filter_map(|one| self.shared_with(caller, one));
        let mut shared: Vec<(i64, String)> = shared
            .filter(|one| after.as_ref().is_none_or(|after| compare(one, after) == Ordering::Greater))
            .collect();
        shared.sort_by(compare);
        let next = shared.len() > limit;
        shared.truncate(limit);
        let last = shared.last().filter(|_| next);
        Ok(ListSharedProjectsOutput {
            next_token: last.map(|(ms, arn)| format!("{TOKEN}:{ms}:{arn}")),
            projects: Some(shared.into_iter().map(|(_, arn)| arn).collect()),
        })
    }

    /// When it was changed, and its ARN, if the policy lets the caller look at the project.
    fn shared_with(&self, caller: &Caller, foreign: ForeignPolicy) -> Option<(i64, String)> {
        let ForeignPolicy { scope, project, modified_ms, policy } = foreign;
        let account = scope.account.parse().ok()?;
        let arn = Arn::codebuild(self.region(), &account, Resource::Project(&project)).to_string();
        opens(caller, ACTIONS[0], &arn, &scope.account, &policy).then_some((modified_ms, arn))
    }

    /// Where the project of an ARN of another account is, and its name, if that account lets the caller do this with it.
    /// COMPAT: AP-009 what is shared is named by its ARN.
    pub(super) async fn shared_project(
        &self,
        caller: &Caller,
        arn: &str,
        operation: codebuild::Operation,
    ) -> Result<Option<(Scope, String)>> {
        let Some(parsed) = arn.parse::<Arn>().ok().filter(|arn| arn.region() == self.region().as_str())
        else {
            return Ok(None);
        };
        let project = match parsed.codebuild_resource() {
            Some(Resource::Project(name)) => name,
            Some(Resource::Build(id)) => id.split(':').next().unwrap_or_default(),
            _ => return Ok(None),
        };
        let Ok(account) = parsed.account().parse::<AccountId>() else { return Ok(None) };
        if account == caller.account {
            return Ok(None);
        }
        let scope = Scope { account: account.to_string(), region: self.region().to_string() };
        let resource = Resource::Project(project);
        let Some(policy) = self.shared.records.get_policy(&scope, &resource.to_string()).await? else {
            return Ok(None);
        };
        let arn = Arn::codebuild(self.region(), &account, resource).to_string();
        let action = format!("codebuild:{}", operation.name());
        Ok(opens(caller, &action, &arn, &scope.account, &policy).then(|| (scope, project.to_string())))
    }

    /// The end of an ARN of what can have a policy. COMPAT: AP-113 projects and report groups.
    fn shareable(&self, caller: &Caller, arn: &str) -> Result<String> {
        let parsed: Option<Arn> = arn.parse().ok();
        match parsed.as_ref().and_then(Arn::codebuild_resource) {
            Some(Resource::Project(_) | Resource::ReportGroup(_)) => {}
            _ => {
                let rule = "it is not the ARN of a project or report group";
                return Error::invalid(format!("Invalid resourceArn {arn}: {rule}"));
            }
        }
        let own = self.own_arn(caller, arn).ok_or_else(|| no_such_resource(arn))?;
        Ok(own.resource().to_string())
    }
}

/// Whether the owner's policy and the caller's own let him do this. A stored policy was understood when it was put.
fn opens(caller: &Caller, action: &str, arn: &str, owner: &str, policy: &str) -> bool {
    let Ok(policy) = Policy::of_resource(policy) else { return false };
    let holder = Holder { account: owner, policy: Some(&policy) };
    caller.rights.may_with(&Request::new(action, arn), holder).is_ok()
}

fn parse(token: &str) -> Result<(i64, String)> {
    let rest = token.strip_prefix(TOKEN).and_then(|rest| rest.strip_prefix(':')?.split_once(':'));
    let parsed = rest.and_then(|(ms, arn)| Some((ms.parse().ok()?, arn.to_string())));
    parsed.ok_or_else(|| Error::InvalidInput(format!("Invalid next token: {token}")))
}

fn no_such_resource(arn: &str) -> Error {
    Error::NotFound(format!("The provided resource {arn} does not exist"))
}

//! PutResourcePolicy, GetResourcePolicy, DeleteResourcePolicy, ListSharedProjects, ListSharedReportGroups, and what a
//! policy opens for other accounts: looking at a project and its builds, at a report group and its reports, by ARN.

use std::cmp::Ordering;
use std::collections::HashMap;

use access::{Context, Holder, Policy, Request};
use api::arn::Resource;
use api::codebuild::{
    DeleteResourcePolicyInput, DeleteResourcePolicyOutput, GetResourcePolicyInput, GetResourcePolicyOutput,
    ListSharedProjectsInput, ListSharedProjectsOutput, ListSharedReportGroupsInput,
    ListSharedReportGroupsOutput, Project, PutResourcePolicyInput, PutResourcePolicyOutput, ReportGroup,
    SharedResourceSortByType, SortOrderType, Tag,
};
use api::{AccountId, Arn, codebuild};
use store::records::{ForeignPolicy, Scope, Shareable};

use crate::caller::Caller;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::paging::{self, PAGE};
use crate::project::required;

/// COMPAT: AP-113 what the owner of a project may give away; the first is to look at it.
const OF_PROJECTS: &[&str] =
    &["codebuild:BatchGetProjects", "codebuild:BatchGetBuilds", "codebuild:ListBuildsForProject"];
/// And the owner of a report group.
const OF_REPORT_GROUPS: &[&str] = &[
    "codebuild:BatchGetReportGroups",
    "codebuild:BatchGetReports",
    "codebuild:ListReportsForReportGroup",
    "codebuild:DescribeTestCases",
];

/// What a resource says itself to who may do what with it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// None, if no policy asks for them.
    pub tags: Vec<(String, String)>,
    /// Its own.
    pub policy: Option<Policy>,
}

impl Known {
    /// The tags, as policies ask for them.
    pub fn about(&self) -> Context {
        let tags = self.tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        Context::default().with_resource_tags(tags)
    }
}

/// A request for what others share.
struct Wanted {
    of: Shareable,
    by_time: bool,
    descending: bool,
    limit: usize,
    after: Option<(i64, String)>,
}

/// The action that lets one see a thing of this kind, and what is before the keys of the list's tokens.
fn listing(of: Shareable) -> (&'static str, &'static str) {
    match of {
        Shareable::Projects => (OF_PROJECTS[0], "shared-projects"),
        Shareable::ReportGroups => (OF_REPORT_GROUPS[0], "shared-report-groups"),
    }
}

/// Whether a resource's policy can have a say in this.
fn is_given_away(action: &str) -> bool {
    OF_PROJECTS.contains(&action) || OF_REPORT_GROUPS.contains(&action)
}

fn pairs(tags: Option<Vec<Tag>>) -> Vec<(String, String)> {
    let tags = tags.unwrap_or_default().into_iter();
    tags.filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default()))).collect()
}

fn resource(of: Shareable, name: &str) -> Resource<'_> {
    match of {
        Shareable::Projects => Resource::Project(name),
        Shareable::ReportGroups => Resource::ReportGroup(name),
    }
}

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
        let actions = if resource.starts_with("project/") { OF_PROJECTS } else { OF_REPORT_GROUPS };
        if !policy.names_only(actions) {
            let allowed = actions.join(", ");
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
        let wanted = wanted(
            Shareable::Projects,
            (input.sort_by, input.sort_order),
            input.max_results,
            input.next_token.as_deref(),
        )?;
        let (projects, next_token) = self.shared_arns(caller, wanted).await?;
        Ok(ListSharedProjectsOutput { next_token, projects: Some(projects) })
    }

    /// ARNs of report groups that other accounts share with the caller, 100 a page unless asked otherwise.
    /// COMPAT: AP-102.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a token that is not of this list.
    pub async fn list_shared_report_groups(
        &self,
        caller: &Caller,
        input: ListSharedReportGroupsInput,
    ) -> Result<ListSharedReportGroupsOutput> {
        let wanted = wanted(
            Shareable::ReportGroups,
            (input.sort_by, input.sort_order),
            input.max_results,
            input.next_token.as_deref(),
        )?;
        let (report_groups, next_token) = self.shared_arns(caller, wanted).await?;
        Ok(ListSharedReportGroupsOutput { next_token, report_groups: Some(report_groups) })
    }

    /// A page, and the token of the next.
    async fn shared_arns(&self, caller: &Caller, wanted: Wanted) -> Result<(Vec<String>, Option<String>)> {
        let Wanted { of, by_time, descending, limit, after } = wanted;
        let compare = |a: &(i64, String), b: &(i64, String)| {
            let order = if by_time { a.cmp(b) } else { a.1.cmp(&b.1) };
            if descending { order.reverse() } else { order }
        };
        let policies = self.shared.records.foreign_policies(&self.scope(caller), of).await?;
        let mut shared: Vec<(i64, String)> = Vec::new();
        for foreign in policies {
            shared.extend(self.shared_with(caller, of, foreign).await?);
        }
        shared.retain(|one| after.as_ref().is_none_or(|after| compare(one, after) == Ordering::Greater));
        shared.sort_by(compare);
        let is_cut = shared.len() > limit;
        shared.truncate(limit);
        let last = shared.last().filter(|_| is_cut);
        let next = last.map(|(ms, arn)| format!("{}:{ms}:{arn}", listing(of).1));
        Ok((shared.into_iter().map(|(_, arn)| arn).collect(), next))
    }

    /// When it was changed, and its ARN, if the policy lets the caller look at it.
    async fn shared_with(
        &self,
        caller: &Caller,
        of: Shareable,
        foreign: ForeignPolicy,
    ) -> Result<Option<(i64, String)>> {
        let ForeignPolicy { scope, name, modified_ms, policy } = foreign;
        let Ok(account) = scope.account.parse() else { return Ok(None) };
        let resource = resource(of, &name);
        let policies = HashMap::from([(resource.to_string(), policy)]);
        let known = self.known_with(caller, &scope, &[resource], &policies).await?;
        let arn = Arn::codebuild(self.region(), &account, resource).to_string();
        let is_open = known.iter().all(|known| opens(caller, listing(of).0, &arn, &scope.account, known));
        Ok(is_open.then_some((modified_ms, arn)))
    }

    /// What resources say themselves to whether the caller may do this with them, by their ARNs, which may be anybody's in this
    /// region. Nothing of what is not there.
    ///
    /// # Errors
    /// [`Error::Internal`] if the store cannot be read.
    pub async fn known(
        &self,
        caller: &Caller,
        arns: &[String],
        action: &str,
    ) -> Result<HashMap<String, Known>> {
        let parsed = arns.iter().filter_map(|text| Some((text.clone(), text.parse::<Arn>().ok()?)));
        let here: Vec<_> = parsed.filter(|(_, arn)| arn.region() == self.region().as_str()).collect();
        let mut by_account: HashMap<&str, (Vec<String>, Vec<Resource<'_>>)> = HashMap::new();
        for (text, arn) in &here {
            if let Some(found @ (Resource::Project(_) | Resource::ReportGroup(_))) = arn.codebuild_resource()
            {
                let (arns, resources) = by_account.entry(arn.account()).or_default();
                arns.push(text.clone());
                resources.push(found);
            }
        }
        let mut known = HashMap::new();
        for (account, (arns, resources)) in by_account {
            let scope = Scope { account: account.to_owned(), region: self.region().to_string() };
            let policies = match is_given_away(action) {
                true => {
                    let names: Vec<String> = resources.iter().map(Resource::to_string).collect();
                    self.shared.records.get_policies(&scope, &names).await?
                }
                false => HashMap::new(),
            };
            known.extend(arns.into_iter().zip(self.known_with(caller, &scope, &resources, &policies).await?));
        }
        Ok(known)
    }

    /// Of these resources, given their policies. A stored policy was understood when it was put.
    async fn known_with(
        &self,
        caller: &Caller,
        scope: &Scope,
        resources: &[Resource<'_>],
        policies: &HashMap<String, String>,
    ) -> Result<Vec<Known>> {
        let policy = |resource: &Resource<'_>| {
            let policy = policies.get(&resource.to_string()).map(|text| Policy::of_resource(text));
            policy.transpose().map_err(Error::internal)
        };
        let policies = resources.iter().map(policy).collect::<Result<Vec<Option<Policy>>>>()?;
        let asks = |policy: &Option<Policy>| {
            caller.rights.ask_for_resource_tags()
                || policy.as_ref().is_some_and(Policy::asks_for_resource_tags)
        };
        let asked = resources.iter().zip(&policies).filter(|(_, policy)| asks(policy));
        let tags = self.tags(scope, &asked.map(|(resource, _)| *resource).collect::<Vec<_>>()).await?;
        let known = |(resource, policy): (&Resource<'_>, Option<Policy>)| Known {
            tags: tags.get(&resource.to_string()).cloned().unwrap_or_default(),
            policy,
        };
        Ok(resources.iter().zip(policies).map(known).collect())
    }

    async fn tags(
        &self,
        scope: &Scope,
        resources: &[Resource<'_>],
    ) -> Result<HashMap<String, Vec<(String, String)>>> {
        let named = |name: fn(&Resource<'_>) -> Option<String>| resources.iter().filter_map(name).collect();
        let projects: Vec<String> =
            named(|one| if let Resource::Project(name) = one { Some((*name).to_owned()) } else { None });
        let groups: Vec<String> =
            named(|one| if let Resource::ReportGroup(name) = one { Some((*name).to_owned()) } else { None });
        let mut tags = HashMap::new();
        if !projects.is_empty() {
            for found in self.shared.records.get_projects(scope, &projects).await? {
                let project: Project = serde_json::from_str(&found.document)?;
                tags.insert(Resource::Project(&found.name).to_string(), pairs(project.tags));
            }
        }
        if !groups.is_empty() {
            for found in self.shared.records.get_report_groups(scope, &groups).await? {
                let group: ReportGroup = serde_json::from_str(&found.document)?;
                tags.insert(Resource::ReportGroup(&found.name).to_string(), pairs(group.tags));
            }
        }
        Ok(tags)
    }

    /// Where the project of an ARN of another account is, and its name, if that account lets the caller do this with it.
    /// COMPAT: AP-009 what is shared is named by its ARN.
    pub(super) async fn shared_project(
        &self,
        caller: &Caller,
        arn: &str,
        operation: codebuild::Operation,
    ) -> Result<Option<(Scope, String)>> {
        self.shared_thing(caller, arn, operation, Shareable::Projects).await
    }

    /// As [`Engine::shared_project`], of a report group, by its ARN or that of one of its reports.
    pub(super) async fn shared_report_group(
        &self,
        caller: &Caller,
        arn: &str,
        operation: codebuild::Operation,
    ) -> Result<Option<(Scope, String)>> {
        self.shared_thing(caller, arn, operation, Shareable::ReportGroups).await
    }

    async fn shared_thing(
        &self,
        caller: &Caller,
        arn: &str,
        operation: codebuild::Operation,
        of: Shareable,
    ) -> Result<Option<(Scope, String)>> {
        let here = |arn: &Arn| arn.region() == self.region().as_str();
        let Some(parsed) = self.arn(arn).filter(here) else { return Ok(None) };
        let owner = |id: &str| id.split(':').next().unwrap_or_default().to_owned();
        let name = match (parsed.codebuild_resource(), of) {
            (Some(Resource::Project(id) | Resource::Build(id)), Shareable::Projects) => owner(id),
            (Some(Resource::ReportGroup(id) | Resource::Report(id)), Shareable::ReportGroups) => owner(id),
            _ => return Ok(None),
        };
        let Ok(account) = parsed.account().parse::<AccountId>() else { return Ok(None) };
        if account == caller.account {
            return Ok(None);
        }
        let scope = Scope { account: account.to_string(), region: self.region().to_string() };
        let arn = Arn::codebuild(self.region(), &account, resource(of, &name)).to_string();
        let action = format!("codebuild:{}", operation.name());
        let known = self.known(caller, std::slice::from_ref(&arn), &action).await?;
        let known = known.get(&arn).cloned().unwrap_or_default();
        Ok(opens(caller, &action, &arn, &scope.account, &known).then_some((scope, name)))
    }

    /// The end of an ARN of what can have a policy. COMPAT: AP-113 projects and report groups.
    fn shareable(&self, caller: &Caller, arn: &str) -> Result<String> {
        let parsed = self.arn(arn);
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

/// Whether the owner's policy and the caller's own let him do this.
fn opens(caller: &Caller, action: &str, arn: &str, owner: &str, known: &Known) -> bool {
    let holder = Holder { account: owner, policy: known.policy.as_ref() };
    caller.rights.may_with(&Request::new(action, arn).about(known.about()), holder).is_ok()
}

fn wanted(
    of: Shareable,
    (by, order): (Option<SharedResourceSortByType>, Option<SortOrderType>),
    max: Option<i32>,
    token: Option<&str>,
) -> Result<Wanted> {
    Ok(Wanted {
        of,
        by_time: by == Some(SharedResourceSortByType::ModifiedTime),
        descending: order == Some(SortOrderType::Descending),
        limit: max.and_then(|max| usize::try_from(max).ok()).unwrap_or(PAGE),
        after: paging::after(token).map(|token| parse(token, of)).transpose()?,
    })
}

fn parse(token: &str, of: Shareable) -> Result<(i64, String)> {
    let rest = token.strip_prefix(listing(of).1).and_then(|rest| rest.strip_prefix(':')?.split_once(':'));
    let parsed = rest.and_then(|(ms, arn)| Some((ms.parse().ok()?, arn.to_string())));
    parsed.ok_or_else(|| Error::InvalidInput(format!("Invalid next token: {token}")))
}

fn no_such_resource(arn: &str) -> Error {
    Error::NotFound(format!("The provided resource {arn} does not exist"))
}

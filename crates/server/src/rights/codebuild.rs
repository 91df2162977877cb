//! CodeBuild: builds are a matter of their project, reports of their report group.
// COMPAT: AP-004 which resource an action asks for is as in AWS's service authorization reference.

use std::collections::HashMap;

use access::{Context, Denied, Holder, Reason, Request};
use api::ServiceError;
use api::arn::{Arn, Resource};
use api::codebuild::Operation;
use engine::Known;
use serde_json::{Value, json};

use super::{Asker, refused, text, texts, wanted_tags};
use crate::codebuild::CodeBuild;

/// How a request names a resource, if not by ARN.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Project,
    /// `<project>:<uuid>`, of builds, build batches and sandboxes.
    OfProject,
    ReportGroup,
    /// `<report group>:<uuid>`.
    OfReportGroup,
    Fleet,
}

/// What an operation is about.
#[derive(Debug, Clone, Copy)]
enum About {
    /// The account as a whole.
    Account,
    /// The resource that this member names.
    One(Kind, &'static str),
    /// Those that this member lists, each for itself: what is forbidden is answered as what is not there.
    Each(Kind, &'static str, Missing),
}

/// How an answer names what is not there.
#[derive(Debug, Clone, Copy)]
enum Missing {
    /// A list of what was asked.
    Texts(&'static str),
    /// COMPAT: AP-078 builds that were not deleted.
    NotDeleted,
}

fn about(operation: Operation) -> About {
    use About::*;
    use Kind::*;
    match operation {
        Operation::BatchDeleteBuilds => Each(OfProject, "ids", Missing::NotDeleted),
        Operation::BatchGetBuilds => Each(OfProject, "ids", Missing::Texts("buildsNotFound")),
        Operation::BatchGetBuildBatches => Each(OfProject, "ids", Missing::Texts("buildBatchesNotFound")),
        Operation::BatchGetSandboxes => Each(OfProject, "ids", Missing::Texts("sandboxesNotFound")),
        Operation::BatchGetProjects => Each(Project, "names", Missing::Texts("projectsNotFound")),
        Operation::BatchGetFleets => Each(Fleet, "names", Missing::Texts("fleetsNotFound")),
        Operation::BatchGetReportGroups => {
            Each(ReportGroup, "reportGroupArns", Missing::Texts("reportGroupsNotFound"))
        }
        Operation::BatchGetReports => Each(OfReportGroup, "reportArns", Missing::Texts("reportsNotFound")),
        Operation::ImportSourceCredentials
        | Operation::DeleteSourceCredentials
        | Operation::ListSourceCredentials
        | Operation::ListBuildBatches
        | Operation::ListBuilds
        | Operation::ListCuratedEnvironmentImages
        | Operation::ListFleets
        | Operation::ListProjects
        | Operation::ListReportGroups
        | Operation::ListReports
        | Operation::ListSandboxes
        | Operation::ListSharedProjects
        | Operation::ListSharedReportGroups => Account,
        Operation::CreateFleet => One(Fleet, "name"),
        Operation::UpdateFleet | Operation::DeleteFleet => One(Fleet, "arn"),
        Operation::CreateProject | Operation::UpdateProject | Operation::DeleteProject => {
            One(Project, "name")
        }
        Operation::UpdateProjectVisibility => One(Project, "projectArn"),
        Operation::CreateWebhook
        | Operation::UpdateWebhook
        | Operation::DeleteWebhook
        | Operation::InvalidateProjectCache
        | Operation::ListBuildBatchesForProject
        | Operation::ListBuildsForProject
        | Operation::ListSandboxesForProject
        | Operation::StartBuild
        | Operation::StartBuildBatch
        | Operation::StartSandbox => One(Project, "projectName"),
        Operation::DeleteBuildBatch
        | Operation::RetryBuild
        | Operation::RetryBuildBatch
        | Operation::StopBuild
        | Operation::StopBuildBatch
        | Operation::StopSandbox => One(OfProject, "id"),
        Operation::BatchGetCommandExecutions
        | Operation::ListCommandExecutionsForSandbox
        | Operation::StartCommandExecution
        | Operation::StartSandboxConnection => One(OfProject, "sandboxId"),
        Operation::CreateReportGroup => One(ReportGroup, "name"),
        Operation::UpdateReportGroup | Operation::DeleteReportGroup => One(ReportGroup, "arn"),
        Operation::DeleteReport => One(OfReportGroup, "arn"),
        Operation::DescribeCodeCoverages | Operation::DescribeTestCases => One(OfReportGroup, "reportArn"),
        Operation::GetReportGroupTrend | Operation::ListReportsForReportGroup => {
            One(ReportGroup, "reportGroupArn")
        }
        Operation::PutResourcePolicy | Operation::GetResourcePolicy | Operation::DeleteResourcePolicy => {
            One(Project, "resourceArn")
        }
    }
}

/// Where a request of this operation names roles, as JSON pointers. RetryBuild names none: a build that is tried again keeps its role.
fn roles(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::CreateProject | Operation::UpdateProject => {
            &["/serviceRole", "/buildBatchConfig/serviceRole"]
        }
        Operation::UpdateProjectVisibility => &["/resourceAccessRole"],
        Operation::StartBuild => &["/serviceRoleOverride"],
        Operation::StartBuildBatch => &["/serviceRoleOverride", "/buildBatchConfigOverride/serviceRole"],
        Operation::CreateFleet | Operation::UpdateFleet => &["/fleetServiceRole"],
        _ => &[],
    }
}

/// What of a batch was forbidden, and so has to be missing from its answer.
#[derive(Debug, Default)]
pub(crate) struct Withheld {
    batch: Option<(Missing, Vec<String>)>,
    forbidden: Vec<(String, String)>,
}

/// Asks for everything the call is about. What of a batch is forbidden is taken out of the request.
pub(crate) async fn permit(
    codebuild: &CodeBuild,
    operation: Operation,
    asker: &Asker<'_>,
    request: &mut Value,
) -> Result<Withheld, ServiceError> {
    let action = format!("codebuild:{}", operation.name());
    match about(operation) {
        About::Account => {
            asker.may(&Request::new(action, "*"))?;
            Ok(Withheld::default())
        }
        About::One(kind, member) => {
            let wishes = wanted_tags(request, "tags", ("key", "value"));
            let one = text(request, member).unwrap_or_default().to_owned();
            let ask = Ask::about(codebuild, asker, &action, kind, std::slice::from_ref(&one)).await?;
            ask.one(kind, &one, wishes).map_err(refused)?;
            let named = roles(operation).iter().filter_map(|role| request.pointer(role)?.as_str());
            named.into_iter().try_for_each(|role| asker.may_pass(role))?;
            Ok(Withheld::default())
        }
        About::Each(kind, member, missing) => {
            let asked: Vec<String> = texts(request, member).map(str::to_owned).collect();
            let ask = Ask::about(codebuild, asker, &action, kind, &asked).await?;
            let mut withheld = Withheld::default();
            for one in &asked {
                if ask.one(kind, one, Context::default()).is_err() {
                    withheld.forbidden.push((one.clone(), asker.item(kind, one)));
                }
            }
            if !withheld.forbidden.is_empty() {
                let is_free = |one: &&String| !withheld.forbidden.iter().any(|(text, _)| text == *one);
                request[member] = asked.iter().filter(is_free).map(String::as_str).collect();
                withheld.batch = Some((missing, asked));
            }
            Ok(withheld)
        }
    }
}

impl Withheld {
    pub(crate) fn is_something(&self) -> bool {
        self.batch.is_some()
    }

    /// Puts what was forbidden among what is not there, in the order in which it was asked: nothing tells one from the other.
    pub(crate) fn name_in(self, answer: &mut Value) {
        let Some((missing, asked)) = self.batch else { return };
        match missing {
            Missing::Texts(member) => {
                let before = answer[member].take();
                let is_missing = |text: &&String| {
                    self.forbidden.iter().any(|(forbidden, _)| forbidden == *text)
                        || before
                            .as_array()
                            .is_some_and(|before| before.iter().any(|one| one == text.as_str()))
                };
                answer[member] = asked.iter().filter(is_missing).map(String::as_str).collect();
            }
            Missing::NotDeleted => {
                let mut entries = match answer["buildsNotDeleted"].take() {
                    Value::Array(entries) => entries,
                    _ => Vec::new(),
                };
                for (_, arn) in self.forbidden {
                    if !entries.iter().any(|entry| entry["id"] == arn.as_str()) {
                        entries.push(json!({ "id": arn, "statusCode": "BUILD_NOT_FOUND" }));
                    }
                }
                entries.sort_by_cached_key(|entry| place(&asked, text(entry, "id").unwrap_or_default()));
                answer["buildsNotDeleted"] = Value::Array(entries);
            }
        }
    }
}

/// Where in the request the build with this ARN was named, by ARN or by id.
fn place(asked: &[String], arn: &str) -> usize {
    let id = arn.rsplit_once('/').map_or(arn, |(_, id)| id);
    asked
        .iter()
        .position(|text| text.rsplit_once('/').map_or(text.as_str(), |(_, id)| id) == id)
        .unwrap_or(asked.len())
}

/// One operation's question, for one resource after the other.
struct Ask<'a> {
    asker: &'a Asker<'a>,
    action: &'a str,
    /// What the resources say themselves, by ARN.
    known: HashMap<String, Known>,
}

impl<'a> Ask<'a> {
    /// Not to be able to find out what is permitted is an error and no denial: what is there would be answered as missing.
    async fn about(
        codebuild: &CodeBuild,
        asker: &'a Asker<'a>,
        action: &'a str,
        kind: Kind,
        named: &[String],
    ) -> Result<Ask<'a>, ServiceError> {
        let mut arns: Vec<String> = named.iter().map(|named| asker.resource(kind, named).0).collect();
        // The builds of a batch are often of one project.
        arns.sort_unstable();
        arns.dedup();
        Ok(Ask { known: codebuild.known(asker.caller, &arns, action).await?, asker, action })
    }

    /// COMPAT: AP-113 what the resource's own policy says counts for users of its account as well.
    fn one(&self, kind: Kind, named: &str, wishes: Context) -> Result<(), Denied> {
        let (arn, account) = self.asker.resource(kind, named);
        let rights = &self.asker.caller.rights;
        let is_own = account == self.asker.caller.account;
        let known = self.known.get(&arn).cloned().unwrap_or_default();
        if !is_own && known.policy.is_none() {
            return rights.may_ask(&Request::new(self.action, arn).about(wishes), &account);
        }
        let request = Request::new(self.action, arn).about(wishes.and(&known.about()));
        match rights.may_with(&request, Holder { account: &account, policy: known.policy.as_ref() }) {
            // What others do not share is not there, as the operation says.
            Err(Denied { reason: Reason::NoResourcePolicy, .. }) => Ok(()),
            verdict => verdict,
        }
    }
}

impl Asker<'_> {
    /// COMPAT: AP-036 who lets CodeBuild act as a role needs the right to pass it on.
    fn may_pass(&self, role: &str) -> Result<(), ServiceError> {
        let (arn, plain) = self.role(role);
        let about = Context::default().with("iam:PassedToService", "codebuild.amazonaws.com");
        self.may(&Request::new("iam:PassRole", arn).also(plain).about(about))
    }

    /// A role's ARN, from its ARN or name, and the same without its path: roles are known by their names. An ARN of this account is
    /// written anew, so that no other spelling of it comes past a policy; one of elsewhere stays what it is, and is refused as such.
    fn role(&self, named: &str) -> (String, String) {
        let arn: Option<Arn> = named.parse().ok();
        let path = match &arn {
            Some(arn) if arn.service() == "iam" && arn.account() == self.account.as_str() => {
                arn.resource().strip_prefix("role/")
            }
            _ if named.starts_with("arn:") => None,
            _ => Some(named),
        };
        let Some(path) = path else { return (named.to_owned(), named.to_owned()) };
        let head = format!("arn:{}:iam::{}:role/", self.region.partition(), self.account);
        let name = path.rsplit('/').next().unwrap_or(path);
        (format!("{head}{path}"), format!("{head}{name}"))
    }

    /// The ARN of what decides over what is named so, and its account. An ARN of this account and Region is written anew, so that no
    /// other spelling of it comes past a policy.
    fn resource(&self, kind: Kind, named: &str) -> (String, String) {
        let arn: Option<Arn> = named.parse().ok();
        let resource = match &arn {
            Some(arn) => arn.codebuild_resource(),
            None if named.starts_with("arn:") => None,
            None => Some(kind.of(named)),
        };
        match (&arn, resource) {
            (Some(arn), resource) if !arn.belongs_to(&self.region, &self.account) => {
                let account = arn.account().to_owned();
                let head = format!("arn:{}:codebuild:{}:{account}", arn.partition(), arn.region());
                (
                    resource.map_or(arn.to_string(), |resource| format!("{head}:{}", deciding(resource))),
                    account,
                )
            }
            (_, Some(resource)) => {
                let arn = Arn::codebuild(&self.region, &self.account, deciding(resource));
                (arn.to_string(), self.account.to_string())
            }
            // It names nothing, and whoever may do so with everything is told that.
            (_, None) => (named.to_owned(), self.account.to_string()),
        }
    }

    /// The ARN by which an answer names an item.
    fn item(&self, kind: Kind, named: &str) -> String {
        match (named.starts_with("arn:"), kind) {
            (false, Kind::OfProject) => {
                Arn::codebuild(&self.region, &self.account, Resource::Build(named)).to_string()
            }
            _ => named.to_owned(),
        }
    }
}

impl Kind {
    fn of(self, name: &str) -> Resource<'_> {
        match self {
            Kind::Project => Resource::Project(name),
            Kind::OfProject => Resource::Build(name),
            Kind::ReportGroup => Resource::ReportGroup(name),
            Kind::OfReportGroup => Resource::Report(name),
            Kind::Fleet => Resource::Fleet(name),
        }
    }
}

/// The resource that policies speak of: a build's project, a report's group.
fn deciding(resource: Resource<'_>) -> Resource<'_> {
    let owner = |id: &'_ str| id.split_once(':').map_or(id.len(), |(name, _)| name.len());
    match resource {
        Resource::Build(id) | Resource::BuildBatch(id) | Resource::Sandbox(id) => {
            Resource::Project(&id[..owner(id)])
        }
        Resource::Report(id) => Resource::ReportGroup(&id[..owner(id)]),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Caller;

    #[test]
    fn every_spelling_of_a_resource_is_decided_by_one_arn() {
        let principal = access::Principal {
            account: "111122223333".into(),
            arn: "arn:aws:iam::111122223333:user/ann".into(),
            user_id: "AIDA".into(),
        };
        let caller = Caller::of(access::Rights::new(principal, Vec::new()));
        let asker = Asker::new(&caller, "eu-west-1").unwrap();
        let demo = "arn:aws:codebuild:eu-west-1:111122223333:project/demo";
        for (kind, named, expect) in [
            (Kind::Project, "demo", demo),
            (Kind::Project, demo, demo),
            (
                Kind::Project,
                "arn:aws-cn:codebuild:eu-west-1:111122223333:project/demo",
                "arn:aws-cn:codebuild:eu-west-1:111122223333:project/demo",
            ),
            (Kind::OfProject, "demo:0f1e", demo),
            (Kind::OfProject, "demo", demo),
            (Kind::OfProject, "arn:aws:codebuild:eu-west-1:111122223333:build/demo:0f1e", demo),
            (Kind::OfProject, "arn:aws:codebuild:eu-west-1:111122223333:build-batch/demo:0f1e", demo),
            (
                Kind::OfProject,
                "arn:aws:codebuild:eu-west-1:444455556666:build/demo:0f1e",
                "arn:aws:codebuild:eu-west-1:444455556666:project/demo",
            ),
            (Kind::Project, "arn:nonsense", "arn:nonsense"),
            (
                Kind::OfReportGroup,
                "arn:aws:codebuild:eu-west-1:111122223333:report/unit:0f1e",
                "arn:aws:codebuild:eu-west-1:111122223333:report-group/unit",
            ),
        ] {
            assert_eq!(asker.resource(kind, named).0, expect, "{named}");
        }
    }

    #[test]
    fn what_is_forbidden_stands_where_it_was_asked_for() {
        let asked: Vec<String> = ["a:1", "b:1", "c:1", "b:1"].map(str::to_owned).into();
        let withheld = Withheld {
            batch: Some((Missing::Texts("buildsNotFound"), asked)),
            forbidden: vec![("b:1".into(), "arn".into())],
        };
        let mut answer = json!({ "builds": [], "buildsNotFound": ["c:1"] });
        withheld.name_in(&mut answer);
        assert_eq!(answer["buildsNotFound"], json!(["b:1", "c:1", "b:1"]));
    }
}

//! The public-build reads: what anybody with a key may see of a public project, by alias. Batch builds and presigned
//! links are not there.

use std::path::PathBuf;

use api::codebuild::{Build, Project, ProjectArtifacts, ProjectVisibilityType};
use api::publicbuilds::{
    DescribeBuildsForPublicProjectInput, DescribeBuildsForPublicProjectOutput,
    GetCloudWatchLogsForPublicBuildInput, GetCloudWatchLogsForPublicBuildOutput, GetPublicBuildInput,
    GetPublicBuildOutput, GetPublicProjectInput, GetPublicProjectOutput, PublicBuild, PublicBuildArtifacts,
    PublicLogsStatus, SortOrderType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::logs::{Position, SegmentReader};
use store::records::{Order, Scope};

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::paging::{self, PAGE};
use crate::plan;
use crate::project::required;

/// Log events of one answer, unless fewer are asked for.
const EVENTS_MAX: usize = 10_000;
/// Bytes of log events in one answer.
const EVENTS_MAX_BYTES: usize = 1 << 20;

/// A public project, found by its alias.
struct Public {
    alias: String,
    scope: Scope,
    name: String,
    project: Project,
}

impl Engine {
    /// What is public of a project. COMPAT: AP-160.
    ///
    /// # Errors
    /// [`Error::NotFound`] for what is no alias, or none of a project that is public now.
    pub async fn get_public_project(&self, input: GetPublicProjectInput) -> Result<GetPublicProjectOutput> {
        let alias = required(input.public_project_alias, "publicProjectAlias")?;
        let public = self.public_project(&alias).await?;
        Ok(GetPublicProjectOutput { project: Some(narrowed(&public.project)?) })
    }

    /// A public project's builds, the newest first unless asked otherwise. COMPAT: AP-160.
    ///
    /// # Errors
    /// As [`Engine::get_public_project`]; [`Error::InvalidInput`] for a token that is not of this list.
    pub async fn describe_builds_for_public_project(
        &self,
        input: DescribeBuildsForPublicProjectInput,
    ) -> Result<DescribeBuildsForPublicProjectOutput> {
        let alias = required(input.public_project_alias, "publicProjectAlias")?;
        let Public { scope, name, .. } = self.public_project(&alias).await?;
        let order = match input.sort_order {
            Some(SortOrderType::Ascending) => Order::Ascending,
            _ => Order::Descending,
        };
        let limit = input.max_results.and_then(|max| usize::try_from(max).ok()).unwrap_or(PAGE);
        let after = paging::after(input.next_token.as_deref());
        let records = &self.shared.records;
        let page = records.list_builds_for_project(&scope, &name, order, after, limit).await?;
        let mut builds = Vec::new();
        for id in &page.items {
            builds.extend(self.public_build(&alias, &scope, id).await?);
        }
        let next_token = page.next;
        Ok(DescribeBuildsForPublicProjectOutput { builds: Some(builds), next_token })
    }

    /// What is public of a build. COMPAT: AP-160, AP-161.
    ///
    /// # Errors
    /// As [`Engine::get_public_project`].
    pub async fn get_public_build(&self, input: GetPublicBuildInput) -> Result<GetPublicBuildOutput> {
        let given = required(input.public_build_alias, "publicBuildAlias")?;
        let (public, id) = self.public_build_id(&given).await?;
        let build = self.public_build(&public.alias, &public.scope, &id).await?;
        Ok(GetPublicBuildOutput { build: Some(build.ok_or_else(|| no_such_alias(&given))?) })
    }

    /// A public build's log from its beginning, an event each. There is a token for as long as there may be more.
    /// COMPAT: AP-160, IN-122 it is by the project's role that visitors read logs.
    ///
    /// # Errors
    /// As [`Engine::get_public_project`]; [`Error::InvalidInput`] for a token that is not of this list, and for a
    /// project without a `resourceAccessRole`.
    pub async fn get_cloud_watch_logs_for_public_build(
        &self,
        input: GetCloudWatchLogsForPublicBuildInput,
    ) -> Result<GetCloudWatchLogsForPublicBuildOutput> {
        let given = required(input.public_build_alias, "publicBuildAlias")?;
        let (public, id) = self.public_build_id(&given).await?;
        let order = self.order(&public.scope, &id).await?.ok_or_else(|| no_such_alias(&given))?;
        if public.project.resource_access_role.is_none() {
            return Error::invalid("Logs of a public build need the resourceAccessRole of its project");
        }
        let from = match paging::after(input.next_token.as_deref()) {
            Some(token) => {
                token.parse().map_err(|_| Error::InvalidInput(format!("Invalid next token: {token}")))?
            }
            None => Position::START,
        };
        let limit = input.max_result.and_then(|max| usize::try_from(max).ok()).unwrap_or(EVENTS_MAX);
        if order.stream.is_none() {
            return Ok(GetCloudWatchLogsForPublicBuildOutput { logs: Some(Vec::new()), next_token: None });
        }
        let log = order.plan.log.clone();
        let read = tokio::task::spawn_blocking(move || read_log(log, from, limit));
        let (logs, next) = read.await.map_err(Error::internal)??;
        let next_token = next.map(|position| position.to_string());
        Ok(GetCloudWatchLogsForPublicBuildOutput { logs: Some(logs), next_token })
    }

    async fn public_project(&self, alias: &str) -> Result<Public> {
        let missing = || no_such_alias(alias);
        let (scope, name) = self.shared.records.project_of_alias(alias).await?.ok_or_else(missing)?;
        let here = scope.region == self.region().as_str();
        let stored = self.shared.records.get_project(&scope, &name).await?.filter(|_| here);
        let project: Project = serde_json::from_str(&stored.ok_or_else(missing)?.document)?;
        match project.project_visibility == Some(ProjectVisibilityType::PublicRead) {
            true => Ok(Public { alias: alias.to_string(), scope, name, project }),
            false => Err(missing()),
        }
    }

    /// COMPAT: AP-161 the project's alias and the build's UUID.
    async fn public_build_id(&self, given: &str) -> Result<(Public, String)> {
        let (alias, uuid) = given.split_once(':').ok_or_else(|| no_such_alias(given))?;
        let public = self.public_project(alias).await.map_err(|error| match error {
            Error::NotFound(_) => no_such_alias(given),
            other => other,
        })?;
        let id = format!("{}:{uuid}", public.name);
        Ok((public, id))
    }

    async fn public_build(&self, alias: &str, scope: &Scope, id: &str) -> Result<Option<PublicBuild>> {
        let Some(stored) = self.shared.records.get_build(scope, id).await? else { return Ok(None) };
        let Some(order) = self.order(scope, id).await? else { return Ok(None) };
        let build: Build = serde_json::from_str(&stored.document)?;
        let uuid = id.rsplit(':').next().unwrap_or_default();
        let settings = order.settings;
        let secondary = settings.secondary_artifacts.iter().flatten().map(artifacts);
        let logs = build.logs.clone().unwrap_or_default();
        Ok(Some(PublicBuild {
            id: Some(format!("{alias}:{uuid}")),
            artifacts: settings.artifacts.as_ref().map(artifacts),
            secondary_artifacts: Some(secondary.collect()),
            logs_status: Some(PublicLogsStatus {
                cloud_watch_logs_status: logs
                    .cloud_watch_logs
                    .and_then(|logs| Some(logs.status?.to_string())),
                s3_logs_status: logs.s3_logs.and_then(|logs| Some(logs.status?.to_string())),
            }),
            ..narrowed(&Build { artifacts: None, secondary_artifacts: None, ..build })?
        }))
    }

    async fn order(&self, scope: &Scope, id: &str) -> Result<Option<plan::Order>> {
        let order = self.shared.records.get_plan(scope, id).await?;
        Ok(order.map(|order| serde_json::from_str(&order)).transpose()?)
    }
}

/// What a public shape has of a whole one: the members of the same names, and no others.
fn narrowed<T: DeserializeOwned>(whole: &impl Serialize) -> Result<T> {
    Ok(serde_json::from_value(serde_json::to_value(whole)?)?)
}

fn artifacts(artifacts: &ProjectArtifacts) -> PublicBuildArtifacts {
    PublicBuildArtifacts {
        artifact_identifier: artifacts.artifact_identifier.clone(),
        packaging: artifacts.packaging.as_ref().map(ToString::to_string),
        r#type: artifacts.r#type.as_ref().map(ToString::to_string),
    }
}

/// Events, and where to go on unless there will never be more. A log that is not there yet is empty.
fn read_log(log: PathBuf, from: Position, limit: usize) -> Result<(Vec<String>, Option<Position>)> {
    let mut reader = match SegmentReader::open(&log) {
        Ok(reader) => reader,
        Err(store::Error::NotFound { .. }) => return Ok((Vec::new(), Some(from))),
        Err(error) => return Err(error.into()),
    };
    let (events, next) = reader.forward(from, limit, EVENTS_MAX_BYTES)?;
    let is_end = reader.sealed()? && next == reader.end()?;
    let texts = events.iter().map(|event| String::from_utf8_lossy(&event.bytes).into_owned());
    Ok((texts.collect(), (!is_end).then_some(next)))
}

fn no_such_alias(alias: &str) -> Error {
    Error::NotFound(format!("The public alias {alias} does not exist"))
}

//! StopBuild, BatchGetBuilds, ListBuilds, ListBuildsForProject, BatchDeleteBuilds.

use std::collections::HashSet;

use api::Arn;
use api::arn::Resource;
use api::codebuild::{
    BatchDeleteBuildsInput, BatchDeleteBuildsOutput, BatchGetBuildsInput, Build, BuildNotDeleted,
    ListBuildsForProjectInput, ListBuildsForProjectOutput, ListBuildsInput, ListBuildsOutput, Operation,
    StopBuildInput, StopBuildOutput,
};
use store::records::{Deletion, Order};
use tokio::sync::oneshot;

use super::order;
use crate::caller::Caller;
use crate::desk::Ask;
use crate::document;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::paging::{self, PAGE};
use crate::project::required;

/// What BatchGetBuilds answers.
#[derive(Debug)]
pub struct FoundBuilds {
    pub builds: Vec<FoundBuild>,
    /// As they were asked for.
    pub builds_not_found: Vec<String>,
}

impl FoundBuilds {
    /// The answer as JSON. Builds that are stored as it shows them are not read for that.
    ///
    /// # Errors
    /// [`Error::Internal`], which no build gives cause for.
    pub fn into_json(self) -> Result<String> {
        let builds = self.builds.into_iter().map(FoundBuild::into_json).collect::<Result<Vec<String>>>()?;
        let missing = serde_json::to_string(&self.builds_not_found)?;
        Ok(format!(r#"{{"builds":[{}],"buildsNotFound":{missing}}}"#, builds.join(",")))
    }
}

/// A build, which is read only if that is needed.
#[derive(Debug)]
pub enum FoundBuild {
    /// Its JSON, as this server has written it.
    AsStored(String),
    Waiting(Box<Build>),
}

impl FoundBuild {
    /// # Errors
    /// [`Error::Internal`] if a record cannot be read.
    pub fn build(self) -> Result<Build> {
        match self {
            FoundBuild::AsStored(text) => Ok(serde_json::from_str(&text)?),
            FoundBuild::Waiting(build) => Ok(*build),
        }
    }

    fn into_json(self) -> Result<String> {
        match self {
            FoundBuild::AsStored(text) => Ok(text),
            FoundBuild::Waiting(build) => Ok(serde_json::to_string(&build)?),
        }
    }
}

impl Engine {
    /// Asks a build to stop; the request is durable when this returns. A build that is over is answered as it
    /// is. COMPAT: LC-044, AP-076.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for what is no build id, [`Error::NotFound`], [`Error::Unavailable`].
    pub async fn stop_build(&self, caller: &Caller, input: StopBuildInput) -> Result<StopBuildOutput> {
        let given = required(input.id, "id")?;
        let id = self.build_named(caller, &given)?;
        let stored = self.stored_build(caller, &given, &id).await?;
        if stored.build_complete == Some(true) {
            return Ok(StopBuildOutput { build: Some(stored) });
        }
        let (answer, answered) = oneshot::channel();
        let taken = self.shared.desk().ask(&id, Ask::Stop { answer });
        taken.into_iter().for_each(|taken| self.shared.start_driver(taken));
        let build = match answered.await {
            Ok(build) => build?,
            // Nobody drives it: it has ended a moment ago, or the next server has to go on with it.
            Err(_) => self.ended_build(caller, &given, &id).await?,
        };
        Ok(StopBuildOutput { build: Some(build) })
    }

    /// The builds there are of those asked for, by id or ARN; those that wait say why. COMPAT: AP-005, AP-073.
    pub async fn batch_get_builds(&self, caller: &Caller, input: BatchGetBuildsInput) -> Result<FoundBuilds> {
        let asked = required(input.ids, "ids")?;
        let mut ids: Vec<String> = Vec::new();
        for id in asked.iter().filter_map(|text| self.build_id(caller, text)) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        let found = self.shared.records.get_documents(&self.scope(caller), &ids).await?;
        let own: HashSet<String> = found.iter().map(|(id, _)| id.clone()).collect();
        let builds = found.into_iter().map(|(id, document)| self.shown(&id, document));
        let mut builds = builds.collect::<Result<Vec<FoundBuild>>>()?;
        let (mut foreign, mut missing) = (HashSet::new(), Vec::new());
        for text in asked {
            let is_own = self.build_id(caller, &text).is_some_and(|id| own.contains(&id));
            if is_own || foreign.contains(&text) {
                continue;
            }
            match self.foreign_build(caller, &text).await? {
                Some(build) => {
                    builds.push(build);
                    foreign.insert(text);
                }
                None => missing.push(text),
            }
        }
        Ok(FoundBuilds { builds, builds_not_found: missing })
    }

    /// A build of a project that another account shares with the caller.
    async fn foreign_build(&self, caller: &Caller, arn: &str) -> Result<Option<FoundBuild>> {
        let operation = Operation::BatchGetBuilds;
        let Some((scope, _)) = self.shared_project(caller, arn, operation).await? else { return Ok(None) };
        let parsed: Option<Arn> = arn.parse().ok();
        let Some(Resource::Build(id)) = parsed.as_ref().and_then(Arn::codebuild_resource) else {
            return Ok(None);
        };
        let found = self.shared.records.get_build(&scope, id).await?;
        found.map(|found| self.shown(id, found.document)).transpose()
    }

    /// A build as it is now. Why it waits is known here and not stored; all others are shown as they are stored.
    fn shown(&self, id: &str, document: String) -> Result<FoundBuild> {
        let Some(standing) = self.shared.desk().standing(id) else {
            return Ok(FoundBuild::AsStored(document));
        };
        let mut build = serde_json::from_str(&document)?;
        document::explain_waiting(&mut build, &standing);
        Ok(FoundBuild::Waiting(Box::new(build)))
    }

    /// Ids of all builds, the newest first unless asked otherwise, 100 a page. COMPAT: AP-074.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a token that is not of this list.
    pub async fn list_builds(&self, caller: &Caller, input: ListBuildsInput) -> Result<ListBuildsOutput> {
        let order = order(input.sort_order.as_ref(), Order::Descending);
        let after = paging::after(input.next_token.as_deref());
        let scope = self.scope(caller);
        let page = self.shared.records.list_builds(&scope, order, after, PAGE).await?;
        Ok(ListBuildsOutput { next_token: page.next, ids: Some(page.items) })
    }

    /// Ids of a project's builds by build number, the highest first unless asked otherwise, 100 a page.
    /// COMPAT: AP-075.
    ///
    /// # Errors
    /// [`Error::NotFound`] (project), [`Error::InvalidInput`] for a token that is not of this list.
    pub async fn list_builds_for_project(
        &self,
        caller: &Caller,
        input: ListBuildsForProjectInput,
    ) -> Result<ListBuildsForProjectOutput> {
        let given = required(input.project_name, "projectName")?;
        let operation = Operation::ListBuildsForProject;
        let shared = self.shared_project(caller, &given, operation).await?;
        let is_foreign = shared.is_some();
        let (scope, name) = match shared {
            Some(shared) => shared,
            None => (self.scope(caller), required(self.project(caller, &given).await?.name, "name")?),
        };
        let order = order(input.sort_order.as_ref(), Order::Descending);
        let after = paging::after(input.next_token.as_deref());
        let records = &self.shared.records;
        let mut page = records.list_builds_for_project(&scope, &name, order, after, PAGE).await?;
        if is_foreign {
            // An id alone would name nothing to the caller.
            let account = scope.account.parse().map_err(Error::internal)?;
            let arn = |id: &String| Arn::codebuild(self.region(), &account, Resource::Build(id)).to_string();
            page.items = page.items.iter().map(arn).collect();
        }
        Ok(ListBuildsForProjectOutput { next_token: page.next, ids: Some(page.items) })
    }

    /// Deletes builds that are over. COMPAT: AP-078 builds are named by ARN; one of another account or Region is not there.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for what is no build id; then nothing is deleted.
    pub async fn batch_delete_builds(
        &self,
        caller: &Caller,
        input: BatchDeleteBuildsInput,
    ) -> Result<BatchDeleteBuildsOutput> {
        let asked = required(input.ids, "ids")?;
        let mut named: Vec<(String, Option<String>)> = Vec::new();
        for text in asked {
            let one = match self.build_named(caller, &text) {
                Ok(id) => (self.build_arn(caller, &id), Some(id)),
                Err(Error::NotFound(_)) => (text, None),
                Err(error) => return Err(error),
            };
            if !named.contains(&one) {
                named.push(one);
            }
        }
        let ids: Vec<String> = named.iter().filter_map(|(_, id)| id.clone()).collect();
        // In the order asked.
        let mut done = self.shared.records.delete_builds(&self.scope(caller), &ids).await?.into_iter();
        let (mut deleted, mut kept) = (Vec::new(), Vec::new());
        for (arn, id) in named {
            let code = match id.and_then(|_| done.next()) {
                Some((_, Deletion::Deleted)) => {
                    deleted.push(arn);
                    continue;
                }
                Some((_, Deletion::InProgress)) => "BUILD_IN_PROGRESS",
                Some((_, Deletion::Unknown)) | None => "BUILD_NOT_FOUND",
            };
            kept.push(BuildNotDeleted { id: Some(arn), status_code: Some(code.to_string()) });
        }
        Ok(BatchDeleteBuildsOutput { builds_deleted: Some(deleted), builds_not_deleted: Some(kept) })
    }

    async fn stored_build(&self, caller: &Caller, given: &str, id: &str) -> Result<Build> {
        let found = self.shared.records.get_build(&self.scope(caller), id).await?;
        let found = found.ok_or_else(|| no_such_build(given))?;
        Ok(serde_json::from_str(&found.document)?)
    }

    /// The build, which nobody drives any more.
    async fn ended_build(&self, caller: &Caller, given: &str, id: &str) -> Result<Build> {
        let build = self.stored_build(caller, given, id).await?;
        match build.build_complete {
            Some(true) => Ok(build),
            _ => Err(Error::Unavailable("The server is shutting down".to_string())),
        }
    }
}

/// COMPAT: AP-038.
pub(super) fn invalid_id() -> Error {
    Error::InvalidInput("Invalid build ID provided".to_string())
}

/// COMPAT: AP-038.
pub(super) fn no_such_build(id: &str) -> Error {
    Error::NotFound(format!("Build {id} does not exist"))
}

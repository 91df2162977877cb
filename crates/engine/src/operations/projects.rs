//! CreateProject, UpdateProject, DeleteProject, BatchGetProjects, ListProjects.

use api::codebuild::{
    BatchGetProjectsInput, BatchGetProjectsOutput, CreateProjectInput, CreateProjectOutput,
    DeleteProjectInput, DeleteProjectOutput, ListProjectsInput, ListProjectsOutput, Project,
    ProjectSortByType, UpdateProjectInput, UpdateProjectOutput,
};
use api::{Timestamp, codebuild};
use store::records::{self, Order, ProjectDeletion, ProjectSort};

use super::order;
use crate::caller::Caller;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::paging::{self, PAGE};
use crate::project::{self, Setting, required};

impl Engine {
    /// Makes a project. COMPAT: AP-053, AP-060.
    ///
    /// # Errors
    /// [`Error::InvalidInput`], [`Error::AlreadyExists`].
    pub async fn create_project(
        &self,
        caller: &Caller,
        input: CreateProjectInput,
    ) -> Result<CreateProjectOutput> {
        let setting = self.setting(caller);
        let project = project::create(input, setting)?;
        let name = required(project.name.clone(), "name")?;
        let record = records::Project {
            name: name.clone(),
            document: serde_json::to_string(&project)?,
            created_ms: setting.now_ms,
            modified_ms: setting.now_ms,
        };
        match self.shared.records.insert_project(&self.scope(caller), record).await {
            Ok(()) => Ok(CreateProjectOutput { project: Some(project) }),
            Err(store::Error::AlreadyExists { .. }) => {
                let arn = self.project_arn(caller, &name);
                Err(Error::AlreadyExists(format!("Project already exists: {arn}")))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Changes a project. Of two changes at the same time, the later is made to what the earlier has left. COMPAT: AP-061.
    ///
    /// # Errors
    /// [`Error::InvalidInput`], [`Error::NotFound`].
    pub async fn update_project(
        &self,
        caller: &Caller,
        input: UpdateProjectInput,
    ) -> Result<UpdateProjectOutput> {
        let given = required(input.name.clone(), "name")?;
        let change = |project| project::update(project, input.clone(), self.setting(caller));
        let project = self.change_project(caller, &given, change).await?;
        Ok(UpdateProjectOutput { project: Some(project) })
    }

    /// Puts what `change` makes of a project in its place.
    pub(super) async fn change_project(
        &self,
        caller: &Caller,
        given: &str,
        change: impl Fn(Project) -> Result<Project>,
    ) -> Result<Project> {
        let scope = self.scope(caller);
        // Each round is one that somebody else has won, so it ends.
        loop {
            let stored = self.stored_project(caller, given).await?;
            let project = change(serde_json::from_str(&stored.document)?)?;
            let modified_ms = project.last_modified.map_or(stored.modified_ms, Timestamp::millis);
            let document = serde_json::to_string(&project)?;
            let (records, name) = (&self.shared.records, &stored.name);
            match records.update_project(&scope, name, &stored.document, &document, modified_ms).await {
                Ok(true) => return Ok(project),
                Ok(false) => {}
                Err(store::Error::NotFound { .. }) => return Err(self.no_such_project(caller, given)),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Deletes a project; its builds stay (LC-006). One that is not there is deleted as well, one that has builds and
    /// is shared is not (AP-062).
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for one that has builds and a resource policy.
    pub async fn delete_project(
        &self,
        caller: &Caller,
        input: DeleteProjectInput,
    ) -> Result<DeleteProjectOutput> {
        let given = required(input.name, "name")?;
        let Some(name) = self.project_name(caller, &given) else { return Ok(DeleteProjectOutput::default()) };
        match self.shared.records.delete_project(&self.scope(caller), &name).await? {
            ProjectDeletion::Deleted | ProjectDeletion::Unknown => Ok(DeleteProjectOutput::default()),
            ProjectDeletion::Shared => Error::invalid(format!(
                "Project {name} has builds and a resource policy: delete its builds or its policy first"
            )),
        }
    }

    /// The projects there are of those asked for, by name or ARN. COMPAT: AP-005, AP-063.
    pub async fn batch_get_projects(
        &self,
        caller: &Caller,
        input: BatchGetProjectsInput,
    ) -> Result<BatchGetProjectsOutput> {
        let asked = required(input.names, "names")?;
        let mut names: Vec<String> = Vec::new();
        for name in asked.iter().filter_map(|text| self.project_name(caller, text)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let found = self.shared.records.get_projects(&self.scope(caller), &names).await?;
        let projects = found.iter().map(|project| Ok(serde_json::from_str(&project.document)?));
        let mut projects = projects.collect::<Result<Vec<Project>>>()?;
        let mut missing = Vec::new();
        for text in asked {
            let own = self.project_name(caller, &text);
            if own.is_some_and(|name| found.iter().any(|project| project.name == name)) {
                continue;
            }
            match self.foreign_project(caller, &text).await? {
                Some(project) if !projects.contains(&project) => projects.push(project),
                Some(_) => {}
                None => missing.push(text),
            }
        }
        Ok(BatchGetProjectsOutput { projects: Some(projects), projects_not_found: Some(missing) })
    }

    /// A project of another account that shares it with the caller.
    async fn foreign_project(&self, caller: &Caller, arn: &str) -> Result<Option<Project>> {
        let operation = codebuild::Operation::BatchGetProjects;
        let Some((scope, name)) = self.shared_project(caller, arn, operation).await? else { return Ok(None) };
        let found = self.shared.records.get_project(&scope, &name).await?;
        Ok(found.map(|found| serde_json::from_str(&found.document)).transpose()?)
    }

    /// Names of projects, 100 a page. COMPAT: AP-064.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a token that is not of this list.
    pub async fn list_projects(
        &self,
        caller: &Caller,
        input: ListProjectsInput,
    ) -> Result<ListProjectsOutput> {
        let sort = match input.sort_by {
            Some(ProjectSortByType::CreatedTime) => ProjectSort::CreatedTime,
            Some(ProjectSortByType::LastModifiedTime) => ProjectSort::LastModifiedTime,
            _ => ProjectSort::Name,
        };
        let order = order(input.sort_order.as_ref(), Order::Ascending);
        let after = paging::after(input.next_token.as_deref());
        let scope = self.scope(caller);
        let page = self.shared.records.list_projects(&scope, sort, order, after, PAGE).await?;
        Ok(ListProjectsOutput { next_token: page.next, projects: Some(page.items) })
    }

    pub(super) fn setting<'a>(&'a self, caller: &'a Caller) -> Setting<'a> {
        let config = &self.shared.config;
        Setting {
            region: &config.region,
            account: &caller.account,
            now_ms: config.clock.now_ms(),
            concurrent_builds: config.concurrent_builds,
            codecommit: config.codecommit_origin(),
        }
    }

    /// The project of that name or ARN.
    pub(super) async fn project(&self, caller: &Caller, text: &str) -> Result<Project> {
        Ok(serde_json::from_str(&self.stored_project(caller, text).await?.document)?)
    }

    async fn stored_project(&self, caller: &Caller, text: &str) -> Result<records::Project> {
        let name = self.project_name(caller, text).ok_or_else(|| self.no_such_project(caller, text))?;
        let found = self.shared.records.get_project(&self.scope(caller), &name).await?;
        found.ok_or_else(|| self.no_such_project(caller, text))
    }

    pub(super) fn no_such_project(&self, caller: &Caller, text: &str) -> Error {
        let partition = self.region().partition();
        if text.parse().is_ok_and(|arn: api::Arn| arn.partition() != partition) {
            return Error::InvalidInput(format!(
                "Invalid project ARN {text}: the partition here is {partition}"
            ));
        }
        let arn = if text.starts_with("arn:") { text.to_string() } else { self.project_arn(caller, text) };
        Error::NotFound(format!("The provided project {arn} does not exist"))
    }
}

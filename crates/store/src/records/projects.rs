//! Projects: a name, a document, and when it was made and changed.

use super::page::{self, Order, Page, Paged};
use super::sql::{Columns, Sql, Value, in_order, one_of, text};
use super::{Records, Scope, sharing};
use crate::error::{Error, Result};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    pub name: String,
    /// JSON.
    pub document: String,
    pub created_ms: i64,
    pub modified_ms: i64,
}

/// What became of a project that was to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectDeletion {
    Deleted,
    Unknown,
    /// It has builds and is shared by a policy (AP-062).
    Shared,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProjectSort {
    Name,
    CreatedTime,
    LastModifiedTime,
}

impl ProjectSort {
    /// The list's name in its tokens, and its columns.
    fn list(self) -> (&'static str, &'static [&'static str]) {
        match self {
            ProjectSort::Name => ("name", &["name"]),
            ProjectSort::CreatedTime => ("created", &["created_ms", "name"]),
            ProjectSort::LastModifiedTime => ("modified", &["modified_ms", "name"]),
        }
    }

    fn time(self, project: &Listed) -> i64 {
        match self {
            ProjectSort::Name => 0,
            ProjectSort::CreatedTime => project.created_ms,
            ProjectSort::LastModifiedTime => project.modified_ms,
        }
    }
}

struct Listed {
    name: String,
    created_ms: i64,
    modified_ms: i64,
}

impl Records {
    /// `AlreadyExists` if there is a project of that name.
    pub async fn insert_project(&self, scope: &Scope, project: Project) -> Result<()> {
        let scope = scope.clone();
        self.write(move |sql| {
            let inserted = sql.execute(
                "INSERT INTO projects (account, region, name, created_ms, modified_ms, document)
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (account, region, name) DO NOTHING",
                [
                    text(&scope.account),
                    text(&scope.region),
                    text(&project.name),
                    project.created_ms.into(),
                    project.modified_ms.into(),
                    text(&project.document),
                ],
            )?;
            if inserted == 1 { Ok(()) } else { Err(Error::already_exists("project", &project.name)) }
        })
        .await
    }

    /// Replaces a project's document if it still is as `read`; false, and nothing changed, if somebody has changed it since.
    /// `NotFound` if there is no project of that name.
    pub async fn update_project(
        &self,
        scope: &Scope,
        name: &str,
        read: &str,
        document: &str,
        modified_ms: i64,
    ) -> Result<bool> {
        let (scope, name) = (scope.clone(), name.to_owned());
        let (read, document) = (read.to_owned(), document.to_owned());
        self.write(move |sql| {
            let updated = sql.execute(
                "UPDATE projects SET document = $1, modified_ms = $2
                 WHERE account = $3 AND region = $4 AND name = $5 AND document = $6",
                [
                    text(&document),
                    modified_ms.into(),
                    text(&scope.account),
                    text(&scope.region),
                    text(&name),
                    text(&read),
                ],
            )?;
            match updated {
                1 => Ok(true),
                _ if get(sql, &scope, &name)?.is_some() => Ok(false),
                _ => Err(Error::not_found("project", &name)),
            }
        })
        .await
    }

    // COMPAT: LC-006 deleting a project does not delete its builds.
    /// Its builds stay, and so does its build counter; its policy and its alias go. One that has both builds and a
    /// policy stays (AP-062).
    pub async fn delete_project(&self, scope: &Scope, name: &str) -> Result<ProjectDeletion> {
        let (scope, name) = (scope.clone(), name.to_owned());
        self.write(move |sql| delete(sql, &scope, &name)).await
    }

    /// What was cached for the project's builds is no longer good. False if there is no such project.
    pub async fn invalidate_project_cache(&self, scope: &Scope, name: &str) -> Result<bool> {
        let (scope, name) = (scope.clone(), name.to_owned());
        self.write(move |sql| {
            let changed = sql.execute(
                "UPDATE projects SET cache_generation = cache_generation + 1
                 WHERE account = $1 AND region = $2 AND name = $3",
                [text(&scope.account), text(&scope.region), text(&name)],
            )?;
            Ok(changed == 1)
        })
        .await
    }

    /// How often the project's cache was invalidated; `None` if there is no such project.
    pub async fn cache_generation(&self, scope: &Scope, name: &str) -> Result<Option<i64>> {
        let (scope, name) = (scope.clone(), name.to_owned());
        self.read(move |sql| {
            sql.row(
                "SELECT cache_generation FROM projects WHERE account = $1 AND region = $2 AND name = $3",
                [text(&scope.account), text(&scope.region), text(&name)],
                |row| row.get(0),
            )
        })
        .await
    }

    pub async fn get_project(&self, scope: &Scope, name: &str) -> Result<Option<Project>> {
        let (scope, name) = (scope.clone(), name.to_owned());
        self.read(move |sql| get(sql, &scope, &name)).await
    }

    /// Those of the named projects that exist, in the order asked.
    pub async fn get_projects(&self, scope: &Scope, names: &[String]) -> Result<Vec<Project>> {
        let (scope, names) = (scope.clone(), names.to_vec());
        self.read(move |sql| {
            let mut parameters = vec![text(&scope.account), text(&scope.region)];
            let query = format!("{SELECT} AND name IN {}", one_of(&names, &mut parameters));
            Ok(in_order(&names, sql.rows(&query, parameters, read)?, |project| &project.name))
        })
        .await
    }

    /// Names of projects. `after` is the `next` of the page before, under the same sort and order.
    pub async fn list_projects(
        &self,
        scope: &Scope,
        sort: ProjectSort,
        order: Order,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<String>> {
        let (list, keys) = sort.list();
        let after = after.map(|token| page::parse_token(list, token)).transpose()?;
        let after = after.map(|(time, name)| match sort {
            ProjectSort::Name => vec![Value::Text(name)],
            _ => vec![time.into(), Value::Text(name)],
        });
        let parameters = vec![text(&scope.account), text(&scope.region)];
        let select = "SELECT name, created_ms, modified_ms FROM projects WHERE account = $1 AND region = $2";
        let (query, parameters) = Paged { select, parameters, keys, order, after, limit }.build();
        self.read(move |sql| {
            let found = sql.rows(&query, parameters, |row| {
                Ok(Listed { name: row.get(0)?, created_ms: row.get(1)?, modified_ms: row.get(2)? })
            })?;
            let page = Page::of(found, limit, |last| page::token(list, sort.time(last), &last.name));
            Ok(page.map(|listed| listed.name))
        })
        .await
    }
}

const SELECT: &str = "SELECT name, document, created_ms, modified_ms FROM projects
     WHERE account = $1 AND region = $2";

fn delete(sql: &Sql<'_>, scope: &Scope, name: &str) -> Result<ProjectDeletion> {
    let resource = format!("project/{name}");
    if sharing::policy(sql, scope, &resource)?.is_some() && has_builds(sql, scope, name)? {
        return Ok(ProjectDeletion::Shared);
    }
    sharing::delete_policy(sql, scope, &resource)?;
    sharing::delete_alias(sql, scope, name)?;
    let deleted = sql.execute(
        "DELETE FROM projects WHERE account = $1 AND region = $2 AND name = $3",
        [text(&scope.account), text(&scope.region), text(name)],
    )?;
    Ok(if deleted == 1 { ProjectDeletion::Deleted } else { ProjectDeletion::Unknown })
}

fn has_builds(sql: &Sql<'_>, scope: &Scope, project: &str) -> Result<bool> {
    let found = sql.row(
        "SELECT number FROM builds WHERE account = $1 AND region = $2 AND project = $3 LIMIT 1",
        [text(&scope.account), text(&scope.region), text(project)],
        |row| row.get::<i64>(0),
    )?;
    Ok(found.is_some())
}

fn get(sql: &Sql<'_>, scope: &Scope, name: &str) -> Result<Option<Project>> {
    let parameters = [text(&scope.account), text(&scope.region), text(name)];
    sql.row(&format!("{SELECT} AND name = $3"), parameters, read)
}

fn read(row: &Columns<'_>) -> Result<Project> {
    Ok(Project {
        name: row.get(0)?,
        document: row.get(1)?,
        created_ms: row.get(2)?,
        modified_ms: row.get(3)?,
    })
}

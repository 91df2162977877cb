//! Resource policies, and the aliases of public projects: how those who do not own a project come to it.

use std::collections::HashMap;

use super::sql::{Sql, one_of, text};
use super::{Records, Scope, reports};
use crate::error::{Error, Result};

/// What other accounts may see by a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shareable {
    Projects,
    ReportGroups,
}

/// A policy about a project or report group of another account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignPolicy {
    /// The owner's.
    pub scope: Scope,
    /// The name of what it is about.
    pub name: String,
    /// When that was last changed.
    pub modified_ms: i64,
    /// JSON.
    pub policy: String,
}

impl Records {
    /// Keeps a policy about `resource`, such as `project/demo` or `report-group/unit`, in the place of the one before.
    /// `NotFound` if there is no such thing.
    pub async fn put_policy(&self, scope: &Scope, resource: &str, policy: &str, now_ms: i64) -> Result<()> {
        let (scope, resource, policy) = (scope.clone(), resource.to_owned(), policy.to_owned());
        self.write(move |sql| {
            let exists = match resource.split_once('/') {
                Some(("project", name)) => project_exists(sql, &scope, name)?,
                Some(("report-group", name)) => reports::group_exists(sql, &scope, name)?,
                _ => false,
            };
            if !exists {
                return Err(Error::not_found("resource", &resource));
            }
            sql.execute(
                "INSERT INTO resource_policies (account, region, resource, modified_ms, policy)
                 VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (account, region, resource)
                 DO UPDATE SET modified_ms = excluded.modified_ms, policy = excluded.policy",
                [text(&scope.account), text(&scope.region), text(&resource), now_ms.into(), text(&policy)],
            )?;
            Ok(())
        })
        .await
    }

    pub async fn get_policy(&self, scope: &Scope, resource: &str) -> Result<Option<String>> {
        let (scope, resource) = (scope.clone(), resource.to_owned());
        self.read(move |sql| policy(sql, &scope, &resource)).await
    }

    /// Those of them that have a policy, each with it.
    pub async fn get_policies(&self, scope: &Scope, resources: &[String]) -> Result<HashMap<String, String>> {
        let (scope, resources) = (scope.clone(), resources.to_vec());
        self.read(move |sql| {
            let mut parameters = vec![text(&scope.account), text(&scope.region)];
            let query = format!(
                "SELECT resource, policy FROM resource_policies WHERE account = $1 AND region = $2 AND resource IN {}",
                one_of(&resources, &mut parameters)
            );
            let found = sql.rows(&query, parameters, |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(found.into_iter().collect())
        })
        .await
    }

    /// False if there was none.
    pub async fn delete_policy(&self, scope: &Scope, resource: &str) -> Result<bool> {
        let (scope, resource) = (scope.clone(), resource.to_owned());
        self.write(move |sql| delete_policy(sql, &scope, &resource)).await
    }

    /// The policies that other accounts have about theirs in the scope's region: one a project or report group at most.
    pub async fn foreign_policies(&self, scope: &Scope, of: Shareable) -> Result<Vec<ForeignPolicy>> {
        let query = match of {
            Shareable::Projects => FOREIGN_POLICIES,
            Shareable::ReportGroups => FOREIGN_GROUP_POLICIES,
        };
        let (scope, region) = (scope.clone(), scope.region.clone());
        self.read(move |sql| {
            sql.rows(query, [text(&scope.region), text(&scope.account)], |row| {
                Ok(ForeignPolicy {
                    scope: Scope { account: row.get(0)?, region: region.clone() },
                    name: row.get(1)?,
                    modified_ms: row.get(2)?,
                    policy: row.get(3)?,
                })
            })
        })
        .await
    }

    /// The alias under which a project is public: the one that it has, or else `fresh` from now on.
    pub async fn project_alias(&self, scope: &Scope, project: &str, fresh: &str) -> Result<String> {
        let (scope, project, fresh) = (scope.clone(), project.to_owned(), fresh.to_owned());
        self.write(move |sql| {
            sql.execute(
                "INSERT INTO project_aliases (alias, account, region, project) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (account, region, project) DO NOTHING",
                [text(&fresh), text(&scope.account), text(&scope.region), text(&project)],
            )?;
            let found = sql.row(
                "SELECT alias FROM project_aliases WHERE account = $1 AND region = $2 AND project = $3",
                [text(&scope.account), text(&scope.region), text(&project)],
                |row| row.get(0),
            )?;
            found.ok_or_else(|| Error::not_found("alias of project", &project))
        })
        .await
    }

    /// Whose the alias is: the scope, and the project's name. Whether it is public now is in the project.
    pub async fn project_of_alias(&self, alias: &str) -> Result<Option<(Scope, String)>> {
        let alias = alias.to_owned();
        self.read(move |sql| {
            sql.row(
                "SELECT account, region, project FROM project_aliases WHERE alias = $1",
                [text(&alias)],
                |row| Ok((Scope { account: row.get(0)?, region: row.get(1)? }, row.get(2)?)),
            )
        })
        .await
    }
}

/// `resource` is `project/` and a name, which finds the project by its key.
pub(super) const FOREIGN_POLICIES: &str =
    "SELECT r.account, p.name, p.modified_ms, r.policy FROM resource_policies r JOIN projects p
         ON p.account = r.account AND p.region = r.region AND p.name = substr(r.resource, 9)
     WHERE r.region = $1 AND r.account <> $2";

/// `resource` is `report-group/` and a name.
pub(super) const FOREIGN_GROUP_POLICIES: &str =
    "SELECT r.account, g.name, g.modified_ms, r.policy FROM resource_policies r JOIN report_groups g
         ON g.account = r.account AND g.region = r.region AND g.name = substr(r.resource, 14)
     WHERE r.region = $1 AND r.account <> $2 AND substr(r.resource, 1, 13) = 'report-group/'";

pub(super) fn policy(sql: &Sql<'_>, scope: &Scope, resource: &str) -> Result<Option<String>> {
    sql.row(
        "SELECT policy FROM resource_policies WHERE account = $1 AND region = $2 AND resource = $3",
        [text(&scope.account), text(&scope.region), text(resource)],
        |row| row.get(0),
    )
}

pub(super) fn delete_policy(sql: &Sql<'_>, scope: &Scope, resource: &str) -> Result<bool> {
    let deleted = sql.execute(
        "DELETE FROM resource_policies WHERE account = $1 AND region = $2 AND resource = $3",
        [text(&scope.account), text(&scope.region), text(resource)],
    )?;
    Ok(deleted == 1)
}

pub(super) fn delete_alias(sql: &Sql<'_>, scope: &Scope, project: &str) -> Result<()> {
    sql.execute(
        "DELETE FROM project_aliases WHERE account = $1 AND region = $2 AND project = $3",
        [text(&scope.account), text(&scope.region), text(project)],
    )?;
    Ok(())
}

fn project_exists(sql: &Sql<'_>, scope: &Scope, project: &str) -> Result<bool> {
    let found = sql.row(
        "SELECT created_ms FROM projects WHERE account = $1 AND region = $2 AND name = $3",
        [text(&scope.account), text(&scope.region), text(project)],
        |row| row.get::<i64>(0),
    )?;
    Ok(found.is_some())
}

//! Builds: accepted once, updated while they run, never changed again once complete.

use std::collections::HashMap;

use super::key::key;
use super::page::{self, Order, Page, Paged};
use super::sql::{Columns, Sql, Value, count, one_of, text};
use super::{Records, Scope};
use crate::error::{Error, Result};

/// A build to be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBuild {
    pub scope: Scope,
    /// `project:uuid`.
    pub id: String,
    pub project: String,
    pub status: String,
    pub created_ms: i64,
    /// JSON: where the build stands, to its driver.
    pub lifecycle: String,
    pub idempotency: Option<Token>,
}

/// A client's idempotency token (AP-008). It holds until `expires_ms`, compared with the `created_ms` of later builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub token: String,
    /// The API operation it was sent to; tokens of different operations have nothing to do with each other.
    pub operation: String,
    /// Equal for equal parameters.
    pub parameters_hash: String,
    pub expires_ms: i64,
}

/// What became of a new build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acceptance {
    Accepted {
        number: u64,
    },
    /// This token, with these parameters, has started this build before; its document as it is now.
    Replayed {
        id: String,
        document: String,
    },
    /// This token came before with other parameters.
    TokenMismatch,
    ProjectNotFound,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    pub scope: Scope,
    /// `project:uuid`.
    pub id: String,
    pub project: String,
    /// From 1, in the order of acceptance within the project (LC-005).
    pub number: u64,
    pub status: String,
    pub complete: bool,
    pub created_ms: i64,
    pub ended_ms: Option<i64>,
    /// JSON.
    pub document: String,
    /// JSON: where the build stands, to its driver.
    pub lifecycle: String,
}

/// A build that has to be gone on with, and how it was planned (JSON).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncompleteBuild {
    pub build: Build,
    pub plan: String,
}

/// All that changes in a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildUpdate {
    pub status: String,
    pub complete: bool,
    pub ended_ms: Option<i64>,
    pub document: String,
    pub lifecycle: String,
}

/// What became of a build's end and of the build that was to follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Succession {
    /// Both are on the disk.
    Accepted { number: u64 },
    /// The project is gone; nothing has changed.
    ProjectNotFound,
    /// The build was complete already, or is unknown; nothing has changed.
    NotEnded,
}

/// What became of a build that was to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    Deleted,
    /// Running builds are not deleted (AP-078).
    InProgress,
    Unknown,
}

impl Records {
    /// Accepts a build, in one transaction: takes the project's next build number, calls `render` with it for the
    /// build's document and plan (JSON), and remembers the token. On the disk when this returns `Accepted`.
    pub async fn accept_build(
        &self,
        new: NewBuild,
        render: impl FnOnce(u64) -> (String, String) + Send + 'static,
    ) -> Result<Acceptance> {
        self.write(move |sql| accept(sql, &new, render)).await
    }

    /// What this token stands for at `now_ms`, [`Acceptance::Replayed`] or [`Acceptance::TokenMismatch`]; none: it is free, for
    /// all that is known yet. [`Records::accept_build`] has the last word.
    pub async fn earlier_acceptance(
        &self,
        scope: &Scope,
        token: &Token,
        now_ms: i64,
    ) -> Result<Option<Acceptance>> {
        let (scope, token) = (scope.clone(), token.clone());
        self.read(move |sql| earlier(sql, &scope, &token, now_ms)).await
    }

    /// As [`Records::earlier_acceptance`], once all is accepted that was to be accepted before this was asked.
    pub async fn earlier_acceptance_in_turn(
        &self,
        scope: &Scope,
        token: &Token,
        now_ms: i64,
    ) -> Result<Option<Acceptance>> {
        let (scope, token) = (scope.clone(), token.clone());
        self.write(move |sql| earlier(sql, &scope, &token, now_ms)).await
    }

    /// Changes a build that is not complete. False, and nothing changed, if it is complete already or unknown.
    pub async fn update_build(&self, scope: &Scope, id: &str, change: BuildUpdate) -> Result<bool> {
        let (scope, id) = (scope.clone(), id.to_owned());
        self.write(move |sql| update(sql, &scope, &id, &change)).await
    }

    /// As [`Records::update_build`], and accepts the build that follows as [`Records::accept_build`] does, both or neither.
    /// `next` is of the same scope; its token is not looked at.
    pub async fn succeed_build(
        &self,
        id: &str,
        change: BuildUpdate,
        next: NewBuild,
        render: impl FnOnce(u64) -> (String, String) + Send + 'static,
    ) -> Result<Succession> {
        let id = id.to_owned();
        self.write(move |sql| {
            if !project_exists(sql, &next)? {
                return Ok(Succession::ProjectNotFound);
            }
            if !update(sql, &next.scope, &id, &change)? {
                return Ok(Succession::NotEnded);
            }
            number_and_insert(sql, &next, render).map(|number| Succession::Accepted { number })
        })
        .await
    }

    pub async fn get_build(&self, scope: &Scope, id: &str) -> Result<Option<Build>> {
        let (scope, id) = (scope.clone(), id.to_owned());
        self.read(move |sql| get(sql, &scope, &id)).await
    }

    /// Ids and documents of those of the builds that exist, in the order asked, each once.
    pub async fn get_documents(&self, scope: &Scope, ids: &[String]) -> Result<Vec<(String, String)>> {
        let (scope, ids) = (scope.clone(), ids.to_vec());
        self.read(move |sql| {
            let mut parameters = vec![text(&scope.account), text(&scope.region)];
            let keys: Vec<i64> = ids.iter().map(|id| key(&scope.account, &scope.region, id)).collect();
            let one_of = one_of(&keys, &mut parameters);
            let query = format!(
                "SELECT id, document FROM build_documents WHERE account = $1 AND region = $2 AND key IN {one_of}"
            );
            let mut found = sql.rows(&query, parameters, |row| Ok((row.get(0)?, row.get(1)?)))?;
            let places: HashMap<&String, usize> = ids.iter().zip(0..).collect();
            // Another build's id can have the same key.
            found.retain(|(id, _)| places.contains_key(id));
            found.sort_by_key(|(id, _)| places.get(id).copied());
            Ok(found)
        })
        .await
    }

    /// How a build was planned (JSON).
    pub async fn get_plan(&self, scope: &Scope, id: &str) -> Result<Option<String>> {
        let parameters = [text(&scope.account), text(&scope.region), text(id)];
        self.read(move |sql| {
            let query = "SELECT plan FROM builds WHERE account = $1 AND region = $2 AND id = $3";
            sql.row(query, parameters, |row| row.get(0))
        })
        .await
    }

    /// All builds that are not complete, of every account, in the order they were accepted.
    pub async fn incomplete_builds(&self) -> Result<Vec<IncompleteBuild>> {
        self.read(|sql| {
            let query = format!("{SELECT_BUILDS} WHERE b.complete = 0 ORDER BY b.sequence");
            sql.rows(&query, [], |row| Ok(IncompleteBuild { build: read(row)?, plan: row.get(11)? }))
        })
        .await
    }

    /// Ids of all builds, in the order they were accepted. `after` is the `next` of the page before.
    pub async fn list_builds(
        &self,
        scope: &Scope,
        order: Order,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<String>> {
        let parameters = vec![text(&scope.account), text(&scope.region)];
        let select = "SELECT id, sequence FROM builds WHERE account = $1 AND region = $2";
        self.list_ids("builds", select, parameters, "sequence", order, after, limit).await
    }

    /// Ids of a project's builds, by build number; none for unknown projects.
    pub async fn list_builds_for_project(
        &self,
        scope: &Scope,
        project: &str,
        order: Order,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<String>> {
        let parameters = vec![text(&scope.account), text(&scope.region), text(project)];
        let select = "SELECT id, number FROM builds WHERE account = $1 AND region = $2 AND project = $3";
        self.list_ids("numbers", select, parameters, "number", order, after, limit).await
    }

    /// Deletes builds that are complete, and says what became of each, in the order asked.
    pub async fn delete_builds(&self, scope: &Scope, ids: &[String]) -> Result<Vec<(String, Deletion)>> {
        let (scope, ids) = (scope.clone(), ids.to_vec());
        self.write(move |sql| {
            ids.into_iter().map(|id| delete(sql, &scope, &id).map(|deletion| (id, deletion))).collect()
        })
        .await
    }

    #[expect(clippy::too_many_arguments, reason = "two callers, all of it theirs")]
    async fn list_ids(
        &self,
        list: &'static str,
        select: &str,
        parameters: Vec<Value>,
        key: &str,
        order: Order,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<String>> {
        let after = after.map(|token| page::parse_token(list, token)).transpose()?;
        let after = after.map(|(place, _)| vec![place.into()]);
        let (query, parameters) = Paged { select, parameters, keys: &[key], order, after, limit }.build();
        self.read(move |sql| {
            let found =
                sql.rows(&query, parameters, |row| Ok((row.get::<String>(0)?, row.get::<i64>(1)?)))?;
            Ok(Page::of(found, limit, |(_, place)| page::token(list, *place, "")).map(|(id, _)| id))
        })
        .await
    }
}

fn accept(sql: &Sql<'_>, new: &NewBuild, render: impl FnOnce(u64) -> (String, String)) -> Result<Acceptance> {
    if let Some(token) = &new.idempotency {
        sql.execute("DELETE FROM idempotency_tokens WHERE expires_ms <= $1", [new.created_ms.into()])?;
        if let Some(earlier) = earlier(sql, &new.scope, token, new.created_ms)? {
            return Ok(earlier);
        }
    }
    if !project_exists(sql, new)? {
        return Ok(Acceptance::ProjectNotFound);
    }
    let number = number_and_insert(sql, new, render)?;
    if let Some(token) = &new.idempotency {
        remember(sql, new, token)?;
    }
    Ok(Acceptance::Accepted { number })
}

fn number_and_insert(
    sql: &Sql<'_>,
    new: &NewBuild,
    render: impl FnOnce(u64) -> (String, String),
) -> Result<u64> {
    let number = next_number(sql, new)?;
    let (document, plan) = render(number);
    insert(sql, new, number, &document, &plan)?;
    Ok(number)
}

fn update(sql: &Sql<'_>, scope: &Scope, id: &str, change: &BuildUpdate) -> Result<bool> {
    let updated = sql.execute(
        "UPDATE builds SET status = $1, complete = $2, ended_ms = $3, lifecycle = $4
         WHERE account = $5 AND region = $6 AND id = $7 AND complete = 0",
        [
            text(&change.status),
            change.complete.into(),
            change.ended_ms.into(),
            text(&change.lifecycle),
            text(&scope.account),
            text(&scope.region),
            text(id),
        ],
    )?;
    if updated == 1 {
        let key = key(&scope.account, &scope.region, id);
        let query = "UPDATE build_documents SET document = $1 WHERE key = $2";
        sql.execute(query, [text(&change.document), key.into()])?;
    }
    Ok(updated == 1)
}

// COMPAT: AP-008 a token holds for its time and for equal parameters, even when the project is gone.
/// What this token stands for already.
fn earlier(sql: &Sql<'_>, scope: &Scope, token: &Token, now_ms: i64) -> Result<Option<Acceptance>> {
    let found = sql.row(
        "SELECT t.parameters_hash, b.id, d.document FROM idempotency_tokens t
         JOIN builds b ON b.account = t.account AND b.region = t.region AND b.id = t.build
         JOIN build_documents d ON d.key = b.key
         WHERE t.account = $1 AND t.region = $2 AND t.operation = $3 AND t.token = $4 AND t.expires_ms > $5",
        [
            text(&scope.account),
            text(&scope.region),
            text(&token.operation),
            text(&token.token),
            now_ms.into(),
        ],
        |row| Ok((row.get::<String>(0)?, row.get(1)?, row.get(2)?)),
    )?;
    Ok(found.map(|(parameters_hash, id, document)| {
        if parameters_hash == token.parameters_hash {
            Acceptance::Replayed { id, document }
        } else {
            Acceptance::TokenMismatch
        }
    }))
}

fn project_exists(sql: &Sql<'_>, new: &NewBuild) -> Result<bool> {
    let found = sql.row(
        "SELECT 1 FROM projects WHERE account = $1 AND region = $2 AND name = $3",
        [text(&new.scope.account), text(&new.scope.region), text(&new.project)],
        |row| row.get::<i64>(0),
    )?;
    Ok(found.is_some())
}

// COMPAT: LC-005 build numbers start at 1 per project, go up by 1, and are never used again after deletes.
fn next_number(sql: &Sql<'_>, new: &NewBuild) -> Result<u64> {
    let number = sql.row(
        "INSERT INTO build_numbers (account, region, project, last) VALUES ($1, $2, $3, 1)
         ON CONFLICT (account, region, project) DO UPDATE SET last = build_numbers.last + 1 RETURNING last",
        [text(&new.scope.account), text(&new.scope.region), text(&new.project)],
        |row| row.count(0),
    )?;
    number.ok_or_else(|| Error::not_found("build number of project", &new.project))
}

fn insert(sql: &Sql<'_>, new: &NewBuild, number: u64, document: &str, plan: &str) -> Result<()> {
    let Scope { account, region } = &new.scope;
    let key = key(account, region, &new.id);
    let inserted = sql.execute(
        "INSERT INTO builds
             (account, region, id, project, number, status, complete, created_ms, key, lifecycle, plan)
         VALUES ($1, $2, $3, $4, $5, $6, 0, $7, $8, $9, $10) ON CONFLICT (account, region, id) DO NOTHING",
        [
            text(account),
            text(region),
            text(&new.id),
            text(&new.project),
            count(number),
            text(&new.status),
            new.created_ms.into(),
            key.into(),
            text(&new.lifecycle),
            text(plan),
        ],
    )?;
    if inserted != 1 {
        return Err(Error::already_exists("build", &new.id));
    }
    let query =
        "INSERT INTO build_documents (key, account, region, id, document) VALUES ($1, $2, $3, $4, $5)";
    sql.execute(query, [key.into(), text(account), text(region), text(&new.id), text(document)]).map(drop)
}

fn remember(sql: &Sql<'_>, new: &NewBuild, token: &Token) -> Result<()> {
    sql.execute(
        "INSERT INTO idempotency_tokens (account, region, operation, token, parameters_hash, build, expires_ms)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        [
            text(&new.scope.account),
            text(&new.scope.region),
            text(&token.operation),
            text(&token.token),
            text(&token.parameters_hash),
            text(&new.id),
            token.expires_ms.into(),
        ],
    )?;
    Ok(())
}

// COMPAT: AP-078 a running build is not deleted; an unknown one is answered for as well.
fn delete(sql: &Sql<'_>, scope: &Scope, id: &str) -> Result<Deletion> {
    let names = || [text(&scope.account), text(&scope.region), text(id)];
    let query = "SELECT complete FROM builds WHERE account = $1 AND region = $2 AND id = $3";
    match sql.row(query, names(), |row| row.get::<bool>(0))? {
        None => Ok(Deletion::Unknown),
        Some(false) => Ok(Deletion::InProgress),
        Some(true) => {
            sql.execute("DELETE FROM builds WHERE account = $1 AND region = $2 AND id = $3", names())?;
            let key = key(&scope.account, &scope.region, id);
            sql.execute("DELETE FROM build_documents WHERE key = $1", [key.into()])?;
            let tokens = "DELETE FROM idempotency_tokens WHERE account = $1 AND region = $2 AND build = $3";
            sql.execute(tokens, names())?;
            Ok(Deletion::Deleted)
        }
    }
}

/// A part of a migration: gives keys to the builds that are there.
pub(super) fn write_keys(sql: &Sql<'_>) -> Result<()> {
    let mut after = 0;
    loop {
        let query = "SELECT sequence, account, region, id FROM builds WHERE sequence > $1 ORDER BY sequence LIMIT 1000";
        let read = |row: &Columns<'_>| {
            let (account, region, id): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
            Ok((row.get::<i64>(0)?, key(&account, &region, &id)))
        };
        let found = sql.rows(query, [after.into()], read)?;
        for (sequence, key) in &found {
            let query = "UPDATE builds SET key = $1 WHERE sequence = $2";
            sql.execute(query, [(*key).into(), (*sequence).into()])?;
        }
        match found.last() {
            Some((last, _)) => after = *last,
            None => return Ok(()),
        }
    }
}

const SELECT_BUILDS: &str =
    "SELECT b.account, b.region, b.id, b.project, b.number, b.status, b.complete, b.created_ms,
     b.ended_ms, d.document, b.lifecycle, b.plan FROM builds b JOIN build_documents d ON d.key = b.key";

fn get(sql: &Sql<'_>, scope: &Scope, id: &str) -> Result<Option<Build>> {
    let query = format!("{SELECT_BUILDS} WHERE b.account = $1 AND b.region = $2 AND b.id = $3");
    sql.row(&query, [text(&scope.account), text(&scope.region), text(id)], read)
}

pub(super) fn all(sql: &Sql<'_>) -> Result<Vec<Build>> {
    sql.rows(&format!("{SELECT_BUILDS} ORDER BY b.sequence"), [], read)
}

fn read(row: &Columns<'_>) -> Result<Build> {
    Ok(Build {
        scope: Scope { account: row.get(0)?, region: row.get(1)? },
        id: row.get(2)?,
        project: row.get(3)?,
        number: row.count(4)?,
        status: row.get(5)?,
        complete: row.get(6)?,
        created_ms: row.get(7)?,
        ended_ms: row.get(8)?,
        document: row.get(9)?,
        lifecycle: row.get(10)?,
    })
}

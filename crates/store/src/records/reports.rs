//! Report groups, reports, and what was found: documents of their writer's, by name and by time.

use super::page::{self, Order, Page, Paged};
use super::sql::{Columns, Sql, Value, in_order, one_of, text};
use super::{Records, Scope, sharing};
use crate::error::{Error, Result};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportGroup {
    pub name: String,
    /// JSON.
    pub document: String,
    pub created_ms: i64,
    pub modified_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// `<report group>:<uuid>`.
    pub id: String,
    pub group: String,
    pub status: String,
    pub created_ms: i64,
    /// When it is to be removed.
    pub expires_ms: i64,
    /// JSON.
    pub document: String,
}

/// What became of a report group that was to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportGroupDeletion {
    Deleted,
    Unknown,
    /// It has reports, and they were not to go with it (AP-092).
    HasReports,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportGroupSort {
    Name,
    CreatedTime,
    LastModifiedTime,
}

impl ReportGroupSort {
    /// The list's name in its tokens, and its columns.
    fn list(self) -> (&'static str, &'static [&'static str]) {
        match self {
            ReportGroupSort::Name => ("name", &["name"]),
            ReportGroupSort::CreatedTime => ("created", &["created_ms", "name"]),
            ReportGroupSort::LastModifiedTime => ("modified", &["modified_ms", "name"]),
        }
    }
}

/// Which reports are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportSelection {
    /// Of this group only.
    pub group: Option<String>,
    /// Of this status only.
    pub status: Option<String>,
}

impl Records {
    /// `AlreadyExists` if there is a group of that name.
    pub async fn insert_report_group(&self, scope: &Scope, group: ReportGroup) -> Result<()> {
        let scope = scope.clone();
        self.write(move |sql| {
            let inserted = sql.execute(
                "INSERT INTO report_groups (account, region, name, created_ms, modified_ms, document)
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (account, region, name) DO NOTHING",
                [
                    text(&scope.account),
                    text(&scope.region),
                    text(&group.name),
                    group.created_ms.into(),
                    group.modified_ms.into(),
                    text(&group.document),
                ],
            )?;
            if inserted == 1 { Ok(()) } else { Err(Error::already_exists("report group", &group.name)) }
        })
        .await
    }

    /// Replaces a group's document if it still is as `read`; false, and nothing changed, if it is not, or is gone.
    pub async fn update_report_group(
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
                "UPDATE report_groups SET document = $1, modified_ms = $2
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
            Ok(updated == 1)
        })
        .await
    }

    /// Its policy goes with it, and with `reports` they do.
    pub async fn delete_report_group(
        &self,
        scope: &Scope,
        name: &str,
        reports: bool,
    ) -> Result<ReportGroupDeletion> {
        let (scope, name) = (scope.clone(), name.to_owned());
        self.write(move |sql| {
            if !reports && has_reports(sql, &scope, &name)? {
                return Ok(ReportGroupDeletion::HasReports);
            }
            sharing::delete_policy(sql, &scope, &format!("report-group/{name}"))?;
            let deleted = sql.execute(
                "DELETE FROM report_groups WHERE account = $1 AND region = $2 AND name = $3",
                [text(&scope.account), text(&scope.region), text(&name)],
            )?;
            Ok(if deleted == 1 { ReportGroupDeletion::Deleted } else { ReportGroupDeletion::Unknown })
        })
        .await
    }

    /// Those of the named groups that exist, in the order asked.
    pub async fn get_report_groups(&self, scope: &Scope, names: &[String]) -> Result<Vec<ReportGroup>> {
        let (scope, names) = (scope.clone(), names.to_vec());
        self.read(move |sql| {
            let mut parameters = vec![text(&scope.account), text(&scope.region)];
            let query = format!("{SELECT_GROUPS} AND name IN {}", one_of(&names, &mut parameters));
            Ok(in_order(&names, sql.rows(&query, parameters, read_group)?, |group| &group.name))
        })
        .await
    }

    /// Names of groups. `after` is the `next` of the page before, under the same sort and order.
    pub async fn list_report_groups(
        &self,
        scope: &Scope,
        sort: ReportGroupSort,
        order: Order,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<String>> {
        let (list, keys) = sort.list();
        let after = after.map(|token| page::parse_token(list, token)).transpose()?;
        let after = after.map(|(time, name)| match sort {
            ReportGroupSort::Name => vec![Value::Text(name)],
            _ => vec![time.into(), Value::Text(name)],
        });
        let parameters = vec![text(&scope.account), text(&scope.region)];
        let (query, parameters) =
            Paged { select: SELECT_GROUPS, parameters, keys, order, after, limit }.build();
        self.read(move |sql| {
            let found = sql.rows(&query, parameters, read_group)?;
            let time = |group: &ReportGroup| match sort {
                ReportGroupSort::Name => 0,
                ReportGroupSort::CreatedTime => group.created_ms,
                ReportGroupSort::LastModifiedTime => group.modified_ms,
            };
            let page = Page::of(found, limit, |last| page::token(list, time(last), &last.name));
            Ok(page.map(|group| group.name))
        })
        .await
    }

    /// Keeps a report in the place of what it was before, and its findings (JSON) if there are any. `NotFound` if there
    /// is no such group.
    pub async fn put_report(&self, scope: &Scope, report: Report, findings: Option<String>) -> Result<()> {
        let scope = scope.clone();
        self.write(move |sql| {
            if !group_exists(sql, &scope, &report.group)? {
                return Err(Error::not_found("report group", &report.group));
            }
            put(sql, &scope, &report)?;
            findings.map_or(Ok(()), |findings| put_findings(sql, &scope, &report.id, &findings))
        })
        .await
    }

    /// Those of the reports that exist, in the order asked.
    pub async fn get_reports(&self, scope: &Scope, ids: &[String]) -> Result<Vec<Report>> {
        let (scope, ids) = (scope.clone(), ids.to_vec());
        self.read(move |sql| {
            let mut parameters = vec![text(&scope.account), text(&scope.region)];
            let query = format!("{SELECT_REPORTS} AND id IN {}", one_of(&ids, &mut parameters));
            Ok(in_order(&ids, sql.rows(&query, parameters, read_report)?, |report| &report.id))
        })
        .await
    }

    /// Ids of reports, by the time they were made. `after` is the `next` of the page before, of the same selection.
    pub async fn list_reports(
        &self,
        scope: &Scope,
        selection: &ReportSelection,
        order: Order,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<String>> {
        let after = after.map(|token| page::parse_token("reports", token)).transpose()?;
        let after = after.map(|(time, id)| vec![time.into(), Value::Text(id)]);
        let mut parameters = vec![text(&scope.account), text(&scope.region)];
        let mut select = SELECT_REPORTS.to_owned();
        for (column, value) in [("report_group", &selection.group), ("status", &selection.status)] {
            if let Some(value) = value {
                parameters.push(text(value));
                select += &format!(" AND {column} = ${}", parameters.len());
            }
        }
        let keys = &["created_ms", "id"];
        let (query, parameters) = Paged { select: &select, parameters, keys, order, after, limit }.build();
        self.read(move |sql| {
            let found = sql.rows(&query, parameters, read_report)?;
            let page = Page::of(found, limit, |last| page::token("reports", last.created_ms, &last.id));
            Ok(page.map(|report| report.id))
        })
        .await
    }

    /// What was found (JSON); `None` if there is no such report, or nothing was found so far.
    pub async fn report_findings(&self, scope: &Scope, id: &str) -> Result<Option<String>> {
        let parameters = [text(&scope.account), text(&scope.region), text(id)];
        self.read(move |sql| {
            let query =
                "SELECT findings FROM report_findings WHERE account = $1 AND region = $2 AND report = $3";
            sql.row(query, parameters, |row| row.get(0))
        })
        .await
    }

    /// False if there was none.
    pub async fn delete_report(&self, scope: &Scope, id: &str) -> Result<bool> {
        let parameters = [text(&scope.account), text(&scope.region), text(id)];
        self.write(move |sql| {
            let query = "DELETE FROM reports WHERE account = $1 AND region = $2 AND id = $3";
            Ok(sql.execute(query, parameters)? == 1)
        })
        .await
    }

    /// Removes the reports whose time has come, of every account. Costs a look if there are none.
    pub async fn expire_reports(&self, now_ms: i64) -> Result<()> {
        let due = self.read(move |sql| sql.row(DUE, [now_ms.into()], |row| row.get::<i64>(0))).await?;
        if due.is_none() {
            return Ok(());
        }
        self.write(move |sql| sql.execute(EXPIRE, [now_ms.into()]).map(drop)).await
    }
}

const SELECT_GROUPS: &str = "SELECT name, document, created_ms, modified_ms FROM report_groups
     WHERE account = $1 AND region = $2";
const SELECT_REPORTS: &str = "SELECT id, report_group, status, created_ms, expires_ms, document FROM reports
     WHERE account = $1 AND region = $2";
pub(super) const DUE: &str =
    "SELECT expires_ms FROM reports WHERE expires_ms <= $1 ORDER BY expires_ms LIMIT 1";
pub(super) const EXPIRE: &str = "DELETE FROM reports WHERE expires_ms <= $1";

pub(super) fn group_exists(sql: &Sql<'_>, scope: &Scope, name: &str) -> Result<bool> {
    let found = sql.row(
        "SELECT created_ms FROM report_groups WHERE account = $1 AND region = $2 AND name = $3",
        [text(&scope.account), text(&scope.region), text(name)],
        |row| row.get::<i64>(0),
    )?;
    Ok(found.is_some())
}

fn has_reports(sql: &Sql<'_>, scope: &Scope, group: &str) -> Result<bool> {
    let found = sql.row(
        "SELECT created_ms FROM reports WHERE account = $1 AND region = $2 AND report_group = $3 LIMIT 1",
        [text(&scope.account), text(&scope.region), text(group)],
        |row| row.get::<i64>(0),
    )?;
    Ok(found.is_some())
}

fn put(sql: &Sql<'_>, scope: &Scope, report: &Report) -> Result<()> {
    sql.execute(
        "INSERT INTO reports (account, region, id, report_group, status, created_ms, expires_ms, document)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (account, region, id)
         DO UPDATE SET status = excluded.status, document = excluded.document",
        [
            text(&scope.account),
            text(&scope.region),
            text(&report.id),
            text(&report.group),
            text(&report.status),
            report.created_ms.into(),
            report.expires_ms.into(),
            text(&report.document),
        ],
    )?;
    Ok(())
}

fn put_findings(sql: &Sql<'_>, scope: &Scope, report: &str, findings: &str) -> Result<()> {
    sql.execute(
        "INSERT INTO report_findings (account, region, report, findings) VALUES ($1, $2, $3, $4)
         ON CONFLICT (account, region, report) DO UPDATE SET findings = excluded.findings",
        [text(&scope.account), text(&scope.region), text(report), text(findings)],
    )?;
    Ok(())
}

fn read_group(row: &Columns<'_>) -> Result<ReportGroup> {
    Ok(ReportGroup {
        name: row.get(0)?,
        document: row.get(1)?,
        created_ms: row.get(2)?,
        modified_ms: row.get(3)?,
    })
}

fn read_report(row: &Columns<'_>) -> Result<Report> {
    Ok(Report {
        id: row.get(0)?,
        group: row.get(1)?,
        status: row.get(2)?,
        created_ms: row.get(3)?,
        expires_ms: row.get(4)?,
        document: row.get(5)?,
    })
}

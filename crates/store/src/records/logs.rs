//! Log groups and log streams: what they are called and where their segments lie. The bytes are in `crate::logs`.

use super::page::{self, Order, Page, Paged, after_prefix};
use super::sql::{Columns, Sql, Value, count, text};
use super::{Records, Scope};
use crate::error::{Error, Result};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogGroup {
    pub name: String,
    pub created_ms: i64,
    /// `None`: events never expire.
    pub retention_days: Option<i64>,
    /// JSON.
    pub tags: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStream {
    pub group: String,
    pub name: String,
    pub created_ms: i64,
    /// Path of the segment, as its owner writes it.
    pub segment: String,
    pub first_event_ms: Option<i64>,
    pub last_event_ms: Option<i64>,
    pub stored_bytes: u64,
    /// Where in its segment forwarding goes on; `None` if nothing of it is to be forwarded (any more).
    pub forwarding: Option<String>,
}

/// What a list of log streams is ordered by; streams without events count as the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamOrder {
    LogStreamName,
    LastEventTime,
}

impl Records {
    /// `AlreadyExists` if there is a group of that name.
    pub async fn create_log_group(&self, scope: &Scope, group: LogGroup) -> Result<()> {
        let scope = scope.clone();
        self.write(move |sql| {
            let inserted = sql.execute(
                "INSERT INTO log_groups (account, region, name, created_ms, retention_days, tags)
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (account, region, name) DO NOTHING",
                [
                    text(&scope.account),
                    text(&scope.region),
                    text(&group.name),
                    group.created_ms.into(),
                    group.retention_days.into(),
                    text(&group.tags),
                ],
            )?;
            if inserted == 1 { Ok(()) } else { Err(Error::already_exists("log group", &group.name)) }
        })
        .await
    }

    pub async fn get_log_group(&self, scope: &Scope, name: &str) -> Result<Option<LogGroup>> {
        let parameters = [text(&scope.account), text(&scope.region), text(name)];
        self.read(move |sql| {
            let query = format!("{SELECT_GROUPS} AND name = $3");
            sql.row(&query, parameters, read_group)
        })
        .await
    }

    /// Groups whose names begin with `prefix`, by name. `after` is the `next` of the page before.
    pub async fn list_log_groups(
        &self,
        scope: &Scope,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<LogGroup>> {
        let mut parameters = vec![text(&scope.account), text(&scope.region)];
        let select = format!("{SELECT_GROUPS}{}", name_begins_with(prefix, &mut parameters));
        let after = after.map(|token| page::parse_token("groups", token)).transpose()?;
        let after = after.map(|(_, name)| vec![Value::Text(name)]);
        let order = Order::Ascending;
        let (query, parameters) =
            Paged { select: &select, parameters, keys: &["name"], order, after, limit }.build();
        self.read(move |sql| {
            let found = sql.rows(&query, parameters, read_group)?;
            Ok(Page::of(found, limit, |last| page::token("groups", 0, &last.name)))
        })
        .await
    }

    /// Sets for how many days events are kept; `None` for ever. `NotFound` if there is no such group.
    pub async fn set_log_retention(&self, scope: &Scope, group: &str, days: Option<i64>) -> Result<()> {
        let days = days.into();
        self.change_log_group(scope, group, "retention_days", days).await
    }

    /// Replaces a group's tags (JSON). `NotFound` if there is no such group.
    pub async fn set_log_group_tags(&self, scope: &Scope, group: &str, tags: &str) -> Result<()> {
        self.change_log_group(scope, group, "tags", text(tags)).await
    }

    async fn change_log_group(
        &self,
        scope: &Scope,
        group: &str,
        column: &'static str,
        value: Value,
    ) -> Result<()> {
        let (scope, group) = (scope.clone(), group.to_owned());
        self.write(move |sql| {
            let query = format!(
                "UPDATE log_groups SET {column} = $1 WHERE account = $2 AND region = $3 AND name = $4"
            );
            let parameters = [value, text(&scope.account), text(&scope.region), text(&group)];
            if sql.execute(&query, parameters)? == 1 {
                Ok(())
            } else {
                Err(Error::not_found("log group", &group))
            }
        })
        .await
    }

    /// Deletes a group and its streams; gives the paths of their segments, which are now nobody's.
    /// `NotFound` if there is no such group.
    pub async fn delete_log_group(&self, scope: &Scope, name: &str) -> Result<Vec<String>> {
        let (scope, name) = (scope.clone(), name.to_owned());
        self.write(move |sql| {
            let key = || [text(&scope.account), text(&scope.region), text(&name)];
            let streams =
                "DELETE FROM log_streams WHERE account = $1 AND region = $2 AND log_group = $3 RETURNING segment";
            let segments = sql.rows(streams, key(), |row| row.get(0))?;
            let group = "DELETE FROM log_groups WHERE account = $1 AND region = $2 AND name = $3";
            if sql.execute(group, key())? == 1 { Ok(segments) } else { Err(Error::not_found("log group", &name)) }
        })
        .await
    }

    /// `NotFound` if there is no such group, `AlreadyExists` if it has a stream of that name.
    pub async fn create_log_stream(&self, scope: &Scope, stream: LogStream) -> Result<()> {
        let scope = scope.clone();
        self.write(move |sql| {
            if !group_exists(sql, &scope, &stream.group)? {
                return Err(Error::not_found("log group", &stream.group));
            }
            let inserted = insert_stream(sql, &scope, &stream)?;
            if inserted { Ok(()) } else { Err(Error::already_exists("log stream", &stream.name)) }
        })
        .await
    }

    pub async fn get_log_stream(&self, scope: &Scope, group: &str, name: &str) -> Result<Option<LogStream>> {
        let parameters = [text(&scope.account), text(&scope.region), text(group), text(name)];
        self.read(move |sql| {
            let query = format!("{SELECT_STREAMS} AND name = $4");
            sql.row(&query, parameters, read_stream)
        })
        .await
    }

    /// Notes what a stream holds by now; false if there is no such stream.
    pub async fn update_log_stream(
        &self,
        scope: &Scope,
        (group, name): (&str, &str),
        (first_event_ms, last_event_ms): (Option<i64>, Option<i64>),
        stored_bytes: u64,
    ) -> Result<bool> {
        let parameters = [
            first_event_ms.unwrap_or(0).into(),
            last_event_ms.unwrap_or(0).into(),
            count(stored_bytes),
            text(&scope.account),
            text(&scope.region),
            text(group),
            text(name),
        ];
        self.write(move |sql| {
            let updated = sql.execute(
                "UPDATE log_streams SET first_event_ms = $1, last_event_ms = $2, stored_bytes = $3
                 WHERE account = $4 AND region = $5 AND log_group = $6 AND name = $7",
                parameters,
            )?;
            Ok(updated == 1)
        })
        .await
    }

    /// Streams, of whomever, whose last event is older than their groups keep events; some of them, if there are more than
    /// `limit`.
    pub async fn expired_log_streams(&self, now_ms: i64, limit: usize) -> Result<Vec<(Scope, LogStream)>> {
        let query =
            "SELECT log_group, s.name, s.created_ms, segment, first_event_ms, last_event_ms, stored_bytes, forwarding,
                            s.account, s.region
             FROM log_groups g JOIN log_streams s
                  ON s.account = g.account AND s.region = g.region AND s.log_group = g.name
             WHERE g.retention_days IS NOT NULL AND s.last_event_ms > 0
                   AND s.last_event_ms < $1 - g.retention_days * 86400000
             LIMIT $2";
        let parameters: [Value; 2] = [now_ms.into(), count(limit as u64)];
        self.read(move |sql| {
            sql.rows(query, parameters, |row| {
                let scope = Scope { account: row.get(8)?, region: row.get(9)? };
                Ok((scope, read_stream(row)?))
            })
        })
        .await
    }

    /// Streams, of whomever, of which something may still be to be forwarded: the oldest of them, if there are more than `limit`.
    pub async fn log_streams_to_forward(&self, limit: usize) -> Result<Vec<(Scope, LogStream)>> {
        let query =
            "SELECT log_group, name, created_ms, segment, first_event_ms, last_event_ms, stored_bytes, forwarding,
                    account, region
             FROM log_streams WHERE forwarding IS NOT NULL ORDER BY created_ms, name LIMIT $1";
        self.read(move |sql| {
            sql.rows(query, [count(limit as u64)], |row| {
                let scope = Scope { account: row.get(8)?, region: row.get(9)? };
                Ok((scope, read_stream(row)?))
            })
        })
        .await
    }

    /// Notes how far a stream was forwarded; `None` if it was in all. False if there is no such stream.
    pub async fn forwarded_log_stream(
        &self,
        scope: &Scope,
        stream: &LogStream,
        until: Option<String>,
    ) -> Result<bool> {
        let parameters = [
            until.into(),
            text(&scope.account),
            text(&scope.region),
            text(&stream.group),
            text(&stream.name),
        ];
        self.write(move |sql| {
            let updated = sql.execute(
                "UPDATE log_streams SET forwarding = $1
                 WHERE account = $2 AND region = $3 AND log_group = $4 AND name = $5",
                parameters,
            )?;
            Ok(updated == 1)
        })
        .await
    }

    /// Notes that a stream has no events any more, if its last one is still the one that `stream` says.
    pub async fn empty_log_stream(&self, scope: &Scope, stream: &LogStream) -> Result<bool> {
        let parameters = [
            text(&scope.account),
            text(&scope.region),
            text(&stream.group),
            text(&stream.name),
            stream.last_event_ms.unwrap_or(0).into(),
        ];
        self.write(move |sql| {
            let updated = sql.execute(
                "UPDATE log_streams SET first_event_ms = 0, last_event_ms = 0, stored_bytes = 0, forwarding = NULL
                 WHERE account = $1 AND region = $2 AND log_group = $3 AND name = $4 AND last_event_ms = $5",
                parameters,
            )?;
            Ok(updated == 1)
        })
        .await
    }

    /// Streams of a group whose names begin with `prefix`. `after` is the `next` of the page before, under the same
    /// order. `NotFound` if there is no such group.
    pub async fn list_log_streams(
        &self,
        scope: &Scope,
        (group, prefix): (&str, &str),
        (by, order): (StreamOrder, Order),
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<LogStream>> {
        let (list, keys): (_, &[&str]) = match by {
            StreamOrder::LogStreamName => ("streams", &["name"]),
            StreamOrder::LastEventTime => ("events", &["last_event_ms", "name"]),
        };
        let mut parameters = vec![text(&scope.account), text(&scope.region), text(group)];
        let select = format!("{SELECT_STREAMS}{}", name_begins_with(prefix, &mut parameters));
        let after = after.map(|token| page::parse_token(list, token)).transpose()?;
        let after = after.map(|(time, name)| match by {
            StreamOrder::LogStreamName => vec![Value::Text(name)],
            StreamOrder::LastEventTime => vec![time.into(), Value::Text(name)],
        });
        let (query, parameters) = Paged { select: &select, parameters, keys, order, after, limit }.build();
        let (scope, group) = (scope.clone(), group.to_owned());
        self.read(move |sql| {
            if !group_exists(sql, &scope, &group)? {
                return Err(Error::not_found("log group", &group));
            }
            let found = sql.rows(&query, parameters, read_stream)?;
            Ok(Page::of(found, limit, |last| page::token(list, last.last_event_ms.unwrap_or(0), &last.name)))
        })
        .await
    }

    /// Deletes a stream; gives the path of its segment. `NotFound` if there is no such stream.
    pub async fn delete_log_stream(&self, scope: &Scope, group: &str, name: &str) -> Result<String> {
        let (scope, group, name) = (scope.clone(), group.to_owned(), name.to_owned());
        self.write(move |sql| {
            let segment = sql.row(
                "DELETE FROM log_streams WHERE account = $1 AND region = $2 AND log_group = $3 AND name = $4
                 RETURNING segment",
                [text(&scope.account), text(&scope.region), text(&group), text(&name)],
                |row| row.get(0),
            )?;
            segment.ok_or_else(|| Error::not_found("log stream", &name))
        })
        .await
    }
}

const SELECT_GROUPS: &str =
    "SELECT name, created_ms, retention_days, tags FROM log_groups WHERE account = $1 AND region = $2";

const SELECT_STREAMS: &str =
    "SELECT log_group, name, created_ms, segment, first_event_ms, last_event_ms, stored_bytes, forwarding
     FROM log_streams WHERE account = $1 AND region = $2 AND log_group = $3";

fn read_group(row: &Columns<'_>) -> Result<LogGroup> {
    Ok(LogGroup {
        name: row.get(0)?,
        created_ms: row.get(1)?,
        retention_days: row.get(2)?,
        tags: row.get(3)?,
    })
}

fn read_stream(row: &Columns<'_>) -> Result<LogStream> {
    let time = |index| row.get::<i64>(index).map(|time| (time != 0).then_some(time));
    Ok(LogStream {
        group: row.get(0)?,
        name: row.get(1)?,
        created_ms: row.get(2)?,
        segment: row.get(3)?,
        first_event_ms: time(4)?,
        last_event_ms: time(5)?,
        stored_bytes: row.count(6)?,
        forwarding: row.get(7)?,
    })
}

/// A condition that an index can answer, unlike LIKE.
fn name_begins_with(prefix: &str, parameters: &mut Vec<Value>) -> String {
    let mut condition = String::new();
    if !prefix.is_empty() {
        parameters.push(text(prefix));
        condition += &format!(" AND name >= ${}", parameters.len());
        if let Some(bound) = after_prefix(prefix) {
            parameters.push(Value::Text(bound));
            condition += &format!(" AND name < ${}", parameters.len());
        }
    }
    condition
}

fn group_exists(sql: &Sql<'_>, scope: &Scope, name: &str) -> Result<bool> {
    let query = "SELECT 1 FROM log_groups WHERE account = $1 AND region = $2 AND name = $3";
    let parameters = [text(&scope.account), text(&scope.region), text(name)];
    Ok(sql.row(query, parameters, |row| row.get::<i64>(0))?.is_some())
}

fn insert_stream(sql: &Sql<'_>, scope: &Scope, stream: &LogStream) -> Result<bool> {
    let inserted = sql.execute(
        "INSERT INTO log_streams
             (account, region, log_group, name, created_ms, segment, first_event_ms, last_event_ms, stored_bytes,
              forwarding)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT (account, region, log_group, name) DO NOTHING",
        [
            text(&scope.account),
            text(&scope.region),
            text(&stream.group),
            text(&stream.name),
            stream.created_ms.into(),
            text(&stream.segment),
            stream.first_event_ms.unwrap_or(0).into(),
            stream.last_event_ms.unwrap_or(0).into(),
            count(stream.stored_bytes),
            stream.forwarding.clone().into(),
        ],
    )?;
    Ok(inserted == 1)
}

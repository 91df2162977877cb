//! Secrets: names with versions, each a sealed value, and stages that point at versions.

use std::collections::BTreeMap;

use super::super::Scope;
use super::super::page::{self, Order, Page, Paged};
use super::super::sql::{Columns, Sql, Value, text};
use super::Vault;
use super::key::Key;
use crate::error::{Error, Result};

/// COMPAT: Secrets Manager keeps about so many versions; of those without a stage the oldest goes when another comes.
const VERSIONS: usize = 100;

/// Secrets of an account in a region.
const SECRETS: u64 = 10_000;

/// A secret without its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    pub name: String,
    /// What its ARN has behind the name: a secret of the same name, made later, has another.
    pub suffix: String,
    pub created_ms: i64,
    pub changed_ms: i64,
    /// When it will be gone. Until then it can be kept after all.
    pub deletion_ms: Option<i64>,
    /// Version ids by stage.
    pub stages: BTreeMap<String, String>,
    /// When each version was made, by its id.
    pub versions: BTreeMap<String, i64>,
    /// JSON.
    pub document: String,
}

impl Secret {
    /// The stages of a version, by name.
    pub fn stages_of(&self, version: &str) -> Vec<String> {
        let pointing = self.stages.iter().filter(|(_, id)| *id == version);
        pointing.map(|(stage, _)| stage.clone()).collect()
    }
}

#[derive(Debug, Clone)]
pub struct NewSecret {
    pub name: String,
    pub suffix: String,
    /// JSON.
    pub document: String,
}

/// What a version holds.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretValue {
    Text(String),
    Binary(Vec<u8>),
}

impl std::fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretValue")
    }
}

impl SecretValue {
    /// The kind, then the bytes.
    fn to_bytes(&self) -> Vec<u8> {
        match self {
            SecretValue::Text(text) => [b"t", text.as_bytes()].concat(),
            SecretValue::Binary(bytes) => [b"b", bytes.as_slice()].concat(),
        }
    }

    fn of_bytes(bytes: &[u8]) -> Option<SecretValue> {
        match bytes.split_first()? {
            (b't', text) => Some(SecretValue::Text(String::from_utf8(text.to_vec()).ok()?)),
            (b'b', bytes) => Some(SecretValue::Binary(bytes.to_vec())),
            _ => None,
        }
    }
}

/// Which version of a secret is meant; both, if it must be the one and have the other.
#[derive(Debug, Clone, Copy, Default)]
pub struct Selection<'a> {
    pub stage: Option<&'a str>,
    pub version: Option<&'a str>,
}

/// A version with its value.
#[derive(Debug, Clone)]
pub struct VersionValue {
    pub secret: Secret,
    pub version: String,
    pub value: SecretValue,
}

/// A secret under change: what its fields say in the end is stored, in the transaction that it was read in.
pub struct Draft<'a> {
    pub secret: Secret,
    vault: &'a Key,
    scope: &'a Scope,
    sql: &'a Sql<'a>,
    added: Vec<(String, SecretValue)>,
}

impl std::fmt::Debug for Draft<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft").field("secret", &self.secret).finish_non_exhaustive()
    }
}

impl Draft<'_> {
    /// The value of a version that was there before; `None` if it is not one of the secret's.
    pub fn value(&self, version: &str) -> Result<Option<SecretValue>> {
        value(self.sql, self.vault, self.scope, &self.secret, version)
    }

    /// Adds a version, to which no stage points yet. Its id must be new.
    pub fn add(&mut self, version: String, value: SecretValue, created_ms: i64) {
        self.secret.versions.insert(version.clone(), created_ms);
        self.added.push((version, value));
    }

    fn save(mut self) -> Result<()> {
        let (scope, secret) = (self.scope, &mut self.secret);
        for old in superfluous(secret) {
            secret.versions.remove(&old);
            delete_version(self.sql, scope, &secret.name, &old)?;
        }
        upsert(self.sql, scope, secret)?;
        for (version, value) in &self.added {
            insert_version(self.sql, self.vault, scope, secret, version, value)?;
        }
        Ok(())
    }
}

impl Vault {
    /// Makes a secret and lets `fill` complete it. `now_ms` removes secrets whose time has come. A refusal of `fill`
    /// changes nothing; it is also asked, with the secret that is there, when the name is taken.
    pub async fn create_secret<T: Send + 'static, E: Send + 'static>(
        &self,
        scope: &Scope,
        new: NewSecret,
        now_ms: i64,
        fill: impl FnOnce(&mut Draft<'_>, bool) -> Result<Result<T, E>> + Send + 'static,
    ) -> Result<Result<T, E>> {
        let (scope, key) = (scope.clone(), self.key.clone());
        self.records
            .write(move |sql| {
                remove_expired(sql, now_ms)?;
                let found = find(sql, &scope, &new.name, None)?;
                let is_new = found.is_none();
                if is_new {
                    check_room(sql, &scope)?;
                }
                let secret = found.unwrap_or_else(|| Secret {
                    name: new.name,
                    suffix: new.suffix,
                    created_ms: now_ms,
                    changed_ms: now_ms,
                    deletion_ms: None,
                    stages: BTreeMap::new(),
                    versions: BTreeMap::new(),
                    document: new.document,
                });
                change(sql, (&key, &scope), secret, |draft| fill(draft, is_new))
            })
            .await
    }

    /// Changes a secret, found by name, ARN or the part of an ARN before its suffix; `None` if there is none. A
    /// refusal of `alter` changes nothing.
    pub async fn change_secret<T: Send + 'static, E: Send + 'static>(
        &self,
        scope: &Scope,
        id: &str,
        now_ms: i64,
        alter: impl FnOnce(&mut Draft<'_>) -> Result<Result<T, E>> + Send + 'static,
    ) -> Result<Option<Result<T, E>>> {
        let (scope, key, names) = (scope.clone(), self.key.clone(), names(scope, id));
        self.records
            .write(move |sql| {
                remove_expired(sql, now_ms)?;
                let Some(secret) = find_any(sql, &scope, &names)? else { return Ok(None) };
                change(sql, (&key, &scope), secret, alter).map(Some)
            })
            .await
    }

    /// A secret, found as for [`Vault::change_secret`].
    pub async fn get_secret(&self, scope: &Scope, id: &str, now_ms: i64) -> Result<Option<Secret>> {
        let (scope, names) = (scope.clone(), names(scope, id));
        self.records
            .read(move |sql| Ok(find_any(sql, &scope, &names)?.filter(|found| found.is_there(now_ms))))
            .await
    }

    /// The value of a version; the inner `None` if there is the secret, but no such version. Without a selection,
    /// `AWSCURRENT` is meant.
    pub async fn get_secret_value(
        &self,
        scope: &Scope,
        id: &str,
        selection: Selection<'_>,
        now_ms: i64,
    ) -> Result<Option<(Secret, Option<VersionValue>)>> {
        let (scope, key, names) = (scope.clone(), self.key.clone(), names(scope, id));
        let (stage, version) = (selection.stage.map(str::to_owned), selection.version.map(str::to_owned));
        self.records
            .read(move |sql| {
                let found = find_any(sql, &scope, &names)?.filter(|found| found.is_there(now_ms));
                let Some(secret) = found else { return Ok(None) };
                let Some(version) = secret.select(stage.as_deref(), version.as_deref()) else {
                    return Ok(Some((secret, None)));
                };
                let value = value(sql, &key, &scope, &secret, &version)?;
                let found = value.map(|value| VersionValue { secret: secret.clone(), version, value });
                Ok(Some((secret, found)))
            })
            .await
    }

    /// Secrets by name. `after` is the `next` of the page before.
    pub async fn list_secrets(
        &self,
        scope: &Scope,
        after: Option<&str>,
        order: Order,
        limit: usize,
    ) -> Result<Page<Secret>> {
        let parameters = vec![text(&scope.account), text(&scope.region)];
        let after = after.map(|token| page::parse_token(LIST, token)).transpose()?;
        let after = after.map(|(_, name)| vec![Value::Text(name)]);
        let (query, parameters) =
            Paged { select: SELECT, parameters, keys: &["name"], order, after, limit }.build();
        let scope = scope.clone();
        self.records
            .read(move |sql| {
                let found = sql.rows(&query, parameters, read)?;
                let found = found.into_iter().map(|secret| with_versions(sql, &scope, secret));
                let found = found.collect::<Result<_>>()?;
                Ok(Page::of(found, limit, |last: &Secret| page::token(LIST, 0, &last.name)))
            })
            .await
    }

    /// Removes a secret at once; false if there is none.
    pub async fn remove_secret(&self, scope: &Scope, name: &str) -> Result<bool> {
        let parameters = [text(&scope.account), text(&scope.region), text(name)];
        self.records
            .write(move |sql| {
                let query = "DELETE FROM secrets WHERE account = $1 AND region = $2 AND name = $3";
                Ok(sql.execute(query, parameters)? > 0)
            })
            .await
    }
}

impl Secret {
    fn is_there(&self, now_ms: i64) -> bool {
        self.deletion_ms.is_none_or(|deletion_ms| now_ms < deletion_ms)
    }

    fn select(&self, stage: Option<&str>, version: Option<&str>) -> Option<String> {
        let staged = |stage: &str| self.stages.get(stage).cloned();
        match (stage, version) {
            (None, None) => staged("AWSCURRENT"),
            (Some(stage), None) => staged(stage),
            (None, Some(version)) => Some(version.to_owned()),
            (Some(stage), Some(version)) => staged(stage).filter(|staged| staged == version),
        }
    }
}

const LIST: &str = "secrets";

const SELECT: &str = "SELECT name, suffix, created_ms, changed_ms, deletion_ms, stages, document
     FROM secrets WHERE account = $1 AND region = $2";

/// The names that an identifier may mean, each with the suffix that its secret must have, if one is said.
fn names(scope: &Scope, id: &str) -> Vec<(String, Option<String>)> {
    if !id.starts_with("arn:") {
        return vec![(id.to_owned(), None)];
    }
    let Scope { account, region } = scope;
    let own = format!("secretsmanager:{region}:{account}:secret:");
    let Some(rest) = id.splitn(3, ':').nth(2).and_then(|rest| rest.strip_prefix(&own)) else {
        return Vec::new();
    };
    let complete = rest.rsplit_once('-').filter(|(_, suffix)| suffix.len() == 6);
    let complete = complete.map(|(name, suffix)| (name.to_owned(), Some(suffix.to_owned())));
    complete.into_iter().chain([(rest.to_owned(), None)]).collect()
}

/// Where a version's value is bound to.
fn place<'a>(scope: &'a Scope, secret: &'a Secret, version: &'a str) -> [&'a str; 6] {
    ["secret", &scope.account, &scope.region, &secret.name, &secret.suffix, version]
}

fn change<T, E>(
    sql: &Sql<'_>,
    (key, scope): (&Key, &Scope),
    secret: Secret,
    alter: impl FnOnce(&mut Draft<'_>) -> Result<Result<T, E>>,
) -> Result<Result<T, E>> {
    let mut draft = Draft { secret, vault: key, scope, sql, added: Vec::new() };
    let altered = alter(&mut draft)?;
    if altered.is_ok() {
        draft.save()?;
    }
    Ok(altered)
}

fn check_room(sql: &Sql<'_>, scope: &Scope) -> Result<()> {
    let query = "SELECT COUNT(*) FROM secrets WHERE account = $1 AND region = $2";
    let there = sql.row(query, [text(&scope.account), text(&scope.region)], |row| row.count(0))?;
    match there.unwrap_or_default() < SECRETS {
        true => Ok(()),
        false => Err(Error::TooMany { what: "secrets", limit: SECRETS }),
    }
}

/// Versions that have to go.
fn superfluous(secret: &Secret) -> Vec<String> {
    let surplus = secret.versions.len().saturating_sub(VERSIONS);
    let mut idle: Vec<_> = secret
        .versions
        .iter()
        .filter(|(id, _)| !secret.stages.values().any(|staged| staged == *id))
        .collect();
    idle.sort_by_key(|(_, created_ms)| **created_ms);
    idle.into_iter().take(surplus).map(|(id, _)| id.clone()).collect()
}

fn find_any(sql: &Sql<'_>, scope: &Scope, names: &[(String, Option<String>)]) -> Result<Option<Secret>> {
    for (name, suffix) in names {
        let found = find(sql, scope, name, suffix.as_deref())?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn find(sql: &Sql<'_>, scope: &Scope, name: &str, suffix: Option<&str>) -> Result<Option<Secret>> {
    let parameters = [text(&scope.account), text(&scope.region), text(name)];
    let found = sql.row(&format!("{SELECT} AND name = $3"), parameters, read)?;
    let found = found.filter(|found| suffix.is_none_or(|suffix| suffix == found.suffix));
    found.map(|secret| with_versions(sql, scope, secret)).transpose()
}

fn read(row: &Columns<'_>) -> Result<Secret> {
    let stages: String = row.get(5)?;
    Ok(Secret {
        name: row.get(0)?,
        suffix: row.get(1)?,
        created_ms: row.get(2)?,
        changed_ms: row.get(3)?,
        deletion_ms: row.get(4)?,
        stages: serde_json::from_str(&stages).map_err(|error| Error::internal("reading a record", error))?,
        versions: BTreeMap::new(),
        document: row.get(6)?,
    })
}

fn with_versions(sql: &Sql<'_>, scope: &Scope, secret: Secret) -> Result<Secret> {
    let query =
        "SELECT id, created_ms FROM secret_versions WHERE account = $1 AND region = $2 AND secret = $3";
    let parameters = [text(&scope.account), text(&scope.region), text(&secret.name)];
    let versions = sql.rows(query, parameters, |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Secret { versions: versions.into_iter().collect(), ..secret })
}

fn value(
    sql: &Sql<'_>,
    key: &Key,
    scope: &Scope,
    secret: &Secret,
    version: &str,
) -> Result<Option<SecretValue>> {
    let query =
        "SELECT sealed FROM secret_versions WHERE account = $1 AND region = $2 AND secret = $3 AND id = $4";
    let parameters = [text(&scope.account), text(&scope.region), text(&secret.name), text(version)];
    let Some(sealed) = sql.row(query, parameters, |row| row.get::<String>(0))? else { return Ok(None) };
    let bytes = key.open(&place(scope, secret, version), &sealed)?;
    let value = SecretValue::of_bytes(&bytes);
    value.map(Some).ok_or_else(|| Error::internal("opening a sealed value", "it is of no known kind"))
}

fn upsert(sql: &Sql<'_>, scope: &Scope, secret: &Secret) -> Result<()> {
    let stages = serde_json::to_string(&secret.stages).expect("texts in a map are JSON");
    sql.execute(
        "INSERT INTO secrets
             (account, region, name, suffix, created_ms, changed_ms, deletion_ms, stages, document)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (account, region, name) DO UPDATE SET changed_ms = excluded.changed_ms,
             deletion_ms = excluded.deletion_ms, stages = excluded.stages, document = excluded.document",
        [
            text(&scope.account),
            text(&scope.region),
            text(&secret.name),
            text(&secret.suffix),
            secret.created_ms.into(),
            secret.changed_ms.into(),
            secret.deletion_ms.into(),
            Value::Text(stages),
            text(&secret.document),
        ],
    )?;
    Ok(())
}

fn insert_version(
    sql: &Sql<'_>,
    key: &Key,
    scope: &Scope,
    secret: &Secret,
    version: &str,
    value: &SecretValue,
) -> Result<()> {
    let sealed = key.seal(&place(scope, secret, version), &value.to_bytes())?;
    sql.execute(
        "INSERT INTO secret_versions (account, region, secret, id, created_ms, sealed)
         VALUES ($1, $2, $3, $4, $5, $6)",
        [
            text(&scope.account),
            text(&scope.region),
            text(&secret.name),
            text(version),
            secret.versions.get(version).copied().unwrap_or_default().into(),
            Value::Text(sealed),
        ],
    )?;
    Ok(())
}

fn delete_version(sql: &Sql<'_>, scope: &Scope, secret: &str, version: &str) -> Result<()> {
    sql.execute(
        "DELETE FROM secret_versions WHERE account = $1 AND region = $2 AND secret = $3 AND id = $4",
        [text(&scope.account), text(&scope.region), text(secret), text(version)],
    )?;
    Ok(())
}

fn remove_expired(sql: &Sql<'_>, now_ms: i64) -> Result<()> {
    sql.execute("DELETE FROM secrets WHERE deletion_ms <= $1", [now_ms.into()]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_means_its_secret_with_or_without_suffix() {
        let scope = Scope { account: "123456789012".into(), region: "eu-west-1".into() };
        let arn = |rest: &str| format!("arn:aws:secretsmanager:eu-west-1:123456789012:secret:{rest}");
        let some = |name: &str, suffix: Option<&str>| (name.to_owned(), suffix.map(str::to_owned));
        for (id, expect) in [
            ("prod/db".to_owned(), vec![some("prod/db", None)]),
            (arn("prod/db-AbC123"), vec![some("prod/db", Some("AbC123")), some("prod/db-AbC123", None)]),
            (arn("prod/db"), vec![some("prod/db", None)]),
            (arn("prod-database"), vec![some("prod-database", None)]),
            (arn("x").replace("eu-west-1", "us-east-1"), vec![]),
            ("arn:aws:s3:::b".to_owned(), vec![]),
        ] {
            assert_eq!(names(&scope, &id), expect, "{id}");
        }
    }

    #[test]
    fn versions_that_a_stage_points_at_are_never_superfluous() {
        let mut secret = Secret {
            name: "s".into(),
            suffix: "abcdef".into(),
            created_ms: 0,
            changed_ms: 0,
            deletion_ms: None,
            stages: [("AWSCURRENT".to_owned(), "v000".to_owned())].into(),
            versions: (0..100).map(|number| (format!("v{number:03}"), number)).collect(),
            document: String::new(),
        };
        assert!(superfluous(&secret).is_empty());
        secret.versions.extend([("v100".to_owned(), 100), ("v101".to_owned(), 101)]);
        assert_eq!(superfluous(&secret), ["v001", "v002"]);
    }
}

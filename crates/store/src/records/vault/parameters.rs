//! Parameters: names with numbered versions, each a sealed value and a document.

use super::super::Scope;
use super::super::page::{self, Order, Page, Paged, after_prefix};
use super::super::sql::{Columns, Sql, Value, text};
use super::Vault;
use super::key::Key;
use crate::error::{Error, Result};

/// COMPAT: Parameter Store keeps so many versions; the oldest goes when another comes.
const VERSIONS: i64 = 100;

/// COMPAT: parameters of an account in a region, as many as Parameter Store has at no charge.
const PARAMETERS: u64 = 10_000;

/// One version of a parameter.
#[derive(Clone, PartialEq, Eq)]
pub struct Parameter {
    pub name: String,
    /// From 1.
    pub version: i64,
    pub modified_ms: i64,
    pub value: String,
    /// As it is stored: opaque text that stands for the value.
    pub sealed: String,
    /// JSON.
    pub document: String,
    /// JSON; the same for all versions.
    pub tags: String,
}

/// Everything but the value.
impl std::fmt::Debug for Parameter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parameter")
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// The version that is to be.
#[derive(Clone)]
#[allow(missing_debug_implementations, reason = "its value is nobody's to see")]
pub struct NewParameter {
    pub value: String,
    /// JSON.
    pub document: String,
    /// JSON; `None` leaves them as they are.
    pub tags: Option<String>,
}

impl Vault {
    /// Puts the next version of a parameter, as `make` says from the version before; gives its number. A refusal of
    /// `make` changes nothing.
    pub async fn put_parameter<E: Send + 'static>(
        &self,
        scope: &Scope,
        name: &str,
        now_ms: i64,
        make: impl FnOnce(Option<&Parameter>) -> Result<NewParameter, E> + Send + 'static,
    ) -> Result<Result<i64, E>> {
        let (scope, name, key) = (scope.clone(), name.to_owned(), self.key.clone());
        let put = move |sql: &Sql<'_>| {
            let before = latest(sql, &key, &scope, &name)?;
            match make(before.as_ref()) {
                Ok(new) => put(sql, &key, (&scope, &name), now_ms, before, new).map(Ok),
                Err(refusal) => Ok(Err(refusal)),
            }
        };
        self.records.write(put).await
    }

    /// A parameter by its name or ARN, in a version or the latest one.
    pub async fn get_parameter(
        &self,
        scope: &Scope,
        id: &str,
        version: Option<i64>,
    ) -> Result<Option<Parameter>> {
        let (scope, key, names) = (scope.clone(), self.key.clone(), names(scope, id));
        self.records
            .read(move |sql| {
                for name in &names {
                    let found = match version {
                        Some(version) => one_version(sql, &key, &scope, name, version)?,
                        None => latest(sql, &key, &scope, name)?,
                    };
                    if found.is_some() {
                        return Ok(found);
                    }
                }
                Ok(None)
            })
            .await
    }

    /// The latest versions of parameters whose names begin with `prefix`, by name. `after` is the `next` of the page
    /// before.
    pub async fn list_parameters(
        &self,
        scope: &Scope,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Parameter>> {
        let mut parameters = vec![text(&scope.account), text(&scope.region), text(prefix)];
        let mut select = format!("{SELECT} AND p.version = v.version AND p.name >= $3");
        if let Some(bound) = after_prefix(prefix) {
            parameters.push(Value::Text(bound));
            select += " AND p.name < $4";
        }
        let after = after.map(|token| page::parse_token(LIST, token)).transpose()?;
        let after = after.map(|(_, name)| vec![Value::Text(name)]);
        let order = Order::Ascending;
        let paged = Paged { select: &select, parameters, keys: &["p.name"], order, after, limit };
        let ((query, parameters), key, scope) = (paged.build(), self.key.clone(), scope.clone());
        self.records
            .read(move |sql| {
                let found = sql.rows(&query, parameters, |row| read(row, &key, &scope))?;
                Ok(Page::of(found, limit, |last| page::token(LIST, 0, &last.name)))
            })
            .await
    }

    /// Deletes those of the parameters that exist, all versions of each; gives what was asked for, name or ARN.
    pub async fn delete_parameters(&self, scope: &Scope, ids: &[String]) -> Result<Vec<String>> {
        let asked: Vec<_> = ids.iter().map(|id| (id.clone(), names(scope, id))).collect();
        let scope = scope.clone();
        self.records
            .write(move |sql| {
                let mut deleted = Vec::new();
                for (id, names) in asked {
                    for name in names {
                        let query = "DELETE FROM parameters WHERE account = $1 AND region = $2 AND name = $3";
                        let gone =
                            sql.execute(query, [text(&scope.account), text(&scope.region), text(&name)])?;
                        if gone > 0 {
                            deleted.push(id);
                            break;
                        }
                    }
                }
                Ok(deleted)
            })
            .await
    }

    /// Replaces a parameter's tags (JSON) by what `change` makes of them; `None` if there is no such parameter. A
    /// refusal of `change` changes nothing.
    pub async fn change_parameter_tags<E: Send + 'static>(
        &self,
        scope: &Scope,
        id: &str,
        change: impl FnOnce(&str) -> Result<String, E> + Send + 'static,
    ) -> Result<Option<Result<(), E>>> {
        let (scope, names, key) = (scope.clone(), names(scope, id), self.key.clone());
        self.records
            .write(move |sql| {
                for name in names {
                    let Some(found) = latest(sql, &key, &scope, &name)? else { continue };
                    let tags = match change(&found.tags) {
                        Ok(tags) => Value::Text(tags),
                        Err(refusal) => return Ok(Some(Err(refusal))),
                    };
                    let query =
                        "UPDATE parameters SET tags = $1 WHERE account = $2 AND region = $3 AND name = $4";
                    sql.execute(query, [tags, text(&scope.account), text(&scope.region), text(&name)])?;
                    return Ok(Some(Ok(())));
                }
                Ok(None)
            })
            .await
    }
}

const LIST: &str = "parameters";

const SELECT: &str = "SELECT p.name, v.version, v.modified_ms, v.document, v.sealed, p.tags
     FROM parameters p JOIN parameter_versions v
         ON v.account = p.account AND v.region = p.region AND v.name = p.name
     WHERE p.account = $1 AND p.region = $2";

/// The names that an identifier may mean: itself, or what an ARN of this scope ends in. An ARN does not tell whether
/// a name without further slashes begins with one.
fn names(scope: &Scope, id: &str) -> Vec<String> {
    if !id.starts_with("arn:") {
        return vec![id.to_owned()];
    }
    let Scope { account, region } = scope;
    let own = id
        .splitn(3, ':')
        .nth(2)
        .and_then(|rest| rest.strip_prefix(&format!("ssm:{region}:{account}:parameter/")));
    own.map_or(Vec::new(), |rest| match rest.contains('/') {
        true => vec![format!("/{rest}")],
        false => vec![rest.to_owned(), format!("/{rest}")],
    })
}

/// Where a version's value is bound to.
fn place<'a>(scope: &'a Scope, name: &'a str, version: &'a str) -> [&'a str; 5] {
    ["parameter", &scope.account, &scope.region, name, version]
}

fn read(row: &Columns<'_>, key: &Key, scope: &Scope) -> Result<Parameter> {
    let (name, version): (String, i64) = (row.get(0)?, row.get(1)?);
    let sealed: String = row.get(4)?;
    let value = key.open(&place(scope, &name, &version.to_string()), &sealed)?;
    let value = String::from_utf8(value).map_err(|error| Error::internal("opening a sealed value", error))?;
    Ok(Parameter {
        name,
        version,
        modified_ms: row.get(2)?,
        value,
        sealed,
        document: row.get(3)?,
        tags: row.get(5)?,
    })
}

fn latest(sql: &Sql<'_>, key: &Key, scope: &Scope, name: &str) -> Result<Option<Parameter>> {
    let query = format!("{SELECT} AND p.name = $3 AND v.version = p.version");
    let parameters = [text(&scope.account), text(&scope.region), text(name)];
    sql.row(&query, parameters, |row| read(row, key, scope))
}

fn one_version(
    sql: &Sql<'_>,
    key: &Key,
    scope: &Scope,
    name: &str,
    version: i64,
) -> Result<Option<Parameter>> {
    let query = format!("{SELECT} AND p.name = $3 AND v.version = $4");
    let parameters = [text(&scope.account), text(&scope.region), text(name), version.into()];
    sql.row(&query, parameters, |row| read(row, key, scope))
}

fn check_room(sql: &Sql<'_>, scope: &Scope) -> Result<()> {
    let query = "SELECT COUNT(*) FROM parameters WHERE account = $1 AND region = $2";
    let there = sql.row(query, [text(&scope.account), text(&scope.region)], |row| row.count(0))?;
    match there.unwrap_or_default() < PARAMETERS {
        true => Ok(()),
        false => Err(Error::TooMany { what: "parameters", limit: PARAMETERS }),
    }
}

fn put(
    sql: &Sql<'_>,
    key: &Key,
    (scope, name): (&Scope, &str),
    now_ms: i64,
    before: Option<Parameter>,
    new: NewParameter,
) -> Result<i64> {
    if before.is_none() {
        check_room(sql, scope)?;
    }
    let version = before.as_ref().map_or(0, |before| before.version) + 1;
    let tags = new.tags.or(before.map(|before| before.tags)).unwrap_or_else(|| "{}".to_owned());
    let sealed = key.seal(&place(scope, name, &version.to_string()), new.value.as_bytes())?;
    let id = || [text(&scope.account), text(&scope.region), text(name)];
    let [account, region, name] = id();
    sql.execute(
        "INSERT INTO parameters (account, region, name, version, tags) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (account, region, name) DO UPDATE SET version = excluded.version, tags = excluded.tags",
        [account, region, name, version.into(), Value::Text(tags)],
    )?;
    let [account, region, name] = id();
    sql.execute(
        "INSERT INTO parameter_versions (account, region, name, version, modified_ms, document, sealed)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        [
            account,
            region,
            name,
            version.into(),
            now_ms.into(),
            Value::Text(new.document),
            Value::Text(sealed),
        ],
    )?;
    let [account, region, name] = id();
    sql.execute(
        "DELETE FROM parameter_versions WHERE account = $1 AND region = $2 AND name = $3 AND version <= $4",
        [account, region, name, (version - VERSIONS).into()],
    )?;
    Ok(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_of_this_account_and_region_is_a_name_and_no_other_is() {
        let scope = Scope { account: "123456789012".into(), region: "eu-west-1".into() };
        for (id, expect) in [
            ("name", &["name"][..]),
            ("/a/b", &["/a/b"]),
            ("arn:aws:ssm:eu-west-1:123456789012:parameter/a/b", &["/a/b"]),
            ("arn:aws:ssm:eu-west-1:123456789012:parameter/a", &["a", "/a"]),
            ("arn:aws:ssm:us-east-1:123456789012:parameter/a", &[]),
            ("arn:aws:ssm:eu-west-1:999999999999:parameter/a", &[]),
            ("arn:aws:s3:::parameter/a", &[]),
            ("arn:", &[]),
        ] {
            assert_eq!(names(&scope, id), expect, "{id}");
        }
    }
}

//! Access keys: whom they stand for, a policy of their own if they have one, and the sealed secret.

use std::fmt;

use super::super::sql::{Columns, Sql, Value, text};
use super::Vault;
use super::key::Key;
use crate::error::{Error, Result};

/// How many there may be.
const KEYS_MAX: i64 = 10_000;

/// An access key as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Such as `AKIA...`, unique over all accounts.
    pub id: String,
    pub secret: String,
    /// Twelve digits.
    pub account: String,
    pub user: String,
    /// JSON.
    pub policy: Option<String>,
    pub enabled: bool,
    pub created_ms: i64,
}

/// Everything but the secret.
impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Vault {
    /// Keeps a new key. `AlreadyExists` if there is one with its id.
    pub async fn insert_access_key(&self, access_key: AccessKey) -> Result<()> {
        let key = self.key.clone();
        self.records.write(move |sql| insert(sql, &key, access_key)).await
    }

    /// All keys of all accounts, by age.
    pub async fn access_keys(&self) -> Result<Vec<AccessKey>> {
        let key = self.key.clone();
        self.records
            .read(move |sql| {
                sql.rows(
                    "SELECT id, account, user_name, policy, enabled, created_ms, sealed FROM access_keys
                     ORDER BY created_ms, id",
                    [],
                    |row| read(row, &key),
                )
            })
            .await
    }

    /// Says whether a key is good. False if there is no such key.
    pub async fn enable_access_key(&self, id: &str, enabled: bool) -> Result<bool> {
        let id = id.to_owned();
        self.records
            .write(move |sql| {
                let updated = sql.execute(
                    "UPDATE access_keys SET enabled = $1 WHERE id = $2",
                    [i64::from(enabled).into(), text(&id)],
                )?;
                Ok(updated == 1)
            })
            .await
    }

    /// False if there was none.
    pub async fn delete_access_key(&self, id: &str) -> Result<bool> {
        let id = id.to_owned();
        self.records
            .write(move |sql| Ok(sql.execute("DELETE FROM access_keys WHERE id = $1", [text(&id)])? == 1))
            .await
    }
}

/// Where a secret is bound to: it opens for nobody else.
fn place<'a>(id: &'a str, account: &'a str, user: &'a str) -> [&'a str; 4] {
    ["access key", id, account, user]
}

fn insert(sql: &Sql<'_>, key: &Key, access_key: AccessKey) -> Result<()> {
    let count = sql.row("SELECT COUNT(*) FROM access_keys", [], |row| row.get::<i64>(0))?;
    if count.unwrap_or_default() >= KEYS_MAX {
        return Err(Error::TooMany { what: "access keys", limit: KEYS_MAX.unsigned_abs() });
    }
    let AccessKey { id, secret, account, user, policy, enabled, created_ms } = access_key;
    let sealed = key.seal(&place(&id, &account, &user), secret.as_bytes())?;
    let inserted = sql.execute(
        "INSERT INTO access_keys (id, account, user_name, policy, enabled, created_ms, sealed)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING",
        [
            text(&id),
            Value::Text(account),
            Value::Text(user),
            Value::Text(policy.unwrap_or_default()),
            i64::from(enabled).into(),
            created_ms.into(),
            Value::Text(sealed),
        ],
    )?;
    if inserted == 1 { Ok(()) } else { Err(Error::already_exists("access key", &id)) }
}

fn read(row: &Columns<'_>, key: &Key) -> Result<AccessKey> {
    let (id, account, user): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
    let (policy, enabled, sealed): (String, i64, String) = (row.get(3)?, row.get(4)?, row.get(6)?);
    let secret = key.open(&place(&id, &account, &user), &sealed)?;
    let secret =
        String::from_utf8(secret).map_err(|error| Error::internal("opening a sealed value", error))?;
    let policy = Some(policy).filter(|policy| !policy.is_empty());
    Ok(AccessKey { id, secret, account, user, policy, enabled: enabled == 1, created_ms: row.get(5)? })
}

//! Source credentials: one for each kind of server that sources come from, each a sealed token and a document.

use std::fmt;

use super::super::Scope;
use super::super::sql::{Columns, Sql, Value, text};
use super::Vault;
use super::key::Key;
use crate::error::{Error, Result};

/// What opens a source provider's repositories.
#[derive(Clone, PartialEq, Eq)]
pub struct SourceCredential {
    /// Such as `GITHUB`; there is one of each in an account and region.
    pub server_type: String,
    pub token: String,
    /// JSON: all but the token.
    pub document: String,
}

/// Everything but the token.
impl fmt::Debug for SourceCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SourceCredential").field("server_type", &self.server_type).finish_non_exhaustive()
    }
}

impl Vault {
    /// Keeps a credential in the place of the one of its server type. False, and nothing changed, if there is one
    /// and it is not to be overwritten.
    pub async fn put_source_credential(
        &self,
        scope: &Scope,
        credential: SourceCredential,
        overwrite: bool,
    ) -> Result<bool> {
        let (scope, key) = (scope.clone(), self.key.clone());
        self.records
            .write(move |sql| {
                if !overwrite && exists(sql, &scope, &credential.server_type)? {
                    return Ok(false);
                }
                put(sql, &key, &scope, credential).map(|()| true)
            })
            .await
    }

    /// All of the account's in the region, by server type.
    pub async fn source_credentials(&self, scope: &Scope) -> Result<Vec<SourceCredential>> {
        let (scope, key) = (scope.clone(), self.key.clone());
        self.records
            .read(move |sql| {
                sql.rows(
                    "SELECT server_type, document, sealed FROM source_credentials
                     WHERE account = $1 AND region = $2 ORDER BY server_type",
                    [text(&scope.account), text(&scope.region)],
                    |row| read(row, &key, &scope),
                )
            })
            .await
    }

    /// False if there was none.
    pub async fn delete_source_credential(&self, scope: &Scope, server_type: &str) -> Result<bool> {
        let (scope, server_type) = (scope.clone(), server_type.to_owned());
        self.records
            .write(move |sql| {
                let deleted = sql.execute(
                    "DELETE FROM source_credentials WHERE account = $1 AND region = $2 AND server_type = $3",
                    [text(&scope.account), text(&scope.region), text(&server_type)],
                )?;
                Ok(deleted == 1)
            })
            .await
    }
}

/// Where a token is bound to.
fn place<'a>(scope: &'a Scope, server_type: &'a str) -> [&'a str; 4] {
    ["source credential", &scope.account, &scope.region, server_type]
}

fn exists(sql: &Sql<'_>, scope: &Scope, server_type: &str) -> Result<bool> {
    let found = sql.row(
        "SELECT 1 FROM source_credentials WHERE account = $1 AND region = $2 AND server_type = $3",
        [text(&scope.account), text(&scope.region), text(server_type)],
        |row| row.get::<i64>(0),
    )?;
    Ok(found.is_some())
}

fn put(sql: &Sql<'_>, key: &Key, scope: &Scope, credential: SourceCredential) -> Result<()> {
    let sealed = key.seal(&place(scope, &credential.server_type), credential.token.as_bytes())?;
    sql.execute(
        "INSERT INTO source_credentials (account, region, server_type, document, sealed)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (account, region, server_type)
         DO UPDATE SET document = excluded.document, sealed = excluded.sealed",
        [
            text(&scope.account),
            text(&scope.region),
            Value::Text(credential.server_type),
            Value::Text(credential.document),
            Value::Text(sealed),
        ],
    )?;
    Ok(())
}

fn read(row: &Columns<'_>, key: &Key, scope: &Scope) -> Result<SourceCredential> {
    let (server_type, sealed): (String, String) = (row.get(0)?, row.get(2)?);
    let token = key.open(&place(scope, &server_type), &sealed)?;
    let token = String::from_utf8(token).map_err(|error| Error::internal("opening a sealed value", error))?;
    Ok(SourceCredential { server_type, token, document: row.get(1)? })
}

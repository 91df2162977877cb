//! The vault: parameters, secrets, source credentials and access keys, whose values nobody can read who has the database without
//! its key.
//!
//! Values are sealed by [`key`] before they are written and opened when they are read; only here are they plain.
//! Below: `access_keys`, `source_credentials`, and `parameters` and `secrets`, which is also how identifiers that clients write
//! (names, ARNs, parts of ARNs) find their record. What the documents beside the values mean is their writer's business.

mod access_keys;
mod key;
mod parameters;
mod secrets;
mod source_credentials;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::Records;
use super::sql::{Sql, text};
use crate::error::{Error, Result};
pub use access_keys::AccessKey;
use key::Key;
pub use parameters::{NewParameter, Parameter};
pub use secrets::{Draft, NewSecret, Secret, SecretValue, Selection, VersionValue};
pub use source_credentials::SourceCredential;

/// The setting that says which key the values were sealed with.
const KEY_SETTING: &str = "vault.key";

/// All parameters, secrets and source credentials of a data folder, and the key to them. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    records: Records,
    key: Arc<Key>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("key", &self.key.id()).finish_non_exhaustive()
    }
}

impl Vault {
    /// Opens the vault with the key in `path`, which is made if nothing was ever sealed.
    ///
    /// # Errors
    /// `Key` if the file is missing although there are values that need it, is damaged, or holds another key than
    /// the one that they were sealed with.
    pub async fn open(records: Records, path: &Path) -> Result<Vault> {
        let sealed_with = match records.holds_sealed().await? {
            true => records.get_setting(KEY_SETTING).await?,
            false => None,
        };
        let key = match Key::read(path)? {
            Some(key) => key,
            None if sealed_with.is_none() => Key::create(path)?,
            None => {
                return Err(Error::key(path, "it is missing; parameters and secrets were sealed with it"));
            }
        };
        match sealed_with {
            Some(id) if id != key.id() => {
                return Err(Error::key(
                    path,
                    "it is not the key that parameters and secrets were sealed with",
                ));
            }
            Some(_) => {}
            // Nothing may have to be written by a server that starts on a full disk.
            None if records.get_setting(KEY_SETTING).await?.as_deref() == Some(key.id()) => {}
            None => records.put_setting(KEY_SETTING, key.id()).await?,
        }
        Ok(Vault { records, key: Arc::new(key) })
    }

    /// A key for another purpose, which says nothing about the vault's own or about that of any other purpose.
    pub fn derived_key(&self, purpose: &str) -> [u8; 32] {
        self.key.derived(purpose)
    }
}

impl Records {
    async fn holds_sealed(&self) -> Result<bool> {
        let tables = ["parameter_versions", "secret_versions", "source_credentials", "access_keys"];
        self.read(move |sql| tables.iter().try_fold(false, |any, table| Ok(any || holds_any(sql, table)?)))
            .await
    }
}

fn holds_any(sql: &Sql<'_>, table: &str) -> Result<bool> {
    let query = format!("SELECT 1 FROM {table} WHERE sealed <> $1 LIMIT 1");
    Ok(sql.row(&query, [text("")], |row| row.get::<i64>(0))?.is_some())
}

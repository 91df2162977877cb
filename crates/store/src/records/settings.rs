//! Settings: values that are made once, on first start, and kept.

use super::Records;
use super::sql::{Sql, text};
use crate::error::{Error, Result};

impl Records {
    pub async fn get_setting(&self, key: &str) -> Result<Option<String>> {
        let key = key.to_owned();
        self.read(move |sql| get(sql, &key)).await
    }

    pub async fn put_setting(&self, key: &str, value: &str) -> Result<()> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.write(move |sql| {
            sql.execute(
                "INSERT INTO settings (key, value) VALUES ($1, $2)
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                [text(&key), text(&value)],
            )?;
            Ok(())
        })
        .await
    }

    /// The setting as it is, or else `value` from now on. Whoever asks first decides, for all.
    pub async fn setting_or_insert(&self, key: &str, value: &str) -> Result<String> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.write(move |sql| {
            sql.execute(
                "INSERT INTO settings (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING",
                [text(&key), text(&value)],
            )?;
            get(sql, &key)?.ok_or_else(|| Error::not_found("setting", &key))
        })
        .await
    }
}

fn get(sql: &Sql<'_>, key: &str) -> Result<Option<String>> {
    sql.row("SELECT value FROM settings WHERE key = $1", [text(key)], |row| row.get(0))
}

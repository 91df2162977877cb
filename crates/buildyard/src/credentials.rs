//! The first access key: generated on first start and kept in the data folder, or preset by the environment.
//!
//! `credentials` has the format of `~/.aws/credentials`, mode 0600. `endpoint` says where the server listens.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::config::Settings;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccessKey {
    pub(crate) id: String,
    pub(crate) secret: String,
}

const FILE: &str = "credentials";
const ENDPOINT: &str = "endpoint";

/// The server's key: the preset one, the stored one, or a new one. It is stored durably before it is returned, so
/// that `buildyard env` finds it.
pub(crate) fn first_key(data: &Path) -> Result<AccessKey, String> {
    let stored = stored_key(data)?;
    let key = match (preset()?, &stored) {
        (Some(preset), _) => preset,
        (None, Some(stored)) => stored.clone(),
        (None, None) => generate().map_err(|e| format!("no randomness: {e}"))?,
    };
    if stored.as_ref() != Some(&key) {
        let path = data.join(FILE);
        let text =
            format!("[default]\naws_access_key_id = {}\naws_secret_access_key = {}\n", key.id, key.secret);
        write_private(&path, &text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    Ok(key)
}

fn stored_key(data: &Path) -> Result<Option<AccessKey>, String> {
    let path = data.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => parse(&text).map(Some).ok_or_else(|| format!("{} holds no access key", path.display())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("cannot read {}: {e}", path.display())),
    }
}

/// COMPAT: access keys have AWS's form, so that clients which check it take them.
fn preset() -> Result<Option<AccessKey>, String> {
    let get = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (get("BUILDYARD_ACCESS_KEY_ID"), get("BUILDYARD_SECRET_ACCESS_KEY")) {
        (Some(id), Some(secret)) if id.len() <= 128 && id.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            Ok(Some(AccessKey { id, secret }))
        }
        (Some(id), Some(_)) => {
            Err(format!("BUILDYARD_ACCESS_KEY_ID `{id}` may hold only letters and digits, at most 128"))
        }
        (None, None) => Ok(None),
        _ => {
            Err("BUILDYARD_ACCESS_KEY_ID and BUILDYARD_SECRET_ACCESS_KEY are set together or not at all"
                .into())
        }
    }
}

fn parse(text: &str) -> Option<AccessKey> {
    let value = |name: &str| {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        lines.into_iter().find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().to_owned())
    };
    Some(AccessKey { id: value("aws_access_key_id")?, secret: value("aws_secret_access_key")? })
}

/// The letters of AWS's ids.
pub(crate) const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A new key in AWS's form.
pub(crate) fn generate() -> io::Result<AccessKey> {
    const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut random = [0u8; 56];
    getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
    let id = random[..16].iter().map(|byte| char::from(BASE32[usize::from(byte % 32)])).collect::<String>();
    let secret = random[16..].iter().map(|byte| char::from(BASE64[usize::from(byte % 64)])).collect();
    Ok(AccessKey { id: format!("AKIA{id}"), secret })
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}

/// Leaves word of where the server listens, for `buildyard env`.
pub(crate) fn note_endpoint(data: &Path, endpoint: &str) -> Result<(), String> {
    let path = data.join(ENDPOINT);
    let text = format!("{endpoint}\n");
    if std::fs::read_to_string(&path).is_ok_and(|noted| noted == text) {
        return Ok(());
    }
    write_private(&path, &text).map_err(|e| format!("cannot write {}: {e}", path.display()))
}

/// Where the server of this data folder listens, and its key.
pub(crate) fn server(settings: &Settings) -> Result<(String, AccessKey), String> {
    let data = &settings.data;
    let endpoint = std::fs::read_to_string(data.join(ENDPOINT)).map_err(|_| {
        format!(
            "no server has been started with the data folder {}; start one: buildyard serve --data {}",
            data.display(),
            data.display()
        )
    })?;
    Ok((endpoint.trim().to_owned(), first_key(data)?))
}

/// `buildyard env`: shell text that points AWS clients at this server.
pub(crate) fn environment(settings: &Settings) -> Result<String, String> {
    let (endpoint, key) = server(settings)?;
    Ok(format!(
        "export AWS_ENDPOINT_URL={}\nexport AWS_ACCESS_KEY_ID={}\nexport AWS_SECRET_ACCESS_KEY={}\nexport AWS_REGION={region}\nexport AWS_DEFAULT_REGION={region}\nunset AWS_SESSION_TOKEN AWS_PROFILE\n",
        endpoint,
        quoted(&key.id),
        quoted(&key.secret),
        region = settings.region,
    ))
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_is_kept_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let data = tempfile::tempdir().unwrap();
        let key = first_key(data.path()).unwrap();
        assert_eq!((key.id.len(), key.secret.len()), (20, 40));
        assert_eq!(first_key(data.path()).unwrap(), key);
        assert_eq!(stored_key(data.path()).unwrap(), Some(key));
        let mode = std::fs::metadata(data.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

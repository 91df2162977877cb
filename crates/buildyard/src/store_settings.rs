//! A store elsewhere: `[s3]` of the configuration, and the file in the data folder in which a server leaves it, with the keys in force,
//! for those that move builds' objects.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws::Credentials;
use aws::s3::{Config, Store};
use engine::clock::{Clock, SystemClock};
use engine::config::{Elsewhere, StoreEncryption};
use serde::{Deserialize, Serialize};

use crate::aws_environment::{Environment, Overrides};
use crate::config::Hidden;

/// In the data folder.
const FILE: &str = "s3.json";
const DEFAULT_TIMEOUT_SECONDS: u64 = 30;

/// `[s3]`: the store that sources, artifacts, caches and logs of builds are in, if not in this server's own buckets.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct S3Setting {
    /// `http(s)://host[:port]`; AWS's own if it is not said.
    endpoint: Option<String>,
    /// The server's, if it is not said.
    region: Option<String>,
    /// Which buckets are there, a `*` at the end standing for anything; all if it is not said.
    buckets: Option<Vec<String>>,
    /// The bucket's name stands in the path: as most stores want it, and AWS does not.
    path_style: Option<bool>,
    /// Both or neither: else the usual variables and files of AWS's clients say who asks.
    access_key_id: Option<String>,
    secret_access_key: Option<Hidden>,
    /// Of AWS's credentials file.
    profile: Option<String>,
    /// How long the store may keep silent.
    timeout_seconds: Option<u64>,
    #[serde(default)]
    encryption: StoreEncryption,
}

/// The same, checked, with the keys.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoreSettings {
    endpoint: Option<String>,
    region: String,
    buckets: Vec<String>,
    path_style: bool,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    timeout_seconds: u64,
    pub(crate) encryption: StoreEncryption,
}

impl S3Setting {
    /// What the file alone can be wrong in; an error names the key and the rule.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.access_key_id.is_some() != self.secret_access_key.is_some() {
            return Err("s3.access_key_id and s3.secret_access_key have a meaning only together".into());
        }
        if self.access_key_id.is_some() && self.profile.is_some() {
            return Err("s3.profile has no meaning beside s3.access_key_id".into());
        }
        if self.timeout_seconds.is_some_and(|seconds| !(1..=600).contains(&seconds)) {
            return Err("s3.timeout_seconds must be 1 to 600".into());
        }
        if self.buckets.as_ref().is_some_and(Vec::is_empty) {
            return Err("s3.buckets names no bucket; leave it out if all are meant".into());
        }
        self.buckets.iter().flatten().try_for_each(|pattern| check_pattern(pattern))
    }

    /// With the keys in force. `region` is the server's.
    pub(crate) fn resolved(self, region: &str) -> Result<StoreSettings, String> {
        let Credentials { access_key_id, secret_access_key, session_token } = self.credentials()?;
        let settings = StoreSettings {
            path_style: self.path_style.unwrap_or(self.endpoint.is_some()),
            endpoint: self.endpoint,
            region: self.region.unwrap_or_else(|| region.to_owned()),
            buckets: self.buckets.unwrap_or_default(),
            access_key_id,
            secret_access_key,
            session_token,
            timeout_seconds: self.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS),
            encryption: self.encryption,
        };
        settings.store().map(|_| settings)
    }

    fn credentials(&self) -> Result<Credentials, String> {
        if let (Some(id), Some(secret)) = (&self.access_key_id, &self.secret_access_key) {
            let secret_access_key = secret.text().to_owned();
            return Ok(Credentials { access_key_id: id.clone(), secret_access_key, session_token: None });
        }
        let overrides = Overrides { profile: self.profile.clone(), ..Overrides::default() };
        let config = Environment::ours().config(&overrides);
        config
            .map(|config| config.credentials)
            .map_err(|why| format!("s3: {why}; or set s3.access_key_id and s3.secret_access_key"))
    }
}

fn check_pattern(pattern: &str) -> Result<(), String> {
    let name = pattern.strip_suffix('*').unwrap_or(pattern);
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    match !name.is_empty() && name.bytes().all(is_plain) {
        true => Ok(()),
        false => Err(format!(
            "s3.buckets: `{pattern}` is no name of a bucket: lower-case letters, digits, dots and hyphens, and a * at the end"
        )),
    }
}

impl StoreSettings {
    pub(crate) fn load(path: &Path) -> Result<StoreSettings, String> {
        let text = std::fs::read(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "the server has no s3 settings any more".to_owned(),
            _ => format!("the server's s3 settings cannot be read: {error}"),
        })?;
        // What is wrong in it is not shown: there are keys in it.
        serde_json::from_slice(&text).map_err(|_| "the server's s3 settings are damaged".to_owned())
    }

    pub(crate) fn store(&self) -> Result<Store, String> {
        let clock = SystemClock::new();
        let store = Store::new(Config {
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            path_style: self.path_style,
            credentials: Credentials {
                access_key_id: self.access_key_id.clone(),
                secret_access_key: self.secret_access_key.clone(),
                session_token: self.session_token.clone(),
            },
            patience: Duration::from_secs(self.timeout_seconds),
            clock: Arc::new(move || clock.now_ms()),
        });
        store.map_err(|error| format!("s3: {error}"))
    }

    /// Leaves it where agents' processes find it, for this user only.
    fn save(&self, path: &Path) -> std::io::Result<()> {
        let text = serde_json::to_vec(self)?;
        if std::fs::read(path).is_ok_and(|saved| saved == text) {
            return Ok(());
        }
        let unfinished = path.with_extension("new");
        let _ = std::fs::remove_file(&unfinished);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(unfinished, path)
    }
}

/// A bucket as the environment's usual variables and files reach it; the settings are left in a build's folder.
pub(crate) fn of_environment(folder: &Path, bucket: &str) -> Result<agent::plan::Elsewhere, String> {
    let endpoint = Environment::ours().s3_endpoint();
    let region = Environment::ours().config(&Overrides::default())?.region;
    let setting = S3Setting { endpoint, buckets: Some(vec![bucket.to_owned()]), ..S3Setting::default() };
    let (settings, path) = (setting.resolved(&region)?, folder.join(FILE));
    settings.save(&path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(agent::plan::Elsewhere { settings: path, buckets: settings.buckets })
}

/// What builds are told of the store, after its settings were left in the data folder; those of an earlier configuration go.
pub(crate) fn elsewhere(
    setting: Option<S3Setting>,
    region: &str,
    data: &Path,
) -> Result<Option<Elsewhere>, String> {
    let path: PathBuf = data.join(FILE);
    let Some(setting) = setting else {
        return match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("cannot remove {}: {error}", path.display()))
            }
            _ => Ok(None),
        };
    };
    let settings = setting.resolved(region)?;
    settings.save(&path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    let plan = agent::plan::Elsewhere { settings: path, buckets: settings.buckets.clone() };
    Ok(Some(Elsewhere { plan, store: settings.store()?, encryption: settings.encryption }))
}

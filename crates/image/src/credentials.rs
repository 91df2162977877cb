//! Logins for registries, as Docker keeps them. Reads no environment: callers say where Docker's file is.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

use serde::Deserialize;

use crate::{Error, manifest};

/// How to log in to one registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    Password {
        username: String,
        password: String,
    },
    /// A bearer token, sent as it is.
    Token(String),
}

/// Logins by registry.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    logins: BTreeMap<String, Login>,
}

/// Docker's `config.json`, as far as it holds logins. `credsStore` and `credHelpers` name programs to run, which is
/// not done here.
#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, DockerLogin>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase", default)]
#[derive(Default)]
struct DockerLogin {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    registrytoken: Option<String>,
}

impl Credentials {
    /// Adds a login for `registry` (host with optional port).
    pub fn add(&mut self, registry: &str, login: Login) {
        self.logins.insert(host(registry).to_owned(), login);
    }

    /// Where Docker keeps its logins, given how to look up an environment variable:
    /// `$DOCKER_CONFIG/config.json`, else `$HOME/.docker/config.json`.
    pub fn docker_config(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
        let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("DOCKER_CONFIG").or_else(|| Some(set("HOME")?.join(".docker")))?;
        Some(folder.join("config.json"))
    }

    /// Reads the `auths` of a Docker `config.json`; no file means no logins.
    ///
    /// Errors: [`Error::Io`], and [`Error::Malformed`] for what is not such a file.
    pub fn read_docker_config(path: &Path) -> Result<Credentials, Error> {
        match fs::read(path) {
            Ok(bytes) => Credentials::parse(&bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Credentials::default()),
            Err(error) => Err(Error::io("reading", path)(error)),
        }
    }

    fn parse(bytes: &[u8]) -> Result<Credentials, Error> {
        let config: DockerConfig = manifest::parse("Docker's config.json", bytes)?;
        let mut credentials = Credentials::default();
        for (registry, login) in config.auths {
            if let Some(login) = login.read(&registry)? {
                credentials.add(&registry, login);
            }
        }
        Ok(credentials)
    }

    /// The login for `registry` (`docker.io` for Docker Hub), if there is one.
    pub fn login(&self, registry: &str) -> Option<&Login> {
        self.logins.get(host(registry))
    }
}

impl DockerLogin {
    fn read(self, registry: &str) -> Result<Option<Login>, Error> {
        if let Some(token) = self.registrytoken.filter(|token| !token.is_empty()) {
            return Ok(Some(Login::Token(token)));
        }
        if let (Some(username), Some(password)) = (self.username, self.password) {
            return Ok(Some(Login::Password { username, password }));
        }
        let Some(auth) = self.auth.filter(|auth| !auth.is_empty()) else { return Ok(None) };
        let wrong = || Error::malformed("Docker's config.json", format!("auth of {registry} is malformed"));
        let text = base64(&auth).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(wrong)?;
        let (username, password) = text.split_once(':').ok_or_else(wrong)?;
        let password = password.trim_end_matches('\0').to_owned();
        Ok(Some(Login::Password { username: username.to_owned(), password }))
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Login::Password { username, .. } => {
                f.debug_struct("Password").field("username", username).finish()
            }
            Login::Token(_) => f.write_str("Token"),
        }
    }
}

/// Docker's keys are hosts or, for Docker Hub, an old URL; Docker Hub has several names.
fn host(registry: &str) -> &str {
    let bare = registry.strip_prefix("https://").or(registry.strip_prefix("http://")).unwrap_or(registry);
    match bare.split('/').next().unwrap_or(bare) {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        host => host,
    }
}

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Standard base64 with padding.
#[cfg(any(feature = "registry", test))]
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | usize::from(chunk.get(at).copied().unwrap_or(0)));
        for at in 0..4 {
            let symbol = char::from(ALPHABET[bits >> (18 - 6 * at) & 63]);
            text.push(if at <= chunk.len() { symbol } else { '=' });
        }
    }
    text
}

/// Decodes standard base64, with or without its padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for symbol in text.trim_end_matches('=').bytes() {
        let value = ALPHABET.iter().position(|b| *b == symbol)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_logins_are_found_under_every_name_docker_gives_them() {
        let config = br#"{"credsStore": "desktop", "auths": {
            "https://index.docker.io/v1/": {"auth": "dXNlcjpwYTpzcw=="},
            "localhost:5000": {"username": "u", "password": "p"},
            "https://token.example": {"registrytoken": "t"},
            "helper.example": {}
        }}"#;
        let credentials = Credentials::parse(config).unwrap();
        let password = |username: &str, password: &str| Login::Password {
            username: username.into(),
            password: password.into(),
        };
        assert_eq!(credentials.login("docker.io"), Some(&password("user", "pa:ss")));
        assert_eq!(credentials.login("localhost:5000"), Some(&password("u", "p")));
        assert_eq!(credentials.login("token.example"), Some(&Login::Token("t".into())));
        assert_eq!(credentials.login("helper.example"), None);
        assert!(!format!("{credentials:?}").contains("pa:ss"));
    }

    #[test]
    fn a_broken_auth_is_said_and_not_shown() {
        let error =
            Credentials::parse(br#"{"auths": {"a.b": {"auth": "secret!"}}}"#).unwrap_err().to_string();
        assert!(error.contains("a.b") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn base64_is_what_everybody_says_it_is() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")];
        for (plain, encoded) in cases {
            assert_eq!(to_base64(plain.as_bytes()), encoded);
            assert_eq!(base64(encoded).unwrap(), plain.as_bytes());
        }
        assert_eq!(base64("+/+/"), Some(vec![0xfb, 0xff, 0xbf]));
        assert_eq!(base64("a b"), None);
    }

    #[test]
    fn the_variable_wins_over_the_home() {
        let both = |name: &str| Some(OsString::from(if name == "HOME" { "/home/u" } else { "/etc/docker" }));
        let home = |name: &str| both(name).filter(|_| name == "HOME");
        assert_eq!(Credentials::docker_config(both), Some("/etc/docker/config.json".into()));
        assert_eq!(Credentials::docker_config(home), Some("/home/u/.docker/config.json".into()));
        assert_eq!(Credentials::docker_config(|_| None), None);
    }
}

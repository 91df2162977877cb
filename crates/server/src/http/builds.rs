//! The way in for builds: a socket at which only agents knock, each for its own build, and the credentials that are fetched there.
//!
//! An agent says first whose connection it brings, one line; what follows is HTTP by the build's own commands. That line is what
//! binds credentials to a build: whoever learns another build's path gets nothing for it. What the keys are good for is in `roles`.

use std::io;
use std::time::Duration;

use api::ServiceError;
use hyper::Method;
use hyper::StatusCode;
use hyper::header::{AUTHORIZATION, CACHE_CONTROL, HeaderValue};
use hyper::http::request::Parts;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use super::answer::{self, Answer};
use super::dispatch::Endpoint;
use crate::roles::{OfBuild, PATH};

/// Longest line that says whose connection it is.
const LINE_MAX_BYTES: usize = 512;
/// How long it may take.
const LINE_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads whose connection it is: `<account> <project:uuid>`, a token if one has to be shown for credentials, and a line feed.
pub(super) async fn introduced(stream: &mut UnixStream) -> io::Result<OfBuild> {
    let mut read = async || -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        loop {
            match stream.read_u8().await? {
                b'\n' => return Ok(line),
                _ if line.len() == LINE_MAX_BYTES => return Err(io::ErrorKind::InvalidData.into()),
                byte => line.push(byte),
            }
        }
    };
    let line = tokio::time::timeout(LINE_TIMEOUT, read()).await??;
    let line = String::from_utf8(line).map_err(io::Error::other)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (Some(account), Some(id)) = (words.next(), words.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    Ok(OfBuild { account, id, token: words.next() })
}

impl Endpoint {
    /// COMPAT: EN-062. `None`: it is no matter of credentials, or does not come from a build.
    pub(super) async fn credentials(&self, parts: &Parts) -> Option<Answer> {
        let build = parts.extensions.get::<OfBuild>()?;
        let path = parts.uri.path();
        if parts.method != Method::GET || !path.starts_with(PATH) {
            return None;
        }
        let sent = parts.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let made = match build.is_shown(sent) {
            true => self.keys_of(build, path).await,
            false => Ok(None),
        };
        let (status, body) = match made {
            Ok(Some(made)) => (StatusCode::OK, made),
            Ok(None) => (
                StatusCode::NOT_FOUND,
                json!({ "code": "CredentialsNotFound", "message": "there are no credentials at this path" }),
            ),
            // SDKs ask again after these.
            Err(error) => (
                StatusCode::from_u16(error.http_status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                json!({ "code": error.code, "message": error.message }),
            ),
        };
        let json = HeaderValue::from_static("application/json");
        let mut answer = answer::answer(status, json, body.to_string());
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Some(answer)
    }

    async fn keys_of(&self, build: &OfBuild, path: &str) -> Result<Option<Value>, ServiceError> {
        let codebuild = &self.services.codebuild;
        if !codebuild.is_under_way(&build.id) {
            return Ok(None);
        }
        let Some(shown) = codebuild.build(&build.account, &build.id).await? else { return Ok(None) };
        let name = shown["projectName"].as_str().unwrap_or_default();
        let project = codebuild.project(&build.account, name).await?.unwrap_or_default();
        Ok(self.settings.roles.credentials(build, path, &shown, &project, self.now_seconds()))
    }
}

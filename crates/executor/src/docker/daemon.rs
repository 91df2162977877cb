//! Speaking with the daemon: Docker's API, as far as it is needed, over its socket. A connection for each request.
//!
//! hyper is what the server speaks HTTP with anyway; a client for all of Docker's API would be as heavy as all of ours.

use std::collections::BTreeMap;
use std::path::PathBuf;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::Image;
use crate::{Error, Result};

/// Bytes of one answer. The longest are the lines that a pull tells its progress with.
const ANSWER_BYTES: usize = 64 << 20;

#[derive(Debug)]
pub(super) struct Daemon {
    socket: PathBuf,
}

/// What the daemon has said.
struct Answer {
    status: StatusCode,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Its own words if it would not.
    fn reason(&self) -> String {
        let told = self.json()["message"].as_str().map(str::to_owned);
        told.unwrap_or_else(|| format!("{} {}", self.status, String::from_utf8_lossy(&self.body)))
    }
}

impl Daemon {
    pub(super) fn at(socket: PathBuf) -> Daemon {
        Daemon { socket }
    }

    /// How many processors it has for a container; the daemon must be there.
    pub(super) async fn processors(&self) -> Result<u64> {
        let asked = "how many processors it has";
        let answer = self.succeed(Method::GET, "/info", None, asked).await?;
        answer.json()["NCPU"]
            .as_u64()
            .filter(|count| *count > 0)
            .ok_or_else(|| Error::Daemon { asked: asked.to_owned(), reason: "it does not say".to_owned() })
    }

    /// The image, if the daemon has one of that name.
    pub(super) async fn image(&self, name: &str) -> Result<Option<Image>> {
        let asked = format!("for the image {name}");
        let answer =
            self.ask(Method::GET, &format!("/images/{}/json", encoded(name, "/:@")), None, &asked).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(image(&answer.json()))),
            _ => Err(Error::Daemon { asked, reason: answer.reason() }),
        }
    }

    /// Has the image fetched; takes as long as that takes.
    pub(super) async fn pull(&self, name: &str) -> Result<()> {
        let asked = format!("to pull the image {name}");
        // Without a tag all of them would be meant.
        let last = name.rsplit('/').next().unwrap_or(name);
        let tag = if last.contains([':', '@']) { "" } else { "&tag=latest" };
        let path = format!("/images/create?fromImage={}{tag}", encoded(name, ""));
        let answer = self.succeed(Method::POST, &path, None, &asked).await?;
        // It has begun to answer before it knows.
        let lines = answer.body.split(|byte| *byte == b'\n');
        let told = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
        match told.filter_map(|line| line["error"].as_str().map(str::to_owned)).next() {
            Some(reason) => Err(Error::Daemon { asked, reason }),
            None => Ok(()),
        }
    }

    /// Makes a container, unless one of this name is there.
    pub(super) async fn create(&self, name: &str, wanted: &Value) -> Result<()> {
        let asked = format!("to make the container {name}");
        let path = format!("/containers/create?name={}", encoded(name, ""));
        let answer = self.ask(Method::POST, &path, Some(wanted), &asked).await?;
        match answer.status {
            StatusCode::CONFLICT => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(Error::Daemon { asked, reason: answer.reason() }),
        }
    }

    /// Starts it; one that runs already is left alone.
    pub(super) async fn start(&self, name: &str) -> Result<()> {
        let asked = format!("to start the container {name}");
        let answer = self.ask(Method::POST, &format!("/containers/{name}/start"), None, &asked).await?;
        match answer.status {
            StatusCode::NOT_MODIFIED => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(Error::Daemon { asked, reason: answer.reason() }),
        }
    }

    /// Ends it and returns once it is gone. There being none is fine.
    pub(super) async fn remove(&self, name: &str) -> Result<()> {
        let asked = format!("to remove the container {name}");
        let answer =
            self.ask(Method::DELETE, &format!("/containers/{name}?force=1&v=1"), None, &asked).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(()),
            // It is being removed already.
            StatusCode::CONFLICT => self.await_removal(name).await,
            status if status.is_success() => Ok(()),
            _ => Err(Error::Daemon { asked, reason: answer.reason() }),
        }
    }

    async fn await_removal(&self, name: &str) -> Result<()> {
        let asked = format!("to tell when the container {name} is removed");
        let path = format!("/containers/{name}/wait?condition=removed");
        let answer = self.ask(Method::POST, &path, None, &asked).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(Error::Daemon { asked, reason: answer.reason() }),
        }
    }

    /// What containers say by the label `wanted`, of those whose label `label` is `value`.
    pub(super) async fn labelled(&self, label: &str, value: &str, wanted: &str) -> Result<Vec<String>> {
        let filters = serde_json::json!({ "label": [format!("{label}={value}")] }).to_string();
        let path = format!("/containers/json?all=1&filters={}", encoded(&filters, ""));
        let answer = self.succeed(Method::GET, &path, None, "for its containers").await?;
        let listed = answer.json();
        let containers = listed.as_array().into_iter().flatten();
        Ok(containers.filter_map(|one| one["Labels"][wanted].as_str().map(str::to_owned)).collect())
    }

    async fn succeed(&self, method: Method, path: &str, body: Option<&Value>, asked: &str) -> Result<Answer> {
        let answer = self.ask(method, path, body, asked).await?;
        match answer.status.is_success() {
            true => Ok(answer),
            false => Err(Error::Daemon { asked: asked.to_owned(), reason: answer.reason() }),
        }
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>, asked: &str) -> Result<Answer> {
        self.exchange(method, path, body).await.map_err(|error| Error::Daemon {
            asked: asked.to_owned(),
            reason: format!("{}: {error}", self.socket.display()),
        })
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> std::result::Result<Answer, Box<dyn std::error::Error + Send + Sync>> {
        let stream = UnixStream::connect(&self.socket).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("Host", "docker")
            .header("Content-Type", "application/json")
            .body(Full::new(bytes))?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await?.to_bytes();
            Ok(Answer { status, body })
        };
        tokio::pin!(exchange, connection);
        tokio::select! {
            answer = &mut exchange => answer,
            // It has been closed; what came before that is there.
            _ = &mut connection => exchange.await,
        }
    }
}

fn image(inspected: &Value) -> Image {
    let variables = inspected["Config"]["Env"].as_array().into_iter().flatten();
    let pair = |text: &Value| {
        let (name, value) = text.as_str()?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    let variables: BTreeMap<String, String> = variables.filter_map(pair).collect();
    Image { id: inspected["Id"].as_str().unwrap_or_default().to_owned(), variables }
}

/// Percent-encoded, but for letters, digits and what is named.
fn encoded(text: &str, kept: &str) -> String {
    let is_kept =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || kept.as_bytes().contains(&byte);
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match is_kept(byte) {
            true => encoded.push(byte.into()),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_change_what_is_asked() {
        assert_eq!(encoded("a/b:1@sha256:0", "/:@"), "a/b:1@sha256:0");
        assert_eq!(encoded("x?force=1&y z", "/:@"), "x%3Fforce%3D1%26y%20z");
    }

    #[test]
    fn an_image_tells_its_variables() {
        let inspected =
            serde_json::json!({"Id": "sha256:1", "Config": {"Env": ["PATH=/bin", "A=b=c", "odd"]}});
        let found = image(&inspected);
        assert_eq!(found.id, "sha256:1");
        assert_eq!(
            found.variables,
            BTreeMap::from([("PATH".into(), "/bin".into()), ("A".into(), "b=c".into())])
        );
    }
}

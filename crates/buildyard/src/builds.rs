//! Builds as the command line asks for them: by id, through the public API. So it works from anywhere, and against CodeBuild
//! itself.

use std::path::PathBuf;

use aws::{Client, Credentials, Endpoints};
use engine::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::aws_environment::{Environment, Overrides};
use crate::config::{Flags, Settings};
use crate::credentials;

/// A build, and where to ask for it.
#[derive(Debug, clap::Args)]
pub(crate) struct Asked {
    /// The build's id, `project:uuid`, or its ARN.
    #[arg(value_name = "BUILD-ID")]
    pub(crate) build: String,
    /// The server's data folder, for whom to ask; not needed where AWS_ENDPOINT_URL is set.
    #[arg(long, value_name = "FOLDER", env = "BUILDYARD_DATA")]
    data: Option<PathBuf>,
}

impl Asked {
    pub(crate) fn client(&self) -> Result<Client, String> {
        Ok(Client::new(config(self.data.clone())?))
    }

    /// The build as BatchGetBuilds gives it.
    pub(crate) async fn build(&self, client: &Client) -> Result<Value, Unanswered> {
        let asked = json!({ "ids": [self.build] });
        let mut answer = client.call(&aws::CODEBUILD, "BatchGetBuilds", &asked).await?;
        match answer["builds"].get_mut(0) {
            Some(build) => Ok(build.take()),
            None => Err(Unanswered::Refused(format!("there is no build {}", self.build))),
        }
    }
}

/// Why a question has no answer, in words.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// Asking again later may help.
    Unreachable(String),
    Refused(String),
}

impl From<aws::Error> for Unanswered {
    fn from(error: aws::Error) -> Unanswered {
        match error {
            aws::Error::Unreachable { .. } => Unanswered::Unreachable(error.to_string()),
            error => Unanswered::Refused(error.to_string()),
        }
    }
}

impl From<Unanswered> for String {
    fn from(unanswered: Unanswered) -> String {
        match unanswered {
            Unanswered::Unreachable(message) | Unanswered::Refused(message) => message,
        }
    }
}

/// Group and stream of a build's log, if it has one.
pub(crate) fn log_of(build: &Value) -> Option<(&str, &str)> {
    build["logs"]["groupName"].as_str().zip(build["logs"]["streamName"].as_str())
}

/// The environment's endpoint if it names one, or else the server of the data folder, as `buildyard env` finds it.
fn config(data: Option<PathBuf>) -> Result<aws::Config, String> {
    let environment = Environment::ours();
    if data.is_none() && environment.names_an_endpoint() {
        return environment.config(&Overrides::default());
    }
    let settings = Settings::read(Flags { data, ..Flags::default() })?;
    let (endpoint, key) = credentials::server(&settings)?;
    let clock = SystemClock::new();
    Ok(aws::Config {
        region: settings.region,
        credentials: Credentials {
            access_key_id: key.id,
            secret_access_key: key.secret,
            session_token: None,
        },
        endpoints: Endpoints::everything_at(endpoint),
        clock: std::sync::Arc::new(move || clock.now_ms()),
    })
}

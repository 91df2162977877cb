//! What a build's variables refer to in Parameter Store and Secrets Manager, looked up when its agent asks.
//!
//! [`FromHere`] looks into our own vault; [`FromAws`] asks AWS, or whatever speaks like it. The values go to the agent
//! and nowhere else: they are not stored, logged or shown. Which variables they become, and what is taken out of a
//! JSON secret, is the agent's business. If the operator has said what the build's service role
//! may read, that is asked first: who may not is not told whether it is there.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::pin::Pin;
use std::sync::Arc;

use access::{Context, Denied, Request};
use agent::answer::Answer;
use agent::journal::{Event, Phase, Secret};
use agent::role::Role;
use api::Region;
use serde::Deserialize;
use store::records::{self, Parameter, Scope, SecretValue, Selection, Vault};

use crate::clock::Clock;
use crate::error::Result;

pub type Resolving<'a> = Pin<Box<dyn Future<Output = Result<Answer>> + Send + 'a>>;

/// COMPAT: BS-047, LC-055 the status code has spaces.
const PARAMETERS_FAILED: &str = "Decrypted Variables Error";
/// COMPAT: BS-051.
const SECRETS_FAILED: &str = "Secrets Manager Error Message";

/// Looks up what builds ask for.
pub trait References: Debug + Send + Sync {
    /// All that is asked, or the refusal that fails the build's DOWNLOAD_SOURCE. `scope` is the build's.
    ///
    /// # Errors
    /// Faults of ours. What the build's owner can mend is a refusal.
    fn resolve<'a>(&'a self, scope: &'a Scope, asked: &'a Asked) -> Resolving<'a>;
}

/// What an agent asks for, each once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    /// Names, with `:version` where one is meant, or ARNs.
    pub parameters: Vec<String>,
    pub secrets: Vec<Secret>,
    /// Credentials for the git servers of the build's sources (BS-055).
    pub git: bool,
    /// In whose name, if the operator has said what that role may.
    pub role: Option<Role>,
}

impl Asked {
    /// What the journal asks for and still waits for: a build asks in DOWNLOAD_SOURCE and goes on with the answer.
    pub fn in_journal(events: &[Event]) -> Option<Asked> {
        let mut asked = None;
        for event in events {
            match event {
                Event::ReferencesNeeded { parameters, secrets, git } => {
                    let (parameters, secrets) = (parameters.clone(), secrets.clone());
                    asked = Some(Asked { parameters, secrets, git: *git, role: None });
                }
                Event::PhaseEnded { phase: Phase::DownloadSource, .. } | Event::Finished { .. } => {
                    asked = None
                }
                _ => {}
            }
        }
        asked
    }
}

impl Asked {
    /// Whether the role may; whatever is asked for, if nothing was said of it.
    fn may(&self, request: Request) -> std::result::Result<(), Denied> {
        self.role.as_ref().map_or(Ok(()), |role| role.rights.may(&request))
    }
}

/// The one look-up that a build's driver may have under way.
#[derive(Default)]
pub struct Lookup(Option<Resolving<'static>>);

impl Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lookup").field(&self.0.is_some()).finish()
    }
}

impl Lookup {
    /// Begins to look up what `events`, new in the journal, ask for; anew if something was being looked up, for the
    /// journal is read again from its beginning where an agent was found again.
    pub fn begin(&mut self, references: &Arc<dyn References>, scope: &Scope, events: &[Event]) {
        if let Some(asked) = Asked::in_journal(events) {
            let (references, scope) = (references.clone(), scope.clone());
            self.0 = Some(Box::pin(async move { references.resolve(&scope, &asked).await }));
        }
    }

    /// Waits for the answer; for ever, if there is none to come. Cancel-safe.
    ///
    /// # Errors
    /// As for [`References::resolve`].
    pub async fn answer(&mut self) -> Result<Answer> {
        let Some(resolving) = &mut self.0 else { return std::future::pending().await };
        let answer = resolving.await;
        self.0 = None;
        answer
    }
}

/// No place to look is set up: every reference fails the build, with what can be done about it.
#[derive(Debug)]
pub struct Nowhere {
    /// Why there is none, and the ways out.
    pub reason: String,
}

impl References for Nowhere {
    fn resolve<'a>(&'a self, _: &'a Scope, asked: &'a Asked) -> Resolving<'a> {
        let parameters = asked.parameters.iter().map(|name| format!("parameter {name}"));
        let secrets = asked.secrets.iter().map(|secret| format!("secret {}", secret.id));
        let names: Vec<String> = parameters.chain(secrets).collect();
        if names.is_empty() {
            let nothing =
                Answer::Values { parameters: BTreeMap::new(), secrets: BTreeMap::new(), git: Vec::new() };
            return Box::pin(async move { Ok(nothing) });
        }
        let message = format!("cannot fetch {}: {}", names.join(", "), self.reason);
        let code = if asked.parameters.is_empty() { SECRETS_FAILED } else { PARAMETERS_FAILED };
        Box::pin(async move { Ok(refused(code, message)) })
    }
}

/// In the vault of this server, among what belongs to the build's account and region.
#[derive(Debug)]
pub struct FromHere {
    vault: Vault,
    clock: Arc<dyn Clock>,
}

impl FromHere {
    pub fn new(vault: Vault, clock: Arc<dyn Clock>) -> FromHere {
        FromHere { vault, clock }
    }

    async fn look_up(&self, scope: &Scope, asked: &Asked) -> Result<Answer> {
        let (mut parameters, mut missing) = (BTreeMap::new(), Vec::new());
        for name in &asked.parameters {
            let found = self.parameter(scope, name).await?;
            let known_as = found.as_ref().map_or(name.as_str(), |found| &found.name);
            if let Err(denied) = asked.may(parameter_request(scope, known_as)) {
                return Ok(denied_parameter(&denied));
            }
            match found.map(|found| found.value) {
                Some(value) => drop(parameters.insert(name.clone(), value)),
                None => missing.push(name.clone()),
            }
        }
        if !missing.is_empty() {
            return Ok(no_such_parameters(&missing));
        }
        let mut secrets = BTreeMap::new();
        for secret in &asked.secrets {
            match self.secret(scope, asked, secret).await? {
                Ok(text) => drop(secrets.insert(secret.clone(), text)),
                Err(refusal) => return Ok(refusal),
            }
        }
        Ok(Answer::Values { parameters, secrets, git: Vec::new() })
    }

    /// A version follows the name, or the ARN with its five colons.
    async fn parameter(&self, scope: &Scope, name: &str) -> Result<Option<Parameter>> {
        let before = if name.starts_with("arn:") { 5 } else { 0 };
        let (id, version) = match name.match_indices(':').nth(before) {
            None => (name, None),
            Some((at, _)) => match name[at + 1..].parse() {
                Ok(version) => (&name[..at], Some(version)),
                // A label: there are none.
                Err(_) => return Ok(None),
            },
        };
        Ok(self.vault.get_parameter(scope, id, version).await?)
    }

    async fn secret(&self, scope: &Scope, asked: &Asked, secret: &Secret) -> Result<Result<String, Answer>> {
        let selection = Selection { stage: secret.stage.as_deref(), version: secret.version.as_deref() };
        let found = self.vault.get_secret_value(scope, &secret.id, selection, self.clock.now_ms()).await?;
        let known = match &found {
            Some((found, _)) => known_secret(scope, found)?,
            None => unknown_secret(scope, &secret.id),
        };
        if let Err(denied) = asked.may(known) {
            return Ok(Err(denied_secret(secret, &denied)));
        }
        // COMPAT: BS-051 in Secrets Manager's words.
        let reason = match found {
            Some((found, _)) if found.deletion_ms.is_some() => {
                "InvalidRequestException: You can't perform this operation on the secret because it was marked for \
                 deletion."
            }
            Some((_, Some(found))) => {
                return Ok(match found.value {
                    SecretValue::Text(text) => Ok(text),
                    SecretValue::Binary(_) => Err(binary(secret)),
                });
            }
            Some((_, None)) => {
                "ResourceNotFoundException: Secrets Manager can't find the specified secret value for the stage or \
                 version asked for."
            }
            None => "ResourceNotFoundException: Secrets Manager can't find the specified secret.",
        };
        Ok(Err(no_secret(secret, reason)))
    }
}

impl References for FromHere {
    fn resolve<'a>(&'a self, scope: &'a Scope, asked: &'a Asked) -> Resolving<'a> {
        Box::pin(self.look_up(scope, asked))
    }
}

/// At AWS, or wherever the client is pointed; with the client's credentials for builds of every account.
#[derive(Debug)]
pub struct FromAws {
    client: aws::Client,
}

impl FromAws {
    pub fn new(client: aws::Client) -> FromAws {
        FromAws { client }
    }

    /// What it is there that is asked for is known only from the answer, and told to nobody if the role may not.
    async fn look_up(&self, scope: &Scope, asked: &Asked) -> Answer {
        let found = match self.client.get_parameters(&asked.parameters).await {
            Ok(found) => found,
            Err(error) => return refused(PARAMETERS_FAILED, error.to_string()),
        };
        for name in &asked.parameters {
            let arn = found.arns.get(name).filter(|arn| !arn.is_empty());
            if let Err(denied) = asked.may(parameter_request(scope, arn.unwrap_or(name))) {
                return denied_parameter(&denied);
            }
        }
        if !found.missing.is_empty() {
            return no_such_parameters(&found.missing);
        }
        let mut secrets = BTreeMap::new();
        for secret in &asked.secrets {
            let (arn, value) = match self.client.get_secret_value(&selected(secret)).await {
                Ok(found) => found,
                Err(error) => return no_secret(secret, &error.to_string()),
            };
            if let Err(denied) = asked.may(unknown_secret(scope, arn.as_deref().unwrap_or(&secret.id))) {
                return denied_secret(secret, &denied);
            }
            match value {
                aws::Secret::Text(text) => drop(secrets.insert(secret.clone(), text)),
                aws::Secret::Binary(_) => return binary(secret),
            }
        }
        Answer::Values { parameters: found.values, secrets, git: Vec::new() }
    }
}

impl References for FromAws {
    fn resolve<'a>(&'a self, scope: &'a Scope, asked: &'a Asked) -> Resolving<'a> {
        Box::pin(async move { Ok(self.look_up(scope, asked).await) })
    }
}

fn selected(secret: &Secret) -> aws::Selected {
    aws::Selected { id: secret.id.clone(), stage: secret.stage.clone(), version: secret.version.clone() }
}

/// Reading a parameter: its name, or its ARN, with or without a version or label behind it.
fn parameter_request(scope: &Scope, named: &str) -> Request {
    let Scope { account, region } = scope;
    let partition = region.parse::<Region>().map_or("aws", |region| region.partition());
    let before = if named.starts_with("arn:") { 5 } else { 0 };
    let end = named.match_indices(':').nth(before).map_or(named.len(), |(at, _)| at);
    let arn = match before {
        0 => {
            let name = named[..end].trim_start_matches('/');
            format!("arn:{partition}:ssm:{region}:{account}:parameter/{name}")
        }
        _ => named[..end].to_owned(),
    };
    Request::new("ssm:GetParameters", arn)
}

/// Reading a secret of which only this name or ARN is known.
fn unknown_secret(scope: &Scope, named: &str) -> Request {
    let Scope { account, region } = scope;
    let arn = match named.starts_with("arn:") {
        true => named.to_owned(),
        false => format!("arn:aws:secretsmanager:{region}:{account}:secret:{named}"),
    };
    Request::new("secretsmanager:GetSecretValue", arn)
}

/// Reading a secret that is there.
fn known_secret(scope: &Scope, secret: &records::Secret) -> Result<Request> {
    #[derive(Deserialize)]
    struct Tagged {
        #[serde(default)]
        tags: BTreeMap<String, String>,
    }
    let Tagged { tags } = serde_json::from_str(&secret.document)?;
    let tags = tags.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let named = unknown_secret(scope, &format!("{}-{}", secret.name, secret.suffix));
    Ok(named.about(Context::default().with_resource_tags(tags)))
}

fn refused(status_code: &str, message: String) -> Answer {
    Answer::Refused { status_code: status_code.to_string(), message }
}

/// COMPAT: BS-047.
fn no_such_parameters(missing: &[String]) -> Answer {
    refused(PARAMETERS_FAILED, format!("parameter does not exist: {}", missing.join(", ")))
}

/// COMPAT: BS-047.
fn denied_parameter(denied: &Denied) -> Answer {
    refused(PARAMETERS_FAILED, format!("AccessDeniedException: {denied}"))
}

fn denied_secret(secret: &Secret, denied: &Denied) -> Answer {
    no_secret(secret, &format!("AccessDeniedException: {denied}"))
}

fn no_secret(secret: &Secret, reason: &str) -> Answer {
    refused(SECRETS_FAILED, format!("{}: {reason}", secret.id))
}

/// A variable holds text: what the bytes of a binary secret would become is not documented.
fn binary(secret: &Secret) -> Answer {
    no_secret(secret, "the secret is binary; only a SecretString can become a variable")
}

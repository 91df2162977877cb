//! What git gets inside a build that asks for `git-credential-helper`: the account's source credentials, and before
//! them those that the build's own sources name (SA-053). Looked up when the agent asks, and told to nobody else.

use std::fmt::{self, Debug};
use std::sync::Arc;

use agent::answer::{Answer, GitCredential};
use agent::journal::Secret;
use agent::role::Role;
use api::codebuild::{Project, ProjectSource, ServerType, SourceAuthType, SourceType};
use source::{Location, Scheme};
use store::records::{Scope, Vault};

use crate::clock::Clock;
use crate::config::Config;
use crate::credentials::{self, Opener};
use crate::driver::RETRY_MS;
use crate::error::{Error, Result};
use crate::references::{Asked, References, Resolving};

/// A credential that cannot be had fails the build as a secret does (BS-051).
const FAILED: &str = "Secrets Manager Error Message";

/// Answers one build's questions: those for values where `references` finds them, those of git by itself.
pub(crate) struct WithGit {
    references: Arc<dyn References>,
    vault: Vault,
    codecommit: Option<aws::CodeCommit>,
    sources: Vec<ProjectSource>,
    role: Option<Role>,
    clock: Arc<dyn Clock>,
}

impl Debug for WithGit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithGit").field("references", &self.references).finish_non_exhaustive()
    }
}

impl WithGit {
    pub(crate) fn new(config: &Config, vault: Vault, settings: &Project, role: Option<Role>) -> WithGit {
        let secondary = settings.secondary_sources.iter().flatten();
        WithGit {
            references: config.references.clone(),
            vault,
            codecommit: config.codecommit.clone(),
            sources: settings.source.iter().chain(secondary).cloned().collect(),
            role,
            clock: config.clock.clone(),
        }
    }

    /// What is away comes back: until then the build waits, as long as its own time allows.
    async fn answer_in_time(&self, scope: &Scope, asked: &Asked) -> Result<Answer> {
        loop {
            match self.answer(scope, asked).await {
                Err(Error::Unavailable(reason)) => {
                    tracing::warn!(%reason, "what a build refers to cannot be read; trying on");
                    self.clock.sleep_until(self.clock.uptime_ms().saturating_add(RETRY_MS)).await;
                }
                answer => return answer,
            }
        }
    }

    async fn answer(&self, scope: &Scope, asked: &Asked) -> Result<Answer> {
        match self.references.resolve(scope, &self.by_role(asked.clone())).await? {
            Answer::Values { parameters, secrets, .. } if asked.git => Ok(match self.git(scope).await? {
                Ok(git) => Answer::Values { parameters, secrets, git },
                Err(refusal) => refusal,
            }),
            answer => Ok(answer),
        }
    }

    /// COMPAT: BS-046 all is fetched with the service role.
    fn by_role(&self, asked: Asked) -> Asked {
        let role = self.role.as_ref().map(|role| role.at(self.clock.now_ms()));
        Asked { role, ..asked }
    }

    /// One credential for each server, or the refusal. COMPAT: SA-053 a source's own comes before the account's.
    async fn git(&self, scope: &Scope) -> Result<Result<Vec<GitCredential>, Answer>> {
        let own = self.sources.iter().filter_map(own_secret);
        let mut found: Vec<Opens> =
            own.map(|arn| Opens { server: None, with: Opener::Secret(arn) }).collect();
        for credential in self.vault.source_credentials(scope).await? {
            let (server, with) = credentials::opener(&credential)?;
            found.push(Opens { server: Some(server), with });
        }
        let mut offered = self.of_codecommit();
        for opens in found {
            // Somebody else's secret is not asked for where it would not be used.
            if opens.server.as_ref().is_some_and(|server| self.is_all_there(server, &offered)) {
                continue;
            }
            let (server, username, password) = match self.open(scope, opens).await? {
                Ok(Some(opened)) => opened,
                Ok(None) => continue,
                Err(refusal) => return Ok(Err(refusal)),
            };
            for url in self.urls(&server) {
                if !offered.iter().any(|credential| credential.url == url) {
                    let (username, password) = (username.clone(), password.clone());
                    offered.push(GitCredential { url, username, password });
                }
            }
        }
        Ok(Ok(offered))
    }

    /// COMPAT: SA-055 each repository has its own, which is made as it is asked for.
    fn of_codecommit(&self) -> Vec<GitCredential> {
        let Some(codecommit) = &self.codecommit else { return Vec::new() };
        let sources = self.sources.iter().filter(|one| one.r#type == Some(SourceType::Codecommit));
        let each = sources.filter_map(|source| {
            let url = source.location.clone()?;
            let (username, password) = codecommit.credential(&url)?;
            Some(GitCredential { url, username, password })
        });
        each.collect()
    }

    fn is_all_there(&self, server: &ServerType, offered: &[GitCredential]) -> bool {
        self.urls(server).iter().all(|url| offered.iter().any(|credential| credential.url == *url))
    }

    async fn open(&self, scope: &Scope, opens: Opens) -> Result<Result<Option<Opened>, Answer>> {
        let (server, with) = match opens {
            Opens { with: Opener::Secret(arn), .. } => match self.secret(scope, &arn).await? {
                Ok((server, with)) => (Some(server), with),
                Err(refusal) => return Ok(Err(refusal)),
            },
            Opens { server, with } => (server, with),
        };
        Ok(Ok(match (server, with) {
            (Some(server), Opener::Password { username, password }) => Some((server, username, password)),
            _ => None,
        }))
    }

    async fn secret(&self, scope: &Scope, arn: &str) -> Result<Result<(ServerType, Opener), Answer>> {
        let secret = Secret { id: arn.to_string(), stage: None, version: None };
        let asked = self.by_role(Asked { secrets: vec![secret.clone()], ..Asked::default() });
        let secrets = match self.references.resolve(scope, &asked).await? {
            Answer::Values { secrets, .. } => secrets,
            refusal => return Ok(Err(refusal)),
        };
        let text = secrets.get(&secret).map(String::as_str).unwrap_or_default();
        Ok(credentials::opener_of_secret(text).map_err(|why| Answer::Refused {
            status_code: FAILED.to_string(),
            message: format!("{arn} is no source credential: {why}"),
        }))
    }

    /// Where a server of that type is: the provider's own, or where the build's sources say that it is.
    fn urls(&self, server: &ServerType) -> Vec<String> {
        let (well_known, kind) = match server {
            ServerType::Github => (Some("https://github.com"), SourceType::Github),
            ServerType::Bitbucket => (Some("https://bitbucket.org"), SourceType::Bitbucket),
            ServerType::Gitlab => (Some("https://gitlab.com"), SourceType::Gitlab),
            ServerType::GithubEnterprise => (None, SourceType::GithubEnterprise),
            ServerType::GitlabSelfManaged => (None, SourceType::GitlabSelfManaged),
            ServerType::Unknown(_) => return Vec::new(),
        };
        if let Some(url) = well_known {
            return vec![url.to_string()];
        }
        let of_kind = self.sources.iter().filter(|source| source.r#type.as_ref() == Some(&kind));
        of_kind.filter_map(|source| origin(source.location.as_deref()?)).collect()
    }
}

impl References for WithGit {
    fn resolve<'a>(&'a self, scope: &'a Scope, asked: &'a Asked) -> Resolving<'a> {
        Box::pin(self.answer_in_time(scope, asked))
    }
}

/// Something that opens a server; a secret itself says which.
struct Opens {
    server: Option<ServerType>,
    with: Opener,
}

/// Server, user name and password.
type Opened = (ServerType, String, String);

/// The secret that a source names itself. COMPAT: SA-053 its other kinds of authorization mean the account's.
fn own_secret(source: &ProjectSource) -> Option<String> {
    let auth = source.auth.as_ref()?;
    auth.resource.clone().filter(|_| auth.r#type == Some(SourceAuthType::SecretsManager))
}

/// Scheme, host and port of a repository's URL.
fn origin(location: &str) -> Option<String> {
    let location = Location::parse(location).ok()?;
    (location.scheme() != Scheme::Ssh).then(|| location.origin())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repositorys_origin_is_its_scheme_and_host() {
        for (location, expect) in [
            ("https://git.example/team/x.git", Some("https://git.example")),
            ("https://Git.Example:8443/x", Some("https://git.example:8443")),
            ("http://git.example/x", Some("http://git.example")),
            ("https://user:pass@git.example:8443/x", None),
            ("git@git.example:team/x.git", None),
            ("https:///x", None),
            ("bucket/key", None),
        ] {
            assert_eq!(origin(location).as_deref(), expect, "{location}");
        }
    }
}

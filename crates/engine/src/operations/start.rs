//! StartBuild and RetryBuild: how a build comes to be.

use std::sync::Arc;

use api::codebuild::{Build, Project, RetryBuildInput, RetryBuildOutput, StartBuildInput, StartBuildOutput};
use serde::Serialize;
use sha2::{Digest, Sha256};
use store::records::{Acceptance, Scope, Token};

use crate::caller::Caller;
use crate::candidate::Candidate;
use crate::config::BuildNews;
use crate::engine::{Engine, Shared};
use crate::error::{Error, Result};
use crate::plan::{self, Draft, Order, Request};
use crate::project::required;
use crate::retry::Tries;

/// COMPAT: AP-008 an idempotency token holds for five minutes.
const TOKEN_MS: i64 = 5 * 60 * 1000;

impl Engine {
    /// Starts a build. It is durable before this returns. COMPAT: AP-050, AP-070.
    ///
    /// # Errors
    /// [`Error::InvalidInput`], [`Error::NotFound`] (project), [`Error::AccountLimitExceeded`],
    /// [`Error::Unavailable`].
    pub async fn start_build(&self, caller: &Caller, mut input: StartBuildInput) -> Result<StartBuildOutput> {
        let given = required(input.project_name.clone(), "projectName")?;
        let project = self.project(caller, &given).await?;
        let token = input.idempotency_token.take();
        let token = self.token(token, "StartBuild", &input)?;
        let build = self.accept(caller, project, input, token).await?;
        Ok(StartBuildOutput { build: Some(build) })
    }

    /// Starts a new build with the settings of an earlier one. COMPAT: LC-070.
    ///
    /// # Errors
    /// As [`Engine::start_build`]; [`Error::NotFound`] for the build or its project.
    pub async fn retry_build(&self, caller: &Caller, mut input: RetryBuildInput) -> Result<RetryBuildOutput> {
        let given = required(input.id.clone(), "id")?;
        let id = self.build_named(caller, &given)?;
        let order = self.shared.records.get_plan(&self.scope(caller), &id).await?;
        let order = order.ok_or_else(|| super::builds::no_such_build(&given))?;
        let order: Order = serde_json::from_str(&order)?;
        let token = input.idempotency_token.take();
        let token = self.token(token, "RetryBuild", &input)?;
        let build = self.accept(caller, order.settings, StartBuildInput::default(), token).await?;
        Ok(RetryBuildOutput { build: Some(build) })
    }

    fn token<T: Serialize>(
        &self,
        token: Option<String>,
        operation: &str,
        input: &T,
    ) -> Result<Option<Token>> {
        let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(None) };
        let hash = Sha256::digest(serde_json::to_vec(input)?);
        Ok(Some(Token {
            token,
            operation: operation.to_string(),
            parameters_hash: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            expires_ms: self.shared.config.clock.now_ms() + TOKEN_MS,
        }))
    }

    async fn accept(
        &self,
        caller: &Caller,
        project: Project,
        over: StartBuildInput,
        token: Option<Token>,
    ) -> Result<Build> {
        if self.shared.is_closing() {
            return Err(Error::Unavailable("The server is shutting down".to_string()));
        }
        let name = project.name.clone().unwrap_or_default();
        let cache_generation = self.shared.records.cache_generation(&self.scope(caller), &name).await?;
        let request = Request {
            uuid: self.shared.config.new_uuid.make(),
            account: caller.account.clone(),
            initiator: caller.initiator(),
            now_ms: self.shared.config.clock.now_ms(),
            tries: Tries::default(),
            cache_generation: cache_generation.unwrap_or_default(),
        };
        let draft = plan::draft(project, over, request, &self.shared.config)?;
        let acceptance = accept(self.shared.clone(), self.scope(caller), draft, token);
        // A task of its own: a client that hangs up must not leave a build accepted that nobody drives.
        let accepted = tokio::spawn(acceptance).await.map_err(Error::internal)?;
        match accepted? {
            Accepted::Build(build) => Ok(*build),
            Accepted::NoProject(name) => Err(self.no_such_project(caller, &name)),
        }
    }
}

enum Accepted {
    Build(Box<Build>),
    NoProject(String),
}

/// Stores a build, and queues it.
async fn accept(shared: Arc<Shared>, scope: Scope, draft: Draft, token: Option<Token>) -> Result<Accepted> {
    let candidate = Candidate { scope, draft };
    let (id, project) = (candidate.id().to_string(), candidate.draft.project().to_string());
    let Some(mailbox) = shared.desk().reserve(&id) else { return Err(queue_full(&shared)) };
    let (render, numbered) = candidate.render(&shared.config);
    let acceptance = shared.records.accept_build(candidate.record(token)?, render).await;
    if !matches!(acceptance, Ok(Acceptance::Accepted { .. })) {
        shared.give_back(&id);
    }
    match acceptance? {
        Acceptance::Accepted { .. } => {
            let live = candidate.accepted(numbered).await?;
            let build = live.document.clone();
            shared.config.tell_builds.tell(BuildNews::Accepted(&build));
            shared.arrive(Box::new(live), mailbox);
            Ok(Accepted::Build(Box::new(build)))
        }
        Acceptance::Replayed { document, .. } => Ok(Accepted::Build(serde_json::from_str(&document)?)),
        Acceptance::TokenMismatch => {
            Error::invalid("The idempotency token was used before with other parameters")
        }
        Acceptance::ProjectNotFound => Ok(Accepted::NoProject(project)),
    }
}

/// COMPAT: LC-065.
fn queue_full(shared: &Shared) -> Error {
    let most = shared.config.queued_builds;
    Error::AccountLimitExceeded(format!("Cannot have more than {most} builds in queue for the account"))
}

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
        let given = required(input.project_name.take(), "projectName")?;
        let token = input.idempotency_token.take();
        // A project's name and its ARN are one parameter.
        input.project_name = self.project_name(caller, &given).or_else(|| Some(given.clone()));
        let token = self.token(token, "StartBuild", &input)?;
        let accepted = token.clone();
        let start = async {
            let project = self.project(caller, &given).await?;
            self.accept(caller, project, input, accepted).await
        };
        let build = self.once(caller, token, start).await?;
        Ok(StartBuildOutput { build: Some(build) })
    }

    /// Starts a new build with the settings of an earlier one. COMPAT: LC-070.
    ///
    /// # Errors
    /// As [`Engine::start_build`]; [`Error::NotFound`] for the build or its project.
    pub async fn retry_build(&self, caller: &Caller, mut input: RetryBuildInput) -> Result<RetryBuildOutput> {
        let given = required(input.id.take(), "id")?;
        let id = self.build_named(caller, &given)?;
        let token = input.idempotency_token.take();
        input.id = Some(id.clone());
        let token = self.token(token, "RetryBuild", &input)?;
        let retry = self.retry(caller, &given, &id, token.clone());
        let build = self.once(caller, token, retry).await?;
        Ok(RetryBuildOutput { build: Some(build) })
    }

    async fn retry(&self, caller: &Caller, given: &str, id: &str, token: Option<Token>) -> Result<Build> {
        let order = self.shared.records.get_plan(&self.scope(caller), id).await?;
        let order = order.ok_or_else(|| super::builds::no_such_build(given))?;
        let order: Order = serde_json::from_str(&order)?;
        // All else that StartBuild has is in the settings.
        let over = StartBuildInput {
            debug_session_enabled: order.plan.debug_session.then_some(true),
            ..StartBuildInput::default()
        };
        self.accept(caller, order.settings, over, token).await
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

    /// What `start` starts, unless the token has started a build before. Nothing else counts then: neither what became of the
    /// project, nor who waits. COMPAT: AP-008.
    async fn once(
        &self,
        caller: &Caller,
        token: Option<Token>,
        start: impl Future<Output = Result<Build>>,
    ) -> Result<Build> {
        let Some(token) = token else { return start.await };
        let (scope, now_ms) = (self.scope(caller), self.shared.config.clock.now_ms());
        let records = &self.shared.records;
        if let Some(earlier) = records.earlier_acceptance(&scope, &token, now_ms).await? {
            return replayed(earlier);
        }
        match start.await {
            // Of the same request sent twice at once, the other may have taken the last place in the queue.
            Err(refusal) => match records.earlier_acceptance_in_turn(&scope, &token, now_ms).await? {
                Some(earlier) => replayed(earlier),
                None => Err(refusal),
            },
            build => build,
        }
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
        earlier @ (Acceptance::Replayed { .. } | Acceptance::TokenMismatch) => {
            replayed(earlier).map(|build| Accepted::Build(Box::new(build)))
        }
        Acceptance::ProjectNotFound => Ok(Accepted::NoProject(project)),
    }
}

/// The build that a token has started before.
fn replayed(earlier: Acceptance) -> Result<Build> {
    match earlier {
        Acceptance::Replayed { document, .. } => Ok(serde_json::from_str(&document)?),
        _ => Error::invalid("The idempotency token was used before with other parameters"),
    }
}

/// COMPAT: LC-065.
fn queue_full(shared: &Shared) -> Error {
    let most = shared.config.queued_builds;
    Error::AccountLimitExceeded(format!("Cannot have more than {most} builds in queue for the account"))
}

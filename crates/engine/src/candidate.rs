//! A build on its way into the store: what is stored of it, and what is driven then. Shared by whoever starts builds: callers
//! of StartBuild and RetryBuild, and builds that ask for another try.

use std::sync::Arc;

use api::codebuild::Build;
use serde::Serialize;
use store::records::{NewBuild, Scope, Token};
use tokio::sync::oneshot;

use crate::config::Config;
use crate::driver::Live;
use crate::error::{Error, Result};
use crate::lifecycle::State;
use crate::plan::{Draft, Order};

#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) scope: Scope,
    pub(crate) draft: Draft,
}

/// The build as the store has numbered it.
#[derive(Debug)]
pub(crate) struct Numbered(oneshot::Receiver<(Build, Order)>);

impl Candidate {
    pub(crate) fn id(&self) -> &str {
        &self.draft.id
    }

    /// What the store is to accept.
    pub(crate) fn record(&self, idempotency: Option<Token>) -> Result<NewBuild> {
        Ok(NewBuild {
            scope: self.scope.clone(),
            id: self.draft.id.clone(),
            project: self.draft.project().to_string(),
            status: "IN_PROGRESS".to_string(),
            created_ms: self.draft.accepted_ms(),
            lifecycle: serde_json::to_string(&self.state())?,
            idempotency,
        })
    }

    /// Makes document and order for the number that the store gives, for the store and for us.
    pub(crate) fn render(
        &self,
        config: &Arc<Config>,
    ) -> (impl FnOnce(u64) -> (String, String) + Send + 'static, Numbered) {
        let (hand_out, handed_out) = oneshot::channel();
        // No more than the configuration: the store's own thread must not be the last to hold the store.
        let (draft, config) = (self.draft.clone(), config.clone());
        let render = move |number| {
            let (build, order) = draft.numbered(number, &config);
            let stored = (to_json(&build), to_json(&order));
            // Nobody waits for it if what it was rendered for has failed.
            let _ = hand_out.send((build, order));
            stored
        };
        (render, Numbered(handed_out))
    }

    /// The accepted build, to be driven.
    pub(crate) async fn accepted(self, numbered: Numbered) -> Result<Live> {
        let (document, order) = numbered.0.await.map_err(Error::internal)?;
        let state = self.state();
        Ok(Live { scope: self.scope, id: self.draft.id, order, document, state })
    }

    fn state(&self) -> State {
        State::accepted(self.draft.accepted_ms())
    }
}

fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("these types have string keys only")
}

//! What builds used: no operation of CodeBuild's, and for whoever runs the server.

use agent::journal::PhaseUsed;
use api::AccountId;
use serde::{Deserialize, Serialize};
use store::records::Scope;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::lifecycle::State;

/// What a build used, by phases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildUsage {
    /// `project:uuid`.
    pub id: String,
    /// Those that have ended and whose agent told, in their order.
    pub phases: Vec<PhaseUsed>,
}

impl Engine {
    /// What this build has used, as stored with the latest end of a phase.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the account has no such build; [`Error::Unavailable`].
    pub async fn build_usage(&self, account: &AccountId, id: &str) -> Result<BuildUsage> {
        let scope = Scope { account: account.to_string(), region: self.region().to_string() };
        let found = self.shared.records.get_build(&scope, id).await?;
        let found = found.ok_or_else(|| Error::NotFound(format!("account {account} has no build {id}")))?;
        let state: State = serde_json::from_str(&found.lifecycle)?;
        Ok(BuildUsage { id: found.id, phases: state.used })
    }
}

//! Whose cache a project's builds share, for builds that this server does not run itself.

use agent::plan::{Cache, Elsewhere};
use api::AccountId;
use api::codebuild::Project;
use serde::{Deserialize, Serialize};
use store::objects::Owner;
use store::records::Scope;

use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::plan;

/// The cache of a project, as its next build would have it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectCache {
    pub cache: Cache,
    /// Whose buckets it may be in.
    pub buckets: Owner,
    /// Which of these are not the server's own.
    pub elsewhere: Option<Elsewhere>,
}

impl Engine {
    /// Where the builds of this project find their cache, and what they may do with it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the account has no such project; [`Error::Unavailable`].
    pub async fn project_cache(&self, account: &AccountId, name: &str) -> Result<ProjectCache> {
        let (records, config) = (&self.shared.records, &self.shared.config);
        let scope = Scope { account: account.to_string(), region: self.region().to_string() };
        let found = records.get_project(&scope, name).await?;
        let found =
            found.ok_or_else(|| Error::NotFound(format!("account {account} has no project {name}")))?;
        let project: Project = serde_json::from_str(&found.document)?;
        let generation = records.cache_generation(&scope, name).await?.unwrap_or_default();
        let cache = plan::cache(&project, account, generation, config)?;
        let (buckets, elsewhere) = (config.buckets_of(account), config.elsewhere_for(account));
        Ok(ProjectCache { cache, buckets, elsewhere })
    }
}

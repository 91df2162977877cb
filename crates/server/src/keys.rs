//! Access keys: who may sign a request, and on whose behalf.
//!
//! Long-term keys come from configuration, temporary ones (with a session token) are added and withdrawn while
//! the server runs. What a caller may *do* is in the rights that come with the key; `access` decides.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use access::{Principal, Rights};

/// Who signed a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Caller {
    /// Twelve digits.
    pub account: String,
    /// `arn:aws:iam::<account>:user/<name>` or the ARN of an assumed role.
    pub arn: String,
    /// The user's unique id, `AIDA…` at AWS.
    pub user_id: String,
    /// What this caller may do.
    pub rights: Rights,
}

impl Caller {
    /// The principal that has these rights.
    pub fn of(rights: Rights) -> Caller {
        let Principal { account, arn, user_id } = rights.principal().clone();
        Caller { account, arn, user_id, rights }
    }
}

/// One access key. `Debug` does not show the secret or the session token.
#[derive(Clone)]
pub struct AccessKey {
    /// Access key id, e.g. `AKIA…`.
    pub id: String,
    /// Secret access key.
    pub secret: String,
    /// Whom the key stands for.
    pub caller: Caller,
    /// Set for temporary keys only.
    pub session: Option<Session>,
}

/// What makes a key temporary.
#[derive(Clone)]
pub struct Session {
    /// Must accompany every request (`X-Amz-Security-Token`).
    pub token: String,
    /// Seconds since 1970 from which on the key is refused.
    pub expires_at: i64,
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey")
            .field("id", &self.id)
            .field("caller", &self.caller)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// All keys that are good now. Cheap to clone; clones share their contents.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    by_id: Arc<RwLock<HashMap<String, Arc<AccessKey>>>>,
}

impl Keys {
    /// A key list with nobody in it: every request is refused.
    pub fn new() -> Keys {
        Keys::default()
    }

    /// Adds a key, or replaces the one with the same id; the old secret is refused from then on.
    pub fn insert(&self, key: AccessKey) {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).insert(key.id.clone(), Arc::new(key));
    }

    /// Withdraws a key at once. Unknown ids are fine.
    pub fn remove(&self, id: &str) {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Withdraws temporary keys whose time was over at `now`, seconds since 1970.
    pub fn forget_expired(&self, now: i64) {
        let is_good =
            |key: &Arc<AccessKey>| key.session.as_ref().is_none_or(|session| now < session.expires_at);
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).retain(|_, key| is_good(key));
    }

    /// The key with this id.
    pub fn get(&self, id: &str) -> Option<Arc<AccessKey>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }
}

impl FromIterator<AccessKey> for Keys {
    fn from_iter<I: IntoIterator<Item = AccessKey>>(keys: I) -> Keys {
        let all = Keys::new();
        keys.into_iter().for_each(|key| all.insert(key));
        all
    }
}

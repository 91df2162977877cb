//! The server's side of `buildyard admin`: the socket, and the access keys that are good now.
//!
//! A change is in the records before it takes effect, and has taken effect before it is answered.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use access::Policy;
use api::arn::Resource;
use api::{AccountId, Arn};
use engine::Engine;
use engine::clock::Clock;
use server::{AccessKey, Caller, Keys};
use store::records::{AccessKey as Kept, Vault};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::{Answer, LINE_BYTES, Listed, Request, SOCKET, short};
use crate::credentials;
use crate::users::{ADMIN, Users, check_name};

/// What the socket is called before anybody may reach it.
const UNSEEN: &str = "admin.new";
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// All access keys: where they come from, and the list that requests are held against.
pub(crate) struct Door {
    pub(crate) vault: Vault,
    pub(crate) users: Users,
    /// The key of `credentials`, which may do everything.
    pub(crate) first: credentials::AccessKey,
    pub(crate) keys: Keys,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) engine: Engine,
}

impl Door {
    /// Makes every key good that is in the configuration, or in the records and not disabled.
    pub(crate) async fn load(&self) -> Result<(), String> {
        for kept in self.vault.access_keys().await.map_err(|e| e.to_string())? {
            if kept.enabled {
                self.admit(&kept)?;
            }
        }
        // The configuration has the last word.
        for user in &self.users.users {
            user.keys.iter().for_each(|key| self.insert(&user.account, &user.name, key, None));
        }
        self.insert(&self.users.accounts[0], ADMIN, &self.first, None);
        Ok(())
    }

    fn admit(&self, kept: &Kept) -> Result<(), String> {
        let Kept { id, secret, account, user, policy, .. } = kept;
        let policy = policy.as_deref().map(Policy::of_user).transpose();
        let policy = policy.map_err(|e| format!("the policy of access key {id}: {e}"))?;
        let key = credentials::AccessKey { id: id.clone(), secret: secret.clone() };
        self.insert(account, user, &key, policy);
        Ok(())
    }

    fn insert(&self, account: &str, user: &str, key: &credentials::AccessKey, policy: Option<Policy>) {
        let caller = Caller::of(self.users.rights(account, user, policy));
        let credentials::AccessKey { id, secret } = key.clone();
        self.keys.insert(AccessKey { id, secret, caller, session: None });
    }

    /// Answers at the socket for as long as it is polled: one request after the other, so that records and keys agree.
    pub(crate) async fn answer(&self, listener: UnixListener) {
        loop {
            let answered = match listener.accept().await {
                Ok((stream, _)) => tokio::time::timeout(PATIENCE, self.converse(stream)).await,
                // Descriptors run out, and come back one by one.
                Err(error) => {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    Ok(Err(error))
                }
            };
            match answered {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "an admin request could not be read or answered"),
                Err(_) => tracing::warn!("an admin request took too long"),
            }
        }
    }

    async fn converse(&self, mut stream: UnixStream) -> std::io::Result<()> {
        let (read, mut write) = stream.split();
        let mut line = String::new();
        BufReader::new(read.take(LINE_BYTES)).read_line(&mut line).await?;
        let answer = match serde_json::from_str(&line) {
            Ok(request) => self.perform(request).await.unwrap_or_else(Answer::Refused),
            Err(error) => Answer::Refused(format!("not a request: {error}")),
        };
        let answer = serde_json::to_string(&answer).expect("texts are JSON");
        write.write_all(format!("{answer}\n").as_bytes()).await
    }

    async fn perform(&self, request: Request) -> Result<Answer, String> {
        match request {
            Request::Create { user, account, policy } => self.create(user, account, policy).await,
            Request::List => Ok(Answer::Keys(self.list().await?)),
            Request::Cache { project } => self.project_cache(&project).await,
            Request::Usage { id } => self.build_usage(&id).await,
            Request::Disable { id } => {
                self.refuse_configured(&id)?;
                self.found(&id, self.vault.enable_access_key(&id, false).await)?;
                self.keys.remove(&id);
                Ok(Answer::Done)
            }
            Request::Enable { id } => {
                self.refuse_configured(&id)?;
                self.found(&id, self.vault.enable_access_key(&id, true).await)?;
                let kept = self.vault.access_keys().await.map_err(|e| e.to_string())?;
                kept.iter().filter(|kept| kept.id == id).try_for_each(|kept| self.admit(kept))?;
                Ok(Answer::Done)
            }
            Request::Delete { id } => {
                self.refuse_configured(&id)?;
                self.found(&id, self.vault.delete_access_key(&id).await)?;
                self.keys.remove(&id);
                Ok(Answer::Done)
            }
        }
    }

    async fn create(
        &self,
        user: String,
        account: Option<String>,
        policy: Option<String>,
    ) -> Result<Answer, String> {
        let account = account.unwrap_or_else(|| self.users.accounts[0].clone());
        self.users.check_account(&account)?;
        check_name(&user).map_err(|rule| format!("user `{user}` {rule}"))?;
        let is_admin = user == ADMIN && account == self.users.accounts[0];
        if policy.is_none() && !is_admin && self.users.find(&account, &user).is_none() {
            return Err(format!(
                "the configuration has no user {user} in account {account}; give the key a policy of its own with --policy"
            ));
        }
        let made = credentials::generate().map_err(|e| format!("no randomness: {e}"))?;
        let kept = Kept {
            id: made.id,
            secret: made.secret,
            account,
            user,
            policy,
            enabled: true,
            created_ms: self.clock.now_ms(),
        };
        // What is wrong with a policy is said before anything is kept.
        kept.policy.as_deref().map(Policy::of_user).transpose().map_err(|e| format!("policy: {e}"))?;
        self.vault.insert_access_key(kept.clone()).await.map_err(|e| e.to_string())?;
        self.admit(&kept)?;
        let Kept { id, secret, account, user, .. } = kept;
        Ok(Answer::Created { id, secret, account, user })
    }

    async fn list(&self) -> Result<Vec<Listed>, String> {
        let listed = |id: &str, account: &str, user: &str| Listed {
            id: id.to_owned(),
            account: account.to_owned(),
            user: user.to_owned(),
            enabled: true,
            configured: true,
            policy: None,
        };
        let mut all = vec![listed(&self.first.id, &self.users.accounts[0], ADMIN)];
        for user in &self.users.users {
            all.extend(user.keys.iter().map(|key| listed(&key.id, &user.account, &user.name)));
        }
        let kept = self.vault.access_keys().await.map_err(|e| e.to_string())?;
        all.extend(kept.into_iter().map(|kept| Listed {
            enabled: kept.enabled,
            configured: false,
            policy: kept.policy,
            ..listed(&kept.id, &kept.account, &kept.user)
        }));
        Ok(all)
    }

    /// Of a project's name in the default account, or its ARN in any.
    async fn project_cache(&self, project: &str) -> Result<Answer, String> {
        let arn: Option<Arn> = project.parse().ok();
        let named = arn.as_ref().and_then(|arn| match arn.codebuild_resource() {
            Some(Resource::Project(name)) => Some((arn.account(), name)),
            _ => None,
        });
        let (account, name) = named.unwrap_or((&self.users.accounts[0], project));
        let account: AccountId = account.parse().map_err(|e| format!("{project}: {e}"))?;
        let found = self.engine.project_cache(&account, name).await;
        found.map(Answer::Cache).map_err(|e| e.to_string())
    }

    /// Of a build's id in the default account, or its ARN in any.
    async fn build_usage(&self, build: &str) -> Result<Answer, String> {
        let arn: Option<Arn> = build.parse().ok();
        let named = arn.as_ref().and_then(|arn| match arn.codebuild_resource() {
            Some(Resource::Build(id)) => Some((arn.account(), id)),
            _ => None,
        });
        let (account, id) = named.unwrap_or((&self.users.accounts[0], build));
        let account: AccountId = account.parse().map_err(|e| format!("{build}: {e}"))?;
        let found = self.engine.build_usage(&account, id).await;
        found.map(Answer::Usage).map_err(|e| e.to_string())
    }

    fn refuse_configured(&self, id: &str) -> Result<(), String> {
        let mut configured = self.users.users.iter().flat_map(|user| &user.keys).chain([&self.first]);
        match configured.any(|key| key.id == id) {
            true => Err(format!("access key {id} is in the configuration, and is changed there")),
            false => Ok(()),
        }
    }

    fn found(&self, id: &str, changed: store::Result<bool>) -> Result<(), String> {
        match changed.map_err(|e| e.to_string())? {
            true => Ok(()),
            false => Err(format!("there is no access key {id}")),
        }
    }
}

/// The socket in this data folder. It is the owner's only, from its first moment on: it is made beside and moved into place.
pub(crate) fn listen(data: &Path) -> Result<UnixListener, String> {
    bind(data).map_err(|e| format!("cannot listen at {}: {e}", data.join(SOCKET).display()))
}

fn bind(data: &Path) -> std::io::Result<UnixListener> {
    let beside = data.join(UNSEEN);
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(short(&File::open(data)?, UNSEEN))?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&beside, data.join(SOCKET))?;
    Ok(listener)
}

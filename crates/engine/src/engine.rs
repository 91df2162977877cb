//! The engine as a whole: starting it, stopping it, and the tasks in between. What callers ask of it is in
//! `operations`.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use executor::{Adopted, Executor, Remains};
use store::records::{Build, IncompleteBuild, Records, Scope, Vault};
use tokio::sync::Notify;

use crate::closing::Closing;
use crate::config::Config;
use crate::desk::{Arrival, Desk, Mailbox, Taken, Why};
use crate::driver::{Driver, Live, Patience, Start};
use crate::error::{Error, Result};
use crate::queue::{Limits, Load, Running, Waiting};

/// All operations on projects and builds, and the tasks that drive builds. Cheap to clone; all clones are one engine.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(crate) shared: Arc<Shared>,
    _last_one_out: Arc<Closer>,
}

/// What operations, drivers and the queue's task share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Arc<Config>,
    pub(crate) records: Records,
    pub(crate) vault: Vault,
    pub(crate) executor: Arc<dyn Executor>,
    pub(crate) closing: Closing,
    desk: Mutex<Desk>,
    /// Not everything that runs already is counted yet: nothing may start.
    recovering: AtomicBool,
    /// Something joined the queue.
    queue_changed: Notify,
    /// A driver is done, or an acceptance.
    driver_left: Notify,
}

/// Tells the tasks to leave when the last handle is dropped.
#[derive(Debug)]
struct Closer(Arc<Shared>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.closing.begin();
    }
}

impl Engine {
    /// Takes up every build that is not over where the last engine left it, then goes on with the queue in the
    /// order of acceptance.
    ///
    /// # Errors
    /// [`Error::Internal`] if the store cannot be read. A build that cannot be understood is reported and skipped.
    pub async fn start(
        config: Config,
        records: Records,
        vault: Vault,
        executor: Arc<dyn Executor>,
    ) -> Result<Engine> {
        let desk = Desk::new(Limits {
            concurrent: config.concurrent_builds,
            waiting: config.queued_builds,
            of_compute_types: config.concurrent_builds_of.clone(),
        });
        let shared = Arc::new(Shared {
            config: Arc::new(config),
            records,
            vault,
            executor,
            closing: Closing::default(),
            desk: Mutex::new(desk),
            recovering: AtomicBool::new(true),
            queue_changed: Notify::new(),
            driver_left: Notify::new(),
        });
        shared.recover().await?;
        shared.recovering.store(false, Ordering::Relaxed);
        tokio::spawn(shared.clone().expire_builds());
        shared.admit();
        Ok(Engine { _last_one_out: Arc::new(Closer(shared.clone())), shared })
    }

    /// How much there is to do, whenever it is asked. Whoever asks does not keep the engine: once it is gone, there is nothing.
    pub fn load(&self) -> impl Fn() -> Load + Clone + Send + Sync + 'static {
        let shared = Arc::downgrade(&self.shared);
        move || shared.upgrade().map(|shared| shared.desk().load()).unwrap_or_default()
    }

    /// Whether a build, `project:uuid`, has been accepted and is not over.
    pub fn is_under_way(&self, build_id: &str) -> bool {
        self.shared.desk().has(build_id)
    }

    /// Whether a build, `project:uuid`, is in the queue.
    pub fn is_waiting(&self, build_id: &str) -> bool {
        self.shared.desk().standing(build_id).is_some()
    }

    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Refuses new builds, lets go of the running ones, whose agents go on, and returns when all is stored.
    pub async fn shut_down(&self) {
        self.shared.closing.begin();
        loop {
            let left = self.shared.driver_left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.shared.desk().is_idle() {
                return;
            }
            left.await;
        }
    }
}

impl Shared {
    pub(crate) fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.has_begun()
    }

    /// Starts every build that may start now.
    pub(crate) fn admit(self: &Arc<Self>) {
        if self.is_closing() || self.recovering.load(Ordering::Relaxed) {
            return;
        }
        let admitted = self.desk().admit();
        admitted.into_iter().for_each(|taken| self.start_driver(taken));
    }

    /// Puts an accepted build into the queue, and starts what may start.
    pub(crate) fn arrive(self: &Arc<Self>, live: Box<Live>, mailbox: Mailbox) {
        let (build, id) = (self.waiting(&live, 0), live.id.clone());
        let stopped = {
            let mut desk = self.desk();
            desk.reservation_used();
            desk.arrive(build, mailbox, Arrival::Live(live))
        };
        stopped.into_iter().for_each(|taken| self.start_driver(taken));
        self.admit();
        self.desk().forget_live(&id);
        self.queue_changed.notify_one();
        self.driver_left();
    }

    /// A build that had its place in the limits waits for its turn again: no agent has ever started for it.
    pub(crate) fn wait_again(self: &Arc<Self>, live: Box<Live>, mailbox: Mailbox) {
        let build = self.waiting(&live, self.waited_ms(&live));
        let stopped = {
            let mut desk = self.desk();
            desk.free(&live.id);
            desk.arrive(build, mailbox, Arrival::Stored(live.scope))
        };
        stopped.into_iter().for_each(|taken| self.start_driver(taken));
        self.admit();
        self.queue_changed.notify_one();
        self.driver_left();
    }

    /// A build was not accepted after all.
    pub(crate) fn give_back(&self, build_id: &str) {
        self.desk().give_back(build_id);
        self.driver_left();
    }

    pub(crate) fn start_driver(self: &Arc<Self>, taken: Taken) {
        let shared = self.clone();
        tokio::spawn(async move {
            let Taken { scope, build_id, mailbox, live, why } = taken;
            let live = match live {
                Some(live) => live,
                None => match shared.load(&scope, &build_id).await {
                    Ok(Some(live)) => Box::new(live),
                    Ok(None) => return shared.let_go(&build_id),
                    Err(error) => return shared.abandon(&build_id, &error),
                },
            };
            let start = match why {
                Why::Admitted => Start::Admitted,
                Why::Stopped => Start::Stopped,
                Why::Expired => Start::Expired,
            };
            Driver::new(shared, live, mailbox).run(start).await;
        });
    }

    /// A driver lets go of its build: its place is free.
    pub(crate) fn leave(self: &Arc<Self>, build_id: &str) {
        self.desk().leave(build_id);
        self.admit();
    }

    pub(crate) fn driver_left(&self) {
        self.driver_left.notify_waiters();
    }

    /// A build that makes no sense: the next start tries again.
    fn abandon(self: &Arc<Self>, build_id: &str, error: &Error) {
        tracing::error!(build = %build_id, %error, "the build cannot be read; leaving it for the next start");
        self.let_go(build_id);
    }

    fn let_go(self: &Arc<Self>, build_id: &str) {
        self.leave(build_id);
        self.driver_left();
    }

    /// The build as it is stored, asked for until the store can tell. None: we are shutting down.
    async fn load(&self, scope: &Scope, build_id: &str) -> Result<Option<Live>> {
        let mut patience = Patience::new("the build cannot be read; trying on", &self.config.clock);
        loop {
            match self.stored(scope, build_id).await {
                Ok(Some((build, plan))) => return Live::read(build, &plan).map(Some),
                Ok(None) => return Err(Error::internal(format!("build {build_id} is not in the store"))),
                Err(error) => patience.complain(build_id, &error),
            }
            if !patience.wait(&self.closing).await {
                return Ok(None);
            }
        }
    }

    async fn stored(&self, scope: &Scope, build_id: &str) -> store::Result<Option<(Build, String)>> {
        let build = self.records.get_build(scope, build_id).await?;
        let plan = self.records.get_plan(scope, build_id).await?;
        Ok(build.zip(plan))
    }

    /// How long a build that was found again has waited, by the wall clock: there is no other that went on meanwhile.
    fn waited_ms(&self, live: &Live) -> i64 {
        self.config.clock.now_ms() - live.state.phases[0].started_ms
    }

    fn waiting(&self, live: &Live, waited_ms: i64) -> Waiting {
        let settings = &live.order.settings;
        let compute_type =
            settings.environment.as_ref().and_then(|environment| environment.compute_type.as_ref());
        let patience_ms = i64::from(settings.queued_timeout_in_minutes.unwrap_or_default()) * 60_000;
        // A clock that jumped while we were away must not make a build wait longer than it may, or not at all.
        let left_ms = patience_ms - waited_ms.clamp(0, patience_ms);
        Waiting {
            build_id: live.id.clone(),
            project: format!("{}:{}", live.scope.account, live.order.plan.project_name),
            project_limit: settings.concurrent_build_limit.and_then(|limit| usize::try_from(limit).ok()),
            compute_type: compute_type.map(|one| one.as_str().to_string()).unwrap_or_default(),
            deadline: self.config.clock.uptime_ms().saturating_add(left_ms),
        }
    }

    // ---- recovery -------------------------------------------------------------------------------------------

    async fn recover(self: &Arc<Self>) -> Result<()> {
        let incomplete = self.records.incomplete_builds().await?;
        let mut known = HashSet::new();
        for IncompleteBuild { build, plan } in incomplete {
            let id = build.id.clone();
            known.extend(id.rsplit(':').next().map(str::to_string));
            match Live::read(build, &plan) {
                Ok(live) => self.take_up(Box::new(live)).await,
                Err(error) => tracing::error!(build = %id, %error, "the stored build cannot be understood"),
            }
        }
        self.remove_leftovers(&known).await;
        Ok(())
    }

    /// Finds out what became of one build, and goes on from there.
    async fn take_up(self: &Arc<Self>, live: Box<Live>) {
        let start = match self.executor.adopt(&live.order.plan.uuid).await {
            Ok(Adopted::Running(link)) => Start::Adopted(link),
            Ok(Adopted::Dead(remains)) => Start::Dead(remains),
            // It had an agent once: only a lost disk can have taken that from us. Its commands ran.
            Ok(Adopted::NeverStarted) if live.state.launched => Start::Dead(Remains::default()),
            Ok(Adopted::NeverStarted) if live.state.stop_requested => Start::Stopped,
            Ok(Adopted::NeverStarted) => return self.queue_again(live),
            Err(error) => {
                tracing::warn!(build = %live.id, %error, "what became of the build cannot be told yet");
                Start::Unknown
            }
        };
        let mailbox = self.desk().open_mailbox(&live.id);
        if matches!(start, Start::Adopted(_) | Start::Unknown) {
            let Waiting { project, compute_type, .. } = self.waiting(&live, 0);
            self.desk().occupy(&live.id, Running { project, compute_type });
        }
        tokio::spawn(Driver::new(self.clone(), live, mailbox).run(start));
    }

    fn queue_again(&self, live: Box<Live>) {
        let build = self.waiting(&live, self.waited_ms(&live));
        let mut desk = self.desk();
        let mailbox = desk.open_mailbox(&live.id);
        // The mailbox is new and empty, so the build does not come back.
        desk.arrive(build, mailbox, Arrival::Stored(live.scope));
    }

    /// Builds that ended, but were not tidied up after.
    async fn remove_leftovers(&self, known: &HashSet<String>) {
        let remaining = self.executor.remaining().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "what is left of ended builds cannot be told");
            Vec::new()
        });
        for uuid in remaining.iter().filter(|uuid| !known.contains(*uuid)) {
            if let Err(error) = self.executor.remove(uuid).await {
                tracing::warn!(%uuid, %error, "what an ended build left could not be removed");
            }
        }
    }

    // ---- the queue's time -----------------------------------------------------------------------------------

    /// Ends builds whose time in the queue is over.
    async fn expire_builds(self: Arc<Self>) {
        let clock = self.config.clock.clone();
        loop {
            let deadline = self.desk().next_deadline();
            let due = async {
                match deadline {
                    Some(deadline) => clock.sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = self.closing.begun() => return,
                () = due => {}
                () = self.queue_changed.notified() => {}
            }
            let expired = self.desk().expire(clock.uptime_ms());
            expired.into_iter().for_each(|taken| self.start_driver(taken));
        }
    }
}

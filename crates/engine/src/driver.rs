//! Drives one build from the queue to its end: the only task that changes it.
//!
//! It gives the build an agent (or takes up the one it has), reads what the agent journals, stores each new state
//! before anybody is told of it, and cleans up at the end. What a state means is `lifecycle`'s; a build's failure
//! is data here, and only faults of ours are errors.

mod reports;

use std::io;
use std::path::Path;
use std::sync::Arc;

use agent::journal::{Context, Outcome};
use agent::role::Role;
use api::codebuild::Build;
use executor::{Adopted, Link, Remains, Signal};
use store::logs::{Position, SegmentReader, SegmentWriter};
use store::objects::Objects;
use store::records::{BuildUpdate, LogGroup, LogStream, Scope, Succession};

use crate::candidate::Candidate;
use crate::clock::Clock;
use crate::closing::Closing;
use crate::config::{BuildNews, Config, Image, WantedImage};
use crate::desk::{Ask, Mailbox};
use crate::document;
use crate::engine::Shared;
use crate::error::{Error, Result};
use crate::git::WithGit;
use crate::lifecycle::{Effect, Event, Phase, State, step, timed_out};
use crate::log_object::LogObject;
use crate::plan::{Order, Stream};
use crate::references::{Lookup, References};
use crate::registry_login;
use crate::retry;
use crate::utilization;

/// How much longer than the build's own timeout an agent gets to end the build by itself.
const OVERDUE_MS: i64 = 30_000;
/// How long an agent gets to end a stopped build; the promise to the caller is 10 s.
const STOPPING_MS: i64 = 8_000;
/// How long an image may take to be found until somebody who looks should see that the build waits for it.
const AT_ONCE_MS: i64 = 20;
/// How long to wait before what could not be stored, or read, is tried again.
pub(crate) const RETRY_MS: i64 = 1000;

/// A build in memory.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) scope: Scope,
    pub(crate) id: String,
    pub(crate) order: Order,
    pub(crate) document: Build,
    pub(crate) state: State,
}

/// Where a driver takes a build up.
#[derive(Debug)]
pub(crate) enum Start {
    /// The queue let it through: give it an agent.
    Admitted,
    /// It was stopped before it started; the mailbox or the state says so.
    Stopped,
    /// It waited too long.
    Expired,
    /// Its agent was found running.
    Adopted(Link),
    /// What became of its agent could not be told.
    Unknown,
    /// Its agent was found dead, with this journal.
    Dead(Remains),
}

/// How the driving of a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The build is over, and stored so.
    Over,
    /// We are shutting down; the agent goes on, and the next server takes the build up.
    Left,
    /// No agent ever started for it: it waits for its turn.
    Waits,
}

#[derive(Debug)]
pub(crate) struct Driver {
    shared: Arc<Shared>,
    live: Box<Live>,
    mailbox: Mailbox,
    closing: Closing,
    /// Why we killed the agent, if we did.
    killed: Option<Outcome>,
    /// Why the journal of the agent that is gone ends where it does, if it should not.
    damage: Option<String>,
    /// Readers know where the log is.
    stream_made: bool,
    references: Arc<dyn References>,
    /// The build's image stays.
    image: Option<crate::config::KeptImage>,
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>, live: Box<Live>, mailbox: Mailbox) -> Driver {
        let closing = shared.closing.clone();
        let (config, vault) = (&shared.config, shared.vault.clone());
        let role = service_role(config, &live);
        let references = Arc::new(WithGit::new(config, vault, &live.order.settings, role));
        Driver {
            shared,
            live,
            mailbox,
            closing,
            killed: None,
            damage: None,
            stream_made: false,
            references,
            image: None,
        }
    }

    /// Drives the build to its end, or until we shut down.
    pub(crate) async fn run(mut self, start: Start) {
        let driven = match self.drive(start).await {
            Ok(end) => end,
            Err(error) => self.fault(&error).await,
        };
        // The place is free before the tidying up, which nobody has to wait for but who shuts down.
        match driven {
            End::Over => {
                self.shared.desk().leave_untidy(&self.live.id);
                self.shared.admit();
                self.tidy_up().await;
                self.shared.desk().tidied_up();
            }
            End::Left => self.shared.leave(&self.live.id),
            End::Waits => return self.shared.clone().wait_again(self.live, self.mailbox),
        }
        self.shared.driver_left();
    }

    async fn drive(&mut self, start: Start) -> Result<End> {
        match start {
            Start::Admitted if self.mailbox.is_empty() => self.launch().await,
            Start::Admitted | Start::Stopped => self.stop_unlaunched().await,
            Start::Expired => {
                let at_ms = self.now_ms();
                self.apply(Event::QueuedTimedOut { at_ms });
                self.finish().await
            }
            Start::Adopted(link) => self.follow(link).await,
            Start::Unknown => self.take_up().await,
            Start::Dead(remains) => self.inherit(remains).await,
        }
    }

    // ---- giving the build an agent --------------------------------------------------------------------------

    async fn launch(&mut self) -> Result<End> {
        let at_ms = self.now_ms();
        if !self.apply(Event::Admitted { at_ms }).contains(&Effect::Launch) {
            return self.finish().await;
        }
        if let Some(image) = self.live.order.image.clone() {
            match self.resolve_image(image).await? {
                Resolved::Image(image) => self.use_image(image),
                Resolved::Failed(reason) => {
                    return self.end_unlaunched(Outcome::Failed, cannot_pull(&reason)).await;
                }
                Resolved::Stopped => return self.end_unlaunched(Outcome::Stopped, Context::default()).await,
                Resolved::TimedOut => return self.end_unlaunched(Outcome::TimedOut, timed_out()).await,
                Resolved::Left => return Ok(End::Left),
            }
        }
        self.start_agent().await
    }

    /// Stores PROVISIONING and starts the agent side by side: recovery looks for an agent before it believes the
    /// stored state, so neither has to wait for the other.
    async fn start_agent(&mut self) -> Result<End> {
        make_folder(self.live.order.plan.log.parent()).map_err(Error::internal)?;
        self.live.order.plan.endpoint = self.endpoint();
        self.live.order.plan.role = service_role(&self.shared.config, &self.live);
        let plan = &self.live.order.plan;
        let launch = self.shared.executor.launch(&plan.uuid, plan);
        let (launched, stream_made) = tokio::join!(launch, self.show_provisioning());
        self.stream_made = stream_made;
        match launched {
            Ok(link) => self.follow(link).await,
            Err(error) => {
                tracing::error!(build = %self.live.id, %error, "no agent could be started");
                let context = fault("The build's environment could not be started");
                self.end_unlaunched(Outcome::Fault, context).await
            }
        }
    }

    /// Told to the agent when it starts: it holds a secret, which is in no record.
    fn endpoint(&self) -> Option<agent::plan::Endpoint> {
        let endpoint = self.shared.config.endpoint.as_ref()?;
        Some(agent::plan::Endpoint {
            socket: endpoint.socket.clone(),
            account: self.live.scope.account.clone(),
            credentials: (endpoint.credentials)(&self.live.id),
        })
    }

    /// Stores the log's place and PROVISIONING, in this order: who reads of a log stream finds it (SA-122). What
    /// fails here is made good later: the build goes on meanwhile. True if the place is stored.
    async fn show_provisioning(&self) -> bool {
        let stream = self.make_stream().await;
        let stored = self.store().await;
        if let Some(error) = stored.err().as_ref().or(stream.as_ref().err()) {
            tracing::error!(build = %self.live.id, %error, "PROVISIONING could not be stored");
        }
        stream.is_ok()
    }

    /// One that is here is found at once, and nothing waits for what is stored, as without an image. Any other may take minutes: PROVISIONING
    /// is shown meanwhile, the build can be stopped, and its time runs.
    async fn resolve_image(&mut self, image: String) -> Result<Resolved> {
        let resolving = self.pull(image);
        tokio::pin!(resolving);
        let clock = self.shared.config.clock.clone();
        let over = clock.sleep_until(clock.uptime_ms().saturating_add(self.time_left_ms()));
        let soon = clock.sleep_until(clock.uptime_ms().saturating_add(AT_ONCE_MS));
        tokio::pin!(over, soon);
        let mut is_shown = false;
        loop {
            tokio::select! {
                biased;
                () = self.closing.begun() => return Ok(Resolved::Left),
                Some(ask) = self.mailbox.recv() => {
                    self.hear(ask).await;
                    return Ok(Resolved::Stopped);
                }
                resolved = &mut resolving => {
                    return Ok(resolved?.map_or_else(Resolved::Failed, Resolved::Image));
                }
                () = &mut over => return Ok(Resolved::TimedOut),
                () = &mut soon, if !is_shown => {
                    self.stream_made = self.show_provisioning().await;
                    is_shown = true;
                }
            }
        }
    }

    /// The image, or why there is none.
    fn pull(&self, name: String) -> impl Future<Output = Result<std::result::Result<Image, String>>> + use<> {
        let (references, scope) = (self.references.clone(), self.live.scope.clone());
        let (settings, images) = (self.live.order.settings.clone(), self.shared.config.images.clone());
        async move {
            match registry_login::puller(&settings, &*references, &scope).await? {
                Ok(puller) => Ok(images.resolve(WantedImage { name, puller }).await),
                Err(reason) => Ok(Err(reason)),
            }
        }
    }

    /// Of the build's own time, which begins with PROVISIONING. COMPAT: LC-063 the time in the queue does not count.
    fn time_left_ms(&self) -> i64 {
        let Live { order, state, .. } = &*self.live;
        let timeout_ms = i64::try_from(order.plan.timeout_seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
        let begun = state.phases.iter().find(|record| record.phase == Phase::Provisioning);
        let gone_ms = begun.map_or(0, |record| self.now_ms() - record.started_ms);
        timeout_ms - gone_ms.clamp(0, timeout_ms)
    }

    fn use_image(&mut self, image: Image) {
        let left_seconds = self.time_left_ms() / 1000;
        self.live.order.plan.timeout_seconds = u64::try_from(left_seconds).unwrap_or_default().max(1);
        let environment = &mut self.live.order.plan.environment;
        environment.rootfs = image.rootfs;
        environment.variables = image.variables;
        self.image = image.held;
    }

    /// Ends a build that was stopped before any agent had it; answers after the end is stored.
    async fn stop_unlaunched(&mut self) -> Result<End> {
        let at_ms = self.now_ms();
        self.apply(Event::StopRequested { at_ms });
        let end = self.end_unlaunched(Outcome::Stopped, Context::default()).await;
        while let Ok(ask) = self.mailbox.try_recv() {
            self.hear(ask).await;
        }
        end
    }

    /// Ends a build that no agent has.
    async fn end_unlaunched(&mut self, outcome: Outcome, context: Context) -> Result<End> {
        let at_ms = self.now_ms();
        self.apply(Event::ProvisioningFailed { at_ms, outcome, context });
        self.finish().await
    }

    // ---- following the agent --------------------------------------------------------------------------------

    /// Follows the build through its agent to the end. If we cannot, nobody can: the agent is ended.
    async fn follow(&mut self, mut link: Link) -> Result<End> {
        self.leave_queue();
        match self.follow_link(&mut link).await {
            Err(error) => match self.bury(link).await {
                // What cannot be read on of an agent that lives was damaged as much as a dead one's.
                Some(remains) if remains.damage.is_some() => self.inherit(remains).await,
                _ => Err(error),
            },
            followed => followed,
        }
    }

    async fn follow_link(&mut self, link: &mut Link) -> Result<End> {
        let (mut offset, mut lookup) = (0, Lookup::default());
        let clock = self.shared.config.clock.clone();
        let mut overdue = clock.sleep_until(self.overdue_ms());
        if self.live.state.stop_requested {
            link.stop().await;
            overdue = clock.sleep_until(clock.uptime_ms() + STOPPING_MS);
        }
        loop {
            // What the agent has to say comes last: it may say much, and must not keep us from ending it.
            tokio::select! {
                biased;
                () = self.closing.begun() => return Ok(End::Left),
                () = &mut overdue => {
                    let stopped = self.live.state.stop_requested;
                    tracing::warn!(build = %self.live.id, stopped, "the agent does not end the build; killing it");
                    self.killed = Some(if stopped { Outcome::Stopped } else { Outcome::TimedOut });
                    link.kill();
                    overdue = Box::pin(std::future::pending());
                }
                Some(ask) = self.mailbox.recv() => {
                    if self.hear(ask).await {
                        link.stop().await;
                        overdue = clock.sleep_until(clock.uptime_ms() + STOPPING_MS);
                    }
                }
                answer = lookup.answer() => link.answer(answer?).await,
                signal = link.signal() => match signal {
                    Signal::JournalGrew => {
                        offset = self.read_journal(link, offset, &mut lookup).await?;
                        if self.settle().await? {
                            return Ok(End::Over);
                        }
                    }
                    Signal::LogGrew => self.wake_readers(),
                    Signal::Lost => {
                        self.read_journal(link, offset, &mut lookup).await?;
                        if self.live.state.is_over() {
                            return self.finish().await;
                        }
                        match self.find_agent().await {
                            None => return Ok(End::Left),
                            Some(Adopted::Running(found)) => (*link, offset) = (found, 0),
                            Some(Adopted::Dead(remains)) => return self.inherit(remains).await,
                            Some(Adopted::NeverStarted) => return self.lose_agent().await,
                        }
                        if self.live.state.stop_requested {
                            link.stop().await;
                            overdue = clock.sleep_until(clock.uptime_ms() + STOPPING_MS);
                        }
                    }
                },
            }
        }
    }

    async fn read_journal(&mut self, link: &Link, offset: u64, lookup: &mut Lookup) -> Result<u64> {
        let (reports, offset) = link.events_after(offset).map_err(Error::internal)?;
        lookup.begin(&self.references, &self.live.scope, &reports);
        let needed = reports::needed(&reports);
        self.take_in(reports).await;
        if let Some(groups) = needed
            && let Some(answer) = self.open_reports(&groups).await
        {
            link.answer(answer).await;
        }
        Ok(offset)
    }

    /// Stores what has changed; true once the build is over.
    async fn settle(&mut self) -> Result<bool> {
        if self.live.state.is_over() {
            return self.finish().await.map(|end| end == End::Over);
        }
        self.store_until_kept().await;
        Ok(false)
    }

    /// What became of the build's agent, asked for as long as it cannot be told: an agent that may be alive must not be given
    /// up, or its commands would go on with nobody to stop them. Once the build's time is over, it is not: an agent ends its
    /// build in time, whoever can reach it. None: we are shutting down.
    async fn find_agent(&mut self) -> Option<Adopted> {
        let clock = self.shared.config.clock.clone();
        let mut overdue = clock.sleep_until(self.overdue_ms());
        let mut patience = self.patience("what became of the build's agent cannot be told; asking on");
        loop {
            match self.shared.executor.adopt(self.uuid()).await {
                Ok(found) => return Some(found),
                Err(error) => patience.complain(&self.live.id, &error),
            }
            tokio::select! {
                biased;
                () = &mut overdue => return Some(Adopted::Dead(Remains::default())),
                goes_on = patience.wait(&self.closing) => if !goes_on {
                    return None;
                },
                Some(ask) = self.mailbox.recv() => {
                    self.leave_queue();
                    self.hear(ask).await;
                }
            }
        }
    }

    /// A build that may have an agent is beyond the queue, whatever was stored of it: a stop has somebody to tell.
    fn leave_queue(&mut self) {
        if self.live.state.phase() == Phase::Queued {
            let at_ms = self.now_ms();
            self.apply(Event::Admitted { at_ms });
        }
    }

    /// The uptime at which the agent must have ended the build by itself.
    fn overdue_ms(&self) -> i64 {
        let timeout_ms = self.live.order.plan.timeout_seconds.saturating_mul(1000);
        let timeout_ms = i64::try_from(timeout_ms).unwrap_or(i64::MAX);
        self.shared.config.clock.uptime_ms().saturating_add(timeout_ms.saturating_add(OVERDUE_MS))
    }

    /// Goes on with a build whose agent could not be found at first.
    async fn take_up(&mut self) -> Result<End> {
        match self.find_agent().await {
            None => Ok(End::Left),
            Some(Adopted::Running(link)) => self.follow(link).await,
            Some(Adopted::Dead(remains)) => self.inherit(remains).await,
            // It had an agent once: only a lost disk can have taken that from us. Its commands ran.
            Some(Adopted::NeverStarted) if self.live.state.launched => self.lose_agent().await,
            Some(Adopted::NeverStarted) if self.live.state.stop_requested => self.stop_unlaunched().await,
            // Its place was kept for an agent that might have been there. Others may have that turn now.
            Some(Adopted::NeverStarted) => Ok(End::Waits),
        }
    }

    /// Kills the agent, and removes what it leaves but for what it has written.
    async fn bury(&self, mut link: Link) -> Option<Remains> {
        link.kill();
        while link.signal().await != Signal::Lost {}
        match self.shared.executor.adopt(self.uuid()).await {
            Ok(Adopted::Dead(remains)) => Some(remains),
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(build = %self.live.id, %error, "what a killed agent left could not be removed");
                None
            }
        }
    }

    /// The agent is gone, and this is what it had written.
    async fn inherit(&mut self, remains: Remains) -> Result<End> {
        self.take_in(remains.events).await;
        self.damage = remains.damage;
        self.lose_agent().await
    }

    /// The agent is gone: the build is over, one way or the other.
    async fn lose_agent(&mut self) -> Result<End> {
        if !self.live.state.is_over() {
            let (outcome, context) = self.verdict();
            let at_ms = self.now_ms();
            self.apply(Event::AgentLost { at_ms, outcome, context });
        }
        self.recover_objects().await;
        self.finish().await
    }

    /// The agent may have been killed while it gave a set of objects their names.
    async fn recover_objects(&self) {
        let root = self.shared.config.objects.clone();
        let recovered = self.shared.config.file_work.run(move || Objects::open(&root)?.recover()).await;
        if let Ok(Err(error)) = recovered {
            tracing::warn!(build = %self.live.id, %error, "objects of a lost build cannot be taken back yet");
        }
    }

    /// What to make of an agent that is gone without having finished.
    fn verdict(&self) -> (Outcome, Context) {
        match self.killed {
            Some(Outcome::TimedOut) => (Outcome::TimedOut, timed_out()),
            _ if self.live.state.stop_requested => (Outcome::Stopped, Context::default()),
            _ => (Outcome::Fault, fault(&self.loss())),
        }
    }

    /// What is lost with the agent.
    fn loss(&self) -> String {
        match &self.damage {
            None => "The build's agent ended before the build did; its log is kept up to there".to_owned(),
            Some(damage) => {
                format!("The build's agent is gone, and what became of the build cannot be told: {damage}")
            }
        }
    }

    // ---- mail -----------------------------------------------------------------------------------------------

    /// Notes the request to stop, and answers once it is stored. True if the agent is to be told.
    async fn hear(&mut self, ask: Ask) -> bool {
        let Ask::Stop { answer } = ask;
        let at_ms = self.now_ms();
        let again = self.live.state.stop_requested;
        let effects = self.apply(Event::StopRequested { at_ms });
        let stored = self.store().await;
        // Whoever asked may have gone.
        let _ = answer.send(stored.map(|_| self.live.document.clone()));
        !again && effects.contains(&Effect::Stop)
    }

    // ---- states ---------------------------------------------------------------------------------------------

    /// The next state, in memory. Effects are performed by the caller, who knows whether there is an agent.
    fn apply(&mut self, event: Event) -> Vec<Effect> {
        let (state, effects) = step(self.live.state.clone(), event);
        self.live.state = state;
        document::render(&mut self.live.document, &self.live.order, &self.live.state);
        effects
    }

    /// The state as the store takes it.
    fn update(&self) -> Result<BuildUpdate> {
        let Live { document, state, .. } = &*self.live;
        let status = document.build_status.as_ref().map(|status| status.as_str().to_string());
        Ok(BuildUpdate {
            status: status.unwrap_or_default(),
            complete: state.is_over(),
            ended_ms: state.ended_ms(),
            document: serde_json::to_string(document)?,
            lifecycle: serde_json::to_string(state)?,
        })
    }

    /// Stores the state as it is. False: the store says that the build was over before.
    async fn store(&self) -> Result<bool> {
        let Live { scope, id, .. } = &*self.live;
        Ok(self.shared.records.update_build(scope, id, self.update()?).await?)
    }

    /// Stores the state, trying until the disk has room again: the journal keeps what we cannot.
    async fn store_until_kept(&mut self) -> End {
        let mut patience = self.patience("the build's state could not be stored; trying on");
        loop {
            match self.store().await {
                Ok(true) => return End::Over,
                Ok(false) => {
                    tracing::error!(build = %self.live.id, "the stored build was over already, or is gone");
                    return End::Over;
                }
                Err(error) => patience.complain(&self.live.id, &error),
            }
            if !patience.wait(&self.closing).await {
                return End::Left;
            }
        }
    }

    /// Seals the log, then stores the end: who sees the build complete can read all of its log.
    async fn finish(&mut self) -> Result<End> {
        debug_assert!(self.live.state.is_over());
        let held = match self.seal_log().await {
            Ok(held) => held,
            Err(error) => {
                tracing::error!(build = %self.live.id, %error, "the build's log could not be sealed");
                None
            }
        };
        if self.show_log_until_kept(held).await == End::Left {
            return Ok(End::Left);
        }
        if let Err(error) = self.write_log_object().await {
            tracing::error!(build = %self.live.id, %error, "the build's log could not be written to its bucket");
            self.live.state.log_object_failed = true;
            document::render(&mut self.live.document, &self.live.order, &self.live.state);
        }
        self.give_up_reports().await;
        let kept = match self.next_try() {
            Some(next) => self.store_with_next_try(next).await,
            None => self.store_until_kept().await,
        };
        if kept == End::Over {
            let Live { document, state, order, .. } = &*self.live;
            let used = utilization::of(state, &order.plan.environment.limits);
            self.shared.config.tell_builds.tell(BuildNews::Ended(document, used));
        }
        self.wake_readers();
        Ok(kept)
    }

    /// The build that follows this one, if it is to be tried again.
    fn next_try(&self) -> Option<Candidate> {
        let Live { scope, order, document, state, .. } = &*self.live;
        let limit = retry::tries_left(order, state)?;
        let arn = document.arn.as_deref().unwrap_or_default();
        let account = scope.account.parse().ok()?;
        match retry::next(order, arn, account, limit, self.now_ms(), &self.shared.config) {
            Ok(draft) => Some(Candidate { scope: scope.clone(), draft }),
            Err(error) => {
                tracing::warn!(build = %self.live.id, %error, "the build cannot be tried again");
                None
            }
        }
    }

    /// Stores the end and the next try together, so that no crash can lose the one or double the other.
    async fn store_with_next_try(&mut self, next: Candidate) -> End {
        self.show_next_try(Some(next.draft.arn().to_string()));
        let mailbox = self.shared.desk().reserve_next_try(next.id());
        let mut patience = self.patience("the build's state could not be stored; trying on");
        let succession = loop {
            match self.try_to_succeed(&next).await {
                Ok(succession) => break succession,
                Err(error) => patience.complain(&self.live.id, &error),
            }
            if !patience.wait(&self.closing).await {
                self.shared.give_back(next.id());
                return End::Left;
            }
        };
        if let Some(live) = succession {
            self.shared.config.tell_builds.tell(BuildNews::Accepted(&live.document));
            self.shared.arrive(Box::new(live), mailbox);
            return End::Over;
        }
        self.shared.give_back(next.id());
        self.show_next_try(None);
        self.store_until_kept().await
    }

    /// The next try, accepted; none if it was not, and then nothing was stored.
    async fn try_to_succeed(&self, next: &Candidate) -> Result<Option<Live>> {
        let (render, numbered) = next.render(&self.shared.config);
        let (update, record) = (self.update()?, next.record(None)?);
        match self.shared.records.succeed_build(&self.live.id, update, record, render).await? {
            Succession::Accepted { .. } => next.clone().accepted(numbered).await.map(Some),
            Succession::ProjectNotFound | Succession::NotEnded => Ok(None),
        }
    }

    fn show_next_try(&mut self, arn: Option<String>) {
        self.live.state.next_try = arn;
        document::render(&mut self.live.document, &self.live.order, &self.live.state);
    }

    /// Something of ours is broken: the build ends as FAULT, with what can still be stored.
    async fn fault(&mut self, error: &Error) -> End {
        tracing::error!(build = %self.live.id, %error, "the build could not be driven on");
        let at_ms = self.now_ms();
        let context = fault("The build could not be driven on because of an internal error");
        self.apply(Event::AgentLost { at_ms, outcome: Outcome::Fault, context });
        self.finish().await.unwrap_or(End::Left)
    }

    // ---- the log --------------------------------------------------------------------------------------------

    /// Makes the log stream known to readers. Its segment is the agent's to make.
    async fn make_stream(&self) -> Result<()> {
        let Some(address) = &self.live.order.stream else { return Ok(()) };
        let (records, scope) = (&self.shared.records, &self.live.scope);
        let created_ms = self.now_ms();
        let stream = LogStream {
            group: address.group.clone(),
            name: address.name.clone(),
            created_ms,
            segment: self.live.order.plan.log.to_string_lossy().into_owned(),
            first_event_ms: None,
            last_event_ms: None,
            stored_bytes: 0,
            forwarding: self.shared.config.forward_logs.then(|| Position::START.to_string()),
        };
        match records.create_log_stream(scope, stream.clone()).await {
            // COMPAT: SA-117 a missing group is made, with no retention.
            Err(store::Error::NotFound { .. }) => {}
            made => return Ok(existing_is_fine(made)?),
        }
        let group = LogGroup {
            name: address.group.clone(),
            created_ms,
            retention_days: None,
            tags: "{}".to_string(),
        };
        existing_is_fine(records.create_log_group(scope, group).await)?;
        Ok(existing_is_fine(records.create_log_stream(scope, stream).await)?)
    }

    /// Seals what the agent could not; tells what the log holds, if there can be one.
    async fn seal_log(&self) -> Result<Option<Held>> {
        if !self.live.state.was_in(Phase::Provisioning) {
            return Ok(None);
        }
        let log = self.live.order.plan.log.clone();
        Ok(Some(self.shared.config.file_work.run(move || seal(&log)).await??))
    }

    /// Readers know where the log is, and what it holds: tried until that is stored, as the state is. A build that is over with a log that
    /// nobody finds has lost it.
    async fn show_log_until_kept(&mut self, held: Option<Held>) -> End {
        let mut patience = self.patience("the build's log could not be made known; trying on");
        loop {
            match self.show_log(held.as_ref()).await {
                Ok(()) => return End::Over,
                Err(error) => patience.complain(&self.live.id, &error),
            }
            if !patience.wait(&self.closing).await {
                return End::Left;
            }
        }
    }

    async fn show_log(&mut self, held: Option<&Held>) -> Result<()> {
        if !self.live.state.was_in(Phase::Provisioning) {
            return Ok(());
        }
        if !self.stream_made {
            self.make_stream().await?;
            self.stream_made = true;
        }
        if let (Some(held), Some(address)) = (held, &self.live.order.stream) {
            let name = (address.group.as_str(), address.name.as_str());
            let (records, scope) = (&self.shared.records, &self.live.scope);
            // False: a user has deleted it.
            records.update_log_stream(scope, name, (held.first_ms, held.last_ms), held.bytes).await?;
        }
        Ok(())
    }

    /// Writes the sealed log to where S3 logs are to be. Done again after a crash in between, to the same end.
    async fn write_log_object(&self) -> io::Result<()> {
        let Live { order, state, .. } = &*self.live;
        let Some(object) = LogObject::of(&order.settings, &order.plan.uuid) else { return Ok(()) };
        if !state.was_in(Phase::Provisioning) {
            return Ok(());
        }
        if let Some(role) = service_role(&self.shared.config, &self.live) {
            let at = (object.bucket.as_str(), object.key.as_str());
            role.at(self.now_ms()).may("PutObject", at).map_err(io::Error::other)?;
        }
        if let Some(elsewhere) = &self.shared.config.elsewhere
            && order.plan.elsewhere.as_ref().is_some_and(|plan| plan.has(&object.bucket))
        {
            let encryption = elsewhere.encryption.of(object.encryption_key.as_deref());
            return object.send(&order.plan.log, &elsewhere.store, encryption).await;
        }
        let (log, root, owner) =
            (order.plan.log.clone(), self.shared.config.objects.clone(), order.plan.objects_owner.clone());
        let writing = self.shared.config.file_work.run(move || {
            let objects = Objects::open(&root).map_err(io::Error::other)?;
            object.write(&log, &owner.map_or(objects.clone(), |owner| objects.of(owner)))
        });
        writing.await.map_err(io::Error::other)?
    }

    fn wake_readers(&self) {
        if let Some(Stream { group, name }) = &self.live.order.stream {
            self.shared.config.log_grew.tell(&self.live.scope.account, group, name);
        }
    }

    async fn tidy_up(&self) {
        if let Err(error) = self.shared.executor.remove(self.uuid()).await {
            // The next start tries again.
            tracing::warn!(build = %self.live.id, %error, "what the build left could not be removed");
        }
    }

    fn uuid(&self) -> &str {
        &self.live.order.plan.uuid
    }

    fn patience(&self, complaint: &'static str) -> Patience {
        Patience::new(complaint, &self.shared.config.clock)
    }

    fn now_ms(&self) -> i64 {
        self.shared.config.clock.now_ms()
    }
}

/// What the operator lets the build's service role do, if he has said it. The server acts in its name without a connection.
fn service_role(config: &Config, live: &Live) -> Option<Role> {
    let arn = live.order.settings.service_role.as_deref().unwrap_or_default();
    let rights = config.roles.find(&live.scope.account, &live.id, arn)?;
    let circumstances = access::Context::default()
        .with("aws:RequestedRegion", config.region.as_str())
        .with("aws:SecureTransport", "true");
    let partition = config.region.partition().to_owned();
    Some(Role { rights: rights.under(&circumstances), partition })
}

/// Trying something until it works. Complains once, not at every try.
#[derive(Debug)]
pub(crate) struct Patience {
    clock: Arc<dyn Clock>,
    complaint: Option<&'static str>,
}

impl Patience {
    pub(crate) fn new(complaint: &'static str, clock: &Arc<dyn Clock>) -> Patience {
        Patience { clock: clock.clone(), complaint: Some(complaint) }
    }

    pub(crate) fn complain(&mut self, build: &str, error: &impl std::fmt::Display) {
        if let Some(complaint) = self.complaint.take() {
            tracing::error!(%build, %error, "{complaint}");
        }
    }

    /// False: we are shutting down.
    pub(crate) async fn wait(&self, closing: &Closing) -> bool {
        let until = self.clock.uptime_ms().saturating_add(RETRY_MS);
        tokio::select! {
            biased;
            () = closing.begun() => false,
            () = self.clock.sleep_until(until) => true,
        }
    }
}

/// What became of an image.
enum Resolved {
    Image(Image),
    Failed(String),
    Stopped,
    TimedOut,
    Left,
}

/// What a sealed log holds.
struct Held {
    first_ms: Option<i64>,
    last_ms: Option<i64>,
    bytes: u64,
}

fn seal(log: &Path) -> store::Result<Held> {
    // By the agent, which is who should; it may still have the file open.
    let sealed = SegmentReader::open(log).and_then(|mut reader| reader.sealed());
    if !matches!(sealed, Ok(true)) {
        match SegmentWriter::append(log) {
            Ok(mut writer) => writer.seal()?,
            // No agent came so far. An empty log is what its readers shall find.
            Err(store::Error::NotFound { .. }) => SegmentWriter::create(log)?.seal()?,
            Err(store::Error::Sealed(_)) => {}
            Err(error) => return Err(error),
        }
    }
    measure(log)
}

fn measure(log: &Path) -> store::Result<Held> {
    let mut reader = SegmentReader::open(log)?;
    let (start, end) = (reader.start(), reader.end()?);
    let (first, _) = reader.forward(start, 1, 1)?;
    let (last, _) = reader.backward(end, 1, 1)?;
    let bytes = reader.total()?.map_or(0, |total| total.payload_bytes);
    let time = |events: &[store::logs::LogEvent]| events.first().map(|event| event.time_ms);
    Ok(Held { first_ms: time(&first), last_ms: time(&last), bytes })
}

fn make_folder(folder: Option<&Path>) -> io::Result<()> {
    match folder {
        Some(folder) if !folder.exists() => std::fs::create_dir_all(folder),
        _ => Ok(()),
    }
}

fn existing_is_fine(made: store::Result<()>) -> store::Result<()> {
    match made {
        Err(store::Error::AlreadyExists { .. }) => Ok(()),
        other => other,
    }
}

/// COMPAT: LC-053.
fn cannot_pull(reason: &str) -> Context {
    Context {
        status_code: "BUILD_CONTAINER_UNABLE_TO_PULL_IMAGE".to_string(),
        message: format!("Unable to pull customer's container image. CannotPullContainerError: {reason}"),
    }
}

fn fault(message: &str) -> Context {
    // COMPAT: LC-059.
    Context { status_code: "INTERNAL_SERVICE_ERROR".to_string(), message: message.to_string() }
}

impl Live {
    /// A build as the store has it.
    pub(crate) fn read(build: store::records::Build, plan: &str) -> Result<Live> {
        Ok(Live {
            order: serde_json::from_str(plan)?,
            document: serde_json::from_str(&build.document)?,
            state: serde_json::from_str(&build.lifecycle)?,
            scope: build.scope,
            id: build.id,
        })
    }
}

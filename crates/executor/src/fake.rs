//! An executor that runs no commands: its agents follow a script, in this process, and write real journals.
//!
//! For trying out the engine. Agents live as tasks of the tokio runtime in which the executor was made and, as real ones
//! do, go on when the engine that launched them is gone, with its own runtime too.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent::answer::{Answer, Hearing, Word};
use agent::journal::{self, Context, Event, Outcome, Phase, ReportGroup, Secret, UploadedArtifact, Writer};
use agent::plan::Plan;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::{Adopted, Error, Executor, Future, Link, Remains, Result};

const PHASES: [Phase; 8] = [
    Phase::Provisioning,
    Phase::DownloadSource,
    Phase::Install,
    Phase::PreBuild,
    Phase::Build,
    Phase::PostBuild,
    Phase::UploadArtifacts,
    Phase::Finalizing,
];

/// What an agent does with a build. The default goes through all phases at once and succeeds.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// Stays in this phase until [`Fake::release`], a stop, or [`Fake::kill`].
    pub hold_in: Option<Phase>,
    /// Ends this phase so; the build goes on to FINALIZING and ends with the same outcome.
    pub fail_in: Option<(Phase, Outcome, Context)>,
    /// Is gone, as if killed, once this phase has started.
    pub die_in: Option<Phase>,
    /// No agent ever takes the build.
    pub refuse: bool,
    /// Ignores stop requests, as an agent that hangs would.
    pub deaf: bool,
    pub resolved_version: Option<String>,
    pub exported: BTreeMap<String, String>,
    pub artifacts: Vec<UploadedArtifact>,
    /// Asks for these in DOWNLOAD_SOURCE, and waits for the answer; a refusal fails the phase.
    pub references: Option<(Vec<String>, Vec<Secret>)>,
    /// With `references`: git asks for credentials too.
    pub git_credentials: bool,
    /// Reports in UPLOAD_ARTIFACTS: the group, its findings as JSON if files were found, and whether they were complete.
    pub reports: Vec<(ReportGroup, Option<String>, bool)>,
    /// With `fail_in`: the phase's `on-failure` asks for so many tries.
    pub retry: Option<u32>,
}

type ScriptFor = dyn Fn(&Plan) -> Script + Send + Sync;
type Now = dyn Fn() -> i64 + Send + Sync;

/// Cheap to clone; all clones are one executor.
#[derive(Clone)]
pub struct Fake(Arc<Shared>);

struct Shared {
    folder: PathBuf,
    /// Where agents live.
    world: Handle,
    now_ms: Box<Now>,
    script: Mutex<Arc<ScriptFor>>,
    agents: Mutex<HashMap<String, Agent>>,
    /// How often each build's agent has started.
    starts: Mutex<HashMap<String, u32>>,
    /// What each build's agent was told about its references.
    answers: Mutex<HashMap<String, Vec<Answer>>>,
}

/// The outside of a scripted agent.
struct Agent {
    told: mpsc::UnboundedSender<Told>,
}

enum Told {
    Connected(UnixStream),
    Release,
    Heard(Word),
    Die,
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fake").field("folder", &self.0.folder).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fake {
    /// `folder` takes the journals; `now_ms` tells the agents the time. Called within a tokio runtime.
    pub fn new(folder: &Path, now_ms: impl Fn() -> i64 + Send + Sync + 'static) -> Fake {
        Fake(Arc::new(Shared {
            folder: folder.to_path_buf(),
            world: Handle::current(),
            now_ms: Box::new(now_ms),
            script: Mutex::new(Arc::new(|_: &Plan| Script::default())),
            agents: Mutex::default(),
            starts: Mutex::default(),
            answers: Mutex::default(),
        }))
    }

    /// What agents launched from now on do.
    pub fn script(&self, script: impl Fn(&Plan) -> Script + Send + Sync + 'static) {
        *lock(&self.0.script) = Arc::new(script);
    }

    /// Lets a held agent go on.
    pub fn release(&self, uuid: &str) {
        self.tell(uuid, Told::Release);
    }

    /// Ends an agent without a further record.
    pub fn kill(&self, uuid: &str) {
        self.tell(uuid, Told::Die);
    }

    /// How many agents have started for this build; a build's commands ran as often.
    pub fn starts(&self, uuid: &str) -> u32 {
        lock(&self.0.starts).get(uuid).copied().unwrap_or_default()
    }

    /// The uuids of the builds whose agents are there, in order.
    pub fn agents(&self) -> Vec<String> {
        let mut uuids: Vec<String> = lock(&self.0.agents).keys().cloned().collect();
        uuids.sort();
        uuids
    }

    /// The answers that this build's agents got to their references, in order.
    pub fn answers(&self, uuid: &str) -> Vec<Answer> {
        lock(&self.0.answers).get(uuid).cloned().unwrap_or_default()
    }

    /// Whether the build has left nothing behind here.
    pub fn is_removed(&self, uuid: &str) -> bool {
        !self.journal(uuid).exists() && !lock(&self.0.agents).contains_key(uuid)
    }

    fn journal(&self, uuid: &str) -> PathBuf {
        self.0.folder.join(uuid).join("journal")
    }

    fn tell(&self, uuid: &str, what: Told) -> bool {
        lock(&self.0.agents).get(uuid).is_some_and(|agent| agent.told.send(what).is_ok())
    }

    fn start(&self, uuid: &str, plan: &Plan) -> Result<Link> {
        let script = lock(&self.0.script).clone()(plan);
        if script.refuse {
            return Err(Error::NotStarted { reason: "the script says so".to_string() });
        }
        let journal = self.journal(uuid);
        let writer = make_journal(&journal).map_err(Error::folder("make", &journal))?;
        *lock(&self.0.starts).entry(uuid.to_string()).or_default() += 1;
        let (told, listen) = mpsc::unbounded_channel();
        lock(&self.0.agents).insert(uuid.to_string(), Agent { told: told.clone() });
        let link =
            self.connect(uuid)?.ok_or_else(|| Error::Unreachable(io::ErrorKind::NotConnected.into()))?;
        let inside = Inside {
            fake: self.clone(),
            script,
            writer,
            listen,
            told,
            listeners: Vec::new(),
            stopped: false,
            answer: None,
            uuid: uuid.to_string(),
        };
        let (fake, uuid) = (self.clone(), uuid.to_string());
        self.0.world.clone().spawn(async move {
            // An agent that dies leaves as one that is done: without a word.
            let _ = inside.run().await;
            lock(&fake.0.agents).remove(&uuid);
        });
        Ok(link)
    }

    fn connect(&self, uuid: &str) -> Result<Option<Link>> {
        let (ours, theirs) = self.pair().map_err(Error::Unreachable)?;
        if !self.tell(uuid, Told::Connected(theirs)) {
            return Ok(None);
        }
        let (fake, killed) = (self.clone(), uuid.to_string());
        Ok(Some(Link::new(ours, self.journal(uuid), Box::new(move || fake.kill(&killed)))))
    }

    /// Two ends of a connection: one for the driver, in its own runtime, and one for the agent.
    fn pair(&self) -> io::Result<(UnixStream, UnixStream)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        let ours = UnixStream::from_std(ours)?;
        let _there = self.0.world.enter();
        Ok((ours, UnixStream::from_std(theirs)?))
    }

    fn find(&self, uuid: &str) -> Result<Adopted> {
        if let Some(link) = self.connect(uuid)? {
            return Ok(Adopted::Running(link));
        }
        let journal = self.journal(uuid);
        match journal::salvage(&journal) {
            Ok((events, damage)) => {
                Ok(Adopted::Dead(Remains { events, damage: damage.map(|error| error.to_string()) }))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Adopted::NeverStarted),
            Err(e) => Err(Error::folder("read", &journal)(e)),
        }
    }

    fn list(&self) -> Result<Vec<String>> {
        let folder = &self.0.folder;
        let entries = fs::read_dir(folder).map_err(Error::folder("list", folder))?;
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }

    fn forget(&self, uuid: &str) -> Result<()> {
        let folder = self.0.folder.join(uuid);
        match fs::remove_dir_all(&folder) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::folder("remove", &folder)(e)),
            _ => Ok(()),
        }
    }
}

impl Executor for Fake {
    fn launch<'a>(&'a self, uuid: &'a str, plan: &'a Plan) -> Future<'a, Link> {
        Box::pin(async move { self.start(uuid, plan) })
    }

    fn adopt<'a>(&'a self, uuid: &'a str) -> Future<'a, Adopted> {
        Box::pin(async move { self.find(uuid) })
    }

    fn left<'a>(&'a self, uuid: &'a str, file: &'a str) -> Future<'a, Vec<u8>> {
        Box::pin(async move {
            let path = self.0.folder.join(uuid).join(file);
            fs::read(&path).map_err(Error::folder("read", &path))
        })
    }

    fn remove<'a>(&'a self, uuid: &'a str) -> Future<'a, ()> {
        Box::pin(async move {
            // As with any executor, others may run before it is done.
            for _ in 0..16 {
                tokio::task::yield_now().await;
            }
            self.forget(uuid)
        })
    }

    fn remaining<'a>(&'a self) -> Future<'a, Vec<String>> {
        Box::pin(async move { self.list() })
    }
}

fn make_journal(path: &Path) -> io::Result<Writer> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    Writer::create(path)
}

/// The agent has been killed.
struct Killed;

/// The inside of a scripted agent.
struct Inside {
    fake: Fake,
    script: Script,
    writer: Writer,
    listen: mpsc::UnboundedReceiver<Told>,
    told: mpsc::UnboundedSender<Told>,
    /// Writing halves of the drivers' connections, and what ends each one's reading half.
    listeners: Vec<(tokio::net::unix::OwnedWriteHalf, oneshot::Sender<()>)>,
    stopped: bool,
    answer: Option<Answer>,
    uuid: String,
}

impl Inside {
    async fn run(mut self) -> std::result::Result<(), Killed> {
        self.write(Event::Started { at_ms: self.now(), process: std::process::id() }).await?;
        let mut outcome = Outcome::Succeeded;
        for phase in PHASES {
            if outcome != Outcome::Succeeded && phase != Phase::Finalizing {
                continue;
            }
            let ended = self.go_through(phase).await?;
            if outcome == Outcome::Succeeded {
                outcome = ended;
            }
        }
        self.write(Event::Finished { at_ms: self.now(), outcome }).await
    }

    async fn go_through(&mut self, phase: Phase) -> std::result::Result<Outcome, Killed> {
        self.write(Event::PhaseStarted { phase, at_ms: self.now() }).await?;
        if self.script.die_in == Some(phase) {
            return Err(Killed);
        }
        self.hear(self.script.hold_in == Some(phase)).await?;
        self.write_extras(phase).await?;
        self.report(phase).await?;
        let (outcome, context) = match self.refused_references(phase).await? {
            Some(context) => (Outcome::Failed, context),
            None => self.ending(phase),
        };
        if let (Some(limit), Outcome::Failed) = (self.script.retry, outcome) {
            self.write(Event::RetryAsked { limit }).await?;
        }
        self.write(Event::PhaseEnded { phase, at_ms: self.now(), outcome, context }).await?;
        Ok(outcome)
    }

    /// Asks for the script's references and waits for them; the context of a refusal.
    async fn refused_references(&mut self, phase: Phase) -> std::result::Result<Option<Context>, Killed> {
        let Some((parameters, secrets)) = self.script.references.clone() else { return Ok(None) };
        if phase != Phase::DownloadSource {
            return Ok(None);
        }
        let git = self.script.git_credentials;
        self.write(Event::ReferencesNeeded { parameters, secrets, git }).await?;
        while self.answer.is_none() && !self.stopped {
            let told = self.listen.recv().await.ok_or(Killed)?;
            self.take_in(told).await?;
        }
        Ok(match self.answer.take() {
            Some(Answer::Refused { status_code, message }) => Some(Context { status_code, message }),
            _ => None,
        })
    }

    /// Makes the script's reports, of which those are begun that the driver allows.
    async fn report(&mut self, phase: Phase) -> std::result::Result<(), Killed> {
        let reports = std::mem::take(&mut self.script.reports);
        if phase != Phase::UploadArtifacts || reports.is_empty() {
            self.script.reports = reports;
            return Ok(());
        }
        let groups = reports.iter().map(|(group, ..)| group.clone()).collect();
        self.write(Event::ReportsNeeded { groups }).await?;
        let targets = loop {
            match self.answer.take() {
                Some(Answer::Reports(targets)) => break targets,
                _ if self.stopped => return Ok(()),
                _ => {}
            }
            let told = self.listen.recv().await.ok_or(Killed)?;
            self.take_in(told).await?;
        };
        let arns = targets.values().flatten().map(|target| target.arn.clone()).collect();
        self.write(Event::ReportsStarted { arns }).await?;
        for (number, (group, findings, is_complete)) in reports.into_iter().enumerate() {
            let Some(Ok(target)) = targets.get(&group.name) else { continue };
            let name = format!("{number}.json");
            if let Some(findings) = &findings {
                let path = self.fake.0.folder.join(&self.uuid).join(&name);
                fs::write(path, findings).map_err(|_| Killed)?;
            }
            let findings = findings.map(|_| name);
            self.write(Event::ReportEnded { arn: target.arn.clone(), findings, is_complete }).await?;
        }
        Ok(())
    }

    fn ending(&self, phase: Phase) -> (Outcome, Context) {
        match &self.script.fail_in {
            Some((at, outcome, context)) if *at == phase => (*outcome, context.clone()),
            _ if self.stopped && phase != Phase::Finalizing => (Outcome::Stopped, Context::default()),
            _ => (Outcome::Succeeded, Context::default()),
        }
    }

    async fn write_extras(&mut self, phase: Phase) -> std::result::Result<(), Killed> {
        match phase {
            Phase::DownloadSource => {
                if let Some(version) = self.script.resolved_version.clone() {
                    self.write(Event::SourceResolved { version }).await?;
                }
            }
            Phase::UploadArtifacts => {
                for artifact in self.script.artifacts.clone() {
                    self.write(Event::ArtifactUploaded(artifact)).await?;
                }
            }
            Phase::Finalizing if !self.script.exported.is_empty() => {
                let variables = self.script.exported.clone();
                self.write(Event::Exported { variables }).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Takes what was told; waits for a release or a stop if `hold`.
    async fn hear(&mut self, hold: bool) -> std::result::Result<(), Killed> {
        loop {
            let told = match self.listen.try_recv() {
                Ok(told) => told,
                Err(_) if hold && !self.stopped => self.listen.recv().await.ok_or(Killed)?,
                Err(_) => return Ok(()),
            };
            if self.take_in(told).await? {
                return Ok(());
            }
        }
    }

    /// True if it was the release.
    async fn take_in(&mut self, told: Told) -> std::result::Result<bool, Killed> {
        match told {
            Told::Connected(stream) => self.greet(stream).await,
            Told::Release => return Ok(true),
            Told::Heard(Word::Stop) => self.stopped = !self.script.deaf,
            Told::Heard(Word::Answer(answer)) => {
                lock(&self.fake.0.answers).entry(self.uuid.clone()).or_default().push(answer.clone());
                self.answer = Some(answer);
            }
            Told::Die => return Err(Killed),
        }
        Ok(false)
    }

    async fn greet(&mut self, stream: UnixStream) {
        let (reading, mut writing) = stream.into_split();
        let (keep, mut dropped) = oneshot::channel();
        // What is in the journal already: the newcomer reads it from its beginning.
        let _ = writing.write_all(b"J").await;
        self.listeners.push((writing, keep));
        let told = self.told.clone();
        tokio::spawn(async move {
            let mut bytes = [0; 4096];
            let mut hearing = Hearing::default();
            loop {
                tokio::select! {
                    biased;
                    _ = &mut dropped => return,
                    readable = reading.readable() => if readable.is_err() { return },
                }
                match reading.try_read(&mut bytes) {
                    Ok(0) => return,
                    Ok(length) => match hearing.feed(&bytes[..length]) {
                        Ok(words) => words.into_iter().for_each(|word| drop(told.send(Told::Heard(word)))),
                        Err(_) => return,
                    },
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => return,
                }
            }
        });
    }

    async fn write(&mut self, event: Event) -> std::result::Result<(), Killed> {
        self.writer.append(&event).map_err(|_| Killed)?;
        if matches!(event, Event::Finished { .. }) {
            // Whoever hears of it finds nobody here any more.
            lock(&self.fake.0.agents).remove(&self.uuid);
        }
        for (listener, _) in &mut self.listeners {
            // A driver that is gone is no concern of its agent's.
            let _ = listener.write_all(b"J").await;
        }
        Ok(())
    }

    fn now(&self) -> i64 {
        (self.fake.0.now_ms)()
    }
}

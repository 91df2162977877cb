//! Where builds run: scripted agents, which live on while servers come and go, behind an executor that takes its time and
//! has its failures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use agent::journal::{self, Context, Event, Outcome, Phase};
use agent::plan::Plan;
use engine::clock::Clock;
use executor::fake::Script;
use executor::{Adopted, Error, Executor, Fake, Future, Link};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::chance::Chance;
use crate::time::Time;
use crate::world::yields;

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

/// All agents of a history, and the executor that every server of it is given.
#[derive(Debug)]
pub(crate) struct Agents {
    runtime: Runtime,
    pub(crate) fake: Fake,
    pub(crate) slow: Slow,
    folder: std::path::PathBuf,
}

/// The executor: a launch happens when it is let, what became of an agent cannot always be told, and what one left not always
/// be removed. Clones are one.
#[derive(Debug, Clone)]
pub(crate) struct Slow {
    fake: Fake,
    state: Arc<Mutex<State>>,
}

type Launched = Box<dyn FnMut(&str) + Send>;

#[derive(Default)]
struct State {
    attempts: Vec<Attempt>,
    /// How often each build was found never to have started: what was tried before then must not start any more.
    barred: BTreeMap<String, u32>,
    is_failing: bool,
    /// Builds of which it could not be told what became of them.
    unknown: Arc<Mutex<BTreeSet<String>>>,
    /// Agents that hang: they neither go on nor hear.
    hanging: BTreeSet<String>,
    /// Told of each build whose launch is asked for.
    launched: Option<Launched>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("attempts", &self.attempts).finish_non_exhaustive()
    }
}

/// A launch under way.
#[derive(Debug)]
struct Attempt {
    uuid: String,
    plan: Plan,
    barred: u32,
    go: oneshot::Sender<()>,
}

impl Agents {
    pub(crate) fn new(folder: &Path, time: &Time, chance: &Chance) -> Agents {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        std::fs::create_dir_all(folder).unwrap();
        let (time, scripts) = (time.clone(), chance.apart());
        let fake = {
            let _there = runtime.enter();
            Fake::new(folder, move || time.now_ms())
        };
        let state: Arc<Mutex<State>> = Arc::default();
        let hanging = state.clone();
        fake.script(move |plan| {
            let script = script(&scripts);
            if script.deaf && script.hold_in.is_some() {
                hanging.lock().unwrap().hanging.insert(plan.uuid.clone());
            }
            script
        });
        let slow = Slow { fake: fake.clone(), state };
        Agents { runtime, fake, slow, folder: folder.to_owned() }
    }

    /// Lets the agents come so far.
    pub(crate) fn run(&self, rounds: u64) {
        self.runtime.block_on(yields(rounds));
    }

    /// Lets one launch happen, or fail. One whose server is gone may start its agent all the same, unless a later server was
    /// promised that it will not.
    pub(crate) fn attempt(&self, chance: &Chance, may_fail: bool) -> Option<String> {
        let attempt = {
            let mut state = self.slow.state.lock().unwrap();
            if state.attempts.is_empty() {
                return None;
            }
            let index = chance.index(state.attempts.len());
            state.attempts.remove(index)
        };
        let Attempt { uuid, plan, barred, go } = attempt;
        if may_fail && chance.one_in(12) {
            return Some("fails".to_owned());
        }
        if go.is_closed() {
            let is_late = self.slow.barred(&uuid) != barred || chance.one_in(2);
            if !is_late {
                // Nobody holds its link.
                drop(self.runtime.block_on(self.fake.launch(&uuid, &plan)));
            }
            return Some(format!("outlives its server, {}", if is_late { "in vain" } else { "and starts" }));
        }
        let _ = go.send(());
        Some("starts".to_owned())
    }

    /// The uuids of builds whose agents are there and have not finished: their commands may be running.
    pub(crate) fn running(&self) -> Vec<String> {
        self.fake.agents().into_iter().filter(|uuid| self.outcome(uuid).is_none()).collect()
    }

    /// How the build ended, if its agent came so far.
    pub(crate) fn outcome(&self, uuid: &str) -> Option<Outcome> {
        let (events, _) = journal::read(&self.folder.join(uuid).join("journal"), 0).ok()?;
        match events.last()? {
            Event::Finished { outcome, .. } => Some(*outcome),
            _ => None,
        }
    }

    /// Those that go on when they are let.
    pub(crate) fn held(&self) -> Vec<String> {
        let state = self.slow.state.lock().unwrap();
        self.fake.agents().into_iter().filter(|uuid| !state.hanging.contains(uuid)).collect()
    }

    pub(crate) fn waiting_launches(&self) -> Vec<String> {
        self.slow.state.lock().unwrap().attempts.iter().map(|attempt| attempt.uuid.clone()).collect()
    }
}

impl Slow {
    pub(crate) fn fail(&self, is_failing: bool) {
        self.state.lock().unwrap().is_failing = is_failing;
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.state.lock().unwrap().is_failing
    }

    pub(crate) fn on_launch(&self, launched: impl FnMut(&str) + Send + 'static) {
        self.state.lock().unwrap().launched = Some(Box::new(launched));
    }

    /// Whether it could not be told at some time what became of this build.
    pub(crate) fn was_unknown(&self, uuid: &str) -> bool {
        self.unknown().lock().unwrap().contains(uuid)
    }

    /// What is asked while a launch is told of: whoever is told must not hold the executor, which would never end.
    pub(crate) fn unknown(&self) -> Arc<Mutex<BTreeSet<String>>> {
        self.state.lock().unwrap().unknown.clone()
    }

    fn barred(&self, uuid: &str) -> u32 {
        self.state.lock().unwrap().barred.get(uuid).copied().unwrap_or_default()
    }

    fn begin(&self, uuid: &str, plan: &Plan) -> oneshot::Receiver<()> {
        let (go, went) = oneshot::channel();
        let barred = self.barred(uuid);
        let launched = self.state.lock().unwrap().launched.take();
        if let Some(mut launched) = launched {
            launched(uuid);
            self.state.lock().unwrap().launched = Some(launched);
        }
        let attempt = Attempt { uuid: uuid.to_owned(), plan: plan.clone(), barred, go };
        self.state.lock().unwrap().attempts.push(attempt);
        went
    }

    fn unreachable() -> Error {
        Error::Unreachable(std::io::ErrorKind::PermissionDenied.into())
    }
}

impl Executor for Slow {
    fn launch<'a>(&'a self, uuid: &'a str, plan: &'a Plan) -> Future<'a, Link> {
        Box::pin(async move {
            let went = self.begin(uuid, plan).await;
            match went {
                Ok(()) => self.fake.launch(uuid, plan).await,
                Err(_) => Err(Error::NotStarted { reason: "it was let fail".to_owned() }),
            }
        })
    }

    fn adopt<'a>(&'a self, uuid: &'a str) -> Future<'a, Adopted> {
        Box::pin(async move {
            if self.is_failing() {
                self.unknown().lock().unwrap().insert(uuid.to_owned());
                return Err(Slow::unreachable());
            }
            let found = self.fake.adopt(uuid).await?;
            if matches!(found, Adopted::NeverStarted) {
                *self.state.lock().unwrap().barred.entry(uuid.to_owned()).or_default() += 1;
            }
            Ok(found)
        })
    }

    fn left<'a>(&'a self, uuid: &'a str, file: &'a str) -> Future<'a, Vec<u8>> {
        self.fake.left(uuid, file)
    }

    fn remove<'a>(&'a self, uuid: &'a str) -> Future<'a, ()> {
        Box::pin(async move {
            if self.is_failing() {
                return Err(Slow::unreachable());
            }
            self.fake.remove(uuid).await
        })
    }

    fn remaining<'a>(&'a self) -> Future<'a, Vec<String>> {
        self.fake.remaining()
    }
}

/// What an agent will do with its build.
fn script(chance: &Chance) -> Script {
    let phase = || PHASES[chance.index(PHASES.len())];
    let outcome = chance.pick(&[Outcome::Failed, Outcome::Failed, Outcome::TimedOut, Outcome::Fault]);
    let context =
        Context { status_code: "COMMAND_EXECUTION_ERROR".into(), message: "so it was decided".into() };
    Script {
        hold_in: chance.one_in(2).then(phase),
        fail_in: chance.one_in(3).then(|| (phase(), outcome, context)),
        die_in: chance.one_in(12).then(phase),
        deaf: chance.one_in(5),
        references: chance.one_in(10).then(|| (vec!["/not/there".to_owned()], Vec::new())),
        retry: chance.one_in(6).then(|| u32::try_from(chance.below(3)).unwrap()),
        ..Script::default()
    }
}

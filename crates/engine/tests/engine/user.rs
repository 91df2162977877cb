//! A user of the engine, on a clock that stands still, over agents that follow a script.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent::journal::Phase;
use api::codebuild::*;
use engine::clock::ManualClock;
use engine::{Caller, Config, Engine};
use executor::Fake;
use executor::fake::Script;
use store::records::{Records, Scope, Vault};
use tempfile::TempDir;

pub(crate) const START_MS: i64 = 1_700_000_000_000;
/// For what comes in milliseconds on a host with nothing else to do.
const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const INLINE: &str = "version: 0.2\nphases: {}\n";

/// An engine in a folder of its own, with the verbs of its users. Time stands still unless told to move.
pub(crate) struct Tester {
    pub(crate) folder: TempDir,
    pub(crate) config: Config,
    pub(crate) clock: ManualClock,
    pub(crate) records: Records,
    pub(crate) vault: Vault,
    pub(crate) agents: Fake,
    pub(crate) engine: Engine,
    pub(crate) caller: Caller,
}

/// In memory where that is possible: each change is synced, and a disk that others keep busy may take seconds for one.
pub(crate) fn fast_folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

pub(crate) fn config(folder: &Path, clock: &ManualClock) -> Config {
    let mut config = Config::new("eu-west-1".parse().unwrap(), folder.join("objects"), folder.join("logs"));
    config.environment_types = vec![EnvironmentType::LinuxContainer];
    config.concurrent_builds = 2;
    config.clock = Arc::new(clock.clone());
    config
}

pub(crate) fn agents(folder: &Path, clock: &ManualClock) -> Fake {
    use engine::clock::Clock;
    let clock = clock.clone();
    std::fs::create_dir_all(folder.join("builds")).unwrap();
    Fake::new(&folder.join("builds"), move || clock.now_ms())
}

async fn vault(records: &Records, folder: &Path) -> Vault {
    Vault::open(records.clone(), &folder.join("secret.key")).await.unwrap()
}

pub(crate) fn caller() -> Caller {
    caller_of("123456789012", "alice")
}

/// Somebody who may do everything in this account.
pub(crate) fn caller_of(account: &str, name: &str) -> Caller {
    let arn = format!("arn:aws:iam::{account}:user/{name}");
    let principal = access::Principal { account: account.to_string(), arn, user_id: "AIDA".to_string() };
    Caller::of(access::Rights::everything(principal)).unwrap()
}

impl Tester {
    pub(crate) async fn new() -> Tester {
        Tester::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Tester {
        let folder = fast_folder();
        let records = Records::open(folder.path()).unwrap();
        Tester::on(folder, records, change).await
    }

    /// With these records, which are in the folder.
    pub(crate) async fn on(folder: TempDir, records: Records, change: impl FnOnce(&mut Config)) -> Tester {
        let clock = ManualClock::new(START_MS);
        let mut config = config(folder.path(), &clock);
        change(&mut config);
        let vault = vault(&records, folder.path()).await;
        let agents = agents(folder.path(), &clock);
        let (config_too, executor) = (config.clone(), Arc::new(agents.clone()));
        let engine = Engine::start(config_too, records.clone(), vault.clone(), executor).await.unwrap();
        let tester = Tester { folder, config, clock, records, vault, agents, engine, caller: caller() };
        tester.create_project("demo", |_| {}).await.unwrap();
        tester
    }

    /// An engine in a folder that others lived in before; what its agents were doing is lost with them.
    pub(crate) async fn living_in(
        folder: &Path,
        clock: &ManualClock,
        concurrent: usize,
        script: Script,
    ) -> Tester {
        let mut config = config(folder, clock);
        config.concurrent_builds = concurrent;
        let (agents, records) = (agents(folder, clock), Records::open(folder).unwrap());
        let vault = vault(&records, folder).await;
        agents.script(move |_| script.clone());
        let (config_too, executor) = (config.clone(), Arc::new(agents.clone()));
        let engine = Engine::start(config_too, records.clone(), vault.clone(), executor).await.unwrap();
        let unused = fast_folder();
        let clock = clock.clone();
        Tester { folder: unused, config, clock, records, vault, agents, engine, caller: caller() }
    }

    /// The engine goes away, and another one starts with what is stored.
    pub(crate) async fn restart(&mut self) {
        self.engine.shut_down().await;
        self.start_again().await;
    }

    pub(crate) async fn start_again(&mut self) {
        let (config, records, vault) = (self.config.clone(), self.records.clone(), self.vault.clone());
        self.engine = Engine::start(config, records, vault, Arc::new(self.agents.clone())).await.unwrap();
    }

    pub(crate) async fn create_project(
        &self,
        name: &str,
        change: impl FnOnce(&mut CreateProjectInput),
    ) -> engine::Result<Project> {
        let mut input = CreateProjectInput {
            name: Some(name.to_string()),
            source: Some(ProjectSource {
                r#type: Some(SourceType::NoSource),
                buildspec: Some(INLINE.to_string()),
                ..ProjectSource::default()
            }),
            artifacts: Some(ProjectArtifacts {
                r#type: Some(ArtifactsType::NoArtifacts),
                ..ProjectArtifacts::default()
            }),
            environment: Some(ProjectEnvironment {
                r#type: Some(EnvironmentType::LinuxContainer),
                image: Some("host".to_string()),
                compute_type: Some(ComputeType::BuildGeneral1Small),
                ..ProjectEnvironment::default()
            }),
            service_role: Some("builder".to_string()),
            ..CreateProjectInput::default()
        };
        change(&mut input);
        Ok(self.engine.create_project(&self.caller, input).await?.project.unwrap())
    }

    pub(crate) async fn start_with(
        &self,
        change: impl FnOnce(&mut StartBuildInput),
    ) -> engine::Result<Build> {
        let mut input =
            StartBuildInput { project_name: Some("demo".to_string()), ..StartBuildInput::default() };
        change(&mut input);
        Ok(self.engine.start_build(&self.caller, input).await?.build.unwrap())
    }

    pub(crate) async fn start(&self) -> String {
        self.start_with(|_| {}).await.unwrap().id.unwrap()
    }

    pub(crate) async fn get(&self, id: &str) -> Build {
        let input = BatchGetBuildsInput { ids: Some(vec![id.to_string()]) };
        self.engine.batch_get_builds(&self.caller, input).await.unwrap().builds.remove(0).build().unwrap()
    }

    pub(crate) async fn stop(&self, id: &str) -> Build {
        let input = StopBuildInput { id: Some(id.to_string()) };
        self.engine.stop_build(&self.caller, input).await.unwrap().build.unwrap()
    }

    pub(crate) async fn until(&self, id: &str, what: impl Fn(&Build) -> bool) -> Build {
        let waiting = async {
            loop {
                let build = self.get(id).await;
                if what(&build) {
                    return build;
                }
                tokio::task::yield_now().await;
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(build) => build,
            Err(_) => panic!("it does not come: {:?}", self.get(id).await),
        }
    }

    pub(crate) async fn done(&self, id: &str) -> Build {
        self.until(id, |build| build.build_complete == Some(true)).await
    }

    /// Lets time pass, `by` at a time, until the build is over.
    pub(crate) async fn done_in_time(&self, id: &str, by: Duration) -> Build {
        let over = |build: &Build| {
            self.clock.advance(by);
            build.build_complete == Some(true)
        };
        self.until(id, over).await
    }

    pub(crate) async fn in_phase(&self, id: &str, phase: &str) -> Build {
        self.until(id, |build| build.current_phase.as_deref() == Some(phase)).await
    }

    pub(crate) async fn removed(&self, id: &str) {
        eventually(|| async { self.agents.is_removed(uuid(id)) }).await;
    }

    pub(crate) fn hold_all_in(&self, phase: Phase) {
        self.agents.script(move |_| Script { hold_in: Some(phase), ..Script::default() });
    }

    pub(crate) fn scope(&self) -> Scope {
        Scope { account: "123456789012".to_string(), region: "eu-west-1".to_string() }
    }

    pub(crate) fn log(&self, id: &str) -> PathBuf {
        self.folder.path().join("logs").join(format!("{}.log", uuid(id)))
    }
}

pub(crate) async fn eventually<F: Future<Output = bool>>(what: impl Fn() -> F) {
    let waiting = async {
        while !what().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it does not come");
}

pub(crate) fn uuid(id: &str) -> &str {
    id.split_once(':').unwrap().1
}

/// The phases with their statuses, `-` for none.
pub(crate) fn phases(build: &Build) -> Vec<String> {
    let phases = build.phases.iter().flatten();
    let shown = phases.map(|phase| {
        let status = phase.phase_status.as_ref().map_or("-", |status| status.as_str());
        format!("{} {status}", phase.phase_type.as_ref().unwrap())
    });
    shown.collect()
}

pub(crate) fn context_of(build: &Build, phase: &str) -> (String, String) {
    let mut phases = build.phases.iter().flatten();
    let phase = phases.find(|one| one.phase_type.as_ref().unwrap().as_str() == phase).unwrap();
    let context = phase.contexts.as_ref().unwrap()[0].clone();
    (context.status_code.unwrap(), context.message.unwrap())
}

pub(crate) fn status(build: &Build) -> &str {
    build.build_status.as_ref().unwrap().as_str()
}

/// Runs `what` on a runtime that is then gone with all its tasks, as if the process had been killed.
pub(crate) fn in_a_life_of_its_own<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(what)
}

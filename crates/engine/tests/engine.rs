//! The engine with the real store and scripted agents: a build's life, the queue, and what survives a restart.

#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent::journal::{Context, Outcome, Phase, UploadedArtifact};
use agent::plan::Rootfs;
use api::codebuild::*;
use engine::clock::ManualClock;
use engine::config::{Image, LogGrew, ResolveImage};
use engine::{Caller, Config, Engine, Error};
use executor::Fake;
use executor::fake::Script;
use store::records::{Records, Scope};
use tempfile::TempDir;
use tokio::sync::Notify;

const START_MS: i64 = 1_700_000_000_000;
const INLINE: &str = "version: 0.2\nphases: {}\n";

// ---- a user of the engine -----------------------------------------------------------------------------------

/// An engine in a folder of its own, with the verbs of its users. Time stands still unless told to move.
struct Tester {
    folder: TempDir,
    config: Config,
    clock: ManualClock,
    records: Records,
    agents: Fake,
    engine: Engine,
    caller: Caller,
}

fn config(folder: &Path, clock: &ManualClock) -> Config {
    let mut config = Config::new("eu-west-1".parse().unwrap(), folder.join("objects"), folder.join("logs"));
    config.environment_types = vec![EnvironmentType::LinuxContainer];
    config.concurrent_builds = 2;
    config.clock = Arc::new(clock.clone());
    config
}

fn agents(folder: &Path, clock: &ManualClock) -> Fake {
    use engine::clock::Clock;
    let clock = clock.clone();
    std::fs::create_dir_all(folder.join("builds")).unwrap();
    Fake::new(&folder.join("builds"), move || clock.now_ms())
}

fn caller() -> Caller {
    Caller {
        account: "123456789012".parse().unwrap(),
        arn: "arn:aws:iam::123456789012:user/alice".to_string(),
    }
}

impl Tester {
    async fn new() -> Tester {
        Tester::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Tester {
        let folder = tempfile::tempdir().unwrap();
        let clock = ManualClock::new(START_MS);
        let mut config = config(folder.path(), &clock);
        change(&mut config);
        let records = Records::open(folder.path()).unwrap();
        let agents = agents(folder.path(), &clock);
        let engine = Engine::start(config.clone(), records.clone(), Arc::new(agents.clone())).await.unwrap();
        let tester = Tester { folder, config, clock, records, agents, engine, caller: caller() };
        tester.create_project("demo", |_| {}).await.unwrap();
        tester
    }

    /// The engine goes away, and another one starts with what is stored.
    async fn restart(&mut self) {
        self.engine.shut_down().await;
        self.start_again().await;
    }

    async fn start_again(&mut self) {
        let (config, records) = (self.config.clone(), self.records.clone());
        self.engine = Engine::start(config, records, Arc::new(self.agents.clone())).await.unwrap();
    }

    async fn create_project(
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

    async fn start_with(&self, change: impl FnOnce(&mut StartBuildInput)) -> engine::Result<Build> {
        let mut input =
            StartBuildInput { project_name: Some("demo".to_string()), ..StartBuildInput::default() };
        change(&mut input);
        Ok(self.engine.start_build(&self.caller, input).await?.build.unwrap())
    }

    async fn start(&self) -> String {
        self.start_with(|_| {}).await.unwrap().id.unwrap()
    }

    async fn get(&self, id: &str) -> Build {
        let input = BatchGetBuildsInput { ids: Some(vec![id.to_string()]) };
        self.engine.batch_get_builds(&self.caller, input).await.unwrap().builds.unwrap().remove(0)
    }

    async fn stop(&self, id: &str) -> Build {
        let input = StopBuildInput { id: Some(id.to_string()) };
        self.engine.stop_build(&self.caller, input).await.unwrap().build.unwrap()
    }

    async fn until(&self, id: &str, what: impl Fn(&Build) -> bool) -> Build {
        let waiting = async {
            loop {
                let build = self.get(id).await;
                if what(&build) {
                    return build;
                }
                tokio::task::yield_now().await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(20), waiting).await {
            Ok(build) => build,
            Err(_) => panic!("it does not come: {:?}", self.get(id).await),
        }
    }

    async fn done(&self, id: &str) -> Build {
        self.until(id, |build| build.build_complete == Some(true)).await
    }

    /// Lets time pass, `by` at a time, until the build is over.
    async fn done_in_time(&self, id: &str, by: Duration) -> Build {
        let over = |build: &Build| {
            self.clock.advance(by);
            build.build_complete == Some(true)
        };
        self.until(id, over).await
    }

    async fn in_phase(&self, id: &str, phase: &str) -> Build {
        self.until(id, |build| build.current_phase.as_deref() == Some(phase)).await
    }

    async fn removed(&self, id: &str) {
        eventually(|| async { self.agents.is_removed(uuid(id)) }).await;
    }

    fn hold_all_in(&self, phase: Phase) {
        self.agents.script(move |_| Script { hold_in: Some(phase), ..Script::default() });
    }

    fn scope(&self) -> Scope {
        Scope { account: "123456789012".to_string(), region: "eu-west-1".to_string() }
    }

    fn log(&self, id: &str) -> PathBuf {
        self.folder.path().join("logs").join(format!("{}.log", uuid(id)))
    }
}

async fn eventually<F: Future<Output = bool>>(what: impl Fn() -> F) {
    let waiting = async {
        while !what().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it does not come");
}

fn uuid(id: &str) -> &str {
    id.split_once(':').unwrap().1
}

/// The phases with their statuses, `-` for none.
fn phases(build: &Build) -> Vec<String> {
    let phases = build.phases.iter().flatten();
    let shown = phases.map(|phase| {
        let status = phase.phase_status.as_ref().map_or("-", |status| status.as_str());
        format!("{} {status}", phase.phase_type.as_ref().unwrap())
    });
    shown.collect()
}

fn context_of(build: &Build, phase: &str) -> (String, String) {
    let mut phases = build.phases.iter().flatten();
    let phase = phases.find(|one| one.phase_type.as_ref().unwrap().as_str() == phase).unwrap();
    let context = phase.contexts.as_ref().unwrap()[0].clone();
    (context.status_code.unwrap(), context.message.unwrap())
}

fn status(build: &Build) -> &str {
    build.build_status.as_ref().unwrap().as_str()
}

// ---- a build's life -----------------------------------------------------------------------------------------

#[tokio::test]
async fn a_build_goes_through_every_phase_and_leaves_nothing_but_its_record() {
    let tester = Tester::new().await;
    tester.agents.script(|_| Script {
        resolved_version: Some("abc".to_string()),
        exported: [("TAG".to_string(), "v1".to_string())].into(),
        artifacts: vec![UploadedArtifact {
            identifier: None,
            location: "arn:aws:s3:::out/demo".to_string(),
            sha256: Some("aa".to_string()),
            md5: Some("bb".to_string()),
            files: 1,
        }],
        ..Script::default()
    });
    let accepted = tester.start_with(|_| {}).await.unwrap();
    assert_eq!((status(&accepted), accepted.current_phase.as_deref()), ("IN_PROGRESS", Some("QUEUED")));
    assert_eq!((accepted.build_number, accepted.initiator.as_deref()), (Some(1), Some("alice")));
    assert!(accepted.logs.as_ref().unwrap().group_name.is_none());

    let id = accepted.id.unwrap();
    let build = tester.done(&id).await;
    let expect = [
        "SUBMITTED SUCCEEDED",
        "QUEUED SUCCEEDED",
        "PROVISIONING SUCCEEDED",
        "DOWNLOAD_SOURCE SUCCEEDED",
        "INSTALL SUCCEEDED",
        "PRE_BUILD SUCCEEDED",
        "BUILD SUCCEEDED",
        "POST_BUILD SUCCEEDED",
        "UPLOAD_ARTIFACTS SUCCEEDED",
        "FINALIZING SUCCEEDED",
        "COMPLETED -",
    ];
    assert_eq!(phases(&build), expect);
    assert_eq!(status(&build), "SUCCEEDED");
    assert_eq!(context_of(&build, "BUILD"), (String::new(), String::new()));
    let all = build.phases.as_ref().unwrap();
    assert!(all[0].contexts.is_none() && all[1].contexts.is_none());
    assert_eq!(all.last().unwrap().start_time, build.end_time);
    assert_eq!(build.resolved_source_version.as_deref(), Some("abc"));
    let exported = build.exported_environment_variables.unwrap();
    assert_eq!(exported[0].value.as_deref(), Some("v1"));
    let artifacts = build.artifacts.unwrap();
    assert_eq!((artifacts.sha256sum.as_deref(), artifacts.md5sum.as_deref()), (Some("aa"), Some("bb")));
    let logs = build.logs.unwrap();
    assert_eq!(logs.group_name.as_deref(), Some("/aws/codebuild/demo"));
    assert_eq!(logs.stream_name.as_deref(), Some(uuid(&id)));
    assert_eq!(
        logs.cloud_watch_logs_arn.unwrap(),
        format!("arn:aws:logs:eu-west-1:123456789012:log-group:/aws/codebuild/demo:log-stream:{}", uuid(&id))
    );
    tester.removed(&id).await;
}

#[tokio::test]
async fn a_finished_builds_log_stream_can_be_found_and_is_sealed() {
    let tester = Tester::new().await;
    let id = tester.start().await;
    tester.done(&id).await;
    let found = tester.records.get_log_stream(&tester.scope(), "/aws/codebuild/demo", uuid(&id)).await;
    let stream = found.unwrap().unwrap();
    assert_eq!(Path::new(&stream.segment), tester.log(&id));
    assert!(store::logs::SegmentReader::open(&tester.log(&id)).unwrap().sealed().unwrap());
}

#[tokio::test]
async fn a_build_without_cloudwatch_logs_has_no_stream() {
    let tester = Tester::new().await;
    let disabled = LogsConfig {
        cloud_watch_logs: Some(CloudWatchLogsConfig {
            status: Some(LogsConfigStatusType::Disabled),
            ..CloudWatchLogsConfig::default()
        }),
        s3_logs: None,
    };
    let build = tester.start_with(|input| input.logs_config_override = Some(disabled)).await.unwrap();
    let build = tester.done(&build.id.unwrap()).await;
    assert!(build.logs.unwrap().group_name.is_none());
    assert!(tester.records.get_log_group(&tester.scope(), "/aws/codebuild/demo").await.unwrap().is_none());
}

#[tokio::test]
async fn a_failing_command_fails_the_build_and_says_why() {
    let tester = Tester::new().await;
    tester.agents.script(|_| Script {
        fail_in: Some((
            Phase::Build,
            Outcome::Failed,
            Context {
                status_code: "COMMAND_EXECUTION_ERROR".to_string(),
                message: "Error while executing command: false. Reason: exit status 1".to_string(),
            },
        )),
        ..Script::default()
    });
    let build = tester.done(&tester.start().await).await;
    assert_eq!(status(&build), "FAILED");
    assert_eq!(context_of(&build, "BUILD").0, "COMMAND_EXECUTION_ERROR");
    assert_eq!(phases(&build)[6..], ["BUILD FAILED", "FINALIZING SUCCEEDED", "COMPLETED -"]);
}

#[tokio::test]
async fn an_agent_that_dies_makes_the_build_a_fault() {
    let tester = Tester::new().await;
    tester.agents.script(|_| Script { die_in: Some(Phase::Install), ..Script::default() });
    let id = tester.start().await;
    let build = tester.done(&id).await;
    assert_eq!(status(&build), "FAULT");
    assert_eq!(phases(&build)[4..], ["INSTALL FAULT", "COMPLETED -"]);
    assert_eq!(context_of(&build, "INSTALL").0, "INTERNAL_SERVICE_ERROR");
    tester.removed(&id).await;
}

#[tokio::test]
async fn a_build_no_agent_takes_is_a_fault_and_frees_its_place() {
    let tester = Tester::with(|config| config.concurrent_builds = 1).await;
    tester.agents.script(|_| Script { refuse: true, ..Script::default() });
    let build = tester.done(&tester.start().await).await;
    assert_eq!(status(&build), "FAULT");
    assert_eq!(phases(&build)[2..], ["PROVISIONING FAULT", "COMPLETED -"]);
    tester.agents.script(|_| Script::default());
    assert_eq!(status(&tester.done(&tester.start().await).await), "SUCCEEDED");
}

// ---- images -------------------------------------------------------------------------------------------------

#[tokio::test]
async fn an_image_that_cannot_be_had_fails_provisioning() {
    let tester = Tester::with(|config| {
        config.images = ResolveImage::new(|image| async move { Err(format!("no such image: {image}")) });
    })
    .await;
    let build = tester.start_with(|input| input.image_override = Some("x:1".to_string())).await.unwrap();
    let build = tester.done(&build.id.unwrap()).await;
    assert_eq!(status(&build), "FAILED");
    let (code, message) = context_of(&build, "PROVISIONING");
    assert_eq!(code, "BUILD_CONTAINER_UNABLE_TO_PULL_IMAGE");
    assert_eq!(
        message,
        "Unable to pull customer's container image. CannotPullContainerError: no such image: x:1"
    );
}

#[tokio::test]
async fn an_images_place_and_variables_reach_the_agent() {
    let tester = Tester::with(|config| {
        config.images = ResolveImage::new(|_| async {
            let variables = [("LANG".to_string(), "C".to_string())].into();
            Ok(Image { rootfs: Rootfs::Folder("/images/x".into()), variables })
        });
    })
    .await;
    let (seen, mut plans) = tokio::sync::mpsc::unbounded_channel();
    tester.agents.script(move |plan| {
        seen.send(plan.clone()).unwrap();
        Script::default()
    });
    tester.start_with(|input| input.image_override = Some("x:1".to_string())).await.unwrap();
    let plan = plans.recv().await.unwrap();
    assert!(matches!(&plan.environment.rootfs, Rootfs::Folder(path) if path == Path::new("/images/x")));
    assert_eq!(plan.environment.variables["LANG"], "C");
}

#[tokio::test]
async fn a_build_can_be_stopped_while_its_image_is_fetched_and_is_not_launched() {
    let fetching = Arc::new(Notify::new());
    let fetch = fetching.clone();
    let tester = Tester::with(|config| {
        config.images = ResolveImage::new(move |_| {
            let fetch = fetch.clone();
            async move {
                fetch.notified().await;
                Err("too late".to_string())
            }
        });
    })
    .await;
    let build = tester.start_with(|input| input.image_override = Some("x:1".to_string())).await.unwrap();
    let id = build.id.unwrap();
    let build = tester.in_phase(&id, "PROVISIONING").await;
    assert!(build.logs.unwrap().group_name.is_some());
    tester.stop(&id).await;
    let build = tester.done(&id).await;
    assert_eq!(phases(&build)[2..], ["PROVISIONING STOPPED", "COMPLETED -"]);
    assert_eq!((status(&build), tester.agents.starts(uuid(&id))), ("STOPPED", 0));
}

// ---- stopping -----------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_build_can_be_stopped_in_every_phase_of_its_agent() {
    let tester = Tester::new().await;
    for phase in [
        Phase::Provisioning,
        Phase::DownloadSource,
        Phase::Install,
        Phase::PreBuild,
        Phase::Build,
        Phase::PostBuild,
        Phase::UploadArtifacts,
    ] {
        tester.hold_all_in(phase);
        let id = tester.start().await;
        // In PROVISIONING the build is before its agent is: wait for the agent.
        eventually(|| async { tester.agents.starts(uuid(&id)) == 1 }).await;
        tester.in_phase(&id, phase.name()).await;
        tester.stop(&id).await;
        let build = tester.done(&id).await;
        assert_eq!(status(&build), "STOPPED", "{phase:?}");
        assert!(phases(&build).contains(&format!("{} STOPPED", phase.name())), "{:?}", phases(&build));
        tester.removed(&id).await;
    }
}

#[tokio::test]
async fn a_build_stopped_in_the_queue_is_stopped_in_the_answer_and_never_launched() {
    let tester = Tester::with(|config| config.concurrent_builds = 1).await;
    tester.hold_all_in(Phase::Build);
    let first = tester.start().await;
    let second = tester.start().await;
    let build = tester.stop(&second).await;
    assert_eq!((status(&build), build.build_complete), ("STOPPED", Some(true)));
    assert_eq!(phases(&build), ["SUBMITTED SUCCEEDED", "QUEUED STOPPED", "COMPLETED -"]);
    tester.agents.release(uuid(&first));
    tester.done(&first).await;
    assert_eq!(tester.agents.starts(uuid(&second)), 0);
}

#[tokio::test]
async fn stopping_a_finished_build_answers_it_unchanged() {
    let tester = Tester::new().await;
    let id = tester.start().await;
    let done = tester.done(&id).await;
    assert_eq!(tester.stop(&id).await, done);
}

#[tokio::test]
async fn an_agent_that_does_not_stop_is_killed() {
    let tester = Tester::new().await;
    tester.agents.script(|_| Script { hold_in: Some(Phase::Build), deaf: true, ..Script::default() });
    let id = tester.start().await;
    tester.in_phase(&id, "BUILD").await;
    assert_eq!(status(&tester.stop(&id).await), "IN_PROGRESS");
    let build = tester.done_in_time(&id, Duration::from_secs(8)).await;
    assert_eq!(status(&build), "STOPPED");
    assert_eq!(phases(&build)[6..], ["BUILD STOPPED", "COMPLETED -"]);
}

#[tokio::test]
async fn an_agent_that_overlooks_its_timeout_is_killed() {
    let tester = Tester::new().await;
    tester.hold_all_in(Phase::Build);
    let build = tester.start_with(|input| input.timeout_in_minutes_override = Some(5)).await.unwrap();
    let id = build.id.unwrap();
    tester.in_phase(&id, "BUILD").await;
    let build = tester.done_in_time(&id, Duration::from_secs(5 * 60 + 30)).await;
    assert_eq!(status(&build), "TIMED_OUT");
    let expect = ("BUILD_TIMED_OUT".to_string(), "Build has timed out. ".to_string());
    assert_eq!(context_of(&build, "BUILD"), expect);
}

#[tokio::test]
async fn unknown_builds_cannot_be_stopped() {
    let tester = Tester::new().await;
    let stop = |id: &str| {
        let input = StopBuildInput { id: Some(id.to_string()) };
        let engine = &tester.engine;
        async move { engine.stop_build(&caller(), input).await }
    };
    assert!(matches!(stop("nonsense").await, Err(Error::InvalidInput(_))));
    let unknown = stop("demo:0c8a3fd5-5a2f-4f0e-9d57-8b6d63f3c6a1").await;
    assert!(matches!(unknown, Err(Error::NotFound(_))), "{unknown:?}");
}

// ---- the queue ----------------------------------------------------------------------------------------------

#[tokio::test]
async fn builds_start_in_the_order_they_came_as_places_become_free() {
    let tester = Tester::new().await;
    tester.hold_all_in(Phase::Build);
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(tester.start().await);
    }
    for id in &ids[..2] {
        tester.in_phase(id, "BUILD").await;
    }
    assert_eq!(tester.get(&ids[2]).await.current_phase.as_deref(), Some("QUEUED"));
    tester.agents.release(uuid(&ids[0]));
    tester.in_phase(&ids[2], "BUILD").await;
    assert_eq!(tester.get(&ids[3]).await.current_phase.as_deref(), Some("QUEUED"));
    tester.stop(&ids[1]).await;
    tester.in_phase(&ids[3], "BUILD").await;
}

#[tokio::test]
async fn a_projects_own_limit_holds_back_its_builds_only() {
    let tester = Tester::new().await;
    tester.create_project("narrow", |input| input.concurrent_build_limit = Some(1)).await.unwrap();
    tester.hold_all_in(Phase::Build);
    let narrow = |input: &mut StartBuildInput| input.project_name = Some("narrow".to_string());
    let first = tester.start_with(narrow).await.unwrap().id.unwrap();
    let second = tester.start_with(narrow).await.unwrap().id.unwrap();
    let other = tester.start().await;
    tester.in_phase(&first, "BUILD").await;
    tester.in_phase(&other, "BUILD").await;
    assert_eq!(tester.get(&second).await.current_phase.as_deref(), Some("QUEUED"));
    tester.agents.release(uuid(&first));
    tester.in_phase(&second, "BUILD").await;
}

#[tokio::test]
async fn a_full_queue_refuses_further_builds_and_remembers_none_of_them() {
    let tester = Tester::with(|config| (config.concurrent_builds, config.queued_builds) = (1, 2)).await;
    tester.hold_all_in(Phase::Build);
    for _ in 0..3 {
        tester.start().await;
    }
    match tester.start_with(|_| {}).await {
        Err(Error::AccountLimitExceeded(message)) => {
            assert_eq!(message, "Cannot have more than 2 builds in queue for the account");
        }
        other => panic!("not refused: {other:?}"),
    }
    let listed = tester.engine.list_builds(&tester.caller, ListBuildsInput::default()).await.unwrap();
    assert_eq!(listed.ids.unwrap().len(), 3);
}

#[tokio::test]
async fn a_build_that_waits_too_long_times_out_in_the_queue() {
    let tester = Tester::with(|config| config.concurrent_builds = 1).await;
    tester.hold_all_in(Phase::Build);
    let first = tester.start_with(|input| input.timeout_in_minutes_override = Some(60)).await.unwrap();
    let build = tester.start_with(|input| input.queued_timeout_in_minutes_override = Some(5)).await.unwrap();
    let id = build.id.unwrap();
    tester.clock.advance(Duration::from_secs(299));
    assert_eq!(tester.get(&id).await.build_complete, Some(false));
    tester.clock.advance(Duration::from_secs(1));
    let build = tester.done(&id).await;
    assert_eq!(status(&build), "TIMED_OUT");
    assert_eq!(phases(&build), ["SUBMITTED SUCCEEDED", "QUEUED TIMED_OUT", "COMPLETED -"]);
    assert_eq!(build.end_time.unwrap().millis(), START_MS + 300_000);
    assert_eq!(tester.agents.starts(uuid(&id)), 0);
    tester.agents.release(uuid(&first.id.clone().unwrap()));
    assert_eq!(status(&tester.done(&first.id.unwrap()).await), "SUCCEEDED");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_builds_started_at_once_all_succeed_and_are_numbered_without_gaps() {
    let tester = Arc::new(Tester::with(|config| config.concurrent_builds = 16).await);
    let starting: Vec<_> = (0..1000)
        .map(|_| {
            let tester = tester.clone();
            tokio::spawn(async move { tester.start_with(|_| {}).await.unwrap() })
        })
        .collect();
    let mut numbers = Vec::new();
    let mut ids = Vec::new();
    for build in starting {
        let build = build.await.unwrap();
        numbers.push(build.build_number.unwrap());
        ids.push(build.id.unwrap());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=1000).collect::<Vec<_>>());
    for id in &ids {
        assert_eq!(status(&tester.done(id).await), "SUCCEEDED");
        assert_eq!(tester.agents.starts(uuid(id)), 1);
    }
    assert!(tester.records.incomplete_builds().await.unwrap().is_empty());
}

// ---- restarts -----------------------------------------------------------------------------------------------

#[tokio::test]
async fn a_running_build_goes_on_under_the_next_engine() {
    let mut tester = Tester::new().await;
    tester.hold_all_in(Phase::Build);
    let id = tester.start().await;
    tester.in_phase(&id, "BUILD").await;
    tester.restart().await;
    tester.agents.release(uuid(&id));
    let build = tester.done(&id).await;
    assert_eq!((status(&build), tester.agents.starts(uuid(&id))), ("SUCCEEDED", 1));
    assert_eq!(phases(&build).len(), 11);
    tester.removed(&id).await;
}

#[tokio::test]
async fn an_adopted_build_takes_up_its_place_in_the_limits() {
    let mut tester = Tester::with(|config| config.concurrent_builds = 1).await;
    tester.hold_all_in(Phase::Build);
    let first = tester.start().await;
    tester.in_phase(&first, "BUILD").await;
    let second = tester.start().await;
    tester.restart().await;
    assert_eq!(tester.get(&second).await.current_phase.as_deref(), Some("QUEUED"));
    tester.agents.release(uuid(&first));
    tester.in_phase(&second, "BUILD").await;
}

#[tokio::test]
async fn a_build_that_ended_while_no_engine_was_there_is_taken_as_it_ended() {
    let mut tester = Tester::new().await;
    tester.hold_all_in(Phase::Build);
    let id = tester.start().await;
    tester.in_phase(&id, "BUILD").await;
    tester.engine.shut_down().await;
    tester.agents.release(uuid(&id));
    tester.start_again().await;
    let build = tester.done(&id).await;
    assert_eq!((status(&build), tester.agents.starts(uuid(&id))), ("SUCCEEDED", 1));
    tester.removed(&id).await;
}

#[tokio::test]
async fn a_build_whose_agent_died_while_no_engine_was_there_is_a_fault_and_not_run_again() {
    let mut tester = Tester::new().await;
    tester.hold_all_in(Phase::Build);
    let id = tester.start().await;
    tester.in_phase(&id, "BUILD").await;
    tester.engine.shut_down().await;
    tester.agents.kill(uuid(&id));
    tester.start_again().await;
    let build = tester.done(&id).await;
    assert_eq!((status(&build), tester.agents.starts(uuid(&id))), ("FAULT", 1));
    assert!(store::logs::SegmentReader::open(&tester.log(&id)).unwrap().sealed().unwrap());
}

#[tokio::test]
async fn queued_builds_keep_their_order_and_their_deadline() {
    let mut tester = Tester::with(|config| config.concurrent_builds = 1).await;
    tester.hold_all_in(Phase::Build);
    let first = tester.start().await;
    let second = tester.start_with(|input| input.queued_timeout_in_minutes_override = Some(5)).await.unwrap();
    let (second, third) = (second.id.unwrap(), tester.start().await);
    tester.in_phase(&first, "BUILD").await;
    tester.engine.shut_down().await;
    tester.clock.advance(Duration::from_secs(200));
    tester.start_again().await;
    tester.clock.advance(Duration::from_secs(100));
    assert_eq!(status(&tester.done(&second).await), "TIMED_OUT");
    tester.agents.release(uuid(&first));
    tester.in_phase(&third, "BUILD").await;
}

#[tokio::test]
async fn a_stop_is_remembered_by_the_next_engine() {
    let mut tester = Tester::new().await;
    tester.agents.script(|_| Script { hold_in: Some(Phase::Build), deaf: true, ..Script::default() });
    let id = tester.start().await;
    tester.in_phase(&id, "BUILD").await;
    tester.stop(&id).await;
    tester.restart().await;
    let build = tester.done_in_time(&id, Duration::from_secs(8)).await;
    assert_eq!((status(&build), tester.agents.starts(uuid(&id))), ("STOPPED", 1));
}

#[tokio::test]
async fn a_closing_engine_takes_no_builds() {
    let tester = Tester::new().await;
    tester.engine.shut_down().await;
    assert!(matches!(tester.start_with(|_| {}).await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn what_ended_builds_left_behind_is_removed_at_the_next_start() {
    let mut tester = Tester::new().await;
    tester.engine.shut_down().await;
    let left = tester.folder.path().join("builds").join("0c8a3fd5-5a2f-4f0e-9d57-8b6d63f3c6a1");
    std::fs::create_dir_all(&left).unwrap();
    tester.start_again().await;
    assert!(!left.exists());
}

/// Runs `what` on a runtime that is then gone with all its tasks, as if the process had been killed.
fn in_a_life_of_its_own<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(what)
}

#[test]
fn accepted_builds_and_tokens_survive_an_engine_that_vanishes() {
    let folder = tempfile::tempdir().unwrap();
    let clock = ManualClock::new(START_MS);
    let life = async |concurrent: usize| {
        let mut config = config(folder.path(), &clock);
        config.concurrent_builds = concurrent;
        let agents = agents(folder.path(), &clock);
        let records = Records::open(folder.path()).unwrap();
        let engine = Engine::start(config.clone(), records.clone(), Arc::new(agents.clone())).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        Tester { folder, config, clock: clock.clone(), records, agents, engine, caller: caller() }
    };
    let with_token = |input: &mut StartBuildInput| input.idempotency_token = Some("once".to_string());
    let (first, second) = in_a_life_of_its_own(async {
        let tester = life(0).await;
        tester.create_project("demo", |_| {}).await.unwrap();
        (tester.start_with(with_token).await.unwrap(), tester.start().await)
    });
    in_a_life_of_its_own(async {
        let tester = life(1).await;
        let again = tester.start_with(with_token).await.unwrap();
        assert_eq!((&again.id, again.build_number), (&first.id, Some(1)));
        for id in [first.id.as_deref().unwrap(), &second] {
            assert_eq!(status(&tester.done(id).await), "SUCCEEDED");
        }
        let listed = tester.engine.list_builds(&tester.caller, ListBuildsInput::default()).await.unwrap();
        assert_eq!(listed.ids.unwrap(), [second.clone(), first.id.clone().unwrap()]);
    });
}

// ---- tokens and retries -------------------------------------------------------------------------------------

#[tokio::test]
async fn a_token_means_one_build_for_five_minutes() {
    let tester = Tester::new().await;
    let with_token = |input: &mut StartBuildInput| input.idempotency_token = Some("once".to_string());
    let first = tester.start_with(with_token).await.unwrap().id;
    assert_eq!(tester.start_with(with_token).await.unwrap().id, first);
    let other = tester
        .start_with(|input| {
            with_token(input);
            input.timeout_in_minutes_override = Some(7);
        })
        .await;
    assert!(matches!(other, Err(Error::InvalidInput(_))), "{other:?}");
    tester.clock.advance(Duration::from_secs(5 * 60));
    assert_ne!(tester.start_with(with_token).await.unwrap().id, first);
}

#[tokio::test]
async fn a_retry_is_a_new_build_with_the_same_settings() {
    let tester = Tester::new().await;
    let first = tester
        .start_with(|input| {
            input.timeout_in_minutes_override = Some(7);
            input.source_version = Some("v1".to_string());
        })
        .await
        .unwrap();
    let id = first.id.clone().unwrap();
    tester.done(&id).await;
    let input = RetryBuildInput { id: first.arn, idempotency_token: None };
    let retried = tester.engine.retry_build(&tester.caller, input).await.unwrap().build.unwrap();
    assert_eq!((retried.build_number, retried.timeout_in_minutes), (Some(2), Some(7)));
    assert_eq!(retried.source_version.as_deref(), Some("v1"));
    assert_ne!(retried.id.as_deref(), Some(id.as_str()));
    assert_eq!(status(&tester.done(&retried.id.unwrap()).await), "SUCCEEDED");
}

// ---- projects and lists -------------------------------------------------------------------------------------

#[tokio::test]
async fn projects_are_made_changed_found_and_deleted() {
    let tester = Tester::new().await;
    let made = tester.create_project("web", |_| {}).await.unwrap();
    let again = tester.create_project("web", |_| {}).await;
    let Err(Error::AlreadyExists(message)) = again else { panic!("made twice") };
    assert_eq!(message, format!("Project already exists: {}", made.arn.clone().unwrap()));

    tester.clock.advance(Duration::from_secs(1));
    let input = UpdateProjectInput {
        name: Some("web".to_string()),
        description: Some("the site".to_string()),
        ..UpdateProjectInput::default()
    };
    let changed = tester.engine.update_project(&tester.caller, input).await.unwrap().project.unwrap();
    assert_eq!((changed.description.as_deref(), changed.created), (Some("the site"), made.created));

    let names = vec![made.arn.unwrap(), "nope".to_string(), "web".to_string()];
    let input = BatchGetProjectsInput { names: Some(names) };
    let found = tester.engine.batch_get_projects(&tester.caller, input).await.unwrap();
    assert_eq!(found.projects.unwrap(), [changed]);
    assert_eq!(found.projects_not_found.unwrap(), ["nope"]);

    for _ in 0..2 {
        let input = DeleteProjectInput { name: Some("web".to_string()) };
        tester.engine.delete_project(&tester.caller, input).await.unwrap();
    }
    let input = UpdateProjectInput { name: Some("web".to_string()), ..UpdateProjectInput::default() };
    assert!(matches!(tester.engine.update_project(&tester.caller, input).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn long_lists_come_in_pages_of_a_hundred() {
    let tester = Tester::new().await;
    for number in 0..150 {
        tester.create_project(&format!("p{number:03}"), |_| {}).await.unwrap();
    }
    let list = |next_token| {
        let input = ListProjectsInput { next_token, ..ListProjectsInput::default() };
        let engine = &tester.engine;
        async move { engine.list_projects(&caller(), input).await }
    };
    let first = list(None).await.unwrap();
    let mut names = first.projects.unwrap();
    assert_eq!(names.len(), 100);
    let second = list(first.next_token.clone()).await.unwrap();
    assert!(second.next_token.is_none());
    names.extend(second.projects.unwrap());
    let mut expect: Vec<String> = (0..150).map(|number| format!("p{number:03}")).collect();
    expect.insert(0, "demo".to_string());
    assert_eq!(names, expect);
    assert!(matches!(list(Some("zz".to_string())).await, Err(Error::InvalidInput(_))));
    let input = ListBuildsInput { next_token: first.next_token, ..ListBuildsInput::default() };
    let foreign = tester.engine.list_builds(&tester.caller, input).await;
    assert!(matches!(foreign, Err(Error::InvalidInput(_))), "{foreign:?}");
}

#[tokio::test]
async fn a_projects_builds_are_listed_by_number_and_outlive_it() {
    let tester = Tester::new().await;
    let (first, second) = (tester.start().await, tester.start().await);
    let list = |sort_order| {
        let input = ListBuildsForProjectInput {
            project_name: Some("demo".to_string()),
            sort_order,
            ..ListBuildsForProjectInput::default()
        };
        let engine = &tester.engine;
        async move { engine.list_builds_for_project(&caller(), input).await }
    };
    assert_eq!(list(None).await.unwrap().ids.unwrap(), [second.clone(), first.clone()]);
    let ascending = list(Some(SortOrderType::Ascending)).await.unwrap();
    assert_eq!(ascending.ids.unwrap(), [first.clone(), second]);
    tester.done(&first).await;
    let input = DeleteProjectInput { name: Some("demo".to_string()) };
    tester.engine.delete_project(&tester.caller, input).await.unwrap();
    assert_eq!(tester.get(&first).await.id, Some(first));
    let Err(Error::NotFound(message)) = list(None).await else { panic!("found") };
    let arn = "arn:aws:codebuild:eu-west-1:123456789012:project/demo";
    assert_eq!(message, format!("The provided project {arn} does not exist"));
}

#[tokio::test]
async fn only_builds_that_are_over_are_deleted() {
    let tester = Tester::new().await;
    let done = tester.start().await;
    let done_arn = tester.done(&done).await.arn.unwrap();
    tester.hold_all_in(Phase::Build);
    let running = tester.start().await;
    let input = BatchDeleteBuildsInput { ids: Some(vec![done.clone(), running.clone()]) };
    let deleted = tester.engine.batch_delete_builds(&tester.caller, input).await.unwrap();
    assert_eq!(deleted.builds_deleted.unwrap(), [done_arn]);
    let kept = deleted.builds_not_deleted.unwrap().remove(0);
    assert_eq!(kept.status_code.as_deref(), Some("BUILD_IN_PROGRESS"));
    assert!(kept.id.unwrap().ends_with(&running));
    let input = BatchGetBuildsInput { ids: Some(vec![done.clone(), running]) };
    let found = tester.engine.batch_get_builds(&tester.caller, input).await.unwrap();
    assert_eq!((found.builds.unwrap().len(), found.builds_not_found.unwrap()), (1, vec![done]));
}

#[tokio::test]
async fn another_account_sees_and_stops_nothing() {
    let tester = Tester::new().await;
    tester.hold_all_in(Phase::Build);
    let id = tester.start().await;
    let arn = tester.get(&id).await.arn.unwrap();
    let stranger = Caller {
        account: "999999999999".parse().unwrap(),
        arn: "arn:aws:iam::999999999999:user/eve".to_string(),
    };
    let asked = vec![id.clone(), arn];
    let input = BatchGetBuildsInput { ids: Some(asked.clone()) };
    let found = tester.engine.batch_get_builds(&stranger, input).await.unwrap();
    assert_eq!((found.builds.unwrap().len(), found.builds_not_found.unwrap()), (0, asked.clone()));
    for id in asked {
        let input = StopBuildInput { id: Some(id) };
        assert!(tester.engine.stop_build(&stranger, input).await.is_err());
    }
    let input = StartBuildInput { project_name: Some("demo".to_string()), ..StartBuildInput::default() };
    assert!(matches!(tester.engine.start_build(&stranger, input).await, Err(Error::NotFound(_))));
    assert_eq!(tester.get(&id).await.build_complete, Some(false));
}

#[tokio::test]
async fn readers_of_the_log_are_told_when_the_build_ends() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let tester = Tester::with(|config| {
        config.log_grew = LogGrew::new(move |account, group, stream| {
            tell.send((account.to_string(), group.to_string(), stream.to_string())).unwrap();
        });
    })
    .await;
    let id = tester.start().await;
    tester.done(&id).await;
    let expect = ("123456789012".to_string(), "/aws/codebuild/demo".to_string(), uuid(&id).to_string());
    assert_eq!(told.recv().await, Some(expect));
}

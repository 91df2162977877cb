//! A driver's world: an executor, builds for it, and what became of them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::journal::{Context, Event, Outcome, Phase};
use agent::plan::{Artifacts, Buildspec, DriverLoss, Environment, Limits, Network, Plan, Rootfs, Source};
use executor::{Adopted, Executor, Link, Remains, Signal};
use serde_json::json;
use store::logs::SegmentReader;

use crate::subject::Subject;

/// A build that does nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(60);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(crate) struct World {
    pub(crate) subject: Subject,
    runtime: tokio::runtime::Runtime,
    executor: RefCell<Option<Arc<dyn Executor>>>,
    folder: tempfile::TempDir,
    image: Rootfs,
}

/// A build that is to be.
#[derive(Clone)]
pub(crate) struct Build {
    pub(crate) plan: Plan,
    spec: serde_json::Value,
}

impl World {
    pub(crate) fn new(subject: &Subject) -> World {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        World::within(*subject, folder)
    }

    fn within(subject: Subject, folder: tempfile::TempDir) -> World {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        fs::create_dir_all(folder.path().join("builds")).unwrap();
        let executor = runtime.block_on(subject.open(&folder.path().join("builds")));
        let image = subject.image(&folder.path().join("image"));
        World { subject, runtime, executor: RefCell::new(Some(executor)), folder, image }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("it takes too long") })
    }

    pub(crate) fn executor(&self) -> Arc<dyn Executor> {
        self.executor.borrow().clone().expect("it is open")
    }

    /// The executor is gone, and with it whoever was connected; another is opened in its place. The scripted one's agents are
    /// tasks of its own, so there it is the same.
    pub(crate) fn restart(&self) {
        if self.subject.is_real() {
            self.close();
            self.open();
        }
    }

    /// There is one server at a time.
    fn close(&self) {
        drop(self.executor.take());
    }

    fn open(&self) {
        let opened = self.block_on(self.subject.open(&self.folder().join("builds")));
        self.executor.replace(Some(opened));
    }

    // ---- builds ---------------------------------------------------------------------------------------------

    pub(crate) fn succeeds(&self) -> Build {
        self.named("succeeds", &["echo done"])
    }

    pub(crate) fn fails(&self) -> Build {
        self.named("fails", &["false"])
    }

    /// Says so in its BUILD phase, and waits there.
    pub(crate) fn waits(&self) -> Build {
        self.named("waits", &["echo waiting; sleep 1000"])
    }

    /// Asks for a parameter in DOWNLOAD_SOURCE.
    pub(crate) fn asks(&self) -> Build {
        let mut build = self.named("asks", &["test \"$VALUE\" = told"]);
        build.spec["env"] = json!({"parameter-store": {"VALUE": "/parameter"}});
        build
    }

    /// These commands in its BUILD phase.
    pub(crate) fn commands(&self, commands: &[&str]) -> Build {
        self.named("commands", commands)
    }

    fn named(&self, name: &str, commands: &[&str]) -> Build {
        let uuid = fresh_uuid();
        let plan = Plan {
            build_id: format!("{name}:{uuid}"),
            project_name: name.to_string(),
            log: self.folder().join(format!("{uuid}.log")),
            log_quota_bytes: None,
            environment: Environment {
                rootfs: self.image.clone(),
                variables: [("PATH".to_string(), PATH.to_string())].into(),
                shared: Vec::new(),
                network: Network::None,
                limits: Limits::default(),
                privileged: false,
                starts_docker: false,
            },
            source: Source::None,
            secondary_sources: Vec::new(),
            left_out: Vec::new(),
            fetching: Default::default(),
            source_number: 123,
            buildspec: Buildspec::Inline(String::new()),
            service_variables: BTreeMap::new(),
            // By which its processes are known on this host.
            variables: [("BUILD_MARK".to_string(), uuid.clone())].into(),
            references: BTreeMap::new(),
            artifacts: Artifacts::None,
            timeout_seconds: 50,
            on_driver_loss: DriverLoss::Continue,
            fleet_label: "On-demand".to_string(),
            debug_session: false,
            hold_on_failure: false,
            objects_owner: None,
            role: None,
            elsewhere: None,
            reports: None,
            snapshots: None,
            endpoint: None,
            cache: agent::plan::Cache::None,
            uuid,
        };
        let spec = json!({"version": 0.2, "phases": {"build": {"commands": commands}}});
        Build { plan, spec }
    }

    // ---- what is done with them -----------------------------------------------------------------------------

    pub(crate) fn launch(&self, build: &Build) -> Running<'_> {
        let plan = build.finished();
        let link = self.block_on(self.executor().launch(&plan.uuid, &plan)).unwrap();
        Running { world: self, link, log: plan.log }
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, build: &Build) -> Ended {
        self.launch(build).ended()
    }

    /// Runs commands that succeed; what they printed.
    #[track_caller]
    pub(crate) fn output(&self, commands: &[&str]) -> Vec<String> {
        self.run(&self.commands(commands)).with(Outcome::Succeeded).output()
    }

    pub(crate) fn adopt(&self, uuid: &str) -> Adopted {
        self.block_on(self.executor().adopt(uuid)).unwrap()
    }

    /// The running build, by another driver's connection.
    #[track_caller]
    pub(crate) fn adopted(&self, build: &Build) -> Running<'_> {
        match self.adopt(&build.plan.uuid) {
            Adopted::Running(link) => Running { world: self, link, log: build.plan.log.clone() },
            other => panic!("it does not run: {other:?}"),
        }
    }

    /// The journal of a build whose agent is gone. A process that is just ending may still be connected to.
    #[track_caller]
    pub(crate) fn dead(&self, uuid: &str) -> Vec<Event> {
        loop {
            match self.adopt(uuid) {
                Adopted::Dead(Remains { events, .. }) => return events,
                Adopted::Running(mut link) => {
                    self.block_on(async { while link.signal().await != Signal::Lost {} });
                }
                Adopted::NeverStarted => panic!("it did start"),
            }
        }
    }

    pub(crate) fn remove(&self, uuid: &str) {
        self.block_on(self.executor().remove(uuid)).unwrap();
    }

    pub(crate) fn remaining(&self) -> Vec<String> {
        self.block_on(self.executor().remaining()).unwrap()
    }

    /// Launches the build by a server in a process of its own, which is killed once `until` is in the build's log.
    pub(crate) fn launch_by_a_server_killed_at(&self, build: &Build, until: &str) {
        self.close();
        let plan = self.folder().join("plan");
        fs::write(&plan, serde_json::to_vec(&build.finished()).unwrap()).unwrap();
        let spawned = Command::new("/proc/self/exe")
            .args(["--server", self.subject.name()])
            .arg(self.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn();
        let mut server = Server(spawned.unwrap());
        let told = BufReader::new(server.0.stdout.take().unwrap());
        let found = told.lines().any(|line| line.unwrap().contains(until));
        assert!(found, "the server ended without {until:?}");
        drop(server);
        self.open();
    }
}

/// Killed without a chance to tidy up when it is dropped.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// What a server of `World` is: prints the build's log as it comes.
pub(crate) fn be_a_server(subject: &str, folder: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let executor = Subject::named(subject).open(&folder.join("builds")).await;
        let plan: Plan = serde_json::from_slice(&fs::read(folder.join("plan")).unwrap()).unwrap();
        let mut link = executor.launch(&plan.uuid, &plan).await.unwrap();
        let mut told = 0;
        while link.signal().await != Signal::Lost {
            let log = read_log(&plan.log);
            std::io::stdout().write_all(&log[told..]).unwrap();
            std::io::stdout().flush().unwrap();
            told = log.len();
        }
    });
    ExitCode::SUCCESS
}

pub(crate) fn fresh_uuid() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    text.trim().to_string()
}

impl Build {
    pub(crate) fn uuid(&self) -> &str {
        &self.plan.uuid
    }

    /// Replaces a phase; `what` is its content, such as `{"commands": [...]}`.
    pub(crate) fn phase(mut self, name: &str, what: serde_json::Value) -> Build {
        self.spec["phases"][name] = what;
        self
    }

    pub(crate) fn section(mut self, name: &str, what: serde_json::Value) -> Build {
        self.spec[name] = what;
        self
    }

    pub(crate) fn limited(mut self, limits: Limits) -> Build {
        self.plan.environment.limits = limits;
        self
    }

    fn finished(&self) -> Plan {
        // JSON is YAML.
        Plan { buildspec: Buildspec::Inline(self.spec.to_string()), ..self.plan.clone() }
    }
}

/// A build whose agent we are connected to.
pub(crate) struct Running<'a> {
    world: &'a World,
    pub(crate) link: Link,
    log: PathBuf,
}

impl<'a> Running<'a> {
    pub(crate) fn events(&self) -> Vec<Event> {
        self.link.events_after(0).unwrap().0
    }

    /// Follows the build until this is so.
    #[track_caller]
    pub(crate) fn until(mut self, is_so: impl Fn(&[Event], &str) -> bool) -> Running<'a> {
        loop {
            if is_so(&self.events(), &text(&read_log(&self.log))) {
                return self;
            }
            let signal = self.world.block_on(self.link.signal());
            assert_ne!(signal, Signal::Lost, "the build ended: {}", text(&read_log(&self.log)));
        }
    }

    /// Until a build of `World::waits` does so.
    #[track_caller]
    pub(crate) fn until_it_waits(self) -> Running<'a> {
        let is_real = self.world.subject.is_real();
        self.until(|events, log| {
            let began = |event: &Event| matches!(event, Event::PhaseStarted { phase: Phase::Build, .. });
            events.iter().any(began) && (!is_real || log.contains("waiting\n"))
        })
    }

    #[track_caller]
    pub(crate) fn until_it_says(self, line: &str) -> Running<'a> {
        let line = format!("{line}\n");
        self.until(|_, log| log.contains(&line))
    }

    pub(crate) fn stop(mut self) -> Running<'a> {
        self.world.block_on(self.link.stop());
        self
    }

    /// Follows it to its end.
    pub(crate) fn ended(mut self) -> Ended {
        self.world.block_on(async { while self.link.signal().await != Signal::Lost {} });
        Ended { events: self.events(), log: read_log(&self.log) }
    }

    /// The agent is killed, as by the kernel's out-of-memory killer.
    pub(crate) fn killed(self) -> Ended {
        self.link.kill();
        self.ended()
    }
}

/// What became of a build.
pub(crate) struct Ended {
    pub(crate) events: Vec<Event>,
    pub(crate) log: Vec<u8>,
}

impl Ended {
    #[track_caller]
    pub(crate) fn with(self, outcome: Outcome) -> Ended {
        assert_eq!(outcome_of(&self.events), Some(outcome), "{:?}\n{}", self.events.last(), text(&self.log));
        self
    }

    /// What commands printed, without empty lines.
    pub(crate) fn output(&self) -> Vec<String> {
        let log = text(&self.log);
        let lines = log.lines().filter(|line| !line.is_empty() && !line.starts_with("[Container] "));
        lines.map(str::to_string).collect()
    }

    pub(crate) fn service_says(&self, what: &str) -> bool {
        text(&self.log).lines().any(|line| line.starts_with("[Container] ") && line.contains(what))
    }

    /// The phase's outcome and context.
    #[track_caller]
    pub(crate) fn phase(&self, wanted: Phase) -> (Outcome, Context) {
        let found = self.events.iter().find_map(|event| match event {
            Event::PhaseEnded { phase, outcome, context, .. } if *phase == wanted => {
                Some((*outcome, context.clone()))
            }
            _ => None,
        });
        found.unwrap_or_else(|| panic!("there was no {wanted:?}: {}", text(&self.log)))
    }

    pub(crate) fn phases(&self) -> Vec<Phase> {
        let begun = self.events.iter().filter_map(|event| match event {
            Event::PhaseStarted { phase, .. } => Some(*phase),
            _ => None,
        });
        begun.collect()
    }
}

/// That of an orderly end.
pub(crate) fn outcome_of(events: &[Event]) -> Option<Outcome> {
    match events.last() {
        Some(Event::Finished { outcome, .. }) => Some(*outcome),
        _ => None,
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn read_log(path: &Path) -> Vec<u8> {
    let Ok(mut reader) = SegmentReader::open(path) else { return Vec::new() };
    let (mut position, mut bytes) = (reader.start(), Vec::new());
    loop {
        let (events, next) = reader.forward(position, 10_000, 16 << 20).unwrap();
        if events.is_empty() {
            return bytes;
        }
        bytes.extend(events.into_iter().flat_map(|event| event.bytes));
        position = next;
    }
}

/// An image of busybox, two users and the usual folders.
pub(crate) fn make_image(root: &Path) {
    for folder in ["bin", "etc", "tmp", "root", "usr", "var", "proc", "dev", "sys", "home/ada"] {
        fs::create_dir_all(root.join(folder)).unwrap();
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::copy(which("busybox"), root.join("bin/busybox")).unwrap();
    let applets = Command::new(which("busybox")).arg("--list").output().unwrap();
    for applet in text(&applets.stdout).lines().filter(|applet| *applet != "busybox") {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    let users = "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000:Ada:/home/ada:/bin/sh\n";
    fs::write(root.join("etc/passwd"), users).unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nada:x:1000:\nmakers:x:2000:ada\n").unwrap();
}

fn which(program: &str) -> PathBuf {
    let found = PATH.split(':').map(|folder| Path::new(folder).join(program)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{program} has to be installed"))
}

/// Processes of this host that a build has started, wherever they are.
pub(crate) fn processes_of(uuid: &str) -> Vec<u32> {
    let mark = format!("BUILD_MARK={uuid}\0");
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    let is_its = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.windows(mark.len()).any(|window| window == mark.as_bytes())
    };
    pids.filter(is_its).collect()
}

/// Whether it has some. One that is just becoming another program has no environment for a moment.
pub(crate) fn has_processes(uuid: &str) -> bool {
    let begun = Instant::now();
    while processes_of(uuid).is_empty() {
        if begun.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

//! A build as its driver sees it: made from a buildspec, answered when it asks, read from its journal and log.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use agent::answer::{Answer, Word};
use agent::journal::{self, Context, Event, Outcome, Phase};
use agent::plan::{Artifacts, Buildspec, DriverLoss, Environment, Limits, Network, Plan, Rootfs, Source};
use store::logs::SegmentReader;

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A build that is to be.
pub(crate) struct Build {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) plan: Plan,
    answer: Option<Answer>,
    stop_when: Option<&'static str>,
    file_bytes: Option<u64>,
}

/// What became of it.
pub(crate) struct Ended {
    pub(crate) events: Vec<Event>,
    pub(crate) log: String,
    /// Kept, so that artifacts can be looked at.
    pub(crate) folder: tempfile::TempDir,
}

impl Build {
    pub(crate) fn new(buildspec: &str) -> Build {
        let folder = tempfile::tempdir().unwrap();
        for name in ["build", "source", "artifacts"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let uuid = format!("test-{}", folder.path().file_name().unwrap().to_str().unwrap());
        let uuid: String = uuid.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let plan = Plan {
            build_id: format!("demo:{uuid}"),
            uuid,
            project_name: "demo".into(),
            log: folder.path().join("log"),
            log_quota_bytes: None,
            environment: Environment {
                rootfs: Rootfs::Host,
                variables: [("PATH".into(), PATH.into())].into(),
                shared: Vec::new(),
                network: Network::None,
                limits: Limits::default(),
                privileged: false,
                starts_docker: false,
            },
            source: Source::Folder(folder.path().join("source")),
            secondary_sources: Vec::new(),
            left_out: Vec::new(),
            fetching: Default::default(),
            source_number: 123,
            buildspec: Buildspec::Inline(buildspec.into()),
            service_variables: BTreeMap::new(),
            variables: BTreeMap::new(),
            references: BTreeMap::new(),
            artifacts: Artifacts::Folder(folder.path().join("artifacts")),
            timeout_seconds: 60,
            on_driver_loss: DriverLoss::Stop,
            fleet_label: "On-demand".into(),
            debug_session: false,
            hold_on_failure: false,
            objects_owner: None,
            role: None,
            elsewhere: None,
            reports: None,
            snapshots: None,
            endpoint: None,
            cache: agent::plan::Cache::None,
        };
        Build { folder, plan, answer: None, stop_when: None, file_bytes: None }
    }

    /// A build of the given phases, each a flow sequence of commands or a flow mapping.
    pub(crate) fn of(phases: &str) -> Build {
        Build::new(&format!("version: 0.2\nphases:\n{phases}"))
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Build {
        self.plan.variables.insert(name.into(), value.into());
        self
    }

    pub(crate) fn answered(mut self, answer: Answer) -> Build {
        self.answer = Some(answer);
        self
    }

    pub(crate) fn stopped_when(mut self, logged: &'static str) -> Build {
        self.stop_when = Some(logged);
        self
    }

    /// A write that would make a file of the agent's larger fails, as on a full disk; what still has room does not.
    pub(crate) fn with_files_up_to(mut self, bytes: u64) -> Build {
        self.file_bytes = Some(bytes);
        self
    }

    /// An image of busybox alone, with these files.
    pub(crate) fn image(mut self, files: &[(&str, &str)]) -> Build {
        let root = self.folder.path().join("root");
        fs::create_dir_all(root.join("bin")).unwrap();
        fs::copy(which("busybox"), root.join("bin/busybox")).unwrap();
        for applet in ["sh", "cat", "echo", "test", "env", "id", "sleep", "mkdir", "ls", "nohup", "kill"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        for (name, content) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        self.plan.environment.rootfs = Rootfs::Unpacked(root.into());
        self
    }

    /// Runs it to its end.
    pub(crate) fn run(self) -> Ended {
        let place = self.folder.path().join("build");
        fs::write(place.join(agent::PLAN), serde_json::to_vec(&self.plan).unwrap()).unwrap();
        let mut agent = start(&place, self.file_bytes);
        let mut driver = connect(&place, &mut agent);
        let mut asked = self.answer.clone();
        let mut stop_when = self.stop_when;
        let mut bytes = [0; 256];
        loop {
            let told = driver.read(&mut bytes).unwrap_or(0);
            if told == 0 {
                break;
            }
            let (events, _) = journal::read(&place.join(agent::JOURNAL), 0).unwrap();
            if events
                .iter()
                .any(|event| matches!(event, Event::ReferencesNeeded { .. } | Event::ReportsNeeded { .. }))
                && let Some(answer) = asked.take()
            {
                driver.write_all(&Word::Answer(answer).to_bytes()).unwrap();
            }
            if stop_when.is_some_and(|text| read_log(&self.plan.log).contains(text)) {
                driver.write_all(&Word::Stop.to_bytes()).unwrap();
                stop_when = None;
            }
        }
        let status = agent.wait().unwrap();
        assert!(status.success(), "the agent ended with {status}");
        let (events, _) = journal::read(&place.join(agent::JOURNAL), 0).unwrap();
        Ended { events, log: read_log(&self.plan.log), folder: self.folder }
    }
}

fn start(place: &Path, file_bytes: Option<u64>) -> Child {
    let program = std::env::current_exe().unwrap();
    let mut command = match file_bytes {
        None => Command::new(program),
        Some(bytes) => limited(&program, bytes),
    };
    command.arg("--agent").arg(place).stdin(Stdio::null()).spawn().unwrap()
}

/// The program with a limit for files, which it is not killed for.
fn limited(program: &Path, bytes: u64) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec prlimit --fsize=\"$@\"", "sh", &bytes.to_string()]).arg(program);
    command
}

/// The socket is there before the journal is; both before the build goes on without a driver.
fn connect(place: &Path, agent: &mut Child) -> UnixStream {
    let socket = place.join(agent::SOCKET);
    loop {
        if let Ok(driver) = UnixStream::connect(&socket) {
            return driver;
        }
        assert!(agent.try_wait().unwrap().is_none(), "the agent did not take the build");
        std::thread::yield_now();
    }
}

fn read_log(path: &Path) -> String {
    let Ok(mut reader) = SegmentReader::open(path) else { return String::new() };
    let (mut position, mut text) = (reader.start(), Vec::new());
    loop {
        let (events, next) = reader.forward(position, 10_000, 16 << 20).unwrap();
        if events.is_empty() {
            return String::from_utf8(text).unwrap();
        }
        text.extend(events.into_iter().flat_map(|event| event.bytes));
        position = next;
    }
}

pub(crate) fn which(program: &str) -> PathBuf {
    let found = PATH.split(':').map(|folder| Path::new(folder).join(program)).find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{program} has to be installed"))
}

impl Ended {
    #[track_caller]
    pub(crate) fn with(self, outcome: Outcome) -> Ended {
        let ended = self.events.last();
        let is_so = matches!(ended, Some(Event::Finished { outcome: found, .. }) if *found == outcome);
        assert!(is_so, "not {outcome:?} but {ended:?}\n{}", self.log);
        self
    }

    /// Service lines without their times.
    pub(crate) fn service_lines(&self) -> Vec<&str> {
        let lines = self.log.lines().filter_map(|line| line.strip_prefix("[Container] "));
        lines.map(|line| &line["YYYY/MM/DD HH:MM:SS.ffffff ".len()..]).collect()
    }

    /// What commands printed, without empty lines.
    pub(crate) fn output(&self) -> Vec<&str> {
        self.log.lines().filter(|line| !line.is_empty() && !line.starts_with("[Container] ")).collect()
    }

    pub(crate) fn said(&self, text: &str) -> bool {
        self.service_lines().contains(&text)
    }

    /// The phase's outcome and context, if it was there.
    pub(crate) fn phase(&self, wanted: Phase) -> Option<(Outcome, &Context)> {
        self.events.iter().find_map(|event| match event {
            Event::PhaseEnded { phase, outcome, context, .. } if *phase == wanted => {
                Some((*outcome, context))
            }
            _ => None,
        })
    }

    #[track_caller]
    pub(crate) fn failed_in(&self, phase: Phase, code: &str, message: &str) {
        let (outcome, context) = self.phase(phase).unwrap_or_else(|| panic!("no {phase:?}\n{}", self.log));
        let found = (outcome, context.status_code.as_str(), context.message.as_str());
        assert_eq!(found, (Outcome::Failed, code, message), "{}", self.log);
    }

    /// The phases that were there, in order.
    pub(crate) fn phases(&self) -> Vec<Phase> {
        let phase = |event: &Event| match event {
            Event::PhaseStarted { phase, .. } => Some(*phase),
            _ => None,
        };
        self.events.iter().filter_map(phase).collect()
    }

    pub(crate) fn exported(&self) -> BTreeMap<String, String> {
        let exported = self.events.iter().find_map(|event| match event {
            Event::Exported { variables } => Some(variables.clone()),
            _ => None,
        });
        exported.unwrap_or_default()
    }
}

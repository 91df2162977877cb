//! `buildyard shell`: into the environment of a build that runs here, or of one that `buildyard run` kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent::journal::Event;
use agent::plan::{Artifacts, Buildspec, DriverLoss, Entry, Plan, Snapshots, Source};
use agent::snapshots::Record;
use executor::{Embedded, Executor, Signal};

use crate::kept::Kept;
use crate::leftovers::{self, RunFolder};
use crate::{folders, terminal};

/// The longest anybody stays in a kept environment.
const LONGEST_SECONDS: u64 = 7 * 24 * 3600;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A build that is running on this machine [default: the latest local build of the folder, as it ended].
    #[arg(value_name = "BUILD-ID")]
    build: Option<String>,
    /// The source folder whose latest build is meant.
    #[arg(long, value_name = "FOLDER", default_value = ".", conflicts_with = "build")]
    folder: PathBuf,
    /// The data folder, of the server or of local builds [default: as `buildyard run`].
    #[arg(long, value_name = "FOLDER", env = "BUILDYARD_DATA")]
    data: Option<PathBuf>,
    /// A command to run instead of a shell to type into.
    #[arg(last = true)]
    command: Vec<String>,
}

/// The exit code is the command's, or 2 if it could not be run.
pub(crate) fn shell(arguments: &Arguments) -> ExitCode {
    if arguments.command.is_empty() && !terminal::is_there() {
        return refused("there is no terminal to type at: name a command, buildyard shell -- COMMAND");
    }
    let data = arguments.data.clone().unwrap_or_else(folders::default_data);
    let entered = match &arguments.build {
        Some(build) => running(&data, build).and_then(|folder| enter(&folder, &arguments.command)),
        None => visit(arguments, &data),
    };
    match entered {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(message) => refused(&message),
    }
}

fn refused(message: &str) -> ExitCode {
    eprintln!("buildyard shell: {message}");
    ExitCode::from(2)
}

fn enter(folder: &Path, command: &[String]) -> Result<i32, String> {
    let code = terminal::enter(folder, command).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
            "the build is not running any more".into()
        }
        _ => error.to_string(),
    })?;
    code.ok_or_else(|| "the environment has ended".into())
}

/// The folder of a build that runs here: of the server, or of a `buildyard run`.
fn running(data: &Path, build: &str) -> Result<PathBuf, String> {
    let uuid = build.rsplit(':').next().unwrap_or(build);
    if uuid.is_empty() || !uuid.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(format!("`{build}` is not a build id"));
    }
    let local = data.join("run").join(uuid).join("builds");
    let attempts =
        (1..=9).map(|attempt| if attempt == 1 { uuid.to_owned() } else { format!("{uuid}.{attempt}") });
    let folders = attempts.flat_map(|name| [local.join(&name), data.join("builds").join(name)]);
    let last = folders.rev().find(|folder| folder.join(agent::SHELL_SOCKET).exists());
    last.ok_or_else(|| format!("{build} is not running here, or its data folder is another one (--data)"))
}

/// A shell in what the latest build of a folder left.
fn visit(arguments: &Arguments, data: &Path) -> Result<i32, String> {
    let folder = &arguments.folder;
    let source = folder.canonicalize().map_err(|e| format!("cannot enter {}: {e}", folder.display()))?;
    let data = std::path::absolute(data).map_err(|e| format!("data folder {}: {e}", data.display()))?;
    let kept = Kept::of(&data, &source);
    let record = kept.record()?;
    let uuid = uuid::Uuid::new_v4().to_string();
    let home = RunFolder::create(&data, &uuid).map_err(|e| format!("cannot use {}: {e}", data.display()))?;
    let plan = plan(&record, &kept, &home.path, uuid);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let code = runtime.block_on(async {
        let code = visited(&plan, &home.path, &arguments.command).await;
        leftovers::sweep(&data).await;
        code
    });
    agent::snapshots::sweep(&kept.folder, false).map_err(|e| e.to_string())?;
    code
}

async fn visited(plan: &Plan, home: &Path, command: &[String]) -> Result<i32, String> {
    let mut options = executor::embedded::Options::new(home.join("builds"));
    options.warm = 0;
    let executor = Embedded::open(options).map_err(|e| e.to_string())?;
    let mut link = executor.launch(&plan.uuid, plan).await.map_err(|e| e.to_string())?;
    let mut read = 0;
    let held = loop {
        let signal = link.signal().await;
        let (events, next) = link.events_after(read).map_err(|e| e.to_string())?;
        read = next;
        let failed = events.iter().find_map(|event| match event {
            Event::PhaseEnded { context, .. } if !context.message.is_empty() => Some(context.message.clone()),
            _ => None,
        });
        if let Some(why) = failed {
            break Err(why);
        }
        if events.iter().any(|event| matches!(event, Event::Held { .. })) {
            break Ok(());
        }
        if signal == Signal::Lost {
            break Err("the environment could not be made".into());
        }
    };
    let code = match held {
        Ok(()) => {
            let (folder, command) = (home.join("builds").join(&plan.uuid), command.to_vec());
            let entered = tokio::task::spawn_blocking(move || enter(&folder, &command));
            entered.await.map_err(|e| e.to_string())?
        }
        Err(why) => Err(why),
    };
    link.stop().await;
    while link.signal().await != Signal::Lost {}
    executor.remove(&plan.uuid).await.map_err(|e| e.to_string())?;
    code
}

/// No build, but an agent that holds what one left.
fn plan(record: &Record, kept: &Kept, home: &Path, uuid: String) -> Plan {
    Plan {
        build_id: record.build_id.clone(),
        project_name: "shell".into(),
        log: home.join("log"),
        log_quota_bytes: None,
        environment: record.environment.clone(),
        source: Source::Folder(record.source.clone()),
        secondary_sources: Vec::new(),
        left_out: Vec::new(),
        fetching: Default::default(),
        source_number: record.source_number,
        buildspec: Buildspec::Inline(String::new()),
        service_variables: BTreeMap::new(),
        variables: BTreeMap::new(),
        references: BTreeMap::new(),
        artifacts: Artifacts::None,
        timeout_seconds: LONGEST_SECONDS,
        on_driver_loss: DriverLoss::Stop,
        fleet_label: "local".into(),
        debug_session: false,
        hold_on_failure: false,
        objects_owner: None,
        role: None,
        elsewhere: None,
        endpoint: None,
        cache: agent::plan::Cache::None,
        reports: None,
        snapshots: Some(Snapshots {
            folder: kept.folder.clone(),
            entry: Some(Entry::Left { build_id: record.build_id.clone() }),
        }),
        uuid,
    }
}

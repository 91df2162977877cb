//! `buildyard run`: the build of a folder, here and now. The same agent as on the server, watched from a terminal.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use agent::journal::{Event, Outcome};
use agent::plan::{Artifacts, Buildspec, DriverLoss, Environment, Limits, Network, Plan, Rootfs, Source};
use engine::clock::{Clock, SystemClock};
use executor::{Adopted, Embedded, Executor, Link, Signal};
use store::logs::{Position, SegmentReader};

use crate::leftovers::{self, RunFolder};
use crate::screen::Screen;
use crate::{environment_report, folders, images, toolchains};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The folder to build; it is not changed.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Build in this image instead of the host's own system: an OCI layout folder, a docker or OCI archive, or a
    /// registry reference.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Buildspec: a path relative to the folder, or the text itself.
    #[arg(long, value_name = "FILE")]
    buildspec: Option<String>,
    /// Where artifacts go [default: FOLDER/.buildyard/artifacts].
    #[arg(long, value_name = "FOLDER")]
    artifacts: Option<PathBuf>,
    /// A variable of the build; without a value it is taken from the environment. Outranks the buildspec.
    #[arg(short, long = "env", value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// A file of KEY=VALUE lines; `-e` outranks it.
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// After the build, print what it ran in and how it ended, on standard output; the log goes to standard error.
    #[arg(long, value_name = "FORMAT")]
    env_report: Option<ReportFormat>,
    /// Folder of what builds need while they run, and of unpacked images [default: /var/lib/buildyard, or
    /// ~/.local/share/buildyard].
    #[arg(long, value_name = "FOLDER", env = "BUILDYARD_DATA")]
    data: Option<PathBuf>,
    /// `host`: the host's network; `none`: only a loopback interface.
    #[arg(long, default_value = "host")]
    network: NetworkChoice,
    /// Stop the build after so many minutes.
    #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=2160))]
    timeout: u64,
    /// Memory limit, such as 4G or 512M.
    #[arg(long, value_name = "SIZE", value_parser = memory_size)]
    memory: Option<u64>,
    /// Processor limit, such as 2 or 0.5.
    #[arg(long, value_name = "CPUS", value_parser = cpu_millis)]
    cpus: Option<u64>,
    /// Processes and threads at once.
    #[arg(long, value_name = "NUMBER", default_value_t = 4096)]
    pids: u64,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ReportFormat {
    Json,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum NetworkChoice {
    Host,
    None,
}

/// Runs the build. Exit codes: 0 SUCCEEDED, 1 FAILED, 2 wrong usage, 3 FAULT, 124 TIMED_OUT, 130 STOPPED.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match prepare(arguments) {
        Ok(build) => watch_to_the_end(arguments, &build),
        Err(message) => {
            eprintln!("buildyard run: {message}");
            ExitCode::from(2)
        }
    }
}

/// A build ready to be started.
struct Build {
    plan: Plan,
    /// Everything of ours that this build leaves is below it.
    folder: RunFolder,
    data: PathBuf,
}

fn prepare(arguments: &Arguments) -> Result<Build, String> {
    let folder = &arguments.folder;
    let folder = folder.canonicalize().map_err(|e| format!("cannot build {}: {e}", folder.display()))?;
    if !folder.is_dir() {
        return Err(format!("cannot build {}: it is not a folder", folder.display()));
    }
    let data = arguments.data.clone().unwrap_or_else(folders::default_data);
    let data = std::path::absolute(&data).map_err(|e| format!("data folder {}: {e}", data.display()))?;
    let uuid = uuid::Uuid::new_v4().to_string();
    let home = RunFolder::create(&data, &uuid).map_err(|e| {
        format!(
            "cannot use the data folder {}: {e}; name one that can be written with --data",
            data.display()
        )
    })?;
    let plan = plan(arguments, &folder, &data, &home.path, uuid)?;
    Ok(Build { plan, folder: home, data })
}

fn plan(
    arguments: &Arguments,
    folder: &Path,
    data: &Path,
    home: &Path,
    uuid: String,
) -> Result<Plan, String> {
    let project = project_name(folder);
    let build_id = format!("{project}:{uuid}");
    let environment = environment(arguments, data)?;
    let artifacts = match &arguments.artifacts {
        Some(folder) => std::path::absolute(folder).map_err(|e| e.to_string())?,
        None => fresh_artifacts(folder)?,
    };
    let image = arguments.image.clone().unwrap_or_else(|| "host".into());
    Ok(Plan {
        service_variables: service_variables(&build_id, &project, &uuid, &image),
        variables: variables(arguments)?,
        build_id,
        project_name: project,
        log: home.join("log"),
        environment,
        source: Source::Folder(folder.to_owned()),
        source_number: u32::from_str_radix(&uuid[..8], 16).unwrap_or(1),
        buildspec: buildspec(arguments.buildspec.as_deref(), folder),
        artifacts: Artifacts::Folder(artifacts),
        timeout_seconds: arguments.timeout * 60,
        on_driver_loss: DriverLoss::Stop,
        fleet_label: "local".into(),
        references: BTreeMap::new(),
        debug_session: false,
        uuid,
    })
}

/// The folder's name, fit for a project name (AP-020).
fn project_name(folder: &Path) -> String {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
    let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if name.len() < 2 { "local".into() } else { name.chars().take(150).collect() }
}

/// The variables that CodeBuild always sets and that mean something without a server (EN-040..060).
fn service_variables(build_id: &str, project: &str, uuid: &str, image: &str) -> BTreeMap<String, String> {
    let region = std::env::var("AWS_REGION").or_else(|_| std::env::var("AWS_DEFAULT_REGION"));
    let region = region.unwrap_or_else(|_| "us-east-1".into());
    let arn = |kind: &str, name: &str| format!("arn:aws:codebuild:{region}:123456789012:{kind}/{name}");
    let started = SystemClock::new().now_ms();
    let user = std::env::var("USER").unwrap_or_else(|_| "local".into());
    [
        ("AWS_DEFAULT_REGION", region.clone()),
        ("AWS_REGION", region.clone()),
        ("CODEBUILD_BUILD_ID", build_id.to_owned()),
        ("CODEBUILD_BUILD_ARN", arn("build", build_id)),
        ("CODEBUILD_BUILD_NUMBER", "1".into()),
        ("CODEBUILD_BUILD_IMAGE", image.to_owned()),
        ("CODEBUILD_PROJECT_ARN", arn("project", project)),
        ("CODEBUILD_INITIATOR", user),
        ("CODEBUILD_LOG_PATH", uuid.to_owned()),
        ("CODEBUILD_START_TIME", started.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn buildspec(given: Option<&str>, folder: &Path) -> Buildspec {
    match given.map(buildspec::Origin::of) {
        None => Buildspec::File(buildspec::Origin::DEFAULT_FILE.into()),
        Some(buildspec::Origin::Inline(text)) => Buildspec::Inline(text.to_owned()),
        Some(buildspec::Origin::File(path) | buildspec::Origin::Object(path)) => {
            // A path from where the user stands works too, if it leads into the folder.
            let path = Path::new(path);
            let inside =
                path.canonicalize().ok().and_then(|path| path.strip_prefix(folder).ok().map(Path::to_owned));
            let path =
                if folder.join(path).exists() { path.to_owned() } else { inside.unwrap_or(path.to_owned()) };
            Buildspec::File(path.display().to_string())
        }
    }
}

fn environment(arguments: &Arguments, data: &Path) -> Result<Environment, String> {
    let network = match arguments.network {
        NetworkChoice::Host => Network::Host,
        NetworkChoice::None => Network::None,
    };
    let limits =
        Limits { memory_bytes: arguments.memory, pids: Some(arguments.pids), cpu_millis: arguments.cpus };
    let Some(reference) = &arguments.image else {
        return Ok(host_environment(network, limits));
    };
    let image = images::resolve(data, &images::local_first(reference), &mut tell_progress)?;
    Ok(Environment {
        rootfs: Rootfs::Folder(image.rootfs),
        variables: image.config.env,
        shared: Vec::new(),
        network,
        limits,
    })
}

fn tell_progress(progress: image::Progress) {
    match progress {
        image::Progress::Fetching { digest, bytes, total } if bytes == total => {
            eprintln!("fetched {digest} ({:.1} MB)", total as f64 / 1e6);
        }
        image::Progress::Unpacking { layer, layers } => eprintln!("unpacking layer {layer} of {layers}"),
        image::Progress::Waiting => eprintln!("waiting for another build that is unpacking the same image"),
        image::Progress::Note(text) => eprintln!("{text}"),
        _ => {}
    }
}

fn host_environment(network: Network, limits: Limits) -> Environment {
    let path = std::env::var("PATH").unwrap_or_default();
    let tools = toolchains::find(&path, &folders::home(), Path::exists);
    let mut variables = tools.variables;
    let mut path = tools.path;
    for system in ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"] {
        if !path.iter().any(|entry| entry == system) {
            path.push(system.into());
        }
    }
    variables.insert("PATH".into(), path.join(":"));
    Environment { rootfs: Rootfs::Host, variables, shared: tools.folders, network, limits }
}

/// The default artifacts folder, emptied: it holds the artifacts of the last build only.
fn fresh_artifacts(folder: &Path) -> Result<PathBuf, String> {
    let artifacts = folder.join(".buildyard/artifacts");
    match std::fs::remove_dir_all(&artifacts) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(format!("cannot empty {}: {e}", artifacts.display())),
    }
    Ok(artifacts)
}

fn variables(arguments: &Arguments) -> Result<BTreeMap<String, String>, String> {
    let mut variables = BTreeMap::new();
    for file in &arguments.env_file {
        let text =
            std::fs::read_to_string(file).map_err(|e| format!("cannot read {}: {e}", file.display()))?;
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at = || format!("{} line {}", file.display(), number + 1);
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (name, value) =
                line.split_once('=').ok_or_else(|| format!("{}: `{line}` is not KEY=VALUE", at()))?;
            variables.insert(
                variable_name(name).map_err(|e| format!("{}: {e}", at()))?,
                unquoted(value).to_owned(),
            );
        }
    }
    for given in &arguments.env {
        let (name, value) = match given.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (
                given.as_str(),
                std::env::var(given).map_err(|_| {
                    format!("-e {given}: the environment has no such variable; write -e {given}=VALUE")
                })?,
            ),
        };
        variables.insert(variable_name(name).map_err(|e| format!("-e {given}: {e}"))?, value);
    }
    Ok(variables)
}

fn variable_name(name: &str) -> Result<String, String> {
    match name.is_empty() || name.contains(['\0', ' ']) {
        true => Err(format!("`{name}` is not a variable name")),
        false => Ok(name.to_owned()),
    }
}

/// The value without one pair of quotes around it.
fn unquoted(value: &str) -> &str {
    let pair = |quote: char| value.strip_prefix(quote).and_then(|value| value.strip_suffix(quote));
    pair('"').or_else(|| pair('\'')).unwrap_or(value)
}

fn memory_size(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.char_indices().find(|(_, c)| c.is_ascii_alphabetic()) {
        Some((at, _)) => text.split_at(at),
        None => (text, ""),
    };
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        _ => return Err(format!("`{unit}` is not a unit; use K, M or G")),
    };
    let number: u64 = number.parse().map_err(|_| format!("`{number}` is not a whole number"))?;
    number
        .checked_shl(shift)
        .filter(|size| *size >= 4 << 20)
        .ok_or_else(|| "a build needs at least 4M".into())
}

fn cpu_millis(text: &str) -> Result<u64, String> {
    let cpus: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    match (0.01..=1024.0).contains(&cpus) {
        true => Ok((cpus * 1000.0) as u64),
        false => Err("between 0.01 and 1024".into()),
    }
}

/// Starts the build, shows its log, and tells its end.
fn watch_to_the_end(arguments: &Arguments, build: &Build) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let watched = match runtime {
        Ok(runtime) => runtime.block_on(async {
            let watched = watch(arguments, build).await;
            leftovers::sweep(&build.data).await;
            watched
        }),
        Err(error) => Err(error.to_string()),
    };
    match watched {
        Ok(outcome) => ExitCode::from(exit_code(outcome)),
        Err(message) => {
            eprintln!("buildyard run: {message}");
            ExitCode::from(exit_code(Outcome::Fault))
        }
    }
}

fn exit_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Succeeded => 0,
        Outcome::Failed => 1,
        Outcome::Fault => 3,
        Outcome::TimedOut => 124,
        Outcome::Stopped => 130,
    }
}

/// What the journal told so far.
#[derive(Debug, Default)]
struct Seen {
    events: Vec<Event>,
    journal: u64,
    log: Option<(SegmentReader, Position)>,
}

async fn watch(arguments: &Arguments, build: &Build) -> Result<Outcome, String> {
    let mut options = executor::embedded::Options::new(build.folder.path.join("builds"));
    options.warm = 0;
    let executor = Embedded::open(options).map_err(|e| e.to_string())?;
    let mut interrupts = Interrupts::listen().map_err(|e| e.to_string())?;
    let mut link = executor.launch(&build.plan.uuid, &build.plan).await.map_err(|e| e.to_string())?;
    let mut screen = if arguments.env_report.is_some() { Screen::stderr() } else { Screen::stdout() };
    let mut seen = Seen::default();
    let mut interrupted = 0;
    loop {
        let signal = tokio::select! {
            signal = link.signal() => signal,
            () = interrupts.next() => {
                interrupted += 1;
                if interrupted == 1 {
                    eprintln!("buildyard run: stopping; interrupt again to kill");
                    link.stop().await;
                } else {
                    link.kill();
                }
                continue;
            }
        };
        seen.catch_up(&link, build, &mut screen)?;
        if signal == Signal::Lost {
            break;
        }
    }
    drop(link);
    if !matches!(seen.events.last(), Some(Event::Finished { .. }))
        && let Adopted::Dead { events } = executor.adopt(&build.plan.uuid).await.map_err(|e| e.to_string())?
    {
        seen.events = events;
    }
    executor.remove(&build.plan.uuid).await.map_err(|e| e.to_string())?;
    finish(arguments, build, &seen, interrupted > 0)
}

impl Seen {
    /// Reads what is new in the journal and prints what is new in the log.
    fn catch_up(&mut self, link: &Link, build: &Build, screen: &mut Screen) -> Result<(), String> {
        let (events, journal) = link.events_after(self.journal).map_err(|e| e.to_string())?;
        self.events.extend(events);
        self.journal = journal;
        match self.print(&build.plan.log, screen) {
            // Nobody reads on (`| head`): the build goes on, its end is what counts.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result.map_err(|e| format!("cannot show the log: {e}")),
        }
    }

    fn print(&mut self, log: &Path, screen: &mut Screen) -> io::Result<()> {
        if self.log.is_none() {
            if !log.exists() {
                return Ok(());
            }
            let reader = SegmentReader::open(log).map_err(io::Error::other)?;
            let start = reader.start();
            self.log = Some((reader, start));
        }
        let Some((reader, position)) = &mut self.log else { return Ok(()) };
        loop {
            let (events, next) = reader.forward(*position, 10_000, 4 << 20).map_err(io::Error::other)?;
            *position = next;
            if events.is_empty() {
                return screen.flush();
            }
            for event in &events {
                screen.event(&event.bytes)?;
            }
        }
    }
}

fn finish(arguments: &Arguments, build: &Build, seen: &Seen, interrupted: bool) -> Result<Outcome, String> {
    let outcome = match seen.events.last() {
        Some(Event::Finished { outcome, .. }) => *outcome,
        _ if interrupted => Outcome::Stopped,
        _ => return Err("the build's process ended before the build; nothing of it is left running".into()),
    };
    let took = Duration::from_millis(took_ms(&seen.events));
    let mut closing = Screen::stderr();
    for event in &seen.events {
        match event {
            Event::PhaseEnded { phase, outcome: ended, context, .. } if !context.message.is_empty() => {
                let text = format!("{} {}: {}", phase.name(), ended.name(), context.message);
                closing.say(&text, false).map_err(|e| e.to_string())?;
            }
            Event::ArtifactUploaded(artifact) => {
                let text = format!("Artifacts: {} file(s) in {}", artifact.files, artifact.location);
                closing.say(&text, true).map_err(|e| e.to_string())?;
            }
            _ => {}
        }
    }
    let text = format!("{} {} in {:.1} s", build.plan.project_name, outcome.name(), took.as_secs_f64());
    closing.say(&text, outcome == Outcome::Succeeded).map_err(|e| e.to_string())?;
    if let Some(ReportFormat::Json) = arguments.env_report {
        println!("{:#}", environment_report::json(&build.plan, &build.data, &seen.events, outcome));
    }
    Ok(outcome)
}

fn took_ms(events: &[Event]) -> u64 {
    let start = events.iter().find_map(|event| match event {
        Event::Started { at_ms, .. } => Some(*at_ms),
        _ => None,
    });
    let end = events.iter().rev().find_map(|event| match event {
        Event::Finished { at_ms, .. } => Some(*at_ms),
        _ => None,
    });
    start.zip(end).map_or(0, |(start, end)| (end - start).max(0).unsigned_abs())
}

/// Ctrl-C and a polite kill.
struct Interrupts {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Interrupts {
    fn listen() -> io::Result<Interrupts> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Interrupts {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_a_floor() {
        assert_eq!(memory_size("512M"), Ok(512 << 20));
        assert_eq!(memory_size("4g"), Ok(4 << 30));
        assert_eq!(memory_size("8388608"), Ok(8 << 20));
        for bad in ["", "M", "4X", "1K", "-1G", "99999999999999999999G"] {
            assert!(memory_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_folder_name_becomes_a_project_name() {
        for (folder, expect) in
            [("/a/my.app", "my-app"), ("/a/_x", "local"), ("/", "local"), ("/a/ok_1", "ok_1")]
        {
            assert_eq!(project_name(Path::new(folder)), expect);
        }
    }

    #[test]
    fn one_pair_of_quotes_is_taken_off() {
        for (value, expect) in [("\"a b\"", "a b"), ("'a'", "a"), ("a\"b", "a\"b"), ("\"a'", "\"a'")] {
            assert_eq!(unquoted(value), expect);
        }
    }
}

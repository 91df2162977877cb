//! `buildyard run`: the build of a folder, here and now. The same agent as on the server, watched from a terminal.
//!
//! Here: the command line. What it comes to is in `run/plan.rs`, what is built in `run/sources.rs`, the driver in `run/watch.rs`.

mod plan;
mod reports;
mod s3;
mod sources;
mod variables;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use agent::journal::Phase;
use agent::plan::Plan;

use crate::config::ExecutorSetting;
use crate::folders;
use crate::kept::Kept;
use crate::leftovers::RunFolder;
use sources::Sources;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What to build: a folder, which is not changed; a git repository by its URL of https or ssh; or s3://BUCKET/KEY.zip and
    /// s3://BUCKET/FOLDER/.
    #[arg(default_value = ".", value_name = "FOLDER|URL")]
    source: String,
    /// Of a repository: a branch, tag, commit, pull request (`pr/N`) or reference [default: its default branch]; of an object in S3:
    /// its version.
    #[arg(long, value_name = "VERSION")]
    source_version: Option<String>,
    /// Certificates that are trusted beside the system's when repositories are fetched, PEM.
    #[arg(long, value_name = "FILE", env = "BUILDYARD_GIT_CERTIFICATES")]
    git_certificates: Option<PathBuf>,
    /// Leave out of folders what git would ignore in them.
    #[arg(long)]
    respect_gitignore: bool,
    /// A further source: the build finds it in CODEBUILD_SRC_DIR_<ID>.
    #[arg(short, long = "secondary-source", value_name = "ID:FOLDER|ID:URL")]
    secondary_sources: Vec<String>,
    /// Build in this image instead of the host's own system: an OCI layout folder, a docker or OCI archive, or a
    /// registry reference.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Where the build runs: `embedded` (a container of our own) or `docker` (of a daemon on this host, in an --image that the daemon
    /// has or fetches; nothing is kept for --from, and there is no cache).
    #[arg(long, default_value = "embedded", env = "BUILDYARD_EXECUTOR")]
    executor: ExecutorSetting,
    /// The build may run a Docker daemon of its own. It takes root and `--network none`; with `--executor docker` the build may do
    /// what root of this host may.
    #[arg(long)]
    privileged: bool,
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
    /// Begin with this phase, in the environment that the latest build of the folder had before it.
    #[arg(long, value_name = "PHASE", conflicts_with = "no_snapshots")]
    from: Option<From>,
    /// When a command fails, open a shell in its environment; the build goes on when the shell ends.
    #[arg(long)]
    shell_on_failure: bool,
    /// Let `codebuild-breakpoint` hold the build, until `codebuild-resume` in a `buildyard shell`.
    #[arg(long)]
    debug: bool,
    /// Keep no environments: the build runs in one container from beginning to end.
    #[arg(long)]
    no_snapshots: bool,
    /// Neither find what earlier builds of the folder have cached, nor cache anything.
    #[arg(long)]
    no_cache: bool,
    /// Find what the builds of this project have cached, by its name or ARN: one of the server that runs in the data folder. Or of any
    /// server's, in S3: s3://BUCKET/PREFIX/ID, as `buildyard cache url PROJECT` tells it there.
    #[arg(long, value_name = "PROJECT|URL", conflicts_with = "no_cache")]
    cache_of: Option<String>,
    /// Save the project's cache, too, so that its builds find what this one leaves.
    #[arg(long, requires = "cache_of")]
    save_cache: bool,
    /// Processes and threads at once.
    #[arg(long, value_name = "NUMBER", default_value_t = 4096)]
    pids: u64,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum ReportFormat {
    Json,
}

/// A phase that commands run in.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum From {
    Install,
    PreBuild,
    Build,
    PostBuild,
}

impl From {
    fn phase(self) -> Phase {
        match self {
            From::Install => Phase::Install,
            From::PreBuild => Phase::PreBuild,
            From::Build => Phase::Build,
            From::PostBuild => Phase::PostBuild,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum NetworkChoice {
    Host,
    None,
}

/// Runs the build. Exit codes: 0 SUCCEEDED, 1 FAILED, 2 wrong usage, 3 FAULT, 124 TIMED_OUT, 130 STOPPED.
pub(crate) fn run(arguments: &Arguments) -> ExitCode {
    match prepare(arguments) {
        Ok(build) => watch::watch_to_the_end(arguments, &build),
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
    /// Where its environments are kept.
    kept: Option<Kept>,
}

fn prepare(arguments: &Arguments) -> Result<Build, String> {
    let mut sources = Sources::find(arguments)?;
    let data = arguments.data.clone().unwrap_or_else(folders::default_data);
    let data = std::path::absolute(&data).map_err(|e| format!("data folder {}: {e}", data.display()))?;
    let uuid = uuid::Uuid::new_v4().to_string();
    let home = RunFolder::create(&data, &uuid).map_err(|e| {
        format!(
            "cannot use the data folder {}: {e}; name one that can be written with --data",
            data.display()
        )
    })?;
    sources.bring(&home.path)?;
    let is_ours = arguments.executor == ExecutorSetting::Embedded;
    if arguments.privileged && is_ours && arguments.network == NetworkChoice::Host {
        return Err(
            "--privileged needs --network none: a Docker daemon of the build has networks to make, and \
                    cannot in the host's"
                .into(),
        );
    }
    if arguments.cache_of.is_some() && arguments.executor == ExecutorSetting::Docker {
        return Err(
            "--cache-of needs containers of our own: the docker executor has no caches in its containers"
                .into(),
        );
    }
    let keeps = !arguments.no_snapshots && is_ours && !arguments.privileged;
    if arguments.from.is_some() && !keeps {
        return Err("--from begins in an environment that was kept, and none is of builds that are privileged or the \
                    docker executor's"
            .into());
    }
    let folder = sources.folder().filter(|_| keeps);
    let kept = folder.map(|folder| Kept::of(&data, folder));
    let plan = plan::plan(arguments, sources, &data, kept.as_ref(), &home.path, uuid)?;
    Ok(Build { plan, folder: home, data, kept })
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
}

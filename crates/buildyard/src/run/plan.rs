//! The plan of a local build: what the command line, the folder and the host come to.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use agent::cache::{Owner, Scope};
use agent::journal::Phase;
use agent::plan::{
    Artifacts, Buildspec, Cache, DriverLoss, Entry, Environment, Fetching, Limits, Network, Plan, Reports,
    Rootfs, Snapshots, Trust,
};
use agent::snapshots::Record;
use engine::clock::{Clock, SystemClock};
use engine::config::Puller;

use super::{Arguments, NetworkChoice, Sources, variables};
use crate::kept::{self, Kept};
use crate::{folders, images, terminal, toolchains};

pub(super) fn plan(
    arguments: &Arguments,
    sources: Sources,
    data: &Path,
    kept: Option<&Kept>,
    home: &Path,
    uuid: String,
) -> Result<Plan, String> {
    let project = project_name(&sources.name);
    let build_id = format!("{project}:{uuid}");
    let entered = entered(arguments, kept)?;
    let environment = match &entered {
        Some((_, record)) => environment_of(arguments, data, record)?,
        None => environment(arguments, data)?,
    };
    let snapshots = snapshots(kept, entered.as_ref())?;
    let artifacts = match &arguments.artifacts {
        Some(folder) => std::path::absolute(folder).map_err(|e| e.to_string())?,
        None => fresh_artifacts(sources.folder().unwrap_or(Path::new(".")))?,
    };
    let place = sources.place();
    let image = arguments.image.clone().unwrap_or_else(|| "host".into());
    Ok(Plan {
        service_variables: {
            let mut variables = service_variables(&build_id, &project, &uuid, &image);
            variables.extend(sources.variables());
            variables
        },
        variables: variables::given(arguments)?,
        build_id,
        project_name: project,
        log: home.join("log"),
        log_quota_bytes: None,
        environment,
        // Paths of the source folder are in what was kept.
        source_number: match &entered {
            Some((_, record)) => record.source_number,
            None => u32::from_str_radix(&uuid[..8], 16).unwrap_or(1),
        },
        buildspec: buildspec(arguments.buildspec.as_deref(), sources.folder()),
        // Whoever runs it may go where it says.
        fetching: fetching(arguments)?,
        left_out: sources.left_out(arguments.respect_gitignore)?,
        source: sources.primary,
        secondary_sources: sources.secondary,
        artifacts: Artifacts::Folder(artifacts),
        timeout_seconds: arguments.timeout * 60,
        on_driver_loss: DriverLoss::Stop,
        fleet_label: "local".into(),
        references: BTreeMap::new(),
        debug_session: arguments.debug,
        hold_on_failure: holds(arguments),
        objects_owner: None,
        reports: Some(Reports { group_arns: None, objects: None, discover: false }),
        snapshots,
        endpoint: None,
        cache: cache(arguments, place, data),
        uuid,
    })
}

fn fetching(arguments: &Arguments) -> Result<Fetching, String> {
    let certificates = arguments.git_certificates.as_ref().map(std::path::absolute);
    let certificates = certificates.transpose().map_err(|e| format!("--git-certificates: {e}"))?;
    Ok(Fetching { anywhere: true, allow: Vec::new(), certificates, kept: None })
}

/// Builds of one source share a cache, as those of one project do on a server.
fn cache(arguments: &Arguments, place: String, data: &Path) -> Cache {
    if arguments.no_cache {
        return Cache::None;
    }
    let scope = Scope {
        account: "local".into(),
        region: String::new(),
        owner: Owner::Project(place),
        domain: "local".into(),
        generation: 0,
    };
    Cache::Layers { folder: data.join("caches"), scope, trust: Trust::Full }
}

/// Nobody could be let into a shell without a terminal, and the build would be held for ever.
fn holds(arguments: &Arguments) -> bool {
    let is_there = terminal::is_there();
    if arguments.shell_on_failure && !is_there {
        eprintln!(
            "buildyard run: no terminal, so no shell on failure; `buildyard shell` opens one afterwards"
        );
    }
    arguments.shell_on_failure && is_there
}

/// The phase to begin with and what is kept, if `--from` was given.
fn entered(arguments: &Arguments, kept: Option<&Kept>) -> Result<Option<(Phase, Record)>, String> {
    let (Some(from), Some(kept)) = (arguments.from, kept) else { return Ok(None) };
    let phase = from.phase();
    let record = kept.record()?;
    kept::must_have(&record, phase)?;
    Ok(Some((phase, record)))
}

fn snapshots(kept: Option<&Kept>, entered: Option<&(Phase, Record)>) -> Result<Option<Snapshots>, String> {
    let Some(kept) = kept else { return Ok(None) };
    kept.make()
        .map_err(|e| format!("cannot make {}: {e}; --no-snapshots does without", kept.folder.display()))?;
    let before = |(phase, record): &(Phase, Record)| Entry::Before {
        phase: *phase,
        build_id: record.build_id.clone(),
    };
    Ok(Some(Snapshots { folder: kept.folder.clone(), entry: entered.map(before) }))
}

/// What was written lies on an image, and fits no other.
fn environment_of(arguments: &Arguments, data: &Path, record: &Record) -> Result<Environment, String> {
    let rootfs = &record.environment.rootfs;
    let (network, limits) = demanded(arguments);
    let environment = match (&arguments.image, rootfs) {
        (None, Rootfs::Folder(_)) => Environment { network, limits, ..record.environment.clone() },
        _ => environment(arguments, data)?,
    };
    if environment.rootfs != *rootfs {
        return Err(
            "the snapshots of this folder are of another image: --from needs the image they were made in"
                .into(),
        );
    }
    match rootfs {
        Rootfs::Folder(folder) if !folder.is_dir() => {
            Err(format!("the image of the snapshots is gone: {}", folder.display()))
        }
        _ => Ok(environment),
    }
}

/// The source's name, fit for a project name (AP-020).
fn project_name(name: &str) -> String {
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

fn buildspec(given: Option<&str>, folder: Option<&Path>) -> Buildspec {
    match given.map(buildspec::Origin::of) {
        None => Buildspec::File(buildspec::Origin::DEFAULT_FILE.into()),
        Some(buildspec::Origin::Inline(text)) => Buildspec::Inline(text.to_owned()),
        Some(buildspec::Origin::File(path) | buildspec::Origin::Object(path)) => {
            let Some(folder) = folder else { return Buildspec::File(path.to_owned()) };
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

fn demanded(arguments: &Arguments) -> (Network, Limits) {
    let network = match arguments.network {
        NetworkChoice::Host => Network::Host,
        NetworkChoice::None => Network::None,
    };
    let limits =
        Limits { memory_bytes: arguments.memory, pids: Some(arguments.pids), cpu_millis: arguments.cpus };
    (network, limits)
}

fn environment(arguments: &Arguments, data: &Path) -> Result<Environment, String> {
    let (network, limits) = demanded(arguments);
    let Some(reference) = &arguments.image else {
        return Ok(host_environment(network, limits));
    };
    let image =
        images::resolve(data, &images::local_first(reference), &Puller::Server, &mut images::tell_progress)?;
    Ok(Environment {
        rootfs: Rootfs::Folder(image.rootfs),
        variables: image.config.env,
        shared: Vec::new(),
        network,
        limits,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_name_becomes_a_project_name() {
        for (folder, expect) in [("my.app", "my-app"), ("_x", "local"), ("", "local"), ("ok_1", "ok_1")] {
            assert_eq!(project_name(folder), expect);
        }
    }
}

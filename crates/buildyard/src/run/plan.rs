//! The plan of a local build: what the command line, the folder and the host come to.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use agent::cache::{Owner, Scope};
use agent::journal::Phase;
use agent::plan::{
    Artifacts, Buildspec, Cache, DriverLoss, Elsewhere, Entry, Environment, Fetching, Limits, Network, Plan,
    Reports, Rootfs, Snapshots, Ssh, Trust, Unpacked,
};
use agent::snapshots::Record;
use engine::ProjectCache;
use engine::clock::{Clock, SystemClock};
use store::objects::Owner as Buckets;

use super::{Arguments, NetworkChoice, Sources, variables};
use crate::config::{DockerSetting, ExecutorSetting};
use crate::kept::{self, Kept};
use crate::{admin, folders, images, store_settings, terminal, toolchains};

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
    let Shared { cache, objects_owner, elsewhere } = cache(arguments, place, data, home)?;
    let image = arguments.image.clone().unwrap_or_else(|| "host".into());
    Ok(Plan {
        service_variables: {
            let mut variables = service_variables(&build_id, &project, &uuid, &image);
            variables.extend(sources.variables.clone());
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
        objects_owner,
        role: None,
        elsewhere,
        reports: Some(Reports { group_arns: None, objects: None, discover: false }),
        snapshots,
        endpoint: None,
        cache,
        uuid,
    })
}

fn fetching(arguments: &Arguments) -> Result<Fetching, String> {
    let certificates = arguments.git_certificates.as_ref().map(std::path::absolute);
    let certificates = certificates.transpose().map_err(|e| format!("--git-certificates: {e}"))?;
    let (allow, own_network) = (Vec::new(), false);
    Ok(Fetching { anywhere: true, allow, own_network, certificates, ssh: ssh(), kept: None })
}

/// The user's own keys and the hosts they know, as ssh itself has them.
fn ssh() -> Ssh {
    let own = folders::home().join(".ssh");
    let there = |paths: &[PathBuf]| paths.iter().filter(|path| path.is_file()).cloned().collect();
    Ssh {
        keys: there(&["id_ed25519", "id_ecdsa", "id_rsa"].map(|name| own.join(name))),
        known_hosts: there(&[own.join("known_hosts"), PathBuf::from("/etc/ssh/ssh_known_hosts")]),
        agent: std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from).filter(|path| path.exists()),
    }
}

/// A cache, and where its bucket is if it is in one.
#[derive(Default)]
struct Shared {
    cache: Cache,
    objects_owner: Option<Buckets>,
    elsewhere: Option<Elsewhere>,
}

/// Builds of one source share a cache, as those of one project do on a server; or a project's.
fn cache(arguments: &Arguments, place: String, data: &Path, home: &Path) -> Result<Shared, String> {
    if let Some(project) = &arguments.cache_of {
        return shared_cache(arguments, data, home, project);
    }
    // Cached folders are layers of containers of our own.
    if arguments.no_cache || arguments.executor == ExecutorSetting::Docker {
        return Ok(Shared::default());
    }
    let scope = Scope {
        account: "local".into(),
        region: String::new(),
        owner: Owner::Project(place),
        domain: "local".into(),
        generation: 0,
    };
    let cache = Cache::Layers { folder: data.join("caches"), scope, trust: Trust::Full };
    Ok(Shared { cache, ..Shared::default() })
}

/// The server, or who has asked it, says whose it is and what may be done with it. What is built here is nobody's reviewed source, so
/// it is saved for others only if one says so (E18).
fn shared_cache(arguments: &Arguments, data: &Path, home: &Path, of: &str) -> Result<Shared, String> {
    let told = |reason: String| format!("--cache-of {of}: {reason}");
    let mut shared = match of.strip_prefix("s3://") {
        Some(place) => cache_in_s3(place, home).map_err(told)?,
        None => {
            let ProjectCache { cache, buckets, elsewhere } =
                admin::project_cache(data, of).map_err(|reason| format!("--cache-of: {reason}"))?;
            Shared { cache, objects_owner: Some(buckets), elsewhere }
        }
    };
    if shared.cache == Cache::None {
        return Err(format!("--cache-of: project {of} has no cache"));
    }
    if !arguments.save_cache {
        shared.cache = shared.cache.read_only();
    }
    Ok(shared)
}

/// A cache whose server is not here, in a bucket that the environment's credentials reach.
fn cache_in_s3(place: &str, home: &Path) -> Result<Shared, String> {
    let rule = "it must be s3://BUCKET/PREFIX/ID, as `buildyard cache url PROJECT` tells it";
    let (bucket, key) = place.split_once('/').filter(|(bucket, _)| !bucket.is_empty()).ok_or(rule)?;
    let (prefix, id) = key.rsplit_once('/').unwrap_or(("", key));
    let scope = Scope::named(id).ok_or(rule)?;
    let elsewhere = store_settings::of_environment(home, bucket)?;
    let (objects, bucket, prefix) = (home.join("objects"), bucket.to_owned(), prefix.to_owned());
    let cache = Cache::Objects { objects, bucket, prefix, scope, trust: Trust::Full };
    Ok(Shared { cache, objects_owner: None, elsewhere: Some(elsewhere) })
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
        (None, Rootfs::Unpacked(_)) => Environment { network, limits, ..record.environment.clone() },
        _ => environment(arguments, data)?,
    };
    if environment.rootfs != *rootfs {
        return Err(
            "the snapshots of this folder are of another image: --from needs the image they were made in"
                .into(),
        );
    }
    match rootfs {
        Rootfs::Unpacked(image) => match image.layers.iter().find(|layer| !layer.is_dir()) {
            Some(gone) => Err(format!("the image of the snapshots is gone: {}", gone.display())),
            None => Ok(environment),
        },
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
    let limits = Limits {
        memory_bytes: arguments.memory,
        pids: Some(arguments.pids),
        cpu_millis: arguments.cpus,
        disk_bytes: None,
    };
    (network, limits)
}

fn environment(arguments: &Arguments, data: &Path) -> Result<Environment, String> {
    let (network, limits) = demanded(arguments);
    if arguments.executor == ExecutorSetting::Docker {
        return docker_environment(arguments);
    }
    let Some(reference) = &arguments.image else {
        return Ok(host_environment(network, limits, arguments.privileged));
    };
    let image = images::resolve_before_build(data, &images::local_first(reference))?;
    Ok(Environment {
        rootfs: Rootfs::Unpacked(Unpacked { layers: image.rootfs, lock: image.lock }),
        variables: image.config.env,
        shared: Vec::new(),
        network,
        limits,
        privileged: arguments.privileged,
        starts_docker: arguments.privileged && engine::config::is_curated(reference),
    })
}

fn docker_environment(arguments: &Arguments) -> Result<Environment, String> {
    let (network, limits) = demanded(arguments);
    let name = arguments
        .image
        .as_deref()
        .ok_or("--executor docker needs an --image that the daemon has or can fetch")?;
    let docker = DockerSetting::new(None, None)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let image = runtime.block_on(executor::docker::image(&docker.socket, name)).map_err(|e| e.to_string())?;
    Ok(Environment {
        rootfs: Rootfs::Image(image.id),
        variables: image.variables,
        shared: Vec::new(),
        network,
        limits,
        privileged: arguments.privileged,
        starts_docker: arguments.privileged && engine::config::is_curated(name),
    })
}

fn host_environment(network: Network, limits: Limits, privileged: bool) -> Environment {
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
    let (rootfs, shared) = (Rootfs::Host, tools.folders);
    Environment { rootfs, variables, shared, network, limits, privileged, starts_docker: false }
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

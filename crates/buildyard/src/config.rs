//! The server's settings: a TOML file, then environment variables, then flags; the later ones win.
//!
//! This is the only room that reads configuration; the others are handed values.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use agent::plan::{Fetching, Ssh};
use engine::config::Size;
use serde::Deserialize;
use store::records::Address;

use crate::aws_environment::Overrides;
use crate::folders;
use crate::image_command::size;
use crate::store_settings::S3Setting;
use crate::users::{RoleSetting, UserSetting, UserSettings};

/// `buildyard.toml`. Every key may be left out; an unknown one is an error that names it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    listen: Option<SocketAddr>,
    data: Option<PathBuf>,
    database: Option<Hidden>,
    account: Option<String>,
    /// Further accounts.
    #[serde(default)]
    accounts: Vec<String>,
    #[serde(default)]
    users: Vec<UserSetting>,
    /// What builds may do, by their project's service role.
    #[serde(default)]
    roles: Vec<RoleSetting>,
    region: Option<String>,
    concurrent_builds: Option<usize>,
    /// How many builds of a compute type run at once.
    #[serde(default)]
    concurrent_builds_of: BTreeMap<String, usize>,
    queued_builds: Option<usize>,
    /// What compute types have of this host, where that is not what AWS's have.
    #[serde(default)]
    compute_types: BTreeMap<String, ComputeType>,
    /// How much of a build's output its log keeps.
    log_quota_mebibytes: Option<u64>,
    /// Projects whose builds find what is cached and save nothing.
    #[serde(default)]
    read_only_caches: BTreeSet<String>,
    executor: Option<ExecutorSetting>,
    /// Builds with `privilegedMode` run, in containers of our own.
    #[serde(default)]
    privileged: bool,
    #[serde(default)]
    docker: Docker,
    network: Option<NetworkSetting>,
    /// Of projects with a `vpcConfig`, which are refused without it.
    vpc_network: Option<NetworkSetting>,
    /// Private networks that builds with `egress` reach, such as `10.1.0.0/16`.
    #[serde(default)]
    network_allow: Vec<String>,
    /// Where `/metrics` is served; nowhere if it is not said.
    metrics_listen: Option<SocketAddr>,
    log_format: Option<LogFormat>,
    /// Where traces of builds go, in OTLP over HTTP.
    traces_endpoint: Option<String>,
    /// What parameters and secrets are sealed with.
    secret_key: Option<PathBuf>,
    forward_logs: Option<ForwardLogs>,
    #[serde(default)]
    references: References,
    #[serde(default)]
    sources: Sources,
    /// Where objects of builds are, if not here.
    s3: Option<S3Setting>,
    #[serde(default)]
    host: Host,
    /// Image names, as projects write them, to what they mean: a registry reference, or an OCI layout or archive here.
    #[serde(default)]
    images: BTreeMap<String, String>,
    /// What unpacked images may take up, such as `50GB`; those that were not asked for longest are removed for new ones.
    images_quota: Option<String>,
    /// Addresses that are not public and that images which projects name may be fetched from.
    #[serde(default)]
    images_allow: Vec<String>,
}

/// A text that may hold a password, and is not shown.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct Hidden(String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Hidden {
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl From<String> for Hidden {
    fn from(text: String) -> Hidden {
        Hidden(text)
    }
}

/// The `host` environment.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Host {
    /// Image names that mean the host's own system; a `*` at the end stands for anything.
    images: Option<Vec<String>>,
    /// Host folders that builds see, read-only.
    #[serde(default)]
    shared: Vec<PathBuf>,
    /// Variables of every build there.
    #[serde(default)]
    variables: BTreeMap<String, String>,
}

/// A Docker daemon, for `executor = "docker"`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Docker {
    /// The daemon's socket.
    socket: Option<PathBuf>,
    /// The program `buildyard-init`.
    init: Option<PathBuf>,
    /// Builds with `privilegedMode` run, and own the host.
    #[serde(default)]
    privileged: bool,
}

/// Where builds run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ExecutorSetting {
    /// In containers that Buildyard makes itself.
    #[default]
    Embedded,
    /// In containers of a Docker daemon on this host.
    Docker,
}

/// The daemon as it is reached.
#[derive(Debug, Clone)]
pub(crate) struct DockerSetting {
    pub(crate) socket: PathBuf,
    pub(crate) init: PathBuf,
}

impl DockerSetting {
    /// Docker's own variable says where its daemon is; init lies beside our own program if BUILDYARD_INIT says no other place.
    pub(crate) fn new(socket: Option<PathBuf>, init: Option<PathBuf>) -> Result<DockerSetting, String> {
        let socket = match (socket, std::env::var("DOCKER_HOST")) {
            (Some(socket), _) => socket,
            (None, Ok(host)) if !host.is_empty() => match host.strip_prefix("unix://") {
                Some(path) => path.into(),
                None => {
                    return Err(format!(
                        "DOCKER_HOST is {host}: the docker executor needs a daemon of this host, at a unix:// socket"
                    ));
                }
            },
            _ => "/var/run/docker.sock".into(),
        };
        let init = init.or_else(|| std::env::var_os("BUILDYARD_INIT").map(PathBuf::from));
        let beside = || std::env::current_exe().unwrap_or_default().with_file_name("buildyard-init");
        Ok(DockerSetting { socket, init: init.unwrap_or_else(beside) })
    }
}

/// How much of the host builds of a compute type have.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ComputeType {
    /// Processors, such as 2 or 0.5.
    vcpu: Option<f64>,
    /// Such as `4GB`.
    memory: Option<String>,
    /// Of everything that a build writes, such as `64GB`.
    disk: Option<String>,
    /// Processes and threads.
    processes: Option<u64>,
}

impl ComputeType {
    /// Errors name the key.
    fn checked(&self) -> Result<Size, String> {
        let bytes = |key: &str, text: &Option<String>| {
            text.as_deref().map(size).transpose().map_err(|e| format!("{key}: {e}"))
        };
        let processors = self.vcpu.map(|number| match (0.01..=1024.0).contains(&number) {
            true => Ok((number * 1000.0).round() as u64),
            false => Err(format!("vcpu: {number} is not between 0.01 and 1024")),
        });
        let found = Size {
            memory_bytes: bytes("memory", &self.memory)?,
            cpu_millis: processors.transpose()?,
            processes: self.processes,
            disk_bytes: bytes("disk", &self.disk)?,
        };
        for (key, value, least) in [
            ("memory", found.memory_bytes, LEAST_MEMORY_BYTES),
            ("disk", found.disk_bytes, LEAST_DISK_BYTES),
            ("processes", found.processes, LEAST_PROCESSES),
        ] {
            if value.is_some_and(|value| value < least) {
                return Err(format!("{key} must be at least {least}"));
            }
        }
        Ok(found)
    }
}

/// With less, nothing can be built at all.
const LEAST_MEMORY_BYTES: u64 = 16_000_000;
const LEAST_DISK_BYTES: u64 = 16_000_000;
const LEAST_PROCESSES: u64 = 16;

fn sizes(compute_types: &BTreeMap<String, ComputeType>) -> Result<BTreeMap<String, Size>, String> {
    let checked = compute_types.iter().map(|(name, compute)| match engine::config::is_compute_type(name) {
        true => {
            let size = compute.checked().map_err(|e| format!("compute_types.{name}.{e}"))?;
            Ok((name.clone(), size))
        }
        false => Err(format!("compute_types: no builds run here on compute type `{name}`")),
    });
    checked.collect()
}

/// How sources are fetched from git servers.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sources {
    /// Blocks of addresses that git servers may be at although they are not public.
    #[serde(default)]
    allow: Vec<String>,
    /// A file of certificates that are trusted beside the system's.
    certificates: Option<PathBuf>,
    /// A private key without a passphrase, for locations of ssh.
    ssh_key: Option<PathBuf>,
    /// The keys of the hosts that are spoken to so.
    ssh_known_hosts: Option<PathBuf>,
    /// In which network sources are fetched, if that shall not depend on this host.
    network: Option<FetchingNetwork>,
    codecommit: Option<CodeCommit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FetchingNetwork {
    /// One of each fetch's own, with a firewall that looks at addresses once more.
    Own,
    Host,
}

/// What CodeCommit's repositories are opened with.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CodeCommit {
    /// Of AWS's credentials file.
    pub(crate) profile: Option<String>,
    /// Where it is, if not at AWS: `https://host[:port]`.
    pub(crate) endpoint: Option<String>,
    /// Of that endpoint.
    pub(crate) region: Option<String>,
}

impl Sources {
    /// A file is named from the configuration's folder.
    fn checked(self, folder: &Path) -> Result<Fetching, String> {
        for text in &self.allow {
            text.parse::<source::Network>().map_err(|e| format!("sources.allow: {e}"))?;
        }
        let file = |key: &str, file: Option<PathBuf>| {
            let file = file.map(|file| std::path::absolute(folder.join(file)));
            file.transpose().map_err(|e| format!("sources.{key}: {e}"))
        };
        let ssh = Ssh {
            keys: file("ssh_key", self.ssh_key)?.into_iter().collect(),
            known_hosts: file("ssh_known_hosts", self.ssh_known_hosts)?.into_iter().collect(),
            agent: None,
        };
        let certificates = file("certificates", self.certificates)?;
        let (allow, own_network) = (self.allow, false);
        Ok(Fetching { anywhere: false, allow, own_network, certificates, ssh, kept: None })
    }
}

/// Where builds' logs are forwarded to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "to", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum ForwardLogs {
    /// AWS's, with credentials from the usual variables and files, or what speaks like it.
    CloudWatch {
        /// Of AWS, if not its own.
        endpoint: Option<String>,
        /// Of AWS, if not what the environment or the profile says.
        region: Option<String>,
        /// Of AWS's credentials file.
        profile: Option<String>,
    },
    /// A collector that takes OTLP over HTTP.
    OpenTelemetry {
        /// If the environment does not say.
        endpoint: Option<String>,
    },
}

/// Where builds find the parameters and secrets that they refer to.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct References {
    #[serde(default)]
    from: ReferencesFrom,
    /// Of AWS, if not its own.
    endpoint: Option<String>,
    /// Of AWS, if not what the environment or the profile says.
    region: Option<String>,
    /// Of AWS's credentials file.
    profile: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReferencesFrom {
    /// This server's own Parameter Store and Secrets Manager.
    #[default]
    Here,
    /// AWS's, with credentials from the usual variables and files.
    Aws,
}

/// The same, checked.
#[derive(Debug, Default)]
pub(crate) struct ReferencesSetting {
    pub(crate) from: ReferencesFrom,
    pub(crate) overrides: Overrides,
}

impl References {
    fn checked(self) -> Result<ReferencesSetting, String> {
        let References { from, endpoint, region, profile } = self;
        let given = [("endpoint", &endpoint), ("region", &region), ("profile", &profile)];
        if from == ReferencesFrom::Here
            && let Some((key, _)) = given.iter().find(|(_, value)| value.is_some())
        {
            return Err(format!("references.{key} has a meaning only with references.from = \"aws\""));
        }
        Ok(ReferencesSetting { from, overrides: Overrides { endpoint, region, profile } })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NetworkSetting {
    /// Only a loopback interface of the build's own.
    None,
    /// A network of the build's own that leads to the internet, and to no private address but those of `network_allow`.
    Egress,
    /// The host's network.
    Host,
}

/// The form of the server's own log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// Flags of `buildyard serve`, each beating the file.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Flags {
    /// Address and port of everything that is served [default: 127.0.0.1:4500].
    #[arg(long, value_name = "ADDRESS:PORT", env = "BUILDYARD_LISTEN")]
    pub(crate) listen: Option<SocketAddr>,
    /// Folder of the database, objects and logs [default: /var/lib/buildyard, or ~/.local/share/buildyard].
    #[arg(long, value_name = "FOLDER", env = "BUILDYARD_DATA")]
    pub(crate) data: Option<PathBuf>,
    /// URL of a PostgreSQL database for the records, as postgres://user@host/database [default: an SQLite file in the data folder].
    #[arg(long, value_name = "URL", env = "BUILDYARD_DATABASE", hide_env_values = true)]
    pub(crate) database: Option<Hidden>,
    /// Configuration file [default: buildyard.toml in the data folder, if there is one].
    #[arg(long, value_name = "FILE", env = "BUILDYARD_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Account id, twelve digits [default: 123456789012].
    #[arg(long, env = "BUILDYARD_ACCOUNT")]
    pub(crate) account: Option<String>,
    /// Region [default: us-east-1].
    #[arg(long, env = "BUILDYARD_REGION")]
    pub(crate) region: Option<String>,
    /// How many builds run at once [default: the number of processors, at least 2].
    #[arg(long, value_name = "NUMBER", env = "BUILDYARD_CONCURRENT_BUILDS")]
    pub(crate) concurrent_builds: Option<usize>,
    /// Where builds run: `embedded` (containers of our own) or `docker` (of a daemon on this host) [default: embedded].
    #[arg(long, env = "BUILDYARD_EXECUTOR")]
    pub(crate) executor: Option<ExecutorSetting>,
    /// Network of builds: `none` (only loopback), `egress` (the internet, nothing private) or `host` [default: none].
    #[arg(long, env = "BUILDYARD_NETWORK")]
    pub(crate) network: Option<NetworkSetting>,
    /// Address and port of `/metrics`, for Prometheus; whoever can connect can read [default: none].
    #[arg(long, value_name = "ADDRESS:PORT", env = "BUILDYARD_METRICS_LISTEN")]
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Form of the server's own log: `text` or `json` [default: text].
    #[arg(long, env = "BUILDYARD_LOG_FORMAT")]
    pub(crate) log_format: Option<LogFormat>,
}

/// What holds after file, environment and flags.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) listen: SocketAddr,
    pub(crate) data: PathBuf,
    /// Where records are, if not in the data folder.
    pub(crate) database: Option<Address>,
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) concurrent_builds: Option<usize>,
    pub(crate) concurrent_builds_of: BTreeMap<String, usize>,
    pub(crate) queued_builds: Option<usize>,
    pub(crate) sizes: BTreeMap<String, Size>,
    pub(crate) log_quota_mebibytes: Option<u64>,
    pub(crate) read_only_caches: BTreeSet<String>,
    /// The daemon that builds run with, if not in containers of our own.
    pub(crate) docker: Option<DockerSetting>,
    /// Whether builds may be privileged.
    pub(crate) privileged: bool,
    pub(crate) network: NetworkSetting,
    pub(crate) vpc_network: Option<NetworkSetting>,
    pub(crate) network_allow: Vec<String>,
    pub(crate) metrics_listen: Option<SocketAddr>,
    pub(crate) log_format: LogFormat,
    pub(crate) traces_endpoint: Option<String>,
    pub(crate) forward_logs: Option<ForwardLogs>,
    pub(crate) host_images: Option<Vec<String>>,
    pub(crate) host_shared: Vec<PathBuf>,
    pub(crate) host_variables: BTreeMap<String, String>,
    pub(crate) images: BTreeMap<String, String>,
    /// Bytes.
    pub(crate) images_quota: Option<u64>,
    /// Blocks of addresses.
    pub(crate) images_allow: Vec<String>,
    pub(crate) secret_key: PathBuf,
    pub(crate) references: ReferencesSetting,
    pub(crate) fetching: Fetching,
    pub(crate) fetching_network: Option<FetchingNetwork>,
    pub(crate) codecommit: Option<CodeCommit>,
    /// Not read yet: only a server needs its keys.
    pub(crate) s3: Option<S3Setting>,
    /// Not read yet: only a server needs what they refer to.
    pub(crate) users: UserSettings,
}

impl Settings {
    /// Reads the file and lays flags over it; an error names the file, the key and the rule.
    pub(crate) fn read(flags: Flags) -> Result<Settings, String> {
        let (file, folder) = read_file(&flags)?;
        let data = flags.data.or(file.data).unwrap_or_else(folders::default_data);
        let account = flags.account.or(file.account).unwrap_or_else(|| "123456789012".into());
        if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
            return Err(format!("account `{account}` is not twelve digits"));
        }
        let region = flags.region.or(file.region).unwrap_or_else(|| "us-east-1".into());
        if region.is_empty()
            || !region.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            return Err(format!("region `{region}` may hold only lower-case letters, digits and hyphens"));
        }
        let concurrent_builds = flags.concurrent_builds.or(file.concurrent_builds);
        if concurrent_builds == Some(0) {
            return Err("concurrent_builds must be at least 1".into());
        }
        file.s3.as_ref().map_or(Ok(()), S3Setting::check)?;
        let mut sources = file.sources;
        let (fetching_network, codecommit) = (sources.network, sources.codecommit.take());
        let fetching = sources.checked(&folder)?;
        let users = UserSettings { accounts: file.accounts, users: file.users, roles: file.roles, folder };
        check_concurrent_builds_of(&file.concurrent_builds_of)?;
        let database = flags.database.or(file.database).map(|url| url.0.parse());
        let database = database.transpose().map_err(|e| format!("database: {e}"))?;
        let data = std::path::absolute(&data).map_err(|e| format!("data folder {}: {e}", data.display()))?;
        let images_quota = file.images_quota.as_deref().map(size);
        let executor = flags.executor.or(file.executor).unwrap_or_default();
        if executor == ExecutorSetting::Embedded && file.docker.privileged {
            return Err(
                "docker.privileged has a meaning only with executor = \"docker\"; for containers of our own it is privileged"
                    .into(),
            );
        }
        if executor == ExecutorSetting::Docker && file.privileged {
            return Err("privileged is for containers of our own: with executor = \"docker\" it is docker.privileged, \
                        whose builds own the host"
                .into());
        }
        let network = flags.network.or(file.network).unwrap_or(NetworkSetting::None);
        let reaches_host = [Some(network), file.vpc_network].contains(&Some(NetworkSetting::Host));
        if file.privileged && reaches_host {
            return Err(
                "privileged takes network and vpc_network other than \"host\": a build's Docker daemon has \
                        networks to make"
                    .into(),
            );
        }
        if file.privileged && !container::rules_the_host() {
            return Err("privileged takes root".into());
        }
        if executor == ExecutorSetting::Docker && file.host.images.is_some() {
            return Err(
                "host.images has no meaning with executor = \"docker\": its builds run in images".into()
            );
        }
        Ok(Settings {
            secret_key: file.secret_key.unwrap_or_else(|| data.join("secret.key")),
            references: file.references.checked()?,
            fetching,
            fetching_network,
            codecommit,
            s3: file.s3,
            users,
            listen: flags.listen.or(file.listen).unwrap_or_else(default_listen),
            data,
            database,
            account,
            region,
            concurrent_builds,
            concurrent_builds_of: file.concurrent_builds_of,
            queued_builds: file.queued_builds,
            sizes: sizes(&file.compute_types)?,
            log_quota_mebibytes: file.log_quota_mebibytes,
            read_only_caches: file.read_only_caches,
            metrics_listen: flags.metrics_listen.or(file.metrics_listen),
            log_format: flags.log_format.or(file.log_format).unwrap_or_default(),
            traces_endpoint: file.traces_endpoint,
            privileged: file.privileged || file.docker.privileged,
            docker: match executor {
                ExecutorSetting::Embedded => None,
                ExecutorSetting::Docker => Some(DockerSetting::new(file.docker.socket, file.docker.init)?),
            },
            forward_logs: file.forward_logs,
            network,
            vpc_network: file.vpc_network,
            network_allow: file.network_allow,
            host_images: file.host.images,
            host_shared: file.host.shared,
            host_variables: file.host.variables,
            images_allow: {
                let parsed = |text: &String| text.parse::<source::Network>().map(drop);
                file.images_allow.iter().try_for_each(parsed).map_err(|e| format!("images_allow: {e}"))?;
                file.images_allow
            },
            images: file.images,
            images_quota: images_quota.transpose().map_err(|e| format!("images_quota: {e}"))?,
        })
    }
}

fn check_concurrent_builds_of(limits: &BTreeMap<String, usize>) -> Result<(), String> {
    for (name, limit) in limits {
        if !engine::config::is_compute_type(name) {
            return Err(format!("concurrent_builds_of: no builds run here on compute type `{name}`"));
        }
        if *limit == 0 {
            return Err(format!("concurrent_builds_of: {name} must be at least 1"));
        }
    }
    Ok(())
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 4500))
}

/// The file, and the folder it is in.
fn read_file(flags: &Flags) -> Result<(File, PathBuf), String> {
    let (path, wanted) = match &flags.config {
        Some(path) => (path.clone(), true),
        None => (flags.data.clone().unwrap_or_else(folders::default_data).join("buildyard.toml"), false),
    };
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok((parse(&text, &path)?, folder)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !wanted => Ok((File::default(), folder)),
        Err(e) => Err(format!("cannot read the configuration {}: {e}", path.display())),
    }
}

fn parse(text: &str, path: &Path) -> Result<File, String> {
    toml::from_str(text).map_err(|e: toml::de::Error| {
        // The line itself is not shown: there may be a password in it.
        let line = e.span().map_or(1, |span| text[..span.start].lines().count().max(1));
        format!("the configuration {} is wrong in line {line}: {}", path.display(), e.message())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str, flags: Flags) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("buildyard.toml");
        std::fs::write(&path, text).unwrap();
        Settings::read(Flags { config: Some(path), ..flags })
    }

    #[test]
    fn flags_beat_the_file_and_the_file_beats_defaults() {
        let flags = Flags { region: Some("eu-west-1".into()), ..Flags::default() };
        let settings = settings("region = 'us-west-2'\naccount = '111122223333'\n", flags).unwrap();
        assert_eq!((settings.region.as_str(), settings.account.as_str()), ("eu-west-1", "111122223333"));
        assert_eq!(settings.listen, default_listen());
        assert_eq!(settings.network, NetworkSetting::None);
    }

    #[test]
    fn compute_types_have_the_sizes_that_are_said() {
        let text = "[compute_types]\nBUILD_GENERAL1_SMALL = { vcpu = 0.5, memory = '2GB', disk = '10GB' }\n\
                    BUILD_GENERAL1_LARGE = { vcpu = 3, processes = 100 }\n";
        let sizes = settings(text, Flags::default()).unwrap().sizes;
        let small = Size {
            memory_bytes: Some(2_000_000_000),
            cpu_millis: Some(500),
            processes: None,
            disk_bytes: Some(10_000_000_000),
        };
        assert_eq!(sizes["BUILD_GENERAL1_SMALL"], small);
        let large = Size { cpu_millis: Some(3000), processes: Some(100), ..Size::default() };
        assert_eq!(sizes["BUILD_GENERAL1_LARGE"], large);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expect) in [
            ("lisen = '127.0.0.1:1'", "lisen"),
            ("account = '12'", "twelve digits"),
            ("region = 'US East'", "lower-case"),
            ("concurrent_builds = 0", "at least 1"),
            ("[references]\nfrom = 'there'", "here"),
            ("[references]\nregion = 'eu-west-1'", "references.region"),
            ("[forward_logs]\nto = 'syslog'", "syslog"),
            ("[forward_logs]\nto = 'opentelemetry'\nregion = 'eu-west-1'", "region"),
            ("concurrent_builds_of = { BUILD_GENERAL1_LARGE = 0 }", "at least 1"),
            ("concurrent_builds_of = { large = 2 }", "`large`"),
            ("compute_types.large.vcpu = 2", "`large`"),
            ("compute_types.BUILD_GENERAL1_SMALL.cpu = 2", "cpu"),
            ("compute_types.BUILD_GENERAL1_SMALL.vcpu = 0", "compute_types.BUILD_GENERAL1_SMALL.vcpu: 0"),
            ("compute_types.BUILD_GENERAL1_SMALL.memory = 'much'", "memory: `much`"),
            ("compute_types.BUILD_GENERAL1_SMALL.disk = '1MB'", "disk must be at least 16000000"),
            ("network = 'bridge'", "bridge"),
            ("executor = 'podman'", "podman"),
            ("[docker]\nsockets = 1", "sockets"),
            ("[docker]\nprivileged = true", "only with executor"),
            ("privileged = true\nexecutor = 'docker'", "docker.privileged"),
            ("privileged = true\nnetwork = 'host'", "other than \"host\""),
            ("privileged = true\nvpc_network = 'host'", "other than \"host\""),
            ("executor = 'docker'\n[host]\nimages = []", "host.images"),
            ("images_quota = 'much'", "`much`"),
            ("images_allow = ['localhost']", "images_allow"),
            ("[host]\nshare = []", "share"),
            ("[s3]\nbucket = 'b'", "bucket"),
            ("[s3]\naccess_key_id = 'a'", "s3.secret_access_key"),
            ("[s3]\nprofile = 'a'\naccess_key_id = 'a'\nsecret_access_key = 'me:secret'", "s3.profile"),
            ("[s3]\ntimeout_seconds = 0", "1 to 600"),
            ("[s3]\nbuckets = []", "s3.buckets"),
            ("[s3]\nbuckets = ['Name']", "`Name`"),
            ("[s3]\nencryption = 'rot13'", "rot13"),
            ("[sources]\nallow = ['10.0.0.0/33']", "sources.allow"),
            ("[[users]]\nname = 'ci'\nkey = 1", "key"),
            ("[[roles]]\nname = 'ci'\nkeys = []", "keys"),
            ("database = 'mysql://db/yard'", "postgres://"),
            ("database = 'postgres://me:secret@db/yard?sslmode=require'", "sslmode"),
            ("region = 'eu'\ndatabase = 'postgres://me:secret@db", "line 2"),
        ] {
            let message = settings(text, Flags::default()).unwrap_err();
            assert!(message.contains(expect) && !message.contains("me:secret"), "{message}");
        }
    }
}

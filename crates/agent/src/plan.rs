//! What an agent needs to know to run one build, complete and resolved: nothing is looked up later.
//!
//! The driver writes it as `plan.json` (mode 0600, it may hold secrets) into the build's folder.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::cache::Scope;
use crate::journal::Phase;
use crate::role::Role;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Plan {
    /// `project:uuid`.
    pub build_id: String,
    /// The uuid part; names the cgroup and, by default, the log stream.
    pub uuid: String,
    pub project_name: String,
    /// Log segment to create and write (see `store::logs`).
    pub log: PathBuf,
    /// How much of what commands print is kept; all of it if not said. What is left out is told in the log.
    #[serde(default)]
    pub log_quota_bytes: Option<u64>,
    pub environment: Environment,
    pub source: Source,
    /// Beside the primary one, each in a folder of its own (SA-042).
    #[serde(default)]
    pub secondary_sources: Vec<SecondarySource>,
    /// What of folders the build does not see, from the root of each: sorted, and nothing below another.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
    /// How git sources are fetched.
    #[serde(default)]
    pub fetching: Fetching,
    /// Digits in `/codebuild/output/srcNNN/src` (EN-080).
    pub source_number: u32,
    pub buildspec: Buildspec,
    /// Variables in effect before the buildspec's own: CODEBUILD_*, AWS_REGION and the like.
    pub service_variables: BTreeMap<String, String>,
    /// Project and StartBuild variables, already merged; they outrank the buildspec's `env.variables` (BS-044).
    pub variables: BTreeMap<String, String>,
    /// Project and StartBuild variables whose values are elsewhere, by the variable's name (BS-050). A name is here
    /// or in `variables`, never in both: they were merged over all kinds (BS-044).
    #[serde(default)]
    pub references: BTreeMap<String, Reference>,
    pub artifacts: Artifacts,
    pub timeout_seconds: u64,
    /// What the agent does when its driver's socket closes before the build is over.
    pub on_driver_loss: DriverLoss,
    /// Names the environment in the log's first line, such as `On-demand` (LC-113).
    pub fleet_label: String,
    /// `debugSessionEnabled`: breakpoints hold the build (BS-086).
    #[serde(default)]
    pub debug_session: bool,
    /// A command that fails holds the build until somebody has been in a shell.
    #[serde(default)]
    pub hold_on_failure: bool,
    /// Whose buckets the build may read and write; all of them if nobody's are meant.
    #[serde(default)]
    pub objects_owner: Option<store::objects::Owner>,
    /// What its service role lets it read and write of them; without it, all that this plan names.
    #[serde(default)]
    pub role: Option<Role>,
    /// Buckets that are not below the folders of `objects` that this plan names.
    #[serde(default)]
    pub elsewhere: Option<Elsewhere>,
    /// Whether and how reports are made.
    #[serde(default)]
    pub reports: Option<Reports>,
    /// `buildyard run`: environments are kept at phase borders, and may be entered again.
    #[serde(default)]
    pub snapshots: Option<Snapshots>,
    /// What later builds find again of this one (BS-150).
    #[serde(default)]
    pub cache: Cache,
    /// The services of the server that runs the build, for its commands; none for local builds.
    #[serde(default)]
    pub endpoint: Option<Endpoint>,
}

/// Where commands reach AWS's services, and get the credentials for it (EN-062).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The server's socket for builds.
    pub socket: PathBuf,
    /// Twelve digits.
    pub account: String,
    /// Path of the credentials, a secret of this build.
    pub credentials: String,
}

/// Where a build's cache is kept, and whose it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cache {
    /// The project has none, or one that changes nothing here.
    #[default]
    None,
    /// `S3`: archives below `prefix` in a bucket of the object store at `objects`.
    Objects { objects: PathBuf, bucket: String, prefix: String, scope: Scope, trust: Trust },
    /// `LOCAL` with `LOCAL_CUSTOM_CACHE`: layers below a folder of this host.
    Layers { folder: PathBuf, scope: Scope, trust: Trust },
}

impl Cache {
    /// The same for a build that leaves nothing there.
    pub fn read_only(mut self) -> Cache {
        if let Cache::Objects { trust, .. } | Cache::Layers { trust, .. } = &mut self {
            *trust = Trust::ReadOnly;
        }
        self
    }

    /// That of its scope; 0 without a cache.
    pub fn generation(&self) -> i64 {
        match self {
            Cache::None => 0,
            Cache::Objects { scope, .. } | Cache::Layers { scope, .. } => scope.generation,
        }
    }
}

/// What a build may do with the cache of its domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trust {
    Full,
    /// It finds what others saved and leaves nothing there itself.
    ReadOnly,
}

/// Buckets of a store that is not this server's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elsewhere {
    /// The file that says where the store is and as whom it is asked. It holds keys, and is read by [`crate::transfer`]'s process alone.
    pub settings: PathBuf,
    /// Names; a `*` at the end stands for anything. All buckets if there are none.
    pub buckets: Vec<String>,
}

/// How a build's reports are made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reports {
    /// How the ARNs of the report groups begin that the build may write to, up to their names; all of them if none are said.
    pub group_arns: Option<String>,
    /// The object store that files are exported to.
    pub objects: Option<PathBuf>,
    /// Report files are looked for without being named, unless the build's variables say otherwise (BS-117).
    pub discover: bool,
}

/// Environments kept between the builds of one source folder; see [`crate::snapshots`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshots {
    /// An existing folder of this host for them alone. A build that finds another one at work there keeps nothing.
    pub folder: PathBuf,
    /// Where this build begins, if not at its beginning.
    pub entry: Option<Entry>,
}

/// A kept environment to begin in. It must still be the one of the build `build_id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// The one before this phase; earlier phases do not run.
    Before { phase: Phase, build_id: String },
    /// The one that build left in the end. No phase runs; the build lasts as long as somebody is in it.
    Left { build_id: String },
}

/// Where a variable's value is to be found; the text as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reference {
    /// `PARAMETER_STORE`: a parameter's name.
    Parameter(String),
    /// `SECRETS_MANAGER`: `secret-id:json-key:version-stage:version-id` (BS-049).
    Secret(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DriverLoss {
    /// A server build: go on, the next server adopts it.
    Continue,
    /// A local `buildyard run`: stop, nobody is watching.
    Stop,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Environment {
    pub rootfs: Rootfs,
    /// Variables the image (or the host environment) sets, lowest precedence.
    pub variables: BTreeMap<String, String>,
    /// Host folders shown read-only at the same path inside (toolchains; `host` environment only).
    pub shared: Vec<PathBuf>,
    pub network: Network,
    pub limits: Limits,
    /// So that a Docker daemon can run inside, as the operator allows it: by all that root of a user namespace may; or, where the
    /// container is somebody else's ([`Rootfs::Image`]), by all that root of the host may.
    #[serde(default)]
    pub privileged: bool,
    /// Where the image has Docker's daemon, it runs before anything else does; with [`Environment::privileged`] only.
    #[serde(default)]
    pub starts_docker: bool,
}

/// An unpacked image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct Unpacked {
    /// The folders of its layers, the topmost first, with overlay's marks (`userxattr`) for what a layer takes away.
    pub layers: Vec<PathBuf>,
    /// Who uses the image holds a shared lock (`flock`) on this file or folder.
    pub lock: PathBuf,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    /// As earlier versions wrote it.
    One(PathBuf),
    Layers {
        layers: Vec<PathBuf>,
        lock: PathBuf,
    },
}

impl From<Written> for Unpacked {
    fn from(written: Written) -> Unpacked {
        match written {
            Written::One(folder) => folder.into(),
            Written::Layers { layers, lock } => Unpacked { layers, lock },
        }
    }
}

/// An image that is one folder, and locked by it.
impl From<PathBuf> for Unpacked {
    fn from(folder: PathBuf) -> Unpacked {
        Unpacked { layers: vec![folder.clone()], lock: folder }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rootfs {
    /// The host's own root file system, with homes, secrets and other builds hidden.
    Host,
    #[serde(alias = "Folder")]
    Unpacked(Unpacked),
    /// An image that somebody else keeps, by the name they know it by; the executor has the container made there. Folders of this
    /// host are copied into it, nothing is kept of it, and `shared` and `limits` are up to the executor.
    Image(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Only a loopback interface of its own.
    None,
    /// A network of its own that leads out, to the internet and what the operator allows.
    Egress,
    /// The host's network.
    Host,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Limits {
    pub memory_bytes: Option<u64>,
    pub pids: Option<u64>,
    /// Thousandths of one CPU.
    pub cpu_millis: Option<u64>,
    /// Of what commands write, on a disk of its own.
    #[serde(default)]
    pub disk_bytes: Option<u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Source {
    None,
    /// A folder of this host, shown through an overlay: the build changes nothing in it.
    Folder(PathBuf),
    /// A ZIP object in the object store at `objects` (a `store::objects` root).
    ObjectZip {
        objects: PathBuf,
        bucket: String,
        key: String,
        version: Option<String>,
    },
    /// All objects whose key begins with `prefix`; the prefix is removed (SA-004).
    ObjectFolder {
        objects: PathBuf,
        bucket: String,
        prefix: String,
    },
    /// A git repository, fetched apart from the build.
    Git(Git),
}

/// A source that the build finds in `CODEBUILD_SRC_DIR_<identifier>`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SecondarySource {
    pub identifier: String,
    pub source: Source,
}

/// Files and folders of one source folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The secondary source; the primary one if absent.
    pub identifier: Option<String>,
    pub paths: Vec<PathBuf>,
}

/// A repository and what of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Git {
    /// As [`source::Location`] reads it.
    pub location: String,
    /// As [`source::Version`] reads it; the default branch if there is none.
    pub version: Option<String>,
    /// So many commits; all of them if absent (SA-020).
    pub depth: Option<u32>,
    pub submodules: bool,
    /// Whoever answers is believed (SA-022).
    pub insecure_ssl: bool,
}

/// What the operator says about fetching from git servers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetching {
    /// Servers may be at any address; else at public ones only.
    pub anywhere: bool,
    /// Blocks of addresses that are allowed although they are not public, such as `10.0.0.0/8`.
    pub allow: Vec<String>,
    /// A file of certificates that are trusted beside the system's, PEM.
    pub certificates: Option<PathBuf>,
    /// In a network of its own, whose firewall looks at addresses once more ([`container::prepare_fetching`]); else in the host's.
    #[serde(default)]
    pub own_network: bool,
    /// For locations of ssh.
    #[serde(default)]
    pub ssh: Ssh,
    /// Where what builds of this project fetched is kept for the next ones (SA-096).
    #[serde(default)]
    pub kept: Option<Repositories>,
}

/// What git servers are spoken to with by ssh. Files of this host, read when a source is fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ssh {
    /// Private keys without passphrases.
    pub keys: Vec<PathBuf>,
    /// Keys of hosts, as `known_hosts` has them.
    pub known_hosts: Vec<PathBuf>,
    /// The socket of the user's ssh-agent.
    pub agent: Option<PathBuf>,
}

/// Repositories kept by builds that may share them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repositories {
    /// Made if it is missing.
    pub folder: PathBuf,
    pub trust: Trust,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Buildspec {
    /// A path relative to the primary source.
    File(String),
    Inline(String),
    Object {
        objects: PathBuf,
        bucket: String,
        key: String,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Artifacts {
    /// `NO_ARTIFACTS`: the buildspec's artifacts block is ignored (BS-131).
    None,
    /// `buildyard run`: plain files below this folder; secondary artifacts in folders named by identifier.
    Folder(PathBuf),
    Objects {
        objects: PathBuf,
        primary: Option<ArtifactTarget>,
        secondary: Vec<ArtifactTarget>,
    },
}

/// Where one artifact goes; the key rules are SA-070..081.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ArtifactTarget {
    /// Absent for the primary artifact.
    pub identifier: Option<String>,
    pub bucket: String,
    pub path: String,
    pub name: String,
    pub namespace_build_id: bool,
    pub zip: bool,
    /// The buildspec's `artifacts.name` replaces `name` (BS-133).
    pub override_name: bool,
    /// Stored as object metadata `codebuild-buildarn` (SA-066).
    pub build_arn: String,
    /// What the object is to be encrypted with; nothing if it shall not be (SA-065).
    #[serde(default)]
    pub encryption_key: Option<String>,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    #[test]
    fn an_image_that_an_earlier_version_wrote_is_one_folder() {
        let one = Rootfs::Unpacked(PathBuf::from("/images/x").into());
        assert_eq!(serde_json::from_str::<Rootfs>(r#"{"Folder":"/images/x"}"#).unwrap(), one);
        let two = Rootfs::Unpacked(Unpacked { layers: vec!["/b".into(), "/a".into()], lock: "/l".into() });
        let written = serde_json::to_string(&two).unwrap();
        assert_eq!(serde_json::from_str::<Rootfs>(&written).unwrap(), two);
    }

    /// A plan that asks for nothing.
    pub(crate) fn plan() -> Plan {
        Plan {
            build_id: "demo:0".into(),
            uuid: "0".into(),
            project_name: "demo".into(),
            log: PathBuf::from("log"),
            log_quota_bytes: None,
            environment: Environment {
                rootfs: Rootfs::Host,
                variables: BTreeMap::new(),
                shared: Vec::new(),
                network: Network::None,
                limits: Limits::default(),
                privileged: false,
                starts_docker: false,
            },
            source: Source::None,
            secondary_sources: Vec::new(),
            left_out: Vec::new(),
            fetching: Fetching::default(),
            source_number: 1,
            buildspec: Buildspec::Inline(String::new()),
            service_variables: BTreeMap::new(),
            variables: BTreeMap::new(),
            references: BTreeMap::new(),
            artifacts: Artifacts::None,
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
            cache: Cache::None,
        }
    }
}

//! What the operator decides, complete: nothing here is read from files or variables by the engine itself.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use access::Rights;
use agent::plan::{Fetching, Network, Rootfs};
use api::codebuild::{Build, ComputeType, EnvironmentType};
use api::{AccountId, Region};
use aws::s3::Encryption;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use store::objects::Owner;

use crate::clock::{Clock, SystemClock};
pub use crate::curated::{is_curated, meant};
use crate::references::{Nowhere, References};
use crate::utilization::Utilization;

/// An image made ready to be a build's root file system.
#[derive(Debug, Clone)]
pub struct Image {
    pub rootfs: Rootfs,
    /// The variables the image sets.
    pub variables: BTreeMap<String, String>,
    /// What keeps it from being removed before the build's agent has it, if anything could; kept until the build ends.
    pub held: Option<KeptImage>,
}

/// Something that lasts as long as this does.
#[derive(Clone)]
pub struct KeptImage(#[allow(dead_code, reason = "dropped at its time")] Arc<dyn Any + Send + Sync>);

impl KeptImage {
    pub fn new(what: impl Any + Send + Sync) -> KeptImage {
        KeptImage(Arc::new(what))
    }
}

impl fmt::Debug for KeptImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptImage")
    }
}

/// An image that a build needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WantedImage {
    /// As the project names it.
    pub name: String,
    pub puller: Puller,
}

/// Whose logins an image is pulled with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Puller {
    /// Those that whoever runs the server has set up.
    Server,
    /// The project's own, if it has one, and no other.
    Project(Option<Login>),
}

/// A registry's user.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub username: String,
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("username", &self.username).finish_non_exhaustive()
    }
}

pub type ImageFuture = Pin<Box<dyn Future<Output = Result<Image, String>> + Send>>;

/// Finds, fetches and unpacks an image; may take its time. The error is for the build's owner.
#[derive(Clone)]
pub struct ResolveImage(Arc<dyn Fn(WantedImage) -> ImageFuture + Send + Sync>);

impl ResolveImage {
    pub fn new<F>(resolve: impl Fn(WantedImage) -> F + Send + Sync + 'static) -> ResolveImage
    where
        F: Future<Output = Result<Image, String>> + Send + 'static,
    {
        ResolveImage(Arc::new(move |image| Box::pin(resolve(image))))
    }

    pub(crate) fn resolve(&self, image: WantedImage) -> ImageFuture {
        (self.0)(image)
    }
}

impl fmt::Debug for ResolveImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResolveImage")
    }
}

type TellGrowth = dyn Fn(&str, &str, &str) + Send + Sync;

/// Told of account, log group and log stream whenever a build's log has grown or was sealed. Must not block.
#[derive(Clone)]
pub struct LogGrew(Arc<TellGrowth>);

impl LogGrew {
    pub fn new(tell: impl Fn(&str, &str, &str) + Send + Sync + 'static) -> LogGrew {
        LogGrew(Arc::new(tell))
    }

    pub(crate) fn tell(&self, account: &str, group: &str, stream: &str) {
        (self.0)(account, group, stream);
    }
}

impl fmt::Debug for LogGrew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogGrew")
    }
}

/// What happened to a build, and the build as it is then.
#[derive(Debug, Clone, Copy)]
pub enum BuildNews<'a> {
    /// It was stored, and waits for its turn.
    Accepted(&'a Build),
    /// Its end was stored. What it has used, if that is known.
    Ended(&'a Build, Option<Utilization>),
}

/// Told of builds once what happened is stored: so nobody hears of what a crash between the two swallowed. Must not block.
#[derive(Clone)]
pub struct TellBuilds(Arc<dyn Fn(BuildNews<'_>) + Send + Sync>);

impl TellBuilds {
    pub fn new(tell: impl Fn(BuildNews<'_>) + Send + Sync + 'static) -> TellBuilds {
        TellBuilds(Arc::new(tell))
    }

    pub(crate) fn tell(&self, news: BuildNews<'_>) {
        (self.0)(news);
    }
}

impl fmt::Debug for TellBuilds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TellBuilds")
    }
}

/// Makes the ids of builds and of what else has one nobody can guess.
#[derive(Clone)]
pub struct NewUuid(Arc<dyn Fn() -> Uuid + Send + Sync>);

impl NewUuid {
    pub fn new(make: impl Fn() -> Uuid + Send + Sync + 'static) -> NewUuid {
        NewUuid(Arc::new(make))
    }

    pub(crate) fn make(&self) -> Uuid {
        (self.0)()
    }
}

impl Default for NewUuid {
    fn default() -> NewUuid {
        NewUuid::new(Uuid::new_v4)
    }
}

impl fmt::Debug for NewUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewUuid")
    }
}

/// Where work on files is done that may take long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FileWork {
    /// On threads that are there for it.
    #[default]
    Aside,
    /// At once, on the thread of whoever needs it: so that one thing happens after another, always in the same order.
    AtOnce,
}

impl FileWork {
    pub(crate) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> crate::Result<T> {
        match self {
            FileWork::Aside => tokio::task::spawn_blocking(work).await.map_err(crate::Error::internal),
            FileWork::AtOnce => Ok(work()),
        }
    }
}

/// How builds reach the services of the server that runs them.
#[derive(Clone)]
pub struct BuildEndpoint {
    /// Where agents connect on behalf of their builds.
    pub socket: PathBuf,
    /// Where a build, `project:uuid`, fetches its service role's credentials: a path only it knows.
    pub credentials: Arc<dyn Fn(&str) -> String + Send + Sync>,
}

impl fmt::Debug for BuildEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BuildEndpoint").field("socket", &self.socket).finish_non_exhaustive()
    }
}

type FindRights = dyn Fn(&str, &str, &str) -> Option<Rights> + Send + Sync;

/// Knows what the operator lets service roles do.
#[derive(Clone)]
pub struct RoleRights(Arc<FindRights>);

impl RoleRights {
    /// `find` gets the account, the build, `project:uuid`, and its role's ARN; none, if the operator has said nothing of that role.
    pub fn new(find: impl Fn(&str, &str, &str) -> Option<Rights> + Send + Sync + 'static) -> RoleRights {
        RoleRights(Arc::new(find))
    }

    pub(crate) fn find(&self, account: &str, build: &str, role_arn: &str) -> Option<Rights> {
        (self.0)(account, build, role_arn)
    }
}

impl fmt::Debug for RoleRights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RoleRights")
    }
}

/// A store that is not this server's own.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    /// As agents are told of it.
    pub plan: agent::plan::Elsewhere,
    pub store: aws::s3::Store,
    /// What the store is to encrypt objects with.
    pub encryption: StoreEncryption,
}

/// How a store is told to encrypt what builds put there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreEncryption {
    /// It is told nothing.
    #[default]
    None,
    /// With keys of its own, `AES256`.
    Aes256,
    /// With the project's key of KMS.
    Kms,
}

impl StoreEncryption {
    /// For an object that is to be encrypted with this key, if at all. COMPAT: SA-065 S3's own key goes by no name.
    pub fn of(self, key: Option<&str>) -> Option<Encryption> {
        let key = key?;
        match self {
            StoreEncryption::None => None,
            StoreEncryption::Aes256 => Some(Encryption::Own),
            StoreEncryption::Kms => {
                Some(Encryption::Kms(Some(key.to_owned()).filter(|key| !key.ends_with("alias/aws/s3"))))
            }
        }
    }
}

/// How much of this host a compute type has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    pub memory_bytes: Option<u64>,
    /// Thousandths of a processor.
    pub cpu_millis: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Of everything that a build writes; not limited if it is not said.
    pub disk_bytes: Option<u64>,
}

#[derive(Debug, Clone)]
pub struct Config {
    pub region: Region,
    /// The account that has the buckets nobody is said to own.
    pub default_account: Option<AccountId>,
    /// Root of the object store, where sources come from and artifacts go.
    pub objects: PathBuf,
    /// Buckets that are not there, and the store that has them.
    pub elsewhere: Option<Elsewhere>,
    /// Folder of the log segments.
    pub logs: PathBuf,
    /// How many bytes of a build's output are kept in its log; `None`: all of them.
    pub log_quota_bytes: Option<u64>,
    /// Whether what builds log is to be forwarded; by whom is not the engine's business.
    pub forward_logs: bool,
    /// Folder of the local caches of builds.
    pub caches: PathBuf,
    /// Folder of the repositories that builds have fetched.
    pub repositories: PathBuf,
    /// Projects whose builds find what is cached and save nothing, such as those of changes that nobody has looked at yet.
    pub read_only_caches: BTreeSet<String>,
    /// How many builds run at once.
    pub concurrent_builds: usize,
    /// How many builds of a compute type, such as `BUILD_GENERAL1_LARGE`, run at once; others have no limit of their own.
    pub concurrent_builds_of: BTreeMap<String, usize>,
    /// Sizes of compute types that are not AWS's; what of a size is not said stays as it is there.
    pub sizes: BTreeMap<String, Size>,
    /// How many builds may wait in the queue.
    pub queued_builds: usize,
    /// The environment types whose builds can run here.
    pub environment_types: Vec<EnvironmentType>,
    /// Image names that mean this host's own root file system, as [`meant`] goes by them.
    pub host_images: Vec<String>,
    /// Image names that `images` resolves although they look like a host image, likewise.
    pub mapped_images: BTreeSet<String>,
    /// Variables in the environment of builds on the host's own root file system.
    pub host_variables: BTreeMap<String, String>,
    /// Host folders shown read-only in such builds.
    pub host_shared: Vec<PathBuf>,
    pub network: Network,
    /// Of projects with a `vpcConfig`; if there is none, they are refused.
    pub vpc_network: Option<Network>,
    /// How git sources are fetched.
    pub fetching: Fetching,
    /// What CodeCommit's repositories are opened with; without it, only what is open.
    pub codecommit: Option<aws::CodeCommit>,
    pub images: ResolveImage,
    /// Builds may be privileged (EN-090): what that gives them is the executor's business.
    pub privileged: bool,
    /// Where what builds refer to is looked up.
    pub references: Arc<dyn References>,
    /// How builds reach this server's services, if they do.
    pub endpoint: Option<BuildEndpoint>,
    /// What the server may do for builds in the name of their service roles; what of a role is not said is not asked for.
    pub roles: RoleRights,
    pub log_grew: LogGrew,
    pub tell_builds: TellBuilds,
    pub clock: Arc<dyn Clock>,
    pub new_uuid: NewUuid,
    pub file_work: FileWork,
}

impl Config {
    /// Sensible values for everything that has one.
    pub fn new(region: Region, objects: PathBuf, logs: PathBuf) -> Config {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Config {
            region,
            default_account: None,
            caches: objects.with_file_name("caches"),
            repositories: objects.with_file_name("repositories"),
            read_only_caches: BTreeSet::new(),
            objects,
            elsewhere: None,
            logs,
            log_quota_bytes: Some(LOG_QUOTA_BYTES),
            forward_logs: false,
            concurrent_builds: processors.max(2),
            concurrent_builds_of: BTreeMap::new(),
            sizes: BTreeMap::new(),
            queued_builds: 10_000,
            environment_types: vec![native_environment_type()],
            host_images: vec!["host".to_string(), "aws/codebuild/*".to_string()],
            mapped_images: BTreeSet::new(),
            host_variables: BTreeMap::from([("PATH".to_string(), DEFAULT_PATH.to_string())]),
            host_shared: Vec::new(),
            network: Network::Host,
            vpc_network: None,
            fetching: Fetching::default(),
            codecommit: None,
            privileged: false,
            images: ResolveImage::new(
                |image| async move { Err(format!("no images are set up: {}", image.name)) },
            ),
            references: Arc::new(Nowhere { reason: "no place to look is set up".to_string() }),
            endpoint: None,
            roles: RoleRights::new(|_, _, _| None),
            log_grew: LogGrew::new(|_, _, _| {}),
            tell_builds: TellBuilds::new(|_| {}),
            clock: Arc::new(SystemClock::new()),
            new_uuid: NewUuid::default(),
            file_work: FileWork::default(),
        }
    }

    pub(crate) fn codecommit_origin(&self) -> Option<&str> {
        let elsewhere = self.codecommit.as_ref()?.elsewhere.as_ref();
        elsewhere.map(|elsewhere| elsewhere.origin.as_str())
    }

    /// Which buckets builds of this account may use.
    pub(crate) fn buckets_of(&self, account: &AccountId) -> Owner {
        let unclaimed = self.default_account.as_ref().is_none_or(|default| default == account);
        Owner { account: account.to_string(), unclaimed }
    }

    /// What buckets of this account are elsewhere: those of the default account may be.
    pub(crate) fn elsewhere_for(&self, account: &AccountId) -> Option<agent::plan::Elsewhere> {
        let is_theirs = self.buckets_of(account).unclaimed;
        self.elsewhere.as_ref().filter(|_| is_theirs).map(|elsewhere| elsewhere.plan.clone())
    }

    /// Whether builds with this image run on the host's own root file system.
    pub(crate) fn is_host_image(&self, image: &str) -> bool {
        !self.is_mapped_image(image) && meant(image, &self.host_images).is_some()
    }

    /// Whether `images` knows what this name means here.
    pub(crate) fn is_mapped_image(&self, image: &str) -> bool {
        meant(image, &self.mapped_images).is_some()
    }
}

/// Whether builds of this compute type can run here, such as `BUILD_GENERAL1_LARGE`.
pub fn is_compute_type(name: &str) -> bool {
    crate::plan::is_compute_type(&ComputeType::from(name))
}

/// More than any log that somebody reads, and less than a disk.
const LOG_QUOTA_BYTES: u64 = 20 << 30;
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn native_environment_type() -> EnvironmentType {
    match std::env::consts::ARCH {
        "aarch64" => EnvironmentType::ArmContainer,
        _ => EnvironmentType::LinuxContainer,
    }
}

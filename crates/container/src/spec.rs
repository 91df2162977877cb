//! What a container is made of and what can be asked of it: plain values. No behaviour.

use std::ffi::OsString;
use std::net::SocketAddrV4;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use crate::profile::{PRIVILEGED, PROFILE, Profile};

/// Everything that must be known to create a container.
#[derive(Debug)]
pub struct Spec {
    /// The lower layers of the root file system; never written to.
    pub rootfs: Rootfs,
    /// An existing, empty folder of the host for this container alone. Everything written inside lands below it;
    /// [`crate::Container::destroy`] and [`crate::sweep`] empty it again. When the caller is root it is given to the container's
    /// root user. With [`Limits::disk_bytes`] its file system only holds the file behind that disk.
    pub scratch: PathBuf,
    /// What is written shall be able to lie beneath later containers. Takes a little longer to make.
    pub may_lie_beneath: bool,
    /// Scratch folders of containers with [`Spec::may_lie_beneath`] which were ended with [`crate::Container::end`], the latest last, at most [`MOST_BENEATH`]: what was
    /// written in them shows here, and stays as it is. Their root file system and mounts must have been the same as these.
    pub beneath: Vec<PathBuf>,
    /// More file systems, mounted in this order. Missing mount points are made.
    pub mounts: Vec<Mount>,
    /// Paths inside the container which become empty: a folder becomes an empty folder that can be written, a file an empty file.
    /// Paths that do not exist are left alone.
    pub masks: Vec<PathBuf>,
    /// Folders that are there from the start, root's, permissions 0755, with their parents; kept where an image has them.
    pub folders: Vec<PathBuf>,
    /// Files that are there from the start, root's.
    pub files: Vec<File>,
    /// At most 64 bytes.
    pub hostname: String,
    pub network: Network,
    /// TCP ports that are listened at in the container's network from the start, for the caller to answer: see
    /// [`crate::Container::take_listeners`]. The addresses become the loopback interface's. Not with [`Network::Host`].
    pub listen: Vec<SocketAddrV4>,
    pub limits: Limits,
    /// Root inside has all that root of a user namespace can have, so that a container engine can run: it mounts, makes namespaces, sets up
    /// its network, and has control groups below the container's own ([`crate::profile::PRIVILEGED`]). Limits and the way out of the network stay.
    /// Takes root, a network of its own, and a hierarchy of control groups of version 2; no single file of the host can show.
    pub is_privileged: bool,
    /// Names the container on this host (cgroups, ids): `[A-Za-z0-9._-]`, 1 to 128 bytes.
    pub name: String,
    /// Standard output and standard error of every process which names none of its own.
    pub output: OwnedFd,
    /// What [`crate::Container::call`] can run.
    pub functions: &'static [Function],
}

impl Spec {
    pub(crate) fn profile(&self) -> &'static Profile {
        if self.is_privileged { &PRIVILEGED } else { &PROFILE }
    }
}

/// How many ended containers one can stand on: each is a layer that every look-up of a file may go through.
pub const MOST_BENEATH: usize = 16;

/// How many folders an image has at most: with those of ended containers, fewer than the kernel lays over each other.
pub const MOST_FOLDERS: usize = 128;

/// Where the root file system comes from.
#[derive(Clone, Debug)]
pub enum Rootfs {
    /// The host's own files, of which only these absolute paths show. Symbolic links among them are copied. What only
    /// root may read on the host is not readable inside; see `masks.rs`.
    Host { visible: Vec<PathBuf> },
    /// An unpacked image: the folders of its layers, the topmost first. What a layer takes away of those beneath is marked as overlay does
    /// for who mounts with `userxattr`.
    Folders(Vec<PathBuf>),
}

/// The paths of the host a build needs to find compilers and libraries: for [`Rootfs::Host`].
#[must_use]
pub fn default_visible_paths() -> Vec<PathBuf> {
    [
        "/usr",
        "/bin",
        "/sbin",
        "/lib",
        "/lib32",
        "/lib64",
        "/libx32",
        "/etc",
        "/opt",
        "/var/lib/dpkg",
        "/var/lib/apt",
    ]
    .map(PathBuf::from)
    .into()
}

/// One more file system.
#[derive(Clone, Debug)]
pub enum Mount {
    /// A folder or file of the host, read-only.
    ReadOnly { host: PathBuf, inside: PathBuf },
    /// A folder of the host which can be written without changing it; changes land in `upper`, a folder below the scratch folder (made
    /// when missing).
    Overlay { lower: PathBuf, inside: PathBuf, upper: PathBuf },
    /// An empty file system in memory.
    Tmpfs { inside: PathBuf, size_bytes: u64 },
}

/// Files kept from earlier containers, to be shown in a folder of a running one. What is written there changes none of them.
#[derive(Clone, Debug)]
pub struct LateOverlay {
    /// Absolute; made when missing. What is there already shows beneath the layers.
    pub inside: PathBuf,
    /// Folders of the host, the latest first, at most [`MOST_BENEATH`]. The folder that each lies in belongs to the root user of the
    /// container whose files they are, as a scratch folder does.
    pub lowers: Vec<PathBuf>,
    /// Where changes land: a name in the scratch folder.
    pub upper: PathBuf,
}

/// What the container can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// A network of its own that holds nothing but a working loopback.
    None,
    /// A network of its own that leads out to what [`crate::prepare_egress`] says, which must have been called on this host. An
    /// ordinary user's takes `slirp4netns`.
    Egress,
    /// As [`Network::Egress`], but to what [`crate::prepare_fetching`] says.
    Fetching,
    /// The host's network.
    Host,
}

impl Network {
    /// Whether it is the container's own, and not the host's.
    #[must_use]
    pub fn is_own(self) -> bool {
        self != Network::Host
    }

    pub(crate) fn leads_out(self) -> bool {
        matches!(self, Network::Egress | Network::Fetching)
    }
}

/// Upper bounds; `None` is unlimited. They hold where [`crate::capabilities`] says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory and swap together.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Thousandths of one processor.
    pub cpu_millis: Option<u64>,
    /// Everything that is written below the scratch folder, on a disk of its own that goes with the container. Takes root; not with
    /// [`Spec::may_lie_beneath`]. What is written to a [`LateOverlay`] is not on it.
    pub disk_bytes: Option<u64>,
}

/// A function of the calling program that can run inside the container, as its root user.
#[derive(Clone, Copy, Debug)]
pub struct Function {
    pub name: &'static str,
    /// Receives the arguments and descriptors given to [`crate::Container::call`]; what it returns is the exit code.
    pub run: fn(&[u8], Vec<OwnedFd>) -> i32,
}

/// A command to run inside.
#[derive(Clone, Debug, Default)]
pub struct Process<'fd> {
    /// The program (searched in the `PATH` of `env` unless it holds a slash) and its arguments.
    pub argv: Vec<OsString>,
    /// The whole environment, in this order.
    pub env: Vec<(OsString, OsString)>,
    /// The working folder; it must exist.
    pub cwd: PathBuf,
    /// A user name or number, optionally `user:group`, looked up in the container's own files; `None` is root.
    pub user: Option<String>,
    /// Written before the program starts, in this order.
    pub files: Vec<File>,
    /// They become descriptors 3, 4, ... of the program.
    pub fds: Vec<BorrowedFd<'fd>>,
    /// Standard output and error; [`Spec::output`] when `None`.
    pub output: Option<BorrowedFd<'fd>>,
    /// Standard input, `/dev/null` when `None`. A terminal becomes the controlling terminal.
    pub input: Option<BorrowedFd<'fd>>,
}

/// A file to write before a process starts. It replaces what is there, belongs to the process's user, and missing parent folders are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    /// Permission bits, such as `0o600`.
    pub mode: u32,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    Code(i32),
    Signal(i32),
}

/// Something that happened inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A process started with [`crate::Container::start`] or [`crate::Container::call`] ended. What it left in the background goes on.
    Exited { handle: u32, status: ExitStatus },
    /// The container's init ended, and with it everything inside. Nothing follows this event.
    Died {
        /// The kernel killed something inside for want of memory.
        oom: bool,
    },
}

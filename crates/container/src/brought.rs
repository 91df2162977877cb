//! A container that somebody else makes, such as a daemon. Our init is its first process and comes to its caller by a socket that
//! shows inside; from then on the container is as any other. Namespaces, mounts, limits and removal are the maker's business.

use std::ffi::OsString;
use std::io;
use std::net::{SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::mount::{MountFlags, mount_remount};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with,
};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, set_dumpable_behavior, umask,
};

use crate::child;
use crate::error::{Doing, Error};
use crate::init;
use crate::inside::LISTENING;
use crate::outside::{Told, await_ready};
use crate::packet;
use crate::passwd::Identity;
use crate::privileges;
use crate::profile::PROFILE;
use crate::seccomp::Filters;
use crate::spec::{File, Function};
use crate::sys;
use crate::wire::{Reader, Writer};

/// How long a killed init may take to be gone with everything inside.
const PATIENCE: Duration = Duration::from_secs(30);

/// What init makes inside before anything untrusted runs, and what it is given.
#[derive(Debug)]
pub struct Inside {
    /// As [`crate::Spec::folders`] and [`crate::Spec::files`].
    pub folders: Vec<PathBuf>,
    pub files: Vec<File>,
    /// As [`crate::Spec::listen`], at addresses that are there already. Port 0 is any.
    pub listen: Vec<SocketAddrV4>,
    pub output: OwnedFd,
    /// Commands are neither filtered nor limited by init.
    pub is_privileged: bool,
    /// Those of init's program must be the same.
    pub functions: &'static [Function],
}

/// Where the init of one container is awaited.
#[derive(Debug)]
pub struct Awaited {
    listener: OwnedFd,
    path: PathBuf,
}

/// Init, as its caller has it.
pub(crate) struct Met {
    pub(crate) init: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) control: OwnedFd,
    pub(crate) events: OwnedFd,
    pub(crate) listeners: Vec<OwnedFd>,
}

impl Awaited {
    /// Makes the socket, at a path of at most 107 bytes. Whoever can reach it may connect: root of the container may be anybody here.
    ///
    /// # Errors
    /// [`Error::Failed`].
    pub fn listen(path: &Path) -> Result<Awaited, Error> {
        let what = || format!("listen at {}", path.display());
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).doing(what())?;
        let address = SocketAddrUnix::new(path).doing(what())?;
        bind(&listener, &address).and_then(|()| listen(&listener, 1)).doing(what())?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666)).doing(what())?;
        Ok(Awaited { listener, path: path.to_owned() })
    }

    /// Readable when somebody has come.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Tells whoever waits at `path` that no init will come, and why.
    ///
    /// # Errors
    /// [`Error::Failed`]; nobody may wait there any more.
    pub fn refuse(path: &Path, why: &str) -> Result<(), Error> {
        let socket = reach(path).doing(format!("connect to {}", path.display()))?;
        packet::send(socket.as_fd(), &complaint(libc::ECANCELED, why), &[]).doing("tell why")
    }

    /// Takes who has come, tells it what to make, and waits until it can run something. The socket is gone then.
    pub(crate) fn meet(self, inside: &Inside) -> Result<Met, Error> {
        let control = accept_with(&self.listener, SocketFlags::CLOEXEC).doing("take init's connection")?;
        // No command runs before init is told to start one, so nobody else can come.
        std::fs::remove_file(&self.path).doing("remove init's socket")?;
        let peer = rustix::net::sockopt::socket_peercred(&control).doing("see who init is")?.pid;
        let pidfd = pidfd_open(peer, PidfdFlags::empty()).doing("take hold of init")?;
        let (events, inits_events) = packet::pair().doing("make a socket")?;
        let descriptors = [inits_events.as_fd(), inside.output.as_fd()];
        // One that has come to complain does not listen.
        let _ = packet::send(control.as_fd(), &encode(inside), &descriptors);
        drop(inits_events);
        let Told { listeners, .. } = await_ready(control.as_fd())?;
        Ok(Met { init: peer, pidfd, control, events, listeners })
    }
}

/// Ends init, and with it everything inside.
pub(crate) fn end(pidfd: &OwnedFd) -> Result<(), Error> {
    match pidfd_send_signal(pidfd, Signal::KILL) {
        // One of another user's leaves when its caller is gone.
        Ok(()) | Err(rustix::io::Errno::SRCH | rustix::io::Errno::PERM) => {}
        Err(error) => return Err(error).doing("kill init"),
    }
    let mut polled = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    let patience = Timespec::try_from(PATIENCE).ok();
    match rustix::io::retry_on_intr(|| poll(&mut polled, patience.as_ref())).doing("wait for init")? {
        0 => Err(io::Error::from(io::ErrorKind::TimedOut)).doing("wait for init"),
        _ => Ok(()),
    }
}

/// `functions` by name, so that another version's init is found out; then what to make.
fn encode(inside: &Inside) -> Vec<u8> {
    let mut message = Writer::default();
    message.number(inside.functions.len() as u32);
    for function in inside.functions {
        message.text(function.name);
    }
    message.number(inside.folders.len() as u32);
    for folder in &inside.folders {
        message.text(folder);
    }
    message.number(inside.files.len() as u32);
    for file in &inside.files {
        message.text(&file.path).number(file.mode).bytes(&file.bytes);
    }
    message.number(u32::from(inside.is_privileged));
    message.number(inside.listen.len() as u32);
    for address in &inside.listen {
        message.text(address.to_string());
    }
    message.0
}

/// What init is told.
#[derive(Debug, PartialEq, Eq)]
struct Order {
    functions: Vec<OsString>,
    folders: Vec<PathBuf>,
    files: Vec<File>,
    is_privileged: bool,
    listen: Vec<SocketAddrV4>,
}

fn decode(message: &[u8]) -> Option<Order> {
    let mut reader = Reader(message);
    Some(Order {
        functions: list(&mut reader, Reader::text)?,
        folders: list(&mut reader, |reader| reader.text().map(PathBuf::from))?,
        files: list(&mut reader, |reader| {
            let (path, mode) = (reader.text()?.into(), reader.number()?);
            Some(File { path, mode, bytes: reader.bytes()?.to_vec() })
        })?,
        is_privileged: reader.number()? != 0,
        listen: list(&mut reader, |reader| reader.text()?.to_str()?.parse().ok())?,
    })
}

fn list<'a, T>(
    reader: &mut Reader<'a>,
    mut item: impl FnMut(&mut Reader<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    (0..reader.number()?).map(|_| item(reader)).collect()
}

fn complaint(errno: i32, what: &str) -> Vec<u8> {
    let mut message = Writer::default();
    message.number(errno as u32).text(what);
    message.0
}

fn reach(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// What the first process of the container does: it comes to its caller at `socket`, makes what it is told to, and is init from
/// then on. To be called first thing by a program of one thread.
pub fn be_init(socket: &Path, functions: &'static [Function]) -> ExitCode {
    let control = match reach(socket) {
        Ok(control) => control,
        Err(error) => {
            eprintln!("init: nobody is to be found at {}: {error}", socket.display());
            return ExitCode::FAILURE;
        }
    };
    match settle(&control, functions) {
        Ok(filters) => init::run(functions, &filters),
        Err(error) => {
            let (what, errno) = match &error {
                Error::Failed { what, source } => (what.clone(), source.raw_os_error()),
                other => (other.to_string(), None),
            };
            let _ = packet::send(control.as_fd(), &complaint(errno.unwrap_or(libc::EIO), &what), &[]);
            ExitCode::FAILURE
        }
    }
}

/// Afterwards its descriptors are those that init has, and nothing may own another one.
fn settle(control: &OwnedFd, functions: &[Function]) -> Result<Filters, Error> {
    let told = packet::receive(control.as_fd()).doing("hear what to make")?;
    let (message, descriptors) = told.ok_or(Error::Gone)?;
    let order = decode(&message).ok_or_else(|| Error::Invalid("what to make is not understood".into()))?;
    let known = functions.iter().map(|function| OsString::from(function.name));
    if !order.functions.iter().cloned().eq(known) {
        return Err(Error::Invalid("the container's init is of another version".into()));
    }
    let [events, output] = <[OwnedFd; 2]>::try_from(descriptors)
        .map_err(|_| Error::Invalid("descriptors are missing".into()))?;
    make(&order)?;
    let filters = confine(&order)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).doing("forbid to be dumped")?;
    listen_at(control, &order.listen)?;
    let null = std::fs::File::open("/dev/null").doing("open the null device")?;
    let standard = [null.as_fd(), output.as_fd(), output.as_fd(), control.as_fd(), events.as_fd()];
    let taken = sys::take_descriptors(&standard).doing("put descriptors in place")?;
    std::mem::forget((taken, null, events, output));
    Ok(filters)
}

fn confine(order: &Order) -> Result<Filters, Error> {
    if order.is_privileged {
        open_cgroups()?;
        return Ok(Filters::none());
    }
    privileges::limit_resources(None).doing("set resource limits")?;
    Filters::compile(&PROFILE)
}

/// Who may do everything may have control groups below its own: a container engine inside needs them. Its maker shows them read-only.
fn open_cgroups() -> Result<(), Error> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").doing("read which mounts there are")?;
    let is_cgroup = |line: &&str| line.contains(" - cgroup");
    for mount in mounts.lines().filter(is_cgroup).filter_map(|line| line.split(' ').nth(4)) {
        let flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount_remount(mount, flags, "").doing(format!("make {mount} writable"))?;
    }
    Ok(())
}

fn make(order: &Order) -> Result<(), Error> {
    umask(Mode::from_raw_mode(0o022));
    for folder in &order.folders {
        child::make_folders(folder, &Identity::ROOT).doing(format!("make {}", folder.display()))?;
    }
    for file in &order.files {
        child::write_file(file, &Identity::ROOT).doing(format!("write {}", file.path.display()))?;
    }
    Ok(())
}

fn listen_at(control: &OwnedFd, addresses: &[SocketAddrV4]) -> Result<(), Error> {
    let listeners: Vec<TcpListener> =
        addresses.iter().map(TcpListener::bind).collect::<io::Result<_>>().doing("listen in the network")?;
    if listeners.is_empty() {
        return Ok(());
    }
    let descriptors: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
    let message = Writer::default().number(LISTENING).0.clone();
    packet::send(control.as_fd(), &message, &descriptors).doing("hand over what is listened at")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_arrives_as_it_was_given() {
        let inside = Inside {
            folders: vec!["/a".into(), "/b c".into()],
            files: vec![File { path: "/f".into(), bytes: vec![0, 255], mode: 0o444 }],
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            output: std::fs::File::open("/dev/null").unwrap().into(),
            is_privileged: true,
            functions: &[Function { name: "read", run: |_, _| 0 }],
        };
        let bytes = encode(&inside);
        let order = decode(&bytes).unwrap();
        assert_eq!((order.functions, order.folders), (vec!["read".into()], inside.folders));
        assert_eq!((order.files, order.listen, order.is_privileged), (inside.files, inside.listen, true));
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_none(), "{length}");
        }
    }

    #[test]
    fn who_waits_for_init_hears_why_there_is_none() {
        let folder = std::env::temp_dir().join(format!("brought-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("init.sock");
        let awaited = Awaited::listen(&path).unwrap();
        Awaited::refuse(&path, "no such image").unwrap();
        let inside = Inside {
            folders: Vec::new(),
            files: Vec::new(),
            listen: Vec::new(),
            output: std::fs::File::open("/dev/null").unwrap().into(),
            is_privileged: true,
            functions: &[],
        };
        let error = awaited.meet(&inside).err().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(error.to_string().starts_with("no such image"), "{error}");
    }
}

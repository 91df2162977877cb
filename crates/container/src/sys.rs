//! System calls for which there is no safe face elsewhere: clone, fork, exec, idmapped mounts, descriptors by number.
//! The only file of the crate with `unsafe`. No policy.

use std::ffi::{CString, c_int, c_uint, c_ulong, c_void};
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::ptr;

use rustix::process::Pid;

pub(crate) const INTO_CGROUP: u64 = 0x2_0000_0000;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// `mount_setattr` on a detached mount itself: `set` are `MOUNT_ATTR_*`, `user_namespace` gives its ids to the mount.
fn set_mount_attributes(
    tree: BorrowedFd<'_>,
    flags: c_int,
    set: u64,
    user_namespace: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user_namespace.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: the path is a valid C string, the structure is initialised and its size is given.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(())
}

/// Shows the files of a detached mount with the ids of a user namespace. `EINVAL` where the file system cannot.
pub(crate) fn map_ids(tree: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> io::Result<()> {
    set_mount_attributes(tree, 0, libc::MOUNT_ATTR_IDMAP, Some(user_namespace))
}

/// Takes devices and set-user-id programs from a detached mount.
pub(crate) fn make_plain(tree: BorrowedFd<'_>) -> io::Result<()> {
    set_mount_attributes(tree, 0, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV, None)
}

/// Makes a detached mount, and those within it, read-only.
pub(crate) fn make_read_only(tree: BorrowedFd<'_>) -> io::Result<()> {
    set_mount_attributes(
        tree,
        libc::AT_RECURSIVE,
        libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        None,
    )
}

/// A loop device over a file, which frees itself once nobody uses it, and its path.
pub(crate) fn attach_loop(file: &File) -> io::Result<(File, PathBuf)> {
    const GET_FREE: c_ulong = 0x4C82;
    const CONFIGURE: c_ulong = 0x4C0A;
    const AUTOCLEAR: u32 = 4;
    let control = File::options().read(true).write(true).open("/dev/loop-control")?;
    loop {
        // SAFETY: the call takes no argument.
        let number = check(unsafe { libc::ioctl(control.as_raw_fd(), GET_FREE) }.into())?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = File::options().read(true).write(true).open(&path)?;
        // `struct loop_config`: descriptor, block size, `struct loop_info64` with its flags at byte 60, 64 reserved bytes.
        let mut configuration = [0_u32; 76];
        configuration[0] = file.as_raw_fd() as u32;
        configuration[2 + 13] = AUTOCLEAR;
        // SAFETY: the structure is initialised and as large as the call reads.
        match check(unsafe { libc::ioctl(device.as_raw_fd(), CONFIGURE, configuration.as_ptr()) }.into()) {
            // Somebody else was quicker.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok((device, path)),
        }
    }
}

/// Makes a program decide over all system calls of this process and what it starts, for ever.
pub(crate) fn filter_calls(program: &[seccompiler::sock_filter]) -> io::Result<()> {
    let header = libc::sock_fprog {
        len: program.len().try_into().map_err(|_| io::ErrorKind::InvalidInput)?,
        // Both are the kernel's own `struct sock_filter`, which it only reads.
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the header names a program that lives until the call returns, and its length.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const header) })?;
    Ok(())
}

/// Of Landlock's interface; 0 where there is none.
pub(crate) fn landlock_version() -> i32 {
    const VERSION: c_uint = 1;
    // SAFETY: asked like this, the call reads nothing.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, ptr::null::<c_void>(), 0_usize, VERSION) };
    version.try_into().unwrap_or(0).max(0)
}

/// Makes a Landlock domain of this process: `handled` accesses are denied, but for those `allowed` beneath a folder; `scopes` reach no
/// further than the domain.
pub(crate) fn landlock(handled: u64, scopes: u64, allowed: Option<(u64, &OwnedFd)>) -> io::Result<()> {
    #[repr(C, packed)]
    struct PathBeneath {
        allowed: u64,
        folder: RawFd,
    }
    const PATH_BENEATH: c_int = 1;
    // Accesses to files, to networks, scopes. Older kernels take longer structures if the rest is zero.
    let attributes = [handled, 0, scopes];
    // SAFETY: the structures are initialised and live until the calls return; their sizes are given or known to the kernel.
    unsafe {
        let ruleset = check(libc::syscall(
            libc::SYS_landlock_create_ruleset,
            attributes.as_ptr(),
            size_of_val(&attributes),
            0,
        ))?;
        let ruleset = OwnedFd::from_raw_fd(ruleset as RawFd);
        let number = ruleset.as_raw_fd();
        if let Some((allowed, beneath)) = allowed {
            let rule = PathBeneath { allowed, folder: beneath.as_raw_fd() };
            check(libc::syscall(libc::SYS_landlock_add_rule, number, PATH_BENEATH, &raw const rule, 0))?;
        }
        check(libc::syscall(libc::SYS_landlock_restrict_self, number, 0))?;
    }
    Ok(())
}

/// Which side of a fork this is.
pub(crate) enum Fork {
    Child,
    Parent(Pid),
}

/// Forks the calling process, which must have one thread.
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: callers are single-threaded (checked when a container is created), so the child may use its whole memory.
    let pid = check(unsafe { libc::fork() }.into())?;
    Ok(Pid::from_raw(pid as i32).map_or(Fork::Child, Fork::Parent))
}

/// A stack for a process that shares our memory, and that stays the stack of what it forks.
#[derive(Debug)]
pub(crate) struct Stack {
    base: *mut c_void,
}

impl Stack {
    /// As large as a main thread's: functions called inside run on a copy of it. Untouched pages cost nothing.
    const SIZE_BYTES: usize = 8 << 20;

    pub(crate) fn new() -> io::Result<Stack> {
        // SAFETY: a new anonymous mapping touches nobody's memory.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                Stack::SIZE_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Stack { base };
        // SAFETY: the first page of our own mapping becomes the guard page.
        check(unsafe { libc::mprotect(base, 4096, libc::PROT_NONE) }.into())?;
        Ok(stack)
    }

    fn top(&self) -> *mut c_void {
        // SAFETY: one past the end of the mapping, which is page-aligned and hence aligned for any stack.
        unsafe { self.base.add(Stack::SIZE_BYTES) }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and whoever ran on it has ended (`Prepared` waits before it drops the stack).
        unsafe { libc::munmap(self.base, Stack::SIZE_BYTES) };
    }
}

/// Starts a process that shares memory and descriptors with this one and runs `body(argument)` on `stack`.
///
/// # Safety
/// `argument` must outlive the process, and `body` may neither allocate nor use `errno` while this process runs too.
pub(crate) unsafe fn spawn_sharing(
    stack: &Stack,
    body: extern "C" fn(*mut c_void) -> c_int,
    argument: *mut c_void,
) -> io::Result<Pid> {
    let flags = libc::CLONE_VM | libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: the sets are filled before use. The stack is ours and large enough; the caller answers for the rest.
    let cloned = unsafe {
        // No handler of this process may run in the other one, which inherits the mask.
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = (mem::zeroed(), mem::zeroed());
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let cloned = check(libc::clone(body, stack.top(), flags, argument).into());
        libc::sigprocmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        cloned
    };
    let pid = cloned?;
    Ok(Pid::from_raw(pid as i32).expect("clone returns zero only through `body`"))
}

/// `clone3` as a sibling (`CLONE_PARENT`) with a copy of the memory. `Ok(None)` is the new process.
pub(crate) fn clone_sibling(flags: u64, cgroup: Option<RawFd>, pidfd: &mut RawFd) -> io::Result<Option<Pid>> {
    // SAFETY: all-zero is a valid `clone_args`.
    let mut arguments: libc::clone_args = unsafe { mem::zeroed() };
    arguments.flags = flags | (libc::CLONE_PARENT | libc::CLONE_PIDFD) as u64;
    arguments.pidfd = ptr::from_mut(pidfd) as u64;
    if let Some(cgroup) = cgroup {
        arguments.flags |= INTO_CGROUP;
        arguments.cgroup = cgroup as u64;
    }
    // SAFETY: without CLONE_VM the child has its own copy of everything, as after fork.
    let pid =
        check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) })?;
    Ok(Pid::from_raw(pid as i32))
}

/// Leaves namespaces named by `CLONE_NEW*` flags.
pub(crate) fn unshare(flags: c_int) -> io::Result<()> {
    // SAFETY: none of the flags in use affects memory or descriptors.
    check(unsafe { libc::unshare(flags) }.into())?;
    Ok(())
}

/// Takes pages of this process's code out of its memory; `from..to` is a mapping of a file that nobody writes to.
pub(crate) fn unmap_code(from: usize, to: usize) -> io::Result<()> {
    let start = ptr::with_exposed_provenance_mut(from);
    // SAFETY: what is not written to is what the file holds, and is read from there again when it is used.
    unsafe { rustix::mm::madvise(start, to - from, rustix::mm::Advice::LinuxDontNeed) }?;
    Ok(())
}

/// Ends the process at once: no destructors, no buffers.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: ending the process is always sound.
    unsafe { libc::_exit(code) }
}

/// Sets the loopback interface of this network namespace up.
pub(crate) fn bring_loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is initialised and as large as SIOCSIFFLAGS reads.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into())?;
    Ok(())
}

/// Gives the loopback interface of this network namespace one more address.
pub(crate) fn add_to_loopback(address: std::net::Ipv4Addr, number: usize) -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: all-zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(format!("lo:{number}").bytes()) {
        *to = from as libc::c_char;
    }
    let [a, b, c, d] = address.octets().map(|octet| octet as libc::c_char);
    request.ifr_ifru.ifru_addr = libc::sockaddr {
        sa_family: libc::AF_INET as libc::sa_family_t,
        sa_data: [0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0],
    };
    // SAFETY: the request is initialised and as large as SIOCSIFADDR reads.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR, &raw const request) }.into())?;
    Ok(())
}

/// Gives the process these descriptors as 0, 1, 2, ... (inherited by programs) and closes all others. Returns those from 3 on.
///
/// Whatever owned a descriptor before must not be dropped any more: callers go on to `exec` or `_exit`.
pub(crate) fn take_descriptors(wanted: &[BorrowedFd<'_>]) -> io::Result<Vec<OwnedFd>> {
    let count = wanted.len() as RawFd;
    let mut copies = Vec::with_capacity(wanted.len());
    for descriptor in wanted {
        // SAFETY: duplicating a valid descriptor to a number out of the way.
        let copy =
            check(unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_DUPFD_CLOEXEC, count + 3) }.into())?;
        copies.push(copy as RawFd);
    }
    for (number, copy) in copies.iter().enumerate() {
        // SAFETY: the process is about to be replaced or to end; nobody relies on what the number meant.
        check(unsafe { libc::dup2(*copy, number as RawFd) }.into())?;
    }
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_close_range, count, c_uint::MAX, 0) })?;
    // SAFETY: dup2 has just made each of these numbers ours.
    Ok((3..count).map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect())
}

/// Marks all descriptors from `first` on to be closed by `exec`.
pub(crate) fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    // SAFETY: only a flag changes.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) })?;
    Ok(())
}

/// A standard descriptor of init and its forks, which `take_descriptors` has put in place.
pub(crate) fn standard(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: init holds 0 to 4 from its first moment to its last.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Takes over a descriptor by number.
///
/// # Safety
/// Nothing else may own it.
pub(crate) unsafe fn own(number: RawFd) -> OwnedFd {
    // SAFETY: promised by the caller.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Blocks SIGCHLD and returns a descriptor that becomes readable when a child ends.
pub(crate) fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before use.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        check(libc::sigprocmask(libc::SIG_SETMASK, &raw const set, ptr::null_mut()).into())?;
        let fd = check(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK).into())?;
        Ok(OwnedFd::from_raw_fd(fd as RawFd))
    }
}

/// Gives every signal its default action and unblocks all: what a program expects when it starts.
pub(crate) fn reset_signals() {
    // SAFETY: SIG_DFL needs no code of ours; numbers that cannot be set are refused without harm.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Makes writing to a closed pipe an error, as Rust code expects, rather than the end.
pub(crate) fn survive_closed_pipes() {
    // SAFETY: SIG_IGN needs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Executes the first of `candidates` that can be, as `execvpe` does, and returns only to say why none could.
pub(crate) fn exec(candidates: &[CString], argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    let mut answer = io::Error::from_raw_os_error(libc::ENOENT);
    for candidate in candidates {
        // SAFETY: both vectors are null-terminated and their strings outlive the call.
        unsafe { libc::execve(candidate.as_ptr(), argv.as_ptr(), env.as_ptr()) };
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            // A later folder of PATH may hold one that can be executed; if none does, this is the better answer.
            Some(libc::EACCES) => answer = error,
            _ => return error,
        }
    }
    answer
}

/// Asks the kernel whether this user may make a user namespace, by doing so in a child.
pub(crate) fn try_user_namespace() -> io::Result<()> {
    // SAFETY: the child only calls async-signal-safe functions, so this holds in programs with threads too.
    let pid = check(unsafe { libc::fork() }.into())?;
    if pid == 0 {
        let refused = unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS).err().and_then(|e| e.raw_os_error());
        exit_now(refused.unwrap_or(0));
    }
    let pid = Pid::from_raw(pid as i32).expect("zero was the child");
    match wait_for_exit(pid)? {
        crate::ExitStatus::Code(0) => Ok(()),
        crate::ExitStatus::Code(code) => Err(io::Error::from_raw_os_error(code)),
        crate::ExitStatus::Signal(_) => Err(io::Error::from_raw_os_error(libc::EPERM)),
    }
}

/// A child in namespaces of its own, by `CLONE_NEW*` flags; of users, it maps none yet. It ends when what is returned beside it is dropped.
pub(crate) fn child_in_namespaces(flags: c_int) -> io::Result<(OwnedFd, Pid)> {
    use rustix::pipe::{PipeFlags, pipe_with};
    let (hold, held) = pipe_with(PipeFlags::CLOEXEC)?;
    let (told, telling) = pipe_with(PipeFlags::CLOEXEC)?;
    let pid = match fork()? {
        Fork::Parent(pid) => pid,
        Fork::Child => {
            // All but its own ends is closed with it.
            drop(held);
            match unshare(flags) {
                Err(error) => exit_now(error.raw_os_error().unwrap_or(libc::EIO)),
                Ok(()) => drop(rustix::io::write(&telling, &[0])),
            }
            let _ = rustix::io::retry_on_intr(|| rustix::io::read(&hold, &mut [0_u8]));
            exit_now(0)
        }
    };
    drop((hold, telling));
    let mut byte = [0_u8];
    match rustix::io::retry_on_intr(|| rustix::io::read(&told, &mut byte))? {
        1 => Ok((held, pid)),
        _ => match wait_for_exit(pid)? {
            crate::ExitStatus::Code(errno) if errno != 0 => Err(io::Error::from_raw_os_error(errno)),
            _ => Err(io::ErrorKind::Interrupted.into()),
        },
    }
}

/// Waits for a child and removes it from the process table.
pub(crate) fn wait_for_exit(pid: Pid) -> io::Result<crate::ExitStatus> {
    use rustix::process::{WaitOptions, waitpid};
    loop {
        match waitpid(Some(pid), WaitOptions::empty()) {
            Ok(Some((_, status))) => return Ok(exit_status(status)),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The two ways a process can end, from the kernel's word.
pub(crate) fn exit_status(status: rustix::process::WaitStatus) -> crate::ExitStatus {
    match status.exit_status() {
        Some(code) => crate::ExitStatus::Code(code),
        None => crate::ExitStatus::Signal(status.terminating_signal().unwrap_or(libc::SIGKILL)),
    }
}

/// Runs between fork and exec of a [`std::process::Command`].
pub(crate) fn before_exec(
    command: &mut std::process::Command,
    body: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    use std::os::unix::process::CommandExt;
    // SAFETY: the bodies in use make system calls only.
    unsafe { command.pre_exec(body) };
}

/// The same open file under a number of its own, closed on exec.
pub(crate) fn duplicate(descriptor: impl AsFd) -> io::Result<OwnedFd> {
    descriptor.as_fd().try_clone_to_owned()
}

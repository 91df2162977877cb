//! Which system calls change something, and what.

use std::path::{Path, PathBuf};

use nix::libc;
use nix::unistd::Pid;

use super::Registers;

/// A set of calls.
#[derive(Debug, Clone)]
pub(in crate::torture) enum Calls {
    /// All that change what others see: files, folders, mounts, processes, and what is said through sockets.
    Changing,
    /// Those that change files and folders; of a file, if it lies below this path.
    Files(PathBuf),
    /// Those that change files below this path, by their descriptors alone.
    Writes(PathBuf),
    /// Those that ask for files below this path to be kept.
    Syncs(PathBuf),
    /// Locks on files below this path.
    Locks(PathBuf),
}

type Row = (i64, &'static str);

/// The first argument is what is written to.
const WRITES: &[Row] = &[
    (libc::SYS_write, "write"),
    (libc::SYS_writev, "writev"),
    (libc::SYS_pwrite64, "pwrite64"),
    (libc::SYS_pwritev, "pwritev"),
    (libc::SYS_pwritev2, "pwritev2"),
    (libc::SYS_sendfile, "sendfile"),
    (libc::SYS_fallocate, "fallocate"),
    (libc::SYS_ftruncate, "ftruncate"),
    (libc::SYS_fchmod, "fchmod"),
    (libc::SYS_fchown, "fchown"),
    (libc::SYS_fsetxattr, "fsetxattr"),
];
/// The third argument is what is written to.
const COPIES: &[Row] = &[(libc::SYS_copy_file_range, "copy_file_range"), (libc::SYS_splice, "splice")];
const SENDS: &[Row] =
    &[(libc::SYS_sendto, "sendto"), (libc::SYS_sendmsg, "sendmsg"), (libc::SYS_sendmmsg, "sendmmsg")];
const SYNCS: &[Row] = &[
    (libc::SYS_fsync, "fsync"),
    (libc::SYS_fdatasync, "fdatasync"),
    (libc::SYS_syncfs, "syncfs"),
    (libc::SYS_sync_file_range, "sync_file_range"),
];
/// By names.
const NAMES: &[Row] = &[
    (libc::SYS_renameat2, "renameat2"),
    (libc::SYS_unlinkat, "unlinkat"),
    (libc::SYS_linkat, "linkat"),
    (libc::SYS_symlinkat, "symlinkat"),
    (libc::SYS_mkdirat, "mkdirat"),
    (libc::SYS_mknodat, "mknodat"),
    (libc::SYS_fchmodat, "fchmodat"),
    (libc::SYS_fchownat, "fchownat"),
    (libc::SYS_truncate, "truncate"),
    (libc::SYS_setxattr, "setxattr"),
    (libc::SYS_utimensat, "utimensat"),
];
#[cfg(target_arch = "x86_64")]
const OLDER_NAMES: &[Row] = &[
    (libc::SYS_rename, "rename"),
    (libc::SYS_renameat, "renameat"),
    (libc::SYS_unlink, "unlink"),
    (libc::SYS_link, "link"),
    (libc::SYS_symlink, "symlink"),
    (libc::SYS_mkdir, "mkdir"),
    (libc::SYS_rmdir, "rmdir"),
    (libc::SYS_mknod, "mknod"),
    (libc::SYS_chmod, "chmod"),
    (libc::SYS_chown, "chown"),
    (libc::SYS_creat, "creat"),
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER_NAMES: &[Row] = &[];
/// Of the world rather than of files.
const WORLD: &[Row] = &[
    (libc::SYS_mount, "mount"),
    (libc::SYS_umount2, "umount2"),
    (libc::SYS_move_mount, "move_mount"),
    (libc::SYS_pivot_root, "pivot_root"),
    (libc::SYS_setns, "setns"),
    (libc::SYS_unshare, "unshare"),
    (libc::SYS_kill, "kill"),
    (libc::SYS_pidfd_send_signal, "pidfd_send_signal"),
    (libc::SYS_execve, "execve"),
    (libc::SYS_bind, "bind"),
    (libc::SYS_listen, "listen"),
    (libc::SYS_connect, "connect"),
    (libc::SYS_exit_group, "exit_group"),
];

impl Calls {
    /// The call's name, if it is one of these.
    pub(super) fn name(&self, task: Pid, registers: &Registers) -> Option<&'static str> {
        let (call, arguments) = (registers.call(), registers.arguments());
        let writes = || named(WRITES, call).map(|name| (name, arguments[0]));
        let copies = || named(COPIES, call).map(|name| (name, arguments[2]));
        let syncs = || named(SYNCS, call).map(|name| (name, arguments[0]));
        let below = |(name, descriptor): (&'static str, u64), folder: &Path| {
            file(task, descriptor).is_some_and(|path| is_below(&path, folder)).then_some(name)
        };
        match self {
            Calls::Changing => changing(call, &arguments).or_else(|| {
                writes().or_else(copies).filter(|(_, to)| is_seen_by_others(task, *to)).map(|(name, _)| name)
            }),
            Calls::Files(folder) => match writes().or_else(copies).or_else(syncs) {
                Some(written) => below(written, folder),
                None => by_name(call, &arguments).filter(|_| names_below(task, registers, folder)),
            },
            Calls::Writes(folder) => below(writes().or_else(copies)?, folder),
            Calls::Syncs(folder) => below(syncs()?, folder),
            Calls::Locks(folder) => below(locks(registers)?, folder),
        }
    }
}

fn named(rows: &[Row], call: i64) -> Option<&'static str> {
    rows.iter().find(|(number, _)| *number == call).map(|(_, name)| *name)
}

/// Of those that need no look at a descriptor.
fn changing(call: i64, arguments: &[u64; 4]) -> Option<&'static str> {
    by_name(call, arguments)
        .or_else(|| named(WORLD, call))
        .or_else(|| named(SENDS, call))
        .or_else(|| named(SYNCS, call))
        .or_else(|| starts(call, arguments))
}

fn by_name(call: i64, arguments: &[u64; 4]) -> Option<&'static str> {
    let makes = call == libc::SYS_openat && arguments[2] & libc::O_CREAT as u64 != 0;
    named(NAMES, call).or_else(|| named(OLDER_NAMES, call)).or(makes.then_some("openat"))
}

/// Whether a call by name is about something below a folder; not about cgroups, say.
fn names_below(task: Pid, registers: &Registers, folder: &Path) -> bool {
    let (call, arguments) = (registers.call(), registers.arguments());
    let begins_with_path = named(OLDER_NAMES, call).is_some_and(|name| name != "renameat")
        || [libc::SYS_truncate, libc::SYS_setxattr].contains(&call);
    let path = match begins_with_path {
        true => registers.path_at(arguments[0]),
        false => registers.path_at(arguments[1]).map(|path| from_folder(task, arguments[0], path)),
    };
    path.is_some_and(|path| is_below(&path, folder))
}

/// A path as it is meant from an open folder, or from where the process is.
fn from_folder(task: Pid, folder: u64, path: PathBuf) -> PathBuf {
    let is_here = folder as i32 == libc::AT_FDCWD;
    let base =
        if is_here { std::fs::read_link(format!("/proc/{task}/cwd")).ok() } else { file(task, folder) };
    base.unwrap_or_default().join(path)
}

/// A process, not a thread.
fn starts(call: i64, arguments: &[u64; 4]) -> Option<&'static str> {
    let is_process = call == libc::SYS_clone && arguments[0] & libc::CLONE_THREAD as u64 == 0;
    is_process.then_some("clone")
}

/// Asks for a lock. Giving one up never fails.
fn locks(registers: &Registers) -> Option<(&'static str, u64)> {
    let arguments = registers.arguments();
    let is_lock = registers.call() == libc::SYS_fcntl && arguments[1] == libc::F_SETLK as u64;
    let kind = if is_lock { registers.short_at(arguments[2])? } else { return None };
    (i32::from(kind) != libc::F_UNLCK).then_some(("fcntl", arguments[0]))
}

/// Files and sockets; not a process's own pipes and events.
fn is_seen_by_others(task: Pid, descriptor: u64) -> bool {
    file(task, descriptor).is_some_and(|path| {
        (path.is_absolute() && path != Path::new("/dev/null"))
            || path.to_string_lossy().starts_with("socket:")
    })
}

fn file(task: Pid, descriptor: u64) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{task}/fd/{descriptor}")).ok()
}

/// A prefix of the text: `records.sqlite` has files beside it that begin alike.
fn is_below(path: &Path, prefix: &Path) -> bool {
    path.to_string_lossy().starts_with(&*prefix.to_string_lossy())
}

//! Which system calls change something, and what.

use std::path::{Path, PathBuf};

use nix::libc;
use nix::unistd::Pid;

use super::Registers;

/// A set of calls.
#[derive(Debug, Clone)]
pub(in crate::torture) enum Calls {
    /// All that change what others see: files and their locks, folders, mounts, processes, and what is said through sockets and pipes.
    Changing,
    /// Those that change files and folders; of a file, if it lies below this path.
    Files(PathBuf),
    /// Those that change files below this path, by their descriptors alone.
    Writes(PathBuf),
    /// Those that ask for files below this path to be kept.
    Syncs(PathBuf),
    /// Writes to pipes, by which a waiting agent is told of its build.
    Pipes,
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
    (libc::SYS_fremovexattr, "fremovexattr"),
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
    (libc::SYS_utimensat, "utimensat"),
];
/// By names, without a folder before them.
const PATHS: &[Row] = &[
    (libc::SYS_truncate, "truncate"),
    (libc::SYS_setxattr, "setxattr"),
    (libc::SYS_lsetxattr, "lsetxattr"),
    (libc::SYS_removexattr, "removexattr"),
    (libc::SYS_lremovexattr, "lremovexattr"),
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
    (libc::SYS_fsopen, "fsopen"),
    (libc::SYS_fsconfig, "fsconfig"),
    (libc::SYS_fsmount, "fsmount"),
    (libc::SYS_open_tree, "open_tree"),
    (libc::SYS_mount_setattr, "mount_setattr"),
    (libc::SYS_pivot_root, "pivot_root"),
    (libc::SYS_setns, "setns"),
    (libc::SYS_unshare, "unshare"),
    (libc::SYS_kill, "kill"),
    (libc::SYS_pidfd_send_signal, "pidfd_send_signal"),
    (libc::SYS_execve, "execve"),
    (libc::SYS_bind, "bind"),
    (libc::SYS_listen, "listen"),
    (libc::SYS_connect, "connect"),
    (libc::SYS_shutdown, "shutdown"),
    (libc::SYS_flock, "flock"),
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
            Calls::Changing => changing(registers).or_else(|| {
                writes().or_else(copies).filter(|(_, to)| is_seen_by_others(task, *to)).map(|(name, _)| name)
            }),
            Calls::Files(folder) => match writes().or_else(copies).or_else(syncs) {
                Some(written) => below(written, folder),
                None => by_name(call, &arguments).filter(|_| names_below(task, registers, folder)),
            },
            Calls::Writes(folder) => below(writes().or_else(copies)?, folder),
            Calls::Syncs(folder) => below(syncs()?, folder),
            Calls::Pipes => {
                let (name, to) = writes()?;
                file(task, to).is_some_and(|path| path.to_string_lossy().starts_with("pipe:")).then_some(name)
            }
            Calls::Locks(folder) => below(locks(registers)?, folder),
        }
    }
}

fn named(rows: &[Row], call: i64) -> Option<&'static str> {
    rows.iter().find(|(number, _)| *number == call).map(|(_, name)| *name)
}

/// Of those that need no look at a descriptor.
fn changing(registers: &Registers) -> Option<&'static str> {
    let (call, arguments) = (registers.call(), registers.arguments());
    by_name(call, &arguments)
        .or_else(|| named(WORLD, call))
        .or_else(|| named(SENDS, call))
        .or_else(|| named(SYNCS, call))
        .or_else(|| starts(registers))
        .or_else(|| sets_lock(call, &arguments).then_some("fcntl"))
}

fn by_name(call: i64, arguments: &[u64; 4]) -> Option<&'static str> {
    let makes = call == libc::SYS_openat && arguments[2] & libc::O_CREAT as u64 != 0;
    named(NAMES, call)
        .or_else(|| named(PATHS, call))
        .or_else(|| named(OLDER_NAMES, call))
        .or(makes.then_some("openat"))
}

/// Whether a call by name is about something below a folder; not about cgroups, say.
fn names_below(task: Pid, registers: &Registers, folder: &Path) -> bool {
    let (call, arguments) = (registers.call(), registers.arguments());
    let begins_with_path =
        named(OLDER_NAMES, call).is_some_and(|name| name != "renameat") || named(PATHS, call).is_some();
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
fn starts(registers: &Registers) -> Option<&'static str> {
    let (call, arguments) = (registers.call(), registers.arguments());
    let is_process = |flags: u64| flags & libc::CLONE_THREAD as u64 == 0;
    match call {
        libc::SYS_clone => is_process(arguments[0]).then_some("clone"),
        // Its flags are the first that its argument points to.
        libc::SYS_clone3 => registers.word_at(arguments[0]).is_none_or(is_process).then_some("clone3"),
        _ => named(FORKS, call),
    }
}

#[cfg(target_arch = "x86_64")]
const FORKS: &[Row] = &[(libc::SYS_fork, "fork"), (libc::SYS_vfork, "vfork")];
#[cfg(not(target_arch = "x86_64"))]
const FORKS: &[Row] = &[];

/// Takes or gives up a lock on a part of a file.
fn sets_lock(call: i64, arguments: &[u64; 4]) -> bool {
    let sets = [libc::F_SETLK, libc::F_SETLKW, libc::F_OFD_SETLK, libc::F_OFD_SETLKW];
    call == libc::SYS_fcntl && sets.iter().any(|set| *set as u64 == arguments[1])
}

/// Asks for a lock. Giving one up never fails.
fn locks(registers: &Registers) -> Option<(&'static str, u64)> {
    let arguments = registers.arguments();
    let is_lock = registers.call() == libc::SYS_fcntl && arguments[1] == libc::F_SETLK as u64;
    let kind = if is_lock { registers.short_at(arguments[2])? } else { return None };
    (i32::from(kind) != libc::F_UNLCK).then_some(("fcntl", arguments[0]))
}

/// Files, sockets and pipes; not what only wakes a thread of the same process. By a pipe a waiting agent is told of its build.
fn is_seen_by_others(task: Pid, descriptor: u64) -> bool {
    file(task, descriptor).is_some_and(|path| {
        let name = path.to_string_lossy();
        (path.is_absolute() && path != Path::new("/dev/null"))
            || name.starts_with("socket:")
            || name.starts_with("pipe:")
    })
}

fn file(task: Pid, descriptor: u64) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{task}/fd/{descriptor}")).ok()
}

/// A prefix of the text: `records.sqlite` has files beside it that begin alike.
fn is_below(path: &Path, prefix: &Path) -> bool {
    path.to_string_lossy().starts_with(&*prefix.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_call_has_one_name() {
        let all = [WRITES, COPIES, SENDS, SYNCS, NAMES, PATHS, OLDER_NAMES, WORLD, FORKS].concat();
        let numbers: BTreeSet<_> = all.iter().map(|(number, _)| number).collect();
        assert_eq!(numbers.len(), all.len());
    }

    #[test]
    fn mounts_locks_attributes_and_ends_of_connections_change_something() {
        let is_named = |call| named(WORLD, call).or_else(|| by_name(call, &[0; 4])).is_some();
        for call in [
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_open_tree,
            libc::SYS_mount_setattr,
            libc::SYS_move_mount,
            libc::SYS_removexattr,
            libc::SYS_lsetxattr,
            libc::SYS_flock,
            libc::SYS_shutdown,
        ] {
            assert!(is_named(call), "{call}");
        }
        assert!(sets_lock(libc::SYS_fcntl, &[3, libc::F_OFD_SETLK as u64, 0, 0]));
        assert!(!sets_lock(libc::SYS_fcntl, &[3, libc::F_GETFL as u64, 0, 0]));
    }

    #[test]
    fn what_is_written_to_a_pipe_is_seen_by_others() {
        let (read, write) = nix::unistd::pipe().unwrap();
        let number = |descriptor: &std::os::fd::OwnedFd| std::os::fd::AsRawFd::as_raw_fd(descriptor) as u64;
        assert!(is_seen_by_others(Pid::this(), number(&write)));
        let nothing = std::fs::File::options().write(true).open("/dev/null").unwrap();
        assert!(!is_seen_by_others(Pid::this(), number(&nothing.into())));
        drop(read);
    }
}

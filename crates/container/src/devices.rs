//! The kernel's own file systems inside the container: /dev, /proc and /sys, and what of them is hidden. All are new; nothing
//! an image says about these paths counts.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, open, stat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::cgroup;
use crate::error::{Doing, Error};
use crate::profile::Profile;
use crate::sys;

const LINKS: &[(&str, &str)] = &[
    ("/dev/ptmx", "pts/ptmx"),
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];
const PLAIN: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// Made while the host's files still show, mounted once they do not.
pub(crate) struct KernelFileSystems {
    profile: &'static Profile,
    proc: OwnedFd,
    sys: OwnedFd,
    dev: OwnedFd,
    pts: OwnedFd,
    shm: OwnedFd,
    mqueue: Option<OwnedFd>,
    devices: Vec<(&'static str, OwnedFd)>,
}

impl KernelFileSystems {
    /// The kernel grants a new /proc and /sys only to who sees the whole of old ones, so this comes first. With the host's network
    /// /sys stays empty, since it would show the host's interfaces. Files in memory take half of it at most, or what lies there could leave no room
    /// for any process, init's included.
    pub(crate) fn make(
        profile: &'static Profile,
        has_own_network: bool,
        maps_many_ids: bool,
        memory_bytes: Option<u64>,
    ) -> Result<KernelFileSystems, Error> {
        let size = memory_bytes.map(|bytes| (bytes / 2).to_string());
        let mut shm = vec![("mode", "1777")];
        shm.extend(size.as_deref().map(|size| ("size", size)));
        let sys = match has_own_network {
            // The kernel grants no other one within than what shows here; its files are root's of the host either way.
            true if profile.opens_sys => new("sysfs", &[], PLAIN),
            true => new("sysfs", &[], PLAIN | MountAttrFlags::MOUNT_ATTR_RDONLY),
            false => nothing(),
        };
        let terminals = profile.terminals.to_string();
        let mut pts = vec![("ptmxmode", "0666"), ("mode", "0620"), ("max", terminals.as_str())];
        if maps_many_ids {
            pts.push(("gid", "5"));
        }
        let no_exec = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        Ok(KernelFileSystems {
            profile,
            proc: new("proc", &[], PLAIN).doing("mount /proc")?,
            sys: sys.doing("mount /sys")?,
            dev: new("tmpfs", &[("mode", "755"), ("size", "64k"), ("nr_inodes", "4k")], no_exec)
                .doing("mount /dev")?,
            pts: new("devpts", &pts, no_exec).doing("mount /dev/pts")?,
            shm: new("tmpfs", &shm, PLAIN).doing("mount /dev/shm")?,
            // Not every kernel has message queues.
            mqueue: new("mqueue", &[], PLAIN).ok(),
            devices: profile.devices.iter().map(device).collect::<Result<_, Error>>()?,
        })
    }

    /// Mounts them at `/` of this process. The mount points of /proc, /sys and /dev exist.
    pub(crate) fn mount(&self) -> Result<(), Error> {
        attach(&self.dev, "/dev").doing("mount /dev")?;
        self.fill_dev().doing("fill /dev")?;
        attach(&self.proc, "/proc").doing("mount /proc")?;
        attach(&self.sys, "/sys").doing("mount /sys")?;
        let nested = self.profile.nested_user_namespaces.to_string();
        std::fs::write("/proc/sys/user/max_user_namespaces", nested)
            .doing("forbid user namespaces within")?;
        for path in self.profile.read_only.iter().filter(|path| Path::new(path).exists()) {
            read_only(path).doing(format!("make {path} read-only"))?;
        }
        if self.profile.opens_sys {
            let groups = new("cgroup2", &[], PLAIN).doing("make a view of control groups")?;
            attach(&groups, cgroup::INSIDE).doing(format!("mount {}", cgroup::INSIDE))?;
            cgroup::open_inside().doing("hand control groups on")?;
        }
        self.profile.hidden.iter().try_for_each(|path| self.hide(path))
    }

    fn fill_dev(&self) -> io::Result<()> {
        for (name, tree) in &self.devices {
            let path = format!("/dev/{name}");
            std::fs::File::create(&path)?;
            attach(tree, &path)?;
        }
        let folders = [
            ("/dev/pts", Some(&self.pts)),
            ("/dev/shm", Some(&self.shm)),
            ("/dev/mqueue", self.mqueue.as_ref()),
        ];
        for (path, tree) in folders {
            let Some(tree) = tree else { continue };
            std::fs::create_dir(path)?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
            attach(tree, path)?;
        }
        LINKS.iter().try_for_each(|(path, target)| symlink(target, path))
    }

    /// Puts nothing over a path, if there is something.
    pub(crate) fn hide(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        let Ok(metadata) = std::fs::metadata(path) else { return Ok(()) };
        // The device is mounted by now; before Linux 6.15 what is mounted nowhere cannot be cloned.
        let cover = if metadata.is_dir() { nothing() } else { clone_of(&self.devices[0].1) };
        cover.and_then(|cover| attach(&cover, path)).doing(format!("hide {}", path.display()))
    }

    /// A small file system for mount points that are needed for a moment.
    pub(crate) fn empty_memory() -> Result<OwnedFd, Error> {
        new("tmpfs", &[("mode", "700"), ("size", "4m")], PLAIN).doing("mount memory")
    }

    /// The null device: of the host, and proved to be it.
    pub(crate) fn open_null(&self) -> Result<OwnedFd, Error> {
        open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).doing("open /dev/null")
    }
}

/// An empty folder that stays empty.
fn nothing() -> io::Result<OwnedFd> {
    new("tmpfs", &[("mode", "555"), ("size", "4k")], PLAIN | MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// A new file system that is mounted nowhere yet.
pub(crate) fn new(kind: &str, options: &[(&str, &str)], attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() {
            fsconfig_set_flag(&context, *key)?;
        } else {
            fsconfig_set_string(&context, *key, *value)?;
        }
    }
    fsconfig_create(&context)?;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// Mounts a detached tree.
pub(crate) fn attach(tree: impl AsFd, path: impl AsRef<Path>) -> io::Result<()> {
    Ok(move_mount(tree, "", CWD, path.as_ref(), MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// A detached copy of the mount a path is on, from that path on.
pub(crate) fn detached(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    match open_tree(CWD, path, flags) {
        // An ordinary user may not uncover what is below other mounts; together with them it may be had.
        Err(rustix::io::Errno::INVAL) => Ok(open_tree(CWD, path, flags | OpenTreeFlags::AT_RECURSIVE)?),
        other => Ok(other?),
    }
}

fn clone_of(tree: &OwnedFd) -> io::Result<OwnedFd> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(tree, "", flags)?)
}

fn read_only(path: &str) -> io::Result<()> {
    let tree = detached(Path::new(path))?;
    sys::make_read_only(tree.as_fd())?;
    attach(tree, path)
}

fn device((name, major, minor): &(&'static str, u32, u32)) -> Result<(&'static str, OwnedFd), Error> {
    let path = format!("/dev/{name}");
    let status = stat(path.as_str()).doing(format!("find {path}"))?;
    let is_it = FileType::from_raw_mode(status.st_mode) == FileType::CharacterDevice
        && status.st_rdev == makedev(*major, *minor);
    if !is_it {
        return Err(io::Error::from(io::ErrorKind::InvalidData)).doing(format!("{path} is not the device"));
    }
    Ok((name, detached(Path::new(&path)).doing(format!("show {path}"))?))
}

//! Laying a new layer over those beneath while it is unpacked, so that the kernel marks what the layer takes away of them in the very way
//! in which it later reads the marks, and copies up what the layer changes. The mount shows nowhere but through its descriptor.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string,
    fsmount, fsopen,
};

/// How many folders an image has at most. Kernels before 6.8 take all their names in one option of 256 bytes.
const MOST: usize = 128;
const MOST_IN_ONE_OPTION: usize = 8;

const PLAIN: MountAttrFlags = MountAttrFlags::MOUNT_ATTR_NOSUID
    .union(MountAttrFlags::MOUNT_ATTR_NODEV)
    .union(MountAttrFlags::MOUNT_ATTR_NOEXEC);

/// How many folders an image may have that this process unpacks below `scratch`: 1 where it cannot lay them over each other.
pub(crate) fn most_folders(scratch: &Path) -> usize {
    match try_out(scratch) {
        Ok(()) if takes_lowers_one_by_one() => MOST,
        Ok(()) => MOST_IN_ONE_OPTION,
        Err(_) => 1,
    }
}

/// The root of `upper` over `lowers`, of which the topmost comes first. `work` is an empty folder beside `upper`.
pub(crate) fn mount(lowers: &[impl AsRef<Path>], upper: &Path, work: &Path) -> io::Result<OwnedFd> {
    let lowers = lowers.iter().map(|lower| open(lower.as_ref())).collect::<io::Result<Vec<OwnedFd>>>()?;
    let (upper, work) = (open(upper)?, open(work)?);
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "overlay")?;
    // The marks are those of an ordinary user's overlay, which is what builds have.
    fsconfig_set_flag(&context, "userxattr")?;
    let names: Vec<String> = lowers.iter().map(name).collect();
    match names.len() <= MOST_IN_ONE_OPTION {
        true => fsconfig_set_string(&context, "lowerdir", names.join(":"))?,
        false => names.iter().try_for_each(|name| fsconfig_set_string(&context, "lowerdir+", name))?,
    }
    fsconfig_set_string(&context, "upperdir", name(&upper))?;
    fsconfig_set_string(&context, "workdir", name(&work))?;
    fsconfig_create(&context)?;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, PLAIN)?;
    // Only a place so far. Opened, it lasts as long as that is.
    let root = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(mount, ".", root, Mode::empty())?)
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// A path that is short, and has nothing in it that means something to overlay.
fn name(folder: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", folder.as_raw_fd())
}

fn takes_lowers_one_by_one() -> bool {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC);
    context.is_ok_and(|context| fsconfig_set_string(&context, "lowerdir+", "/").is_ok())
}

/// Whether a folder can be taken away, and one of the same name be made: what both takes marks.
fn try_out(scratch: &Path) -> io::Result<()> {
    let place = tempfile::tempdir_in(scratch)?;
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| place.path().join(name));
    for folder in [&lower, &lower.join("folder"), &upper, &work] {
        fs::create_dir(folder)?;
    }
    let mount = mount(&[lower], &upper, &work)?;
    rustix::fs::unlinkat(mount.as_fd(), "folder", AtFlags::REMOVEDIR)?;
    rustix::fs::mkdirat(mount.as_fd(), "folder", Mode::RWXU)?;
    Ok(())
}

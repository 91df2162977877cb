//! Being allowed to mount, for a process that makes no container: whoever unpacks an image lays its layers over each other.

use std::fs;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{DumpableBehavior, getegid, geteuid, set_dumpable_behavior};

use crate::error::{Doing, Error};
use crate::ids::{Standing, standing};
use crate::prepared::must_be_single_threaded;
use crate::sys;

/// Gives this process, and those it starts from now on, mounts of its own which nobody else sees, so that an ordinary user can add to them: its only
/// id then reads 0, if it has no more. Files are whose they were. Nothing happens to root.
///
/// # Errors
/// [`Error::Threads`], [`Error::Failed`] where the host does not let its users have namespaces.
pub fn take_own_mounts() -> Result<(), Error> {
    match standing() {
        Standing::Host => return Ok(()),
        Standing::One if geteuid().is_root() => return Ok(()),
        Standing::One => become_root_of_one_id()?,
        Standing::Namespace => {}
    }
    sys::unshare(libc::CLONE_NEWNS).doing("take mounts of our own")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing("part from the host's mounts")
}

fn become_root_of_one_id() -> Result<(), Error> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    must_be_single_threaded()?;
    // A process that must not be dumped may not even write its own map.
    set_dumpable_behavior(DumpableBehavior::Dumpable).doing("become dumpable")?;
    sys::unshare(libc::CLONE_NEWUSER).doing("take a user namespace of our own")?;
    let write = |file: &str, text: String| {
        fs::write(format!("/proc/self/{file}"), text).doing("map the user into a user namespace")
    };
    write("setgroups", "deny".into())?;
    write("uid_map", format!("0 {user} 1"))?;
    write("gid_map", format!("0 {group} 1"))
}

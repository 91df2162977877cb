//! A second layer below namespaces and filters, where the kernel has it (Landlock, Linux 5.19; scopes 6.12): whatever else may fail, nothing inside makes a
//! device, signals who is outside, or speaks with abstract sockets of the host, which are visible in the host's network.

use std::io;

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::profile::Profile;
use crate::sys;

/// Folders may change their parents; without this rule, no longer.
const REFER: u64 = 1 << 13;
const REFER_SINCE: i32 = 2;
const SCOPES_SINCE: i32 = 6;

/// Holds this process and all it starts for ever. Where there is no Landlock, nothing happens.
pub(crate) fn hold(profile: &Profile) -> io::Result<()> {
    let version = sys::landlock_version();
    if version < REFER_SINCE {
        return Ok(());
    }
    if profile.no_new_privileges {
        rustix::thread::set_no_new_privs(true)?;
    }
    let scopes = match version >= SCOPES_SINCE {
        true => profile.scopes.iter().fold(0, |all, (_, scope)| all | scope),
        false => 0,
    };
    match (profile.refused_nodes, scopes) {
        ([], 0) => Ok(()),
        // Whoever is held as to files can no longer mount any.
        ([], scopes) => sys::landlock(0, scopes, None),
        (refused, scopes) => {
            let refused = refused.iter().fold(REFER, |all, (_, access)| all | access);
            let root = openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            sys::landlock(refused, scopes, Some((REFER, &root)))
        }
    }
}

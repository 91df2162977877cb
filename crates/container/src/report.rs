//! What this host permits, and the words for what it does not.

use std::fmt;
use std::fs;
use std::io;

use crate::cgroup::Cgroups;
use crate::error::Error;
use crate::ids::{self, Standing};
use crate::sys;

/// What containers can rely on here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The kernel's release, such as `6.1.0`.
    pub kernel: String,
    /// Root of the host; root of some other container counts as an ordinary user.
    pub is_root: bool,
    /// Why no container can be made at all, in one sentence with a remedy.
    pub forbidden: Option<String>,
    /// 1 or 2; `None` when no cgroup can be made, so that no limit but the number of processes holds.
    pub cgroup_version: Option<u8>,
    /// Limits that hold, of `memory`, `pids`, `cpu`.
    pub limits: Vec<&'static str>,
    /// How many user and group ids a container has.
    pub ids: u32,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = if self.is_root { "root" } else { "an ordinary user" };
        writeln!(f, "kernel {}, as {user}, {} ids in each container", self.kernel, self.ids)?;
        match self.cgroup_version {
            Some(version) => writeln!(f, "cgroup version {version} limits {}", self.limits.join(", "))?,
            None => writeln!(f, "no cgroup can be made: memory and processors are not limited")?,
        }
        match &self.forbidden {
            Some(reason) => write!(f, "{reason}"),
            None => write!(f, "containers can be made"),
        }
    }
}

/// Finds out by trying: makes a user namespace and cgroups, and removes them.
#[must_use]
pub fn capabilities() -> Report {
    let standing = ids::standing();
    let name = format!("trial-{}", std::process::id());
    let cgroups = Cgroups::create(&name);
    let (cgroup_version, limits) =
        cgroups.as_ref().map_or((None, Vec::new()), |cgroups| (cgroups.version(), cgroups.controllers()));
    if let Ok(mut cgroups) = cgroups {
        // Empty as they are, nothing holds them.
        let _ = cgroups.remove();
    }
    Report {
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        is_root: standing == Standing::Host,
        forbidden: sys::try_user_namespace().err().map(|error| why_no_namespaces(error).to_string()),
        cgroup_version,
        limits,
        ids: if standing == Standing::One { 1 } else { ids::RANGE },
    }
}

/// Explains why clone was refused.
pub(crate) fn why_no_namespaces(source: io::Error) -> Error {
    let refused = [libc::EPERM, libc::EACCES, libc::ENOSPC, libc::EUSERS, libc::EINVAL, libc::ENOSYS];
    if !source.raw_os_error().is_some_and(|errno| refused.contains(&errno)) {
        return Error::Failed { what: "make namespaces".into(), source };
    }
    let (why, remedy) = obstacle(&source);
    Error::Forbidden { what: "making user namespaces".into(), why, remedy }
}

/// Explains why init could not make its surroundings.
pub(crate) fn why_not(what: String, source: io::Error) -> Error {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {}
        Some(libc::EOPNOTSUPP) if what == STANDARD_FOLDERS => return why_no_marks(what),
        _ => return Error::Failed { what, source },
    }
    let (why, remedy) = match what.as_str() {
        "mount /proc" | "mount /sys" => (
            "parts of the host's own are hidden, as they are in a container".into(),
            "Start the outer container with its /proc unmasked (systempaths=unconfined), or run outside of it".into(),
        ),
        _ => obstacle(&source),
    };
    Error::Forbidden { what, why, remedy }
}

/// What the first marks of overlay are made for; the words in which init tells of it.
pub(crate) const STANDARD_FOLDERS: &str = "make the standard folders";

/// Extended attributes of users: ext4, XFS and Btrfs have them, memory since Linux 6.6.
fn why_no_marks(what: String) -> Error {
    Error::Forbidden {
        what,
        why: "where a container's files would be written has no extended attributes; that is so in memory before Linux 6.6, \
              which also stands in for folders that overlay cannot write to"
            .into(),
        remedy: "Choose a data folder on a disk (ext4, XFS, Btrfs)".into(),
    }
}

fn obstacle(source: &io::Error) -> (String, String) {
    let known = [
        ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for this program that allows userns",
        ),
    ];
    for (path, value, remedy) in known {
        if fs::read_to_string(path).is_ok_and(|text| text.trim() == value) {
            return (format!("{path} is {value}"), format!("Set {remedy}"));
        }
    }
    let is_filtered = fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|line| line == "Seccomp:\t2"));
    if is_filtered {
        let why = "this process is itself in a container that filters system calls".to_owned();
        return (why, "Start the outer container with seccomp=unconfined, or run outside of it".into());
    }
    (source.to_string(), "Linux 5.19 or later with user namespaces and overlay is needed".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_are_no_refusal_stay_what_they_are() {
        let error = why_not("do it".into(), io::Error::from_raw_os_error(libc::ENOSPC));
        assert!(matches!(error, Error::Failed { .. }));
        let error = why_not("write /etc/hosts".into(), io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        assert!(matches!(error, Error::Failed { .. }));
        let error = why_not(STANDARD_FOLDERS.into(), io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        assert!(error.to_string().contains("Choose a data folder on a disk"), "{error}");
        let error = why_not("mount /proc".into(), io::Error::from_raw_os_error(libc::EPERM));
        assert!(matches!(error, Error::Forbidden { .. }));
    }
}

//! What is taken from the container's root before anything untrusted runs: capabilities and resource limits.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities};

/// What package installers and test suites need to behave as they do as root; all of it ends at the container's own ids.
fn kept() -> CapabilitySet {
    CapabilitySet::CHOWN
        | CapabilitySet::DAC_OVERRIDE
        | CapabilitySet::FOWNER
        | CapabilitySet::FSETID
        | CapabilitySet::KILL
        | CapabilitySet::SETUID
        | CapabilitySet::SETGID
        | CapabilitySet::SYS_CHROOT
        | CapabilitySet::NET_BIND_SERVICE
}

const OPEN_FILES: u64 = 65_536;
const LOCKED_MEMORY_BYTES: u64 = 64 << 10;
const MESSAGE_QUEUE_BYTES: u64 = 800 << 10;

/// Drops every other capability from every set. Inheritable and ambient become empty, as programs run by root get theirs anyway.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if kept().contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The kernel knows no more capabilities.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    set_capabilities(
        None,
        CapabilitySets { effective: kept(), permitted: kept(), inheritable: CapabilitySet::empty() },
    )?;
    Ok(())
}

/// Lowers limits; none is raised, so no privilege is needed. `processes` stands in for a cgroup where there is none.
pub(crate) fn limit_resources(processes: Option<u64>) -> io::Result<()> {
    lower(Resource::Core, 0)?;
    lower(Resource::Nofile, OPEN_FILES)?;
    lower(Resource::Memlock, LOCKED_MEMORY_BYTES)?;
    lower(Resource::Msgqueue, MESSAGE_QUEUE_BYTES)?;
    if let Some(processes) = processes {
        lower(Resource::Nproc, processes)?;
    }
    Ok(())
}

fn lower(resource: Resource, wanted: u64) -> io::Result<()> {
    let hard = getrlimit(resource).maximum.map_or(wanted, |hard| hard.min(wanted));
    Ok(setrlimit(resource, Rlimit { current: Some(hard), maximum: Some(hard) })?)
}

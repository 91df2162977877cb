//! What is taken from the container's root before anything untrusted runs: capabilities and resource limits.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities};

use crate::profile::{PROFILE, Profile};

fn kept(profile: &Profile) -> CapabilitySet {
    let bits = profile.capabilities.iter().map(|(_, number)| 1_u64 << number);
    CapabilitySet::from_bits_retain(bits.sum())
}

/// Drops every other capability from every set. Inheritable and ambient become empty, as programs run by root get theirs anyway.
pub(crate) fn drop_capabilities(profile: &Profile) -> io::Result<()> {
    let mut kept = kept(profile);
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(capability) {
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
    // Those that this kernel has.
    kept &= rustix::thread::capabilities(None)?.permitted;
    set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() },
    )?;
    Ok(())
}

/// Lowers limits; none is raised, so no privilege is needed. `processes` stands in for a cgroup where there is none.
pub(crate) fn limit_resources(processes: Option<u64>) -> io::Result<()> {
    for limit in PROFILE.resources {
        lower(limit.resource, limit.most)?;
    }
    if let Some(processes) = processes {
        lower(Resource::Nproc, processes)?;
    }
    Ok(())
}

fn lower(resource: Resource, wanted: u64) -> io::Result<()> {
    let hard = getrlimit(resource).maximum.map_or(wanted, |hard| hard.min(wanted));
    Ok(setrlimit(resource, Rlimit { current: Some(hard), maximum: Some(hard) })?)
}

//! What the daemon is told of a build's container: the same limits and the same few privileges as containers of our own have.

use std::path::Path;

use agent::brought;
use agent::plan::{Network, Plan, Rootfs};
use container::profile::{PRIVILEGED, PROFILE};
use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capability_is_in_bounding_set};
use serde_json::{Value, json};

/// The uuid of the build that a container is of.
pub(super) const BUILD_LABEL: &str = "buildyard.build";
/// The builds' folder that it belongs to.
pub(super) const BUILDS_LABEL: &str = "buildyard.builds";

/// The last capability, by its number, that every daemon knows: AUDIT_READ.
const LAST_CAPABILITY: u32 = 37;
const OPEN_FILES: u64 = 65_536;

/// Where things are on this host.
pub(super) struct Place<'a> {
    /// The build's folder.
    pub(super) folder: &'a Path,
    pub(super) init: &'a Path,
    pub(super) builds: &'a str,
    /// How many the daemon has.
    pub(super) processors: u64,
}

pub(super) fn name(uuid: &str) -> String {
    format!("buildyard-{uuid}")
}

/// The body of `POST /containers/create`. COMPAT: EN-026 entry point and user of the image mean nothing.
pub(super) fn wanted(plan: &Plan, place: &Place<'_>) -> Value {
    let image = match &plan.environment.rootfs {
        Rootfs::Image(name) => name.as_str(),
        Rootfs::Host | Rootfs::Unpacked(_) => "",
    };
    let hostname: String = plan.uuid.chars().filter(char::is_ascii_hexdigit).take(12).collect();
    json!({
        "Image": image,
        "Entrypoint": [brought::PROGRAM],
        "Cmd": [],
        "User": "0:0",
        "WorkingDir": "/",
        "Hostname": hostname,
        "Labels": { BUILD_LABEL: plan.uuid, BUILDS_LABEL: place.builds },
        "Healthcheck": { "Test": ["NONE"] },
        "HostConfig": host_config(plan, place),
    })
}

fn host_config(plan: &Plan, place: &Place<'_>) -> Value {
    let limits = &plan.environment.limits;
    let (folder, bytes) = brought::IN_MEMORY;
    let mut config = json!({
        "AutoRemove": true,
        "Init": false,
        "Mounts": [
            read_only(place.init, brought::PROGRAM),
            read_only(&place.folder.join(brought::FOLDER), brought::INSIDE),
        ],
        "Tmpfs": { folder: format!("rw,exec,nosuid,nodev,mode=755,size={bytes}") },
        "NetworkMode": network(plan.environment.network),
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "CapDrop": ["ALL"],
        "CapAdd": PROFILE.capabilities.iter().map(|(name, _)| *name).collect::<Value>(),
        "SecurityOpt": ["no-new-privileges"],
        "Ulimits": [
            ulimit("nofile", Resource::Nofile, Some(OPEN_FILES)),
            ulimit("nproc", Resource::Nproc, process_numbers()),
        ],
        "LogConfig": { "Type": "none", "Config": {} },
        "RestartPolicy": { "Name": "no" },
        // Memory and swap together; 0 is no limit.
        "Memory": limits.memory_bytes.unwrap_or_default(),
        "MemorySwap": limits.memory_bytes.unwrap_or_default(),
        // Init is ours, not the build's.
        "PidsLimit": limits.pids.map_or(0, |pids| pids.saturating_add(1)),
        "NanoCpus": nano_cpus(limits.cpu_millis.unwrap_or_default(), place.processors),
    });
    if plan.environment.privileged {
        unconfine(&mut config);
    }
    config
}

/// As containers of our own have it, and no more than this host gives or `most`: a daemon may ask for more than it can have.
fn ulimit(name: &str, resource: Resource, most: Option<u64>) -> Value {
    let given = getrlimit(resource).maximum.into_iter().chain(most).min();
    let limit = given.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    json!({ "Name": name, "Soft": limit, "Hard": limit })
}

/// As many processes as this host has numbers for. Podman takes no more for itself, and so has no more to give.
fn process_numbers() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/kernel/pid_max").ok()?.trim().parse().ok()
}

/// As many as the compute type has, or as there are; 0 is no limit.
fn nano_cpus(millis: u64, processors: u64) -> u64 {
    millis.min(processors.saturating_mul(1000)).saturating_mul(1_000_000)
}

/// COMPAT: EN-090 all that a container engine inside needs. The daemon's own word for it insists on every capability there is, and
/// fails where this host has not got one.
fn unconfine(config: &mut Value) {
    let has = |number: u32| {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        number <= LAST_CAPABILITY && capability_is_in_bounding_set(capability).unwrap_or(false)
    };
    let all = PRIVILEGED.capabilities.iter().filter(|(_, number)| has(*number));
    config["CapAdd"] = all.map(|(name, _)| *name).collect();
    config["SecurityOpt"] = json!(["seccomp=unconfined", "apparmor=unconfined"]);
    config["MaskedPaths"] = json!([]);
    config["ReadonlyPaths"] = json!([]);
    config["DeviceCgroupRules"] = json!(["a *:* rwm"]);
    // COMPAT: EN-029 an overlay does not lie on another one. It goes with the container.
    if let Some(mounts) = config["Mounts"].as_array_mut() {
        mounts.push(json!({ "Type": "volume", "Target": "/var/lib/docker" }));
    }
}

fn read_only(host: &Path, inside: &str) -> Value {
    json!({ "Type": "bind", "Source": host, "Target": inside, "ReadOnly": true })
}

/// The daemon's own bridge leads out.
fn network(network: Network) -> &'static str {
    match network {
        Network::None => "none",
        Network::Egress => "bridge",
        Network::Host => "host",
    }
}

#[cfg(test)]
mod tests {
    use super::nano_cpus;

    #[test]
    fn a_build_has_no_more_processors_than_there_are() {
        assert_eq!(nano_cpus(2000, 1), 1_000_000_000);
        assert_eq!(nano_cpus(2000, 8), 2_000_000_000);
        assert_eq!(nano_cpus(0, 8), 0);
    }
}

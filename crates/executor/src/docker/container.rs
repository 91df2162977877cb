//! What the daemon is told of a build's container: the same limits and the same few privileges as containers of our own have.

use std::path::Path;

use agent::brought;
use agent::plan::{Network, Plan, Rootfs};
use serde_json::{Value, json};

/// The uuid of the build that a container is of.
pub(super) const BUILD_LABEL: &str = "buildyard.build";
/// The builds' folder that it belongs to.
pub(super) const BUILDS_LABEL: &str = "buildyard.builds";

/// What package installers and test suites need to behave as they do as root.
const CAPABILITIES: [&str; 9] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETUID",
    "SETGID",
    "SYS_CHROOT",
    "NET_BIND_SERVICE",
];

/// Where things are on this host.
pub(super) struct Place<'a> {
    /// The build's folder.
    pub(super) folder: &'a Path,
    pub(super) init: &'a Path,
    pub(super) builds: &'a str,
}

pub(super) fn name(uuid: &str) -> String {
    format!("buildyard-{uuid}")
}

/// The body of `POST /containers/create`. COMPAT: EN-026 entry point and user of the image mean nothing.
pub(super) fn wanted(plan: &Plan, place: &Place<'_>) -> Value {
    let image = match &plan.environment.rootfs {
        Rootfs::Image(name) => name.as_str(),
        Rootfs::Host | Rootfs::Folder(_) => "",
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
    json!({
        "AutoRemove": true,
        "Init": false,
        "Mounts": [
            read_only(place.init, brought::PROGRAM),
            read_only(&place.folder.join(brought::FOLDER), brought::INSIDE),
        ],
        "Tmpfs": { folder: format!("rw,exec,nosuid,nodev,mode=755,size={bytes}") },
        "NetworkMode": network(plan.environment.network),
        "IpcMode": "private",
        "Privileged": false,
        "CapDrop": ["ALL"],
        "CapAdd": CAPABILITIES,
        "SecurityOpt": ["no-new-privileges"],
        "LogConfig": { "Type": "none", "Config": {} },
        "RestartPolicy": { "Name": "no" },
        // Memory and swap together; 0 is no limit.
        "Memory": limits.memory_bytes.unwrap_or_default(),
        "MemorySwap": limits.memory_bytes.unwrap_or_default(),
        // Init is ours, not the build's.
        "PidsLimit": limits.pids.map_or(0, |pids| pids.saturating_add(1)),
        "NanoCpus": limits.cpu_millis.unwrap_or_default().saturating_mul(1_000_000),
    })
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

//! The environment a build runs in: image, size, network.

use std::collections::BTreeMap;
use std::path::PathBuf;

use agent::plan::{Environment, Limits, Network, Rootfs};
use api::codebuild::{ComputeType, Project};

use crate::config::Config;
use crate::error::Result;
use crate::project::required;

/// Processes and threads a build may have at once.
const PROCESSES: u64 = 4096;
const GIB: u64 = 1 << 30;

/// The environment, and the image that has yet to be resolved if it is not the host's own root file system.
pub(super) fn environment(settings: &Project, config: &Config) -> Result<(Environment, Option<String>)> {
    let environment = required(settings.environment.as_ref(), "environment")?;
    let image = required(environment.image.clone(), "environment.image")?;
    let compute = required(environment.compute_type.as_ref(), "environment.computeType")?;
    let host = config.is_host_image(&image);
    let made = Environment {
        // For an image, the place is filled in when PROVISIONING has resolved it.
        rootfs: if host { Rootfs::Host } else { Rootfs::Folder(PathBuf::new()) },
        variables: if host { config.host_variables.clone() } else { BTreeMap::new() },
        shared: if host { config.host_shared.clone() } else { Vec::new() },
        network: network(settings, config),
        limits: limits(compute),
        privileged: environment.privileged_mode == Some(true),
    };
    Ok((made, (!host).then_some(image)))
}

/// EN-100: a VPC is what the operator says it is, for all of them alike.
fn network(settings: &Project, config: &Config) -> Network {
    match config.vpc_network {
        Some(network) if vpc(settings).is_some() => network,
        _ => config.network,
    }
}

/// The VPC's id, if a project has one.
pub(super) fn vpc(settings: &Project) -> Option<&str> {
    let vpc = settings.vpc_config.as_ref()?.vpc_id.as_deref()?;
    (!vpc.is_empty()).then_some(vpc)
}

fn limits(compute: &ComputeType) -> Limits {
    let size = size(compute);
    Limits {
        memory_bytes: size.map(|(gib, _)| gib * GIB),
        pids: Some(PROCESSES),
        cpu_millis: size.map(|(_, processors)| processors * 1000),
    }
}

/// Whether builds can have this kind of compute.
pub(crate) fn is_available(compute: &ComputeType) -> bool {
    size(compute).is_some()
}

/// COMPAT: EN-010 memory in GiB and processors of an on-demand Linux size; none for other kinds of compute.
fn size(compute: &ComputeType) -> Option<(u64, u64)> {
    match compute {
        ComputeType::BuildGeneral1Small => Some((4, 2)),
        ComputeType::BuildGeneral1Medium => Some((8, 4)),
        ComputeType::BuildGeneral1Large => Some((16, 8)),
        ComputeType::BuildGeneral1Xlarge => Some((72, 36)),
        ComputeType::BuildGeneral1_2xlarge => Some((144, 72)),
        _ => None,
    }
}

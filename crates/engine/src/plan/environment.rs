//! The environment a build runs in: image, size, network.

use std::collections::BTreeMap;
use std::path::PathBuf;

use agent::plan::{Environment, Limits, Network, Rootfs};
use api::codebuild::{ComputeType, EnvironmentType, Project};

use crate::config::Config;
use crate::curated::is_curated;
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
    let privileged = environment.privileged_mode == Some(true);
    let made = Environment {
        // For an image, the place is filled in when PROVISIONING has resolved it.
        rootfs: if host { Rootfs::Host } else { Rootfs::Unpacked(PathBuf::new().into()) },
        variables: if host { config.host_variables.clone() } else { BTreeMap::new() },
        shared: if host { config.host_shared.clone() } else { Vec::new() },
        network: network(settings, config),
        limits: limits(compute, environment.r#type.as_ref(), config),
        privileged,
        // COMPAT: EN-027; EN-026 of other images no entry point counts.
        starts_docker: privileged && is_curated(&image),
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

/// The operator's size, and AWS's where that says nothing. COMPAT: EN-010, EN-016 but for the disk, which only the operator
/// can promise.
fn limits(compute: &ComputeType, kind: Option<&EnvironmentType>, config: &Config) -> Limits {
    let size = config.sizes.get(compute.as_str()).copied().unwrap_or_default();
    let (gib, processors) = on_demand(compute, kind).unzip();
    Limits {
        memory_bytes: size.memory_bytes.or(gib.map(|gib: u64| gib * GIB)),
        pids: size.processes.or(Some(PROCESSES)),
        cpu_millis: size.cpu_millis.or(processors.map(|processors: u64| processors * 1000)),
        disk_bytes: size.disk_bytes,
    }
}

/// Whether builds can have this kind of compute.
pub(crate) fn is_available(compute: &ComputeType) -> bool {
    on_demand(compute, None).is_some()
}

/// COMPAT: EN-010, EN-011 memory in GiB and processors of an on-demand Linux size; none for other kinds of compute. EN-015: the
/// sizes of today, not those of 2022.
fn on_demand(compute: &ComputeType, kind: Option<&EnvironmentType>) -> Option<(u64, u64)> {
    let is_arm = kind == Some(&EnvironmentType::ArmContainer);
    match compute {
        ComputeType::BuildGeneral1Small => Some((4, 2)),
        ComputeType::BuildGeneral1Medium => Some((8, 4)),
        ComputeType::BuildGeneral1Large => Some((16, 8)),
        ComputeType::BuildGeneral1Xlarge if is_arm => Some((64, 32)),
        ComputeType::BuildGeneral1_2xlarge if is_arm => Some((96, 48)),
        ComputeType::BuildGeneral1Xlarge => Some((72, 36)),
        ComputeType::BuildGeneral1_2xlarge => Some((144, 72)),
        _ => None,
    }
}

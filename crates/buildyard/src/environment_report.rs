//! `--env-report json`: the environment a local build ran in, and how it ended, for programs to read.

use std::path::Path;

use agent::journal::{Event, Outcome};
use agent::plan::{Network, Plan, Rootfs};
use serde_json::{Value, json};

use crate::usage_report;

/// One JSON object: `build`, `environment`, `isolation`, `phases`, `artifacts`, `exportedEnvironmentVariables`.
/// Values of variables are not in it, only their names.
pub(crate) fn json(plan: &Plan, data: &Path, events: &[Event], outcome: Outcome) -> Value {
    json!({
        "build": { "id": plan.build_id, "status": outcome.name() },
        "environment": environment(plan, data),
        "isolation": isolation(plan),
        "phases": phases(events),
        "artifacts": events.iter().filter_map(artifact).collect::<Vec<_>>(),
        "exportedEnvironmentVariables": exported(events),
    })
}

fn isolation(plan: &Plan) -> Value {
    let host = container::capabilities();
    let mut namespaces = vec!["user", "mount", "pid", "ipc", "uts", "cgroup"];
    if plan.environment.network != Network::Host {
        namespaces.push("network");
    }
    json!({
        "kernel": host.kernel,
        "root": host.is_root,
        "namespaces": namespaces,
        "cgroupVersion": host.cgroup_version,
        "limitsEnforced": host.limits,
        "ids": host.ids,
    })
}

fn environment(plan: &Plan, data: &Path) -> Value {
    let environment = &plan.environment;
    let image = match &environment.rootfs {
        Rootfs::Host => "host".to_owned(),
        Rootfs::Unpacked(image) => {
            image.layers.first().map(|topmost| topmost.display().to_string()).unwrap_or_default()
        }
        Rootfs::Image(name) => name.clone(),
    };
    let network = match environment.network {
        Network::None => "none",
        Network::Egress => "egress",
        Network::Host => "host",
    };
    json!({
        "image": image,
        "network": network,
        "limits": environment.limits,
        "sharedFolders": environment.shared,
        "dataFolder": data,
        "variables": {
            "image": environment.variables.keys().collect::<Vec<_>>(),
            "given": plan.variables.keys().collect::<Vec<_>>(),
            "service": plan.service_variables.keys().collect::<Vec<_>>(),
        },
    })
}

/// As BatchGetBuilds has them (LC-022); times are seconds since the Unix epoch.
fn phases(events: &[Event]) -> Vec<Value> {
    let mut started_ms = 0;
    let mut used = Value::Null;
    let mut phases = Vec::new();
    for event in events {
        match event {
            Event::PhaseStarted { at_ms, .. } => (started_ms, used) = (*at_ms, Value::Null),
            Event::Used(phase) => used = usage_report::phase(phase),
            Event::PhaseEnded { phase, at_ms, outcome, context } => phases.push(json!({
                "phaseType": phase.name(),
                "phaseStatus": outcome.name(),
                "startTime": started_ms as f64 / 1000.0,
                "endTime": *at_ms as f64 / 1000.0,
                "used": used.take(),
                "contexts": [{ "statusCode": context.status_code, "message": context.message }],
            })),
            _ => {}
        }
    }
    phases
}

fn artifact(event: &Event) -> Option<Value> {
    let Event::ArtifactUploaded(artifact) = event else { return None };
    Some(
        json!({ "artifactIdentifier": artifact.identifier, "location": artifact.location, "files": artifact.files }),
    )
}

fn exported(events: &[Event]) -> Vec<Value> {
    let variables = events.iter().find_map(|event| match event {
        Event::Exported { variables } => Some(variables),
        _ => None,
    });
    variables.into_iter().flatten().map(|(name, value)| json!({ "name": name, "value": value })).collect()
}

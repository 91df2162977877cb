//! A build as the API shows it. Pure: from what was ordered and the state it is in.

use agent::journal::{Context, Outcome, UploadedArtifact};
use agent::plan::{ArtifactTarget, Artifacts};
use api::codebuild::{
    Build, BuildArtifacts, BuildPhase, BuildPhaseType, DebugSession, ExportedEnvironmentVariable,
    LogsLocation, PhaseContext, ProjectArtifacts, StatusType,
};
use api::{AccountId, Arn, Region, Timestamp};

use crate::config::Config;
use crate::lifecycle::{Phase, PhaseRecord, State};
use crate::log_object::LogObject;
use crate::plan::{Order, Stream, expected_key};
use crate::queue::{Limit, Standing};
use crate::retry;

/// Who a build is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity<'a> {
    pub(crate) id: &'a str,
    pub(crate) arn: &'a str,
    pub(crate) number: u64,
    pub(crate) initiator: &'a str,
    pub(crate) started_ms: i64,
    pub(crate) account: &'a AccountId,
}

/// What stays the same through a build's life (AP-050); [`render`] adds what changes.
pub(crate) fn accepted(order: &Order, identity: Identity<'_>, config: &Config) -> Build {
    let settings = &order.settings;
    let (primary, secondary) = expected_artifacts(order, &config.region);
    Build {
        id: Some(identity.id.to_string()),
        arn: Some(identity.arn.to_string()),
        build_number: Some(i64::try_from(identity.number).unwrap_or(i64::MAX)),
        start_time: Some(Timestamp::from_millis(identity.started_ms)),
        source_version: settings.source_version.clone(),
        project_name: settings.name.clone(),
        source: settings.source.clone(),
        secondary_sources: Some(settings.secondary_sources.clone().unwrap_or_default()),
        secondary_source_versions: Some(settings.secondary_source_versions.clone().unwrap_or_default()),
        artifacts: Some(primary),
        secondary_artifacts: Some(secondary),
        cache: settings.cache.clone(),
        environment: settings.environment.clone(),
        service_role: settings.service_role.clone(),
        logs: Some(logs_to_come(order, &config.region, identity.account)),
        timeout_in_minutes: settings.timeout_in_minutes,
        queued_timeout_in_minutes: settings.queued_timeout_in_minutes,
        vpc_config: settings.vpc_config.clone(),
        initiator: Some(identity.initiator.to_string()),
        encryption_key: settings.encryption_key.clone(),
        ..Build::default()
    }
}

/// Brings the document up to the state.
pub(crate) fn render(build: &mut Build, order: &Order, state: &State) {
    build.current_phase = Some(phase_type(state.phase()).as_str().to_string());
    build.build_status = Some(state.outcome.map_or(StatusType::InProgress, status));
    build.build_complete = Some(state.is_over());
    build.end_time = state.ended_ms().map(Timestamp::from_millis);
    build.phases = Some(state.phases.iter().map(phase).collect());
    build.auto_retry_config = retry::shown(order, state);
    build.debug_session = order.plan.debug_session.then(|| debug_session(order, state));
    if !state.reports.is_empty() {
        build.report_arns = Some(state.reports.iter().map(|report| report.arn.clone()).collect());
    }
    build.resolved_source_version = state.resolved_source_version.clone();
    state.artifacts.iter().for_each(|artifact| show_artifact(build, artifact));
    if state.is_over() {
        build.exported_environment_variables = Some(exported(state));
    }
    // COMPAT: SA-113 the log's place is told once PROVISIONING has made it.
    if state.was_in(Phase::Provisioning) {
        order.stream.iter().for_each(|stream| show_logs(build, stream));
        show_log_object(build, order, state);
    }
}

/// Says in QUEUED's phase context why the build waits. It is no part of the stored document: it changes with every
/// build that starts, and is gone when this one does (LC-025). COMPAT: LC-057 the form of the status code.
pub(crate) fn explain_waiting(build: &mut Build, standing: &Standing) {
    let project = build.project_name.clone().unwrap_or_default();
    let (code, full) = match &standing.limit {
        Limit::None => return,
        Limit::Account(limit) => ("ACCOUNT_LIMIT", format!("of {limit} builds of the account")),
        Limit::Project(limit) => ("PROJECT_LIMIT", format!("of {limit} builds of project {project}")),
        Limit::ComputeType(name, limit) => ("COMPUTE_TYPE_LIMIT", format!("of {limit} builds of {name}")),
    };
    let Standing { running, some_running, position, waiting, behind, .. } = standing;
    let mut message = format!("{running} {full} are running; this build is {position} of {waiting} waiting");
    if let Some(behind) = behind {
        message += &format!(", after {behind}");
    }
    if !some_running.is_empty() {
        message += &format!(". Running: {}", some_running.join(", "));
    }
    // Those of other accounts are counted and not named; if all are, nothing more is to be said.
    let more = running - some_running.len();
    if more > 0 && !some_running.is_empty() {
        message += &format!(" and {more} more");
    }
    let queued =
        build.phases.iter_mut().flatten().find(|phase| phase.phase_type == Some(BuildPhaseType::Queued));
    if let Some(queued) = queued.filter(|phase| phase.end_time.is_none()) {
        let status_code = Some(format!("QUEUED: {code}"));
        queued.contexts = Some(vec![PhaseContext { status_code, message: Some(message) }]);
    }
}

/// COMPAT: LC-022, LC-023, LC-025.
fn phase(record: &PhaseRecord) -> BuildPhase {
    let mut shown = BuildPhase {
        phase_type: Some(phase_type(record.phase)),
        start_time: Some(Timestamp::from_millis(record.started_ms)),
        ..BuildPhase::default()
    };
    if let Some(end) = &record.end {
        shown.phase_status = Some(status(end.outcome));
        shown.end_time = Some(Timestamp::from_millis(end.at_ms));
        shown.duration_in_seconds = Some((end.at_ms - record.started_ms) / 1000);
        let early = matches!(record.phase, Phase::Submitted | Phase::Queued);
        if !early || end.context != Context::default() {
            shown.contexts = Some(vec![PhaseContext {
                status_code: Some(end.context.status_code.clone()),
                message: Some(end.context.message.clone()),
            }]);
        }
    }
    shown
}

/// COMPAT: LC-100 there is something to connect to while there is an environment.
fn debug_session(order: &Order, state: &State) -> DebugSession {
    let is_there = state.was_in(Phase::Provisioning) && !state.is_over();
    DebugSession {
        session_enabled: Some(true),
        session_target: is_there.then(|| format!("codebuild:{}", order.plan.uuid)),
    }
}

fn exported(state: &State) -> Vec<ExportedEnvironmentVariable> {
    let pairs = state.exported.iter();
    let shown = pairs.map(|(name, value)| ExportedEnvironmentVariable {
        name: Some(name.clone()),
        value: Some(value.clone()),
    });
    shown.collect()
}

/// COMPAT: SA-061, AP-054 the location is where the artifact will be, and empty if there is to be none; the rest is as it was ordered.
fn expected_artifacts(order: &Order, region: &Region) -> (BuildArtifacts, Vec<BuildArtifacts>) {
    let (primary, secondary) = match &order.plan.artifacts {
        Artifacts::Objects { primary, secondary, .. } => (primary.as_ref(), secondary.as_slice()),
        _ => (None, [].as_slice()),
    };
    let location = |target: &ArtifactTarget| {
        Arn::s3(region, &target.bucket, &expected_key(target, &order.plan.uuid)).to_string()
    };
    let shown = |ordered: &ProjectArtifacts, target: Option<&ArtifactTarget>| BuildArtifacts {
        location: Some(target.map(location).unwrap_or_default()),
        artifact_identifier: ordered.artifact_identifier.clone(),
        override_artifact_name: ordered.override_artifact_name,
        encryption_disabled: ordered.encryption_disabled,
        bucket_owner_access: ordered.bucket_owner_access.clone(),
        ..BuildArtifacts::default()
    };
    let of = |ordered: &ProjectArtifacts| {
        shown(ordered, secondary.iter().find(|target| target.identifier == ordered.artifact_identifier))
    };
    let settings = &order.settings;
    let ordered = settings.artifacts.clone().unwrap_or_default();
    (shown(&ordered, primary), settings.secondary_artifacts.iter().flatten().map(of).collect())
}

fn show_artifact(build: &mut Build, artifact: &UploadedArtifact) {
    let shown = match &artifact.identifier {
        None => build.artifacts.as_mut(),
        Some(_) => {
            let mut all = build.secondary_artifacts.iter_mut().flatten();
            all.find(|shown| shown.artifact_identifier == artifact.identifier)
        }
    };
    if let Some(shown) = shown {
        shown.location = Some(artifact.location.clone());
        shown.sha256sum = artifact.sha256.clone();
        shown.md5sum = artifact.md5.clone();
    }
}

/// COMPAT: SA-113 clients test for the literal `null`.
fn logs_to_come(order: &Order, region: &Region, account: &AccountId) -> LogsLocation {
    let configured = order.settings.logs_config.clone().unwrap_or_default();
    LogsLocation {
        deep_link: Some(format!(
            "https://console.aws.amazon.com/cloudwatch/home?region={region}#logEvent:group=null;stream=null"
        )),
        cloud_watch_logs_arn: Some(Arn::log_stream(region, account, "null", "null").to_string()),
        cloud_watch_logs: configured.cloud_watch_logs,
        s3_logs: configured.s3_logs,
        ..LogsLocation::default()
    }
}

/// COMPAT: SA-114, SA-115.
fn show_logs(build: &mut Build, stream: &Stream) {
    let arn: Option<Arn> = build.arn.as_deref().and_then(|arn| arn.parse().ok());
    let (Some(logs), Some(arn)) = (build.logs.as_mut(), arn) else { return };
    let (partition, region, account) = (arn.partition(), arn.region(), arn.account());
    let Stream { group, name } = stream;
    logs.group_name = Some(group.clone());
    logs.stream_name = Some(name.clone());
    logs.deep_link = Some(format!(
        "https://console.aws.amazon.com/cloudwatch/home?region={region}\
         #logsV2:log-groups/log-group/{}/log-events/{}",
        escape_slashes(group),
        escape_slashes(name)
    ));
    logs.cloud_watch_logs_arn =
        Some(format!("arn:{partition}:logs:{region}:{account}:log-group:{group}:log-stream:{name}"));
}

/// COMPAT: SA-115, SA-116. What could not be written is not named.
fn show_log_object(build: &mut Build, order: &Order, state: &State) {
    let arn: Option<Arn> = build.arn.as_deref().and_then(|arn| arn.parse().ok());
    let object = LogObject::of(&order.settings, &order.plan.uuid).filter(|_| !state.log_object_failed);
    let region = arn.as_ref().and_then(|arn| arn.region().parse::<Region>().ok());
    let shown = object.zip(region);
    let Some(logs) = build.logs.as_mut() else { return };
    logs.s3_logs_arn =
        shown.as_ref().map(|(object, region)| Arn::s3(region, &object.bucket, &object.key).to_string());
    logs.s3_deep_link = shown.map(|(object, region)| object.deep_link(&region));
}

fn escape_slashes(text: &str) -> String {
    text.replace('/', "$252F")
}

fn phase_type(phase: Phase) -> BuildPhaseType {
    match phase {
        Phase::Submitted => BuildPhaseType::Submitted,
        Phase::Queued => BuildPhaseType::Queued,
        Phase::Provisioning => BuildPhaseType::Provisioning,
        Phase::DownloadSource => BuildPhaseType::DownloadSource,
        Phase::Install => BuildPhaseType::Install,
        Phase::PreBuild => BuildPhaseType::PreBuild,
        Phase::Build => BuildPhaseType::Build,
        Phase::PostBuild => BuildPhaseType::PostBuild,
        Phase::UploadArtifacts => BuildPhaseType::UploadArtifacts,
        Phase::Finalizing => BuildPhaseType::Finalizing,
        Phase::Completed => BuildPhaseType::Completed,
    }
}

pub(crate) fn status(outcome: Outcome) -> StatusType {
    match outcome {
        Outcome::Succeeded => StatusType::Succeeded,
        Outcome::Failed => StatusType::Failed,
        Outcome::Fault => StatusType::Fault,
        Outcome::TimedOut => StatusType::TimedOut,
        Outcome::Stopped => StatusType::Stopped,
    }
}

//! A build's life as a pure state machine: what is, what happens, what follows.
//!
//! No time is asked for here and nothing is done: times come with the events, and effects are for the driver
//! to perform after the new state is stored. Events may be told twice (a journal read again after a restart);
//! the second telling changes nothing. How a state looks in the API is `document`'s.

use std::collections::BTreeMap;

use agent::journal::{Context, Event as Report, Outcome, Phase as AgentPhase, UploadedArtifact};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// A build's phases in their order (LC-020).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Phase {
    Submitted,
    Queued,
    Provisioning,
    DownloadSource,
    Install,
    PreBuild,
    Build,
    PostBuild,
    UploadArtifacts,
    Finalizing,
    Completed,
}

impl From<AgentPhase> for Phase {
    fn from(phase: AgentPhase) -> Phase {
        match phase {
            AgentPhase::Provisioning => Phase::Provisioning,
            AgentPhase::DownloadSource => Phase::DownloadSource,
            AgentPhase::Install => Phase::Install,
            AgentPhase::PreBuild => Phase::PreBuild,
            AgentPhase::Build => Phase::Build,
            AgentPhase::PostBuild => Phase::PostBuild,
            AgentPhase::UploadArtifacts => Phase::UploadArtifacts,
            AgentPhase::Finalizing => Phase::Finalizing,
        }
    }
}

/// A phase that was entered. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseRecord {
    pub phase: Phase,
    pub started_ms: i64,
    pub end: Option<PhaseEnd>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
}

/// What a phase has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    pub cpu_millis: u64,
    /// The most at once since the build's beginning.
    pub memory_peak_bytes: Option<u64>,
    pub storage_read_bytes: Option<u64>,
    pub storage_written_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseEnd {
    pub at_ms: i64,
    pub outcome: Outcome,
    pub context: Context,
}

/// A report of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportRecord {
    pub arn: String,
    pub ended: bool,
}

/// Everything that changes in a build after it was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Entered so far, in order, without gaps in time. Never empty.
    pub phases: Vec<PhaseRecord>,
    /// How the build ended; absent while it is in progress. Once set, the state never changes again.
    pub outcome: Option<Outcome>,
    /// An agent has taken the build: it must not be launched again.
    pub launched: bool,
    pub stop_requested: bool,
    pub resolved_source_version: Option<String>,
    pub artifacts: Vec<UploadedArtifact>,
    pub exported: BTreeMap<String, String>,
    /// A phase failed whose `on-failure` asks for so many tries (BS-082..084).
    #[serde(default)]
    pub retry_asked: Option<u32>,
    /// In the order in which they were begun.
    #[serde(default)]
    pub reports: Vec<ReportRecord>,
    /// ARN of the build that follows this one as its next try (LC-072).
    #[serde(default)]
    pub next_try: Option<String>,
    /// The log could not be written where `logsConfig.s3Logs` wants it.
    #[serde(default)]
    pub log_object_failed: bool,
}

/// What can happen to a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The queue let it through.
    Admitted {
        at_ms: i64,
    },
    /// It waited in the queue for as long as it may.
    QueuedTimedOut {
        at_ms: i64,
    },
    StopRequested {
        at_ms: i64,
    },
    /// No agent could be given to it.
    ProvisioningFailed {
        at_ms: i64,
        outcome: Outcome,
        context: Context,
    },
    /// Its agent wrote this into the journal.
    Reported(Report),
    /// Its agent is gone without having finished; `outcome` says what to make of it.
    AgentLost {
        at_ms: i64,
        outcome: Outcome,
        context: Context,
    },
}

/// What has to be done about it, after the new state is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Give the build an agent.
    Launch,
    /// Tell whoever provisions or runs the build to stop.
    Stop,
    /// The build is over: seal its log, remove what its agent left, free its place.
    Release,
}

/// What happens next. Pure and total: an event that does not fit the state changes nothing.
pub fn step(mut state: State, event: Event) -> (State, Vec<Effect>) {
    if state.is_over() {
        return (state, Vec::new());
    }
    let effects = match event {
        Event::Admitted { at_ms } => state.admit(at_ms),
        Event::QueuedTimedOut { at_ms } => state.time_out_in_queue(at_ms),
        Event::StopRequested { at_ms } => state.request_stop(at_ms),
        Event::ProvisioningFailed { at_ms, outcome, context }
        | Event::AgentLost { at_ms, outcome, context } => state.end_at_once(at_ms, outcome, context),
        Event::Reported(report) => state.take_in(report),
    };
    (state, effects)
}

impl State {
    /// A build that was just accepted: SUBMITTED is over, it is QUEUED (AP-050).
    pub fn accepted(at_ms: i64) -> State {
        let submitted = PhaseEnd { at_ms, outcome: Outcome::Succeeded, context: Context::default() };
        State {
            phases: vec![
                PhaseRecord { phase: Phase::Submitted, started_ms: at_ms, end: Some(submitted), used: None },
                PhaseRecord { phase: Phase::Queued, started_ms: at_ms, end: None, used: None },
            ],
            outcome: None,
            launched: false,
            stop_requested: false,
            resolved_source_version: None,
            artifacts: Vec::new(),
            exported: BTreeMap::new(),
            retry_asked: None,
            reports: Vec::new(),
            next_try: None,
            log_object_failed: false,
        }
    }

    pub fn is_over(&self) -> bool {
        self.outcome.is_some()
    }

    /// The last phase entered (LC-033).
    pub fn phase(&self) -> Phase {
        self.current().phase
    }

    /// Whether the build has come to this phase.
    pub fn was_in(&self, phase: Phase) -> bool {
        self.phases.iter().any(|record| record.phase == phase)
    }

    /// When the build ended: when COMPLETED was entered (LC-023).
    pub fn ended_ms(&self) -> Option<i64> {
        self.is_over().then(|| self.current().started_ms)
    }

    fn current(&self) -> &PhaseRecord {
        self.phases.last().expect("`accepted` puts two in, and none is ever taken out")
    }

    fn admit(&mut self, at_ms: i64) -> Vec<Effect> {
        match self.phase() {
            Phase::Queued => self.enter(Phase::Provisioning, at_ms),
            // Admitted before a restart, but never launched: the phase goes on.
            Phase::Provisioning if !self.launched => {}
            _ => return Vec::new(),
        }
        vec![Effect::Launch]
    }

    // COMPAT: LC-062 waiting too long ends QUEUED with TIMED_OUT.
    fn time_out_in_queue(&mut self, at_ms: i64) -> Vec<Effect> {
        match self.phase() {
            Phase::Queued => {}
            // Admitted before a restart, but never launched: it is in the queue again.
            Phase::Provisioning if !self.launched => {}
            _ => return Vec::new(),
        }
        self.end_at_once(at_ms, Outcome::TimedOut, timed_out())
    }

    fn request_stop(&mut self, at_ms: i64) -> Vec<Effect> {
        self.stop_requested = true;
        if self.phase() == Phase::Queued {
            return self.end_at_once(at_ms, Outcome::Stopped, Context::default());
        }
        vec![Effect::Stop]
    }

    // COMPAT: LC-028 what ends in SUBMITTED, QUEUED or PROVISIONING goes straight to COMPLETED.
    fn end_at_once(&mut self, at_ms: i64, outcome: Outcome, context: Context) -> Vec<Effect> {
        self.end_phase(at_ms, outcome, context);
        self.complete(at_ms, outcome)
    }

    fn take_in(&mut self, report: Report) -> Vec<Effect> {
        match report {
            Report::Started { at_ms, .. } => {
                self.launched = true;
                // A kill may have come between the launch and the storing of PROVISIONING.
                self.enter(Phase::Provisioning, at_ms);
            }
            Report::PhaseStarted { phase, at_ms } => self.enter(phase.into(), at_ms),
            Report::PhaseEnded { phase, at_ms, outcome, context } => {
                if self.phase() == phase.into() {
                    self.end_phase(at_ms, outcome, context);
                }
            }
            Report::RetryAsked { limit } => self.retry_asked = Some(limit),
            // The driver answers, or somebody at a terminal does; no state comes of it.
            Report::ReferencesNeeded { .. } | Report::Held { .. } => {}
            Report::Used {
                phase,
                cpu_millis,
                memory_peak_bytes,
                storage_read_bytes,
                storage_written_bytes,
                ..
            } => {
                let used = Used { cpu_millis, memory_peak_bytes, storage_read_bytes, storage_written_bytes };
                let of = self.phases.iter_mut().find(|record| record.phase == phase.into());
                of.into_iter().for_each(|record| record.used = Some(used));
            }
            Report::SourceResolved { version } => self.resolved_source_version = Some(version),
            Report::ArtifactUploaded(artifact) => self.record_artifact(artifact),
            Report::Exported { variables } => self.exported = variables,
            Report::ReportsNeeded { .. } => {}
            Report::ReportsStarted { arns } => self.begin_reports(arns),
            Report::ReportEnded { arn, .. } => {
                self.reports
                    .iter_mut()
                    .filter(|report| report.arn == arn)
                    .for_each(|report| report.ended = true);
            }
            Report::Finished { at_ms, outcome } => {
                self.end_phase(at_ms, outcome, Context::default());
                return self.complete(at_ms, outcome);
            }
        }
        Vec::new()
    }

    fn begin_reports(&mut self, arns: Vec<String>) {
        for arn in arns {
            if !self.reports.iter().any(|report| report.arn == arn) {
                self.reports.push(ReportRecord { arn, ended: false });
            }
        }
    }

    /// Whether it was begun and is not at its end.
    pub fn is_being_reported(&self, arn: &str) -> bool {
        self.reports.iter().any(|report| report.arn == arn && !report.ended)
    }

    /// ARNs of the reports that were begun and not ended.
    pub fn unfinished_reports(&self) -> Vec<String> {
        self.reports.iter().filter(|report| !report.ended).map(|report| report.arn.clone()).collect()
    }

    fn record_artifact(&mut self, artifact: UploadedArtifact) {
        self.artifacts.retain(|known| known.identifier != artifact.identifier);
        self.artifacts.push(artifact);
    }

    /// Goes forward to a phase; never back.
    fn enter(&mut self, phase: Phase, at_ms: i64) {
        if phase <= self.phase() {
            return;
        }
        self.end_phase(at_ms, Outcome::Succeeded, Context::default());
        // COMPAT: LC-024 a phase starts when the one before it ended.
        let started_ms = self.current().end.as_ref().map_or(at_ms, |end| end.at_ms);
        self.phases.push(PhaseRecord { phase, started_ms, end: None, used: None });
    }

    /// Ends the current phase, if it has not ended. Time does not go back, whatever the clock did.
    fn end_phase(&mut self, at_ms: i64, outcome: Outcome, context: Context) {
        let current = self.phases.last_mut().expect("`accepted` puts two in, and none is ever taken out");
        if current.end.is_none() {
            current.end = Some(PhaseEnd { at_ms: at_ms.max(current.started_ms), outcome, context });
        }
    }

    fn complete(&mut self, at_ms: i64, outcome: Outcome) -> Vec<Effect> {
        self.enter(Phase::Completed, at_ms);
        self.outcome = Some(outcome);
        vec![Effect::Release]
    }
}

/// COMPAT: LC-043, with the trailing space of CodeBuild's own sample.
pub fn timed_out() -> Context {
    Context { status_code: "BUILD_TIMED_OUT".to_string(), message: "Build has timed out. ".to_string() }
}

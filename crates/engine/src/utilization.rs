//! What a build had of its processors, memory and disk, from what its phases have used. COMPAT: IN-032.

use agent::journal::{PhaseUsed, Used};
use agent::plan::Limits;

use crate::lifecycle::State;

/// Averages are over the phases that told what they used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Utilization {
    /// In use on average.
    pub processors: f64,
    /// Of those that the compute type has.
    pub processors_percent: Option<f64>,
    /// The most at once.
    pub memory_bytes: Option<f64>,
    /// Of what the compute type has.
    pub memory_percent: Option<f64>,
    pub storage_read_bytes_per_second: Option<f64>,
    pub storage_written_bytes_per_second: Option<f64>,
}

/// Nothing if no phase has told what it used.
pub(crate) fn of(state: &State, limits: &Limits) -> Option<Utilization> {
    let told: Vec<(Used, f64)> =
        state.used.iter().filter_map(|told| Some((told.used, seconds(state, told)?))).collect();
    let seconds: f64 = told.iter().map(|(_, seconds)| seconds).sum();
    if seconds <= 0.0 {
        return None;
    }
    let total = |of: fn(&Used) -> Option<u64>| {
        let each = told.iter().filter_map(|(used, _)| of(used));
        each.map(|amount| amount as f64).reduce(|one, other| one + other)
    };
    let processors = total(|used| Some(used.cpu_millis)).unwrap_or_default() / 1e3 / seconds;
    let memory = told.iter().filter_map(|(used, _)| used.memory_peak_bytes).max().map(|bytes| bytes as f64);
    let percent = |part: f64, whole: u64| part / whole as f64 * 100.0;
    Some(Utilization {
        processors,
        processors_percent: limits.cpu_millis.map(|millis| percent(processors * 1e3, millis)),
        memory_bytes: memory,
        memory_percent: memory.zip(limits.memory_bytes).map(|(part, whole)| percent(part, whole)),
        storage_read_bytes_per_second: total(|used| used.disk_read_bytes).map(|bytes| bytes / seconds),
        storage_written_bytes_per_second: total(|used| used.disk_written_bytes).map(|bytes| bytes / seconds),
    })
}

fn seconds(state: &State, told: &PhaseUsed) -> Option<f64> {
    let record = state.phases.iter().find(|record| record.phase == told.phase.into())?;
    Some((record.end.as_ref()?.at_ms - record.started_ms).max(0) as f64 / 1e3)
}

#[cfg(test)]
mod tests {
    use agent::journal::{Outcome, Phase as AgentPhase};

    use super::*;
    use crate::lifecycle::{Phase, PhaseEnd, PhaseRecord};

    fn record(phase: Phase, from_ms: i64, to_ms: i64) -> PhaseRecord {
        let end = PhaseEnd { at_ms: to_ms, outcome: Outcome::Succeeded, context: Default::default() };
        PhaseRecord { phase, started_ms: from_ms, end: Some(end) }
    }

    fn told(phase: AgentPhase, cpu_millis: u64, peak: u64, read: u64) -> PhaseUsed {
        let used = Used {
            cpu_millis,
            memory_peak_bytes: Some(peak),
            disk_read_bytes: Some(read),
            ..Used::default()
        };
        PhaseUsed { phase, used, disk_used_bytes: None, commands: Vec::new(), more_commands: 0 }
    }

    // IN-032
    #[test]
    fn a_builds_phases_are_averaged_over_the_time_in_which_they_used_something() {
        let mut state = State::accepted(0);
        state.phases = vec![
            record(Phase::Queued, 0, 60_000),
            record(Phase::Install, 60_000, 61_000),
            record(Phase::Build, 61_000, 64_000),
        ];
        state.used =
            vec![told(AgentPhase::Install, 1_000, 100, 0), told(AgentPhase::Build, 3_000, 300, 4_000)];
        let limits =
            Limits { memory_bytes: Some(1_200), cpu_millis: Some(2_000), pids: None, disk_bytes: None };
        let expected = Utilization {
            processors: 1.0,
            processors_percent: Some(50.0),
            memory_bytes: Some(300.0),
            memory_percent: Some(25.0),
            storage_read_bytes_per_second: Some(1_000.0),
            storage_written_bytes_per_second: None,
        };
        assert_eq!(of(&state, &limits), Some(expected));
        state.used.clear();
        assert_eq!(of(&state, &limits), None);
    }
}

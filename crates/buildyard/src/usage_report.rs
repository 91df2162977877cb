//! What builds used, for programs and for people.

use std::fmt::Write;

use agent::journal::{CommandUsed, Event, PhaseUsed, Used};
use engine::BuildUsage;
use serde_json::{Value, json};

/// Width of the column that says what was used by whom.
const WHO: usize = 44;

/// `id` and `phases`, each with `phaseType` and what [`phase`] has.
pub(crate) fn json(usage: &BuildUsage) -> Value {
    let with_name = |used: &PhaseUsed| {
        let mut value = phase(used);
        value["phaseType"] = used.phase.name().into();
        value
    };
    json!({ "id": usage.id, "phases": usage.phases.iter().map(with_name).collect::<Vec<_>>() })
}

/// Of a phase; what cannot be told is null.
pub(crate) fn phase(phase: &PhaseUsed) -> Value {
    let mut value = used(&phase.used);
    value["diskUsedBytes"] = phase.disk_used_bytes.into();
    value["commands"] = phase.commands.iter().map(command).collect();
    value["moreCommands"] = phase.more_commands.into();
    value
}

fn command(command: &CommandUsed) -> Value {
    let mut value = used(&command.used);
    value["command"] = command.command.as_str().into();
    value["tookMillis"] = command.took_ms.into();
    value
}

fn used(used: &Used) -> Value {
    json!({
        "cpuMillis": used.cpu_millis,
        "memoryPeakBytes": used.memory_peak_bytes,
        "memoryMeanBytes": used.memory_mean_bytes,
        "diskReadBytes": used.disk_read_bytes,
        "diskWrittenBytes": used.disk_written_bytes,
        "networkReceivedBytes": used.network_received_bytes,
        "networkSentBytes": used.network_sent_bytes,
    })
}

/// A line for each phase and below it one for each command, in columns; MB are millions of bytes.
pub(crate) fn table(usage: &BuildUsage) -> String {
    let mut text = row(
        "",
        ["cpu s", "most MB", "mean MB", "read MB", "written MB", "in MB", "out MB", "disk MB"]
            .map(str::to_owned),
    );
    for phase in &usage.phases {
        text += &row(phase.phase.name(), columns(&phase.used, phase.disk_used_bytes));
        for command in &phase.commands {
            let line = command.command.lines().next().unwrap_or_default();
            text += &row(&format!("  {line}"), columns(&command.used, None));
        }
        if phase.more_commands > 0 {
            let _ = writeln!(text, "  and {} that took less long", phase.more_commands);
        }
    }
    text
}

fn columns(used: &Used, disk: Option<u64>) -> [String; 8] {
    let mb = |bytes: Option<u64>| bytes.map_or("-".to_owned(), |bytes| format!("{:.1}", bytes as f64 / 1e6));
    [
        format!("{:.2}", used.cpu_millis as f64 / 1e3),
        mb(used.memory_peak_bytes),
        mb(used.memory_mean_bytes),
        mb(used.disk_read_bytes),
        mb(used.disk_written_bytes),
        mb(used.network_received_bytes),
        mb(used.network_sent_bytes),
        mb(disk),
    ]
}

fn row(who: &str, columns: [String; 8]) -> String {
    // What commands are called may hold anything.
    let plain = who.chars().map(|one| if one.is_control() { '?' } else { one });
    let shown: String = plain.take(WHO).collect();
    let columns: String = columns.iter().map(|column| format!(" {column:>10}")).collect();
    format!("{shown:WHO$}{columns}\n")
}

/// What the whole build used, in a sentence; `None` if nothing was told.
pub(crate) fn sentence(events: &[Event]) -> Option<String> {
    let phases = events.iter().filter_map(|event| match event {
        Event::Used(phase) => Some(phase),
        _ => None,
    });
    let all = phases.fold(None, |all, phase| Some(together(all.unwrap_or_default(), phase)))?;
    let mut text = format!("Used {:.1} s of processor time", all.cpu_millis as f64 / 1e3);
    if let Some(peak) = all.memory_peak_bytes {
        let _ = write!(text, ", at most {:.1} MB of memory", peak as f64 / 1e6);
    }
    if let (Some(read), Some(written)) = (all.disk_read_bytes, all.disk_written_bytes) {
        let (read, written) = (read as f64 / 1e6, written as f64 / 1e6);
        let _ = write!(text, "; {read:.1} MB read from disks, {written:.1} MB written");
    }
    Some(text)
}

fn together(all: Used, phase: &PhaseUsed) -> Used {
    let sum =
        |all: Option<u64>, more: Option<u64>| all.map_or(more, |all| Some(all + more.unwrap_or_default()));
    Used {
        cpu_millis: all.cpu_millis + phase.used.cpu_millis,
        memory_peak_bytes: all.memory_peak_bytes.max(phase.used.memory_peak_bytes),
        disk_read_bytes: sum(all.disk_read_bytes, phase.used.disk_read_bytes),
        disk_written_bytes: sum(all.disk_written_bytes, phase.used.disk_written_bytes),
        ..all
    }
}

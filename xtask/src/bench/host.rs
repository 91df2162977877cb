//! What this host is, and what other programs on it need for the same.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One line: processors, their model, memory, kernel, cgroup version.
pub(super) fn describe() -> String {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let model = line_of("/proc/cpuinfo", "model name");
    let memory = line_of("/proc/meminfo", "MemTotal");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let version = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "v2" } else { "v1" };
    format!("{processors} × {model}, {memory} memory, Linux {}, cgroup {version}", kernel.trim())
}

/// The value of the first `name: value` line of a file.
fn line_of(path: &str, name: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
    found.map(|(_, value)| value.trim().to_owned()).unwrap_or_else(|| "unknown".into())
}

pub(super) fn has(program: &str) -> bool {
    let version = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    version.is_ok_and(|status| status.success())
}

/// Milliseconds since 1970, as bash's EPOCHREALTIME has them.
pub(super) fn wall_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}

/// Runs a command whose output is thrown away; milliseconds from start to end.
pub(super) fn time(command: &[&str]) -> Result<f64, String> {
    let begun = Instant::now();
    let (program, arguments) = command.split_first().ok_or("nothing to run")?;
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|e| format!("{program}: {e}"))?;
    let took = millis(begun.elapsed());
    status.success().then_some(took).ok_or_else(|| format!("{command:?}: {status}"))
}

/// What a command printed.
pub(super) fn output(command: &[&str]) -> Result<String, String> {
    let (program, arguments) = command.split_first().ok_or("nothing to run")?;
    let done = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let done = done.map_err(|e| format!("{program}: {e}"))?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    done.status.success().then_some(text).ok_or_else(|| {
        format!("{command:?}: {}: {}", done.status, String::from_utf8_lossy(&done.stderr).trim())
    })
}

pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

//! T09 and T12: faults of an object store, and long logs. Their clients and the proxy between are system tests in Python; here they are run at scale, and what they
//! say is told.

use std::process::Command;

use super::Setting;
use super::report::Figures;

/// T09: transfers while a proxy does to requests what networks and stores do, F28 to F37.
pub(super) fn transfers(setting: &Setting, count: usize) -> Result<Figures, String> {
    let (count, seed) = (count.to_string(), setting.seed.to_string());
    let test = "tests/system/test_stores.py::test_transfers_under_faults_are_whole_or_not_at_all";
    pytest(setting, "T09 object store faults", &[test, "--transfers", &count, "--seed", &seed])
}

/// T12: of lines as long, wide and many as it says there, so many percent.
pub(super) fn logs(setting: &Setting, percent: usize) -> Result<Figures, String> {
    pytest(
        setting,
        "T12 long logs",
        &["tests/system/test_log_volume.py", "--log-percent", &percent.to_string()],
    )
}

fn pytest(setting: &Setting, family: &str, arguments: &[&str]) -> Result<Figures, String> {
    let python = crate::python();
    let output = Command::new(&python)
        .args(["-m", "pytest", "-q", "-s", "-p", "no:cacheprovider"])
        .args(arguments)
        .current_dir(crate::root())
        .env("BUILDYARD", &setting.binary)
        .output()
        .map_err(|e| format!("{}: {e}", python.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(format!(
            "{family}: {}\n{text}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    let lines =
        text.lines().map(|line| line.trim_start_matches(['.', 's']).trim()).filter(|line| !line.is_empty());
    Ok(Figures::told(family, lines.map(str::to_owned).collect()))
}

//! Where Buildyard keeps its data when nothing else is said.

use std::path::PathBuf;

/// `/var/lib/buildyard` for root; for others `$XDG_DATA_HOME/buildyard` or `~/.local/share/buildyard`.
pub(crate) fn default_data() -> PathBuf {
    if rustix::process::geteuid().is_root() && !container::has_subordinate_ids() {
        return PathBuf::from("/var/lib/buildyard");
    }
    let given = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    given.unwrap_or_else(|| home().join(".local/share")).join("buildyard")
}

/// `$HOME`, or `/` if there is none.
pub(crate) fn home() -> PathBuf {
    std::env::var_os("HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .unwrap_or_else(|| "/".into())
}

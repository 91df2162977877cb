//! Programs that outlive the one that starts them. Not the container.

use std::io;
use std::process::{Child, Command};

/// Starts `command` in a session of its own, with default signals and with no descriptor but 0, 1 and 2. It goes on when the
/// caller dies.
///
/// # Errors
/// As [`Command::spawn`].
pub fn spawn_detached(command: &mut Command) -> io::Result<Child> {
    crate::sys::before_exec(command, || {
        rustix::process::setsid()?;
        crate::sys::reset_signals();
        crate::sys::close_on_exec_from(3)
    });
    command.spawn()
}

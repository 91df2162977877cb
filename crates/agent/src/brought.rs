//! Environments that the executor has made by somebody else: what it must show inside, so that the agent and the container's first
//! process find each other, and what that process is.
//!
//! The agent listens at [`SOCKET`] from before it takes the build on; whoever makes the container does so only after that.

use std::path::Path;
use std::process::ExitCode;

use crate::build;
use crate::inside;

/// A folder of the build's folder; the container shows it at [`INSIDE`], read-only.
pub const FOLDER: &str = "inside";
/// Where the container's first process comes to, in the build's folder.
pub const SOCKET: &str = "inside/init.sock";
/// COMPAT: EN-085 where the agent has its own inside.
pub const INSIDE: &str = "/codebuild/readonly/agent";
/// The container's first process: the program `buildyard-init`, shown at this path, read-only.
pub const PROGRAM: &str = "/codebuild/readonly/init";
/// A folder in memory, and its bytes.
pub const IN_MEMORY: (&str, u64) = (build::SCRIPTS, build::SCRIPTS_BYTES);

/// What `buildyard-init` does, inside.
pub fn init() -> ExitCode {
    let name = Path::new(SOCKET).file_name().unwrap_or_default();
    container::be_init(&Path::new(INSIDE).join(name), inside::FUNCTIONS)
}

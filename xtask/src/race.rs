//! `cargo xtask race`: what a build swaps for links while its artifacts are collected, a million times. The short form of it
//! is one of the agent's tests, where the race itself is written down.

use std::path::Path;
use std::process::Command;

use crate::error::{Error, at};

pub(crate) const USAGE: &str =
    "[TRIES]    race the collector of artifacts against a build that swaps its files for links";

/// For each of the races.
const TRIES: &str = "1000000";

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    let tries = match arguments {
        [] => TRIES,
        [tries] if tries.parse::<u64>().is_ok() => tries,
        _ => return Err(Error::Usage(format!("  cargo xtask race {USAGE}"))),
    };
    let arguments = ["test", "-q", "-p", "agent", "--test", "agent", "--", "--races", tries];
    let mut cargo = Command::new(env!("CARGO"));
    let status = cargo.args(arguments).current_dir(crate::root()).status().map_err(at(Path::new("cargo")))?;
    match status.success() {
        true => Ok(()),
        false => Err(Error::Check { command: format!("cargo {}", arguments.join(" ")), status }),
    }
}

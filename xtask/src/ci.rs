//! `ci`: everything about the repository that a machine can judge without building a release, in one go.
//!
//! Here: the list of checks and going through it. The checks on the whole system are `./test`'s.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::{Error, at};
use crate::{codegen, conformance, schema, tidy};

pub(crate) const USAGE: &str = "";

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    if !arguments.is_empty() {
        return Err(Error::Usage("  cargo xtask ci".into()));
    }
    cargo(&["fmt", "--all", "--check"])?;
    said("tidy", tidy::run(&[]))?;
    said("codegen --check", codegen::run(&["--check".into()]))?;
    said("conformance --check", conformance::run(&["--check".into()]))?;
    said("schema --check", schema::run(&["--check".into()]))?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    if installed("deny") {
        // Advisories need a database from the network; everything else is in the checkout.
        cargo(&["deny", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"])?;
    } else {
        println!("== cargo deny: not installed, left out");
    }
    if installed("nextest") {
        cargo(&["nextest", "run", "--workspace"])?;
        cargo(&["test", "--workspace", "--doc"])
    } else {
        cargo(&["test", "--workspace"])
    }
}

fn said(name: &str, result: Result<(), Error>) -> Result<(), Error> {
    println!("== {name}");
    result
}

fn cargo(arguments: &[&str]) -> Result<(), Error> {
    println!("== cargo {}", arguments.join(" "));
    let status = command(arguments).status().map_err(at(Path::new("cargo")))?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Check { command: format!("cargo {}", arguments.join(" ")), status })
    }
}

/// Whether cargo has the subcommand.
fn installed(subcommand: &str) -> bool {
    let mut command = command(&[subcommand, "--version"]);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).current_dir(crate::root());
    command
}

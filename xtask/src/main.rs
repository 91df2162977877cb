//! `cargo xtask <command>`: the repository's own chores.
//!
//! Here: picking the command and printing its outcome. Each command is a module of its own with a
//! `USAGE` line and `run(arguments)`; a new one needs its module and a row in [`COMMANDS`].

mod bench;
mod ci;
mod codegen;
mod conformance;
mod error;
mod fuzz;
mod model;
mod race;
mod sabotage;
mod schema;
mod simulate;
mod tidy;
mod torture;
mod tree;
mod trim_model;
mod vm;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::error::Error;

struct Command {
    name: &'static str,
    usage: &'static str,
    run: fn(&[String]) -> Result<(), Error>,
}

const COMMANDS: &[Command] = &[
    Command { name: "bench", usage: bench::USAGE, run: bench::run },
    Command { name: "ci", usage: ci::USAGE, run: ci::run },
    Command { name: "codegen", usage: codegen::USAGE, run: codegen::run },
    Command { name: "conformance", usage: conformance::USAGE, run: conformance::run },
    Command { name: "fuzz", usage: fuzz::USAGE, run: fuzz::run },
    Command { name: "race", usage: race::USAGE, run: race::run },
    Command { name: "sabotage", usage: sabotage::USAGE, run: sabotage::run },
    Command { name: "schema", usage: schema::USAGE, run: schema::run },
    Command { name: "simulate", usage: simulate::USAGE, run: simulate::run },
    Command { name: "tidy", usage: tidy::USAGE, run: tidy::run },
    Command { name: "torture", usage: torture::USAGE, run: torture::run },
    Command { name: "trim-model", usage: trim_model::USAGE, run: trim_model::run },
    Command { name: "vm", usage: vm::USAGE, run: vm::run },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<(), Error> {
    let (name, rest) = arguments.split_first().ok_or_else(usage)?;
    let command = COMMANDS.iter().find(|command| command.name == name).ok_or_else(usage)?;
    (command.run)(rest)
}

fn usage() -> Error {
    let lines: Vec<_> = COMMANDS.iter().map(|c| format!("  cargo xtask {} {}", c.name, c.usage)).collect();
    Error::Usage(lines.join("\n"))
}

/// The repository's root, whatever folder the command is started from.
fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies below the root").to_path_buf()
}

/// What runs the system tests: with their packages, where `./test` has put them.
fn python() -> PathBuf {
    let python = root().join("target/python/bin/python3");
    if python.is_file() { python } else { PathBuf::from("python3") }
}

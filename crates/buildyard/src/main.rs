//! The one binary: reads configuration, wires the rooms together, speaks to the terminal. No behaviour of its own.

mod admin;
mod aws_environment;
mod builds;
mod caches;
mod check;
mod clean;
mod collector;
mod config;
mod credentials;
mod environment_report;
mod folders;
mod forwarding;
mod image_command;
mod images;
mod kept;
mod leftovers;
mod logs;
mod opening;
mod pulls;
mod run;
mod screen;
mod serve;
mod shell;
mod store_settings;
mod terminal;
mod toolchains;
mod traces;
mod transfer;
mod usage_report;
mod users;
mod watching;
mod why;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// AWS CodeBuild on your own machines.
#[derive(Debug, Parser)]
#[command(name = "buildyard", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run the build of a folder here and now: no server, no daemon, no Docker.
    ///
    /// Exit codes: 0 SUCCEEDED, 1 FAILED, 2 wrong usage, 3 FAULT (ours, not the build's), 124 TIMED_OUT, 130 STOPPED.
    Run(Box<run::Arguments>),
    /// Check buildspecs: what a build would refuse, and what is hardly meant.
    ///
    /// Exit codes: 0 nothing or only warnings, 1 errors (with --strict warnings too), 2 wrong usage or a file that cannot be read.
    Check(check::Arguments),
    /// Open a shell in the environment of a running build, or of the latest local one as it ended.
    ///
    /// Exit codes: the command's, or 2 if it could not be run.
    Shell(shell::Arguments),
    /// Remove the snapshots that local builds keep, or list them.
    Clean(clean::Arguments),
    /// Fetch, list and remove the images that builds run in.
    Image(image_command::Arguments),
    /// List or remove what builds have cached on this host.
    Cache(caches::Arguments),
    /// Serve CodeBuild, S3, CloudWatch Logs, Parameter Store, Secrets Manager and STS on one port.
    Serve(config::Flags),
    /// Say what a build waits for, what it does, or why it ended as it did.
    Why(builds::Asked),
    /// Print a build's log, and with --follow go on until the build has ended.
    ///
    /// Exit codes: 0, or with --follow those of `run`; 4 if the log could not be read to its end.
    Logs(logs::Arguments),
    /// Change a running server: its access keys.
    Admin(admin::Arguments),
    /// Print shell text that points AWS clients at the server: eval "$(buildyard env)".
    Env(config::Flags),
    /// Run one build; for Buildyard's own use.
    #[command(hide = true)]
    Agent {
        /// Wait for the build's folder on standard input, with what is prepared under this name.
        #[arg(long, value_name = "NAME", conflicts_with = "folder")]
        wait: Option<String>,
        #[arg(required_unless_present = "wait")]
        folder: Option<PathBuf>,
    },
    /// Move objects for a build; for Buildyard's own use.
    #[command(hide = true)]
    Transfer(transfer::Arguments),
    /// Fetch an image for a server; for Buildyard's own use.
    #[command(hide = true)]
    Pull,
}

impl Command {
    /// It makes containers, or works on what they have written, and so needs all ids that they use. An agent has those of who started it.
    fn has_to_do_with_containers(&self) -> bool {
        matches!(
            self,
            Command::Run(_)
                | Command::Shell(_)
                | Command::Clean(_)
                | Command::Image(_)
                | Command::Cache(_)
                | Command::Serve(_)
        )
    }
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if command.has_to_do_with_containers()
        && let Err(error) = container::take_subordinate_ids()
    {
        eprintln!("buildyard: builds have one user id: {error}");
    }
    match command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::check(&arguments),
        Command::Shell(arguments) => shell::shell(&arguments),
        Command::Clean(arguments) => told(clean::clean(&arguments)),
        Command::Image(arguments) => told(image_command::image(&arguments)),
        Command::Cache(arguments) => told(caches::cache(&arguments)),
        Command::Serve(flags) => told(serve::serve(flags)),
        Command::Why(arguments) => told(why::why(&arguments)),
        Command::Logs(arguments) => logs::logs(&arguments),
        Command::Admin(arguments) => told(admin::admin(arguments)),
        Command::Env(flags) => told(config::Settings::read(flags).and_then(|settings| {
            print!("{}", credentials::environment(&settings)?);
            Ok(())
        })),
        Command::Transfer(arguments) => transfer::transfer(&arguments),
        Command::Pull => pulls::process::pull(),
        Command::Agent { folder: Some(folder), .. } => agent::main(&folder),
        Command::Agent { folder: None, wait } => agent::wait_and_run(&wait.unwrap_or_default()),
    }
}

fn told(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("buildyard: {message}");
            ExitCode::FAILURE
        }
    }
}

//! The first process of an environment that is not of our making, such as Docker's: it finds its agent and does what that asks for.
//! All of it is the agent's and the container's; this is a program of its own because it is linked statically, and small.

use std::process::ExitCode;

fn main() -> ExitCode {
    agent::brought::init()
}

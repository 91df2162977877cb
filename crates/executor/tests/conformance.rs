//! What every executor has to do, said once: a table of cases that see an executor through its contract alone (`executor::Executor`),
//! run against each that can be had here.
//!
//! The agents of real executors are this program executed again, and they must have one thread; so this is no ordinary test harness.
//! An executor is one more row in `subject.rs`, a case one more line in a list of cases.

#![allow(clippy::unwrap_used)]

#[path = "conformance/adoption.rs"]
mod adoption;
#[path = "conformance/cancellation.rs"]
mod cancellation;
#[path = "conformance/files.rs"]
mod files;
#[path = "conformance/isolation.rs"]
mod isolation;
#[path = "conformance/leaks.rs"]
mod leaks;
#[path = "conformance/lifecycle.rs"]
mod lifecycle;
#[path = "conformance/limits.rs"]
mod limits;
#[path = "conformance/signals.rs"]
mod signals;
#[path = "conformance/streams.rs"]
mod streams;
#[path = "conformance/subject.rs"]
mod subject;
#[path = "conformance/users.rs"]
mod users;
#[path = "conformance/world.rs"]
mod world;

use std::path::Path;
use std::process::ExitCode;

use subject::Subject;
use world::World;

/// What an executor must have for a case to mean something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing but the contract: every executor answers, the scripted one too.
    Contract,
    /// Commands run somewhere. The scripted executor has no such place, and nothing to say about it.
    Environment,
    /// More users than one inside. An ordinary user's own container has one, unless the host has set more apart.
    Users,
    /// Limits that somebody holds, which takes cgroups that the executor may write to.
    Limits,
    /// Containers that may be privileged.
    Privileges,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    name: &'static str,
    needs: Needs,
    run: fn(&World),
}

/// Makes a list of cases of functions, grouped by what they need.
macro_rules! cases {
    ($($needs:ident: $($name:ident),+ $(,)?);+ $(;)?) => {
        pub(crate) const CASES: &[crate::Case] = &[$($(crate::Case {
            name: concat!(module_path!(), "::", stringify!($name)),
            needs: crate::Needs::$needs,
            run: $name,
        },)+)+];
    };
}
pub(crate) use cases;

fn all_cases() -> impl Iterator<Item = &'static Case> {
    [
        lifecycle::CASES,
        adoption::CASES,
        cancellation::CASES,
        streams::CASES,
        signals::CASES,
        limits::CASES,
        users::CASES,
        files::CASES,
        isolation::CASES,
        leaks::CASES,
    ]
    .into_iter()
    .flatten()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["agent", "--wait", name] => return agent::wait_and_run(name),
        ["agent", folder] => return agent::main(Path::new(folder)),
        ["--server", subject, folder] => return world::be_a_server(subject, Path::new(folder)),
        _ => {}
    }
    Subject::take_ids();
    let is_exact = words.contains(&"--exact");
    let filters: Vec<&str> = words.iter().copied().filter(|a| !a.starts_with('-') && *a != "terse").collect();
    let is_wanted = |name: &str| {
        filters.is_empty() || filters.iter().any(|f| if is_exact { name == *f } else { name.contains(f) })
    };
    let subjects = Subject::all();
    let all = subjects.iter().flat_map(|subject| {
        all_cases()
            .filter(|case| subject.has(case.needs))
            .map(move |case| (subject.test_name(case), subject, case))
    });
    let wanted: Vec<_> = all.filter(|(name, ..)| is_wanted(name)).collect();
    if words.contains(&"--list") {
        let is_ignored = words.contains(&"--ignored");
        wanted.iter().filter(|_| !is_ignored).for_each(|(name, ..)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let mut failed = Vec::new();
    for (name, subject, case) in &wanted {
        let passed = passes(subject, case, name);
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed.extend((!passed).then_some(name));
    }
    println!("\n{} passed, {} failed", wanted.len() - failed.len(), failed.len());
    failed.iter().for_each(|name| println!("    {name}"));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn passes(subject: &Subject, case: &Case, name: &str) -> bool {
    if let Some(mut command) = subject.in_its_own_process(name) {
        return command.status().is_ok_and(|status| status.success());
    }
    std::panic::catch_unwind(|| (case.run)(&World::new(subject))).is_ok()
}

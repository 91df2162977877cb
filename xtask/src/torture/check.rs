//! The promises, each a check of its own, made after every fault and once more, of everything, when all is quiet.
//!
//! A check looks at what the server says now ([`Survey`]), at what it has said (the ledger), at what builds did (the witness) and at the host. What it finds
//! wrong goes into the ledger; it never stops a run.

mod ends;
mod left;
mod logs;
mod promises;
mod survey;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Instant;

use super::ledger::{Entry, Ledger};
use super::load;
use super::yard::Yard;

pub(super) use promises::PROMISES;
pub(super) use survey::Survey;

const CGROUPS: &str = "/sys/fs/cgroup";
/// Logs and artifacts that are read at the same time.
const AT_ONCE: usize = 8;

/// Everything a check may look at.
pub(super) struct Evidence<'a> {
    pub(super) yard: &'a Yard,
    pub(super) ledger: &'a Ledger,
    pub(super) survey: &'a Survey,
    /// Where the host has its control groups.
    pub(super) cgroups: &'a Path,
    /// What is left over is given time to go.
    pub(super) is_patient: bool,
}

/// What a check came to.
#[derive(Debug, Default)]
struct Found {
    /// How much there was to look at. Nothing is no evidence that a promise was kept.
    examined: usize,
    /// What is wrong, one text for each.
    wrong: Vec<String>,
}

impl Found {
    fn of(examined: usize, wrong: impl IntoIterator<Item = String>) -> Found {
        Found { examined, wrong: wrong.into_iter().collect() }
    }
}

/// One promise of the contract.
pub(super) struct Promise {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    check: fn(&Evidence) -> Found,
}

impl std::fmt::Debug for Promise {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Of what is not over, what is new, and a few others.
pub(super) fn after_fault(yard: &Yard, ledger: &Ledger) -> Result<(), String> {
    let survey = Survey::of_some(yard, ledger)?;
    make(yard, ledger, &survey);
    Ok(())
}

/// Also the files of builds that run now: what they keep for a while is not there at the end.
pub(super) fn while_building(yard: &Yard, ledger: &Ledger) -> Result<(), String> {
    let survey = Survey { is_searched: true, ..Survey::of_some(yard, ledger)? };
    make(yard, ledger, &survey);
    Ok(())
}

/// Of everything, once no build runs any more: the server is stopped for the part that concerns the host, and stays so.
pub(super) fn at_the_end(yard: &Yard, ledger: &Ledger) -> Result<(), String> {
    let open = ledger.book().open();
    open.iter().try_for_each(|build| load::ended(yard, ledger, build))?;
    at_the_end_of(yard, ledger, Survey::of_all(yard, ledger)?)
}

/// The same, of a server that has builds of which the ledger knows nothing.
pub(super) fn at_the_end_of_ours(yard: &Yard, ledger: &Ledger) -> Result<(), String> {
    at_the_end_of(yard, ledger, Survey::of_ours(yard, ledger)?)
}

fn at_the_end_of(yard: &Yard, ledger: &Ledger, survey: Survey) -> Result<(), String> {
    make(yard, ledger, &survey);
    yard.processes();
    yard.stop()?;
    make(yard, ledger, &survey.after_the_server());
    Ok(())
}

fn make(yard: &Yard, ledger: &Ledger, survey: &Survey) {
    let evidence = Evidence { yard, ledger, survey, cgroups: Path::new(CGROUPS), is_patient: true };
    PROMISES.iter().for_each(|promise| examine(promise, &evidence));
    survey.audited.iter().for_each(|build| {
        if let Some(known) = ledger.book().builds.get_mut(build) {
            known.is_audited = true;
        }
    });
}

fn examine(promise: &Promise, evidence: &Evidence) {
    let (found, ledger) = ((promise.check)(evidence), evidence.ledger);
    if found.examined > 0 {
        ledger.book().examined.insert(promise.name);
    }
    found.wrong.into_iter().for_each(|what| ledger.violation(promise.name, what));
}

/// Does something to each, in the same order, several at a time.
fn in_parallel<T: Sync, R: Send>(things: &[T], each: impl Fn(&[T]) -> Vec<R> + Sync) -> Vec<R> {
    let share = things.len().div_ceil(AT_ONCE).max(1);
    std::thread::scope(|scope| {
        let each = &each;
        let workers: Vec<_> = things.chunks(share).map(|some| scope.spawn(move || each(some))).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a check does not panic")).collect()
    })
}

/// Holds an answer of BatchGetBuilds, asked for at a time, against what had been seen by then (P2), and remembers it.
pub(super) fn observe(ledger: &Ledger, answer: &serde_json::Value, asked: Instant) {
    let builds = answer["builds"].as_array().map(Vec::as_slice).unwrap_or_default();
    for build in builds {
        let wrong = ends::went_back(ledger, build, asked);
        wrong.into_iter().for_each(|what| ledger.violation("P2", what));
        let (id, status) =
            (build["id"].as_str().unwrap_or_default(), build["buildStatus"].as_str().unwrap_or_default());
        let is_new = ledger.book().builds.get(id).is_some_and(|known| known.ended.is_none());
        if is_new && build["buildComplete"] == true {
            ledger.write(Entry::Ended { build: id.to_owned(), status: status.to_owned() });
        }
    }
    let missing = answer["buildsNotFound"].as_array().map(Vec::as_slice).unwrap_or_default();
    for id in missing {
        ledger.violation("P1", format!("{id} was accepted and is not found"));
    }
}

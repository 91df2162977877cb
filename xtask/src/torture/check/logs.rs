//! P5: logs are what was printed.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::torture::ledger::{Hurt, Known};
use crate::torture::witness::Witness;

use super::{Evidence, Found};

/// A log may lack so much of its end when its disk failed.
const LOST_MAX: Duration = Duration::from_secs(1);

pub(super) fn logs_are_whole(evidence: &Evidence) -> Found {
    let book = evidence.ledger.book();
    let witness = &evidence.yard.witness;
    let wrong = evidence.survey.logs.iter().filter_map(|(id, log)| {
        let known = book.builds.get(id)?;
        match log {
            // A build that never began has none.
            Err(_) if witness.of(id).is_empty() => None,
            Err(reason) => Some(format!("the log of {id} cannot be read: {reason}")),
            Ok(log) => {
                let status = evidence.survey.builds[id]["buildStatus"].as_str()?;
                let proven = proven(witness, id, known, status);
                wrong_log(known, status, log, proven).map(|what| format!("the log of {id} ({status}) {what}"))
            }
        }
    });
    Found::of(evidence.survey.logs.len(), wrong)
}

/// The last command of which it is certain that the log has all that was printed before it. Where an agent is killed that is the last one that began; where a disk
/// fails and the build ends as a fault, it is one that began more than a second before.
fn proven(witness: &Witness, id: &str, known: &Known, status: &str) -> Option<u32> {
    let failed = known.hurt_since(Hurt::Disk).filter(|_| status == "FAULT");
    match failed {
        Some(at) => witness.last(id, Some(at.checked_sub(LOST_MAX)?)),
        None => witness.last(id, None),
    }
}

fn wrong_log(known: &Known, status: &str, log: &str, proven: Option<u32>) -> Option<String> {
    let said: Vec<&str> = log.lines().filter(|line| is_printed_by_commands(line)).collect();
    let phases: Vec<&str> =
        log.lines().filter_map(|line| line.split_once("Entering phase ")).map(|(_, phase)| phase).collect();
    let once: BTreeSet<_> = phases.iter().collect();
    if once.len() != phases.len() {
        return Some(format!("enters phases twice: {phases:?}"));
    }
    if let Some(command) = proven
        && !phases.contains(&known.kind.phase(command))
    {
        return Some(format!("lacks the phase of command {command}, which ran: {phases:?}"));
    }
    let expected = known.kind.lines();
    // Of a build that ended as it should, all; of another, what there was before.
    let least = match status == "SUCCEEDED" || (status == known.kind.end() && known.hurts.is_empty()) {
        true => expected.len(),
        false => proven.map_or(0, |command| known.kind.lines_before(command)),
    };
    if said.len() < least {
        return Some(format!("has {} lines of {least} that were printed: {:?}", said.len(), last_of(&said)));
    }
    let is_right =
        said.len() <= expected.len() && said.iter().zip(&expected).all(|(said, line)| said == line);
    (!is_right)
        .then(|| format!("has {} lines that are not what was printed: {:?}", said.len(), last_of(&said)))
}

/// Neither ours nor the shell's, which says it of a full disk.
fn is_printed_by_commands(line: &str) -> bool {
    !line.is_empty() && !line.starts_with("[Container]") && !line.ends_with(": No space left on device")
}

fn last_of<'a>(lines: &'a [&'a str]) -> &'a [&'a str] {
    &lines[lines.len().saturating_sub(3)..]
}

//! What has been promised, and whether it was kept: everything that clients were answered, everything that was ever stored,
//! and the rules between them. The rules carry the names of the promises in docs/reliability.md.

use std::collections::{BTreeMap, BTreeSet};

use agent::journal::Outcome;
use engine::Engine;
use engine::lifecycle::{Phase, State};
use store::records::Build;

use crate::clients::{Answer, Ask, MARK, Plan};

/// An idempotency token holds for so long (AP-008).
const TOKEN_MS: i64 = 5 * 60 * 1000;
/// A stopped build's agent is gone after so long.
pub(crate) const STOP_MS: i64 = 10_000;

type Check = Result<(), String>;

/// Which promise, and what became of it.
macro_rules! keep {
    ($holds:expr, $promise:literal, $($what:tt)*) => {
        if !$holds {
            return Err(format!("{}: {}", $promise, format!($($what)*)));
        }
    };
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) rows: BTreeMap<String, Row>,
    /// Ids in the order of acceptance.
    pub(crate) order: Vec<String>,
    pub(crate) deleting: BTreeSet<String>,
    numbers: BTreeMap<String, u64>,
    starts: BTreeMap<String, Start>,
    retries: BTreeMap<String, Retries>,
    stops: BTreeMap<String, i64>,
    overtaken: BTreeMap<String, usize>,
    /// Which server lives now.
    pub(crate) life: u64,
    /// Uuids of builds whose end was stored since this was last looked at.
    pub(crate) just_over: Vec<String>,
    pub(crate) counts: Counts,
}

/// What a history came to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) builds: u64,
    pub(crate) answers: u64,
    pub(crate) kills: u64,
    pub(crate) faults: u64,
}

/// A build as it was last stored.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) project: String,
    pub(crate) uuid: String,
    pub(crate) complete: bool,
    pub(crate) gone: bool,
    document: String,
    lifecycle: String,
    state: State,
    mark: String,
    /// Id of the try before.
    previous: Option<String>,
    /// Id of the try that follows.
    next: Option<String>,
    /// The server's life in which it was accepted, and when.
    since: (u64, i64),
    patience_ms: i64,
}

/// All StartBuild requests with one mark.
#[derive(Debug, Default)]
struct Start {
    token: Option<String>,
    /// When the first was sent, and whether the wall clock, by which tokens expire, has jumped since.
    sent_ms: i64,
    has_jumped: bool,
    sent: usize,
    /// Neither refused nor failed.
    perhaps: usize,
    answered: BTreeSet<String>,
}

impl Start {
    /// Whether there may be but one build of them.
    fn token_holds(&self, uptime_ms: i64) -> bool {
        self.token.is_some() && !self.has_jumped && uptime_ms - self.sent_ms < TOKEN_MS
    }
}

/// Of builds with one mark.
#[derive(Debug, Default)]
struct Retries {
    perhaps: usize,
}

impl Ledger {
    // ---- what clients do ------------------------------------------------------------------------------------

    pub(crate) fn sent(&mut self, ask: &Ask, uptime_ms: i64) {
        match ask {
            Ask::Start { token, mark, .. } => {
                let start = self.starts.entry(mark.clone()).or_default();
                if start.sent == 0 {
                    (start.sent_ms, start.token) = (uptime_ms, token.clone());
                }
                start.sent += 1;
                start.perhaps += 1;
            }
            Ask::Retry { id, .. } => self.retries_of(id).perhaps += 1,
            Ask::Delete { id } => {
                self.deleting.insert(id.clone());
            }
            Ask::Stop { .. } | Ask::Get { .. } | Ask::List => {}
        }
    }

    fn retries_of(&mut self, id: &str) -> &mut Retries {
        let mark = self.rows[id].mark.clone();
        self.retries.entry(mark).or_default()
    }

    /// The wall clock jumps.
    pub(crate) fn jumped(&mut self) {
        self.starts.values_mut().for_each(|start| start.has_jumped = true);
    }

    pub(crate) fn answered(&mut self, ask: &Ask, answer: &Answer, uptime_ms: i64) -> Check {
        self.counts.answers += 1;
        match (ask, answer) {
            (Ask::Start { mark, .. }, Answer::Build(build)) => {
                let id = build.id.clone().unwrap();
                self.must_be_kept(&id, "StartBuild")?;
                let start = self.starts.get_mut(mark).unwrap();
                start.answered.insert(id);
                let start = &self.starts[mark];
                // Of a token's requests one makes a build, and others are told of it.
                let holds = start.token_holds(uptime_ms);
                let is_one = start.answered.len() == 1 || !start.answered.is_disjoint(&self.deleting);
                keep!(!holds || is_one, "P4", "one token was answered with {:?}", start.answered);
                let made = self.rows.iter().filter(|(_, row)| row.mark == *mark && row.previous.is_none());
                let retries = self.retries.get(mark).map_or(0, |retries| retries.perhaps);
                // A token goes with its build, whether or not anybody was told of that.
                let may_be_more = made.clone().any(|(id, _)| self.deleting.contains(id));
                let made = made.count();
                let is_one = made <= 1 + retries || may_be_more;
                keep!(!holds || is_one, "P4", "the token of {mark} came to {made} builds");
            }
            (Ask::Start { mark, .. }, Answer::Refused(_) | Answer::Failed(_)) => {
                self.starts.get_mut(mark).unwrap().perhaps -= 1;
            }
            (Ask::Retry { .. }, Answer::Build(build)) => {
                self.must_be_kept(build.id.as_ref().unwrap(), "RetryBuild")?;
            }
            (Ask::Retry { id, .. }, Answer::Refused(_) | Answer::Failed(_)) => {
                self.retries_of(id).perhaps -= 1;
            }
            (Ask::Stop { id }, Answer::Build(build)) => {
                let row = &self.rows[id];
                let is_known = row.gone || row.complete || row.state.stop_requested;
                keep!(is_known, "P7", "the stop of {id} was answered and is not stored");
                if build.build_complete != Some(true) {
                    self.stops.entry(row.uuid.clone()).or_insert(uptime_ms + STOP_MS);
                }
            }
            (Ask::Get { id }, Answer::Found(found)) => {
                let may_be_gone = self.deleting.contains(id);
                keep!(found.is_some() || may_be_gone, "P1", "{id} was answered once and is not found");
            }
            _ => {}
        }
        Ok(())
    }

    fn must_be_kept(&self, id: &str, operation: &str) -> Check {
        keep!(self.rows.contains_key(id), "P1", "{operation} was answered with {id}, which is not stored");
        Ok(())
    }

    // ---- what is stored -------------------------------------------------------------------------------------

    /// Looks at everything there is, as it would be found after a kill.
    pub(crate) fn stored(&mut self, builds: Vec<Build>, uptime_ms: i64) -> Check {
        let ids: BTreeSet<String> = builds.iter().map(|build| build.id.clone()).collect();
        for (id, row) in &mut self.rows {
            if !row.gone && !ids.contains(id) {
                keep!(self.deleting.contains(id), "P1", "{id} is gone");
                row.gone = true;
            }
        }
        builds.into_iter().try_for_each(|build| self.stored_build(build, uptime_ms))
    }

    fn stored_build(&mut self, build: Build, uptime_ms: i64) -> Check {
        let Some(row) = self.rows.get_mut(&build.id) else { return self.accepted(build, uptime_ms) };
        if row.document == build.document && row.lifecycle == build.lifecycle {
            return Ok(());
        }
        let id = &build.id;
        keep!(!row.complete, "P2", "{id} was over and has changed: {} then {}", row.document, build.document);
        let state: State = serde_json::from_str(&build.lifecycle).unwrap();
        check_state(id, &build, &state)?;
        keep!(goes_forward(&row.state, &state), "P2", "{id} went back: {:?} then {state:?}", row.state);
        row.next = state.next_try.as_deref().map(id_of);
        if build.complete {
            self.just_over.push(row.uuid.clone());
            row.check_time(id, &state, self.life, uptime_ms)?;
        }
        (row.document, row.lifecycle, row.complete) = (build.document, build.lifecycle, build.complete);
        row.state = state;
        Ok(())
    }

    fn accepted(&mut self, build: Build, uptime_ms: i64) -> Check {
        let Build { id, project, number, document, lifecycle, complete, .. } = build.clone();
        let last = self.numbers.insert(project.clone(), number).unwrap_or(0);
        keep!(number > last, "P2", "build number {number} of {project} comes after {last}");
        let state: State = serde_json::from_str(&lifecycle).unwrap();
        check_state(&id, &build, &state)?;
        let shown: api::codebuild::Build = serde_json::from_str(&document).unwrap();
        let variables =
            shown.environment.clone().and_then(|one| one.environment_variables).unwrap_or_default();
        let mark = variables.into_iter().find(|variable| variable.name.as_deref() == Some(MARK));
        let previous = shown.auto_retry_config.clone().and_then(|config| config.previous_auto_retry);
        let (_, uuid) = id.split_once(':').unwrap();
        let (previous, next) = (previous.as_deref().map(id_of), None);
        let (uuid, mark) = (uuid.to_owned(), mark.unwrap().value.unwrap());
        let patience_ms = i64::from(shown.queued_timeout_in_minutes.unwrap_or_default()) * 60_000;
        let row = Row {
            project,
            uuid,
            complete,
            gone: false,
            document,
            lifecycle,
            state,
            mark,
            previous,
            next,
            since: (self.life, uptime_ms),
            patience_ms,
        };
        self.rows.insert(id.clone(), row);
        self.order.push(id);
        self.counts.builds += 1;
        Ok(())
    }

    // ---- what runs ------------------------------------------------------------------------------------------

    /// One whose end and deletion were stored at once was never seen complete.
    pub(crate) fn is_over(&self, uuid: &str) -> bool {
        self.rows.values().any(|row| row.uuid == uuid && (row.complete || row.gone))
    }

    /// Looks at the builds whose commands may be running.
    pub(crate) fn running(&self, uuids: &[String], plans: &[Plan], limits: (usize, usize)) -> Check {
        let rows: Vec<&Row> = self.rows.values().filter(|row| uuids.contains(&row.uuid)).collect();
        keep!(rows.len() <= limits.0, "limits", "{} builds run, of {} at most", rows.len(), limits.0);
        let mut large = 0;
        for plan in plans {
            let running = rows.iter().filter(|row| row.project == plan.name).count();
            let limit = plan.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
            keep!(running <= limit, "limits", "{running} builds of {} run, of {limit}", plan.name);
            large += if plan.is_large { running } else { 0 };
        }
        keep!(large <= limits.1, "limits", "{large} large builds run, of {}", limits.1);
        let over = rows.iter().find(|row| row.complete || row.gone);
        keep!(over.is_none(), "P2", "{over:?} is over and its agent goes on");
        Ok(())
    }

    /// Whether builds that were stopped are. While something is broken, their time does not run.
    pub(crate) fn stopped(&mut self, running: &[String], uptime_ms: i64, is_sound: bool) -> Check {
        for (uuid, deadline) in &mut self.stops {
            if !is_sound {
                *deadline = uptime_ms + STOP_MS;
            }
            let in_time = uptime_ms <= *deadline || !running.contains(uuid);
            keep!(in_time, "P7", "{uuid} was stopped {STOP_MS} ms ago and its agent goes on");
        }
        Ok(())
    }

    /// A build is about to be given an agent: nobody of its project may have waited longer, nor anybody for too long.
    pub(crate) fn launched(
        &mut self,
        uuid: &str,
        plans: &[Plan],
        engine: &Engine,
        was_unknown: impl Fn(&str) -> bool,
    ) -> Check {
        let place = self.order.iter().position(|id| self.rows[id].uuid == uuid).unwrap();
        let project = self.rows[&self.order[place]].project.clone();
        let waits = |id: &&String| !self.rows[*id].complete && engine.is_waiting(id);
        let earlier = self.order[..place].iter().filter(|id| self.rows[*id].project == project).find(waits);
        // Whoever had to be asked after for a while waits behind those that came meanwhile.
        let fair = earlier.is_none_or(|id| was_unknown(&self.rows[id].uuid));
        keep!(fair, "FIFO", "{uuid} of {project} starts, and {earlier:?} waits");
        self.overtaken.remove(&project);
        for plan in plans.iter().filter(|plan| plan.name != project && !plan.is_large) {
            let mut theirs = self.order.iter().filter(|id| self.rows[*id].project == plan.name);
            let is_idle = theirs.clone().all(|id| self.rows[id].complete || engine.is_waiting(id));
            if is_idle && theirs.any(|id| waits(&id)) {
                let times = self.overtaken.entry(plan.name.clone()).or_default();
                *times += 1;
                keep!(
                    *times <= 2 * plans.len() + 4,
                    "starvation",
                    "{} was overtaken {times} times",
                    plan.name
                );
            } else {
                self.overtaken.remove(&plan.name);
            }
        }
        Ok(())
    }

    /// Whether what a build's agent says and what is stored agree.
    pub(crate) fn agrees(&self, uuid: &str, said: Outcome) -> Check {
        let differs = self.rows.values().find(|row| row.uuid == uuid && row.state.outcome != Some(said));
        keep!(differs.is_none(), "P2", "the agent says {said:?}: {differs:?}");
        Ok(())
    }

    // ---- the end --------------------------------------------------------------------------------------------

    /// Nothing goes on any more. `starts` is how many agents each build had, `outcome` what its agent says.
    pub(crate) fn ended(&self, starts: impl Fn(&str) -> u32, uptime_ms: i64) -> Check {
        for (id, row) in &self.rows {
            keep!(row.complete || row.gone, "liveness", "{id} does not end: {:?}", row.state);
            keep!(starts(&row.uuid) <= 1, "P3", "the commands of {id} ran {} times", starts(&row.uuid));
            if row.gone && !row.complete {
                // Its end was stored and it was deleted in one commit: nobody has seen what followed.
                continue;
            }
            let successors = self.rows.values().filter(|next| next.previous.as_ref() == Some(id)).count();
            keep!(successors == usize::from(row.next.is_some()), "P4", "{id} is followed by {successors}");
            let follows =
                |next: &String| self.rows.get(next).is_some_and(|next| next.previous.as_ref() == Some(id));
            keep!(row.next.iter().all(follows), "P4", "{id} is not followed by {:?}", row.next);
        }
        for (mark, start) in &self.starts {
            let first = |row: &&Row| row.mark == *mark && row.previous.is_none();
            let made = self.rows.values().filter(first).count();
            let retries = self.retries.get(mark).map_or(0, |retries| retries.perhaps);
            let holds = start.token_holds(uptime_ms);
            let was_deleted = self.rows.iter().any(|(id, row)| first(&row) && self.deleting.contains(id));
            let starts = if holds && !was_deleted { start.perhaps.min(1) } else { start.perhaps };
            keep!(made <= starts + retries, "P4", "{mark} came to {made} builds, not {starts} and {retries}");
        }
        Ok(())
    }
}

impl Row {
    /// No wall clock ends a build's time in the queue: it has waited for as long as it may. (A server that takes a build over
    /// has nothing but the wall clock to tell how long it has waited.)
    fn check_time(&self, id: &str, state: &State, life: u64, uptime_ms: i64) -> Check {
        let is_late = state.outcome == Some(Outcome::TimedOut) && !state.was_in(Phase::Provisioning);
        let waited_ms = uptime_ms - self.since.1;
        let in_time = !is_late || self.since.0 != life || waited_ms >= self.patience_ms;
        keep!(in_time, "timeouts", "{id} waited for {waited_ms} of {} ms and is TIMED_OUT", self.patience_ms);
        Ok(())
    }
}

fn check_state(id: &str, build: &Build, state: &State) -> Check {
    let expected = state.outcome.map_or("IN_PROGRESS", Outcome::name);
    keep!(build.status == expected, "P2", "{id} is {} and its state {expected}", build.status);
    keep!(build.complete == state.outcome.is_some(), "P2", "{id} is half over: {state:?}");
    let ordered = state.phases.windows(2).all(|pair| {
        let ended = pair[0].end.as_ref();
        pair[0].phase < pair[1].phase && ended.is_some_and(|end| end.at_ms == pair[1].started_ms)
    });
    keep!(ordered, "P2", "phases of {id} are not in order: {:?}", state.phases);
    Ok(())
}

/// What was is still so, and what was not over may be.
fn goes_forward(before: &State, after: &State) -> bool {
    let Some((current, done)) = before.phases.split_last() else { return true };
    let Some(same) = after.phases.get(done.len()) else { return false };
    after.phases.starts_with(done)
        && same.phase == current.phase
        && same.started_ms == current.started_ms
        && (current.end.is_none() || same.end == current.end)
        && (after.launched || !before.launched)
        && (after.stop_requested || !before.stop_requested)
}

fn id_of(arn: &str) -> String {
    arn.rsplit_once('/').map_or(arn, |(_, id)| id).to_owned()
}

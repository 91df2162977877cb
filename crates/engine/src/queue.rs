//! Which build starts when, under limits: first come, first served within a project, and fair among projects. Pure; held by
//! the engine behind one lock.
//!
//! A free place goes to the project with the fewest running builds, and among those to the one whose turn was longest
//! ago. So no project can starve another by the number or the length of its builds.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::Bound;

pub(crate) use standing::{Limit, Standing};

mod standing;
#[cfg(test)]
mod tests;

/// How many builds there may be.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    /// How many run at once.
    pub(crate) concurrent: usize,
    /// How many wait; counted with those being accepted just now.
    pub(crate) waiting: usize,
    /// How many of a compute type run at once; others have no limit of their own (LC-064).
    pub(crate) of_compute_types: BTreeMap<String, usize>,
}

/// A build in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) build_id: String,
    /// The account is part of it: projects of two accounts may have one name.
    pub(crate) project: String,
    /// The project's `concurrentBuildLimit`, if it has one.
    pub(crate) project_limit: Option<usize>,
    pub(crate) compute_type: String,
    /// When its `queuedTimeoutInMinutes` is over, in the clock's uptime.
    pub(crate) deadline: i64,
}

/// What a running build takes up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) project: String,
    pub(crate) compute_type: String,
}

/// The waiting builds of one project. Never empty.
#[derive(Debug, Default)]
struct Lane {
    /// Whose turn it is: the least goes first, and is given a new one then.
    turn: u64,
    /// Places in the queue, by compute type: one that is full does not hold back the others.
    places: BTreeMap<String, BTreeSet<u64>>,
}

/// Builds that wait and builds that run.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    limits: Limits,
    being_accepted: usize,
    arrivals: u64,
    turns: u64,
    /// By place, which is in order of arrival.
    waiting: BTreeMap<u64, Waiting>,
    /// The place of each waiting build.
    places: HashMap<String, u64>,
    deadlines: BTreeSet<(i64, u64)>,
    /// By project.
    lanes: HashMap<String, Lane>,
    running: HashMap<String, Running>,
    running_of_project: HashMap<String, usize>,
    running_of_compute_type: HashMap<String, usize>,
}

/// How much there is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Builds in the queue.
    pub waiting: usize,
    /// Builds that were let through and are not over.
    pub running: usize,
}

impl Queue {
    pub(crate) fn new(limits: Limits) -> Queue {
        Queue { limits, ..Queue::default() }
    }

    /// Keeps a place for a build that is being accepted; false if there is none left. The build joins with
    /// [`Queue::arrive`], and the reservation is given back with [`Queue::give_back`] in any case.
    pub(crate) fn reserve(&mut self) -> bool {
        // Builds that can start at once pass through the queue without filling it.
        let free = self.limits.concurrent.saturating_sub(self.running.len());
        let fits = self.waiting.len() + self.being_accepted < self.limits.waiting + free;
        self.being_accepted += usize::from(fits);
        fits
    }

    /// Keeps a place, full or not: for the build that follows one which is just leaving.
    pub(crate) fn reserve_beyond(&mut self) {
        self.being_accepted += 1;
    }

    pub(crate) fn give_back(&mut self) {
        self.being_accepted = self.being_accepted.saturating_sub(1);
    }

    /// Puts a build at the end of its project's builds. A project that had none waiting has its turn after those that had.
    pub(crate) fn arrive(&mut self, build: Waiting) {
        self.arrivals += 1;
        let place = self.arrivals;
        if !self.lanes.contains_key(&build.project) {
            let turn = self.next_turn();
            self.lanes.insert(build.project.clone(), Lane { turn, ..Lane::default() });
        }
        let lane = self.lanes.get_mut(&build.project).expect("it was put there if it was missing");
        lane.places.entry(build.compute_type.clone()).or_default().insert(place);
        self.places.insert(build.build_id.clone(), place);
        self.deadlines.insert((build.deadline, place));
        self.waiting.insert(place, build);
    }

    /// Counts a build that runs already (adopted after a restart) without asking any limit.
    pub(crate) fn occupy(&mut self, build_id: &str, running: Running) {
        *self.running_of_project.entry(running.project.clone()).or_default() += 1;
        *self.running_of_compute_type.entry(running.compute_type.clone()).or_default() += 1;
        self.running.insert(build_id.to_string(), running);
    }

    /// Takes out every build that may start now, in the order of their turns; they run from here on.
    ///
    /// A build held back by its project's limit or its compute type's does not hold back those behind it which are not.
    pub(crate) fn admit(&mut self) -> Vec<String> {
        let mut admitted = Vec::new();
        while self.running.len() < self.limits.concurrent
            && let Some(place) = self.next()
        {
            let build = self.take(place).expect("`next` has found it there");
            let turn = self.next_turn();
            if let Some(lane) = self.lanes.get_mut(&build.project) {
                lane.turn = turn;
            }
            let Waiting { build_id, project, compute_type, .. } = build;
            self.occupy(&build_id, Running { project, compute_type });
            admitted.push(build_id);
        }
        admitted
    }

    /// Takes a build out before it started. False if it does not wait here (any more).
    pub(crate) fn withdraw(&mut self, build_id: &str) -> bool {
        let place = self.places.get(build_id).copied();
        place.and_then(|place| self.take(place)).is_some()
    }

    /// A running build is over.
    pub(crate) fn leave(&mut self, build_id: &str) {
        if let Some(left) = self.running.remove(build_id) {
            count_down(&mut self.running_of_project, &left.project);
            count_down(&mut self.running_of_compute_type, &left.compute_type);
        }
    }

    /// Takes out the builds whose time in the queue is over.
    pub(crate) fn expire(&mut self, uptime_ms: i64) -> Vec<String> {
        let over = self.deadlines.range((Bound::Unbounded, Bound::Included((uptime_ms, u64::MAX))));
        let places: Vec<u64> = over.map(|(_, place)| *place).collect();
        places.into_iter().filter_map(|place| self.take(place)).map(|build| build.build_id).collect()
    }

    /// When the next build's time in the queue is over.
    /// How many builds wait, and how many run.
    pub(crate) fn load(&self) -> Load {
        Load { waiting: self.waiting.len(), running: self.running.len() }
    }

    pub(crate) fn next_deadline(&self) -> Option<i64> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Why a build waits, and who is before it. None if it does not wait here.
    pub(crate) fn standing(&self, build_id: &str) -> Option<Standing> {
        let place = self.places.get(build_id)?;
        Some(self.stand(*place, &self.waiting[place]))
    }

    fn next_turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    /// The place of the build that is to start next, limits of the whole apart.
    fn next(&self) -> Option<u64> {
        let full: HashSet<&str> = self.full_compute_types().collect();
        let open = self.lanes.iter().filter_map(|(project, lane)| {
            let place = self.first_of(lane, &full)?;
            let running = self.running_of(project);
            // COMPAT: LC-067 a count equal to the limit blocks.
            let fits = self.waiting[&place].project_limit.is_none_or(|limit| running < limit);
            fits.then_some((running, lane.turn, place))
        });
        open.min().map(|(_, _, place)| place)
    }

    /// The first build of a lane whose compute type is not full.
    fn first_of(&self, lane: &Lane, full: &HashSet<&str>) -> Option<u64> {
        let open = lane.places.iter().filter(|(compute_type, _)| !full.contains(compute_type.as_str()));
        open.filter_map(|(_, places)| places.first().copied()).min()
    }

    fn full_compute_types(&self) -> impl Iterator<Item = &str> {
        let limits = self.limits.of_compute_types.iter();
        limits.filter(|(name, limit)| self.running_of_type(name) >= **limit).map(|(name, _)| name.as_str())
    }

    fn running_of(&self, project: &str) -> usize {
        self.running_of_project.get(project).copied().unwrap_or_default()
    }

    fn running_of_type(&self, compute_type: &str) -> usize {
        self.running_of_compute_type.get(compute_type).copied().unwrap_or_default()
    }

    fn take(&mut self, place: u64) -> Option<Waiting> {
        let build = self.waiting.remove(&place)?;
        self.places.remove(&build.build_id);
        self.deadlines.remove(&(build.deadline, place));
        let lane = self.lanes.get_mut(&build.project).expect("a waiting build's project has a lane");
        let places = lane.places.get_mut(&build.compute_type).expect("and there a place for it");
        places.remove(&place);
        if places.is_empty() {
            lane.places.remove(&build.compute_type);
        }
        if lane.places.is_empty() {
            self.lanes.remove(&build.project);
        }
        Some(build)
    }
}

/// Counts of nothing are not kept.
fn count_down(counts: &mut HashMap<String, usize>, name: &str) {
    if let Some(count) = counts.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            counts.remove(name);
        }
    }
}

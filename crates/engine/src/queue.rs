//! Which build starts when: first come, first served, under limits. Pure; held by the engine behind one lock.

use std::collections::{BTreeMap, HashMap, HashSet};

#[cfg(test)]
mod tests;

/// A build in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) build_id: String,
    pub(crate) project: String,
    /// The project's `concurrentBuildLimit`, if it has one.
    pub(crate) project_limit: Option<usize>,
    /// When its `queuedTimeoutInMinutes` is over, in the clock's uptime.
    pub(crate) deadline: i64,
}

/// Builds that wait and builds that run.
#[derive(Debug)]
pub(crate) struct Queue {
    /// How many builds may run at once.
    concurrent_limit: usize,
    /// How many builds may wait; counted with those being accepted just now.
    waiting_limit: usize,
    being_accepted: usize,
    arrivals: u64,
    /// In order of arrival.
    waiting: BTreeMap<u64, Waiting>,
    /// The project of each running build.
    running: HashMap<String, String>,
}

impl Queue {
    pub(crate) fn new(concurrent_limit: usize, waiting_limit: usize) -> Queue {
        Queue {
            concurrent_limit,
            waiting_limit,
            being_accepted: 0,
            arrivals: 0,
            waiting: BTreeMap::new(),
            running: HashMap::new(),
        }
    }

    /// Keeps a place for a build that is being accepted; false if there is none left. The place becomes the
    /// build's with [`Queue::arrive`], or is given back with [`Queue::give_back`].
    pub(crate) fn reserve(&mut self) -> bool {
        // Builds that can start at once pass through the queue without filling it.
        let free = self.concurrent_limit.saturating_sub(self.running.len());
        let fits = self.waiting.len() + self.being_accepted < self.waiting_limit + free;
        self.being_accepted += usize::from(fits);
        fits
    }

    pub(crate) fn give_back(&mut self) {
        self.being_accepted = self.being_accepted.saturating_sub(1);
    }

    /// Puts a build at the end of the queue.
    pub(crate) fn arrive(&mut self, build: Waiting) {
        self.arrivals += 1;
        self.waiting.insert(self.arrivals, build);
    }

    /// Counts a build that runs already (adopted after a restart) without asking any limit.
    pub(crate) fn occupy(&mut self, build_id: &str, project: &str) {
        self.running.insert(build_id.to_string(), project.to_string());
    }

    /// Takes out every build that may start now, in order of arrival; they run from here on.
    ///
    /// A build held back by its project's limit does not hold back those behind it.
    pub(crate) fn admit(&mut self) -> Vec<String> {
        let mut admitted = Vec::new();
        let mut full_projects = HashSet::new();
        let mut per_project = self.running_per_project();
        let mut leaving = Vec::new();
        for (arrival, build) in &self.waiting {
            if self.running.len() + admitted.len() >= self.concurrent_limit {
                break;
            }
            if full_projects.contains(&build.project) {
                continue;
            }
            let running = per_project.entry(build.project.clone()).or_default();
            // COMPAT: LC-067 a count equal to the limit blocks.
            if build.project_limit.is_some_and(|limit| *running >= limit) {
                full_projects.insert(build.project.clone());
                continue;
            }
            *running += 1;
            leaving.push(*arrival);
            admitted.push(build.build_id.clone());
        }
        for arrival in leaving {
            let build = self.waiting.remove(&arrival).expect("seen a moment ago");
            self.running.insert(build.build_id, build.project);
        }
        admitted
    }

    /// Takes a build out before it started. False if it does not wait here (any more).
    pub(crate) fn withdraw(&mut self, build_id: &str) -> bool {
        let found = self.waiting.iter().find(|(_, build)| build.build_id == build_id);
        let arrival = found.map(|(arrival, _)| *arrival);
        arrival.is_some_and(|arrival| self.waiting.remove(&arrival).is_some())
    }

    /// A running build is over.
    pub(crate) fn leave(&mut self, build_id: &str) {
        self.running.remove(build_id);
    }

    /// Takes out the builds whose time in the queue is over.
    pub(crate) fn expire(&mut self, uptime_ms: i64) -> Vec<Waiting> {
        self.waiting.extract_if(.., |_, build| build.deadline <= uptime_ms).map(|(_, build)| build).collect()
    }

    /// When the next build's time in the queue is over.
    pub(crate) fn next_deadline(&self) -> Option<i64> {
        self.waiting.values().map(|build| build.deadline).min()
    }

    fn running_per_project(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for project in self.running.values() {
            *counts.entry(project.clone()).or_default() += 1;
        }
        counts
    }
}

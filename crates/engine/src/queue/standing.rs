//! Why a build waits: what holds it back, how many are before it, what runs. How that reads is `document`'s.

use super::{Lane, Queue, Waiting};

/// How many builds are named rather than counted.
const NAMED: usize = 5;

/// Where a waiting build stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) limit: Limit,
    /// How many builds run under that limit, and some of those that are of the same account: nobody learns of another's.
    pub(crate) running: usize,
    pub(crate) some_running: Vec<String>,
    /// From 1: which of the waiting builds it is in the order in which they would start. Under its project's limit, which of
    /// its project's.
    pub(crate) position: usize,
    /// Of how many.
    pub(crate) waiting: usize,
    /// The build of its own project that goes before it.
    pub(crate) behind: Option<String>,
}

/// What holds a waiting build back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Limit {
    /// The account's: so many builds run at once.
    Account(usize),
    /// The project's `concurrentBuildLimit`.
    Project(usize),
    /// So many builds of this compute type run at once.
    ComputeType(String, usize),
    /// None: its turn comes at any moment.
    None,
}

/// Where one of a project's waiting builds stands if places become free and no build ends: as many of its project run then
/// as do now and wait before it, and the next goes after those of projects with fewer.
#[derive(Debug, Clone, Copy)]
struct Line {
    running_then: usize,
    running_now: usize,
    turn: u64,
}

impl Queue {
    pub(super) fn stand(&self, place: u64, build: &Waiting) -> Standing {
        let limit = self.limit_of(build);
        let lane = &self.lanes[&build.project];
        let before = lane.before(place);
        let running = self.running.iter().filter(|(_, running)| match &limit {
            Limit::Project(_) => running.project == build.project,
            Limit::ComputeType(name, _) => running.compute_type == *name,
            Limit::Account(_) | Limit::None => true,
        });
        let (mut count, mut some_running) = (0, Vec::new());
        for (id, running) in running {
            count += 1;
            if account(&running.project) == account(&build.project) {
                some_running.push(id.clone());
            }
        }
        some_running.sort_unstable();
        some_running.truncate(NAMED);
        let (position, waiting) = match limit {
            Limit::Project(_) => (before + 1, lane.len()),
            _ => (self.before(build, lane, before) + 1, self.waiting.len()),
        };
        Standing {
            limit,
            running: count,
            some_running,
            position,
            waiting,
            behind: lane.last_before(place).map(|place| self.waiting[&place].build_id.clone()),
        }
    }

    /// What holds the build back first: its own project, then its compute type, then the whole.
    fn limit_of(&self, build: &Waiting) -> Limit {
        let of_type = self.limits.of_compute_types.get(&build.compute_type);
        match (build.project_limit, of_type) {
            (Some(limit), _) if self.running_of(&build.project) >= limit => Limit::Project(limit),
            (_, Some(limit)) if self.running_of_type(&build.compute_type) >= *limit => {
                Limit::ComputeType(build.compute_type.clone(), *limit)
            }
            _ if self.running.len() >= self.limits.concurrent => Limit::Account(self.limits.concurrent),
            _ => Limit::None,
        }
    }

    /// How many builds would start before this one, which has so many of its own project before it.
    fn before(&self, build: &Waiting, own: &Lane, before: usize) -> usize {
        let running_now = self.running_of(&build.project);
        let line = Line { running_then: running_now + before, running_now, turn: own.turn };
        let others = self.lanes.iter().filter(|(project, _)| **project != build.project);
        before + others.map(|(project, lane)| self.ahead(project, lane, line)).sum::<usize>()
    }

    /// How many builds of another project's lane go before `line`; those its own limit holds back do not.
    fn ahead(&self, project: &str, lane: &Lane, line: Line) -> usize {
        let running = self.running_of(project);
        // As many running means that whose turn is older goes first. A project that had more to begin with has waited since.
        let older = running > line.running_now || (running == line.running_now && lane.turn < line.turn);
        let rounds = (line.running_then + usize::from(older)).saturating_sub(running);
        let first = lane.first().map(|place| &self.waiting[&place]);
        let allowed = first.and_then(|build| build.project_limit).map(|limit| limit.saturating_sub(running));
        rounds.min(lane.len()).min(allowed.unwrap_or(usize::MAX))
    }
}

/// Projects are named in the queue with their account before them.
fn account(project: &str) -> &str {
    project.split_once(':').map_or("", |(account, _)| account)
}

impl Lane {
    fn len(&self) -> usize {
        self.places.values().map(|places| places.len()).sum()
    }

    fn first(&self) -> Option<u64> {
        self.places.values().filter_map(|places| places.first().copied()).min()
    }

    fn before(&self, place: u64) -> usize {
        self.places.values().map(|places| places.range(..place).count()).sum()
    }

    fn last_before(&self, place: u64) -> Option<u64> {
        self.places.values().filter_map(|places| places.range(..place).next_back().copied()).max()
    }
}

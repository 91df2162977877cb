//! The queue's promises.

use proptest::prelude::*;

use super::*;

fn build(id: &str, project: &str, project_limit: Option<usize>) -> Waiting {
    Waiting {
        build_id: id.to_string(),
        project: project.to_string(),
        project_limit,
        compute_type: "SMALL".to_string(),
        deadline: 1000,
    }
}

fn queue(concurrent: usize, waiting: usize) -> Queue {
    Queue::new(Limits { concurrent, waiting, of_compute_types: BTreeMap::new() })
}

// LC-065
#[test]
fn builds_start_in_order_of_arrival_as_places_become_free() {
    let mut queue = queue(2, 10);
    for id in ["a", "b", "c", "d"] {
        queue.arrive(build(id, "p", None));
    }
    assert_eq!(queue.admit(), ["a", "b"]);
    assert!(queue.admit().is_empty());
    queue.leave("b");
    assert_eq!(queue.admit(), ["c"]);
}

// LC-066, LC-067, LC-068
#[test]
fn a_full_project_does_not_hold_back_others() {
    let mut queue = queue(3, 10);
    queue.arrive(build("a", "small", Some(1)));
    queue.arrive(build("b", "small", Some(1)));
    queue.arrive(build("c", "large", None));
    assert_eq!(queue.admit(), ["a", "c"]);
    queue.leave("a");
    assert_eq!(queue.admit(), ["b"]);
}

// LC-064
#[test]
fn a_full_compute_type_holds_back_its_builds_only() {
    let of_compute_types = BTreeMap::from([("LARGE".to_string(), 1)]);
    let mut queue = Queue::new(Limits { concurrent: 4, waiting: 10, of_compute_types });
    let large = |id, project| Waiting { compute_type: "LARGE".to_string(), ..build(id, project, None) };
    queue.arrive(large("a", "p"));
    queue.arrive(large("b", "p"));
    queue.arrive(build("c", "p", None));
    queue.arrive(large("d", "q"));
    assert_eq!(queue.admit(), ["a", "c"]);
    assert_eq!(queue.standing("b").unwrap().limit, Limit::ComputeType("LARGE".to_string(), 1));
    queue.leave("a");
    assert_eq!(queue.admit(), ["d"], "its project has fewer running");
}

#[test]
fn a_place_goes_to_the_project_with_the_fewest_running_builds() {
    let mut queue = queue(2, 10);
    for id in ["a", "b", "c", "d"] {
        queue.arrive(build(id, "large", None));
    }
    assert_eq!(queue.admit(), ["a", "b"]);
    queue.arrive(build("e", "small", None));
    queue.arrive(build("f", "small", None));
    queue.leave("a");
    assert_eq!(queue.admit(), ["e"]);
    queue.leave("b");
    assert_eq!(queue.admit(), ["c"]);
}

#[test]
fn a_withdrawn_build_never_starts() {
    let mut queue = queue(1, 10);
    queue.arrive(build("a", "p", None));
    assert!(queue.withdraw("a"));
    assert!(!queue.withdraw("a"));
    assert!(queue.admit().is_empty());
}

// LC-065
#[test]
fn the_queue_has_room_for_as_many_as_its_limit_and_no_more() {
    let mut queue = queue(1, 2);
    assert!([(); 3].iter().all(|()| queue.reserve()), "one to run and two to wait");
    assert!(!queue.reserve());
    queue.give_back();
    assert!(queue.reserve());
}

// LC-062
#[test]
fn builds_expire_at_their_deadline() {
    let mut queue = queue(0, 10);
    queue.arrive(Waiting { deadline: 2000, ..build("late", "p", None) });
    queue.arrive(build("early", "p", None));
    assert_eq!(queue.next_deadline(), Some(1000));
    assert!(queue.expire(999).is_empty());
    assert_eq!(queue.expire(1000), ["early"]);
    assert_eq!(queue.next_deadline(), Some(2000));
    assert!(queue.expire(1500).is_empty());
}

#[test]
fn a_waiting_build_is_told_what_holds_it_back() {
    let mut queue = queue(1, 10);
    queue.arrive(build("a", "p", Some(1)));
    queue.admit();
    queue.arrive(build("b", "p", Some(1)));
    queue.arrive(build("c", "p", Some(1)));
    queue.arrive(build("d", "q", None));
    let standing = queue.standing("c").unwrap();
    assert_eq!((standing.limit, standing.running), (Limit::Project(1), 1));
    assert_eq!((standing.position, standing.waiting, standing.behind.as_deref()), (2, 2, Some("b")));
    assert_eq!(standing.some_running, ["a"]);
    let standing = queue.standing("d").unwrap();
    assert_eq!((standing.limit, standing.position, standing.waiting), (Limit::Account(1), 1, 3));
    assert_eq!(queue.standing("a"), None);
}

// ---- properties ---------------------------------------------------------------------------------------------

/// What happens to a queue, in numbers that are taken modulo what there is.
#[derive(Debug, Clone, Copy)]
enum Happening {
    Arrives { project: usize, large: bool },
    Ends(usize),
    IsWithdrawn(usize),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let one = prop_oneof![
        4 => (0..5usize, any::<bool>()).prop_map(|(project, large)| Happening::Arrives { project, large }),
        3 => (0..100usize).prop_map(Happening::Ends),
        1 => (0..100usize).prop_map(Happening::IsWithdrawn),
    ];
    prop::collection::vec(one, 0..200)
}

/// A queue beside a plain account of what it was told and said.
struct Watched {
    queue: Queue,
    limits: Limits,
    project_limits: Vec<Option<usize>>,
    builds: Vec<Waiting>,
    waiting: Vec<usize>,
    running: Vec<usize>,
    /// How many builds of other projects were admitted while a project had some waiting and none running.
    passed_over: HashMap<String, usize>,
}

impl Watched {
    fn new(limits: Limits, project_limits: Vec<Option<usize>>) -> Watched {
        Watched {
            queue: Queue::new(limits.clone()),
            limits,
            project_limits,
            builds: Vec::new(),
            waiting: Vec::new(),
            running: Vec::new(),
            passed_over: HashMap::new(),
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrives { project, large } => {
                let number = self.builds.len();
                let compute_type = if large { "LARGE" } else { "SMALL" }.to_string();
                let arriving = build(&number.to_string(), &project.to_string(), self.project_limits[project]);
                self.builds.push(Waiting { compute_type, ..arriving });
                self.queue.arrive(self.builds[number].clone());
                self.waiting.push(number);
            }
            Happening::Ends(at) if !self.running.is_empty() => {
                let ended = self.running.swap_remove(at % self.running.len());
                self.queue.leave(&ended.to_string());
            }
            Happening::IsWithdrawn(at) if !self.waiting.is_empty() => {
                let withdrawn = self.waiting.remove(at % self.waiting.len());
                assert!(self.queue.withdraw(&withdrawn.to_string()));
                // A project that comes back has its turn after those that stayed.
                let project = &self.builds[withdrawn].project;
                if !self.waiting.iter().any(|waiting| self.builds[*waiting].project == *project) {
                    self.passed_over.remove(project);
                }
            }
            Happening::Ends(_) | Happening::IsWithdrawn(_) => {}
        }
        for admitted in self.queue.admit() {
            self.admitted(admitted.parse().unwrap());
        }
        self.check_limits();
    }

    fn admitted(&mut self, number: usize) {
        let place = self.waiting.iter().position(|waiting| *waiting == number).expect("it waited");
        let Waiting { project, compute_type, .. } = &self.builds[number];
        let same = |other: &usize| {
            self.builds[*other].project == *project && self.builds[*other].compute_type == *compute_type
        };
        assert!(!self.waiting[..place].iter().any(same), "first come, first served");
        let runs =
            |project: &String| self.running.iter().any(|running| self.builds[*running].project == *project);
        let others = self.waiting.iter().map(|waiting| &self.builds[*waiting].project);
        let hungry: HashSet<String> =
            others.filter(|other| *other != project && !runs(other)).cloned().collect();
        self.passed_over.retain(|other, _| hungry.contains(other));
        for other in hungry {
            let count = self.passed_over.entry(other).or_default();
            *count += 1;
            // With a limit on one compute type, a project whose builds are all of it may have to wait for another's.
            let is_fair = *count < 5 || !self.limits.of_compute_types.is_empty();
            assert!(is_fair, "a project was passed over more often than there are others");
        }
        self.waiting.remove(place);
        self.running.push(number);
    }

    fn count(&self, is: impl Fn(&Waiting) -> bool) -> usize {
        self.running.iter().filter(|number| is(&self.builds[**number])).count()
    }

    fn check_limits(&self) {
        assert!(self.running.len() <= self.limits.concurrent);
        for (project, limit) in self.project_limits.iter().enumerate() {
            let running = self.count(|build| build.project == project.to_string());
            assert!(limit.is_none_or(|limit| running <= limit));
        }
        for (name, limit) in &self.limits.of_compute_types {
            assert!(self.count(|build| build.compute_type == *name) <= *limit);
        }
        // Nothing that could start waits.
        for number in &self.waiting {
            assert_ne!(self.queue.standing(&number.to_string()).unwrap().limit, Limit::None);
        }
    }
}

proptest! {
    // LC-065, LC-066, LC-067
    #[test]
    fn limits_hold_builds_are_served_in_order_and_every_one_starts_once(
        concurrent in 1usize..4,
        large in prop::option::of(1usize..3),
        project_limits in prop::collection::vec(prop::option::of(1usize..3), 5),
        happenings in happenings(),
    ) {
        let of_compute_types = large.map(|limit| ("LARGE".to_string(), limit)).into_iter().collect();
        let mut watched = Watched::new(Limits { concurrent, waiting: 100, of_compute_types }, project_limits);
        happenings.into_iter().for_each(|happening| watched.happen(happening));
        while !watched.running.is_empty() {
            watched.happen(Happening::Ends(0));
        }
        prop_assert!(watched.waiting.is_empty());
        prop_assert!(watched.queue.lanes.is_empty() && watched.queue.running_of_project.is_empty());
        prop_assert!(watched.queue.deadlines.is_empty() && watched.queue.running_of_compute_type.is_empty());
    }

    #[test]
    fn positions_are_the_order_in_which_builds_start_as_places_are_added(
        running in prop::collection::vec(0usize..4, 0..6),
        arriving in prop::collection::vec((0usize..4, 0usize..2), 1..30),
        limits in prop::collection::vec(prop::option::weighted(0.2, 1usize..4), 4),
    ) {
        let mut queue = queue(running.len(), 100);
        for (number, project) in running.iter().enumerate() {
            let compute_type = "SMALL".to_string();
            queue.occupy(&format!("r{number}"), Running { project: project.to_string(), compute_type });
        }
        for (number, (project, _)) in arriving.iter().enumerate() {
            queue.arrive(build(&number.to_string(), &project.to_string(), limits[*project]));
        }
        let stand = |number: usize| queue.standing(&number.to_string()).unwrap();
        let told: Vec<_> = (0..arriving.len()).map(stand).collect();
        queue.limits.concurrent = 1000;
        let started = queue.admit();
        for (place, id) in started.iter().enumerate() {
            prop_assert_eq!(told[id.parse::<usize>().unwrap()].position, place + 1);
        }
    }
}

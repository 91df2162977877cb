//! The queue's promises.

use proptest::prelude::*;

use super::*;

fn build(id: &str, project: &str, project_limit: Option<usize>) -> Waiting {
    Waiting { build_id: id.to_string(), project: project.to_string(), project_limit, deadline: 1000 }
}

#[test]
fn builds_start_in_order_of_arrival_as_places_become_free() {
    let mut queue = Queue::new(2, 10);
    for id in ["a", "b", "c", "d"] {
        queue.arrive(build(id, "p", None));
    }
    assert_eq!(queue.admit(), ["a", "b"]);
    assert!(queue.admit().is_empty());
    queue.leave("b");
    assert_eq!(queue.admit(), ["c"]);
}

#[test]
fn a_full_project_does_not_hold_back_others() {
    let mut queue = Queue::new(3, 10);
    queue.arrive(build("a", "small", Some(1)));
    queue.arrive(build("b", "small", Some(1)));
    queue.arrive(build("c", "large", None));
    assert_eq!(queue.admit(), ["a", "c"]);
    queue.leave("a");
    assert_eq!(queue.admit(), ["b"]);
}

#[test]
fn a_withdrawn_build_never_starts() {
    let mut queue = Queue::new(1, 10);
    queue.arrive(build("a", "p", None));
    assert!(queue.withdraw("a"));
    assert!(!queue.withdraw("a"));
    assert!(queue.admit().is_empty());
}

#[test]
fn the_queue_has_room_for_as_many_as_its_limit_and_no_more() {
    let mut queue = Queue::new(1, 2);
    assert!([(); 3].iter().all(|()| queue.reserve()), "one to run and two to wait");
    assert!(!queue.reserve());
    queue.give_back();
    assert!(queue.reserve());
}

#[test]
fn builds_expire_at_their_deadline() {
    let mut queue = Queue::new(0, 10);
    queue.arrive(Waiting { deadline: 2000, ..build("late", "p", None) });
    queue.arrive(build("early", "p", None));
    assert_eq!(queue.next_deadline(), Some(1000));
    assert!(queue.expire(999).is_empty());
    let expired: Vec<_> = queue.expire(1000).into_iter().map(|build| build.build_id).collect();
    assert_eq!(expired, ["early"]);
    assert_eq!(queue.next_deadline(), Some(2000));
}

proptest! {
    #[test]
    fn limits_hold_and_every_build_starts_once(
        limit in 1usize..4,
        builds in prop::collection::vec((0usize..3, prop::option::of(1usize..3)), 0..40),
    ) {
        // One limit per project, as there is one project record.
        let limit_of: HashMap<usize, Option<usize>> = builds.iter().copied().collect();
        let mut queue = Queue::new(limit, 100);
        for (number, (project, _)) in builds.iter().enumerate() {
            queue.arrive(build(&number.to_string(), &project.to_string(), limit_of[project]));
        }
        let mut started = Vec::new();
        let mut running: Vec<String> = Vec::new();
        loop {
            let admitted = queue.admit();
            started.extend(admitted.clone());
            running.extend(admitted);
            prop_assert!(running.len() <= limit);
            for (project, project_limit) in &limit_of {
                let of_project = running.iter().filter(|id| builds[id.parse::<usize>().unwrap()].0 == *project);
                prop_assert!(project_limit.is_none_or(|limit| of_project.count() <= limit));
            }
            if running.is_empty() {
                break;
            }
            queue.leave(&running.remove(0));
        }
        let mut numbers: Vec<usize> = started.iter().map(|id| id.parse().unwrap()).collect();
        numbers.sort_unstable();
        prop_assert_eq!(numbers, (0..builds.len()).collect::<Vec<_>>());
    }
}

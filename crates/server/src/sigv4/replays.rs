//! Signatures already used for a change, remembered for as long as they would still be accepted.
//!
//! SDKs sign with whole seconds and leave their invocation id unsigned: two identical requests made within one
//! second carry one signature, and both are meant. So a repetition is taken at its word for a few seconds after
//! the signature was first seen and refused from then on; what is caught is a request recorded and played again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// How long after its first use a signature may be seen again, seconds.
const GRACE_SECONDS: i64 = 5;

/// How much longer than it is accepted a signature is remembered, seconds: a clock that jumps ahead and is set right
/// again makes old signatures good once more.
const CLOCK_JUMP_SECONDS: i64 = 24 * 3_600;

/// Most signatures remembered; beyond it the oldest are forgotten first.
const CAPACITY: usize = 65_536;

/// The memory. One for a server; lost when it stops.
#[derive(Debug, Default)]
pub struct Replays {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    first_used: HashMap<String, i64>,
    by_age: VecDeque<(i64, String)>,
}

impl Replays {
    /// Whether a changing request with this signature may go on at `now`; remembers it until `until`
    /// (both seconds since 1970).
    pub fn admit(&self, signature: &str, now: i64, until: i64) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.forget_before(now);
        match seen.first_used.get(signature) {
            // Either way: a clock that is set back must not make a recorded request fresh again.
            Some(first) => (now - first).abs() <= GRACE_SECONDS,
            None => {
                seen.remember(signature, now, until);
                true
            }
        }
    }
}

impl Seen {
    fn forget_before(&mut self, now: i64) {
        while self.by_age.len() >= CAPACITY
            || self.by_age.front().is_some_and(|(until, _)| until + CLOCK_JUMP_SECONDS < now)
        {
            match self.by_age.pop_front() {
                Some((_, signature)) => self.first_used.remove(&signature),
                None => return,
            };
        }
    }

    fn remember(&mut self, signature: &str, now: i64, until: i64) {
        self.first_used.insert(signature.to_owned(), now);
        self.by_age.push_back((until, signature.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_request_twice_within_a_second_is_meant() {
        let replays = Replays::default();
        assert!(replays.admit("a", 100, 400));
        assert!(replays.admit("a", 100, 400));
        assert!(replays.admit("b", 101, 400));
    }

    #[test]
    fn a_recorded_request_played_later_is_refused() {
        let replays = Replays::default();
        assert!(replays.admit("a", 100, 400));
        assert!(!replays.admit("a", 106, 400));
        assert!(!replays.admit("a", 400, 400));
    }

    #[test]
    fn a_clock_that_jumps_does_not_make_a_recorded_request_fresh() {
        let replays = Replays::default();
        assert!(replays.admit("a", 100, 400));
        assert!(replays.admit("b", 40_000, 40_300));
        assert!(!replays.admit("a", 120, 400), "ahead and back again");
        assert!(replays.admit("c", 200, 500));
        assert!(!replays.admit("c", 150, 500), "back");
        assert!(replays.admit("c", 199, 500), "set by a second");
    }

    #[test]
    fn memory_is_bounded() {
        let replays = Replays::default();
        for n in 0..CAPACITY + 10 {
            assert!(replays.admit(&n.to_string(), 100, 400));
        }
        assert!(replays.seen.lock().unwrap().by_age.len() <= CAPACITY);
        assert!(replays.admit("fresh", 100_000, 100_300));
        assert_eq!(replays.seen.lock().unwrap().first_used.len(), 1);
    }
}

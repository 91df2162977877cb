//! A clock that goes when it is told to, and a wall clock beside it that jumps.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use engine::clock::{Clock, Sleep};

const START_MS: i64 = 1_700_000_000_000;

/// Clones are one clock.
#[derive(Debug, Clone, Default)]
pub(crate) struct Time(Arc<Mutex<Moment>>);

#[derive(Debug, Default)]
struct Moment {
    uptime_ms: i64,
    /// How far the wall clock has jumped, in all.
    jumped_ms: i64,
    /// By deadline, and by number in the order in which they fell asleep.
    sleepers: BTreeMap<(i64, u64), Waker>,
    slept: u64,
}

impl Time {
    pub(crate) fn pass(&self, by_ms: i64) {
        let mut moment = self.0.lock().unwrap();
        moment.uptime_ms += by_ms;
        let now_ms = moment.uptime_ms;
        while let Some(first) = moment.sleepers.first_entry()
            && first.key().0 <= now_ms
        {
            first.remove().wake();
        }
    }

    pub(crate) fn jump(&self, by_ms: i64) {
        self.0.lock().unwrap().jumped_ms += by_ms;
    }

    /// How long until the first sleeper wakes.
    pub(crate) fn until_next_ms(&self) -> Option<i64> {
        let moment = self.0.lock().unwrap();
        moment.sleepers.first_key_value().map(|((deadline, _), _)| (deadline - moment.uptime_ms).max(0))
    }
}

impl Clock for Time {
    fn now_ms(&self) -> i64 {
        let moment = self.0.lock().unwrap();
        START_MS + moment.uptime_ms + moment.jumped_ms
    }

    fn uptime_ms(&self) -> i64 {
        self.0.lock().unwrap().uptime_ms
    }

    fn sleep_until(&self, uptime_ms: i64) -> Sleep<'_> {
        Box::pin(Sleeper { time: self.clone(), deadline: uptime_ms, number: None })
    }
}

struct Sleeper {
    time: Time,
    deadline: i64,
    number: Option<u64>,
}

impl Future for Sleeper {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline;
        let time = self.time.clone();
        let mut moment = time.0.lock().unwrap();
        if moment.uptime_ms >= deadline {
            return Poll::Ready(());
        }
        moment.slept += 1;
        let number = *self.number.get_or_insert(moment.slept);
        moment.sleepers.insert((deadline, number), context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.time.0.lock().unwrap().sleepers.remove(&(self.deadline, number));
        }
    }
}

//! What time it is: the only place that asks the system's wall clock.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

pub type Sleep<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

pub trait Clock: Debug + Send + Sync {
    /// Milliseconds since the Unix epoch: for what is shown. It may jump.
    fn now_ms(&self) -> i64;

    /// Milliseconds since some moment before: for what has to be waited for. It never jumps.
    fn uptime_ms(&self) -> i64;

    /// Waits until [`Clock::uptime_ms`] is at least this; not at all if it is already.
    fn sleep_until(&self, uptime_ms: i64) -> Sleep<'_>;
}

/// The system's clock. Deadlines follow the monotonic one: a jump of the wall clock neither ends a build's time
/// early nor stretches it.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    pub fn new() -> SystemClock {
        SystemClock { started: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        in_milliseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    fn uptime_ms(&self) -> i64 {
        in_milliseconds(self.started.elapsed())
    }

    fn sleep_until(&self, uptime_ms: i64) -> Sleep<'_> {
        let left = u64::try_from(uptime_ms.saturating_sub(self.uptime_ms())).unwrap_or(0);
        Box::pin(tokio::time::sleep(Duration::from_millis(left)))
    }
}

fn in_milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A clock that stands still until it is told to move, for trying out what takes long. Cheap to clone; all
/// clones are one clock.
#[derive(Debug, Clone)]
pub struct ManualClock {
    uptime_ms: watch::Sender<i64>,
    /// By how much more the wall clock shows.
    ahead_ms: Arc<AtomicI64>,
}

impl ManualClock {
    pub fn new(now_ms: i64) -> ManualClock {
        ManualClock { uptime_ms: watch::Sender::new(now_ms), ahead_ms: Arc::default() }
    }

    pub fn advance(&self, by: Duration) {
        self.uptime_ms.send_modify(|now| *now = now.saturating_add(in_milliseconds(by)));
    }

    /// The wall clock is set forward, while no time goes by.
    pub fn jump(&self, by: Duration) {
        self.ahead_ms.fetch_add(in_milliseconds(by), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.uptime_ms() + self.ahead_ms.load(Ordering::Relaxed)
    }

    fn uptime_ms(&self) -> i64 {
        *self.uptime_ms.borrow()
    }

    fn sleep_until(&self, uptime_ms: i64) -> Sleep<'_> {
        let mut time = self.uptime_ms.subscribe();
        Box::pin(async move {
            let came = time.wait_for(|now| *now >= uptime_ms).await;
            came.expect("the sender lives in the clock that is borrowed here");
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manual_clock_wakes_its_sleepers_when_their_time_has_come() {
        let clock = ManualClock::new(1000);
        let advancing = clock.clone();
        let sleeper = tokio::spawn(async move {
            clock.sleep_until(4000).await;
            clock.now_ms()
        });
        advancing.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        advancing.advance(Duration::from_secs(2));
        assert_eq!(sleeper.await.expect("it only sleeps"), 4000);
    }

    #[tokio::test]
    async fn sleeping_until_a_time_gone_by_does_not_wait() {
        SystemClock::new().sleep_until(0).await;
        ManualClock::new(5).sleep_until(5).await;
    }
}

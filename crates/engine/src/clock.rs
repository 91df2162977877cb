//! What time it is: the only place that asks the system's wall clock.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

pub type Sleep<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

pub trait Clock: Debug + Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn now_ms(&self) -> i64;

    /// Waits until that time has come; at once if it has passed.
    fn sleep_until_ms(&self, at_ms: i64) -> Sleep<'_>;
}

/// The system's clock. Sleeping follows the monotonic clock: a jump of the wall clock neither ends a build's
/// time early nor stretches it.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn sleep_until_ms(&self, at_ms: i64) -> Sleep<'_> {
        let left = u64::try_from(at_ms.saturating_sub(self.now_ms())).unwrap_or(0);
        Box::pin(tokio::time::sleep(Duration::from_millis(left)))
    }
}

/// A clock that stands still until it is told to move, for trying out what takes long. Cheap to clone; all
/// clones are one clock.
#[derive(Debug, Clone)]
pub struct ManualClock(watch::Sender<i64>);

impl ManualClock {
    pub fn new(now_ms: i64) -> ManualClock {
        ManualClock(watch::Sender::new(now_ms))
    }

    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.0.send_modify(|now| *now = now.saturating_add(by));
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        *self.0.borrow()
    }

    fn sleep_until_ms(&self, at_ms: i64) -> Sleep<'_> {
        let mut time = self.0.subscribe();
        Box::pin(async move {
            let came = time.wait_for(|now| *now >= at_ms).await;
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
            clock.sleep_until_ms(4000).await;
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
        SystemClock.sleep_until_ms(0).await;
        ManualClock::new(5).sleep_until_ms(5).await;
    }
}

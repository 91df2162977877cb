//! Who is told that a log grew. Ringing never waits and costs next to nothing when nobody listens.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use store::logs::Position;
use tokio::sync::Notify;

/// The bell. Clones ring the same one.
#[derive(Debug, Clone, Default)]
pub struct Wakes {
    listeners: Arc<Mutex<HashMap<Key, Vec<Weak<Heard>>>>>,
}

/// Account and log group.
type Key = (String, String);

/// Streams, by group and name, that grew since the listener last asked, each with the place it grew from as far
/// as that is known.
pub(super) type Grown = BTreeMap<(String, String), Option<Position>>;

#[derive(Debug, Default)]
struct Heard {
    streams: Mutex<Grown>,
    notify: Notify,
}

/// Hears of some log groups.
#[derive(Debug)]
pub(super) struct Listener {
    heard: Arc<Heard>,
}

impl Wakes {
    /// A bell that nobody listens to yet.
    pub fn new() -> Wakes {
        Wakes::default()
    }

    /// Says that events were appended to a stream, which may be new. For whoever sees a segment grow.
    pub fn ring(&self, account: &str, group: &str, stream: &str) {
        self.ring_from(account, group, stream, None);
    }

    /// As `ring`, where it is known from which place on the events are new.
    pub(super) fn ring_from(&self, account: &str, group: &str, stream: &str, from: Option<Position>) {
        let mut all = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if all.is_empty() {
            return;
        }
        let key = (account.to_owned(), group.to_owned());
        let Some(listeners) = all.get_mut(&key) else { return };
        listeners.retain(|listener| match listener.upgrade() {
            Some(heard) => {
                heard.add(group, stream, from);
                true
            }
            None => false,
        });
        if listeners.is_empty() {
            all.remove(&key);
        }
    }

    pub(super) fn listen(&self, account: &str, groups: &[String]) -> Listener {
        let heard = Arc::new(Heard::default());
        let mut all = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever stopped listening to a log that never grew again is forgotten here.
        all.retain(|_, listeners| {
            listeners.retain(|listener| listener.strong_count() > 0);
            !listeners.is_empty()
        });
        for group in groups {
            all.entry((account.to_owned(), group.clone())).or_default().push(Arc::downgrade(&heard));
        }
        Listener { heard }
    }
}

impl Heard {
    fn add(&self, group: &str, stream: &str, from: Option<Position>) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.entry((group.to_owned(), stream.to_owned())).or_insert(from);
        drop(streams);
        self.notify.notify_one();
    }
}

impl Listener {
    /// Waits until some streams have grown since the last call.
    pub(super) async fn grown(&self) -> Grown {
        loop {
            let streams =
                std::mem::take(&mut *self.heard.streams.lock().unwrap_or_else(PoisonError::into_inner));
            if !streams.is_empty() {
                return streams;
            }
            self.heard.notify.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ring_before_the_listener_waits_is_not_lost() {
        let wakes = Wakes::new();
        let listener = wakes.listen("1", &["g".into()]);
        wakes.ring("1", "g", "a");
        wakes.ring("1", "g", "b");
        wakes.ring("1", "other", "c");
        wakes.ring("2", "g", "d");
        let grown: Vec<String> = listener.grown().await.into_keys().map(|(_, stream)| stream).collect();
        assert_eq!(grown, ["a", "b"]);
    }

    #[tokio::test]
    async fn a_ring_wakes_whoever_waits() {
        let wakes = Wakes::new();
        let listener = wakes.listen("1", &["g".into()]);
        let ringer = async { wakes.ring("1", "g", "a") };
        let (grown, ()) = tokio::join!(listener.grown(), ringer);
        assert_eq!(grown.len(), 1);
    }

    #[test]
    fn listeners_that_are_gone_are_forgotten() {
        let wakes = Wakes::new();
        drop(wakes.listen("1", &["g".into()]));
        drop(wakes.listen("1", &["h".into()]));
        wakes.ring("1", "h", "a");
        let kept = wakes.listen("1", &["i".into()]);
        assert_eq!(wakes.listeners.lock().unwrap().len(), 1);
        drop(kept);
    }
}

//! Who waits for a log to grow: drivers ring, readers of the log endpoints wait.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Bells by the path of the log segment. Cheap to clone; all clones share the bells.
///
/// A bell exists while somebody waits for it, so that quiet logs cost nothing.
#[derive(Debug, Clone, Default)]
pub struct Wakes(Arc<Mutex<HashMap<PathBuf, watch::Sender<()>>>>);

impl Wakes {
    /// A receiver that changes whenever the segment has grown or was sealed, from now on. Subscribe first, then
    /// read, then wait: nothing is missed.
    pub fn subscribe(&self, segment: &Path) -> watch::Receiver<()> {
        let mut bells = self.lock();
        bells.retain(|_, bell| bell.receiver_count() > 0);
        bells.entry(segment.to_path_buf()).or_default().subscribe()
    }

    /// Wakes everybody who waits for this segment.
    pub fn ring(&self, segment: &Path) {
        if let Some(bell) = self.lock().get(segment) {
            bell.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ring_wakes_those_who_wait_for_that_segment_only() {
        let wakes = Wakes::default();
        let mut mine = wakes.subscribe(Path::new("/logs/mine"));
        let other = wakes.subscribe(Path::new("/logs/other"));
        wakes.ring(Path::new("/logs/mine"));
        mine.changed().await.expect("the hub is there");
        assert!(!other.has_changed().expect("the hub is there"));
    }

    #[test]
    fn bells_nobody_waits_for_go_away() {
        let wakes = Wakes::default();
        drop(wakes.subscribe(Path::new("/logs/a")));
        let _b = wakes.subscribe(Path::new("/logs/b"));
        assert_eq!(wakes.lock().len(), 1);
        wakes.ring(Path::new("/logs/a"));
    }
}

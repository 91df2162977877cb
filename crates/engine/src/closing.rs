//! That the engine is shutting down: said once, heard by all, in the order in which they began to listen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Clones say and hear the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Closing(Arc<Said>);

#[derive(Debug, Default)]
struct Said {
    is_closing: AtomicBool,
    changed: Notify,
}

impl Closing {
    pub(crate) fn begin(&self) {
        self.0.is_closing.store(true, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.0.is_closing.load(Ordering::SeqCst)
    }

    /// Completes when it has begun. Cancel-safe.
    pub(crate) async fn begun(&self) {
        let changed = self.0.changed.notified();
        tokio::pin!(changed);
        // Listen before looking, or what is said in between is missed.
        changed.as_mut().enable();
        if !self.has_begun() {
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_listens_hears_it_before_and_after_it_is_said() {
        let closing = Closing::default();
        let listening = tokio::spawn({
            let closing = closing.clone();
            async move { closing.begun().await }
        });
        tokio::task::yield_now().await;
        assert!(!listening.is_finished() && !closing.has_begun());
        closing.begin();
        listening.await.expect("it only listens");
        closing.begun().await;
        assert!(closing.has_begun());
    }
}

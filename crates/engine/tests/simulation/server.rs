//! One life of the server: an engine over records that are worked by hand, in a runtime that goes with it.

use std::path::Path;
use std::sync::{Arc, Mutex};

use engine::{Config, Engine};
use store::records::{Hand, Records, Vault};
use tokio::runtime::Runtime;

use crate::agents::Slow;
use crate::world::yields;

/// The engine, once it has started, or why it did not.
pub(crate) type Started = Arc<Mutex<Option<Result<Engine, String>>>>;

#[derive(Debug)]
pub(crate) struct Server {
    // The tasks go first, then what they used.
    runtime: Runtime,
    started: Started,
    pub(crate) hand: Hand,
}

impl Server {
    pub(crate) fn start(folder: &Path, config: Config, executor: Slow, started: &Started) -> Server {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let (records, hand) = Records::by_hand(folder).unwrap();
        let (key, ready) = (folder.join("secret.key"), started.clone());
        runtime.spawn(async move {
            let starting = async {
                let vault = Vault::open(records.clone(), &key).await.map_err(|error| error.to_string())?;
                let engine = Engine::start(config, records, vault, Arc::new(executor)).await;
                engine.map_err(|error| error.to_string())
            };
            let outcome = starting.await;
            *ready.lock().unwrap() = Some(outcome);
        });
        Server { runtime, started: started.clone(), hand }
    }

    /// Lets the tasks come so far.
    pub(crate) fn run(&self, rounds: u64) {
        self.runtime.block_on(yields(rounds));
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    pub(crate) fn engine(&self) -> Option<Engine> {
        self.started.lock().unwrap().as_ref()?.as_ref().ok().cloned()
    }

    /// It could not start, and has given up.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(&*self.started.lock().unwrap(), Some(Err(_)))
    }

    /// Whatever it was doing, it does no more.
    pub(crate) fn kill(self) {
        let Server { runtime, started, hand } = self;
        drop(runtime);
        *started.lock().unwrap() = None;
        drop(hand);
    }
}

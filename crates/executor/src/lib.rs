//! Where builds run: one contract, several ways.
//!
//! An executor gives a build an *agent* (see the `agent` crate): it starts one, finds it again after the
//! server was gone, and removes what it left. It decides nothing about a build; that is the engine's.
//!
//! The contract, which every executor keeps:
//!
//! - A build's commands run at most once. `launch` starts at most one agent that ever gets to own the build's
//!   journal, and [`Adopted::NeverStarted`] is a promise that no earlier attempt will start any more.
//! - What happened is in the journal, whoever is connected. A [`Link`] only wakes, stops and shows liveness.
//! - Dropping a [`Link`], or the whole executor, leaves agents running.

use std::fmt::Debug;
use std::pin::Pin;

use agent::journal::Event;
use agent::plan::Plan;

pub mod docker;
pub mod embedded;
mod error;
pub mod fake;
mod link;

pub use docker::Docker;
pub use embedded::Embedded;
pub use error::Error;
pub use fake::Fake;
pub use link::{Link, Signal};

pub type Result<T> = std::result::Result<T, Error>;
pub type Future<'a, T> = Pin<Box<dyn std::future::Future<Output = Result<T>> + Send + 'a>>;

pub trait Executor: Debug + Send + Sync {
    /// Starts the build's agent and returns once it owns the build. `uuid` is the build id's uuid part.
    ///
    /// After an error no agent owns the build, and none of this attempt will.
    fn launch<'a>(&'a self, uuid: &'a str, plan: &'a Plan) -> Future<'a, Link>;

    /// Finds out what became of a build launched earlier, perhaps by another server process.
    fn adopt<'a>(&'a self, uuid: &'a str) -> Future<'a, Adopted>;

    /// The content of a file that the build's agent left beside its journal, and named there.
    fn left<'a>(&'a self, uuid: &'a str, file: &'a str) -> Future<'a, Vec<u8>>;

    /// Forgets the build: removes everything an agent left outside the store. Unknown builds are fine.
    fn remove<'a>(&'a self, uuid: &'a str) -> Future<'a, ()>;

    /// The uuids of the builds that there is something of to remove, running ones included.
    fn remaining<'a>(&'a self) -> Future<'a, Vec<String>>;
}

/// What [`Executor::adopt`] found.
#[derive(Debug)]
pub enum Adopted {
    /// The agent is there and goes on; one that is just dying may look so too, and is lost at once.
    Running(Link),
    /// No agent ever took the build, and from now on none of the earlier attempts can: launching is safe.
    NeverStarted,
    /// The agent is gone; its environment is cleaned up.
    Dead(Remains),
}

/// What an agent that is gone had written.
#[derive(Debug, Default)]
pub struct Remains {
    /// The whole journal; a build that ended in an orderly way has [`Event::Finished`] last.
    pub events: Vec<Event>,
    /// Why the journal could not be read beyond these events, if there is more of it.
    pub damage: Option<String>,
}

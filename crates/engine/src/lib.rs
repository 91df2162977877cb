//! Decides what happens to projects and builds: what a build will be, when it runs, what state it is in.
//!
//! The way of a build: `operations` takes a StartBuild, `plan` makes it the build that will be, the store accepts it,
//! `queue` lets it through, `driver` gives it an agent and follows it through the states of [`lifecycle`] to its
//! end, and `document` shows it as the API does. How environments are made is `executor`'s, how requests come in is
//! `server`'s, and there is no SQL here.

mod caller;
mod candidate;
pub mod clock;
mod closing;
pub mod config;
mod credentials;
mod curated;
mod desk;
mod document;
mod driver;
mod engine;
mod error;
mod git;
pub mod lifecycle;
mod log_object;
mod operations;
mod overrides;
mod paging;
mod plan;
mod project;
mod queue;
pub mod references;
mod registry_login;
mod report_group;
mod retry;
mod trend;
mod utilization;

pub use caller::Caller;
pub use config::Config;
pub use engine::Engine;
pub use error::{Error, Result};
pub use operations::{BuildUsage, FoundBuild, FoundBuilds, Known, ProjectCache};
pub use queue::Load;
pub use utilization::Utilization;

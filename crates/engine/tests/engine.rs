//! The engine with the real store and scripted agents: a build's life, the queue, and what survives a restart.

#![allow(clippy::unwrap_used, reason = "Clippy knows test functions, not those they share")]

#[path = "engine/credentials.rs"]
mod credentials;
#[path = "engine/faults.rs"]
mod faults;
#[path = "engine/images.rs"]
mod images;
#[path = "engine/life.rs"]
mod life;
#[path = "engine/projects.rs"]
mod projects;
#[path = "engine/queue.rs"]
mod queue;
#[path = "engine/references.rs"]
mod references;
#[path = "engine/reports.rs"]
mod reports;
#[path = "engine/restarts.rs"]
mod restarts;
#[path = "engine/retries.rs"]
mod retries;
#[path = "engine/sharing.rs"]
mod sharing;
#[path = "engine/stopping.rs"]
mod stopping;
#[path = "engine/user.rs"]
mod user;
#[path = "engine/visibility.rs"]
mod visibility;

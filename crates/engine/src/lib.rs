//! Decides what happens to projects and builds: what a build will be, when it runs, what state it is in.

pub mod clock;
pub mod config;
mod document;
mod error;
pub mod lifecycle;
mod overrides;
mod plan;
mod project;
mod queue;
mod wakes;

pub use config::Config;
pub use error::{Error, Result};
pub use wakes::Wakes;

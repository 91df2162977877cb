//! Runs one build: takes a [`plan::Plan`], makes the container, goes through the phases, collects artifacts,
//! and writes what happened to a [`journal`] and what was printed to a log segment.
//!
//! One agent process per build, apart from the server, so that a build outlives the server that started it.
//! What does not live here: deciding which builds run and when (engine), and making containers (container).

pub mod journal;
pub mod plan;

//! Git sources: where a repository may be ([`Location`]), which addresses that may come to ([`Policy`]), which version of it
//! is meant ([`Version`]), the git commands that fetch it ([`git`]), and what git's answers mean.
//!
//! All of it decides and nothing is done: the agent runs the commands in a container that has nothing of the build's.

mod address;
mod error;
pub mod failure;
pub mod git;
mod location;
pub mod refs;
pub mod submodules;
pub mod tree;
mod version;

pub use address::{Network, Policy};
pub use error::{Error, Result};
pub use location::{Location, Provider, Scheme};
pub use version::Version;

/// Largest file that git may write, in bytes: the limit of a pack.
pub const PACK_BYTES: u64 = 2 << 30;
/// Files of one commit.
pub const FILES: u64 = 1_000_000;
/// Bytes of all files of one commit.
pub const TREE_BYTES: u64 = 64 << 30;
/// Objects of one repository.
pub const OBJECTS: u64 = 5_000_000;
/// How long one source may take to come, in seconds.
pub const SECONDS: u64 = 15 * 60;
/// Repositories within repositories within ... of one source.
pub const SUBMODULE_DEPTH: usize = 8;
/// Repositories of one source in all.
pub const SUBMODULES: usize = 200;

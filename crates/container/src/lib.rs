//! A container on this Linux host, without a daemon and without a helper program.
//!
//! [`Container::create`] makes namespaces, an overlay root, a seccomp filter and cgroups, and leaves a small init inside
//! which is a fork of the caller (nothing is executed, so there is nothing to install). Commands are then started with
//! [`Container::start`], functions of the caller's own program with [`Container::call`].
//!
//! One flow serves root (65,536 ids of its own for every container, image files shown through idmapped mounts) and an
//! ordinary user: one id, which is root inside, or as many for all its containers with [`take_subordinate_ids`]. What the host permits is
//! told by [`capabilities`].
//!
//! A container may also be brought by somebody else, such as a daemon, with our init as its first process ([`Awaited`], [`be_init`]).
//!
//! Here live: namespaces, mounts, cgroups, seccomp, ids, and their removal. Not here: images and how they are unpacked
//! (`image`), what runs in which order (`agent`), logs. The API is synchronous and the caller must be single-threaded,
//! because its memory is forked.
#![allow(unsafe_code)]

mod ahead;
mod brought;
mod cgroup;
mod child;
mod code;
mod container;
mod detached;
mod devices;
mod disk;
mod egress;
mod error;
mod ids;
mod init;
mod inside;
mod landlock;
mod late;
mod layout;
mod masks;
mod mounts;
mod netlink;
mod outside;
pub mod packet;
mod passwd;
mod prepared;
mod privileges;
pub mod profile;
mod removal;
mod report;
mod seccomp;
mod spec;
mod subordinate;
mod sys;
mod uppers;
mod usage;
mod wire;

pub use brought::{Awaited, Inside, be_init};
pub use code::release_code;
pub use container::{Container, sweep};
pub use detached::spawn_detached;
pub use disk::prepare_disk;
pub use egress::{prepare_egress, prepare_fetching};
pub use error::Error;
pub use ids::rules_the_host;
pub use mounts::take_own_mounts;
pub use outside::can_lie_beneath;
pub use prepared::Prepared;
pub use report::{Report, capabilities};
pub use rustix::process::Signal;
pub use spec::{
    Event, ExitStatus, File, Function, LateOverlay, Limits, MOST_BENEATH, MOST_FOLDERS, Mount, Network,
    Process, Rootfs, Spec, default_visible_paths,
};
pub use subordinate::{has_subordinate_ids, take_subordinate_ids};
pub use usage::{Disk, Traffic, Usage};

//! Images as callers meet them: references in, unpacked root file systems (or refusals) out.

#![allow(clippy::unwrap_used, reason = "Clippy knows test functions, not those they share")]

#[path = "image/hostile.rs"]
mod hostile;
#[path = "image/layers.rs"]
mod layers;
#[path = "image/malicious.rs"]
mod malicious;
#[path = "image/once.rs"]
mod once;
#[path = "image/places.rs"]
mod places;
#[cfg(feature = "registry")]
#[path = "image/registry.rs"]
mod registry;
#[path = "image/room.rs"]
mod room;
#[path = "image/shared.rs"]
mod shared;
#[path = "image/world.rs"]
mod world;

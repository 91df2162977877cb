//! Kernel objects that the runtime has no type for, waited for like any other.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// Registers a descriptor (inotify, pidfd) with the runtime.
#[expect(
    deprecated,
    reason = "deprecated because a `T: AsRawFd` may close its descriptor early; an OwnedFd cannot. The successor \
              is an unsafe function, and `container` is the only crate that may have those"
)]
pub(super) fn register(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::new(descriptor)
}

//! Namespaces that a container of the host's root enters rather than makes, with the ids mapped in them: a network's alone takes as long to make
//! as most other parts of a container together, and none of them depends on what the container is for.
//!
//! The pid and mount namespaces are made with init, which must be the first in the one and must see the host as it is then in the other.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use libc::c_int;

use crate::error::Error;
use crate::ids::{self, IdRange};
use crate::report;

/// The first owns the others and is entered first.
const KINDS: [(&str, c_int); 4] =
    [ids::USER, ("ipc", libc::CLONE_NEWIPC), ("uts", libc::CLONE_NEWUTS), ("net", libc::CLONE_NEWNET)];

#[derive(Debug)]
pub(crate) struct Ahead {
    pub(crate) ids: IdRange,
    /// In the order of [`KINDS`].
    namespaces: [OwnedFd; KINDS.len()],
}

impl Ahead {
    /// With a free range of ids, the `wanted` one if that is free, for the container `name`.
    pub(crate) fn make(name: &str, wanted: Option<u32>) -> Result<Ahead, Error> {
        let ids = IdRange::take(name, wanted)?;
        let namespaces = ids::namespaces(KINDS, |owner| ids::map_range(owner, 0, ids.first));
        let namespaces = namespaces.map_err(report::why_no_namespaces)?;
        Ok(Ahead { ids, namespaces })
    }

    /// Whether it will do for who would have the `wanted` range.
    pub(crate) fn suits(&self, wanted: Option<u32>) -> bool {
        wanted.is_none_or(|wanted| wanted == self.ids.first)
    }

    pub(crate) fn user(&self) -> BorrowedFd<'_> {
        self.namespaces[0].as_fd()
    }

    /// Those that are among `flags`, to be entered in this order, and the rest of `flags`.
    pub(crate) fn split(&self, flags: c_int) -> (Vec<BorrowedFd<'_>>, c_int) {
        let is_meant = |(_, flag): &(_, c_int)| flags & flag != 0;
        let entered = KINDS.iter().zip(&self.namespaces).filter(|(kind, _)| is_meant(kind));
        let rest = KINDS.iter().fold(flags, |rest, (_, flag)| rest & !flag);
        (entered.map(|(_, namespace)| namespace.as_fd()).collect(), rest)
    }
}

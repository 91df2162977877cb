//! Which addresses a registry may be at. Which those are is the caller's business; that no others are connected to is ours.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// What may be connected to: everything, unless told otherwise.
#[derive(Clone, Default)]
pub struct Reach(Option<Arc<dyn Fn(IpAddr) -> bool + Send + Sync>>);

impl Reach {
    /// Only addresses that `allows` says yes to. A proxy is not used then, since it would connect for us to where it likes.
    pub fn only(allows: impl Fn(IpAddr) -> bool + Send + Sync + 'static) -> Reach {
        Reach(Some(Arc::new(allows)))
    }

    #[cfg(feature = "registry")]
    pub(crate) fn is_limited(&self) -> bool {
        self.0.is_some()
    }

    #[cfg(feature = "registry")]
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        self.0.as_ref().is_none_or(|allows| allows(address))
    }
}

impl fmt::Debug for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Reach(limited)" } else { "Reach(everything)" })
    }
}

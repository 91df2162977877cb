//! What can go wrong: an answer to a caller ([`ServiceError`]) and a server that cannot serve ([`Error`]).
//!
//! The wire shapes (JSON, XML) of a `ServiceError` are in [`crate::http::answer`].

use std::io;
use std::net::SocketAddr;

/// The server could not be started or ended badly.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken, or this process may not listen there.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A part of the configuration makes no sense; the text says which and why.
    #[error("{0}")]
    Settings(String),
}

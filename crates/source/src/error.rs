//! What is wrong with a source as it was written, or with what a repository holds.

use std::net::IpAddr;

/// Each text says what was given and which rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{location:?} is not the URL of a repository: {rule}")]
    Location { location: String, rule: &'static str },
    #[error("{version:?} is not a source version: {rule}")]
    Version { version: String, rule: &'static str },
    #[error("{text:?} is not a network such as 10.0.0.0/8")]
    Network { text: String },
    #[error("{host} is at {address}, which is no public address; the operator can allow it (sources.allow)")]
    Address { host: String, address: IpAddr },
    #[error("{host} has no address")]
    Unknown { host: String },
    #[error(
        "{host} is spoken to by ssh, and there is no key for it: set sources.ssh_key to a private key without a \
         passphrase (`buildyard run` takes those in ~/.ssh and what SSH_AUTH_SOCK leads to)"
    )]
    NoKey { host: String },
    #[error(
        "{host} is spoken to by ssh, and no host's key is known: set sources.ssh_known_hosts to a file as \
         ssh-keyscan makes them (`buildyard run` takes ~/.ssh/known_hosts)"
    )]
    NoKnownHosts { host: String },
    #[error("the repository has more than {most} {what}")]
    TooMuch { what: &'static str, most: u64 },
    #[error("git answered what cannot be understood: {what}")]
    Answer { what: String },
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

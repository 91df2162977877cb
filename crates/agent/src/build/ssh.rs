//! What fetching by ssh takes of this host: private keys, which git is handed as descriptors; the keys of known hosts, which are in a
//! file where it is fetched; and the user's ssh-agent, if there is one.

use std::fs::{self, File, Permissions};
use std::io::{self, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use source::{Error, Location, git};

use super::context::client_error;
use crate::journal::Context;
use crate::plan;

#[derive(Debug, Default)]
pub(super) struct Ssh {
    keys: Vec<Vec<u8>>,
    known_hosts: Vec<u8>,
    pub(super) agent: Option<PathBuf>,
}

impl Ssh {
    /// Reads what the plan names.
    pub(super) fn read(named: &plan::Ssh) -> Result<Ssh, Context> {
        let read = |what: &str, path: &Path| {
            fs::read(path)
                .map_err(|e| client_error(format!("the {what} {} cannot be read: {e}", path.display())))
        };
        let keys = named.keys.iter().map(|path| read("ssh key", path)).collect::<Result<_, _>>()?;
        let mut known_hosts = Vec::new();
        for path in &named.known_hosts {
            known_hosts.extend(read("known hosts", path)?);
            known_hosts.push(b'\n');
        }
        Ok(Ssh { keys, known_hosts, agent: named.agent.clone() })
    }

    /// Whether anything is there to speak to this host with.
    pub(super) fn check(&self, location: &Location) -> source::Result<()> {
        let host = location.host().to_owned();
        if self.keys.is_empty() && self.agent.is_none() {
            return Err(Error::NoKey { host });
        }
        match self.known_hosts.is_empty() {
            true => Err(Error::NoKnownHosts { host }),
            false => Ok(()),
        }
    }

    pub(super) fn file(&self) -> Option<container::File> {
        let bytes = Some(self.known_hosts.clone()).filter(|bytes| !bytes.is_empty())?;
        Some(container::File { path: git::KNOWN_HOSTS.into(), bytes, mode: 0o444 })
    }

    pub(super) fn number_of_keys(&self) -> usize {
        self.keys.len()
    }

    /// Descriptors of the keys, in order. ssh takes no key of its own user's that others may read; where the container has ids of its
    /// own, that user owns no file of ours and must be one of the others.
    pub(super) fn keys(&self) -> io::Result<Vec<OwnedFd>> {
        let mode = if container::rules_the_host() { 0o444 } else { 0o400 };
        self.keys.iter().map(|key| readable(key, mode)).collect()
    }
}

/// A descriptor from which these bytes can be read, again and again, and that nobody can change.
pub(super) fn readable(bytes: &[u8], mode: u32) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("credential", flags)?);
    file.write_all(bytes)?;
    file.rewind()?;
    file.set_permissions(Permissions::from_mode(mode))?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file.into())
}

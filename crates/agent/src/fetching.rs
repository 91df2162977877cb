//! What runs where repositories are fetched: asking for a host's addresses, and packing what was fetched; and what takes it out again
//! in the build's container. How git is run is `build/fetch.rs`.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::net::{IpAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use container::Function;
use serde::{Deserialize, Serialize};

use crate::inside::{DONE, MISSING, REFUSED, first_fd, report};

/// Of the container that git runs in.
pub(crate) static FUNCTIONS: &[Function] = &[
    Function { name: "addresses", run: addresses_entry },
    Function { name: "pack", run: pack_entry },
    Function { name: "unpack-source", run: unpack_entry },
];

/// Addresses of one host that are looked at.
const ADDRESSES: usize = 64;
const BUFFER: usize = 256 << 10;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

/// Packs or unpacks this folder.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tree {
    pub(crate) folder: PathBuf,
    /// Files that are not packed, below it.
    pub(crate) without: HashSet<PathBuf>,
}

impl Tree {
    pub(crate) fn of(folder: impl Into<PathBuf>) -> Tree {
        Tree { folder: folder.into(), ..Tree::default() }
    }
}

/// fds: where the addresses go, as a JSON list.
fn addresses_entry(args: &[u8], fds: Vec<OwnedFd>) -> i32 {
    let Some((mut out, _)) = first_fd(fds) else { return REFUSED };
    let Ok(host) = serde_json::from_slice::<Host>(args) else { return REFUSED };
    let Ok(found) = (host.name.as_str(), host.port).to_socket_addrs() else { return MISSING };
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found.map(|socket| socket.ip()).take(ADDRESSES) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let told = serde_json::to_vec(&addresses).map_err(io::Error::other).and_then(|text| out.write_all(&text));
    if told.is_ok() { DONE } else { REFUSED }
}

/// fds: the stream for messages, the archive to write.
fn pack_entry(args: &[u8], fds: Vec<OwnedFd>) -> i32 {
    let Some((mut out, Some(archive))) = first_fd(fds) else { return REFUSED };
    let Ok(tree) = serde_json::from_slice::<Tree>(args) else { return REFUSED };
    let packed = pack(&tree, archive).map_err(|e| format!("what was fetched cannot be handed on: {e}"));
    report(&mut out, packed)
}

pub(crate) fn pack(tree: &Tree, archive: File) -> io::Result<()> {
    let mut archive = tar::Builder::new(BufWriter::with_capacity(BUFFER, archive));
    archive.follow_symlinks(false);
    archive.sparse(false);
    match tree.without.is_empty() {
        true => archive.append_dir_all(".", &tree.folder)?,
        false => append_others(&mut archive, tree, Path::new(""))?,
    }
    archive.into_inner()?.flush()
}

fn append_others(archive: &mut tar::Builder<impl Write>, tree: &Tree, below: &Path) -> io::Result<()> {
    let folder = tree.folder.join(below);
    archive.append_dir(Path::new(".").join(below), &folder)?;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            append_others(archive, tree, &path)?;
        } else if !tree.without.contains(&path) {
            archive.append_path_with_name(entry.path(), &path)?;
        }
    }
    Ok(())
}

/// fds: the stream for messages, the archive. Runs in the build's container, whose own files are all that it could harm.
pub(crate) fn unpack_entry(args: &[u8], fds: Vec<OwnedFd>) -> i32 {
    let Some((mut out, Some(archive))) = first_fd(fds) else { return REFUSED };
    let Ok(tree) = serde_json::from_slice::<Tree>(args) else { return REFUSED };
    let unpacked = tar::Archive::new(BufReader::with_capacity(BUFFER, archive)).unpack(&tree.folder);
    report(&mut out, unpacked.map_err(|e| format!("the source cannot be written: {e}")))
}

//! Unfinished files and folders, in `.tmp` on the same file system, each locked by whoever is writing it.
//!
//! The lock goes with its process, however that ends: what is not locked has been left behind.

use std::fs::File;
use std::io::Write as _;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::tree;
use crate::error::{Doing, Result};

/// A file that goes away unless it is moved elsewhere.
#[derive(Debug)]
pub(super) struct TemporaryFile {
    pub(super) file: File,
    pub(super) name: String,
    folder: OwnedFd,
    kept: bool,
}

impl TemporaryFile {
    pub(super) fn create(folder: impl AsFd) -> Result<TemporaryFile> {
        let folder = folder.as_fd().try_clone_to_owned().doing("making a temporary file")?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        loop {
            let name = random_name()?;
            let file = rustix::fs::openat(&folder, &name, flags, Mode::from_raw_mode(0o640))
                .doing("making a temporary file")?;
            if claim(&file)? {
                return Ok(TemporaryFile { file: File::from(file), name, folder, kept: false });
            }
        }
    }

    pub(super) fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    /// The file has another name now.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }

    pub(super) fn sync(&mut self) -> Result<()> {
        self.file.flush().and_then(|()| self.file.sync_all()).doing("syncing an object")
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if !self.kept {
            // Whatever cannot be removed here is removed by the next `clean`.
            let _ = rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
        }
    }
}

/// A folder that becomes another's entry when it is complete.
#[derive(Debug)]
pub(super) struct TemporaryFolder {
    pub(super) handle: OwnedFd,
    pub(super) name: String,
}

impl TemporaryFolder {
    pub(super) fn create(parent: impl AsFd) -> Result<TemporaryFolder> {
        loop {
            let name = random_name()?;
            let handle = tree::make_folder(&parent, &name)?;
            if claim(&handle)? {
                return Ok(TemporaryFolder { handle, name });
            }
        }
    }

    pub(super) fn keep(self) -> OwnedFd {
        self.handle
    }
}

/// Locks what was just made; false if a concurrent `clean` was faster and removed it.
fn claim(made: impl AsFd) -> Result<bool> {
    match rustix::fs::flock(&made, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => return Ok(false),
        locked => locked.doing("locking a temporary file")?,
    }
    Ok(rustix::fs::fstat(made).doing("making a temporary file")?.st_nlink > 0)
}

/// 128 random bits in hex.
pub(super) fn random_name() -> Result<String> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .doing("drawing a random name")?;
    Ok(hex(&bytes))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

/// Removes what nobody has locked; gives how many.
pub(super) fn clean(folder: impl AsFd) -> Result<usize> {
    let mut removed = 0;
    for entry in tree::entries(&folder)? {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(left) = rustix::fs::openat(&folder, entry.name(), flags, Mode::empty()) else { continue };
        if rustix::fs::flock(&left, FlockOperation::NonBlockingLockExclusive).is_ok() {
            removed += usize::from(remove(&folder, &entry, &left)?);
        }
    }
    Ok(removed)
}

fn remove(folder: impl AsFd, entry: &tree::Entry, left: impl AsFd) -> Result<bool> {
    let Some(name) = entry.text() else { return Ok(false) };
    if tree::remove_file(&folder, name)? {
        return Ok(true);
    }
    remove_files(&left)?;
    tree::remove_folder(&folder, name)
}

/// Removes the files in a folder of ours, which holds no folders.
pub(super) fn remove_files(folder: impl AsFd) -> Result<()> {
    for entry in tree::entries(&folder)? {
        if let Some(name) = entry.text() {
            tree::remove_file(&folder, name)?;
        }
    }
    Ok(())
}

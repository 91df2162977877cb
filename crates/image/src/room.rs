//! Keeping an images folder to its quota while an image comes: what is not in use makes room before the disk is written to, and an image for
//! which there is none is refused.

use std::fs;
use std::path::{Path, PathBuf};

use crate::unpack::digest_of;
use crate::{Digest, Error, Images};

/// Room is asked for in so many pieces: each time everything is measured.
const STEPS: u64 = 64;
/// What a file system gives out at a time.
const BLOCK_BYTES: u64 = 4096;

/// What one image may take up while it comes. Without a quota that is as much as it likes.
#[derive(Debug)]
pub(crate) struct Room<'a> {
    images: &'a Images,
    digest: Digest,
    /// So much may be written before more is asked for.
    left: u64,
    /// The blob that is being unpacked.
    current: Option<PathBuf>,
    /// Its layers that are complete.
    layers: Vec<String>,
}

impl<'a> Room<'a> {
    pub(crate) fn new(images: &'a Images, digest: Digest) -> Room<'a> {
        Room { images, digest, left: 0, current: None, layers: Vec::new() }
    }

    /// Refuses what could never fit.
    pub(crate) fn expect(&self, bytes: u64) -> Result<(), Error> {
        match self.images.quota {
            Some(quota) if bytes > quota => Err(Error::Quota { bytes, quota, in_use: 0 }),
            _ => Ok(()),
        }
    }

    /// A layer is complete, or was here before.
    pub(crate) fn has(&mut self, layer: &str) {
        self.layers.push(layer.to_owned());
    }

    pub(crate) fn unpacks(&mut self, blob: PathBuf) {
        self.current = Some(blob);
    }

    /// For a file of this length that is about to be written; folders are files of length 1.
    pub(crate) fn take(&mut self, length: u64) -> Result<(), Error> {
        let Some(quota) = self.images.quota else { return Ok(()) };
        let bytes = length.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES);
        if bytes > self.left {
            self.left = self.more(bytes, quota)?;
        }
        self.left -= bytes;
        Ok(())
    }

    /// At least `bytes`, and a step more where that costs nobody anything beyond the quota.
    fn more(&self, bytes: u64, quota: u64) -> Result<u64, Error> {
        let wanted = bytes.saturating_add(quota / STEPS);
        let free = || Ok::<_, Error>(quota.saturating_sub(self.images.taken()?));
        if self.own()?.saturating_add(bytes) > quota {
            self.forget_unpacked_blobs();
        }
        if free()? < wanted {
            self.images.make_room(quota.saturating_sub(wanted), &self.digest)?;
        }
        if free()? < bytes {
            self.forget_unpacked_blobs();
        }
        match free()? {
            free if free >= bytes => Ok(free.min(wanted)),
            _ => {
                let own = self.own()?;
                let in_use = self.images.taken()?.saturating_sub(own);
                Err(Error::Quota { bytes: own.saturating_add(bytes), quota, in_use })
            }
        }
    }

    fn own(&self) -> Result<u64, Error> {
        self.images.taken_by_own(&self.digest, &self.layers)
    }

    /// What is unpacked already is kept for another attempt, but not where there is no room for it.
    fn forget_unpacked_blobs(&self) {
        let Some(current) = &self.current else { return };
        let blobs = fs::read_dir(self.images.folder.blobs(&self.digest)).into_iter().flatten().flatten();
        let is_blob = |path: &PathBuf| {
            path.file_name().is_some_and(|name| digest_of(&name.to_string_lossy()).is_some())
        };
        for blob in blobs.map(|blob| blob.path()).filter(|path| path != current && is_blob(path)) {
            // One that stays is counted again.
            let _ = fs::remove_file(&blob);
        }
    }
}

/// What a tree, or a file, takes up, as far as it is there; a file with several names counts once.
pub(crate) fn taken_by(root: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = fs::symlink_metadata(root) else { return 0 };
    let (mut bytes, mut seen, mut open) =
        (metadata.blocks() * 512, std::collections::HashSet::new(), Vec::new());
    open.extend(metadata.is_dir().then(|| root.to_owned()));
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.nlink() > 1 && !metadata.is_dir() && !seen.insert(metadata.ino()) {
                continue;
            }
            bytes += metadata.blocks() * 512;
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    bytes
}

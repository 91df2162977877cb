//! What an images folder holds: how large it is, what is used, and what goes first when there is too much.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{CWD, FlockOperation, Timespec, Timestamps, UTIME_NOW, flock, utimensat};

use crate::room::taken_by;
use crate::unpack::{Folder, discard, write_atomically};
use crate::{Digest, Error, Image, Images, Record};

/// An unpacked image, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stocked {
    pub image: Image,
    /// What it was asked for by, as far as that would still lead to it.
    pub references: Vec<String>,
    /// On this disk.
    pub bytes: u64,
    /// When it was last asked for.
    pub asked_for: SystemTime,
    /// Somebody holds a lock on its root file system, as containers on it do.
    pub in_use: bool,
}

/// What is there of an image that is not unpacked: one is being fetched, or was when its process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    pub digest: Digest,
    /// On this disk.
    pub bytes: u64,
    /// When something was last added.
    pub since: SystemTime,
    /// Somebody is at it.
    pub under_way: bool,
}

/// Keeps an image from being removed, until it is dropped.
#[derive(Debug)]
pub struct Held(#[allow(dead_code, reason = "the lock lives as long as the open file")] File);

impl Images {
    /// The image, kept from being removed; none if it was already. Waits for who has it locked for a moment.
    ///
    /// Errors: [`Error::Io`].
    pub fn hold(&self, image: &Image) -> Result<Option<Held>, Error> {
        let rootfs = &image.rootfs;
        let folder = match File::open(rootfs) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            folder => folder.map_err(Error::io("opening", rootfs))?,
        };
        folder.lock_shared().map_err(Error::io("locking", rootfs))?;
        let ours = folder.metadata().map_err(Error::io("examining", rootfs))?;
        let there =
            rootfs.metadata().is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
        Ok(there.then_some(Held(folder)))
    }

    /// What is there of images that are not unpacked.
    ///
    /// Errors: [`Error::Io`].
    pub fn unfinished(&self) -> Result<Vec<Unfinished>, Error> {
        let digests = self.folder.unfinished()?.into_iter();
        let mut all: Vec<Unfinished> =
            digests.filter_map(|digest| self.folder.look_at_unfinished(digest)).collect();
        all.sort_by_key(|one| std::cmp::Reverse(one.since));
        Ok(all)
    }

    /// Removes that to which nothing was added since `before`, unless somebody is at it. Gives what was removed.
    ///
    /// Errors: [`Error::Io`].
    pub fn remove_unfinished(&self, before: SystemTime) -> Result<Vec<Unfinished>, Error> {
        let mut removed = Vec::new();
        for one in self.unfinished()? {
            if !one.under_way && one.since < before && self.folder.remove_unfinished(&one.digest)? {
                removed.push(one);
            }
        }
        Ok(removed)
    }

    /// What all other images take up.
    pub(crate) fn taken_by_others(&self, digest: &Digest) -> Result<u64, Error> {
        let images = self.list()?.into_iter().filter(|image| image.digest != *digest);
        let images = images.map(|image| self.bytes(&image)).sum::<Result<u64, Error>>()?;
        let unfinished = self.folder.unfinished()?.into_iter().filter(|other| other != digest);
        Ok(images + unfinished.map(|other| self.folder.unfinished_bytes(&other)).sum::<u64>())
    }

    /// Removes what nobody uses until all but one image take up at most `keep_bytes`, if it can be; gives what they do.
    pub(crate) fn make_room(&self, keep_bytes: u64, but: &Digest) -> Result<u64, Error> {
        let mut taken = self.taken_by_others(but)?;
        for one in self.unfinished()?.into_iter().rev() {
            if taken > keep_bytes && one.digest != *but && self.folder.remove_unfinished(&one.digest)? {
                taken = taken.saturating_sub(one.bytes);
            }
        }
        for oldest in self.stock()?.into_iter().rev() {
            if taken > keep_bytes && oldest.image.digest != *but && self.remove_unused(&oldest)? {
                taken = taken.saturating_sub(oldest.bytes);
            }
        }
        Ok(taken)
    }

    fn remove_unused(&self, stocked: &Stocked) -> Result<bool, Error> {
        match self.folder.remove_at_once(&stocked.image.digest) {
            Ok(()) => Ok(true),
            Err(Error::InUse(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All unpacked images, those last asked for first.
    ///
    /// Errors: [`Error::Io`].
    pub fn stock(&self) -> Result<Vec<Stocked>, Error> {
        let records = self.records()?;
        let mut stock = Vec::new();
        for image in self.list()? {
            let rootfs = image.rootfs.clone();
            match self.stocked(image, &records) {
                // Removed since.
                Err(_) if !rootfs.exists() => {}
                stocked => stock.push(stocked?),
            }
        }
        stock.sort_by_key(|stocked| std::cmp::Reverse(stocked.asked_for));
        Ok(stock)
    }

    fn stocked(&self, image: Image, records: &[Record]) -> Result<Stocked, Error> {
        let of_it = records.iter().filter(|record| record.digest == image.digest);
        let config = self.folder.config(&image.digest);
        let metadata = fs::metadata(&config).map_err(Error::io("examining", &config))?;
        Ok(Stocked {
            references: of_it.map(|record| record.reference.clone()).collect(),
            bytes: self.bytes(&image)?,
            asked_for: metadata.modified().map_err(Error::io("examining", &config))?,
            in_use: self.folder.is_used(&image.rootfs)?,
            image,
        })
    }

    /// The image with this digest, a beginning of it that is no other's (at least 6 digits), or the one this reference led to.
    ///
    /// Errors: [`Error::NotFound`].
    pub fn find(&self, name: &str) -> Result<Image, Error> {
        if let Some(image) = self.known(name) {
            return Ok(image);
        }
        let digits = name.strip_prefix("sha256:").unwrap_or(name);
        let mut found = self.list()?;
        found.retain(|image| digits.len() >= 6 && image.digest.hex().starts_with(digits));
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(Error::NotFound(name.into())),
            _ => Err(Error::NotFound(format!("{name}: several digests begin so"))),
        }
    }

    /// Removes images, those first that nobody has asked for longest, until what is left takes up at most `keep_bytes`. One that is in
    /// use stays, and so does one that was asked for after `before`: whoever did may be about to use it. What is unfinished counts, and goes
    /// before all others. Gives what was removed.
    ///
    /// Errors: [`Error::Io`]. What was removed before stays so.
    pub fn prune(&self, keep_bytes: u64, before: SystemTime) -> Result<Vec<Stocked>, Error> {
        let mut stock = self.stock()?;
        let unfinished = || Ok::<_, Error>(self.unfinished()?.iter().map(|one| one.bytes).sum::<u64>());
        let mut bytes = stock.iter().map(|stocked| stocked.bytes).sum::<u64>() + unfinished()?;
        if bytes > keep_bytes {
            let gone = self.remove_unfinished(before)?;
            bytes = bytes.saturating_sub(gone.iter().map(|one| one.bytes).sum());
        }
        let mut removed = Vec::new();
        while let Some(oldest) = stock.pop() {
            if bytes > keep_bytes && oldest.asked_for < before && self.remove_unused(&oldest)? {
                bytes = bytes.saturating_sub(oldest.bytes);
                removed.push(oldest);
            }
        }
        Ok(removed)
    }

    /// Notes that somebody asks for it now.
    pub(crate) fn note_asked(&self, digest: &Digest) -> Result<(), Error> {
        let config = self.folder.config(digest);
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        utimensat(CWD, &config, &times, rustix::fs::AtFlags::empty())
            .map_err(Error::io("noting the use of", &config))
    }

    /// Measured once: an unpacked image does not change.
    fn bytes(&self, image: &Image) -> Result<u64, Error> {
        let path = self.folder.size(&image.digest);
        if let Some(bytes) = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()) {
            return Ok(bytes);
        }
        let bytes = taken_by(&image.rootfs);
        write_atomically(&path, bytes.to_string().as_bytes())?;
        Ok(bytes)
    }

    fn records(&self) -> Result<Vec<Record>, Error> {
        let path = self.folder.references();
        let entries = fs::read_dir(&path).map_err(Error::io("reading", &path))?;
        let read = |entry: fs::DirEntry| serde_json::from_slice(&fs::read(entry.path()).ok()?).ok();
        let mut records: Vec<Record> = entries.flatten().filter_map(read).collect();
        records.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(records)
    }
}

impl Folder {
    /// The lock that who removes an image must have; nobody has it while one who uses the image holds a shared lock.
    ///
    /// Errors: [`Error::InUse`].
    pub(crate) fn nobody_uses(&self, digest: &Digest) -> Result<Option<File>, Error> {
        let rootfs = self.rootfs(digest);
        let _turn = self.turn()?;
        match rootfs.exists() {
            false => Ok(None),
            true => exclusively(&rootfs)?.map(Some).ok_or(Error::InUse(*digest)),
        }
    }

    /// Images of which something is there that is not unpacked.
    fn unfinished(&self) -> Result<BTreeSet<Digest>, Error> {
        let mut digests = BTreeSet::new();
        for folder in [self.scratch(), self.rootfs_folder()] {
            for entry in fs::read_dir(&folder).map_err(Error::io("reading", &folder))? {
                let name = entry.map_err(Error::io("reading", &folder))?.file_name();
                let Some(name) = name.to_str() else { continue };
                let begun = match folder == self.scratch() {
                    true => name.strip_prefix("sha256-"),
                    false => name.strip_prefix(".sha256-").and_then(|name| name.split('.').next()),
                };
                digests.extend(begun.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok()));
            }
        }
        Ok(digests)
    }

    /// Its blobs, its tree as far as it is unpacked, and what was put aside meanwhile.
    fn parts_of_unfinished(&self, digest: &Digest) -> Vec<PathBuf> {
        let name = format!(".{}.", digest.file_name());
        let entries = fs::read_dir(self.rootfs_folder()).into_iter().flatten().flatten();
        let trees = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&name));
        let blobs = Some(self.blobs(digest)).filter(|blobs| blobs.exists());
        blobs.into_iter().chain(trees.map(|entry| entry.path())).collect()
    }

    pub(crate) fn unfinished_bytes(&self, digest: &Digest) -> u64 {
        self.parts_of_unfinished(digest).iter().map(|part| taken_by(part)).sum()
    }

    /// None if it is gone by now.
    fn look_at_unfinished(&self, digest: Digest) -> Option<Unfinished> {
        let parts = self.parts_of_unfinished(&digest);
        let begun = |part: &PathBuf| fs::symlink_metadata(part).ok()?.modified().ok();
        let since = parts.iter().filter_map(begun).max()?;
        let under_way = self.try_lock(&digest).ok()?.is_none();
        Some(Unfinished { bytes: self.unfinished_bytes(&digest), digest, since, under_way })
    }

    /// False if somebody is at it.
    fn remove_unfinished(&self, digest: &Digest) -> Result<bool, Error> {
        let Some(_lock) = self.try_lock(digest)? else { return Ok(false) };
        discard(&self.partial(digest))?;
        self.forget_blobs(digest)?;
        Ok(true)
    }

    /// One looks at a time, so that who only looks is not taken for one who uses it. Those who use it wait that moment.
    fn is_used(&self, rootfs: &Path) -> Result<bool, Error> {
        let _turn = self.turn()?;
        Ok(exclusively(rootfs)?.is_none())
    }
}

/// The folder, locked against all others; `None` if somebody has it locked.
fn exclusively(rootfs: &Path) -> Result<Option<File>, Error> {
    let folder = File::open(rootfs).map_err(Error::io("opening", rootfs))?;
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(folder)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(Error::io("locking", rootfs)(error)),
    }
}

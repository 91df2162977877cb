//! What an images folder holds: how large it is, what is used, and what goes first when there is too much.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{CWD, FlockOperation, Timespec, Timestamps, UTIME_NOW, flock, utimensat};

use crate::unpack::{Folder, write_atomically};
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

impl Images {
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
    /// use stays, and so does one that was asked for after `before`: whoever did may be about to use it. Gives what was removed.
    ///
    /// Errors: [`Error::Io`]. What was removed before stays so.
    pub fn prune(&self, keep_bytes: u64, before: SystemTime) -> Result<Vec<Stocked>, Error> {
        let mut stock = self.stock()?;
        let mut bytes: u64 = stock.iter().map(|stocked| stocked.bytes).sum();
        let mut removed = Vec::new();
        while let Some(oldest) = stock.pop() {
            if bytes <= keep_bytes {
                break;
            }
            if oldest.in_use || oldest.asked_for >= before {
                continue;
            }
            match self.remove(&oldest.image.digest) {
                Ok(()) => {
                    bytes -= oldest.bytes;
                    removed.push(oldest);
                }
                // Since a moment ago.
                Err(Error::InUse(_)) => {}
                Err(error) => return Err(error),
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
        let bytes = measure(&image.rootfs).map_err(Error::io("measuring", &image.rootfs))?;
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

/// What a tree takes up; a file with several names counts once.
fn measure(root: &Path) -> std::io::Result<u64> {
    let (mut bytes, mut seen, mut open) = (0, HashSet::new(), vec![root.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if metadata.nlink() > 1 && !metadata.is_dir() && !seen.insert(metadata.ino()) {
                continue;
            }
            bytes += metadata.blocks() * 512;
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    Ok(bytes)
}

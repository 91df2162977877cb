//! What an images folder holds: how large it is, what is used, and what goes first when there is too much.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{CWD, Timespec, Timestamps, UTIME_NOW, utimensat};

use crate::room::taken_by;
use crate::unpack::{Folder, digest_of, discard, exclusively, held, names, write_atomically};
use crate::{Digest, Error, Image, Images, Record};

/// An unpacked image, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stocked {
    pub image: Image,
    /// What it was asked for by, as far as that would still lead to it.
    pub references: Vec<String>,
    /// On this disk, with what other images have as well.
    pub bytes: u64,
    /// When it was last asked for.
    pub asked_for: SystemTime,
    /// Somebody has it locked, as containers on it do.
    pub in_use: bool,
}

/// What is there of an image that is not unpacked: one is being fetched, or was when its process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    pub digest: Digest,
    /// On this disk, but for what images have that are complete.
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
        Ok(held(&image.lock)?.map(Held))
    }

    /// What is there of images that are not unpacked.
    ///
    /// Errors: [`Error::Io`].
    pub fn unfinished(&self) -> Result<Vec<Unfinished>, Error> {
        let digests = self.folder.unfinished()?.into_iter();
        let mut all: Vec<Unfinished> = digests.filter_map(|digest| self.look_at_unfinished(digest)).collect();
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

    /// None if it is gone by now.
    fn look_at_unfinished(&self, digest: Digest) -> Option<Unfinished> {
        let parts = self.folder.parts_of_unfinished(&digest);
        let begun = |part: &PathBuf| fs::symlink_metadata(part).ok()?.modified().ok();
        let since = parts.iter().filter_map(begun).max()?;
        let under_way = self.folder.try_lock(&digest.file_name()).ok()?.is_none();
        let layers = self.folder.layers_of_unfinished(&digest).ok()?;
        let layers = self.taken_by_own(&digest, &layers).ok()?;
        Some(Unfinished { digest, bytes: layers, since, under_way })
    }

    /// What all images take up, and what is unfinished. What several images have counts once.
    pub(crate) fn taken(&self) -> Result<u64, Error> {
        let folders = self.folder.all_folders()?;
        let folders = folders.iter().map(|folder| self.bytes_of(folder)).sum::<Result<u64, Error>>()?;
        let unfinished = self.folder.unfinished()?;
        Ok(folders + unfinished.iter().map(|digest| self.folder.unfinished_bytes(digest)).sum::<u64>())
    }

    /// What the image that is just being unpacked takes up, of which these layers are complete.
    pub(crate) fn taken_by_own(&self, digest: &Digest, layers: &[String]) -> Result<u64, Error> {
        let layers = layers.iter().map(|name| self.bytes_of(&self.folder.layer(name)));
        Ok(self.folder.unfinished_bytes(digest) + layers.sum::<Result<u64, Error>>()?)
    }

    /// Removes what nobody uses until all together take up at most `keep_bytes`, if it can be; but nothing of one image.
    pub(crate) fn make_room(&self, keep_bytes: u64, but: &Digest) -> Result<(), Error> {
        self.folder.sweep_layers()?;
        for one in self.unfinished()?.into_iter().rev() {
            if one.digest != *but && self.taken()? > keep_bytes {
                self.folder.remove_unfinished(&one.digest)?;
            }
        }
        for oldest in self.stock()?.into_iter().rev() {
            if oldest.image.digest != *but && self.taken()? > keep_bytes {
                self.remove_unused(&oldest)?;
            }
        }
        Ok(())
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
            let digest = image.digest;
            match self.stocked(image, &records) {
                // Removed since.
                Err(_) if self.folder.folders(&digest).is_none() => {}
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
            in_use: self.folder.is_used(&image.lock)?,
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
        self.folder.sweep_layers()?;
        if self.taken()? > keep_bytes {
            self.remove_unfinished(before)?;
        }
        let mut removed = Vec::new();
        for oldest in self.stock()?.into_iter().rev() {
            if oldest.asked_for < before && self.taken()? > keep_bytes && self.remove_unused(&oldest)? {
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

    fn bytes(&self, image: &Image) -> Result<u64, Error> {
        image.rootfs.iter().map(|folder| self.bytes_of(folder)).sum()
    }

    /// Measured once: a complete folder of an image does not change.
    fn bytes_of(&self, folder: &Path) -> Result<u64, Error> {
        let path = self.folder.size(folder);
        if let Some(bytes) = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()) {
            return Ok(bytes);
        }
        let bytes = taken_by(folder);
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
    /// Images of which something is there that is not unpacked.
    fn unfinished(&self) -> Result<BTreeSet<Digest>, Error> {
        let blobs = names(&self.scratch())?;
        let trees = names(&self.layers_folder())?;
        let trees = trees.iter().filter_map(|name| name.strip_prefix('.')?.split_once(".partial"));
        let begun = blobs.iter().map(String::as_str).chain(trees.map(|(name, _)| name));
        Ok(begun.filter_map(digest_of).collect())
    }

    /// Its blobs, its tree as far as it is unpacked, and what was put aside meanwhile.
    pub(crate) fn parts_of_unfinished(&self, digest: &Digest) -> Vec<PathBuf> {
        let name = format!(".{}.partial", digest.file_name());
        let entries = fs::read_dir(self.layers_folder()).into_iter().flatten().flatten();
        let trees = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&name));
        let blobs = Some(self.blobs(digest)).filter(|blobs| blobs.exists());
        blobs.into_iter().chain(trees.map(|entry| entry.path())).collect()
    }

    pub(crate) fn unfinished_bytes(&self, digest: &Digest) -> u64 {
        self.parts_of_unfinished(digest).iter().map(|part| taken_by(part)).sum()
    }

    /// False if somebody is at it.
    fn remove_unfinished(&self, digest: &Digest) -> Result<bool, Error> {
        let Some(_lock) = self.try_lock(&digest.file_name())? else { return Ok(false) };
        discard(&self.partial(digest))?;
        self.forget_blobs(digest)?;
        self.sweep_layers()?;
        Ok(true)
    }

    /// One looks at a time, so that who only looks is not taken for one who uses it. Those who use it wait that moment.
    fn is_used(&self, folder: &Path) -> Result<bool, Error> {
        let _turn = self.turn()?;
        Ok(exclusively(folder)?.is_none())
    }
}

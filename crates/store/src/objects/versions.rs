//! Versions of objects, for buckets that keep them: an attribute of the bucket's folder says so. The present version of an object is the
//! plain file that it always is; what it was before lies in `.versions/<bucket>/<SHA-256 of the key>/<version>`, with the key in the
//! file `key` beside, and so do the markers that a deletion leaves.
//!
//! Everything here that changes something happens under the bucket's lock. An earlier version is linked to its place before it
//! loses the other one: a crash in between leaves it in both, and it counts once.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;

use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, XattrFlags};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::attributes::{self, Attributes, Digests};
use super::path::KeyPath;
use super::temporary::{self, TemporaryFile, hex, random_name};
use super::{Metadata, ObjectInfo, Objects, tree};
use crate::error::{Doing, Error, Result};

const STATUS: &str = "user.buildyard.versioning";
/// In a folder of versions: whose they are.
const KEY: &str = "key";
/// The version of what was put while none were kept.
const UNNAMED: &str = "null";

/// Whether a bucket keeps versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versioning {
    /// Each write is a version of its own.
    Enabled,
    /// Those that there are stay; what is written takes the place of the one without a name.
    Suspended,
}

/// One version of an object, or the marker that it was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionInfo {
    /// Its `version` is set.
    pub object: ObjectInfo,
    pub is_latest: bool,
    pub is_marker: bool,
}

/// What a deletion left or took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deleted {
    /// There was something.
    pub was_there: bool,
    /// Of the version that was deleted, or of the marker that was made.
    pub version: Option<String>,
    pub is_marker: bool,
}

impl Objects {
    /// Whether the bucket keeps versions; nothing if it never did.
    pub fn versioning(&self, bucket: &str) -> Result<Option<Versioning>> {
        status(self.open_bucket(bucket)?)
    }

    pub fn set_versioning(&self, bucket: &str, versioning: Versioning) -> Result<()> {
        let folder = self.lock_bucket(bucket)?;
        let text: &[u8] = match versioning {
            Versioning::Enabled => b"Enabled",
            Versioning::Suspended => b"Suspended",
        };
        rustix::fs::fsetxattr(&folder, STATUS, text, XattrFlags::empty())
            .doing("noting that a bucket keeps versions")?;
        tree::sync(folder)
    }

    /// As [`Objects::get`], of this version if one is named.
    ///
    /// # Errors
    /// `NoSuchVersion`, also for a marker: there is nothing to be read.
    pub fn get_version(&self, bucket: &str, key: &str, version: Option<&str>) -> Result<(File, ObjectInfo)> {
        let Some(version) = version else { return self.get(bucket, key) };
        match self.get(bucket, key) {
            Ok((file, info)) if named(&info) == version => return Ok((file, info)),
            Ok(_) | Err(Error::NoSuchKey(_)) => {}
            Err(error) => return Err(error),
        }
        let found = self.kept(bucket, key)?.map(|kept| open(&kept, version)).transpose()?.flatten();
        let file = found.ok_or_else(|| no_such_version(key, version))?;
        let attributes = attributes::attributes_of(&file)?;
        match attributes.is_marker {
            true => Err(no_such_version(key, version)),
            false => attributes::describe(&file, key).map(|info| (file, info)),
        }
    }

    /// Deletes one version, which may bring back the one before, or the object: where versions are kept, a marker takes its place.
    pub fn delete_version(&self, bucket: &str, key: &str, version: Option<&str>) -> Result<Deleted> {
        let path = KeyPath::of(key)?;
        let folder = self.lock_bucket(bucket)?;
        let status = status(&folder)?;
        match (version, status) {
            (None, None) => Ok(Deleted { was_there: tree::delete(&folder, &path)?, ..Deleted::default() }),
            (None, Some(status)) => {
                self.keep_current(&folder, (bucket, key), &path)?;
                let was_there = tree::delete(&folder, &path)?;
                let version = self.mark(bucket, key, status)?;
                Ok(Deleted { was_there, version: Some(version), is_marker: true })
            }
            (Some(version), _) => self.delete_one(&folder, (bucket, key), &path, version),
        }
    }

    /// Versions in the order of keys, the latest of each first: those of keys that begin with `prefix` and come behind `after`, a key and
    /// perhaps a version of it; at most `max`. True if there are more.
    pub fn list_versions(
        &self,
        bucket: &str,
        prefix: &str,
        after: Option<(&str, Option<&str>)>,
        max: usize,
    ) -> Result<(Vec<VersionInfo>, bool)> {
        let mut listed = Vec::new();
        for key in self.keys_with_versions(bucket, prefix, after.map(|(key, _)| key))? {
            let mut versions = self.versions(bucket, &key)?;
            if let Some((last, version)) = after
                && last == key
            {
                let seen =
                    version.and_then(|version| versions.iter().position(|it| named(&it.object) == version));
                versions = seen.map_or(Vec::new(), |at| versions.split_off(at + 1));
            }
            listed.extend(versions);
            if listed.len() > max {
                listed.truncate(max);
                return Ok((listed, true));
            }
        }
        Ok((listed, false))
    }

    /// The keys from `from` on of which there is, or was, an object.
    fn keys_with_versions(&self, bucket: &str, prefix: &str, from: Option<&str>) -> Result<Vec<String>> {
        let mut keys = std::collections::BTreeSet::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.list(bucket, prefix, None, after.as_deref(), 1000)?;
            keys.extend(page.objects.into_iter().map(|object| object.key));
            match page.next.filter(|_| page.truncated) {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        if let Some(all) = tree::open_folder(&self.root.versions, bucket)? {
            for entry in tree::entries(&all)? {
                let Some(folder) =
                    entry.text().map(|name| tree::open_folder(&all, name)).transpose()?.flatten()
                else {
                    continue;
                };
                keys.extend(key_of(&folder)?.filter(|key| key.starts_with(prefix)));
            }
        }
        Ok(keys.into_iter().filter(|key| from.is_none_or(|from| key.as_str() >= from)).collect())
    }

    /// All versions of an object, the latest first.
    fn versions(&self, bucket: &str, key: &str) -> Result<Vec<VersionInfo>> {
        let current = match self.head(bucket, key) {
            Ok(info) => Some(info),
            Err(Error::NoSuchKey(_)) => None,
            Err(error) => return Err(error),
        };
        let mut earlier =
            self.kept(bucket, key)?.map_or_else(|| Ok(Vec::new()), |kept| earlier(&kept, key))?;
        earlier.retain(|(info, _)| current.as_ref().is_none_or(|current| named(current) != named(info)));
        let all = current.into_iter().map(|info| (info, false)).chain(earlier);
        Ok(all
            .enumerate()
            .map(|(at, (mut object, is_marker))| {
                object.version = Some(named(&object).to_owned());
                VersionInfo { object, is_latest: at == 0, is_marker }
            })
            .collect())
    }

    /// Links the present version to where earlier ones are, if the bucket keeps it.
    pub(super) fn keep_current(&self, folder: &OwnedFd, at: (&str, &str), path: &KeyPath) -> Result<()> {
        let Some(status) = status(folder)? else { return Ok(()) };
        let Some(file) = tree::open_object(folder, path)? else { return Ok(()) };
        let version = attributes::describe(&file, at.1)?.version;
        if status == Versioning::Suspended {
            if let Some(kept) = self.kept(at.0, at.1)? {
                tree::remove_file(&kept, UNNAMED)?;
            }
            if version.is_none() {
                return Ok(());
            }
        }
        let kept = self.make_kept(at.0, at.1)?;
        link(&file, &kept, version.as_deref().unwrap_or(UNNAMED))?;
        tree::sync(kept)
    }

    /// Leaves a marker that the object was deleted; gives its version.
    fn mark(&self, bucket: &str, key: &str, status: Versioning) -> Result<String> {
        let version = next(Some(status))?;
        let name = version.clone().unwrap_or_else(|| UNNAMED.to_owned());
        let mut marker = TemporaryFile::create(&self.root.temporary)?;
        let digests = Digests { etag: String::new(), sha256: None };
        attributes::attach_as(&marker.file, digests, Metadata::default(), version, true)?;
        marker.sync()?;
        let kept = self.make_kept(bucket, key)?;
        rustix::fs::renameat(marker.folder(), &marker.name, &kept, &name).doing("leaving a marker")?;
        marker.keep();
        tree::sync(kept)?;
        Ok(name)
    }

    fn delete_one(
        &self,
        folder: &OwnedFd,
        (bucket, key): (&str, &str),
        path: &KeyPath,
        version: &str,
    ) -> Result<Deleted> {
        let current =
            tree::open_object(folder, path)?.map(|file| attributes::describe(&file, key)).transpose()?;
        let is_current = current.as_ref().is_some_and(|info| named(info) == version);
        let kept = self.kept(bucket, key)?;
        let earlier = kept.as_ref().map(|kept| open(kept, version)).transpose()?.flatten();
        let is_marker = match &earlier {
            Some(file) => attributes::attributes_of(file)?.is_marker,
            None => false,
        };
        if let (Some(kept), Some(_)) = (&kept, &earlier) {
            tree::remove_file(kept, version)?;
        }
        if is_current {
            tree::delete(folder, path)?;
        }
        if let Some(kept) = &kept
            && (is_current || current.is_none())
        {
            self.bring_back(folder, kept, key, path)?;
        }
        if let Some(kept) = kept {
            self.tidy(bucket, key, &kept)?;
        }
        let was_there = is_current || earlier.is_some();
        Ok(Deleted { was_there, version: Some(version.to_owned()), is_marker })
    }

    /// Makes the latest of the earlier versions the present one, unless it is a marker.
    fn bring_back(&self, folder: &OwnedFd, kept: &OwnedFd, key: &str, path: &KeyPath) -> Result<()> {
        let Some((latest, false)) = earlier(kept, key)?.into_iter().next() else { return Ok(()) };
        let place = tree::make_place(folder, path, &self.root.temporary)?;
        tree::sync(place.take(kept, named(&latest))?)
    }

    /// Removes the folder of versions when it holds none.
    fn tidy(&self, bucket: &str, key: &str, kept: &OwnedFd) -> Result<()> {
        let is_empty = tree::entries(kept)?.iter().all(|entry| entry.text() == Some(KEY));
        if is_empty && let Some(all) = tree::open_folder(&self.root.versions, bucket)? {
            temporary::remove_files(kept)?;
            tree::remove_folder(&all, &folder_name(key))?;
        }
        Ok(())
    }

    /// Whether there are versions in a bucket beside its objects.
    pub(super) fn has_versions(&self, bucket: &str) -> Result<bool> {
        let all = tree::open_folder(&self.root.versions, bucket)?;
        Ok(all.map(tree::entries).transpose()?.is_some_and(|entries| !entries.is_empty()))
    }

    fn kept(&self, bucket: &str, key: &str) -> Result<Option<OwnedFd>> {
        let all = tree::open_folder(&self.root.versions, bucket)?;
        Ok(all.map(|all| tree::open_folder(all, &folder_name(key))).transpose()?.flatten())
    }

    fn make_kept(&self, bucket: &str, key: &str) -> Result<OwnedFd> {
        let all = tree::make_folder(&self.root.versions, bucket)?;
        let kept = tree::make_folder(&all, &folder_name(key))?;
        if tree::open_file_or_folders_object(&kept, KEY)?.is_none() {
            let mut file = TemporaryFile::create(&self.root.temporary)?;
            file.file.write_all(key.as_bytes()).doing("noting whose versions are kept")?;
            file.sync()?;
            rustix::fs::renameat(file.folder(), &file.name, &kept, KEY)
                .doing("noting whose versions are kept")?;
            file.keep();
            tree::sync(&all)?;
        }
        Ok(kept)
    }
}

/// The version of what is written next.
pub(super) fn next(status: Option<Versioning>) -> Result<Option<String>> {
    match status {
        Some(Versioning::Enabled) => random_name().map(Some),
        Some(Versioning::Suspended) | None => Ok(None),
    }
}

pub(super) fn status(bucket: impl AsFd) -> Result<Option<Versioning>> {
    let mut text = [0; 16];
    match rustix::fs::fgetxattr(bucket, STATUS, &mut text) {
        Ok(length) if text[..length] == *b"Enabled" => Ok(Some(Versioning::Enabled)),
        Ok(_) => Ok(Some(Versioning::Suspended)),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error).doing("reading whether a bucket keeps versions"),
    }
}

/// As versions are called: what has no name of its own is `null`.
pub(super) fn named(info: &ObjectInfo) -> &str {
    info.version.as_deref().unwrap_or(UNNAMED)
}

fn folder_name(key: &str) -> String {
    hex(&Sha256::digest(key))
}

fn no_such_version(key: &str, version: &str) -> Error {
    Error::NoSuchVersion { key: key.to_owned(), version: version.to_owned() }
}

/// The earlier version of this name; names are ours, or there is none.
fn open(kept: &OwnedFd, version: &str) -> Result<Option<File>> {
    let is_ours =
        version == UNNAMED || version.len() == 32 && version.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_ours { tree::open_file_or_folders_object(kept, version) } else { Ok(None) }
}

fn key_of(kept: &OwnedFd) -> Result<Option<String>> {
    let Some(file) = tree::open_file_or_folders_object(kept, KEY)? else { return Ok(None) };
    std::io::read_to_string(file).map(Some).doing("reading whose versions are kept")
}

/// What is kept of an object, the latest first, and whether it is a marker.
fn earlier(kept: &OwnedFd, key: &str) -> Result<Vec<(ObjectInfo, bool)>> {
    let mut found = BTreeMap::new();
    for entry in tree::entries(kept)? {
        let Some(name) = entry.text().filter(|name| *name != KEY) else { continue };
        let Some(file) = open(kept, name)? else { continue };
        let Attributes { is_marker, .. } = attributes::attributes_of(&file)?;
        let mut info = attributes::describe(&file, key)?;
        info.version = Some(name.to_owned());
        found.insert((info.modified, name.to_owned()), (info, is_marker));
    }
    Ok(found.into_values().rev().collect())
}

/// Gives an open file one more name; what has it is replaced.
pub(super) fn link(file: &File, folder: &OwnedFd, name: &str) -> Result<()> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    tree::remove_file(folder, name)?;
    rustix::fs::linkat(CWD, path, folder, name, AtFlags::SYMLINK_FOLLOW).doing("keeping an earlier version")
}

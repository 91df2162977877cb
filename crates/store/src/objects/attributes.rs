//! What is stored beside an object's bytes: the extended attribute `user.buildyard`, a JSON text.
//!
//! It says for which size and modification time it was written. A file that was put there, or changed, by hand
//! does not match; its ETag is computed when first asked for, and remembered the same way.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::SystemTime;

use md5::{Digest, Md5};
use rustix::fd::AsFd;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::temporary::{TemporaryFile, hex};
use super::{Metadata, ObjectInfo};
use crate::error::{Doing, Error, Result};

const NAME: &str = "user.buildyard";
/// What surely fits into the one block that ext4 has for a file's attributes, in bytes.
const SIZE_LIMIT: usize = 3800;
/// S3's limit for the names and values of user metadata together, in bytes.
const USER_METADATA_LIMIT: usize = 2048;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attributes {
    pub(super) size: u64,
    /// Seconds and nanoseconds of the file's modification time.
    pub(super) modified: (i64, i64),
    pub(super) etag: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<String>,
    #[serde(default)]
    pub(super) metadata: Metadata,
    /// In a bucket that keeps versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
    /// It is no object but says that there is none any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_marker: bool,
}

/// Digests of the bytes that went into a file.
pub(super) struct Digests {
    pub(super) etag: String,
    pub(super) sha256: Option<String>,
}

pub(super) fn check_supported(temporary: impl AsFd, root: &Path) -> Result<()> {
    let file = match TemporaryFile::create(temporary) {
        // A full disk does not tell; what is written there later does.
        Err(Error::Full) => return Ok(()),
        made => made?,
    };
    match rustix::fs::fsetxattr(&file.file, NAME, b"{}", XattrFlags::empty()) {
        Err(Errno::NOSPC | Errno::DQUOT) => Ok(()),
        Err(Errno::NOTSUP | Errno::NOSYS | Errno::PERM) => Err(Error::NoExtendedAttributes(root.to_owned())),
        set => set.doing("trying extended attributes"),
    }
}

/// Gives a complete file its attributes.
pub(super) fn attach(file: &File, digests: Digests, metadata: Metadata) -> Result<(Attributes, SystemTime)> {
    attach_as(file, digests, metadata, None, false)
}

/// As `attach`, for a version of an object or a marker.
pub(super) fn attach_as(
    file: &File,
    digests: Digests,
    metadata: Metadata,
    version: Option<String>,
    is_marker: bool,
) -> Result<(Attributes, SystemTime)> {
    check_user_metadata(&metadata)?;
    let stat = file.metadata().doing("reading an object's size")?;
    let attributes = Attributes {
        size: stat.len(),
        modified: (stat.mtime(), stat.mtime_nsec()),
        etag: digests.etag,
        sha256: digests.sha256,
        metadata,
        version,
        is_marker,
    };
    store(file, &attributes)?;
    Ok((attributes, stat.modified().doing("reading an object's age")?))
}

/// `MetadataTooLarge` for what could never be stored; to be asked before the bytes are.
pub(super) fn check_user_metadata(metadata: &Metadata) -> Result<()> {
    let size: usize = metadata.user.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > USER_METADATA_LIMIT { Err(Error::MetadataTooLarge(size)) } else { Ok(()) }
}

fn store(file: &File, attributes: &Attributes) -> Result<()> {
    let text = serde_json::to_vec(attributes).map_err(|error| Error::internal("writing metadata", error))?;
    if text.len() > SIZE_LIMIT {
        return Err(Error::MetadataTooLarge(text.len()));
    }
    match rustix::fs::fsetxattr(file, NAME, &text, XattrFlags::empty()) {
        Err(Errno::TOOBIG | Errno::RANGE) => Err(Error::MetadataTooLarge(text.len())),
        set => set.doing("writing an object's metadata"),
    }
}

fn load(file: &File) -> Result<Option<Attributes>> {
    let mut text = [0; 4096];
    let length = match rustix::fs::fgetxattr(file, NAME, &mut text) {
        Ok(length) => length,
        Err(Errno::NODATA | Errno::RANGE | Errno::NOTSUP) => return Ok(None),
        Err(error) => return Err(error).doing("reading an object's metadata"),
    };
    // What is not our JSON was put there by hand as well, and counts for nothing.
    Ok(serde_json::from_slice(&text[..length]).ok())
}

/// What is known of an object, from its open file.
pub(super) fn describe(file: &File, key: &str) -> Result<ObjectInfo> {
    let stat = file.metadata().doing("reading an object's size")?;
    let stamp = (stat.len(), (stat.mtime(), stat.mtime_nsec()));
    let modified = stat.modified().doing("reading an object's age")?;
    let found = load(file)?;
    let attributes = match found {
        Some(attributes) if (attributes.size, attributes.modified) == stamp => attributes,
        found => inspect(file, stamp, found)?,
    };
    Ok(attributes.into_info(key, modified))
}

/// What lies beside a file of ours.
pub(super) fn attributes_of(file: &File) -> Result<Attributes> {
    load(file)?.map_or_else(|| inspect(file, (0, (0, 0)), None), Ok)
}

/// Computes what we were not told.
fn inspect(
    file: &File,
    (size, modified): (u64, (i64, i64)),
    found: Option<Attributes>,
) -> Result<Attributes> {
    let (metadata, version, is_marker) =
        found.map(|found| (found.metadata, found.version, found.is_marker)).unwrap_or_default();
    let attributes =
        Attributes { size, modified, etag: md5_of(file)?, sha256: None, metadata, version, is_marker };
    // Remembered so that the next listing need not read the file again; it may not be ours to write to.
    let _ = store(file, &attributes);
    Ok(attributes)
}

fn md5_of(file: &File) -> Result<String> {
    let mut md5 = Md5::new();
    let mut buffer = vec![0; 128 * 1024];
    let mut offset = 0;
    loop {
        // Not `read`: the caller's place in the file stays what it is.
        let count = file.read_at(&mut buffer, offset).doing("reading an object")?;
        if count == 0 {
            return Ok(hex(&md5.finalize()));
        }
        md5.update(&buffer[..count]);
        offset += count as u64;
    }
}

/// Reads a small text file that lies beside an upload.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(mut file: File) -> Result<T> {
    let mut text = Vec::new();
    file.read_to_end(&mut text).doing("reading an upload")?;
    serde_json::from_slice(&text).map_err(|error| Error::internal("reading an upload", error))
}

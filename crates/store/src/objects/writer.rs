//! Writing one object: a temporary file that becomes the object in one rename.

use std::fmt;
use std::io::{self, Write};

use md5::{Digest, Md5};
use sha2::Sha256;

use super::attributes::{self, Digests};
use super::path::KeyPath;
use super::temporary::{TemporaryFile, hex};
use super::{Metadata, ObjectInfo, Objects, tree, versions};
use crate::error::{Error, Result};

/// What must be true of the key, at the moment it is written, for the write to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    Any,
    /// There is no object yet (`If-None-Match: *`).
    Absent,
    /// There is an object with this ETag, without quotes (`If-Match`).
    HasEtag(String),
}

/// An object being written. Dropped without `finish`, nothing remains of it.
pub struct ObjectWriter {
    pub(super) objects: Objects,
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) path: KeyPath,
    pub(super) temporary: TemporaryFile,
    pub(super) hashes: Hashes,
}

impl fmt::Debug for ObjectWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectWriter")
            .field("bucket", &self.bucket)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl ObjectWriter {
    pub(super) fn begin(objects: &Objects, bucket: &str, key: &str) -> Result<ObjectWriter> {
        ObjectWriter::begin_in(objects, &objects.root.temporary, bucket, key)
    }

    /// Bytes written so far.
    pub fn size(&self) -> u64 {
        self.hashes.size
    }

    /// Digests of the bytes written so far, to be compared with what the client promised: MD5 and SHA-256.
    pub fn digests(&self) -> ([u8; 16], [u8; 32]) {
        self.hashes.peek()
    }

    /// Makes the bytes written the object, in place of any before it; durable when this returns.
    pub fn finish(self, metadata: Metadata) -> Result<ObjectInfo> {
        self.finish_if(&Condition::Any, metadata)
    }

    /// As `finish`, but `PreconditionFailed` where the key does not meet `condition`.
    pub fn finish_if(self, condition: &Condition, metadata: Metadata) -> Result<ObjectInfo> {
        let ObjectWriter { objects, bucket, key, path, temporary, hashes } = self;
        let digests = hashes.digests();
        Target { objects: &objects, bucket: &bucket, key: &key, path: &path }
            .place(temporary, digests, condition, metadata)
    }
}

impl Write for ObjectWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.temporary.file.write(bytes)?;
        self.hashes.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct Hashes {
    md5: Md5,
    sha256: Sha256,
    size: u64,
}

impl Hashes {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.sha256.update(bytes);
        self.size += bytes.len() as u64;
    }

    pub(super) fn peek(&self) -> ([u8; 16], [u8; 32]) {
        (self.md5.clone().finalize().into(), self.sha256.clone().finalize().into())
    }

    pub(super) fn digests(self) -> Digests {
        Digests { etag: hex(&self.md5.finalize()), sha256: Some(hex(&self.sha256.finalize())) }
    }
}

/// The key that a complete temporary file is to become.
pub(super) struct Target<'a> {
    pub(super) objects: &'a Objects,
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    pub(super) path: &'a KeyPath,
}

impl Target<'_> {
    pub(super) fn place(
        &self,
        mut temporary: TemporaryFile,
        digests: Digests,
        condition: &Condition,
        metadata: Metadata,
    ) -> Result<ObjectInfo> {
        let version = versions::next(versions::status(self.objects.open_bucket(self.bucket)?)?)?;
        let (attributes, modified) =
            attributes::attach_as(&temporary.file, digests, metadata, version, false)?;
        temporary.sync()?;
        let bucket = self.objects.lock_bucket(self.bucket)?;
        self.check(&bucket, condition)?;
        self.objects.keep_current(&bucket, (self.bucket, self.key), self.path)?;
        let place = tree::make_place(&bucket, self.path, temporary.folder())?;
        let folder = place.take(temporary.folder(), &temporary.name)?;
        temporary.keep();
        drop(bucket);
        tree::sync(folder)?;
        Ok(attributes.into_info(self.key, modified))
    }

    fn check(&self, bucket: &rustix::fd::OwnedFd, condition: &Condition) -> Result<()> {
        let current = || tree::open_object(bucket, self.path);
        let met = match condition {
            Condition::Any => true,
            Condition::Absent => current()?.is_none(),
            Condition::HasEtag(etag) => {
                let file = current()?.ok_or_else(|| Error::NoSuchKey(self.key.to_owned()))?;
                attributes::describe(&file, self.key)?.etag == *etag
            }
        };
        if met { Ok(()) } else { Err(Error::PreconditionFailed(self.key.to_owned())) }
    }
}

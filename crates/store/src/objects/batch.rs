//! Objects that belong together: written one after the other, and then there all at once or not at all.
//!
//! They wait complete in a folder of their own. The last step gives them their names under the bucket's lock; should that go wrong in the
//! middle, those that have theirs already lose them again, and what was there before is back.

use std::fmt;
use std::fs::File;

use rustix::fd::OwnedFd;

use super::attributes;
use super::path::KeyPath;
use super::temporary::{self, TemporaryFile, TemporaryFolder};
use super::versions::{link, next, status};
use super::writer::{Hashes, ObjectWriter};
use super::{Metadata, Objects, tree};
use crate::error::{Doing, Result};

/// Objects of one bucket on their way. Dropped without `finish`, nothing of them is ever seen.
pub struct Batch {
    objects: Objects,
    bucket: String,
    folder: TemporaryFolder,
    /// The keys and the files that are to have them.
    written: Vec<(String, String)>,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("bucket", &self.bucket)
            .field("objects", &self.written.len())
            .finish_non_exhaustive()
    }
}

impl Objects {
    pub fn batch(&self, bucket: &str) -> Result<Batch> {
        self.open_bucket(bucket)?;
        let folder = TemporaryFolder::create(&self.root.temporary)?;
        Ok(Batch { objects: self.clone(), bucket: bucket.to_owned(), folder, written: Vec::new() })
    }
}

impl Batch {
    /// Begins one of the objects; it is to be given to [`Batch::add`].
    pub fn put(&self, key: &str) -> Result<ObjectWriter> {
        ObjectWriter::begin_in(&self.objects, &self.folder.handle, &self.bucket, key)
    }

    /// Takes an object that is complete.
    pub fn add(&mut self, writer: ObjectWriter, metadata: Metadata) -> Result<()> {
        let ObjectWriter { key, mut temporary, hashes, .. } = writer;
        let version = next(status(self.objects.open_bucket(&self.bucket)?)?)?;
        attributes::attach_as(&temporary.file, Hashes::digests(hashes), metadata, version, false)?;
        temporary.keep();
        self.written.push((key, temporary.name.clone()));
        Ok(())
    }

    /// Makes all of them objects, in place of any before them; durable when this returns.
    pub fn finish(self) -> Result<()> {
        // All of them in one go.
        rustix::fs::syncfs(&self.folder.handle).doing("syncing objects")?;
        let bucket = self.objects.lock_bucket(&self.bucket)?;
        let mut named = Vec::new();
        for (number, (key, name)) in self.written.iter().enumerate() {
            let path = KeyPath::of(key)?;
            let placed = self.place(&bucket, key, &path, name, &format!("before-{number}"));
            named.push((path, number));
            if let Err(error) = placed {
                self.take_back(&bucket, named);
                return Err(error);
            }
        }
        drop(bucket);
        rustix::fs::syncfs(&self.folder.handle).doing("syncing objects")
    }

    fn place(&self, bucket: &OwnedFd, key: &str, path: &KeyPath, name: &str, before: &str) -> Result<()> {
        if let Some(file) = tree::open_object(bucket, path)? {
            link(&file, &self.folder.handle, before)?;
        }
        self.objects.keep_current(bucket, (&self.bucket, key), path)?;
        let place = tree::make_place(bucket, path, &self.objects.root.temporary)?;
        place.take(&self.folder.handle, name).map(drop)
    }

    /// As far as it goes: the error that led here is the one that is told.
    fn take_back(&self, bucket: &OwnedFd, named: Vec<(KeyPath, usize)>) {
        for (path, number) in named.into_iter().rev() {
            let (_, name) = &self.written[number];
            let is_placed = matches!(tree::open_file_or_folders_object(&self.folder.handle, name), Ok(None));
            let before = format!("before-{number}");
            let had: Option<File> =
                tree::open_file_or_folders_object(&self.folder.handle, &before).ok().flatten();
            let _ = match (is_placed, had) {
                (false, _) => Ok(()),
                (true, None) => tree::delete(bucket, &path).map(drop),
                (true, Some(_)) => tree::make_place(bucket, &path, &self.objects.root.temporary)
                    .and_then(|place| place.take(&self.folder.handle, &before).map(drop)),
            };
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        // What cannot be removed here is removed by the next `clean`.
        let _ = temporary::remove_files(&self.folder.handle)
            .and_then(|()| tree::remove_folder(&self.objects.root.temporary, &self.folder.name));
    }
}

impl ObjectWriter {
    /// In a folder of temporary files.
    pub(super) fn begin_in(
        objects: &Objects,
        folder: &OwnedFd,
        bucket: &str,
        key: &str,
    ) -> Result<ObjectWriter> {
        let path = KeyPath::of(key)?;
        objects.open_bucket(bucket)?;
        Ok(ObjectWriter {
            objects: objects.clone(),
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            path,
            temporary: TemporaryFile::create(folder)?,
            hashes: Hashes::default(),
        })
    }
}

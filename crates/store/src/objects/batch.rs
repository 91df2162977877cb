//! Objects that belong together: written one after the other, and then there all at once or not at all.
//!
//! They wait complete in a folder of their own. The last step gives them their names under the bucket's lock; should that go wrong in the
//! middle, those that have theirs already lose them again, and what was there before is back. So it is if the process is killed there, or
//! the power fails: what is to get a name is written down before, in `.batches/<bucket>`, and whoever has the lock next finds it.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Write};

use rustix::fd::OwnedFd;
use serde::{Deserialize, Serialize};

use super::attributes;
use super::path::KeyPath;
use super::temporary::{self, TemporaryFile, TemporaryFolder};
use super::versions::{link, next, status};
use super::writer::{Hashes, ObjectWriter};
use super::{Metadata, Objects, tree};
use crate::error::{Doing, Error, Result};

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
    pub fn finish(mut self) -> Result<()> {
        // All of them in one go.
        rustix::fs::syncfs(&self.folder.handle).doing("syncing objects")?;
        let bucket = self.objects.lock_bucket(&self.bucket)?;
        let intent = Intent { folder: self.folder.name.clone(), objects: std::mem::take(&mut self.written) };
        intent.write_down(&self.objects, &self.bucket)?;
        let placed = (0..intent.objects.len()).try_for_each(|number| self.place(&bucket, &intent, number));
        if placed.is_err() {
            // As far as it goes: the error that led here is the one that is told.
            intent.take_back(&self.objects, &bucket, &self.folder.handle);
        }
        rustix::fs::syncfs(&self.folder.handle).doing("syncing objects")?;
        Intent::forget(&self.objects, &self.bucket)?;
        placed
    }

    fn place(&self, bucket: &OwnedFd, intent: &Intent, number: usize) -> Result<()> {
        let (key, name) = &intent.objects[number];
        let path = KeyPath::of(key)?;
        if let Some(file) = tree::open_object(bucket, &path)? {
            link(&file, &self.folder.handle, &before(number))?;
        }
        self.objects.keep_current(bucket, (&self.bucket, key), &path)?;
        let place = tree::make_place(bucket, &path, &self.objects.root.temporary)?;
        place.take(&self.folder.handle, name).map(drop)
    }
}

/// What of the same key was there before has this name in the folder of a batch.
fn before(number: usize) -> String {
    format!("before-{number}")
}

/// What is about to get names.
#[derive(Debug, Serialize, Deserialize)]
struct Intent {
    /// The batch's folder among temporary ones.
    folder: String,
    /// The keys and the files that are to have them.
    objects: Vec<(String, String)>,
}

impl Intent {
    fn write_down(&self, objects: &Objects, bucket: &str) -> Result<()> {
        let (temporary, batches) = (&objects.root.temporary, &objects.root.batches);
        let mut file = TemporaryFile::create(temporary)?;
        let text = serde_json::to_vec(self).map_err(io::Error::from);
        text.and_then(|text| file.file.write_all(&text)).doing("writing down what is to get names")?;
        file.sync()?;
        rustix::fs::renameat(temporary, &file.name, batches, bucket).doing("naming objects")?;
        file.keep();
        tree::sync(batches)
    }

    /// What somebody who is gone has written down.
    fn left(objects: &Objects, bucket: &str) -> Result<Option<Intent>> {
        let found = tree::open_file_or_folders_object(&objects.root.batches, bucket)?;
        let read = |file: File| serde_json::from_reader(BufReader::new(file)).map_err(io::Error::from);
        found.map(read).transpose().doing("reading what was to get names")
    }

    fn forget(objects: &Objects, bucket: &str) -> Result<()> {
        tree::remove_file(&objects.root.batches, bucket)?;
        tree::sync(&objects.root.batches)
    }

    /// May be done again, wherever it was broken off.
    fn take_back(&self, objects: &Objects, bucket: &OwnedFd, folder: &OwnedFd) {
        for (number, (key, name)) in self.objects.iter().enumerate().rev() {
            let _ = take_back(objects, (bucket, folder), (number, key, name));
        }
    }
}

fn take_back(
    objects: &Objects,
    (bucket, folder): (&OwnedFd, &OwnedFd),
    (number, key, name): (usize, &str, &str),
) -> Result<()> {
    let path = KeyPath::of(key)?;
    if tree::open_file_or_folders_object(folder, name)?.is_some() {
        // It has never got its name.
        return Ok(());
    }
    let Some(had) = tree::open_file_or_folders_object(folder, &before(number))? else {
        return tree::delete(bucket, &path).map(drop);
    };
    let again = format!("again-{number}");
    link(&had, folder, &again)?;
    tree::make_place(bucket, &path, &objects.root.temporary)?.take(folder, &again).map(drop)
}

impl Objects {
    /// Takes back what was about to get names when its process was killed.
    pub fn recover(&self) -> Result<()> {
        let all = Objects { owner: None, ..self.clone() };
        for entry in tree::entries(&all.root.batches)? {
            let Some(bucket) = entry.text() else { continue };
            match all.lock_bucket(bucket) {
                Ok(_) => {}
                Err(Error::NoSuchBucket(_)) => Intent::forget(&all, bucket)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// As `recover`, of one bucket, whose lock is held: so whoever has written something down there is gone.
    pub(super) fn recover_bucket(&self, name: &str, bucket: &OwnedFd) -> Result<()> {
        let Some(intent) = Intent::left(self, name)? else { return Ok(()) };
        if let Some(folder) = tree::open_folder(&self.root.temporary, &intent.folder)? {
            intent.take_back(self, bucket, &folder);
            rustix::fs::syncfs(&folder).doing("syncing objects")?;
            temporary::remove_files(&folder)?;
        }
        tree::remove_folder(&self.root.temporary, &intent.folder)?;
        Intent::forget(self, name)
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

//! Multipart uploads: `.uploads/<upload id>/` holds the parts until they become one object.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::time::SystemTime;

use md5::{Digest, Md5};
use rustix::fd::OwnedFd;
use serde::{Deserialize, Serialize};

use super::attributes::{self, Digests};
use super::path::KeyPath;
use super::temporary::{self, TemporaryFile, TemporaryFolder, hex, random_name};
use super::writer::{Condition, Hashes, Target};
use super::{Metadata, ObjectInfo, Objects, tree};
use crate::error::{Doing, Error, Result};

/// Says what the upload is to become. Gone first, so that an upload without it is being removed.
const DESCRIPTION: &str = "upload";
const PART_LIMIT: u32 = 10_000;
/// Least size of every part but the last, in bytes.
const PART_SIZE_LEAST: u64 = 5 * 1024 * 1024;

/// An upload that is neither complete nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadInfo {
    pub upload_id: String,
    pub bucket: String,
    pub key: String,
    pub initiated: SystemTime,
}

/// A part that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartInfo {
    pub number: u32,
    /// Bytes.
    pub size: u64,
    /// MD5 in hex, without quotes.
    pub etag: String,
    pub modified: SystemTime,
}

#[derive(Serialize, Deserialize)]
struct Description {
    bucket: String,
    key: String,
    metadata: Metadata,
}

impl Objects {
    /// Begins a multipart upload; gives its id.
    pub fn create_upload(&self, bucket: &str, key: &str, metadata: Metadata) -> Result<String> {
        KeyPath::of(key)?;
        attributes::check_user_metadata(&metadata)?;
        self.open_bucket(bucket)?;
        let description = Description { bucket: bucket.to_owned(), key: key.to_owned(), metadata };
        let text =
            serde_json::to_vec(&description).map_err(|error| Error::internal("writing an upload", error))?;
        let folder = TemporaryFolder::create(&self.root.temporary)?;
        let mut file = TemporaryFile::create(&self.root.temporary)?;
        file.file.write_all(&text).doing("writing an upload")?;
        file.sync()?;
        rename(file.folder(), &file.name, &folder.handle, DESCRIPTION)?;
        file.keep();
        tree::sync(&folder.handle)?;
        let upload_id = random_name()?;
        rename(&self.root.temporary, &folder.name, &self.root.uploads, &upload_id)?;
        tree::sync(&self.root.uploads)?;
        Ok(upload_id)
    }

    /// Begins writing a part, 1 to 10,000; it takes the place of an earlier part with that number when finished.
    pub fn put_part(&self, upload_id: &str, number: u32) -> Result<PartWriter> {
        if !(1..=PART_LIMIT).contains(&number) {
            return Err(Error::InvalidPartNumber(number));
        }
        self.open_upload(upload_id)?;
        Ok(PartWriter {
            objects: self.clone(),
            upload_id: upload_id.to_owned(),
            number,
            temporary: TemporaryFile::create(&self.root.temporary)?,
            hashes: Hashes::default(),
        })
    }

    /// Makes the named parts, by number and ETag, the object. Other parts are dropped with the upload.
    pub fn complete_upload(&self, upload_id: &str, parts: &[(u32, String)]) -> Result<ObjectInfo> {
        let (folder, description) = self.lock_upload(upload_id)?;
        if parts.is_empty() || !parts.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(Error::InvalidPartOrder);
        }
        check_parts(&folder, parts)?;
        let mut whole = TemporaryFile::create(&self.root.temporary)?;
        for (number, _) in parts {
            let (mut file, _) = open_part(&folder, *number)?.ok_or(Error::InvalidPart(*number))?;
            io::copy(&mut file, &mut whole.file).doing("joining parts")?;
        }
        let digests = Digests { etag: etag_of(parts), sha256: None };
        let path = KeyPath::of(&description.key)?;
        let target =
            Target { objects: self, bucket: &description.bucket, key: &description.key, path: &path };
        let info = target.place(whole, digests, &Condition::Any, description.metadata)?;
        self.remove_upload(upload_id, &folder)?;
        Ok(info)
    }

    pub fn abort_upload(&self, upload_id: &str) -> Result<()> {
        let (folder, _) = self.lock_upload(upload_id)?;
        self.remove_upload(upload_id, &folder)
    }

    /// Aborts what was begun before `cutoff`; gives how many uploads that were.
    pub fn abort_uploads_before(&self, cutoff: SystemTime) -> Result<usize> {
        let old: Vec<_> = self.uploads()?.into_iter().filter(|upload| upload.initiated < cutoff).collect();
        self.abort_each(old)
    }

    /// The uploads going on in a bucket, by key and then by age.
    pub fn list_uploads(&self, bucket: &str) -> Result<Vec<UploadInfo>> {
        self.open_bucket(bucket)?;
        let mut uploads = self.uploads()?;
        uploads.retain(|upload| upload.bucket == bucket);
        uploads.sort_by(|a, b| (&a.key, a.initiated, &a.upload_id).cmp(&(&b.key, b.initiated, &b.upload_id)));
        Ok(uploads)
    }

    /// What an upload is to become: its bucket and key.
    pub fn head_upload(&self, upload_id: &str) -> Result<UploadInfo> {
        let (_, description, initiated) = self.open_upload(upload_id)?;
        Ok(UploadInfo {
            upload_id: upload_id.to_owned(),
            bucket: description.bucket,
            key: description.key,
            initiated,
        })
    }

    /// The parts uploaded so far, by number.
    pub fn list_parts(&self, upload_id: &str) -> Result<Vec<PartInfo>> {
        let (folder, ..) = self.open_upload(upload_id)?;
        let mut parts = Vec::new();
        for entry in tree::entries(&folder)? {
            let number = entry.text().and_then(|name| name.strip_prefix("part-")?.parse().ok());
            let Some(number) = number else { continue };
            parts.extend(open_part(&folder, number)?.map(|(_, part)| part));
        }
        parts.sort_by_key(|part| part.number);
        Ok(parts)
    }

    pub(super) fn abort_uploads_of(&self, bucket: &str) -> Result<()> {
        let of_bucket: Vec<_> =
            self.uploads()?.into_iter().filter(|upload| upload.bucket == bucket).collect();
        self.abort_each(of_bucket).map(|_| ())
    }

    fn abort_each(&self, uploads: Vec<UploadInfo>) -> Result<usize> {
        let mut aborted = 0;
        for upload in uploads {
            match self.abort_upload(&upload.upload_id) {
                Ok(()) => aborted += 1,
                Err(Error::NoSuchUpload(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(aborted)
    }

    /// Removes uploads whose removal was interrupted.
    pub(super) fn clean_uploads(&self) -> Result<usize> {
        let mut removed = 0;
        for entry in tree::entries(&self.root.uploads)? {
            let Some(name) = entry.text() else { continue };
            let Some(folder) = tree::open_folder(&self.root.uploads, name)? else { continue };
            if tree::lock(&folder)? && tree::open_file_or_folders_object(&folder, DESCRIPTION)?.is_none() {
                self.remove_upload(name, &folder)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn uploads(&self) -> Result<Vec<UploadInfo>> {
        let mut uploads = Vec::new();
        for entry in tree::entries(&self.root.uploads)? {
            let Some(upload_id) = entry.text() else { continue };
            match self.head_upload(upload_id) {
                Ok(upload) => uploads.push(upload),
                Err(Error::NoSuchUpload(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(uploads)
    }

    fn open_upload(&self, upload_id: &str) -> Result<(OwnedFd, Description, SystemTime)> {
        let missing = || Error::NoSuchUpload(upload_id.to_owned());
        if upload_id.len() != 32 || !upload_id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(missing());
        }
        let folder = tree::open_folder(&self.root.uploads, upload_id)?.ok_or_else(missing)?;
        let file = tree::open_file_or_folders_object(&folder, DESCRIPTION)?.ok_or_else(missing)?;
        let initiated = file.metadata().and_then(|stat| stat.modified()).doing("reading an upload")?;
        Ok((folder, attributes::read_json(file)?, initiated))
    }

    /// Keeps the upload from being completed or aborted elsewhere until the handle is dropped.
    fn lock_upload(&self, upload_id: &str) -> Result<(OwnedFd, Description)> {
        let (folder, ..) = self.open_upload(upload_id)?;
        tree::lock(&folder)?;
        // Asked again: it may be gone by the time we have the lock.
        let (_, description, _) = self.open_upload(upload_id)?;
        Ok((folder, description))
    }

    fn remove_upload(&self, upload_id: &str, folder: &OwnedFd) -> Result<()> {
        tree::remove_file(folder, DESCRIPTION)?;
        temporary::remove_files(folder)?;
        tree::remove_folder(&self.root.uploads, upload_id)?;
        tree::sync(&self.root.uploads)
    }
}

/// A part being written. Dropped without `finish`, nothing remains of it.
pub struct PartWriter {
    objects: Objects,
    upload_id: String,
    number: u32,
    temporary: TemporaryFile,
    hashes: Hashes,
}

impl fmt::Debug for PartWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartWriter").field("number", &self.number).finish_non_exhaustive()
    }
}

impl PartWriter {
    /// MD5 and SHA-256 of the bytes written so far, to be compared with what the client promised.
    pub fn digests(&self) -> ([u8; 16], [u8; 32]) {
        self.hashes.peek()
    }

    /// Makes the bytes written the part; durable when this returns. `NoSuchUpload` if the upload is over.
    pub fn finish(mut self) -> Result<PartInfo> {
        let (attributes, modified) =
            attributes::attach(&self.temporary.file, self.hashes.digests(), Metadata::default())?;
        self.temporary.sync()?;
        let (folder, _) = self.objects.lock_upload(&self.upload_id)?;
        rename(self.temporary.folder(), &self.temporary.name, &folder, &part_name(self.number))?;
        self.temporary.keep();
        tree::sync(&folder)?;
        Ok(PartInfo { number: self.number, size: attributes.size, etag: attributes.etag, modified })
    }
}

impl Write for PartWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.temporary.file.write(bytes)?;
        self.hashes.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn part_name(number: u32) -> String {
    format!("part-{number:05}")
}

fn rename(from: &OwnedFd, name: &str, to: &OwnedFd, new_name: &str) -> Result<()> {
    rustix::fs::renameat(from, name, to, new_name).doing("naming a file of an upload")
}

fn open_part(folder: &OwnedFd, number: u32) -> Result<Option<(File, PartInfo)>> {
    let name = part_name(number);
    let Some(file) = tree::open_file_or_folders_object(folder, &name)? else { return Ok(None) };
    let info = attributes::describe(&file, &name)?;
    Ok(Some((file, PartInfo { number, size: info.size, etag: info.etag, modified: info.modified })))
}

/// Every part named is there, and as large as S3 asks.
fn check_parts(folder: &OwnedFd, parts: &[(u32, String)]) -> Result<()> {
    for (index, (number, etag)) in parts.iter().enumerate() {
        let found = open_part(folder, *number)?.filter(|(_, part)| part.etag == etag.trim_matches('"'));
        let (_, part) = found.ok_or(Error::InvalidPart(*number))?;
        if index + 1 < parts.len() && part.size < PART_SIZE_LEAST {
            return Err(Error::PartTooSmall { number: *number, size: part.size });
        }
    }
    Ok(())
}

/// S3's ETag of a multipart object: the MD5 of the parts' MD5s, and how many there were.
fn etag_of(parts: &[(u32, String)]) -> String {
    let mut md5 = Md5::new();
    for (_, etag) in parts {
        md5.update(unhex(etag.trim_matches('"')));
    }
    format!("{}-{}", hex(&md5.finalize()), parts.len())
}

/// The bytes of a hex text; the ETags that reach this were compared with our own.
fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| (byte as char).to_digit(16).map_or(0, |digit| digit as u8);
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

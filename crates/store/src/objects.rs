//! Objects in buckets, as plain files in plain folders: `<root>/<bucket>/<key>`.
//!
//! An operator can look at them, copy them and put files there by hand. What S3 knows about an object beyond its
//! bytes lives in the file's extended attribute `user.buildyard`, so that bytes and metadata appear in one rename.
//! Every operation is safe between threads and processes, and a crash between any two system calls leaves an
//! object absent, old or complete. HTTP, permissions and signatures are not the business of this module, but whose a
//! bucket is: see [`Objects::of`].
//!
//! - `path` alone decides which path a key has, and `tree` alone opens paths: nothing here leaves its bucket.
//! - Changes to a bucket's tree happen under a lock on the bucket's folder; reading takes no lock.

mod attributes;
mod batch;
mod listing;
mod owner;
mod path;
mod temporary;
mod tree;
mod upload;
mod versions;
mod writer;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fd::OwnedFd;
use serde::{Deserialize, Serialize};

pub use batch::Batch;
pub use listing::Listing;
pub use owner::Owner;
pub use upload::{PartInfo, PartWriter, UploadInfo};
pub use versions::{Deleted, VersionInfo, Versioning};
pub use writer::{Condition, ObjectWriter};

use crate::error::{Doing, Error, Result};
use attributes::Attributes;
use path::KeyPath;

/// A folder of buckets, or what one account has in it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Objects {
    root: Arc<Root>,
    owner: Option<Owner>,
}

#[derive(Debug)]
struct Root {
    path: PathBuf,
    folder: OwnedFd,
    temporary: OwnedFd,
    batches: OwnedFd,
    uploads: OwnedFd,
    versions: OwnedFd,
}

/// What S3 keeps with an object beside its bytes. Nothing is interpreted here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Metadata {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// `x-amz-meta-*`, by the name behind that prefix.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub user: BTreeMap<String, String>,
    /// Checksums the client asked to keep, by algorithm (`CRC32C` -> base64).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub checksums: BTreeMap<String, String>,
    /// What whoever wrote it asked for: `AES256`, or `aws:kms` and perhaps a key. It is said again, and nothing else is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encryption: Option<(String, Option<String>)>,
}

/// What is known of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// Without quotes: the MD5 of the bytes in hex, or for multipart uploads `<md5 of the parts' md5s>-<parts>`.
    pub etag: String,
    /// Hex; unknown for multipart uploads and for files put there by hand.
    pub sha256: Option<String>,
    pub modified: SystemTime,
    pub metadata: Metadata,
    /// Where the bucket keeps versions.
    pub version: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketInfo {
    pub name: String,
    pub created: SystemTime,
}

impl Objects {
    /// Opens the folder, making it if it is missing. `NoExtendedAttributes` if its file system cannot hold metadata.
    pub fn open(root: &Path) -> Result<Objects> {
        std::fs::create_dir_all(root).doing("making the objects folder")?;
        let folder = tree::open_root(root)?;
        let temporary = tree::make_folder(&folder, ".tmp")?;
        let batches = tree::make_folder(&folder, ".batches")?;
        let uploads = tree::make_folder(&folder, ".uploads")?;
        let versions = tree::make_folder(&folder, ".versions")?;
        attributes::check_supported(&temporary, root)?;
        Ok(Objects {
            root: Arc::new(Root { path: root.to_owned(), folder, temporary, batches, uploads, versions }),
            owner: None,
        })
    }

    /// The same folder as this account may see it: buckets of others are [`Error::ForeignBucket`], and not listed.
    #[must_use]
    pub fn of(&self, owner: Owner) -> Objects {
        Objects { root: self.root.clone(), owner: Some(owner) }
    }

    /// The folder that was opened.
    pub fn root(&self) -> &Path {
        &self.root.path
    }

    /// Makes a bucket, of the account whose buckets these are. `BucketAlreadyExists` if it has it already, `ForeignBucket` if another
    /// account has.
    pub fn create_bucket(&self, bucket: &str) -> Result<()> {
        path::check_bucket_name(bucket)?;
        let made = match &self.owner {
            Some(owner) => owner.create(&self.root.folder, &self.root.temporary, bucket)?,
            None => tree::create_folder(&self.root.folder, bucket)?,
        };
        if !made {
            self.open_bucket(bucket)?;
            return Err(Error::BucketAlreadyExists(bucket.to_owned()));
        }
        tree::sync(&self.root.folder)
    }

    /// Deletes an empty bucket, and uploads that were going on in it.
    pub fn delete_bucket(&self, bucket: &str) -> Result<()> {
        let folder = self.lock_bucket(bucket)?;
        if tree::has_objects(&folder)? || self.has_versions(bucket)? {
            return Err(Error::BucketNotEmpty(bucket.to_owned()));
        }
        tree::remove_empty_folders(&folder)?;
        if !tree::remove_folder(&self.root.folder, bucket)? {
            return Err(Error::BucketNotEmpty(bucket.to_owned()));
        }
        tree::remove_folder(&self.root.versions, bucket)?;
        tree::sync(&self.root.folder)?;
        self.abort_uploads_of(bucket)
    }

    /// `ForeignBucket` if it is another account's.
    pub fn bucket_exists(&self, bucket: &str) -> Result<bool> {
        match self.open_bucket(bucket) {
            Ok(_) => Ok(true),
            Err(Error::NoSuchBucket(_) | Error::InvalidBucketName { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// All buckets, by name.
    pub fn list_buckets(&self) -> Result<Vec<BucketInfo>> {
        let mut buckets = Vec::new();
        for entry in tree::entries(&self.root.folder)? {
            let Some(name) = entry.text().filter(|name| path::check_bucket_name(name).is_ok()) else {
                continue;
            };
            match self.open_bucket(name) {
                Ok(_) => {}
                Err(Error::ForeignBucket(_) | Error::NoSuchBucket(_)) => continue,
                Err(error) => return Err(error),
            }
            if let Some(created) = tree::folder_created(&self.root.folder, name)? {
                buckets.push(BucketInfo { name: name.to_owned(), created });
            }
        }
        buckets.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(buckets)
    }

    /// Begins writing an object. Nothing is to be seen of it before `finish`, nothing remains without it.
    pub fn put(&self, bucket: &str, key: &str) -> Result<ObjectWriter> {
        ObjectWriter::begin(self, bucket, key)
    }

    /// The object's bytes and what is known of it. The file stays readable, and the same, whatever happens to the
    /// key meanwhile.
    pub fn get(&self, bucket: &str, key: &str) -> Result<(File, ObjectInfo)> {
        let file = self.open_object(bucket, key)?;
        let info = attributes::describe(&file, key)?;
        Ok((file, info))
    }

    pub fn head(&self, bucket: &str, key: &str) -> Result<ObjectInfo> {
        attributes::describe(&self.open_object(bucket, key)?, key)
    }

    /// Deletes an object and the folders it leaves empty; false if there was none. See [`Objects::delete_version`].
    pub fn delete(&self, bucket: &str, key: &str) -> Result<bool> {
        self.delete_version(bucket, key, None).map(|deleted| deleted.was_there)
    }

    /// Copies an object, or one version of it, with its own metadata or with `metadata` in its place. A copy on itself is allowed.
    pub fn copy(
        &self,
        from: (&str, &str, Option<&str>),
        to: (&str, &str),
        metadata: Option<Metadata>,
    ) -> Result<ObjectInfo> {
        let (mut file, info) = self.get_version(from.0, from.1, from.2)?;
        let mut writer = self.put(to.0, to.1)?;
        std::io::copy(&mut file, &mut writer).doing("copying an object")?;
        writer.finish(metadata.unwrap_or(info.metadata))
    }

    /// Keys in UTF-8 byte order: those that begin with `prefix` and come after `start_after`, at most `max_keys`.
    /// With a `delimiter`, keys that have it behind the prefix are rolled up into common prefixes, which count as
    /// one each. A page goes on where the last ended with `start_after` set to its `next`.
    pub fn list(
        &self,
        bucket: &str,
        prefix: &str,
        delimiter: Option<&str>,
        start_after: Option<&str>,
        max_keys: usize,
    ) -> Result<Listing> {
        let query =
            listing::Query { prefix, delimiter: delimiter.filter(|d| !d.is_empty()), start_after, max_keys };
        listing::list(self.open_bucket(bucket)?, &query)
    }

    /// Removes what killed processes left unfinished; what is being written now stays. Gives how many were removed.
    /// Uploads are not touched: clients may come back for them (see [`Objects::abort_uploads_before`]).
    pub fn clean(&self) -> Result<usize> {
        self.recover()?;
        Ok(temporary::clean(&self.root.temporary)? + self.clean_uploads()?)
    }

    fn open_bucket(&self, bucket: &str) -> Result<OwnedFd> {
        path::check_bucket_name(bucket)?;
        let found = tree::open_folder(&self.root.folder, bucket)?;
        let folder = found.ok_or_else(|| Error::NoSuchBucket(bucket.to_owned()))?;
        match &self.owner {
            Some(owner) if !owner.has(&folder)? => Err(Error::ForeignBucket(bucket.to_owned())),
            _ => Ok(folder),
        }
    }

    /// Holds the lock until the handle is dropped.
    fn lock_bucket(&self, bucket: &str) -> Result<OwnedFd> {
        let folder = self.open_bucket(bucket)?;
        if !tree::lock(&folder)? {
            return Err(Error::NoSuchBucket(bucket.to_owned()));
        }
        self.recover_bucket(bucket, &folder)?;
        Ok(folder)
    }

    fn open_object(&self, bucket: &str, key: &str) -> Result<File> {
        let path = KeyPath::of(key)?;
        let found = tree::open_object(&self.open_bucket(bucket)?, &path)?;
        found.ok_or_else(|| Error::NoSuchKey(key.to_owned()))
    }
}

impl Attributes {
    fn into_info(self, key: &str, modified: SystemTime) -> ObjectInfo {
        ObjectInfo {
            key: key.to_owned(),
            size: self.size,
            etag: self.etag,
            sha256: self.sha256,
            modified,
            metadata: self.metadata,
            version: self.version,
        }
    }
}

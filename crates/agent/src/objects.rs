//! What a build reads of buckets and writes to them, whether they are this server's or elsewhere.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;

use md5::{Digest, Md5};
use sha2::Sha256;
use store::objects::{Condition, Metadata, ObjectWriter, Objects};

use crate::clock;
use crate::plan::Elsewhere;
use crate::role::Role;
use crate::transfer::{Failure, Put};

impl Elsewhere {
    /// Whether a bucket of this name is meant.
    pub fn has(&self, bucket: &str) -> bool {
        let is_meant = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => bucket.starts_with(prefix),
            None => bucket == pattern,
        };
        self.buckets.is_empty() || self.buckets.iter().any(is_meant)
    }
}

impl From<store::Error> for Failure {
    fn from(error: store::Error) -> Failure {
        use store::Error;
        let text = error.to_string();
        match error {
            Error::NoSuchKey(_) | Error::NoSuchVersion { .. } => Failure::Missing(text),
            // COMPAT: SA-006 what S3 says of a bucket that the build's account may not use.
            Error::ForeignBucket(_) => Failure::Refused("Access Denied".into()),
            Error::NoSuchBucket(_) | Error::InvalidBucketName { .. } | Error::InvalidKey(_) => {
                Failure::Refused(text)
            }
            Error::PreconditionFailed(_) => Failure::Exists(text),
            _ => Failure::Ours(text),
        }
    }
}

/// Where the objects of an artifact, a cache or a report go.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) to: To,
    /// Who has to be allowed to write there.
    pub(crate) role: Option<Role>,
}

#[derive(Debug)]
pub(crate) enum To {
    Here(Objects),
    /// Bytes are gathered in this file first: only then are their checksums known, and may be sent as often as it takes.
    Elsewhere(File),
}

/// The objects of one artifact.
#[derive(Debug)]
pub(crate) struct Set {
    to: Gathering,
    role: Option<Role>,
}

#[derive(Debug)]
enum Gathering {
    Here(store::objects::Batch),
    Elsewhere(Parcel),
}

/// Objects that are complete here and still have to go elsewhere.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) file: File,
    pub(crate) objects: Vec<Put>,
}

/// One object being written.
#[derive(Debug)]
pub(crate) enum Writer {
    Here(ObjectWriter),
    Elsewhere(Gathered),
}

#[derive(Debug)]
pub(crate) struct Gathered {
    bucket: String,
    key: String,
    file: File,
    offset: u64,
    size: u64,
    md5: Md5,
    sha256: Sha256,
}

impl Place {
    /// Begins an object.
    pub(crate) fn writer(&self, bucket: &str, key: &str) -> io::Result<Writer> {
        may_write(self.role.as_ref(), (bucket, key))?;
        match &self.to {
            To::Here(objects) => objects.put(bucket, key).map(Writer::Here).map_err(io::Error::other),
            To::Elsewhere(file) => gathered(file, bucket, key),
        }
    }
}

impl Set {
    pub(crate) fn new(place: Place, bucket: &str) -> store::Result<Set> {
        let to = match place.to {
            To::Here(objects) => Gathering::Here(objects.batch(bucket)?),
            To::Elsewhere(file) => Gathering::Elsewhere(Parcel { file, objects: Vec::new() }),
        };
        Ok(Set { to, role: place.role })
    }

    /// Begins one of them.
    pub(crate) fn writer(&self, bucket: &str, key: &str) -> io::Result<Writer> {
        may_write(self.role.as_ref(), (bucket, key))?;
        match &self.to {
            Gathering::Here(batch) => batch.put(key).map(Writer::Here).map_err(io::Error::other),
            Gathering::Elsewhere(parcel) => gathered(&parcel.file, bucket, key),
        }
    }

    /// Takes one that is complete.
    pub(crate) fn add(
        &mut self,
        writer: Writer,
        metadata: Metadata,
        encryption_key: Option<String>,
    ) -> store::Result<()> {
        match (&mut self.to, writer) {
            (Gathering::Here(batch), Writer::Here(writer)) => batch.add(writer, metadata),
            (Gathering::Elsewhere(parcel), writer) => {
                if let Some((_, put)) = writer.finish(metadata, false)? {
                    parcel.objects.push(Put { encryption_key, ..put });
                }
                Ok(())
            }
            (Gathering::Here(_), Writer::Elsewhere(_)) => Ok(()),
        }
    }

    /// Makes all of them objects here, or gives what has to be put elsewhere.
    pub(crate) fn finish(self) -> store::Result<Option<Parcel>> {
        match self.to {
            Gathering::Here(batch) => batch.finish().map(|()| None),
            Gathering::Elsewhere(parcel) => Ok(Some(parcel)),
        }
    }
}

/// COMPAT: SA-123 the service role writes.
fn may_write(role: Option<&Role>, at: (&str, &str)) -> io::Result<()> {
    let Some(role) = role else { return Ok(()) };
    role.at(clock::now_ms()).may("PutObject", at).map_err(|denied| io::Error::other(Failure::from(denied)))
}

/// Begins an object behind what is in the file already.
fn gathered(file: &File, bucket: &str, key: &str) -> io::Result<Writer> {
    let mut file = file.try_clone()?;
    let offset = file.seek(io::SeekFrom::End(0))?;
    let (bucket, key) = (bucket.to_owned(), key.to_owned());
    let gathered = Gathered { bucket, key, file, offset, size: 0, md5: Md5::new(), sha256: Sha256::new() };
    Ok(Writer::Elsewhere(gathered))
}

impl Writer {
    /// MD5 and SHA-256 of the bytes so far.
    pub(crate) fn digests(&self) -> ([u8; 16], [u8; 32]) {
        match self {
            Writer::Here(writer) => writer.digests(),
            Writer::Elsewhere(gathered) => {
                (gathered.md5.clone().finalize().into(), gathered.sha256.clone().finalize().into())
            }
        }
    }

    /// Bytes so far.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Writer::Here(writer) => writer.size(),
            Writer::Elsewhere(gathered) => gathered.size,
        }
    }

    /// Makes it an object here, or gives what has to be put elsewhere.
    pub(crate) fn finish(self, metadata: Metadata, only_new: bool) -> store::Result<Option<(File, Put)>> {
        match self {
            Writer::Here(writer) => {
                let condition = if only_new { Condition::Absent } else { Condition::Any };
                writer.finish_if(&condition, metadata).map(|_| None)
            }
            Writer::Elsewhere(Gathered { bucket, key, file, offset, size, .. }) => {
                let put = Put { bucket, key, offset, size, metadata, only_new, encryption_key: None };
                Ok(Some((file, put)))
            }
        }
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Writer::Here(writer) => writer.write(bytes),
            Writer::Elsewhere(gathered) => {
                let count = gathered.file.write(bytes)?;
                gathered.md5.update(&bytes[..count]);
                gathered.sha256.update(&bytes[..count]);
                gathered.size += count as u64;
                Ok(count)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file of this host that nobody else sees.
pub(crate) fn unnamed_file(folder: &Path) -> io::Result<File> {
    let path = folder.join("passing-through");
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

//! Where an image's blobs come from, seen alike for folders, archives and registries, and following an image
//! from its reference to its checked manifest and config.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::digest::Hashing;
use crate::manifest::{self, Config, Descriptor, Document, Manifest, Platform};
use crate::tarball::Input;
use crate::{Digest, Error, Limits, Progress, Select};

/// Indexes may list indexes; nobody needs more than this.
const INDEX_DEPTH: usize = 4;

/// A place that holds the blobs of an image.
pub(crate) trait Origin {
    /// The index or manifest that `descriptor` names. The caller verifies it.
    fn document(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, Error>;

    /// Whether its blobs have to be fetched first.
    fn is_afar(&self) -> bool {
        false
    }

    /// Any other blob, as a file of this host. The caller verifies it.
    /// `keep` is a folder in which blobs from afar may stay until the image is unpacked.
    fn blob(
        &mut self,
        descriptor: &Descriptor,
        keep: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Blob, Error>;
}

/// Part of a file, readable once from its beginning.
#[derive(Debug)]
pub(crate) struct Blob {
    file: File,
    position: u64,
    end: u64,
}

impl Blob {
    pub(crate) fn new(file: File, offset: u64, length: u64) -> Blob {
        Blob { file, position: offset, end: offset.saturating_add(length) }
    }

    pub(crate) fn length(&self) -> u64 {
        self.end - self.position
    }

    pub(crate) fn again(&self) -> io::Result<Blob> {
        Ok(Blob { file: self.file.try_clone()?, ..*self })
    }

    /// Refuses a blob that is not what `descriptor` promises.
    pub(crate) fn verify(&self, what: &str, descriptor: &Descriptor) -> Result<(), Error> {
        verify_size(what, descriptor, self.length())?;
        let mut content = Hashing::new(self.again().map_err(Error::reading(what))?);
        let mut buffer = vec![0; 256 << 10];
        while content.read(&mut buffer).map_err(Error::reading(what))? > 0 {}
        descriptor.digest.verify(what, content.digest())
    }

    pub(crate) fn read_document(mut self, limits: &Limits) -> Result<Vec<u8>, Error> {
        within_document_limit(self.length(), limits)?;
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).map_err(Error::reading("document"))?;
        Ok(bytes)
    }
}

/// Reads at its own position, so that blobs that share a file do not disturb each other.
impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.length()).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..most], self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

/// Skipping does not read.
impl Input for Blob {
    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        let skipped = bytes.min(self.length());
        self.position += skipped;
        Ok(skipped)
    }
}

pub(crate) fn within_document_limit(length: u64, limits: &Limits) -> Result<(), Error> {
    let limit = limits.document_bytes;
    if length > limit { Err(Error::Limit { name: "document_bytes", limit }) } else { Ok(()) }
}

/// An image followed to its manifest; nothing but documents has been read so far.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) digest: Digest,
    pub(crate) manifest: Manifest,
}

/// Follows `start` through indexes to this host's manifest.
pub(crate) fn follow(origin: &mut dyn Origin, start: Descriptor, limits: &Limits) -> Result<Found, Error> {
    let host = Platform::host();
    let mut descriptor = start;
    for _ in 0..INDEX_DEPTH {
        let bytes = origin.document(&descriptor)?;
        verify_document("manifest", &descriptor, &bytes, limits)?;
        match Document::parse(&bytes)? {
            Document::Index(entries) => descriptor = manifest::choose(entries, &host)?,
            Document::Manifest(manifest) => return found(descriptor.digest, manifest, limits),
        }
    }
    Err(Error::malformed("index", "indexes inside indexes inside indexes"))
}

fn found(digest: Digest, manifest: Manifest, limits: &Limits) -> Result<Found, Error> {
    if manifest.layers.len() as u64 > limits.layers {
        return Err(Error::Limit { name: "layers", limit: limits.layers });
    }
    manifest.check_layers()?;
    Ok(Found { digest, manifest })
}

/// The verified bytes of the image's config, and what they say.
pub(crate) fn config(
    origin: &mut dyn Origin,
    manifest: &Manifest,
    keep: &Path,
    limits: &Limits,
) -> Result<(Vec<u8>, Config), Error> {
    within_document_limit(manifest.config.size, limits)?;
    let bytes = origin.blob(&manifest.config, keep, &mut |_| ())?.read_document(limits)?;
    verify_document("config", &manifest.config, &bytes, limits)?;
    let config = Config::parse(&bytes, &Platform::host(), manifest.layers.len())?;
    Ok((bytes, config))
}

fn verify_document(what: &str, descriptor: &Descriptor, bytes: &[u8], limits: &Limits) -> Result<(), Error> {
    within_document_limit(bytes.len() as u64, limits)?;
    verify_size(what, descriptor, bytes.len() as u64)?;
    descriptor.digest.verify(what, Digest::of(bytes))
}

fn verify_size(what: &str, descriptor: &Descriptor, found: u64) -> Result<(), Error> {
    if descriptor.size == found {
        return Ok(());
    }
    let bytes = |count: u64| format!("{count} bytes");
    Err(Error::Mismatch { what: what.into(), expected: bytes(descriptor.size), found: bytes(found) })
}

/// The entry of a layout's index that `select` means. Images of several platforms may share one name;
/// choosing among those is left to [`manifest::choose`].
pub(crate) fn select(entries: Vec<Descriptor>, select: &Select, place: &Path) -> Result<Descriptor, Error> {
    let tags = entries.iter().filter_map(Descriptor::tag).collect::<Vec<_>>().join(", ");
    let nothing = |wanted: &str| {
        Error::NotFound(format!("{} has no image {wanted}; its tags: {tags}", place.display()))
    };
    let (wanted, mut chosen): (_, Vec<_>) = match select {
        Select::Tag(tag) => (tag.clone(), entries.into_iter().filter(|e| e.is_tagged(tag)).collect()),
        Select::Digest(digest) => {
            (digest.to_string(), entries.into_iter().filter(|e| e.digest == *digest).collect())
        }
        Select::Default if entries.iter().any(|e| e.is_tagged("latest")) => {
            ("latest".into(), entries.into_iter().filter(|e| e.is_tagged("latest")).collect())
        }
        Select::Default => ("that is the only one".into(), entries),
    };
    match chosen.len() {
        0 => Err(nothing(&wanted)),
        1 => Ok(chosen.remove(0)),
        _ if chosen.iter().all(|entry| entry.tag() == chosen[0].tag()) => {
            manifest::choose(chosen, &Platform::host())
        }
        _ => Err(nothing(&wanted)),
    }
}

//! Tar archives that hold images: OCI layouts (`oci-archive`) and what `docker save` writes.
//!
//! An archive is indexed once, without unpacking it: blobs are then read where they lie.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::compression;
use crate::digest::Hashing;
use crate::limits::Allowance;
use crate::manifest::{self, Config, Descriptor, Manifest, Platform};
use crate::origin::{self, Blob, Found, Origin};
use crate::tarball::{Entry, Kind, Tarball};
use crate::{Digest, Error, Limits, Progress, Select, layout};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// `docker save` once stored shared layers as links to links.
const LINKS: usize = 8;
/// What the index needs for each entry beside its names.
const SLOT_BYTES: u64 = 128;

/// An indexed archive.
#[derive(Debug)]
pub(crate) struct Archive {
    path: PathBuf,
    file: File,
    slots: HashMap<Vec<u8>, Slot>,
    /// For `docker save`, whose blobs are named in its own `manifest.json`.
    named: BTreeMap<Digest, String>,
    limits: Limits,
}

#[derive(Debug)]
enum Slot {
    File { offset: u64, length: u64 },
    Link(Vec<u8>),
}

/// One image in `docker save`'s `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Archive {
    /// Indexes the archive at `path`, uncompressing it into an unnamed file in `scratch` if need be.
    pub(crate) fn open(path: &Path, scratch: &Path, limits: &Limits) -> Result<Archive, Error> {
        let mut file = plain(path, scratch, limits)?;
        let slots = index(&mut file, path, limits)?;
        Ok(Archive { path: path.into(), file, slots, named: BTreeMap::new(), limits: limits.clone() })
    }

    /// Follows `which` to its manifest. An archive that is both an OCI layout and a `docker save` archive, as
    /// newer Docker writes them, is read as the former.
    pub(crate) fn find(&mut self, which: &Select) -> Result<Found, Error> {
        if !self.slots.contains_key(&b"oci-layout"[..]) {
            return self.find_saved(which);
        }
        layout::check_marker(&self.read("oci-layout")?)?;
        let entries = layout::index_entries(&self.read("index.json")?)?;
        let start = origin::select(entries, which, &self.path)?;
        let limits = self.limits.clone();
        origin::follow(self, start, &limits)
    }

    /// A `docker save` archive has no manifest of the OCI kind; one is made up, and the digest of the config
    /// (which names every layer's content) stands in for the manifest's. Docker calls it the image's id.
    fn find_saved(&mut self, which: &Select) -> Result<Found, Error> {
        let saved: Vec<Saved> = manifest::parse("manifest.json", &self.read("manifest.json")?)?;
        let saved = self.select_saved(saved, which)?;
        let bytes = self.read(&saved.config)?;
        let digest = Digest::of(&bytes);
        let config = Config::parse(&bytes, &Platform::host(), saved.layers.len())?;
        self.named.insert(digest, saved.config);
        let layers = saved.layers.into_iter().zip(config.diff_ids());
        let layers = layers.map(|(name, id)| self.layer(name, *id)).collect::<Result<_, _>>()?;
        let config = descriptor("", digest, bytes.len() as u64);
        Ok(Found { digest, manifest: Manifest { config, layers } })
    }

    fn select_saved(&self, saved: Vec<Saved>, which: &Select) -> Result<Saved, Error> {
        let tagged = |saved: &Saved, wanted: &str| {
            saved.repo_tags.iter().flatten().any(|name| manifest::name_matches(name, wanted))
        };
        let mut chosen: Vec<_> = match which {
            Select::Default => saved,
            Select::Tag(tag) => saved.into_iter().filter(|saved| tagged(saved, tag)).collect(),
            Select::Digest(digest) => {
                let hex = digest.hex();
                saved.into_iter().filter(|saved| saved.config.contains(&hex)).collect()
            }
        };
        match chosen.len() {
            1 => Ok(chosen.remove(0)),
            count => Err(Error::NotFound(format!("{}: {count} images match", self.path.display()))),
        }
    }

    /// An uncompressed layer is its own diff_id; for a compressed one that is checked as it is unpacked.
    fn layer(&mut self, name: String, diff_id: Digest) -> Result<Descriptor, Error> {
        let blob = self.blob_named(&name)?;
        let mut beginning = [0; 4];
        let read =
            blob.again().and_then(|mut blob| blob.read(&mut beginning)).map_err(Error::reading(&name))?;
        let digest = if compression::is_compressed(&beginning[..read]) {
            let mut content = Hashing::new(blob.again().map_err(Error::reading(&name))?);
            io::copy(&mut content, &mut io::sink()).map_err(Error::reading(&name))?;
            content.digest()
        } else {
            diff_id
        };
        self.named.insert(digest, name);
        Ok(descriptor(LAYER, digest, blob.length()))
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, Error> {
        self.blob_named(name)?.read_document(&self.limits)
    }

    fn blob_named(&self, name: &str) -> Result<Blob, Error> {
        let missing = || Error::NotFound(format!("{} has no {name}", self.path.display()));
        let mut at = normal(name.as_bytes());
        for _ in 0..LINKS {
            match self.slots.get(&at).ok_or_else(missing)? {
                Slot::Link(target) => at = target.clone(),
                Slot::File { offset, length } => {
                    let file = self.file.try_clone().map_err(Error::io("reading", &self.path))?;
                    return Ok(Blob::new(file, *offset, *length));
                }
            }
        }
        Err(Error::malformed(name, "a link to a link to a link"))
    }
}

impl Origin for Archive {
    fn document(&mut self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        self.blob(descriptor, Path::new(""), &mut |_| ())?.read_document(&self.limits)
    }

    fn blob(
        &mut self,
        descriptor: &Descriptor,
        _: &Path,
        _: &mut dyn FnMut(Progress),
    ) -> Result<Blob, Error> {
        match self.named.get(&descriptor.digest) {
            Some(name) => self.blob_named(name),
            None => self.blob_named(&layout::blob_path(descriptor).to_string_lossy()),
        }
    }
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor { media_type: media_type.into(), digest, size, platform: None, annotations: None }
}

/// The archive as an uncompressed file.
fn plain(path: &Path, scratch: &Path, limits: &Limits) -> Result<File, Error> {
    let mut file = File::open(path).map_err(Error::io("opening", path))?;
    let mut beginning = [0; 4];
    let read = file.read(&mut beginning).map_err(Error::io("reading", path))?;
    file.seek(SeekFrom::Start(0)).map_err(Error::io("reading", path))?;
    if !compression::is_compressed(&beginning[..read]) {
        return Ok(file);
    }
    let mut unpacked = tempfile::tempfile_in(scratch).map_err(Error::io("writing below", scratch))?;
    let name = path.display().to_string();
    let content = compression::reader(file, limits.compression_ratio).map_err(Error::reading(&name))?;
    let mut content = content.take(limits.unpacked_bytes + 1);
    let mut allowance = Allowance::new("unpacked_bytes", limits.unpacked_bytes);
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = content.read(&mut buffer).map_err(Error::reading(&name))?;
        if count == 0 {
            break;
        }
        allowance.take(count as u64)?;
        io::Write::write_all(&mut unpacked, &buffer[..count]).map_err(Error::io("writing below", scratch))?;
    }
    Ok(unpacked)
}

fn index(file: &mut File, path: &Path, limits: &Limits) -> Result<HashMap<Vec<u8>, Slot>, Error> {
    file.seek(SeekFrom::Start(0)).map_err(Error::io("reading", path))?;
    let length = file.metadata().map_err(Error::io("examining", path))?.len();
    let mut allowance = Allowance::new("entries", limits.entries);
    let mut memory = Allowance::new("archive_index_bytes", limits.archive_index_bytes);
    let blob = Blob::new(file.try_clone().map_err(Error::io("reading", path))?, 0, length);
    let mut tarball = Tarball::new(blob, limits.entry_metadata_bytes);
    let mut slots = HashMap::new();
    while let Some(entry) = tarball.next()? {
        allowance.take(1)?;
        let name = normal(&entry.name);
        memory.take(SLOT_BYTES + (name.len() + entry.link.len()) as u64)?;
        if let Some(slot) = slot(entry) {
            slots.insert(name, slot);
        }
    }
    Ok(slots)
}

fn slot(entry: Entry) -> Option<Slot> {
    match entry.kind {
        Kind::File => Some(Slot::File { offset: entry.offset, length: entry.size }),
        Kind::Hardlink => Some(Slot::Link(normal(&entry.link))),
        Kind::Symlink => {
            let folder = entry.name.rsplitn(2, |b| *b == b'/').nth(1).unwrap_or_default();
            Some(Slot::Link(normal(&[folder, b"/", &entry.link].concat())))
        }
        Kind::Folder | Kind::Fifo | Kind::Device => None,
    }
}

/// A name as a key: no empty or `.` components, `..` taken back.
fn normal(name: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

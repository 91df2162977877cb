//! Images: from a reference to an unpacked root file system and the image's configuration.
//!
//! Knows OCI layouts, OCI and `docker save` archives, and registries. Knows nothing of containers, of curated
//! image names (that is configuration) or of environment variables: callers hand in what they read there.
//! Everything blocks; call it where blocking is allowed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::archive::Archive;
use crate::layout::Layout;
use crate::manifest::{Config, Platform};
use crate::origin::{Found, Origin};
use crate::room::Room;
use crate::unpack::{Folder, write_atomically};

mod archive;
mod compression;
mod credentials;
mod digest;
mod error;
mod layer;
mod layout;
mod limits;
mod manifest;
mod origin;
mod overlay;
mod reach;
mod reference;
#[cfg(feature = "registry")]
mod registry;
mod room;
mod stock;
mod tarball;
mod tree;
mod unpack;

pub use crate::credentials::{Credentials, Login};
pub use crate::digest::Digest;
pub use crate::error::Error;
pub use crate::limits::{Limits, Pace};
pub use crate::reach::Reach;
pub use crate::reference::{Reference, Repository, Select};
pub use crate::stock::{Held, Stocked, Unfinished};

/// A folder of unpacked images, shared freely between threads and processes.
///
/// Its parts are private to the user that made them (mode 0700), since images hold setuid programs.
#[derive(Debug, Clone)]
pub struct Images {
    folder: Folder,
    limits: Limits,
    quota: Option<u64>,
    #[cfg_attr(not(feature = "registry"), allow(dead_code, reason = "kept so that callers need not care"))]
    credentials: Credentials,
    #[cfg_attr(not(feature = "registry"), allow(dead_code, reason = "kept so that callers need not care"))]
    reach: Reach,
}

/// An image that is unpacked and ready to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Of the image's manifest; for `docker save` archives, which have none, of its config (Docker's image id).
    pub digest: Digest,
    /// The folders that make up its root file system, one at least, the topmost first: never to be written to. Images that have layers in common
    /// share folders. What a layer takes away of those beneath is marked as overlay does for who mounts with `userxattr`. Their paths have no colon
    /// or comma, so that they can be named in mount options as long as the images folder has none either.
    pub rootfs: Vec<PathBuf>,
    /// Whoever uses the image holds a shared lock (`flock`) on this file or folder meanwhile; so none of its folders is removed.
    pub lock: PathBuf,
    pub config: ImageConfig,
}

/// How the image's author meant it to be run. COMPAT: EN-026 builds ignore `user`, and `entrypoint` of custom images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageConfig {
    pub env: BTreeMap<String, String>,
    pub workdir: Option<PathBuf>,
    pub user: Option<String>,
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    /// In Go's words: `amd64`, `arm64`.
    pub architecture: String,
}

/// What [`Images::resolve`] is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// The reference means the image with this digest.
    Found { digest: Digest },
    /// `bytes` of `total` of a blob have come from the registry.
    Fetching { digest: Digest, bytes: u64, total: u64 },
    /// Layer number `layer` (from 1) of `layers` is being unpacked.
    Unpacking { layer: usize, layers: usize },
    /// Another process or thread is unpacking the same image, or one of its layers.
    Waiting,
    /// Something of the image was left out, in words.
    Note(String),
}

/// What a reference last resolved to.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    reference: String,
    digest: Digest,
    /// For archives: while this is unchanged, so is what is in them.
    stamp: Option<Stamp>,
}

/// Tells one state of a file from another.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Images {
    /// Opens the images folder `folder`, making what is missing.
    ///
    /// Errors: [`Error::Io`].
    pub fn open(folder: &Path) -> Result<Images, Error> {
        let folder = Folder::open(folder)?;
        Ok(Images {
            folder,
            limits: Limits::default(),
            quota: None,
            credentials: Credentials::default(),
            reach: Reach::default(),
        })
    }

    /// The same with other limits.
    pub fn with_limits(self, limits: Limits) -> Images {
        Images { limits, ..self }
    }

    /// The same, and all images together take up at most `quota` bytes: for one that comes, those go that were not asked for longest. Those that
    /// somebody holds or uses do not, and one that then does not fit is refused.
    pub fn with_quota(self, quota: Option<u64>) -> Images {
        Images { quota, ..self }
    }

    /// The same, and of registries only those addresses are connected to that `reach` allows.
    pub fn with_reach(self, reach: Reach) -> Images {
        Images { reach, ..self }
    }

    /// The same with logins for registries.
    pub fn with_credentials(self, credentials: Credentials) -> Images {
        Images { credentials, ..self }
    }

    /// Finds the image `reference` means, and fetches and unpacks it unless that was done before.
    ///
    /// `reference` is the path (beginning with `/`, `./` or `../`) of an OCI layout folder, an OCI archive or a
    /// `docker save` archive (either may be compressed with gzip or zstd), with `:tag` or `@sha256:...` behind it
    /// to choose among several; or a registry reference (see [`Reference`]). A tag in a registry is looked up
    /// each time; a digest that is already unpacked needs no network.
    ///
    /// Errors: see [`Error`]. Nothing half unpacked is ever left in [`Image::rootfs`].
    pub fn resolve(&self, reference: &str, progress: &mut dyn FnMut(Progress)) -> Result<Image, Error> {
        self.resolve_as(reference, None, progress)
    }

    /// Like [`Images::resolve`], with a login for this image's registry that wins over those configured. An image that
    /// comes this way is nobody else's: whoever names its digest is let in by the registry only, even when it is here.
    /// COMPAT: EN-025 `registryCredential` belongs to one project.
    pub fn resolve_as(
        &self,
        reference: &str,
        login: Option<&Login>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Image, Error> {
        let image = match Reference::parse(reference)? {
            Reference::Local { path, select } => self.resolve_local(reference, &path, &select, progress),
            Reference::Registry(repository) => self.resolve_remote(reference, &repository, login, progress),
        }?;
        self.note_asked(&image.digest)?;
        Ok(image)
    }

    /// What [`Images::resolve`] would answer, if that is known without a registry and without unpacking anything: for a digest, and for what
    /// lies on this host. Reads a few small files.
    pub fn at_hand(&self, reference: &str) -> Option<Image> {
        let image = match Reference::parse(reference).ok()? {
            Reference::Local { path, select } => self.local_at_hand(reference, &path, &select),
            Reference::Registry(repository) => self.pinned(reference, &repository.digest?),
        }?;
        self.note_asked(&image.digest).ok()?;
        Some(image)
    }

    /// The image `reference` last resolved to, if it is still unpacked. Reads two small files and never the
    /// place the image came from, so a moved tag goes unnoticed. COMPAT: EN-022 hosts cache unpinned images.
    pub fn known(&self, reference: &str) -> Option<Image> {
        self.image(&self.record(reference)?.digest)
    }

    /// The unpacked image with this digest.
    pub fn image(&self, digest: &Digest) -> Option<Image> {
        let rootfs = self.folder.folders(digest)?;
        let bytes = fs::read(self.folder.config(digest)).ok()?;
        let config: Config = manifest::parse("config", &bytes).ok()?;
        Some(Image { digest: *digest, rootfs, lock: self.folder.image_lock(digest), config: config.into() })
    }

    /// All unpacked images, by digest.
    pub fn list(&self) -> Result<Vec<Image>, Error> {
        Ok(self.folder.digests()?.iter().filter_map(|digest| self.image(digest)).collect())
    }

    /// Removes an unpacked image; it need not exist.
    ///
    /// Errors: [`Error::InUse`] if somebody uses it, [`Error::Io`].
    pub fn remove(&self, digest: &Digest) -> Result<(), Error> {
        self.folder.remove(digest)
    }

    fn resolve_local(
        &self,
        reference: &str,
        path: &Path,
        select: &Select,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Image, Error> {
        let metadata = fs::metadata(path).map_err(Error::io("examining", path))?;
        if metadata.is_dir() {
            let (mut layout, found) = self.in_layout(path, select)?;
            return self.unpack(reference, &mut layout, &found, None, progress);
        }
        if !metadata.is_file() {
            return Err(Error::malformed(reference, "neither a folder nor an archive"));
        }
        let stamp = Stamp::of(&metadata);
        if let Some(image) = self.of_unchanged(reference, &stamp) {
            return Ok(image);
        }
        let mut archive = Archive::open(path, &self.folder.scratch(), &self.limits)?;
        let found = archive.find(select)?;
        self.unpack(reference, &mut archive, &found, Some(stamp), progress)
    }

    fn local_at_hand(&self, reference: &str, path: &Path, select: &Select) -> Option<Image> {
        let metadata = fs::metadata(path).ok()?;
        match metadata.is_dir() {
            true => self.image(&self.in_layout(path, select).ok()?.1.digest),
            false => self.of_unchanged(reference, &Stamp::of(&metadata)),
        }
    }

    fn in_layout(&self, path: &Path, select: &Select) -> Result<(Layout, Found), Error> {
        let mut layout = Layout::open(path, &self.limits)?;
        let start = layout.start(select)?;
        let found = origin::follow(&mut layout, start, &self.limits)?;
        Ok((layout, found))
    }

    /// What an archive held when it was looked at, if it was not changed since.
    fn of_unchanged(&self, reference: &str, stamp: &Stamp) -> Option<Image> {
        let record = self.record(reference)?;
        (record.stamp.as_ref() == Some(stamp)).then(|| self.image(&record.digest))?
    }

    #[cfg(feature = "registry")]
    fn resolve_remote(
        &self,
        reference: &str,
        repository: &Repository,
        login: Option<&Login>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Image, Error> {
        if let Some(image) = repository.digest.and_then(|digest| self.pinned(reference, &digest)) {
            return Ok(image);
        }
        let any_login = login.or_else(|| self.credentials.login(&repository.registry));
        let mut registry = registry::Registry::open(repository, any_login, &self.limits, &self.reach)?;
        let start = registry.start()?;
        let found = origin::follow(&mut registry, start, &self.limits)?;
        if login.is_some() && self.image(&found.digest).is_none() {
            // Before it is unpacked, for others may look for it from then on.
            self.folder.guard_image(&found.digest)?;
        }
        self.unpack(reference, &mut registry, &found, None, progress)
    }

    #[cfg(not(feature = "registry"))]
    fn resolve_remote(
        &self,
        reference: &str,
        _: &Repository,
        _: Option<&Login>,
        _: &mut dyn FnMut(Progress),
    ) -> Result<Image, Error> {
        let reason = "this build of Buildyard cannot pull from registries";
        Err(Error::Reference { reference: reference.into(), reason })
    }

    /// A digest never means anything else: neither the image's own, nor that of an index it was chosen from.
    fn pinned(&self, reference: &str, digest: &Digest) -> Option<Image> {
        let image = self.image(digest).or_else(|| self.known(reference))?;
        (!self.folder.is_guarded(&image.digest)).then_some(image)
    }

    fn unpack(
        &self,
        reference: &str,
        origin: &mut dyn Origin,
        found: &Found,
        stamp: Option<Stamp>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Image, Error> {
        progress(Progress::Found { digest: found.digest });
        let mut room = Room::new(self, found.digest);
        self.folder.unpack(origin, found, &self.limits, &mut room, progress)?;
        self.remember(Record { reference: absolute(reference), digest: found.digest, stamp })?;
        let gone = || Error::NotFound(format!("{reference}: it was removed while it was being resolved"));
        self.image(&found.digest).ok_or_else(gone)
    }

    fn record(&self, reference: &str) -> Option<Record> {
        let reference = absolute(reference);
        let bytes = fs::read(self.folder.reference(&reference)).ok()?;
        let record: Record = serde_json::from_slice(&bytes).ok()?;
        (record.reference == reference).then_some(record)
    }

    fn remember(&self, record: Record) -> Result<(), Error> {
        let unchanged = |old: Record| old.digest == record.digest && old.stamp == record.stamp;
        if self.record(&record.reference).is_some_and(unchanged) {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&record).expect("a record is plain data");
        write_atomically(&self.folder.reference(&record.reference), &bytes)
    }
}

/// This host's platform as images name it, such as `linux/amd64`.
pub fn host_platform() -> String {
    Platform::host().name()
}

/// A reference that means the same in every working directory.
fn absolute(reference: &str) -> String {
    match std::path::absolute(reference) {
        Ok(path) if reference.starts_with('.') => path.to_string_lossy().into_owned(),
        _ => reference.to_owned(),
    }
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

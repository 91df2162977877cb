//! Unpacking an image exactly once, however many ask for it, and leaving nothing half done.
//!
//! `rootfs/<digest>` exists only once complete. It is built beside itself under an exclusive lock, so that
//! another process waits rather than builds too, and whoever comes after a killed one starts afresh.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::digest::Hashing;
use crate::layer::{Layers, Omitted};
use crate::origin::{self, Found, Origin};
use crate::room::Room;
use crate::tarball::Tarball;
use crate::tree::{self, Trash, Tree};
use crate::{Digest, Error, Limits, Progress, compression};

/// The folder that holds unpacked images and what is known of them.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    path: PathBuf,
}

/// Held while an image is unpacked or removed; gone with the process at the latest.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code, reason = "the lock lives as long as the open file")] File);

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Folder, Error> {
        let folder = Folder { path: std::path::absolute(path).map_err(Error::io("resolving", path))? };
        for part in ["rootfs", "configs", "references", "locks", "scratch", "sizes", "guarded"] {
            make_private(&folder.path.join(part))?;
        }
        Ok(folder)
    }

    pub(crate) fn rootfs(&self, digest: &Digest) -> PathBuf {
        self.path.join("rootfs").join(digest.file_name())
    }

    /// The verified config of an image that is unpacked.
    pub(crate) fn config(&self, digest: &Digest) -> PathBuf {
        self.path.join("configs").join(digest.file_name())
    }

    /// What `reference` last resolved to.
    pub(crate) fn reference(&self, reference: &str) -> PathBuf {
        self.path.join("references").join(Digest::of(reference.as_bytes()).hex())
    }

    pub(crate) fn references(&self) -> PathBuf {
        self.path.join("references")
    }

    /// How large an unpacked image is, once that was asked.
    pub(crate) fn size(&self, digest: &Digest) -> PathBuf {
        self.path.join("sizes").join(digest.file_name())
    }

    /// There if the image came by a login of one project's own.
    fn guard(&self, digest: &Digest) -> PathBuf {
        self.path.join("guarded").join(digest.file_name())
    }

    /// From now on its digest alone does not lead to the image: the registry is asked each time.
    pub(crate) fn guard_image(&self, digest: &Digest) -> Result<(), Error> {
        write_atomically(&self.guard(digest), b"")
    }

    pub(crate) fn is_guarded(&self, digest: &Digest) -> bool {
        self.guard(digest).exists()
    }

    /// For unnamed files.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.path.join("scratch")
    }

    /// Blobs fetched for an image being unpacked.
    pub(crate) fn blobs(&self, digest: &Digest) -> PathBuf {
        self.scratch().join(digest.file_name())
    }

    pub(crate) fn forget_blobs(&self, digest: &Digest) -> Result<(), Error> {
        let blobs = self.blobs(digest);
        match fs::remove_dir_all(&blobs) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("removing", &blobs)(error))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn rootfs_folder(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    /// Where a root file system is until it is complete: beside the finished one, since an ordinary user cannot move an unwritable
    /// folder anywhere else.
    pub(crate) fn partial(&self, digest: &Digest) -> PathBuf {
        self.rootfs_folder().join(format!(".{}.partial", digest.file_name()))
    }

    /// The digests of all unpacked images.
    pub(crate) fn digests(&self) -> Result<Vec<Digest>, Error> {
        let path = self.rootfs_folder();
        let mut digests = Vec::new();
        for entry in fs::read_dir(&path).map_err(Error::io("reading", &path))? {
            let name = entry.map_err(Error::io("reading", &path))?.file_name();
            let hex = name.to_str().and_then(|name| name.strip_prefix("sha256-"));
            digests.extend(hex.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok()));
        }
        digests.sort();
        Ok(digests)
    }

    /// Removes an unpacked image, unless it is in use.
    pub(crate) fn remove(&self, digest: &Digest) -> Result<(), Error> {
        let lock = self.lock(digest, &mut |_| ())?;
        self.remove_locked(digest, &lock)
    }

    /// The same, unless somebody is at it: who holds the lock of another image must not wait for one.
    pub(crate) fn remove_at_once(&self, digest: &Digest) -> Result<(), Error> {
        let lock = self.try_lock(digest)?.ok_or(Error::InUse(*digest))?;
        self.remove_locked(digest, &lock)
    }

    fn remove_locked(&self, digest: &Digest, _: &Lock) -> Result<(), Error> {
        let rootfs = self.rootfs(digest);
        let partial = self.partial(digest);
        if let Some(unused) = self.nobody_uses(digest)? {
            discard(&partial)?;
            fs::rename(&rootfs, &partial).map_err(Error::io("removing", &rootfs))?;
            // Who waits to use it sees that it is gone, and need not wait until all of it is.
            drop(unused);
        }
        discard(&partial)?;
        [self.size(digest), self.guard(digest), self.config(digest)].iter().try_for_each(|path| gone(path))
    }

    /// Unpacks the image unless that was done before.
    ///
    /// What came of an image that is not as it should be is removed at once; a registry that failed may be asked for the rest.
    pub(crate) fn unpack(
        &self,
        origin: &mut dyn Origin,
        found: &Found,
        limits: &Limits,
        room: &mut Room<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Error> {
        let rootfs = self.rootfs(&found.digest);
        if rootfs.exists() {
            return Ok(());
        }
        let _lock = self.lock(&found.digest, progress)?;
        if rootfs.exists() {
            return Ok(());
        }
        make_private(&self.blobs(&found.digest))?;
        let partial = self.partial(&found.digest);
        discard(&partial)?;
        let built = self.build(origin, found, limits, room, progress);
        if let Err(error) = &built {
            // The disk may be full of it; that it could not be removed is the smaller news.
            let _ = discard(&partial);
            if !matches!(error, Error::Registry { .. }) {
                let _ = self.forget_blobs(&found.digest);
            }
        }
        built?;
        fs::rename(&partial, &rootfs).map_err(Error::io("completing", &rootfs))?;
        sync_folder(&self.rootfs_folder())?;
        self.forget_blobs(&found.digest)
    }

    fn build(
        &self,
        origin: &mut dyn Origin,
        found: &Found,
        limits: &Limits,
        room: &mut Room<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Error> {
        let blobs = self.blobs(&found.digest);
        if origin.is_afar() {
            room.expect(found.manifest.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add))?;
        }
        let (bytes, config) = origin::config(origin, &found.manifest, &blobs, limits)?;
        let mut tree = Tree::create(&self.partial(&found.digest), limits)?;
        let mut layers = Layers::new(&mut tree, limits);
        let count = found.manifest.layers.len();
        for (number, (descriptor, diff_id)) in found.manifest.layers.iter().zip(config.diff_ids()).enumerate()
        {
            let kept = blobs.join(descriptor.digest.file_name());
            if origin.is_afar() && !kept.exists() {
                room.take(descriptor.size)?;
            }
            let blob = origin.blob(descriptor, &blobs, progress)?;
            room.unpacks(kept);
            progress(Progress::Unpacking { layer: number + 1, layers: count });
            blob.verify("layer", descriptor)?;
            diff_id.verify("unpacked layer", apply(&mut layers, blob, limits, room)?)?;
        }
        let omitted = layers.omitted();
        notes(omitted, tree.ids_replaced()).for_each(|note| progress(Progress::Note(note)));
        tree.finish()?;
        write_atomically(&self.config(&found.digest), &bytes)
    }

    fn lock(&self, digest: &Digest, progress: &mut dyn FnMut(Progress)) -> Result<Lock, Error> {
        let path = self.path.join("locks").join(digest.file_name());
        let file =
            File::options().create(true).append(true).open(&path).map_err(Error::io("opening", &path))?;
        if file.try_lock().is_err() {
            progress(Progress::Waiting);
            file.lock().map_err(Error::io("locking", &path))?;
        }
        Ok(Lock(file))
    }

    /// None if somebody has it.
    pub(crate) fn try_lock(&self, digest: &Digest) -> Result<Option<Lock>, Error> {
        let path = self.path.join("locks").join(digest.file_name());
        let file =
            File::options().create(true).append(true).open(&path).map_err(Error::io("opening", &path))?;
        Ok(file.try_lock().is_ok().then(|| Lock(file)))
    }

    /// Held while it is looked whether an image is used; others wait a moment.
    pub(crate) fn turn(&self) -> Result<Lock, Error> {
        let path = self.path.join("locks/turn");
        let file =
            File::options().create(true).append(true).open(&path).map_err(Error::io("opening", &path))?;
        file.lock().map_err(Error::io("locking", &path))?;
        Ok(Lock(file))
    }
}

/// Removes a file that may be there.
fn gone(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("removing", path)(error)),
        _ => Ok(()),
    }
}

/// Applies one layer and gives the digest of its uncompressed bytes, all of them: also those behind the end of
/// the archive.
fn apply(
    layers: &mut Layers<'_>,
    blob: origin::Blob,
    limits: &Limits,
    room: &mut Room<'_>,
) -> Result<Digest, Error> {
    let plain = compression::reader(blob, limits.compression_ratio).map_err(Error::reading("layer"))?;
    let mut tarball = Tarball::new(Hashing::new(plain), limits.entry_metadata_bytes);
    layers.apply(&mut tarball, room)?;
    let mut rest = tarball.into_inner();
    let mut buffer = [0; 4096];
    while rest.read(&mut buffer).map_err(Error::reading("layer"))? > 0 {}
    Ok(rest.digest())
}

fn notes(omitted: Omitted, ids_replaced: bool) -> impl Iterator<Item = String> {
    let devices = (omitted.devices > 0).then(|| format!("{} device nodes left out", omitted.devices));
    let xattrs = (omitted.xattrs > 0).then(|| format!("{} extended attributes left out", omitted.xattrs));
    let ids = ids_replaced.then(|| "owners above 65535 became nobody (65534)".to_owned());
    [devices, xattrs, ids].into_iter().flatten()
}

/// Removes a tree, and what earlier attempts to remove it left.
pub(crate) fn discard(path: &Path) -> Result<(), Error> {
    let parent = path.parent().expect("a rootfs is below the images folder");
    let mut trash = Trash::open(parent, path)?;
    let folder = File::open(parent).map_err(Error::io("opening", parent))?;
    trash
        .remove(std::os::fd::AsFd::as_fd(&folder), &tree::c_name(path))
        .and_then(|()| trash.sweep())
        .map_err(Error::io("removing", path))
}

/// Setuid programs of an image must be out of reach for the host's users.
fn make_private(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::io("creating", path))
}

pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = path.parent().expect("it is a file of ours below the images folder");
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(Error::io("writing below", folder))?;
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(Error::io("writing", path))?;
    file.persist(path).map_err(|error| Error::io("writing", path)(error.error))?;
    sync_folder(folder)
}

fn sync_folder(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(Error::io("writing out", path))
}

//! Unpacking every layer exactly once, however many images have it and whoever asks for them, and leaving nothing half done.
//!
//! `layers/<chain id>` exists only once complete. It is built beside itself under an exclusive lock, so that
//! another process waits rather than builds too, and whoever comes after a killed one starts that layer afresh. `stacks/<digest>` names an
//! image's layers, and exists only once all of them do.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::digest::Hashing;
use crate::layer::{Layers, Omitted};
use crate::limits::Allowance;
use crate::origin::{self, Found, Origin};
use crate::room::Room;
use crate::tarball::Tarball;
use crate::tree::{self, Trash, Tree};
use crate::{Digest, Error, Limits, Progress, compression, overlay};

/// The folder that holds unpacked images and what is known of them.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    path: PathBuf,
}

/// Held while an image or a layer is unpacked or removed; gone with the process at the latest.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code, reason = "the lock lives as long as the open file")] File);

/// A folder of an image: some of its layers, over those of the folders beneath.
#[derive(Debug, PartialEq, Eq)]
struct Part {
    name: String,
    layers: Range<usize>,
}

/// What is needed to unpack one image.
struct Unpacking<'a, 'r> {
    folder: &'a Folder,
    origin: &'a mut dyn Origin,
    found: &'a Found,
    diff_ids: &'a [Digest],
    limits: &'a Limits,
    room: &'a mut Room<'r>,
    progress: &'a mut dyn FnMut(Progress),
    layers: Layers<'a>,
    entries: Allowance,
    ids_replaced: bool,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> Result<Folder, Error> {
        let folder = Folder { path: std::path::absolute(path).map_err(Error::io("resolving", path))? };
        for part in ["layers", "stacks", "configs", "references", "locks", "scratch", "sizes", "guarded"] {
            make_private(&folder.path.join(part))?;
        }
        Ok(folder)
    }

    /// The folders of an image that is unpacked, the topmost first.
    pub(crate) fn folders(&self, digest: &Digest) -> Option<Vec<PathBuf>> {
        let folders: Vec<PathBuf> = match fs::read_to_string(self.stack(digest)) {
            Ok(names) => names.lines().map(|name| self.layer(name)).collect(),
            Err(_) => vec![self.whole(digest)],
        };
        folders.iter().all(|folder| folder.exists()).then_some(folders)
    }

    /// What who uses an image has locked.
    pub(crate) fn image_lock(&self, digest: &Digest) -> PathBuf {
        let stack = self.stack(digest);
        if stack.exists() { stack } else { self.whole(digest) }
    }

    /// The same as [`Folder::stack`] of an image that is not complete.
    fn begun(&self, digest: &Digest) -> PathBuf {
        self.blobs(digest).join("stack")
    }

    /// Names an image's layers, a line each, the topmost first.
    fn stack(&self, digest: &Digest) -> PathBuf {
        self.path.join("stacks").join(digest.file_name())
    }

    pub(crate) fn layer(&self, name: &str) -> PathBuf {
        self.layers_folder().join(name)
    }

    /// Where earlier versions unpacked an image, all of it in one folder.
    fn whole(&self, digest: &Digest) -> PathBuf {
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

    /// How large a folder of an image is, once that was asked.
    pub(crate) fn size(&self, folder: &Path) -> PathBuf {
        self.path.join("sizes").join(folder.file_name().unwrap_or_default())
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

    pub(crate) fn layers_folder(&self) -> PathBuf {
        self.path.join("layers")
    }

    /// Where the layer of an image that is just being unpacked is until it is complete: beside the finished ones, since an ordinary user
    /// cannot move an unwritable folder anywhere else.
    pub(crate) fn partial(&self, digest: &Digest) -> PathBuf {
        self.layers_folder().join(format!(".{}.partial", digest.file_name()))
    }

    /// The digests of all unpacked images.
    pub(crate) fn digests(&self) -> Result<Vec<Digest>, Error> {
        let names = [names(&self.path.join("stacks"))?, names(&self.path.join("rootfs"))?].concat();
        let digests: BTreeSet<Digest> = names.iter().filter_map(|name| digest_of(name)).collect();
        Ok(digests.into_iter().collect())
    }

    /// The folders of all unpacked images and, where one was not finished, of none; each once.
    pub(crate) fn all_folders(&self) -> Result<Vec<PathBuf>, Error> {
        let layers = names(&self.layers_folder())?.into_iter().filter(|name| !name.starts_with('.'));
        let whole = names(&self.path.join("rootfs"))?.into_iter().filter(|name| !name.starts_with('.'));
        let layers = layers.map(|name| self.layer(&name));
        Ok(layers.chain(whole.map(|name| self.path.join("rootfs").join(name))).collect())
    }

    /// The names of layers that belong to no image, complete or begun, and of those whose removal was cut off.
    fn unnamed_layers(&self) -> Result<BTreeSet<String>, Error> {
        let all = names(&self.layers_folder())?;
        let named = self.named_layers()?;
        let unnamed = |name: &String| match name.strip_prefix('.') {
            None => (!named.contains(name)).then(|| name.clone()),
            Some(hidden) => hidden.split_once(REMOVED).map(|(name, _)| name.to_owned()),
        };
        Ok(all.iter().filter_map(unnamed).collect())
    }

    fn named_layers(&self) -> Result<BTreeSet<String>, Error> {
        let scratch = self.scratch();
        let mut named = self.layers_of_images()?;
        named.extend(names(&scratch)?.iter().flat_map(|name| lines(&scratch.join(name).join("stack"))));
        Ok(named)
    }

    fn layers_of_images(&self) -> Result<BTreeSet<String>, Error> {
        let stacks = self.path.join("stacks");
        Ok(names(&stacks)?.iter().flat_map(|name| lines(&stacks.join(name))).collect())
    }

    /// Those that are complete of an image that is not, and that no other image has.
    pub(crate) fn layers_of_unfinished(&self, digest: &Digest) -> Result<Vec<String>, Error> {
        let others = self.layers_of_images()?;
        let is_own = |name: &String| !others.contains(name) && self.layer(name).exists();
        Ok(lines(&self.begun(digest)).into_iter().filter(is_own).collect())
    }

    /// Removes what belongs to no image, unless somebody holds it.
    pub(crate) fn sweep_layers(&self) -> Result<(), Error> {
        self.unnamed_layers()?.iter().try_for_each(|name| self.remove_layer(name).map(drop))
    }

    /// Whether it was removed: it belongs to no image, and nobody holds it or is at it.
    fn remove_layer(&self, name: &str) -> Result<bool, Error> {
        let Some(_lock) = self.try_lock(name)? else { return Ok(false) };
        let (layer, removed) = (self.layer(name), self.layer(&format!(".{name}{REMOVED}")));
        discard(&removed)?;
        if !layer.exists() {
            return Ok(false);
        }
        {
            let _turn = self.turn()?;
            let Some(_unused) = exclusively(&layer)? else { return Ok(false) };
            // Who has begun to use it since has named it before letting go of it.
            if self.named_layers()?.contains(name) {
                return Ok(false);
            }
            fs::rename(&layer, &removed).map_err(Error::io("removing", &layer))?;
        }
        gone(&self.size(&layer))?;
        discard(&removed)?;
        Ok(true)
    }

    /// Removes an unpacked image, unless it is in use; and those of its layers that no other has.
    pub(crate) fn remove(&self, digest: &Digest) -> Result<(), Error> {
        let lock = self.lock(&digest.file_name(), &mut |_| ())?;
        self.remove_locked(digest, &lock)
    }

    /// The same, unless somebody is at it: who holds the lock of another image must not wait for one.
    pub(crate) fn remove_at_once(&self, digest: &Digest) -> Result<(), Error> {
        let lock = self.try_lock(&digest.file_name())?.ok_or(Error::InUse(*digest))?;
        self.remove_locked(digest, &lock)
    }

    fn remove_locked(&self, digest: &Digest, _: &Lock) -> Result<(), Error> {
        let whole = self.whole(digest);
        // An ordinary user cannot move an unwritable folder anywhere else.
        let removed = whole.with_file_name(format!(".{}{REMOVED}", digest.file_name()));
        let discard_whole = || if whole.with_file_name("").exists() { discard(&removed) } else { Ok(()) };
        discard_whole()?;
        if self.folders(digest).is_some() {
            let _turn = self.turn()?;
            let _unused = exclusively(&self.image_lock(digest))?.ok_or(Error::InUse(*digest))?;
            gone(&self.stack(digest))?;
            if whole.exists() {
                fs::rename(&whole, &removed).map_err(Error::io("removing", &whole))?;
            }
        }
        discard_whole()?;
        discard(&self.partial(digest))?;
        let files = [self.stack(digest), self.size(&whole), self.guard(digest), self.config(digest)];
        files.iter().try_for_each(|path| gone(path))?;
        self.sweep_layers()
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
        let digest = &found.digest;
        if self.folders(digest).is_some() {
            return Ok(());
        }
        let _lock = self.lock(&digest.file_name(), progress)?;
        if self.folders(digest).is_some() {
            return Ok(());
        }
        make_private(&self.blobs(digest))?;
        let built = self.build(origin, found, limits, room, progress);
        if let Err(error) = &built {
            // The disk may be full of it; that it could not be removed is the smaller news.
            let _ = discard(&self.partial(digest));
            if !matches!(error, Error::Registry { .. }) {
                let _ = self.forget_blobs(digest);
                let _ = self.sweep_layers();
            }
        }
        built?;
        self.forget_blobs(digest)
    }

    fn build(
        &self,
        origin: &mut dyn Origin,
        found: &Found,
        limits: &Limits,
        room: &mut Room<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Error> {
        if origin.is_afar() {
            room.expect(found.manifest.layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add))?;
        }
        let (bytes, config) = origin::config(origin, &found.manifest, &self.blobs(&found.digest), limits)?;
        let (layers, entries) = (Layers::new(limits), Allowance::new("entries", limits.entries));
        let diff_ids = config.diff_ids();
        let mut unpacking = Unpacking {
            folder: self,
            origin,
            found,
            diff_ids,
            limits,
            room,
            progress,
            layers,
            entries,
            ids_replaced: false,
        };
        let parts = parts(diff_ids, overlay::most_folders(&self.scratch()));
        let stack: Vec<&str> = parts.iter().rev().map(|part| part.name.as_str()).collect();
        let stack = stack.join("\n");
        write_atomically(&self.begun(&found.digest), stack.as_bytes())?;
        let _held = unpacking.unpack(&parts)?;
        notes(unpacking.layers.omitted(), unpacking.ids_replaced)
            .for_each(|note| (unpacking.progress)(Progress::Note(note)));
        write_atomically(&self.config(&found.digest), &bytes)?;
        write_atomically(&self.stack(&found.digest), stack.as_bytes())
    }

    fn lock(&self, name: &str, progress: &mut dyn FnMut(Progress)) -> Result<Lock, Error> {
        let (path, file) = self.lock_file(name)?;
        if file.try_lock().is_err() {
            progress(Progress::Waiting);
            file.lock().map_err(Error::io("locking", &path))?;
        }
        Ok(Lock(file))
    }

    /// None if somebody has it.
    pub(crate) fn try_lock(&self, name: &str) -> Result<Option<Lock>, Error> {
        let (_, file) = self.lock_file(name)?;
        Ok(file.try_lock().is_ok().then(|| Lock(file)))
    }

    fn lock_file(&self, name: &str) -> Result<(PathBuf, File), Error> {
        let path = self.path.join("locks").join(name);
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(Error::io("opening", &path))?;
        Ok((path, file))
    }

    /// Held while it is looked whether an image is used; others wait a moment.
    pub(crate) fn turn(&self) -> Result<Lock, Error> {
        let (path, file) = self.lock_file("turn")?;
        file.lock().map_err(Error::io("locking", &path))?;
        Ok(Lock(file))
    }
}

impl Unpacking<'_, '_> {
    /// All folders of the image, given the lowest first. None is removed while its file is open.
    fn unpack(&mut self, parts: &[Part]) -> Result<Vec<File>, Error> {
        let (mut held, mut stack) = (Vec::new(), Vec::new());
        for part in parts {
            held.push(self.part(part, &stack)?);
            self.room.has(&part.name);
            stack.insert(0, self.folder.layer(&part.name));
        }
        Ok(held)
    }

    /// One of them, unpacked over those beneath unless it is there.
    fn part(&mut self, part: &Part, beneath: &[PathBuf]) -> Result<File, Error> {
        let path = self.folder.layer(&part.name);
        if let Some(there) = held(&path)? {
            return Ok(there);
        }
        let _lock = self.folder.lock(&part.name, self.progress)?;
        if let Some(there) = held(&path)? {
            return Ok(there);
        }
        let partial = self.folder.partial(&self.found.digest);
        discard(&partial)?;
        self.fill(part, beneath, &partial)?;
        let made = held(&partial)?.ok_or_else(|| Error::NotFound(partial.display().to_string()))?;
        gone(&self.folder.size(&path))?;
        fs::rename(&partial, &path).map_err(Error::io("completing", &path))?;
        sync_folder(&self.folder.layers_folder())?;
        // What is unpacked needs not be fetched again.
        for descriptor in &self.found.manifest.layers[part.layers.clone()] {
            gone(&self.kept(&descriptor.digest))?;
        }
        Ok(made)
    }

    fn fill(&mut self, part: &Part, beneath: &[PathBuf], partial: &Path) -> Result<(), Error> {
        let mut tree = self.tree(beneath, partial)?;
        for number in part.layers.clone() {
            self.add(number, &mut tree)?;
        }
        self.ids_replaced |= tree.ids_replaced();
        self.entries = tree.finish()?;
        // What overlay worked in lies beside it.
        Trash::sweep_beside(partial).map_err(Error::io("removing what is beside", partial))
    }

    fn tree(&mut self, beneath: &[PathBuf], partial: &Path) -> Result<Tree, Error> {
        let entries = self.entries.clone();
        match beneath {
            [] => Tree::create(partial, self.limits, entries),
            // Named as what was put aside, and removed with it.
            _ => Tree::over(
                beneath,
                partial,
                &partial.with_extension("partial.gone-work"),
                self.limits,
                entries,
            ),
        }
    }

    fn add(&mut self, number: usize, tree: &mut Tree) -> Result<(), Error> {
        let descriptor = &self.found.manifest.layers[number];
        let kept = self.kept(&descriptor.digest);
        if self.origin.is_afar() && !kept.exists() {
            self.room.take(descriptor.size)?;
        }
        let blob = self.origin.blob(descriptor, &self.folder.blobs(&self.found.digest), self.progress)?;
        self.room.unpacks(kept);
        (self.progress)(Progress::Unpacking { layer: number + 1, layers: self.diff_ids.len() });
        blob.verify("layer", descriptor)?;
        let unpacked = apply(&mut self.layers, tree, blob, self.limits, self.room)?;
        self.diff_ids[number].verify("unpacked layer", unpacked)
    }

    fn kept(&self, blob: &Digest) -> PathBuf {
        self.folder.blobs(&self.found.digest).join(blob.file_name())
    }
}

/// How layers are spread over at most `most` folders, the lowest first: one each, but for the lowest folder, which has all that the others leave.
/// Named after what they are together with those beneath (`ChainID` of the OCI image specification).
fn parts(diff_ids: &[Digest], most: usize) -> Vec<Part> {
    let lowest = (diff_ids.len() + 1).saturating_sub(most).max(1).min(diff_ids.len());
    let chain_ids: Vec<Digest> = diff_ids
        .iter()
        .scan(None, |beneath: &mut Option<Digest>, diff_id| {
            let chain_id =
                beneath.map_or(*diff_id, |beneath| Digest::of(format!("{beneath} {diff_id}").as_bytes()));
            *beneath = Some(chain_id);
            Some(chain_id)
        })
        .collect();
    let name = |layers: &Range<usize>| match chain_ids.get(layers.end.wrapping_sub(1)) {
        None => Digest::of(b"").file_name(),
        Some(chain_id) if layers.len() == 1 => chain_id.file_name(),
        Some(chain_id) => format!("{}{WHOLE}", chain_id.file_name()),
    };
    let others = (lowest..diff_ids.len()).map(|number| number..number + 1);
    let part = |layers: Range<usize>| Part { name: name(&layers), layers };
    std::iter::once(0..lowest).chain(others).map(part).collect()
}

/// Behind the name of what is being removed.
const REMOVED: &str = ".removed";

/// Behind the name of a folder that has several layers.
const WHOLE: &str = "-whole";

/// A folder that is kept from being removed; none if it is not there. Waits for who has it locked for a moment.
pub(crate) fn held(path: &Path) -> Result<Option<File>, Error> {
    let folder = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        folder => folder.map_err(Error::io("opening", path))?,
    };
    folder.lock_shared().map_err(Error::io("locking", path))?;
    let ours = folder.metadata().map_err(Error::io("examining", path))?;
    let there = path.metadata().is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()));
    Ok(there.then_some(folder))
}

/// The folder, locked against all others; `None` if somebody has it locked.
pub(crate) fn exclusively(path: &Path) -> Result<Option<File>, Error> {
    let folder = File::open(path).map_err(Error::io("opening", path))?;
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(folder)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(Error::io("locking", path)(error)),
    }
}

/// What is in a folder, if that is there.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(Error::io("reading", folder))?,
    };
    let name = |entry: io::Result<fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
    entries.map(name).collect::<io::Result<_>>().map_err(Error::io("reading", folder))
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// As [`Digest::file_name`] has made it.
pub(crate) fn digest_of(name: &str) -> Option<Digest> {
    format!("sha256:{}", name.strip_prefix("sha256-")?).parse().ok()
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
    tree: &mut Tree,
    blob: origin::Blob,
    limits: &Limits,
    room: &mut Room<'_>,
) -> Result<Digest, Error> {
    let plain = compression::reader(blob, limits.compression_ratio).map_err(Error::reading("layer"))?;
    let mut tarball = Tarball::new(Hashing::new(plain), limits.entry_metadata_bytes);
    layers.apply(tree, &mut tarball, room)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_named_after_all_that_is_beneath_and_the_lowest_folder_has_what_is_too_much() {
        let ids: Vec<Digest> = (0..4_u8).map(|number| Digest::of(&[number])).collect();
        let chain = |beneath: &Digest, id: &Digest| Digest::of(format!("{beneath} {id}").as_bytes());
        let second = chain(&ids[0], &ids[1]);
        let third = chain(&second, &ids[2]);
        let fourth = chain(&third, &ids[3]);
        let found = |count: usize, most| {
            let parts = parts(&ids[..count], most);
            parts.into_iter().map(|part| (part.name, part.layers)).collect::<Vec<_>>()
        };
        let one = |digest: &Digest, number: usize| (digest.file_name(), number..number + 1);
        let all = [one(&ids[0], 0), one(&second, 1), one(&third, 2), one(&fourth, 3)];
        assert_eq!(found(4, 4), all);
        assert_eq!(found(3, 128), all[..3]);
        let whole = |digest: &Digest, count| (format!("{}-whole", digest.file_name()), 0..count);
        assert_eq!(found(4, 3), [whole(&second, 2), one(&third, 2), one(&fourth, 3)]);
        assert_eq!(found(4, 1), [whole(&fourth, 4)]);
        assert_eq!(found(1, 1), [one(&ids[0], 0)]);
        assert_eq!(found(0, 1), [(Digest::of(b"").file_name(), 0..0)]);
    }
}

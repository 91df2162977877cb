//! Caches as layers of this host: what builds wrote to cached folders, mounted again beneath the next build's own. Neither restoring nor
//! saving copies a file.
//!
//! ```text
//! <folder>/<scope>/scope.json             whose it is
//! <folder>/<scope>/lease                  locked by builds that use layers; whoever has it alone may remove some
//! <folder>/<scope>/layers/<name>/files    what one build wrote to one folder; never changed again
//! <folder>/<scope>/entries/<name>.json    an entry: which layers each cached folder consists of; replaced as a whole
//! ```
//!
//! An entry is what counts, and layers that none names are rubbish: so a kill at any moment leaves the old entry or the new one. Not
//! here: when a cache is restored and saved (`build/cache.rs`), and how layers show (`container`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, Timespec, Timestamps, UTIME_NOW, flock, utimensat};
use serde::{Deserialize, Serialize};

use super::{Scope, Wanted, digest, merge};
use crate::{clock, snapshots};

/// Layers of one folder; more become one.
pub const LAYERS_MAX: usize = 6;
/// Bytes of all caches in a folder; those used longest ago go first.
pub const BYTES_MAX: u64 = 20 << 30;
/// Entries of all caches in a folder.
pub const ENTRIES_MAX: usize = 256;

const SCOPE: &str = "scope.json";
const LEASE: &str = "lease";
const LAYERS: &str = "layers";
const ENTRIES: &str = "entries";
const FILES: &str = "files";

/// One entry of a scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub version: String,
    pub key: Option<String>,
    /// Milliseconds since 1970.
    pub saved_ms: i64,
    /// Layers of each cached folder, the latest last. A relative one is below the source folder.
    pub folders: BTreeMap<String, Vec<Layer>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Layer {
    pub name: String,
    /// On the disk, when it was saved.
    pub bytes: u64,
}

impl Entry {
    /// Bytes on disk.
    pub fn bytes(&self) -> u64 {
        self.folders.values().flatten().map(|layer| layer.bytes).sum()
    }
}

/// An entry as it is listed.
#[derive(Debug, Clone)]
pub struct Listed {
    pub scope: Scope,
    pub entry: Entry,
    /// When a build last restored or saved it: seconds since 1970.
    pub used_s: i64,
    path: PathBuf,
}

/// All entries below `folder`, those used longest ago first.
pub fn list(folder: &Path) -> Vec<Listed> {
    let mut all: Vec<Listed> =
        scopes(folder).into_iter().flat_map(|(path, scope)| listed(&path, &scope)).collect();
    all.sort_by_key(|listed| listed.used_s);
    all
}

/// Removes an entry; its layers go once no build uses the cache.
pub fn remove(listed: &Listed) -> io::Result<()> {
    snapshots::gone(fs::remove_file(&listed.path))
}

/// Removes what no entry names, of caches that no build uses now; gives bytes.
pub fn sweep(folder: &Path) -> io::Result<u64> {
    let mut freed = 0;
    for (path, _) in scopes(folder) {
        freed += sweep_scope(&path)?;
    }
    Ok(freed)
}

fn scopes(folder: &Path) -> Vec<(PathBuf, Scope)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter_map(|path| Some((path.clone(), read_json(&path.join(SCOPE)).ok()??))).collect()
}

fn listed(path: &Path, scope: &Scope) -> Vec<Listed> {
    let listed = |(path, entry): (PathBuf, Entry)| {
        let used_s = fs::metadata(&path).ok()?.mtime();
        Some(Listed { scope: scope.clone(), entry, used_s, path })
    };
    entries(path).unwrap_or_default().into_iter().filter_map(listed).collect()
}

/// The entries of the scope in `path`, with their files. An error is no proof that there are none: nothing may be removed then.
fn entries(path: &Path) -> io::Result<Vec<(PathBuf, Entry)>> {
    let files = match fs::read_dir(path.join(ENTRIES)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        files => files?,
    };
    let mut entries = Vec::new();
    for file in files {
        let path = file?.path();
        if path.extension().is_some_and(|kind| kind == "json")
            && let Some(entry) = read_json(&path)?
        {
            entries.push((path, entry));
        }
    }
    Ok(entries)
}

/// `None` if there is no such file, or none that this program can read.
fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn sweep_scope(path: &Path) -> io::Result<u64> {
    let Some(_lease) = alone(path)? else { return Ok(0) };
    let entries = entries(path)?;
    let layers = entries.iter().flat_map(|(_, entry)| entry.folders.values().flatten());
    let named: BTreeSet<&str> = layers.map(|layer| layer.name.as_str()).collect();
    let mut freed = 0;
    for layer in fs::read_dir(path.join(LAYERS)).into_iter().flatten().flatten() {
        if !named.contains(layer.file_name().to_string_lossy().as_ref()) {
            freed += snapshots::size_bytes(&layer.path());
            // Whatever wrote it has ended; a name that no container has says so.
            container::sweep("no-container", &layer.path()).map_err(io::Error::other)?;
            snapshots::gone(fs::remove_dir(layer.path()))?;
        }
    }
    if entries.is_empty() {
        vanish(path)?;
    }
    Ok(freed)
}

/// The lease on the scope in `path`, if nobody else has it.
fn alone(path: &Path) -> io::Result<Option<File>> {
    match File::options().append(true).open(path.join(LEASE)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        lease => exclusive(lease?, path),
    }
}

fn exclusive(lease: File, path: &Path) -> io::Result<Option<File>> {
    match flock(&lease, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        other => other?,
    }
    Ok(is_current(&lease, path).then_some(lease))
}

/// Whether what was locked is still the scope's: it may have been swept away as a whole before, and made anew by somebody else.
fn is_current(lease: &File, path: &Path) -> bool {
    fs::metadata(path.join(LEASE)).is_ok_and(|now| {
        lease.metadata().is_ok_and(|ours| (ours.dev(), ours.ino()) == (now.dev(), now.ino()))
    })
}

/// Removes the scope itself. Its lease goes last: whoever opens the scope waits for it up to there, finds out that it is gone, and makes
/// the scope anew; from there on all is theirs.
fn vanish(path: &Path) -> io::Result<()> {
    for part in [LAYERS, ENTRIES] {
        snapshots::gone(fs::remove_dir_all(path.join(part)))?;
    }
    for file in fs::read_dir(path)? {
        let file = file?;
        if file.file_name() != LEASE && file.file_type()?.is_file() {
            snapshots::gone(fs::remove_file(file.path()))?;
        }
    }
    snapshots::gone(fs::remove_file(path.join(LEASE)))?;
    match fs::remove_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        removed => snapshots::gone(removed),
    }
}

/// A build's hold on the layers of a scope: while it lives, none is removed.
#[derive(Debug)]
pub(crate) struct Layers {
    folder: PathBuf,
    path: PathBuf,
    scope: Scope,
    /// What the build's new layers are called.
    uuid: String,
    made: u32,
    lease: File,
}

/// An entry to restore.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) entry: Entry,
    /// It is the one that was asked for, and no fallback.
    pub(crate) is_exact: bool,
}

/// What a build has written to a cached folder, on top of what.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written {
    pub(crate) beneath: Vec<Layer>,
    /// Folders in which containers wrote, the latest last; each lies in its container's scratch folder.
    pub(crate) folders: Vec<PathBuf>,
}

/// The lease on the scope in `path`, which is made if it is not there. `None`: it was swept away meanwhile.
fn shared(path: &Path) -> io::Result<Option<File>> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    let lease = File::options().create(true).append(true).mode(0o600).open(path.join(LEASE))?;
    flock(&lease, FlockOperation::LockShared)?;
    Ok(is_current(&lease, path).then_some(lease))
}

impl Layers {
    pub(crate) fn open(folder: &Path, scope: &Scope, uuid: &str) -> io::Result<Layers> {
        let path = folder.join(scope.id());
        let lease = loop {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            match shared(&path) {
                Ok(Some(lease)) => break lease,
                Ok(None) => {}
                // Swept away as a whole, just now.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        };
        for part in [LAYERS, ENTRIES] {
            DirBuilder::new().recursive(true).mode(0o700).create(path.join(part))?;
        }
        replace(&path.join(SCOPE), uuid, &serde_json::to_vec_pretty(scope)?)?;
        let (folder, scope) = (folder.to_owned(), scope.clone());
        Ok(Layers { folder, path, scope, uuid: uuid.to_owned(), made: 0, lease })
    }

    /// The entry itself, or the newest whose key begins with a fallback key; the first fallback key that finds one decides.
    pub(crate) fn find(&self, wanted: &Wanted) -> io::Result<Option<Found>> {
        let exact: Option<Entry> = read_json(&self.entry_path(wanted))?;
        if let Some(entry) = exact {
            self.touch(&self.entry_path(wanted));
            return Ok(Some(Found { entry, is_exact: true }));
        }
        let all = listed(&self.path, &self.scope);
        for beginning in &wanted.fallback_keys {
            let begins = |listed: &&Listed| {
                let key = listed.entry.key.as_ref();
                listed.entry.version == wanted.version && key.is_some_and(|key| key.starts_with(beginning))
            };
            if let Some(newest) = all.iter().filter(begins).max_by_key(|listed| listed.entry.saved_ms) {
                self.touch(&newest.path);
                return Ok(Some(Found { entry: newest.entry.clone(), is_exact: false }));
            }
        }
        Ok(None)
    }

    /// Where a layer's files are.
    pub(crate) fn files(&self, layer: &Layer) -> PathBuf {
        self.path.join(LAYERS).join(&layer.name).join(FILES)
    }

    /// Takes what was written and makes it the entry. The containers that wrote it must have ended. `None` if nothing was to be saved.
    pub(crate) fn save(
        &mut self,
        wanted: &Wanted,
        written: &BTreeMap<String, Written>,
    ) -> io::Result<Option<Entry>> {
        let path = self.entry_path(wanted);
        if wanted.key.is_some() && path.exists() {
            return Ok(None); // COMPAT: BS-152
        }
        let mut folders = BTreeMap::new();
        for (folder, written) in written {
            let mut layers = written.beneath.clone();
            for files in &written.folders {
                layers.extend(self.take(files)?);
            }
            if layers.len() > LAYERS_MAX {
                layers = vec![self.merge(&layers)?];
            }
            if !layers.is_empty() {
                folders.insert(folder.clone(), layers);
            }
        }
        let before: Option<Entry> = read_json(&path)?;
        if folders.is_empty() && before.is_none() || before.is_some_and(|before| before.folders == folders) {
            return Ok(None);
        }
        let entry = Entry {
            version: wanted.version.clone(),
            key: wanted.key.clone(),
            saved_ms: clock::now_ms(),
            folders,
        };
        // Containers write without waiting for the disk; an entry must not outlive what it names.
        rustix::fs::syncfs(File::open(&self.path)?)?;
        replace(&path, &self.uuid, &serde_json::to_vec_pretty(&entry)?)?;
        Ok(Some(entry))
    }

    /// Makes room: generations that are over, entries used longest ago, layers that none names. The build is done with them.
    pub(crate) fn close(self) -> io::Result<()> {
        let Layers { folder, path, scope, lease, .. } = self;
        drop(lease);
        for (path, earlier) in scopes(&folder) {
            if scope.follows(&earlier) {
                listed(&path, &earlier).iter().try_for_each(remove)?;
                sweep_scope(&path)?;
            }
        }
        let surplus = surplus(list(&folder), BYTES_MAX, ENTRIES_MAX);
        for listed in &surplus {
            remove(listed)?;
        }
        match surplus.is_empty() {
            true => sweep_scope(&path).map(drop),
            false => sweep(&folder).map(drop),
        }
    }

    fn entry_path(&self, wanted: &Wanted) -> PathBuf {
        let name = match &wanted.key {
            None => "latest".to_owned(),
            Some(key) => digest(&[&wanted.version, key])[..32].to_owned(),
        };
        self.path.join(ENTRIES).join(format!("{name}.json"))
    }

    /// That it was used now; how long it lasts depends on it, no build does.
    fn touch(&self, entry: &Path) {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let _ =
            utimensat(CWD, entry, &Timestamps { last_access: now, last_modification: now }, AtFlags::empty());
    }

    /// What a container wrote becomes a layer, if it is anything.
    fn take(&mut self, files: &Path) -> io::Result<Option<Layer>> {
        let is_empty = match fs::read_dir(files) {
            Ok(mut entries) => entries.next().is_none(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => true,
            Err(e) => return Err(e),
        };
        if is_empty {
            return Ok(None);
        }
        let (name, layer) = self.new_layer()?;
        // The folder around it says whose ids are in it.
        let writer = fs::metadata(files.parent().unwrap_or(files))?;
        fs::rename(files, layer.join(FILES))?;
        give(&layer, writer.uid())?;
        Ok(Some(Layer { bytes: snapshots::size_bytes(&layer), name }))
    }

    fn new_layer(&mut self) -> io::Result<(String, PathBuf)> {
        self.made += 1;
        let name = format!("{}-{}", self.uuid, self.made);
        let layer = self.path.join(LAYERS).join(&name);
        DirBuilder::new().mode(0o700).create(&layer)?;
        Ok((name, layer))
    }

    fn merge(&mut self, layers: &[Layer]) -> io::Result<Layer> {
        let (name, merged) = self.new_layer()?;
        let folders: Vec<PathBuf> =
            layers.iter().rev().map(|layer| self.path.join(LAYERS).join(&layer.name)).collect();
        let owner = fs::metadata(&folders[0])?.uid();
        let sources = folders.iter().map(|folder| Ok((folder.join(FILES), fs::metadata(folder)?.uid())));
        merge::merge(&sources.collect::<io::Result<Vec<_>>>()?, &merged.join(FILES), owner)?;
        give(&merged, owner)?;
        Ok(Layer { bytes: snapshots::size_bytes(&merged), name })
    }
}

/// An ordinary user has nobody to give to.
fn give(folder: &Path, owner: u32) -> io::Result<()> {
    match fs::metadata(folder)?.uid() == owner {
        true => Ok(()),
        false => chown(folder, Some(owner), Some(owner)),
    }
}

/// Those that are too many or too much; `entries` begins with those used longest ago.
fn surplus(mut entries: Vec<Listed>, bytes_max: u64, entries_max: usize) -> Vec<Listed> {
    let mut bytes: u64 = entries.iter().map(|listed| listed.entry.bytes()).sum();
    let mut count = entries.len();
    entries.retain(|listed| {
        let is_surplus = bytes > bytes_max || count > entries_max;
        if is_surplus {
            bytes -= listed.entry.bytes();
            count -= 1;
        }
        is_surplus
    });
    entries
}

/// Old or new, whatever happens in between.
fn replace(path: &Path, unique: &str, bytes: &[u8]) -> io::Result<()> {
    let unseen = path.with_extension(format!("{unique}.new"));
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&unseen)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unseen, path)?;
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_on_what_was_made_anew_since_is_none() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("scope");
        drop(shared(&path).unwrap().unwrap());
        let slow = File::open(path.join(LEASE)).unwrap();
        vanish(&path).unwrap();
        assert!(!path.exists() && alone(&path).unwrap().is_none());
        let later = shared(&path).unwrap().unwrap();
        assert!(exclusive(slow, &path).unwrap().is_none());
        assert!(alone(&path).unwrap().is_none());
        drop(later);
        assert!(alone(&path).unwrap().is_some());
    }
}

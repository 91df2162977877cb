//! An archive's files back where they were, by as many threads as there are processors.
//!
//! First everything is looked at: checksums, names, what lies below what. So nothing of an archive that is damaged, or not one of
//! ours, is unpacked. Then folders are made, files by all threads, and links last, so that nothing can be written through them. Small
//! parts stay in memory in between, as long as there are not too many of them; others are read twice.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, futimens, utimensat};
use rustix::io::Errno;

use super::parts::{self, Part};
use super::{ABSOLUTE, ENTRIES_MAX, NEVER, SOURCE, UNPACKED_BYTES_MAX, Unpack};

/// At once; a disk has no use for more.
const THREADS_MAX: usize = 8;
/// Bytes of a part that may stay in memory: of one without large files.
const SMALL_PART: u64 = 4 << 20;
/// Bytes of all parts in memory.
const IN_MEMORY_MAX: u64 = 64 << 20;

pub(super) fn unpack(args: &Unpack, archive: &File) -> Result<(), String> {
    let parts = parts::find(archive).map_err(damaged)?;
    let work = Work {
        root: &args.root,
        archive,
        unpacked: AtomicU64::new(0),
        entries: AtomicUsize::new(0),
        in_memory: AtomicU64::new(0),
    };
    let looked_at = each(parts, |part| work.look_at(part))?;
    let seen = || looked_at.iter().flat_map(|part| &part.seen);
    check(seen)?;
    make_folders(seen)?;
    work.unpacked.store(0, Ordering::Relaxed);
    each(looked_at.iter().collect(), |part| work.make_files(part))?;
    make_links(seen())?;
    finish_folders(seen());
    Ok(())
}

/// What `task` makes of each, in their order, by several threads; or why the first of those that failed did.
fn each<I: Send, T: Send>(
    items: Vec<I>,
    task: impl Fn(I) -> Result<T, String> + Sync,
) -> Result<Vec<T>, String> {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.min(THREADS_MAX).min(items.len());
    let items = Mutex::new(items.into_iter().enumerate());
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    let some = || {
        let mut done = Vec::new();
        while let Some((number, item)) = next() {
            let result = task(item);
            if result.is_err() {
                // Nobody needs to begin with another.
                while next().is_some() {}
            }
            done.push((number, result));
        }
        done
    };
    let mut done = thread::scope(|scope| {
        // Where the build may have no more threads, this one does it all.
        let others: Vec<_> =
            (1..threads).map_while(|_| thread::Builder::new().spawn_scoped(scope, some).ok()).collect();
        let mut done = some();
        for other in others {
            match other.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

fn damaged(error: io::Error) -> String {
    format!("the archive is damaged: {error}")
}

fn not_restored(path: &Path) -> impl Fn(io::Error) -> String {
    move |error| format!("cannot restore {}: {error}", path.display())
}

/// A part that has been read to its end.
struct LookedAt {
    part: Part,
    seen: Vec<Seen>,
    /// All of it, unpacked.
    in_memory: Option<Vec<u8>>,
}

/// An entry of the archive.
struct Seen {
    path: PathBuf,
    kind: Kind,
    traits: Traits,
}

enum Kind {
    Folder,
    /// Where its content lies in its part, unpacked.
    File {
        at: u64,
        size: u64,
    },
    Link(PathBuf),
}

/// What an entry has besides its content.
#[derive(Debug, Clone, Copy)]
struct Traits {
    mode: u32,
    ids: (u32, u32),
    modified: Timespec,
}

/// What threads share.
struct Work<'a> {
    root: &'a Path,
    archive: &'a File,
    unpacked: AtomicU64,
    /// Those seen so far, in whatever part.
    entries: AtomicUsize,
    in_memory: AtomicU64,
}

impl Work<'_> {
    /// Reads a part to its end and tells what it holds.
    fn look_at(&self, part: Part) -> Result<LookedAt, String> {
        let mut stream = self.stream(part)?;
        let mut beginning = Vec::new();
        stream.by_ref().take(SMALL_PART).read_to_end(&mut beginning).map_err(damaged)?;
        let is_small = (beginning.len() as u64) < SMALL_PART;
        let mut seen = Vec::new();
        let mut whole = beginning.as_slice().chain(&mut stream);
        for entry in tar::Archive::new(&mut whole).entries().map_err(damaged)? {
            if self.entries.fetch_add(1, Ordering::Relaxed) >= ENTRIES_MAX {
                return Err(format!("the archive has more than {ENTRIES_MAX} entries"));
            }
            seen.push(self.seen(&mut entry.map_err(damaged)?)?);
        }
        io::copy(&mut whole, &mut io::sink()).map_err(damaged)?;
        let size = beginning.len() as u64;
        let is_kept = is_small && self.in_memory.fetch_add(size, Ordering::Relaxed) + size <= IN_MEMORY_MAX;
        Ok(LookedAt { part, seen, in_memory: is_kept.then_some(beginning) })
    }

    fn stream(&self, part: Part) -> Result<impl Read, String> {
        parts::read(self.archive, part, &self.unpacked, UNPACKED_BYTES_MAX).map_err(damaged)
    }

    fn seen(&self, entry: &mut tar::Entry<'_, impl Read>) -> Result<Seen, String> {
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = entry.path().ok().and_then(|name| place(self.root, &name));
        let path = path.ok_or_else(|| format!("the archive entry `{name}` has no place in a cache"))?;
        let described = traits(entry).and_then(|traits| Ok((traits, kind(entry)?)));
        let (traits, kind) = described.map_err(|e| format!("the archive is damaged at `{name}`: {e}"))?;
        Ok(Seen { path, kind, traits })
    }

    /// Makes the files of a part, whose folders are there.
    fn make_files(&self, part: &LookedAt) -> Result<(), String> {
        match &part.in_memory {
            Some(bytes) => make_files(&part.seen, bytes.as_slice()),
            None => make_files(&part.seen, self.stream(part.part)?),
        }
    }
}

/// `content` is that of their part.
fn make_files(seen: &[Seen], mut content: impl Read) -> Result<(), String> {
    let mut folder = Parent::default();
    let mut position = 0;
    for Seen { path, kind, traits } in seen {
        if let Kind::File { at, size } = kind {
            copy(&mut content, at - position, &mut io::sink()).map_err(damaged)?;
            let made = folder.make_file(path, *traits, |file| copy(&mut content, *size, file));
            made.map_err(not_restored(path))?;
            position = at + size;
        }
    }
    Ok(())
}

fn copy(content: &mut impl Read, size: u64, to: &mut impl Write) -> io::Result<()> {
    match io::copy(&mut content.take(size), to)? {
        copied if copied == size => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// The folder that the last file was made in: the next one is most often in the same.
#[derive(Default)]
struct Parent {
    open: Option<(PathBuf, OwnedFd)>,
}

impl Parent {
    fn of<'a>(&mut self, path: &'a Path) -> io::Result<(&OwnedFd, &'a OsStr)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if self.open.as_ref().is_none_or(|(open, _)| open != parent) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let handle = rustix::fs::openat(CWD, parent, flags, Mode::empty())?;
            self.open = Some((parent.to_owned(), handle));
        }
        match &self.open {
            Some((_, handle)) => Ok((handle, name)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn make_file(
        &mut self,
        path: &Path,
        traits: Traits,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let (folder, name) = self.of(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(traits.mode));
        let opened = match open() {
            Err(Errno::EXIST) => {
                clear(path)?;
                open()
            }
            opened => opened,
        };
        let mut file = File::from(opened?);
        fill(&mut file)?;
        traits.give_file(&file)
    }
}

/// Rebuilt from plain components; `None` for a name that no cache has.
fn place(root: &Path, name: &Path) -> Option<PathBuf> {
    let mut components = name.components();
    let start = match components.next() {
        Some(Component::Normal(first)) if first == SOURCE => root,
        Some(Component::Normal(first)) if first == ABSOLUTE => Path::new("/"),
        _ => return None,
    };
    let mut path = start.to_owned();
    for component in components {
        let Component::Normal(part) = component else { return None };
        path.push(part);
    }
    let is_ours = NEVER.iter().any(|never| path.starts_with(never));
    (path != start && !is_ours).then_some(path)
}

fn kind(entry: &tar::Entry<'_, impl Read>) -> io::Result<Kind> {
    match entry.header().entry_type() {
        tar::EntryType::Directory => Ok(Kind::Folder),
        tar::EntryType::Regular => Ok(Kind::File { at: entry.raw_file_position(), size: entry.size() }),
        tar::EntryType::Symlink => {
            Ok(Kind::Link(entry.link_name()?.ok_or(io::ErrorKind::InvalidData)?.into_owned()))
        }
        // Nothing else is ever packed.
        other => Err(io::Error::other(format!("an entry of type {other:?}"))),
    }
}

fn traits(entry: &mut tar::Entry<'_, impl Read>) -> io::Result<Traits> {
    let mut modified = Timespec { tv_sec: i64::try_from(entry.header().mtime()?).unwrap_or(0), tv_nsec: 0 };
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        if let (Ok("mtime"), Ok(text)) = (extension.key(), extension.value())
            && let Some((seconds, nanoseconds)) = text.split_once('.')
            && let (Ok(tv_sec), Ok(tv_nsec)) = (seconds.parse(), nanoseconds.parse())
        {
            modified = Timespec { tv_sec, tv_nsec };
        }
    }
    let header = entry.header();
    let id = |id: u64| u32::try_from(id).unwrap_or(0);
    Ok(Traits { mode: header.mode()? & 0o7777, ids: (id(header.uid()?), id(header.gid()?)), modified })
}

/// Whether the order in which entries are made makes no difference: each is there once, and below folders only.
fn check<'a, I: Iterator<Item = &'a Seen>>(seen: impl Fn() -> I) -> Result<(), String> {
    let mut folders = HashSet::new();
    let mut others = HashMap::new();
    for Seen { path, kind, .. } in seen() {
        let is_first = match kind {
            Kind::Folder => folders.insert(path.as_path()),
            Kind::File { .. } => others.insert(path.as_path(), "file").is_none(),
            Kind::Link(_) => others.insert(path.as_path(), "link").is_none(),
        };
        if !is_first {
            return Err(format!("the archive has {} twice", path.display()));
        }
    }
    for parent in parents(seen()) {
        let above = parent.ancestors().find_map(|above| Some((above, others.get(above)?)));
        if let Some((above, what)) = above {
            let (path, above) = (parent.display(), above.display());
            return Err(format!("archive entries in {path} would be written through the {what} {above}"));
        }
    }
    match folders.iter().find(|folder| others.contains_key(*folder)) {
        Some(folder) => Err(format!("the archive has {} twice", folder.display())),
        None => Ok(()),
    }
}

/// The folders that entries lie in, each once.
fn parents<'a>(seen: impl Iterator<Item = &'a Seen>) -> HashSet<&'a Path> {
    let mut parents = HashSet::new();
    let mut last = None;
    for parent in seen.map(|seen| seen.path.parent()) {
        // Most are in the same folder as the one before them.
        if let Some(parent) = parent.filter(|_| parent != last) {
            parents.insert(parent);
        }
        last = parent;
    }
    parents
}

/// The archive's own folders, and those that its entries lie in.
fn make_folders<'a, I: Iterator<Item = &'a Seen>>(seen: impl Fn() -> I) -> Result<(), String> {
    for Seen { path, kind, .. } in seen() {
        if let Kind::Folder = kind {
            clear_for_folder(path).map_err(not_restored(path))?;
        }
    }
    parents(seen())
        .into_iter()
        .try_for_each(|parent| fs::create_dir_all(parent).map_err(not_restored(parent)))
}

fn make_links<'a>(seen: impl Iterator<Item = &'a Seen>) -> Result<(), String> {
    for Seen { path, kind, traits } in seen {
        if let Kind::Link(target) = kind {
            let made = clear(path).and_then(|()| std::os::unix::fs::symlink(target, path));
            made.map_err(not_restored(path))?;
            traits.give(path);
        }
    }
    Ok(())
}

/// Permissions and times come last, as what is made in a folder changes these; the innermost first.
fn finish_folders<'a>(seen: impl DoubleEndedIterator<Item = &'a Seen>) {
    for Seen { path, kind, traits } in seen.rev() {
        if let Kind::Folder = kind {
            // A folder that is less than it was is still better than none.
            let _ = fs::set_permissions(path, fs::Permissions::from_mode(traits.mode));
            traits.give(path);
        }
    }
}

impl Traits {
    /// What a new file has already costs nothing.
    fn give_file(&self, file: &File) -> io::Result<()> {
        let made = file.metadata()?;
        let mut has_mode = made.mode() & 0o7777 == self.mode;
        if (made.uid(), made.gid()) != self.ids {
            has_mode &= self.mode & 0o7000 == 0;
            // An ordinary user has no other ids to give.
            let _ = std::os::unix::fs::fchown(file, Some(self.ids.0), Some(self.ids.1));
        }
        let _ = futimens(file, &self.times());
        match has_mode {
            true => Ok(()),
            false => file.set_permissions(fs::Permissions::from_mode(self.mode)),
        }
    }

    /// Owner and time; an ordinary user has no other ids to give.
    fn give(&self, path: &Path) {
        let _ = std::os::unix::fs::lchown(path, Some(self.ids.0), Some(self.ids.1));
        let _ = utimensat(CWD, path, &self.times(), AtFlags::SYMLINK_NOFOLLOW);
    }

    fn times(&self) -> Timestamps {
        Timestamps { last_access: self.modified, last_modification: self.modified }
    }
}

/// Removes what is no folder: cached files win over those of the same name. COMPAT: SA-096.
fn clear(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

fn clear_for_folder(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        clear(path)?;
        fs::create_dir_all(path)?;
    }
    Ok(())
}

//! An archive's files back where they were, by as many threads as there are processors.
//!
//! The archive is read twice, and both times its parts are shared out. First everything is looked at: checksums, names, what lies
//! below what. So nothing of an archive that is damaged, or not one of ours, is unpacked. Then folders are made, files by all threads, and
//! links last, so that nothing can be written through them.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, futimens, utimensat};

use super::parts::{self, Part};
use super::{ABSOLUTE, ENTRIES_MAX, NEVER, SOURCE, UNPACKED_BYTES_MAX, Unpack};

/// At once; a disk has no use for more.
const THREADS_MAX: usize = 8;

pub(super) fn unpack(args: &Unpack, archive: &File) -> Result<(), String> {
    let parts = parts::find(archive).map_err(damaged)?;
    let work = Work {
        root: &args.root,
        archive,
        parts: &parts,
        unpacked: AtomicU64::new(0),
        entries: AtomicUsize::new(0),
    };
    let seen: Vec<Seen> = work.each_part(|part| work.look_at(part))?.into_iter().flatten().collect();
    check(&seen)?;
    make_folders(&seen)?;
    work.unpacked.store(0, Ordering::Relaxed);
    work.each_part(|part| work.make_files(part))?;
    make_links(&seen)?;
    finish_folders(&seen);
    Ok(())
}

fn damaged(error: io::Error) -> String {
    format!("the archive is damaged: {error}")
}

fn not_restored(path: &Path) -> impl Fn(io::Error) -> String {
    move |error| format!("cannot restore {}: {error}", path.display())
}

/// An entry of the archive.
struct Seen {
    path: PathBuf,
    kind: Kind,
    traits: Traits,
}

enum Kind {
    Folder,
    File,
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
    parts: &'a [Part],
    unpacked: AtomicU64,
    /// Those seen so far, in whatever part.
    entries: AtomicUsize,
}

impl Work<'_> {
    /// What `task` makes of each part, in their order; or why the first of those that failed did.
    fn each_part<T: Send>(&self, task: impl Fn(Part) -> Result<T, String> + Sync) -> Result<Vec<T>, String> {
        let next = AtomicUsize::new(0);
        let some = || {
            let mut done = Vec::new();
            while let Some(part) = self.parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                let result = task(*part);
                if result.is_err() {
                    // Nobody needs to begin with another.
                    next.store(self.parts.len(), Ordering::Relaxed);
                }
                done.push((part.start(), result));
            }
            done
        };
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let threads = processors.min(THREADS_MAX).min(self.parts.len());
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
        done.sort_by_key(|(start, _)| *start);
        done.into_iter().map(|(_, result)| result).collect()
    }

    /// Reads a part to its end and tells what it holds.
    fn look_at(&self, part: Part) -> Result<Vec<Seen>, String> {
        let mut stream =
            parts::read(self.archive, part, &self.unpacked, UNPACKED_BYTES_MAX).map_err(damaged)?;
        let mut seen = Vec::new();
        for entry in tar::Archive::new(&mut stream).entries().map_err(damaged)? {
            if self.entries.fetch_add(1, Ordering::Relaxed) >= ENTRIES_MAX {
                return Err(format!("the archive has more than {ENTRIES_MAX} entries"));
            }
            seen.push(self.seen(&mut entry.map_err(damaged)?)?);
        }
        io::copy(&mut stream, &mut io::sink()).map_err(damaged)?;
        Ok(seen)
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
    fn make_files(&self, part: Part) -> Result<(), String> {
        let mut stream =
            parts::read(self.archive, part, &self.unpacked, UNPACKED_BYTES_MAX).map_err(damaged)?;
        for entry in tar::Archive::new(&mut stream).entries().map_err(damaged)? {
            let mut entry = entry.map_err(damaged)?;
            if entry.header().entry_type() == tar::EntryType::Regular {
                let Seen { path, traits, .. } = self.seen(&mut entry)?;
                make_file(&mut entry, &path, traits).map_err(not_restored(&path))?;
            }
        }
        Ok(())
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
        tar::EntryType::Regular => Ok(Kind::File),
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
fn check(seen: &[Seen]) -> Result<(), String> {
    let mut folders = HashSet::new();
    let mut others = HashMap::new();
    for Seen { path, kind, .. } in seen {
        let is_first = match kind {
            Kind::Folder => folders.insert(path.as_path()),
            Kind::File => others.insert(path.as_path(), "file").is_none(),
            Kind::Link(_) => others.insert(path.as_path(), "link").is_none(),
        };
        if !is_first {
            return Err(format!("the archive has {} twice", path.display()));
        }
    }
    for Seen { path, .. } in seen {
        let above = path.ancestors().skip(1).find_map(|above| Some((above, others.get(above)?)));
        if let Some((above, what)) = above {
            let (path, above) = (path.display(), above.display());
            return Err(format!("the archive entry {path} would be written through the {what} {above}"));
        }
    }
    match folders.iter().find(|folder| others.contains_key(*folder)) {
        Some(folder) => Err(format!("the archive has {} twice", folder.display())),
        None => Ok(()),
    }
}

/// The archive's own folders, and those that its entries lie in.
fn make_folders(seen: &[Seen]) -> Result<(), String> {
    for Seen { path, kind, .. } in seen {
        if let Kind::Folder = kind {
            clear_for_folder(path).map_err(not_restored(path))?;
        }
    }
    let parents: HashSet<&Path> = seen.iter().filter_map(|seen| seen.path.parent()).collect();
    parents.into_iter().try_for_each(|parent| fs::create_dir_all(parent).map_err(not_restored(parent)))
}

fn make_file(entry: &mut tar::Entry<'_, impl Read>, path: &Path, traits: Traits) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = match options.open(path) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            clear(path)?;
            options.open(path)?
        }
        opened => opened?,
    };
    io::copy(entry, &mut file)?;
    let made = file.metadata()?;
    if (made.uid(), made.gid()) != traits.ids {
        let _ = std::os::unix::fs::fchown(&file, Some(traits.ids.0), Some(traits.ids.1));
    }
    let _ = futimens(&file, &traits.times());
    file.set_permissions(fs::Permissions::from_mode(traits.mode))
}

fn make_links(seen: &[Seen]) -> Result<(), String> {
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
fn finish_folders(seen: &[Seen]) {
    for Seen { path, kind, traits } in seen.iter().rev() {
        if let Kind::Folder = kind {
            // A folder that is less than it was is still better than none.
            let _ = fs::set_permissions(path, fs::Permissions::from_mode(traits.mode));
            traits.give(path);
        }
    }
}

impl Traits {
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

//! Changing a root file system without ever leaving it. Knows nothing of tar or layers.
//!
//! Every path is resolved component by component beneath an open root folder, links are never followed in the
//! last component, and whatever stood in an entry's place is moved away before, never written through.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, RenameFlags, ResolveFlags, Stat, Timespec, Timestamps,
    UTIME_OMIT, Uid,
};
use rustix::io::{Errno, Result as Sys};

use crate::Error;
use crate::limits::{Allowance, Limits};
use crate::overlay;

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK);
const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Mode of folders made only to hold an entry.
const IMPLIED_MODE: u32 = 0o755;
/// As for the kernel.
const LINKS: u32 = 40;
/// The highest user or group id a container maps.
const LAST_ID: u64 = 65_535;
const NOBODY: u32 = 65_534;

/// A path inside a root file system: no `..`, no empty components, no NUL. Empty means the root itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Inside(Vec<u8>);

impl Inside {
    /// A leading `/` means the root file system's own root, as it will to the container.
    pub(crate) fn parse(name: &[u8], limits: &Limits) -> Result<Inside, Error> {
        let mut parts = Vec::new();
        for part in name.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => return Err(Error::not_safe(name, "it has .. in its path")),
                part if part.contains(&0) => return Err(Error::not_safe(name, "it has a NUL in its path")),
                part => parts.push(part),
            }
        }
        if parts.len() as u64 > limits.depth {
            return Err(Error::Limit { name: "depth", limit: limits.depth });
        }
        Ok(Inside(parts.join(&b'/')))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Folder and last component; `None` for the root.
    fn split(&self) -> Option<(&[u8], CString)> {
        if self.0.is_empty() {
            return None;
        }
        let at = self.0.iter().rposition(|b| *b == b'/');
        let (folder, name) = at.map_or((&b""[..], &self.0[..]), |at| (&self.0[..at], &self.0[at + 1..]));
        Some((folder, CString::new(name).expect("parse refused NUL")))
    }
}

/// Where an entry goes: an open folder and a name in it.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    folder: Rc<OwnedFd>,
    name: CString,
}

/// Owner, mode and time of an entry, as its layer gives them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attributes {
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
}

/// A root file system being built, or the layer of one that comes over others.
#[derive(Debug)]
pub(crate) struct Tree {
    root: Rc<OwnedFd>,
    path: PathBuf,
    /// The folder itself at `path`. It has what was changed; the root has what is beneath as well.
    changed: OwnedFd,
    limits: Limits,
    entries: Allowance,
    /// Only root may give files away; an ordinary user's image belongs to that user.
    owners: bool,
    /// The folder of the entry before, which most often is the folder of the next.
    last_folder: Option<(Vec<u8>, Rc<OwnedFd>)>,
    /// Modes and times of folders by inode: they are set at the end, when nothing is put into them any more.
    folders: HashMap<u64, (u32, Option<i64>)>,
    /// What the current layer has put where (inode of the folder, hash of the name): whiteouts spare it.
    /// `None` in the lowest layer, which has nothing beneath it to whiten out.
    placed: Option<HashSet<(u64, u64)>>,
    hasher: RandomState,
    ids_replaced: bool,
}

impl Tree {
    /// Builds in the new, empty folder `path`, with what is left of the entries there may be.
    pub(crate) fn create(path: &Path, limits: &Limits, entries: Allowance) -> Result<Tree, Error> {
        let root = make_root(path)?;
        let changed = root.try_clone().map_err(Error::io("opening", path))?;
        let mut tree = Tree::new(root, changed, path, limits, entries);
        let inode = tree.stat(tree.root.as_fd())?.st_ino;
        tree.folders.insert(inode, (IMPLIED_MODE, None));
        Ok(tree)
    }

    /// Builds in the new, empty folder `path` what comes over `lowers`, the topmost first, with `work` for what is under way.
    pub(crate) fn over(
        lowers: &[PathBuf],
        path: &Path,
        work: &Path,
        limits: &Limits,
        entries: Allowance,
    ) -> Result<Tree, Error> {
        let changed = make_root(path)?;
        make_root(work)?;
        let root = overlay::mount(lowers, path, work).map_err(Error::io("laying layers under", path))?;
        let mut tree = Tree::new(root, changed, path, limits, entries);
        tree.next_layer();
        tree.take_root_after(&lowers[0])?;
        Ok(tree)
    }

    fn new(root: OwnedFd, changed: OwnedFd, path: &Path, limits: &Limits, entries: Allowance) -> Tree {
        Tree {
            root: Rc::new(root),
            path: path.into(),
            changed,
            limits: limits.clone(),
            entries,
            owners: can_give_away(),
            last_folder: None,
            folders: HashMap::new(),
            placed: None,
            hasher: RandomState::new(),
            ids_replaced: false,
        }
    }

    /// The root of layers that lie over each other looks as the topmost's does.
    fn take_root_after(&mut self, lower: &Path) -> Result<(), Error> {
        let like = rustix::fs::stat(lower).map_err(Error::io("examining", lower))?;
        if self.owners {
            let (owner, group) = (Uid::from_raw(like.st_uid), Gid::from_raw(like.st_gid));
            rustix::fs::fchown(&self.changed, Some(owner), Some(group))
                .map_err(|e| self.failed("changing an owner in", e))?;
        }
        let inode = self.stat(self.root.as_fd())?.st_ino;
        self.folders.insert(inode, looks(&like));
        Ok(())
    }

    /// From here on whiteouts count, for what was there before.
    pub(crate) fn next_layer(&mut self) {
        self.placed = Some(HashSet::new());
    }

    /// Whether some owner could not be mapped into a container and became `nobody`.
    pub(crate) fn ids_replaced(&self) -> bool {
        self.ids_replaced
    }

    /// Counts one entry against the limit.
    pub(crate) fn count_entry(&mut self) -> Result<(), Error> {
        self.entries.take(1)
    }

    /// Where `path` goes, its folders made as needed; `None` for the root itself.
    pub(crate) fn place(&mut self, path: &Inside) -> Result<Option<Place>, Error> {
        let Some((folder, name)) = path.split() else { return Ok(None) };
        let folder = self.folder(folder, true)?.expect("it was to be made if missing");
        Ok(Some(Place { folder, name }))
    }

    /// Where `path` is, if its folder exists.
    fn existing(&mut self, path: &Inside) -> Result<Option<Place>, Error> {
        let Some((folder, name)) = path.split() else { return Ok(None) };
        Ok(self.folder(folder, false)?.map(|folder| Place { folder, name }))
    }

    fn folder(&mut self, path: &[u8], make: bool) -> Result<Option<Rc<OwnedFd>>, Error> {
        if path.is_empty() {
            return Ok(Some(Rc::clone(&self.root)));
        }
        if let Some((last, folder)) = &self.last_folder
            && last == path
        {
            return Ok(Some(Rc::clone(folder)));
        }
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let folder = match rustix::fs::openat2(&self.root, path, PLACE, Mode::empty(), beneath) {
            Ok(folder) => Some(folder),
            // Missing folders, links of every kind and old kernels are looked at one component at a time.
            Err(_) => self.walk(path, make)?,
        };
        let folder = folder.map(Rc::new);
        if let Some(folder) = &folder {
            self.note_looks(folder.as_fd())?;
        }
        self.last_folder = folder.clone().map(|folder| (path.to_vec(), folder));
        Ok(folder)
    }

    /// Resolves `path` as the container will: absolute links start again at its root. A link that climbs above
    /// that root is refused; it has no business in an image.
    fn walk(&mut self, path: &[u8], make: bool) -> Result<Option<OwnedFd>, Error> {
        let mut stack = vec![self.root.try_clone().map_err(Error::io("opening", &self.path))?];
        let mut todo = Vec::new();
        push_components(&mut todo, path);
        let mut links = 0;
        while let Some(name) = todo.pop() {
            let here = stack.last().expect("the root is never popped");
            if name == b".." {
                stack.pop();
                if stack.is_empty() {
                    return Err(Error::not_safe(path, "a link on its way leads out of the image"));
                }
                continue;
            }
            match rustix::fs::openat(here, name.as_slice(), PLACE, Mode::empty()) {
                Ok(next) => stack.push(next),
                Err(Errno::NOENT) if make => {
                    let next = self.make_implied(here.as_fd(), &name)?;
                    stack.push(next);
                }
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let target = match rustix::fs::readlinkat(here, name.as_slice(), Vec::new()) {
                        Ok(target) => target.into_bytes(),
                        Err(_) if !make => return Ok(None),
                        Err(_) => {
                            return Err(Error::not_safe(path, "a file stands where a folder is needed"));
                        }
                    };
                    links += 1;
                    if links > LINKS {
                        return Err(Error::not_safe(path, "too many links on its way"));
                    }
                    if target.starts_with(b"/") {
                        stack.truncate(1);
                    }
                    push_components(&mut todo, &target);
                }
                Err(error) => return Err(self.failed("resolving a path in", error)),
            }
            if stack.len() as u64 > self.limits.depth + 1 {
                return Err(Error::Limit { name: "depth", limit: self.limits.depth });
            }
        }
        Ok(stack.pop())
    }

    /// What a folder looks like is kept when something is put into it, or taken from it.
    fn note_looks(&mut self, folder: BorrowedFd<'_>) -> Result<(), Error> {
        let now = self.stat(folder)?;
        self.folders.entry(now.st_ino).or_insert_with(|| looks(&now));
        Ok(())
    }

    fn make_implied(&mut self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Error> {
        self.entries.take(1)?;
        self.note_looks(parent)?;
        let made = rustix::fs::mkdirat(parent, name, Mode::RWXU)
            .and_then(|()| rustix::fs::openat(parent, name, PLACE, Mode::empty()));
        let folder = made.map_err(|error| self.failed("creating a folder in", error))?;
        let inode = self.stat(folder.as_fd())?.st_ino;
        self.folders.insert(inode, (IMPLIED_MODE, None));
        let name = CString::new(name).expect("a component has no NUL");
        self.remember(parent, &name)?;
        Ok(folder)
    }

    /// A new, empty file at `place`.
    pub(crate) fn create_file(&mut self, place: &Place) -> Result<File, Error> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        self.put(place, |at| rustix::fs::openat(&at.folder, &at.name, flags, mode)).map(File::from)
    }

    pub(crate) fn finish_file(&mut self, file: &File, attributes: &Attributes) -> Result<(), Error> {
        let (owner, group) = self.owner(attributes);
        if self.owners {
            // Before the mode: changing the owner clears setuid.
            rustix::fs::fchown(file, Some(owner), Some(group))
                .map_err(|e| self.failed("changing an owner in", e))?;
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(attributes.mode))
            .and_then(|()| rustix::fs::futimens(file, &times(attributes.mtime)))
            .map_err(|e| self.failed("setting mode and time in", e))
    }

    /// A folder at `place` (`None`: the root), keeping what is in it if one was there.
    pub(crate) fn create_folder(
        &mut self,
        place: Option<&Place>,
        attributes: &Attributes,
    ) -> Result<(), Error> {
        let folder = match place {
            None => self.root.try_clone().map_err(Error::io("opening", &self.path))?,
            Some(place) => self.open_or_make(place)?,
        };
        let (owner, group) = self.owner(attributes);
        if self.owners {
            rustix::fs::fchown(&folder, Some(owner), Some(group))
                .map_err(|e| self.failed("changing an owner in", e))?;
        }
        let inode = self.stat(folder.as_fd())?.st_ino;
        self.folders.insert(inode, (attributes.mode, Some(attributes.mtime)));
        Ok(())
    }

    fn open_or_make(&mut self, place: &Place) -> Result<OwnedFd, Error> {
        if let Ok(folder) = rustix::fs::openat(&place.folder, &place.name, FOLDER, Mode::empty()) {
            self.remember(place.folder.as_fd(), &place.name)?;
            return Ok(folder);
        }
        self.put(place, |at| {
            rustix::fs::mkdirat(&at.folder, &at.name, Mode::RWXU)?;
            rustix::fs::openat(&at.folder, &at.name, FOLDER, Mode::empty())
        })
    }

    pub(crate) fn create_symlink(
        &mut self,
        place: &Place,
        target: &[u8],
        at: &Attributes,
    ) -> Result<(), Error> {
        let target = CString::new(target).map_err(|_| Error::not_safe(target, "a link target has a NUL"))?;
        self.put(place, |at| rustix::fs::symlinkat(&target, &at.folder, &at.name))?;
        self.finish_at(place, at)
    }

    pub(crate) fn create_fifo(&mut self, place: &Place, attributes: &Attributes) -> Result<(), Error> {
        self.put(place, |at| rustix::fs::mknodat(&at.folder, &at.name, FileType::Fifo, Mode::RUSR, 0))?;
        rustix::fs::chmodat(
            &place.folder,
            &place.name,
            Mode::from_raw_mode(attributes.mode),
            AtFlags::empty(),
        )
        .map_err(|e| self.failed("setting a mode in", e))?;
        self.finish_at(place, attributes)
    }

    /// Another name for the file at `target`; the name itself if that is a link.
    pub(crate) fn create_hardlink(&mut self, place: &Place, target: &Inside) -> Result<(), Error> {
        let missing = || Error::not_safe(target.bytes(), "a hardlink's target is not in the image");
        let target_place = self.existing(target)?.ok_or_else(missing)?;
        let stat = rustix::fs::statat(&target_place.folder, &target_place.name, AtFlags::SYMLINK_NOFOLLOW);
        let stat = stat.map_err(|_| missing())?;
        if FileType::from_raw_mode(stat.st_mode).is_dir() {
            return Err(Error::not_safe(target.bytes(), "a hardlink's target is a folder"));
        }
        if self.is_same(place, &stat) {
            return self.remember(place.folder.as_fd(), &place.name);
        }
        self.put(place, |at| {
            let (folder, name) = (&target_place.folder, &target_place.name);
            rustix::fs::linkat(folder, name, &at.folder, &at.name, AtFlags::empty())
        })
    }

    /// A name linked to itself must not be moved away before it is linked.
    fn is_same(&self, place: &Place, target: &Stat) -> bool {
        rustix::fs::statat(&place.folder, &place.name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (target.st_dev, target.st_ino))
    }

    /// Removes what lower layers have at `path`.
    pub(crate) fn whiteout(&mut self, path: &Inside) -> Result<(), Error> {
        if self.placed.is_none() {
            return Ok(());
        }
        let Some(place) = self.existing(path)? else { return Ok(()) };
        self.last_folder = None;
        self.clear(place.folder.as_fd(), &place.name, Clear::Beneath, self.limits.depth)
    }

    /// Removes what lower layers have in the folder at `path`.
    pub(crate) fn make_opaque(&mut self, path: &Inside) -> Result<(), Error> {
        if self.placed.is_none() {
            return Ok(());
        }
        let folder = match self.existing(path)? {
            None if path.bytes().is_empty() => {
                self.root.try_clone().map_err(Error::io("opening", &self.path))?
            }
            None => return Ok(()),
            Some(place) => match rustix::fs::openat(&place.folder, &place.name, FOLDER, Mode::empty()) {
                Ok(folder) => folder,
                Err(_) => return Ok(()),
            },
        };
        self.last_folder = None;
        self.note_looks(folder.as_fd())?;
        self.clear_children(folder.as_fd(), Clear::Beneath, self.limits.depth)
    }

    /// Removes `name`, and what is in it: in place, since overlay moves no folder that has something beneath. What is kept keeps its folders.
    fn clear(&mut self, parent: BorrowedFd<'_>, name: &CStr, what: Clear, depth: u64) -> Result<(), Error> {
        let kept = what == Clear::Beneath && self.is_placed(parent, name)?;
        match rustix::fs::openat(parent, name, FOLDER, Mode::empty()) {
            Ok(folder) => {
                self.clear_children(folder.as_fd(), what, depth)?;
                if kept {
                    return Ok(());
                }
                match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
                    Ok(()) | Err(Errno::NOTEMPTY) => Ok(()),
                    Err(error) => Err(self.failed("removing a folder in", error)),
                }
            }
            Err(Errno::NOENT) => Ok(()),
            Err(_) if kept => Ok(()),
            Err(_) => rustix::fs::unlinkat(parent, name, AtFlags::empty())
                .map_err(|e| self.failed("removing in", e)),
        }
    }

    fn clear_children(&mut self, folder: BorrowedFd<'_>, what: Clear, depth: u64) -> Result<(), Error> {
        let depth = depth.checked_sub(1).ok_or(Error::Limit { name: "depth", limit: self.limits.depth })?;
        let names = children(folder).map_err(|e| self.failed("reading a folder in", e))?;
        names.into_iter().try_for_each(|(name, _)| self.clear(folder, &name, what, depth))
    }

    /// Makes something at `place`, removing what is there.
    fn put<T>(&mut self, place: &Place, make: impl Fn(&Place) -> Sys<T>) -> Result<T, Error> {
        let made = match make(place) {
            Err(Errno::EXIST) => {
                self.last_folder = None;
                self.clear(place.folder.as_fd(), &place.name, Clear::All, self.limits.depth)?;
                make(place)
            }
            other => other,
        };
        let made = made.map_err(|e| self.failed("creating in", e))?;
        self.remember(place.folder.as_fd(), &place.name)?;
        Ok(made)
    }

    /// Owner and time of what has no contents to open.
    fn finish_at(&mut self, place: &Place, attributes: &Attributes) -> Result<(), Error> {
        let (folder, name) = (&place.folder, &place.name);
        let (owner, group) = self.owner(attributes);
        if self.owners {
            rustix::fs::chownat(folder, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(|e| self.failed("changing an owner in", e))?;
        }
        rustix::fs::utimensat(folder, name, &times(attributes.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|e| self.failed("setting a time in", e))
    }

    fn owner(&mut self, attributes: &Attributes) -> (Uid, Gid) {
        let mut id = |id: u64| match u32::try_from(id) {
            Ok(small) if id <= LAST_ID => small,
            _ => {
                self.ids_replaced = true;
                NOBODY
            }
        };
        (Uid::from_raw(id(attributes.uid)), Gid::from_raw(id(attributes.gid)))
    }

    fn key(&self, folder: BorrowedFd<'_>, name: &CStr) -> Result<(u64, u64), Error> {
        Ok((self.stat(folder)?.st_ino, self.hasher.hash_one(name)))
    }

    fn remember(&mut self, folder: BorrowedFd<'_>, name: &CStr) -> Result<(), Error> {
        if self.placed.is_none() {
            return Ok(());
        }
        let key = self.key(folder, name)?;
        if let Some(placed) = &mut self.placed {
            placed.insert(key);
        }
        Ok(())
    }

    fn is_placed(&self, folder: BorrowedFd<'_>, name: &CStr) -> Result<bool, Error> {
        let key = self.key(folder, name)?;
        Ok(self.placed.as_ref().is_some_and(|placed| placed.contains(&key)))
    }

    /// Gives every folder its mode and time, deepest first, and the whole to the disk. Returns what is left of the entries.
    pub(crate) fn finish(mut self) -> Result<Allowance, Error> {
        self.last_folder = None;
        self.finish_folder(self.root.as_fd(), self.changed.as_fd(), self.limits.depth + 1)?;
        rustix::fs::syncfs(&self.changed).map_err(|e| self.failed("writing out", e))?;
        Ok(self.entries)
    }

    /// Whatever of `folder` is not in `changed` was left alone.
    fn finish_folder(
        &self,
        folder: BorrowedFd<'_>,
        changed: BorrowedFd<'_>,
        depth: u64,
    ) -> Result<(), Error> {
        let depth = depth.checked_sub(1).ok_or(Error::Limit { name: "depth", limit: self.limits.depth })?;
        for (name, file_type) in children(changed).map_err(|e| self.failed("reading a folder in", e))? {
            if file_type.is_dir() {
                let open = |folder| rustix::fs::openat(folder, &name, FOLDER, Mode::empty());
                let opened = open(folder).and_then(|child| Ok((child, open(changed)?)));
                let (child, changed) = opened.map_err(|e| self.failed("opening a folder in", e))?;
                self.finish_folder(child.as_fd(), changed.as_fd(), depth)?;
            }
        }
        let Some((mode, mtime)) = self.folders.get(&self.stat(folder)?.st_ino) else { return Ok(()) };
        if let Some(mtime) = mtime {
            rustix::fs::futimens(folder, &times(*mtime)).map_err(|e| self.failed("setting a time in", e))?;
        }
        rustix::fs::fchmod(folder, Mode::from_raw_mode(*mode))
            .map_err(|e| self.failed("setting a mode in", e))
    }

    fn stat(&self, fd: BorrowedFd<'_>) -> Result<Stat, Error> {
        rustix::fs::fstat(fd).map_err(|e| self.failed("examining", e))
    }

    fn failed(&self, doing: &'static str, error: Errno) -> Error {
        Error::io(doing, &self.path)(error)
    }
}

/// What is removed of what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Clear {
    All,
    /// Not what the current layer placed.
    Beneath,
}

/// Whether this process is root, and of more ids than its own.
fn can_give_away() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let count = |line: &str| line.split_ascii_whitespace().nth(2).and_then(|count| count.parse::<u64>().ok());
    rustix::process::geteuid().is_root() && map.lines().filter_map(count).sum::<u64>() != 1
}

fn make_root(path: &Path) -> Result<OwnedFd, Error> {
    rustix::fs::mkdir(path, Mode::RWXU).map_err(Error::io("creating", path))?;
    rustix::fs::open(path, FOLDER, Mode::empty()).map_err(Error::io("opening", path))
}

/// Mode and time.
fn looks(stat: &Stat) -> (u32, Option<i64>) {
    (stat.st_mode & 0o7777, Some(stat.st_mtime))
}

/// Removes whole trees, however deep, holding one folder open at a time: each folder is first moved up
/// beside the others.
#[derive(Debug)]
pub(crate) struct Trash {
    folder: OwnedFd,
    prefix: String,
    next: u64,
}

impl Trash {
    /// Moves things to names in `folder` that begin like `owner`'s, so that two owners never meet.
    pub(crate) fn open(folder: &Path, owner: &Path) -> Result<Trash, Error> {
        let fd = rustix::fs::open(folder, FOLDER, Mode::empty()).map_err(Error::io("opening", folder))?;
        Ok(Trash { folder: fd, prefix: prefix(owner), next: 0 })
    }

    /// Removes what was put aside for `owner`, or names itself so.
    pub(crate) fn sweep_beside(owner: &Path) -> Result<(), std::io::Error> {
        let folder = owner.parent().unwrap_or(owner);
        let fd = rustix::fs::open(folder, FOLDER, Mode::empty())?;
        Ok(Trash { folder: fd, prefix: prefix(owner), next: 0 }.sweep()?)
    }

    /// Removes what earlier runs that were killed left behind.
    pub(crate) fn sweep(&mut self) -> Sys<()> {
        let prefix = self.prefix.clone();
        for (name, _) in children(self.folder.as_fd())? {
            if name.to_bytes().starts_with(prefix.as_bytes()) {
                let folder = self.folder.try_clone().map_err(|_| Errno::MFILE)?;
                self.remove(folder.as_fd(), &name)?;
            }
        }
        Ok(())
    }

    /// Removes `name` in `parent`, whatever it is; it need not exist.
    pub(crate) fn remove(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Sys<()> {
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
        let mut todo = vec![self.take(parent, name)?];
        while let Some(name) = todo.pop() {
            let folder = rustix::fs::openat(&self.folder, &name, FOLDER, Mode::empty())?;
            for (child, _) in children(folder.as_fd())? {
                match rustix::fs::unlinkat(&folder, &child, AtFlags::empty()) {
                    Ok(()) => {}
                    Err(Errno::ISDIR | Errno::PERM) => todo.push(self.take(folder.as_fd(), &child)?),
                    Err(error) => return Err(error),
                }
            }
            rustix::fs::unlinkat(&self.folder, &name, AtFlags::REMOVEDIR)?;
        }
        Ok(())
    }

    /// Moves the folder `name` in `parent` here, under a new name.
    fn take(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> Sys<CString> {
        // An ordinary user can neither move nor empty a folder it may not write to.
        rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
        loop {
            self.next += 1;
            let new = CString::new(format!("{}-{}", self.prefix, self.next)).expect("a file name has no NUL");
            match rustix::fs::renameat_with(parent, name, &self.folder, &new, RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(new),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn prefix(owner: &Path) -> String {
    format!("{}.gone", owner.file_name().unwrap_or(OsStr::new("")).to_string_lossy())
}

/// A folder's entries without `.` and `..`, read whole so that they may be removed meanwhile.
fn children(folder: BorrowedFd<'_>) -> Sys<Vec<(CString, FileType)>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push((entry.file_name().to_owned(), file_type(folder, &entry)?));
        }
    }
    Ok(names)
}

/// Some file systems leave the type out of their folder listings.
fn file_type(folder: BorrowedFd<'_>, entry: &rustix::fs::DirEntry) -> Sys<FileType> {
    match entry.file_type() {
        FileType::Unknown => {
            let stat = rustix::fs::statat(folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(FileType::from_raw_mode(stat.st_mode))
        }
        known => Ok(known),
    }
}

fn push_components(todo: &mut Vec<Vec<u8>>, path: &[u8]) {
    let components = path.split(|b| *b == b'/').filter(|part| !matches!(*part, b"" | b"."));
    todo.extend(components.rev().map(<[u8]>::to_vec));
}

fn times(mtime: i64) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: mtime, tv_nsec: 0 },
    }
}

/// `name` as a C string, for callers that hold paths.
pub(crate) fn c_name(path: &Path) -> CString {
    let name = path.file_name().unwrap_or_default().as_bytes();
    CString::new(name).expect("file names of ours have no NUL")
}

//! The only place that opens and changes paths below a bucket. Every path is a [`KeyPath`], relative to an open
//! folder, and resolved without following symbolic links: it cannot lead out of that folder.
//!
//! Functions that change a bucket expect its lock (see [`lock`]) to be held.

use std::ffi::CStr;
use std::fs::File;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags, StatxFlags,
};
use rustix::io::Errno;

use super::path::{FOLDERS_OBJECT, KeyPath, Name};
use super::temporary::TemporaryFolder;
use crate::error::{Doing, Error, Result};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);

/// The one way into the file system: beneath `folder`, without symbolic links, never waiting for a FIFO's writer.
/// `None` if there is nothing of that kind.
fn open_beneath(folder: impl AsFd, path: &str, flags: OFlags) -> Result<Option<OwnedFd>> {
    // The kernel refuses O_NONBLOCK beside O_PATH, which never waits anyway.
    let patience = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK };
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | patience;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    loop {
        match rustix::fs::openat2(&folder, path, flags, Mode::empty(), resolve) {
            Ok(file) => return Ok(Some(file)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(Errno::INTR | Errno::AGAIN) => {}
            Err(error) => return Err(error).doing("opening an object's path"),
        }
    }
}

/// The objects folder itself is the operator's choice and may be a symbolic link.
pub(super) fn open_root(root: &Path) -> Result<OwnedFd> {
    rustix::fs::open(root, FOLDER | OFlags::CLOEXEC, Mode::empty()).doing("opening the objects folder")
}

pub(super) fn open_folder(parent: impl AsFd, name: &str) -> Result<Option<OwnedFd>> {
    open_beneath(parent, name, FOLDER)
}

/// A second handle of the same folder, to read its entries with.
fn reopen(folder: impl AsFd) -> Result<OwnedFd> {
    rustix::fs::openat(folder, ".", FOLDER | OFlags::CLOEXEC, Mode::empty()).doing("opening a folder")
}

/// False if it is there already.
pub(super) fn create_folder(parent: impl AsFd, name: &str) -> Result<bool> {
    match rustix::fs::mkdirat(parent, name, FOLDER_MODE) {
        Err(Errno::EXIST) => Ok(false),
        made => made.doing("making a folder").map(|()| true),
    }
}

pub(super) fn make_folder(parent: impl AsFd, name: &str) -> Result<OwnedFd> {
    create_folder(&parent, name)?;
    open_folder(parent, name)?.ok_or_else(|| Error::Blocked(name.to_owned()))
}

/// False if it is not empty.
pub(super) fn remove_folder(parent: impl AsFd, name: &str) -> Result<bool> {
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(error) => Err(error).doing("removing a folder"),
    }
}

/// False if there was no such file.
pub(super) fn remove_file(parent: impl AsFd, name: &str) -> Result<bool> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT | Errno::ISDIR) => Ok(false),
        Err(error) => Err(error).doing("removing a file"),
    }
}

/// Makes a folder's entries survive a power cut.
pub(super) fn sync(folder: impl AsFd) -> Result<()> {
    rustix::fs::fsync(folder).doing("syncing a folder")
}

/// Waits for whoever else is changing this bucket or upload; holds until the handle is closed.
/// False if the folder was removed meanwhile.
pub(super) fn lock(folder: impl AsFd) -> Result<bool> {
    rustix::io::retry_on_intr(|| rustix::fs::flock(&folder, FlockOperation::LockExclusive))
        .doing("locking a folder")?;
    Ok(rustix::fs::fstat(folder).doing("locking a folder")?.st_nlink > 0)
}

/// When a folder was made; `None` if it is no folder.
pub(super) fn folder_created(parent: impl AsFd, name: &str) -> Result<Option<SystemTime>> {
    let wanted = StatxFlags::BTIME | StatxFlags::MTIME | StatxFlags::TYPE;
    let stat = match rustix::fs::statx(parent, name, AtFlags::SYMLINK_NOFOLLOW, wanted) {
        Err(Errno::NOENT) => return Ok(None),
        stat => stat.doing("reading a folder's age")?,
    };
    if !FileType::from_raw_mode(stat.stx_mode.into()).is_dir() {
        return Ok(None);
    }
    let has_birth = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    let time = if has_birth { stat.stx_btime } else { stat.stx_mtime };
    Ok(Some(time_from(time.tv_sec, time.tv_nsec)))
}

pub(super) fn time_from(seconds: i64, nanoseconds: u32) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let time = if seconds < 0 { SystemTime::UNIX_EPOCH - whole } else { SystemTime::UNIX_EPOCH + whole };
    time + Duration::from_nanos(nanoseconds.into())
}

/// One entry of a folder; the kind is what the folder says, which may be nothing.
pub(super) struct Entry {
    name: std::ffi::CString,
    pub(super) kind: FileType,
}

impl Entry {
    /// `None` for names that are no UTF-8, which no key leads to.
    pub(super) fn text(&self) -> Option<&str> {
        self.name.to_str().ok()
    }

    pub(super) fn name(&self) -> &CStr {
        &self.name
    }
}

pub(super) fn entries(folder: impl AsFd) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in Dir::new(reopen(folder)?).doing("reading a folder")? {
        let entry = entry.doing("reading a folder")?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            entries.push(Entry { name: entry.file_name().to_owned(), kind: entry.file_type() });
        }
    }
    Ok(entries)
}

/// The folder below `folder` at `path`.
pub(super) fn open_folder_at(folder: impl AsFd, path: &KeyPath) -> Result<Option<OwnedFd>> {
    open_beneath(folder, &path.names().join("/"), FOLDER)
}

/// The plain file that holds an object, opened for reading.
pub(super) fn open_object(bucket: impl AsFd, path: &KeyPath) -> Result<Option<File>> {
    open_file_or_folders_object(bucket, &path.names().join("/"))
}

/// The object at an entry of a folder: the entry itself, or what lies inside under the reserved name.
pub(super) fn open_file_or_folders_object(folder: impl AsFd, path: &str) -> Result<Option<File>> {
    let Some(found) = open_beneath(folder, path, OFlags::RDONLY)? else { return Ok(None) };
    match kind_of(&found)? {
        FileType::Directory => open_folders_object(found),
        FileType::RegularFile => Ok(Some(File::from(found))),
        _ => Ok(None),
    }
}

/// The object that has the same key as this folder.
pub(super) fn open_folders_object(folder: impl AsFd) -> Result<Option<File>> {
    let Some(found) = open_beneath(folder, FOLDERS_OBJECT, OFlags::RDONLY)? else { return Ok(None) };
    Ok(kind_of(&found)?.is_file().then(|| File::from(found)))
}

fn kind_of(file: impl AsFd) -> Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file).doing("reading a file's kind")?.st_mode))
}

/// Where an object is to be renamed to.
pub(super) struct Place {
    folder: OwnedFd,
    name: String,
}

impl Place {
    /// Puts a complete file there, over whatever object was there before. To be synced by the caller, who need not
    /// hold the bucket's lock for that.
    pub(super) fn take(self, from: impl AsFd, name: &str) -> Result<OwnedFd> {
        rustix::fs::renameat(from, name, &self.folder, &self.name).doing("naming an object")?;
        Ok(self.folder)
    }
}

/// Makes the folders on the way to an object. Where the key of another object is in the way (`a` for `a/b`), that
/// object moves inside a folder of the same name.
pub(super) fn make_place(bucket: &OwnedFd, path: &KeyPath, temporary: impl AsFd) -> Result<Place> {
    let mut place = Place { folder: reopen(bucket)?, name: path.file_name().to_owned() };
    for name in path.folders() {
        if create_folder(&place.folder, name)? {
            // At once, so that whoever finds this folder can rely on it.
            sync(&place.folder)?;
        }
        place.folder = match open_folder(&place.folder, name)? {
            Some(next) => next,
            None => turn_into_folder(&place.folder, name, &temporary)?,
        };
    }
    if let Some(inside) = open_folder(&place.folder, &place.name)? {
        place = Place { folder: inside, name: FOLDERS_OBJECT.to_owned() };
    }
    Ok(place)
}

/// Swaps the plain file `name` for a folder that holds it: at no time is there neither.
fn turn_into_folder(parent: impl AsFd, name: &str, temporary: impl AsFd) -> Result<OwnedFd> {
    let blocked = || Error::Blocked(name.to_owned());
    let file = open_beneath(&parent, name, OFlags::PATH)?.ok_or_else(blocked)?;
    if !kind_of(file)?.is_file() {
        return Err(blocked());
    }
    let folder = TemporaryFolder::create(&temporary)?;
    rustix::fs::linkat(&parent, name, &folder.handle, FOLDERS_OBJECT, AtFlags::empty())
        .doing("linking an object into its folder")?;
    sync(&folder.handle)?;
    rustix::fs::renameat_with(&temporary, &folder.name, &parent, name, RenameFlags::EXCHANGE)
        .doing("swapping an object for its folder")?;
    sync(&parent)?;
    // The file has two names now; this was the one outside its folder.
    remove_file(&temporary, &folder.name)?;
    Ok(folder.keep())
}

/// Whether any key lies below this folder: found without reading more than needed.
pub(super) fn has_objects(folder: impl AsFd) -> Result<bool> {
    for entry in Dir::new(reopen(&folder)?).doing("reading a folder")? {
        let entry = entry.doing("reading a folder")?;
        let Some(name) = entry.file_name().to_str().ok().filter(|name| Name::parse(name).is_some()) else {
            continue;
        };
        if matches!(name, "." | "..") {
            continue;
        }
        if open_file_or_folders_object(&folder, name)?.is_some() {
            return Ok(true);
        }
        if let Some(inside) = open_folder(&folder, name)?
            && has_objects(inside)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes an object and the folders that are empty without it; false if there was none.
pub(super) fn delete(bucket: &OwnedFd, path: &KeyPath) -> Result<bool> {
    let mut folders = vec![reopen(bucket)?];
    for name in path.folders() {
        let Some(next) = open_folder(folders.last().expect("never empty"), name)? else { return Ok(false) };
        folders.push(next);
    }
    let mut names: Vec<&str> = path.folders().iter().map(String::as_str).collect();
    let mut file = path.file_name();
    if let Some(inside) = open_folder(folders.last().expect("never empty"), file)? {
        folders.push(inside);
        names.push(file);
        file = FOLDERS_OBJECT;
    }
    if !remove_object_file(folders.last().expect("never empty"), file)? {
        return Ok(false);
    }
    while let Some(name) = names.pop() {
        if !remove_folder(&folders[names.len()], name)? {
            break;
        }
        folders.pop();
    }
    sync(folders.last().expect("the bucket's own folder stays")).map(|()| true)
}

fn remove_object_file(folder: impl AsFd, name: &str) -> Result<bool> {
    match open_beneath(&folder, name, OFlags::PATH)? {
        Some(found) if kind_of(&found)?.is_file() => remove_file(folder, name),
        _ => Ok(false),
    }
}

/// Removes the empty folders below `folder`; whatever else is there stays.
pub(super) fn remove_empty_folders(folder: impl AsFd) -> Result<()> {
    for entry in entries(&folder)? {
        let Some(name) = entry.text() else { continue };
        if let Some(inside) = open_folder(&folder, name)? {
            remove_empty_folders(&inside)?;
            remove_folder(&folder, name)?;
        }
    }
    Ok(())
}

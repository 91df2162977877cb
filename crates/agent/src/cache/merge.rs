//! Several layers as one: the same as a container sees when they lie on each other, without copying what is in their files.
//!
//! What programs inside have left is not trusted: no link is followed, and nothing is opened but folders. Nobody writes there any more.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags, lgetxattr, setxattr, utimensat};

/// Folders within folders.
const DEPTH_MAX: usize = 128;
/// Overlay's mark on a folder that hides what lies beneath.
const OPAQUE: &str = "user.overlay.opaque";
/// Of one container's ids.
const RANGE: u32 = 65_536;

/// A folder in a layer, and the id of the layer's root user.
type Source = (PathBuf, u32);

/// Makes `target` of `layers`, the latest first, with files of the ids from `owner` on.
pub(super) fn merge(layers: &[Source], target: &Path, owner: u32) -> io::Result<()> {
    folder(layers, false, target, owner, 0)
}

/// `hides`: something beneath these was no folder.
fn folder(sources: &[Source], hides: bool, target: &Path, owner: u32, depth: usize) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::other(format!("folders are more than {DEPTH_MAX} deep")));
    }
    let opaque = sources.iter().position(|(path, _)| is_opaque(path));
    let sources = &sources[..opaque.map_or(sources.len(), |at| at + 1)];
    DirBuilder::new().mode(0o700).create(target)?;
    for (name, found) in entries(sources)? {
        let path = target.join(name);
        let folders: Vec<Source> = found.iter().take_while(|(path, _)| is_folder(path)).cloned().collect();
        match folders.as_slice() {
            [] => leaf(&found[0], &path, owner)?,
            some => folder(some, some.len() < found.len(), &path, owner, depth + 1)?,
        }
    }
    if hides || opaque.is_some() {
        setxattr(target, OPAQUE, b"y", XattrFlags::empty())?;
    }
    resemble(target, &sources[0], owner)
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

fn is_opaque(folder: &Path) -> bool {
    let mut value = [0_u8; 1];
    lgetxattr(folder, OPAQUE, &mut value).is_ok_and(|length| length == 1 && value == *b"y")
}

/// By name, where it is found, the latest first.
fn entries(sources: &[Source]) -> io::Result<BTreeMap<OsString, Vec<Source>>> {
    let mut all: BTreeMap<OsString, Vec<Source>> = BTreeMap::new();
    for (path, owner) in sources {
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            all.entry(entry.file_name()).or_default().push((entry.path(), *owner));
        }
    }
    Ok(all)
}

/// One file in two places, unless it needs other ids. A mark that hides what lies beneath is such a file too.
fn leaf((path, of): &Source, target: &Path, owner: u32) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let is_mark = metadata.file_type().is_char_device();
    if *of == owner || is_mark {
        return fs::hard_link(path, target);
    }
    if metadata.is_file() {
        fs::copy(path, target)?;
    } else if metadata.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(path)?, target)?;
    } else {
        // A FIFO or a socket, which says nothing without its processes.
        return Ok(());
    }
    resemble(target, &(path.clone(), *of), owner)
}

/// Owner, permissions and times.
fn resemble(target: &Path, (path, of): &Source, owner: u32) -> io::Result<()> {
    let like = fs::symlink_metadata(path)?;
    let shifted = |id: u32| match id.checked_sub(*of) {
        Some(inside) if inside < RANGE => owner + inside,
        _ => id,
    };
    let (uid, gid) = (shifted(like.uid()), shifted(like.gid()));
    let now = fs::symlink_metadata(target)?;
    if (now.uid(), now.gid()) != (uid, gid) {
        lchown(target, Some(uid), Some(gid))?;
    }
    if !like.is_symlink() {
        fs::set_permissions(target, Permissions::from_mode(like.mode() & 0o7777))?;
    }
    let modified = Timespec { tv_sec: like.mtime(), tv_nsec: like.mtime_nsec() };
    let times = Timestamps { last_access: modified, last_modification: modified };
    Ok(utimensat(CWD, target, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).unwrap();
        for (path, content) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    fn uid(folder: &Path) -> u32 {
        fs::metadata(folder).unwrap().uid()
    }

    #[test]
    fn the_latest_of_each_file_is_kept_and_none_is_copied() {
        let place = tempfile::tempdir().unwrap();
        let of = |name: &str| place.path().join(name);
        tree(&of("old"), &[("a", "old"), ("d/b", "old"), ("d/c", "old"), ("was/folder", "old")]);
        tree(&of("new"), &[("a", "new"), ("d/b", "new"), ("was", "a file now")]);
        let owner = uid(place.path());
        merge(&[(of("new"), owner), (of("old"), owner)], &of("merged"), owner).unwrap();
        let read = |path: &str| fs::read_to_string(of("merged").join(path)).unwrap();
        assert_eq!([read("a"), read("d/b"), read("d/c"), read("was")], ["new", "new", "old", "a file now"]);
        let inode = |path: &str| fs::metadata(of(path)).unwrap().ino();
        assert_eq!(inode("merged/d/c"), inode("old/d/c"));
    }

    #[test]
    fn what_a_folder_hides_stays_hidden() {
        let place = tempfile::tempdir().unwrap();
        let of = |name: &str| place.path().join(name);
        tree(&of("old"), &[("made/anew/a", "old"), ("b", "a file once")]);
        tree(&of("new"), &[("made/anew/b", "new"), ("b/now", "a folder")]);
        setxattr(of("new/made/anew"), OPAQUE, b"y", XattrFlags::empty()).unwrap();
        let owner = uid(place.path());
        merge(&[(of("new"), owner), (of("old"), owner)], &of("merged"), owner).unwrap();
        assert!(!of("merged/made/anew/a").exists() && of("merged/made/anew/b").exists());
        assert!(is_opaque(&of("merged/made/anew")) && is_opaque(&of("merged/b")));
        assert!(!is_opaque(&of("merged/made")));
    }

    #[test]
    fn links_are_kept_and_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let of = |name: &str| place.path().join(name);
        tree(&of("outside"), &[("secret", "not theirs")]);
        tree(&of("old"), &[("d/a", "old")]);
        tree(&of("new"), &[]);
        std::os::unix::fs::symlink(of("outside"), of("new/d")).unwrap();
        let owner = uid(place.path());
        merge(&[(of("new"), owner), (of("old"), owner)], &of("merged"), owner).unwrap();
        assert_eq!(fs::read_link(of("merged/d")).unwrap(), of("outside"));
        assert_eq!(fs::read_dir(of("outside")).unwrap().count(), 1);
    }
}

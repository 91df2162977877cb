//! Empties folders which hostile programs have filled: of any depth, with any permissions.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, chmodat, fchmod, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK);

/// Removes everything below `folder`, which stays. Nothing may be writing there any more.
///
/// Folders within folders are first moved up to `folder`, so that neither depth nor path length matter: the walk is
/// never more than two levels deep.
pub(crate) fn empty(folder: &Path) -> io::Result<()> {
    let top = match openat(CWD, folder, FOLDER, Mode::empty()) {
        Ok(top) => top,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ACCESS) => {
            chmodat(CWD, folder, Mode::RWXU, AtFlags::empty())?;
            openat(CWD, folder, FOLDER, Mode::empty())?
        }
        Err(error) => return Err(error.into()),
    };
    let mut moved = 0_u64;
    loop {
        let entries = entries(&top)?;
        if entries.is_empty() {
            return Ok(());
        }
        for (name, is_folder) in entries {
            if is_folder {
                flatten(top.as_fd(), &name, &mut moved)?;
            } else {
                remove(top.as_fd(), &name, AtFlags::empty())?;
            }
        }
    }
}

type Name = std::ffi::CString;

fn entries(folder: &OwnedFd) -> io::Result<Vec<(Name, bool)>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let is_folder = match entry.file_type() {
            FileType::Directory => true,
            FileType::Unknown => {
                let status = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(status.st_mode) == FileType::Directory
            }
            _ => false,
        };
        found.push((name.to_owned(), is_folder));
    }
    Ok(found)
}

/// Removes a folder, after its files, and after its folders have been moved beside it.
fn flatten(top: BorrowedFd<'_>, name: &Name, moved: &mut u64) -> io::Result<()> {
    match unlinkat(top, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        // An ordinary user may have to open what the container has closed first.
        Err(Errno::ACCESS | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let folder = open_for_removal(top, name)?;
    for (entry, is_folder) in entries(&folder)? {
        if !is_folder {
            remove(folder.as_fd(), &entry, AtFlags::empty())?;
        } else if remove(folder.as_fd(), &entry, AtFlags::REMOVEDIR).is_err() {
            move_up(folder.as_fd(), &entry, top, moved)?;
        }
    }
    drop(folder);
    remove(top, name, AtFlags::REMOVEDIR)
}

fn open_for_removal(top: BorrowedFd<'_>, name: &Name) -> io::Result<OwnedFd> {
    let is_root = rustix::process::geteuid().is_root();
    match openat(top, name, FOLDER, Mode::empty()) {
        Ok(folder) => {
            if !is_root {
                fchmod(&folder, Mode::RWXU)?;
            }
            Ok(folder)
        }
        Err(Errno::ACCESS) => {
            chmodat(top, name, Mode::RWXU, AtFlags::empty())?;
            Ok(openat(top, name, FOLDER, Mode::empty())?)
        }
        Err(error) => Err(error.into()),
    }
}

fn move_up(from: BorrowedFd<'_>, name: &Name, top: BorrowedFd<'_>, moved: &mut u64) -> io::Result<()> {
    // Moving a folder rewrites its "..", for which it must be writable itself.
    if !rustix::process::geteuid().is_root() {
        chmodat(from, name, Mode::RWXU, AtFlags::empty())?;
    }
    loop {
        *moved += 1;
        let target = format!(".removed-{moved}");
        match renameat(from, name, top, target.as_str()) {
            // The name is taken: the container may have made such a folder itself.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn remove(folder: BorrowedFd<'_>, name: &Name, flags: AtFlags) -> io::Result<()> {
    match unlinkat(folder, name, flags) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn folder(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("removal-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn trees_with_links_closed_folders_and_taken_names_are_emptied() {
        let top = folder("odd");
        let outside = folder("outside");
        fs::write(outside.join("kept"), "").unwrap();
        fs::create_dir_all(top.join("a/b/c/d")).unwrap();
        fs::write(top.join("a/b/c/d/file"), "x").unwrap();
        fs::create_dir_all(top.join(".removed-1/full/er")).unwrap();
        fs::write(top.join(".removed-2"), "x").unwrap();
        symlink(&outside, top.join("a/b/link")).unwrap();
        symlink("/nonexistent", top.join("dangling")).unwrap();
        fs::set_permissions(top.join("a/b/c"), fs::Permissions::from_mode(0)).unwrap();
        empty(&top).unwrap();
        assert_eq!(fs::read_dir(&top).unwrap().count(), 0);
        assert!(outside.join("kept").exists());
        fs::remove_dir(top).unwrap();
        fs::remove_dir_all(outside).unwrap();
    }

    #[test]
    fn folders_deeper_than_any_path_are_emptied() {
        let top = folder("deep");
        let mut here = openat(CWD, &top, FOLDER, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&here, "deeper", Mode::RWXU).unwrap();
            here = openat(&here, "deeper", FOLDER, Mode::empty()).unwrap();
        }
        empty(&top).unwrap();
        fs::remove_dir(top).unwrap();
    }

    #[test]
    fn a_folder_that_is_not_there_is_empty() {
        empty(Path::new("/nonexistent/folder")).unwrap();
    }
}

//! Empties folders which hostile programs have filled: of any depth, with any permissions.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, chmodat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;

use crate::ids::rules_the_host;

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK);

/// So many descriptors are open at most, and so many frames on the stack.
const DEEPEST: usize = 24;

/// Removes everything below `folder`, which stays. Nothing may be writing there any more.
///
/// Folders deeper than a few levels are first moved up to `folder`, so that neither depth nor path length matter.
pub(crate) fn empty(folder: &Path) -> io::Result<()> {
    let folder = match openat(CWD, folder, FOLDER, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ACCESS) => {
            chmodat(CWD, folder, Mode::RWXU, AtFlags::empty())?;
            openat(CWD, folder, FOLDER, Mode::empty())?
        }
        Err(error) => return Err(error.into()),
    };
    let mut removal = Removal { top: folder.as_fd(), moved: 0, must_open: !rules_the_host() };
    while removal.empty(&folder, 0)? {}
    Ok(())
}

struct Removal<'fd> {
    top: BorrowedFd<'fd>,
    /// How many names at the top have been used.
    moved: u64,
    /// An ordinary user must give itself what the container's permissions deny.
    must_open: bool,
}

impl Removal<'_> {
    /// Whether there was anything.
    fn empty(&mut self, folder: &OwnedFd, depth: usize) -> io::Result<bool> {
        let entries = entries(folder)?;
        for (name, is_folder) in &entries {
            if *is_folder {
                self.remove_folder(folder, name, depth)?;
            } else {
                remove(folder, name, AtFlags::empty())?;
            }
        }
        Ok(!entries.is_empty())
    }

    fn remove_folder(&mut self, parent: &OwnedFd, name: &Name, depth: usize) -> io::Result<()> {
        match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::ACCESS | Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
        if depth == DEEPEST {
            return self.move_up(parent, name);
        }
        let folder = self.open(parent, name)?;
        self.empty(&folder, depth + 1)?;
        remove(parent, name, AtFlags::REMOVEDIR)
    }

    fn open(&self, parent: &OwnedFd, name: &Name) -> io::Result<OwnedFd> {
        if self.must_open {
            chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
        }
        Ok(openat(parent, name, FOLDER, Mode::empty())?)
    }

    fn move_up(&mut self, from: &OwnedFd, name: &Name) -> io::Result<()> {
        // Moving a folder rewrites its "..", for which it must be writable itself.
        if self.must_open {
            chmodat(from, name, Mode::RWXU, AtFlags::empty())?;
        }
        loop {
            self.moved += 1;
            let target = format!(".removed-{}", self.moved);
            match renameat(from, name, self.top, target.as_str()) {
                // The name is taken: the container may have made such a folder itself.
                Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(error) => return Err(error.into()),
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

fn remove(folder: &OwnedFd, name: &Name, flags: AtFlags) -> io::Result<()> {
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
        fs::set_permissions(top.join("a/b/c"), fs::Permissions::from_mode(0o000)).unwrap();
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
        for _ in 0..700 {
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

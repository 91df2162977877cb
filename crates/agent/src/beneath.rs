//! Opening files of a tree that somebody else may be changing at this moment: nothing outside it is ever opened,
//! whatever is put in the place of a folder or file between two looks.
//!
//! The kernel resolves each path at once and beneath the folder's handle (`openat2`); paths that were seen in a walk
//! before are only names to ask it for.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// How often the kernel is asked again when it cannot tell, because something was renamed meanwhile, whether a path stayed
/// beneath.
const TRIES: usize = 1_000;

/// A folder that is open, wherever it is moved.
#[derive(Debug)]
pub struct Folder {
    handle: OwnedFd,
}

impl Folder {
    /// The folder of this path; links on the way are followed. For paths that somebody trusted has chosen.
    pub fn open(path: &Path) -> io::Result<Folder> {
        let handle = rustix::fs::openat(CWD, path, FOLDER, Mode::empty())?;
        Ok(Folder { handle })
    }

    /// A folder below this one. Links are followed as long as they stay beneath; one that does not is `EXDEV`.
    pub fn folder(&self, relative: &Path) -> io::Result<Folder> {
        let handle = self.resolve(relative, FOLDER, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)?;
        Ok(Folder { handle })
    }

    /// A regular file below this folder, to be read. A link on the way or in its place is `ELOOP`.
    pub fn file(&self, relative: &Path) -> io::Result<File> {
        self.regular(relative, ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
    }

    /// As [`Folder::file`], but links are followed as long as they stay beneath; one that does not is `EXDEV`.
    pub fn linked_file(&self, relative: &Path) -> io::Result<File> {
        self.regular(relative, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS)
    }

    /// Never waits for a FIFO, never opens a device for longer than it takes to see that it is one.
    fn regular(&self, relative: &Path, resolve: ResolveFlags) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(self.resolve(relative, flags, resolve)?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
    }

    fn resolve(&self, relative: &Path, flags: OFlags, resolve: ResolveFlags) -> io::Result<OwnedFd> {
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        for _ in 0..TRIES {
            match rustix::fs::openat2(&self.handle, relative, flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                opened => return Ok(opened?),
            }
        }
        Err(Errno::AGAIN.into())
    }
}

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Whether an error means that what was seen is not there any more, or is something else by now.
pub(crate) fn is_gone(error: &io::Error) -> bool {
    let gone = [Errno::NOENT, Errno::LOOP, Errno::NOTDIR, Errno::XDEV, Errno::NXIO];
    error.raw_os_error().is_some_and(|code| gone.iter().any(|errno| errno.raw_os_error() == code))
}

/// The path in plain components, if it leads nowhere but down.
pub(crate) fn plain(path: &str) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_lies_beneath_is_opened() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        fs::create_dir_all(path("in/sub")).unwrap();
        fs::create_dir(path("out")).unwrap();
        for name in ["in/file", "in/sub/file", "out/secret"] {
            fs::write(path(name), name).unwrap();
        }
        symlink("sub/file", path("in/link")).unwrap();
        symlink("../in/file", path("in/round")).unwrap();
        symlink("../out/secret", path("in/leak")).unwrap();
        symlink(path("out"), path("in/door")).unwrap();
        symlink("/proc/self/exe", path("in/magic")).unwrap();
        rustix::fs::mknodat(CWD, path("in/fifo"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();

        let folder = Folder::open(&path("in")).unwrap();
        let opens =
            |name: &str| (folder.file(Path::new(name)).is_ok(), folder.linked_file(Path::new(name)).is_ok());
        for (name, expect) in [
            ("file", (true, true)),
            ("sub/file", (true, true)),
            ("link", (false, true)),
            ("round", (false, false)),
            ("leak", (false, false)),
            ("door/secret", (false, false)),
            ("magic", (false, false)),
            ("../out/secret", (false, false)),
            ("/etc/hostname", (false, false)),
            ("fifo", (false, false)),
            ("sub", (false, false)),
            ("absent", (false, false)),
        ] {
            assert_eq!(opens(name), expect, "{name}");
        }
        assert!(folder.folder(Path::new("sub")).unwrap().file(Path::new("file")).is_ok());
        assert!(is_gone(&folder.folder(Path::new("door")).unwrap_err()));
    }

    #[test]
    fn paths_that_lead_down_are_told_from_others() {
        for (path, expect) in [(".", Some("")), ("./a//b/", Some("a/b")), ("a/../b", None), ("/a", None)] {
            assert_eq!(plain(path), expect.map(PathBuf::from), "{path}");
        }
    }
}

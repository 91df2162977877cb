//! What lies over the host's or an image's files before the first process: what hides them, the folders every build
//! expects, and /etc's files about this container. It is made in memory, in a layer between the lower and the upper folder,
//! or else in the upper folder itself. Relative paths are below the scratch mount, which is the working folder.
//!
//! Filling a folder needs no mount per hidden path, and what an image has at a path, such as a link, is replaced.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, removexattr, setxattr};

use crate::masks::{likeness, metadata_without_links};

/// An id the container has no number for shows as this one.
const NOBODY: u32 = 65_534;

/// Folders of every container: path, permissions.
const STANDARD: &[(&str, u32)] = &[
    ("/tmp", 0o1777),
    ("/var/tmp", 0o1777),
    ("/root", 0o700),
    ("/run", 0o755),
    ("/home", 0o755),
    ("/codebuild", 0o755),
    ("/etc", 0o755),
];
/// Mount points which no link of an image may lead elsewhere.
const KERNEL: &[&str] = &["/proc", "/sys", "/dev"];

/// A folder to be filled, what lies under it, and where both show.
#[derive(Debug)]
pub(crate) struct Upper {
    pub(crate) inside: PathBuf,
    pub(crate) upper: PathBuf,
    /// `None` for a root that starts out empty.
    pub(crate) lower: Option<PathBuf>,
}

/// Whether a mask could be had this way.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Masked {
    Done,
    /// Nothing is there.
    Absent,
    /// Only a mount can hide it: a link leads there, or nothing above it can be written.
    NeedsMount,
}

/// All upper folders.
#[derive(Debug)]
pub(crate) struct Uppers(pub(crate) Vec<Upper>);

impl Uppers {
    /// Makes the folders every container has, unless an image has them.
    pub(crate) fn make_standard_folders(&self) -> io::Result<()> {
        for (path, mode) in STANDARD {
            self.make_folder(Path::new(path), *mode)?;
        }
        for path in KERNEL {
            if let Some((upper, below)) = self.place(Path::new(path)) {
                make_opaque(&upper.make_folder(&below, 0o755)?)?;
            }
        }
        Ok(())
    }

    /// Makes a folder and what is missing above it, unless an image has it.
    pub(crate) fn make_folder(&self, path: &Path, mode: u32) -> io::Result<()> {
        let Some((upper, below)) = self.place(path) else { return Ok(()) };
        let exists = upper.in_lower(&below).is_some_and(|metadata| metadata.is_dir());
        if exists { Ok(()) } else { upper.make_folder(&below, mode).map(drop) }
    }

    /// Puts a file of ours in place of whatever is at `path`.
    pub(crate) fn put_file(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        let Some((upper, below)) = self.place(path) else { return Ok(()) };
        let target = upper.upper.join(&below);
        upper.make_parents(&below)?;
        match fs::remove_file(&target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::write(&target, bytes)?;
        fs::set_permissions(&target, fs::Permissions::from_mode(mode))
    }

    pub(crate) fn make_empty_folder(&self, path: &Path) -> io::Result<()> {
        let Some((upper, below)) = self.place(path) else { return Ok(()) };
        upper.make_folder(&below, 0o755).map(drop)
    }

    pub(crate) fn make_link(&self, path: &Path, target: &Path) -> io::Result<()> {
        let Some((upper, below)) = self.place(path) else { return Ok(()) };
        upper.make_parents(&below)?;
        std::os::unix::fs::symlink(target, upper.upper.join(below))
    }

    /// Makes `path` empty: an empty folder that hides the lower one, or an empty file.
    pub(crate) fn mask(&self, path: &Path) -> io::Result<Masked> {
        let Some((upper, below)) = self.place(path) else { return Ok(Masked::NeedsMount) };
        if upper.lower.is_none() {
            return Ok(Masked::Absent);
        }
        let Some(metadata) = upper.in_lower(&below) else { return Ok(Masked::NeedsMount) };
        if below.as_os_str().is_empty() {
            // The top of an overlay cannot hide what is below it.
            return Ok(Masked::NeedsMount);
        }
        if metadata.is_dir() {
            make_opaque(&upper.make_folder(&below, metadata.permissions().mode() & 0o7777)?)?;
        } else {
            upper.make_parents(&below)?;
            let target = upper.upper.join(&below);
            fs::write(&target, "")?;
            fs::set_permissions(&target, fs::Permissions::from_mode(0o600))?;
        }
        Ok(Masked::Done)
    }

    /// The folder a path belongs to, and the rest of the path.
    fn place(&self, path: &Path) -> Option<(&Upper, PathBuf)> {
        let upper = self.0.iter().rev().find(|upper| path.starts_with(&upper.inside))?;
        let below = path.strip_prefix(&upper.inside).expect("it starts with it");
        Some((upper, below.to_path_buf()))
    }
}

impl Upper {
    fn in_lower(&self, below: &Path) -> Option<fs::Metadata> {
        metadata_without_links(self.lower.as_ref()?, below)
    }

    /// Makes `below` and what is missing above it; an existing folder is kept. The path in the scratch mount.
    fn make_folder(&self, below: &Path, mode: u32) -> io::Result<PathBuf> {
        self.make_parents(below)?;
        let path = self.upper.join(below);
        make_one(&path, mode)?;
        Ok(path)
    }

    fn make_parents(&self, below: &Path) -> io::Result<()> {
        below.parent().map_or(Ok(()), |parent| self.stand_in_for(parent))
    }

    /// Makes a folder, and those above it, which look as they do in the lower folder.
    pub(crate) fn stand_in_for(&self, folder: &Path) -> io::Result<()> {
        let mut folders: Vec<&Path> = folder.ancestors().filter(|p| !p.as_os_str().is_empty()).collect();
        folders.reverse();
        for folder in folders {
            let path = self.upper.join(folder);
            if path.is_dir() {
                continue;
            }
            match self.in_lower(folder).filter(fs::Metadata::is_dir) {
                Some(metadata) => make_like(&path, &metadata)?,
                None => make_one(&path, 0o755)?,
            }
        }
        Ok(())
    }

    /// One for a folder of this one's.
    pub(crate) fn part(&self, inside: &Path) -> Upper {
        let below = inside.strip_prefix(&self.inside).unwrap_or(inside);
        let lower = self.lower.as_ref().map(|lower| lower.join(below));
        Upper { inside: inside.into(), upper: self.upper.join(below), lower }
    }
}

/// Makes a folder with the owner and permissions of another one.
pub(crate) fn make_like(path: &Path, metadata: &fs::Metadata) -> io::Result<()> {
    let (uid, gid, mode) = likeness(metadata);
    make_one(path, mode)?;
    if uid != 0 || gid != 0 {
        let known = |id| (id != NOBODY).then_some(id);
        std::os::unix::fs::chown(path, known(uid), known(gid))?;
    }
    Ok(())
}

pub(crate) fn make_one(path: &Path, mode: u32) -> io::Result<()> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Whether overlay's marks can be made in a folder's file system.
pub(crate) fn can_be_marked(folder: &Path) -> rustix::io::Result<()> {
    const TRIAL: &str = "user.buildyard.trial";
    setxattr(folder, TRIAL, b"y", XattrFlags::empty())?;
    removexattr(folder, TRIAL)
}

/// Hides the folder of the same name below.
fn make_opaque(path: &Path) -> io::Result<()> {
    Ok(setxattr(path, "user.overlay.opaque", b"y", XattrFlags::empty())?)
}

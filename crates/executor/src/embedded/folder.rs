//! A build's folder: its names, its making, and who owns its journal.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use agent::plan::Plan;
use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

use crate::{Error, Result};

/// What a journal is a symbolic link to, where there is to be none. There is no such file.
const UNUSED: &str = "unused";

/// The path of `name` below an open folder, short however deep the folder lies.
pub(crate) fn below(folder: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}

/// Makes the folder that build folders are made in; returns its absolute path.
pub(super) fn make_builds(builds: &Path) -> Result<PathBuf> {
    DirBuilder::new().recursive(true).mode(0o700).create(builds).map_err(Error::folder("make", builds))?;
    let absolute = fs::canonicalize(builds).map_err(Error::folder("resolve", builds))?;
    if absolute.as_os_str().as_bytes().contains(&b'\n') {
        let newline = io::Error::new(io::ErrorKind::InvalidInput, "its path holds a newline");
        return Err(Error::folder("use", &absolute)(newline));
    }
    spread_apart(&absolute);
    Ok(absolute)
}

/// Asks ext4 to put the folders of builds far from one another. Without a journal, as virtual machines have it, it uses no inode again soon after
/// its file was removed, and looks at all such inodes around a folder before it makes a file there: the files of builds that have
/// just ended would slow down the next. Other file systems have no such flag, and no need.
fn spread_apart(builds: &Path) {
    let Ok(folder) = File::open(builds) else { return };
    if let Ok(flags) = ioctl_getflags(&folder) {
        let _ = ioctl_setflags(&folder, flags | IFlags::TOPDIR);
    }
}

/// Removes every attempt's folder. The first one goes last: by it the others are found if we are killed meanwhile.
pub(super) fn remove_all(builds: &Path, uuid: &str) -> Result<()> {
    while let Some(folder) = BuildFolder::latest(builds, uuid)? {
        folder.remove()?;
    }
    Ok(())
}

/// The builds that have a folder.
pub(super) fn remaining(builds: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(builds).map_err(Error::folder("list", builds))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let uuids = names.filter_map(|name| name.split('.').next().map(str::to_string));
    // A hidden file begins with the dot, and so has no name before it.
    Ok(uuids.filter(|uuid| !uuid.is_empty()).collect::<BTreeSet<_>>().into_iter().collect())
}

#[derive(Debug)]
pub(super) struct BuildFolder(PathBuf);

impl BuildFolder {
    /// Makes the next attempt's folder with the plan in it.
    pub(super) fn create(builds: &Path, uuid: &str, plan: &Plan) -> Result<BuildFolder> {
        let mut attempt = 1;
        loop {
            let path = attempt_path(builds, uuid, attempt);
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    let folder = BuildFolder(path);
                    folder.write_plan(plan).map_err(Error::folder("write the plan into", &folder.0))?;
                    return Ok(folder);
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => attempt += 1,
                Err(e) => return Err(Error::folder("make", &path)(e)),
            }
        }
    }

    /// The last attempt's folder, if there was any attempt.
    pub(super) fn latest(builds: &Path, uuid: &str) -> Result<Option<BuildFolder>> {
        let mut latest = None;
        let mut attempt = 1;
        while let Some(folder) = BuildFolder::existing(builds, uuid, attempt)? {
            latest = Some(folder);
            attempt += 1;
        }
        Ok(latest)
    }

    fn existing(builds: &Path, uuid: &str, attempt: u32) -> Result<Option<BuildFolder>> {
        let path = attempt_path(builds, uuid, attempt);
        let exists = path.try_exists().map_err(Error::folder("look at", &path))?;
        Ok(exists.then_some(BuildFolder(path)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn open(&self) -> io::Result<File> {
        File::open(&self.0)
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.0.join(agent::JOURNAL)
    }

    fn scratch(&self) -> PathBuf {
        self.0.join(agent::SCRATCH)
    }

    pub(super) fn agent_log(&self) -> PathBuf {
        self.0.join("agent.log")
    }

    fn write_plan(&self, plan: &Plan) -> io::Result<()> {
        let body = serde_json::to_vec(plan)?;
        File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.0.join(agent::PLAN))?
            .write_all(&body)
    }

    /// Takes the journal away from any agent that has not taken it yet. True: none has, and none ever will.
    ///
    /// Whoever creates the journal owns the build, so this is what makes launching again safe. A link in its place says in one
    /// step that it is taken and by whom: a kill or a full disk leaves either nothing or all of that.
    pub(super) fn give_up(&self) -> Result<bool> {
        let journal = self.journal();
        match symlink(UNUSED, &journal) {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let taken = fs::symlink_metadata(&journal).map_err(Error::folder("look at", &journal))?;
                Ok(taken.is_symlink())
            }
            Err(e) => Err(Error::folder("make", &journal)(e)),
        }
    }

    /// Removes the folder. Its scratch folder goes first: one with closed folders or files of foreign owners needs the
    /// container's help, whose name is in the rest.
    fn remove(&self) -> Result<()> {
        if gone(fs::remove_dir_all(self.scratch())).is_err() {
            self.sweep()?;
        }
        gone(fs::remove_dir_all(&self.0)).map_err(Error::folder("remove", &self.0))
    }

    /// Cleans what a killed agent left of its container, which it named here before making it.
    pub(super) fn sweep(&self) -> Result<()> {
        let named = self.0.join(agent::CONTAINER);
        match fs::read_to_string(&named) {
            Ok(names) => Ok(names.lines().try_for_each(|name| container::sweep(name, &self.scratch()))?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(Error::folder("read", &named)(e)),
        }
    }
}

fn gone(removal: io::Result<()>) -> io::Result<()> {
    match removal {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn attempt_path(builds: &Path, uuid: &str, attempt: u32) -> PathBuf {
    if attempt == 1 { builds.join(uuid) } else { builds.join(format!("{uuid}.{attempt}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempts_folder_is_removed_last() {
        let builds = tempfile::tempdir().unwrap();
        let path = |attempt| attempt_path(builds.path(), "uuid", attempt);
        fs::create_dir(path(1)).unwrap();
        fs::create_dir(path(2)).unwrap();
        // As if it ended there: this one cannot be removed as a folder.
        fs::write(path(3), "").unwrap();
        assert!(remove_all(builds.path(), "uuid").is_err());
        assert!(path(1).exists() && path(2).exists());
        fs::remove_file(path(3)).unwrap();
        remove_all(builds.path(), "uuid").unwrap();
        assert_eq!(remaining(builds.path()).unwrap(), [""; 0]);
    }
}

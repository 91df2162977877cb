//! Folders of local builds: one a build, locked by the `buildyard run` that made it, and removed by the next one if
//! that was killed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use executor::{Adopted, Embedded, Executor};
use rustix::fs::{FlockOperation, flock};

/// A build's folder below `<data>/run`, ours until it is dropped.
#[derive(Debug)]
pub(crate) struct RunFolder {
    pub(crate) path: PathBuf,
    _lock: File,
}

impl RunFolder {
    pub(crate) fn create(data: &Path, uuid: &str) -> io::Result<RunFolder> {
        let path = data.join("run").join(uuid);
        std::fs::create_dir_all(&path)?;
        let lock = File::open(&path)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        Ok(RunFolder { path, _lock: lock })
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // What cannot be removed now, the next run tries again.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Removes what killed runs left. Agents of theirs that still end their build are left to the next time.
pub(crate) async fn sweep(data: &Path) {
    for entry in std::fs::read_dir(data.join("run")).into_iter().flatten().flatten() {
        let Ok(lock) = File::open(entry.path()) else { continue };
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
            && remove_builds(&entry.path()).await
        {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// False if an agent is still there, or something cannot be removed.
async fn remove_builds(folder: &Path) -> bool {
    let mut options = executor::embedded::Options::new(folder.join("builds"));
    options.warm = 0;
    let Ok(executor) = Embedded::open(options) else { return false };
    for uuid in executor.remaining().await.unwrap_or_default() {
        match executor.adopt(&uuid).await {
            Ok(Adopted::Dead(_) | Adopted::NeverStarted) if executor.remove(&uuid).await.is_ok() => {}
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn folders_of_killed_runs_are_removed_and_those_of_living_ones_kept() {
        let data = tempfile::tempdir().unwrap();
        let ours = RunFolder::create(data.path(), "ours").unwrap();
        let left = data.path().join("run/left/builds");
        std::fs::create_dir_all(&left).unwrap();
        sweep(data.path()).await;
        assert!(ours.path.exists());
        assert!(!data.path().join("run/left").exists());
        let path = ours.path.clone();
        drop(ours);
        assert!(!path.exists());
    }
}

//! The data folder: one server at a time, and files that are nobody else's to read.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{Doing, Error, Result};

const LOCK: &str = "records.lock";

/// How long a lock that somebody has is tried again. A process that a killed server was just starting has the server's
/// files until it executes its program, for which it may have to wait where others have the processors.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Held for as long as the returned file is open, and by one process at a time.
pub(super) fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let file = private_file(&path)?;
    let begun = Instant::now();
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if begun.elapsed() < LOCK_PATIENCE => std::thread::sleep(LOCK_PAUSE),
            Err(Errno::WOULDBLOCK) => return Err(Error::Locked(path.display().to_string())),
            locked => return locked.doing("locking the records").map(|()| file),
        }
    }
}

/// Documents may hold secrets: nobody but us reads these files.
pub(super) fn private_file(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .doing("opening the records")
}

//! Repositories that earlier builds have fetched, kept for `LOCAL_SOURCE_CACHE` (SA-096): one file each, an archive of `.git` before anything
//! was checked out.
//!
//! Only containers that repositories are fetched in read them, and only those write them: no build's own commands come near.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Seek};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use source::Location;

use crate::cache::digest;

/// Bytes of one.
const KEPT_BYTES: u64 = 8 << 30;
/// Repositories of one project; the one that was written longest ago goes.
const KEPT: usize = 16;

/// One repository's place.
#[derive(Debug)]
pub(super) struct Kept {
    folder: PathBuf,
    name: String,
}

impl Kept {
    pub(super) fn of(folder: &Path, location: &Location) -> Kept {
        Kept { folder: folder.to_owned(), name: digest(&[&location.to_string()]) }
    }

    /// What is kept, if anything is.
    pub(super) fn open(&self) -> io::Result<Option<File>> {
        match File::open(self.path("tar")) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A file to write what is to be kept. None while another build does.
    pub(super) fn begin(&self) -> io::Result<Option<File>> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let file = File::options().create(true).truncate(false).write(true).open(self.path("new"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // A killed build may have left something.
        file.set_len(0)?;
        Ok(Some(file))
    }

    /// Puts what was written in the place of what was there, whole.
    pub(super) fn finish(&self, mut file: File) -> io::Result<()> {
        file.rewind()?;
        if file.metadata()?.len() > KEPT_BYTES {
            return fs::remove_file(self.path("new"));
        }
        file.sync_all()?;
        fs::rename(self.path("new"), self.path("tar"))?;
        self.remove_oldest()
    }

    /// Nothing is to be kept of what was begun.
    pub(super) fn give_up(&self) {
        // The next one that begins empties it.
        let _ = fs::remove_file(self.path("new"));
    }

    fn remove_oldest(&self) -> io::Result<()> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&self.folder)?.flatten() {
            if entry.path().extension().is_some_and(|ending| ending == "tar") {
                kept.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        kept.sort();
        let surplus = kept.len().saturating_sub(KEPT);
        kept.iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
    }

    fn path(&self, ending: &str) -> PathBuf {
        self.folder.join(format!("{}.{ending}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn kept(folder: &Path, url: &str) -> Kept {
        Kept::of(folder, &Location::parse(url).unwrap())
    }

    fn keep(kept: &Kept, text: &str) {
        let mut file = kept.begin().unwrap().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        kept.finish(file).unwrap();
    }

    #[test]
    fn what_is_kept_is_whole_and_the_last() {
        // SA-096
        let folder = tempfile::tempdir().unwrap();
        let one = kept(&folder.path().join("new"), "https://git.example/a/b");
        assert!(one.open().unwrap().is_none());
        keep(&one, "a longer first");
        let mut unfinished = one.begin().unwrap().unwrap();
        unfinished.write_all(b"half").unwrap();
        assert!(one.begin().unwrap().is_none(), "another build is at it");
        drop(unfinished);
        keep(&one, "second");
        let mut text = String::new();
        one.open().unwrap().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "second");
        let other = kept(&folder.path().join("new"), "https://git.example/a/c");
        assert!(other.open().unwrap().is_none());
    }

    #[test]
    fn only_so_many_are_kept() {
        // SA-096
        let folder = tempfile::tempdir().unwrap();
        for number in 0..=KEPT {
            keep(&kept(folder.path(), &format!("https://git.example/a/{number}")), "x");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), KEPT);
    }
}

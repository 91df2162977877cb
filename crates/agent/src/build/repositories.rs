//! Repositories that earlier builds have fetched, kept for `LOCAL_SOURCE_CACHE` (SA-096): archives of `.git` before anything was checked
//! out. The first, `<name>.tar`, has all there was; `<name>.1.tar` and those after it what builds have added since.
//!
//! Only containers that repositories are fetched in read them, and only those write them: no build's own commands come near.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Seek};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};
use source::Location;

use crate::cache::digest;

/// Bytes of one.
const KEPT_BYTES: u64 = 8 << 30;
/// Repositories of one project; the one that was written longest ago goes.
const KEPT: usize = 16;
/// Archives of one repository, after which it is written whole again.
const PARTS_MAX: usize = 32;

/// One repository's place.
#[derive(Debug)]
pub(super) struct Kept {
    folder: PathBuf,
    name: String,
}

/// Which archives there are, the first one first: what tells each from those that had or will have its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parts(Vec<(u64, u64, SystemTime)>);

/// An archive being written.
#[derive(Debug)]
pub(super) struct Keeping {
    pub(super) file: File,
    /// Its number; 0 takes the place of all there are.
    number: usize,
}

impl Keeping {
    /// It holds only what the ones before do not.
    pub(super) fn is_addition(&self) -> bool {
        self.number > 0
    }
}

impl Kept {
    pub(super) fn of(folder: &Path, location: &Location) -> Kept {
        Kept { folder: folder.to_owned(), name: digest(&[&location.to_string()]) }
    }

    /// What is kept, to be unpacked in this order, if anything is.
    pub(super) fn open(&self) -> io::Result<(Parts, Vec<File>)> {
        loop {
            let files = self.opened()?;
            let parts = Parts(files.iter().map(mark).collect::<io::Result<_>>()?);
            // All may have been written anew meanwhile.
            let first = self.opened()?.first().map(mark).transpose()?;
            if first.as_ref() == parts.0.first() {
                return Ok((parts, files));
            }
        }
    }

    fn opened(&self) -> io::Result<Vec<File>> {
        let mut files = Vec::new();
        loop {
            match File::open(self.part(files.len())) {
                Ok(file) => files.push(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
                Err(error) => return Err(error),
            }
        }
    }

    /// A file to write what is to be kept, or what is to be added to what there `had` been. None while another build does, or if
    /// another has added something else since.
    pub(super) fn begin(&self, had: Option<Parts>) -> io::Result<Option<Keeping>> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let file = File::options().create(true).truncate(false).write(true).open(self.path("new"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        // A killed build may have left something.
        file.set_len(0)?;
        let number = match had {
            Some(had) if self.open()?.0 != had => return Ok(None),
            Some(had) if had.0.len() < PARTS_MAX => had.0.len(),
            Some(_) | None => 0,
        };
        Ok(Some(Keeping { file, number }))
    }

    /// Puts what was written in the place of what was there, or beside it, whole.
    pub(super) fn finish(&self, Keeping { mut file, number }: Keeping) -> io::Result<()> {
        file.rewind()?;
        let parts = self.open()?.1;
        let before = if number > 0 { &parts[..] } else { &[] };
        let before = before.iter().map(|part| Ok(part.metadata()?.len())).sum::<io::Result<u64>>()?;
        if before + file.metadata()?.len() > KEPT_BYTES {
            return fs::remove_file(self.path("new"));
        }
        file.sync_all()?;
        if number == 0 {
            // The last first: what is left in between is a state that once was.
            (1..parts.len()).rev().try_for_each(|part| fs::remove_file(self.part(part)))?;
        }
        fs::rename(self.path("new"), self.part(number))?;
        self.remove_oldest()
    }

    /// Nothing is to be kept of what was begun.
    pub(super) fn give_up(&self) {
        // The next one that begins empties it.
        let _ = fs::remove_file(self.path("new"));
    }

    fn remove_oldest(&self) -> io::Result<()> {
        let mut kept: BTreeMap<String, (SystemTime, Vec<PathBuf>)> = BTreeMap::new();
        for entry in fs::read_dir(&self.folder)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some((name, _)) = name.split_once('.').filter(|(_, ending)| ending.ends_with("tar")) {
                let (last, paths) =
                    kept.entry(name.to_owned()).or_insert((SystemTime::UNIX_EPOCH, Vec::new()));
                *last = (*last).max(entry.metadata()?.modified()?);
                paths.push(entry.path());
            }
        }
        let mut kept: Vec<_> = kept.into_values().collect();
        kept.sort();
        let surplus = kept.len().saturating_sub(KEPT);
        // Additions first: those without the first are nothing.
        let paths = kept.iter().take(surplus).flat_map(|(_, paths)| paths);
        paths.rev().try_for_each(fs::remove_file)
    }

    fn part(&self, number: usize) -> PathBuf {
        match number {
            0 => self.path("tar"),
            number => self.path(&format!("{number}.tar")),
        }
    }

    fn path(&self, ending: &str) -> PathBuf {
        self.folder.join(format!("{}.{ending}", self.name))
    }
}

fn mark(file: &File) -> io::Result<(u64, u64, SystemTime)> {
    let metadata = file.metadata()?;
    Ok((metadata.ino(), metadata.len(), metadata.modified()?))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    fn kept(folder: &Path, url: &str) -> Kept {
        Kept::of(folder, &Location::parse(url).unwrap())
    }

    fn keep(kept: &Kept, had: Option<Parts>, text: &str) {
        let mut keeping = kept.begin(had).unwrap().unwrap();
        keeping.file.write_all(text.as_bytes()).unwrap();
        kept.finish(keeping).unwrap();
    }

    fn texts(kept: &Kept) -> Vec<String> {
        let read = |mut file: File| {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            text
        };
        kept.open().unwrap().1.into_iter().map(read).collect()
    }

    #[test]
    fn what_is_kept_is_whole_and_the_last() {
        // SA-096
        let folder = tempfile::tempdir().unwrap();
        let one = kept(&folder.path().join("new"), "https://git.example/a/b");
        assert!(texts(&one).is_empty());
        keep(&one, None, "a longer first");
        let mut unfinished = one.begin(None).unwrap().unwrap();
        unfinished.file.write_all(b"half").unwrap();
        assert!(one.begin(None).unwrap().is_none(), "another build is at it");
        drop(unfinished);
        keep(&one, None, "second");
        assert_eq!(texts(&one), ["second"]);
        let other = kept(&folder.path().join("new"), "https://git.example/a/c");
        assert!(texts(&other).is_empty());
    }

    #[test]
    fn what_is_new_is_added_to_what_it_adds_to_and_to_nothing_else() {
        // SA-096
        let folder = tempfile::tempdir().unwrap();
        let one = kept(folder.path(), "https://git.example/a/b");
        keep(&one, None, "all");
        let first = one.open().unwrap().0;
        keep(&one, Some(first.clone()), "more");
        assert_eq!(texts(&one), ["all", "more"]);
        assert!(one.begin(Some(first)).unwrap().is_none(), "another build has been there");
        keep(&one, None, "all of it");
        assert_eq!(texts(&one), ["all of it"]);
        for number in 1..PARTS_MAX {
            keep(&one, Some(one.open().unwrap().0), &number.to_string());
        }
        assert_eq!(texts(&one).len(), PARTS_MAX);
        let full = one.begin(Some(one.open().unwrap().0)).unwrap().unwrap();
        assert!(!full.is_addition());
    }

    #[test]
    fn only_so_many_are_kept() {
        // SA-096
        let folder = tempfile::tempdir().unwrap();
        for number in 0..=KEPT {
            keep(&kept(folder.path(), &format!("https://git.example/a/{number}")), None, "x");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), KEPT);
    }
}

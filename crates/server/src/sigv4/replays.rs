//! Signatures already used for a change, remembered for as long as they would still be accepted.
//!
//! SDKs sign with whole seconds and leave their invocation id unsigned: two identical requests made within one
//! second carry one signature, and both are meant. So a repetition is taken at its word for a few seconds after
//! the signature was first seen and refused from then on; what is caught is a request recorded and played again.
//!
//! Kept in a file as well, so that the next server knows them: a line is written before its request is done.
//! It is not forced to the disk, since a host does not crash and start again while a recorded request waits to be played.

use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// How long after its first use a signature may be seen again, seconds.
const GRACE_SECONDS: i64 = 5;

/// How much longer than it is accepted a signature is remembered, seconds: a clock that jumps ahead and is set right
/// again makes old signatures good once more.
const CLOCK_JUMP_SECONDS: i64 = 24 * 3_600;

/// Most signatures remembered; beyond it the oldest are forgotten first.
const CAPACITY: usize = 65_536;

/// Lines of the file before it is written anew, with what is still remembered.
const LINES_MAX: usize = 4 * CAPACITY;

/// The memory. One for a server.
#[derive(Debug, Default)]
pub struct Replays {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    first_used: HashMap<String, i64>,
    by_age: VecDeque<(i64, String)>,
    kept: Option<Kept>,
}

/// The file: a line for each signature, with the times until it is accepted and when it was first used.
#[derive(Debug)]
struct Kept {
    path: PathBuf,
    file: File,
    lines: usize,
    /// The last line may have been cut off.
    is_torn: bool,
}

impl Replays {
    /// A memory that is kept in a file, which is made if it is not there; `now` in seconds since 1970.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn kept(path: &Path, now: i64) -> io::Result<Replays> {
        let text = match fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        let mut seen = Seen::default();
        // A line that was cut off was of a request that was not done.
        for (until, first, signature) in text.lines().filter_map(parse) {
            if !seen.first_used.contains_key(signature) {
                seen.remember(signature, first, until);
            }
        }
        seen.forget_before(now);
        // A disk that is full has no room for another file; the one that is there is good still.
        seen.kept = Some(seen.write_all(path).or_else(|_| Kept::open(path, &text))?);
        Ok(Replays { seen: Mutex::new(seen) })
    }

    /// Whether a changing request with this signature may go on at `now`; remembers it until `until`
    /// (both seconds since 1970).
    ///
    /// # Errors
    /// It cannot be kept, and so must not go on: the next server would let it through again. It is as if it had not come.
    pub fn admit(&self, signature: &str, now: i64, until: i64) -> io::Result<bool> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.forget_before(now);
        match seen.first_used.get(signature) {
            // Either way: a clock that is set back must not make a recorded request fresh again.
            Some(first) => Ok((now - first).abs() <= GRACE_SECONDS),
            None => {
                seen.write(signature, now, until)?;
                seen.remember(signature, now, until);
                Ok(true)
            }
        }
    }
}

impl Kept {
    /// The file as it is, whose text is known.
    fn open(path: &Path, text: &str) -> io::Result<Kept> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let is_torn = !text.is_empty() && !text.ends_with('\n');
        Ok(Kept { path: path.to_owned(), file, lines: text.lines().count(), is_torn })
    }

    /// Adds a line, or at most the beginning of one, which the next one does not go on with.
    fn add(&mut self, line: &str) -> io::Result<()> {
        let end = if self.is_torn { "\n" } else { "" };
        self.is_torn = true;
        self.file.write_all(format!("{end}{line}").as_bytes())?;
        self.is_torn = false;
        self.lines += 1;
        Ok(())
    }
}

impl Seen {
    fn forget_before(&mut self, now: i64) {
        while self.by_age.len() >= CAPACITY
            || self.by_age.front().is_some_and(|(until, _)| until + CLOCK_JUMP_SECONDS < now)
        {
            match self.by_age.pop_front() {
                Some((_, signature)) => self.first_used.remove(&signature),
                None => return,
            };
        }
    }

    fn remember(&mut self, signature: &str, now: i64, until: i64) {
        self.first_used.insert(signature.to_owned(), now);
        self.by_age.push_back((until, signature.to_owned()));
    }

    /// Adds the line of a signature that is to be remembered.
    fn write(&mut self, signature: &str, now: i64, until: i64) -> io::Result<()> {
        if let Some(kept) = &self.kept
            && kept.lines >= LINES_MAX
        {
            self.kept = Some(self.write_all(&kept.path)?);
        }
        self.kept.as_mut().map_or(Ok(()), |kept| kept.add(&line(until, now, signature)))
    }

    /// The file with what is remembered, and nothing else.
    fn write_all(&self, path: &Path) -> io::Result<Kept> {
        let lines = self.by_age.iter().map(|(until, signature)| {
            let first = self.first_used.get(signature).copied().unwrap_or(*until);
            line(*until, first, signature)
        });
        let text: String = lines.collect();
        let temporary = path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&temporary, path)?;
        Ok(Kept { path: path.to_owned(), file, lines: self.by_age.len(), is_torn: false })
    }
}

fn line(until: i64, first: i64, signature: &str) -> String {
    format!("{until} {first} {signature}\n")
}

fn parse(line: &str) -> Option<(i64, i64, &str)> {
    let mut parts = line.split(' ');
    let (until, first, signature) = (parts.next()?, parts.next()?, parts.next()?);
    let whole = signature.len() == 64 && parts.next().is_none();
    Some((until.parse().ok()?, first.parse().ok()?, signature)).filter(|_| whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    // AP-004
    #[test]
    fn the_next_server_knows_what_was_used_and_forgets_what_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replays");
        let (new, old) = ("a".repeat(64), "b".repeat(64));
        let first = Replays::kept(&path, 100).unwrap();
        assert!(first.admit(&old, 100, 400).unwrap());
        assert!(first.admit(&new, 100_000, 100_300).unwrap());
        drop(first);
        // As after a kill in the middle of a line.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"100300 100000 cccc").unwrap();
        let second = Replays::kept(&path, 100_010).unwrap();
        assert!(!second.admit(&new, 100_010, 100_300).unwrap());
        assert!(!second.admit(&new, 100_100, 100_300).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("100300 100000 {new}\n"));
        assert!(second.admit(&old, 100_010, 100_310).unwrap());
        assert!(!Replays::kept(&path, 100_050).unwrap().admit(&old, 100_050, 100_310).unwrap());
    }

    #[test]
    fn what_cannot_be_kept_is_not_admitted_and_may_come_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replays");
        let (first, second) = ("a".repeat(64), "b".repeat(64));
        let replays = Replays::kept(&path, 100).unwrap();
        let whole = replays.seen.lock().unwrap().kept.replace(Kept {
            path: path.clone(),
            file: File::options().write(true).open("/dev/full").unwrap(),
            lines: 0,
            is_torn: false,
        });
        assert_eq!(replays.admit(&first, 100, 400).unwrap_err().kind(), io::ErrorKind::StorageFull);
        replays.seen.lock().unwrap().kept = whole;
        assert!(replays.admit(&first, 110, 400).unwrap(), "nothing was done yet");
        assert!(!replays.admit(&first, 120, 400).unwrap());
        // As a disk leaves it that had room for a part of a line.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"400 120 cc").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let torn = Kept::open(&path, &text).unwrap();
        assert!(torn.is_torn);
        replays.seen.lock().unwrap().kept = Some(torn);
        assert!(replays.admit(&second, 130, 400).unwrap());
        assert!(!Replays::kept(&path, 140).unwrap().admit(&second, 140, 400).unwrap());
    }

    #[test]
    fn the_same_request_twice_within_a_second_is_meant() {
        let replays = Replays::default();
        assert!(replays.admit("a", 100, 400).unwrap());
        assert!(replays.admit("a", 100, 400).unwrap());
        assert!(replays.admit("b", 101, 400).unwrap());
    }

    #[test]
    fn a_recorded_request_played_later_is_refused() {
        let replays = Replays::default();
        assert!(replays.admit("a", 100, 400).unwrap());
        assert!(!replays.admit("a", 106, 400).unwrap());
        assert!(!replays.admit("a", 400, 400).unwrap());
    }

    #[test]
    fn a_clock_that_jumps_does_not_make_a_recorded_request_fresh() {
        let replays = Replays::default();
        assert!(replays.admit("a", 100, 400).unwrap());
        assert!(replays.admit("b", 40_000, 40_300).unwrap());
        assert!(!replays.admit("a", 120, 400).unwrap(), "ahead and back again");
        assert!(replays.admit("c", 200, 500).unwrap());
        assert!(!replays.admit("c", 150, 500).unwrap(), "back");
        assert!(replays.admit("c", 199, 500).unwrap(), "set by a second");
    }

    #[test]
    fn memory_is_bounded() {
        let replays = Replays::default();
        for n in 0..CAPACITY + 10 {
            assert!(replays.admit(&n.to_string(), 100, 400).unwrap());
        }
        assert!(replays.seen.lock().unwrap().by_age.len() <= CAPACITY);
        assert!(replays.admit("fresh", 100_000, 100_300).unwrap());
        assert_eq!(replays.seen.lock().unwrap().first_used.len(), 1);
    }
}

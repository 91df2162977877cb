//! Signatures already used for a change, remembered for as long as they would still be accepted.
//!
//! SDKs sign with whole seconds, and some leave their invocation id unsigned: two identical calls made within one
//! second carry one signature, and both are meant. So a use is known by its signature and by the two headers in which
//! SDKs number their calls and attempts. The same three again are a request that was recorded, and refused at once;
//! the same signature of another call, or of one that has no such headers, is taken at its word for a few seconds after it was
//! first seen, and refused from then on.
//!
//! Kept in a file as well, so that the next server knows them: a line is written before its request is done.
//! It is not forced to the disk, since a host does not crash and start again while a recorded request waits to be played.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hyper::HeaderMap;
use rustix::fs::{FallocateFlags, fallocate};
use sha2::{Digest, Sha256};

/// How long after its first use a signature may be seen again, of another call, seconds.
const GRACE_SECONDS: i64 = 5;

/// Most calls of one signature; those beyond are refused.
const CALLS_MAX: usize = 4_096;

/// How much longer than it is accepted a signature is remembered, seconds: a clock that jumps ahead and is set right
/// again makes old signatures good once more.
const CLOCK_JUMP_SECONDS: i64 = 24 * 3_600;

/// Most signatures remembered; beyond it the oldest are forgotten first.
const CAPACITY: usize = 65_536;

/// Room on the disk that the file has ahead of its end, and how often it is made, in lines: on a full disk builds can still be stopped.
const ROOM_BYTES: u64 = 64 * 1024;
const ROOM_EVERY: usize = 256;

/// Lines of the file before it is written anew, with what is still remembered.
const LINES_MAX: usize = 4 * CAPACITY;

/// The memory. One for a server.
#[derive(Debug, Default)]
pub struct Replays {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    used: HashMap<String, Use>,
    by_age: VecDeque<(i64, String)>,
    /// Signatures whose calls are known still, in the order of their first use.
    open: VecDeque<(i64, String)>,
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Use {
    /// Seconds since 1970.
    first: i64,
    /// The calls that were told apart; none as soon as no other is accepted.
    calls: Option<HashSet<SdkCall>>,
}

/// What an SDK says of a call and of its attempts, hashed: the headers `amz-sdk-invocation-id` and `amz-sdk-request`
/// as they were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SdkCall([u8; 16]);

impl SdkCall {
    /// None, if there is neither: so it is with older clients, such as AWS CLI 2.9, whose calls cannot be told apart.
    pub fn of(headers: &HeaderMap) -> Option<SdkCall> {
        const NAMES: [&str; 2] = ["amz-sdk-invocation-id", "amz-sdk-request"];
        if NAMES.iter().all(|name| !headers.contains_key(*name)) {
            return None;
        }
        let mut hash = Sha256::new();
        for name in NAMES {
            let values = headers.get_all(name);
            hash.update((values.iter().count() as u64).to_be_bytes());
            for value in values {
                hash.update((value.len() as u64).to_be_bytes());
                hash.update(value);
            }
        }
        let hash: [u8; 32] = hash.finalize().into();
        Some(SdkCall(hash[..16].try_into().expect("SHA-256 is longer")))
    }
}

impl Use {
    /// Whether this is another call, or may be one, soon enough.
    fn may_come_again(&self, call: Option<SdkCall>, now: i64) -> bool {
        let Some(calls) = self.calls.as_ref().filter(|_| is_soon(self.first, now)) else { return false };
        call.is_none_or(|call| calls.len() < CALLS_MAX && !calls.contains(&call))
    }
}

/// Either way: a clock that is set back must not make a recorded request fresh again.
fn is_soon(first: i64, now: i64) -> bool {
    (now - first).abs() <= GRACE_SECONDS
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
        for (until, first, signature, call) in text.lines().filter_map(parse) {
            seen.open(signature, call, first, until);
        }
        seen.forget_before(now);
        // A disk that is full has no room for another file; the one that is there is good still.
        seen.kept = Some(seen.write_all(path).or_else(|_| Kept::open(path, &text))?);
        Ok(Replays { seen: Mutex::new(seen) })
    }

    /// Whether a changing request with this signature, of this call, may go on at `now`; remembers it until `until`
    /// (both seconds since 1970).
    ///
    /// # Errors
    /// It cannot be kept, and so must not go on: the next server would let it through again. It is as if it had not come.
    pub fn admit(&self, signature: &str, call: Option<SdkCall>, now: i64, until: i64) -> io::Result<bool> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.forget_before(now);
        if seen.used.get(signature).is_some_and(|used| !used.may_come_again(call, now)) {
            return Ok(false);
        }
        let first = seen.used.get(signature).map_or(now, |used| used.first);
        seen.write(signature, call, first, until)?;
        seen.open(signature, call, first, until);
        Ok(true)
    }
}

impl Kept {
    /// The file as it is, whose text is known.
    fn open(path: &Path, text: &str) -> io::Result<Kept> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let is_torn = !text.is_empty() && !text.ends_with('\n');
        make_room(&file);
        Ok(Kept { path: path.to_owned(), file, lines: text.lines().count(), is_torn })
    }

    /// Adds a line, or at most the beginning of one, which the next one does not go on with.
    fn add(&mut self, line: &str) -> io::Result<()> {
        let end = if self.is_torn { "\n" } else { "" };
        self.is_torn = true;
        self.file.write_all(format!("{end}{line}").as_bytes())?;
        self.is_torn = false;
        self.lines += 1;
        if self.lines.is_multiple_of(ROOM_EVERY) {
            make_room(&self.file);
        }
        Ok(())
    }
}

impl Seen {
    fn forget_before(&mut self, now: i64) {
        while self.by_age.len() >= CAPACITY
            || self.by_age.front().is_some_and(|(until, _)| until + CLOCK_JUMP_SECONDS < now)
        {
            match self.by_age.pop_front() {
                Some((_, signature)) => self.used.remove(&signature),
                None => break,
            };
        }
        while let Some((_, signature)) = self.open.pop_front_if(|(first, _)| !is_soon(*first, now)) {
            if let Some(used) = self.used.get_mut(&signature) {
                used.calls = None;
            }
        }
    }

    /// Remembers a call of a signature, which may be known.
    fn open(&mut self, signature: &str, call: Option<SdkCall>, first: i64, until: i64) {
        if !self.used.contains_key(signature) {
            self.used.insert(signature.to_owned(), Use { first, calls: Some(HashSet::new()) });
            self.by_age.push_back((until, signature.to_owned()));
            self.open.push_back((first, signature.to_owned()));
        }
        let calls = self.used.get_mut(signature).and_then(|used| used.calls.as_mut());
        if let (Some(calls), Some(call)) = (calls, call) {
            calls.insert(call);
        }
    }

    /// Adds the line of a call that is to be remembered.
    fn write(&mut self, signature: &str, call: Option<SdkCall>, first: i64, until: i64) -> io::Result<()> {
        if let Some(kept) = &self.kept
            && kept.lines >= LINES_MAX
        {
            self.kept = Some(self.write_all(&kept.path)?);
        }
        self.kept.as_mut().map_or(Ok(()), |kept| kept.add(&line(until, first, signature, call)))
    }

    /// The file with what is remembered, and nothing else.
    fn write_all(&self, path: &Path) -> io::Result<Kept> {
        let lines = self.by_age.iter().flat_map(|(until, signature)| {
            let used = self.used.get(signature);
            let first = used.map_or(*until, |used| used.first);
            let calls = used.and_then(|used| used.calls.as_ref()).into_iter().flatten();
            let mut lines: Vec<String> =
                calls.map(|call| line(*until, first, signature, Some(*call))).collect();
            if lines.is_empty() {
                lines.push(line(*until, first, signature, None));
            }
            lines
        });
        let lines: Vec<String> = lines.collect();
        let text = lines.concat();
        let temporary = path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        make_room(&file);
        fs::rename(&temporary, path)?;
        Ok(Kept { path: path.to_owned(), file, lines: lines.len(), is_torn: false })
    }
}

/// As far as the file system does that, and has it.
fn make_room(file: &File) {
    if let Ok(metadata) = file.metadata() {
        let _ = fallocate(file, FallocateFlags::KEEP_SIZE, metadata.len(), ROOM_BYTES);
    }
}

fn line(until: i64, first: i64, signature: &str, call: Option<SdkCall>) -> String {
    let call = call.map(|call| format!(" {:032x}", u128::from_be_bytes(call.0)));
    format!("{until} {first} {signature}{}\n", call.unwrap_or_default())
}

fn parse(line: &str) -> Option<(i64, i64, &str, Option<SdkCall>)> {
    let mut parts = line.split(' ');
    let (until, first, signature) = (parts.next()?, parts.next()?, parts.next()?);
    let call = match parts.next() {
        Some(digits) if digits.len() == 32 => {
            Some(SdkCall(u128::from_str_radix(digits, 16).ok()?.to_be_bytes()))
        }
        Some(_) => return None,
        None => None,
    };
    let whole = signature.len() == 64 && parts.next().is_none();
    Some((until.parse().ok()?, first.parse().ok()?, signature, call)).filter(|_| whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(id: &str) -> Option<SdkCall> {
        let mut headers = HeaderMap::new();
        headers.insert("amz-sdk-invocation-id", id.parse().unwrap());
        SdkCall::of(&headers)
    }

    /// Admits what carries no headers of an SDK.
    impl Replays {
        fn plain(&self, signature: &str, now: i64, until: i64) -> bool {
            self.admit(signature, SdkCall::of(&HeaderMap::new()), now, until).unwrap()
        }
    }

    // AP-004
    #[test]
    fn the_next_server_knows_what_was_used_and_forgets_what_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replays");
        let (new, old) = ("a".repeat(64), "b".repeat(64));
        let first = Replays::kept(&path, 100).unwrap();
        assert!(first.plain(&old, 100, 400));
        assert!(first.plain(&new, 100_000, 100_300));
        drop(first);
        // As after a kill in the middle of a line.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"100300 100000 cccc").unwrap();
        let second = Replays::kept(&path, 100_010).unwrap();
        assert!(!second.plain(&new, 100_010, 100_300));
        assert!(!second.plain(&new, 100_100, 100_300));
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("100300 100000 {new}\n"));
        assert!(second.plain(&old, 100_010, 100_310));
        assert!(!Replays::kept(&path, 100_050).unwrap().plain(&old, 100_050, 100_310));
    }

    #[test]
    fn the_file_has_room_ahead_of_its_end() {
        use std::os::unix::fs::MetadataExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replays");
        let replays = Replays::kept(&path, 100).unwrap();
        for number in 0..2 * ROOM_EVERY {
            assert!(replays.plain(&format!("{number:064}"), 100, 400));
        }
        let ahead = |path: &Path| {
            let metadata = fs::metadata(path).unwrap();
            metadata.blocks() * 512 - metadata.len()
        };
        assert!(ahead(&path) >= ROOM_BYTES / 2, "{}", ahead(&path));
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
        let refused = replays.admit(&first, call("1"), 100, 400).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        replays.seen.lock().unwrap().kept = whole;
        assert!(replays.plain(&first, 110, 400), "nothing was done yet");
        assert!(!replays.plain(&first, 120, 400));
        // As a disk leaves it that had room for a part of a line.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"400 120 cc").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let torn = Kept::open(&path, &text).unwrap();
        assert!(torn.is_torn);
        replays.seen.lock().unwrap().kept = Some(torn);
        assert!(replays.plain(&second, 130, 400));
        assert!(!Replays::kept(&path, 140).unwrap().plain(&second, 140, 400));
    }

    // AP-004
    #[test]
    fn the_same_bytes_again_are_refused_at_once() {
        let replays = Replays::default();
        assert!(replays.plain("a", 100, 400));
        assert!(replays.plain("a", 105, 400), "without headers of an SDK");
        assert!(!replays.plain("a", 106, 400));
        assert!(replays.admit("b", call("1"), 100, 400).unwrap());
        assert!(!replays.admit("b", call("1"), 100, 400).unwrap());
        assert!(!replays.admit("b", call("1"), 400, 400).unwrap());
    }

    // AP-004
    #[test]
    fn two_calls_or_attempts_in_one_second_are_meant_and_only_then() {
        let replays = Replays::default();
        assert!(replays.admit("a", call("1"), 100, 400).unwrap());
        assert!(replays.admit("a", call("2"), 105, 400).unwrap());
        assert!(replays.plain("a", 105, 400));
        assert!(!replays.admit("a", call("2"), 105, 400).unwrap());
        assert!(!replays.admit("a", call("3"), 106, 400).unwrap());
        assert!(!replays.admit("a", call("4"), 105, 400).unwrap(), "the clock is set back");
    }

    #[test]
    fn a_call_is_known_by_both_headers_as_they_were_sent() {
        let of = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            SdkCall::of(&headers)
        };
        let (id, request) = ("amz-sdk-invocation-id", "amz-sdk-request");
        let calls = [
            of(&[]),
            of(&[(id, "")]),
            of(&[(request, "")]),
            of(&[(id, "ab")]),
            of(&[(id, "a"), (id, "b")]),
            of(&[(id, "ab"), (request, "attempt=1")]),
            of(&[(id, "ab"), (request, "attempt=2")]),
        ];
        assert_eq!(HashSet::from(calls).len(), calls.len());
        assert_eq!(of(&[(request, "r"), (id, "i"), ("x-other", "1")]), of(&[(id, "i"), (request, "r")]));
    }

    #[test]
    fn calls_of_one_signature_are_bounded_and_forgotten_when_none_is_accepted_any_more() {
        let replays = Replays::default();
        for n in 0..CALLS_MAX {
            assert!(replays.admit("a", call(&n.to_string()), 100, 400).unwrap());
        }
        assert!(!replays.admit("a", call("one more"), 100, 400).unwrap());
        assert!(replays.plain("b", 106, 400));
        let seen = replays.seen.lock().unwrap();
        assert_eq!((seen.used["a"].calls.is_none(), seen.open.len()), (true, 1));
    }

    // AP-004
    #[test]
    fn the_next_server_knows_the_calls_of_a_signature_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("replays");
        let signature = "a".repeat(64);
        let first = Replays::kept(&path, 100).unwrap();
        assert!(first.admit(&signature, call("1"), 100, 400).unwrap());
        assert!(first.admit(&signature, call("2"), 101, 400).unwrap());
        // As it is written, and as it is written anew.
        for (now, number) in [(101, "3"), (102, "4")] {
            let next = Replays::kept(&path, now).unwrap();
            for used in ["1", "2"] {
                assert!(!next.admit(&signature, call(used), now, 400).unwrap());
            }
            assert!(next.admit(&signature, call(number), now, 400).unwrap());
            assert!(!next.admit(&signature, call(number), now, 400).unwrap());
        }
        let last = Replays::kept(&path, 106).unwrap();
        assert!(!last.admit(&signature, call("5"), 106, 400).unwrap());
    }

    #[test]
    fn a_clock_that_jumps_does_not_make_a_recorded_request_fresh() {
        let replays = Replays::default();
        assert!(replays.plain("a", 100, 400));
        assert!(replays.plain("b", 40_000, 40_300));
        assert!(!replays.plain("a", 120, 400), "ahead and back again");
        assert!(replays.plain("c", 200, 500));
        assert!(!replays.plain("c", 150, 500), "back");
        assert!(replays.admit("d", call("1"), 200, 500).unwrap());
        assert!(replays.admit("d", call("2"), 199, 500).unwrap(), "set by a second");
    }

    #[test]
    fn memory_is_bounded() {
        let replays = Replays::default();
        for n in 0..CAPACITY + 10 {
            assert!(replays.plain(&n.to_string(), 100, 400));
        }
        assert!(replays.seen.lock().unwrap().by_age.len() <= CAPACITY);
        assert!(replays.plain("fresh", 100_000, 100_300));
        assert_eq!(replays.seen.lock().unwrap().used.len(), 1);
    }
}

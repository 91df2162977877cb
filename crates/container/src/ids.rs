//! Which ids containers have: a range of 65,536 for each that root makes, never shared by two at a time; all that an ordinary user was
//! given, for those of a user who took them (`subordinate.rs`); or that user's own.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use libc::c_int;
use rustix::fs::{FlockOperation, flock};
use rustix::process::Pid;

use crate::error::{Doing, Error};
use crate::sys;

pub(crate) const RANGE: u32 = 65_536;
/// Above what distributions and subuid files hand out.
const FIRST: u32 = 0x1000_0000;
const SLOTS: u32 = (u32::MAX - FIRST) / RANGE - 1;
const LOCKS: &str = "/run/buildyard/ids";

/// Whether this process is root of the whole host, rather than of a container: only then has it ids to give.
pub fn rules_the_host() -> bool {
    standing() == Standing::Host
}

/// Whose containers this process makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The host's root: each has a range of its own.
    Host,
    /// Root of a user namespace with many ids: each has those.
    Namespace,
    /// Anybody else: each has one.
    One,
}

pub(crate) fn standing() -> Standing {
    let may_administer = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(rustix::thread::CapabilitySet::SYS_ADMIN));
    if !rustix::process::geteuid().is_root() || !may_administer {
        return Standing::One;
    }
    let map = |kind: &str| fs::read_to_string(format!("/proc/self/{kind}")).unwrap_or_default();
    let (users, groups) = (map("uid_map"), map("gid_map"));
    match users.split_ascii_whitespace().eq(["0", "0", "4294967295"]) {
        true => Standing::Host,
        false if covers_a_range(&users) && covers_a_range(&groups) => Standing::Namespace,
        false => Standing::One,
    }
}

/// Whether a map, in which the kernel has the lines by their first number, gives all ids of a container a meaning.
fn covers_a_range(map: &str) -> bool {
    let end =
        extents(map).try_fold(0, |end, (first, count)| (first <= end).then_some(end.max(first + count)));
    end.is_some_and(|end| end >= u64::from(RANGE))
}

/// Of a map: the first number inside, and how many follow.
fn extents(map: &str) -> impl Iterator<Item = (u64, u64)> {
    map.lines().filter_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse);
        Some((numbers.next()?.ok()?, numbers.nth(1)?.ok()?))
    })
}

/// The map, `uid_map` or `gid_map`, of a container that has all ids of this process's user namespace, as far as a container's go. The kernel
/// takes nothing that lies across two lines of our own map.
fn all_of_ours(kind: &str) -> io::Result<String> {
    let own = fs::read_to_string(format!("/proc/self/{kind}"))?;
    let within = extents(&own).filter(|(first, _)| *first < u64::from(RANGE));
    let lines =
        within.map(|(first, count)| format!("{first} {first} {}\n", count.min(u64::from(RANGE) - first)));
    Ok(lines.collect())
}

/// A range that is ours while this lives; the lock goes with the process, however it ends.
#[derive(Debug)]
pub(crate) struct IdRange {
    /// The id outside that is 0 inside.
    pub(crate) first: u32,
    path: PathBuf,
    _lock: File,
}

impl IdRange {
    /// Takes a free range, the `wanted` one if it can. Names start at different places, so that a range is rarely used again soon.
    pub(crate) fn take(name: &str, wanted: Option<u32>) -> Result<IdRange, Error> {
        let folder = Path::new(LOCKS);
        fs::create_dir_all(folder).doing("make the folder of id locks")?;
        let start = wanted.and_then(slot_of).unwrap_or_else(|| spread(name));
        for offset in 0..SLOTS {
            let slot = (start + offset) % SLOTS;
            let path = folder.join(slot.to_string());
            if let Some(lock) = lock(&path).doing("lock a range of ids")? {
                return Ok(IdRange { first: FIRST + slot * RANGE, path, _lock: lock });
            }
        }
        Err(Error::Failed { what: "take a range of ids".into(), source: io::ErrorKind::ResourceBusy.into() })
    }
}

/// Its number among all ranges.
pub(crate) fn slot_of(first: u32) -> Option<u32> {
    let above = first.checked_sub(FIRST)?;
    (above.is_multiple_of(RANGE) && above / RANGE < SLOTS).then_some(above / RANGE)
}

/// A user namespace by which a mount shows the ids from `owner` on as those from `first` on.
pub(crate) fn shifted(owner: u32, first: u32) -> io::Result<OwnedFd> {
    let [user] = namespaces([USER], |process| map_range(process, owner, first))?;
    Ok(user)
}

/// As `/proc/self/ns` calls it, with its `CLONE_NEW*`.
pub(crate) const USER: (&str, c_int) = ("user", libc::CLONE_NEWUSER);

/// New namespaces of these kinds, [`USER`] among them, that nobody is in. `map` maps the ids of the process that is shown to it.
pub(crate) fn namespaces<const N: usize>(
    kinds: [(&str, c_int); N],
    map: impl FnOnce(Pid) -> io::Result<()>,
) -> io::Result<[OwnedFd; N]> {
    let (hold, held) = sys::child_in_namespaces(kinds.iter().fold(0, |all, (_, flag)| all | flag))?;
    let open = |(kind, _): (&str, _)| File::open(format!("/proc/{}/ns/{kind}", held.as_raw_nonzero()));
    let opened = map(held).and_then(|()| kinds.into_iter().map(open).collect::<io::Result<Vec<File>>>());
    drop(hold);
    sys::wait_for_exit(held)?;
    let opened: [File; N] = opened?.try_into().expect("one of each kind");
    Ok(opened.map(OwnedFd::from))
}

/// Maps the ids from `inside` on to those from `outside` on.
pub(crate) fn map_range(process: Pid, inside: u32, outside: u32) -> io::Result<()> {
    map(process, |_| Ok(format!("{inside} {outside} {RANGE}")))
}

/// Gives a process in a user namespace below this process's own all ids of that one.
pub(crate) fn map_all_of_ours(process: Pid) -> io::Result<()> {
    map(process, all_of_ours)
}

fn map(process: Pid, text: impl Fn(&str) -> io::Result<String>) -> io::Result<()> {
    let folder = PathBuf::from(format!("/proc/{}", process.as_raw_nonzero()));
    ["uid_map", "gid_map"].iter().try_for_each(|kind| fs::write(folder.join(kind), text(kind)?))
}

/// Removes the lock files of processes that died; those in use are locked.
pub(crate) fn sweep() {
    for entry in fs::read_dir(LOCKS).into_iter().flatten().flatten() {
        if let Ok(Some(_held)) = lock(&entry.path()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

impl Drop for IdRange {
    fn drop(&mut self) {
        // Still locked, so nobody else can have taken it; a failure leaves an empty file in /run.
        let _ = fs::remove_file(&self.path);
    }
}

/// Locks the file, unless someone else holds it or has just removed it.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = File::options().create(true).truncate(false).write(true).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    let is_same =
        fs::metadata(path).is_ok_and(|now| file.metadata().is_ok_and(|ours| ours.ino() == now.ino()));
    Ok(is_same.then_some(file))
}

/// FNV-1a.
fn spread(name: &str) -> u32 {
    let hash =
        name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_ranges_lie_within_the_ids_there_are() {
        let last = u64::from(FIRST) + u64::from(SLOTS) * u64::from(RANGE);
        assert!(last < u64::from(u32::MAX));
        assert!(spread("a") != spread("b"));
    }

    #[test]
    fn a_map_covers_a_range_if_no_id_is_missing() {
        for enough in ["0 100000 65536\n", "0 1000 1\n1 100000 65535\n", "0 0 4294967295\n"] {
            assert!(covers_a_range(enough), "{enough}");
        }
        for little in [
            "",
            "broken\n",
            "0 1000 1\n",
            "0 1000 1\n1 100000 65534\n",
            "0 1000 1\n2 100000 70000\n",
            "1 1 70000\n",
        ] {
            assert!(!covers_a_range(little), "{little}");
        }
    }

    #[test]
    fn a_range_is_found_by_its_first_id() {
        assert_eq!(slot_of(FIRST), Some(0));
        assert_eq!(slot_of(FIRST + 7 * RANGE), Some(7));
        for other in [0, 1000, FIRST - 1, FIRST + 1] {
            assert_eq!(slot_of(other), None);
        }
    }

    #[test]
    fn a_locked_file_is_refused_until_it_is_let_go() {
        let path = std::env::temp_dir().join(format!("ids-{}", std::process::id()));
        let held = lock(&path).unwrap();
        assert!(held.is_some());
        assert!(lock(&path).unwrap().is_none());
        drop(held);
        assert!(lock(&path).unwrap().is_some());
        fs::remove_file(path).unwrap();
    }
}

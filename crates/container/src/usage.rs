//! What a container has used so far, as the kernel counts it. Where cgroups count something, they are asked; for the rest init is, who buries
//! everybody inside and so has what they used, and with it those who live still.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, StatxFlags, openat, statx};

/// Since the container was made, but for what is said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of processors; milliseconds. Where cgroups do not count it, of everything but processes that were let go unseen.
    pub cpu_millis: u64,
    /// Now, bytes. Where cgroups do not count it, memory that several processes share counts for each.
    pub memory_bytes: Option<u64>,
    /// The most at once, since the container was made or since [`crate::Container::restart_memory_peak`]; `None` where no cgroup counts it.
    pub memory_peak_bytes: Option<u64>,
    /// Of block devices; `None` where the kernel does not tell.
    pub disk: Option<Disk>,
    /// Bytes that came in and went out by [`crate::Network::Egress`].
    pub network: Option<Traffic>,
}

/// What had to be fetched from disks and is to be written to them: what was in memory already, or stays there, is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    pub read_bytes: u64,
    pub written_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

/// Of a second, in which the kernel counts for programs (`USER_HZ`), whatever it counts in itself. Asking for it needs a file that
/// processes without rights cannot read on older kernels.
const TICKS: u64 = 100;
/// Processes that are looked at; a build that has more of them is told to use less.
const MOST_PROCESSES: usize = 1024;
/// Files and folders that are looked at, and how deep, until it is not worth waiting for.
const MOST_FILES: usize = 50_000;
const DEEPEST: usize = 64;

/// What processes have used, together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    ticks: u64,
    resident_pages: u64,
    /// Of everybody, or of nobody.
    pub(crate) disk: Option<Disk>,
}

impl Tally {
    /// Of init and all that descend from it, what they have buried included.
    pub(crate) fn of(init: i32) -> Tally {
        let mut all = Tally { disk: Some(Disk::default()), ..Tally::default() };
        let mut open = vec![init];
        let mut seen = 0;
        while let Some(process) = open.pop().filter(|_| seen < MOST_PROCESSES) {
            seen += 1;
            all.add(process, process == init);
            open.extend(children(process));
        }
        all
    }

    fn add(&mut self, process: i32, is_init: bool) {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let (ticks, resident) = parse_stat(&stat).unwrap_or_default();
        self.ticks += ticks;
        self.resident_pages += resident;
        let io = fs::read_to_string(format!("/proc/{process}/io")).ok().and_then(|text| parse_io(&text));
        match (&mut self.disk, io) {
            (Some(sum), Some(more)) => {
                sum.read_bytes += more.read_bytes;
                sum.written_bytes += more.written_bytes;
            }
            // Others end while they are looked at. Without init's there is nothing to be told.
            (_, None) if is_init => self.disk = None,
            _ => {}
        }
    }

    pub(crate) fn cpu_millis(&self) -> u64 {
        self.ticks * 1000 / TICKS
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        // SAFETY: it asks for a constant.
        self.resident_pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) }.cast_unsigned()
    }
}

fn children(process: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    let listed =
        threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    listed
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Ticks (user and system, its own and those of its children that ended) and pages in memory. The name before them may hold anything.
fn parse_stat(stat: &str) -> Option<(u64, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let times = fields.by_ref().take(4).map(|field| field.parse::<u64>().ok()).sum::<Option<u64>>()?;
    Some((times, fields.nth(6)?.parse().ok()?))
}

fn parse_io(io: &str) -> Option<Disk> {
    let field = |name: &str| io.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    let (written, taken_back) = (field("write_bytes:")?, field("cancelled_write_bytes:")?);
    Some(Disk { read_bytes: field("read_bytes:")?, written_bytes: written.saturating_sub(taken_back) })
}

/// As the host's side of an interface pair has counted them.
pub(crate) fn traffic(interface: &str) -> Option<Traffic> {
    let counter = |name: &str| {
        let path = Path::new("/sys/class/net").join(interface).join("statistics").join(name);
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    Some(Traffic { received_bytes: counter("tx_bytes")?, sent_bytes: counter("rx_bytes")? })
}

/// How much of its disk the container has taken.
pub(crate) fn of_disk(init: i32) -> Option<u64> {
    let disk = rustix::fs::statvfs(format!("/proc/{init}/root")).ok()?;
    Some((disk.f_blocks - disk.f_bfree) * disk.f_frsize)
}

/// How much room everything below a folder takes; `None` if that is too much to look at. What is written there meanwhile may count or not.
pub(crate) fn of_folder(folder: &Path) -> Option<u64> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(CWD, folder, flags, Mode::empty()).ok()?;
    let mut left = MOST_FILES;
    below(&folder, &mut left, DEEPEST)
}

fn below(folder: &OwnedFd, left: &mut usize, depth: usize) -> Option<u64> {
    const BLOCK: u64 = 512;
    let mut bytes = 0;
    for entry in Dir::read_from(folder).ok()?.flatten() {
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        *left = left.checked_sub(1)?;
        let wanted = StatxFlags::TYPE | StatxFlags::NLINK | StatxFlags::BLOCKS;
        let Ok(stat) = statx(folder, name, AtFlags::SYMLINK_NOFOLLOW, wanted) else { continue };
        if FileType::from_raw_mode(stat.stx_mode.into()) != FileType::Directory {
            // A file of several names counts once, if they are all here.
            bytes += stat.stx_blocks * BLOCK / u64::from(stat.stx_nlink).max(1);
            continue;
        }
        bytes += stat.stx_blocks * BLOCK;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(within) = openat(folder.as_fd(), name, flags, Mode::empty()) else { continue };
        bytes += below(&within, left, depth.checked_sub(1)?)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_behind_any_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 200 0 0 1 20 300 4000 20 0 1 0 99 8192 55 18446744073709551615";
        assert_eq!(parse_stat(stat), Some((4321, 55)));
        assert_eq!(parse_stat(""), None);
        let io = "rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 4096\nwrite_bytes: 12288\ncancelled_write_bytes: 4096\n";
        // What was thrown away before it was written was not written.
        assert_eq!(parse_io(io), Some(Disk { read_bytes: 4096, written_bytes: 8192 }));
        assert_eq!(parse_io("read_bytes: 4096\n"), None);
    }

    #[test]
    fn a_folder_is_added_up_with_what_is_below_it_and_links_are_not_followed() {
        let folder = std::env::temp_dir().join(format!("usage-{}", std::process::id()));
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::write(folder.join("a/b/file"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(folder.join("a/b/file"), folder.join("same")).unwrap();
        std::os::unix::fs::symlink("/usr", folder.join("link")).unwrap();
        let bytes = of_folder(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert!((1 << 20..(1 << 20) + 100_000).contains(&bytes), "{bytes}");
        assert_eq!(of_folder(&folder), None);
    }
}

//! What a container has used so far, as the kernel counts it: nothing is sampled, and asking costs three small files.

use std::fs;
use std::path::Path;

/// Since the container was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Of processors, by everything that has ended inside; milliseconds, in the kernel's ticks of 10.
    pub cpu_millis: u64,
    /// The most memory used at once, bytes; `None` where no cgroup counts it.
    pub memory_peak_bytes: Option<u64>,
    /// Bytes that came in and went out by [`crate::Network::Egress`].
    pub network: Option<Traffic>,
    /// What everything that has ended inside had read from disks and written to them; `None` where the kernel does not tell.
    pub storage: Option<Storage>,
}

/// What the page cache answered, or took and threw away again, is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Storage {
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

/// Init buries everybody inside, and so has their time.
pub(crate) fn cpu_millis(init: i32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{init}/stat")).unwrap_or_default();
    parse_stat(&stat).unwrap_or_default() * 1000 / TICKS
}

/// Ticks: user and system, its own and those of its children that ended. The name before them may hold anything.
fn parse_stat(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let times = fields.split_ascii_whitespace().skip(11).take(4);
    times.map(|field| field.parse::<u64>().ok()).sum()
}

/// Of everybody whom init has buried, as with processor time.
pub(crate) fn storage(init: i32) -> Option<Storage> {
    parse_io(&fs::read_to_string(format!("/proc/{init}/io")).ok()?)
}

fn parse_io(io: &str) -> Option<Storage> {
    let field = |name: &str| io.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
    let (written, taken_back) = (field("write_bytes:")?, field("cancelled_write_bytes:")?);
    Some(Storage { read_bytes: field("read_bytes:")?, written_bytes: written.saturating_sub(taken_back) })
}

/// As the host's side of an interface pair has counted them.
pub(crate) fn traffic(interface: &str) -> Option<Traffic> {
    let counter = |name: &str| {
        let path = Path::new("/sys/class/net").join(interface).join("statistics").join(name);
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    Some(Traffic { received_bytes: counter("tx_bytes")?, sent_bytes: counter("rx_bytes")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_thrown_away_before_it_was_written_was_not_written() {
        let io = "rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 4096\nwrite_bytes: 8192\n\
                  cancelled_write_bytes: 4096\n";
        assert_eq!(parse_io(io), Some(Storage { read_bytes: 4096, written_bytes: 4096 }));
        assert_eq!(parse_io("rchar: 1\n"), None);
        assert!(storage(i32::try_from(std::process::id()).unwrap()).is_some());
    }

    #[test]
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 200 0 0 1 20 300 4000 20 0 1 0";
        assert_eq!(parse_stat(stat), Some(4321));
        assert_eq!(parse_stat(""), None);
    }
}

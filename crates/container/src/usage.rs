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
    fn times_are_found_behind_any_name() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 100 200 0 0 1 20 300 4000 20 0 1 0";
        assert_eq!(parse_stat(stat), Some(4321));
        assert_eq!(parse_stat(""), None);
    }
}

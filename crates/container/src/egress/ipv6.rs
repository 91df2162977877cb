//! IPv6 of the network that leads out, for root's containers: whether there is any, its addresses, and how the host passes it on. The policy
//! is in the same table as that of IPv4.
//!
//! Containers get addresses that are unique to this host and leave by the host's own. Where the host has no way out by IPv6, they have
//! neither address nor route, so that a program that tries is told at once and goes on by IPv4.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv6Addr;
use std::path::Path;

use crate::error::{Doing, Error};

/// Of both sides; two for each range of ids.
pub(super) const BLOCK: Ipv6Addr = Ipv6Addr::new(0xfd62, 0x6c64, 0x7972, 0, 0, 0, 0, 0);
pub(super) const PAIR_PREFIX: u8 = 127;

/// All that is not global unicast: loopback, mapped and translated IPv4 (`::ffff:0:0/96`, `64:ff9b::/96`), unique local (the cloud's metadata among it),
/// of one link, of several hosts, not given out. And two ways to wrap IPv4 into it: Teredo and 6to4.
pub(super) const DENIED: [&str; 5] = ["::/3", "4000::/2", "8000::/1", "2001::/32", "2002::/16"];

/// The same, and what IANA has set apart besides.
pub(super) const DENIED_TO_FETCHING: [&str; 7] =
    ["::/3", "4000::/2", "8000::/1", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"];

const SETTINGS: &str = "/proc/sys/net/ipv6/conf";
/// Since Linux 6.17: an interface's own, whatever the host does.
const ONE_FORWARDS: &str = "force_forwarding";

/// The host's address and the container's.
pub(super) fn pair(slot: u32) -> (Ipv6Addr, Ipv6Addr) {
    let outside = u128::from(BLOCK) + 2 * u128::from(slot);
    (outside.into(), (outside + 1).into())
}

/// Whether this host has a route to everywhere and an address that everybody could answer to.
pub(super) fn leads_out() -> bool {
    let addresses = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    has_global_address(&addresses) && !default_interfaces().is_empty()
}

/// Lets the interfaces of default routes forward.
///
/// Before Linux 6.17 that is for the host to do as a whole. A host that forwards listens to advertisements of its router no longer, by
/// which it may have its address, unless it is told to listen all the same.
pub(super) fn forward_defaults() -> Result<(), Error> {
    let defaults = default_interfaces();
    if defaults.iter().all(|name| setting(name, ONE_FORWARDS).exists()) {
        return defaults.iter().try_for_each(|name| forward(name));
    }
    for listens in defaults.iter().map(|name| setting(name, "accept_ra")) {
        if fs::read_to_string(&listens).is_ok_and(|text| text.trim() == "1") {
            fs::write(&listens, "2").doing(format!("write {}", listens.display()))?;
        }
    }
    let all = setting("all", "forwarding");
    fs::write(&all, "1").doing(format!("write {}", all.display()))
}

/// Lets one interface forward, where the host has to be told of each.
pub(super) fn forward(interface: &str) -> Result<(), Error> {
    let path = setting(interface, ONE_FORWARDS);
    match path.exists() {
        true => fs::write(&path, "1").doing(format!("write {}", path.display())),
        false => Ok(()),
    }
}

pub(super) fn set(name: &str, elements: &[impl AsRef<str>]) -> String {
    super::set_of("ipv6_addr", name, elements)
}

fn setting(interface: &str, name: &str) -> std::path::PathBuf {
    Path::new(SETTINGS).join(interface).join(name)
}

fn default_interfaces() -> BTreeSet<String> {
    parse_routes(&fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default())
}

/// Destination, its length, source, its length, next hop, metric, two counters, flags, interface.
fn parse_routes(text: &str) -> BTreeSet<String> {
    const REJECTS: u32 = 0x200;
    let default = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [destination, length, .., flags, name] = fields.as_slice() else { return None };
        let goes_everywhere = destination.bytes().all(|digit| digit == b'0') && *length == "00";
        let rejects = u32::from_str_radix(flags, 16).ok()? & REJECTS != 0;
        (goes_everywhere && !rejects).then(|| (*name).to_owned())
    };
    text.lines().filter_map(default).collect()
}

/// Global unicast is what begins with the bits 001.
fn has_global_address(text: &str) -> bool {
    text.lines().any(|line| line.starts_with(['2', '3']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 20010db8000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n\
        20010db8000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth1\n\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo\n";

    #[test]
    fn default_routes_name_the_interfaces_that_lead_out() {
        assert_eq!(parse_routes(ROUTES), BTreeSet::from(["eth0".to_owned()]));
        assert!(parse_routes("").is_empty());
    }

    #[test]
    fn an_address_of_ones_own_is_not_global() {
        let line = |address: &str| format!("{address} 04 40 00 80     eth0\n");
        let [own, link] = ["fd000000000000000000000000000002", "fe8000000000000000fc00fffe000001"].map(line);
        assert!(!has_global_address(&format!("{own}{link}")));
        assert!(has_global_address(&format!("{own}{}", line("20010db8000000000000000000000002"))));
    }

    #[test]
    fn every_range_of_ids_has_addresses_of_its_own() {
        let (outside, inside) = pair(61_000);
        assert_eq!(outside.to_string(), "fd62:6c64:7972::1:dc90");
        assert_eq!(inside.to_string(), "fd62:6c64:7972::1:dc91");
    }
}

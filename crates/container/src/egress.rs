//! A network that leads out and nowhere else: for root's containers a pair of interfaces each, and one firewall table of the host for all of
//! them ([`prepare_egress`]), with one more for those that only fetch ([`prepare_fetching`]), since the operator allows those other things; for
//! an ordinary user's see [`user`].
//!
//! What a container may reach is decided on the host's side, so it holds whatever happens inside: addresses of the internet, and what the operator
//! names; not the host itself, not other containers, not private, link-local and other special addresses. The pair ends with
//! the container's network, by the kernel's own doing. IPv6 leads out where the host's does ([`ipv6`]).

mod ipv6;
pub(crate) mod user;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};

use crate::error::{Doing, Error};
use crate::ids::{self, rules_the_host};
use crate::netlink::Netlink;
use crate::spec::Network;

/// Interfaces of the host that lead to containers begin so.
const OURS: &str = "bldyr";

/// A kind of container that is led out, with rules of its own.
#[derive(Debug)]
struct Kind {
    /// Its interfaces of the host begin so; the table goes by it.
    prefix: &'static str,
    table: &'static str,
    /// What it does not reach unless it is allowed.
    denied: &'static [&'static str],
    denied_6: &'static [&'static str],
    /// This host can be among what is allowed.
    may_reach_host: bool,
}

const BUILDS: Kind = Kind {
    prefix: "bldyrd",
    table: "buildyard",
    denied: &DENIED,
    denied_6: &ipv6::DENIED,
    may_reach_host: false,
};
const FETCHING: Kind = Kind {
    prefix: "bldyrf",
    table: "buildyard_fetching",
    denied: &DENIED_TO_FETCHING,
    denied_6: &ipv6::DENIED_TO_FETCHING,
    may_reach_host: true,
};
/// The interface's name inside.
const INSIDE: &str = "eth0";
/// Addresses of both sides: of a block that is for measurements of networks and found in none. Two for each range of ids.
const BLOCK: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const PAIR_PREFIX: u8 = 31;
/// Where the host says whom it asks for names. The second is for hosts that ask themselves.
const RESOLVERS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
pub(crate) const PROGRAM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin";
/// More networks than these are not taken.
const MOST_ALLOWED: usize = 256;

/// What no container reaches unless it is allowed: networks that are private, shared, of one link, of the host, of several hosts, or reserved.
const DENIED: [&str; 9] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/3",
];

/// The same, and what IANA has set apart besides: a server of repositories is at an address that is public, or named by the operator.
const DENIED_TO_FETCHING: [&str; 17] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.31.196.0/24",
    "192.52.193.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "192.175.48.0/24",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/3",
];

/// One container's pair: outside the host's side, inside the container's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    name: String,
    outside: Ipv4Addr,
    inside: Ipv4Addr,
    /// The same, where the host's own IPv6 leads out.
    ipv6: Option<(Ipv6Addr, Ipv6Addr)>,
}

impl Pair {
    /// That of the container which has this range of ids, and so no other's; none if it is not led out.
    pub(crate) fn of(first_id: u32, network: Network) -> Option<Pair> {
        let prefix = match network {
            Network::Egress => BUILDS.prefix,
            Network::Fetching => FETCHING.prefix,
            Network::None | Network::Host => return None,
        };
        let slot = ids::slot_of(first_id)?;
        let outside = u32::from(BLOCK) + 2 * slot;
        let name = format!("{prefix}{slot}");
        let ipv6 = ipv6::leads_out().then(|| ipv6::pair(slot));
        Some(Pair { name, outside: outside.into(), inside: (outside + 1).into(), ipv6 })
    }

    /// The caller's part: makes both sides, and sets up the host's.
    pub(crate) fn connect(&self, init: i32) -> Result<(), Error> {
        let netlink = Netlink::open().doing("ask for interfaces")?;
        // The kernel may still be removing that of an earlier container.
        netlink.remove(&self.name).doing("remove an old interface")?;
        netlink.make_pair(&self.name, INSIDE, init).doing("make a pair of interfaces")?;
        netlink.set_up(&self.name, self.outside.into(), PAIR_PREFIX).doing("set an interface up")?;
        if let Some((outside, _)) = self.ipv6 {
            netlink.set_up(&self.name, outside.into(), ipv6::PAIR_PREFIX).doing("set an interface up")?;
            ipv6::forward(&self.name)?;
        }
        forward(&self.name)
    }

    /// Init's part.
    pub(crate) fn set_up_inside(&self) -> Result<(), Error> {
        let netlink = Netlink::open().doing("ask for interfaces")?;
        netlink.set_up(INSIDE, self.inside.into(), PAIR_PREFIX).doing("set an interface up")?;
        if let Some((outside, inside)) = self.ipv6 {
            netlink.set_up(INSIDE, inside.into(), ipv6::PAIR_PREFIX).doing("set an interface up")?;
            netlink.route_all(INSIDE, outside.into()).doing("set the route out")?;
        }
        netlink.route_all(INSIDE, self.outside.into()).doing("set the route out")
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The kernel does so too, but later.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        Netlink::open().and_then(|netlink| netlink.remove(&self.name)).doing("remove an interface")
    }
}

/// Makes this host ready for containers with [`crate::Network::Egress`], or changes what they may reach, at once: replaces the
/// table `inet buildyard` of nftables, and lets the interfaces of default routes forward. Takes the program `nft`.
/// `allowed` are networks such as `10.1.0.0/16` or `fd00:1::/32` that can be reached although they are private. For an ordinary user there is nothing to make, and
/// nothing to allow.
///
/// # Errors
/// [`Error::Invalid`] for what is no network, [`Error::Forbidden`] for an ordinary user without `slirp4netns`, [`Error::Failed`].
pub fn prepare_egress(allowed: &[String]) -> Result<(), Error> {
    prepare(&BUILDS, allowed)
}

/// The same for containers with [`crate::Network::Fetching`], by the table `inet buildyard_fetching`.
///
/// # Errors
/// As [`prepare_egress`]; [`Error::Forbidden`] also where the host lets nothing through to its neighbours that it is not told of.
pub fn prepare_fetching(allowed: &[String]) -> Result<(), Error> {
    if !rules_the_host() {
        return Err(Error::Forbidden {
            what: "a network of its own for fetching".into(),
            why: "it needs interfaces and a firewall table, which take root".into(),
            remedy: "Fetch by the host's network, or run as root".into(),
        });
    }
    match drops_what_is_forwarded(&load(nft(&["list", "chains"]), "")?) {
        true => Err(Error::Forbidden {
            what: "a network of its own for fetching".into(),
            why: "another firewall of this host drops what it forwards (as Docker's and ufw's do)".into(),
            remedy: "Let it forward what comes from interfaces named bldyrf*, or fetch by the host's network"
                .into(),
        }),
        false => prepare(&FETCHING, allowed),
    }
}

fn prepare(kind: &Kind, allowed: &[String]) -> Result<(), Error> {
    check_host()?;
    if !rules_the_host() {
        return match allowed {
            [] => Ok(()),
            _ => Err(Error::Forbidden {
                what: "to allow private networks".into(),
                why: "an ordinary user's network `egress` leads to none".into(),
                remedy: "Leave them out, or run as root".into(),
            }),
        };
    }
    let has_ipv6 = ipv6::leads_out();
    load(nft(&["-f", "-"]), &table(kind, allowed, &resolvers(), has_ipv6)?)?;
    if has_ipv6 {
        ipv6::forward_defaults()?;
    }
    default_interfaces().iter().try_for_each(|name| forward(name))
}

/// Going by what `nft list chains` says.
fn drops_what_is_forwarded(chains: &str) -> bool {
    chains.lines().any(|line| line.contains("hook forward") && line.contains("policy drop"))
}

/// # Errors
/// [`Error::Forbidden`] for an ordinary user without what that takes.
pub(crate) fn check_host() -> Result<(), Error> {
    if rules_the_host() { Ok(()) } else { user::check() }
}

fn forward(interface: &str) -> Result<(), Error> {
    let path = format!("/proc/sys/net/ipv4/conf/{interface}/forwarding");
    fs::write(&path, "1").doing(format!("write {path}"))
}

/// The firewall's program, which says what it finds and reads tables from its standard input.
fn nft(arguments: &[&str]) -> Command {
    let mut nft = Command::new("nft");
    nft.args(arguments).env("PATH", PROGRAM_PATH);
    nft.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    nft
}

/// What it says to this.
fn load(mut nft: Command, text: &str) -> Result<String, Error> {
    let doing = "use the firewall by `nft` (Debian's package nftables)";
    let mut nft = nft.spawn().doing(doing)?;
    if let Some(mut input) = nft.stdin.take() {
        input.write_all(text.as_bytes()).doing(doing)?;
    }
    let done = nft.wait_with_output().doing(doing)?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(io::Error::other(said.lines().next().unwrap_or_default().to_owned())).doing(doing)
}

/// The whole policy. The first lines make the replacement one step, whether there was a table or not. An ICMPv6 error comes back before
/// the socket that is connecting can take it, and costs the program a second; a reset does not.
fn table(kind: &Kind, allowed: &[String], resolvers: &[IpAddr], has_ipv6: bool) -> Result<String, Error> {
    if allowed.len() > MOST_ALLOWED {
        return Err(Error::Invalid(format!("at most {MOST_ALLOWED} networks can be allowed")));
    }
    for network in allowed {
        must_be_a_network(network)?;
    }
    let resolvers: Vec<String> = resolvers.iter().map(IpAddr::to_string).collect();
    let Kind { prefix, table, denied, denied_6, may_reach_host } = kind;
    let host = match may_reach_host {
        true => format!(
            "iifname \"{prefix}*\" ip daddr @allowed accept\n        iifname \"{prefix}*\" ip6 daddr @allowed_6 accept"
        ),
        false => String::new(),
    };
    let sets = [set("denied", denied), ipv6::set("denied_6", denied_6)];
    let named = [("allowed", allowed), ("resolvers", &resolvers)].map(|(name, all)| {
        let (six, four): (Vec<&String>, Vec<&String>) = all.iter().partition(|one| one.contains(':'));
        set(name, &four) + &ipv6::set(&format!("{name}_6"), &six)
    });
    let (sets, named) = (sets.concat(), named.concat());
    let no_ipv6 = match has_ipv6 {
        true => "",
        false => "meta nfproto ipv6 goto refuse",
    };
    let ipv6_block = ipv6::BLOCK;
    Ok(format!(
        r#"table inet {table}
delete table inet {table}
table inet {table} {{
{sets}{named}
    chain refuse {{
        meta nfproto ipv6 meta l4proto tcp reject with tcp reset
        reject with icmpx admin-prohibited
    }}
    chain from_containers {{
        fib saddr . iif oif missing drop
        ct state established,related accept
        {no_ipv6}
        fib daddr type {{ local, broadcast, anycast, multicast }} goto refuse
        oifname "{OURS}*" goto refuse
        ip daddr @resolvers meta l4proto {{ tcp, udp }} th dport 53 accept
        ip6 daddr @resolvers_6 meta l4proto {{ tcp, udp }} th dport 53 accept
        ip daddr @allowed accept
        ip6 daddr @allowed_6 accept
        ip daddr @denied goto refuse
        ip6 daddr @denied_6 goto refuse
        meta nfproto ipv4 meta l4proto {{ tcp, udp, icmp }} accept
        meta nfproto ipv6 meta l4proto {{ tcp, udp, ipv6-icmp }} accept
        goto refuse
    }}
    chain forward {{
        type filter hook forward priority -10; policy accept;
        iifname "{prefix}*" jump from_containers
        oifname "{prefix}*" ct state != {{ established, related }} drop
    }}
    chain input {{
        type filter hook input priority -10; policy accept;
        {host}
        iifname "{prefix}*" icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
        iifname "{prefix}*" goto refuse
    }}
    chain outwards {{
        type nat hook postrouting priority 100; policy accept;
        ip saddr {BLOCK}/15 oifname != "{OURS}*" masquerade
        ip6 saddr {ipv6_block}/64 oifname != "{OURS}*" masquerade
    }}
}}
"#
    ))
}

fn set(name: &str, elements: &[impl AsRef<str>]) -> String {
    set_of("ipv4_addr", name, elements)
}

fn set_of(kind: &str, name: &str, elements: &[impl AsRef<str>]) -> String {
    let elements: Vec<&str> = elements.iter().map(AsRef::as_ref).collect();
    let elements = match elements.is_empty() {
        true => String::new(),
        false => format!("elements = {{ {} }};", elements.join(", ")),
    };
    format!("    set {name} {{ type {kind}; flags interval; auto-merge; {elements} }}\n")
}

/// `address/bits`, with nothing in it but that: it becomes part of a program.
fn must_be_a_network(text: &str) -> Result<(), Error> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let most = address.parse::<IpAddr>().ok().map(|address| if address.is_ipv4() { 32 } else { 128 });
    let is_number = |bits: &str| bits.len() <= 3 && bits.bytes().all(|byte| byte.is_ascii_digit());
    let is_one = most.is_some_and(|most: u16| {
        bits.is_none_or(|bits| is_number(bits) && bits.parse::<u16>().is_ok_and(|bits| bits <= most))
    });
    match is_one {
        true => Ok(()),
        false => Err(Error::Invalid(format!("{text:?} is no network such as 10.1.0.0/16 or fd00:1::/32"))),
    }
}

/// Whom a container asks for names.
pub(crate) fn resolvers_inside() -> Vec<IpAddr> {
    if rules_the_host() { resolvers() } else { vec![user::RESOLVER.into()] }
}

/// Those that can be asked from elsewhere than this host.
fn resolvers() -> Vec<IpAddr> {
    let has_ipv6 = ipv6::leads_out();
    let read = |path: &&str| parse_resolvers(&fs::read_to_string(path).unwrap_or_default(), has_ipv6);
    RESOLVERS.iter().map(read).find(|found| !found.is_empty()).unwrap_or_default()
}

fn parse_resolvers(text: &str, has_ipv6: bool) -> Vec<IpAddr> {
    let addresses = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = addresses.filter_map(|address| address.trim().parse::<IpAddr>().ok());
    addresses
        .filter(|address| !address.is_loopback() && !address.is_unspecified())
        .filter(|address| has_ipv6 || address.is_ipv4())
        .collect()
}

fn default_interfaces() -> BTreeSet<String> {
    parse_routes(&fs::read_to_string("/proc/net/route").unwrap_or_default())
}

fn parse_routes(text: &str) -> BTreeSet<String> {
    let default = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let (name, destination) = (fields.next()?, fields.next()?);
        (destination == "00000000").then(|| name.to_owned())
    };
    text.lines().skip(1).filter_map(default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_range_of_ids_has_addresses_of_its_own() {
        let pair = |slot: u32| Pair::of(0x1000_0000 + slot * ids::RANGE, Network::Egress).unwrap();
        assert_eq!(pair(0).inside, Ipv4Addr::new(198, 18, 0, 1));
        assert_eq!(pair(61_000).outside, Ipv4Addr::new(198, 19, 220, 144));
        assert!(pair(61_000).name.len() < 16);
        let fetching = Pair::of(0x1000_0000, Network::Fetching).unwrap();
        assert_eq!((fetching.inside, fetching.name.as_str()), (pair(0).inside, "bldyrf0"));
        assert_eq!(Pair::of(1000, Network::Egress), None);
        assert_eq!(Pair::of(0x1000_0000, Network::Host), None);
    }

    #[test]
    fn only_networks_become_part_of_the_table() {
        let allowed = |text: &str| table(&BUILDS, &[text.to_owned()], &[], true);
        for fine in ["10.1.0.0/16", "10.1.2.3", "0.0.0.0/0", "fd00::/8", "::1/128", "fd00::1"] {
            assert!(allowed(fine).unwrap().contains(fine), "{fine}");
        }
        for wrong in [
            "",
            "a",
            "10.1.0.0/33",
            "10.1.0.0/+1",
            "10.1.0.0/16, 10.2.0.0/16",
            "fd00::/129",
            "fd00::/",
            "fe80::1%eth0",
            "1.2.3.4/1 }",
        ] {
            let error = allowed(wrong).unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
        assert!(table(&BUILDS, &vec!["10.0.0.1".to_owned(); 257], &[], true).is_err());
    }

    #[test]
    fn a_firewall_that_forwards_nothing_is_seen() {
        let chains = |policy: &str| {
            format!(
                "table ip filter {{\n\tchain FORWARD {{\n\t\ttype filter hook forward priority filter; policy {policy};\n\t}}\n}}\n"
            )
        };
        assert!(drops_what_is_forwarded(&chains("drop")));
        assert!(!drops_what_is_forwarded(&chains("accept")));
        assert!(!drops_what_is_forwarded("type filter hook input priority filter; policy drop;"));
    }

    #[test]
    fn resolvers_are_those_that_are_elsewhere() {
        let text = "# none\nnameserver 127.0.0.53\nnameserver 10.0.0.2\n nameserver 192.0.2.1 \nnameserver ::1\nnameserver 2001:db8::1\nsearch a\n";
        let addresses =
            |all: &[&str]| -> Vec<IpAddr> { all.iter().map(|one| one.parse().unwrap()).collect() };
        assert_eq!(parse_resolvers(text, false), addresses(&["10.0.0.2", "192.0.2.1"]));
        assert_eq!(parse_resolvers(text, true), addresses(&["10.0.0.2", "192.0.2.1", "2001:db8::1"]));
    }

    #[test]
    fn default_routes_name_the_interfaces_that_lead_out() {
        let text = "Iface\tDestination\tGateway\neth0\t00000000\t010200C0\neth1\t000200C0\t0\n";
        assert_eq!(parse_routes(text), BTreeSet::from(["eth0".to_owned()]));
        assert!(parse_routes("").is_empty());
    }
}

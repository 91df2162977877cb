//! Which addresses a repository may be at: the public ones, and those that the operator allows. Whoever can write a project must
//! not make the server look into its own network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::location::Location;

/// A block of addresses, such as `10.0.0.0/8`; a single address is a block of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    bits: u32,
}

impl FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Network> {
        let wrong = || Error::Network { text: text.to_owned() };
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base, Some(bits)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| wrong())?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        if bits > most {
            return Err(wrong());
        }
        Ok(Network { base, bits })
    }
}

impl Network {
    /// Whether it can be reached from a network namespace that knows nothing but version 4: it is of that, and not this host's own loopback.
    #[must_use]
    pub fn is_reached_from_elsewhere(self) -> bool {
        self.base.is_ipv4() && !self.base.is_loopback() && !self.holds(Ipv4Addr::LOCALHOST.into())
    }

    fn holds(self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                same_start(u128::from(base.to_bits()) << 96, u128::from(address.to_bits()) << 96, self.bits)
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                same_start(base.to_bits(), address.to_bits(), self.bits)
            }
            _ => false,
        }
    }
}

fn same_start(one: u128, other: u128, bits: u32) -> bool {
    bits == 0 || (one ^ other) >> (128 - bits) == 0
}

/// Where the host may connect to for a project: git, and whoever fetches its image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// All addresses: whoever asks is the operator.
    pub anywhere: bool,
    /// Blocks that are allowed although they are not public.
    pub allowed: Vec<Network>,
}

impl Policy {
    /// The addresses of a repository's host, if git may connect to all of them. One that is refused spoils the others: it is
    /// what a name looks like whose answers change between the look and the connection.
    ///
    /// # Errors
    /// [`Error::Unknown`] without any address, [`Error::Address`] with the first that is refused.
    pub fn check(&self, location: &Location, addresses: &[IpAddr]) -> Result<()> {
        let host = location.host().to_owned();
        if addresses.is_empty() {
            return Err(Error::Unknown { host });
        }
        match addresses.iter().find(|address| !self.allows(**address)) {
            Some(address) => Err(Error::Address { host, address: *address }),
            None => Ok(()),
        }
    }

    /// Whether this address may be connected to.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.anywhere || is_public(address) || self.allowed.iter().any(|network| network.holds(address))
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// IANA's special-purpose blocks, multicast and what is reserved.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127, ..)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 31, 196)
            | (192, 52, 193)
            | (192, 88, 99)
            | (192, 168, _)
            | (192, 175, 48)
            | (198, 18..=19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (224..=255, ..)
    )
}

/// Global unicast without what stands for other addresses (6to4, Teredo) or for none (documentation).
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let is_global = a & 0xe000 == 0x2000;
    let is_special = match a {
        0x2001 => b < 0x0200 || b == 0x0db8,
        _ => a == 0x2002 || a & 0xfff0 == 0x3ff0,
    };
    is_global && !is_special
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(policy: &Policy, address: &str, expect: bool) {
        let location = Location::parse("https://git.example/a/b").unwrap();
        let answer = policy.check(&location, &["1.1.1.1".parse().unwrap(), address.parse().unwrap()]);
        assert_eq!(answer.is_ok(), expect, "{address}: {answer:?}");
    }

    #[test]
    fn only_public_addresses_are_allowed_unless_the_operator_says_otherwise() {
        let nobody = Policy::default();
        for public in
            ["140.82.121.3", "8.8.8.8", "2606:4700::1111", "2a00:1450::8b", "172.15.0.1", "100.63.0.1"]
        {
            check(&nobody, public, true);
        }
        let some = Policy {
            anywhere: false,
            allowed: vec!["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()],
        };
        for refused in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.8",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::ffff:a9fe:a9fe",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
        ] {
            check(&nobody, refused, false);
            check(&some, refused, false);
            check(&Policy { anywhere: true, allowed: Vec::new() }, refused, true);
        }
        for allowed in ["10.1.2.3", "::ffff:10.1.2.3", "fd12::1"] {
            check(&nobody, allowed, false);
            check(&some, allowed, true);
        }
    }

    #[test]
    fn a_name_without_addresses_is_refused() {
        let location = Location::parse("https://git.example/a/b").unwrap();
        assert_eq!(
            Policy::default().check(&location, &[]),
            Err(Error::Unknown { host: "git.example".into() })
        );
    }

    #[test]
    fn loopback_is_reached_from_here_only() {
        for (text, expect) in [
            ("10.0.0.0/8", true),
            ("192.0.2.1", true),
            ("127.0.0.0/8", false),
            ("127.0.0.2", false),
            ("0.0.0.0/0", false),
            ("::1", false),
            ("fd00::/8", false),
        ] {
            assert_eq!(text.parse::<Network>().unwrap().is_reached_from_elsewhere(), expect, "{text}");
        }
    }

    #[test]
    fn networks_are_read_strictly() {
        for good in ["10.0.0.0/8", "127.0.0.1", "::1", "fd00::/8", "0.0.0.0/0"] {
            assert!(good.parse::<Network>().is_ok(), "{good}");
        }
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "localhost", "::1/129", "10.0.0.0/-1", "10.0.0.0/"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}

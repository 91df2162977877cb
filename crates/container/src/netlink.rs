//! Interfaces, addresses and routes, by the kernel's routing messages (rtnetlink): the few that a container's network needs.
//! Which interfaces those are is `egress`'s business.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::net::netdevice::name_to_index;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const ERROR: u16 = 2;

const REQUEST_AND_ACKNOWLEDGE: u16 = 1 | 4;
const CREATE_ONLY: u16 = 0x200 | 0x400;

/// `IFLA_*`, `IFA_*`, `RTA_*`, and what is nested in them.
const IFNAME: u16 = 3;
const LINKINFO: u16 = 18;
const NET_NS_PID: u16 = 19;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const ADDRESS: u16 = 1;
const LOCAL: u16 = 2;
const OUT_INTERFACE: u16 = 4;
const GATEWAY: u16 = 5;

const HEADER_BYTES: usize = 16;

/// A socket to the kernel, of the network namespace it was made in.
#[derive(Debug)]
pub(crate) struct Netlink(OwnedFd);

impl Netlink {
    pub(crate) fn open() -> io::Result<Netlink> {
        let flags = SocketFlags::CLOEXEC;
        Ok(Netlink(socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?))
    }

    /// Makes a pair of connected interfaces: `name` here, `peer` in the network of the process `pid`.
    pub(crate) fn make_pair(&self, name: &str, peer: &str, pid: i32) -> io::Result<()> {
        let mut other = interface(0, false);
        attribute(&mut other, IFNAME, &text(peer));
        attribute(&mut other, NET_NS_PID, &pid.to_ne_bytes());
        let (mut data, mut info) = (Vec::new(), Vec::new());
        attribute(&mut data, VETH_PEER, &other);
        attribute(&mut info, INFO_KIND, b"veth");
        attribute(&mut info, INFO_DATA, &data);
        let mut body = interface(0, false);
        attribute(&mut body, IFNAME, &text(name));
        attribute(&mut body, LINKINFO, &info);
        self.ask(NEW_LINK, CREATE_ONLY, &body)
    }

    /// Gives an interface an address, which holds at once, and sets it up.
    pub(crate) fn set_up(&self, name: &str, address: IpAddr, prefix: u8) -> io::Result<()> {
        const NO_DUPLICATE_DETECTION: u8 = 2;
        let index = self.index(name)?;
        let (family, bytes) = in_bytes(address);
        let flags = if address.is_ipv6() { NO_DUPLICATE_DETECTION } else { 0 };
        let mut body = vec![family, prefix, flags, 0];
        body.extend(index.to_ne_bytes());
        attribute(&mut body, LOCAL, &bytes);
        attribute(&mut body, ADDRESS, &bytes);
        self.ask(NEW_ADDRESS, CREATE_ONLY, &body)?;
        self.ask(NEW_LINK, 0, &interface(index, true))
    }

    /// Sends everything of the gateway's family that has no other route through it.
    pub(crate) fn route_all(&self, name: &str, gateway: IpAddr) -> io::Result<()> {
        const MAIN: u8 = 254;
        const STATIC: u8 = 4;
        const UNICAST: u8 = 1;
        let (family, bytes) = in_bytes(gateway);
        let mut body = vec![family, 0, 0, 0, MAIN, STATIC, 0, UNICAST, 0, 0, 0, 0];
        attribute(&mut body, GATEWAY, &bytes);
        attribute(&mut body, OUT_INTERFACE, &self.index(name)?.to_ne_bytes());
        self.ask(NEW_ROUTE, CREATE_ONLY, &body)
    }

    /// Removes an interface and its peer. One that is not there is removed already.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        let mut body = interface(0, false);
        attribute(&mut body, IFNAME, &text(name));
        match self.ask(DELETE_LINK, 0, &body) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            other => other,
        }
    }

    fn index(&self, name: &str) -> io::Result<u32> {
        Ok(name_to_index(&self.0, name)?)
    }

    /// Sends one request and waits for the kernel's word on it.
    fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        let length = (HEADER_BYTES + body.len()) as u32;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((REQUEST_AND_ACKNOWLEDGE | flags).to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        send(&self.0, &message, SendFlags::empty())?;
        let mut answer = [0_u8; 8192];
        let (length, _) = rustix::io::retry_on_intr(|| recv(&self.0, &mut answer, RecvFlags::empty()))?;
        let field = |at: usize, bytes: usize| answer[..length].get(at..at + bytes);
        let kind = field(4, 2).and_then(|bytes| bytes.try_into().ok()).map(u16::from_ne_bytes);
        let error = field(HEADER_BYTES, 4).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
        match (kind, error) {
            (Some(ERROR), Some(0)) => Ok(()),
            (Some(ERROR), Some(error)) => Err(io::Error::from_raw_os_error(-error)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// `struct ifinfomsg`.
fn interface(index: u32, is_up: bool) -> Vec<u8> {
    let up = if is_up { libc::IFF_UP as u32 } else { 0 };
    let mut bytes = vec![0; 4];
    bytes.extend(index.to_ne_bytes());
    bytes.extend(up.to_ne_bytes());
    bytes.extend(up.to_ne_bytes());
    bytes
}

/// The family of an address, and its bytes.
fn in_bytes(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (libc::AF_INET as u8, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6 as u8, address.octets().to_vec()),
    }
}

fn text(text: &str) -> Vec<u8> {
    text.bytes().chain([0]).collect()
}

/// Length, kind, value, and zeros up to the next four bytes.
fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    message.extend(((value.len() + 4) as u16).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_but_say_their_true_length() {
        let mut message = Vec::new();
        attribute(&mut message, 3, b"abc");
        assert_eq!((message.len(), &message[..2]), (8, 7_u16.to_ne_bytes().as_slice()));
    }

    #[test]
    fn what_is_not_there_is_removed_already() {
        Netlink::open()
            .unwrap()
            .remove("not-there-0")
            .or_else(|error| {
                // An ordinary user may not even ask.
                if error.raw_os_error() == Some(libc::EPERM) { Ok(()) } else { Err(error) }
            })
            .unwrap();
    }
}

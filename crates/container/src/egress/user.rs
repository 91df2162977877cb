//! The network that leads out for an ordinary user's container: `slirp4netns` carries what the container sends, and a firewall
//! table in the container's own network says what that may be. Nobody inside has the capability to change it.
//!
//! To others it is the user who speaks. So the host's own addresses are refused as of when the container is made.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{DENIED, PROGRAM_PATH, load, nft, set};
use crate::error::{Doing, Error};
use crate::late::Namespaces;
use crate::sys;

const PROGRAM: &str = "slirp4netns";
/// The container's network; its name server is the third address of it.
const NETWORK: &str = "198.18.0.0/24";
pub(super) const RESOLVER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 3);
/// What reads and writes packets.
const TUNNEL: &str = "/dev/net/tun";

/// What carries one container's packets. Dropping it ends that, as does the end of this process.
#[derive(Debug)]
pub(crate) struct Uplink {
    process: Child,
    _until: OwnedFd,
}

impl Uplink {
    /// The caller's part: the policy first, then the way out.
    pub(crate) fn connect(namespaces: &Namespaces) -> Result<Uplink, Error> {
        let (user, network) = (namespaces.user.as_fd(), namespaces.network.as_fd());
        let mut nft = nft(&["-f", "-"]);
        enter_first(&mut nft, user, network)?;
        load(nft, &table(&addresses_of_host()))?;
        start(user, network).doing("start `slirp4netns`")
    }
}

impl Drop for Uplink {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// # Errors
/// [`Error::Forbidden`] with what is missing.
pub(super) fn check() -> Result<(), Error> {
    let is_there =
        |program: &str| PROGRAM_PATH.split(':').any(|folder| Path::new(folder).join(program).is_file());
    let tunnel = fs::File::options().read(true).write(true).open(TUNNEL);
    let why = match (is_there(PROGRAM), is_there("nft"), tunnel) {
        (false, ..) => format!("it needs root, or the program `{PROGRAM}` (Debian's package slirp4netns)"),
        (_, false, _) => "it needs the program `nft` (Debian's package nftables)".into(),
        (.., Err(error)) => format!("it needs root, or {TUNNEL} for everybody: {error}"),
        _ => return Ok(()),
    };
    let remedy = "Install that, choose the network `none` or `host`, or run as root".into();
    Err(Error::Forbidden { what: "the network `egress`".into(), why, remedy })
}

fn start(user: BorrowedFd<'_>, network: BorrowedFd<'_>) -> std::io::Result<Uplink> {
    let (until, hold) = pipe_with(PipeFlags::CLOEXEC)?;
    let (ready, telling) = pipe_with(PipeFlags::CLOEXEC)?;
    let given = [user.try_clone_to_owned()?, network.try_clone_to_owned()?, until, telling];
    let [user, network, until, telling] = given.each_ref().map(|fd| fd.as_raw_fd().to_string());
    let descriptor = |number: &str| format!("/proc/self/fd/{number}");
    let mut command = Command::new(PROGRAM);
    command.args(["--configure", "--mtu=65520", "--disable-host-loopback", "--netns-type=path"]);
    command.args(["--cidr", NETWORK, "--userns-path", &descriptor(&user)]);
    command.args(["--exit-fd", &until, "--ready-fd", &telling]);
    command.args([&descriptor(&network), super::INSIDE]).env_clear().env("PATH", PROGRAM_PATH);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    sys::before_exec(&mut command, move || {
        given.iter().try_for_each(|descriptor| Ok(fcntl_setfd(descriptor, FdFlags::empty())?))
    });
    let process = command.spawn()?;
    // And with it what only the program shall hold.
    drop(command);
    let uplink = Uplink { process, _until: hold };
    match fs::File::from(ready).read(&mut [0])? {
        1 => Ok(uplink),
        _ => Err(std::io::Error::other("it ended before the network was ready")),
    }
}

/// Has a program run in the container's user and network namespaces, but with the host's files.
fn enter_first(command: &mut Command, user: BorrowedFd<'_>, network: BorrowedFd<'_>) -> Result<(), Error> {
    let doing = "keep the container's namespaces";
    let (user, network) =
        (user.try_clone_to_owned().doing(doing)?, network.try_clone_to_owned().doing(doing)?);
    sys::before_exec(command, move || {
        move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))?;
        Ok(move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?)
    });
    Ok(())
}

fn table(host: &BTreeSet<Ipv4Addr>) -> String {
    let host: Vec<String> = host.iter().map(Ipv4Addr::to_string).collect();
    let denied = set("denied", &DENIED);
    let host = set("host", &host);
    format!(
        r#"table inet buildyard {{
{denied}{host}
    chain outwards {{
        type filter hook output priority 0; policy accept;
        oifname "lo" accept
        meta nfproto ipv6 reject with icmpx admin-prohibited
        ip daddr {RESOLVER} meta l4proto {{ tcp, udp }} th dport 53 accept
        ip daddr @host reject with icmpx admin-prohibited
        ip daddr @denied reject with icmpx admin-prohibited
        meta l4proto {{ tcp, udp, icmp }} accept
        reject with icmpx admin-prohibited
    }}
}}
"#
    )
}

/// By which the host could be reached as any other machine.
fn addresses_of_host() -> BTreeSet<Ipv4Addr> {
    parse_addresses(&fs::read_to_string("/proc/net/fib_trie").unwrap_or_default())
}

/// An address stands in the line before what it is.
fn parse_addresses(text: &str) -> BTreeSet<Ipv4Addr> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let local = lines.windows(2).filter(|pair| pair[1] == "/32 host LOCAL");
    local.filter_map(|pair| pair[0].strip_prefix("|-- ")?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_addresses_are_found() {
        let text = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.7\n        /32 host LOCAL\n     |-- 10.0.0.255\n        /32 link BROADCAST\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        assert_eq!(parse_addresses(text), BTreeSet::from([Ipv4Addr::new(10, 0, 0, 7), Ipv4Addr::LOCALHOST]));
        assert!(table(&parse_addresses(text)).contains("10.0.0.7, 127.0.0.1"));
    }
}

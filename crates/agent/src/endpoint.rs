//! What a build's commands find at 169.254.170.2: the services of the server that runs the build, and the credentials for them.
//!
//! The agent only passes bytes on. It listens in the build's network, whatever that reaches otherwise, and brings each
//! connection to the server's socket for builds with a line that says whose it is. HTTP, signatures and keys are the server's
//! business (`server::roles`). While there is no server, connections are closed, and clients try again.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags, open};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::plan;

/// COMPAT: EN-062 where AWS's clients look for a container's credentials.
const ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(169, 254, 170, 2), 80);
/// Connections at a time; further ones wait in the kernel's queue.
const MOST: usize = 64;
/// What is under way in one direction of a connection, bytes.
const BUFFER_BYTES: usize = 64 << 10;
/// How often one connection is attended to before it is another's turn.
const ROUNDS: usize = 8;

/// Cannot be guessed.
fn token() -> io::Result<String> {
    let mut bytes = [0_u8; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Of the server's socket, which the next server makes anew.
    folder: OwnedFd,
    socket: PathBuf,
    introduction: String,
    credentials: String,
    /// What whoever asks for credentials has to show, where the host's other users can connect as well.
    token: String,
    listener: Option<TcpListener>,
    relays: Vec<Relay>,
}

impl Endpoint {
    /// Where the container has to listen, if it has a network of its own.
    pub(crate) fn addresses(network: plan::Network) -> Vec<SocketAddrV4> {
        if network == plan::Network::Host { Vec::new() } else { vec![ADDRESS] }
    }

    /// As [`Endpoint::addresses`], in a container that is not of our making: no address can be added to its loopback interface.
    pub(crate) fn addresses_of_others(network: plan::Network) -> Vec<SocketAddrV4> {
        if network == plan::Network::Host {
            Vec::new()
        } else {
            vec![SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)]
        }
    }

    pub(crate) fn new(plan: &plan::Endpoint, build_id: &str) -> io::Result<Endpoint> {
        let parent = plan.socket.parent().unwrap_or(Path::new("/"));
        let name = plan.socket.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Endpoint {
            folder: open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?,
            socket: name.into(),
            introduction: format!("{} {build_id}", plan.account),
            credentials: plan.credentials.clone(),
            token: token()?,
            listener: None,
            relays: Vec::new(),
        })
    }

    /// Answers for a new container: at what it listens at, or else at a port of this host's loopback interface.
    pub(crate) fn attend(&mut self, listeners: Vec<OwnedFd>) -> io::Result<()> {
        let listener = match listeners.into_iter().next() {
            Some(listener) => TcpListener::from(listener),
            None => TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?,
        };
        listener.set_nonblocking(true)?;
        self.relays.clear();
        self.listener = Some(listener);
        Ok(())
    }

    /// The container has ended.
    pub(crate) fn close(&mut self) {
        self.relays.clear();
        self.listener = None;
    }

    /// The variables by which AWS's clients find it.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let Some(address) = self.address() else { return Vec::new() };
        let credentials = &self.credentials;
        if self.is_the_builds_alone() {
            return vec![
                ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", credentials.clone()),
                ("AWS_ENDPOINT_URL", format!("http://{}", ADDRESS.ip())),
            ];
        }
        vec![
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{address}{credentials}")),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", self.token.clone()),
            ("AWS_ENDPOINT_URL", format!("http://{address}")),
        ]
    }

    fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Nobody but the build has this address in its network.
    fn is_the_builds_alone(&self) -> bool {
        self.address().is_some_and(|address| address.ip() == *ADDRESS.ip())
    }

    /// What to wait for.
    pub(crate) fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let has_room = self.relays.len() < MOST;
        let listener = self.listener.iter().filter(move |_| has_room);
        listener
            .map(|listener| (listener.as_fd(), PollFlags::IN))
            .chain(self.relays.iter().flat_map(Relay::interests))
    }

    /// Takes in who comes, and passes on what can be.
    pub(crate) fn hear(&mut self) {
        while self.relays.len() < MOST {
            let Some(Ok((client, _))) = self.listener.as_ref().map(TcpListener::accept) else { break };
            // Without a server the connection is closed again.
            if let Ok(relay) = self.relay(client) {
                self.relays.push(relay);
            }
        }
        self.relays.retain_mut(|relay| relay.pass_on().unwrap_or(false));
    }

    fn relay(&self, client: TcpStream) -> io::Result<Relay> {
        client.set_nonblocking(true)?;
        client.set_nodelay(true)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let server = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // A socket's address has room for little, however deep the folder is.
        let folder = PathBuf::from(format!("/proc/self/fd/{}", self.folder.as_raw_fd()));
        connect(&server, &SocketAddrUnix::new(folder.join(&self.socket))?)?;
        let token = if self.is_the_builds_alone() { String::new() } else { format!(" {}", self.token) };
        let up = Lane { bytes: format!("{}{token}\n", self.introduction).into_bytes(), ..Lane::default() };
        Ok(Relay { client, server: UnixStream::from(server), up, down: Lane::default() })
    }
}

/// One connection of the build, and its other half.
#[derive(Debug)]
struct Relay {
    client: TcpStream,
    server: UnixStream,
    up: Lane,
    down: Lane,
}

/// One direction.
#[derive(Debug, Default)]
struct Lane {
    bytes: Vec<u8>,
    /// So many of them are passed on.
    passed: usize,
    is_at_end: bool,
    is_shut: bool,
}

impl Relay {
    /// What nobody can do anything about is not waited for: the kernel would report it again and again.
    fn interests(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let flags = |from: &Lane, to: &Lane| {
            let reads = if from.wants_more() { PollFlags::IN } else { PollFlags::empty() };
            let writes = if to.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            reads | writes
        };
        let client = (self.client.as_fd(), flags(&self.up, &self.down));
        let server = (self.server.as_fd(), flags(&self.down, &self.up));
        [client, server].into_iter().filter(|(_, flags)| !flags.is_empty())
    }

    /// Whether there can be more.
    fn pass_on(&mut self) -> io::Result<bool> {
        self.up.pass(&self.client, &self.server, || self.server.shutdown(Shutdown::Write))?;
        self.down.pass(&self.server, &self.client, || self.client.shutdown(Shutdown::Write))?;
        Ok(!(self.up.is_shut && self.down.is_shut))
    }
}

impl Lane {
    fn is_empty(&self) -> bool {
        self.passed == self.bytes.len()
    }

    fn wants_more(&self) -> bool {
        self.is_empty() && !self.is_at_end
    }

    fn pass(
        &mut self,
        mut from: impl Read,
        mut to: impl Write,
        shut: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        for _ in 0..ROUNDS {
            if self.wants_more() && !self.fill(&mut from)? {
                break;
            }
            if !self.is_empty() {
                match unless_it_blocks(to.write(&self.bytes[self.passed..]))? {
                    Some(written) => self.passed += written,
                    None => break,
                }
            }
            if self.is_empty() && self.is_at_end {
                break;
            }
        }
        if self.is_empty() && self.is_at_end && !std::mem::replace(&mut self.is_shut, true) {
            // Who has gone already needs no telling.
            let _ = shut();
        }
        Ok(())
    }

    /// Whether there was something to read, be it the end.
    fn fill(&mut self, from: &mut impl Read) -> io::Result<bool> {
        self.bytes.resize(BUFFER_BYTES, 0);
        let read = unless_it_blocks(from.read(&mut self.bytes));
        self.passed = 0;
        self.bytes.truncate(read.as_ref().ok().copied().flatten().unwrap_or_default());
        self.is_at_end = matches!(read, Ok(Some(0)));
        Ok(read?.is_some())
    }
}

fn unless_it_blocks(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(count) => Ok(Some(count)),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::time::{Duration, Instant};

    use super::*;

    fn turn_until<T>(endpoint: &mut Endpoint, mut done: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            endpoint.hear();
            if let Some(result) = done() {
                return result;
            }
            assert!(Instant::now() < deadline, "nothing came");
        }
    }

    fn endpoint(folder: &Path) -> Endpoint {
        let plan = plan::Endpoint {
            socket: folder.join("builds.sock"),
            account: "123456789012".into(),
            credentials: "/v2/credentials/secret".into(),
        };
        let mut endpoint = Endpoint::new(&plan, "app:0").unwrap();
        endpoint.attend(Vec::new()).unwrap();
        endpoint
    }

    fn client(endpoint: &Endpoint) -> TcpStream {
        let client = TcpStream::connect(endpoint.listener.as_ref().unwrap().local_addr().unwrap()).unwrap();
        client.set_nonblocking(true).unwrap();
        client
    }

    // EN-062
    #[test]
    fn a_connection_is_introduced_and_passed_on_in_both_directions_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let server = UnixListener::bind(folder.path().join("builds.sock")).unwrap();
        let mut endpoint = endpoint(folder.path());
        let mut client = client(&endpoint);
        client.write_all(b"ask").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        turn_until(&mut endpoint, || Some(()));
        turn_until(&mut endpoint, || Some(()));
        let (mut accepted, _) = server.accept().unwrap();
        let mut heard = String::new();
        // More than fits into all buffers on the way.
        let answer = vec![7_u8; 3 << 20];
        let writing = {
            let answer = answer.clone();
            let mut accepted = accepted.try_clone().unwrap();
            std::thread::spawn(move || {
                accepted.write_all(&answer).unwrap();
                accepted.shutdown(Shutdown::Write).unwrap();
            })
        };
        let mut told = Vec::new();
        turn_until(&mut endpoint, || match client.read_to_end(&mut told) {
            Ok(_) => Some(()),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                None
            }
        });
        writing.join().unwrap();
        accepted.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, format!("123456789012 app:0 {}\nask", endpoint.token));
        assert!(told == answer);
        assert!(endpoint.relays.is_empty(), "both directions are over");
    }

    #[test]
    fn a_connection_without_a_server_is_closed_and_the_next_one_finds_the_next_server() {
        let folder = tempfile::tempdir().unwrap();
        let mut endpoint = endpoint(folder.path());
        let mut refused = client(&endpoint);
        let mut byte = [0; 1];
        let refused = turn_until(&mut endpoint, || match refused.read(&mut byte) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            other => Some(other),
        });
        assert!(!matches!(refused, Ok(1..)), "{refused:?}");
        let server = UnixListener::bind(folder.path().join("builds.sock")).unwrap();
        let _client = client(&endpoint);
        server.set_nonblocking(true).unwrap();
        turn_until(&mut endpoint, || server.accept().ok());
    }

    #[test]
    fn variables_lead_to_where_it_listens() {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = endpoint(folder.path());
        let address = endpoint.listener.as_ref().unwrap().local_addr().unwrap();
        let expect = [
            ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("http://{address}/v2/credentials/secret")),
            ("AWS_CONTAINER_AUTHORIZATION_TOKEN", endpoint.token.clone()),
            ("AWS_ENDPOINT_URL", format!("http://{address}")),
        ];
        assert_eq!(endpoint.variables(), expect);
        assert!(endpoint.token.len() == 32 && endpoint.token != token().unwrap());
        assert!(Endpoint::addresses(plan::Network::Host).is_empty());
        assert_eq!(Endpoint::addresses(plan::Network::None), [ADDRESS]);
    }
}

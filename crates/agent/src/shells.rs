//! Shells in the environment while the build runs or is held: who may open one, what it finds, what becomes of it. What goes over the
//! socket is in [`crate::attach`].

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use container::{Container, ExitStatus, Process, Signal, packet};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, socket_with,
};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::attach::{Reply, Request, Terminal};
use crate::{inside, shell};

/// So many shells are open in a build at once.
const MOST: usize = 16;
/// How long something may take to be opened inside, where a build may hinder it.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a shell finds: the present state of the build.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings {
    pub(crate) restore: Vec<u8>,
    pub(crate) shell: &'static str,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) user: Option<String>,
    /// Where one is, for the prompt.
    pub(crate) name: String,
}

#[derive(Debug)]
pub(crate) struct Shells {
    listener: OwnedFd,
    clients: Vec<Client>,
    pub(crate) surroundings: Surroundings,
    opened: u32,
    /// Functions of ours that made terminals, whose ends are no news.
    makers: Vec<u32>,
}

#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    handle: Option<u32>,
}

impl Shells {
    /// Listens in the working folder.
    pub(crate) fn listen() -> io::Result<Shells> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let listener = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        bind(&listener, &SocketAddrUnix::new(crate::SHELL_SOCKET)?)?;
        listen(&listener, MOST as i32)?;
        Ok(Shells {
            listener,
            clients: Vec::new(),
            surroundings: Surroundings::default(),
            opened: 0,
            makers: Vec::new(),
        })
    }

    pub(crate) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.listener.as_fd()).chain(self.clients.iter().map(|client| client.socket.as_fd()))
    }

    /// Whether any has been opened, and whether one is open.
    pub(crate) fn so_far(&self) -> (u32, bool) {
        (self.opened, self.clients.iter().any(|client| client.handle.is_some()))
    }

    /// Takes in who comes, what they ask, and that they leave.
    pub(crate) fn hear(&mut self, mut container: Option<&mut Container>) {
        while let Ok(socket) = accept_with(&self.listener, SocketFlags::CLOEXEC) {
            if self.clients.len() < MOST {
                self.clients.push(Client { socket, handle: None });
            }
        }
        for client in std::mem::take(&mut self.clients) {
            if !packet::comes_within(client.socket.as_fd(), Duration::ZERO) {
                self.clients.push(client);
                continue;
            }
            let request = packet::receive(client.socket.as_fd()).ok().flatten();
            match (request, client.handle, container.as_deref_mut()) {
                (Some((body, fds)), None, Some(container)) => self.open(client.socket, container, &body, fds),
                (Some(_), None, None) => {
                    tell(&client.socket, &Reply::Refused("there is no environment now".into()), &[])
                }
                (Some(_), Some(_), _) => self.clients.push(client),
                (None, Some(handle), Some(container)) => {
                    // As a terminal does whose other side is gone.
                    let _ = container.signal(handle, Signal::HUP);
                }
                (None, ..) => {}
            }
        }
    }

    /// Whether the process was a shell's.
    pub(crate) fn ended(&mut self, handle: u32, status: ExitStatus) -> bool {
        if let Some(at) = self.makers.iter().position(|maker| *maker == handle) {
            self.makers.swap_remove(at);
            return true;
        }
        let Some(at) = self.clients.iter().position(|client| client.handle == Some(handle)) else {
            return false;
        };
        let client = self.clients.swap_remove(at);
        let code = match status {
            ExitStatus::Code(code) => code,
            ExitStatus::Signal(signal) => 128 + signal,
        };
        tell(&client.socket, &Reply::Exited(code), &[]);
        true
    }

    /// The environment has ended, and all in it.
    pub(crate) fn close(&mut self) {
        self.clients.clear();
        self.makers.clear();
    }

    fn open(&mut self, socket: OwnedFd, container: &mut Container, body: &[u8], fds: Vec<OwnedFd>) {
        let started = match serde_json::from_slice::<Request>(body) {
            Ok(request) => self.start(container, &request, fds),
            Err(error) => Err(format!("the request makes no sense: {error}")),
        };
        match started {
            Ok((handle, terminal)) => {
                tell(&socket, &Reply::Started, &terminal.iter().map(AsFd::as_fd).collect::<Vec<_>>());
                self.clients.push(Client { socket, handle: Some(handle) });
            }
            Err(why) => tell(&socket, &Reply::Refused(why), &[]),
        }
    }

    /// The process, and the other side of its terminal.
    fn start(
        &mut self,
        container: &mut Container,
        request: &Request,
        fds: Vec<OwnedFd>,
    ) -> Result<(u32, Option<OwnedFd>), String> {
        let number = self.opened + 1;
        let mut process = self.process(request, number);
        let terminal = match &request.terminal {
            Some(terminal) => Some(self.terminal(container, terminal)?),
            None => None,
        };
        match (&terminal, fds.as_slice()) {
            (Some((_, inner)), _) => {
                (process.input, process.output) = (Some(inner.as_fd()), Some(inner.as_fd()))
            }
            (None, [input, output, errors]) => {
                (process.input, process.output) = (Some(input.as_fd()), Some(output.as_fd()));
                process.fds = vec![errors.as_fd()];
            }
            (None, _) => return Err("standard input, output and error are missing".into()),
        }
        let handle = container.start(&process).map_err(|error| error.to_string())?;
        self.opened = number;
        Ok((handle, terminal.map(|(outer, _)| outer)))
    }

    fn process(&self, request: &Request, number: u32) -> Process<'static> {
        let around = &self.surroundings;
        let shell::Opened { argv, files, variables } =
            shell::opened(request, around.shell, number, &around.name);
        let restore = shell::Opened::restore(number);
        let mut files: Vec<container::File> = files
            .into_iter()
            .map(|(path, text)| container::File { path: path.into(), bytes: text.into_bytes(), mode: 0o700 })
            .collect();
        files.push(container::File { path: restore.into(), bytes: around.restore.clone(), mode: 0o600 });
        let env = around.env.iter().cloned().chain(variables);
        Process {
            argv: argv.into_iter().map(Into::into).collect(),
            env: env.map(|(name, value)| (name.into(), value.into())).collect(),
            cwd: "/".into(),
            user: around.user.clone(),
            files,
            ..Process::default()
        }
    }

    /// What a function of ours opens inside and sends out; nothing if the build hinders it.
    pub(crate) fn made_inside(
        &mut self,
        container: &mut Container,
        function: &str,
    ) -> io::Result<Vec<OwnedFd>> {
        let (ours, theirs) = packet::pair()?;
        self.makers.push(container.call(function, &[], vec![theirs]).map_err(io::Error::other)?);
        if !packet::comes_within(ours.as_fd(), PATIENCE) {
            return Ok(Vec::new());
        }
        Ok(packet::receive(ours.as_fd())?.map(|(_, descriptors)| descriptors).unwrap_or_default())
    }

    /// Runs a function that has nothing to tell here. If it cannot be started, whoever waits for it inside does so in vain.
    pub(crate) fn run_inside(&mut self, container: &mut Container, function: &str) {
        self.makers.extend(container.call(function, &[], Vec::new()));
    }

    /// A new terminal of the container's own: the side to look at it, and the side to run on it.
    fn terminal(
        &mut self,
        container: &mut Container,
        wanted: &Terminal,
    ) -> Result<(OwnedFd, OwnedFd), String> {
        let failed = |error: io::Error| format!("no terminal can be made: {error}");
        let mut fds = self.made_inside(container, "terminal").map_err(failed)?.into_iter();
        let (Some(outer), Some(inner)) = (fds.next(), fds.next()) else {
            return Err("no terminal can be made in this environment".into());
        };
        let size = Winsize { ws_row: wanted.rows, ws_col: wanted.columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&outer, size).map_err(|error| failed(error.into()))?;
        Ok((outer, inner))
    }
}

fn tell(socket: &OwnedFd, reply: &Reply, descriptors: &[BorrowedFd<'_>]) {
    let body = serde_json::to_vec(reply).expect("a reply is JSON");
    // Who has left needs no reply.
    let _ = packet::send(socket.as_fd(), &body, descriptors);
}

/// Runs inside. fds: the socket that gets both sides of a new terminal.
pub(crate) fn terminal_entry(_: &[u8], fds: Vec<OwnedFd>) -> i32 {
    let Some(socket) = fds.into_iter().next().map(File::from) else { return inside::REFUSED };
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let made = openpt(flags).and_then(|outer| {
        unlockpt(&outer)?;
        let inner = ioctl_tiocgptpeer(&outer, flags)?;
        Ok((outer, inner))
    });
    let Ok((outer, inner)) = made else { return inside::REFUSED };
    match packet::send(socket.as_fd(), b"t", &[outer.as_fd(), inner.as_fd()]) {
        Ok(()) => inside::DONE,
        Err(_) => inside::REFUSED,
    }
}

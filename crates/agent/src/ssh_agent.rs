//! The user's ssh-agent, shown to the container that repositories are fetched in: a socket there, and a thread here that passes on what
//! comes through it. The agent sees nobody but the user, and the container neither the agent's socket nor its folder.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, poll};

/// Longest piece that is passed on at once.
const PIECE: usize = 16 << 10;

/// Passes on until it is dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Listens at `name` in the folder. While it does, there is a second thread.
    pub(crate) fn start(folder: &Path, name: &str, agent: PathBuf) -> io::Result<Relay> {
        let opened = File::open(folder)?;
        // A socket's path must be short.
        let short = Path::new("/proc/self/fd").join(opened.as_raw_fd().to_string()).join(name);
        // An earlier source's may be there.
        let _ = fs::remove_file(&short);
        let listener = UnixListener::bind(&short)?;
        fs::set_permissions(&short, Permissions::from_mode(0o666))?;
        let (stop, stopped) = UnixStream::pair()?;
        let serve = move || while serve_one(&listener, &agent, &stopped).is_ok() {};
        let thread = thread::Builder::new().name("ssh-agent".into()).stack_size(256 << 10).spawn(serve)?;
        Ok(Relay { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

/// One connection after the other: git runs one ssh, and that asks once. An error says that it is over.
fn serve_one(listener: &UnixListener, agent: &Path, stopped: &UnixStream) -> io::Result<()> {
    wait(stopped, &[listener.as_fd()])?;
    let (asking, _) = listener.accept()?;
    match UnixStream::connect(agent) {
        Ok(answering) => pass_on(&asking, &answering, stopped),
        // Whoever asks finds the connection closed.
        Err(_) => Ok(()),
    }
}

/// Until one of them has nothing more to say.
fn pass_on(asking: &UnixStream, answering: &UnixStream, stopped: &UnixStream) -> io::Result<()> {
    loop {
        let passed = match wait(stopped, &[asking.as_fd(), answering.as_fd()])?.as_slice() {
            [true, _] => piece(asking, answering),
            [_, true] => piece(answering, asking),
            _ => Ok(1),
        };
        if passed.unwrap_or(0) == 0 {
            return Ok(());
        }
    }
}

fn piece(mut from: &UnixStream, mut to: &UnixStream) -> io::Result<usize> {
    let mut buffer = [0; PIECE];
    let length = from.read(&mut buffer)?;
    to.write_all(&buffer[..length])?;
    Ok(length)
}

/// Which of these can be read from; an error if it is over.
fn wait(stopped: &UnixStream, these: &[BorrowedFd<'_>]) -> io::Result<Vec<bool>> {
    let all = std::iter::once(stopped.as_fd()).chain(these.iter().copied());
    let mut all: Vec<PollFd<'_>> = all.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    rustix::io::retry_on_intr(|| poll(&mut all, None))?;
    let ready: Vec<bool> = all.iter().map(|fd| !fd.revents().is_empty()).collect();
    match ready[0] {
        true => Err(io::ErrorKind::ConnectionAborted.into()),
        false => Ok(ready[1..].to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_comes_to_the_agent_and_back_until_it_is_over() {
        let place = tempfile::tempdir().unwrap();
        let agent = place.path().join("agent");
        let listener = UnixListener::bind(&agent).unwrap();
        let answers = thread::spawn(move || {
            for _ in 0..2 {
                let (mut asked, _) = listener.accept().unwrap();
                let mut question = [0; 4];
                asked.read_exact(&mut question).unwrap();
                asked.write_all(&[&question[..], b"!"].concat()).unwrap();
            }
        });
        drop(Relay::start(place.path(), "socket", agent.clone()).unwrap());
        let relay = Relay::start(place.path(), "socket", agent).unwrap();
        for question in [b"once", b"more"] {
            let mut asking = UnixStream::connect(place.path().join("socket")).unwrap();
            asking.write_all(question).unwrap();
            let mut answer = [0; 5];
            asking.read_exact(&mut answer).unwrap();
            assert_eq!(&answer[..4], question);
        }
        answers.join().unwrap();
        drop(relay);
        assert!(UnixStream::connect(place.path().join("socket")).is_err());
    }
}

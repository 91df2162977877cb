//! Messages with descriptors over a SEQPACKET socket. A body too large for one packet travels as a memory file.

use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// Small enough for any socket buffer.
const INLINE_BYTES: usize = 16 << 10;
/// The kernel allows 253 per message.
pub(crate) const MOST_DESCRIPTORS: usize = 200;
const INLINE: u8 = 0;
const IN_MEMORY_FILE: u8 = 1;

/// A pair of connected ends.
///
/// # Errors
/// The kernel's, as for the others here.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one message.
pub fn send(socket: BorrowedFd<'_>, body: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    if body.len() <= INLINE_BYTES {
        return send_raw(socket, INLINE, body, descriptors);
    }
    let file = memory_file(body)?;
    let mut all = descriptors.to_vec();
    all.push(file.as_fd());
    send_raw(socket, IN_MEMORY_FILE, &[], &all)
}

fn memory_file(body: &[u8]) -> io::Result<OwnedFd> {
    let mut file = std::fs::File::from(memfd_create("message", MemfdFlags::CLOEXEC)?);
    file.write_all(body)?;
    file.rewind()?;
    Ok(file.into())
}

fn send_raw(socket: BorrowedFd<'_>, form: u8, body: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS + 1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::from_raw_os_error(libc::E2BIG));
    }
    let form = [form];
    let parts = [IoSlice::new(&form), IoSlice::new(body)];
    rustix::io::retry_on_intr(|| sendmsg(socket, &parts, &mut ancillary, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Receives one message, or `None` when the other end is closed.
pub fn receive(socket: BorrowedFd<'_>) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS + 1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut buffer = vec![0; INLINE_BYTES + 1];
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    buffer.truncate(received.bytes);
    let form = buffer.remove(0);
    if form == IN_MEMORY_FILE {
        let file = descriptors.pop().ok_or(io::ErrorKind::InvalidData)?;
        buffer.clear();
        std::fs::File::from(file).read_to_end(&mut buffer)?;
    }
    Ok(Some((buffer, descriptors)))
}

/// Whether the other end is gone, without waiting or reading.
pub(crate) fn is_closed(socket: BorrowedFd<'_>) -> bool {
    wait(socket, Duration::ZERO).is_some_and(|flags| flags.contains(PollFlags::HUP))
}

/// Whether a message, or the other end's closing, comes in time.
pub fn comes_within(socket: BorrowedFd<'_>, patience: Duration) -> bool {
    wait(socket, patience).is_some()
}

fn wait(socket: BorrowedFd<'_>, patience: Duration) -> Option<PollFlags> {
    let mut polled = [PollFd::from_borrowed_fd(socket, PollFlags::IN)];
    let patience = Timespec::try_from(patience).ok();
    let ready = rustix::io::retry_on_intr(|| poll(&mut polled, patience.as_ref())).ok()?;
    (ready > 0).then(|| polled[0].revents())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_every_size_arrive_whole_with_their_descriptors() {
        let (here, there) = pair().unwrap();
        let (pipe, _other_end) = rustix::pipe::pipe().unwrap();
        for size in [0, 1, INLINE_BYTES, INLINE_BYTES + 1, 3 << 20] {
            let body = vec![b'x'; size];
            send(here.as_fd(), &body, &[pipe.as_fd(), pipe.as_fd()]).unwrap();
            let (got, descriptors) = receive(there.as_fd()).unwrap().unwrap();
            assert!(got == body, "a body of {size} bytes changed on its way");
            assert_eq!(descriptors.len(), 2);
        }
    }

    #[test]
    fn a_closed_end_reads_as_nothing() {
        let (here, there) = pair().unwrap();
        drop(here);
        assert!(receive(there.as_fd()).unwrap().is_none());
    }
}

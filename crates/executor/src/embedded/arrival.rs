//! Waiting for a file to be made in a folder, without looking again and again.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use tokio::io::unix::AsyncFd;

use super::descriptor;

#[derive(Debug)]
pub(super) struct Arrival {
    inotify: AsyncFd<OwnedFd>,
    path: PathBuf,
    name: &'static str,
}

impl Arrival {
    /// Watches from now on for `name` to be made in `folder`.
    pub(super) fn watch(folder: &Path, name: &'static str) -> io::Result<Arrival> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        inotify::add_watch(
            &inotify,
            folder,
            WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR,
        )?;
        Ok(Arrival { inotify: descriptor::register(inotify)?, path: folder.join(name), name })
    }

    pub(super) async fn wait(self) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            match ready.try_io(|inotify| read_names(inotify.get_ref(), self.name)) {
                Ok(Ok(true)) => return Ok(()),
                // Names may have been dropped from a queue that was full.
                Ok(Ok(false)) if self.path.try_exists()? => return Ok(()),
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(e)) => return Err(e),
            }
        }
    }
}

/// Reads what is queued; true if `name` was among it.
fn read_names(inotify: &OwnedFd, name: &str) -> io::Result<bool> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(inotify, &mut buffer);
    loop {
        let event = reader.next()?;
        if event.file_name().map(CStr::to_bytes) == Some(name.as_bytes()) {
            return Ok(true);
        }
        if reader.is_buffer_empty() {
            return Ok(false);
        }
    }
}

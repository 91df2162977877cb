//! Whether a container holds anything besides its files that a next one would not have: processes, files in memory, shared memory.
//! Runs inside, as one of [`crate::inside::FUNCTIONS`].

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{inside, shell};

/// What a command started may still be on its way out when the command has ended, such as `tee` in `> >(tee log)`.
const SETTLES: Duration = Duration::from_millis(20);

/// Arguments: folders in memory, as JSON. fds: where to write what there is, in words; nothing is written if there is nothing.
pub(crate) fn entry(arguments: &[u8], fds: Vec<OwnedFd>) -> i32 {
    let Some(mut out) = fds.into_iter().next().map(File::from) else { return inside::REFUSED };
    let Ok(folders) = serde_json::from_slice::<Vec<PathBuf>>(arguments) else { return inside::REFUSED };
    let found = process().or_else(|| file_in_memory(&folders)).or_else(shared_memory);
    match out.write_all(found.unwrap_or_default().as_bytes()) {
        Ok(()) => inside::DONE,
        Err(_) => inside::REFUSED,
    }
}

fn process() -> Option<String> {
    let deadline = Instant::now() + SETTLES;
    loop {
        let found = living_process()?;
        if Instant::now() >= deadline {
            return Some(format!("the process {found} goes on in the background"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Neither init nor ourselves nor one that has ended; its id and name.
fn living_process() -> Option<String> {
    let ours = std::process::id();
    let ids = fs::read_dir("/proc").ok()?.flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| *id != 1 && *id != ours).find_map(|id| {
        let status = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let (name, rest) = status.split_once('(')?.1.rsplit_once(')')?;
        let has_ended = rest.trim_start().starts_with(['Z', 'X']);
        (!has_ended).then(|| format!("{id} ({name})"))
    })
}

fn file_in_memory(folders: &[PathBuf]) -> Option<String> {
    let in_memory = [Path::new("/dev/shm"), Path::new("/dev/mqueue")];
    let entries = in_memory.into_iter().chain(folders.iter().map(PathBuf::as_path));
    let entries = entries.flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let devices = fs::read_dir("/dev").into_iter().flatten().flatten();
    let plain = devices.filter(|entry| fs::symlink_metadata(entry.path()).is_ok_and(|found| found.is_file()));
    let mut found = entries.chain(plain).map(|entry| entry.path()).filter(|path| !shell::is_ours(path));
    found.next().map(|path| format!("{} is in memory", path.display()))
}

fn shared_memory() -> Option<String> {
    let kinds = ["shm", "msg", "sem"];
    let used = kinds.iter().find(|kind| {
        fs::read_to_string(format!("/proc/sysvipc/{kind}")).is_ok_and(|table| table.lines().count() > 1)
    })?;
    Some(format!("the build uses System V IPC ({used})"))
}

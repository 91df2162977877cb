//! What a container writes on a disk of a fixed size: an ext4 file system in a file without a name, by a loop device that frees itself. Neither is seen
//! or found by anybody else, and both are gone when the last who holds the mount is, however that ends.
//!
//! Making a file system takes longer than a build may wait, so an empty one of each size is kept and copied; there is little in it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{AtFlags, Gid, Uid, chownat};
use rustix::mount::MountAttrFlags;

use crate::devices::new;
use crate::error::{Doing, Error};
use crate::ids::rules_the_host;
use crate::sys;

/// Where empty file systems are kept until the host is started again.
const EMPTY: &str = "/run/buildyard/disks";
/// ext4 needs some room for itself.
const LEAST_BYTES: u64 = 8 << 20;
const BLOCK: u64 = 4096;

/// Makes this host ready for containers with such a disk, so that the first of them need not wait. Takes root and the program `mkfs.ext4`.
///
/// # Errors
/// [`Error::Forbidden`] without root, [`Error::Invalid`] for less than 8 MiB, [`Error::Failed`].
pub fn prepare_disk(bytes: u64) -> Result<(), Error> {
    check(bytes)?;
    empty(bytes).map(drop)
}

/// # Errors
/// [`Error::Forbidden`] for an ordinary user, [`Error::Invalid`] for what is too small.
pub(crate) fn check(bytes: u64) -> Result<(), Error> {
    if bytes < LEAST_BYTES {
        return Err(Error::Invalid(format!("a disk of {bytes} bytes is smaller than {LEAST_BYTES}")));
    }
    match rules_the_host() {
        true => Ok(()),
        false => Err(Error::Forbidden {
            what: "a disk of a fixed size".into(),
            why: "it needs a loop device, which takes root".into(),
            remedy: "Say no size for disks, or run as root".into(),
        }),
    }
}

/// A new one with nothing in it, mounted nowhere yet; its file lies in `folder` without a name. Its root folder belongs to `owner`.
pub(crate) fn make(bytes: u64, folder: &Path, owner: u32) -> Result<OwnedFd, Error> {
    let mut image = unnamed(folder).doing(format!("make a disk in {}", folder.display()))?;
    copy(&mut empty(bytes)?, &mut image).doing("copy an empty disk")?;
    let device = sys::attach_loop(&image).doing("find a loop device for a disk")?;
    let source = device.1.to_string_lossy().into_owned();
    let plain = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    // Nothing of it outlives the container, so nothing need be in order after a power cut; and nobody initialises in the background.
    let options = [("source", source.as_str()), ("noinit_itable", ""), ("nobarrier", "")];
    let mount = new("ext4", &options, plain).doing("mount a disk")?;
    let owner = (Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)));
    chownat(&mount, "", owner.0, owner.1, AtFlags::EMPTY_PATH).doing("hand over a disk")?;
    Ok(mount)
}

/// The kept empty one of that size, made if it is missing.
fn empty(bytes: u64) -> Result<File, Error> {
    let bytes = bytes / BLOCK * BLOCK;
    let folder = Path::new(EMPTY);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .doing("make the folder of empty disks")?;
    let kept = folder.join(bytes.to_string());
    match File::open(&kept) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_empty(bytes, &kept)?,
        other => return other.doing("open an empty disk"),
    }
    File::open(&kept).doing("open an empty disk")
}

/// Several may do so at a time; the last one stays.
fn make_empty(bytes: u64, kept: &Path) -> Result<(), Error> {
    let making = PathBuf::from(format!("{}.{}", kept.display(), std::process::id()));
    let doing = "make an empty disk with `mkfs.ext4` (Debian's package e2fsprogs)";
    let made = format(bytes, &making).and_then(|()| fs::rename(&making, kept));
    if made.is_err() {
        let _ = fs::remove_file(&making);
    }
    made.doing(doing)
}

fn format(bytes: u64, file: &Path) -> io::Result<()> {
    File::options().write(true).create(true).truncate(true).mode(0o600).open(file)?.set_len(bytes)?;
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-m", "0", "-O", "^has_journal,^resize_inode"])
        .args(["-E", "lazy_itable_init=1,nodiscard,root_owner=0:0"])
        .arg(file)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin")
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&made.stderr).trim().to_owned();
    if made.status.success() { Ok(()) } else { Err(io::Error::other(said)) }
}

fn unnamed(folder: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).mode(0o600);
    match options.clone().custom_flags(libc::O_TMPFILE).open(folder) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR)) => {
            let path = folder.join(".disk");
            let file = options.create_new(true).open(&path)?;
            fs::remove_file(&path)?;
            Ok(file)
        }
        other => other,
    }
}

/// All but the holes.
fn copy(from: &mut File, to: &mut File) -> io::Result<()> {
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut position = 0;
    while let Some((start, end)) = next_data(from, position)? {
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        let mut left = vec![0; (end - start) as usize];
        from.read_exact(&mut left)?;
        to.write_all(&left)?;
        position = end;
    }
    Ok(())
}

/// Where the next bytes are that were written, from `position` on.
fn next_data(file: &File, position: u64) -> io::Result<Option<(u64, u64)>> {
    use rustix::fs::{SeekFrom, seek};
    let start = match seek(file, SeekFrom::Data(position)) {
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        other => other?,
    };
    Ok(Some((start, seek(file, SeekFrom::Hole(start))?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_is_the_same_and_has_the_same_holes() {
        let folder = std::env::temp_dir();
        let (mut from, mut to) = (unnamed(&folder).unwrap(), unnamed(&folder).unwrap());
        from.set_len(1 << 30).unwrap();
        for (at, text) in [(0, "first"), (5 << 20, "middle"), ((1 << 30) - 4, "last")] {
            from.seek(SeekFrom::Start(at)).unwrap();
            from.write_all(text.as_bytes()).unwrap();
        }
        copy(&mut from, &mut to).unwrap();
        assert_eq!(to.metadata().unwrap().len(), 1 << 30);
        let mut read = [0; 6];
        to.seek(SeekFrom::Start(5 << 20)).unwrap();
        to.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"middle");
        assert!(std::os::unix::fs::MetadataExt::blocks(&to.metadata().unwrap()) < 1000);
    }
}

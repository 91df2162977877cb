//! A file system of the measurement's own: ext4 with a journal, in a file.
//!
//! On an ext4 without one, as virtual machines may have it, the kernel looks at each inode that was deleted in the last minutes before it
//! gives one out. Making files then takes the longer the more files were removed before: what was measured would be the
//! measurements that came before.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Bytes; the file has holes where nothing was written.
const BYTES: u64 = 8 << 30;

#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    image: PathBuf,
}

impl Disk {
    /// None where it cannot be made, without root's rights say.
    pub(super) fn make(beside: &Path) -> Option<Disk> {
        let (folder, image) = (beside.with_extension("disk"), beside.with_extension("image"));
        let disk = Disk { folder, image };
        std::fs::create_dir(&disk.folder).ok()?;
        let file = std::fs::File::create(&disk.image).ok()?;
        file.set_len(BYTES).ok()?;
        runs(Command::new("mkfs.ext4").args(["-q", "-F", "-E", "lazy_itable_init=0"]).arg(&disk.image))
            .then_some(())?;
        runs(Command::new("mount").args(["-o", "loop"]).args([&disk.image, &disk.folder])).then_some(disk)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

fn runs(command: &mut Command) -> bool {
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever is still in it leaves soon.
        runs(Command::new("umount").arg("-l").arg(&self.folder));
        let _ = std::fs::remove_dir(&self.folder);
        let _ = std::fs::remove_file(&self.image);
    }
}

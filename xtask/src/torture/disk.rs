//! T07: a disk that is full, one that cannot keep what it is told to, and one that may only be read.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::FallocateFlags;

use super::ledger::{Hurt, Ledger};
use super::report::Figures;
use super::tracer::{Calls, Role};
use super::windows::{Bounds, Failure, Windows};
use super::yard::{Options, Yard};
use super::{Setting, check};

/// Of the small disk: what the builds of a long run leave has room, and ext4 needs some of it.
const DISK_BYTES: u64 = 1 << 30;
/// In which ext4 gives room.
const BLOCK_BYTES: u64 = 4096;
/// What is left free when it is full, at most.
const LEFT_MAX_BYTES: usize = 512 << 10;

/// Failing calls, as a broken disk has them.
pub(super) fn failing(setting: &Setting, windows: usize) -> Result<Figures, String> {
    let yard = Arc::new(Yard::make(&setting.binary, Options { concurrent_builds: 4, ..Options::default() })?);
    let ledger = Arc::new(Ledger::open(&setting.ledger("disk"))?);
    yard.start()?;
    yard.furnish()?;
    let data = yard.data();
    let (files, syncs) = (Calls::Files(data.clone()), Calls::Syncs(data));
    let failure = |what, calls: &Calls, error, role| Failure {
        what,
        calls: calls.clone(),
        error,
        role,
        is_total: true,
        hurts: Some(Hurt::Disk),
        reads_go_on: true,
    };
    let failures = [
        failure("EIO on fsync", &syncs, Errno::EIO, None),
        failure("EIO on fsync of the server", &syncs, Errno::EIO, Some(Role::Server)),
        failure("EIO on writes", &files, Errno::EIO, None),
        failure("EROFS", &files, Errno::EROFS, None),
        failure("EROFS of the server", &files, Errno::EROFS, Some(Role::Server)),
        failure("ENOSPC", &files, Errno::ENOSPC, None),
    ];
    let mut run = Windows::new(&yard, &ledger, setting.seed);
    run.run(setting, &failures, windows)?;
    let lines = run.told.lines();
    restart(&yard)?;
    check::at_the_end(&yard, &ledger)?;
    let figures = Figures::of("T07 EIO on fsync and writes, EROFS, ENOSPC", &ledger);
    Ok(lines.into_iter().fold(figures, Figures::with))
}

/// What a disk did not let be removed, the next start removes.
fn restart(yard: &Yard) -> Result<(), String> {
    yard.processes();
    yard.kill();
    yard.start().map(drop)
}

/// A file system of its own, gone with it.
struct Disk {
    image: PathBuf,
    place: PathBuf,
}

impl Disk {
    fn mount(image: PathBuf) -> Result<Disk, String> {
        let place = image.with_extension("mounted");
        let told = |e: std::io::Error| format!("{}: {e}", image.display());
        std::fs::create_dir_all(&place).map_err(told)?;
        std::fs::File::create(&image).and_then(|file| file.set_len(DISK_BYTES)).map_err(told)?;
        // Root may not use more than others.
        command(&["mkfs.ext4", "-q", "-m", "0", "-F", &image.to_string_lossy()])?;
        command(&["mount", "-o", "loop", &image.to_string_lossy(), &place.to_string_lossy()])?;
        Ok(Disk { image, place })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(reason) = command(&["umount", "-l", &self.place.to_string_lossy()]) {
            eprintln!("torture: {reason}");
        }
        let _ = std::fs::remove_dir(&self.place);
        let _ = std::fs::remove_file(&self.image);
    }
}

fn command(words: &[&str]) -> Result<(), String> {
    let status =
        Command::new(words[0]).args(&words[1..]).status().map_err(|e| format!("{}: {e}", words[0]))?;
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", words.join(" "))) }
}

/// The data folder on a small disk, which somebody fills up to the last bytes again and again.
pub(super) fn full(setting: &Setting, times: usize) -> Result<Figures, String> {
    let disk = Disk::mount(setting.ledgers.join(format!("disk-{}.img", setting.seed)))?;
    let data = disk.place.join("data");
    let options = Options { concurrent_builds: 4, data: Some(data.clone()), ..Options::default() };
    let yard = Arc::new(Yard::make(&setting.binary, options)?);
    let ledger = Arc::new(Ledger::open(&setting.ledger("full"))?);
    yard.start()?;
    yard.furnish()?;
    let mut run = Windows::new(&yard, &ledger, setting.seed);
    let load = run.load(setting);
    let outcome = (0..times).try_for_each(|_| fill_once(&mut run, &disk.place));
    load.finish()?;
    outcome?;
    let lines = run.told.lines();
    restart(&yard)?;
    check::at_the_end(&yard, &ledger)?;
    let figures = Figures::of("T07 full disk", &ledger);
    Ok(lines.into_iter().fold(figures, Figures::with))
}

fn fill_once(run: &mut Windows, place: &Path) -> Result<(), String> {
    let known = run.known()?;
    let filler = place.join("filler");
    run.begin("full disk", true, Some(Hurt::Disk));
    let left = run.chance.below(LEFT_MAX_BYTES) as u64;
    fill(&filler, place, left)?;
    let length = Duration::from_millis(300) + run.chance.up_to(Duration::from_millis(700));
    run.probe(&known, length, Bounds { nothing_is_kept: false, reads_go_on: true });
    std::fs::remove_file(&filler).map_err(|e| format!("{}: {e}", filler.display()))?;
    run.end()
}

/// Takes room until so many bytes are left, or no more can be had; the kernel sets it apart without anything being written.
fn fill(filler: &Path, place: &Path, left: u64) -> Result<(), String> {
    let file = std::fs::File::create(filler).map_err(|e| format!("{}: {e}", filler.display()))?;
    let (mut at, mut most) = (0, u64::MAX);
    loop {
        let length = free_bytes(place)?.saturating_sub(left).min(most) & !(BLOCK_BYTES - 1);
        if length == 0 {
            return Ok(());
        }
        match nix::fcntl::fallocate(&file, FallocateFlags::empty(), at as i64, length as i64) {
            Ok(()) => at += length,
            // Others take room too, and the file system some for itself.
            Err(_) => most = length / 2,
        }
    }
}

fn free_bytes(place: &Path) -> Result<u64, String> {
    let disk = nix::sys::statvfs::statvfs(place).map_err(|e| format!("{}: {e}", place.display()))?;
    Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
}

//! A build that swaps what is being collected for links to what it must not reach (T16).
//!
//! Each race runs twice: a naive reader, which looks at a path and then opens it, must be caught at least once, or the
//! race shows nothing; the agent's own must never be.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use agent::beneath::Folder;
use rustix::fs::{CWD, RenameFlags, renameat_with};

crate::cases![what_is_swapped_for_a_link_while_it_is_collected_leads_nowhere];

/// Tries of the short form.
const TRIES: usize = 100_000;
/// Within so many tries the naive reader must have been caught.
const NAIVE_TRIES: usize = 2_000_000;
const SECRET: &str = "secret";

fn what_is_swapped_for_a_link_while_it_is_collected_leads_nowhere() {
    race(TRIES);
}

/// What a try came to.
#[derive(PartialEq, Eq)]
enum Outcome {
    Own,
    Escaped,
    Refused,
}

pub(crate) fn race(tries: usize) {
    for swapped in ["workspace/folder", "workspace/folder/file"] {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        fs::create_dir_all(path("workspace/folder")).unwrap();
        fs::create_dir(path("outside")).unwrap();
        fs::write(path("workspace/folder/file"), "own").unwrap();
        fs::write(path("outside/file"), SECRET).unwrap();
        let outside = if swapped.ends_with("file") { "outside/file" } else { "outside" };
        symlink(path(outside), path("link")).unwrap();

        let naive = racing(&path(swapped), &path("link"), || {
            let caught =
                (1..=NAIVE_TRIES).find(|_| naive(&path("workspace/folder/file")) == Outcome::Escaped);
            caught.expect("the naive reader was never caught: the race is none")
        });
        let folder = Folder::open(&path("workspace")).unwrap();
        let (mut own, mut refused) = (0, 0);
        racing(&path(swapped), &path("link"), || {
            for _ in 0..tries {
                match told(folder.file(Path::new("folder/file"))) {
                    Outcome::Own => own += 1,
                    Outcome::Refused => refused += 1,
                    Outcome::Escaped => panic!("the link in the place of {swapped} was followed"),
                }
            }
        });
        assert!(own > 0, "it never reads anything");
        println!(
            "{swapped}: naive caught at try {naive}; of {tries} tries {own} read, {refused} refused, 0 escaped"
        );
    }
}

/// Looks whether it is a file of the workspace, then opens it.
fn naive(path: &Path) -> Outcome {
    let is_fine =
        path.parent().is_some_and(|folder| fs::symlink_metadata(folder).is_ok_and(|found| found.is_dir()))
            && fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    if is_fine { told(File::open(path)) } else { Outcome::Refused }
}

fn told(opened: io::Result<File>) -> Outcome {
    let mut text = String::new();
    match opened.and_then(|mut file| file.read_to_string(&mut text)) {
        Ok(_) if text == SECRET => Outcome::Escaped,
        Ok(_) => Outcome::Own,
        Err(_) => Outcome::Refused,
    }
}

/// Does something while the two paths are exchanged as fast as the kernel can.
fn racing<T>(one: &Path, other: &Path, act: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let ends = Ends(&over);
        let done = act();
        drop(ends);
        swapper.join().unwrap();
        done
    })
}

/// Ends the swapping, even when a test fails meanwhile.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

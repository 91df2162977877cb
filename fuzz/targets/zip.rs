//! Any archive, unpacked: nothing is written outside of its folder, nothing but files, folders and links is made, and an archive
//! of plain entries is unpacked as they are.

#![no_main]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Cursor, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use zip::write::SimpleFileOptions;

// The room would bring SQLite along; the module needs nothing of it.
#[allow(dead_code)]
#[path = "../../crates/agent/src/inside"]
mod inside {
    mod unzip;

    pub fn unpack(target: &std::path::Path, archive: std::fs::File) -> Result<(), String> {
        unzip::unzip(target, archive)
    }
}

/// Of this process's own, in memory where that can be.
static FOLDER: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    folder.join(format!("fuzzed-zip-{}", std::process::id()))
});

/// What every file system takes.
const NAME_BYTES: usize = 200;

/// What is in a tree: names, and what is there.
fn tree(folder: &Path, below: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder.join(below)).expect("it is ours").flatten() {
        let (name, kind) = (below.join(entry.file_name()), entry.file_type().expect("it is there"));
        if kind.is_dir() {
            tree(folder, &name, found);
        } else if kind.is_file() {
            let mode = entry.metadata().expect("it is there").permissions().mode();
            assert_eq!(mode & 0o7000, 0, "{name:?} has a set-id or sticky bit");
            found.insert(name, fs::read(entry.path()).expect("we are its owner"));
        } else {
            assert!(kind.is_symlink(), "{name:?} is neither file nor folder nor link");
        }
    }
}

/// An archive of lines: a name, and what is in it after a `=`.
fn pack(text: &str) -> Option<(Vec<u8>, BTreeMap<PathBuf, Vec<u8>>)> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let mut expected = BTreeMap::new();
    for line in text.lines() {
        let (name, content) = line.split_once('=')?;
        let is_plain = name.split('/').all(|part| {
            (1..=NAME_BYTES).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
        // A file in the place of a folder is refused, which is another case.
        let clashes = expected
            .keys()
            .any(|known: &PathBuf| known.starts_with(name) || Path::new(name).starts_with(known));
        if !is_plain || clashes {
            return None;
        }
        writer.start_file(name, SimpleFileOptions::default()).ok()?;
        writer.write_all(content.as_bytes()).ok()?;
        expected.insert(PathBuf::from(name), content.as_bytes().to_vec());
    }
    Some((writer.finish().ok()?.into_inner(), expected))
}

/// What was unpacked, if it was.
fn unpacked(archive: &[u8]) -> Option<BTreeMap<PathBuf, Vec<u8>>> {
    let (folder, target) = (&*FOLDER, FOLDER.join("target"));
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(&target).expect("it is ours");
    let path = folder.join("archive.zip");
    fs::write(&path, archive).expect("it is ours");
    let result = inside::unpack(&target, File::open(&path).expect("it is ours"));
    let mut found = BTreeMap::new();
    tree(&target, Path::new(""), &mut found);
    assert_eq!(fs::read_dir(folder).expect("it is ours").count(), 2, "something is beside the target");
    assert!(fs::read(&path).expect("it is ours") == archive, "the archive has changed");
    fs::remove_dir_all(folder).expect("it is ours");
    result.ok().map(|()| found)
}

fuzz_target!(|bytes: &[u8]| {
    match bytes.split_first() {
        Some((b'=', text)) => {
            let Some((archive, expected)) = std::str::from_utf8(text).ok().and_then(pack) else { return };
            assert_eq!(unpacked(&archive), Some(expected));
        }
        _ => drop(unpacked(bytes)),
    }
});

//! Files as an archive and back, inside the container: a tar stream in zstd frames, whose names begin with `src/` (below the source
//! folder, wherever that is in this build) or `abs/`. What the archive says meets only the container's own file system.
//!
//! Here: packing. The frames are in `parts`, unpacking in `unpack`.

mod parts;
mod unpack;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use buildspec::glob::Pattern;
use serde::{Deserialize, Serialize};

use crate::inside::{self, Kind};
use crate::stream::{self, Record};

/// Entries of one cache.
const ENTRIES_MAX: usize = 1_000_000;
/// Bytes that one cache may unpack to (EN-010: the smallest documented disk).
const UNPACKED_BYTES_MAX: u64 = 64 << 30;
const CHUNK: usize = 256 << 10;

const SOURCE: &str = "src";
const ABSOLUTE: &str = "abs";
/// The kernel's, and the agent's own.
const NEVER: &[&str] =
    &["/proc", "/sys", "/dev", "/codebuild/output/tmp", "/codebuild/readonly", "/codebuild/user"];

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Pack {
    /// What relative patterns are relative to.
    pub(crate) root: PathBuf,
    pub(crate) paths: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Unpack {
    pub(crate) root: PathBuf,
}

/// fds: the stream, which gets notes and the archive's bytes.
pub(crate) fn pack_entry(args: &[u8], fds: Vec<OwnedFd>) -> i32 {
    let Some(out) = fds.into_iter().next() else { return inside::REFUSED };
    let Ok(args) = serde_json::from_slice::<Pack>(args) else { return inside::REFUSED };
    let mut out = io::BufWriter::with_capacity(CHUNK, File::from(out));
    let result = pack(&args, &mut out);
    let last = match &result {
        Ok(()) => Record::Done,
        Err(message) => Record::Failed(message.clone()),
    };
    let told = stream::write(&mut out, &last).and_then(|()| out.flush());
    if result.is_ok() && told.is_ok() { inside::DONE } else { inside::REFUSED }
}

fn pack(args: &Pack, out: &mut impl Write) -> Result<(), String> {
    let found = find(args, out)?;
    let files = found.values().filter(|(_, kind)| *kind != Kind::Folder).count();
    stream::write(out, &Record::Note(format!("Found {files} file(s) to be cached")))
        .map_err(|e| e.to_string())?;
    if files == 0 {
        return Ok(());
    }
    let told = |e: io::Error| format!("cannot pack the cache: {e}");
    let mut archive = tar::Builder::new(parts::Writer::new(Framed(out)).map_err(told)?);
    archive.sparse(false);
    let mut left = UNPACKED_BYTES_MAX;
    for (name, (path, kind)) in &found {
        match append(&mut archive, name, path, *kind, &mut left) {
            // Gone since the walk, as a background process may do.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            other => other.map_err(|e| format!("cannot pack {}: {e}", path.display()))?,
        }
        archive.get_mut().end_entry().map_err(told)?;
    }
    archive.into_inner().and_then(parts::Writer::finish).map_err(told)
}

/// Bytes as frames of a stream.
struct Framed<W>(W);

impl<W: Write> Write for Framed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(CHUNK);
        stream::write_data(&mut self.0, &bytes[..length])?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Everything the patterns name, by its name in the archive.
type Found = BTreeMap<PathBuf, (PathBuf, Kind)>;

fn find(args: &Pack, out: &mut impl Write) -> Result<Found, String> {
    let mut found = Found::new();
    for text in &args.paths {
        let note = Record::Note(format!("Expanding cache path {text}"));
        stream::write(out, &note).map_err(|e| e.to_string())?;
        let pattern = Pattern::parse(text).map_err(|e| e.to_string())?;
        let (start, beginning) = match pattern.is_absolute() {
            true => (Path::new("/"), ABSOLUTE),
            false => (args.root.as_path(), SOURCE),
        };
        inside::walk(start, &mut |relative, path, kind| {
            if NEVER.iter().any(|never| path == Path::new(never)) {
                return Ok(false);
            }
            let parts: Vec<&[u8]> = relative.iter().map(Vec::as_slice).collect();
            if pattern.matches(&parts) {
                let parts = relative.iter().map(|part| OsStr::from_bytes(part));
                let name = Path::new(beginning).join(parts.collect::<PathBuf>());
                found.insert(name, (path.to_owned(), kind));
            }
            match found.len() > ENTRIES_MAX {
                true => Err(format!("more than {ENTRIES_MAX} files match")),
                false => Ok(kind == Kind::Folder && pattern.could_match_below(&parts)),
            }
        })?;
    }
    Ok(found)
}

/// `left` is how many bytes of content may still be packed: a sparse file may have any length.
fn append(
    archive: &mut tar::Builder<impl Write>,
    name: &Path,
    path: &Path,
    kind: Kind,
    left: &mut u64,
) -> io::Result<()> {
    // Opened first: what is told of it and what is read are then the same file.
    let content = match kind {
        Kind::File => Some(open_unlinked(path)?),
        _ => None,
    };
    let metadata = match &content {
        Some(file) => file.metadata()?,
        None => fs::symlink_metadata(path)?,
    };
    let mut header = tar::Header::new_gnu();
    header.set_mode(metadata.mode() & 0o7777);
    header.set_uid(metadata.uid().into());
    header.set_gid(metadata.gid().into());
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_size(0);
    // Seconds are too coarse for tools that compare the times of sources and products.
    let time = format!("{}.{:09}", metadata.mtime().max(0), metadata.mtime_nsec());
    archive.append_pax_extensions([("mtime", time.as_bytes())])?;
    match (kind, content) {
        (Kind::File, Some(file)) => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(metadata.len());
            let too_much = || io::Error::other(format!("there are more than {UNPACKED_BYTES_MAX} bytes"));
            *left = left.checked_sub(metadata.len()).ok_or_else(too_much)?;
            // A file that shrinks while it is read must not take the archive with it.
            let content = file.take(metadata.len()).chain(io::repeat(0)).take(metadata.len());
            archive.append_data(&mut header, name, content)
        }
        (Kind::Link, _) => {
            header.set_entry_type(tar::EntryType::Symlink);
            archive.append_link(&mut header, name, fs::read_link(path)?)
        }
        _ => {
            header.set_entry_type(tar::EntryType::Directory);
            archive.append_data(&mut header, name, io::empty())
        }
    }
}

/// Never follows a link, never blocks on a FIFO, never opens a device.
fn open_unlinked(path: &Path) -> io::Result<File> {
    let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW).bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// fds: the stream for messages, the archive.
pub(crate) fn unpack_entry(args: &[u8], fds: Vec<OwnedFd>) -> i32 {
    let mut fds = fds.into_iter().map(File::from);
    let (Some(mut out), Some(archive)) = (fds.next(), fds.next()) else { return inside::REFUSED };
    let Ok(args) = serde_json::from_slice::<Unpack>(args) else { return inside::REFUSED };
    inside::report(&mut out, unpack::unpack(&args, &archive))
}

#[cfg(test)]
mod tests {
    use std::io::Seek;
    use std::os::unix::fs::PermissionsExt;

    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

    use super::*;
    use crate::stream::{Decoder, Item};

    fn packed(root: &Path, paths: &[&str]) -> (File, Vec<String>) {
        let args = Pack { root: root.to_owned(), paths: paths.iter().map(ToString::to_string).collect() };
        let mut bytes = Vec::new();
        pack(&args, &mut bytes).unwrap();
        let (mut archive, mut notes) = (tempfile::tempfile().unwrap(), Vec::new());
        let mut take = |item: Item<'_>| {
            match item {
                Item::Data(bytes) => archive.write_all(bytes)?,
                Item::Record(Record::Note(note)) => notes.push(note),
                Item::Record(_) => {}
            }
            Ok(())
        };
        Decoder::default().feed(&bytes, &mut take).unwrap();
        archive.rewind().unwrap();
        (archive, notes)
    }

    fn unpacked(root: &Path, archive: File) -> Result<(), String> {
        unpack::unpack(&Unpack { root: root.to_owned() }, &archive)
    }

    /// An archive that says what it likes: (name, link target or content).
    fn forged(entries: &[(&str, Result<&str, &str>)]) -> File {
        let mut archive = tar::Builder::new(zstd::Encoder::new(tempfile::tempfile().unwrap(), 1).unwrap());
        for (name, what) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            let content = what.unwrap_or_default();
            header.set_size(content.len() as u64);
            let field = &mut header.as_gnu_mut().unwrap().name;
            field[..name.len()].copy_from_slice(name.as_bytes());
            if let Err(target) = what {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_link_name_literal(target).unwrap();
            }
            header.set_cksum();
            archive.append(&header, content.as_bytes()).unwrap();
        }
        let mut file = archive.into_inner().unwrap().finish().unwrap();
        file.rewind().unwrap();
        file
    }

    #[test]
    fn files_links_folders_modes_and_times_come_back_as_they_were() {
        // BS-150, BS-180
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let deep = format!("cache/{}", ["d"; 60].join("/"));
        fs::create_dir_all(one.path().join(&deep)).unwrap();
        fs::create_dir_all(one.path().join("cache/empty")).unwrap();
        fs::write(one.path().join(&deep).join("file"), "deep").unwrap();
        let program = one.path().join("cache/program");
        fs::write(&program, vec![7; 700_000]).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let modified = Timespec { tv_sec: 1_000_000_000, tv_nsec: 123_456_789 };
        utimensat(
            CWD,
            &program,
            &Timestamps { last_access: modified, last_modification: modified },
            AtFlags::empty(),
        )
        .unwrap();
        std::os::unix::fs::symlink("program", one.path().join("cache/link")).unwrap();
        fs::write(one.path().join("other"), "not cached").unwrap();
        let (archive, notes) = packed(one.path(), &["cache/**/*"]);
        assert_eq!(notes.last().unwrap(), "Found 3 file(s) to be cached");
        unpacked(two.path(), archive).unwrap();
        let of = |path: &str| two.path().join(path);
        assert_eq!(fs::read_to_string(of(&deep).join("file")).unwrap(), "deep");
        let metadata = fs::metadata(of("cache/program")).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.len()), (0o755, 700_000));
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (1_000_000_000, 123_456_789));
        assert_eq!(fs::read_link(of("cache/link")).unwrap(), Path::new("program"));
        assert!(of("cache/empty").is_dir() && !of("other").exists());
    }

    #[test]
    fn absolute_paths_come_back_where_they_were() {
        // BS-142, BS-150
        let (folder, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let kept = folder.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("a"), "cached").unwrap();
        let (archive, _) = packed(source.path(), &[&format!("{}/**/*", kept.display())]);
        fs::write(kept.join("a"), "changed since").unwrap();
        unpacked(source.path(), archive).unwrap();
        assert_eq!(fs::read_to_string(kept.join("a")).unwrap(), "cached");
    }

    #[test]
    fn a_damaged_archive_leaves_everything_as_it_was() {
        // SA-095
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for number in 0..100 {
            fs::write(one.path().join(format!("file{number}")), format!("{number}").repeat(1000)).unwrap();
        }
        let (mut archive, _) = packed(one.path(), &["*"]);
        let mut bytes = Vec::new();
        archive.read_to_end(&mut bytes).unwrap();
        let file_of = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file.rewind().unwrap();
            file
        };
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        for damaged in [&bytes[..bytes.len() / 2], &bytes[..bytes.len() - 1], &flipped, b"nonsense", b""] {
            let result = unpacked(two.path(), file_of(damaged));
            assert!(result.is_err() || damaged.is_empty(), "{}", damaged.len());
            assert_eq!(fs::read_dir(two.path()).unwrap().count(), 0);
        }
        unpacked(two.path(), file_of(&bytes)).unwrap();
        assert_eq!(fs::read_dir(two.path()).unwrap().count(), 100);
    }

    #[test]
    fn hostile_archives_write_nothing_through_links_or_out_of_their_folder() {
        // SA-095, BS-150: SEC T15
        let outside = tempfile::tempdir().unwrap();
        let there = outside.path().to_str().unwrap();
        let cases: &[&[(&str, Result<&str, &str>)]] = &[
            &[("src/../escaped", Ok("x"))],
            &[("src", Ok("x"))],
            &[("/src/a", Ok("x"))],
            &[("other/a", Ok("x"))],
            &[("abs/proc/self/mem", Ok("x"))],
            &[("abs/codebuild/output/tmp/env.sh", Ok("x"))],
            &[("src/link", Err(there)), ("src/link/escaped", Ok("x"))],
            &[("src/a", Err(there)), ("src/b", Err("a")), ("src/b/escaped", Ok("x"))],
            &[("src/link", Err(there)), ("src/link/deep/escaped", Ok("x"))],
        ];
        for entries in cases {
            let root = tempfile::tempdir().unwrap();
            let why = unpacked(root.path(), forged(entries)).unwrap_err();
            assert!(why.contains("has no place") || why.contains("through the link"), "{entries:?}: {why}");
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{entries:?}");
            assert!(!root.path().parent().unwrap().join("escaped").exists());
        }
        // A link that is replaced is not followed.
        let root = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("victim"), "whole").unwrap();
        std::os::unix::fs::symlink(outside.path().join("victim"), root.path().join("a")).unwrap();
        unpacked(root.path(), forged(&[("src/a", Ok("new"))])).unwrap();
        assert_eq!(fs::read_to_string(outside.path().join("victim")).unwrap(), "whole");
        assert_eq!(fs::read_to_string(root.path().join("a")).unwrap(), "new");
    }

    #[test]
    fn what_is_no_file_is_neither_packed_nor_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "a").unwrap();
        rustix::fs::mknodat(
            CWD,
            folder.path().join("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let (_, notes) = packed(folder.path(), &["**/*"]);
        let sparse = tempfile::tempdir().unwrap();
        File::create(sparse.path().join("a")).unwrap().set_len(1 << 40).unwrap();
        let args = Pack { root: sparse.path().to_owned(), paths: vec!["*".into()] };
        assert!(pack(&args, &mut Vec::new()).unwrap_err().contains("more than"));
        assert_eq!(notes, ["Expanding cache path **/*", "Found 1 file(s) to be cached"]);
        let (archive, notes) = packed(folder.path(), &["nothing/**/*"]);
        assert_eq!(
            (notes.last().unwrap().as_str(), archive.metadata().unwrap().len()),
            ("Found 0 file(s) to be cached", 0)
        );
    }
}

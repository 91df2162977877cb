//! What runs inside the container on the agent's behalf: unpacking a source, reading a file, collecting files.
//!
//! These are functions that the container's init forks off, so hostile archives, trees and links meet only the
//! container's own file system. What they return crosses a pipe and is checked again outside.

mod discover;
#[cfg(test)]
mod hostile;
mod unzip;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use buildspec::glob::Pattern;
use container::Function;
use serde::{Deserialize, Serialize};

use crate::beneath::{self, Folder};
use crate::stream::{self, Record};
pub(crate) use discover::Discover;

/// Files of one artifact.
const ENTRY_LIMIT: usize = 1_000_000;
/// Bytes of one artifact's files, by their lengths: a sparse file may have any.
const COLLECTED_LIMIT: u64 = 64 << 30;
const CHUNK: usize = 256 << 10;

/// All functions, for [`container::Spec::functions`].
pub(crate) static FUNCTIONS: &[Function] = &[
    Function { name: "unzip", run: unzip_entry },
    Function { name: "read", run: read_entry },
    Function { name: "collect", run: collect_entry },
    Function { name: "discover", run: discover::entry },
    Function { name: "place", run: place_entry },
    Function { name: "place-all", run: place_all_entry },
    Function { name: "pack", run: crate::cache::archive::pack_entry },
    Function { name: "unpack", run: crate::cache::archive::unpack_entry },
    Function { name: "leave-out", run: leave_out_entry },
    Function { name: "unpack-source", run: crate::fetching::unpack_entry },
    Function { name: "quiet", run: crate::quiet::entry },
    Function { name: "terminal", run: crate::shells::terminal_entry },
    Function { name: "breakpoints", run: crate::breakpoints::entry },
    Function { name: "hash-pipes", run: crate::hash_files::pipes_entry },
    Function { name: "hash-files", run: crate::hash_files::answer_entry },
];

/// Exit statuses of the functions; the rest of what they have to say is in the stream.
pub(crate) const DONE: i32 = 0;
pub(crate) const REFUSED: i32 = 1;
pub(crate) const MISSING: i32 = 2;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Unzip {
    pub(crate) target: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ReadFile {
    pub(crate) path: PathBuf,
    pub(crate) limit: u64,
}

/// Writes one file below `target`, from a descriptor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) target: PathBuf,
    pub(crate) relative: String,
    pub(crate) mode: u32,
}

/// Writes files below `target`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PlaceAll {
    pub(crate) target: PathBuf,
    pub(crate) pieces: Vec<Piece>,
}

/// A file to be, from a part of one of the descriptors.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Piece {
    pub(crate) relative: String,
    pub(crate) file: usize,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Collect {
    /// `CODEBUILD_SRC_DIR`; a relative base directory starts here (BS-130).
    pub(crate) root: PathBuf,
    /// A folder or a pattern of folders (BS-135).
    pub(crate) base_directory: String,
    pub(crate) files: Vec<String>,
    pub(crate) exclude_paths: Vec<String>,
    pub(crate) discard_paths: bool,
    pub(crate) keep_symlinks: bool,
    /// `files` are names below the base directory, not patterns; nothing is said of them.
    pub(crate) named: bool,
}

pub(crate) fn first_fd(fds: Vec<OwnedFd>) -> Option<(File, Option<File>)> {
    let mut fds = fds.into_iter().map(File::from);
    Some((fds.next()?, fds.next()))
}

/// fds: the stream for messages, the archive.
fn unzip_entry(args: &[u8], fds: Vec<OwnedFd>) -> i32 {
    let Some((mut out, Some(archive))) = first_fd(fds) else { return REFUSED };
    let Ok(args) = serde_json::from_slice::<Unzip>(args) else { return REFUSED };
    report(&mut out, unzip::unzip(&args.target, archive))
}

pub(crate) fn report(out: &mut File, result: Result<(), String>) -> i32 {
    match result {
        Ok(()) => DONE,
        Err(message) => {
            // The reader is the agent itself; if it is gone there is nobody left to tell.
            let _ = stream::write(out, &Record::Failed(message));
            REFUSED
        }
    }
}

/// fds: the stream for messages, the content.
fn place_entry(args: &[u8], fds: Vec<OwnedFd>) -> i32 {
    let Some((mut out, Some(content))) = first_fd(fds) else { return REFUSED };
    let Ok(args) = serde_json::from_slice::<Place>(args) else { return REFUSED };
    let result = place(&args, content);
    report(&mut out, result)
}

fn place(args: &Place, content: File) -> Result<(), String> {
    write_below(&args.target, &args.relative, args.mode, content)
}

/// fds: the stream for messages, the contents.
fn place_all_entry(args: &[u8], fds: Vec<OwnedFd>) -> i32 {
    let mut fds = fds.into_iter().map(File::from);
    let Some(mut out) = fds.next() else { return REFUSED };
    let Ok(args) = serde_json::from_slice::<PlaceAll>(args) else { return REFUSED };
    let files: Vec<File> = fds.collect();
    report(&mut out, place_all(&args, &files))
}

fn place_all(args: &PlaceAll, files: &[File]) -> Result<(), String> {
    args.pieces.iter().try_for_each(|piece| {
        let Piece { relative, file, offset, size } = piece;
        let mut file = files.get(*file).ok_or_else(|| format!("`{relative}` has no content"))?;
        file.seek(io::SeekFrom::Start(*offset)).map_err(|e| format!("cannot read `{relative}`: {e}"))?;
        write_below(&args.target, relative, 0o644, file.take(*size))
    })
}

/// `name` is what is left of an object's key; one that ends with a slash is a folder.
fn write_below(target: &Path, name: &str, mode: u32, mut content: impl Read) -> Result<(), String> {
    let path = unzip::beneath(target, name)
        .ok_or_else(|| format!("the object key `{name}` would leave the source folder"))?;
    let mut put = || -> io::Result<()> {
        if name.ends_with('/') {
            return fs::create_dir_all(&path);
        }
        fs::create_dir_all(path.parent().unwrap_or(target))?;
        let mut file = File::create(&path)?;
        io::copy(&mut content, &mut file)?;
        file.set_permissions(fs::Permissions::from_mode(mode))
    };
    put().map_err(|e| format!("cannot write `{name}`: {e}"))
}

/// Removes what is not to be seen; in an overlay the folder beneath stays as it is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LeaveOut {
    pub(crate) root: PathBuf,
    pub(crate) paths: Vec<PathBuf>,
}

/// fds: the stream for messages.
fn leave_out_entry(args: &[u8], fds: Vec<OwnedFd>) -> i32 {
    let Some((mut out, _)) = first_fd(fds) else { return REFUSED };
    let Ok(args) = serde_json::from_slice::<LeaveOut>(args) else { return REFUSED };
    let result = args.paths.iter().try_for_each(|path| leave_out(&args.root.join(path)));
    report(&mut out, result)
}

fn leave_out(path: &Path) -> Result<(), String> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("cannot leave out {}: {error}", path.display()))
        }
        _ => Ok(()),
    }
}

/// fds: where the bytes go.
fn read_entry(args: &[u8], fds: Vec<OwnedFd>) -> i32 {
    let Some((mut out, _)) = first_fd(fds) else { return REFUSED };
    let Ok(args) = serde_json::from_slice::<ReadFile>(args) else { return REFUSED };
    match read_file(&args, &mut out) {
        Ok(()) => DONE,
        Err(e) if e.kind() == io::ErrorKind::NotFound => MISSING,
        Err(_) => REFUSED,
    }
}

/// Copies at most `limit + 1` bytes: the reader sees from the length that there was more.
fn read_file(args: &ReadFile, out: &mut File) -> io::Result<()> {
    let file = open_regular(&args.path)?;
    io::copy(&mut file.take(args.limit + 1), out)?;
    Ok(())
}

/// Never blocks on a FIFO, never opens a device.
fn open_regular(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    Ok(file)
}

/// fds: the stream.
fn collect_entry(args: &[u8], fds: Vec<OwnedFd>) -> i32 {
    let Some((out, _)) = first_fd(fds) else { return REFUSED };
    let Ok(args) = serde_json::from_slice::<Collect>(args) else { return REFUSED };
    let mut out = io::BufWriter::with_capacity(CHUNK, out);
    let result = collect(&args, &mut out);
    let last = match &result {
        Ok(()) => Record::Done,
        Err(message) => Record::Failed(message.clone()),
    };
    let told = stream::write(&mut out, &last).and_then(|()| out.flush());
    if result.is_ok() && told.is_ok() { DONE } else { REFUSED }
}

/// A folder that files are collected from. What is opened lies beneath it, or for links beneath the source folder it is
/// part of: commands that still run may put anything in the place of what was seen before.
#[derive(Debug)]
struct Base {
    /// As the log shows it.
    shown: String,
    path: PathBuf,
    /// `None` if there is no such folder.
    folder: Option<Folder>,
    /// The source folder, and the way from there to here.
    source: Option<(Folder, PathBuf)>,
}

/// A file to send: where it is, and its path in the artifact.
#[derive(Debug)]
struct Found {
    base: Rc<Base>,
    /// Below the base.
    path: PathBuf,
    relative: String,
    is_link: bool,
    /// Where a link points that is kept as one.
    link: Option<String>,
}

impl Base {
    /// The folder that this base directory names. COMPAT: BS-130 relative to the source folder.
    fn open(args: &Collect, text: &str) -> Result<Base, String> {
        let path = args.root.join(text);
        let source = path.strip_prefix(&args.root).ok().and_then(|below| beneath::plain(below.to_str()?));
        let source = source.map(|below| Folder::open(&args.root).map(|root| (root, below)));
        let source = source.transpose().map_err(|e| format!("cannot open the source folder: {e}"))?;
        let opened = match &source {
            Some((root, below)) => root.folder(below),
            None => Folder::open(&path),
        };
        let folder = match opened {
            Ok(folder) => Some(folder),
            Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
                return Err(format!("the base directory {text} leads out of the source folder"));
            }
            Err(e) if beneath::is_gone(&e) => None,
            Err(e) => return Err(format!("cannot open the base directory {text}: {e}")),
        };
        Ok(Base { shown: text.to_owned(), path, folder, source })
    }

    fn file(&self, relative: &Path) -> io::Result<File> {
        self.folder.as_ref().ok_or(io::ErrorKind::NotFound)?.file(relative)
    }

    /// What a link leads to.
    fn linked_file(&self, relative: &Path) -> io::Result<File> {
        let opened = self.folder.as_ref().ok_or(io::ErrorKind::NotFound)?.linked_file(relative);
        match (&opened, &self.source) {
            (Err(e), Some((root, below))) if e.kind() == io::ErrorKind::CrossesDevices => {
                root.linked_file(&below.join(relative))
            }
            _ => opened,
        }
    }
}

fn collect(args: &Collect, out: &mut impl Write) -> Result<(), String> {
    let mut left = COLLECTED_LIMIT;
    if args.named {
        let base = Rc::new(Base::open(args, &args.base_directory)?);
        return args.files.iter().try_for_each(|name| send(&named(&base, name), &mut left, out));
    }
    tell_expansion(args, out)?;
    let bases = base_folders(args)?;
    let mut found = Vec::new();
    for base in bases {
        tell_base(args, &base.shown, out)?;
        let searched = find(args, &Rc::new(base))?;
        for file in searched.missed {
            say(out, format!("Skipping invalid file path {file}"))?;
        }
        for link in searched.leading_out {
            say(out, format!("Skipping link {link}, which leads out of the source folder"))?;
        }
        found.extend(searched.files);
    }
    let found = arranged(found, args.discard_paths)?;
    if !found.is_empty() {
        say(out, format!("Found {} file(s)", found.len()))?;
    }
    found.iter().try_for_each(|file| send(file, &mut left, out))
}

fn say(out: &mut dyn Write, text: String) -> Result<(), String> {
    stream::write(out, &Record::Note(text)).map_err(|e| e.to_string())
}

/// COMPAT: BS-141 the lines CodeBuild writes while it looks for files.
fn tell_expansion(args: &Collect, out: &mut dyn Write) -> Result<(), String> {
    say(out, format!("Expanding base directory path: {}", args.base_directory))?;
    say(out, "Assembling file list".into())?;
    say(out, format!("Expanding {}", args.base_directory))
}

fn tell_base(args: &Collect, shown: &str, out: &mut dyn Write) -> Result<(), String> {
    say(out, format!("Expanding file paths for base directory {shown}"))?;
    say(out, "Assembling file list".into())?;
    args.files.iter().try_for_each(|file| say(out, format!("Expanding {file}")))
}

fn named(base: &Rc<Base>, name: &str) -> Found {
    let (base, path) = (base.clone(), PathBuf::from(name));
    Found { base, path, relative: name.to_owned(), is_link: false, link: None }
}

/// Folders that the base directory names.
fn base_folders(args: &Collect) -> Result<Vec<Base>, String> {
    let text = args.base_directory.as_str();
    if !text.contains(['*', '?', '[']) {
        return Ok(vec![Base::open(args, text)?]);
    }
    let (start, pattern) = match text.strip_prefix('/') {
        Some(rest) => (PathBuf::from("/"), rest),
        None => (args.root.clone(), text),
    };
    let pattern = parse(pattern.trim_end_matches('/'))?;
    let mut folders = Vec::new();
    walk(&start, &mut |relative, path, kind| {
        if kind != Kind::Folder {
            return Ok(false);
        }
        let parts: Vec<&[u8]> = relative.iter().map(Vec::as_slice).collect();
        if pattern.matches(&parts) {
            folders.push((shown(relative), path.to_str().map(str::to_owned)));
        }
        Ok(pattern.could_match_below(&parts))
    })?;
    let open = |(shown, path): (String, Option<String>)| {
        let path = path.ok_or_else(|| format!("the folder name `{shown}` is not UTF-8"))?;
        Ok(Base { shown, ..Base::open(args, &path)? })
    };
    folders.into_iter().map(open).collect()
}

fn parse(text: &str) -> Result<Pattern, String> {
    Pattern::parse(text).map_err(|e| e.to_string())
}

fn shown(relative: &[Vec<u8>]) -> String {
    relative.iter().map(|part| String::from_utf8_lossy(part)).collect::<Vec<_>>().join("/")
}

/// What a search in one base directory came to.
#[derive(Debug, Default)]
struct Searched {
    /// What `files` select and `exclude-paths` do not.
    files: Vec<Found>,
    /// Entries of `files` without a match.
    missed: Vec<String>,
    /// Links that are not followed.
    leading_out: Vec<String>,
}

fn find(args: &Collect, base: &Rc<Base>) -> Result<Searched, String> {
    let tidy = |text: &String| parse(text.strip_prefix("./").unwrap_or(text));
    let wanted = args.files.iter().map(tidy).collect::<Result<Vec<_>, _>>()?;
    let excluded = args.exclude_paths.iter().map(tidy).collect::<Result<Vec<_>, _>>()?;
    let mut matched = vec![false; wanted.len()];
    let mut searched = Searched::default();
    walk(&base.path, &mut |relative, _, kind| {
        let parts: Vec<&[u8]> = relative.iter().map(Vec::as_slice).collect();
        if kind == Kind::Folder {
            return Ok(wanted.iter().any(|pattern| pattern.could_match_below(&parts)));
        }
        if excluded.iter().any(|pattern| pattern.matches(&parts)) {
            return Ok(false);
        }
        let mut selected = false;
        for (pattern, matched) in wanted.iter().zip(&mut matched) {
            if pattern.matches(&parts) {
                (selected, *matched) = (true, true);
            }
        }
        if selected {
            found_file(args, base, relative, kind, &mut searched)?;
        }
        if searched.files.len() > ENTRY_LIMIT {
            return Err(format!("more than {ENTRY_LIMIT} files match"));
        }
        Ok(false)
    })?;
    let missed =
        args.files.iter().zip(&matched).filter(|(_, matched)| !**matched).map(|(file, _)| file.clone());
    searched.missed = missed.collect();
    Ok(searched)
}

/// COMPAT: BS-138 links are kept with `enable-symlinks: yes`; otherwise a link to a file counts as that file
/// and a link to a folder, to nothing, or out of the source folder is left out.
fn found_file(
    args: &Collect,
    base: &Rc<Base>,
    relative: &[Vec<u8>],
    kind: Kind,
    searched: &mut Searched,
) -> Result<(), String> {
    let name = |part: &Vec<u8>| String::from_utf8(part.clone());
    let parts: Vec<String> = relative.iter().map(name).collect::<Result<_, _>>().map_err(|_| {
        format!("the file name `{}` is not UTF-8, which an artifact's name must be", shown(relative))
    })?;
    let (relative, path) = (parts.join("/"), PathBuf::from_iter(&parts));
    let is_link = kind == Kind::Link;
    let mut link = None;
    if is_link && args.keep_symlinks {
        let target = fs::read_link(base.path.join(&path)).map_err(|e| e.to_string())?;
        link = Some(target.to_string_lossy().into_owned());
    } else if is_link {
        match base.linked_file(&path) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {
                searched.leading_out.push(relative);
                return Ok(());
            }
            Err(_) => return Ok(()),
        }
    }
    searched.files.push(Found { base: base.clone(), path, relative, is_link, link });
    Ok(())
}

/// Sorted, each path once. COMPAT: BS-134 `discard-paths` keeps base names; two files that would become one
/// are refused rather than one silently lost.
fn arranged(found: Vec<Found>, discard_paths: bool) -> Result<Vec<Found>, String> {
    let mut by_name: BTreeMap<String, Found> = BTreeMap::new();
    for mut file in found {
        if discard_paths && let Some((_, base)) = file.relative.rsplit_once('/') {
            file.relative = base.to_owned();
        }
        if let Some(other) = by_name.get(&file.relative) {
            let (one, two) = (other.base.path.join(&other.path), file.base.path.join(&file.path));
            let (one, two) = (one.display(), two.display());
            return Err(format!("{one} and {two} would both become `{}` in the artifact", file.relative));
        }
        by_name.insert(file.relative.clone(), file);
    }
    Ok(by_name.into_values().collect())
}

/// `left` is how many bytes may still be sent.
fn send(file: &Found, left: &mut u64, out: &mut impl Write) -> Result<(), String> {
    let told = |e: io::Error| format!("cannot read {}: {e}", file.base.path.join(&file.path).display());
    if let Some(target) = &file.link {
        let link = Record::Link { path: file.relative.clone(), target: target.clone() };
        return stream::write(out, &link).map_err(told);
    }
    let opened = if file.is_link { file.base.linked_file(&file.path) } else { file.base.file(&file.path) };
    let input = match opened {
        Ok(input) => input,
        // Gone since the walk, or another thing, as a background process may do.
        Err(e) if beneath::is_gone(&e) => return Ok(()),
        Err(e) => return Err(told(e)),
    };
    let found = input.metadata().map_err(told)?;
    let too_much = || format!("the files have more than {COLLECTED_LIMIT} bytes, with `{}`", file.relative);
    *left = left.checked_sub(found.len()).ok_or_else(too_much)?;
    let mode = found.mode() & 0o777;
    // Not more than there is now: somebody may go on writing for ever.
    let mut input = input.take(found.len());
    stream::write(out, &Record::File { path: file.relative.clone(), mode }).map_err(told)?;
    let mut buffer = vec![0; CHUNK];
    loop {
        match input.read(&mut buffer).map_err(told)? {
            0 => return stream::write(out, &Record::EndOfFile).map_err(told),
            length => stream::write_data(out, &buffer[..length]).map_err(told)?,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    File,
    Link,
}

/// What [`walk`] calls with (path components, path, kind); true to go into a folder.
pub(crate) type Visit<'a> = dyn FnMut(&[Vec<u8>], &Path, Kind) -> Result<bool, String> + 'a;

/// Depth first, names in byte order. Does not follow links; skips sockets, devices, FIFOs; a missing start is empty.
pub(crate) fn walk(start: &Path, visit: &mut Visit<'_>) -> Result<(), String> {
    let mut relative = Vec::new();
    walk_folder(start, &mut relative, visit)
}

fn walk_folder(folder: &Path, relative: &mut Vec<Vec<u8>>, visit: &mut Visit<'_>) -> Result<(), String> {
    use std::os::unix::ffi::OsStrExt;
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        Err(e) => return Err(format!("cannot read the folder {}: {e}", folder.display())),
    };
    let mut entries: Vec<fs::DirEntry> = entries.collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let Ok(file_type) = entry.file_type() else { continue };
        let kind = match file_type {
            t if t.is_dir() => Kind::Folder,
            t if t.is_file() => Kind::File,
            t if t.is_symlink() => Kind::Link,
            _ => continue,
        };
        relative.push(entry.file_name().as_bytes().to_vec());
        let path = entry.path();
        if visit(relative, &path, kind)? && kind == Kind::Folder && relative.len() < DEPTH_LIMIT {
            walk_folder(&path, relative, visit)?;
        }
        relative.pop();
    }
    Ok(())
}

/// Folders within folders that a walk goes down; deeper trees are not collected from.
const DEPTH_LIMIT: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(args: &Collect) -> (Vec<String>, Vec<String>, Option<String>) {
        let mut bytes = Vec::new();
        let failed = collect(args, &mut bytes).err();
        let mut decoder = stream::Decoder::default();
        let (mut files, mut notes) = (Vec::new(), Vec::new());
        decoder
            .feed(&bytes, &mut |item| {
                match item {
                    stream::Item::Record(Record::File { path, .. }) => files.push(path),
                    stream::Item::Record(Record::Link { path, target }) => {
                        files.push(format!("{path} -> {target}"))
                    }
                    stream::Item::Record(Record::Note(note)) => notes.push(note),
                    _ => {}
                }
                Ok(())
            })
            .unwrap();
        (files, notes, failed)
    }

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        folder
    }

    fn selection(root: &Path, base: &str, files: &[&str], exclude: &[&str]) -> Collect {
        Collect {
            root: root.to_owned(),
            base_directory: base.into(),
            files: files.iter().map(ToString::to_string).collect(),
            exclude_paths: exclude.iter().map(ToString::to_string).collect(),
            discard_paths: false,
            keep_symlinks: false,
            named: false,
        }
    }

    #[test]
    fn everything_includes_dot_files_and_depth_zero() {
        // BS-137, BS-181
        let folder = tree(&["a", ".hidden", "d/e", "d/.git/config"]);
        let (files, notes, _) = collected(&selection(folder.path(), ".", &["**/*"], &[]));
        assert_eq!(files, [".hidden", "a", "d/.git/config", "d/e"]);
        assert!(notes.contains(&"Found 4 file(s)".to_owned()), "{notes:?}");
    }

    #[test]
    fn a_bare_folder_selects_nothing_and_is_told() {
        // BS-143, BS-132
        let folder = tree(&["target/x"]);
        let (files, notes, _) = collected(&selection(folder.path(), ".", &["target"], &[]));
        assert!(files.is_empty());
        assert!(notes.contains(&"Skipping invalid file path target".to_owned()), "{notes:?}");
    }

    #[test]
    fn exclude_paths_are_relative_to_the_base_directory() {
        // BS-136
        let folder = tree(&["out/a.txt", "out/.cache/b", "out/keep/c.txt"]);
        let (files, ..) = collected(&selection(folder.path(), "out", &["**/*"], &["**/.*/**/*", "keep/*"]));
        assert_eq!(files, ["a.txt"]);
    }

    #[test]
    fn a_base_directory_pattern_takes_the_content_of_each_match() {
        // BS-135
        let folder = tree(&["my-one/a", "my-two/b", "other/c"]);
        let (files, ..) = collected(&selection(folder.path(), "my-*", &["**/*"], &[]));
        assert_eq!(files, ["a", "b"]);
    }

    #[test]
    fn discard_paths_refuses_to_lose_a_file() {
        let folder = tree(&["a/x", "b/x"]);
        let mut args = selection(folder.path(), ".", &["**/*"], &[]);
        args.discard_paths = true;
        let (_, _, failed) = collected(&args);
        assert!(failed.unwrap().contains("would both become `x`"));
    }

    #[test]
    fn links_are_kept_only_when_asked_for() {
        // BS-138
        let folder = tree(&["real"]);
        std::os::unix::fs::symlink("real", folder.path().join("link")).unwrap();
        std::os::unix::fs::symlink("/nowhere", folder.path().join("broken")).unwrap();
        let mut args = selection(folder.path(), ".", &["**/*"], &[]);
        assert_eq!(collected(&args).0, ["link", "real"]);
        args.keep_symlinks = true;
        assert_eq!(collected(&args).0, ["broken -> /nowhere", "link -> real", "real"]);
    }

    #[test]
    fn a_link_out_of_the_source_folder_is_left_out_and_told() {
        // BS-138
        let outside = tree(&["secret"]);
        let folder = tree(&["assets/shared", "dist/own"]);
        let link = |target: &Path, name: &str| {
            std::os::unix::fs::symlink(target, folder.path().join(name)).unwrap();
        };
        link(Path::new("../assets/shared"), "dist/shared");
        link(&outside.path().join("secret"), "dist/leak");
        link(outside.path(), "door");
        link(Path::new("dist"), "latest");
        let (files, notes, _) = collected(&selection(folder.path(), "dist", &["**/*"], &[]));
        assert_eq!(files, ["own", "shared"]);
        let told = "Skipping link leak, which leads out of the source folder".to_owned();
        assert!(notes.contains(&told), "{notes:?}");
        let absolute = folder.path().join("dist");
        let (files, ..) = collected(&selection(folder.path(), absolute.to_str().unwrap(), &["**/*"], &[]));
        assert_eq!(files, ["own", "shared"]);
        assert_eq!(collected(&selection(folder.path(), "latest", &["own"], &[])).0, ["own"]);
        let (files, _, failed) = collected(&selection(folder.path(), "door", &["**/*"], &[]));
        assert_eq!(failed.unwrap(), "the base directory door leads out of the source folder");
        assert!(files.is_empty());
        let elsewhere = outside.path().to_str().unwrap();
        assert_eq!(
            collected(&selection(folder.path(), elsewhere, &["**/*"], &[])).0,
            ["secret"],
            "as asked for"
        );
    }

    #[test]
    fn a_folder_beside_the_source_is_no_part_of_it() {
        let folder = tree(&["src/more/inner", "srcmore/outer"]);
        let beside = folder.path().join("srcmore");
        let selected = selection(&folder.path().join("src"), beside.to_str().unwrap(), &["**/*"], &[]);
        assert_eq!(collected(&selected).0, ["outer"]);
    }

    #[test]
    fn a_fifo_is_neither_collected_nor_waited_for() {
        let folder = tree(&["a"]);
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .unwrap();
        assert_eq!(collected(&selection(folder.path(), ".", &["**/*"], &[])).0, ["a"]);
        // Who waits for it waits for ever: for this long is enough to know.
        let (told, opened) = std::sync::mpsc::channel();
        std::thread::spawn(move || told.send(open_regular(&fifo).is_err()));
        assert_eq!(opened.recv_timeout(std::time::Duration::from_secs(10)), Ok(true));
    }
}

//! A ZIP archive, unpacked into a folder of its own. Names are rebuilt from their components, and links are made when
//! everything else is there: no entry is written by way of a link that came before it.
//!
//! Nothing of the rest of the room is needed here: the fuzzers compile this file alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

/// Entries of one archive.
const ENTRY_LIMIT: usize = 1_000_000;
/// Bytes that one source archive may unpack to (EN-010: the smallest documented disk).
const UNPACKED_LIMIT: u64 = 64 << 30;
/// Bytes of what a link says.
const LINK_LIMIT: u64 = 4096;

/// Unpacks all of it, or says what is wrong with it, in words for the build's owner.
pub(super) fn unzip(target: &Path, archive: File) -> Result<(), String> {
    let mut archive = zip::ZipArchive::new(io::BufReader::new(archive))
        .map_err(|e| format!("the source is not a ZIP archive: {e}"))?;
    if archive.len() > ENTRY_LIMIT {
        return Err(format!("the source archive has {} entries, more than {ENTRY_LIMIT}", archive.len()));
    }
    let (mut left, mut links) = (UNPACKED_LIMIT, Vec::new());
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|e| format!("the source archive is damaged: {e}"))?;
        let name = entry
            .name()
            .map_err(|e| format!("the source archive has an entry without a readable name: {e}"))?;
        let name = name.into_owned();
        let path = beneath(target, &name)
            .ok_or_else(|| format!("the archive entry `{name}` would leave the source folder"))?;
        let failed = |e: io::Error| format!("cannot unpack `{name}`: {e}");
        match entry.is_symlink() && !entry.is_dir() {
            true => links.push((path, read_link(&mut entry).map_err(failed)?, name)),
            false => left -= unzip_one(&mut entry, &path, left).map_err(failed)?,
        }
    }
    // What lies below a link's place comes first, and then the link has no place: none is made by way of another.
    links.sort_by(|(one, ..), (other, ..)| other.cmp(one));
    links.into_iter().try_for_each(|(path, link, name)| {
        make_link(&path, &link).map_err(|e| format!("cannot unpack `{name}`: {e}"))
    })
}

/// Unpacks one entry; returns its bytes.
fn unzip_one(entry: &mut zip::read::ZipFile<'_, impl Read>, path: &Path, left: u64) -> io::Result<u64> {
    if entry.is_dir() {
        fs::create_dir_all(path)?;
        return Ok(0);
    }
    make_parent(path)?;
    let mode = entry.unix_mode().unwrap_or(0o644);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
        .open(path)?;
    let written = io::copy(&mut entry.take(left.saturating_add(1)), &mut file)?;
    if written > left {
        return Err(io::Error::other(format!("the archive unpacks to more than {UNPACKED_LIMIT} bytes")));
    }
    file.set_permissions(fs::Permissions::from_mode(mode & 0o777))?;
    Ok(written)
}

fn read_link(entry: &mut impl Read) -> io::Result<String> {
    let mut link = String::new();
    entry.take(LINK_LIMIT).read_to_string(&mut link)?;
    Ok(link)
}

fn make_link(path: &Path, link: &str) -> io::Result<()> {
    make_parent(path)?;
    std::os::unix::fs::symlink(link, path)
}

fn make_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

/// `target/name` rebuilt from plain components; None if the name is absolute, climbs, or is empty.
pub(super) fn beneath(target: &Path, name: &str) -> Option<PathBuf> {
    if name.contains('\0') || name.contains('\\') && name.contains(':') {
        return None;
    }
    let mut path = target.to_owned();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use zip::write::SimpleFileOptions;

    #[test]
    fn archive_names_that_leave_the_folder_are_refused() {
        let target = Path::new("/t");
        for name in ["/etc/passwd", "../x", "a/../../x", "C:\\x", "a\0b"] {
            assert_eq!(beneath(target, name), None, "{name:?}");
        }
        assert_eq!(beneath(target, "./a//b"), Some("/t/a/b".into()));
    }

    /// What becomes of an archive with these entries: `name`, and what it holds or, with `->`, where it leads.
    fn unzipped(entries: &[(&str, &str)]) -> (tempfile::TempDir, Result<(), String>) {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = zip::ZipWriter::new(tempfile::tempfile().unwrap());
        for (name, content) in entries {
            let options = SimpleFileOptions::default();
            match content.strip_prefix("->") {
                Some(to) => writer.add_symlink(*name, to, options).unwrap(),
                None => {
                    writer.start_file(*name, options).unwrap();
                    writer.write_all(content.as_bytes()).unwrap();
                }
            }
        }
        let archive = writer.finish().unwrap();
        let target = folder.path().join("in");
        fs::create_dir_all(&target).unwrap();
        let result = unzip(&target, archive);
        (folder, result)
    }

    #[test]
    fn links_are_kept_and_lead_wherever_they_say() {
        let (folder, result) = unzipped(&[("a/link", "->../b"), ("b", "text"), ("out", "->/etc")]);
        result.unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("in/a/link")).unwrap(), "text");
        assert_eq!(fs::read_link(folder.path().join("in/out")).unwrap(), Path::new("/etc"));
    }

    #[test]
    fn no_entry_is_written_by_way_of_a_link() {
        for entries in [
            &[("out", "->.."), ("out/file", "text")][..],
            &[("out/file", "text"), ("out", "->..")],
            &[("out", "->.."), ("out/link", "->x")],
            &[("out", "->.."), ("out/below/link", "->x")],
            &[("x/out", "->../.."), ("x/out/below/file", "text")],
        ] {
            let (folder, result) = unzipped(entries);
            assert!(result.unwrap_err().starts_with("cannot unpack `"), "{entries:?}");
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "{entries:?}");
        }
    }
}

//! What the host's own files must not show to a build: the list of secrets, and the search for more where a host keeps its settings.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};

const SECRETS: &[&str] = &[
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssl/private",
    "/etc/docker",
    "/etc/kubernetes",
];

/// Where a host keeps settings of its own.
const SETTINGS: [&str; 2] = ["/etc", "/usr/local/etc"];

const OTHERS_READ: u32 = 0o004;
const OTHERS_LIST: u32 = 0o005;

/// Paths to make empty when the host's own root file system is shown. Root must not hand on what only root may read, so for root
/// this walks the settings; an ordinary user's own permissions already hold the container back.
pub(crate) fn secrets_of_host() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = SECRETS.iter().map(PathBuf::from).collect();
    found.extend(host_keys(Path::new("/etc/ssh")));
    if rustix::process::geteuid().is_root() {
        SETTINGS.iter().for_each(|folder| unreadable_for_others(Path::new(folder), &mut found));
    }
    found.retain(|path| fs::symlink_metadata(path).is_ok());
    found.sort();
    found.dedup();
    // What lies in a folder that becomes empty is not there any more.
    found.dedup_by(|later, kept| later.starts_with(kept));
    found
}

fn host_keys(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.as_os_str().as_bytes().ends_with(b"_key")).collect()
}

/// Adds what others than owner and group cannot read (files) or list (folders) below `folder`.
pub(crate) fn unreadable_for_others(folder: &Path, found: &mut Vec<PathBuf>) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(descriptor) = openat(CWD, folder, flags, Mode::empty()) else { return };
    let Ok(entries) = Dir::read_from(&descriptor) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if name == c"." || name == c".." || entry.file_type() == FileType::Symlink {
            continue;
        }
        let Ok(status) = statat(&descriptor, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let path = folder.join(OsString::from_vec(name.to_bytes().to_vec()));
        let is_folder = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
        let needed = if is_folder { OTHERS_LIST } else { OTHERS_READ };
        if status.st_mode & needed != needed && !is_link(status.st_mode) {
            found.push(path);
        } else if is_folder {
            unreadable_for_others(&path, found);
        }
    }
}

fn is_link(mode: u32) -> bool {
    FileType::from_raw_mode(mode) == FileType::Symlink
}

/// The metadata of a path, without following links on the way either.
pub(crate) fn metadata_without_links(base: &Path, below: &Path) -> Option<fs::Metadata> {
    let mut here = base.to_path_buf();
    let mut last = fs::symlink_metadata(&here).ok()?;
    for part in below {
        if !last.is_dir() {
            return None;
        }
        here.push(part);
        last = fs::symlink_metadata(&here).ok()?;
    }
    Some(last)
}

/// Owner and permission bits, for a folder that stands in for another.
pub(crate) fn likeness(metadata: &fs::Metadata) -> (u32, u32, u32) {
    (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn the_search_finds_what_others_cannot_read_and_does_not_follow_links() {
        let top = std::env::temp_dir().join(format!("masks-{}", std::process::id()));
        fs::create_dir_all(top.join("open/closed/inner")).unwrap();
        let set =
            |path: &str, mode| fs::set_permissions(top.join(path), fs::Permissions::from_mode(mode)).unwrap();
        for (file, mode) in [("open/public", 0o644), ("open/secret", 0o640), ("open/closed/inner/any", 0o644)]
        {
            fs::write(top.join(file), "").unwrap();
            set(file, mode);
        }
        symlink("/root", top.join("link")).unwrap();
        set("open/closed", 0o711);
        let mut found = Vec::new();
        unreadable_for_others(&top, &mut found);
        found.sort();
        assert_eq!(found, [top.join("open/closed"), top.join("open/secret")]);
        fs::remove_dir_all(top).unwrap();
    }
}

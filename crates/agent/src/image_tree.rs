//! What is in an image whose layers are several folders, before any container shows them together: they are looked through as overlay does,
//! with its marks for what a layer takes away of those beneath.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

/// As for the kernel.
const LINKS: usize = 40;

/// Whether there is something at `path`, as a process sees it whose root the image is: links lead to places of the image.
/// `layers` has the topmost first.
pub(crate) fn is_there(layers: &[PathBuf], path: &Path) -> bool {
    let mut here = PathBuf::new();
    let mut todo = components(path);
    let mut links = 0;
    while let Some(part) = todo.pop() {
        if part == ".." {
            here.pop();
            continue;
        }
        here.push(&part);
        let Some((place, found)) = look_up(layers, &here) else { return false };
        if found.is_symlink() {
            links += 1;
            let Ok(target) = fs::read_link(place) else { return false };
            if links > LINKS {
                return false;
            }
            here.pop();
            if target.is_absolute() {
                here.clear();
            }
            todo.extend(components(&target));
        } else if !todo.is_empty() && !found.is_dir() {
            return false;
        }
    }
    true
}

/// The last of them first; `..` is all that is left besides names.
fn components(path: &Path) -> Vec<OsString> {
    let named = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    named.rev().map(|part| part.as_os_str().to_owned()).collect()
}

/// What shows at `path`, in which no link is.
fn look_up(layers: &[PathBuf], path: &Path) -> Option<(PathBuf, Metadata)> {
    for layer in layers {
        match in_layer(layer, path) {
            InLayer::Found(place, metadata) => return Some((place, metadata)),
            InLayer::Hidden => return None,
            InLayer::Absent => {}
        }
    }
    None
}

enum InLayer {
    Found(PathBuf, Metadata),
    /// Neither here nor in a layer beneath.
    Hidden,
    /// Not here.
    Absent,
}

fn in_layer(layer: &Path, path: &Path) -> InLayer {
    let (mut place, mut hides) = (layer.to_owned(), false);
    let last = path.components().count();
    for (number, part) in path.components().enumerate() {
        place.push(part);
        let Ok(metadata) = fs::symlink_metadata(&place) else {
            return if hides { InLayer::Hidden } else { InLayer::Absent };
        };
        let is_whiteout = metadata.file_type().is_char_device() && metadata.rdev() == 0;
        match number + 1 == last {
            _ if is_whiteout => return InLayer::Hidden,
            true => return InLayer::Found(place, metadata),
            false if !metadata.is_dir() => return InLayer::Hidden,
            false => hides |= is_opaque(&place),
        }
    }
    InLayer::Absent
}

fn is_opaque(folder: &Path) -> bool {
    let mut mark = [0; 1];
    rustix::fs::lgetxattr(folder, "user.overlay.opaque", &mut mark)
        .is_ok_and(|length| mark[..length] == *b"y")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn make(layer: &Path, files: &[&str]) {
        for file in files {
            let path = layer.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
    }

    #[test]
    fn links_and_marks_count_across_layers() {
        let folder = tempfile::tempdir().unwrap();
        let [top, middle, base] = ["top", "middle", "base"].map(|name| folder.path().join(name));
        make(&base, &["usr/bin/sh", "usr/bin/gone", "opt/tool", "srv/x/tool", "etc/file"]);
        make(&middle, &["usr/local/bin/new", "opt/other", "srv/y"]);
        make(&top, &["usr/bin/more", "srv/x"]);
        symlink("usr/bin", base.join("bin")).unwrap();
        symlink("/bin/sh", middle.join("usr/local/bin/link")).unwrap();
        symlink("../../../../bin/more", top.join("usr/local-link")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let kind = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, top.join("usr/bin/gone"), kind, mode, 0).unwrap();
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(middle.join("opt"), "user.overlay.opaque", b"y", flags).unwrap();
        let layers = [top, middle, base];
        let found = |path: &str| is_there(&layers, Path::new(path));
        for there in [
            "bin/sh",
            "/usr/bin/sh",
            "usr/local/bin/link",
            "usr/local-link",
            "usr/local/bin/new",
            "opt/other",
            "srv/x",
            "etc",
        ] {
            assert!(found(there), "{there}");
        }
        for not in
            ["bin/gone", "opt/tool", "srv/x/tool", "loop", "etc/file/inside", "nothing", "usr/bin/sh/x"]
        {
            assert!(!found(not), "{not}");
        }
    }
}

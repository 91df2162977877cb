//! Which files the repository has. Decided by walking, not by git, so that an unpacked archive is checked alike.

use std::path::{Path, PathBuf};

use crate::error::{Error, at};

/// What tools make, wherever it is. In a work tree of its own `.git` is a file.
const GENERATED: &[&str] =
    &[".git", "target", "node_modules", "__pycache__", ".venv", ".buildyard", ".pytest_cache", ".hypothesis"];

pub(crate) struct TextFile {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Every file that is UTF-8, in the order of their paths.
pub(crate) fn text_files(root: &Path) -> Result<Vec<TextFile>, Error> {
    let mut paths = Vec::new();
    walk(root, &mut paths)?;
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        // Somebody's editor may have taken the file away since.
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let below = path.strip_prefix(root).expect("walked from the root");
        files.push(TextFile { path: below.to_string_lossy().into_owned(), text });
    }
    Ok(files)
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) -> Result<(), Error> {
    for entry in std::fs::read_dir(folder).map_err(at(folder))? {
        let entry = entry.map_err(at(folder))?;
        let kind = entry.file_type().map_err(at(&entry.path()))?;
        if GENERATED.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        if kind.is_file() {
            paths.push(entry.path());
        } else if kind.is_dir() {
            walk(&entry.path(), paths)?;
        }
    }
    Ok(())
}

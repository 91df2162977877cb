//! Where the environments of local builds are kept: a folder for each source folder, found again, listed and removed here. What is
//! in such a folder is the agent's ([`agent::snapshots`]).

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use agent::journal::Phase;
use agent::snapshots::{self, Point, Record};

/// So many source folders have snapshots; those of the folders that were built longest ago go.
const MOST_FOLDERS: usize = 32;

/// A source folder's snapshots.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) folder: PathBuf,
}

impl Kept {
    pub(crate) fn of(data: &Path, source: &Path) -> Kept {
        let path = source.as_os_str().as_bytes();
        let name = source.file_name().unwrap_or_default().as_bytes();
        let name: String = name
            .iter()
            .take(64)
            .map(|byte| if byte.is_ascii_alphanumeric() { char::from(*byte) } else { '-' })
            .collect();
        Kept { folder: all(data).join(format!("{name}-{:016x}", snapshots::fingerprint(path))) }
    }

    pub(crate) fn make(&self) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)
    }

    /// The record of the latest build, if its environments can still be entered.
    pub(crate) fn record(&self) -> Result<Record, String> {
        let record =
            Record::read(&self.folder).map_err(|e| format!("cannot read {}: {e}", self.folder.display()))?;
        let record = record.ok_or(
            "nothing is kept of this folder: `buildyard run` keeps the environments of its latest build",
        )?;
        if !record.is_trusted() {
            return Err(
                "what is kept of this folder is from before the machine was started: run the build again"
                    .into(),
            );
        }
        Ok(record)
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        snapshots::size_bytes(&self.folder)
    }

    /// False if a build is using it.
    pub(crate) fn remove(&self) -> io::Result<bool> {
        snapshots::sweep(&self.folder, true)
    }
}

fn all(data: &Path) -> PathBuf {
    data.join("snapshots")
}

/// Everything that is kept, the latest last, with the source folder it is of.
pub(crate) fn list(data: &Path) -> Vec<(Kept, Option<PathBuf>)> {
    let entries = fs::read_dir(all(data)).into_iter().flatten().flatten();
    let mut kept: Vec<(SystemTime, PathBuf)> = entries
        .map(|entry| {
            let changed = entry.metadata().and_then(|metadata| metadata.modified());
            (changed.unwrap_or(SystemTime::UNIX_EPOCH), entry.path())
        })
        .collect();
    kept.sort();
    let with_source = |folder: PathBuf| {
        let source = Record::read(&folder).ok().flatten().map(|record| record.source);
        (Kept { folder }, source)
    };
    kept.into_iter().map(|(_, folder)| with_source(folder)).collect()
}

/// Removes what the latest record of `folder` does not name; and all of folders that are gone, or too many.
pub(crate) fn sweep(data: &Path, kept: &Kept) -> io::Result<()> {
    snapshots::sweep(&kept.folder, false)?;
    let all = list(data);
    let surplus = all.len().saturating_sub(MOST_FOLDERS);
    for (number, (kept, source)) in all.iter().enumerate() {
        if number < surplus || source.as_ref().is_some_and(|source| !source.exists()) {
            kept.remove()?;
        }
    }
    Ok(())
}

/// The phase to go on from after this build failed, if one is kept: the failed one, or the nearest before it.
pub(crate) fn way_on(record: &Record) -> Option<Phase> {
    let failed = record.left.as_ref()?.failed?;
    let kept = record.points.iter().filter(|(at, point)| **at <= failed && matches!(point, Point::Kept(_)));
    kept.map(|(at, _)| *at).next_back()
}

/// That there is an environment before `phase`, or what to do instead.
pub(crate) fn must_have(record: &Record, phase: Phase) -> Result<(), String> {
    let why = match record.points.get(&phase) {
        Some(Point::Kept(_)) => return Ok(()),
        Some(Point::Missing(why)) => why.clone(),
        None => match record.left.as_ref().and_then(|left| left.failed) {
            Some(failed) => format!("{} of that build failed", failed.name()),
            None => "that build did not get so far".into(),
        },
    };
    let name = phase.name();
    let earlier =
        record.points.iter().rev().find(|(at, point)| **at < phase && matches!(point, Point::Kept(_)));
    Err(match earlier {
        Some((nearest, _)) => {
            format!(
                "there is no snapshot before {name}: {why}; try --from {}",
                nearest.name().to_ascii_lowercase()
            )
        }
        None => format!("there is no snapshot before {name}: {why}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_one_name_are_kept_apart() {
        let (one, other) =
            (Kept::of(Path::new("/d"), Path::new("/a/app")), Kept::of(Path::new("/d"), Path::new("/b/app")));
        assert!(one.folder.starts_with("/d/snapshots") && other.folder.starts_with("/d/snapshots"));
        assert_ne!(one.folder, other.folder);
        assert_eq!(one.folder, Kept::of(Path::new("/d"), Path::new("/a/app")).folder);
    }
}

//! `buildyard clean`: shows and removes what local builds have left on purpose, their snapshots.

use std::path::{Path, PathBuf};

use crate::folders;
use crate::kept::{self, Kept};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The source folder whose snapshots are removed.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Remove the snapshots of all folders.
    #[arg(long, conflicts_with = "folder")]
    all: bool,
    /// Only show what there is, of all folders.
    #[arg(long, conflicts_with_all = ["folder", "all"])]
    list: bool,
    /// The data folder [default: as `buildyard run`].
    #[arg(long, value_name = "FOLDER", env = "BUILDYARD_DATA")]
    data: Option<PathBuf>,
}

pub(crate) fn clean(arguments: &Arguments) -> Result<(), String> {
    let data = arguments.data.clone().unwrap_or_else(folders::default_data);
    if arguments.list || arguments.all {
        let all = kept::list(&data);
        return all.iter().try_for_each(|(kept, source)| tell(kept, source.as_deref(), arguments.all));
    }
    let folder = &arguments.folder;
    let source = folder.canonicalize().map_err(|e| format!("cannot clean {}: {e}", folder.display()))?;
    let kept = Kept::of(&data, &source);
    if !kept.folder.exists() {
        println!("nothing is kept of {}", source.display());
        return Ok(());
    }
    tell(&kept, Some(&source), true)
}

/// Removes it, if it is to be removed, and says what that was.
fn tell(kept: &Kept, source: Option<&Path>, remove: bool) -> Result<(), String> {
    let megabytes = kept.size_bytes() as f64 / 1e6;
    let named = source.unwrap_or(&kept.folder).display();
    if !remove {
        println!("{megabytes:10.1} MB  {named}");
        return Ok(());
    }
    match kept.remove() {
        Ok(true) => println!("removed {megabytes:.1} MB: snapshots of {named}"),
        Ok(false) => println!("kept: a build of {named} is running"),
        Err(error) => return Err(format!("cannot remove {}: {error}", kept.folder.display())),
    }
    Ok(())
}

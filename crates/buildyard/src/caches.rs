//! `buildyard cache`: shows and removes the local caches of a data folder, those of `buildyard run` and of a server alike. Caches in S3
//! are objects, for S3's own tools.

use std::path::{Path, PathBuf};

use agent::cache::Owner;
use agent::cache::layers::{self, BYTES_MAX, ENTRIES_MAX, Listed};
use agent::plan::Cache;
use engine::clock::{Clock, SystemClock};

use crate::{admin, folders};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
    /// The data folder [default: as `buildyard run` and `buildyard serve`].
    #[arg(long, value_name = "FOLDER", env = "BUILDYARD_DATA", global = true)]
    data: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List caches, those used last first: bytes on disk, age of the last use, whose it is, key.
    Ls(Chosen),
    /// Remove caches. Builds that are using one keep what they have.
    Rm {
        #[command(flatten)]
        chosen: Chosen,
        /// Remove the caches of all projects and folders.
        #[arg(long, conflicts_with = "owner")]
        all: bool,
    },
    /// Say how much there is, and how much may be.
    Stats,
    /// Tell where the cache of a project of the server here is in S3, for `buildyard run --cache-of` on another machine.
    Url {
        /// Its name or ARN.
        project: String,
    },
}

#[derive(Debug, clap::Args)]
struct Chosen {
    /// Only of this project, or of local builds of this folder.
    owner: Option<String>,
    /// Only those whose key begins so.
    #[arg(long)]
    key: Option<String>,
}

pub(crate) fn cache(arguments: &Arguments) -> Result<(), String> {
    let data = arguments.data.clone().unwrap_or_else(folders::default_data);
    let folder = data.join("caches");
    let mut all = layers::list(&folder);
    all.reverse();
    match &arguments.verb {
        Verb::Ls(chosen) => {
            let now_s = SystemClock::new().now_ms() / 1000;
            all.iter()
                .filter(|listed| chosen.means(listed))
                .for_each(|listed| println!("{}", line(listed, now_s)));
        }
        Verb::Rm { chosen, all: everything } => {
            if chosen.owner.is_none() && !everything {
                return Err("cache rm: name a project or a folder, or say --all".into());
            }
            all.retain(|listed| chosen.means(listed));
            remove(&folder, &all)?;
        }
        Verb::Stats => {
            let bytes: u64 = all.iter().map(|listed| listed.entry.bytes()).sum();
            println!("{} of at most {ENTRIES_MAX} caches", all.len());
            println!("{:.1} of at most {:.0} MB", megabytes(bytes), megabytes(BYTES_MAX));
        }
        Verb::Url { project } => println!("{}", url(&data, project)?),
    }
    Ok(())
}

fn url(data: &Path, project: &str) -> Result<String, String> {
    match admin::project_cache(data, project).map_err(|reason| format!("cache url: {reason}"))?.cache {
        Cache::Objects { bucket, prefix, scope, .. } => {
            let parts = [bucket.as_str(), prefix.trim_matches('/'), &scope.id()].map(str::to_owned);
            let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            Ok(format!("s3://{}", parts.join("/")))
        }
        Cache::Layers { .. } | Cache::None => Err(format!("cache url: project {project} has no cache in S3")),
    }
}

fn remove(folder: &Path, chosen: &[Listed]) -> Result<(), String> {
    for listed in chosen {
        layers::remove(listed).map_err(|e| format!("cache rm: {e}"))?;
    }
    let freed = layers::sweep(folder).map_err(|e| format!("cache rm: {e}"))?;
    println!("removed {} cache(s), {:.1} MB", chosen.len(), megabytes(freed));
    Ok(())
}

impl Chosen {
    fn means(&self, listed: &Listed) -> bool {
        let named = listed.scope.owner.name();
        let is_owner = |owner: &String| {
            named == owner || Path::new(owner).canonicalize().is_ok_and(|path| Path::new(named) == path)
        };
        let key = listed.entry.key.as_deref().unwrap_or_default();
        self.owner.as_ref().is_none_or(is_owner)
            && self.key.as_ref().is_none_or(|beginning| key.starts_with(beginning))
    }
}

fn line(listed: &Listed, now_s: i64) -> String {
    let age = age(now_s - listed.used_s);
    let owner = match &listed.scope.owner {
        Owner::Project(name) => name.clone(),
        Owner::Namespace(_) | Owner::Named(_) => listed.scope.owner.to_string(),
    };
    let key = listed.entry.key.as_deref().unwrap_or("-");
    format!("{:10.1} MB  {age:>4}  {owner}  {key}", megabytes(listed.entry.bytes()))
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// In the largest unit that makes at least one.
fn age(seconds: i64) -> String {
    match seconds.max(0) {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s @ 3600..86_400 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_have_one_unit() {
        for (seconds, expect) in [(-5, "0s"), (59, "59s"), (60, "1m"), (7300, "2h"), (200_000, "2d")] {
            assert_eq!(age(seconds), expect);
        }
    }
}

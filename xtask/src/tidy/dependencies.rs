//! Which crate may use which: the direction between rooms, and who may use a library that reaches outside.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use super::Finding;
use crate::error::{Error, at};

/// Rooms from the pure ones to the binary. A room uses only rooms of earlier rows.
const ROOMS: &[&[&str]] = &[
    &["access", "api", "buildspec", "report"],
    &["aws", "container", "image", "source", "store"],
    &["agent"],
    &["executor", "init"],
    &["engine"],
    &["server"],
    &["buildyard"],
];

/// Libraries that only some rooms may use, in tests too.
const RESERVED: &[(&str, &[&str])] = &[
    ("rusqlite", &["store"]),
    ("tokio-postgres", &["store"]),
    ("hyper", &["server", "executor"]),
    ("hyper-util", &["server", "executor"]),
    ("axum", &["server"]),
    ("s3s", &["server"]),
    ("seccompiler", &["container"]),
    ("clap", &["buildyard", "xtask"]),
    ("toml", &["buildyard", "xtask"]),
    ("bollard", &["executor"]),
    ("kube", &["executor"]),
    ("tokio", &["aws", "store", "executor", "engine", "server", "buildyard", "xtask"]),
];

/// A package and the names of what it depends on, tests and build scripts included.
pub(super) struct Package {
    name: String,
    /// Its Cargo.toml, from the root.
    manifest: String,
    dependencies: Vec<String>,
}

/// Asks cargo for the workspace's packages; nothing is fetched.
pub(super) fn read(root: &Path) -> Result<Vec<Package>, Error> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["metadata", "--no-deps", "--offline", "--format-version=1"]).current_dir(root);
    let output = cargo.output().map_err(at(Path::new("cargo")))?;
    if !output.status.success() {
        return Err(Error::Unsupported(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let path = root.join("Cargo.toml");
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).map_err(|source| Error::Model { path, source })?;
    Ok(metadata.packages.into_iter().map(|package| package.below(root)).collect())
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
}

#[derive(Deserialize)]
struct MetadataPackage {
    name: String,
    manifest_path: String,
    dependencies: Vec<MetadataDependency>,
}

#[derive(Deserialize)]
struct MetadataDependency {
    name: String,
}

impl MetadataPackage {
    fn below(self, root: &Path) -> Package {
        let manifest =
            Path::new(&self.manifest_path).strip_prefix(root).map(|path| path.display().to_string());
        Package {
            name: self.name,
            manifest: manifest.unwrap_or(self.manifest_path),
            dependencies: self.dependencies.into_iter().map(|dependency| dependency.name).collect(),
        }
    }
}

pub(super) fn check(packages: &[Package]) -> Vec<Finding> {
    let breaches = packages.iter().flat_map(|package| package.breaches().map(move |what| (package, what)));
    breaches.map(|(package, what)| Finding { path: package.manifest.clone(), line: 0, what }).collect()
}

impl Package {
    fn breaches(&self) -> impl Iterator<Item = String> {
        let unplaced = (self.rank().is_none() && self.manifest.starts_with("crates/"))
            .then(|| format!("`{}` has no place in the order of rooms", self.name));
        unplaced.into_iter().chain(self.dependencies.iter().filter_map(|used| self.breach(used)))
    }

    fn breach(&self, used: &str) -> Option<String> {
        if let (Some(own), Some(other)) = (self.rank(), rank(used))
            && other >= own
        {
            return Some(format!("`{}` uses `{used}`, which stands above or beside it", self.name));
        }
        let (_, allowed) = RESERVED.iter().find(|(library, _)| *library == used)?;
        (!allowed.contains(&self.name.as_str()))
            .then(|| format!("`{}` uses `{used}`, which belongs to {}", self.name, allowed.join(", ")))
    }

    fn rank(&self) -> Option<usize> {
        rank(&self.name)
    }
}

fn rank(name: &str) -> Option<usize> {
    ROOMS.iter().position(|row| row.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaches(name: &str, dependencies: &[&str]) -> usize {
        let package = Package {
            name: name.into(),
            manifest: format!("crates/{name}/Cargo.toml"),
            dependencies: dependencies.iter().map(|name| (*name).to_owned()).collect(),
        };
        check(&[package]).len()
    }

    #[test]
    fn rooms_use_only_rooms_below() {
        assert_eq!(breaches("engine", &["executor", "store", "api", "serde"]), 0);
        assert_eq!(breaches("engine", &["server"]), 1);
        assert_eq!(breaches("store", &["container"]), 1);
        assert_eq!(breaches("api", &["buildspec"]), 1);
    }

    #[test]
    fn libraries_that_reach_outside_stay_in_their_room() {
        assert_eq!(breaches("agent", &["tokio"]), 1);
        assert_eq!(breaches("engine", &["rusqlite", "hyper"]), 2);
        assert_eq!(breaches("store", &["rusqlite", "tokio"]), 0);
    }

    #[test]
    fn a_new_room_needs_a_place() {
        assert_eq!(breaches("attic", &[]), 1);
    }
}

//! `codegen`: `crates/api/src/generated/*.rs` from `crates/api/models/*.json`.
//!
//! Here: which files, and writing or comparing them. What one file says is in [`source`], how things
//! are called in [`names`].

mod names;
mod source;

use std::path::{Path, PathBuf};

use crate::error::{Error, at};
use crate::model::Model;

pub(crate) const USAGE: &str = "[--check]";

/// Services spoken; each has `models/<name>.json` and gets `src/generated/<name>.rs`.
const SERVICES: &[&str] = &["codebuild", "logs", "publicbuilds", "secretsmanager", "ssm", "sts", "tagging"];

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    match arguments {
        [] => write(),
        [flag] if flag == "--check" => check(),
        _ => Err(Error::Usage(format!("  cargo xtask codegen {USAGE}"))),
    }
}

fn write() -> Result<(), Error> {
    for service in SERVICES {
        let path = target(service);
        std::fs::write(&path, generate(service)?).map_err(at(&path))?;
    }
    Ok(())
}

fn check() -> Result<(), Error> {
    let mut stale = Vec::new();
    for service in SERVICES {
        let path = target(service);
        if std::fs::read_to_string(&path).map_err(at(&path))? != generate(service)? {
            stale.push(path.display().to_string());
        }
    }
    if stale.is_empty() { Ok(()) } else { Err(Error::Stale { command: "codegen", files: stale }) }
}

fn generate(service: &str) -> Result<String, Error> {
    let model = Model::read(&api().join("models").join(format!("{service}.json")))?;
    source::file(service, &model)
}

fn target(service: &str) -> PathBuf {
    api().join("src/generated").join(format!("{service}.rs"))
}

fn api() -> PathBuf {
    crate::root().join(Path::new("crates/api"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_files_are_what_the_models_generate() {
        super::check().unwrap();
    }
}

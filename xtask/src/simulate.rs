//! `cargo xtask simulate`: many histories of engine, store, agents and clock, each decided by a seed, and every promise held
//! against each. The short form of it is one of the engine's tests, where the world is written down.

use std::path::Path;
use std::process::Command;

use crate::error::{Error, at};

pub(crate) const USAGE: &str =
    "[--seeds N] [--from N] | --seed N    try histories that seeds decide, or tell one";

/// What shows something when the engine, the store or an executor has changed.
const SEEDS: &str = "10000";

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    let asked = asked(arguments)?;
    let mut all = vec!["test", "-q", "-p", "engine", "--test", "simulation", "--"];
    all.extend(asked.iter().map(String::as_str));
    let mut cargo = Command::new(env!("CARGO"));
    let status = cargo.args(&all).current_dir(crate::root()).status().map_err(at(Path::new("cargo")))?;
    match status.success() {
        true => Ok(()),
        false => Err(Error::Check { command: format!("cargo {}", all.join(" ")), status }),
    }
}

fn asked(arguments: &[String]) -> Result<Vec<String>, Error> {
    let is_sound = arguments.chunks(2).all(|pair| match pair {
        [name, number] => {
            let is_known = matches!(name.as_str(), "--seed" | "--seeds" | "--from");
            is_known && number.replace('_', "").parse::<u64>().is_ok()
        }
        _ => false,
    });
    if !is_sound {
        return Err(Error::Usage(format!("  cargo xtask simulate {USAGE}")));
    }
    let mut asked = arguments.to_vec();
    if !arguments.iter().any(|one| one == "--seed" || one == "--seeds") {
        asked.extend(["--seeds".to_owned(), SEEDS.to_owned()]);
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_one_seed_or_so_many() {
        let read = |words: &[&str]| asked(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert_eq!(read(&[]).unwrap(), ["--seeds", SEEDS]);
        assert_eq!(read(&["--seed", "1_000"]).unwrap(), ["--seed", "1_000"]);
        assert_eq!(read(&["--from", "5"]).unwrap(), ["--from", "5", "--seeds", SEEDS]);
        for wrong in [&["--seed"][..], &["--seeds", "many"], &["7"], &["--loud", "1"]] {
            assert!(read(wrong).is_err());
        }
    }
}

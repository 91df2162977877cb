//! `fuzz`: rooms that read what others wrote, under arbitrary input and limits of time and memory.
//!
//! Here: building the targets of `fuzz/` with coverage instrumentation, which stable Rust has as an LLVM pass, and running
//! libFuzzer over them. What it learns is kept below the target folder; what is worth keeping for everybody is in `fuzz/seeds`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, at};

pub(crate) const USAGE: &str = "[TARGET] [--runs N] [--seconds N]";

/// A run without numbers: enough to notice what is badly broken.
const DEFAULT_RUNS: u64 = 100_000;

/// Memory of the whole process, in MiB.
const MEMORY_MB: u32 = 256;

/// The longest that one input may take.
const INPUT_SECONDS: u32 = 5;

struct Target {
    name: &'static str,
    /// Folders with inputs to begin from.
    seeds: &'static [&'static str],
    /// Words the input is made of, in libFuzzer's format.
    dictionary: Option<&'static str>,
    /// Longest input, in bytes.
    input_bytes: u32,
}

const TARGETS: &[Target] = &[
    Target {
        name: "buildspec",
        seeds: &[
            "fuzz/seeds/buildspec",
            "tests/cases/buildspecs",
            "crates/buildspec/tests/cases",
            "crates/buildspec/tests/cases/bad",
        ],
        dictionary: Some("fuzz/dictionaries/buildspec"),
        input_bytes: 4096,
    },
    Target {
        name: "canonical",
        seeds: &["fuzz/seeds/canonical"],
        dictionary: Some("fuzz/dictionaries/sigv4"),
        input_bytes: 1024,
    },
    Target { name: "cbor", seeds: &["fuzz/seeds/cbor"], dictionary: None, input_bytes: 4096 },
    Target { name: "glob", seeds: &["fuzz/seeds/glob"], dictionary: None, input_bytes: 512 },
    Target {
        name: "json",
        seeds: &["fuzz/seeds/json"],
        dictionary: Some("fuzz/dictionaries/json"),
        input_bytes: 4096,
    },
    Target { name: "log", seeds: &["fuzz/seeds/log"], dictionary: None, input_bytes: 96 },
    Target {
        name: "mask",
        seeds: &["fuzz/seeds/mask"],
        dictionary: Some("fuzz/dictionaries/mask"),
        input_bytes: 512,
    },
    Target {
        name: "pattern",
        seeds: &["fuzz/seeds/pattern"],
        dictionary: Some("fuzz/dictionaries/pattern"),
        input_bytes: 512,
    },
    Target {
        name: "policy",
        seeds: &["fuzz/seeds/policy"],
        dictionary: Some("fuzz/dictionaries/policy"),
        input_bytes: 2048,
    },
    Target {
        name: "report",
        seeds: &["fuzz/seeds/report"],
        dictionary: Some("fuzz/dictionaries/report"),
        input_bytes: 4096,
    },
    Target {
        name: "sigv4",
        seeds: &["fuzz/seeds/sigv4"],
        dictionary: Some("fuzz/dictionaries/sigv4"),
        input_bytes: 2048,
    },
    Target {
        name: "zip",
        seeds: &["fuzz/seeds/zip"],
        dictionary: Some("fuzz/dictionaries/zip"),
        input_bytes: 4096,
    },
];

/// LLVM's coverage counters as libFuzzer reads them; what `cargo fuzz` sets, without the parts that need nightly Rust,
/// and without the tracing of comparisons, which took more than half of the time.
const INSTRUMENTATION: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table";

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    let Asked { targets, runs, seconds } = Asked::read(arguments)?;
    build()?;
    targets.iter().try_for_each(|target| target.fuzz(runs, seconds))
}

struct Asked {
    targets: Vec<&'static Target>,
    runs: Option<u64>,
    /// For each target.
    seconds: Option<u64>,
}

impl Asked {
    fn read(arguments: &[String]) -> Result<Asked, Error> {
        let mut asked = Asked { targets: Vec::new(), runs: None, seconds: None };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--runs" => asked.runs = Some(number(arguments.next())?),
                "--seconds" => asked.seconds = Some(number(arguments.next())?),
                name => asked.targets.push(named(name)?),
            }
        }
        if asked.targets.is_empty() {
            asked.targets = TARGETS.iter().collect();
        }
        if asked.seconds.is_none() {
            asked.runs = asked.runs.or(Some(DEFAULT_RUNS));
        }
        Ok(asked)
    }
}

fn number(text: Option<&String>) -> Result<u64, Error> {
    text.and_then(|text| text.replace('_', "").parse().ok()).ok_or_else(usage)
}

fn named(name: &str) -> Result<&'static Target, Error> {
    TARGETS.iter().find(|target| target.name == name).ok_or_else(usage)
}

fn usage() -> Error {
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    Error::Usage(format!("  cargo xtask fuzz {USAGE}, where TARGET is one of: {}", names.join(", ")))
}

fn build() -> Result<(), Error> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--release", "--bins", "--manifest-path"])
        .arg(crate::root().join("fuzz/Cargo.toml"));
    // Naming the platform keeps the instrumentation out of build scripts and macros, which have no libFuzzer.
    cargo.args(["--target", &platform()?, "--target-dir"]).arg(output());
    cargo.env("RUSTFLAGS", INSTRUMENTATION);
    succeed(cargo, "cargo build of fuzz/")
}

/// The platform that rustc compiles for by itself.
fn platform() -> Result<String, Error> {
    let output = Command::new("rustc").arg("-vV").output().map_err(at(Path::new("rustc")))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned);
    host.ok_or_else(|| Error::Unsupported("rustc -vV names no host".into()))
}

/// Where everything that fuzzing makes goes.
fn output() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from);
    target.join("fuzz")
}

impl Target {
    fn fuzz(&self, runs: Option<u64>, seconds: Option<u64>) -> Result<(), Error> {
        let root = crate::root();
        let (corpus, crashes) =
            (output().join("corpus").join(self.name), output().join("crashes").join(self.name));
        for folder in [&corpus, &crashes] {
            std::fs::create_dir_all(folder).map_err(at(folder))?;
        }
        let mut command = Command::new(output().join(platform()?).join("release").join(self.name));
        command.current_dir(&root).arg(corpus);
        command.args(self.seeds.iter().filter(|folder| root.join(folder).is_dir()));
        command.args([
            format!("-rss_limit_mb={MEMORY_MB}"),
            format!("-timeout={INPUT_SECONDS}"),
            format!("-max_len={}", self.input_bytes),
            format!("-artifact_prefix={}/", crashes.display()),
            "-print_final_stats=1".to_owned(),
            "-verbosity=0".to_owned(),
        ]);
        command.args(runs.map(|runs| format!("-runs={runs}")));
        command.args(seconds.map(|seconds| format!("-max_total_time={seconds}")));
        command.args(self.dictionary.map(|dictionary| format!("-dict={dictionary}")));
        succeed(command, &format!("fuzz target {}", self.name))
    }
}

fn succeed(mut command: Command, name: &str) -> Result<(), Error> {
    println!("== {name}");
    let status = command.status().map_err(at(Path::new(name)))?;
    if status.success() { Ok(()) } else { Err(Error::Check { command: name.to_owned(), status }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_has_its_program_and_its_words() {
        let manifest = std::fs::read_to_string(crate::root().join("fuzz/Cargo.toml")).unwrap();
        for target in TARGETS {
            assert!(manifest.contains(&format!("path = \"targets/{}.rs\"", target.name)), "{}", target.name);
            for path in target.dictionary.iter().chain(target.seeds) {
                assert!(crate::root().join(path).exists(), "{path}");
            }
        }
    }

    #[test]
    fn what_is_asked_for_is_a_target_and_numbers() {
        let read =
            |words: &[&str]| Asked::read(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        let asked = read(&["buildspec", "--runs", "1_000_000"]).unwrap();
        assert_eq!((asked.targets.len(), asked.runs, asked.seconds), (1, Some(1_000_000), None));
        let asked = read(&[]).unwrap();
        assert_eq!((asked.targets.len(), asked.runs), (TARGETS.len(), Some(DEFAULT_RUNS)));
        assert_eq!(read(&["--seconds", "15"]).unwrap().runs, None);
        for wrong in [&["nothing"][..], &["--runs"], &["--runs", "many"]] {
            assert!(read(wrong).is_err());
        }
    }
}

//! `codebuild-hash-files`: a command of every environment, which makes cache keys of files (BS-156). Written for any POSIX shell. Where an
//! image has nothing that sums files up, the command asks through named pipes, and a function that runs inside answers.
//!
//! Patterns are those of `cache.paths`, each component by the shell's own rules for one; the sum changes with the content of the files
//! and with how many there are, not with their names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use buildspec::glob::Pattern;
use container::packet;
use sha2::{Digest, Sha256};

use crate::breakpoints::pipe;
use crate::inside::{DONE, REFUSED};

/// Any of these sums files up.
pub(crate) const PROGRAMS: [&str; 3] = ["sha256sum", "shasum", "openssl"];

/// Named pipes: whoever has taken the one line out of the first may ask; the second wakes the agent, the others have question and answer.
const TURN: &str = "/codebuild/output/tmp/hash-turn";
const BELL: &str = "/codebuild/output/tmp/hash-bell";
const ASKED: &str = "/codebuild/output/tmp/hash-asked";
const ANSWER: &str = "/codebuild/output/tmp/hash-answer";
/// Patterns of one question, and bytes of each.
const PATTERNS: usize = 1000;
const PATTERN_BYTES: u64 = 16 << 10;

pub(crate) fn is_ours(path: &str) -> bool {
    [TURN, BELL, ASKED, ANSWER].contains(&path)
}

pub(crate) const HASH_FILES: (&str, &str) = (
    "/codebuild/user/bin/codebuild-hash-files",
    r#"#!/bin/sh
[ $# -gt 0 ] || { echo 'usage: codebuild-hash-files PATTERN...' >&2; exit 2; }
cd -- "${CODEBUILD_SRC_DIR:-.}" || exit 2
LC_ALL=C
export LC_ALL
tmp=/codebuild/output/tmp
if [ -p $tmp/hash-turn ]; then
  read -r _ <$tmp/hash-turn
  trap 'echo >$tmp/hash-turn' EXIT
  trap 'exit 1' HUP INT TERM
  echo >$tmp/hash-bell
  printf '%s\n' "$#" "$PWD" "$@" >$tmp/hash-asked
  read -r status text <$tmp/hash-answer
  if [ "$status" = 0 ]; then echo "$text"; else echo "codebuild-hash-files: $text" >&2; fi
  exit "$status"
fi
if command -v sha256sum >/dev/null; then sum() { sha256sum; }
elif command -v shasum >/dev/null; then sum() { shasum -a 256; }
elif command -v openssl >/dev/null; then sum() { openssl dgst -sha256 -r; }
else echo 'codebuild-hash-files: needs sha256sum, shasum or openssl' >&2; exit 3; fi
# $1: a folder with a slash at its end, or nothing; $2: the pattern of what is below it.
find_files() {
  case $2 in
    /*) find_files "$1" "${2#/}"; return ;;
    ./*) find_files "$1" "${2#./}"; return ;;
    */*) set -- "$1" "${2%%/*}" "${2#*/}" ;;
    *) set -- "$1" "$2" '' ;;
  esac
  if [ "$2" = '**' ]; then
    find_files "$1" "${3:-*}"
    for entry in "$1"* "$1".[!.]* "$1"..?*; do
      if [ -d "$entry" ] && [ ! -L "$entry" ]; then find_files "$entry/" "**/$3"; fi
    done
    return
  fi
  for entry in "$1"* "$1".[!.]* "$1"..?*; do
    case ${entry##*/} in $2) ;; *) continue ;; esac
    if [ -z "$3" ]; then
      if [ -f "$entry" ]; then printf '%s\n' "$entry"; fi
    elif [ -d "$entry" ]; then find_files "$entry/" "$3"; fi
  done
}
files=$(for pattern; do
  case $pattern in
    /*) find_files / "$pattern" ;;
    *) find_files '' "$pattern" ;;
  esac
done | sort -u)
[ -n "$files" ] || { echo "codebuild-hash-files: no file matches $*" >&2; exit 1; }
all=$(printf '%s\n' "$files" | while IFS= read -r file; do
  one=$(sum <"$file") || exit 1
  printf '%s\n' "${one%% *}"
done | sum) || exit 1
printf '%s\n' "${all%% *}"
"#,
);

/// Makes the pipes; runs inside. fds: the socket that gets the agent's ends, the bell's first.
pub(crate) fn pipes_entry(_: &[u8], fds: Vec<OwnedFd>) -> i32 {
    let Some(socket) = fds.into_iter().next() else { return REFUSED };
    let [Ok(bell), Ok(asked), Ok(answer), Ok(turn)] = [BELL, ASKED, ANSWER, TURN].map(pipe) else {
        return REFUSED;
    };
    let begun = rustix::io::write(&turn, b"\n").map_err(io::Error::from);
    let all = [bell.as_fd(), asked.as_fd(), answer.as_fd(), turn.as_fd()];
    match begun.and_then(|_| packet::send(socket.as_fd(), b"h", &all)) {
        Ok(()) => DONE,
        Err(_) => REFUSED,
    }
}

/// Answers one question; runs inside.
pub(crate) fn answer_entry(_: &[u8], _: Vec<OwnedFd>) -> i32 {
    let answered = question().map(|(folder, patterns)| hash(&folder, &patterns)).and_then(|hashed| {
        let line = match hashed {
            Ok(sum) => format!("0 {sum}\n"),
            Err(why) => format!("1 {}\n", why.replace('\n', " ")),
        };
        File::options().write(true).open(ANSWER)?.write_all(line.as_bytes())
    });
    if answered.is_ok() { DONE } else { REFUSED }
}

/// How many patterns there are, the folder they begin in, the patterns: a line each.
fn question() -> io::Result<(PathBuf, Vec<String>)> {
    let mut lines = BufReader::new(File::open(ASKED)?);
    let mut line = || {
        let mut line = String::new();
        io::Read::take(&mut lines, PATTERN_BYTES).read_line(&mut line)?;
        Ok::<_, io::Error>(line.trim_end_matches('\n').to_owned())
    };
    let number = line()?.parse().unwrap_or(0).min(PATTERNS);
    let folder = PathBuf::from(line()?);
    Ok((folder, (0..number).map(|_| line()).collect::<io::Result<_>>()?))
}

/// The sum over the sums of the files that match, in the order of their names as the patterns lead to them.
fn hash(folder: &Path, patterns: &[String]) -> Result<String, String> {
    let mut found = BTreeMap::new();
    for text in patterns {
        let pattern = Pattern::parse(text).map_err(|error| error.to_string())?;
        let (base, shown) = if pattern.is_absolute() { (Path::new("/"), "/") } else { (folder, "") };
        let mut names = BTreeSet::new();
        walk(base, &mut Vec::new(), &pattern, &mut names);
        found.extend(
            names.into_iter().map(|name| ([shown.as_bytes(), &name].concat(), base.join(path(&name)))),
        );
    }
    if found.is_empty() {
        return Err(format!("no file matches {}", patterns.join(" ")));
    }
    let mut all = Sha256::new();
    for file in found.values() {
        let sum = sum(file).map_err(|error| format!("{}: {error}", file.display()))?;
        all.update(format!("{sum}\n"));
    }
    Ok(hex(&all.finalize()))
}

fn path(name: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(name))
}

/// Adds the files below `base` that match; no link to a folder is followed.
fn walk(base: &Path, at: &mut Vec<Vec<u8>>, pattern: &Pattern, names: &mut BTreeSet<Vec<u8>>) {
    let Ok(entries) = fs::read_dir(base.join(path(&at.join(&b'/')))) else { return };
    for entry in entries.flatten() {
        at.push(entry.file_name().as_bytes().to_owned());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if pattern.could_match_below(at) {
                walk(base, at, pattern, names);
            }
        } else if entry.path().is_file() && pattern.matches(at) {
            names.insert(at.join(&b'/'));
        }
        at.pop();
    }
}

fn sum(path: &Path) -> io::Result<String> {
    let (mut hash, mut file, mut piece) = (Sha256::new(), File::open(path)?, [0; 64 << 10]);
    loop {
        match io::Read::read(&mut file, &mut piece)? {
            0 => return Ok(hex(&hash.finalize())),
            length => hash.update(&piece[..length]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn hashed(shell: &[&str], folder: &Path, patterns: &[&str]) -> (bool, String) {
        let script = folder.with_extension("sh");
        fs::write(&script, HASH_FILES.1).unwrap();
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).arg(&script).args(patterns);
        let out = command.env("CODEBUILD_SRC_DIR", folder).output().unwrap();
        (out.status.success(), String::from_utf8(out.stdout).unwrap().trim().to_owned())
    }

    fn tree() -> tempfile::TempDir {
        let place = tempfile::tempdir().unwrap();
        for file in [
            "package-lock.json",
            "a/package-lock.json",
            "a/.b/package-lock.json",
            "a/with space.lock",
            ".hidden",
        ] {
            let path = place.path().join("src").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        place
    }

    #[test]
    fn every_shell_finds_the_same_files_and_sums_them_up() {
        // BS-156, BS-180, BS-181
        let place = tree();
        let folder = place.path().join("src");
        for shell in [&["sh"][..], &["bash"], &["busybox", "sh"]] {
            let sum = |patterns: &[&str]| {
                let (succeeded, sum) = hashed(shell, &folder, patterns);
                assert!(succeeded && sum.len() == 64, "{shell:?} {patterns:?} {sum}");
                sum
            };
            let one = sum(&["package-lock.json"]);
            assert_eq!(one, sum(&["./package-lock.json", "package-lock.json"]));
            assert_eq!(one, sum(&["*.json"]));
            assert_eq!(one, sum(&[&format!("{}/package-lock.json", folder.display())]));
            let three = sum(&["**/package-lock.json"]);
            assert_eq!(three, sum(&["package-lock.json", "a/package-lock.json", "a/.b/package-lock.json"]));
            assert_eq!(three, sum(&["a/**/*.json", "package-lock.[j]son"]));
            let all = ["**/*", "**"].map(|pattern| sum(&[pattern]));
            assert_eq!(all[0], all[1]);
            assert!(all[0] != three && one != three && sum(&["a/*.lock"]) != one);
            // So does what answers where there is no program for it.
            for patterns in
                [&["package-lock.json"][..], &["**/package-lock.json", "./a/**/*.json"], &["**/*"], &["**"]]
            {
                let owned: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
                assert_eq!(hash(&folder, &owned).as_deref(), Ok(sum(patterns).as_str()), "{patterns:?}");
            }
            let absolute = format!("{}/package-lock.json", folder.display());
            assert_eq!(hash(&folder, &[absolute]), Ok(one));
        }
    }

    #[test]
    fn the_sum_changes_with_the_content() {
        let place = tree();
        let folder = place.path().join("src");
        let before = hashed(&["sh"], &folder, &["**/*.json"]);
        assert_eq!(before, hashed(&["sh"], &folder, &["**/*.json"]));
        fs::write(folder.join("a/.b/package-lock.json"), "changed").unwrap();
        assert_ne!(before, hashed(&["sh"], &folder, &["**/*.json"]));
    }

    #[test]
    fn what_matches_nothing_is_told_by_the_exit_code() {
        let place = tree();
        assert_eq!(hashed(&["sh"], &place.path().join("src"), &["nothing-*"]), (false, String::new()));
        assert_eq!(hashed(&["sh"], &place.path().join("src"), &[]), (false, String::new()));
    }
}

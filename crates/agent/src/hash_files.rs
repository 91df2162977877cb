//! `codebuild-hash-files`: a command of every environment, which makes cache keys of files (BS-156). Written for any POSIX shell, so that
//! an image needs nothing for it but what sums files up.
//!
//! Patterns are those of `cache.paths`, each component by the shell's own rules for one; the sum changes with the content of the files
//! and with how many there are, not with their names.

pub(crate) const HASH_FILES: (&str, &str) = (
    "/codebuild/user/bin/codebuild-hash-files",
    r#"#!/bin/sh
[ $# -gt 0 ] || { echo 'usage: codebuild-hash-files PATTERN...' >&2; exit 2; }
cd -- "${CODEBUILD_SRC_DIR:-.}" || exit 2
LC_ALL=C
export LC_ALL
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;
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

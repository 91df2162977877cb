//! How one command becomes a script, and how variables and the working directory go from one to the next.
//!
//! COMPAT: BS-023..025 each command is a script of its own, run with what the one before left: working directory,
//! exported and plain variables (and, where the shell is bash, functions). `exit` ends only its command.

use std::path::Path;

/// Where the script stands inside the container, as CodeBuild has it (BS-024).
pub(crate) const SCRIPT: &str = "/codebuild/output/tmp/script.sh";
/// What the shell restores before a command.
pub(crate) const RESTORE: &str = "/codebuild/output/tmp/env.sh";
/// What the shell leaves after a command.
pub(crate) const SAVED: &str = "/codebuild/output/tmp/env.saved";
/// What git asks for credentials.
pub(crate) const GIT_CREDENTIALS: &str = "/codebuild/output/tmp/git-credential-codebuild";
/// Bytes of saved variables that are carried on; more means that a command tampers with the file.
pub(crate) const SAVED_LIMIT: u64 = 8 << 20;

/// Prints every variable (and bash's functions) in a form that the same shell reads back.
/// Errors of the restore (bash's read-only variables) are expected and silent.
const SAVE: &str = "if [ -n \"${BASH_VERSION-}\" ]; then declare -p; declare -pf; else set; export -p; fi";

/// What the shell carries from command to command.
#[derive(Debug, Clone)]
pub(crate) struct State {
    /// Text that restores variables; for the first command, the build's environment as `export` lines.
    pub(crate) restore: Vec<u8>,
    /// False for buildspec version 0.1, whose commands each get a fresh shell (BS-020).
    pub(crate) carries: bool,
}

/// The shell text of a script, and on which line the command begins: the fourth, as in CodeBuild's error texts.
pub(crate) fn script(command: &str, last_exit: i32, succeeding: bool) -> String {
    let succeeding = u8::from(succeeding);
    // The saved PWD is a plain variable until `cd` makes it true; a folder that is gone leaves the command in `/`. COMPAT: EN-065 where
    // the command before it was is not for this `cd` to say.
    format!(
        ". {RESTORE} 2>/dev/null; set -- \"${{OLDPWD-}}\"; cd -- \"${{PWD:-/}}\" || cd /; OLDPWD=$1; set --\n\
         export CODEBUILD_LAST_EXIT={last_exit} CODEBUILD_BUILD_SUCCEEDING={succeeding}\n\
         trap 'CODEBUILD_LAST_EXIT=$?; {{ {SAVE}; }} >{SAVED} 2>/dev/null; exit $CODEBUILD_LAST_EXIT' EXIT\n\
         {command}\n"
    )
}

/// A script that prints `text`, expanded as in double quotes, and changes nothing (BS-133, BS-190).
pub(crate) fn expansion(text: &str) -> String {
    let quoted = text.replace('"', "\\\"");
    format!(". {RESTORE} 2>/dev/null; cd -- \"${{PWD:-/}}\" || cd /\n\n\nprintf '%s' \"{quoted}\"\n")
}

/// A script that prints `name=value` and a NUL for each of `names` that is set.
pub(crate) fn values(names: &[&str]) -> String {
    let mut text = format!(". {RESTORE} 2>/dev/null\n");
    for name in names {
        text.push_str(&format!("[ -z \"${{{name}+set}}\" ] || printf '%s\\0' \"{name}=${{{name}}}\"\n"));
    }
    text
}

/// A script that prints the variables as they are saved, but for `names`.
pub(crate) fn saved_without(names: &[&str]) -> String {
    let names: String = names.iter().filter(|name| is_name(name)).map(|name| format!(" {name}")).collect();
    format!(". {RESTORE} 2>/dev/null; unset -v _{names}\n{{ {SAVE}; }} 2>/dev/null\n")
}

/// Whether a saved variable holds `value`, however the shell quotes it; of many lines one is enough.
pub(crate) fn holds(saved: &[u8], value: &str) -> bool {
    let plain = |text: &str| text.replace(['\\', '\'', '"'], "");
    let saved = plain(&String::from_utf8_lossy(saved));
    let mut lines = value.lines().map(plain).filter(|line| line.len() >= crate::mask::SHORTEST_BYTES);
    lines.any(|line| saved.contains(&line))
}

/// How a shell, or a command in one, is started for somebody who looks in; `number` tells several apart.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) argv: Vec<String>,
    /// Paths and texts.
    pub(crate) files: Vec<(String, String)>,
    pub(crate) variables: Vec<(String, String)>,
}

/// Folders of what such shells need begin so.
const OPENED: &str = "/codebuild/output/tmp/shell-";

impl Opened {
    /// Where the variables that it restores are.
    pub(crate) fn restore(number: u32) -> String {
        format!("{OPENED}{number}/env.sh")
    }
}

/// `shell` is the build's own, which alone can read what it has saved.
pub(crate) fn opened(request: &crate::attach::Request, shell: &str, number: u32, name: &str) -> Opened {
    let script = format!("{OPENED}{number}/script.sh");
    let restore = format!(". {} 2>/dev/null; cd -- \"${{PWD:-/}}\" || cd /\n", Opened::restore(number));
    let argv = |words: &[&str]| -> Vec<String> { words.iter().map(|word| (*word).to_owned()).collect() };
    let mut variables: Vec<(String, String)> =
        request.terminal.iter().map(|terminal| ("TERM".to_owned(), terminal.kind.clone())).collect();
    if !request.command.is_empty() {
        let errors = if request.terminal.is_none() { "exec 2>&3 3>&-\n" } else { "" };
        let text = format!("{restore}{errors}\"$@\"\n");
        let argv = [argv(&[shell, &script]), request.command.clone()].concat();
        return Opened { argv, files: vec![(script, text)], variables };
    }
    let errors = if request.terminal.is_none() { "exec 2>&3 3>&-\n" } else { "" };
    let term = variables.first().map_or(String::new(), |(_, kind)| format!("export TERM={}\n", quote(kind)));
    let prompt = quote(&format!("({name}) $PWD $ "));
    let text = format!("{restore}{errors}{term}unset ENV\nPS1={prompt}\nPS2='> '\n");
    let argv = match shell {
        "bash" => argv(&["bash", "--rcfile", &script, "-i"]),
        other => argv(&[other, "-i"]),
    };
    variables.push(("ENV".into(), script.clone()));
    Opened { argv, files: vec![(script, text)], variables }
}

/// The environment before the first command, as shell text.
pub(crate) fn initial<'a>(
    variables: impl Iterator<Item = (&'a String, &'a String)>,
    folder: &Path,
) -> Vec<u8> {
    let mut text = exports(variables.map(|(name, value)| (name.as_str(), value.as_str())));
    text.extend(format!("export PWD={}\n", quote(&folder.to_string_lossy())).bytes());
    text
}

/// Shell text that exports variables.
pub(crate) fn exports<'a>(variables: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let named = variables.filter(|(name, _)| is_name(name));
    named.flat_map(|(name, value)| format!("export {name}={}\n", quote(value)).into_bytes()).collect()
}

/// Whether a file is one of those that are written anew for every command.
pub(crate) fn is_ours(path: &Path) -> bool {
    let is_opened = path.to_str().is_some_and(|path| {
        path.starts_with(OPENED) || crate::breakpoints::is_ours(path) || crate::hash_files::is_ours(path)
    });
    is_opened || [SCRIPT, RESTORE, SAVED, GIT_CREDENTIALS].iter().any(|ours| path == Path::new(ours))
}

/// A POSIX variable name; a shell cannot hold any other.
pub(crate) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

pub(crate) fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\"'\"'"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Runs commands one after another as the agent does, but in a folder of this host.
    fn run(shell: &str, commands: &[&str]) -> Vec<(i32, String)> {
        let folder = tempfile::tempdir().unwrap();
        let local = |text: String| text.replace("/codebuild/output/tmp", folder.path().to_str().unwrap());
        let variables = [
            ("FIRST".to_owned(), "it's \"$HOME\"\nand more".to_owned()),
            ("PATH".into(), "/usr/bin:/bin".into()),
        ];
        let mut restore = initial(variables.iter().map(|(n, v)| (n, v)), folder.path());
        let mut results = Vec::new();
        let mut last = 0;
        for command in commands {
            std::fs::write(folder.path().join("env.sh"), &restore).unwrap();
            std::fs::write(folder.path().join("script.sh"), local(script(command, last, true))).unwrap();
            let out = Command::new(shell).arg(folder.path().join("script.sh")).env_clear().output().unwrap();
            last = out.status.code().unwrap();
            if let Ok(saved) = std::fs::read(folder.path().join("env.saved")) {
                restore = saved;
            }
            let text = [out.stdout, out.stderr].concat();
            results.push((last, String::from_utf8(text).unwrap()));
        }
        results
    }

    fn outputs(shell: &str, commands: &[&str]) -> Vec<String> {
        run(shell, commands).into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn plain_and_exported_variables_and_the_folder_survive() {
        // BS-023
        for shell in ["sh", "bash"] {
            let commands =
                ["X=plain; export Y='two words'; cd /usr", "echo \"$X|$Y|$PWD\"; sh -c 'echo \"$X|$Y\"'"];
            assert_eq!(outputs(shell, &commands)[1], "plain|two words|/usr\n|two words\n", "{shell}");
        }
    }

    #[test]
    fn values_with_quotes_newlines_and_dollars_survive() {
        for shell in ["sh", "bash"] {
            let commands =
                ["V=\"a'b\n\\$HOME \\\\ \\\"q\\\"\"", "printf '%s' \"$V\"; printf '|%s' \"$FIRST\""];
            assert_eq!(
                outputs(shell, &commands)[1],
                "a'b\n$HOME \\ \"q\"|it's \"$HOME\"\nand more",
                "{shell}"
            );
        }
    }

    #[test]
    fn exit_ends_only_its_command_and_keeps_what_it_set() {
        // BS-025, BS-027
        for shell in ["sh", "bash"] {
            let results = run(shell, &["A=1; exit 3", "echo $A $CODEBUILD_LAST_EXIT"]);
            assert_eq!(results[0].0, 3);
            assert_eq!(results[1], (0, "1 3\n".into()), "{shell}");
        }
    }

    #[test]
    fn an_unset_variable_stays_unset() {
        for shell in ["sh", "bash"] {
            assert_eq!(outputs(shell, &["unset FIRST", "echo ${FIRST-gone}"])[1], "gone\n", "{shell}");
        }
    }

    #[test]
    fn bash_functions_and_arrays_survive() {
        // BS-026
        assert_eq!(outputs("bash", &["f() { echo f$1; }; A=(x 'y z')", "f 1; echo ${A[1]}"])[1], "f1\ny z\n");
    }

    #[test]
    fn a_value_is_found_however_the_shell_quotes_it() {
        let secret = "it's \"a\" $secret\\";
        for shell in ["sh", "bash"] {
            let folder = tempfile::tempdir().unwrap();
            let local = |text: String| text.replace("/codebuild/output/tmp", folder.path().to_str().unwrap());
            let variables =
                [("SECRET", secret), ("URL", secret), ("PLAIN", "two words"), ("PATH", "/usr/bin:/bin")];
            std::fs::write(folder.path().join("env.sh"), exports(variables.into_iter())).unwrap();
            let saved = |names: &[&str]| {
                let script = local(saved_without(names));
                Command::new(shell).args(["-c", &script]).env_clear().output().unwrap().stdout
            };
            assert!(holds(&saved(&["SECRET"]), secret), "{shell}");
            let rest = saved(&["SECRET", "URL"]);
            assert!(!holds(&rest, secret), "{shell}");
            assert!(String::from_utf8(rest).unwrap().contains("two words"), "{shell}");
        }
    }

    #[test]
    fn error_texts_name_the_script_and_its_fourth_line() {
        // BS-024
        assert!(outputs("sh", &["fail"])[0].ends_with("/script.sh: 4: fail: not found\n"));
    }

    #[test]
    fn names_a_shell_cannot_hold_are_recognised() {
        for (name, expect) in
            [("A_1", true), ("_", true), ("1A", false), ("A-B", false), ("A.B", false), ("", false)]
        {
            assert_eq!(is_name(name), expect, "{name:?}");
        }
    }
}

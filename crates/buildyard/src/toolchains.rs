//! Which of the user's own folders a local build on the `host` environment sees: toolchains that are on the PATH.
//!
//! Homes are hidden from builds, but rustup, pyenv, nvm and the like live there. For each PATH entry below the home
//! folder the smallest known folder that makes the tool work is shown, read-only. Credentials next to it are not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `(PATH entry below the home, folders shown, variables that point a tool to its own folder)`.
/// The first entry that is a prefix of the PATH entry counts; one that is not listed is shown itself.
const KNOWN: &[(&str, &[&str], &[(&str, &str)])] = &[
    (".cargo/bin", &[".cargo/bin", ".rustup"], &[("RUSTUP_HOME", ".rustup")]),
    (".pyenv", &[".pyenv"], &[("PYENV_ROOT", ".pyenv")]),
    (".rbenv", &[".rbenv"], &[("RBENV_ROOT", ".rbenv")]),
    (".nvm/versions", &[".nvm"], &[("NVM_DIR", ".nvm")]),
    (".volta", &[".volta"], &[("VOLTA_HOME", ".volta")]),
    (".sdkman/candidates", &[".sdkman/candidates"], &[]),
    (".asdf", &[".asdf"], &[("ASDF_DATA_DIR", ".asdf")]),
    (".local/share/mise", &[".local/share/mise"], &[]),
    (".local/bin", &[".local/bin", ".local/lib", ".local/share/pipx"], &[]),
    ("go/bin", &["go/bin"], &[]),
];

/// Host folders a build sees, and the variables and PATH that go with them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Toolchains {
    pub(crate) folders: Vec<PathBuf>,
    pub(crate) variables: BTreeMap<String, String>,
    /// PATH entries of the user that exist inside, in their order.
    pub(crate) path: Vec<String>,
}

/// Finds them in `path`, a PATH value, for the home folder `home`; `exists` tells which folders are there.
pub(crate) fn find(path: &str, home: &Path, exists: impl Fn(&Path) -> bool) -> Toolchains {
    let mut found = Toolchains::default();
    for entry in path.split(':').filter(|entry| entry.starts_with('/')) {
        if found.path.iter().any(|seen| seen == entry) || !exists(Path::new(entry)) {
            continue;
        }
        match Path::new(entry).strip_prefix(home) {
            Ok(below) if below.as_os_str().is_empty() => continue,
            Ok(below) => found.share(below, home, &exists),
            Err(_) if !entry.starts_with("/usr") && !is_system(entry) => continue,
            Err(_) => {}
        }
        found.path.push(entry.to_owned());
    }
    found
}

/// Folders of the system that the `host` environment shows anyway.
fn is_system(entry: &str) -> bool {
    ["/bin", "/sbin", "/opt/", "/snap/bin"].iter().any(|system| entry.starts_with(system))
}

impl Toolchains {
    fn share(&mut self, below: &Path, home: &Path, exists: &impl Fn(&Path) -> bool) {
        let known = KNOWN.iter().find(|(prefix, ..)| below.starts_with(prefix));
        let alone = [below.to_str().unwrap_or_default()];
        let (folders, variables) = match known {
            Some((_, folders, variables)) => (*folders, *variables),
            None => (&alone[..], &[][..]),
        };
        for folder in folders.iter().map(|folder| home.join(folder)) {
            if exists(&folder) && !self.folders.iter().any(|shown| folder.starts_with(shown)) {
                self.folders.push(folder);
            }
        }
        for (name, folder) in variables {
            self.variables.insert((*name).to_owned(), home.join(folder).display().to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str) -> Toolchains {
        find(path, Path::new("/home/me"), |path| !path.starts_with("/home/me/missing"))
    }

    #[test]
    fn rustup_comes_with_its_toolchains_but_without_cargos_credentials() {
        let found = found("/home/me/.cargo/bin:/usr/bin");
        assert_eq!(found.folders, [Path::new("/home/me/.cargo/bin"), Path::new("/home/me/.rustup")]);
        assert_eq!(found.variables["RUSTUP_HOME"], "/home/me/.rustup");
        assert_eq!(found.path, ["/home/me/.cargo/bin", "/usr/bin"]);
    }

    #[test]
    fn several_entries_of_one_tool_show_its_folder_once() {
        let found = found("/home/me/.pyenv/shims:/home/me/.pyenv/bin");
        assert_eq!(found.folders, [Path::new("/home/me/.pyenv")]);
    }

    #[test]
    fn the_home_itself_other_users_and_missing_folders_are_not_shown() {
        let found = found("/home/me:/home/other/bin:/home/me/missing/bin:relative:/usr/bin");
        assert_eq!(found.folders, Vec::<PathBuf>::new());
        assert_eq!(found.path, ["/usr/bin"]);
    }

    #[test]
    fn an_unknown_tool_shows_only_its_own_folder() {
        assert_eq!(found("/home/me/tools/x/bin").folders, [Path::new("/home/me/tools/x/bin")]);
    }
}

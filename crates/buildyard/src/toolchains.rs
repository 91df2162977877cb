//! Which of the user's own folders a local build on the `host` environment sees: toolchains that are on the PATH.
//!
//! Homes are hidden from builds, but rustup, pyenv, nvm and the like live there. For each PATH entry below the home
//! folder the smallest known folder that makes the tool work is shown, read-only. Credentials next to it are not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A tool that lives in the home folder; all paths are relative to the home.
struct Tool {
    /// Where its PATH entry is, or begins.
    path: &'static str,
    /// The folders that make it work.
    folders: &'static [&'static str],
    /// A variable that points it to its own folder.
    variable: Option<(&'static str, &'static str)>,
}

const fn tool(
    path: &'static str,
    folders: &'static [&'static str],
    variable: Option<(&'static str, &'static str)>,
) -> Tool {
    Tool { path, folders, variable }
}

/// The first whose path is a prefix of the PATH entry counts; an entry of no known tool is shown itself.
const KNOWN: &[Tool] = &[
    tool(".cargo/bin", &[".cargo/bin", ".rustup"], Some(("RUSTUP_HOME", ".rustup"))),
    tool(".pyenv", &[".pyenv"], Some(("PYENV_ROOT", ".pyenv"))),
    tool(".rbenv", &[".rbenv"], Some(("RBENV_ROOT", ".rbenv"))),
    tool(".nvm/versions", &[".nvm"], Some(("NVM_DIR", ".nvm"))),
    tool(".volta", &[".volta"], Some(("VOLTA_HOME", ".volta"))),
    tool(".sdkman/candidates", &[".sdkman/candidates"], None),
    tool(".asdf", &[".asdf"], Some(("ASDF_DATA_DIR", ".asdf"))),
    tool(".local/share/mise", &[".local/share/mise"], None),
    tool(".local/bin", &[".local/bin", ".local/lib", ".local/share/pipx"], None),
    tool("go/bin", &["go/bin"], None),
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
        let known = KNOWN.iter().find(|tool| below.starts_with(tool.path));
        let alone = [below.to_str().unwrap_or_default()];
        let folders = known.map_or(&alone[..], |tool| tool.folders);
        for folder in folders.iter().map(|folder| home.join(folder)) {
            if exists(&folder) && !self.folders.iter().any(|shown| folder.starts_with(shown)) {
                self.folders.push(folder);
            }
        }
        if let Some((name, folder)) = known.and_then(|tool| tool.variable) {
            self.variables.insert(name.to_owned(), home.join(folder).display().to_string());
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

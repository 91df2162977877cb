//! What builds' commands do to the world outside: each begins by telling a pipe of this host that it runs. A command that is run a second
//! time is heard a second time, whatever the server, the log and the records say.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Build id and number of the command, with how often it was heard, and when first.
pub(super) type Heard = BTreeMap<(String, u32), (u32, Instant)>;

#[derive(Debug)]
pub(super) struct Witness {
    pipe: PathBuf,
    heard: Arc<Mutex<Heard>>,
    /// Somebody always reads, so no build waits to be heard.
    _open: File,
}

impl Witness {
    /// Makes the pipe in a folder that builds see.
    pub(super) fn listen(folder: &Path) -> Result<Witness, String> {
        let pipe = folder.join("witness");
        let told = |e: std::io::Error| format!("{}: {e}", pipe.display());
        std::fs::create_dir_all(folder).map_err(told)?;
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).map_err(|e| told(e.into()))?;
        // Root of a build is somebody else on this host.
        std::fs::set_permissions(&pipe, PermissionsExt::from_mode(0o666)).map_err(told)?;
        let open = File::options().read(true).write(true).open(&pipe).map_err(told)?;
        let heard = Arc::new(Mutex::new(Heard::new()));
        let (reader, listened) = (open.try_clone().map_err(told)?, heard.clone());
        std::thread::spawn(move || listen(BufReader::new(reader), &listened));
        Ok(Witness { pipe, heard, _open: open })
    }

    /// The command that is heard as this number.
    pub(super) fn telling(&self, command: u32) -> String {
        format!("echo \"$CODEBUILD_BUILD_ID {command}\" > {}", self.pipe.display())
    }

    pub(super) fn heard(&self) -> Heard {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often each command of one build was heard, from the first on.
    pub(super) fn of(&self, build: &str) -> Vec<(u32, u32)> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let all = (build.to_owned(), 0)..=(build.to_owned(), u32::MAX);
        heard.range(all).map(|((_, command), (times, _))| (*command, *times)).collect()
    }

    /// The last command of a build that was heard, or that was before a time. What commands before it printed had been read by then: the agent
    /// begins a command when it has all of the one before.
    pub(super) fn last(&self, build: &str, before: Option<Instant>) -> Option<u32> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let all = heard.range((build.to_owned(), 0)..=(build.to_owned(), u32::MAX));
        let early = all.filter(|(_, (_, at))| before.is_none_or(|before| *at < before));
        early.map(|((_, command), _)| *command).max()
    }
}

fn listen(lines: impl BufRead, heard: &Mutex<Heard>) {
    for line in lines.lines().map_while(Result::ok) {
        let Some((build, command)) = line.rsplit_once(' ') else { continue };
        let Ok(command) = command.parse() else { continue };
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.entry((build.to_owned(), command)).or_insert((0, Instant::now())).0 += 1;
    }
}

//! What this host has running and mounted that is ours. Only what bears our mark is looked at, so that other work here does no harm.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// A lock for each range of ids that a container may have, by its number, as in the names of its interfaces.
const ID_LOCKS: &str = "/run/buildyard/ids";
/// What processes of a build have in their environment.
const BUILD_VARIABLE: &str = "CODEBUILD_BUILD_ID=";

pub(super) fn signal(process: u32, signal: Signal) {
    // A process that is gone needs no signal.
    let _ = nix::sys::signal::kill(Pid::from_raw(process.cast_signed()), signal);
}

/// Processes of a program.
pub(super) fn running(program: &Path) -> Vec<u32> {
    let is_ours =
        |process: &u32| std::fs::read_link(format!("/proc/{process}/exe")).is_ok_and(|exe| exe == program);
    processes().into_iter().filter(is_ours).collect()
}

fn processes() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).collect()
}

/// Processes whose environment has this in it.
pub(super) fn with_environment(text: &str) -> Vec<u32> {
    let has = |process: &u32| {
        std::fs::read(format!("/proc/{process}/environ")).is_ok_and(|all| contains(&all, text.as_bytes()))
    };
    processes().into_iter().filter(has).collect()
}

/// What of these builds is there: a process that has a build's id in its environment, or one in a cgroup of the build's.
pub(super) fn of_builds(cgroups: &Path, builds: &BTreeSet<String>) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for group in self::cgroups(cgroups, &BTreeSet::new(), &builds.iter().filter_map(|id| uuid(id)).collect())
    {
        let name = group.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_used = files(&group).iter().any(|file| {
            file.ends_with("cgroup.procs") && std::fs::read(file).is_ok_and(|all| !all.is_empty())
        });
        let owner = builds.iter().find(|id| uuid(id).is_some_and(|uuid| name.contains(&uuid)));
        if let Some(id) = owner.filter(|_| is_used) {
            found.insert(id.clone(), format!("cgroup {} has processes", group.display()));
        }
    }
    for process in processes() {
        let all = std::fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        let values =
            all.split(|byte| *byte == 0).filter_map(|one| one.strip_prefix(BUILD_VARIABLE.as_bytes()));
        for id in values.map(|value| String::from_utf8_lossy(value).into_owned()) {
            if builds.contains(&id) {
                found.insert(id, format!("process {process}"));
            }
        }
    }
    found
}

/// Of a build by its id.
fn uuid(build: &str) -> Option<String> {
    build.split(':').nth(1).map(str::to_owned)
}

/// The uuid of the build whose journal or folder an agent has open. One that is only just being started has the server's command line, and what
/// the server has open; one that waits for a build has a hidden file of the folder open.
pub(super) fn build_of(agent: u32, builds: &Path) -> Option<String> {
    if !is_called_with(agent, b"\0agent\0") {
        return None;
    }
    let descriptors = std::fs::read_dir(format!("/proc/{agent}/fd")).ok()?;
    descriptors.flatten().find_map(|descriptor| {
        let path = std::fs::read_link(descriptor.path()).ok()?;
        let name = path.strip_prefix(builds).ok()?.components().next()?.as_os_str().to_str()?.to_owned();
        // A later attempt's folder has a number behind it.
        name.split('.').next().filter(|uuid| !uuid.is_empty()).map(str::to_owned)
    })
}

/// Whether an agent was started before it had a build.
pub(super) fn is_told_of_builds(agent: u32) -> bool {
    is_called_with(agent, b"\0agent\0--wait\0")
}

fn is_called_with(process: u32, words: &[u8]) -> bool {
    std::fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| contains(&line, words))
}

/// The first process of the container that an agent made: the only one below it that is number 1 of its own world.
pub(super) fn init_of(agent: u32) -> Option<u32> {
    let firsts = processes().into_iter().filter(|process| is_first(*process));
    firsts.into_iter().find(|process| ancestors(*process).contains(&agent))
}

/// Processes that a process started, and those that these did.
pub(super) fn descendants(process: u32) -> Vec<u32> {
    processes().into_iter().filter(|one| ancestors(*one).contains(&process)).collect()
}

/// Whose child a process is, whose that is, and so on.
pub(super) fn ancestors(process: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut next = process;
    while let Some(parent) =
        status(next, "PPid:").and_then(|word| word.parse().ok()).filter(|parent| *parent > 1)
    {
        found.push(parent);
        next = parent;
    }
    found
}

/// Gone, or waiting to be reaped.
pub(super) fn is_dead(process: u32) -> bool {
    status(process, "State:").is_none_or(|state| state.starts_with(['Z', 'X']))
}

fn is_first(process: u32) -> bool {
    status(process, "NSpid:").is_some_and(|numbers| numbers.split_whitespace().skip(1).last() == Some("1"))
}

/// A line of what /proc says about a process; none if it is gone.
fn status(process: u32, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned())
}

/// Mounts of this namespace that mention a text.
pub(super) fn mounts(text: &str) -> Vec<String> {
    let all = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    all.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

/// Loop devices whose file lies below a folder.
pub(super) fn loops(folder: &str) -> Vec<String> {
    let devices = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let files =
        devices.filter_map(|device| std::fs::read_to_string(device.path().join("loop/backing_file")).ok());
    files.filter(|file| file.contains(folder)).map(|file| file.trim().to_owned()).collect()
}

/// `agent-<server>-<chance>-` of an agent's name, which its cgroups bear too.
pub(super) fn pool_of(agent: u32) -> Option<String> {
    let words = std::fs::read(format!("/proc/{agent}/cmdline")).ok()?;
    let words = String::from_utf8_lossy(&words).into_owned();
    let name = words.split('\0').find(|word| word.starts_with("agent-"))?;
    name.rfind('-').map(|end| name[..=end].to_owned())
}

/// Cgroups of agents by the beginning of their names, and of builds by their uuid, below a folder.
pub(super) fn cgroups(root: &Path, pools: &BTreeSet<String>, builds: &BTreeSet<String>) -> Vec<PathBuf> {
    let is_ours = |name: &str| {
        let Some(name) = name.strip_prefix("buildyard-") else { return false };
        pools.iter().any(|pool| name.starts_with(pool))
            || builds.contains(name.split('.').next().unwrap_or_default())
    };
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            match is_ours(&entry.file_name().to_string_lossy()) {
                true => found.push(entry.path()),
                false => open.push(entry.path()),
            }
        }
    }
    found
}

/// KiB of resident memory; nothing if it has gone.
pub(super) fn resident(process: u32) -> u64 {
    status(process, "VmRSS:").and_then(|line| line.trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// Interfaces of this host that lead to a container whose range of ids nobody holds: it is gone, and they go with it.
pub(super) fn unowned_interfaces() -> BTreeSet<String> {
    let names = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
    let is_held = |slot: &str| {
        let inode = std::fs::metadata(Path::new(ID_LOCKS).join(slot)).map(|file| file.ino());
        inode.is_ok_and(|inode| locks.contains(&format!(":{inode} ")))
    };
    let slot =
        |name: &str| name.strip_prefix("bldyr").map(|rest| rest.trim_start_matches(['d', 'f']).to_owned());
    names.filter(|name| slot(name).is_some_and(|slot| !is_held(&slot))).collect()
}

/// Everything below a folder; links are not followed.
pub(super) fn below(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let each = entries.flat_map(|entry| {
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let within = if is_folder { below(&entry.path()) } else { Vec::new() };
        [entry.path()].into_iter().chain(within)
    });
    each.collect()
}

/// Files below a folder; links are not followed.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    found
}

pub(super) fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}

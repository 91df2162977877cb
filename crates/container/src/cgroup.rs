//! Control groups, version 1 (each controller a hierarchy of its own) and version 2 (one for all): where a container's
//! lies, its limits, what the kernel killed in it, and its end. Who is put into it is decided in `prepared.rs`.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::{Doing, Error};
use crate::profile::PROFILE;
use crate::spec::Limits;

/// Those of which [`Limits`] says how much there is.
const LIMITED: [&str; 3] = ["memory", "pids", "cpu"];
/// And those of which nobody gets any.
const CONTROLLERS: [&str; 4] = ["memory", "pids", "cpu", "hugetlb"];
const CPU_PERIOD_MICROSECONDS: u64 = 100_000;
/// The kernel refuses less.
const LEAST_CPU_QUOTA_MICROSECONDS: u64 = 1_000;
/// Where those of a privileged container show inside, and in which of them its processes are: one that passes controllers on has none itself.
pub(crate) const INSIDE: &str = "/sys/fs/cgroup";
const INSIDE_INIT: &str = "/sys/fs/cgroup/init";
/// What whoever a cgroup of version 2 is handed on to must be able to write. All else, limits above all, stays root's.
const HANDED_ON: [&str; 3] = ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control"];
/// Of a privileged container's own making.
const MOST_WITHIN: u64 = 4096;
const DEEPEST_WITHIN: u64 = 32;
/// How long processes may take to die and cgroups to become removable; thousands of them on a busy host take seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// A mounted hierarchy as this process sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    /// Of ours; all that could be enabled, for version 2.
    controllers: Vec<String>,
    is_unified: bool,
    mount: PathBuf,
    /// The folder of the cgroup this process is in.
    own: PathBuf,
}

/// One folder of the container's.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    is_unified: bool,
}

impl Folder {
    fn has(&self, file: &str) -> bool {
        self.path.join(file).exists()
    }

    fn write(&self, file: &str, value: impl ToString) -> Result<(), Error> {
        let path = self.path.join(file);
        fs::write(&path, value.to_string()).doing(format!("write {}", path.display()))
    }
}

/// The cgroups of one container. Dropping it removes nothing; [`Cgroups::remove`] does.
#[derive(Debug)]
pub(crate) struct Cgroups {
    folders: Vec<Folder>,
    /// What counts the most memory anew for who has it open (version 2).
    peak: Option<File>,
}

impl Cgroups {
    /// Makes them, as many as this user may; none at all is a valid outcome.
    pub(crate) fn create(name: &str) -> Result<Cgroups, Error> {
        let mut cgroups = Cgroups { folders: Vec::new(), peak: None };
        for hierarchy in hierarchies().into_iter().filter(|one| !one.is_bare()) {
            match hierarchy.make(name) {
                Ok(Some(folder)) => cgroups.folders.push(folder),
                Ok(None) => {}
                Err(error) => {
                    cgroups.remove()?;
                    return Err(error);
                }
            }
        }
        Ok(cgroups)
    }

    /// Finds those a process that has died made for `name`, wherever it ran.
    pub(crate) fn find(name: &str) -> Cgroups {
        let leaf = leaf(name);
        let folders = hierarchies().iter().flat_map(|hierarchy| hierarchy.find(&leaf)).collect();
        Cgroups { folders, peak: None }
    }

    /// Those that somebody else has put this process into: to be looked at, and not to be removed.
    pub(crate) fn around(process: Pid) -> Cgroups {
        let folder = |hierarchy: Hierarchy| Folder { path: hierarchy.own, is_unified: hierarchy.is_unified };
        let memberships = format!("/proc/{}/cgroup", process.as_raw_nonzero());
        let hierarchies = hierarchies_of(&memberships).into_iter().filter(|one| !one.is_bare());
        Cgroups { folders: hierarchies.map(folder).collect(), peak: None }
    }

    /// The `cgroup.procs` files a process must write itself into.
    pub(crate) fn files_to_join(&self) -> Result<Vec<File>, Error> {
        let separate = self.folders.iter().filter(|folder| !folder.is_unified);
        separate
            .map(|folder| {
                let path = folder.path.join("cgroup.procs");
                File::options().write(true).open(&path).doing(format!("open {}", path.display()))
            })
            .collect()
    }

    /// The folder to name when a process is cloned (version 2).
    pub(crate) fn folder_to_clone_into(&self) -> Result<Option<OwnedFd>, Error> {
        let unified = self.folders.iter().find(|folder| folder.is_unified);
        unified.map(|folder| File::open(&folder.path).map(OwnedFd::from).doing("open the cgroup")).transpose()
    }

    /// Lets the container's root have cgroups of version 2 below its own. Beside version 1 there are no controllers in those, and limits are
    /// those of the whole container; but it has to have one.
    pub(crate) fn hand_on(&mut self, name: &str, root: u32) -> Result<(), Error> {
        if !self.folders.iter().any(|folder| folder.is_unified) {
            let bare = hierarchies().into_iter().find(Hierarchy::is_bare).ok_or_else(no_version_2)?;
            self.folders.push(make_folder(&bare.own, name, true)?.ok_or_else(no_version_2)?);
        }
        let folder = self.folders.iter().find(|folder| folder.is_unified).expect("there is one now");
        folder.write("cgroup.max.descendants", MOST_WITHIN)?;
        folder.write("cgroup.max.depth", DEEPEST_WITHIN)?;
        for path in HANDED_ON.map(|file| folder.path.join(file)).iter().chain([&folder.path]) {
            chown(path, Some(root), Some(root)).doing(format!("hand {} on", path.display()))?;
        }
        Ok(())
    }

    pub(crate) fn limits_processes(&self) -> bool {
        self.folders.iter().any(|folder| folder.has("pids.max"))
    }

    /// Sets what can be set; a controller that is not there is not an error, as `capabilities` has told.
    pub(crate) fn limit(&self, limits: &Limits) -> Result<(), Error> {
        for folder in &self.folders {
            folder.limit_memory(limits.memory_bytes)?;
            folder.limit_processes(limits.pids)?;
            folder.limit_cpu(limits.cpu_millis)?;
            folder.limit_huge_pages()?;
        }
        Ok(())
    }

    /// How many processes the kernel has killed in here for want of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        let files = self
            .folders
            .iter()
            .flat_map(|f| [f.path.join("memory.events"), f.path.join("memory.oom_control")]);
        files
            .filter_map(|file| fs::read_to_string(file).ok())
            .filter_map(|text| field(&text, "oom_kill"))
            .sum()
    }

    /// The most memory that was used at once since they were made or since [`Cgroups::restart_memory_peak`], bytes.
    pub(crate) fn memory_peak_bytes(&self) -> Option<u64> {
        if let Some(peak) = &self.peak {
            let mut text = [0; 32];
            let length = peak.read_at(&mut text, 0).ok()?;
            return std::str::from_utf8(&text[..length]).ok()?.trim().parse().ok();
        }
        self.number(["memory.peak", "memory.max_usage_in_bytes"])
    }

    /// Memory that is used now, bytes.
    pub(crate) fn memory_bytes(&self) -> Option<u64> {
        self.number(["memory.current", "memory.usage_in_bytes"])
    }

    /// Processor time of everybody who was ever in them. None need be added for that: version 2 counts it in each, version 1 where it does so
    /// beside `cpu`.
    pub(crate) fn cpu_micros(&self) -> Option<u64> {
        let unified =
            self.folders.iter().filter(|folder| folder.is_unified).find_map(|folder| {
                field(&fs::read_to_string(folder.path.join("cpu.stat")).ok()?, "usage_usec")
            });
        unified.or_else(|| self.number(["cpuacct.usage"]).map(|nanos| nanos / 1000))
    }

    fn number<const N: usize>(&self, names: [&str; N]) -> Option<u64> {
        let files = self.folders.iter().flat_map(|folder| names.map(|name| folder.path.join(name)));
        files.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok()).max()
    }

    /// From now on the most memory is that since now. False where that cannot be said: with version 2 before Linux 6.12, or without cgroups. In
    /// cgroups of somebody else's only what that does not notice is done.
    pub(crate) fn restart_memory_peak(&mut self, are_ours: bool) -> bool {
        if self.peak.is_none() {
            let open = |folder: &Folder| {
                let file = folder.path.join("memory.peak");
                File::options().read(true).write(true).open(file).ok()
            };
            self.peak = self.folders.iter().find_map(open);
        }
        match &self.peak {
            Some(peak) => peak.write_at(b"0", 0).is_ok(),
            None => are_ours && self.folders.iter().any(Folder::restart_memory_peak),
        }
    }

    /// Kills everything in them and waits until nothing is left.
    pub(crate) fn kill(&self) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        for folder in &self.folders {
            while folder.kill_all().doing("kill a cgroup's processes")? {
                if Instant::now() > deadline {
                    return Err(io::Error::from(io::ErrorKind::TimedOut))
                        .doing(format!("end the processes in {}", folder.path.display()));
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(())
    }

    /// Removes the folders, which must be free of processes.
    pub(crate) fn remove(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + PATIENCE;
        while let Some(folder) = self.folders.last() {
            match folder.remove() {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline => {
                    // A process is counted for a moment after it has been waited for.
                    std::thread::sleep(Duration::from_micros(200));
                    continue;
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).doing(format!("remove {}", folder.path.display()));
                }
                _ => {}
            }
            self.folders.pop();
        }
        Ok(())
    }

    /// Which of memory, pids and cpu can be limited.
    pub(crate) fn controllers(&self) -> Vec<&'static str> {
        let files = |controller: &str| match controller {
            "memory" => ["memory.max", "memory.limit_in_bytes"],
            "pids" => ["pids.max", "pids.max"],
            _ => ["cpu.max", "cpu.cfs_quota_us"],
        };
        let has =
            |controller: &&str| self.folders.iter().any(|f| files(controller).iter().any(|file| f.has(file)));
        LIMITED.into_iter().filter(has).collect()
    }

    pub(crate) fn version(&self) -> Option<u8> {
        self.folders.first().map(|folder| if folder.is_unified { 2 } else { 1 })
    }
}

impl Folder {
    fn limit_memory(&self, bytes: Option<u64>) -> Result<(), Error> {
        let Some(bytes) = bytes else { return Ok(()) };
        if self.has("memory.max") {
            self.write("memory.max", bytes)?;
            if self.has("memory.swap.max") {
                self.write("memory.swap.max", 0)?;
            }
        } else if self.has("memory.limit_in_bytes") {
            self.write("memory.limit_in_bytes", bytes)?;
            if self.has("memory.memsw.limit_in_bytes") {
                self.write("memory.memsw.limit_in_bytes", bytes)?;
            }
        }
        Ok(())
    }

    /// Of version 1.
    fn restart_memory_peak(&self) -> bool {
        // Opened rather than written: it must not be made where it is not.
        let file = File::options().write(true).open(self.path.join("memory.max_usage_in_bytes"));
        file.is_ok_and(|file| file.write_at(b"0", 0).is_ok())
    }

    fn limit_processes(&self, pids: Option<u64>) -> Result<(), Error> {
        match pids {
            // Init is ours, not the build's.
            Some(pids) if self.has("pids.max") => self.write("pids.max", pids.saturating_add(1)),
            _ => Ok(()),
        }
    }

    fn limit_cpu(&self, millis: Option<u64>) -> Result<(), Error> {
        let Some(millis) = millis else { return Ok(()) };
        let quota = (millis.saturating_mul(CPU_PERIOD_MICROSECONDS) / 1000).max(LEAST_CPU_QUOTA_MICROSECONDS);
        if self.has("cpu.max") {
            self.write("cpu.max", format!("{quota} {CPU_PERIOD_MICROSECONDS}"))
        } else if self.has("cpu.cfs_quota_us") {
            self.write("cpu.cfs_period_us", CPU_PERIOD_MICROSECONDS)?;
            self.write("cpu.cfs_quota_us", quota)
        } else {
            Ok(())
        }
    }

    /// Pages of a pool that the whole host shares.
    fn limit_huge_pages(&self) -> Result<(), Error> {
        let entries = fs::read_dir(&self.path).doing("list a cgroup's files")?.flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let is_limit = |name: &String| {
            name.starts_with("hugetlb.") && (name.ends_with(".max") || name.ends_with(".limit_in_bytes"))
        };
        names.filter(is_limit).try_for_each(|name| self.write(&name, PROFILE.huge_pages))
    }

    /// With those that a privileged container has made in it.
    fn remove(&self) -> io::Result<()> {
        if self.is_unified {
            let within = folders_within(&self.path);
            within.iter().rev().try_for_each(fs::remove_dir)?;
        }
        fs::remove_dir(&self.path)
    }

    /// Whether there was anything left to kill.
    fn kill_all(&self) -> io::Result<bool> {
        if self.is_unified {
            return self.kill_tree();
        }
        let listed = match fs::read_to_string(self.path.join("cgroup.procs")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        for pid in listed.lines().filter_map(|line| line.parse().ok()).filter_map(Pid::from_raw) {
            // It may have ended since.
            let _ = kill_process(pid, Signal::KILL);
        }
        Ok(!listed.is_empty())
    }

    /// And whatever is in cgroups within.
    fn kill_tree(&self) -> io::Result<bool> {
        let events = match fs::read_to_string(self.path.join("cgroup.events")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other?,
        };
        let has_any = field(&events, "populated") != Some(0);
        if has_any {
            fs::write(self.path.join("cgroup.kill"), "1")?;
        }
        Ok(has_any)
    }
}

/// All folders below one, each after the one it lies in.
fn folders_within(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_path_buf()];
    let mut at = 0;
    while let Some(folder) = found.get(at) {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let folders: Vec<PathBuf> = folders.map(|entry| entry.path()).collect();
        found.extend(folders);
        at += 1;
    }
    found.split_off(1)
}

/// What a privileged container's init does once its cgroups show: it goes into one of them, so that its own can pass controllers on.
pub(crate) fn open_inside() -> io::Result<()> {
    fs::create_dir(INSIDE_INIT)?;
    fs::write(Path::new(INSIDE_INIT).join("cgroup.procs"), "0")?;
    let controllers = fs::read_to_string(Path::new(INSIDE).join("cgroup.controllers"))?;
    for controller in controllers.split_ascii_whitespace() {
        // Some cannot be had below, as the scheduler's cannot by who has processes of real time.
        let _ = fs::write(Path::new(INSIDE).join("cgroup.subtree_control"), format!("+{controller}"));
    }
    Ok(())
}

fn no_version_2() -> Error {
    Error::Forbidden {
        what: "a privileged container".into(),
        why: "its control groups would be of version 2, and none is mounted that this process may write"
            .into(),
        remedy: "mount -t cgroup2 none /sys/fs/cgroup/unified, or start the host with version 2 alone".into(),
    }
}

impl Hierarchy {
    /// Version 2 beside version 1, which has the controllers.
    fn is_bare(&self) -> bool {
        self.is_unified && self.controllers.is_empty()
    }

    /// `None` when this user may not, or when it would serve nothing.
    fn make(&self, name: &str) -> Result<Option<Folder>, Error> {
        if !self.is_unified {
            return make_folder(&self.own, name, false);
        }
        for base in self.own.ancestors().take_while(|base| base.starts_with(&self.mount)) {
            if !may_have_children(base) {
                continue;
            }
            for controller in &self.controllers {
                // Already enabled, or not ours to enable: what counts is what the folder then has.
                let _ = fs::write(base.join("cgroup.subtree_control"), format!("+{controller}"));
            }
            let Some(folder) = make_folder(base, name, true)? else { continue };
            if folder.has("pids.max") || folder.has("memory.max") {
                return Ok(Some(folder));
            }
            fs::remove_dir(&folder.path).doing("remove a cgroup without controllers")?;
        }
        Ok(None)
    }

    fn find(&self, leaf: &str) -> Vec<Folder> {
        let mut found = Vec::new();
        let mut open = vec![self.mount.clone()];
        while let Some(folder) = open.pop() {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir())) {
                if entry.file_name() == leaf {
                    found.push(Folder { path: entry.path(), is_unified: self.is_unified });
                } else {
                    open.push(entry.path());
                }
            }
        }
        found
    }
}

fn leaf(name: &str) -> String {
    format!("buildyard-{name}")
}

fn make_folder(base: &Path, name: &str, is_unified: bool) -> Result<Option<Folder>, Error> {
    use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
    let path = base.join(leaf(name));
    match fs::create_dir(&path) {
        Ok(()) => Ok(Some(Folder { path, is_unified })),
        Err(error) if matches!(error.kind(), NotFound | PermissionDenied | ReadOnlyFilesystem) => Ok(None),
        Err(error) => Err(error).doing(format!("make the cgroup {}", path.display())),
    }
}

/// A cgroup of version 2 with processes of its own cannot pass controllers on, unless it is the machine's root.
fn may_have_children(base: &Path) -> bool {
    let is_root = !base.join("cgroup.type").exists();
    is_root || fs::read_to_string(base.join("cgroup.procs")).is_ok_and(|processes| processes.is_empty())
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

fn hierarchies() -> Vec<Hierarchy> {
    hierarchies_of("/proc/self/cgroup")
}

/// Mounts as this process sees them, folders as of the process that `memberships` is of.
fn hierarchies_of(memberships: &str) -> Vec<Hierarchy> {
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let available = |mount: &Path| read(&mount.join("cgroup.controllers"));
    let read = |path: &str| read(Path::new(path));
    parse(&read("/proc/self/mountinfo"), &read(memberships), available)
}

/// From `/proc/self/mountinfo` and `/proc/self/cgroup`; `unified` lists the controllers of a version 2 mount.
fn parse(mountinfo: &str, memberships: &str, unified: impl Fn(&Path) -> String) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let mut fields = before.split(' ').skip(3);
        let (Some(root), Some(mount)) = (fields.next(), fields.next()) else { continue };
        let mut after = after.split(' ');
        let is_unified = match after.next() {
            Some("cgroup2") => true,
            Some("cgroup") => false,
            _ => continue,
        };
        let mount = PathBuf::from(mount);
        let listed = if is_unified { unified(&mount) } else { after.nth(1).unwrap_or_default().to_owned() };
        let mut controllers: Vec<String> =
            listed.split([',', ' ', '\n']).filter(|c| CONTROLLERS.contains(c)).map(str::to_owned).collect();
        // Beside hierarchies of version 1 it has what those left.
        if is_unified && !controllers.iter().any(|one| LIMITED.contains(&one.as_str())) {
            controllers.clear();
        }
        let is_new = !found.iter().any(|other| other.controllers == controllers);
        if let Some(own) = own_folder(memberships, &controllers, is_unified, root, &mount)
            && is_new
        {
            found.push(Hierarchy { controllers, is_unified, mount, own });
        }
    }
    found
}

fn own_folder(
    memberships: &str,
    controllers: &[String],
    is_unified: bool,
    root: &str,
    mount: &Path,
) -> Option<PathBuf> {
    if controllers.is_empty() && !is_unified {
        return None;
    }
    let path = memberships.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, names, path) = (fields.next()?, fields.next()?, fields.next()?);
        let matches = match is_unified {
            true => names.is_empty(),
            false => names.split(',').any(|name| name == controllers[0]),
        };
        matches.then_some(path)
    })?;
    let path = Path::new(path);
    let below = path.strip_prefix(root).or_else(|_| path.strip_prefix("/")).ok()?;
    Some(mount.join(below))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mountinfo: &str, memberships: &str, unified: &str, expect: &[(&str, bool)]) {
        let found = parse(mountinfo, memberships, |_| unified.to_owned());
        let found: Vec<_> = found.iter().map(|h| (h.own.to_str().unwrap(), h.is_unified)).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn a_hybrid_host_has_one_hierarchy_for_each_controller_and_one_without() {
        check(
            "1 0 0:1 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
             2 0 0:2 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
             3 0 0:3 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
             4 0 0:4 / / rw - ext4 /dev/vda rw\n",
            "4:memory:/a/b\n1:cpu,cpuacct:/\n0::/\n",
            "hugetlb\n",
            &[
                ("/sys/fs/cgroup/cpu/", false),
                ("/sys/fs/cgroup/memory/a/b", false),
                ("/sys/fs/cgroup/unified/", true),
            ],
        );
    }

    #[test]
    fn a_unified_host_has_one_hierarchy() {
        check(
            "3 0 0:3 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            "0::/user.slice/app.scope\n",
            "cpuset cpu io memory pids\n",
            &[("/sys/fs/cgroup/user.slice/app.scope", true)],
        );
    }

    #[test]
    fn a_mount_of_a_part_of_the_hierarchy_is_followed_from_there() {
        check(
            "3 0 0:3 /docker/abc /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
            "0::/docker/abc/init\n",
            "memory",
            &[("/sys/fs/cgroup/init", true)],
        );
    }

    #[test]
    fn counters_are_read_by_their_whole_name() {
        assert_eq!(field("low 1\noom 2\noom_kill 3\noom_group_kill 4\n", "oom_kill"), Some(3));
        assert_eq!(field("oom_kill_disable 0\nunder_oom 0\n", "oom_kill"), None);
    }
}

//! How init makes its own surroundings: identity, mounts, root. It runs in the new namespaces, with all privileges in them and
//! before anything untrusted exists. What it becomes then is in `init.rs`.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode};
use rustix::mount::{MountAttrFlags, MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::process::{DumpableBehavior, Signal, chdir, pivot_root, set_dumpable_behavior, umask};

use crate::devices::{KernelFileSystems, attach, detached, new};
use crate::egress::Pair;
use crate::error::{Doing, Error};
use crate::init;
use crate::layout::{Content, Layer, Layout, OURS};
use crate::packet;
use crate::privileges;
use crate::report::STANDARD_FOLDERS;
use crate::seccomp::Filters;
use crate::spec::Spec;
use crate::sys;
use crate::uppers::{Masked, Upper, Uppers, can_be_marked, make_like, make_one};

/// Everything init must know, prepared by the caller in memory both have.
pub(crate) struct Setup<'a> {
    pub(crate) spec: &'a Spec,
    pub(crate) layout: &'a Layout,
    pub(crate) ids: Ids,
    /// Namespaces to be born in; all others of the container are made then.
    pub(crate) entered: &'a [BorrowedFd<'a>],
    /// Interfaces that lead out, if they do.
    pub(crate) pair: Option<&'a Pair>,
    /// For the host's root: the folders that each layer shows, the topmost first.
    pub(crate) trees: Option<&'a [Vec<OwnedFd>]>,
    /// For the host's root: the scratch folders of [`Spec::beneath`]. Else empty.
    pub(crate) beneath: &'a [OwnedFd],
    pub(crate) scratch: Option<&'a OwnedFd>,
    /// Paths to empty besides those of the spec.
    pub(crate) secrets: &'a [PathBuf],
    /// Files of /etc about this container.
    pub(crate) files: &'a [(PathBuf, Vec<u8>)],
    pub(crate) filters: &'a Filters,
    /// A limit of processes that no cgroup holds.
    pub(crate) processes: Option<u64>,
    pub(crate) control: &'a OwnedFd,
    pub(crate) events: &'a OwnedFd,
    /// The caller's ends of the two, which must not stay open here.
    pub(crate) others_ends: [i32; 2],
}

/// Who maps which ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ids {
    /// The caller has mapped a range for us.
    Range,
    /// An ordinary user maps its only one.
    Own { uid: u32, gid: u32 },
}

/// Where, in the old root, the scratch folder and the lower folders of overlays are mounted while the new root is made. Any folders
/// that every host has would do.
const SCRATCH: &str = "/dev";
const LOWERS: &str = "/sys";
/// A root that starts out empty is written here; any other is only mounted here.
const ROOT: &str = "container/root";

/// The first message from init: it is ready, or why it is not.
pub(crate) const READY: u32 = 0;
/// A message before it: the ports that are listened at come with it. No error has this number.
pub(crate) const LISTENING: u32 = u32::MAX;

/// Where init begins. Never returns.
pub(crate) fn enter(setup: &Setup<'_>) -> ! {
    let null = match build(setup) {
        Ok(null) => null,
        Err(error) => fail(setup, error),
    };
    let output = setup.spec.output.as_fd();
    let standard = [null.as_fd(), output, output, setup.control.as_fd(), setup.events.as_fd()];
    // `null` and all else is closed here by number, and never dropped.
    match sys::take_descriptors(&standard) {
        Ok(descriptors) => std::mem::forget((descriptors, null)),
        Err(_) => sys::exit_now(1),
    }
    init::run(setup.spec.functions, setup.filters)
}

fn fail(setup: &Setup<'_>, error: Error) -> ! {
    let (what, source) = match error {
        Error::Failed { what, source } => (what, source),
        other => (other.to_string(), io::ErrorKind::Other.into()),
    };
    let mut message = crate::wire::Writer::default();
    message.number(source.raw_os_error().unwrap_or(libc::EIO) as u32).text(what);
    let _ = packet::send(setup.control.as_fd(), &message.0, &[]);
    sys::exit_now(1)
}

/// Returns the null device for init's standard input.
fn build(setup: &Setup<'_>) -> Result<OwnedFd, Error> {
    for end in setup.others_ends {
        // SAFETY: the caller's ends are not used on this side of the fork by anyone else, and their owners are never dropped here.
        drop(unsafe { sys::own(end) });
    }
    die_with_caller()?;
    take_identity(setup)?;
    separate(setup)?;
    let null = make_root(setup)?;
    limit(setup)?;
    Ok(null)
}

/// The kernel forgets this whenever the identity changes, hence twice.
fn die_with_caller() -> Result<(), Error> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).doing("ask to end with the caller")
}

/// Becomes root of the user namespace; returns once the caller has done its part.
fn take_identity(setup: &Setup<'_>) -> Result<(), Error> {
    if let Ids::Own { uid, gid } = setup.ids {
        // A process that must not be dumped may not even write its own map.
        set_dumpable_behavior(DumpableBehavior::Dumpable).doing("become dumpable")?;
        let write = |file: &str, text: String| {
            fs::write(format!("/proc/self/{file}"), text).doing("map the user into a user namespace")
        };
        write("setgroups", "deny".into())?;
        write("uid_map", format!("0 {uid} 1"))?;
        write("gid_map", format!("0 {gid} 1"))?;
    }
    let go = packet::receive(setup.control.as_fd()).doing("wait for the caller")?;
    if go.is_none() {
        sys::exit_now(1);
    }
    if setup.ids == Ids::Range {
        rustix::thread::set_thread_groups(&[]).doing("leave all groups")?;
        let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
        rustix::thread::set_thread_res_gid(gid, gid, gid).doing("become the container's root group")?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).doing("become the container's root")?;
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable).doing("forbid to be dumped")?;
    die_with_caller()?;
    if packet::is_closed(setup.control.as_fd()) {
        sys::exit_now(1);
    }
    Ok(())
}

/// What is private to the container apart from files.
fn separate(setup: &Setup<'_>) -> Result<(), Error> {
    rustix::process::setsid().doing("start a session")?;
    for (name, flag) in setup.spec.profile().later_namespaces {
        sys::unshare(*flag).doing(format!("leave the namespace {name}"))?;
    }
    rustix::system::sethostname(setup.spec.hostname.as_bytes()).doing("set the host name")?;
    if setup.spec.network.is_own() {
        sys::bring_loopback_up().doing("bring the loopback interface up")?;
        listen(setup)?;
    }
    if let Some(pair) = setup.pair {
        pair.set_up_inside()?;
    }
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing("part from the host's mounts")
}

/// Opens the ports of the spec, and sends them to the caller.
fn listen(setup: &Setup<'_>) -> Result<(), Error> {
    let listeners = setup.spec.listen.iter().enumerate().map(|(number, address)| {
        sys::add_to_loopback(*address.ip(), number)?;
        // std listens with a backlog of its own, without blocking anything here.
        TcpListener::bind(address)
    });
    let listeners: Vec<TcpListener> = listeners.collect::<io::Result<_>>().doing("listen in the network")?;
    if listeners.is_empty() {
        return Ok(());
    }
    let descriptors: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
    let message = crate::wire::Writer::default().number(LISTENING).0.clone();
    packet::send(setup.control.as_fd(), &message, &descriptors).doing("hand over what is listened at")
}

fn limit(setup: &Setup<'_>) -> Result<(), Error> {
    umask(Mode::from_raw_mode(0o022));
    privileges::limit_resources(setup.processes).doing("set resource limits")?;
    privileges::drop_capabilities(setup.spec.profile()).doing("drop capabilities")
}

/// Makes the new root and leaves the old one.
fn make_root(setup: &Setup<'_>) -> Result<OwnedFd, Error> {
    umask(Mode::empty());
    let memory = setup.spec.limits.memory_bytes;
    let profile = setup.spec.profile();
    let kernel =
        KernelFileSystems::make(profile, setup.spec.network.is_own(), setup.ids == Ids::Range, memory)?;
    let trees = Trees::of(setup)?;
    // Of these folders, all that was needed is in hand.
    attach(KernelFileSystems::empty_memory()?, LOWERS).doing("mount a place for lower folders")?;
    show_beneath(setup)?;
    attach(trees.scratch(setup)?, SCRATCH).doing("mount the scratch folder")?;
    chdir(SCRATCH).doing("enter the scratch folder")?;
    let (root, uppers, plan) = prepare_layers(setup, &trees)?;
    let late_masks = fill(setup, &uppers)?;
    let root = root.map(Planned::mount).transpose().doing("make the root file system")?;
    let mounts = make_mounts(setup, plan)?;
    let plain = profile.plain_folders.iter().map(|folder| plain_folder(folder));
    let plain: Vec<OwnedFd> = plain.collect::<io::Result<_>>().doing("make plain folders")?;
    let is_root_layer = usize::from(setup.layout.has_root_layer);
    change_root(root.as_ref().or(mounts.first().map(|(_, mount)| mount).filter(|_| is_root_layer == 1)))?;
    for (inside, mount) in mounts.iter().skip(is_root_layer) {
        mount_inside(mount, inside).doing(format!("mount {}", inside.display()))?;
    }
    for (mount, inside) in plain.iter().zip(profile.plain_folders) {
        mount_inside(mount, Path::new(inside)).doing(format!("mount {inside}"))?;
    }
    kernel.mount()?;
    if setup.spec.is_privileged && !late_masks.is_empty() {
        let hidden: Vec<_> = late_masks.iter().map(|path| path.display().to_string()).collect();
        return Err(io::Error::from(io::ErrorKind::Unsupported))
            .doing(format!("hide {} from who may mount", hidden.join(", ")));
    }
    late_masks.iter().try_for_each(|path| kernel.hide(path))?;
    kernel.open_null()
}

/// A folder of the scratch folder as a detached mount, empty.
fn plain_folder(inside: &str) -> io::Result<OwnedFd> {
    let place = Path::new(OURS).join(format!("plain{}", inside.replace('/', "-")));
    make_one(&place, 0o755)?;
    let tree = detached(&place)?;
    sys::make_plain(tree.as_fd())?;
    Ok(tree)
}

/// The host's folders as detached mounts: given by its root, or taken by an ordinary user's own right.
enum Trees<'a> {
    Given(&'a [Vec<OwnedFd>]),
    Taken(Vec<Vec<OwnedFd>>),
}

impl<'a> Trees<'a> {
    fn of(setup: &Setup<'a>) -> Result<Trees<'a>, Error> {
        match setup.trees {
            Some(given) => Ok(Trees::Given(given)),
            None => Ok(Trees::Taken(open_trees(setup.layout)?)),
        }
    }

    /// Those of a layer, to keep.
    fn get(&self, index: usize) -> io::Result<Vec<OwnedFd>> {
        let all = match self {
            Trees::Given(all) => *all,
            Trees::Taken(all) => all,
        };
        all.get(index).into_iter().flatten().map(sys::duplicate).collect()
    }

    /// Overlay cannot write to every file system; memory stands in for those.
    fn scratch(&self, setup: &Setup<'_>) -> Result<OwnedFd, Error> {
        let scratch = match setup.scratch {
            Some(given) => sys::duplicate(given),
            None => detached(&setup.spec.scratch),
        };
        let scratch = scratch.doing("show the scratch folder")?;
        if can_be_upper(scratch.as_fd()) {
            return Ok(scratch);
        }
        new("tmpfs", &[("mode", "700")], MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV)
            .doing("mount memory as scratch folder")
    }
}

/// Detached mounts of what each layer shows of the host.
pub(crate) fn open_trees(layout: &Layout) -> Result<Vec<Vec<OwnedFd>>, Error> {
    let open = |host: &PathBuf| detached(host).doing(format!("show {}", host.display()));
    layout.layers.iter().map(|layer| layer.hosts().iter().map(open).collect()).collect()
}

/// Mounts what ended containers wrote, the latest first.
fn show_beneath(setup: &Setup<'_>) -> Result<(), Error> {
    for (number, scratch) in setup.spec.beneath.iter().enumerate() {
        let tree = match setup.beneath.get(number) {
            Some(given) => sys::duplicate(given),
            None => detached(scratch),
        };
        let place = beneath(setup.spec.beneath.len() - 1 - number);
        make_private(&place)
            .and_then(|()| attach(tree?, &place))
            .doing(format!("show {}", scratch.display()))?;
    }
    Ok(())
}

/// Where a scratch folder beneath is mounted; 0 is the latest. The kernel takes no more than 256 bytes for all lower folders together.
fn beneath(number: usize) -> PathBuf {
    Path::new(LOWERS).join(format!("b{number}"))
}

pub(crate) fn can_be_upper(folder: BorrowedFd<'_>) -> bool {
    const OVERLAY: i64 = 0x794c_7630;
    const NFS: i64 = 0x6969;
    const FUSE: i64 = 0x6573_5546;
    rustix::fs::fstatfs(folder).is_ok_and(|status| ![OVERLAY, NFS, FUSE].contains(&status.f_type))
}

/// What is to become of a layer.
enum Planned {
    /// `fallback`: the lower folder, for where it can only be shown as it is.
    Overlay {
        lower: Lower,
        upper: PathBuf,
        work: PathBuf,
        fallback: Option<OwnedFd>,
    },
    Tree(OwnedFd),
    /// Of an empty folder and another one, which are lower folders both.
    Merged {
        empty: PathBuf,
        folder: PathBuf,
    },
    Memory(u64),
}

/// The read-only side of an overlay: folders of the host, and before them what is made for this container.
pub(crate) struct Lower {
    /// The topmost first; none for a root that starts out empty.
    pub(crate) hosts: Vec<PathBuf>,
    /// What ended containers wrote, the latest first: over all else.
    pub(crate) beneath: Vec<PathBuf>,
    /// In memory, because folders on a disk take long to make and to remove. `None` where memory cannot hold it.
    pub(crate) skeleton: Option<PathBuf>,
}

/// Makes the folders each overlay needs and shows the lower ones below [`LOWERS`], since overlay takes paths.
/// The root comes apart if it is no layer of the layout but one of ours.
fn prepare_layers(
    setup: &Setup<'_>,
    trees: &Trees<'_>,
) -> Result<(Option<Planned>, Uppers, Vec<Planned>), Error> {
    let ours = Path::new(OURS);
    for folder in [ours, Path::new(ROOT)] {
        make_private(folder).doing("make a scratch folder")?;
    }
    set_mode(Path::new(ROOT), 0o755).doing("open the root folder")?;
    let mut uppers = Vec::new();
    let mut root = None;
    if !setup.layout.has_root_layer {
        root = prepare_empty_root(setup, &mut uppers).doing("prepare the root")?;
    }
    let mut planned = Vec::new();
    for (number, layer) in setup.layout.layers.iter().enumerate() {
        let mut trees = trees.get(number).doing("keep a layer")?;
        let lowers = match layer.content {
            Content::Overlay { .. } => show_lowers(&trees, number),
            _ => Ok(Vec::new()),
        };
        let lowers = lowers.doing(format!("show {}", layer.inside.display()))?;
        planned.push(match (&layer.content, trees.pop()) {
            (Content::Overlay { upper, .. }, Some(tree)) => {
                let work = ours.join(format!("work-{number}"));
                let lower = merged(&lowers, number).doing(format!("merge {}", layer.inside.display()))?;
                let beneath = show_uppers_beneath(setup, upper, &number.to_string())
                    .doing(format!("show what was written to {}", layer.inside.display()))?;
                make_upper(beneath.first().unwrap_or(&lower), upper, &work)
                    .doing(format!("prepare {}", layer.inside.display()))?;
                let skeleton = make_skeleton(number, upper, &lower, !beneath.is_empty())
                    .doing("make a skeleton in memory")?;
                let whole = Upper {
                    inside: layer.inside.clone(),
                    upper: skeleton.clone().unwrap_or_else(|| upper.clone()),
                    lower: Some(lower.clone()),
                };
                add_uppers(whole, &layer.parts, &mut uppers)
                    .doing(format!("prepare {}", layer.inside.display()))?;
                // What only is read-only stays so for who may not mount.
                let fallback = (!setup.spec.is_privileged && lowers.len() == 1).then_some(tree);
                let lower = Lower { hosts: lowers, beneath, skeleton };
                Planned::Overlay { lower, upper: upper.clone(), work, fallback }
            }
            (Content::Merged { .. }, Some(tree)) => {
                let folder = Path::new(LOWERS).join(number.to_string());
                let empty = Path::new(LOWERS).join(format!("empty-{number}"));
                make_private(&folder)
                    .and_then(|()| attach(&tree, &folder))
                    .and_then(|()| make_like(&empty, &fs::metadata(&folder)?))
                    .doing(format!("show {}", layer.inside.display()))?;
                Planned::Merged { empty, folder }
            }
            (Content::Tmpfs { size_bytes }, _) => Planned::Memory(*size_bytes),
            (_, Some(tree)) => Planned::Tree(tree),
            (_, None) => return Err(io::Error::from(io::ErrorKind::NotFound)).doing("find a layer's folder"),
        });
    }
    Ok((root, Uppers(uppers), planned))
}

/// Mounts the folders of a layer, the topmost first, under names that are short: the kernel takes few bytes for all of them together.
fn show_lowers(trees: &[OwnedFd], number: usize) -> io::Result<Vec<PathBuf>> {
    let show = |(at, tree): (usize, &OwnedFd)| {
        let name = if at == 0 { number.to_string() } else { format!("{number}i{at}") };
        let place = Path::new(LOWERS).join(name);
        make_private(&place).and_then(|()| attach(tree, &place)).map(|()| place)
    };
    trees.iter().enumerate().map(show).collect()
}

/// Where it can be looked at what a layer's folders are together.
fn merged(lowers: &[PathBuf], number: usize) -> io::Result<PathBuf> {
    if let [lower] = lowers {
        return Ok(lower.clone());
    }
    let place = Path::new(LOWERS).join(format!("m{number}"));
    let names: Vec<String> = lowers.iter().map(|lower| lower.to_string_lossy().into_owned()).collect();
    let mut options = vec![("source", "overlay"), ("userxattr", "")];
    let joined = names.join(":");
    options.extend(lower_options(&joined, &names));
    let plain = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let mount = new("overlay", &options, plain | MountAttrFlags::MOUNT_ATTR_RDONLY)?;
    make_private(&place)?;
    attach(mount, &place)?;
    Ok(place)
}

/// Lower folders as options: all in one, which every kernel takes if it is short, or else each by itself, which those from 6.8 on do.
fn lower_options<'a>(joined: &'a str, names: &'a [String]) -> Vec<(&'static str, &'a str)> {
    const LONGEST: usize = 255;
    match joined.len() <= LONGEST {
        true => vec![("lowerdir", joined)],
        false => names.iter().map(|name| ("lowerdir+", name.as_str())).collect(),
    }
}

/// That of a layer, or those of its parts.
fn add_uppers(whole: Upper, parts: &[PathBuf], uppers: &mut Vec<Upper>) -> io::Result<()> {
    for part in parts {
        whole.stand_in_for(part.strip_prefix(&whole.inside).unwrap_or(part))?;
        uppers.push(whole.part(part));
    }
    if parts.is_empty() {
        uppers.push(whole);
    }
    Ok(())
}

/// A root that no folder of the host lies under: a plain folder, or a layer if there was such a root before.
fn prepare_empty_root(setup: &Setup<'_>, uppers: &mut Vec<Upper>) -> io::Result<Option<Planned>> {
    let own = |upper: &Path| Upper { inside: "/".into(), upper: upper.into(), lower: None };
    let root = Path::new(ROOT);
    let beneath = show_uppers_beneath(setup, root, "r")?;
    let Some(latest) = beneath.first() else {
        uppers.push(own(root));
        return Ok(None);
    };
    let work = Path::new(OURS).join("work-root");
    make_upper(latest, root, &work)?;
    let mut skeleton = Path::new(LOWERS).join("skeleton-root");
    make_one(&skeleton, 0o755)?;
    if can_be_marked(&skeleton).is_err() {
        skeleton = Path::new(OURS).join("skeleton-root");
        make_one(&skeleton, 0o755)?;
    }
    uppers.push(own(&skeleton));
    let lower = Lower { hosts: Vec::new(), beneath, skeleton: Some(skeleton) };
    Ok(Some(Planned::Overlay { lower, upper: root.into(), work, fallback: None }))
}

pub(crate) fn make_upper(like: &Path, upper: &Path, work: &Path) -> io::Result<()> {
    make_private(work)?;
    if let Some(parent) = upper.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
    }
    // The root of a merged tree looks as the upper folder does.
    make_like(upper, &fs::metadata(like)?)
}

/// Shows what ended containers wrote to `upper`, the latest first, under names that are short and have `name` in them.
fn show_uppers_beneath(setup: &Setup<'_>, upper: &Path, name: &str) -> io::Result<Vec<PathBuf>> {
    let mut shown = Vec::new();
    for number in 0..setup.spec.beneath.len() {
        let written = beneath(number).join(upper);
        if !written.is_dir() {
            // The host, or the caller, had nothing at that place then.
            continue;
        }
        let place = Path::new(LOWERS).join(format!("{name}b{number}"));
        make_private(&place)?;
        attach(detached(&written)?, &place)?;
        shown.push(place);
    }
    Ok(shown)
}

/// A folder in memory for what would otherwise fill the upper folder. The caller's own uppers are left to it, and a kernel
/// before 6.6 keeps no overlay marks in memory: there it is the upper folder itself, or a folder beside it if it must lie beneath what
/// was written before.
fn make_skeleton(number: usize, upper: &Path, lower: &Path, is_beneath: bool) -> io::Result<Option<PathBuf>> {
    if !upper.starts_with(OURS) {
        return Ok(None);
    }
    let skeleton = Path::new(LOWERS).join(format!("skeleton-{number}"));
    make_like(&skeleton, &fs::metadata(lower)?)?;
    match can_be_marked(&skeleton) {
        Ok(()) => Ok(Some(skeleton)),
        Err(rustix::io::Errno::NOTSUP) if is_beneath => {
            let skeleton = Path::new(OURS).join(format!("skeleton-{number}"));
            make_like(&skeleton, &fs::metadata(lower)?)?;
            Ok(Some(skeleton))
        }
        Err(rustix::io::Errno::NOTSUP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn make_private(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode))
}

/// Fills the upper folders; returns what only a mount can hide.
fn fill(setup: &Setup<'_>, uppers: &Uppers) -> Result<Vec<PathBuf>, Error> {
    uppers.make_standard_folders().doing(STANDARD_FOLDERS)?;
    for (path, target) in &setup.layout.links {
        uppers.make_link(path, target).doing(format!("link {}", path.display()))?;
    }
    for path in &setup.layout.folders {
        uppers.make_empty_folder(path).doing(format!("mask {}", path.display()))?;
    }
    let mut late = Vec::new();
    for path in setup.secrets.iter().chain(&setup.spec.masks) {
        if uppers.mask(path).doing(format!("mask {}", path.display()))? == Masked::NeedsMount {
            late.push(path.clone());
        }
    }
    for (path, bytes) in setup.files {
        uppers.put_file(path, bytes, 0o644).doing(format!("write {}", path.display()))?;
    }
    for folder in &setup.spec.folders {
        uppers.make_folder(folder, 0o755).doing(format!("make {}", folder.display()))?;
    }
    for file in &setup.spec.files {
        let written = uppers.put_file(&file.path, &file.bytes, file.mode);
        written.doing(format!("write {}", file.path.display()))?;
    }
    Ok(late)
}

/// All layers, or their parts, as detached mounts, and where each is to show.
fn make_mounts<'a>(setup: &Setup<'a>, planned: Vec<Planned>) -> Result<Vec<(&'a Path, OwnedFd)>, Error> {
    let mut mounts = Vec::new();
    for (layer, planned) in setup.layout.layers.iter().zip(planned) {
        let doing = || format!("make the file system of {}", layer.inside.display());
        let whole = planned.mount().doing(doing())?;
        if layer.parts.is_empty() {
            mounts.push((&*layer.inside, whole));
        } else {
            mounts.extend(take_apart(&whole, layer).doing(doing())?);
        }
    }
    Ok(mounts)
}

/// The parts of a layer that show. The kernel takes them only from what is mounted.
fn take_apart<'a>(whole: &OwnedFd, layer: &'a Layer) -> io::Result<Vec<(&'a Path, OwnedFd)>> {
    let place = Path::new(LOWERS).join("whole");
    make_private(&place)?;
    attach(whole, &place)?;
    let take = |part: &'a PathBuf| {
        let below = part.strip_prefix(&layer.inside).unwrap_or(part);
        Ok((&**part, detached(&place.join(below))?))
    };
    layer.parts.iter().map(take).collect()
}

impl Planned {
    fn mount(self) -> io::Result<OwnedFd> {
        let plain = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        match self {
            Planned::Tree(tree) => {
                sys::make_read_only(tree.as_fd())?;
                Ok(tree)
            }
            Planned::Merged { empty, folder } => {
                let folders = format!("{}:{}", empty.display(), folder.display());
                let options = [("source", "overlay"), ("lowerdir", &*folders), ("userxattr", "")];
                new("overlay", &options, plain | MountAttrFlags::MOUNT_ATTR_RDONLY)
            }
            Planned::Memory(size_bytes) => {
                new("tmpfs", &[("mode", "755"), ("size", &size_bytes.to_string())], plain)
            }
            Planned::Overlay { lower, upper, work, fallback } => {
                match overlay(&lower, &upper, &work, plain) {
                    // An ordinary user may not merge a tree with mounts in it, but may look at it.
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) && fallback.is_some() => {
                        let host = lower.hosts.first().filter(|host| has_mounts(host)).ok_or(error)?;
                        let tree = detached(host)?;
                        drop(fallback);
                        sys::make_read_only(tree.as_fd())?;
                        Ok(tree)
                    }
                    other => other,
                }
            }
        }
    }
}

/// `volatile`: nothing of a container outlives a power cut, so nothing waits for the disk.
pub(crate) fn overlay(
    lower: &Lower,
    upper: &Path,
    work: &Path,
    attributes: MountAttrFlags,
) -> io::Result<OwnedFd> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let layers = lower.beneath.iter().chain(&lower.skeleton).chain(&lower.hosts);
    let layers: Vec<String> = layers.map(|layer| text(layer)).collect();
    let (joined, upper, work) = (layers.join(":"), text(upper), text(work));
    let mut options = vec![("source", "overlay")];
    options.extend(lower_options(&joined, &layers));
    options.extend([("upperdir", &*upper), ("workdir", &*work), ("userxattr", ""), ("volatile", "")]);
    new("overlay", &options, attributes)
}

/// Whether another file system is mounted below this mount.
fn has_mounts(folder: &Path) -> bool {
    let Ok(mounts) = fs::read_to_string("/proc/self/mountinfo") else { return false };
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    points.map(Path::new).any(|point| point != folder && point.starts_with(folder))
}

/// To a layer, or else to the plain folder.
fn change_root(layer: Option<&OwnedFd>) -> Result<(), Error> {
    let root = Path::new(ROOT);
    match layer {
        Some(mount) => attach(mount, root),
        // A folder must be a mount to become the root.
        None => detached(root).and_then(|tree| {
            sys::make_plain(tree.as_fd())?;
            attach(tree, root)
        }),
    }
    .doing("mount the root")?;
    chdir(root).doing("enter the root")?;
    pivot_root(".", ".").doing("change the root")?;
    unmount(".", UnmountFlags::DETACH).doing("leave the host's root")?;
    chdir("/").doing("enter the root")
}

/// Links in an image may lead the mount point astray, but no further than the container goes.
fn mount_inside(mount: &OwnedFd, inside: &Path) -> io::Result<()> {
    let status = rustix::fs::fstat(mount)?;
    if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(inside)?;
    } else if fs::symlink_metadata(inside).is_err() {
        if let Some(parent) = inside.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        fs::File::create(inside)?;
    }
    attach(mount, inside)
}

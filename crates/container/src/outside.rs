//! The caller's part in making a container: ids, the host's folders, the files about it, and the birth of init. What init
//! then does by itself is in `inside.rs`.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use libc::c_int;
use rustix::process::{Pid, getegid, geteuid};

use crate::cgroup::Cgroups;
use crate::devices::detached;
use crate::disk;
use crate::egress::user::Uplink;
use crate::egress::{self, Pair};
use crate::error::{Doing, Error};
use crate::ids::{self, IdRange, Standing, rules_the_host};
use crate::inside::{self, Ids, LISTENING, READY, Setup, open_trees};
use crate::late::Namespaces;
use crate::layout::{Content, Layer, Layout};
use crate::masks;
use crate::packet;
use crate::prepared::Prepared;
use crate::report;
use crate::spec::{MOST_BENEATH, Network, Rootfs, Spec};
use crate::sys;
use crate::wire::Reader;

/// The caller's hold on a new container.
pub(crate) struct Born {
    pub(crate) init: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) control: OwnedFd,
    pub(crate) events: OwnedFd,
    pub(crate) ids: Option<IdRange>,
    pub(crate) told: Told,
    pub(crate) pair: Option<Pair>,
    pub(crate) uplink: Option<Uplink>,
}

/// What init has told of itself.
pub(crate) struct Told {
    /// What it listens at.
    pub(crate) listeners: Vec<OwnedFd>,
    pub(crate) namespaces: Namespaces,
}

/// Everything up to the moment when init takes requests. `None`: other files of the host are secret by now than what was prepared goes by.
/// Then, and after an error, init is gone; the scratch folder may hold something.
pub(crate) fn bear(
    prepared: &mut Prepared,
    cgroups: &mut Cgroups,
    spec: &Spec,
) -> Result<Option<Born>, Error> {
    check(prepared, spec)?;
    let standing = ids::standing();
    let is_root = standing == Standing::Host;
    let layout = Layout::of(spec, is_root)?;
    let ahead = if is_root { Some(prepared.ahead(owner_beneath(spec)?)?) } else { None };
    let first = ahead.as_ref().map(|ahead| ahead.ids.first);
    if let Some(first) = first.filter(|_| spec.is_privileged) {
        cgroups.hand_on(&spec.name, first)?;
        prepared.be_for(spec.profile(), cgroups)?;
    }
    let pair = first.and_then(|first| Pair::of(first, spec.network));
    let (mut trees, mut beneath) = (Vec::new(), Vec::new());
    let mut scratch = None;
    if let Some(ahead) = &ahead {
        let first = ahead.ids.first;
        chown(&spec.scratch, Some(first), Some(first)).doing("hand over the scratch folder")?;
        trees = open_trees(&layout)?;
        map_trees(&layout, &trees, ahead.user())?;
        beneath = open_beneath(spec, first)?;
        scratch = Some(match spec.limits.disk_bytes {
            Some(bytes) => disk::make(bytes, &spec.scratch, first)?,
            None => detached(&spec.scratch).doing("show the scratch folder")?,
        });
    }
    let (control, inits_control) = packet::pair().doing("make a socket")?;
    let (events, inits_events) = packet::pair().doing("make a socket")?;
    let limits_processes = cgroups.limits_processes();
    let is_host = matches!(spec.rootfs, Rootfs::Host { .. });
    let profile = spec.profile();
    let network = profile.network_namespace.1 * c_int::from(spec.network.is_own());
    let namespaces = profile.namespaces.iter().fold(network, |all, (_, flag)| all | flag);
    let (entered, made) = ahead.as_ref().map_or((Vec::new(), namespaces), |ahead| ahead.split(namespaces));
    let secrets = std::mem::take(&mut prepared.secrets);
    let looked_for = (is_host && is_root && prepared.has_waited()).then_some(&*secrets);
    let filters = prepared.filters.clone();
    let setup = Setup {
        spec,
        layout: &layout,
        ids: match standing {
            Standing::Host | Standing::Namespace => Ids::Range,
            Standing::One => Ids::Own { uid: geteuid().as_raw(), gid: getegid().as_raw() },
        },
        entered: &entered,
        pair: pair.as_ref(),
        trees: is_root.then_some(trees.as_slice()),
        beneath: &beneath,
        scratch: scratch.as_ref(),
        secrets: if is_host { &secrets } else { &[] },
        files: &files(spec),
        filters: &filters,
        processes: if limits_processes { None } else { spec.limits.pids },
        control: &inits_control,
        events: &inits_events,
        others_ends: [control.as_raw_fd(), events.as_raw_fd()],
    };
    let (init, pidfd) = prepared.give_birth(made as u64, &setup).map_err(report::why_no_namespaces)?;
    drop((inits_control, inits_events));
    let mapped = if standing == Standing::Namespace { ids::map_all_of_ours(init) } else { Ok(()) };
    let told = mapped
        .doing("map user and group ids")
        .and_then(|()| bring_up(init, control.as_fd(), pair.as_ref(), (&*cgroups, spec, looked_for)));
    let is_users = !is_root && spec.network == Network::Egress;
    let connected = told.and_then(|told| {
        let Some(told) = told else { return Ok(None) };
        let uplink = is_users.then(|| Uplink::connect(&told.namespaces)).transpose()?;
        Ok(Some((told, uplink)))
    });
    if let Ok(Some((told, uplink))) = connected {
        let ids = ahead.map(|ahead| ahead.ids);
        return Ok(Some(Born { init, pidfd, control, events, ids, told, pair, uplink }));
    }
    let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
    let _ = sys::wait_for_exit(init);
    let _ = pair.as_ref().map_or(Ok(()), Pair::remove);
    connected.map(|_| None)
}

fn check(prepared: &Prepared, spec: &Spec) -> Result<(), Error> {
    if spec.name != prepared.name {
        return Err(Error::Invalid(format!("prepared for {:?}, not for {:?}", prepared.name, spec.name)));
    }
    if spec.hostname.len() > 64 || spec.hostname.contains(['\0', '\n']) {
        return Err(Error::Invalid("the host name is longer than 64 bytes or not one line".into()));
    }
    if !spec.listen.is_empty() && spec.network == Network::Host {
        return Err(Error::Invalid("nothing is listened at in the host's network".into()));
    }
    if spec.network.leads_out() {
        egress::check_host()?;
    }
    if spec.is_privileged {
        check_privileged(spec)?;
    }
    if let Some(bytes) = spec.limits.disk_bytes {
        disk::check(bytes)?;
        if spec.may_lie_beneath || !spec.beneath.is_empty() {
            return Err(Error::Invalid("what is written to a disk of a fixed size is not kept".into()));
        }
    }
    if spec.beneath.len() > MOST_BENEATH {
        let text =
            format!("a container stands on at most {MOST_BENEATH} others, not on {}", spec.beneath.len());
        return Err(Error::Invalid(text));
    }
    for folder in std::iter::once(&spec.scratch).chain(&spec.beneath) {
        if !folder.is_dir() {
            return Err(Error::Invalid(format!("the scratch folder {} does not exist", folder.display())));
        }
    }
    Ok(())
}

fn check_privileged(spec: &Spec) -> Result<(), Error> {
    if !rules_the_host() {
        return Err(Error::Forbidden {
            what: "a privileged container".into(),
            why: "it takes ids, control groups and a way out of the network that are not the container's to change".into(),
            remedy: "Run as root".into(),
        });
    }
    if spec.network == Network::Host {
        return Err(Error::Invalid("a privileged container has a network of its own, not the host's".into()));
    }
    Ok(())
}

/// Whether what a container of this spec writes can lie beneath others. It cannot where overlay cannot write, since what stands in
/// for such a scratch folder is gone with the container; nor if the scratch folder is within a folder that shows.
#[must_use]
pub fn can_lie_beneath(spec: &Spec) -> bool {
    let Ok(scratch) = spec.scratch.canonicalize() else { return false };
    let keeps = fs::File::open(&scratch).is_ok_and(|folder| inside::can_be_upper(folder.as_fd()));
    let is_apart = |layer: &Layer| match &layer.content {
        Content::Overlay { lowers, .. } => {
            let is_apart = |lower: PathBuf| !scratch.starts_with(lower);
            lowers.iter().all(|lower| lower.canonicalize().is_ok_and(is_apart))
        }
        _ => true,
    };
    let layout = Layout::of(spec, rules_the_host());
    keeps && spec.may_lie_beneath && layout.is_ok_and(|layout| layout.layers.iter().all(is_apart))
}

/// Whose files the latest of the containers beneath wrote, if there is one.
fn owner_beneath(spec: &Spec) -> Result<Option<u32>, Error> {
    spec.beneath.last().map(|scratch| owner(scratch)).transpose()
}

fn owner(scratch: &Path) -> Result<u32, Error> {
    Ok(fs::metadata(scratch).doing(format!("look at {}", scratch.display()))?.uid())
}

/// The scratch folders beneath as detached mounts which show their ids as those from `first` on.
fn open_beneath(spec: &Spec, first: u32) -> Result<Vec<OwnedFd>, Error> {
    let open = |scratch: &PathBuf| {
        let tree = detached(scratch).doing(format!("show {}", scratch.display()))?;
        let owner = owner(scratch)?;
        if owner != first {
            let shown =
                ids::shifted(owner, first).and_then(|shift| sys::map_ids(tree.as_fd(), shift.as_fd()));
            shown.doing(format!("give the files below {} to this container", scratch.display()))?;
        }
        Ok(tree)
    };
    spec.beneath.iter().map(open).collect()
}

/// Interfaces and, while init makes its surroundings, limits and another look at the host's secrets; waits until it has. `None` if those
/// are not the ones that were `looked_for` earlier.
fn bring_up(
    init: Pid,
    control: BorrowedFd<'_>,
    pair: Option<&Pair>,
    (cgroups, spec, looked_for): (&Cgroups, &Spec, Option<&[PathBuf]>),
) -> Result<Option<Told>, Error> {
    if let Some(pair) = pair {
        pair.connect(init.as_raw_nonzero().get())?;
    }
    packet::send(control, b"go", &[]).doing("let init begin")?;
    cgroups.limit(&spec.limits)?;
    if looked_for.is_some_and(|secrets| secrets != masks::secrets_of_host()) {
        return Ok(None);
    }
    await_ready(control).map(Some)
}

fn map_trees(layout: &Layout, trees: &[Vec<OwnedFd>], namespace: BorrowedFd<'_>) -> Result<(), Error> {
    let mapped = layout.layers.iter().zip(trees).filter(|(layer, _)| layer.maps_ids());
    for (layer, tree) in mapped.flat_map(|(layer, trees)| trees.iter().map(move |tree| (layer, tree))) {
        match sys::map_ids(tree.as_fd(), namespace) {
            // The file system cannot, as when the host is itself an overlay: its files then belong to nobody inside, which is
            // readable enough.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            other => other.doing(format!("map the ids of {}", layer.inside.display()))?,
        }
    }
    Ok(())
}

pub(crate) fn await_ready(control: BorrowedFd<'_>) -> Result<Told, Error> {
    let mut listeners = Vec::new();
    let (message, descriptors) = loop {
        let (message, descriptors) = packet::receive(control).doing("wait for init")?.ok_or(Error::Gone)?;
        if Reader(&message).number() != Some(LISTENING) {
            break (message, descriptors);
        }
        listeners = descriptors;
    };
    let mut reader = Reader(&message);
    match reader.number() {
        Some(READY) => {
            let [user, mount, network] = <[OwnedFd; 3]>::try_from(descriptors).map_err(|_| Error::Gone)?;
            Ok(Told { listeners, namespaces: Namespaces { user, mount, network } })
        }
        Some(errno) => {
            let what = reader.text().unwrap_or_default().to_string_lossy().into_owned();
            Err(report::why_not(what, io::Error::from_raw_os_error(errno as i32)))
        }
        None => Err(Error::Gone),
    }
}

/// Files of /etc that say who and where the container is.
fn files(spec: &Spec) -> Vec<(PathBuf, Vec<u8>)> {
    let read = |path: &str| fs::read(path).unwrap_or_default();
    let mut hosts = b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_vec();
    let mut resolv = b"# this container has no network\n".to_vec();
    if spec.network.leads_out() {
        let lines = egress::resolvers_inside().into_iter().map(|address| format!("nameserver {address}\n"));
        resolv = lines.collect::<String>().into_bytes();
    }
    if spec.network == Network::Host {
        hosts = read("/etc/hosts");
        resolv = read("/etc/resolv.conf");
        if !hosts.ends_with(b"\n") {
            hosts.push(b'\n');
        }
    }
    hosts.extend(format!("127.0.1.1\t{}\n", spec.hostname).bytes());
    let hostname = format!("{}\n", spec.hostname).into_bytes();
    [("/etc/hostname", hostname), ("/etc/hosts", hosts), ("/etc/resolv.conf", resolv)]
        .map(|(path, bytes)| (path.into(), bytes))
        .into()
}

//! Overlays shown in a container that runs already, for folders of which one only learns inside. A fork of the caller enters
//! the container's namespaces for it; init itself has long given up the right to mount.
//!
//! What is mounted, and why, is the caller's business. Layers from the beginning are made in `inside.rs`.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::mount::{MountAttrFlags, MountPropagationFlags, mount_change};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::devices::{KernelFileSystems, attach, detached};
use crate::error::{Doing, Error};
use crate::ids;
use crate::inside::{Lower, can_be_upper, make_upper, overlay};
use crate::layout::OURS;
use crate::spec::{LateOverlay, MOST_BENEATH};
use crate::sys::{self, Fork};

/// A folder of every container, in whose place the layers show while the overlay is made. Only the fork sees that.
const LAYERS: &str = "/proc";

/// A container's namespaces that somebody enters later.
#[derive(Debug)]
pub(crate) struct Namespaces {
    pub(crate) user: OwnedFd,
    pub(crate) mount: OwnedFd,
    pub(crate) network: OwnedFd,
}

impl Namespaces {
    /// Those of this process.
    pub(crate) fn own() -> io::Result<[OwnedFd; 3]> {
        let open = |kind: &str| Ok::<OwnedFd, io::Error>(File::open(format!("/proc/self/ns/{kind}"))?.into());
        Ok([open("user")?, open("mnt")?, open("net")?])
    }
}

/// Everything the fork needs, in memory both have.
struct Work<'a> {
    namespaces: &'a Namespaces,
    overlay: &'a LateOverlay,
    scratch: &'a Path,
    /// For root: the lower folders and the scratch folder as detached mounts. An ordinary user takes them inside.
    given: Option<(Vec<OwnedFd>, OwnedFd)>,
}

/// Shows `overlay` in the container of these namespaces; `first` is the id of its root outside if the caller is the host's root.
pub(crate) fn show(
    namespaces: &Namespaces,
    scratch: &Path,
    first: Option<u32>,
    overlay: &LateOverlay,
) -> Result<(), Error> {
    check(scratch, overlay)?;
    let given = first.map(|first| give(scratch, first, overlay)).transpose()?;
    let work = Work { namespaces, overlay, scratch, given };
    let what = format!("show kept files at {}", overlay.inside.display());
    let (told, telling) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).doing(&*what)?;
    let pid = match sys::fork().doing(&*what)? {
        Fork::Child => {
            let failed = work.show().err();
            if let Some(error) = &failed {
                let _ = File::from(telling).write_all(error.to_string().as_bytes());
            }
            sys::exit_now(i32::from(failed.is_some()))
        }
        Fork::Parent(pid) => pid,
    };
    drop(telling);
    let mut why = String::new();
    File::from(told).read_to_string(&mut why).doing(&*what)?;
    match sys::wait_for_exit(pid).doing(&*what)? {
        crate::ExitStatus::Code(0) => Ok(()),
        _ => Err(io::Error::other(why)).doing(what),
    }
}

fn check(scratch: &Path, overlay: &LateOverlay) -> Result<(), Error> {
    let LateOverlay { inside, lowers, upper } = overlay;
    let is_plain = inside.is_absolute() && inside.parent().is_some();
    if !is_plain || inside.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(Error::Invalid(format!("{} is no folder that can show kept files", inside.display())));
    }
    if upper.components().count() != 1 || !upper.is_relative() || upper == Path::new(OURS) {
        return Err(Error::Invalid(format!("{} is no name in a scratch folder", upper.display())));
    }
    if lowers.len() > MOST_BENEATH {
        let text = format!("at most {MOST_BENEATH} layers can be shown, not {}", lowers.len());
        return Err(Error::Invalid(text));
    }
    match File::open(scratch).is_ok_and(|folder| can_be_upper(folder.as_fd())) {
        true => Ok(()),
        false => Err(Error::Invalid(format!("overlay cannot write to {}", scratch.display()))),
    }
}

/// The lower folders with the container's ids, and the scratch folder.
fn give(scratch: &Path, first: u32, overlay: &LateOverlay) -> Result<(Vec<OwnedFd>, OwnedFd), Error> {
    let lower = |folder: &PathBuf| -> io::Result<OwnedFd> {
        let tree = detached(folder)?;
        let owner = fs::metadata(folder.parent().unwrap_or(folder))?.uid();
        if owner != first {
            sys::map_ids(tree.as_fd(), ids::shifted(owner, first)?.as_fd())?;
        }
        Ok(tree)
    };
    let lowers =
        overlay.lowers.iter().map(|folder| lower(folder).doing(format!("show {}", folder.display())));
    Ok((lowers.collect::<Result<_, _>>()?, detached(scratch).doing("show the scratch folder")?))
}

impl Work<'_> {
    fn show(&self) -> Result<(), Error> {
        self.become_root()?;
        let taken = match &self.given {
            Some(_) => None,
            None => Some(self.take()?),
        };
        let (lowers, scratch) = self.given.as_ref().or(taken.as_ref()).expect("given or taken just now");
        enter(self.namespaces.mount.as_fd(), LinkNameSpaceType::Mount).doing("enter the container")?;
        let inside = &self.overlay.inside;
        fs::DirBuilder::new().recursive(true).mode(0o755).create(inside).doing("make the folder")?;
        // Links lead no further than the container goes, and nothing can be mounted on one.
        let inside = &inside.canonicalize().doing("find the folder")?;
        leave_copy()?;
        attach(KernelFileSystems::empty_memory()?, LAYERS).doing("mount a place for layers")?;
        let place = |name: &str| -> io::Result<PathBuf> {
            let place = Path::new(LAYERS).join(name);
            fs::DirBuilder::new().mode(0o700).create(&place)?;
            Ok(place)
        };
        let mut shown = Vec::new();
        for (number, tree) in lowers.iter().enumerate() {
            let at = place(&format!("l{number}")).doing("make a place for a layer")?;
            attach(tree, &at).doing("show a layer")?;
            shown.push(at);
        }
        let at = place("s").doing("make a place for the scratch folder")?;
        attach(scratch, &at).doing("show the scratch folder")?;
        let base = place("b").doing("make a place for the folder itself")?;
        // An overlay of overlays goes no deeper than two, so that what is empty does not lie beneath.
        if fs::read_dir(inside).doing("look into the folder")?.next().is_some() {
            attach(detached(inside).doing("show the folder")?, &base).doing("show the folder")?;
        }
        let name = self.overlay.upper.to_string_lossy();
        let (upper, work) = (at.join(&*name), at.join(format!("{name}.work")));
        let like = shown.first().map_or(inside.as_path(), PathBuf::as_path);
        make_upper(like, &upper, &work).doing("make the folder for what is written")?;
        let lower = Lower { hosts: vec![base], beneath: shown, skeleton: None };
        let plain = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        let mount = overlay(&lower, &upper, &work, plain).doing("put the layers together")?;
        enter(self.namespaces.mount.as_fd(), LinkNameSpaceType::Mount).doing("enter the container")?;
        attach(&mount, inside).doing("mount the layers")
    }

    /// Root of the container's user namespace, with a copy of the host's mounts.
    fn become_root(&self) -> Result<(), Error> {
        enter(self.namespaces.user.as_fd(), LinkNameSpaceType::User).doing("enter the user namespace")?;
        if self.given.is_some() {
            let (uid, gid) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
            rustix::thread::set_thread_groups(&[]).doing("leave all groups")?;
            rustix::thread::set_thread_res_gid(gid, gid, gid).doing("become the container's root group")?;
            rustix::thread::set_thread_res_uid(uid, uid, uid).doing("become the container's root")?;
        }
        rustix::process::umask(rustix::fs::Mode::empty());
        leave_copy()
    }

    /// What an ordinary user may look at, who has the same id on both sides.
    fn take(&self) -> Result<(Vec<OwnedFd>, OwnedFd), Error> {
        let lowers = self.overlay.lowers.iter().map(|folder| detached(folder)).collect::<io::Result<_>>();
        Ok((lowers.doing("show the layers")?, detached(self.scratch).doing("show the scratch folder")?))
    }
}

/// Goes on in a copy of the present mounts, of which nobody else sees anything.
fn leave_copy() -> Result<(), Error> {
    sys::unshare(libc::CLONE_NEWNS).doing("copy the mounts")?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing("part from the mounts")
}

fn enter(namespace: BorrowedFd<'_>, kind: LinkNameSpaceType) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace, Some(kind))?)
}

//! What a layer's entries mean: files, folders, links, whiteouts, and what is left out of an image.

use std::fs::File;
use std::io::{Read, Write};

use rustix::fs::XattrFlags;

use crate::limits::Allowance;
use crate::room::Room;
use crate::tarball::{Entry, Input, Kind, Tarball};
use crate::tree::{Attributes, Inside, Tree};
use crate::{Error, Limits};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other names that begin so are AUFS's own records, no part of the image.
const AUFS: &[u8] = b".wh..wh.";
const BUFFER_BYTES: usize = 128 << 10;

/// Puts an image's layers onto trees, the lowest first.
#[derive(Debug)]
pub(crate) struct Layers<'a> {
    limits: &'a Limits,
    bytes: Allowance,
    buffer: Vec<u8>,
    omitted: Omitted,
}

/// What was left out, counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Omitted {
    pub(crate) devices: u64,
    pub(crate) xattrs: u64,
}

/// What an entry's name asks for.
enum Asked {
    Entry(Inside),
    Whiteout(Inside),
    Opaque(Inside),
    Nothing,
}

impl<'a> Layers<'a> {
    pub(crate) fn new(limits: &'a Limits) -> Layers<'a> {
        let bytes = Allowance::new("unpacked_bytes", limits.unpacked_bytes);
        Layers { limits, bytes, buffer: vec![0; BUFFER_BYTES], omitted: Omitted::default() }
    }

    pub(crate) fn omitted(&self) -> Omitted {
        self.omitted
    }

    /// Applies one layer, read to the end of its tar archive.
    pub(crate) fn apply<R: Input>(
        &mut self,
        tree: &mut Tree,
        layer: &mut Tarball<R>,
        room: &mut Room<'_>,
    ) -> Result<(), Error> {
        while let Some(entry) = layer.next()? {
            tree.count_entry()?;
            room.take(if entry.kind == Kind::Folder { 1 } else { entry.size })?;
            match asked(&entry.name, self.limits)? {
                Asked::Entry(path) => self.put(tree, &path, &entry, layer)?,
                Asked::Whiteout(path) => tree.whiteout(&path)?,
                Asked::Opaque(path) => tree.make_opaque(&path)?,
                Asked::Nothing => {}
            }
        }
        tree.next_layer();
        Ok(())
    }

    fn put(
        &mut self,
        tree: &mut Tree,
        path: &Inside,
        entry: &Entry,
        content: &mut impl Read,
    ) -> Result<(), Error> {
        if entry.kind == Kind::Device {
            self.omitted.devices += 1;
            return Ok(());
        }
        let attributes = Attributes { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime };
        let place = tree.place(path)?;
        if entry.kind == Kind::Folder {
            return tree.create_folder(place.as_ref(), &attributes);
        }
        let place = place.ok_or_else(|| Error::not_safe(&entry.name, "the root must be a folder"))?;
        match entry.kind {
            Kind::File => {
                let file = tree.create_file(&place)?;
                self.fill(&file, entry, content)?;
                tree.finish_file(&file, &attributes)
            }
            Kind::Symlink => tree.create_symlink(&place, &entry.link, &attributes),
            Kind::Hardlink => {
                let target = Inside::parse(&entry.link, self.limits)?;
                tree.create_hardlink(&place, &target)
            }
            Kind::Fifo => tree.create_fifo(&place, &attributes),
            Kind::Folder | Kind::Device => Ok(()),
        }
    }

    fn fill(&mut self, mut file: &File, entry: &Entry, content: &mut impl Read) -> Result<(), Error> {
        self.bytes.take(entry.size)?;
        loop {
            let count = content.read(&mut self.buffer).map_err(Error::reading("layer"))?;
            if count == 0 {
                break;
            }
            let name = || String::from_utf8_lossy(&entry.name).into_owned();
            file.write_all(&self.buffer[..count]).map_err(|e| Error::io("writing", name().as_ref())(e))?;
        }
        self.attach(file, entry);
        Ok(())
    }

    /// Only `user.` attributes are kept. `security.capability` would be root's powers for whoever runs the file;
    /// `trusted.overlay.` and `user.overlay.` would redirect the overlay mounted over this very tree.
    fn attach(&mut self, file: &File, entry: &Entry) {
        for (name, value) in &entry.xattrs {
            let ours = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
            let kept =
                ours && rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()).is_ok();
            self.omitted.xattrs += u64::from(!kept);
        }
    }
}

fn asked(name: &[u8], limits: &Limits) -> Result<Asked, Error> {
    let path = Inside::parse(name, limits)?;
    let at = path.bytes().iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
    let (folder, last) = path.bytes().split_at(at);
    if last == OPAQUE {
        return Ok(Asked::Opaque(Inside::parse(folder, limits)?));
    }
    if last.starts_with(AUFS) {
        return Ok(Asked::Nothing);
    }
    let Some(hidden) = last.strip_prefix(WHITEOUT) else { return Ok(Asked::Entry(path)) };
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(Error::not_safe(name, "a whiteout of no name"));
    }
    Ok(Asked::Whiteout(Inside::parse(&[folder, hidden].concat(), limits)?))
}

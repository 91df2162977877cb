//! What layers become: files, links, modes, owners, whiteouts, and one layer over another.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use image::Progress;
use tar::EntryType;

use crate::world::{Tar, World, has, is_root, root, run, tree, world_layers};

#[test]
fn layers_of_every_compression_make_one_file_system() {
    let world = World::new();
    let layers = [
        Tar::new().folder("etc/").file("etc/a", "one").file("etc/b", "one").layer(),
        Tar::new().file("./etc/b", "two").layer().gzip(),
        Tar::new().file("/etc/c", "three").layer().zstd(),
    ];
    let image = world.unpack(&layers).unwrap();
    let read = |name: &str| fs::read_to_string(root(&image).join(name)).unwrap();
    assert_eq!((read("etc/a"), read("etc/b"), read("etc/c")), ("one".into(), "two".into(), "three".into()));
}

#[test]
fn the_config_says_how_the_image_is_meant_to_run() {
    let config = World::new().unpack(&[Tar::new().file("a", "").layer()]).unwrap().config;
    assert_eq!(config.env, [("PATH".into(), "/bin".into()), ("GREETING".into(), "a=b".into())].into());
    assert_eq!(config.workdir.as_deref(), Some(Path::new("/srv")));
    assert_eq!(config.user.as_deref(), Some("builder"));
    assert_eq!((config.entrypoint.len(), config.cmd.as_slice()), (2, &["true".to_owned()][..]));
}

#[test]
fn whiteouts_hide_what_is_below_and_nothing_of_their_own_layer() {
    let below = || {
        let tar =
            Tar::new().folder("d/").file("d/old", "").file("d/sub/old", "").file("gone", "").file("kept", "");
        tar.file("tree/x/y/z", "").file("again", "old").layer()
    };
    let world = World::new();
    // The opaque marker comes last and in the middle; both mean the same.
    let above = Tar::new()
        .file("d/new", "")
        .file("d/sub/new", "")
        .file("d/.wh..wh..opq", "")
        .file("d/later", "")
        .file(".wh.gone", "")
        .file(".wh.tree", "")
        .file(".wh.never-was", "")
        .file("no/such/folder/.wh.x", "")
        .file("again", "new")
        .file(".wh.again", "")
        .file(".wh..wh.plnk", "aufs");
    let image = world.unpack(&[below(), above.layer()]).unwrap();
    let found: Vec<_> = tree(&root(&image)).into_keys().collect();
    assert_eq!(found, ["", "again", "d", "d/later", "d/new", "d/sub", "d/sub/new", "kept"]);
    assert_eq!(fs::read_to_string(root(&image).join("again")).unwrap(), "new");
}

#[test]
fn an_opaque_root_hides_everything_below() {
    let layers = [
        Tar::new().file("a", "").file("b/c", "").layer(),
        Tar::new().file(".wh..wh..opq", "").file("d", "").layer(),
    ];
    let world = World::new();
    let image = world.unpack(&layers).unwrap();
    assert_eq!(tree(&root(&image)).into_keys().collect::<Vec<_>>(), ["", "d"]);
}

#[test]
fn an_entry_replaces_whatever_was_there() {
    let below = Tar::new()
        .file("file-to-folder", "")
        .file("folder-to-file/inside", "")
        .symlink("link-to-folder", "elsewhere")
        .file("elsewhere/kept", "")
        .symlink("link-to-file", "elsewhere/kept")
        .file("first", "shared")
        .hardlink("second", "first");
    let above = Tar::new()
        .file("file-to-folder/inside", "")
        .folder("link-to-folder")
        .file("link-to-file", "new")
        .file("folder-to-file", "now a file")
        .file("second", "its own");
    // A folder is implied only where none is; a file in its way is an entry's own to replace.
    let replaced = Tar::new().folder("file-to-folder").layer();
    let world = World::new();
    let image = world.unpack(&[below.layer(), replaced, above.layer()]).unwrap();
    let read = |name: &str| fs::read_to_string(root(&image).join(name)).unwrap();
    assert!(root(&image).join("file-to-folder/inside").is_file());
    assert!(root(&image).join("link-to-folder").symlink_metadata().unwrap().is_dir());
    assert_eq!((read("folder-to-file"), read("link-to-file")), ("now a file".into(), "new".into()));
    assert_eq!(
        (read("elsewhere/kept"), read("first"), read("second")),
        ("".into(), "shared".into(), "its own".into())
    );
}

#[test]
fn folders_reached_over_links_are_those_the_container_will_see() {
    let layers = [
        Tar::new()
            .folder("run/")
            .symlink("var/run", "/run")
            .symlink("lib", "usr/lib")
            .folder("usr/lib/")
            .layer(),
        Tar::new()
            .file("var/run/pid", "1")
            .file("lib/so", "2")
            .symlink("up", "usr/lib/../..")
            .file("up/top", "3")
            .layer(),
    ];
    let world = World::new();
    let image = world.unpack(&layers).unwrap();
    let read = |name: &str| fs::read_to_string(root(&image).join(name)).unwrap();
    assert_eq!((read("run/pid"), read("usr/lib/so"), read("top")), ("1".into(), "2".into(), "3".into()));
    assert!(root(&image).join("var/run").is_symlink());
}

#[test]
fn modes_links_and_times_are_kept() {
    let tar = Tar::new()
        .entry(EntryType::Directory, b"closed/", b"", 0o500, 0, b"")
        .entry(EntryType::Regular, b"closed/setuid", b"", 0o4755, 0, b"x")
        .entry(EntryType::Regular, b"unreadable", b"", 0, 0, b"x")
        .entry(EntryType::Directory, b"tmp", b"", 0o1777, 0, b"")
        .entry(EntryType::Fifo, b"fifo", b"", 0o622, 0, b"")
        .hardlink("hard", "closed/setuid")
        .symlink("dangling", "/nowhere");
    let next = Tar::new().file("closed/later", "also into a closed folder").layer();
    let world = World::new();
    let image = world.unpack(&[tar.layer(), next]).unwrap();
    let metadata = |name: &str| root(&image).join(name).symlink_metadata().unwrap();
    let mode = |name: &str| metadata(name).permissions().mode() & 0o7777;
    assert_eq!((mode("closed"), mode("tmp"), mode("fifo"), mode("unreadable")), (0o500, 0o1777, 0o622, 0));
    assert_eq!((mode("closed/setuid"), mode("hard"), mode("")), (0o4755, 0o4755, 0o755));
    assert_eq!(metadata("closed/setuid").ino(), metadata("hard").ino());
    for name in ["closed", "closed/setuid", "tmp", "fifo", "dangling"] {
        assert_eq!(metadata(name).mtime(), 1_600_000_000, "{name}");
    }
}

#[test]
fn what_has_no_place_in_an_image_is_left_out_and_noted() {
    let world = World::new();
    let mut layout = world.layout();
    let xattrs: [(&str, &[u8]); 4] = [
        ("SCHILY.xattr.security.capability", b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.colour", b"green"),
    ];
    let tar = Tar::new()
        .entry(EntryType::Block, b"dev/sda", b"", 0o666, 0, b"")
        .entry(EntryType::Char, b"dev/mem", b"", 0o666, 0, b"")
        .pax(&xattrs)
        .file("ping", "")
        .pax(&[("uid", b"4000000000"), ("gid", b"65535")])
        .file("owned", "");
    layout.image("latest", &[tar.layer()]);
    let mut notes = Vec::new();
    let mut progress = |progress| {
        if let Progress::Note(note) = progress {
            notes.push(note);
        }
    };
    let image = world.images.resolve(&layout.reference(), &mut progress).unwrap();
    assert!(!root(&image).join("dev").exists());
    let mut listed = [0; 256];
    let length = rustix::fs::listxattr(root(&image).join("ping"), &mut listed).unwrap();
    assert!(!String::from_utf8_lossy(&listed[..length]).contains("capability"));
    assert!(!String::from_utf8_lossy(&listed[..length]).contains("overlay"));
    assert_eq!(notes[0], "2 device nodes left out");
    assert!(notes[1].ends_with("extended attributes left out"), "{notes:?}");
    assert_eq!(notes[2], "owners above 65535 became nobody (65534)");
    if is_root() {
        let owned = root(&image).join("owned").metadata().unwrap();
        assert_eq!((owned.uid(), owned.gid()), (65534, 65535));
    }
}

#[test]
fn umoci_unpacks_the_same_file_system() {
    if !is_root() || !has("umoci") {
        return;
    }
    let world = World::new();
    let mut layout = world.layout();
    // umoci knows no zstd.
    layout.image("latest", &world_layers().map(|layer| layer.uncompressed().gzip()));
    let ours = layout.resolve(&world.images, "").unwrap();
    let theirs = world.path("theirs");
    let image = format!("{}:latest", layout.reference());
    run(Command::new("umoci").args(["raw", "unpack", "--image", &image]).arg(&theirs));
    // The root itself, which umoci leaves as it makes it.
    let inside =
        |root: &Path| tree(root).into_iter().filter(|(name, _)| !name.is_empty()).collect::<Vec<_>>();
    assert_eq!(inside(&root(&ours)), inside(&theirs));
}

#[test]
fn an_image_may_be_empty() {
    for layers in [vec![], vec![Tar::new().layer()]] {
        let world = World::new();
        assert_eq!(tree(&root(&world.unpack(&layers).unwrap())).len(), 1);
    }
}

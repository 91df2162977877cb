//! Layers that several images have: unpacked once, counted once, and there as long as one of the images is. As root, since others may not lay
//! folders over each other without more ado.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, SystemTime};

use tar::EntryType;

use crate::world::{Layer, Tar, World, again, is_root, root, tree, unpackings, world_layers};

const FOLDER: &str = "IMAGE_TEST_LAYERS_FOLDER";

fn base() -> [Layer; 2] {
    let below = Tar::new()
        .entry(EntryType::Directory, b"etc/", b"", 0o711, 0, b"")
        .file("etc/a", "a")
        .file("etc/b", "b")
        .folder("folder/")
        .file("folder/x/y", "")
        .file("opaque/old", "")
        .hardlink("etc/c", "etc/a");
    let noise = Tar::new().entry(EntryType::Regular, b"noise", b"", 0o600, 7, &vec![9; 1 << 20]);
    [below.layer(), noise.layer()]
}

fn over_base(top: Tar) -> Vec<Layer> {
    let [below, noise] = base();
    vec![below, noise, top.layer()]
}

#[test]
fn a_layer_holds_what_it_changes_and_marks_of_what_it_takes_away() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let top = Tar::new()
        .file("etc/.wh.a", "")
        .hardlink("etc/d", "etc/b")
        .file("folder", "now a file")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/new", "")
        .file("noise/inside", "a file gave way to a folder");
    let top = Tar::new().folder("noise/").append(&top.unended());
    let image = world.unpack(&over_base(top)).unwrap();
    let [own, noise, _] = &image.rootfs[..] else { panic!("{:?}", image.rootfs) };
    assert_eq!(tree(noise).into_keys().collect::<Vec<_>>(), ["", "noise"]);
    let kind = |name: &str| fs::symlink_metadata(own.join(name)).unwrap();
    assert!(kind("etc/a").file_type().is_char_device() && kind("etc/a").rdev() == 0);
    assert!(kind("folder").is_file() && !own.join("etc/c").exists());
    let mut mark = [0; 8];
    let length = rustix::fs::getxattr(own.join("opaque"), "user.overlay.opaque", &mut mark);
    // Overlay may mark each name instead, which comes to the same.
    assert!(length.is_ok() || kind("opaque/old").rdev() == 0);

    let all = root(&image);
    let found: Vec<_> = tree(&all).into_keys().collect();
    let expect =
        ["", "etc", "etc/b", "etc/c", "etc/d", "folder", "noise", "noise/inside", "opaque", "opaque/new"];
    assert_eq!(found, expect);
    let metadata = |name: &str| all.join(name).metadata().unwrap();
    assert_eq!(metadata("etc/b").ino(), metadata("etc/d").ino());
    // A folder that only had something put into it looks as it did.
    assert_eq!(
        (metadata("etc").permissions().mode() & 0o7777, metadata("etc").mtime()),
        (0o711, 1_600_000_000)
    );
    assert_eq!((metadata("").permissions().mode() & 0o7777, metadata("").uid()), (0o755, 0));
}

#[test]
fn layers_over_each_other_are_what_they_are_in_one_folder() {
    let world = World::new();
    let many = world.unpack(&world_layers()).unwrap();
    assert_eq!(many.rootfs.len(), if is_root() { 4 } else { 1 });
    // More layers than the kernel lays over each other share the lowest folder.
    let mut layers = world_layers().to_vec();
    layers.extend((0..130).map(|number: u32| Tar::new().file(&format!("tmp/{}", number % 7), "").layer()));
    let most = world.unpack(&layers).unwrap();
    assert!(most.rootfs.len() <= 128 && world.images.list().unwrap().len() == 2);
    let lowest = most.rootfs.last().unwrap();
    let described = tree(lowest);
    let expect = tree(&root(&many));
    for (path, what) in &expect {
        // The time of /tmp, in which later layers put something, is kept as well.
        assert_eq!(described.get(path), Some(what), "{path}");
    }
}

#[test]
fn what_several_images_have_counts_once_and_goes_with_the_last_of_them() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let mut layout = world.layout();
    // There is room for little more than one of them.
    let limited = world.images.clone().with_quota(Some(3 << 19));
    let images = ["one", "two", "three"].map(|tag| {
        layout.image(tag, &over_base(Tar::new().file("etc/name", tag)));
        layout.resolve(&limited, &format!(":{tag}")).unwrap()
    });
    assert_eq!(world.layers_folder().len(), 5);
    assert!(world.images.stock().unwrap().iter().all(|stocked| stocked.bytes > 1 << 20));
    let later = SystemTime::now() + Duration::from_secs(10);
    // Together they take up little more than one.
    assert!(world.images.prune(3 << 19, later).unwrap().is_empty());
    world.images.remove(&images[0].digest).unwrap();
    assert_eq!(world.layers_folder().len(), 4);
    assert!(root(&images[1]).join("etc/a").exists());
    let held = world.images.hold(&images[1]).unwrap().unwrap();
    let removed = world.images.prune(0, later).unwrap();
    assert_eq!(removed.iter().map(|one| one.image.digest).collect::<Vec<_>>(), [images[2].digest]);
    assert_eq!(world.layers_folder().len(), 3);
    assert!(images[1].rootfs.iter().all(|folder| folder.exists()));
    drop(held);
    world.images.prune(0, later).unwrap();
    assert!(world.layers_folder().is_empty());
    assert!(world.images.unfinished().unwrap().is_empty());
}

#[test]
fn images_that_come_at_once_unpack_what_they_share_once_between_them() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let mut layout = world.layout();
    let tags: Vec<String> = (0..6).map(|number| format!("t{number}")).collect();
    for tag in &tags {
        layout.image(tag, &over_base(Tar::new().file("etc/name", tag)));
    }
    let barrier = Barrier::new(tags.len());
    let resolve = |tag: &String| {
        let mut progress = Vec::new();
        barrier.wait();
        let reference = format!("{}:{tag}", layout.reference());
        let image = world.images.resolve(&reference, &mut |said| progress.push(said)).unwrap();
        (fs::read_to_string(root(&image).join("etc/name")).unwrap() == *tag, unpackings(&progress))
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = tags.iter().map(|tag| scope.spawn(|| resolve(tag))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(results.iter().all(|(is_right, _)| *is_right));
    assert_eq!(results.iter().map(|(_, unpackings)| unpackings).sum::<usize>(), 2 + tags.len());
}

#[test]
fn a_process_that_is_killed_at_any_layer_leaves_nothing_half_done() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let world = image::Images::open(&Path::new(&folder).join("images")).unwrap();
        let layout = Path::new(&folder).join("layout");
        let stop: usize = std::env::var("IMAGE_TEST_STOP_AT").unwrap().parse().unwrap();
        let _ = world.resolve(layout.to_str().unwrap(), &mut |said| {
            if matches!(said, image::Progress::Unpacking { layer, .. } if layer == stop) {
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
                    .unwrap();
            }
        });
        return;
    }
    let world = World::new();
    let mut layout = world.layout();
    layout.image("latest", &world_layers());
    for stop in 1..=4 {
        let name = "shared::a_process_that_is_killed_at_any_layer_leaves_nothing_half_done";
        let mut command = again(name);
        command.env(FOLDER, world.folder.path()).env("IMAGE_TEST_STOP_AT", stop.to_string());
        assert!(!command.output().unwrap().status.success(), "it was to be killed");
        assert!(world.images.list().unwrap().is_empty());
    }
    let mut progress = Vec::new();
    let image = world.images.resolve(&layout.reference(), &mut |said| progress.push(said)).unwrap();
    assert_eq!(unpackings(&progress), if is_root() { 1 } else { 4 });
    let clean = World::new();
    assert_eq!(tree(&root(&image)), tree(&root(&clean.unpack(&world_layers()).unwrap())));
    assert_eq!(world.layers_folder().len(), image.rootfs.len());
}

#[test]
fn an_image_that_an_earlier_version_unpacked_is_one_folder() {
    let world = World::new();
    let image = world.unpack(&[Tar::new().file("a", "").layer()]).unwrap();
    let name = format!("sha256-{}", image.digest.hex());
    let old = world.path("images/rootfs").join(&name);
    fs::create_dir(world.path("images/rootfs")).unwrap();
    fs::rename(&image.rootfs[0], &old).unwrap();
    fs::remove_file(world.path("images/stacks").join(&name)).unwrap();
    let found = world.images.image(&image.digest).unwrap();
    assert_eq!((&found.rootfs, found.digest), (&vec![old.clone()], image.digest));
    assert_eq!(world.images.list().unwrap(), std::slice::from_ref(&found));
    let held = world.images.hold(&found).unwrap().unwrap();
    assert!(matches!(world.images.remove(&image.digest), Err(image::Error::InUse(_))));
    drop(held);
    world.images.remove(&image.digest).unwrap();
    assert!(!old.exists() && world.images.list().unwrap().is_empty());
}

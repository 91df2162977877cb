//! An image is unpacked once, completely or not at all, whoever asks and whoever is killed.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Barrier;
use std::time::{Duration, SystemTime};

use image::{Digest, Error, Images, Progress};

use crate::world::{Layout, Tar, World, again, is_root, root, tree, unpackings, world_layers};

/// Where the other process finds the world; that it is set makes a test play the other process.
const FOLDER: &str = "IMAGE_TEST_FOLDER";

#[test]
fn many_threads_unpack_an_image_once_between_them() {
    let world = World::new();
    let mut layout = world.layout();
    layout.image("latest", &world_layers());
    let barrier = Barrier::new(8);
    let resolve = || {
        let mut progress = Vec::new();
        barrier.wait();
        let image = world.images.resolve(&layout.reference(), &mut |p| progress.push(p)).unwrap();
        (image, unpackings(&progress))
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(resolve)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(results.iter().map(|(_, unpackings)| unpackings).sum::<usize>(), 4);
    assert!(results.iter().all(|(image, _)| *image == results[0].0));
}

#[test]
fn many_processes_unpack_an_image_once_between_them() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let images = Images::open(&Path::new(&folder).join("images")).unwrap();
        let mut progress = Vec::new();
        let layout = Path::new(&folder).join("layout");
        images.resolve(layout.to_str().unwrap(), &mut |p| progress.push(p)).unwrap();
        println!("unpackings: {};", unpackings(&progress));
        return;
    }
    let world = World::new();
    world.layout().image("latest", &world_layers());
    let start = || {
        let mut command = again("once::many_processes_unpack_an_image_once_between_them");
        command.env(FOLDER, world.folder.path()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..4).map(|_| start()).collect();
    let mut counts: Vec<_> = children
        .into_iter()
        .map(|child| {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success());
            let text = String::from_utf8(output.stdout).unwrap();
            let (_, rest) = text.split_once("unpackings: ").unwrap();
            rest.split_once(';').unwrap().0.parse::<usize>().unwrap()
        })
        .collect();
    counts.sort();
    assert_eq!(counts, [0, 0, 0, 4]);
}

#[test]
fn a_second_resolve_only_looks() {
    let world = World::new();
    let mut layout = world.layout();
    let digest = layout.image("latest", &world_layers());
    let first = layout.resolve(&world.images, "").unwrap();
    let mut progress = Vec::new();
    let second = world.images.resolve(&layout.reference(), &mut |p| progress.push(p)).unwrap();
    assert_eq!((&first, first.digest), (&second, digest));
    assert_eq!(progress, [Progress::Found { digest }]);
    assert_eq!(world.images.known(&layout.reference()), Some(first.clone()));
    assert_eq!(world.images.list().unwrap(), [first]);
}

#[test]
fn what_a_killed_process_left_is_cleared_away() {
    let world = World::new();
    let mut layout = world.layout();
    let digest = layout.image("latest", &world_layers());
    let left = world.path("images/layers").join(format!(".sha256-{}.partial", digest.hex()));
    let gone = world.path("images/layers").join(format!(".sha256-{}.partial.gone-7", digest.hex()));
    for folder in [&left, &gone] {
        let closed = folder.join("d/".repeat(200));
        fs::create_dir_all(&closed).unwrap();
        fs::write(closed.join("f"), "").unwrap();
        fs::set_permissions(closed, fs::Permissions::from_mode(0o000)).unwrap();
    }
    fs::write(left.join("stale"), "").unwrap();
    let image = layout.resolve(&world.images, "").unwrap();
    assert!(!root(&image).join("stale").exists());
    let name = |folder: &std::path::PathBuf| folder.file_name().unwrap().to_string_lossy().into_owned();
    let mut names: Vec<String> = image.rootfs.iter().map(name).collect();
    names.sort();
    assert_eq!(world.layers_folder(), names);
}

#[test]
fn a_removed_image_is_gone_and_can_come_back() {
    let world = World::new();
    let mut layout = world.layout();
    layout.image("latest", &world_layers());
    let image = layout.resolve(&world.images, "").unwrap();
    world.images.remove(&image.digest).unwrap();
    world.images.remove(&image.digest).unwrap();
    assert!(world.layers_folder().is_empty());
    assert_eq!(world.images.known(&layout.reference()), None);
    assert_eq!(layout.resolve(&world.images, "").unwrap(), image);
}

#[test]
fn an_image_in_use_is_not_removed_and_others_go_by_when_they_were_asked_for() {
    let world = World::new();
    let mut layout = world.layout();
    let digests = ["one", "two", "three"].map(|tag| {
        layout.image(tag, &[Tar::new().file(tag, tag).layer()]);
        layout.resolve(&world.images, &format!(":{tag}")).unwrap().digest
    });
    for (age, digest) in [300, 200, 100].iter().zip(&digests) {
        let config = world.path("images/configs").join(format!("sha256-{}", digest.hex()));
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 - age);
        fs::File::open(config).unwrap().set_modified(then).unwrap();
    }
    let stock = world.images.stock().unwrap();
    let order: Vec<Digest> = stock.iter().map(|stocked| stocked.image.digest).collect();
    assert_eq!(order, [digests[2], digests[1], digests[0]]);
    assert!(
        stock.iter().all(|stocked| stocked.bytes > 0 && !stocked.in_use && stocked.references.len() == 1)
    );
    assert_eq!(world.images.find(&digests[1].hex()[..12]).unwrap(), stock[1].image);
    assert_eq!(world.images.find(&stock[0].references[0]).unwrap(), stock[0].image);
    assert!(matches!(world.images.find("sha256:"), Err(Error::NotFound(_))));

    let used = fs::File::open(&stock[2].image.lock).unwrap();
    used.lock_shared().unwrap();
    assert!(world.images.stock().unwrap()[2].in_use);
    assert!(matches!(world.images.remove(&digests[0]), Err(Error::InUse(digest)) if digest == digests[0]));
    let before = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    assert!(world.images.prune(u64::MAX, before).unwrap().is_empty());
    // Room for one is made by the oldest that is not in use.
    let removed = world.images.prune(stock[0].bytes + stock[2].bytes, before).unwrap();
    assert_eq!(removed.iter().map(|stocked| stocked.image.digest).collect::<Vec<_>>(), [digests[1]]);
    // What was asked for lately stays, however much there is.
    assert!(world.images.prune(0, before - Duration::from_secs(200)).unwrap().is_empty());
    assert_eq!(world.images.prune(0, before).unwrap().len(), 1);
    drop(used);
    assert_eq!(world.images.prune(0, before).unwrap().len(), 1);
    assert!(world.layers_folder().is_empty());
}

#[test]
fn who_looks_is_not_taken_for_one_who_uses_an_image() {
    let world = World::new();
    let image = world.unpack(&world_layers()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let stock = world.images.stock().unwrap();
                    assert!(!stock[0].in_use, "nobody uses it");
                }
            });
        }
    });
    world.images.remove(&image.digest).unwrap();
}

#[test]
fn unpacked_images_are_out_of_reach_for_other_users() {
    let world = World::new();
    let mode = |name: &str| fs::metadata(world.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("images/layers"), mode("images/scratch")), (0o700, 0o700));
}

#[test]
fn an_ordinary_user_gets_an_image_of_their_own() {
    if is_root() {
        return as_ordinary_user("once::an_ordinary_user_gets_an_image_of_their_own");
    }
    let world = World::new();
    let mut layout = Layout::create(&world.path("layout"));
    let mut layers = world_layers().to_vec();
    let closed = |tar: Tar, mode| tar.entry(tar::EntryType::Directory, b"closed/", b"", mode, 0, b"");
    layers.push(closed(Tar::new(), 0o555).file("closed/inside/x", "").layer());
    layers.push(Tar::new().file("closed/inside/y", "").file("closed/inside/.wh.x", "").layer());
    layers.push(closed(Tar::new(), 0).layer());
    layout.image("latest", &layers);
    let image = layout.resolve(&world.images, "").unwrap();
    let closed = root(&image).join("closed");
    assert_eq!(fs::metadata(&closed).unwrap().permissions().mode() & 0o7777, 0);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(closed.join("inside/y").exists() && !closed.join("inside/x").exists());
    let me = rustix::process::geteuid().as_raw();
    let mine = format!(" {me}:");
    assert!(tree(&root(&image)).values().all(|described| described.contains(&mine)));
    assert_eq!(fs::metadata(root(&image).join("bin/su")).unwrap().mode() & 0o7777, 0o4755);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    world.images.remove(&image.digest).unwrap();
    assert!(world.layers_folder().is_empty());
}

/// Runs a test again as a user of no powers, from a copy of this program that such a user can reach.
fn as_ordinary_user(test: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let program = folder.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let args: Vec<_> = again(test).get_args().map(ToOwned::to_owned).collect();
    let mut command = std::process::Command::new(program);
    command.args(args).current_dir(folder.path()).env("TMPDIR", folder.path());
    let output = command.uid(12_345).gid(12_345).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

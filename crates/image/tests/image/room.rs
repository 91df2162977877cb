//! What images take up: the quota, and what is left of those that did not come.

use std::fs;
use std::time::{Duration, SystemTime};

use image::{Digest, Error, Images};

use crate::world::{Layer, Layout, Tar, World, names};

/// An image that takes up a mebibyte and a little.
fn mebibyte(name: &str) -> [Layer; 1] {
    [Tar::new().entry(tar::EntryType::Regular, name.as_bytes(), b"", 0o644, 0, &vec![7; 1 << 20]).layer()]
}

/// `images/configs` says when an image was asked for.
fn asked_for_at(world: &World, digest: &Digest, seconds: u64) {
    let config = world.path("images/configs").join(format!("sha256-{}", digest.hex()));
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    fs::File::open(config).unwrap().set_modified(then).unwrap();
}

fn add(layout: &mut Layout, images: &Images, name: &str) -> Result<image::Image, Error> {
    layout.image(name, &mebibyte(name));
    layout.resolve(images, &format!(":{name}"))
}

#[test]
fn room_is_made_by_what_was_not_asked_for_longest_and_nobody_holds() {
    let world = World::new();
    let mut layout = world.layout();
    let images = world.images.clone().with_quota(Some(2_800_000));
    let there = || images.list().unwrap().iter().map(|image| image.digest).collect::<Vec<_>>();
    let one = add(&mut layout, &images, "one").unwrap();
    let two = add(&mut layout, &images, "two").unwrap();
    asked_for_at(&world, &one.digest, 1);
    asked_for_at(&world, &two.digest, 2);
    let three = add(&mut layout, &images, "three").unwrap();
    assert!(!there().contains(&one.digest) && there().contains(&two.digest));

    let held = images.hold(&two).unwrap().expect("it is there");
    assert!(images.hold(&one).unwrap().is_none(), "it was removed");
    let four = add(&mut layout, &images, "four").unwrap();
    assert!(!there().contains(&three.digest) && there().contains(&two.digest));
    let also_held = images.hold(&four).unwrap();
    let refused = add(&mut layout, &images, "five").unwrap_err();
    assert!(
        matches!(refused, Error::Quota { bytes, quota: 2_800_000, in_use } if bytes > 1 << 20 && in_use > 2 << 20),
        "{refused}"
    );
    assert_eq!(world.layers_folder().len(), 2, "nothing is left of what was refused");
    drop((held, also_held));
    add(&mut layout, &images, "five").unwrap();
}

#[test]
fn an_image_larger_than_the_quota_is_stopped_while_it_is_unpacked() {
    let world = World::new();
    let mut layout = world.layout();
    let zeros =
        Tar::new().entry(tar::EntryType::Regular, b"zeros", b"", 0o644, 0, &vec![0; 24 << 20]).layer();
    layout.image("zeros", &[mebibyte("first")[0].clone(), zeros.gzip()]);
    let images = world.images.clone().with_quota(Some(8 << 20));
    let refused = layout.resolve(&images, ":zeros").unwrap_err();
    assert!(matches!(refused, Error::Quota { bytes, in_use: 0, .. } if bytes > 24 << 20), "{refused}");
    assert!(world.layers_folder().is_empty() && names(&world.path("images/scratch")).is_empty());
    // Many folders are more than their content.
    let folders = (0..3000).fold(Tar::new(), |tar, n| tar.folder(&format!("d{n}"))).layer();
    layout.image("folders", &[folders.gzip()]);
    let refused = layout.resolve(&images, ":folders").unwrap_err();
    assert!(matches!(refused, Error::Quota { .. }), "{refused}");
}

#[test]
fn what_a_killed_process_left_counts_and_is_removed_but_not_under_somebody() {
    let world = World::new();
    let digest = Digest::of(b"left");
    let blobs = world.path("images/scratch").join(format!("sha256-{}", digest.hex()));
    let tree = world.path("images/layers").join(format!(".sha256-{}.partial", digest.hex()));
    for folder in [&blobs, &tree] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("part"), vec![1; 1 << 20]).unwrap();
    }
    let left = world.images.unfinished().unwrap();
    assert!(
        matches!(&left[..], [one] if one.digest == digest && one.bytes > 2 << 20 && !one.under_way),
        "{left:?}"
    );
    let long_ago = SystemTime::UNIX_EPOCH;
    let later = left[0].since + Duration::from_secs(1);
    assert!(world.images.remove_unfinished(long_ago).unwrap().is_empty());
    let lock = fs::File::create(world.path("images/locks").join(format!("sha256-{}", digest.hex()))).unwrap();
    lock.lock().unwrap();
    assert!(world.images.unfinished().unwrap()[0].under_way);
    assert!(world.images.remove_unfinished(later).unwrap().is_empty());
    drop(lock);
    world.images.prune(u64::MAX, later).unwrap();
    assert_eq!(world.images.unfinished().unwrap(), left, "there is room for it");
    world.images.prune(2 << 20, later).unwrap();
    assert!(world.images.unfinished().unwrap().is_empty() && !blobs.exists() && !tree.exists());

    // It makes room before any image does.
    let mut layout = world.layout();
    let images = world.images.clone().with_quota(Some(2_800_000));
    let one = add(&mut layout, &images, "one").unwrap();
    fs::create_dir(&blobs).unwrap();
    fs::write(blobs.join("part"), vec![1; 1 << 20]).unwrap();
    let two = add(&mut layout, &images, "two").unwrap();
    assert!(!blobs.exists() && one.rootfs[0].exists() && two.rootfs[0].exists());
}

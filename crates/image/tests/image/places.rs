//! The places on this host an image may come from, and choosing one of several in them.

use std::fs;
use std::process::Command;

use image::{Digest, Error, Progress};
use serde_json::json;

use crate::world::{
    Layer, Tar, World, gzip, has, host_architecture, names, root, run, tree, unpackings, world_layers, write,
};

fn one(name: &str) -> Vec<Layer> {
    vec![Tar::new().file(name, "").layer()]
}

#[test]
fn tags_and_digests_choose_among_a_layouts_images() {
    let world = World::new();
    let mut layout = world.layout();
    let first = layout.image("1.0", &one("first"));
    let second = layout.image("example.org/app:2.0", &one("second"));
    let resolve = |suffix: &str| layout.resolve(&world.images, suffix).map(|image| image.digest);
    assert_eq!(resolve(":1.0").unwrap(), first);
    assert_eq!(resolve(":2.0").unwrap(), second);
    assert_eq!(resolve(":example.org/app:2.0").unwrap(), second);
    assert_eq!(resolve(&format!("@{second}")).unwrap(), second);
    for suffix in ["", ":3.0", &format!("@{}", Digest::of(b""))] {
        let error = resolve(suffix).unwrap_err();
        assert!(
            matches!(&error, Error::NotFound(text) if text.contains("1.0, example.org/app:2.0")),
            "{error}"
        );
    }
}

#[test]
fn latest_is_what_no_tag_means() {
    let world = World::new();
    let mut layout = world.layout();
    layout.image("1.0", &one("first"));
    let latest = layout.image("latest", &one("second"));
    assert_eq!(layout.resolve(&world.images, "").unwrap().digest, latest);
}

#[test]
fn this_hosts_platform_is_chosen_from_an_index() {
    let world = World::new();
    let mut layout = world.layout();
    let mut entries = Vec::new();
    for architecture in ["s390x", host_architecture(), "riscv64"] {
        let layers = one(architecture);
        let mut entry = layout.manifest(layout.config(architecture, &layers), &layers);
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entries.push(entry);
    }
    let index = layout.json("index", &json!({"schemaVersion": 2, "manifests": entries}));
    layout.list("all", index);
    let foreign = layout.json("index", &json!({"schemaVersion": 2, "manifests": [entries[0]]}));
    layout.list("foreign", foreign);
    layout.list("bare", entries.remove(2));
    let image = layout.resolve(&world.images, ":all").unwrap();
    assert_eq!(names(&root(&image)), [host_architecture()]);
    assert_eq!(image.config.architecture, host_architecture());
    for tag in [":foreign", ":bare"] {
        let error = layout.resolve(&world.images, tag).unwrap_err();
        assert!(
            matches!(&error, Error::Platform { wanted, .. } if *wanted == image::host_platform()),
            "{error:?}"
        );
    }
}

#[test]
fn what_is_no_image_is_said_to_be_none() {
    let world = World::new();
    let empty = world.path("empty");
    fs::create_dir(&empty).unwrap();
    let text = write(&world.path("text"), b"hello");
    let tar = write(&world.path("some.tar"), &Tar::new().file("a", "").bytes());
    let resolve = |reference: &str| world.images.resolve(reference, &mut |_| ()).unwrap_err();
    assert!(matches!(resolve(empty.to_str().unwrap()), Error::NotFound(_)));
    assert!(matches!(resolve(&text), Error::Malformed { .. }));
    assert!(matches!(resolve(&tar), Error::NotFound(_)));
    assert!(matches!(resolve("/dev/null"), Error::Malformed { .. }));
    assert!(matches!(resolve("/nowhere"), Error::NotFound(_)));
    let mut layout = world.layout();
    let config = layout.config(host_architecture(), &[]);
    let artifact = layout.blob("application/vnd.example.chart", b"chart");
    let manifest =
        layout.json("manifest", &json!({"schemaVersion": 2, "config": config, "layers": [artifact]}));
    layout.list("chart", manifest);
    assert!(matches!(layout.resolve(&world.images, "").unwrap_err(), Error::Malformed { .. }));
}

#[test]
fn an_oci_archive_is_its_layout_compressed_or_not() {
    let world = World::new();
    let mut layout = world.layout();
    let digest = layout.image("1.0", &world_layers());
    let archive = layout.archive();
    let packed = zstd::encode_all(archive.as_slice(), 1).unwrap();
    for (name, bytes) in [("a.tar", archive.clone()), ("a.tar.gz", gzip(&archive)), ("a.tar.zst", packed)] {
        let world = World::new();
        let path = write(&world.path(name), &bytes);
        let image = world.images.resolve(&format!("{path}:1.0"), &mut |_| ()).unwrap();
        assert_eq!(image.digest, digest, "{name}");
        assert_eq!(image.config.user.as_deref(), Some("builder"));
        assert!(names(&world.path("images/scratch")).is_empty());
    }
}

/// As `docker save` writes it: the second layer is only a link to where the first image had it.
fn docker_archive() -> (Digest, Vec<u8>) {
    let layers = world_layers();
    let plain: Vec<_> = [&layers[0], &layers[3]].into_iter().cloned().collect();
    let diff_ids: Vec<_> = plain.iter().map(|layer| layer.diff_id.to_string()).collect();
    let config = json!({"os": "linux", "architecture": host_architecture(), "config": {"Env": ["A=1"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = config.to_string();
    let digest = Digest::of(config.as_bytes());
    let config_name = format!("{}.json", digest.hex());
    let manifest = json!([
        {"Config": "none.json", "RepoTags": ["other:1"], "Layers": []},
        {"Config": config_name, "RepoTags": ["example.org/app:1.0"], "Layers": ["a/layer.tar", "b/layer.tar"]},
    ]);
    let add = |tar: Tar, name: &str, bytes: &[u8]| {
        tar.entry(tar::EntryType::Regular, name.as_bytes(), b"", 0o644, 0, bytes)
    };
    let tar = add(Tar::new().folder("a/"), "a/layer.tar", &gzip(&plain[0].bytes));
    let tar = add(tar.symlink("b/layer.tar", "../c/layer.tar"), "c/layer.tar", &plain[1].bytes);
    let tar = add(tar, &config_name, config.as_bytes());
    (digest, add(tar, "manifest.json", manifest.to_string().as_bytes()).bytes())
}

#[test]
fn a_docker_archive_is_known_by_its_image_id() {
    let (digest, bytes) = docker_archive();
    for bytes in [gzip(&bytes), bytes] {
        let world = World::new();
        let path = write(&world.path("saved.tar"), &bytes);
        let image = world.images.resolve(&format!("{path}:example.org/app:1.0"), &mut |_| ()).unwrap();
        assert_eq!((image.digest, image.config.env["A"].as_str()), (digest, "1"));
        assert!(root(&image).join("bin/su").is_file() && root(&image).join("long/long").is_dir());
        assert!(matches!(world.images.resolve(&path, &mut |_| ()), Err(Error::NotFound(_))));
        let by_id = world.images.resolve(&format!("{path}@{digest}"), &mut |_| ()).unwrap();
        assert_eq!(by_id, image);
    }
}

#[test]
fn an_unchanged_archive_is_not_read_again() {
    let (_, bytes) = docker_archive();
    let world = World::new();
    let path = write(&world.path("saved.tar"), &bytes);
    let reference = format!("{path}:1.0");
    let mut progress = Vec::new();
    let first = world.images.resolve(&reference, &mut |_| ()).unwrap();
    let second = world.images.resolve(&reference, &mut |p| progress.push(p)).unwrap();
    assert_eq!((first, progress), (second, vec![]));
    write(&world.path("saved.tar"), b"something else");
    assert!(world.images.resolve(&reference, &mut |_| ()).is_err());
}

#[test]
fn skopeo_and_umoci_make_images_that_unpack_alike_from_every_form() {
    let busybox = std::path::Path::new("/bin/busybox");
    if !has("skopeo") || !has("umoci") || !busybox.exists() {
        return;
    }
    let world = World::new();
    let busybox_root = world.path("root");
    fs::create_dir_all(busybox_root.join("bin")).unwrap();
    fs::copy(busybox, busybox_root.join("bin/busybox")).unwrap();
    let layout = world.path("layout").display().to_string();
    let image = format!("{layout}:busybox");
    run(Command::new("umoci").args(["init", "--layout", &layout]));
    run(Command::new("umoci").args(["new", "--image", &image]));
    run(Command::new("umoci").args(["insert", "--image", &image]).arg(&busybox_root).arg("/"));
    run(Command::new("umoci").args([
        "config",
        "--image",
        &image,
        "--config.env",
        "A=1",
        "--config.cmd",
        "/bin/sh",
    ]));
    let from_layout = world.images.resolve(&image, &mut |_| ()).unwrap();
    assert_eq!(from_layout.config.env["A"], "1");
    assert_eq!(fs::read(root(&from_layout).join("bin/busybox")).unwrap(), fs::read(busybox).unwrap());
    for kind in ["oci-archive", "docker-archive"] {
        let path = world.path(kind).display().to_string();
        let target = format!("{kind}:{path}:example.org/busybox:1");
        run(Command::new("skopeo").args(["--insecure-policy", "copy", &format!("oci:{image}"), &target]));
        let world = World::new();
        let mut progress = Vec::new();
        let image = world.images.resolve(&path, &mut |p: Progress| progress.push(p)).unwrap();
        assert!(unpackings(&progress) > 0);
        assert_eq!(image.config, from_layout.config, "{kind}");
        assert_eq!(tree(&root(&image)), tree(&root(&from_layout)), "{kind}");
    }
}

//! Images made to harm: nothing is written outside, nothing grows without end, nothing false is believed.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use image::{Digest, Error, Images, Limits};
use tar::EntryType;

use crate::world::{Layer, Layout, Tar, World, host_architecture, names, root, tree};

/// Everything in the world but the images folder and the layout.
fn outside(world: &World) -> Vec<(String, String)> {
    let all = tree(world.folder.path());
    all.into_iter().filter(|(name, _)| name.starts_with("outside")).collect()
}

/// Unpacks `layers` with a treasure outside, and makes sure that it is as before.
fn attack(name: &str, layers: &[Layer]) -> Result<(), Error> {
    let world = World::new();
    fs::create_dir_all(world.path("outside/folder")).unwrap();
    fs::write(world.path("outside/treasure"), "gold").unwrap();
    let before = outside(&world);
    let result = world.unpack(layers);
    assert_eq!(outside(&world), before, "{name}");
    assert_eq!(names(world.folder.path()), ["images", "layout", "outside"], "{name}");
    match result {
        Ok(image) => {
            assert!(!has_device(&root(&image)), "{name}");
            Ok(())
        }
        Err(error) => {
            assert!(world.layers_folder().is_empty(), "{name}: {error} left {:?}", world.layers_folder());
            Err(error)
        }
    }
}

fn has_device(path: &Path) -> bool {
    let file_type = path.symlink_metadata().unwrap().file_type();
    let inside = || fs::read_dir(path).unwrap().any(|entry| has_device(&entry.unwrap().path()));
    file_type.is_block_device() || file_type.is_char_device() || (file_type.is_dir() && inside())
}

const UP: &str = "../../../../outside";

#[test]
fn layers_that_reach_outside_are_refused() {
    let two = |below: Tar, above: Tar| vec![below.layer(), above.layer()];
    let cases: Vec<(&str, Vec<Layer>)> = vec![
        ("dot dot", vec![Tar::new().file("../../../outside/treasure", "lead").layer()]),
        ("dot dot inside", vec![Tar::new().file("a/../../../../outside/treasure", "lead").layer()]),
        ("dot dot that stays inside", vec![Tar::new().file("a/../b", "").layer()]),
        ("only dot dot", vec![Tar::new().folder("..").layer()]),
        ("absolute dot dot", vec![Tar::new().file("/../../outside/x", "").layer()]),
        ("link, then write", vec![Tar::new().symlink("out", UP).file("out/treasure", "lead").layer()]),
        ("link below, then write", two(Tar::new().symlink("out", UP), Tar::new().file("out/new", ""))),
        (
            "two links",
            vec![Tar::new().symlink("a", "..").symlink("b", "a/../../outside").file("b/x", "").layer()],
        ),
        ("link, then folder", vec![Tar::new().symlink("out", UP).folder("out/folder/").layer()]),
        ("link, then whiteout", two(Tar::new().symlink("out", UP), Tar::new().file("out/.wh.treasure", ""))),
        ("link, then opaque", two(Tar::new().symlink("a", UP), Tar::new().file("a/folder/.wh..wh..opq", ""))),
        ("hardlink out", vec![Tar::new().hardlink("x", "../../../outside/treasure").layer()]),
        ("hardlink over link", vec![Tar::new().symlink("out", UP).hardlink("x", "out/treasure").layer()]),
        ("hardlink to nothing", vec![Tar::new().hardlink("x", "nothing").layer()]),
        ("hardlink to absolute path", vec![Tar::new().hardlink("x", "/etc/passwd").layer()]),
        ("hardlink to folder", vec![Tar::new().folder("d").hardlink("x", "d").layer()]),
        ("hardlink to root", vec![Tar::new().hardlink("x", "/").layer()]),
        ("root as link", vec![Tar::new().symlink("./", UP).layer()]),
        ("root as file", vec![Tar::new().file("/", "x").layer()]),
        ("whiteout of dot dot", vec![Tar::new().file(".wh...", "").layer()]),
        ("whiteout of dot", vec![Tar::new().file("d/.wh..", "").layer()]),
        ("whiteout of nothing", vec![Tar::new().file(".wh.", "").layer()]),
        ("PAX path", vec![Tar::new().pax(&[("path", b"../../../outside/x")]).file("x", "").layer()]),
        (
            "PAX link path",
            vec![Tar::new().pax(&[("linkpath", b"../../../outside/treasure")]).hardlink("x", "y").layer()],
        ),
        ("PAX path with NUL", vec![Tar::new().pax(&[("path", b"a\0b")]).file("x", "").layer()]),
        ("link with NUL", vec![Tar::new().pax(&[("linkpath", b"a\0b")]).symlink("x", "y").layer()]),
        ("link loop", vec![Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", "").layer()]),
        ("file as folder", vec![Tar::new().file("a", "").file("a/x", "").layer()]),
        (
            "device as folder",
            vec![Tar::new().entry(EntryType::Fifo, b"a", b"", 0o666, 0, b"").file("a/x", "").layer()],
        ),
    ];
    for (name, layers) in cases {
        let error = attack(name, &layers).expect_err(name);
        assert!(matches!(error, Error::Unsafe { .. }), "{name}: {error:?}");
        let packed: Vec<_> = layers.into_iter().map(Layer::gzip).collect();
        assert!(attack(name, &packed).is_err(), "{name}, compressed");
    }
}

#[test]
fn odd_names_stay_inside_and_are_taken_as_they_are() {
    let treasure = "/outside/treasure";
    let cases: Vec<(&str, Tar, &str)> = vec![
        ("absolute", Tar::new().file(treasure, "x"), "outside/treasure"),
        ("double slash", Tar::new().file("//etc//passwd", "x"), "etc/passwd"),
        ("backslash", Tar::new().file("..\\..\\x", "x"), "..\\..\\x"),
        ("drive letter", Tar::new().file("C:/x", "x"), "C:/x"),
        ("three dots", Tar::new().file(".../x", "x"), ".../x"),
        ("absolute link, then write", Tar::new().symlink("l", "/etc").file("l/x", "x"), "etc/x"),
        ("link to outside, replaced", Tar::new().symlink("l", UP).file("l", "x"), "l"),
        (
            "link to treasure, replaced",
            Tar::new().symlink("l", "../../../outside/treasure").file("l", "x"),
            "l",
        ),
        ("folder over link", Tar::new().symlink("l", UP).folder("l/").file("l/x", "x"), "l/x"),
        ("hardlink to a link", Tar::new().symlink("l", UP).hardlink("m", "l").file("m", "x"), "m"),
        ("hardlink to itself", Tar::new().file("x", "x").hardlink("x", "x"), "x"),
        ("duplicate", Tar::new().file("x", "old").file("x", "x"), "x"),
        ("device", Tar::new().entry(EntryType::Char, b"d", b"", 0o666, 0, b"").file("x", "x"), "x"),
        ("link with content", Tar::new().file("x", "x").symlink("s", "x"), "x"),
    ];
    for (name, tar, expect) in cases {
        let world = World::new();
        let image = world.unpack(&[tar.layer()]).unwrap_or_else(|error| panic!("{name}: {error}"));
        let all = root(&image);
        let path = all.join(expect);
        assert!(path.symlink_metadata().unwrap().is_file(), "{name}");
        assert_eq!(fs::read_to_string(path).unwrap(), "x", "{name}");
        assert!(outside(&world).is_empty(), "{name}");
        assert!(!has_device(&root(&image)), "{name}");
    }
}

/// Small numbers from a fixed beginning (xorshift), so that a failure comes again.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn layer(&mut self) -> Layer {
        const NAMES: [&str; 14] = [
            "a",
            "b",
            "a/b",
            "a/b/c",
            "b/a",
            "./",
            "a/.wh.b",
            ".wh.a",
            ".wh.b",
            ".wh..wh..opq",
            "a/.wh..wh..opq",
            "../b",
            "c/a",
            "c",
        ];
        const TARGETS: [&str; 9] = ["a", "b", "..", ".", "/", UP, "/a", "a/b", "../../.."];
        (0..8)
            .fold(Tar::new(), |tar, _| {
                let (name, target) = (NAMES[self.below(NAMES.len())], TARGETS[self.below(TARGETS.len())]);
                match self.below(5) {
                    0 => tar.folder(name),
                    1 => tar.symlink(name, target),
                    2 => tar.hardlink(name, target),
                    _ => tar.file(name, "lead"),
                }
            })
            .layer()
    }
}

#[test]
fn no_chance_mixture_of_links_files_and_whiteouts_reaches_outside() {
    let mut chance = Chance(0x5eed_cafe);
    let outcomes: Vec<bool> = (0..400)
        .map(|round| {
            let layers = [chance.layer(), chance.layer()];
            match attack(&format!("round {round}"), &layers) {
                Ok(()) => true,
                Err(Error::Unsafe { .. }) => false,
                Err(error) => panic!("round {round}: {error:?}"),
            }
        })
        .collect();
    assert!(outcomes.contains(&true) && outcomes.contains(&false));
}

#[test]
fn names_that_are_no_text_are_kept() {
    use std::os::unix::ffi::OsStrExt as _;
    let name = b"\xff\xfe\xc0\xaf";
    let tar = Tar::new().entry(EntryType::Regular, name, b"", 0o644, 0, b"");
    let world = World::new();
    let image = world.unpack(&[tar.layer()]).unwrap();
    assert!(root(&image).join(std::ffi::OsStr::from_bytes(name)).is_file());
}

fn limited(limits: Limits, layers: &[Layer]) -> Error {
    let world = World::new();
    let mut layout = world.layout();
    layout.image("latest", layers);
    let images: Images = world.images.clone().with_limits(limits);
    let error = layout.resolve(&images, "").unwrap_err();
    assert!(world.layers_folder().is_empty(), "{error} left {:?}", world.layers_folder());
    error
}

// EN-016
#[test]
fn every_limit_has_a_name_and_holds() {
    assert_eq!(Limits::default().unpacked_bytes, 100_000_000_000);
    let deep = || Tar::new().file(&("d/".repeat(20) + "x"), "").layer();
    let zeros = "\0".repeat(40 << 20);
    let links =
        Tar::new().folder(&"d/".repeat(9)).symlink("l", &"d/".repeat(9)).file("l/e/f/g/h/x", "").layer();
    let defaults = Limits::default;
    let cases: Vec<(&str, Limits, Vec<Layer>)> = vec![
        (
            "entries",
            Limits { entries: 2, ..defaults() },
            vec![Tar::new().file("a", "").file("b", "").layer(), Tar::new().file("c", "").layer()],
        ),
        ("entries", Limits { entries: 20, ..defaults() }, vec![deep()]),
        (
            "unpacked_bytes",
            Limits { unpacked_bytes: 5, ..defaults() },
            vec![Tar::new().file("a", "abc").layer(), Tar::new().file("b", "abc").layer()],
        ),
        ("compression_ratio", defaults(), vec![Tar::new().file("bomb", &zeros).layer().gzip()]),
        ("compression_ratio", defaults(), vec![Tar::new().file("bomb", &zeros).layer().zstd()]),
        ("document_bytes", Limits { document_bytes: 300, ..defaults() }, vec![Tar::new().layer()]),
        ("layers", Limits { layers: 1, ..defaults() }, vec![Tar::new().layer(), Tar::new().layer()]),
        ("depth", Limits { depth: 10, ..defaults() }, vec![deep()]),
        ("depth", Limits { depth: 10, ..defaults() }, vec![links]),
        (
            "entry_metadata_bytes",
            Limits { entry_metadata_bytes: 64, ..defaults() },
            vec![Tar::new().file(&"long/".repeat(30), "").layer()],
        ),
    ];
    for (name, limits, layers) in cases {
        let error = limited(limits, &layers);
        assert!(matches!(&error, Error::Limit { name: found, .. } if *found == name), "{name}: {error:?}");
    }
}

#[test]
fn content_that_is_not_what_its_name_says_is_never_used() {
    let layer = || Tar::new().file("a", "content").layer().gzip();
    let other = Tar::new().file("a", "another").layer();
    let forge = |change: &dyn Fn(&World, &mut Layout)| {
        let world = World::new();
        let mut layout = world.layout();
        change(&world, &mut layout);
        let error = layout.resolve(&world.images, "").unwrap_err();
        assert!(world.layers_folder().is_empty());
        error
    };
    let blob_changed = forge(&|_, layout| {
        layout.image("latest", &[layer()]);
        fs::write(layout.blob_path(&Digest::of(&layer().bytes)), &other.bytes).unwrap();
    });
    let same_size = forge(&|_, layout| {
        layout.image("latest", &[layer()]);
        let mut bytes = layer().bytes;
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(layout.blob_path(&Digest::of(&layer().bytes)), bytes).unwrap();
    });
    let diff_id = forge(&|_, layout| {
        layout.image("latest", &[Layer { diff_id: Digest::of(b"something else"), ..layer() }]);
    });
    let manifest_changed = forge(&|_, layout| {
        let digest = layout.image("latest", &[layer()]);
        let text = fs::read_to_string(layout.blob_path(&digest)).unwrap();
        fs::write(layout.blob_path(&digest), text.replacen("gzip", "zstd", 1)).unwrap();
    });
    let config_changed = forge(&|_, layout| {
        let config = layout.config(host_architecture(), &[layer()]);
        let digest: Digest = config["digest"].as_str().unwrap().parse().unwrap();
        let manifest = layout.manifest(config, &[layer()]);
        layout.list("latest", manifest);
        let text = fs::read_to_string(layout.blob_path(&digest)).unwrap();
        fs::write(layout.blob_path(&digest), text.replace("builder", "someone")).unwrap();
    });
    for error in [blob_changed, same_size, diff_id, manifest_changed, config_changed] {
        assert!(matches!(error, Error::Mismatch { .. }), "{error:?}");
    }
}

#[test]
fn bytes_behind_the_archive_count_for_the_diff_id() {
    let mut layer = Tar::new().file("a", "").layer();
    layer.bytes.extend([b'x'; 5000]);
    let error = World::new().unpack(&[layer.clone()]).unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error:?}");
    World::new().unpack(&[Layer::plain(layer.bytes)]).unwrap();
}

#[test]
fn a_layout_of_pipes_and_links_does_not_hang_or_leak() {
    let world = World::new();
    let mut layout = world.layout();
    let digest = layout.image("latest", &[Tar::new().layer()]);
    let path = layout.blob_path(&digest);
    fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    let error = layout.resolve(&world.images, "").unwrap_err();
    assert!(matches!(error, Error::Malformed { .. }), "{error:?}");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    let error = layout.resolve(&world.images, "").unwrap_err().to_string();
    assert!(!error.contains("root:"), "{error}");
}

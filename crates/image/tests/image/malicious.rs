//! Every pattern of a malicious archive in every container that images come in: the same end in each of them, nothing outside
//! of the image, no device, and no more memory and time than an honest image takes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use image::{Digest, Error, Images, Limits};
use serde_json::json;
use tar::EntryType;

use crate::world::{Layer, Layout, Tar, World, again, gzip, host_architecture, root, run, tree};

const UP: &str = "../../../../outside";
/// Where the measured process finds its archive; that it is set makes the test play that process.
const ARCHIVE: &str = "IMAGE_TEST_ARCHIVE";

/// What becomes of an image with the pattern in it.
enum End {
    Refused,
    /// It has these paths, but for folders that only hold others.
    Has(&'static [&'static str]),
}

use End::{Has, Refused};

fn raw(tar: Tar, name: &[u8], content: &[u8]) -> Tar {
    tar.entry(EntryType::Regular, name, b"", 0o644, 0, content)
}

/// An archive whose next header a reader that ignores the PAX size finds inside the content.
fn smuggled() -> Tar {
    let hidden = Tar::new().file("hidden", "").bytes();
    let mut tar = raw(Tar::new().pax(&[("size", hidden.len().to_string().as_bytes())]), b"a", b"");
    tar = tar.append(&hidden);
    tar.file("z", "")
}

fn many(count: usize) -> Tar {
    (0..count).fold(Tar::new(), |tar, number| tar.file(&format!("f{number}"), ""))
}

fn patterns() -> Vec<(&'static str, Tar, End)> {
    let tar = Tar::new;
    let overlong = b"\xc0\xae\xc0\xae/x";
    let long = "../".repeat(40) + "outside/x";
    vec![
        ("absolute", tar().file("/outside/x", "x"), Has(&["outside/x"])),
        ("double slash", tar().file("//outside//x", "x"), Has(&["outside/x"])),
        ("dot dot", tar().file("../../../outside/treasure", "lead"), Refused),
        ("dot dot inside", tar().file("a/../../../../outside/treasure", "lead"), Refused),
        ("backslash", tar().file("..\\..\\x", "x"), Has(&["..\\..\\x"])),
        ("drive letter", tar().file("C:\\x", "x"), Has(&["C:\\x"])),
        ("NUL", tar().pax(&[("path", b"a\0/../../x")]).file("x", "x"), Refused),
        ("overlong UTF-8", raw(tar(), overlong, b"x"), Has(&["\u{fffd}\u{fffd}\u{fffd}\u{fffd}/x"])),
        (
            "composed and decomposed",
            tar().file("\u{e4}", "x").file("a\u{308}", "y"),
            Has(&["a\u{308}", "\u{e4}"]),
        ),
        ("upper and lower case", tar().file("x", "x").file("X", "y"), Has(&["X", "x"])),
        (
            "link to a file, then it",
            tar().symlink("l", "../../../outside/treasure").file("l", "x"),
            Has(&["l"]),
        ),
        ("link to a folder, then in it", tar().symlink("l", UP).file("l/treasure", "lead"), Refused),
        (
            "two links",
            tar().symlink("a", "..").symlink("b", "a/../../../../outside").file("b/x", ""),
            Refused,
        ),
        (
            "link to a folder, then the folder's mode",
            tar().symlink("l", &format!("{UP}/folder")).entry(
                EntryType::Directory,
                b"l/",
                b"",
                0o777,
                7,
                b"",
            ),
            Has(&["l"]),
        ),
        ("hardlink out", tar().hardlink("x", "../../../outside/treasure"), Refused),
        (
            "hardlink to a link, then it",
            tar().symlink("l", "../../../outside/treasure").hardlink("m", "l").file("m", "x"),
            Has(&["l", "m"]),
        ),
        ("PAX path", tar().pax(&[("path", b"../../../outside/x")]).file("x", "x"), Refused),
        (
            "PAX linkpath",
            tar().file("y", "").pax(&[("linkpath", b"../../../outside/treasure")]).hardlink("x", "y"),
            Refused,
        ),
        ("PAX size", smuggled(), Has(&["a", "z"])),
        (
            "GNU long name against PAX path",
            tar()
                .entry(EntryType::GNULongName, b"././@LongLink", b"", 0, 0, long.as_bytes())
                .pax(&[("path", b"safe")])
                .file("x", "x"),
            Has(&["safe"]),
        ),
        ("GNU long name", tar().file(&long, "x"), Refused),
        ("duplicates", tar().file("x", "old").folder("x/").file("x/y", "").symlink("x", UP), Has(&["x"])),
        ("whiteout of dot dot", tar().file("d/.wh...", ""), Refused),
        ("sparse", tar().entry(EntryType::GNUSparse, b"x", b"", 0o644, 0, b"x"), Refused),
        (
            "devices and pipes",
            tar()
                .entry(EntryType::Char, b"null", b"", 0o666, 0, b"")
                .entry(EntryType::Block, b"disk", b"", 0o666, 0, b"")
                .entry(EntryType::Fifo, b"pipe", b"", 0o666, 0, b""),
            Has(&["pipe"]),
        ),
        ("setuid", tar().entry(EntryType::Regular, b"su", b"", 0o6755, 0, b"x"), Has(&["su"])),
        ("too many entries", many(2001), Refused),
        ("bomb", raw(tar(), b"zeros", &[0; 3 << 20]), Refused),
    ]
}

/// The image of one layer in each container, as a reference to it.
fn containers(world: &World, layer: &Layer) -> Vec<(&'static str, String)> {
    let packed =
        [("layer", layer.clone()), ("layer.gz", layer.clone().gzip()), ("layer.zst", layer.clone().zstd())];
    let mut references = Vec::new();
    for (name, layer) in packed {
        let mut layout = Layout::create(&world.path(name));
        layout.image("latest", &[layer]);
        references.push((name, layout.reference()));
    }
    let archive = Layout::create(&world.path("layer")).archive();
    let saved = saved(layer);
    let files = [
        ("oci.tar", archive.clone()),
        ("oci.tar.gz", gzip(&archive)),
        ("oci.tar.zst", zstd::encode_all(archive.as_slice(), 3).unwrap()),
        ("docker.tar", saved.clone()),
        ("docker.tar.gz", gzip(&saved)),
    ];
    for (name, bytes) in files {
        references.push((name, crate::world::write(&world.path(name), &bytes)));
    }
    references
}

/// What `docker save` makes of it.
fn saved(layer: &Layer) -> Vec<u8> {
    let config = json!({
        "os": "linux", "architecture": host_architecture(),
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id.to_string()]}, "config": {},
    });
    let config = config.to_string();
    let name = format!("{}.json", Digest::of(config.as_bytes()).hex());
    let manifest = json!([{"Config": name, "RepoTags": ["x:1"], "Layers": ["a/layer.tar"]}]);
    let tar = raw(Tar::new().folder("a/"), b"a/layer.tar", &layer.bytes);
    let tar = raw(tar, name.as_bytes(), config.as_bytes());
    raw(tar, b"manifest.json", manifest.to_string().as_bytes()).bytes()
}

/// All paths but those of folders that hold others; and no device among them.
fn leaves(root: &Path, name: &str) -> BTreeSet<String> {
    let all = tree(root);
    assert!(!all.values().any(|described| described.ends_with("device")), "{name}: {all:?}");
    let holds = |path: &String| all.keys().any(|other| other.starts_with(&format!("{path}/")));
    all.keys().filter(|path| !path.is_empty() && !holds(path)).cloned().collect()
}

#[test]
fn a_malicious_pattern_ends_alike_in_every_container_and_inside() {
    for (name, tar, end) in patterns() {
        let layer = tar.layer();
        let world = World::in_memory();
        fs::create_dir_all(world.path("outside/folder")).unwrap();
        fs::write(world.path("outside/treasure"), "gold").unwrap();
        let before = tree(&world.path("outside"));
        let limits = Limits { entries: 2000, unpacked_bytes: 2 << 20, ..Limits::default() };
        for (container, reference) in containers(&world, &layer) {
            let name = format!("{name} in {container}");
            let images = Images::open(&world.path("images")).unwrap().with_limits(limits.clone());
            match (images.resolve(&reference, &mut |_| ()), &end) {
                (Ok(image), Has(paths)) => {
                    let expect: BTreeSet<_> = paths.iter().map(|path| path.to_string()).collect();
                    assert_eq!(leaves(&root(&image), &name), expect, "{name}");
                    images.remove(&image.digest).unwrap();
                }
                (Err(Error::Unsafe { .. } | Error::Malformed { .. } | Error::Limit { .. }), Refused) => {}
                (result, _) => panic!("{name}: {result:?}"),
            }
            assert!(world.layers_folder().is_empty(), "{name} left {:?}", world.layers_folder());
        }
        assert_eq!(tree(&world.path("outside")), before, "{name}");
    }
}

/// Where the pattern is no attack on names alone, GNU tar reads the same entries from it.
#[test]
fn gnu_tar_finds_the_entries_that_are_unpacked() {
    for (name, tar, end) in patterns() {
        let Has(paths) = end else { continue };
        let world = World::new();
        let path = crate::world::write(&world.path("layer.tar"), &tar.bytes());
        let listing = Command::new("tar")
            .args(["--list", "--quoting-style=literal", "--file", &path])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&listing.stdout).into_owned();
        let listed: BTreeSet<String> = text.lines().map(normal).collect();
        for path in paths {
            let known = listed.iter().any(|entry| entry == path || path.starts_with(&format!("{entry}/")));
            assert!(
                known,
                "{name}: {path} is not in {listed:?}: {}",
                String::from_utf8_lossy(&listing.stderr)
            );
        }
        assert!(!listed.contains("hidden"), "{name}");
    }
}

fn normal(name: &str) -> String {
    name.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

/// Unpacks in a process of its own, and gives its most memory at once and its processor time: (KiB, hundredths of a second).
fn measured(world: &World, archive: &str) -> (u64, u64) {
    let mut command = again("malicious::honest_limits_bound_memory_and_time");
    command.env(ARCHIVE, archive).env("TMPDIR", world.folder.path());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{archive}: {text}{}", String::from_utf8_lossy(&output.stderr));
    let figures = text.split("used ").nth(1).unwrap().split(';').next().unwrap().to_owned();
    let (memory, time) = figures.split_once(' ').unwrap();
    (memory.parse().unwrap(), time.parse().unwrap())
}

fn unpack_and_say(archive: &str) {
    let world = World::new();
    let result = world.images.resolve(archive, &mut |_| ());
    let expected = matches!(result, Ok(_) | Err(Error::Limit { .. } | Error::Malformed { .. }));
    assert!(expected, "{result:?}");
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let times: Vec<u64> =
        stat.rsplit(')').next().unwrap().split(' ').skip(12).take(2).map(|t| t.parse().unwrap()).collect();
    println!("used {} {};", most.trim().trim_end_matches(" kB"), times.iter().sum::<u64>());
}

/// An image whose only layer is this, as an OCI archive that is written piece by piece.
fn archive_of(world: &World, layer: &Layer) -> String {
    let mut layout = world.layout();
    layout.image("latest", std::slice::from_ref(layer));
    let path = world.path("image.tar");
    run(Command::new("tar").arg("--create").arg("--file").arg(&path).arg("-C").arg(&layout.folder).arg("."));
    path.display().to_string()
}

#[test]
fn honest_limits_bound_memory_and_time() {
    if let Ok(archive) = std::env::var(ARCHIVE) {
        return unpack_and_say(&archive);
    }
    let zeros = || raw(Tar::new(), b"zeros", &vec![0; 48 << 20]).layer();
    let wide = zstd::stream::Encoder::new(Vec::new(), 1).and_then(|mut encoder| {
        encoder.window_log(30)?;
        let noise: Vec<u8> = (0..8_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        encoder.write_all(&noise)?;
        encoder.finish()
    });
    let wide = Layer { bytes: wide.unwrap(), suffix: "+zstd", ..Layer::plain(Vec::new()) };
    let long = format!("{}x", "long/".repeat(190));
    let names = (0..200).fold(Tar::new(), |tar, n| tar.file(&format!("{n}{long}"), ""));
    let layers = [
        ("65,537 entries", many(65_537).layer().gzip()),
        ("long names", names.layer().gzip()),
        ("a bomb of gzip", zeros().gzip()),
        ("a bomb of zstd", zeros().zstd()),
        ("a window of zstd", wide),
    ];
    for (name, layer) in layers {
        let world = World::new();
        let archive = archive_of(&world, &layer);
        check(name, measured(&world, &archive));
    }
    // Entries of the archive itself, which is indexed as a whole.
    let world = World::new();
    let path = world.path("many.tar");
    write_endless(&path, 400_000);
    check("an index", measured(&world, &path.display().to_string()));
}

fn check(name: &str, (kibibytes, hundredths): (u64, u64)) {
    assert!(kibibytes <= 64 << 10, "{name}: {kibibytes} KiB");
    // In a build that is not optimised; the time of a processor, as others may be busy on this host.
    assert!(hundredths <= 1500, "{name}: {hundredths} hundredths of a second");
}

/// An archive of that many names, which is no image.
fn write_endless(path: &Path, count: usize) {
    let mut file = std::io::BufWriter::new(File::create(path).unwrap());
    for number in 0..count {
        let entry = Tar::new().file(&format!("a-name-that-is-somewhat-long-{number:0>60}"), "").unended();
        file.write_all(&entry).unwrap();
    }
    file.write_all(&[0; 1024]).unwrap();
}

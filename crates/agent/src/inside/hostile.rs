//! A hundred trees that a build may leave to be collected (T16): each is collected or refused in bounded time, and nothing comes that lies
//! outside. A naive collector, which walks and opens what it finds, is let loose on each first, and must fall for those that are meant for it:
//! else the tree shows nothing.
//!
//! Bind mounts are not among them: builds cannot make any (`container`'s own tests).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, OFlags, XattrFlags, mkdirat, mknodat, openat};

use super::*;
use crate::stream::{Decoder, Item};

const SECRET: &str = "what lies outside";
/// For one tree, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where a reader that does not know when to stop is stopped.
const ENDLESS_BYTES: u64 = 64 << 20;
/// One of a million files, as many as are made here.
const MANY: usize = 10_000;

/// What becomes of who opens all that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Naive {
    /// It brings what lies outside.
    Leaks,
    /// It waits for ever, or reads without end.
    Hangs,
    /// Nothing, but the tree is not everyday.
    Fine,
}

/// Makes a tree in the first folder; the second is outside and holds `secret`, and `deep/secret`.
type Make = Box<dyn Fn(&Path, &Path)>;

struct Tree {
    name: String,
    naive: Naive,
    make: Make,
}

fn tree(name: impl Into<String>, naive: Naive, make: impl Fn(&Path, &Path) + 'static) -> Tree {
    Tree { name: name.into(), naive, make: Box::new(make) }
}

fn trees() -> Vec<Tree> {
    let all: Vec<Tree> = [links(), processes(), specials(), names(), sizes(), attributes(), restless()]
        .into_iter()
        .flatten()
        .collect();
    assert!(all.len() >= 100, "{}", all.len());
    all
}

/// Links that lead out, by as many ways as there are.
fn links() -> Vec<Tree> {
    use Naive::{Fine, Leaks};
    let mut all = vec![
        tree("an absolute link", Leaks, |root, out| symlink(out.join("secret"), root.join("a")).unwrap()),
        tree("a link to the folder outside", Leaks, |root, out| symlink(out, root.join("d")).unwrap()),
        tree("a link to itself", Fine, |root, _| symlink("a", root.join("a")).unwrap()),
        tree("two links to each other", Fine, |root, _| {
            symlink("b", root.join("a")).unwrap();
            symlink("a", root.join("b")).unwrap();
        }),
        tree("a link to nowhere", Fine, |root, _| symlink("/nowhere/at/all", root.join("a")).unwrap()),
        tree("a link to the root of all", Fine, |root, _| symlink("/", root.join("a")).unwrap()),
        tree("a link with a long target", Fine, |root, _| {
            symlink("x/".repeat(2_000), root.join("a")).unwrap()
        }),
        tree("a link named with a newline", Leaks, |root, out| {
            symlink(out.join("secret"), root.join("a\nb")).unwrap()
        }),
        tree("a folder of links", Leaks, |root, out| {
            (0..100).for_each(|n| symlink(out.join("secret"), root.join(format!("l{n}"))).unwrap());
        }),
    ];
    // Through as many folders and links as this.
    for depth in [1, 2, 3, 8, 16] {
        all.push(tree(format!("a relative link from {depth} below"), Leaks, move |root, out| {
            let folder = root.join(vec!["d"; depth].join("/"));
            fs::create_dir_all(&folder).unwrap();
            let up = "../".repeat(depth + 1);
            symlink(format!("{up}{}/secret", out.file_name().unwrap().display()), folder.join("a")).unwrap();
        }));
        all.push(tree(format!("a chain of {depth} links"), Leaks, move |root, out| {
            symlink(out.join("secret"), root.join("l0")).unwrap();
            (0..depth).for_each(|n| symlink(format!("l{n}"), root.join(format!("l{}", n + 1))).unwrap());
        }));
        all.push(tree(format!("a chain of {depth} links to folders"), Leaks, move |root, out| {
            symlink(out, root.join("l0")).unwrap();
            (0..depth).for_each(|n| symlink(format!("l{n}"), root.join(format!("l{}", n + 1))).unwrap());
        }));
        all.push(tree(format!("a way out and in again, {depth} times"), Leaks, move |root, out| {
            let (own, there) = (root.file_name().unwrap(), out.file_name().unwrap());
            let round = format!("../{}/", own.display()).repeat(depth);
            symlink(format!("{round}../{}/deep/secret", there.display()), root.join("a")).unwrap();
        }));
    }
    all
}

/// Links of /proc, which lead where no path says.
fn processes() -> Vec<Tree> {
    let to = |target: String| {
        tree(format!("a link to {target}"), Naive::Fine, move |root, _| {
            symlink(&target, root.join("a")).unwrap()
        })
    };
    let own = [
        "exe", "environ", "maps", "status", "mounts", "cwd", "root", "fd", "fd/0", "task", "net/tcp", "auxv",
    ];
    let mut all: Vec<Tree> = own.iter().map(|name| to(format!("/proc/self/{name}"))).collect();
    all.extend(
        ["/proc/1/environ", "/proc/kmsg", "/proc/kcore", "/sys/kernel", "/dev/stdin"]
            .map(|path| to(path.into())),
    );
    all.push(tree("a link through /proc/self/root", Naive::Leaks, |root, out| {
        symlink(format!("/proc/self/root{}/secret", out.display()), root.join("a")).unwrap();
    }));
    all.push(tree("a link through a process's folder", Naive::Leaks, |root, out| {
        let pid = std::process::id();
        symlink(format!("/proc/{pid}/root{}", out.display()), root.join("a")).unwrap();
    }));
    all
}

/// What is neither file nor folder.
fn specials() -> Vec<Tree> {
    use Naive::{Fine, Hangs};
    let fifo = |path: PathBuf| mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    // Not everybody makes devices that open; there is then a link to one.
    let device = |path: PathBuf, name: &str, minor: u32| {
        let number = rustix::fs::makedev(1, minor);
        let made = mknodat(CWD, &path, FileType::CharacterDevice, Mode::RUSR, number);
        if made.is_err() || File::open(&path).is_err() {
            let _ = fs::remove_file(&path);
            symlink(format!("/dev/{name}"), path).unwrap();
        }
    };
    let mut all = vec![
        tree("a FIFO", Hangs, move |root, _| fifo(root.join("a"))),
        tree("a FIFO deep down", Hangs, move |root, _| {
            fs::create_dir_all(root.join("b/c")).unwrap();
            fifo(root.join("b/c/a"));
        }),
        tree("a hundred FIFOs", Hangs, move |root, _| {
            (0..100).for_each(|n| fifo(root.join(format!("f{n}"))))
        }),
        tree("a link to a FIFO", Hangs, move |root, _| {
            fifo(root.join("z"));
            symlink("z", root.join("a")).unwrap();
        }),
        tree("a FIFO outside", Hangs, move |root, out| {
            fifo(out.join("fifo"));
            symlink(out.join("fifo"), root.join("a")).unwrap();
        }),
        tree("a socket", Fine, |root, _| drop(UnixListener::bind(root.join("a")).unwrap())),
        tree("a link to a socket", Fine, |root, _| {
            drop(UnixListener::bind(root.join("s")).unwrap());
            symlink("s", root.join("a")).unwrap();
        }),
        tree("a link to /dev/zero", Hangs, |root, _| symlink("/dev/zero", root.join("a")).unwrap()),
        tree("a link to /dev/urandom", Hangs, |root, _| symlink("/dev/urandom", root.join("a")).unwrap()),
    ];
    for (name, minor, naive) in
        [("null", 3, Fine), ("zero", 5, Hangs), ("full", 7, Hangs), ("urandom", 9, Hangs)]
    {
        all.push(tree(format!("the device {name}"), naive, move |root, _| {
            device(root.join("a"), name, minor)
        }));
    }
    all
}

/// Names that somebody may read differently.
fn names() -> Vec<Tree> {
    let long = "n".repeat(255);
    let odd: [&[u8]; 27] = [
        b"a\nb",
        b"\n",
        b"a\rb",
        b"a\tb",
        b"\x1b[2J",
        b"\x7f",
        b"-rf",
        b"--",
        b"...",
        b" ",
        b"a ",
        b"a\\b",
        b"..\\..\\a",
        b"C:\\a",
        b"%2e%2e%2fa",
        b"~",
        b"$HOME",
        b"`id`",
        b"'a\"",
        b"CON",
        b".git",
        "\u{202e}a".as_bytes(),
        "e\u{301}".as_bytes(),
        "é".as_bytes(),
        "🦀".as_bytes(),
        b"\xff\xfe",
        long.as_bytes(),
    ];
    odd.iter()
        .map(|name| {
            let name = OsString::from_vec(name.to_vec());
            tree(format!("a file named {name:?}"), Naive::Fine, move |root, _| {
                fs::write(root.join(&name), "own").unwrap()
            })
        })
        .collect()
}

/// Much of something.
fn sizes() -> Vec<Tree> {
    use Naive::{Fine, Hangs};
    vec![
        tree("a sparse file as large as there can be", Hangs, |root, _| {
            let file = File::create(root.join("a")).unwrap();
            let largest = (40..63).rev().find(|bits| file.set_len((1_u64 << bits) - 1).is_ok());
            largest.expect("a terabyte of nothing");
        }),
        tree("many sparse files", Hangs, |root, _| {
            for n in 0..100 {
                File::create(root.join(format!("s{n}"))).unwrap().set_len(1 << 40).unwrap();
            }
        }),
        tree("folders ten thousand deep", Fine, |root, _| descend(root, "d", 10_000)),
        tree("folders whose path is too long for any call", Fine, |root, _| {
            descend(root, &"d".repeat(200), 200)
        }),
        tree("many files in one folder", Fine, |root, _| {
            (0..MANY).for_each(|n| drop(File::create(root.join(format!("f{n}"))).unwrap()));
        }),
        tree("many folders", Fine, |root, _| {
            (0..MANY / 10).for_each(|n| fs::create_dir_all(root.join(format!("a{n}/b/c"))).unwrap());
        }),
        tree("one file under many names", Fine, |root, _| {
            fs::write(root.join("a"), "own").unwrap();
            (0..MANY / 10).for_each(|n| fs::hard_link(root.join("a"), root.join(format!("h{n}"))).unwrap());
        }),
        tree("nothing", Fine, |_, _| {}),
    ]
}

/// Made by handles: no call takes such a path.
fn descend(root: &Path, name: &str, depth: usize) {
    let mut at = openat(CWD, root, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&at, name, Mode::RWXU).unwrap();
        at = openat(&at, name, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty()).unwrap();
    }
    drop(openat(&at, "bottom", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap());
}

/// What overlay, access lists and bits say, which is no content.
fn attributes() -> Vec<Tree> {
    use Naive::Fine;
    let with = |name: &'static str, value: &'static [u8]| {
        tree(format!("the attribute {name}"), Fine, move |root, _| {
            fs::create_dir(root.join("d")).unwrap();
            fs::write(root.join("d/a"), "own").unwrap();
            // Not every file system and user has each; then it is a plain tree.
            for path in [root.join("d"), root.join("d/a")] {
                let _ = rustix::fs::setxattr(path, name, value, XattrFlags::empty());
            }
        })
    };
    let mut all = vec![
        with("user.overlay.opaque", b"y"),
        with("user.overlay.redirect", b"/../../outside"),
        with("trusted.overlay.redirect", b"/../../outside"),
        with("user.overlay.metacopy", b""),
        with("user.buildyard", b"{}"),
        with("security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        with("system.posix_acl_access", &[2, 0, 0, 0]),
    ];
    for mode in [0o000, 0o1777, 0o2755, 0o4755, 0o6777] {
        all.push(tree(format!("the mode {mode:o}"), Fine, move |root, _| {
            fs::write(root.join("a"), "own").unwrap();
            fs::set_permissions(root.join("a"), fs::Permissions::from_mode(mode)).unwrap();
        }));
    }
    all
}

/// Trees that change while they are read.
fn restless() -> Vec<Tree> {
    let busy = |name: &str, change: fn(&Path, usize)| {
        tree(name, Naive::Fine, move |root, _| {
            (0..50).for_each(|n| fs::write(root.join(format!("f{n}")), vec![b'o'; 100_000]).unwrap());
            let root = root.to_owned();
            // Until the tree is removed, and in any case not for ever.
            thread::spawn(move || {
                let until = Instant::now() + PATIENCE;
                (0..)
                    .take_while(|_| Instant::now() < until && root.exists())
                    .for_each(|n| change(&root.join(format!("f{}", n % 50)), n));
            });
        })
    };
    vec![
        busy("growing files", |file, _| {
            if fs::metadata(file).is_ok_and(|metadata| metadata.len() < 1_000_000) {
                let file = OpenOptions::new().append(true).open(file);
                let _ = file.and_then(|mut file| file.write_all(&[b'o'; 4096]));
            }
        }),
        busy("shrinking files", |file, n| {
            let _ = OpenOptions::new()
                .write(true)
                .open(file)
                .and_then(|file| file.set_len((n % 3 * 50_000) as u64));
        }),
        busy("files that come and go", |file, _| {
            let _ = fs::remove_file(file);
            let _ = fs::write(file, "own");
        }),
        busy("files that become folders", |file, _| {
            let _ = fs::remove_file(file).and_then(|()| fs::create_dir(file));
            let _ = fs::remove_dir(file).and_then(|()| fs::write(file, "own"));
        }),
        busy("files that become FIFOs", |file, _| {
            let _ = fs::remove_file(file);
            let _ = mknodat(CWD, file, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0);
            let _ = fs::remove_file(file).and_then(|()| fs::write(file, "own"));
        }),
    ]
}

/// What somebody found in a tree.
#[derive(Debug, Default)]
struct Seen {
    bytes: u64,
    leaked: bool,
    names: Vec<String>,
    failed: Option<String>,
}

impl Seen {
    fn take(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.leaked |= String::from_utf8_lossy(bytes).contains(SECRET);
    }
}

/// Follows what there is and reads it to its end.
fn naive(folder: &Path, depth: usize, seen: &mut Seen) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten().filter(|_| depth < 20) {
        let path = entry.path();
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() && !path.starts_with("/proc") && !is_kernels(&path) => {
                naive(&path, depth + 1, seen)
            }
            Ok(metadata) if !metadata.is_dir() => {
                let Ok(file) = File::open(&path) else { continue };
                let mut buffer = vec![0; CHUNK];
                let mut file = file.take(ENDLESS_BYTES + 1 - seen.bytes.min(ENDLESS_BYTES));
                while let Ok(length @ 1..) = file.read(&mut buffer) {
                    seen.take(&buffer[..length]);
                }
            }
            _ => {}
        }
    }
}

/// What would take the naive one a day says nothing.
fn is_kernels(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|path| {
        path == Path::new("/")
            || path.starts_with("/proc")
            || path.starts_with("/sys")
            || path.starts_with("/dev")
    })
}

/// The agent's own.
fn ours(root: &Path, keep_symlinks: bool) -> Seen {
    let args = Collect {
        root: root.to_owned(),
        base_directory: ".".into(),
        files: vec!["**/*".into()],
        exclude_paths: Vec::new(),
        discard_paths: false,
        keep_symlinks,
        named: false,
    };
    let mut taken = Taken::default();
    taken.seen.failed = collect(&args, &mut taken).err();
    taken.seen
}

/// The agent's end of the stream.
#[derive(Default)]
struct Taken {
    decoder: Decoder,
    seen: Seen,
}

impl Write for Taken {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let seen = &mut self.seen;
        self.decoder.feed(bytes, &mut |item| {
            match item {
                Item::Data(bytes) => seen.take(bytes),
                Item::Record(Record::File { path, .. } | Record::Link { path, .. }) => seen.names.push(path),
                Item::Record(_) => {}
            }
            Ok(())
        })?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `look` saw, unless it takes too long: it is then left behind.
fn within(patience: Duration, look: impl FnOnce() -> Seen + Send + 'static) -> Option<Seen> {
    let (told, seen) = mpsc::channel();
    thread::spawn(move || told.send(look()));
    seen.recv_timeout(patience).ok()
}

fn naive_fate(root: &Path, expected: Naive) -> Naive {
    // Who hangs is not waited for long.
    let patience = if expected == Naive::Hangs { Duration::from_millis(300) } else { PATIENCE };
    let at = root.to_owned();
    let seen = within(patience, move || {
        let mut seen = Seen::default();
        naive(&at, 0, &mut seen);
        seen
    });
    match seen {
        None => Naive::Hangs,
        Some(seen) if seen.bytes > ENDLESS_BYTES => Naive::Hangs,
        Some(seen) if seen.leaked => Naive::Leaks,
        Some(_) => Naive::Fine,
    }
}

#[test]
fn a_hundred_hostile_trees_are_collected_or_refused_in_time_and_nothing_comes_from_outside() {
    for Tree { name, naive, make } in trees() {
        let place = tempfile::tempdir().unwrap();
        let (root, out) = (place.path().join("root"), place.path().join("outside"));
        fs::create_dir(&root).unwrap();
        fs::create_dir_all(out.join("deep")).unwrap();
        fs::write(out.join("secret"), SECRET).unwrap();
        fs::write(out.join("deep/secret"), SECRET).unwrap();
        make(&root, &out);
        if naive != Naive::Fine {
            assert_eq!(naive_fate(&root, naive), naive, "{name}: the naive collector");
        }
        for keep_symlinks in [false, true] {
            let at = root.clone();
            let seen = within(PATIENCE, move || ours(&at, keep_symlinks));
            let seen = seen.unwrap_or_else(|| panic!("{name}: not collected within {PATIENCE:?}"));
            assert!(!seen.leaked, "{name}: {seen:?}");
            assert!(seen.bytes <= ENDLESS_BYTES, "{name}: {} bytes", seen.bytes);
            let down =
                |name: &String| name.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
            assert!(seen.names.iter().all(down), "{name}: {:?}", seen.names);
        }
        clear(place);
    }
}

/// However deep, and whoever is still at work there: under another name nobody finds it.
fn clear(place: tempfile::TempDir) {
    let path = place.keep();
    fs::rename(path.join("root"), path.join("gone")).unwrap();
    let remove = || std::process::Command::new("rm").arg("-rf").arg(&path).status();
    let is_gone = (0..100).any(|_| remove().is_ok_and(|status| status.success()));
    assert!(is_gone, "{}", path.display());
}

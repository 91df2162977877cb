//! Every way out that [`prober.rs`](prober.rs) knows is tried from inside, and must be closed; and from outside, by root, where it must be
//! open, or the check could not fail. docs/isolation.md lists the checks.

use std::collections::BTreeMap;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Child;

use super::*;

const SOURCE: &str = include_str!("prober.rs");
/// As many as there must be, by family.
const FAMILIES: [(&str, usize); 9] = [
    ("namespace", 10),
    ("capability", 12),
    ("system call", 14),
    ("masked path", 12),
    ("read-only path", 8),
    ("mount", 8),
    ("descriptor", 8),
    ("device", 4),
    ("network", 6),
];
/// Inside, where it can be executed.
const PROBER: &str = "/prober";

/// The prober's file, compiled if it is not beside this program.
pub(crate) fn prober() -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_path_buf();
    make_prober(&folder)
}

/// Compiles the prober into a folder, under a name that goes with its text.
pub(crate) fn make_prober(folder: &Path) -> PathBuf {
    let mark = SOURCE.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let made = folder.join(format!("prober-{mark:016x}"));
    if !made.exists() {
        // Several cases may do so at a time, each with files of its own.
        let making = folder.join(format!("prober-{mark:016x}.{}", std::process::id()));
        let source = making.with_added_extension("rs");
        fs::write(&source, SOURCE).unwrap();
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut compile = Command::new(rustc);
        compile.args([
            "--edition",
            "2024",
            "--crate-name",
            "prober",
            "-C",
            "strip=symbols",
            "-C",
            "panic=abort",
        ]);
        compile
            .args(["-C", "target-feature=+crt-static", "-C", "opt-level=1", "-o"])
            .arg(&making)
            .arg(&source);
        assert!(compile.status().unwrap().success(), "the prober cannot be compiled");
        fs::remove_file(source).unwrap();
        fs::rename(making, &made).unwrap();
    }
    made
}

/// What of the host must not be found from inside, and is there as long as this lives.
pub(crate) struct Witness {
    variables: Vec<(OsString, OsString)>,
    process: Child,
    shared_memory: i32,
    _listeners: Vec<TcpListener>,
    _socket: UnixListener,
}

impl Witness {
    pub(crate) fn new(folder: &Path) -> Witness {
        let mark = format!("witness-{}", std::process::id());
        // It ends when this process does.
        let process = Command::new("sh").args(["-c", "read x", &mark]).stdin(Stdio::piped()).spawn().unwrap();
        // A moment passes between its start and its having arguments.
        let arguments = format!("/proc/{}/cmdline", process.id());
        assert!(eventually(|| fs::read_to_string(&arguments).is_ok_and(|line| line.contains(&mark))));
        let key = 0x0075_0000 + (std::process::id() & 0xffff) as i32;
        // SAFETY: makes a segment that nobody attaches.
        let shared_memory = unsafe { libc::shmget(key, 4096, libc::IPC_CREAT | 0o666) };
        assert!(shared_memory >= 0, "{}", std::io::Error::last_os_error());
        let loopback = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = own_address().map(|address| TcpListener::bind((address, 0)).unwrap());
        let tell = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let mut facts = BTreeMap::from([
            ("PROBE_FOLDER", folder.display().to_string()),
            ("PROBE_MARK", mark.clone()),
            ("PROBE_KEY", key.to_string()),
            ("PROBE_HOSTNAME", fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().into()),
            ("PROBE_LOOPBACK", tell(&loopback)),
            ("PROBE_ADDRESS", other.as_ref().map(tell).unwrap_or_default()),
            ("PROBE_HARDWARE", hardware_addresses()),
        ]);
        for (fact, kind) in [
            ("PROBE_NS_user", "user"),
            ("PROBE_NS_mnt", "mnt"),
            ("PROBE_NS_pid", "pid"),
            ("PROBE_NS_net", "net"),
            ("PROBE_NS_ipc", "ipc"),
            ("PROBE_NS_uts", "uts"),
            ("PROBE_NS_cgroup", "cgroup"),
        ] {
            let link = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
            facts.insert(fact, link.to_string_lossy().into_owned());
        }
        Witness {
            variables: facts.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            process,
            shared_memory,
            _listeners: [Some(loopback), other].into_iter().flatten().collect(),
            _socket: UnixListener::bind_addr(&SocketAddr::from_abstract_name(&mark).unwrap()).unwrap(),
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // SAFETY: removes the segment that `new` made.
        unsafe { libc::shmctl(self.shared_memory, libc::IPC_RMID, std::ptr::null_mut()) };
    }
}

/// An address of the host that is not its loopback interface's, if it has one.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("203.0.113.9:1").ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn hardware_addresses() -> String {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let addresses = entries.filter_map(|entry| fs::read_to_string(entry.path().join("address")).ok());
    addresses.map(|address| address.trim().to_owned()).collect::<Vec<_>>().join(" ")
}

/// One line of the prober's.
#[derive(Debug)]
#[expect(dead_code, reason = "why is for who reads that a check has failed")]
pub(crate) struct Tried {
    pub(crate) family: String,
    pub(crate) name: String,
    pub(crate) outcome: String,
    /// Outside, by root.
    must_work: bool,
    why: String,
}

fn read(output: &str) -> Vec<Tried> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        let [family, name, outcome, outside, why] = fields[..] else {
            panic!("no line of the prober: {line}")
        };
        let [family, name, outcome, why] = [family, name, outcome, why].map(str::to_owned);
        Tried { family, name, outcome, must_work: outside == "Works", why }
    };
    output.lines().map(line).collect()
}

/// The host's, tried by the present user.
pub(crate) fn outside(witness: &Witness) -> Vec<Tried> {
    let leaked = fs::File::open("/").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let mut command = Command::new(prober());
    command.envs(witness.variables.iter().cloned()).env("PROBE_OUTSIDE", "1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    read(std::str::from_utf8(&output.stdout).unwrap())
}

pub(crate) fn inside(tester: &mut Tester, witness: &Witness, family: Option<&str>) -> Vec<Tried> {
    let mut process = shell("");
    process.argv = vec![PROBER.into()];
    process.argv.extend(family.into_iter().flat_map(|family| ["--family".into(), family.into()]));
    process.env.extend(witness.variables.iter().cloned());
    let (status, output) = tester.run(&process);
    assert_eq!(status, ExitStatus::Code(0), "{output}");
    read(&output)
}

/// Everything is denied, but for what is not there on this host at all.
fn assert_denied(inside: &[Tried], outside: &[Tried]) {
    let is_absent = |one: &Tried| {
        let same = outside.iter().find(|other| other.name == one.name && other.family == one.family);
        one.outcome == "absent" && same.is_some_and(|other| other.outcome == "absent")
    };
    let open: Vec<&Tried> = inside.iter().filter(|one| one.outcome != "denied" && !is_absent(one)).collect();
    assert!(open.is_empty(), "{open:#?}");
}

pub(crate) fn put_prober(spec: &mut Spec) {
    spec.files.push(File { path: PROBER.into(), bytes: fs::read(prober()).unwrap(), mode: 0o755 });
}

pub(crate) fn nothing_that_is_tried_gets_out_of_the_hosts_environment() {
    let mut tester = Tester::with(|spec, _| put_prober(spec));
    let witness = Witness::new(&tester.place.folder);
    let tried = inside(&mut tester, &witness, None);
    assert_denied(&tried, &outside(&witness));
    for (family, least) in FAMILIES {
        let count = tried.iter().filter(|one| one.family == family).count();
        assert!(count >= least, "{family}: {count}");
    }
    tester.end();
}

pub(crate) fn nothing_that_is_tried_gets_out_of_an_image() {
    let mut tester = Tester::with(|spec, folder| {
        let image = busybox_image(folder);
        fs::copy(prober(), image.join("prober")).unwrap();
        spec.rootfs = Rootfs::Folders(vec![image]);
    });
    let witness = Witness::new(&tester.place.folder);
    let tried = inside(&mut tester, &witness, None);
    assert_denied(&tried, &outside(&witness));
    tester.end();
}

/// With the control a check can be seen to fail.
pub(crate) fn what_is_tried_works_outside() {
    let place = Place::new();
    let tried = outside(&Witness::new(&place.folder));
    let closed: Vec<&Tried> = tried.iter().filter(|one| one.must_work && one.outcome == "denied").collect();
    assert!(closed.is_empty(), "{closed:#?}");
    assert!(tried.iter().filter(|one| one.must_work && one.outcome == "reached").count() >= 60, "{tried:#?}");
}

/// (What lies in the image, where its link leads.) The class of flaws that container runtimes had in 2025 and 2026.
const LYING_IMAGES: [(&str, &str); 6] = [
    ("dev", "/etc"),
    ("proc", "../../../../proc"),
    ("sys", "/../../sys"),
    ("etc/passwd", "/proc/1/root/etc/passwd"),
    ("dev/null", "/proc/sys/kernel/core_pattern"),
    ("dev/pts", "/../../../tmp"),
];

pub(crate) fn images_that_lie_get_nowhere() {
    for (name, target) in LYING_IMAGES {
        let mut tester = Tester::with(|spec, folder| {
            let image = busybox_image(folder);
            fs::copy(prober(), image.join("prober")).unwrap();
            let lie = image.join(name);
            fs::create_dir_all(lie.parent().unwrap()).unwrap();
            let _ = fs::remove_file(&lie);
            symlink(target, &lie).unwrap();
            // Where a link of the host's file system would lead, were it followed there.
            symlink(folder.join("outside"), image.join("dangling")).unwrap();
            spec.rootfs = Rootfs::Folders(vec![image]);
        });
        let before = fs::read("/proc/sys/kernel/core_pattern").unwrap();
        let witness = Witness::new(&tester.place.folder);
        assert_denied(&inside(&mut tester, &witness, None), &outside(&witness));
        let kinds = tester.says("echo x > /dev/null; stat -c '%F %t:%T' /dev/null; stat -f -c %T /proc /dev/pts; echo x > /dev/pts/ptmx");
        assert_eq!(kinds, "character special file 1:3\nproc\ndevpts", "{name}");
        // Who is in a passwd that is not there is unknown; that of the host is not asked.
        let mut process = shell("true");
        process.user = Some("daemon".into());
        assert!(matches!(tester.container.start(&process), Err(Error::UnknownUser(_))), "{name}");
        tester.sh("echo x > /dangling");
        assert!(!tester.place.folder.join("outside").exists(), "{name}");
        assert_eq!(fs::read("/proc/sys/kernel/core_pattern").unwrap(), before, "{name}");
        tester.end();
    }
}

pub(crate) fn a_working_folder_is_one_of_the_container() {
    let mut tester = Tester::new();
    for number in 0..32 {
        let mut process = shell("true");
        process.cwd = format!("/proc/self/fd/{number}").into();
        let error = tester.container.start(&process).unwrap_err();
        assert!(matches!(error, Error::WorkingFolder { .. }), "{number}: {error}");
    }
    for cwd in ["/proc/1/cwd", "/proc/1/root", "/proc/self/fd/8/../../.."] {
        let mut process = shell("true");
        process.cwd = cwd.into();
        assert!(matches!(tester.container.start(&process), Err(Error::WorkingFolder { .. })), "{cwd}");
    }
    tester.end();
}

pub(crate) fn the_network_that_leads_out_leads_to_no_witness() {
    container::prepare_egress(&[]).unwrap();
    let mut tester = Tester::with(|spec, _| {
        put_prober(spec);
        spec.network = Network::Egress;
    });
    let witness = Witness::new(&tester.place.folder);
    assert_denied(&inside(&mut tester, &witness, Some("network")), &[]);
    tester.end();
}

/// What the host's network shows of the host beside its network.
pub(crate) fn with_the_hosts_network_abstract_sockets_are_the_containers() {
    let mut tester = Tester::with(|spec, _| {
        put_prober(spec);
        spec.network = Network::Host;
    });
    let witness = Witness::new(&tester.place.folder);
    let tried = inside(&mut tester, &witness, Some("network"));
    let of = |name: &str| tried.iter().find(|one| one.name == name).unwrap();
    assert_eq!(of("the host's loopback interface").outcome, "reached");
    // Older kernels have no scopes.
    let is_scoped = landlock_version() >= 6;
    assert_eq!(of("an abstract socket of the host").outcome == "denied", is_scoped, "{tried:#?}");
    // Those inside are reached by their own kind, files move between folders, and their fifos are made as ever.
    let script = "import socket, os\ns = socket.socket(socket.AF_UNIX); s.bind('\\0inside'); s.listen()\n\
                  c = socket.socket(socket.AF_UNIX); c.connect('\\0inside')\nos.makedirs('/tmp/a/b'); os.makedirs('/tmp/c')\n\
                  os.rename('/tmp/a/b', '/tmp/c/b'); os.mkfifo('/tmp/c/b/f'); os.link('/tmp/c/b/f', '/tmp/a/f'); os.kill(os.getpid(), 0)";
    let mut process = shell("");
    process.argv = ["python3", "-c", script].map(OsString::from).into();
    assert_eq!(tester.run(&process), (ExitStatus::Code(0), String::new()));
    tester.end();
}

fn landlock_version() -> i64 {
    // SAFETY: asked like this, the call reads nothing.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, 1) }
}

pub(crate) fn the_checks_are_documented() {
    let output = Command::new(prober()).arg("--list").output().unwrap();
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/isolation.md")).unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let missing: Vec<&str> = listed
        .lines()
        .filter(|line| {
            let (family, name) = line.split_once('\t').unwrap();
            let row = page.lines().find(|row| row.starts_with(&format!("| {family} |")));
            !row.is_some_and(|row| row.contains(name))
        })
        .collect();
    assert!(missing.is_empty(), "docs/isolation.md does not list: {missing:#?}");
}

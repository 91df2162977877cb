//! The network that leads out: an outside of the test's own, and everything that must not be reached from a container.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::*;

/// An address of the internet, as far as this host knows; and a private one behind it.
const OUTSIDE: &str = "203.0.113.2";
const HOST: &str = "203.0.113.1";
const PRIVATE: &str = "10.213.77.2";

/// Another network on the far side of this host, with a server in it.
struct Outside {
    name: String,
    server: std::process::Child,
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
}

impl Outside {
    fn new() -> Outside {
        let name = format!("out{}", std::process::id());
        ip(&format!("netns add {name}"));
        ip(&format!("link add {name} type veth peer name eth0 netns {name}"));
        ip(&format!("addr add {HOST}/30 dev {name}"));
        ip(&format!("link set {name} up"));
        ip(&format!("-n {name} addr add {OUTSIDE}/30 dev eth0"));
        ip(&format!("-n {name} addr add {PRIVATE}/32 dev eth0"));
        ip(&format!("-n {name} link set eth0 up"));
        ip(&format!("route add {PRIVATE}/32 via {OUTSIDE}"));
        // What `prepare_egress` does for the interfaces of default routes.
        fs::write(format!("/proc/sys/net/ipv4/conf/{name}/forwarding"), "1").unwrap();
        let serve = "import socket\ns = socket.create_server(('0.0.0.0', 8000))\nwhile True: s.accept()[0].sendall(b'out')";
        let server =
            Command::new("ip").args(["netns", "exec", &name, "python3", "-c", serve]).spawn().unwrap();
        let outside = Outside { name, server };
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect((OUTSIDE, 8000)).is_err() {
            assert!(Instant::now() < deadline, "the server outside does not listen");
        }
        TcpStream::connect((PRIVATE, 8000)).unwrap();
        outside
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
        let _ = Command::new("ip").args(["link", "del", &self.name]).stderr(Stdio::null()).status();
    }
}

fn tester() -> Tester {
    Tester::with(|spec, _| spec.network = Network::Egress)
}

/// What becomes of a connection from inside. What is refused is mostly refused at once; what is dropped is not waited for.
fn tries(tester: &mut Tester, address: &str, port: u16) -> String {
    let patience = if address == OUTSIDE || address == OUTSIDE_6 { 60 } else { 3 };
    let script = format!(
        "import socket\ntry:\n  c = socket.create_connection(({address:?}, {port}), {patience})\n  print('came through', c.recv(3))\n\
         except OSError as e: print('refused', e.errno)"
    );
    let mut process = shell("");
    process.argv = ["python3", "-c", &script].map(OsString::from).into();
    tester.run(&process).1.trim_end().to_owned()
}

/// The host's interface that has this address, as others come and go.
fn interface_with(address: &str) -> PathBuf {
    let listed = Command::new("ip").args(["-oneline", "-4", "addr", "show", "to", address]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let name = listed.split_whitespace().nth(1).unwrap_or_else(|| panic!("{address} is nobody's"));
    assert!(name.starts_with("bldyr"), "{listed}");
    Path::new("/sys/class/net").join(name)
}

pub(crate) fn the_network_that_leads_out_leads_nowhere_else() {
    let outside = Outside::new();
    container::prepare_egress(&[]).unwrap();
    let mut tester = tester();
    assert_eq!(tries(&mut tester, OUTSIDE, 8000), "came through b'out'");

    let listener = TcpListener::bind(("::", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    TcpStream::connect((HOST, port)).unwrap();
    let gateway = tester.says(
        "python3 -c \"import socket; r=[l.split() for l in open('/proc/net/route')][1:]; \
         print(socket.inet_ntoa(bytes.fromhex([f[2] for f in r if f[1]=='00000000'][0])[::-1]))\"",
    );
    TcpStream::connect((gateway.as_str(), port)).unwrap();
    let interface = interface_with(&gateway);
    assert!(interface.exists());
    // The host, by each of its names.
    for address in [HOST, &gateway] {
        assert!(tries(&mut tester, address, port).starts_with("refused"), "{address}");
    }
    // Others who are private, or no host at all; those of version 6.
    for address in [PRIVATE, "169.254.169.254", "10.0.0.1", "192.168.0.1", "100.64.0.1", "224.0.0.1"] {
        assert!(tries(&mut tester, address, 8000).starts_with("refused"), "{address}");
    }
    let link = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    for line in link.lines().filter(|line| line.contains("bldyrd")) {
        let address: Vec<&str> = (0..8).map(|group| &line[group * 4..group * 4 + 4]).collect();
        let address = format!("{}%eth0", address.join(":"));
        assert!(tries(&mut tester, &address, port).starts_with("refused"), "{address}");
    }
    for address in ["fd00:ec2::254", "2001:db8::2", "ff02::1%eth0"] {
        assert!(tries(&mut tester, address, 8000).starts_with("refused"), "{address}");
    }
    // Nobody inside changes that.
    for change in ["ip link set eth0 down", "ip addr add 10.213.77.9/24 dev eth0", "nft flush ruleset"] {
        tester.refuses(change);
    }

    // What the operator allows holds at once, also for those who are there.
    container::prepare_egress(&["10.213.77.0/24".to_owned()]).unwrap();
    assert_eq!(tries(&mut tester, PRIVATE, 8000), "came through b'out'");
    container::prepare_egress(&[]).unwrap();
    assert!(tries(&mut tester, PRIVATE, 8000).starts_with("refused"));
    tester.end();
    assert!(!interface.exists(), "{} is left", interface.display());
    drop(outside);
}

/// This process's own, so that the host has IPv6 or not as the test likes.
fn have_own_network() {
    // SAFETY: memory and descriptors stay as they are.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
    ip("link set lo up");
}

/// Of the internet; and what is no address of the internet, but of somebody whom this host reaches.
const OUTSIDE_6: &str = "2001:db8:1::2";
const OTHERS_6: [&str; 5] = ["fd00:ec2::254", "64:ff9b::a00:1", "2002:a00:1::1", "2001:0:1::1", "4000::1"];

fn give_ipv6(outside: &Outside) {
    let name = &outside.name;
    ip(&format!("addr add 2001:db8:1::1/64 dev {name} nodad"));
    ip(&format!("-n {name} addr add {OUTSIDE_6}/64 dev eth0 nodad"));
    for other in OTHERS_6 {
        ip(&format!("-n {name} addr add {other}/128 dev eth0 nodad"));
    }
    ip(&format!("-6 route add default via {OUTSIDE_6} dev {name}"));
}

fn serve_ipv6(outside: &Outside) -> std::process::Child {
    let serve = "import socket\ns = socket.create_server(('::', 8006), family=socket.AF_INET6)\nwhile True: s.accept()[0].sendall(b'six')";
    let server =
        Command::new("ip").args(["netns", "exec", &outside.name, "python3", "-c", serve]).spawn().unwrap();
    assert!(eventually(|| OTHERS_6
        .iter()
        .chain([&OUTSIDE_6])
        .all(|to| TcpStream::connect((*to, 8006)).is_ok())));
    server
}

/// Nobody waits for what is refused: there is a number of an error, which there is not where time ran out.
fn are_refused_at_once(tester: &mut Tester, addresses: &[&str], port: u16) {
    let script = format!(
        "import socket\nfor a in {addresses:?}:\n  try: socket.create_connection((a, {port}), 3); print(a, 'reached')\n  \
         except OSError as e: print(a, 'refused' if e.errno else e)"
    );
    let mut process = shell("");
    process.argv = ["python3", "-c", &script].map(OsString::from).into();
    let expected: Vec<String> = addresses.iter().map(|address| format!("{address} refused\n")).collect();
    assert_eq!(tester.run(&process).1, expected.concat());
}

pub(crate) fn the_network_that_leads_out_has_ipv6_where_the_host_has() {
    have_own_network();
    let outside = Outside::new();
    // The host has none.
    container::prepare_egress(&[]).unwrap();
    let mut without = tester();
    are_refused_at_once(&mut without, &[OUTSIDE_6], 8006);
    assert_eq!(tries(&mut without, OUTSIDE, 8000), "came through b'out'");
    without.end();

    give_ipv6(&outside);
    let mut server = serve_ipv6(&outside);
    container::prepare_egress(&[]).unwrap();
    let mut tester = tester();
    assert_eq!(tries(&mut tester, OUTSIDE_6, 8006), "came through b'six'");
    assert_eq!(tries(&mut tester, OUTSIDE, 8000), "came through b'out'");
    let listener = TcpListener::bind(("::", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let ours = "import ipaddress; a = [l.split()[0] for l in open('/proc/net/if_inet6')]; \
        print(next(ipaddress.ip_address(int(x, 16) - 1) for x in a if x.startswith('fd62')))";
    let gateway = tester.says(&format!("python3 -c \"{ours}\""));
    TcpStream::connect((gateway.as_str(), port)).unwrap();
    // The host by each of its addresses, and IPv4 in other words.
    are_refused_at_once(
        &mut tester,
        &[&gateway, "2001:db8:1::1", "::ffff:203.0.113.1", "ff02::1%eth0"],
        port,
    );
    let wrapped = ["::ffff:10.213.77.2", "::ffff:169.254.169.254", "::10.213.77.2"];
    are_refused_at_once(&mut tester, &[&OTHERS_6[..], &wrapped, &["fd00::9"]].concat(), 8006);
    // What the operator allows.
    container::prepare_egress(&["fd00:ec2::/32".to_owned()]).unwrap();
    assert_eq!(tries(&mut tester, "fd00:ec2::254", 8006), "came through b'six'");
    are_refused_at_once(&mut tester, &["64:ff9b::a00:1"], 8006);
    // And where IPv6 goes away, nobody waits for it either.
    ip("-6 route del default");
    container::prepare_egress(&[]).unwrap();
    are_refused_at_once(&mut tester, &[OUTSIDE_6], 8006);
    tester.end();

    ip(&format!("-6 route add default via {OUTSIDE_6} dev {}", outside.name));
    container::prepare_fetching(&[OUTSIDE_6.to_owned()]).unwrap();
    let mut fetching = Tester::with(|spec, _| spec.network = Network::Fetching);
    assert_eq!(tries(&mut fetching, OUTSIDE_6, 8006), "came through b'six'");
    container::prepare_fetching(&[]).unwrap();
    are_refused_at_once(&mut fetching, &[&OTHERS_6[..], &[OUTSIDE_6]].concat(), 8006);
    fetching.end();
    server.kill().unwrap();
    server.wait().unwrap();
    drop(outside);
}

pub(crate) fn what_fetches_is_led_to_public_and_named_addresses_only() {
    let outside = Outside::new();
    container::prepare_egress(&[]).unwrap();
    container::prepare_fetching(&[OUTSIDE.to_owned()]).unwrap();
    let mut fetching = Tester::with(|spec, _| spec.network = Network::Fetching);
    assert_eq!(tries(&mut fetching, OUTSIDE, 8000), "came through b'out'");
    let listener = TcpListener::bind(("::", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    for (address, port) in
        [(HOST, port), (PRIVATE, 8000), ("169.254.169.254", 80), ("10.0.0.1", 80), ("fd00::1", 80)]
    {
        assert!(tries(&mut fetching, address, port).starts_with("refused"), "{address}");
    }
    // Each goes by its own rules: what builds may reach is not said by what may be fetched from.
    container::prepare_fetching(&[PRIVATE.to_owned()]).unwrap();
    assert_eq!(tries(&mut fetching, PRIVATE, 8000), "came through b'out'");
    assert!(
        tries(&mut fetching, OUTSIDE, 8000).starts_with("refused"),
        "documentation's addresses are not public"
    );
    // A server on this host can be named as any other.
    container::prepare_fetching(&[HOST.to_owned()]).unwrap();
    let serve = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"own"));
    assert_eq!(tries(&mut fetching, HOST, port), "came through b'own'");
    serve.join().unwrap().unwrap();
    fetching.end();
    let mut build = tester();
    assert!(tries(&mut build, PRIVATE, 8000).starts_with("refused"));
    build.end();
    container::prepare_fetching(&[]).unwrap();
    drop(outside);
}

pub(crate) fn neighbours_do_not_reach_each_other() {
    container::prepare_egress(&[]).unwrap();
    let mut one = tester();
    let serve = "import socket\ns = socket.create_server(('0.0.0.0', 8000))\nprint('listening', flush=True)\ns.accept()";
    let mut process = shell("");
    process.argv = ["python3", "-c", serve].map(OsString::from).into();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    process.output = Some(writer.as_fd());
    one.container.start(&process).unwrap();
    fs::File::from(reader).read_exact(&mut [0; 10]).unwrap();
    let address = {
        let (status, address) = one_says(&mut one);
        assert_eq!(status, ExitStatus::Code(0), "{address}");
        address
    };
    // The second of the process's own, beside the first.
    let place = one.place.folder.join("second");
    fs::create_dir_all(place.join("scratch")).unwrap();
    let (mut spec, output) = one.place.spec();
    (spec.scratch, spec.name, spec.network) =
        (place.join("scratch"), format!("{}.second", spec.name), Network::Egress);
    drop(output);
    let second = Container::create(spec).unwrap();
    let first = std::mem::replace(&mut one.container, second);
    assert!(tries(&mut one, &address, 8000).starts_with("refused"), "{address}");
    first.destroy().unwrap();
    one.end();
}

/// Its own address.
fn one_says(tester: &mut Tester) -> (ExitStatus, String) {
    let script = "import socket\ns=socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('203.0.113.9', 1)); print(s.getsockname()[0])";
    let mut process = shell("");
    process.argv = ["python3", "-c", script].map(OsString::from).into();
    let (status, output) = tester.run(&process);
    (status, output.trim_end().to_owned())
}

pub(crate) fn ports_of_the_caller_answer_inside_whatever_the_network() {
    let network = if is_root() { Network::Egress } else { Network::None };
    let mut tester = Tester::with(|spec, _| {
        spec.network = network;
        spec.listen = vec!["169.254.170.2:80".parse().unwrap()];
    });
    let listener = TcpListener::from(tester.container.take_listeners().pop().unwrap());
    let script = "import socket; c = socket.create_connection(('169.254.170.2', 80)); print(c.recv(5))";
    let mut process = shell("");
    process.argv = ["python3", "-c", script].map(OsString::from).into();
    let handle = tester.container.start(&process).unwrap();
    listener.accept().unwrap().0.write_all(b"hello").unwrap();
    assert_eq!(tester.finish(handle), ExitStatus::Code(0));
    assert_eq!(tester.output(), "b'hello'\n");
    tester.end();
}

/// Root makes what is outside, and an ordinary user, in a process apart, the container.
pub(crate) fn an_ordinary_users_network_leads_out_and_nowhere_else() {
    if !is_root() {
        return as_an_ordinary_user();
    }
    let outside = Outside::new();
    let listener = TcpListener::bind(("0.0.0.0", 0)).unwrap();
    have_own_mounts();
    give_everybody_tunnels();
    let mut user = Command::new(std::env::current_exe().unwrap());
    user.args(["--one", "an_ordinary_users_network_leads_out_and_nowhere_else", "User"]);
    user.env("HOST_PORT", listener.local_addr().unwrap().port().to_string());
    let mut user = user.spawn().unwrap();
    let place = place_of(user.id());
    let status = user.wait().unwrap();
    let _ = fs::remove_dir_all(place);
    assert!(status.success());
    drop(outside);
}

/// As on most hosts anyway; only for this process and its children.
fn give_everybody_tunnels() {
    let folder = Path::new("/dev/net");
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", folder, "tmpfs", flags, None).unwrap();
    let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::from_raw_mode(0o666));
    rustix::fs::mknodat(rustix::fs::CWD, folder.join("tun"), kind, mode, rustix::fs::makedev(10, 200))
        .unwrap();
    fs::set_permissions(folder.join("tun"), fs::Permissions::from_mode(0o666)).unwrap();
}

fn as_an_ordinary_user() {
    container::prepare_egress(&[]).unwrap();
    let mut tester = tester();
    assert_eq!(tries(&mut tester, OUTSIDE, 8000), "came through b'out'");
    let port: u16 = std::env::var("HOST_PORT").unwrap().parse().unwrap();
    TcpStream::connect((HOST, port)).unwrap();
    TcpStream::connect((PRIVATE, 8000)).unwrap();
    for (address, port) in [
        (HOST, port),
        ("127.0.0.1", port),
        ("198.18.0.2", port),
        (PRIVATE, 8000),
        ("169.254.169.254", 80),
        ("10.0.0.1", 80),
        ("192.168.0.1", 80),
        ("100.64.0.1", 80),
        ("224.0.0.1", 80),
        ("fd00:ec2::254", 80),
        ("2001:db8::2", 80),
    ] {
        assert!(tries(&mut tester, address, port).starts_with("refused"), "{address}");
    }
    for change in ["ip link set eth0 down", "ip addr add 10.213.77.9/24 dev eth0", "nft flush ruleset"] {
        tester.refuses(change);
    }
    assert_eq!(tester.says("cat /etc/resolv.conf"), "nameserver 198.18.0.3");
    let error = container::prepare_egress(&["10.0.0.0/8".to_owned()]).unwrap_err();
    assert!(matches!(error, Error::Forbidden { .. }), "{error}");
    let before = carriers();
    let place = tester.end();
    assert_eq!(carriers(), before - 1);

    // Nor does it stay if nobody ends it.
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    // SAFETY: this process has one thread.
    let caller = unsafe { libc::fork() };
    if caller == 0 {
        let (mut spec, _output) = place.spec();
        spec.network = Network::Egress;
        let _container = Container::create(spec).unwrap();
        rustix::io::write(&writer, b"x").unwrap();
        // As a crash does.
        rustix::process::kill_process(rustix::process::getpid(), Signal::KILL).unwrap();
    }
    drop(writer);
    fs::File::from(reader).read_exact(&mut [0]).unwrap();
    let caller = rustix::process::Pid::from_raw(caller);
    rustix::process::waitpid(caller, rustix::process::WaitOptions::empty()).unwrap();
    assert!(eventually(|| carriers() == before - 1));
    container::sweep(&place.name(), &place.scratch()).unwrap();
}

/// How many processes of this case's carry packets: they are in its process group.
fn carriers() -> usize {
    let ours = rustix::process::getpgrp().as_raw_nonzero().to_string();
    let is_one = |process: &PathBuf| {
        let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
        // Behind the name come the state, the parent and the group.
        stat.contains("(slirp4netns)")
            && stat.rsplit(") ").next().is_some_and(|rest| rest.split(' ').nth(2) == Some(ours.as_str()))
    };
    fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()).filter(is_one).count()
}

pub(crate) fn the_network_that_leads_out_says_what_it_lacks() {
    if is_root() {
        return;
    }
    // Whether it lacks something is up to the host.
    let prepared = container::prepare_egress(&[]);
    let place = Place::new();
    let (mut spec, _output) = place.spec();
    spec.network = Network::Egress;
    let created = Container::create(spec);
    assert_eq!(prepared.is_ok(), created.is_ok());
    for error in [prepared.err(), created.err()].into_iter().flatten() {
        assert!(
            matches!(error, Error::Forbidden { .. }) && error.to_string().contains("`none` or `host`"),
            "{error}"
        );
    }
}

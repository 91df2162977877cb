//! Privileged containers: a container engine has what it needs, and nothing else is given that others do not have.

use container::profile::PRIVILEGED;

use super::*;

fn privileged() -> Tester {
    Tester::with(|spec, _| spec.is_privileged = true)
}

pub(crate) fn the_privileged_profile_holds() {
    profile_holds(&PRIVILEGED, privileged());
}

/// What dockerd, containerd and runc do, one by one.
const NEEDED: &[&str] = &[
    "mount -t tmpfs none /mnt && umount /mnt",
    "unshare --mount --pid --fork sh -c 'mount -t proc proc /proc && test $$ = 1 && ls /proc/1/ns'",
    "unshare --net --mount sh -c 'mount -t sysfs sysfs /sys && test $(ls /sys/class/net) = lo'",
    "cd /var/lib/docker && mkdir l u w m && touch l/a && mount -t overlay -o userxattr,lowerdir=l,upperdir=u,workdir=w none m && rm m/a && ! test -e m/a",
    "mkdir -p /tmp/new/old && mount --bind /tmp/new /tmp/new && unshare --mount sh -c 'cd /tmp/new && pivot_root . old'",
    "unshare --uts hostname other",
    "echo 1 >/proc/sys/net/ipv4/ip_forward",
    "mkdir /sys/fs/cgroup/one && sh -c 'echo 0 >/sys/fs/cgroup/one/cgroup.procs; grep -q ^0::/one$ /proc/self/cgroup'",
    "hostname other",
    "touch /run/null && mount --bind /dev/null /run/null && echo x >/run/null",
];

/// And with networks.
const NEEDED_FOR_NETWORKS: &[&str] = &[
    "ip link add bridge0 type bridge && ip link set bridge0 up && ip address add 172.17.0.1/16 dev bridge0",
    "nft add table inet own && nft list tables | grep -q own",
    "unshare --net sh -c 'nsenter --net=/proc/$PPID/ns/net ip link show bridge0'",
];

pub(crate) fn what_a_container_engine_needs_works_where_it_may() {
    work_where_they_may(NEEDED);
}

pub(crate) fn the_networks_of_a_container_engine_work_where_they_may() {
    work_where_they_may(NEEDED_FOR_NETWORKS);
}

fn work_where_they_may(needed: &[&str]) {
    let prepare = |spec: &mut Spec| spec.folders.push("/mnt".into());
    let mut tester = Tester::with(|spec, _| {
        prepare(spec);
        spec.is_privileged = true;
    });
    for need in needed {
        tester.says(need);
    }
    assert_ne!(tester.says("stat -f -c %T /var/lib/docker"), "overlayfs");
    tester.end();
    let mut tester = Tester::with(|spec, _| prepare(spec));
    for need in needed {
        tester.refuses(need);
    }
    tester.end();
}

/// What of all that the prober tries is reached by who is privileged, and why that is no way out. All else is denied as ever.
const GRANTED: &[&str] = &[
    // Of its own namespaces.
    "SYS_ADMIN: set the host name",
    "NET_ADMIN: set an interface's flags",
    "NET_ADMIN: add an address",
    "NET_RAW: a raw socket",
    "netlink: the firewall",
    "unshare: a mount namespace",
    "unshare: a network namespace",
    "setns",
    // Of its own files.
    "SETFCAP: give a program capabilities",
    // For everybody to read.
    "/proc/interrupts",
    "/proc/keys",
    "/proc/acpi",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    // A number that a filter makes meaningless.
    "/proc/sys/user/max_user_namespaces",
    // Of what it sees anyway.
    "a file system in memory",
    "/proc once more",
    "a folder somewhere else",
    "an overlay",
    "another root",
    "the new calls: a file system",
    "the new calls: a copy of a tree",
    "the new calls: move a mount",
    "the new calls: another mount's attributes",
    "the root, writable",
    // The kernel looks at it, and refuses what holds a container together.
    "the root, away",
    // A flag is gone from a mount; the kernel opens no device by a file system of a user namespace, nor makes one.
    "a mount on which devices work",
];

pub(crate) fn nothing_but_what_is_granted_is_reached_by_who_is_privileged() {
    reaches_what_is_granted(Network::None);
}

pub(crate) fn who_is_privileged_reaches_no_more_on_a_network_that_leads_out() {
    container::prepare_egress(&[]).unwrap();
    reaches_what_is_granted(Network::Egress);
}

fn reaches_what_is_granted(network: Network) {
    let mut tester = Tester::with(|spec, _| {
        put_prober(spec);
        spec.is_privileged = true;
        spec.network = network;
    });
    let witness = Witness::new(&tester.place.folder);
    let tried = inside(&mut tester, &witness, None);
    let is_granted = |one: &Tried| GRANTED.contains(&one.name.as_str());
    let is_open = |one: &&Tried| one.outcome == "reached" && !is_granted(one);
    let open: Vec<&Tried> = tried.iter().filter(is_open).collect();
    assert!(open.is_empty(), "{open:#?}");
    let denied = tried.iter().filter(|one| one.outcome == "denied").count();
    assert!(denied >= 70, "{denied} of {}", tried.len());
    for granted in GRANTED {
        assert!(tried.iter().any(|one| one.name == *granted), "{granted} is not tried");
    }
    // Not every host has what shows.
    let needless = |one: &&Tried| one.outcome == "denied" && is_granted(one) && one.family != "masked path";
    let needless: Vec<&Tried> = tried.iter().filter(needless).collect();
    assert!(needless.is_empty(), "{needless:#?}");
    tester.end();
}

pub(crate) fn what_shows_of_the_host_cannot_be_written_by_who_is_privileged() {
    let mut tester = Tester::with(|spec, folder| {
        fs::create_dir(folder.join("tools")).unwrap();
        fs::write(folder.join("tools/file"), "tool").unwrap();
        fs::set_permissions(folder.join("tools"), fs::Permissions::from_mode(0o777)).unwrap();
        spec.mounts = vec![Mount::ReadOnly { host: folder.join("tools"), inside: "/opt/tools".into() }];
        spec.is_privileged = true;
    });
    assert_eq!(tester.says("cat /opt/tools/file; stat -c %u /opt/tools/file"), "tool0");
    tester.sh("mount -o remount,bind,rw /opt/tools; mount -o remount,rw /opt/tools; mount -o remount,bind,rw,suid,dev /");
    tester.refuses("echo x >/opt/tools/new");
    tester.refuses("echo x >/opt/tools/file");
    // The host's own folders are layers, secrets among them are not.
    tester.says("echo x >/usr/container-test-file; umount /opt/tools; ls /opt/tools");
    assert!(!Path::new("/usr/container-test-file").exists());
    // Nothing, or an empty folder, is beneath.
    tester.says("for at in /etc /etc/shadow; do umount -l $at; done 2>/dev/null; ! grep . /etc/shadow");
    let place = tester.end();
    assert_eq!(fs::read_dir(place.folder.join("tools")).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(place.folder.join("tools/file")).unwrap(), "tool");
}

pub(crate) fn limits_hold_for_who_is_privileged() {
    let mut tester = Tester::with(|spec, _| {
        spec.is_privileged = true;
        spec.limits = Limits { memory_bytes: Some(128 << 20), pids: Some(40), ..Limits::default() };
    });
    tester.says(
        "mkdir /sys/fs/cgroup/one /sys/fs/cgroup/one/two && echo 0 >/sys/fs/cgroup/one/two/cgroup.procs",
    );
    let forks = "echo 0 >/sys/fs/cgroup/one/two/cgroup.procs; n=0; while [ $n -lt 100 ]; do sleep 100 & n=$((n+1)); done";
    let (_, output) = tester.sh(forks);
    assert!(output.contains("fork"), "{output}");
    tester.sh("kill -9 -1");
    assert_eq!(tester.container.oom_kills(), 0);
    let hog =
        "import os\nopen('/sys/fs/cgroup/one/two/cgroup.procs', 'w').write('0')\nb = b'x' * (512 << 20)";
    let mut process = shell("");
    process.argv = ["python3", "-c", hog].map(OsString::from).into();
    assert_eq!(tester.run(&process).0, ExitStatus::Signal(9));
    assert_eq!(tester.container.oom_kills(), 1);
    tester.refuses("cd /sys/fs/cgroup && seq 5000 | xargs mkdir");
    tester.end();
}

pub(crate) fn cgroups_within_go_with_the_container_and_by_a_sweep() {
    let make = "mkdir -p /sys/fs/cgroup/a/b/c && echo 0 >/sys/fs/cgroup/a/b/c/cgroup.procs && mount -t tmpfs none /var/lib/docker && unshare --net sleep 1000 & sleep 0";
    let mut tester = privileged();
    tester.says(make);
    let before = cgroups_named(&tester.place.name());
    assert!(!before.is_empty());
    let name = tester.place.name();
    tester.end();
    assert!(cgroups_named(&name).is_empty());

    let place = Place::new_beside();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    // SAFETY: this process has one thread.
    let caller = unsafe { libc::fork() };
    if caller == 0 {
        let (mut spec, _) = place.spec();
        spec.is_privileged = true;
        make_a_container_and_be_killed(spec, writer);
    }
    drop(writer);
    assert_eq!(std::io::read_to_string(fs::File::from(reader)).unwrap(), "up\n");
    let caller = rustix::process::Pid::from_raw(caller).unwrap();
    rustix::process::waitpid(Some(caller), rustix::process::WaitOptions::empty()).unwrap();
    assert!(!cgroups_named(&place.name()).is_empty());
    container::sweep(&place.name(), &place.scratch()).unwrap();
    assert!(cgroups_named(&place.name()).is_empty());
    assert_eq!(fs::read_dir(place.scratch()).unwrap().count(), 0);
}

/// Who may set its own network up could take an address that answers do not come back to, or a neighbour's.
pub(crate) fn who_sends_from_anothers_address_is_not_heard() {
    container::prepare_egress(&[]).unwrap();
    let mut tester = Tester::with(|spec, _| {
        spec.is_privileged = true;
        spec.network = Network::Egress;
    });
    // What the filter refuses aloud is refused aloud to who says who it is, and to nobody else.
    let script = "import socket, sys\ns = socket.socket(); s.settimeout(1)\nif len(sys.argv) > 1: s.bind((sys.argv[1], 0))\n\
                  try: s.connect(('10.0.0.1', 80))\nexcept socket.timeout: print('silence')\nexcept OSError as e: print(e.strerror)";
    let mut ask = |from: Option<&str>| {
        let mut process = shell("");
        process.argv = ["python3", "-c", script].into_iter().chain(from).map(OsString::from).collect();
        tester.run(&process).1.trim().to_owned()
    };
    assert_eq!(ask(None), "No route to host");
    let mut process = shell("ip address add 198.19.200.7/32 dev lo && ip address add 8.8.4.4/32 dev lo");
    process.env.clear();
    process.env.push(("PATH".into(), "/usr/sbin:/usr/bin:/sbin:/bin".into()));
    assert_eq!(tester.run(&process), (ExitStatus::Code(0), String::new()));
    for other in ["198.19.200.7", "8.8.4.4"] {
        let mut process = shell("");
        process.argv = ["python3", "-c", script, other].map(OsString::from).into();
        assert_eq!(tester.run(&process).1.trim(), "silence", "{other}");
    }
    tester.end();
}

pub(crate) fn what_cannot_be_privileged_is_refused() {
    let place = Place::new();
    let spec = |change: &dyn Fn(&mut Spec)| {
        let (mut spec, _) = place.spec();
        spec.is_privileged = true;
        change(&mut spec);
        Container::create(spec).unwrap_err()
    };
    if !is_root() {
        assert!(matches!(spec(&|_| {}), Error::Forbidden { .. }));
        return;
    }
    let network = spec(&|spec| spec.network = Network::Host).to_string();
    assert!(network.contains("network of its own"), "{network}");
    let file = spec(&|spec| {
        spec.mounts = vec![Mount::ReadOnly { host: "/etc/hostname".into(), inside: "/name".into() }];
    });
    assert!(file.to_string().contains("/etc/hostname is a file"), "{file}");
    assert!(cgroups_named(&place.name()).is_empty());
}

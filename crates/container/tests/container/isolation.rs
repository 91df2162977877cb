//! What a build sees of the host and may do to it: nothing that is not given.

use container::profile::{PROFILE, Profile};

use super::*;

pub(crate) fn the_host_cannot_be_seen() {
    let mut tester = Tester::new();
    assert_eq!(tester.says("cat /proc/1/comm > /dev/null; ls -d /proc/[0-9]* | wc -l | xargs test 6 -gt; ls -A /root /home /tmp /run"),
        "/home:\n\n/root:\n\n/run:\n\n/tmp:");
    let mounts = tester.says("cat /proc/self/mountinfo");
    for line in mounts.lines() {
        let point = line.split(' ').nth(4).unwrap();
        assert!(
            !point.starts_with("/work") && !point.starts_with("/mnt") && !point.contains("cgroup"),
            "{line}"
        );
    }
    assert!(!mounts.contains("/sys/fs/cgroup"));
    assert!(tester.says("cat /proc/self/cgroup").lines().all(|line| line.ends_with(":/")));
    let top = tester.says("ls -A /");
    for hidden in ["boot", "mnt", "media", "srv", "work", "lost+found"] {
        assert!(!top.lines().any(|line| line == hidden), "/{hidden} shows");
    }
    tester.refuses("kill -0 2");
    tester.refuses("ipcs -q | grep -q 0x");
    tester.end();
}

pub(crate) fn secrets_of_the_host_cannot_be_read() {
    let mut tester = Tester::new();
    assert_eq!(
        tester.says(
            "cat /etc/shadow /etc/gshadow; [ ! -d /etc/ssl/private ] || ls -A /etc/ssl/private; cat /etc/ssh/*_key 2>/dev/null; true"
        ),
        ""
    );
    let unreadable = "find /etc -type f ! -perm -o+r -size +0 -exec cat {} + 2> /dev/null | wc -c";
    assert_eq!(tester.says(unreadable), "0");
    assert_eq!(tester.says("grep -c ^root: /etc/passwd"), "1");
    tester.end();
}

/// A folder of the host's that only root may look into; nobody else's test reads what is in it.
struct Closed(PathBuf);

impl Closed {
    fn make(path: String) -> Closed {
        fs::create_dir(&path).unwrap();
        fs::write(Path::new(&path).join("secret"), "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Closed(path.into())
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// As a waiting agent's may be for hours.
pub(crate) fn what_became_secret_after_a_place_was_prepared_cannot_be_read() {
    let place = Place::new();
    let prepared = Prepared::new(&place.name()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let folders = ["/etc", "/usr/local/etc"];
    let closed =
        folders.map(|folder| Closed::make(format!("{folder}/container-test-{}", std::process::id())));
    let (spec, output) = place.spec();
    let container = Container::create_in(prepared, spec).unwrap();
    let mut tester = Tester { container, output, read: 0, place };
    for folder in &closed {
        assert_eq!(tester.says(&format!("ls -A {}", folder.0.display())), "");
    }
    tester.end();
}

/// Of the host's root folder and of /var only some folders show.
pub(crate) fn what_comes_beside_what_shows_of_the_host_is_never_seen() {
    let mut tester = Tester::new();
    let folders = ["", "/var", "/var/lib"];
    let closed =
        folders.map(|folder| Closed::make(format!("{folder}/container-test-{}", std::process::id())));
    for folder in &closed {
        tester.refuses(&format!("ls -d {}", folder.0.display()));
    }
    tester.end();
}

pub(crate) fn writes_do_not_reach_the_host() {
    let mut tester = Tester::new();
    let before = fs::read("/etc/passwd").unwrap();
    tester.says(
        "echo x > /tmp/container-test-file; echo y > /root/container-test-file; echo z > /new-at-the-top",
    );
    tester.says("umask; touch /etc/container-test-file /usr/container-test-file /opt/container-test-file");
    if is_root() {
        tester.says("echo more >> /etc/passwd; rm /usr/bin/env; mkdir -p /usr/lib/x/y; chmod 700 /usr/share");
        tester.refuses("/usr/bin/env");
    }
    for path in ["/tmp", "/root", "/etc", "/usr", "/opt"] {
        assert!(!Path::new(path).join("container-test-file").exists(), "{path}");
    }
    assert!(!Path::new("/new-at-the-top").exists());
    assert!(Path::new("/usr/bin/env").exists());
    assert_eq!(fs::metadata("/usr/share").unwrap().mode() & 0o777, 0o755);
    assert_eq!(fs::read("/etc/passwd").unwrap(), before);
    tester.end();
}

pub(crate) fn masked_paths_are_empty_and_can_be_written() {
    let mut tester = Tester::with(|spec, _| {
        spec.masks = ["/etc/passwd", "/usr/share/doc", "/no/such/path", "/opt"].map(PathBuf::from).into();
    });
    assert_eq!(tester.says("cat /etc/passwd; ls -A /usr/share/doc /opt"), "/opt:\n\n/usr/share/doc:");
    assert_eq!(tester.says("echo a > /usr/share/doc/a; echo b > /opt/b; echo c > /etc/passwd; cat /usr/share/doc/a /opt/b /etc/passwd"),
        "a\nb\nc");
    tester.refuses("test -e /no");
    tester.end();
}

pub(crate) fn folders_and_files_are_there_from_the_start() {
    let mut tester = Tester::with(|spec, _| {
        spec.folders = ["/codebuild/output/src1/src", "/usr/bin", "/usr/local/new"].map(PathBuf::from).into();
        spec.files =
            vec![File { path: "/codebuild/readonly/a".into(), bytes: b"text".to_vec(), mode: 0o444 }];
    });
    let shown = "stat -c '%a %u' /codebuild/output/src1/src /usr/local/new /codebuild/readonly/a; cat /codebuild/readonly/a";
    assert_eq!(tester.says(shown), "755 0\n755 0\n444 0\ntext");
    assert_eq!(
        tester
            .says("echo b > /codebuild/output/src1/src/b; cat /codebuild/output/src1/src/b; ls /usr/bin/env"),
        "b\n/usr/bin/env"
    );
    tester.end();
}

pub(crate) fn mounts_show_what_they_should() {
    let mut tester = Tester::with(|spec, folder| {
        for name in ["source/deep", "cache"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        fs::write(folder.join("source/deep/file"), "source").unwrap();
        fs::write(folder.join("cache/file"), "cache").unwrap();
        fs::write(folder.join("single"), "single").unwrap();
        spec.mounts = vec![
            Mount::ReadOnly { host: folder.join("source"), inside: "/codebuild/readonly".into() },
            Mount::ReadOnly { host: folder.join("single"), inside: "/new/place/single".into() },
            Mount::Overlay {
                lower: folder.join("cache"),
                inside: "/root/.cache".into(),
                upper: spec.scratch.join("cache-upper"),
            },
            Mount::Tmpfs { inside: "/memory".into(), size_bytes: 1 << 20 },
        ];
    });
    assert_eq!(
        tester.says("cat /codebuild/readonly/deep/file /new/place/single /root/.cache/file"),
        "sourcesinglecache"
    );
    for write in ["/codebuild/readonly/new", "/codebuild/readonly/deep/file", "/new/place/single"] {
        tester.refuses(&format!("echo x > {write}"));
    }
    tester.says("echo changed > /root/.cache/file; echo new > /root/.cache/new; echo x > /memory/x");
    tester.refuses("head -c 2000000 /dev/zero > /memory/too-large");
    let folder = tester.place.folder.clone();
    assert_eq!(fs::read_to_string(folder.join("cache/file")).unwrap(), "cache");
    assert_eq!(fs::read_to_string(folder.join("scratch/cache-upper/new")).unwrap(), "new\n");
    assert!(!folder.join("cache/new").exists());
    tester.end();
}

/// Runs a raw system call inside; its errno, or 0.
fn errno_of(tester: &mut Tester, call: &[i64]) -> i32 {
    let text: Vec<String> = call.iter().map(i64::to_string).collect();
    let handle = tester.container.call("call number", text.join(" ").as_bytes(), Vec::new()).unwrap();
    match tester.finish(handle) {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal(signal) => -signal,
    }
}

pub(crate) fn dangerous_system_calls_are_refused() {
    let mut tester = Tester::new();
    let forbidden: &[(&str, &[i64])] = &[
        ("mount", &[libc::SYS_mount]),
        ("umount", &[libc::SYS_umount2]),
        ("pivot_root", &[libc::SYS_pivot_root]),
        ("fsopen", &[libc::SYS_fsopen]),
        ("fsmount", &[libc::SYS_fsmount]),
        ("open_tree", &[libc::SYS_open_tree]),
        ("move_mount", &[libc::SYS_move_mount]),
        ("mount_setattr", &[libc::SYS_mount_setattr]),
        ("setns", &[libc::SYS_setns]),
        ("unshare user", &[libc::SYS_unshare, libc::CLONE_NEWUSER as i64]),
        ("unshare mount", &[libc::SYS_unshare, libc::CLONE_NEWNS as i64]),
        ("unshare network", &[libc::SYS_unshare, libc::CLONE_NEWNET as i64]),
        ("clone user", &[libc::SYS_clone, (libc::CLONE_NEWUSER | libc::SIGCHLD) as i64]),
        ("bpf", &[libc::SYS_bpf]),
        ("perf_event_open", &[libc::SYS_perf_event_open]),
        ("userfaultfd", &[libc::SYS_userfaultfd]),
        ("keyctl", &[libc::SYS_keyctl]),
        ("add_key", &[libc::SYS_add_key]),
        ("open_by_handle_at", &[libc::SYS_open_by_handle_at]),
        ("kexec_load", &[libc::SYS_kexec_load]),
        ("init_module", &[libc::SYS_init_module]),
        ("reboot", &[libc::SYS_reboot]),
        ("settimeofday", &[libc::SYS_settimeofday]),
        ("swapon", &[libc::SYS_swapon]),
        ("acct", &[libc::SYS_acct]),
        ("syslog", &[libc::SYS_syslog, 3]),
        ("personality", &[libc::SYS_personality, 0x4_0000]),
        ("AF_ALG", &[libc::SYS_socket, 38, 5]),
        ("AF_VSOCK", &[libc::SYS_socket, 40, 1]),
        ("AF_PACKET", &[libc::SYS_socket, 17, 3]),
        ("netlink audit", &[libc::SYS_socket, 16, 3, 9]),
        ("raw socket", &[libc::SYS_socket, 2, 3, 1]),
        ("TIOCSTI", &[libc::SYS_ioctl, 0, 0x5412]),
    ];
    for (name, call) in forbidden {
        assert_eq!(errno_of(&mut tester, call), libc::EPERM, "{name}");
    }
    for (name, call) in
        [("clone3", libc::SYS_clone3), ("io_uring", libc::SYS_io_uring_setup), ("statmount", 457)]
    {
        assert_eq!(errno_of(&mut tester, &[call]), libc::ENOSYS, "{name}");
    }
    let allowed: &[(&str, &[i64])] = &[
        ("personality", &[libc::SYS_personality, 0xffff_ffff]),
        ("unix", &[libc::SYS_socket, 1, 1]),
        ("inet6", &[libc::SYS_socket, 10, 1]),
        ("netlink route", &[libc::SYS_socket, 16, 3, 0]),
    ];
    for (name, call) in allowed {
        assert_eq!(errno_of(&mut tester, call), 0, "{name}");
    }
    if cfg!(target_arch = "x86_64") {
        assert_eq!(errno_of(&mut tester, &[0x4000_0000 + 39]), -libc::SIGSYS, "x32");
    }
    tester.end();
}

/// The profile as a build meets it.
pub(crate) fn the_profile_holds() {
    profile_holds(&PROFILE, Tester::new());
}

pub(crate) fn profile_holds(profile: &Profile, mut tester: Tester) {
    let own = profile.namespaces.iter().chain(profile.later_namespaces).chain([&profile.network_namespace]);
    for (name, _) in own {
        let outside = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(
            tester.says(&format!("readlink /proc/self/ns/{name}")),
            outside.to_str().unwrap(),
            "{name}"
        );
    }
    let status = tester.says("cat /proc/self/status");
    let value =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    let kept: u64 = profile.capabilities.iter().map(|(_, number)| 1_u64 << number).sum();
    for (set, expect) in
        [("CapPrm:", kept), ("CapEff:", kept), ("CapBnd:", kept), ("CapInh:", 0), ("CapAmb:", 0)]
    {
        assert_eq!(u64::from_str_radix(&value(set), 16).unwrap(), expect, "{set}");
    }
    assert_eq!(value("NoNewPrivs:"), u8::from(profile.no_new_privileges).to_string());
    for calls in profile.calls {
        for number in calls.numbers {
            assert_eq!(errno_of(&mut tester, &[*number]), calls.answer, "{}: {number}", calls.family);
        }
    }
    // Attributes of files, which Linux has since 6.17; and what nobody has.
    for number in [profile.newest_call + 1, 468, 469, 999] {
        assert_eq!(errno_of(&mut tester, &[number]), libc::ENOSYS, "{number}");
    }
    // SAFETY: it is given nothing to do anything with.
    let outside = unsafe { libc::syscall(profile.newest_call, 0, 0, 0, 0, 0, 0) };
    let kernel_has_it = outside != -1 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS);
    assert_eq!(errno_of(&mut tester, &[profile.newest_call]) != libc::ENOSYS, kernel_has_it);
    for family in 0..=45 {
        let is_allowed = profile.socket_families.iter().any(|(_, allowed)| i64::from(*allowed) == family);
        let errno = errno_of(&mut tester, &[libc::SYS_socket, family, i64::from(libc::SOCK_DGRAM)]);
        assert_eq!(errno != libc::EPERM, is_allowed, "{family}: {errno}");
    }
    for (name, request) in profile.refused_ioctls {
        assert_eq!(errno_of(&mut tester, &[libc::SYS_ioctl, 0, *request as i64]), libc::EPERM, "{name}");
    }
    for (name, major, minor) in profile.devices {
        assert_eq!(tester.says(&format!("stat -c %t:%T /dev/{name}")), format!("{major:x}:{minor:x}"));
    }
    for path in profile.hidden {
        let seen = format!("if [ -d {path} ]; then ls -A {path}; elif [ -e {path} ]; then cat {path}; fi");
        assert_eq!(tester.says(&seen), "", "{path}");
    }
    for path in profile.read_only.iter().filter(|path| Path::new(path).exists()) {
        let mounts = tester.says("cat /proc/self/mountinfo");
        let options = mounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            (fields[4] == *path).then(|| fields[5].to_owned())
        });
        assert!(options.is_some_and(|options| options.starts_with("ro,")), "{path}");
    }
    let limits = tester.says("cat /proc/self/limits");
    for limit in profile.resources {
        let line = limits.lines().find_map(|line| line.strip_prefix(limit.name)).unwrap();
        let both: Vec<u64> =
            line.split_ascii_whitespace().take(2).map(|text| text.parse().unwrap()).collect();
        assert!(both[0] == both[1] && both[0] <= limit.most, "{}: {line}", limit.name);
    }
    let nested = tester.says("cat /proc/sys/user/max_user_namespaces");
    assert_eq!(nested, profile.nested_user_namespaces.to_string());
    let open = "import os\nn = 0\ntry:\n  while n < 1000:\n    os.open('/dev/ptmx', os.O_RDWR | os.O_NOCTTY); n += 1\nexcept OSError: pass\nprint(n)";
    let mut process = shell("");
    process.argv = ["python3", "-c", open].map(OsString::from).into();
    assert_eq!(tester.run(&process).1.trim(), profile.terminals.to_string());
    let folders = if is_root() { cgroups_named(&tester.place.name()) } else { Vec::new() };
    for file in
        folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path())
    {
        let name = file.file_name().unwrap().to_str().unwrap();
        if name.starts_with("hugetlb.") && name.ends_with(".max") {
            assert_eq!(fs::read_to_string(&file).unwrap().trim(), profile.huge_pages.to_string(), "{name}");
        }
    }
    tester.end();
}

pub(crate) fn init_cannot_be_looked_into() {
    let mut tester = Tester::new();
    for path in
        ["/proc/1/exe", "/proc/1/mem", "/proc/1/environ", "/proc/1/maps", "/proc/1/fd/3", "/proc/1/root/etc"]
    {
        tester.refuses(&format!("head -c 1 {path}"));
    }
    tester.refuses("readlink /proc/1/exe");
    tester.refuses("ls /proc/1/fd");
    // Nor killed.
    tester.sh("kill -9 1; kill -TERM 1");
    assert_eq!(tester.says("echo alive"), "alive");
    tester.end();
}

pub(crate) fn no_capability_but_the_nine_is_left() {
    let mut tester = Tester::new();
    let nine: u64 = [0, 1, 3, 4, 5, 6, 7, 10, 18].iter().map(|bit| 1_u64 << bit).sum();
    let status = tester.says("grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status");
    let value =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(u64::from_str_radix(&value(set), 16).unwrap(), nine, "{set}");
    }
    for set in ["CapInh:", "CapAmb:"] {
        assert_eq!(u64::from_str_radix(&value(set), 16).unwrap(), 0, "{set}");
    }
    assert_eq!((value("NoNewPrivs:").as_str(), value("Seccomp:").as_str()), ("1", "2"));
    tester.refuses("mknod /tmp/disk b 254 0");
    tester.refuses("hostname other");
    assert_eq!(tester.says("ulimit -c; ulimit -l"), "0\n64");
    tester.end();
}

pub(crate) fn kernel_file_systems_are_masked_and_read_only() {
    let mut tester = Tester::new();
    assert_eq!(
        tester.says("cat /proc/kcore /proc/keys /proc/timer_list /proc/interrupts 2>/dev/null | wc -c"),
        "0"
    );
    tester.refuses("echo x > /proc/sysrq-trigger");
    tester.refuses("echo core > /proc/sys/kernel/core_pattern");
    tester.refuses("echo 100 > /proc/sys/user/max_user_namespaces");
    assert_eq!(tester.says("cat /proc/sys/user/max_user_namespaces"), "0");
    assert_eq!(tester.says("ls -A /sys/firmware 2>/dev/null"), "");
    tester.refuses("touch /sys/x");
    let dev = "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero";
    assert_eq!(tester.says("ls /dev"), dev);
    assert_eq!(
        tester.says("echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c"),
        "3\n3"
    );
    assert_eq!(
        tester.says("touch /dev/shm/x; stat -c %a /dev/shm /tmp /root /var/tmp"),
        "1777\n1777\n700\n1777"
    );
    assert_eq!(tester.says("script -qc 'tty' /dev/null < /dev/null | tr -d '\\r'"), "/dev/pts/0");
    tester.end();
}

pub(crate) fn without_a_network_there_is_only_a_working_loopback() {
    let mut tester = Tester::new();
    assert_eq!(tester.says("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '"), "lo");
    let script = "import socket; s=socket.create_server(('127.0.0.1', 80)); \
                  c=socket.create_connection(('localhost', 80)); c.send(b'hi'); print(s.accept()[0].recv(2))";
    let mut process = shell("");
    process.argv = ["python3", "-c", script].map(OsString::from).into();
    assert_eq!(tester.run(&process), (ExitStatus::Code(0), "b'hi'\n".into()));
    assert_eq!(tester.says("getent hosts inside"), "127.0.1.1       inside");
    tester.end();
}

pub(crate) fn with_the_hosts_network_the_hosts_interfaces_show() {
    let mut tester = Tester::with(|spec, _| spec.network = Network::Host);
    let here = fs::read_to_string("/proc/net/dev").unwrap();
    let count = here.lines().count().to_string();
    assert_eq!(tester.says("wc -l < /proc/net/dev; ls -A /sys"), count);
    assert_eq!(
        tester.says("cat /etc/resolv.conf").trim(),
        fs::read_to_string("/etc/resolv.conf").unwrap().trim()
    );
    tester.refuses("touch /sys/x");
    tester.end();
}

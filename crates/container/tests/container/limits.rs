//! What a container may use, and a disk of its own.

use super::*;

pub(crate) fn a_memory_hog_is_killed_and_told_apart() {
    let mut tester = Tester::with(|spec, _| spec.limits.memory_bytes = Some(64 << 20));
    assert_eq!(tester.container.oom_kills(), 0);
    let mut process = shell("");
    process.argv = ["python3", "-c", "x = b'x' * (200 << 20)"].map(OsString::from).into();
    assert_eq!(tester.run(&process).0, ExitStatus::Signal(9));
    assert_eq!(tester.container.oom_kills(), 1);
    assert_eq!(tester.says("echo alive"), "alive");
    // Nor do files in memory take all of it.
    tester.refuses("head -c 50000000 /dev/zero > /dev/shm/large");
    assert_eq!(tester.says("stat -c %s /dev/shm/large"), (32 << 20).to_string());
    tester.end();
}

pub(crate) fn limits_are_what_was_asked_for() {
    let limits =
        Limits { memory_bytes: Some(256 << 20), pids: Some(77), cpu_millis: Some(1500), disk_bytes: None };
    let tester = Tester::with(|spec, _| spec.limits = limits);
    let report = container::capabilities();
    assert_eq!(report.limits, ["memory", "pids", "cpu"]);
    let cgroups = cgroups_named(&tester.place.name());
    let value = |file: &str| {
        let found = cgroups.iter().find_map(|folder| fs::read_to_string(folder.join(file)).ok());
        found.unwrap_or_default().trim().to_owned()
    };
    if report.cgroup_version == Some(1) {
        let memory = (256 << 20).to_string();
        assert_eq!(
            (value("memory.limit_in_bytes"), value("memory.memsw.limit_in_bytes")),
            (memory.clone(), memory)
        );
        assert_eq!(value("cpu.cfs_quota_us"), "150000");
    } else {
        assert_eq!((value("memory.max"), value("memory.swap.max")), ((256 << 20).to_string(), "0".into()));
        assert_eq!(value("cpu.max"), "150000 100000");
    }
    assert_eq!(value("pids.max"), "78");
    tester.end();
}

/// Names, and the files behind them.
fn loop_devices() -> Vec<(String, String)> {
    let entries = fs::read_dir("/sys/block").unwrap().map(|entry| entry.unwrap());
    let in_use = |entry: fs::DirEntry| {
        let file = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
        Some((entry.file_name().into_string().ok()?, file))
    };
    entries.filter_map(in_use).collect()
}

pub(crate) fn a_disk_of_a_fixed_size_is_full_and_gone_afterwards() {
    const DISK_BYTES: u64 = 64 << 20;
    container::prepare_disk(DISK_BYTES).unwrap();
    let is_ours = |devices: Vec<(String, String)>, place: &Path| {
        devices.iter().filter(|(_, file)| file.starts_with(place.to_str().unwrap())).count()
    };
    let mut tester = Tester::with(|spec, _| spec.limits.disk_bytes = Some(DISK_BYTES));
    let folder = tester.place.folder.clone();
    assert_eq!(is_ours(loop_devices(), &folder), 1);
    let (status, output) = tester.sh("head -c 100000000 /dev/zero > /root/large");
    assert_ne!(status, ExitStatus::Code(0));
    assert!(output.contains("No space left on device"), "{output}");
    // All folders are on it; what the host has is still read, and room that was freed can be used.
    tester.refuses("head -c 1000000 /dev/zero > /usr/share/more");
    tester.says("rm /root/large; head -c 40000000 /dev/zero > /etc/large; rm /etc/large; cat /etc/passwd");
    // As many files as there is room for, and no more.
    tester
        .refuses("cd /tmp; i=0; while [ $i -lt 100000 ]; do : > $i || exit 1; i=$((i+1)); done 2> /dev/null");
    assert!(
        fs::read_dir(tester.place.scratch()).unwrap().next().is_none(),
        "nothing of it lies in the folder"
    );
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours: Vec<String> = loop_devices()
        .into_iter()
        .filter(|(_, file)| file.starts_with(folder.to_str().unwrap()))
        .map(|(device, _)| format!(" /dev/{device} "))
        .collect();
    assert!(!ours.iter().any(|device| mounts.contains(device)), "{ours:?} among {mounts}");
    tester.end();
    assert!(eventually(|| is_ours(loop_devices(), &folder) == 0), "{:?}", loop_devices());

    // Nor does it stay if nobody ends it.
    let place = Place::new_beside();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    // SAFETY: this process has one thread.
    let caller = unsafe { libc::fork() };
    if caller == 0 {
        let (mut spec, _output) = place.spec();
        spec.limits.disk_bytes = Some(DISK_BYTES);
        let _container = Container::create(spec).unwrap();
        rustix::io::write(&writer, b"x").unwrap();
        // As a crash does.
        rustix::process::kill_process(rustix::process::getpid(), Signal::KILL).unwrap();
    }
    drop(writer);
    fs::File::from(reader).read_exact(&mut [0]).unwrap();
    rustix::process::waitpid(rustix::process::Pid::from_raw(caller), rustix::process::WaitOptions::empty())
        .unwrap();
    assert!(eventually(|| is_ours(loop_devices(), &place.folder) == 0), "{:?}", loop_devices());
    container::sweep(&place.name(), &place.scratch()).unwrap();
}

pub(crate) fn a_disk_of_a_fixed_size_takes_root_and_room() {
    let refused = |change: fn(&mut Spec)| {
        let place = Place::new();
        let (mut spec, _output) = place.spec();
        spec.limits.disk_bytes = Some(64 << 20);
        change(&mut spec);
        Container::create(spec).unwrap_err()
    };
    let error = refused(|spec| spec.limits.disk_bytes = Some(1000));
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    if is_root() {
        let error = refused(|spec| spec.may_lie_beneath = true);
        assert!(matches!(error, Error::Invalid(_)), "{error}");
    } else {
        for error in [refused(|_| {}), container::prepare_disk(64 << 20).unwrap_err()] {
            assert!(matches!(error, Error::Forbidden { .. }), "{error}");
        }
    }
}

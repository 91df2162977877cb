//! Measures a container's whole life: prepare, create, run /bin/true, destroy. `spawn [times] [host-network] [disk]`. What is prepared is done
//! before there is a build, by a waiting agent; it is counted, but not the kernel's time to let a process into cgroups. `disk`: on one of 64 GB.

use std::path::Path;
use std::time::{Duration, Instant};

use container::{Container, Event, Limits, Network, Prepared, Process, Rootfs, Spec, default_visible_paths};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let times = std::env::args().nth(1).map_or(Ok(100), |text| text.parse())?;
    let network = if std::env::args().any(|a| a == "host-network") { Network::Host } else { Network::None };
    let disk = std::env::args().any(|a| a == "disk").then_some(64_000_000_000);
    disk.map_or(Ok(()), container::prepare_disk)?;
    let folder = std::env::temp_dir().join(format!("spawn-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let measured: Result<Vec<[Duration; 5]>, Failure> =
        (0..times).map(|n| once(n, &folder, network, disk)).collect();
    std::fs::remove_dir(&folder)?;
    let measured = measured?;
    for (name, column) in ["prepare", "create", "run", "destroy", "all"].iter().zip(0..) {
        let mut sorted: Vec<Duration> = measured.iter().map(|row| row[column]).collect();
        sorted.sort();
        let at =
            |percent: usize| sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)].as_secs_f64() * 1e3;
        println!("{name:8} p50 {:6.2} ms   p90 {:6.2} ms   p99 {:6.2} ms", at(50), at(90), at(99));
    }
    Ok(())
}

fn once(
    number: usize,
    scratch: &Path,
    network: Network,
    disk_bytes: Option<u64>,
) -> Result<[Duration; 5], Failure> {
    let name = format!("spawn-{}-{number}", std::process::id());
    let start = Instant::now();
    let prepared = Prepared::new(&name)?;
    let ahead = start.elapsed();
    // Long enough to be in the cgroups.
    std::thread::sleep(Duration::from_millis(60));
    let spec = Spec {
        rootfs: Rootfs::Host { visible: default_visible_paths() },
        scratch: scratch.to_path_buf(),
        may_lie_beneath: false,
        beneath: Vec::new(),
        mounts: Vec::new(),
        masks: Vec::new(),
        folders: Vec::new(),
        files: Vec::new(),
        hostname: "spawn".into(),
        network,
        listen: Vec::new(),
        limits: Limits { memory_bytes: Some(1 << 30), pids: Some(1000), cpu_millis: Some(2000), disk_bytes },
        is_privileged: false,
        name,
        output: std::fs::File::open("/dev/null")?.into(),
        functions: &[],
    };
    let start = Instant::now();
    let mut container = Container::create_in(prepared, spec)?;
    let created = start.elapsed();
    let process = Process { argv: vec!["/bin/true".into()], cwd: "/".into(), ..Process::default() };
    container.start(&process)?;
    let event = container.next_event()?;
    let run = start.elapsed();
    if !matches!(event, Event::Exited { .. }) {
        return Err(format!("{event:?}").into());
    }
    container.destroy()?;
    let all = start.elapsed();
    Ok([ahead, created, run - created, all - run, ahead + all])
}

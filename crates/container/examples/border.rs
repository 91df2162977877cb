//! Measures what a border between two containers costs: `border [times]`. The next one is prepared while the former runs.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use container::{Container, Event, Limits, Network, Prepared, Process, Rootfs, Spec, default_visible_paths};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let times = std::env::args().nth(1).map_or(Ok(20), |text| text.parse())?;
    let folder = std::env::temp_dir().join(format!("border-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let measured: Result<Vec<[Duration; 4]>, Failure> = (0..times).map(|_| once(&folder)).collect();
    container::sweep("nobody", &folder)?;
    std::fs::remove_dir(&folder)?;
    let measured = measured?;
    for (name, column) in ["prepare", "end", "create", "run"].iter().zip(0..) {
        let mut sorted: Vec<Duration> = measured.iter().map(|row| row[column]).collect();
        sorted.sort();
        let at =
            |percent: usize| sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)].as_secs_f64() * 1e3;
        println!("{name:8} p50 {:6.2} ms   p90 {:6.2} ms", at(50), at(90));
    }
    Ok(())
}

fn once(folder: &Path) -> Result<[Duration; 4], Failure> {
    let name = |which: &str| format!("border-{}-{which}", std::process::id());
    let mut first = Container::create_in(Prepared::new(&name("a"))?, spec(folder, &name("a"), &[])?)?;
    run(&mut first, "echo x >/tmp/x")?;
    let start = Instant::now();
    let prepared = Prepared::new(&name("b"))?;
    let preparing = start.elapsed();
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    first.end()?;
    let ended = start.elapsed();
    let second = spec(folder, &name("b"), &[folder.join(name("a"))])?;
    let start = Instant::now();
    let mut second = Container::create_in(prepared, second)?;
    let created = start.elapsed();
    let start = Instant::now();
    run(&mut second, "cat /tmp/x")?;
    let ran = start.elapsed();
    second.end()?;
    container::sweep("nobody", folder)?;
    Ok([preparing, ended, created, ran])
}

fn run(container: &mut Container, script: &str) -> Result<(), Failure> {
    let process =
        Process { argv: ["sh", "-c", script].map(Into::into).into(), cwd: "/".into(), ..Process::default() };
    container.start(&process)?;
    match container.next_event()? {
        Event::Exited { .. } => Ok(()),
        event => Err(format!("{event:?}").into()),
    }
}

fn spec(folder: &Path, name: &str, beneath: &[PathBuf]) -> Result<Spec, Failure> {
    let scratch = folder.join(name);
    std::fs::create_dir(&scratch)?;
    Ok(Spec {
        rootfs: Rootfs::Host { visible: default_visible_paths() },
        scratch,
        may_lie_beneath: true,
        beneath: beneath.to_vec(),
        mounts: Vec::new(),
        masks: Vec::new(),
        folders: Vec::new(),
        files: Vec::new(),
        hostname: "border".into(),
        network: Network::Host,
        listen: Vec::new(),
        limits: Limits {
            memory_bytes: Some(1 << 30),
            pids: Some(1000),
            cpu_millis: Some(2000),
            disk_bytes: None,
        },
        is_privileged: false,
        name: name.to_owned(),
        output: std::fs::File::open("/dev/null")?.into(),
        functions: &[],
    })
}

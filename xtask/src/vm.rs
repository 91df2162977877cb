//! `vm`: the container room and a build on a kernel whose only cgroups are those of version 2.
//!
//! Hosts that bind controllers to version 1 cannot show that version 2 works, so a virtual machine does: Debian's kernel and a
//! small Debian under QEMU, with the tests and a `buildyard` of this checkout on a second disk. Here: booting it, and judging by what
//! it wrote on its console. What the disks hold is [`disks`]'; what is tried inside stands in `tests/vm/checks`.

mod disks;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::error::{Error, at};
use disks::Disks;

pub(crate) const USAGE: &str = "";

/// What runs the machine's instructions, the quicker first, and until when it must have brought it to its first words on a busy
/// host. A host that is virtual itself may have a KVM that breaks down at once.
const ACCELERATORS: [(&str, Duration); 2] =
    [("kvm", Duration::from_secs(15)), ("tcg", Duration::from_secs(240))];
/// From power on to the last check, on two processors without hardware virtualisation.
const PATIENCE: Duration = Duration::from_secs(600);
/// Lines of the console that tell why a machine did not get to its end.
const TAIL_LINES: usize = 40;

/// What `tests/vm/checks` says on the console, before `passed NAME` and the like.
const MARK: &str = "::vm:: ";

/// The checks there are; one that does not say how it ended has failed.
const CHECKS: [&str; 7] = [
    "only-version-2",
    "limits-at-the-top",
    "container-suite",
    "hello-with-limits",
    "killed-for-memory",
    "killed-for-memory-as-user",
    "nothing-is-left",
];

pub(crate) fn run(arguments: &[String]) -> Result<(), Error> {
    if !arguments.is_empty() {
        return Err(Error::Usage("  cargo xtask vm".into()));
    }
    let disks = Disks::make(&crate::root())?;
    let console = boot(&disks)?;
    let failed = failed(&console);
    println!("vm: {} passed, {} failed", CHECKS.len() - failed.len(), failed.len());
    if failed.is_empty() {
        return Ok(());
    }
    let tail = console.iter().rev().take(TAIL_LINES).rev().cloned().collect::<Vec<_>>().join("\n");
    Err(Error::Vm(format!("not passed: {}; the console's end:\n{tail}", failed.join(", "))))
}

/// What the console said, under the first accelerator that got the machine to start.
fn boot(disks: &Disks) -> Result<Vec<String>, Error> {
    let mut console = Vec::new();
    for (accelerator, patience) in ACCELERATORS {
        println!("vm: starting with {accelerator}");
        console = attempt(disks, accelerator, patience)?;
        if says(&console, "started") {
            break;
        }
    }
    Ok(console)
}

/// Lets the machine run until it ends or its patience is over, which is short until it starts, and returns what its console said, which is also printed.
fn attempt(disks: &Disks, accelerator: &str, patience: Duration) -> Result<Vec<String>, Error> {
    let mut machine = machine(disks, accelerator).spawn().map_err(at(Path::new(disks::QEMU)))?;
    let output = machine.stdout.take().expect("it is piped");
    let (sender, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let lines = BufReader::new(output).split(b'\n').map_while(Result::ok);
        lines.map(|line| clean(&line)).take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
    });
    let console = follow(&lines, patience);
    drop(lines);
    end(&mut machine)?;
    reader.join().expect("the reader does not panic");
    Ok(console)
}

fn follow(lines: &mpsc::Receiver<String>, mut patience: Duration) -> Vec<String> {
    let start = Instant::now();
    let mut console = Vec::new();
    while let Ok(line) = lines.recv_timeout(patience.saturating_sub(start.elapsed())) {
        println!("{line}");
        console.push(line);
        if says(&console[console.len() - 1..], "started") {
            patience = PATIENCE;
        }
    }
    console
}

fn end(machine: &mut Child) -> Result<(), Error> {
    // It has ended itself, unless its time is over.
    machine.kill().and_then(|()| machine.wait()).map(drop).map_err(at(Path::new(disks::QEMU)))
}

fn machine(disks: &Disks, accelerator: &str) -> Command {
    let drive = |image: &Path| format!("file={},format=raw,if=virtio,snapshot=on", image.display());
    let mut command = Command::new(disks::QEMU);
    command.args(["-accel", accelerator, "-cpu", "max", "-smp", "2", "-m", "2048"]);
    command.args(["-nodefaults", "-nographic", "-serial", "stdio", "-no-reboot"]);
    command.arg("-kernel").arg(&disks.kernel).arg("-initrd").arg(&disks.memory);
    command.args(["-append", "console=ttyS0 quiet panic=-1 cgroup_no_v1=all"]);
    command.args(["-drive", &drive(&disks.system), "-drive", &drive(&disks.tests)]);
    // What QEMU itself has to say about an accelerator is of no interest; that the machine starts is.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// A line of a serial console as text.
fn clean(line: &[u8]) -> String {
    String::from_utf8_lossy(line).trim_end_matches('\r').to_owned()
}

/// The checks that did not say they passed, and `over` if the last one was not reached.
fn failed(console: &[String]) -> Vec<&'static str> {
    let said = |words: &str| says(console, words);
    let mut failed: Vec<&str> =
        CHECKS.iter().copied().filter(|check| !said(&format!("passed {check}"))).collect();
    if failed.is_empty() && !said("over") {
        failed.push("over");
    }
    failed
}

fn says(console: &[String], words: &str) -> bool {
    console.iter().any(|line| line.strip_prefix(MARK) == Some(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| clean(line.as_bytes())).collect()
    }

    fn all_passed() -> Vec<String> {
        let mut lines: Vec<String> = CHECKS.iter().map(|check| format!("::vm:: passed {check}\r")).collect();
        lines.push("::vm:: over\r".into());
        console(&lines.iter().map(String::as_str).collect::<Vec<_>>())
    }

    #[test]
    fn a_machine_that_does_not_say_it_passed_has_failed() {
        assert_eq!(failed(&all_passed()), [] as [&str; 0]);
        assert_eq!(failed(&console(&["Kernel panic - not syncing"])), CHECKS);
        let mut hung = all_passed();
        hung.pop();
        assert_eq!(failed(&hung), ["over"]);
        let mut one = all_passed();
        one[3] = one[3].replace("passed", "failed");
        assert_eq!(failed(&one), [CHECKS[3]]);
    }

    #[test]
    fn the_machine_is_asked_for_the_checks_that_are_expected() {
        let script = std::fs::read_to_string(crate::root().join("tests/vm/checks")).unwrap();
        let checks: Vec<&str> =
            script.lines().filter_map(|line| line.strip_prefix("check ")?.split(' ').next()).collect();
        assert_eq!(checks, CHECKS);
    }
}

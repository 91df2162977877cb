//! Tries to get out of a container. A program of its own, linked statically so that it runs in any image: `escape.rs` compiles
//! it, runs it as a build's command, and runs it once more outside of any container, where what it tries must work, or the
//! check could not fail.
//!
//! Prints a line for each check: family, name, `denied`, `reached` or `absent`, whether it must be reached outside, and what came of it.
//! `--list` prints the first two alone. What it must know of the host is in variables `PROBE_...`. Each check runs in a process of its
//! own (`--one NUMBER`), since some end theirs.
//!
//! It needs nothing but the standard library and the C library's `syscall`, as it is compiled without cargo.
#![allow(unsafe_code, missing_docs, clippy::unwrap_used)]

use std::ffi::CString;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

#[derive(Debug)]
enum Outcome {
    Denied(String),
    Reached(String),
    /// There is no such thing on this host.
    Absent(String),
}
use Outcome::{Absent, Denied, Reached};

/// Whether the check must be reached outside, by root.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outside {
    Works,
    /// It would change the host, or the host need not have it.
    Untried,
}
use Outside::{Untried, Works};

struct Check {
    family: &'static str,
    name: &'static str,
    outside: Outside,
    run: fn() -> Outcome,
}

macro_rules! checks {
    ($(in $family:literal: $($name:literal $outside:ident $run:expr;)*)*) => {
        &[$($(Check { family: $family, name: $name, outside: $outside, run: $run },)*)*]
    };
}

const CHECKS: &[Check] = checks![
    in "namespace":
        "the host's user namespace" Works || same_namespace("user");
        "the host's mount namespace" Works || same_namespace("mnt");
        "the host's process namespace" Works || same_namespace("pid");
        "the host's network namespace" Works || same_namespace("net");
        "the host's IPC namespace" Works || same_namespace("ipc");
        "the host's UTS namespace" Works || same_namespace("uts");
        "the host's cgroup namespace" Works || same_namespace("cgroup");
        "a process of the host" Works process_of_the_host;
        "shared memory of the host" Works shared_memory_of_the_host;
        "the host's name" Works name_of_the_host;
        "a path of the host in the table of mounts" Untried mounts_of_the_host;
        "all user ids of the host" Works all_ids;
    in "capability":
        "SYS_ADMIN: set the host name" Works set_host_name;
        "NET_ADMIN: set an interface's flags" Works set_interface;
        "NET_ADMIN: add an address" Untried add_address;
        "NET_RAW: a raw socket" Works || attempt(sys::SOCKET, &[2, 3, 1]);
        "SYS_PTRACE: trace a process that is not ours" Works trace;
        "SYS_MODULE: load a module" Works || attempt(sys::INIT_MODULE, &[0, 0, 0]);
        "SYS_RAWIO: reach the machine's ports" Works raw_io;
        "SYS_TIME: set the clock" Works set_clock;
        "SYS_NICE: go before others" Works || attempt(sys::SETPRIORITY, &[0, 0, -5]);
        "SYS_RESOURCE: raise a limit" Works raise_limit;
        "SYSLOG: read the kernel's messages" Works || attempt(sys::SYSLOG, &[3, 0, 0]);
        "LINUX_IMMUTABLE: make a file unchangeable" Works make_immutable;
        "SYS_PACCT: account for processes" Works || attempt(sys::ACCT, &[0]);
        "SYS_BOOT: reboot" Works || attempt(sys::REBOOT, &[0xfee1_dead, 0, 0, 0]);
        "SETFCAP: give a program capabilities" Works give_capabilities;
        "IPC_LOCK: lock memory" Works lock_memory;
    in "system call":
        "AF_ALG" Untried || attempt(sys::SOCKET, &[38, 5, 0]);
        "AF_VSOCK" Untried || attempt(sys::SOCKET, &[40, 1, 0]);
        "AF_PACKET" Works || attempt(sys::SOCKET, &[17, 3, 0]);
        "netlink: audit" Untried || attempt(sys::SOCKET, &[16, 3, 9]);
        "netlink: the kernel's events" Works || attempt(sys::SOCKET, &[16, 3, 15]);
        "netlink: the firewall" Untried || attempt(sys::SOCKET, &[16, 3, 12]);
        "io_uring" Works io_uring;
        "bpf" Works bpf;
        "userfaultfd" Untried || attempt(sys::USERFAULTFD, &[1]);
        "keyctl" Works || attempt(sys::KEYCTL, &[0, -3, 1]);
        "add_key" Works add_key;
        "open_by_handle_at" Works open_by_handle;
        "perf_event_open" Untried perf;
        "unshare: a user namespace" Works || attempt(sys::UNSHARE, &[0x1000_0000]);
        "unshare: a mount namespace" Works || attempt(sys::UNSHARE, &[0x2_0000]);
        "unshare: a network namespace" Works || attempt(sys::UNSHARE, &[0x4000_0000]);
        "clone: a user namespace" Works clone_user;
        "clone3: a user namespace" Works clone3_user;
        "setns" Works set_namespace;
        "personality: no random addresses" Works || attempt(sys::PERSONALITY, &[0x4_0000]);
        "kexec_load" Untried || attempt(sys::KEXEC_LOAD, &[0, 0, 0, 0xffff]);
        "process_vm_readv: the first process" Untried read_first_process;
        "pidfd_getfd: the first process" Untried take_descriptor;
        "statmount" Untried || attempt(sys::STATMOUNT, &[0, 0, 0, 0]);
        "quotactl" Untried || attempt(sys::QUOTACTL, &[0, 0, 0, 0]);
        "TIOCSTI: type into a terminal" Untried type_into_terminal;
        "i386: a call of the 32-bit world" Untried i386;
        "x32: a call of the other 64-bit world" Untried x32;
    in "masked path":
        "/proc/kcore" Works || shown("/proc/kcore");
        "/proc/keys" Untried || shown("/proc/keys");
        "/proc/timer_list" Works || shown("/proc/timer_list");
        "/proc/sched_debug" Untried || shown("/proc/sched_debug");
        "/proc/interrupts" Works || shown("/proc/interrupts");
        "/proc/latency_stats" Untried || shown("/proc/latency_stats");
        "/proc/scsi" Untried || shown("/proc/scsi");
        "/proc/acpi" Untried || shown("/proc/acpi");
        "/sys/firmware" Untried || shown("/sys/firmware");
        "/sys/devices/virtual/powercap" Untried || shown("/sys/devices/virtual/powercap");
        "/sys/kernel/debug" Untried || shown("/sys/kernel/debug");
        "/sys/fs/cgroup" Works || shown("/sys/fs/cgroup");
    in "read-only path":
        "/proc/sys/kernel/core_pattern" Works || writable("/proc/sys/kernel/core_pattern", "/proc/sys");
        "/proc/sys/kernel/modprobe" Untried || writable("/proc/sys/kernel/modprobe", "/proc/sys");
        "/proc/sys/user/max_user_namespaces" Works || writable("/proc/sys/user/max_user_namespaces", "/proc/sys");
        "/proc/sys/vm/overcommit_memory" Works || writable("/proc/sys/vm/overcommit_memory", "/proc/sys");
        "/proc/sysrq-trigger" Untried || writable("/proc/sysrq-trigger", "/proc/sysrq-trigger");
        "/proc/irq" Works || writable("/proc/irq/default_smp_affinity", "/proc/irq");
        "/proc/bus" Untried || writable_below("/proc/bus");
        "/proc/fs" Untried || writable_below("/proc/fs");
        "/sys" Works || writable("/sys/kernel/profiling", "/sys");
    in "mount":
        "a file system in memory" Works mount_memory;
        "/proc once more" Works mount_proc;
        "a folder somewhere else" Works bind;
        "an overlay" Untried mount_overlay;
        "the root, writable" Untried || attempt_mount("", "/", "", REMOUNT | BIND);
        "the root, away" Untried unmount_root;
        "another root" Works pivot;
        "the new calls: a file system" Works new_file_system;
        "the new calls: a copy of a tree" Works copy_tree;
        "the new calls: move a mount" Works move_mount;
        "the new calls: another mount's attributes" Works mount_attributes;
        "out of a root by another root" Works out_of_root;
        "limits of control groups" Untried limits_of_groups;
    in "descriptor":
        "a descriptor that was not given" Works open_descriptors;
        "a folder by descriptor" Works folder_descriptors;
        "a working folder outside of the root" Untried working_folder;
        "the first process's descriptors" Works || listed("fd");
        "the first process's root" Works || listed("root/");
        "the first process's working folder" Works || listed("cwd/");
        "the first process's program, to write to" Untried write_first_program;
        "the first process's memory" Works first_memory;
        "the first process's variables" Works first_environment;
        "a variable of the host" Works variables;
    in "device":
        "make a character device" Works || make_device(0o020_000, 1, 1);
        "make a block device" Works || make_device(0o060_000, 7, 0);
        "a device that is not ours" Works other_devices;
        "a mount on which devices work" Works mounts_with_devices;
    in "network":
        "the cloud's metadata" Untried || connect("169.254.169.254:80");
        "the cloud's metadata, version 6" Untried || connect("[fd00:ec2::254]:80");
        "the host's loopback interface" Works || connect_to("PROBE_LOOPBACK");
        "the host's address" Works || connect_to("PROBE_ADDRESS");
        "an abstract socket of the host" Works abstract_socket;
        "an interface of the host" Works interfaces;
        "a private network" Untried || connect("10.0.0.1:80");
];

/// Numbers of system calls.
mod sys {
    macro_rules! numbers {
        ($($name:ident $x86:literal $other:literal)*) => {
            $(pub(crate) const $name: i64 = if cfg!(target_arch = "x86_64") { $x86 } else { $other };)*
        };
    }
    numbers![
        MOUNT 165 40  UMOUNT2 166 39  PIVOT_ROOT 155 41  CHROOT 161 51  SETNS 308 268  UNSHARE 272 97
        OPEN_TREE 428 428  MOVE_MOUNT 429 429  FSOPEN 430 430
        MOUNT_SETATTR 442 442  STATMOUNT 457 457  QUOTACTL 179 60
        OPEN_BY_HANDLE_AT 304 265  NAME_TO_HANDLE_AT 303 264  MKNODAT 259 33  SETXATTR 188 5
        BPF 321 280  PERF_EVENT_OPEN 298 241  INIT_MODULE 175 105  KEXEC_LOAD 246 104  SYSLOG 103 116
        KEYCTL 250 219  ADD_KEY 248 217  REBOOT 169 142  CLOCK_ADJTIME 305 266  ACCT 163 89
        USERFAULTFD 323 282  IO_URING_SETUP 425 425  CLONE 56 220  CLONE3 435 435  PERSONALITY 135 92
        SOCKET 41 198  IOCTL 16 29  SENDTO 44 206  RECVFROM 45 207  FCNTL 72 25  SETHOSTNAME 170 161  SHMGET 29 194
        PTRACE 101 117  SETPRIORITY 141 140  PRLIMIT64 302 261  MLOCK 149 228  PROCESS_VM_READV 310 270
        PIDFD_OPEN 434 434  PIDFD_GETFD 438 438  EXIT 231 94
    ];
}

unsafe extern "C" {
    fn syscall(number: i64, ...) -> i64;
}

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const ENOMEM: i32 = 12;
const EACCES: i32 = 13;
const EROFS: i32 = 30;
const ENOSYS: i32 = 38;
/// No such family of sockets, protocol, or operation.
const NO_SUCH_KIND: [i32; 4] = [93, 94, 95, 97];
const SIGSYS: i32 = 31;

const READ_ONLY: i64 = 1;
const REMOUNT: i64 = 32;
const BIND: i64 = 4096;
const DETACH: i64 = 2;
const HERE: i64 = -100;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => CHECKS.iter().for_each(|check| println!("{}\t{}", check.family, check.name)),
        ["--one", number] => print_outcome(&(CHECKS[number.parse::<usize>().unwrap()].run)()),
        ["--family", family] => try_all(|check| check.family == family),
        _ => try_all(|_| true),
    }
    ExitCode::SUCCESS
}

fn try_all(is_wanted: impl Fn(&Check) -> bool) {
    for (number, check) in CHECKS.iter().enumerate().filter(|(_, check)| is_wanted(check)) {
        let (word, why) = parse(&apart(number));
        println!("{}\t{}\t{word}\t{:?}\t{why}", check.family, check.name, check.outside);
    }
}

fn print_outcome(outcome: &Outcome) {
    match outcome {
        Denied(why) => println!("denied\t{why}"),
        Reached(why) => println!("reached\t{why}"),
        Absent(why) => println!("absent\t{why}"),
    }
}

fn parse(text: &str) -> (String, String) {
    let (word, why) = text.lines().next().and_then(|line| line.split_once('\t')).unwrap_or(("broken", text));
    (word.to_owned(), why.replace(['\t', '\n'], " "))
}

/// Runs a check in a process of its own; a kill by the system call filter is a denial.
fn apart(number: usize) -> String {
    let program = std::env::args_os().next().unwrap();
    let output = Command::new(program).args(["--one", &number.to_string()]).output().unwrap();
    match output.status.signal() {
        Some(SIGSYS) => "denied\tkilled by SIGSYS".into(),
        Some(signal) => format!("absent\tended by signal {signal}"),
        None => String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
    }
}

fn fact(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn is_inside() -> bool {
    fact("PROBE_OUTSIDE").is_none()
}

/// A folder to try things in.
fn place() -> PathBuf {
    let base = fact("PROBE_FOLDER").filter(|_| !is_inside()).unwrap_or_else(|| "/tmp".into());
    let place = Path::new(&base).join(format!("probe-{}", std::process::id()));
    fs::create_dir_all(&place).unwrap();
    place
}

// ---- system calls ----

fn call(number: i64, arguments: &[i64]) -> Result<i64, i32> {
    let at = |index: usize| arguments.get(index).copied().unwrap_or(0);
    // SAFETY: what is passed as an address is one of memory that lives until the call returns, or zero.
    let result = unsafe { syscall(number, at(0), at(1), at(2), at(3), at(4), at(5)) };
    if result == -1 { Err(std::io::Error::last_os_error().raw_os_error().unwrap()) } else { Ok(result) }
}

/// A refusal is one that comes before the kernel has looked at what was asked: everything else has got through to it.
fn judge(result: Result<i64, i32>) -> Outcome {
    match result {
        Ok(value) => Reached(format!("answered {value}")),
        Err(ENOSYS) if !is_inside() => Absent("the kernel has none".into()),
        Err(errno @ (EPERM | EACCES | EROFS | ENOSYS)) => Denied(format!("errno {errno}")),
        Err(errno) if NO_SUCH_KIND.contains(&errno) => Absent(format!("errno {errno}")),
        Err(errno) => Reached(format!("the kernel looked at it: errno {errno}")),
    }
}

fn attempt(number: i64, arguments: &[i64]) -> Outcome {
    judge(call(number, arguments))
}

fn text(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn address<T>(value: &T) -> i64 {
    std::ptr::from_ref(value) as i64
}

fn path(text: &CString) -> i64 {
    text.as_ptr() as i64
}

fn io_uring() -> Outcome {
    let parameters = [0_u8; 120];
    attempt(sys::IO_URING_SETUP, &[1, address(&parameters)])
}

fn bpf() -> Outcome {
    // A map of one entry: type array, key 4, value 4.
    let attributes: [u32; 32] = std::array::from_fn(|at| [2, 4, 4, 1].get(at).copied().unwrap_or(0));
    attempt(sys::BPF, &[0, address(&attributes), 128])
}

fn add_key() -> Outcome {
    let (kind, name) = (text("user"), text("probe"));
    // To the keyring of this process.
    attempt(sys::ADD_KEY, &[path(&kind), path(&name), path(&name), 5, -2])
}

fn open_by_handle() -> Outcome {
    let root = text(if is_inside() { "/" } else { "/etc" });
    let mut handle = [0_u8; 8 + 128];
    handle[0] = 128;
    let mut mount = 0_i32;
    let named = call(
        sys::NAME_TO_HANDLE_AT,
        &[HERE, path(&root), handle.as_mut_ptr() as i64, std::ptr::from_mut(&mut mount) as i64, 0],
    );
    let folder = File::open("/").unwrap();
    let opened = call(sys::OPEN_BY_HANDLE_AT, &[folder.as_raw_fd().into(), address(&handle), 0]);
    match (named, opened) {
        // Without a handle the call is tried with one of zeros.
        (_, opened @ Ok(_)) | (Ok(_), opened) => judge(opened),
        (Err(_), opened) => judge(opened),
    }
}

fn perf() -> Outcome {
    let mut attributes = [0_u8; 128];
    // A software event, of this process, the kernel left out.
    (attributes[0], attributes[4], attributes[40]) = (1, 128, 0x20);
    attempt(sys::PERF_EVENT_OPEN, &[address(&attributes), 0, -1, -1, 0])
}

fn clone_user() -> Outcome {
    match call(sys::CLONE, &[0x1000_0000 | 17, 0, 0, 0, 0]) {
        Ok(0) => {
            let _ = call(sys::EXIT, &[0]);
            unreachable!()
        }
        other => judge(other),
    }
}

fn clone3_user() -> Outcome {
    let mut arguments = [0_u64; 11];
    (arguments[0], arguments[4]) = (0x1000_0000, 17);
    match call(sys::CLONE3, &[address(&arguments), 88]) {
        Ok(0) => {
            let _ = call(sys::EXIT, &[0]);
            unreachable!()
        }
        other => judge(other),
    }
}

fn set_namespace() -> Outcome {
    let own = File::open("/proc/self/ns/uts").unwrap();
    attempt(sys::SETNS, &[own.as_raw_fd().into(), 0])
}

fn read_first_process() -> Outcome {
    let buffer = [0_u8; 8];
    let here = [address(&buffer), 8];
    let there = [0x40_0000_i64, 8];
    match call(sys::PROCESS_VM_READV, &[1, address(&here), 1, address(&there), 1, 0]) {
        // No such address, but it was allowed to ask.
        Err(14) => Reached("asked".into()),
        other => judge(other),
    }
}

fn take_descriptor() -> Outcome {
    match call(sys::PIDFD_OPEN, &[1, 0]) {
        Ok(process) => attempt(sys::PIDFD_GETFD, &[process, 0, 0]),
        refused => judge(refused),
    }
}

fn type_into_terminal() -> Outcome {
    const TIOCSTI: i64 = 0x5412;
    let Ok(terminal) = File::options().read(true).write(true).open("/dev/ptmx") else {
        return Absent("no terminal".into());
    };
    attempt(sys::IOCTL, &[terminal.as_raw_fd().into(), TIOCSTI, address(&b'x')])
}

fn i386() -> Outcome {
    #[cfg(target_arch = "x86_64")]
    {
        const GETPID: i32 = 20;
        let mut answer = GETPID;
        // SAFETY: getpid of the 32-bit world changes nothing but its answer; flags and scratch registers are given up.
        unsafe {
            std::arch::asm!("int 0x80", inout("eax") answer, out("r8") _, out("r9") _, out("r10") _, out("r11") _)
        };
        if answer > 0 { Reached(format!("process {answer}")) } else { Absent(format!("answered {answer}")) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    Absent("another architecture".into())
}

fn x32() -> Outcome {
    if !cfg!(target_arch = "x86_64") {
        return Absent("another architecture".into());
    }
    const GETPID: i64 = 0x4000_0000 + 39;
    match call(GETPID, &[]) {
        Err(ENOSYS) => Absent("the kernel has none".into()),
        other => judge(other),
    }
}

// ---- namespaces ----

fn same_namespace(kind: &str) -> Outcome {
    let here = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
    let here = here.to_string_lossy();
    match fact(&format!("PROBE_NS_{kind}")) {
        None => Absent("the host's is not known".into()),
        Some(host) if host == here => Reached(format!("{here} as the host")),
        Some(_) => Denied(format!("{here} is another")),
    }
}

/// The process of the host that has the mark in its command line.
fn witness() -> Option<i64> {
    let mark = fact("PROBE_MARK")?;
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i64>().ok());
    let mut marked = numbers.filter(|number| {
        fs::read_to_string(format!("/proc/{number}/cmdline")).is_ok_and(|line| line.contains(&mark))
    });
    marked.next()
}

fn process_of_the_host() -> Outcome {
    match witness() {
        Some(number) => Reached(format!("process {number}")),
        None => Denied("it does not show".into()),
    }
}

fn shared_memory_of_the_host() -> Outcome {
    let key: i64 = fact("PROBE_KEY").unwrap().parse().unwrap();
    match call(sys::SHMGET, &[key, 0, 0]) {
        Err(ENOENT) => Denied("there is none of that key".into()),
        other => judge(other),
    }
}

fn name_of_the_host() -> Outcome {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    match fact("PROBE_HOSTNAME") {
        Some(host) if host == name.trim() => Reached(host),
        _ => Denied(name.trim().into()),
    }
}

fn mounts_of_the_host() -> Outcome {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let folder = fact("PROBE_FOLDER").unwrap();
    match mounts.lines().find(|line| line.split(' ').nth(4).is_some_and(|point| point.starts_with(&folder))) {
        Some(line) => Reached(line.into()),
        None => Denied("none".into()),
    }
}

fn all_ids() -> Outcome {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    let map: Vec<&str> = map.split_ascii_whitespace().collect();
    match map[..] {
        ["0", "0", "4294967295"] => Reached("all of them".into()),
        _ => Denied(map.join(" ")),
    }
}

// ---- capabilities ----

fn set_host_name() -> Outcome {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let name = text(name.trim());
    attempt(sys::SETHOSTNAME, &[path(&name), name.as_bytes().len() as i64])
}

fn set_interface() -> Outcome {
    const GET_FLAGS: i64 = 0x8913;
    const SET_FLAGS: i64 = 0x8914;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    call(sys::IOCTL, &[socket.as_raw_fd().into(), GET_FLAGS, request.as_mut_ptr() as i64]).unwrap();
    attempt(sys::IOCTL, &[socket.as_raw_fd().into(), SET_FLAGS, address(&request)])
}

fn add_address() -> Outcome {
    let Ok(socket) = call(sys::SOCKET, &[16, 3, 0]) else { return Denied("no socket".into()) };
    // RTM_NEWADDR for lo: 127.0.0.77/32, to be made, with an acknowledgement.
    let mut message: Vec<u8> = Vec::new();
    message.extend(32_u32.to_ne_bytes());
    message.extend(20_u16.to_ne_bytes());
    message.extend(0x0605_u16.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([2, 32, 0, 0, 1, 0, 0, 0, 8, 0, 2, 0, 127, 0, 0, 77]);
    message[0] = message.len() as u8;
    if !is_inside() {
        return Absent("not tried on the host".into());
    }
    call(sys::SENDTO, &[socket, message.as_ptr() as i64, message.len() as i64, 0, 0, 0]).unwrap();
    let mut answer = [0_u8; 1024];
    call(sys::RECVFROM, &[socket, answer.as_mut_ptr() as i64, 1024, 0, 0, 0]).unwrap();
    let error = i32::from_ne_bytes(answer[16..20].try_into().unwrap());
    judge(if error == 0 { Ok(0) } else { Err(-error) })
}

fn trace() -> Outcome {
    const SEIZE: i64 = 0x4206;
    attempt(sys::PTRACE, &[SEIZE, witness().unwrap_or(1), 0, 0])
}

fn raw_io() -> Outcome {
    if cfg!(target_arch = "x86_64") { attempt(172, &[3]) } else { Absent("another architecture".into()) }
}

fn set_clock() -> Outcome {
    const FREQUENCY: u32 = 2;
    let mut clock = [0_u64; 32];
    // What it is, said again.
    if call(sys::CLOCK_ADJTIME, &[0, clock.as_mut_ptr() as i64]).is_ok() {
        clock[0] = (clock[0] & !0xffff_ffff) | u64::from(FREQUENCY);
    }
    attempt(sys::CLOCK_ADJTIME, &[0, clock.as_mut_ptr() as i64])
}

/// Whether this is root without SYS_RESOURCE, as a host that is a machine in a machine may have it.
fn is_poor_root() -> bool {
    const SYS_RESOURCE: u64 = 1 << 24;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    !is_inside() && u64::from_str_radix(effective.trim(), 16).unwrap() & SYS_RESOURCE == 0
}

fn raise_limit() -> Outcome {
    const MESSAGE_QUEUES: i64 = 12;
    let mut limit = [0_u64; 2];
    call(sys::PRLIMIT64, &[0, MESSAGE_QUEUES, 0, limit.as_mut_ptr() as i64]).unwrap();
    let more = [limit[1] + 1, limit[1] + 1];
    if is_poor_root() {
        return Absent("root itself may not".into());
    }
    attempt(sys::PRLIMIT64, &[0, MESSAGE_QUEUES, address(&more), 0])
}

fn make_immutable() -> Outcome {
    const SET_FLAGS: i64 = 0x4008_6602;
    let place = place();
    let file = File::create(place.join("file")).unwrap();
    let outcome = attempt(sys::IOCTL, &[file.as_raw_fd().into(), SET_FLAGS, address(&0x10_u64)]);
    let _ = call(sys::IOCTL, &[file.as_raw_fd().into(), SET_FLAGS, address(&0_u64)]);
    outcome
}

fn give_capabilities() -> Outcome {
    let file = place().join("file");
    File::create(&file).unwrap();
    let (file, name) = (text(file.to_str().unwrap()), text("security.capability"));
    let value: [u32; 5] = [0x0200_0000, 1 << 21, 0, 0, 0];
    attempt(sys::SETXATTR, &[path(&file), path(&name), address(&value), 20, 0])
}

fn lock_memory() -> Outcome {
    let memory = vec![1_u8; 1 << 20];
    match call(sys::MLOCK, &[memory.as_ptr() as i64, memory.len() as i64]) {
        Err(errno @ (ENOMEM | EPERM)) => Denied(format!("errno {errno}")),
        other => judge(other),
    }
}

// ---- paths of the kernel's file systems ----

/// Takes away what may lie over a path, as far as that can be done.
fn uncover(hidden: &str) {
    if is_inside() {
        let hidden = text(hidden);
        let _ = call(sys::UMOUNT2, &[path(&hidden), DETACH]);
        let _ = call(sys::MOUNT, &[0, path(&hidden), 0, REMOUNT | BIND, 0]);
        // Clear the attribute of being read-only.
        let attributes = [0_u64, 1, 0, 0];
        let _ = call(sys::MOUNT_SETATTR, &[HERE, path(&hidden), 0, address(&attributes), 32]);
    }
}

fn shown(hidden: &str) -> Outcome {
    uncover(hidden);
    let Ok(metadata) = fs::metadata(hidden) else {
        return if is_inside() { gone(hidden) } else { Absent("no such path".into()) };
    };
    if metadata.is_dir() {
        return match fs::read_dir(hidden).map(|mut entries| entries.next().is_some()) {
            Ok(true) => Reached("it has entries".into()),
            Ok(false) if is_inside() => Denied("empty".into()),
            Ok(false) => Absent("empty on this host".into()),
            Err(error) => Denied(error.to_string()),
        };
    }
    let mut byte = [0];
    match File::open(hidden).and_then(|mut file| std::io::Read::read(&mut file, &mut byte)) {
        Ok(1) => Reached("it can be read".into()),
        Ok(_) if is_inside() => Denied("empty".into()),
        Ok(_) => Absent("empty on this host".into()),
        Err(error) => Denied(error.to_string()),
    }
}

fn gone(path: &str) -> Outcome {
    Denied(format!("there is no {path}"))
}

/// Opening for writing is enough, and harms nobody.
fn writable(file: &str, mount: &str) -> Outcome {
    uncover(mount);
    match File::options().write(true).open(file) {
        Ok(_) => Reached("it can be written".into()),
        Err(error) if error.raw_os_error() == Some(ENOENT) && !is_inside() => Absent("no such path".into()),
        Err(_) if is_poor_root() => Absent("root itself may not".into()),
        Err(error) => Denied(error.to_string()),
    }
}

fn writable_below(folder: &str) -> Outcome {
    uncover(folder);
    let mut open = vec![PathBuf::from(folder)];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder {
                open.push(entry.path());
            } else if File::options().write(true).open(entry.path()).is_ok() {
                return Reached(format!("{} can be written", entry.path().display()));
            }
        }
    }
    Denied("nothing there can be written".into())
}

// ---- mounts ----

fn attempt_mount(source: &str, target: &str, kind: &str, flags: i64) -> Outcome {
    let (source, target, kind) = (text(source), text(target), text(kind));
    let outcome = attempt(sys::MOUNT, &[path(&source), path(&target), path(&kind), flags, 0]);
    if matches!(outcome, Reached(_)) && flags & REMOUNT == 0 {
        let _ = call(sys::UMOUNT2, &[path(&target), DETACH]);
    }
    outcome
}

fn mount_memory() -> Outcome {
    attempt_mount("none", place().to_str().unwrap(), "tmpfs", 0)
}

fn mount_proc() -> Outcome {
    attempt_mount("none", place().to_str().unwrap(), "proc", 0)
}

fn bind() -> Outcome {
    attempt_mount("/proc/sys", place().to_str().unwrap(), "", BIND)
}

fn mount_overlay() -> Outcome {
    let place = place();
    let (kind, target) = (text("overlay"), text(place.to_str().unwrap()));
    let options = text("lowerdir=/etc:/usr");
    let outcome = attempt(sys::MOUNT, &[path(&kind), path(&target), path(&kind), READ_ONLY, path(&options)]);
    let _ = call(sys::UMOUNT2, &[path(&target), DETACH]);
    outcome
}

fn unmount_root() -> Outcome {
    if is_inside() {
        attempt(sys::UMOUNT2, &[path(&text("/")), DETACH])
    } else {
        Absent("not tried on the host".into())
    }
}

fn pivot() -> Outcome {
    // Not a mount: where it is allowed, the kernel says so.
    let place = text(place().to_str().unwrap());
    attempt(sys::PIVOT_ROOT, &[path(&place), path(&place)])
}

fn new_file_system() -> Outcome {
    attempt(sys::FSOPEN, &[path(&text("tmpfs")), 1])
}

fn copy_tree() -> Outcome {
    attempt(sys::OPEN_TREE, &[HERE, path(&text("/")), 1])
}

fn move_mount() -> Outcome {
    let place = text(place().to_str().unwrap());
    attempt(sys::MOVE_MOUNT, &[HERE, path(&place), HERE, path(&place), 0])
}

fn mount_attributes() -> Outcome {
    // Nothing set and nothing cleared.
    let attributes = [0_u64; 4];
    attempt(sys::MOUNT_SETATTR, &[HERE, path(&text("/")), 0, address(&attributes), 32])
}

/// Who may change the root and keeps a folder outside of it climbs up from there, but no further than to the first root.
fn out_of_root() -> Outcome {
    let witness = fact("PROBE_FOLDER").unwrap();
    let place = place();
    let outside = std::env::set_current_dir("/").and_then(|()| File::open("/"));
    if call(sys::CHROOT, &[path(&text(place.to_str().unwrap()))]).is_err() || outside.is_err() {
        return Denied("no other root".into());
    }
    for _ in 0..64 {
        let _ = std::env::set_current_dir("..");
    }
    let _ = call(sys::CHROOT, &[path(&text("."))]);
    let roots = ["", "/proc/1/root"].map(|root| format!("{root}{witness}"));
    match roots.iter().find(|root| Path::new(root).exists()) {
        Some(found) => Reached(format!("{found} shows")),
        None => Denied("the host's folder does not show".into()),
    }
}

/// Whatever holds this process is at the top of what it can mount; what it may have is below.
fn limits_of_groups() -> Outcome {
    const HOLD: [&str; 8] = [
        "memory.max",
        "memory.limit_in_bytes",
        "pids.max",
        "cpu.max",
        "cpu.cfs_quota_us",
        "cgroup.max.descendants",
        "devices.allow",
        "release_agent",
    ];
    if !is_inside() {
        return Absent("not tried on the host".into());
    }
    let place = place();
    for (kind, options) in [("cgroup2", ""), ("cgroup", "memory"), ("cgroup", "pids"), ("cgroup", "cpu"), ("cgroup", "devices")] {
        let (target, kind, options) = (text(place.to_str().unwrap()), text(kind), text(options));
        if call(sys::MOUNT, &[path(&kind), path(&target), path(&kind), 0, path(&options)]).is_err() {
            continue;
        }
        let open = HOLD.iter().find(|file| File::options().write(true).open(place.join(file)).is_ok());
        let _ = call(sys::UMOUNT2, &[path(&target), DETACH]);
        if let Some(file) = open {
            return Reached(format!("{file} can be written"));
        }
    }
    Denied("no file of a limit can be written".into())
}

// ---- descriptors ----

fn descriptors() -> Vec<i64> {
    const GET_FLAGS: i64 = 1;
    (3..4096).filter(|number| call(sys::FCNTL, &[*number, GET_FLAGS]).is_ok()).collect()
}

fn open_descriptors() -> Outcome {
    match descriptors()[..] {
        [] => Denied("none beyond the first three".into()),
        ref open => Reached(format!("{open:?}")),
    }
}

fn folder_descriptors() -> Outcome {
    let is_folder = |number: &i64| fs::metadata(format!("/proc/self/fd/{number}/.")).is_ok();
    match (0..3).chain(descriptors()).find(is_folder) {
        Some(number) => Reached(format!("descriptor {number}")),
        None => Denied("no folder".into()),
    }
}

fn working_folder() -> Outcome {
    let here = fs::read_link("/proc/self/cwd").unwrap();
    if !here.starts_with("/") {
        return Reached(here.to_string_lossy().into_owned());
    }
    let up = here.join("../".repeat(here.components().count() + 8));
    let (up, root) = (fs::metadata(up).unwrap(), fs::metadata("/").unwrap());
    match (up.ino(), up.dev()) == (root.ino(), root.dev()) {
        true => Denied("it leads to the root".into()),
        false => Reached("it leads past the root".into()),
    }
}

/// Something of the first process; outside, of one that is the host's and no child of this one.
fn of_first_process(what: &str) -> PathBuf {
    let number = if is_inside() { 1 } else { witness().unwrap_or(1) };
    Path::new("/proc").join(number.to_string()).join(what)
}

fn listed(folder: &str) -> Outcome {
    match fs::read_dir(of_first_process(folder)) {
        Ok(_) => Reached("it can be listed".into()),
        Err(error) => Denied(error.to_string()),
    }
}

fn write_first_program() -> Outcome {
    if !is_inside() {
        return Absent("not tried on the host".into());
    }
    match File::options().write(true).open("/proc/1/exe") {
        Ok(_) => Reached("it can be written".into()),
        // A program that runs: but it was found.
        Err(error) if error.raw_os_error() == Some(26) => Reached(error.to_string()),
        Err(error) => Denied(error.to_string()),
    }
}

fn first_memory() -> Outcome {
    match File::open(of_first_process("mem")) {
        Ok(_) => Reached("it can be opened".into()),
        Err(error) => Denied(error.to_string()),
    }
}

fn first_environment() -> Outcome {
    match fs::read(of_first_process("environ")) {
        Ok(_) => Reached("it can be read".into()),
        Err(error) => Denied(error.to_string()),
    }
}

fn variables() -> Outcome {
    let given = |name: &str| name == "PATH" || name == "HOME" || name.starts_with("PROBE_");
    match std::env::vars().map(|(name, _)| name).find(|name| !given(name)) {
        Some(name) => Reached(name),
        None => Denied("none but those that were given".into()),
    }
}

// ---- devices ----

fn make_device(kind: i64, major: i64, minor: i64) -> Outcome {
    let device = place().join("device");
    let name = text(device.to_str().unwrap());
    let made = call(sys::MKNODAT, &[HERE, path(&name), kind | 0o600, major << 8 | minor]);
    let _ = fs::remove_file(&device);
    judge(made)
}

const OURS: [&str; 14] = [
    "null", "zero", "full", "random", "urandom", "tty", "fd", "mqueue", "ptmx", "pts", "shm", "stderr",
    "stdin", "stdout",
];

fn other_devices() -> Outcome {
    let entries = fs::read_dir("/dev").unwrap().flatten().map(|entry| entry.file_name());
    match entries.map(|name| name.to_string_lossy().into_owned()).find(|name| !OURS.contains(&name.as_str()))
    {
        Some(name) => Reached(format!("/dev/{name}")),
        None => Denied("none".into()),
    }
}

/// All but the single devices of /dev, and its terminals. The null device also lies over what is hidden.
fn mounts_with_devices() -> Outcome {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let works = |line: &&str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let is_ours =
            fields[4].strip_prefix("/dev").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let is_null = fields[3] == "/null" || fields[3] == "/dev/null";
        !is_ours && !is_null && !fields[5].split(',').any(|option| option == "nodev")
    };
    match mounts.lines().find(works) {
        Some(line) => Reached(line.into()),
        None => Denied("none".into()),
    }
}

// ---- network ----

fn connect(to: &str) -> Outcome {
    let to: SocketAddr = to.parse().unwrap();
    match TcpStream::connect_timeout(&to, Duration::from_secs(1)) {
        Ok(_) => Reached(to.to_string()),
        Err(error) => Denied(error.to_string()),
    }
}

fn connect_to(name: &str) -> Outcome {
    fact(name).map_or_else(|| Absent("the host has none".into()), |to| connect(&to))
}

fn abstract_socket() -> Outcome {
    let name = fact("PROBE_MARK").unwrap();
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
    match UnixStream::connect_addr(&address) {
        Ok(_) => Reached("it answers".into()),
        Err(error) => Denied(error.to_string()),
    }
}

/// By their hardware addresses, as names are the same everywhere.
fn interfaces() -> Outcome {
    const NONE: &str = "00:00:00:00:00:00";
    let hosts = fact("PROBE_HARDWARE").unwrap_or_default();
    if hosts.split(' ').all(|address| address == NONE) {
        return Absent("the host has none but its loopback interface".into());
    }
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let own = entries.filter_map(|entry| fs::read_to_string(entry.path().join("address")).ok());
    let known = |address: &String| address.trim() != NONE && hosts.contains(address.trim());
    match own.filter(known).next() {
        Some(address) => Reached(address.trim().into()),
        None => Denied("none".into()),
    }
}

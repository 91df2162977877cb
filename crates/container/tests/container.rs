//! Real containers, as root and as an ordinary user. A container's caller must have one thread, so this is no ordinary test harness: each
//! case runs in a process of its own, which is this program executed again.
//!
//! Root runs every case twice where it makes sense: as itself and as a user without any privilege.

#![allow(unsafe_code, clippy::unwrap_used)]

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use container::{
    Container, Error, Event, ExitStatus, File, Function, LateOverlay, Limits, Mount, Network, Prepared,
    Process, Rootfs, Signal, Spec, default_visible_paths,
};

#[path = "container/egress.rs"]
mod egress;
use egress::*;
#[path = "container/escape.rs"]
mod escape;
use escape::*;
#[path = "container/isolation.rs"]
mod isolation;
use isolation::*;
#[path = "container/layers.rs"]
mod layers;
use layers::*;
#[path = "container/limits.rs"]
mod limits;
use limits::*;
#[path = "container/privileged.rs"]
mod privileged;
use privileged::*;

/// Who runs a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Root,
    User,
}

/// Who can run a case.
#[derive(Clone, Copy)]
enum For {
    Both,
    /// It needs cgroups or more than one id.
    Root,
}

struct Case {
    name: &'static str,
    for_whom: For,
    run: fn(),
}

macro_rules! cases {
    ($($for_whom:ident $name:ident),* $(,)?) => {
        &[$(Case { name: stringify!($name), for_whom: For::$for_whom, run: $name }),*]
    };
}

const CASES: &[Case] = cases![
    Both a_command_runs_and_its_output_and_exit_code_arrive,
    Both signals_end_a_command_and_what_it_started,
    Both environment_and_working_folder_are_exactly_as_given,
    Both large_environments_and_files_arrive_whole,
    Both files_are_written_before_the_start_in_place_of_what_is_there,
    Both what_cannot_be_started_says_why,
    Both descriptors_input_and_output_can_be_given_and_no_others_are_open,
    Both a_background_process_survives_its_command,
    Both functions_of_the_caller_run_inside,
    Both a_panic_in_a_function_ends_only_that_function,
    Both two_processes_have_handles_of_their_own,
    Both the_host_cannot_be_seen,
    Both secrets_of_the_host_cannot_be_read,
    Root what_became_secret_after_a_place_was_prepared_cannot_be_read,
    Root what_comes_beside_what_shows_of_the_host_is_never_seen,
    Both writes_do_not_reach_the_host,
    Both masked_paths_are_empty_and_can_be_written,
    Both folders_and_files_are_there_from_the_start,
    Both mounts_show_what_they_should,
    Both dangerous_system_calls_are_refused,
    Both nothing_that_is_tried_gets_out_of_the_hosts_environment,
    Both nothing_that_is_tried_gets_out_of_an_image,
    Both images_that_lie_get_nowhere,
    Both a_working_folder_is_one_of_the_container,
    Both with_the_hosts_network_abstract_sockets_are_the_containers,
    Root what_is_tried_works_outside,
    Root the_network_that_leads_out_leads_to_no_witness,
    Root the_checks_are_documented,
    Both init_cannot_be_looked_into,
    Both no_capability_but_the_nine_is_left,
    Both kernel_file_systems_are_masked_and_read_only,
    Both without_a_network_there_is_only_a_working_loopback,
    Both with_the_hosts_network_the_hosts_interfaces_show,
    Root the_network_that_leads_out_leads_nowhere_else,
    Root what_fetches_is_led_to_public_and_named_addresses_only,
    Root the_network_that_leads_out_has_ipv6_where_the_host_has,
    Root neighbours_do_not_reach_each_other,
    Both ports_of_the_caller_answer_inside_whatever_the_network,
    Root an_ordinary_users_network_leads_out_and_nowhere_else,
    Both the_network_that_leads_out_says_what_it_lacks,
    Both an_image_folder_is_the_root,
    Both folders_of_an_image_lie_over_each_other,
    Both an_image_may_have_many_folders,
    Both an_image_of_links_leads_nowhere,
    Both a_fork_bomb_is_held_and_gone_after_destroy,
    Both destroy_leaves_nothing,
    Both trees_that_resist_removal_are_removed,
    Both a_killed_caller_leaves_no_process_and_a_sweep_cleans_the_rest,
    Both the_end_of_init_is_told_once,
    Both several_containers_live_side_by_side,
    Both a_prepared_place_that_is_not_used_leaves_nothing,
    Both a_caller_with_threads_is_refused,
    Root a_thread_that_has_ended_is_none_any_more,
    Both senseless_specs_are_refused_and_leave_nothing,
    Both the_report_tells_what_is_possible,
    Both a_container_within_a_container_is_refused_with_the_reason,
    Both signal_handlers_of_the_caller_do_not_run_inside,
    Both what_ended_containers_wrote_shows_in_the_next,
    Both what_the_host_has_changed_meanwhile_shows_but_where_a_container_wrote,
    Both an_image_lies_beneath_what_was_written,
    Both what_cannot_lie_beneath_is_refused,
    Both a_spec_tells_whether_what_it_writes_can_lie_beneath,
    Both as_many_as_allowed_can_lie_beneath,
    Both kept_files_show_late_and_stay_as_they_are,
    Both what_shows_late_stays_within_the_container,
    Root containers_of_other_ids_own_what_they_stand_on,
    Root scratch_folders_that_overlay_refuses_are_replaced_by_memory,
    Root trees_with_mounts_an_ordinary_user_may_not_merge_are_shown_read_only,
    Root other_users_of_the_container_own_their_files,
    Root a_memory_hog_is_killed_and_told_apart,
    Both what_was_used_is_told,
    Root limits_are_what_was_asked_for,
    Root a_disk_of_a_fixed_size_is_full_and_gone_afterwards,
    Both a_disk_of_a_fixed_size_takes_root_and_room,
    Both the_profile_holds,
    Root the_privileged_profile_holds,
    Root what_a_container_engine_needs_works_where_it_may,
    Root the_networks_of_a_container_engine_work_where_they_may,
    Root nothing_but_what_is_granted_is_reached_by_who_is_privileged,
    Root who_is_privileged_reaches_no_more_on_a_network_that_leads_out,
    Root what_shows_of_the_host_cannot_be_written_by_who_is_privileged,
    Root limits_hold_for_who_is_privileged,
    Root cgroups_within_go_with_the_container_and_by_a_sweep,
    Root who_sends_from_anothers_address_is_not_heard,
    Both what_cannot_be_privileged_is_refused,
    Root ids_of_two_containers_do_not_overlap,
];

const USER: u32 = 61_234;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name, who] = arguments.as_slice()
        && flag == "--one"
    {
        run_here(name, who);
        return ExitCode::SUCCESS;
    }
    if let [flag, folder] = arguments.as_slice()
        && flag == "--make-prober"
    {
        println!("{}", make_prober(Path::new(folder)).display());
        return ExitCode::SUCCESS;
    }
    let is_exact = arguments.iter().any(|a| a == "--exact");
    let filters: Vec<&String> = arguments.iter().filter(|a| !a.starts_with('-') && *a != "terse").collect();
    let skipped: Vec<&str> = arguments.iter().filter_map(|a| a.strip_prefix("--skip=")).collect();
    let is_wanted = |name: &str| {
        let is_skipped = skipped.iter().any(|skip| name.contains(skip));
        !is_skipped
            && (filters.is_empty()
                || filters.iter().any(|f| if is_exact { name == *f } else { name.contains(*f) }))
    };
    let wanted: Vec<(String, &Case, Who)> = all().into_iter().filter(|(name, ..)| is_wanted(name)).collect();
    if arguments.iter().any(|a| a == "--list") {
        let is_ignored = arguments.iter().any(|a| a == "--ignored");
        wanted.iter().filter(|_| !is_ignored).for_each(|(name, ..)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let failed: Vec<String> = wanted
        .iter()
        .filter(|(_, case, who)| !run_apart(case, *who))
        .map(|(name, ..)| name.clone())
        .collect();
    println!("\n{} passed, {} failed", wanted.len() - failed.len(), failed.len());
    failed.iter().for_each(|name| println!("    {name}"));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn all() -> Vec<(String, &'static Case, Who)> {
    let is_root = rustix::process::geteuid().is_root();
    let mut all = Vec::new();
    for case in CASES {
        if is_root {
            all.push((format!("as_root::{}", case.name), case, Who::Root));
        }
        if matches!(case.for_whom, For::Both) {
            all.push((format!("as_user::{}", case.name), case, Who::User));
        }
    }
    all
}

fn run_apart(case: &Case, who: Who) -> bool {
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    command.args(["--one", case.name, &format!("{who:?}")]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let place = place_of(child.id());
    let output = child.wait_with_output().unwrap();
    // A case that failed, or has become a user, leaves it.
    let _ = fs::remove_dir_all(place);
    let passed = output.status.success();
    println!("test {who:?} {} ... {}", case.name, if passed { "ok" } else { "FAILED" });
    if !passed {
        println!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
    passed
}

fn run_here(name: &str, who: &str) {
    if who == "User" && rustix::process::geteuid().is_root() {
        // Where it goes is not the user's.
        prober();
        become_user();
    }
    let case = CASES.iter().find(|case| case.name == name).unwrap();
    (case.run)();
}

fn become_user() {
    let (uid, gid) = (rustix::process::Uid::from_raw(USER), rustix::process::Gid::from_raw(USER));
    rustix::thread::set_thread_groups(&[]).unwrap();
    rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
    rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

// ---- the tester: a container with a user's verbs ----

/// A folder for one case, with a scratch folder in it; both are gone in the end.
struct Place {
    folder: PathBuf,
    /// Of the process that made it, whoever asks.
    name: String,
}

fn place_of(process: u32) -> PathBuf {
    std::env::temp_dir().join(format!("container-test-{process}"))
}

impl Place {
    fn new() -> Place {
        Place::at(place_of(std::process::id()), format!("test-{}", std::process::id()))
    }

    /// A second one of this process's.
    fn new_beside() -> Place {
        Place::at(
            std::env::temp_dir().join(format!("container-test-{}-beside", std::process::id())),
            format!("test-{}-beside", std::process::id()),
        )
    }

    fn at(folder: PathBuf, name: String) -> Place {
        // Of a process that had this one's number and was killed.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        fs::create_dir(folder.join("scratch")).unwrap();
        Place { folder, name }
    }

    fn scratch(&self) -> PathBuf {
        self.folder.join("scratch")
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn spec(&self) -> (Spec, fs::File) {
        let output = fs::File::options()
            .read(true)
            .append(true)
            .create(true)
            .open(self.folder.join("output"))
            .unwrap();
        let spec = Spec {
            rootfs: Rootfs::Host { visible: default_visible_paths() },
            scratch: self.scratch(),
            may_lie_beneath: false,
            beneath: Vec::new(),
            mounts: Vec::new(),
            masks: Vec::new(),
            folders: Vec::new(),
            files: Vec::new(),
            hostname: "inside".into(),
            network: Network::None,
            listen: Vec::new(),
            limits: Limits::default(),
            is_privileged: false,
            name: self.name(),
            output: output.try_clone().unwrap().into(),
            functions: FUNCTIONS,
        };
        (spec, output)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

struct Tester {
    container: Container,
    output: fs::File,
    read: u64,
    place: Place,
}

impl Tester {
    fn new() -> Tester {
        Tester::with(|_, _| {})
    }

    fn with(change: impl FnOnce(&mut Spec, &Path)) -> Tester {
        let place = Place::new();
        let (mut spec, output) = place.spec();
        change(&mut spec, &place.folder);
        let container = Container::create(spec).unwrap();
        Tester { container, output, read: 0, place }
    }

    /// What was written since the last time.
    fn output(&mut self) -> String {
        let mut text = String::new();
        let mut file = fs::File::open(self.place.folder.join("output")).unwrap();
        file.seek(std::io::SeekFrom::Start(self.read)).unwrap();
        file.read_to_string(&mut text).unwrap();
        self.read = self.output.metadata().unwrap().len();
        text
    }

    fn finish(&mut self, handle: u32) -> ExitStatus {
        match self.container.next_event().unwrap() {
            Event::Exited { handle: ended, status } => {
                assert_eq!(ended, handle);
                status
            }
            event => panic!("unexpected: {event:?}"),
        }
    }

    fn run(&mut self, process: &Process<'_>) -> (ExitStatus, String) {
        let handle = self.container.start(process).unwrap();
        let status = self.finish(handle);
        (status, self.output())
    }

    fn sh(&mut self, script: &str) -> (ExitStatus, String) {
        self.run(&shell(script))
    }

    /// A script that must succeed; its output without the last line end.
    fn says(&mut self, script: &str) -> String {
        let (status, output) = self.sh(script);
        assert_eq!(status, ExitStatus::Code(0), "{script}: {output}");
        output.trim_end().to_owned()
    }

    fn refuses(&mut self, script: &str) {
        let (status, output) = self.sh(script);
        assert_ne!(status, ExitStatus::Code(0), "{script} succeeded: {output}");
    }

    fn end(self) -> Place {
        self.container.destroy().unwrap();
        self.place
    }
}

fn shell(script: &str) -> Process<'static> {
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    Process {
        argv: ["sh", "-c", script].map(OsString::from).into(),
        env: vec![("PATH".into(), path.into()), ("HOME".into(), "/root".into())],
        cwd: "/".into(),
        ..Process::default()
    }
}

const FUNCTIONS: &[Function] = &[
    Function { name: "echo", run: echo },
    Function { name: "panic", run: |_, _| panic!("on purpose") },
    Function { name: "call number", run: call_number },
    Function { name: "nest", run: nest },
    Function { name: "pass", run: |_, _| 0 },
];

/// Writes its arguments and its user to the descriptor it was given.
fn echo(arguments: &[u8], fds: Vec<OwnedFd>) -> i32 {
    let mut file = fs::File::from(fds.into_iter().next().unwrap());
    let id = rustix::process::geteuid().as_raw();
    let pid = rustix::process::getpid().as_raw_nonzero();
    let has_root = Path::new("/codebuild").exists();
    write!(file, "{} {id} {} {has_root}", String::from_utf8_lossy(arguments), pid.get() > 1).unwrap();
    i32::try_from(arguments.len()).unwrap()
}

/// Makes a raw system call, `number argument argument ...`, and tells its errno as the exit code.
fn call_number(arguments: &[u8], _: Vec<OwnedFd>) -> i32 {
    let numbers: Vec<i64> =
        std::str::from_utf8(arguments).unwrap().split(' ').map(|number| number.parse().unwrap()).collect();
    let at = |index: usize| numbers.get(index).copied().unwrap_or(0);
    // SAFETY: the cases pass calls that are refused, or harmless ones, and no addresses but zero.
    let result = unsafe { libc::syscall(at(0), at(1), at(2), at(3), at(4), at(5), at(6)) };
    if result == -1 { std::io::Error::last_os_error().raw_os_error().unwrap() } else { 0 }
}

/// Tries to make a container from inside of one.
fn nest(_: &[u8], _: Vec<OwnedFd>) -> i32 {
    let place = Place::new();
    let (spec, _output) = place.spec();
    match Container::create(spec) {
        Err(error @ Error::Forbidden { .. }) => {
            println!("{error}");
            7
        }
        other => panic!("{other:?}"),
    }
}

// ---- starting ----

fn a_command_runs_and_its_output_and_exit_code_arrive() {
    let mut tester = Tester::new();
    assert_eq!(
        tester.sh("echo hello; echo oops >&2; exit 42"),
        (ExitStatus::Code(42), "hello\noops\n".into())
    );
    assert_eq!(tester.says("id -u; id -g; hostname; pwd"), "0\n0\ninside\n/");
    tester.end();
}

fn signals_end_a_command_and_what_it_started() {
    let mut tester = Tester::new();
    let (status, _) = tester.sh("kill -TERM $$");
    assert_eq!(status, ExitStatus::Signal(15));
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let mut process = shell("sleep 1000 & sleep 1000; true");
    process.output = Some(writer.as_fd());
    let handle = tester.container.start(&process).unwrap();
    drop(process);
    drop(writer);
    tester.container.signal(handle, Signal::KILL).unwrap();
    assert_eq!(tester.finish(handle), ExitStatus::Signal(9));
    // The end of the pipe means that both sleeping processes are gone.
    let mut rest = Vec::new();
    fs::File::from(reader).read_to_end(&mut rest).unwrap();
    tester.container.signal(handle, Signal::KILL).unwrap();
    tester.end();
}

fn environment_and_working_folder_are_exactly_as_given() {
    let mut tester = Tester::new();
    let mut process =
        Process { argv: vec!["/usr/bin/env".into()], cwd: "/usr/share".into(), ..Process::default() };
    process.env = vec![("B".into(), "x y\nz".into()), ("A".into(), "".into()), ("B2".into(), "=".into())];
    assert_eq!(tester.run(&process).1, "B=x y\nz\nA=\nB2==\n");
    process.argv = vec!["/bin/pwd".into()];
    assert_eq!(tester.run(&process).1, "/usr/share\n");
    tester.end();
}

fn large_environments_and_files_arrive_whole() {
    let mut tester = Tester::new();
    let value = "v".repeat(100 << 10);
    let mut process = shell("wc -c < /codebuild/big; echo ${#LARGE} ${#LARGER}");
    process.env.extend([("LARGE".into(), value.clone().into()), ("LARGER".into(), value.into())]);
    process.files = vec![File { path: "/codebuild/big".into(), bytes: vec![b'x'; 3 << 20], mode: 0o600 }];
    assert_eq!(tester.run(&process).1, "3145728\n102400 102400\n");
    tester.end();
}

fn files_are_written_before_the_start_in_place_of_what_is_there() {
    let mut tester = Tester::new();
    tester.says("mkfifo /tmp/pipe; ln -s /etc/passwd /tmp/link; mkdir /tmp/folder");
    let file = |path: &str, mode| File { path: path.into(), bytes: b"written".to_vec(), mode };
    let mut process =
        shell("cat /tmp/pipe /tmp/link; stat -c '%a %u %F' /tmp/link /a/b/c /a/b; grep -c root /etc/passwd");
    process.files = vec![file("/tmp/pipe", 0o644), file("/tmp/link", 0o640), file("/a/b/c", 0o755)];
    let expect = "writtenwritten640 0 regular file\n755 0 regular file\n755 0 directory\n1\n";
    assert_eq!(tester.run(&process).1, expect);
    process.files = vec![file("/tmp/folder", 0o644)];
    assert!(
        matches!(tester.container.start(&process), Err(Error::File { path, .. }) if path == Path::new("/tmp/folder"))
    );
    tester.end();
}

fn what_cannot_be_started_says_why() {
    let mut tester = Tester::new();
    let start = |tester: &mut Tester, change: fn(&mut Process<'_>)| {
        let mut process = shell("true");
        change(&mut process);
        tester.container.start(&process).unwrap_err()
    };
    let error = start(&mut tester, |p| p.argv = vec!["no-such-program".into()]);
    assert!(
        matches!(&error, Error::Exec { program, source } if program == "no-such-program"
        && source.kind() == std::io::ErrorKind::NotFound),
        "{error}"
    );
    let error = start(&mut tester, |p| p.argv = vec!["/etc/passwd".into()]);
    assert!(
        matches!(&error, Error::Exec { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied)
    );
    let error = start(&mut tester, |p| p.argv = Vec::new());
    assert!(matches!(error, Error::Exec { .. }));
    let error = start(&mut tester, |p| p.argv.push("a\0b".into()));
    assert!(matches!(error, Error::Exec { .. }));
    let error = start(&mut tester, |p| p.cwd = "/no/such/folder".into());
    assert!(matches!(&error, Error::WorkingFolder { path, .. } if path == Path::new("/no/such/folder")));
    let error = start(&mut tester, |p| p.user = Some("nobody-knows".into()));
    assert!(matches!(&error, Error::UnknownUser(user) if user == "nobody-knows"), "{error}");
    assert!(matches!(tester.container.call("unknown", b"", Vec::new()), Err(Error::UnknownFunction(_))));
    // None of this disturbs the container.
    assert_eq!(tester.says("echo fine"), "fine");
    tester.end();
}

fn descriptors_input_and_output_can_be_given_and_no_others_are_open() {
    let mut tester = Tester::new();
    assert_eq!(tester.says("ls -l /proc/self/fd | wc -l; readlink /proc/self/fd/0"), "5\n/dev/null");
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let (input, feed) = rustix::pipe::pipe().unwrap();
    fs::File::from(feed).write_all(b"fed\n").unwrap();
    let (extra_reader, extra) = rustix::pipe::pipe().unwrap();
    let mut process = shell("cat; echo extra >&3; ls /proc/self/fd | wc -l; echo error >&2");
    process.input = Some(input.as_fd());
    process.output = Some(writer.as_fd());
    process.fds = vec![extra.as_fd()];
    let (status, default_output) = tester.run(&process);
    assert_eq!((status, default_output), (ExitStatus::Code(0), String::new()));
    drop(process);
    drop((writer, extra));
    let read = |fd: OwnedFd| std::io::read_to_string(fs::File::from(fd)).unwrap();
    assert_eq!(read(reader), "fed\n5\nerror\n");
    assert_eq!(read(extra_reader), "extra\n");
    tester.end();
}

fn a_background_process_survives_its_command() {
    let mut tester = Tester::new();
    tester.says("mkfifo /tmp/a /tmp/b; (read x < /tmp/a; echo got $x > /tmp/b) > /dev/null & exit 0");
    assert_eq!(tester.says("echo word > /tmp/a; cat /tmp/b"), "got word");
    tester.end();
}

fn functions_of_the_caller_run_inside() {
    let mut tester = Tester::new();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let handle = tester.container.call("echo", b"abc", vec![writer]).unwrap();
    assert_eq!(tester.finish(handle), ExitStatus::Code(3));
    assert_eq!(std::io::read_to_string(fs::File::from(reader)).unwrap(), "abc 0 true true");
    let (_reader, writer) = rustix::pipe::pipe().unwrap();
    let large = vec![b'x'; 1 << 20];
    let handle = tester.container.call("echo", &large, vec![writer]).unwrap();
    let mut text = String::new();
    fs::File::from(_reader).read_to_string(&mut text).unwrap();
    assert_eq!(text.len(), (1 << 20) + " 0 true true".len());
    tester.finish(handle);
    tester.end();
}

fn a_panic_in_a_function_ends_only_that_function() {
    let mut tester = Tester::new();
    let handle = tester.container.call("panic", b"", Vec::new()).unwrap();
    assert_eq!(tester.finish(handle), ExitStatus::Code(101));
    assert!(tester.output().contains("on purpose"));
    assert_eq!(tester.says("echo fine"), "fine");
    tester.end();
}

fn two_processes_have_handles_of_their_own() {
    let mut tester = Tester::new();
    tester.says("mkfifo /tmp/turn");
    let first = tester.container.start(&shell("read x < /tmp/turn; exit 1")).unwrap();
    let second = tester.container.start(&shell("echo > /tmp/turn; exit 2")).unwrap();
    let mut ended = [tester.container.next_event().unwrap(), tester.container.next_event().unwrap()];
    ended.sort_by_key(|event| format!("{event:?}"));
    let exited = |handle, code| Event::Exited { handle, status: ExitStatus::Code(code) };
    assert_eq!(ended, [exited(first, 1), exited(second, 2)]);
    tester.end();
}

// ---- images ----

/// A root file system of one static program.
fn busybox_image(folder: &Path) -> PathBuf {
    let image = folder.join("image");
    fs::create_dir_all(image.join("bin")).unwrap();
    fs::create_dir_all(image.join("etc")).unwrap();
    fs::copy("/bin/busybox", image.join("bin/busybox")).expect("the package busybox-static is installed");
    for name in ["sh", "cat", "ls", "id", "echo", "stat", "rm", "mkdir", "touch", "true"] {
        std::os::unix::fs::symlink("busybox", image.join("bin").join(name)).unwrap();
    }
    fs::write(image.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nbuilder:x:1000:1000::/:/bin/sh\n")
        .unwrap();
    fs::write(image.join("etc/resolv.conf"), "nameserver 192.0.2.1\n").unwrap();
    image
}

fn an_image_folder_is_the_root() {
    let mut tester = Tester::with(|spec, folder| {
        spec.rootfs = Rootfs::Folders(vec![busybox_image(folder)]);
        spec.masks = vec!["/etc/passwd".into(), "/nothing".into()];
    });
    assert_eq!(
        tester.says("id -u; cat /etc/passwd; ls /"),
        "0\nbin\ncodebuild\ndev\netc\nhome\nproc\nroot\nrun\nsys\ntmp\nvar"
    );
    assert_eq!(tester.says("stat -c '%u %g %a' /bin/busybox /tmp /root"), "0 0 755\n0 0 1777\n0 0 700");
    assert!(!tester.says("cat /etc/resolv.conf").contains("192.0.2.1"));
    tester.says("rm /bin/id; echo x > /bin/busybox2; mkdir /bin/new");
    let image = tester.place.folder.join("image");
    assert!(
        image.join("bin/id").is_symlink()
            && !image.join("bin/busybox2").exists()
            && !image.join("proc").exists()
    );
    tester.end();
}

/// What overlay marks as taken away.
fn whiteout(path: &Path) {
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::CharacterDevice, mode, 0).unwrap();
}

fn folders_of_an_image_lie_over_each_other() {
    let mut tester = Tester::with(|spec, folder| {
        let base = busybox_image(folder);
        let [middle, top] = ["middle", "top"].map(|name| folder.join(name));
        for (name, text) in [("etc/old", "base"), ("etc/gone", ""), ("srv/hidden", ""), ("opt/x/y", "base")] {
            fs::create_dir_all(base.join(name).parent().unwrap()).unwrap();
            fs::write(base.join(name), text).unwrap();
        }
        fs::set_permissions(base.join("opt"), fs::Permissions::from_mode(0o711)).unwrap();
        for made in [middle.join("etc"), middle.join("srv"), top.join("etc"), top.join("bin")] {
            fs::create_dir_all(made).unwrap();
        }
        fs::set_permissions(&top, fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(middle.join("etc/old"), "middle").unwrap();
        fs::write(top.join("etc/new"), "top").unwrap();
        whiteout(&middle.join("etc/gone"));
        whiteout(&top.join("bin/true"));
        // What a mask, a file of ours and a folder of ours meet may be in any of the folders, or be gone.
        whiteout(&middle.join("home"));
        whiteout(&top.join("etc/passwd"));
        let opaque = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(middle.join("srv"), "user.overlay.opaque", b"y", opaque).unwrap();
        spec.rootfs = Rootfs::Folders(vec![top, middle, base]);
        spec.masks = vec!["/etc/new".into(), "/opt/x/y".into()];
        spec.folders = vec!["/opt/z".into()];
    });
    let look =
        "cat /etc/old /etc/new /opt/x/y; ls /srv /opt; stat -c '%a %u' /opt /home /; ls /etc; ls /bin/true";
    assert_eq!(
        tester.says(&format!("({look}) 2>&1; true")),
        "middle/opt:\nx\nz\n\n/srv:\n711 0\n755 0\n755 0\nhostname\nhosts\nnew\nold\nresolv.conf\nls: /bin/true: No such file or directory"
    );
    tester.says("rm /etc/old /opt/x/y; echo changed >/etc/new; rm -r /opt/x; mkdir /opt/x");
    let read = |name: &str| fs::read_to_string(tester.place.folder.join(name)).unwrap();
    let all = [read("image/etc/old"), read("middle/etc/old"), read("top/etc/new"), read("image/opt/x/y")];
    assert_eq!(all, ["base", "middle", "top", "base"]);
    tester.end();
}

/// More than one option holds, where the kernel takes them one by one.
fn an_image_may_have_many_folders() {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
    let takes_many = (numbers.next(), numbers.next()) >= (Some(6), Some(8));
    let count = if takes_many { container::MOST_FOLDERS } else { 8 };
    let mut tester = Tester::with(|spec, folder| {
        let layer = |number: usize| {
            let layer = folder.join(format!("layer-{number}"));
            fs::create_dir_all(layer.join("srv")).unwrap();
            fs::write(layer.join("srv").join(number.to_string()), "").unwrap();
            fs::write(layer.join("srv/top"), number.to_string()).unwrap();
            layer
        };
        let layers = (1..count).map(layer).chain([busybox_image(folder)]);
        spec.rootfs = Rootfs::Folders(layers.collect());
    });
    let found = tester.says("ls /srv | while read x; do echo $x; done; cat /srv/top");
    assert_eq!(found.lines().count(), count + 1);
    assert_eq!(found.lines().last(), Some("1"));
    tester.end();
    for wrong in [0, container::MOST_FOLDERS + 1] {
        let place = Place::new();
        let (mut spec, _) = place.spec();
        spec.rootfs = Rootfs::Folders(vec!["/x".into(); wrong]);
        assert!(matches!(Container::create(spec), Err(Error::Invalid(_))), "{wrong} folders");
    }
}

fn an_image_of_links_leads_nowhere() {
    let mut tester = Tester::with(|spec, folder| {
        let image = busybox_image(folder);
        for (name, target) in [
            ("dev", "/etc"),
            ("proc", "../../../../proc"),
            ("sys", "/bin"),
            ("tmp", "/nowhere"),
            ("codebuild", "/../../../../tmp"),
            ("run", "/dev"),
        ] {
            std::os::unix::fs::symlink(target, image.join(name)).unwrap();
        }
        fs::remove_dir_all(image.join("etc")).unwrap();
        std::os::unix::fs::symlink("/bin", image.join("etc")).unwrap();
        spec.rootfs = Rootfs::Folders(vec![image]);
        spec.masks = vec!["/run/x".into()];
        fs::create_dir(folder.join("shown")).unwrap();
        spec.mounts =
            vec![Mount::ReadOnly { host: folder.join("shown"), inside: "/codebuild/readonly".into() }];
    });
    let listed =
        tester.says("stat -c '%F' /dev /proc /sys /tmp /codebuild /etc; echo x > /dev/null; ls /etc");
    assert_eq!(listed, format!("{}hostname\nhosts\nresolv.conf", "directory\n".repeat(6)));
    assert!(tester.says("cat /proc/self/mountinfo").contains(" /codebuild/readonly "));
    tester.end();
}

// ---- limits and ends ----

fn a_fork_bomb_is_held_and_gone_after_destroy() {
    let mut tester = Tester::with(|spec, _| spec.limits.pids = Some(40));
    let marker = own_sleep();
    let script = format!("i=0; while [ $i -lt 200 ]; do {marker} & i=$((i+1)); done 2>/tmp/refused");
    let handle = tester.container.start(&shell(&script)).unwrap();
    let status = tester.finish(handle);
    assert_ne!(status, ExitStatus::Code(0), "200 processes fit within a limit of 40");
    let error = (0..64).find_map(|_| tester.container.start(&shell("sleep 100000")).err());
    assert!(matches!(error, Some(Error::Full(_) | Error::Failed { .. })), "{error:?}");
    // A child is the shell until it has become what it was forked for.
    assert!(eventually(|| running(&marker) > 10));
    tester.end();
    assert_eq!(running(&marker), 0);
}

/// Whether it becomes true within a minute.
fn eventually(holds: impl Fn() -> bool) -> bool {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !holds() {
        if std::time::Instant::now() > deadline {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

/// A command line that no other case has.
fn own_sleep() -> String {
    format!("sleep 98765{}", std::process::id())
}

/// How many processes of this host have that command line.
fn running(command: &str) -> usize {
    let command = command.replace(' ', "\0");
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("cmdline"));
    processes
        .filter(|file| fs::read_to_string(file).is_ok_and(|line| line.trim_end_matches('\0') == command))
        .count()
}

fn cgroups_named(name: &str) -> Vec<PathBuf> {
    // The name ends with a process's number, and may be the beginning of another one's.
    let is_named = |folder: &str| {
        let rest = folder.split_once(name).map(|(_, rest)| rest);
        rest.is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
    };
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if is_named(&entry.file_name().to_string_lossy()) {
                    found.push(entry.path());
                }
                open.push(entry.path());
            }
        }
    }
    found
}

fn assert_clean(place: &Place, fds_before: usize) {
    let name = place.name();
    assert_eq!(cgroups_named(&format!("buildyard-{name}")), Vec::<PathBuf>::new());
    assert_eq!(fs::read_dir(place.scratch()).unwrap().count(), 0);
    assert_eq!(fs::metadata(place.scratch()).unwrap().uid(), rustix::process::geteuid().as_raw());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&format!("{}/", place.folder.display())), "{mounts}");
    assert_eq!(open_descriptors(), fds_before);
    assert!(rustix::process::waitpid(None, rustix::process::WaitOptions::NOHANG).is_err(), "a child is left");
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn destroy_leaves_nothing() {
    let before = open_descriptors();
    let mut tester = Tester::new();
    if is_root() {
        assert!(!cgroups_named(&tester.place.name()).is_empty());
    }
    let marker = own_sleep();
    tester.says(&format!("({marker} &) ; (trap '' TERM INT HUP; setsid {marker} &)"));
    let Tester { container, place, output, .. } = tester;
    container.destroy().unwrap();
    drop(output);
    assert_clean(&place, before);
    assert_eq!(running(&marker), 0);
    let (spec, output) = place.spec();
    drop(Container::create(spec).unwrap());
    drop(output);
    assert_clean(&place, before);
}

fn trees_that_resist_removal_are_removed() {
    let mut tester = Tester::new();
    tester.says(
        "mkdir -p /tmp/closed/inner/more; touch /tmp/closed/inner/file; mkfifo /tmp/closed/pipe; \
         ln -s /etc /tmp/closed/link; chmod 000 /tmp/closed/inner /tmp/closed; chmod 555 /root; \
         cd /var/tmp; i=0; while [ $i -lt 500 ]; do mkdir aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; cd aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; i=$((i+1)); done",
    );
    let place = tester.end();
    assert_eq!(fs::read_dir(place.scratch()).unwrap().count(), 0);
}

fn a_killed_caller_leaves_no_process_and_a_sweep_cleans_the_rest() {
    let place = Place::new();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    // SAFETY: this process has one thread.
    let caller = unsafe { libc::fork() };
    if caller == 0 {
        make_a_container_and_be_killed(place.spec().0, writer);
    }
    drop(writer);
    let said = std::io::read_to_string(fs::File::from(reader)).unwrap();
    assert_eq!(said, "up\n");
    let caller = rustix::process::Pid::from_raw(caller).unwrap();
    rustix::process::waitpid(Some(caller), rustix::process::WaitOptions::empty()).unwrap();
    assert!(fs::read_dir(place.scratch()).unwrap().count() > 0);
    assert_eq!(is_root(), !cgroups_named(&place.name()).is_empty());
    let before = open_descriptors();
    container::sweep(&place.name(), &place.scratch()).unwrap();
    assert_clean(&place, before);
    container::sweep(&place.name(), &place.scratch()).unwrap();
    container::sweep(&place.name(), &place.folder.join("never-made")).unwrap();
}

/// Everyone inside holds `writer` too, so its end tells when all are gone.
fn make_a_container_and_be_killed(spec: Spec, writer: OwnedFd) -> ! {
    let mut container = Container::create(spec).unwrap();
    let (reader, ready) = rustix::pipe::pipe().unwrap();
    let mut process = shell("echo up >&3; echo >&4; exec sleep 98763");
    process.fds = vec![writer.as_fd(), ready.as_fd()];
    container.start(&process).unwrap();
    process.argv = shell("sleep 98763").argv;
    container.start(&process).unwrap();
    fs::File::from(reader).read_exact(&mut [0]).unwrap();
    rustix::process::kill_process(rustix::process::getpid(), Signal::KILL).unwrap();
    unreachable!("killed");
}

fn the_end_of_init_is_told_once() {
    let mut tester = Tester::new();
    let children = fs::read_to_string(format!("/proc/self/task/{}/children", std::process::id())).unwrap();
    let init: i32 = children.trim().parse().unwrap();
    let handle = tester.container.start(&shell("sleep 98762")).unwrap();
    assert!(handle > 0);
    rustix::process::kill_process(rustix::process::Pid::from_raw(init).unwrap(), Signal::KILL).unwrap();
    assert_eq!(tester.container.next_event().unwrap(), Event::Died { oom: false });
    assert!(matches!(tester.container.next_event(), Err(Error::Gone)));
    assert!(matches!(tester.container.start(&shell("true")), Err(Error::Gone)));
    assert!(matches!(tester.container.signal(handle, Signal::KILL), Err(Error::Gone)));
    tester.end();
}

fn several_containers_live_side_by_side() {
    let place = Place::new();
    let mut all: Vec<Container> = (0..3)
        .map(|number| {
            let (mut spec, _) = place.spec();
            spec.name = format!("{}-{number}", place.name());
            spec.scratch = place.folder.join(format!("scratch-{number}"));
            fs::create_dir(&spec.scratch).unwrap();
            Container::create(spec).unwrap()
        })
        .collect();
    for (number, container) in all.iter_mut().enumerate() {
        container
            .start(&shell(&format!("test -z \"$(ls /tmp)\"; touch /tmp/{number}; exit $((10 + $?))")))
            .unwrap();
    }
    for container in &mut all {
        let event = container.next_event().unwrap();
        assert!(matches!(event, Event::Exited { status: ExitStatus::Code(10), .. }), "{event:?}");
    }
    all.remove(1).destroy().unwrap();
    all[1].start(&shell("true")).unwrap();
}

fn a_prepared_place_that_is_not_used_leaves_nothing() {
    let place = Place::new();
    let before = open_descriptors();
    drop(Prepared::new(&place.name()).unwrap());
    assert_clean(&place, before);
    let prepared = Prepared::new(&place.name()).unwrap();
    let (spec, _output) = place.spec();
    let mut container = Container::create_in(prepared, spec).unwrap();
    container.start(&shell("true")).unwrap();
    assert!(matches!(container.next_event(), Ok(Event::Exited { .. })));
    container.destroy().unwrap();
}

fn a_caller_with_threads_is_refused() {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || receiver.recv());
    assert!(matches!(Prepared::new("with-threads"), Err(Error::Threads(2))));
    drop(sender);
    let _ = thread.join().unwrap();
}

/// A tracer keeps the thread where the kernel has it for a moment after every join: ended, and still listed.
fn a_thread_that_has_ended_is_none_any_more() {
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        tell.send(rustix::thread::gettid().as_raw_nonzero().get()).unwrap();
        let _ = receiver.recv();
    });
    let thread_id = told.recv().unwrap();
    let (holding, hold) = rustix::pipe::pipe().unwrap();
    let (release, released) = rustix::pipe::pipe().unwrap();
    // SAFETY: the child makes system calls only.
    let tracer = unsafe { libc::fork() };
    if tracer == 0 {
        drop(released);
        // SAFETY: no pointer is passed.
        let traced = unsafe { libc::ptrace(libc::PTRACE_SEIZE, thread_id, 0, 0) };
        let _ = rustix::io::write(&hold, &[u8::from(traced == 0)]);
        let _ = rustix::io::read(&release, &mut [0_u8]);
        // SAFETY: it ends.
        unsafe { libc::_exit(0) };
    }
    let mut is_held = [0];
    fs::File::from(holding).read_exact(&mut is_held).unwrap();
    assert_eq!(is_held, [1], "the thread cannot be traced");
    drop(sender);
    thread.join().unwrap();
    assert_eq!(fs::read_dir("/proc/self/task").unwrap().count(), 2);
    let prepared = Prepared::new("with-an-ended-thread").map(drop);
    drop(released);
    // SAFETY: nobody is told the status.
    unsafe { libc::waitpid(tracer, std::ptr::null_mut(), 0) };
    prepared.unwrap();
}

fn senseless_specs_are_refused_and_leave_nothing() {
    let place = Place::new();
    let before = open_descriptors();
    let changes: &[fn(&mut Spec)] = &[
        |spec| spec.name = "../x".into(),
        |spec| spec.hostname = "x".repeat(65),
        |spec| spec.scratch = "/no/such/scratch".into(),
        |spec| spec.rootfs = Rootfs::Host { visible: vec!["/".into()] },
        |spec| spec.mounts = vec![Mount::Tmpfs { inside: "relative".into(), size_bytes: 1 }],
    ];
    for change in changes {
        let (mut spec, output) = place.spec();
        change(&mut spec);
        assert!(matches!(Container::create(spec), Err(Error::Invalid(_))));
        drop(output);
        assert_clean(&place, before);
    }
    let (mut spec, output) = place.spec();
    spec.rootfs = Rootfs::Folders(vec!["/no/such/image".into()]);
    assert!(matches!(Container::create(spec), Err(Error::Failed { .. })));
    drop(output);
    assert_clean(&place, before);
}

fn the_report_tells_what_is_possible() {
    let report = container::capabilities();
    assert_eq!(report.forbidden, None);
    assert_eq!(report.is_root, is_root());
    assert_eq!(report.ids, if is_root() { 65_536 } else { 1 });
    assert!(report.to_string().contains("containers can be made"));
    assert_eq!(cgroups_named(&format!("trial-{}", std::process::id())), Vec::<PathBuf>::new());
}

fn a_container_within_a_container_is_refused_with_the_reason() {
    let mut tester = Tester::new();
    let handle = tester.container.call("nest", b"", Vec::new()).unwrap();
    let status = tester.finish(handle);
    let output = tester.output();
    assert_eq!(status, ExitStatus::Code(7), "{output}");
    assert!(
        output.contains("not permitted on this host") && output.contains("max_user_namespaces"),
        "{output}"
    );
    tester.end();
}

fn signal_handlers_of_the_caller_do_not_run_inside() {
    extern "C" fn end(_: libc::c_int) {
        // SAFETY: as for any signal handler, `_exit` may be called.
        unsafe { libc::_exit(3) }
    }
    // SAFETY: the handler only makes a call that is safe in handlers.
    unsafe { libc::signal(libc::SIGUSR1, end as extern "C" fn(libc::c_int) as libc::sighandler_t) };
    let mut tester = Tester::new();
    tester.sh("kill -USR1 1");
    assert_eq!(tester.sh("kill -USR1 $$").0, ExitStatus::Signal(libc::SIGUSR1));
    assert_eq!(tester.says("echo alive"), "alive");
    tester.end();
}

// ---- root only ----

/// Parts from the host's mounts, so that a case may make its own.
fn have_own_mounts() {
    use rustix::mount::{MountPropagationFlags, mount_change};
    // SAFETY: this process has one thread, and nothing of it depends on shared mounts.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.unwrap();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
}

fn scratch_folders_that_overlay_refuses_are_replaced_by_memory() {
    have_own_mounts();
    let place = Place::new();
    let at = |name: &str| place.folder.join(name);
    ["lower", "upper", "work"].iter().for_each(|name| fs::create_dir(at(name)).unwrap());
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        at("lower").display(),
        at("upper").display(),
        at("work").display()
    );
    let options = std::ffi::CString::new(options).unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("overlay", place.scratch(), "overlay", flags, options.as_c_str()).unwrap();
    let (spec, _output) = place.spec();
    match Container::create(spec) {
        Ok(mut container) => {
            container.start(&shell("touch /usr/new /tmp/new")).unwrap();
            let event = container.next_event().unwrap();
            assert!(matches!(event, Event::Exited { status: ExitStatus::Code(0), .. }), "{event:?}");
            assert_eq!(fs::read_dir(place.scratch()).unwrap().count(), 0);
            container.destroy().unwrap();
        }
        // Before Linux 6.6 memory cannot stand in.
        Err(error) => {
            assert!(!memory_can_be_marked(&place), "{error}");
            assert!(error.to_string().contains("Choose a data folder on a disk"), "{error}");
        }
    }
    rustix::mount::unmount(place.scratch(), rustix::mount::UnmountFlags::empty()).unwrap();
}

fn memory_can_be_marked(place: &Place) -> bool {
    let memory = place.folder.join("memory");
    fs::create_dir(&memory).unwrap();
    rustix::mount::mount("tmpfs", &memory, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    let marked = rustix::fs::setxattr(&memory, "user.a", b"y", rustix::fs::XattrFlags::empty());
    rustix::mount::unmount(&memory, rustix::mount::UnmountFlags::empty()).unwrap();
    marked.is_ok()
}

fn trees_with_mounts_an_ordinary_user_may_not_merge_are_shown_read_only() {
    have_own_mounts();
    let place = Place::new();
    let tree = place.folder.join("tree");
    fs::create_dir_all(tree.join("mounted")).unwrap();
    fs::write(tree.join("file"), "file").unwrap();
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tmpfs", tree.join("mounted"), "tmpfs", flags, None).unwrap();
    fs::write(tree.join("mounted/file"), "mounted").unwrap();
    for path in [place.folder.clone(), place.scratch()] {
        std::os::unix::fs::chown(path, Some(USER), Some(USER)).unwrap();
    }
    become_user();
    let (mut spec, _output) = place.spec();
    let upper = spec.scratch.join("upper");
    spec.mounts = vec![Mount::Overlay { lower: tree, inside: "/tree".into(), upper }];
    let mut container = Container::create(spec).unwrap();
    container.start(&shell("cat /tree/file /tree/mounted/file && ! touch /tree/new")).unwrap();
    let event = container.next_event().unwrap();
    assert!(matches!(event, Event::Exited { status: ExitStatus::Code(0), .. }), "{event:?}");
    container.destroy().unwrap();
}

fn other_users_of_the_container_own_their_files() {
    let mut tester = Tester::with(|spec, folder| spec.rootfs = Rootfs::Folders(vec![busybox_image(folder)]));
    let mut process = shell(
        "id -u; id -g; stat -c '%u:%g %a' /srv/a /srv/a/script; echo x > /srv/a/mine; cat /proc/self/status",
    );
    process.user = Some("builder".into());
    process.cwd = "/srv/a".into();
    process.files = vec![File { path: "/srv/a/script".into(), bytes: Vec::new(), mode: 0o500 }];
    let (status, output) = tester.run(&process);
    assert_eq!(status, ExitStatus::Code(0), "{output}");
    assert!(output.starts_with("1000\n1000\n1000:1000 755\n1000:1000 500\n"), "{output}");
    assert!(output.contains("CapEff:\t0000000000000000") && output.contains("CapAmb:\t0000000000000000"));
    process.argv = shell("echo x > /root/no").argv;
    assert_ne!(tester.run(&process).0, ExitStatus::Code(0));
    process.user = Some("65533:7".into());
    process.cwd = "/".into();
    process.argv = shell("id -u; id -g").argv;
    process.files.clear();
    assert_eq!(tester.run(&process).1.lines().last(), Some("7"));
    process.user = Some("70000".into());
    assert!(matches!(tester.container.start(&process), Err(Error::UnknownUser(_))));
    tester.says("touch /tmp/x");
    let file = fs::metadata(tester.place.scratch().join("container/upper--/tmp/x")).unwrap();
    assert!(file.uid() >= 0x1000_0000, "files inside belong to nobody on the host");
    tester.end();
}

fn ids_of_two_containers_do_not_overlap() {
    let place = Place::new();
    let owners: Vec<(Container, u32)> = (0..2)
        .map(|number| {
            let (mut spec, _) = place.spec();
            spec.name = format!("{}-{number}", place.name());
            spec.scratch = place.folder.join(format!("scratch-{number}"));
            fs::create_dir(&spec.scratch).unwrap();
            let scratch = spec.scratch.clone();
            let container = Container::create(spec).unwrap();
            (container, fs::metadata(scratch).unwrap().uid())
        })
        .collect();
    assert!(owners[0].1.abs_diff(owners[1].1) >= 65_536);
}

fn what_was_used_is_told() {
    let mut tester = Tester::new();
    let before = tester.container.usage();
    // Some hundred milliseconds at least, and memory that is really there.
    tester.says(
        "python3 -c \"import time; b = bytearray(100_000_000)\nwhile time.process_time() < 0.5: pass\"",
    );
    let after = tester.container.usage();
    assert!(after.cpu_millis >= before.cpu_millis + 400, "{before:?} {after:?}");
    if is_root() {
        assert!(after.memory_peak_bytes.unwrap() >= 100_000_000, "{after:?}");
    }
    assert_eq!(after.network, None);
    assert!(after.memory_bytes.unwrap() < 100_000_000, "{after:?}");
    if tester.container.restart_memory_peak() {
        assert!(tester.container.usage().memory_peak_bytes.unwrap() < 100_000_000);
    }
    // Somebody who lives on counts as well, and what is written.
    let used = tester.container.disk_used_bytes().unwrap();
    tester.says(
        "head -c 20000000 /dev/zero > /large; sync /large
         sh -c 'while :; do :; done' >/dev/null 2>&1 &
         while [ $(cut -d' ' -f14 /proc/$!/stat) -lt 50 ]; do sleep 0.02; done",
    );
    let later = tester.container.usage();
    assert!(later.cpu_millis >= after.cpu_millis + 400, "{after:?} {later:?}");
    let disk = tester.container.disk_used_bytes().unwrap();
    assert!((20_000_000..21_000_000).contains(&(disk - used)), "{used} {disk}");
    if let (Some(before), Some(now)) = (after.disk, later.disk) {
        assert!((20_000_000..22_000_000).contains(&(now.written_bytes - before.written_bytes)), "{now:?}");
    }
    assert!(!is_root() || later.disk.is_some());
    tester.end();
}

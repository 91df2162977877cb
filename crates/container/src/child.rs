//! What a fork of init does to become a program, or to run a function.

use std::ffi::{CString, OsString};
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::process::{DumpableBehavior, Gid, Uid, chdir, ioctl_tiocsctty, set_dumpable_behavior, setsid};

use crate::init::{EXEC, FAILED, FILE, NO_WORKING_FOLDER, UNKNOWN_USER, refusal};
use crate::passwd::{Identity, identity};
use crate::spec::{File, Function, Process};
use crate::sys;
use crate::wire::{Reader, Writer};

/// Where programs are searched when the environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The bytes of a request to start `process`; descriptors travel beside: output, input, others.
pub(crate) fn encode(process: &Process<'_>, message: &mut Writer) {
    let count = |n: usize| n as u32;
    message.number(u32::from(process.output.is_some())).number(u32::from(process.input.is_some()));
    message.number(count(process.argv.len()));
    for argument in &process.argv {
        message.text(argument);
    }
    message.number(count(process.env.len()));
    for (name, value) in &process.env {
        message.text(name).text(value);
    }
    message.text(&process.cwd);
    message.number(u32::from(process.user.is_some())).text(process.user.as_deref().unwrap_or_default());
    message.number(count(process.files.len()));
    for file in &process.files {
        message.text(&file.path).bytes(&file.bytes).number(file.mode);
    }
}

/// A request as it arrives.
struct Request {
    has_output: bool,
    has_input: bool,
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: PathBuf,
    user: Option<String>,
    files: Vec<File>,
}

fn decode(bytes: &[u8]) -> Option<Request> {
    let mut reader = Reader(bytes);
    let (has_output, has_input) = (reader.number()? == 1, reader.number()? == 1);
    let argv = (0..reader.number()?).map(|_| reader.text()).collect::<Option<_>>()?;
    let env = (0..reader.number()?).map(|_| Some((reader.text()?, reader.text()?))).collect::<Option<_>>()?;
    let cwd = reader.text()?.into();
    let has_user = reader.number()? == 1;
    let user = reader.text()?.into_string().ok()?;
    let file = |reader: &mut Reader<'_>| {
        Some(File { path: reader.text()?.into(), bytes: reader.bytes()?.to_vec(), mode: reader.number()? })
    };
    let files = (0..reader.number()?).map(|_| file(&mut reader)).collect::<Option<_>>()?;
    Some(Request { has_output, has_input, argv, env, cwd, user: has_user.then_some(user), files })
}

/// Why nothing was started, as bytes of a reply.
type Refusal = Vec<u8>;

/// Runs a function of this program and ends with what it returns.
pub(crate) fn call(function: &Function, arguments: &[u8], descriptors: Vec<OwnedFd>) -> ! {
    let _ = setsid();
    let wanted: Vec<BorrowedFd<'_>> =
        [0, 1, 2].map(sys::standard).into_iter().chain(descriptors.iter().map(AsFd::as_fd)).collect();
    let taken = sys::take_descriptors(&wanted);
    std::mem::forget(descriptors);
    let Ok(taken) = taken else { sys::exit_now(126) };
    sys::reset_signals();
    sys::survive_closed_pipes();
    let run = || (function.run)(arguments, taken);
    let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or(101);
    sys::exit_now(code)
}

/// Becomes the program asked for, or writes to `report` why it cannot.
pub(crate) fn start(request: &[u8], descriptors: Vec<OwnedFd>, report: OwnedFd) -> ! {
    let mut report = fs::File::from(report);
    let refusal = match decode(request) {
        Some(request) => match prepare(&request) {
            Ok(()) => execute(&request, descriptors, report),
            Err(refusal) => refusal,
        },
        None => refusal(FAILED, &io::ErrorKind::InvalidData.into(), "understand the request"),
    };
    let _ = report.write_all(&refusal);
    sys::exit_now(127)
}

/// Everything up to the descriptors: session, files, identity, folder.
fn prepare(request: &Request) -> Result<(), Refusal> {
    let failed = |error: rustix::io::Errno| refusal(FAILED, &error.into(), "start a session");
    setsid().map_err(failed)?;
    let identity = match &request.user {
        None => Identity::ROOT,
        Some(user) => identity(user, Path::new("/etc"))
            .ok_or_else(|| refusal(UNKNOWN_USER, &io::ErrorKind::NotFound.into(), user))?,
    };
    for file in &request.files {
        write_file(file, &identity).map_err(|error| refusal(FILE, &error, &file.path))?;
    }
    assume(&identity)
        .map_err(|error| refusal(UNKNOWN_USER, &error, request.user.as_deref().unwrap_or("root")))?;
    chdir(&request.cwd).map_err(|error| refusal(NO_WORKING_FOLDER, &error.into(), &request.cwd))
}

/// Replaces whatever is at the path, so that a link, pipe or foreign file that a build put there is not written through.
pub(crate) fn write_file(file: &File, owner: &Identity) -> io::Result<()> {
    if let Some(parent) = file.path.parent() {
        make_folders(parent, owner)?;
    }
    match fs::remove_file(&file.path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut handle = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file.path)?;
    handle.write_all(&file.bytes)?;
    if !is_root(owner) {
        fchown(&handle, Some(owner.uid), Some(owner.gid))?;
    }
    handle.set_permissions(fs::Permissions::from_mode(file.mode & 0o7777))
}

pub(crate) fn make_folders(path: &Path, owner: &Identity) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_folders(parent, owner)?;
    }
    match fs::DirBuilder::new().mode(0o755).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        other => other?,
    }
    if is_root(owner) { Ok(()) } else { std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid)) }
}

fn is_root(identity: &Identity) -> bool {
    identity.uid == 0 && identity.gid == 0
}

/// Becomes the user. Root stays as init is, which an ordinary user's container could not even say again.
fn assume(identity: &Identity) -> io::Result<()> {
    if is_root(identity) {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    let groups: Vec<Gid> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    // A change of user may have undone this, and the caller's memory is still ours until exec.
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

fn execute(request: &Request, descriptors: Vec<OwnedFd>, report: fs::File) -> ! {
    let mut given = descriptors.iter().map(AsFd::as_fd);
    let output = if request.has_output { given.next() } else { None }.unwrap_or_else(|| sys::standard(1));
    let input = if request.has_input { given.next() } else { None }.unwrap_or_else(|| sys::standard(0));
    let mut wanted = vec![input, output, output];
    wanted.extend(given);
    let last = wanted.len() as i32;
    wanted.push(report.as_fd());
    let taken = sys::take_descriptors(&wanted);
    std::mem::forget((descriptors, report));
    let Ok(mut taken) = taken else { sys::exit_now(126) };
    let report = taken.pop().expect("the report is the last");
    let _ = sys::close_on_exec_from(last);
    if rustix::termios::isatty(sys::standard(0)) {
        let _ = ioctl_tiocsctty(sys::standard(0));
    }
    sys::reset_signals();
    let error = exec(request);
    let program = request.argv.first().cloned().unwrap_or_default();
    let _ = fs::File::from(report).write_all(&refusal(EXEC, &error, program));
    sys::exit_now(127)
}

fn exec(request: &Request) -> io::Error {
    let joined = request.env.iter().map(|(name, value)| {
        let mut pair = name.clone();
        pair.push("=");
        pair.push(value);
        pair
    });
    let strings = |all: Vec<OsString>| -> Option<Vec<CString>> {
        all.into_iter().map(|one| CString::new(one.into_vec()).ok()).collect()
    };
    let candidates = strings(candidates(request));
    match (candidates, strings(request.argv.clone()), strings(joined.collect())) {
        (Some(candidates), Some(argv), Some(env)) => sys::exec(&candidates, &argv, &env),
        // A zero byte cannot be said to a program.
        _ => io::Error::from_raw_os_error(libc::EINVAL),
    }
}

fn candidates(request: &Request) -> Vec<OsString> {
    let Some(program) = request.argv.first().filter(|program| !program.is_empty()) else { return Vec::new() };
    if program.as_bytes().contains(&b'/') {
        return vec![program.clone()];
    }
    let path = request.env.iter().rev().find(|(name, _)| name == "PATH");
    let path = path.map_or_else(|| DEFAULT_PATH.into(), |(_, value)| value.clone());
    std::env::split_paths(&path).map(|folder| folder.join(program).into_os_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_arrives_as_it_was_sent() {
        let process = Process {
            argv: vec!["sh".into(), "".into()],
            env: vec![("PATH".into(), "/a:/b".into()), ("EMPTY".into(), "".into())],
            cwd: "/work".into(),
            user: Some("ada".into()),
            files: vec![File { path: "/f".into(), bytes: vec![0, 255], mode: 0o600 }],
            ..Process::default()
        };
        let mut message = Writer::default();
        encode(&process, &mut message);
        let request = decode(&message.0).unwrap();
        assert_eq!((request.argv.clone(), request.env.clone()), (process.argv, process.env));
        assert_eq!((request.cwd.clone(), request.user.clone()), (process.cwd, process.user));
        assert_eq!(request.files, process.files);
        assert_eq!(candidates(&request), ["/a/sh", "/b/sh"]);
        assert!(decode(&message.0[..message.0.len() - 1]).is_none());
    }
}

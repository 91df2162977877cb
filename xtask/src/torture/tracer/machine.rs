//! Where this processor keeps a system call's number, arguments and answer.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::libc::user_regs_struct;
use nix::sys::ptrace;
use nix::unistd::Pid;

const PATH_MAX_BYTES: usize = 512;

pub(super) struct Registers {
    task: Pid,
    all: user_regs_struct,
}

impl Registers {
    pub(super) fn of(task: Pid) -> nix::Result<Registers> {
        Ok(Registers { task, all: ptrace::getregs(task)? })
    }

    /// The first eight bytes of what an argument points to.
    pub(super) fn word_at(&self, argument: u64) -> Option<u64> {
        let word = ptrace::read(self.task, argument as ptrace::AddressType).ok()?;
        Some(u64::from_ne_bytes(word.to_ne_bytes()))
    }

    /// The first two bytes of what an argument points to.
    pub(super) fn short_at(&self, argument: u64) -> Option<i16> {
        let word = ptrace::read(self.task, argument as ptrace::AddressType).ok()?;
        let bytes = word.to_ne_bytes();
        Some(i16::from_ne_bytes([bytes[0], bytes[1]]))
    }

    /// The text that an argument points to, up to its end or some length that no path of ours has.
    pub(super) fn path_at(&self, argument: u64) -> Option<PathBuf> {
        let mut bytes = Vec::new();
        while bytes.len() < PATH_MAX_BYTES {
            let at = argument.checked_add(bytes.len() as u64)? as ptrace::AddressType;
            let word = ptrace::read(self.task, at).ok()?.to_ne_bytes();
            let end = word.iter().position(|byte| *byte == 0);
            bytes.extend_from_slice(&word[..end.unwrap_or(word.len())]);
            if end.is_some() {
                break;
            }
        }
        Some(PathBuf::from(OsString::from_vec(bytes)))
    }
}

#[cfg(target_arch = "x86_64")]
impl Registers {
    pub(super) fn call(&self) -> i64 {
        self.all.orig_rax.cast_signed()
    }

    pub(super) fn arguments(&self) -> [u64; 4] {
        [self.all.rdi, self.all.rsi, self.all.rdx, self.all.r10]
    }

    /// At its beginning: the call is not made.
    pub(super) fn skip(&mut self) -> nix::Result<()> {
        self.all.orig_rax = u64::MAX;
        ptrace::setregs(self.task, self.all)
    }

    /// At its end: what it comes to.
    pub(super) fn answer(&mut self, error: Errno) -> nix::Result<()> {
        self.all.rax = (-i64::from(error as i32)).cast_unsigned();
        ptrace::setregs(self.task, self.all)
    }
}

/// Where a call cannot be skipped, it is let through: the families that need it say so.
#[cfg(target_arch = "aarch64")]
impl Registers {
    pub(super) fn call(&self) -> i64 {
        self.all.regs[8].cast_signed()
    }

    pub(super) fn arguments(&self) -> [u64; 4] {
        [self.all.regs[0], self.all.regs[1], self.all.regs[2], self.all.regs[3]]
    }

    pub(super) fn skip(&mut self) -> nix::Result<()> {
        Err(Errno::ENOSYS)
    }

    pub(super) fn answer(&mut self, _error: Errno) -> nix::Result<()> {
        let _ = self.task;
        Err(Errno::ENOSYS)
    }
}

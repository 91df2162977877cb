//! Which system calls a container may make, as data, and its compilation. What Docker denies by default is denied here
//! too, and more: nothing inside ever needs to mount, trace the kernel or load code into it.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use crate::error::Error;

/// Answered with "operation not permitted".
const FORBIDDEN: &[c_long] = &[
    // Mounts, old and new, and whatever changes what a path means.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // Code in the kernel, and what looks into it.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_syslog,
    // Keyrings are not a namespace.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // The machine.
    libc::SYS_reboot,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_acct,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    libc::SYS_userfaultfd,
];

/// Answered with "no such system call", so that C libraries and programs fall back to what they did before it existed.
const ABSENT: &[c_long] = &[
    // Its flags lie in memory, where a filter cannot look.
    libc::SYS_clone3,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    STATMOUNT,
    LISTMOUNT,
    OPEN_TREE_ATTR,
];

// Newer than the C library's headers; the same number on every architecture.
const STATMOUNT: c_long = 457;
const LISTMOUNT: c_long = 458;
const OPEN_TREE_ATTR: c_long = 467;

const TIOCSTI: u64 = 0x5412;
const TIOCLINUX: u64 = 0x541c;

/// The programs to load, in this order.
#[derive(Clone, Debug)]
pub(crate) struct Filters(Vec<BpfProgram>);

impl Filters {
    /// Compiles the profile for this architecture.
    pub(crate) fn compile() -> Result<Filters, Error> {
        let mut programs = vec![
            program(forbidden(), libc::EPERM).map_err(uncompiled)?,
            program(absent(), libc::ENOSYS).map_err(uncompiled)?,
        ];
        if cfg!(target_arch = "x86_64") {
            programs.push(kill_x32());
        }
        Ok(Filters(programs))
    }

    /// For who may do everything.
    pub(crate) fn none() -> Filters {
        Filters(Vec::new())
    }

    /// Loads them into the calling process for ever, and with them `no_new_privs`.
    pub(crate) fn load(&self) -> std::io::Result<()> {
        self.0
            .iter()
            .try_for_each(|program| seccompiler::apply_filter(program).map_err(std::io::Error::other))
    }
}

fn uncompiled(source: seccompiler::BackendError) -> Error {
    Error::Failed { what: "compile the system call filter".into(), source: std::io::Error::other(source) }
}

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// A filter that answers `errno` to whatever the rules match. A foreign architecture's call kills the process.
fn program(rules: Rules, errno: i32) -> Result<BpfProgram, seccompiler::BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno as u32), arch)?.try_into()
}

fn absent() -> Rules {
    ABSENT.iter().map(|call| (*call, Vec::new())).collect()
}

fn forbidden() -> Rules {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let mut rules: Rules = FORBIDDEN.iter().map(|call| (*call, Vec::new())).collect();
    let user_namespace = libc::CLONE_NEWUSER as u64;
    for call in [libc::SYS_clone, libc::SYS_unshare] {
        rules.insert(call, vec![rule(&[(0, MaskedEq(user_namespace), user_namespace)])]);
    }
    let other_family =
        [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK].map(|f| (0, Ne, f as u64));
    let other_netlink = [(0, Eq, libc::AF_NETLINK as u64), (2, Ne, libc::NETLINK_ROUTE as u64)];
    rules.insert(libc::SYS_socket, vec![rule(&other_family), rule(&other_netlink)]);
    rules.insert(libc::SYS_personality, vec![rule(&[(0, Ne, 0), (0, Ne, 0xffff_ffff)])]);
    // Typing into the terminal a build was started from.
    rules.insert(libc::SYS_ioctl, vec![rule(&[(1, Eq, TIOCSTI)]), rule(&[(1, Eq, TIOCLINUX)])]);
    rules
}

/// All conditions together: (argument number, comparison, value).
fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> SeccompRule {
    let conditions = conditions
        .iter()
        .map(|(argument, operator, value)| {
            SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator.clone(), *value)
                .expect("argument numbers are below six")
        })
        .collect();
    SeccompRule::new(conditions).expect("there is at least one condition")
}

/// x32 calls carry x86-64's architecture and a bit in their number, so they would slip past the other filters.
fn kill_x32() -> BpfProgram {
    const LOAD: u16 = 0x20;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const X32_BIT: u32 = 0x4000_0000;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        step(LOAD, 0, 0, 0),
        step(JUMP_IF_AT_LEAST, 0, 1, X32_BIT),
        step(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_compiles_on_this_architecture() {
        Filters::compile().unwrap();
    }

    #[test]
    fn no_call_is_both_forbidden_and_absent() {
        assert!(FORBIDDEN.iter().all(|call| !ABSENT.contains(call)));
    }
}

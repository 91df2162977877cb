//! The compilation of what the profile says of system calls, and some that depend on their arguments.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use crate::error::Error;
use crate::profile::PROFILE;

/// The programs to load, in this order.
#[derive(Clone, Debug)]
pub(crate) struct Filters(Vec<BpfProgram>);

impl Filters {
    /// Compiles the profile for this architecture.
    pub(crate) fn compile() -> Result<Filters, Error> {
        let mut programs = vec![
            program(forbidden(), libc::EPERM).map_err(uncompiled)?,
            program(answered(libc::ENOSYS), libc::ENOSYS).map_err(uncompiled)?,
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

    /// Whether they are for who may do everything.
    pub(crate) fn are_none(&self) -> bool {
        self.0.is_empty()
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

/// The profile's calls with that answer, whatever their arguments.
fn answered(errno: i32) -> Rules {
    let families = PROFILE.calls.iter().filter(|calls| calls.answer == errno);
    families.flat_map(|calls| calls.numbers).map(|call| (*call, Vec::new())).collect()
}

fn forbidden() -> Rules {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let mut rules = answered(libc::EPERM);
    let user_namespace = libc::CLONE_NEWUSER as u64;
    for call in [libc::SYS_clone, libc::SYS_unshare] {
        rules.insert(call, vec![rule(&[(0, MaskedEq(user_namespace), user_namespace)])]);
    }
    let families = PROFILE.socket_families.iter();
    let other_family: Vec<_> = families.map(|(_, family)| (0, Ne, *family as u64)).collect();
    let other_netlink = [(0, Eq, libc::AF_NETLINK as u64), (2, Ne, libc::NETLINK_ROUTE as u64)];
    rules.insert(libc::SYS_socket, vec![rule(&other_family), rule(&other_netlink)]);
    rules.insert(libc::SYS_personality, vec![rule(&[(0, Ne, 0), (0, Ne, 0xffff_ffff)])]);
    let typing = PROFILE.refused_ioctls.iter().map(|(_, request)| rule(&[(1, Eq, *request)]));
    rules.insert(libc::SYS_ioctl, typing.collect());
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
}

//! The compilation of what the profile says of system calls, and some that depend on their arguments.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use crate::error::Error;
use crate::profile::{PRIVILEGED, Profile};
use crate::sys;

/// The programs to load, in this order.
#[derive(Clone, Debug)]
pub(crate) struct Filters {
    programs: Vec<BpfProgram>,
    profile: &'static Profile,
}

impl Filters {
    /// Compiles the profile for this architecture.
    pub(crate) fn compile(profile: &'static Profile) -> Result<Filters, Error> {
        let programs = vec![
            program(forbidden(profile), libc::EPERM).map_err(uncompiled)?,
            program(answered(profile, libc::ENOSYS), libc::ENOSYS).map_err(uncompiled)?,
            by_number(profile.newest_call),
        ];
        Ok(Filters { programs, profile })
    }

    /// For who may do everything.
    pub(crate) fn none() -> Filters {
        Filters { programs: Vec::new(), profile: &PRIVILEGED }
    }

    /// Whether they are for who may do everything.
    pub(crate) fn are_none(&self) -> bool {
        self.programs.is_empty()
    }

    pub(crate) fn profile(&self) -> &'static Profile {
        self.profile
    }

    /// Loads them into the calling process for ever, and with them `no_new_privs` where the profile says so; else it takes `SYS_ADMIN`.
    pub(crate) fn load(&self) -> std::io::Result<()> {
        if self.profile.no_new_privileges {
            rustix::thread::set_no_new_privs(true)?;
        }
        self.programs.iter().try_for_each(|program| sys::filter_calls(program))
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
fn answered(profile: &Profile, errno: i32) -> Rules {
    let families = profile.calls.iter().filter(|calls| calls.answer == errno);
    families.flat_map(|calls| calls.numbers).map(|call| (*call, Vec::new())).collect()
}

fn forbidden(profile: &Profile) -> Rules {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let mut rules = answered(profile, libc::EPERM);
    let namespaces = profile.refused_namespaces.iter().map(|(_, flag)| *flag as u64);
    let namespaces: Vec<_> = namespaces.map(|flag| rule(&[(0, MaskedEq(flag), flag)])).collect();
    for call in [libc::SYS_clone, libc::SYS_unshare] {
        rules.insert(call, namespaces.clone());
    }
    let families = profile.socket_families.iter();
    let other_family: Vec<_> = families.map(|(_, family)| (0, Ne, *family as u64)).collect();
    let mut other_netlink = vec![(0, Eq, libc::AF_NETLINK as u64)];
    other_netlink.extend(profile.netlink.iter().map(|(_, protocol)| (2, Ne, *protocol as u64)));
    rules.insert(libc::SYS_socket, vec![rule(&other_family), rule(&other_netlink)]);
    rules.insert(libc::SYS_personality, vec![rule(&[(0, Ne, 0), (0, Ne, 0xffff_ffff)])]);
    let typing = profile.refused_ioctls.iter().map(|(_, request)| rule(&[(1, Eq, *request)]));
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

/// Newer calls than this one are not there. x32 calls kill: they carry x86-64's architecture and a bit in their number, so they would slip past the
/// other filters.
fn by_number(newest: c_long) -> BpfProgram {
    const LOAD: u16 = 0x20;
    const JUMP_IF_GREATER: u16 = 0x25;
    const JUMP_IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const X32_BIT: u32 = 0x4000_0000;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let foreign = match cfg!(target_arch = "x86_64") {
        true => libc::SECCOMP_RET_KILL_PROCESS,
        false => libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32,
    };
    vec![
        step(LOAD, 0, 0, 0),
        step(JUMP_IF_AT_LEAST, 0, 1, X32_BIT),
        step(RETURN, 0, 0, foreign),
        step(JUMP_IF_GREATER, 0, 1, newest as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::PROFILE;

    #[test]
    fn the_profiles_compile_on_this_architecture() {
        Filters::compile(&PROFILE).unwrap();
        Filters::compile(&PRIVILEGED).unwrap();
    }
}

//! The isolation profile as data: what a container has of its own, what it may do, what it sees, how much it gets. The rest of
//! this crate goes by it, and its tests hold a running container against it, from inside. No behaviour.
//!
//! docs/isolation.md says the same to people.

use libc::{c_int, c_long};

/// Everything that holds whatever a [`crate::Spec`] says.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// As `/proc/self/ns` calls them, with their `CLONE_NEW*`: a container is born into these.
    pub namespaces: &'static [(&'static str, c_int)],
    /// Left by init itself, once it is in the cgroups that are the root of it.
    pub later_namespaces: &'static [(&'static str, c_int)],
    /// Besides, unless the network is [`crate::Network::Host`].
    pub network_namespace: (&'static str, c_int),
    /// By which `sudo` and other set-user-id programs gain nothing.
    pub no_new_privileges: bool,
    /// Names and numbers of those that are left in the permitted, effective and bounding sets; the others are empty.
    pub capabilities: &'static [(&'static str, u32)],
    /// What of system calls is refused, whoever asks.
    pub calls: &'static [Calls],
    /// The last call that is let through unread: newer ones are answered with `ENOSYS`, as by a kernel that does not have them.
    pub newest_call: c_long,
    /// Namespaces that cannot be made within, whoever asks: flags of `clone` and `unshare`.
    pub refused_namespaces: &'static [(&'static str, c_int)],
    /// Families of sockets that can be made.
    pub socket_families: &'static [(&'static str, c_int)],
    /// Of netlink's.
    pub netlink: &'static [(&'static str, c_int)],
    /// `ioctl`s that are refused: typing into the terminal a build was started from.
    pub refused_ioctls: &'static [(&'static str, u64)],
    /// What cannot be made, where the kernel has Landlock: `LANDLOCK_ACCESS_FS_*`.
    pub refused_nodes: &'static [(&'static str, u64)],
    /// What reaches no further than the container, where it has scopes: `LANDLOCK_SCOPE_*`.
    pub scopes: &'static [(&'static str, u64)],
    /// Devices that show in /dev: name, major, minor.
    pub devices: &'static [(&'static str, u32, u32)],
    /// Hidden where they exist: folders become empty, files read as empty.
    pub hidden: &'static [&'static str],
    /// Read-only where they exist.
    pub read_only: &'static [&'static str],
    /// `RLIMIT_*`, as `/proc/self/limits` calls them, and what they are lowered to.
    pub resources: &'static [Resource],
    /// In how many user namespaces a container's processes can be besides their own.
    pub nested_user_namespaces: u32,
    /// `/sys` shows as it is, with the control groups below the container's own to write to; else it is read-only and has none.
    pub opens_sys: bool,
    /// Folders that lie on the scratch folder itself, not on an overlay.
    pub plain_folders: &'static [&'static str],
    /// The host has 4,096 for everybody.
    pub terminals: u32,
    /// Of every size, as cgroups limit them.
    pub huge_pages: u64,
}

/// A family of system calls.
#[derive(Clone, Copy, Debug)]
pub struct Calls {
    pub family: &'static str,
    /// What they are answered with: `EPERM`; or `ENOSYS`, so that C libraries and programs fall back to what they did before the call existed.
    pub answer: c_int,
    pub numbers: &'static [c_long],
}

/// A limit of each process.
#[derive(Clone, Copy, Debug)]
pub struct Resource {
    pub name: &'static str,
    pub resource: rustix::process::Resource,
    pub most: u64,
}

/// A list of what is refused, and of no more calls than are known. What Docker's list of what is allowed leaves out by default, for the
/// capabilities that are left here, is refused here too, and more: nothing inside ever needs to mount, trace the kernel or load code into it. Two
/// differences: `unshare` is refused by the kernel alone where it makes no user namespace, as that takes `SYS_ADMIN`; and calls that no kernel answers any
/// more are left to it.
pub const PROFILE: Profile = Profile {
    namespaces: &[
        ("user", libc::CLONE_NEWUSER),
        ("mnt", libc::CLONE_NEWNS),
        ("pid", libc::CLONE_NEWPID),
        ("ipc", libc::CLONE_NEWIPC),
        ("uts", libc::CLONE_NEWUTS),
    ],
    later_namespaces: &[("cgroup", libc::CLONE_NEWCGROUP)],
    network_namespace: ("net", libc::CLONE_NEWNET),
    no_new_privileges: true,
    // What package installers and test suites need to behave as they do as root; all of it ends at the container's own ids.
    capabilities: &[
        ("CHOWN", 0),
        ("DAC_OVERRIDE", 1),
        ("FOWNER", 3),
        ("FSETID", 4),
        ("KILL", 5),
        ("SETGID", 6),
        ("SETUID", 7),
        ("NET_BIND_SERVICE", 10),
        ("SYS_CHROOT", 18),
    ],
    calls: &[
        Calls {
            family: "mounts, and whatever changes what a path means",
            answer: libc::EPERM,
            numbers: MOUNTS,
        },
        Calls { family: "what reaches files past their paths", answer: libc::EPERM, numbers: PAST_PATHS },
        Calls { family: "code in the kernel, and what looks into it", answer: libc::EPERM, numbers: KERNEL },
        Calls {
            family: "keyrings, which are not a namespace",
            answer: libc::EPERM,
            numbers: &[libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_request_key],
        },
        Calls { family: "the machine", answer: libc::EPERM, numbers: MACHINE },
        Calls { family: "what Docker leaves out besides", answer: libc::EPERM, numbers: LEFT_OUT },
        Calls { family: "what programs do without", answer: libc::ENOSYS, numbers: ABSENT },
    ],
    newest_call: REMOVEXATTRAT,
    refused_namespaces: &[("user", libc::CLONE_NEWUSER)],
    socket_families: &[
        ("UNIX", libc::AF_UNIX),
        ("INET", libc::AF_INET),
        ("INET6", libc::AF_INET6),
        ("NETLINK", libc::AF_NETLINK),
    ],
    netlink: &[("ROUTE", libc::NETLINK_ROUTE)],
    refused_ioctls: &[("TIOCSTI", 0x5412), ("TIOCLINUX", 0x541c)],
    refused_nodes: &[("character device", 1 << 6), ("block device", 1 << 11)],
    scopes: &[("abstract sockets", 1), ("signals", 2)],
    devices: &[
        ("null", 1, 3),
        ("zero", 1, 5),
        ("full", 1, 7),
        ("random", 1, 8),
        ("urandom", 1, 9),
        ("tty", 5, 0),
    ],
    hidden: &[
        "/proc/kcore",
        "/proc/keys",
        "/proc/timer_list",
        "/proc/sched_debug",
        "/proc/interrupts",
        "/proc/latency_stats",
        "/proc/scsi",
        "/proc/acpi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
        "/sys/kernel/debug",
    ],
    read_only: &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    resources: &[
        Resource { name: "Max core file size", resource: rustix::process::Resource::Core, most: 0 },
        Resource { name: "Max open files", resource: rustix::process::Resource::Nofile, most: 65_536 },
        Resource { name: "Max locked memory", resource: rustix::process::Resource::Memlock, most: 64 << 10 },
        Resource {
            name: "Max msgqueue size",
            resource: rustix::process::Resource::Msgqueue,
            most: 800 << 10,
        },
        Resource {
            name: "Max pending signals",
            resource: rustix::process::Resource::Sigpending,
            most: 16_384,
        },
    ],
    // Whoever nests user namespaces meets kernel code that nobody else reaches.
    nested_user_namespaces: 0,
    opens_sys: false,
    plain_folders: &[],
    terminals: 256,
    huge_pages: 0,
};

/// A privileged container's ([`crate::Spec::is_privileged`]): root of its own user namespace in full, so that a container engine works
/// inside. What holds it are the ids and the namespaces: root of the host owns what is not its own, so that nothing need lie over
/// `/proc`, and something that did would only keep the kernel from granting a new `/proc` within.
pub const PRIVILEGED: Profile = Profile {
    // Set-user-id programs of the containers within are theirs.
    no_new_privileges: false,
    capabilities: ALL_CAPABILITIES,
    calls: &[
        Calls { family: "what reaches files past their paths", answer: libc::EPERM, numbers: PAST_PATHS },
        Calls { family: "code in the kernel, and what looks into it", answer: libc::EPERM, numbers: KERNEL },
        Calls { family: "the machine", answer: libc::EPERM, numbers: MACHINE },
        Calls { family: "what programs do without", answer: libc::ENOSYS, numbers: ABSENT },
        Calls {
            // Engines do without them where there are none, and fail where they are forbidden.
            family: "keyrings, which are not a namespace",
            answer: libc::ENOSYS,
            numbers: &[libc::SYS_keyctl, libc::SYS_add_key, libc::SYS_request_key],
        },
    ],
    // The firewall of its own network, by which an engine's containers reach out.
    netlink: &[("ROUTE", libc::NETLINK_ROUTE), ("NETFILTER", libc::NETLINK_NETFILTER)],
    // Whom it holds cannot mount; the kernel lets nobody make devices who is root of a namespace only.
    refused_nodes: &[],
    hidden: &[],
    read_only: &[],
    opens_sys: true,
    // COMPAT: EN-029 an overlay does not lie on another one.
    plain_folders: &["/var/lib/docker"],
    ..PROFILE
};

const ALL_CAPABILITIES: &[(&str, u32)] = &[
    ("CHOWN", 0),
    ("DAC_OVERRIDE", 1),
    ("DAC_READ_SEARCH", 2),
    ("FOWNER", 3),
    ("FSETID", 4),
    ("KILL", 5),
    ("SETGID", 6),
    ("SETUID", 7),
    ("SETPCAP", 8),
    ("LINUX_IMMUTABLE", 9),
    ("NET_BIND_SERVICE", 10),
    ("NET_BROADCAST", 11),
    ("NET_ADMIN", 12),
    ("NET_RAW", 13),
    ("IPC_LOCK", 14),
    ("IPC_OWNER", 15),
    ("SYS_MODULE", 16),
    ("SYS_RAWIO", 17),
    ("SYS_CHROOT", 18),
    ("SYS_PTRACE", 19),
    ("SYS_PACCT", 20),
    ("SYS_ADMIN", 21),
    ("SYS_BOOT", 22),
    ("SYS_NICE", 23),
    ("SYS_RESOURCE", 24),
    ("SYS_TIME", 25),
    ("SYS_TTY_CONFIG", 26),
    ("MKNOD", 27),
    ("LEASE", 28),
    ("AUDIT_WRITE", 29),
    ("AUDIT_CONTROL", 30),
    ("SETFCAP", 31),
    ("MAC_OVERRIDE", 32),
    ("MAC_ADMIN", 33),
    ("SYSLOG", 34),
    ("WAKE_ALARM", 35),
    ("BLOCK_SUSPEND", 36),
    ("AUDIT_READ", 37),
    ("PERFMON", 38),
    ("BPF", 39),
    ("CHECKPOINT_RESTORE", 40),
];

const PAST_PATHS: &[c_long] = &[
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_swapon,
    libc::SYS_swapoff,
];

const MOUNTS: &[c_long] = &[
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
];

const KERNEL: &[c_long] = &[
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_syslog,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
];

const MACHINE: &[c_long] = &[
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
    libc::SYS_modify_ldt,
];

const LEFT_OUT: &[c_long] = &[
    // On which node of the machine memory lies.
    libc::SYS_mbind,
    libc::SYS_set_mempolicy,
    libc::SYS_get_mempolicy,
    SET_MEMPOLICY_HOME_NODE,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // Into other processes, beyond what tracing them allows.
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    libc::SYS_fanotify_init,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    LSM_GET_SELF_ATTR,
    LSM_SET_SELF_ATTR,
    LSM_LIST_MODULES,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
];

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
const SET_MEMPOLICY_HOME_NODE: c_long = 450;
const STATMOUNT: c_long = 457;
const LISTMOUNT: c_long = 458;
const LSM_GET_SELF_ATTR: c_long = 459;
const LSM_SET_SELF_ATTR: c_long = 460;
const LSM_LIST_MODULES: c_long = 461;
const REMOVEXATTRAT: c_long = 466;
const OPEN_TREE_ATTR: c_long = 467;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_in_two_families() {
        for profile in [&PROFILE, &PRIVILEGED] {
            let mut all: Vec<c_long> =
                profile.calls.iter().flat_map(|calls| calls.numbers).copied().collect();
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), count);
        }
    }

    /// What a privileged container is spared is this, and no more.
    #[test]
    fn a_privileged_container_may_mount_enter_namespaces_and_set_its_network_up() {
        let refused = |profile: &Profile| -> std::collections::BTreeSet<c_long> {
            profile.calls.iter().flat_map(|calls| calls.numbers).copied().collect()
        };
        let spared: Vec<c_long> = refused(&PROFILE).difference(&refused(&PRIVILEGED)).copied().collect();
        let mut mounts = vec![
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
        ];
        // Root of a user namespace in full has the capabilities for those, and engines name their containers.
        mounts.extend(LEFT_OUT);
        mounts.sort_unstable();
        assert_eq!(spared, mounts);
        assert_eq!(PROFILE.newest_call, PRIVILEGED.newest_call);
        assert_eq!(PROFILE.socket_families, PRIVILEGED.socket_families);
        assert_eq!(PROFILE.refused_ioctls, PRIVILEGED.refused_ioctls);
        assert_eq!(PROFILE.refused_namespaces, PRIVILEGED.refused_namespaces);
        assert_eq!(PROFILE.scopes, PRIVILEGED.scopes);
    }
}

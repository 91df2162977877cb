//! Users and groups as the container's own /etc/passwd and /etc/group have them. No name service, no host lookups.

use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Of /etc/passwd or /etc/group.
const MOST_BYTES: u64 = 4 << 20;

/// Whom a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
}

impl Identity {
    pub(crate) const ROOT: Identity = Identity { uid: 0, gid: 0, groups: Vec::new() };
}

/// Finds `user`, `uid`, `user:group` or `uid:gid`. `None` when a name is unknown; numbers need no entry.
pub(crate) fn identity(user: &str, etc: &Path) -> Option<Identity> {
    find(user, &read(&etc.join("passwd")), &read(&etc.join("group")))
}

/// Empty unless it is a regular file: a build may have put a pipe there, to be waited for, or something endless.
fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    let opened = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    if let Ok(file) = opened
        && file.metadata().is_ok_and(|metadata| metadata.is_file())
        && file.take(MOST_BYTES).read_to_end(&mut bytes).is_err()
    {
        bytes.clear();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn find(user: &str, passwd: &str, group: &str) -> Option<Identity> {
    let (user, wanted_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (user, None),
    };
    let entry = entries(passwd).find(|fields| fields.first() == Some(&user));
    let (uid, own_gid, name) = match entry {
        Some(fields) => (number(fields.get(2)?)?, number(fields.get(3)?)?, user),
        None => numbered(number(user)?, passwd),
    };
    let Some(wanted_group) = wanted_group else {
        return Some(Identity { uid, gid: own_gid, groups: memberships(name, group) });
    };
    let entry = entries(group).find(|fields| fields.first() == Some(&wanted_group));
    let gid = match entry {
        Some(fields) => number(fields.get(2)?)?,
        None => number(wanted_group)?,
    };
    Some(Identity { uid, gid, groups: Vec::new() })
}

/// A user given by number: its entry's group and name if there is one, else group 0 as other container engines do.
fn numbered(uid: u32, passwd: &str) -> (u32, u32, &str) {
    entries(passwd)
        .find(|fields| fields.get(2).and_then(|f| number(f)) == Some(uid))
        .and_then(|fields| Some((uid, number(fields.get(3)?)?, *fields.first()?)))
        .unwrap_or((uid, 0, ""))
}

fn memberships(name: &str, group: &str) -> Vec<u32> {
    let is_member = |fields: &Vec<&str>| {
        fields
            .get(3)
            .is_some_and(|members| members.split(',').any(|member| !member.is_empty() && member == name))
    };
    entries(group).filter(is_member).filter_map(|fields| number(fields.get(2)?)).collect()
}

fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|line| !line.is_empty()).map(|line| line.split(':').collect())
}

/// The kernel reserves the largest number for "unchanged".
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|n| *n != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1001:Ada,,,:/home/ada:/bin/sh\n\nbroken\n";
    const GROUP: &str = "root:x:0:\nada:x:1001:\nwheel:x:10:root,ada\ndocker:x:999:ada\n";

    fn check(user: &str, expect: Option<(u32, u32, &[u32])>) {
        let expect = expect.map(|(uid, gid, groups)| Identity { uid, gid, groups: groups.to_vec() });
        assert_eq!(find(user, PASSWD, GROUP), expect, "{user}");
    }

    #[test]
    fn users_are_found_by_name_and_by_number() {
        check("root", Some((0, 0, &[10])));
        check("ada", Some((1000, 1001, &[10, 999])));
        check("1000", Some((1000, 1001, &[10, 999])));
        check("4711", Some((4711, 0, &[])));
        check("ada:wheel", Some((1000, 10, &[])));
        check("ada:5", Some((1000, 5, &[])));
        check("7:8", Some((7, 8, &[])));
    }

    #[test]
    fn unknown_names_and_impossible_numbers_are_refused() {
        for user in ["bob", "", "ada:nobody", ":", "-1", "4294967295", "broken", "99999999999"] {
            check(user, None);
        }
    }
}

//! The ids that the host's administrator has set apart for an ordinary user in /etc/subuid and /etc/subgid, taken for the whole process by
//! the programs `newuidmap` and `newgidmap`. Who has taken them is root of a user namespace: the user's own id is 0 there, and the files
//! of all ids that its containers use are its to give away, to merge and to remove.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::{Pid, getegid, geteuid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::egress::PROGRAM_PATH;
use crate::error::{Doing, Error};
use crate::ids::{self, RANGE};
use crate::prepared::must_be_single_threaded;

/// Besides the user's own.
const NEEDED: u32 = RANGE - 1;
const PROGRAMS: [(&str, &str); 2] = [("newuidmap", "/etc/subuid"), ("newgidmap", "/etc/subgid")];

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Whether this process is root only because it has taken its user's ids.
pub fn has_subordinate_ids() -> bool {
    TAKEN.load(Ordering::Relaxed)
}

/// Makes this process, and those it starts from now on, root of a user namespace with 65,536 ids, if it is an ordinary user's and the host has
/// set so many apart for that user; whether it did. Files are where and whose they were; only names of owners differ: the user's own id reads 0,
/// and others' that are not the user's read 65,534. Nothing happens to root.
///
/// # Errors
/// [`Error::Threads`]; [`Error::Failed`] where the ids are the user's and cannot be had all the same. The process is as it was then.
pub fn take_subordinate_ids() -> Result<bool, Error> {
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    if user == 0 {
        return Ok(false);
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = name_of(user, &passwd).unwrap_or_default();
    let [users, groups] = PROGRAMS.map(|(program, file)| {
        let first = first_of(&fs::read_to_string(file).unwrap_or_default(), name, user)?;
        Some((found(program)?, first))
    });
    let (Some(users), Some(groups)) = (users, groups) else { return Ok(false) };
    must_be_single_threaded()?;
    take([(users, user), (groups, group)])
        .doing("take the ids that /etc/subuid and /etc/subgid have for this user")?;
    TAKEN.store(true, Ordering::Relaxed);
    Ok(true)
}

/// Programs with the first id to map, and this process's own.
fn take(maps: [((PathBuf, u32), u32); 2]) -> io::Result<()> {
    let [user] = ids::namespaces([ids::USER], |process| {
        maps.iter().try_for_each(|((program, first), own)| map(program, process, *own, *first))
    })?;
    Ok(move_into_link_name_space(user.as_fd(), Some(LinkNameSpaceType::User))?)
}

fn map(program: &Path, process: Pid, own: u32, first: u32) -> io::Result<()> {
    let numbers = [process.as_raw_nonzero().get() as u32, 0, own, 1, 1, first, NEEDED];
    let mut command = Command::new(program);
    command.args(numbers.map(|number| number.to_string())).stdin(Stdio::null()).env_clear();
    let done = command.output()?;
    match done.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(String::from_utf8_lossy(&done.stderr).trim().to_owned())),
    }
}

fn found(program: &str) -> Option<PathBuf> {
    PROGRAM_PATH.split(':').map(|folder| Path::new(folder).join(program)).find(|path| path.is_file())
}

fn name_of(user: u32, passwd: &str) -> Option<&str> {
    let entries = passwd.lines().map(|line| line.split(':').collect::<Vec<&str>>());
    let mut named = entries.filter(|fields| fields.get(2).and_then(|id| id.parse().ok()) == Some(user));
    named.next().and_then(|fields| fields.first().copied())
}

/// The first of enough ids for the user, who may be in the file by name or number.
fn first_of(text: &str, name: &str, user: u32) -> Option<u32> {
    let number = user.to_string();
    text.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [owner, first, count] = fields.as_slice() else { return None };
        let is_users = !owner.is_empty() && (*owner == name || *owner == number);
        let (first, count): (u32, u32) = (first.parse().ok()?, count.trim().parse().ok()?);
        (is_users && count >= NEEDED && first > 0).then_some(first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_ids_are_found_by_name_and_by_number() {
        let text =
            "ada:100000:65536\n1001:200000:65536\nbob:300000:10\nbob:400000:65536\nbroken\n:500000:65536\n";
        let first = |name, user| first_of(text, name, user);
        assert_eq!([first("ada", 1000), first("eve", 1001)], [Some(100_000), Some(200_000)]);
        assert_eq!([first("bob", 1002), first("eve", 1003), first("", 1003)], [Some(400_000), None, None]);
    }

    #[test]
    fn a_users_name_is_that_of_its_number() {
        let passwd = "root:x:0:0::/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n";
        assert_eq!([name_of(1000, passwd), name_of(7, passwd)], [Some("ada"), None]);
    }
}

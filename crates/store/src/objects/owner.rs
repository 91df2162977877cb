//! Whose a bucket is: the extended attribute `user.buildyard.account` of its folder.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{RenameFlags, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::temporary::TemporaryFolder;
use super::tree;
use crate::error::{Doing, Result};

const NAME: &str = "user.buildyard.account";
/// More than an account id has, in bytes.
const ACCOUNT_BYTES: usize = 64;

/// An account whose buckets are meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// Twelve digits.
    pub account: String,
    /// Whether buckets that nobody is said to own are its too: folders that an operator made by hand.
    pub unclaimed: bool,
}

impl Owner {
    /// Whether the bucket of this folder is the account's.
    pub(super) fn has(&self, bucket: impl AsFd) -> Result<bool> {
        Ok(match account_of(bucket)? {
            Some(account) => account == self.account.as_bytes(),
            None => self.unclaimed,
        })
    }

    /// Makes a bucket that is the account's from its first moment on. False if there is one of that name.
    pub(super) fn create(&self, root: &OwnedFd, temporary: &OwnedFd, bucket: &str) -> Result<bool> {
        let folder = TemporaryFolder::create(temporary)?;
        rustix::fs::fsetxattr(&folder.handle, NAME, self.account.as_bytes(), XattrFlags::empty())
            .doing("noting whose a bucket is")?;
        let named = rustix::fs::renameat_with(temporary, &folder.name, root, bucket, RenameFlags::NOREPLACE);
        match named {
            Err(Errno::EXIST) => {
                tree::remove_folder(temporary, &folder.name)?;
                Ok(false)
            }
            named => named.doing("making a bucket").map(|()| true),
        }
    }
}

fn account_of(bucket: impl AsFd) -> Result<Option<Vec<u8>>> {
    let mut account = [0; ACCOUNT_BYTES];
    match rustix::fs::fgetxattr(bucket, NAME, &mut account) {
        Ok(length) => Ok(Some(account[..length].to_vec())),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        // Longer than any account: nobody's.
        Err(Errno::RANGE) => Ok(Some(Vec::new())),
        Err(error) => Err(error).doing("reading whose a bucket is"),
    }
}

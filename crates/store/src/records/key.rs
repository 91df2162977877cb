//! Where a build's document is. Also what makes history out of little (`examples/fill.rs`) takes this file.

use sha2::{Digest, Sha256};

/// The first 63 bits of a SHA-256 of what names a build. Two builds with the same are not accepted.
pub(super) fn key(account: &str, region: &str, id: &str) -> i64 {
    let digest = Sha256::digest(format!("{account}\0{region}\0{id}"));
    let first = digest.first_chunk().expect("a SHA-256 has 32 bytes");
    (u64::from_be_bytes(*first) >> 1).cast_signed()
}

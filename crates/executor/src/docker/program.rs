//! Whether a program runs in any image: it is linked statically.

use std::path::Path;

use crate::{Error, Result};

const MAGIC: &[u8] = b"\x7fELF\x02\x01";
/// A program header that names the loader of libraries.
const INTERPRETER: u32 = 3;

/// Reads a program of 64 bits, least significant byte first, which is what all our machines have.
pub(super) fn check(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).map_err(Error::folder("read", path))?;
    let wrong = |rule| Error::Program { path: path.to_path_buf(), rule };
    match needs_loader(&bytes) {
        None => Err(wrong("it is no program")),
        Some(true) => Err(wrong("it must be linked statically, as images need not have its libraries")),
        Some(false) => Ok(()),
    }
}

fn needs_loader(bytes: &[u8]) -> Option<bool> {
    if !bytes.starts_with(MAGIC) {
        return None;
    }
    let number = |at: usize, length: usize| -> Option<usize> {
        let field = bytes.get(at..at + length)?;
        Some(field.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    };
    let (headers, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for header in 0..count {
        if number(headers.checked_add(header * size)?, 4)? == INTERPRETER as usize {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_needs_libraries_is_told_from_one_that_does_not() {
        let mut program = vec![0; 64 + 2 * 56];
        program[..6].copy_from_slice(MAGIC);
        (program[32], program[54], program[56]) = (64, 56, 2);
        assert_eq!(needs_loader(&program), Some(false));
        program[64 + 56] = 3;
        assert_eq!(needs_loader(&program), Some(true));
        assert_eq!(needs_loader(&program[..64]), None);
        assert_eq!(needs_loader(b"#!/bin/sh\n"), None);
    }

    #[test]
    fn the_systems_own_shell_needs_libraries() {
        assert!(matches!(check(Path::new("/bin/sh")), Err(Error::Program { .. })));
    }
}

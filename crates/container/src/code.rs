//! The program's own code in memory. Not the container.

use std::fs;
use std::io;

use crate::sys;

/// Lets go of the code that is mapped, such as all that only starting took: the kernel maps what is run again from its cache, where it may keep
/// the rest or not. For a program that is about to wait for long.
///
/// # Errors
/// [`io::Error`] if the kernel does not say what is mapped where, or refuses; nothing has changed then.
pub fn release_code() -> io::Result<()> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let (from, to) = code_around(&maps, release_code as fn() -> io::Result<()> as usize)
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    sys::unmap_code(from, to)
}

/// The mapping of a file around `address` that is code and cannot be written to, of `/proc/self/maps`.
fn code_around(maps: &str, address: usize) -> Option<(usize, usize)> {
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (from, to) = fields.next()?.split_once('-')?;
        let range = (usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?);
        let is_code = fields.next()? == "r-xp" && fields.nth(2)? != "0";
        (is_code && (range.0..range.1).contains(&address)).then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_a_file_that_cannot_be_written_to_is_meant() {
        let maps = "1000-2000 r--p 00000000 fe:00 77 /a\n2000-3000 r-xp 00001000 fe:00 77 /a b\n\
                    3000-4000 rwxp 00002000 fe:00 77 /a\n4000-5000 r-xp 00000000 00:00 0 [vdso]\n";
        assert_eq!(code_around(maps, 0x2800), Some((0x2000, 0x3000)));
        for other in [0x1800, 0x3800, 0x4800, 0x5800] {
            assert_eq!(code_around(maps, other), None);
        }
    }

    #[test]
    fn a_program_goes_on_without_its_code_in_memory() {
        for _ in 0..3 {
            release_code().unwrap();
        }
        assert_eq!(format!("{:?}", [1.5, 2.5]), "[1.5, 2.5]");
    }
}

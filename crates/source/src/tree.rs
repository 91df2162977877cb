//! What a commit would put into a folder, counted before it is there: a small repository can stand for more files than any disk holds.

use crate::error::{Error, Result};
use crate::version::is_commit;

/// Bytes of one entry's line.
const LINE: usize = 64 << 10;
/// Bytes of all names of submodules.
const NAMES: usize = 1 << 20;

/// Reads `git ls-tree -r -l -z`, in whatever pieces it comes.
#[derive(Debug, Default)]
pub struct Reader {
    pending: Vec<u8>,
    files: u64,
    bytes: u64,
    submodules: Vec<Submodule>,
    names: usize,
}

/// A place in the tree where a commit of another repository belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submodule {
    pub path: String,
    pub commit: String,
}

impl Reader {
    /// # Errors
    /// [`Error::TooMuch`], or [`Error::Answer`] for what git does not print.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        self.pending.extend_from_slice(bytes);
        let pending = std::mem::take(&mut self.pending);
        let mut rest = pending.as_slice();
        while let Some(at) = rest.iter().position(|byte| *byte == 0) {
            self.take(&rest[..at])?;
            rest = &rest[at + 1..];
        }
        if rest.len() > LINE {
            return Err(Error::TooMuch { what: "bytes in a file's name", most: LINE as u64 });
        }
        self.pending = rest.to_vec();
        Ok(())
    }

    /// The submodules of the whole tree.
    ///
    /// # Errors
    /// [`Error::Answer`] if git stopped in the middle.
    pub fn finish(self) -> Result<Vec<Submodule>> {
        match self.pending.is_empty() {
            true => Ok(self.submodules),
            false => Err(not_understood(&self.pending)),
        }
    }

    /// `MODE TYPE ID SIZE<tab>PATH`.
    fn take(&mut self, line: &[u8]) -> Result<()> {
        let at = line.iter().position(|byte| *byte == b'\t').ok_or_else(|| not_understood(line))?;
        let head = String::from_utf8_lossy(&line[..at]);
        let fields: Vec<&str> = head.split_ascii_whitespace().collect();
        let [mode, kind, id, size] = fields[..] else { return Err(not_understood(line)) };
        match (mode, kind) {
            ("160000", "commit") if is_commit(id) => self.take_submodule(&line[at + 1..], id),
            (_, "blob") => self.take_file(size.parse().map_err(|_| not_understood(line))?),
            _ => Err(not_understood(line)),
        }
    }

    fn take_file(&mut self, bytes: u64) -> Result<()> {
        self.files += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.files > crate::FILES {
            return Err(Error::TooMuch { what: "files", most: crate::FILES });
        }
        if self.bytes > crate::TREE_BYTES {
            return Err(Error::TooMuch { what: "bytes in its files", most: crate::TREE_BYTES });
        }
        Ok(())
    }

    fn take_submodule(&mut self, path: &[u8], id: &str) -> Result<()> {
        let path = String::from_utf8(path.to_vec()).map_err(|_| not_understood(path))?;
        self.names += path.len();
        if self.names > NAMES {
            return Err(Error::TooMuch { what: "bytes in names of submodules", most: NAMES as u64 });
        }
        self.submodules.push(Submodule { path, commit: id.to_owned() });
        Ok(())
    }
}

fn not_understood(line: &[u8]) -> Error {
    Error::Answer { what: String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned() }
}

/// What `git count-objects -v` counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    pub objects: u64,
    pub packs: u64,
}

/// # Errors
/// [`Error::TooMuch`].
pub fn count(text: &str) -> Result<Count> {
    let number = |wanted: &str| -> u64 {
        let mut pairs = text.lines().filter_map(|line| line.split_once(": "));
        pairs
            .find(|(name, _)| *name == wanted)
            .and_then(|(_, number)| number.parse().ok())
            .unwrap_or_default()
    };
    let count = Count { objects: number("count").saturating_add(number("in-pack")), packs: number("packs") };
    match count.objects > crate::OBJECTS {
        true => Err(Error::TooMuch { what: "objects", most: crate::OBJECTS }),
        false => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(size: &str, path: &str) -> String {
        format!("100644 blob {} {size:>7}\t{path}\0", "a".repeat(40))
    }

    #[test]
    fn a_tree_is_read_in_any_pieces() {
        let text = format!(
            "{}160000 commit {}       -\tlib/x y\0{}",
            blob("12", "a\tb\nc"),
            "b".repeat(40),
            blob("0", "d")
        );
        for size in 1..text.len() {
            let mut reader = Reader::default();
            text.as_bytes().chunks(size).for_each(|piece| reader.feed(piece).unwrap());
            let expect = Submodule { path: "lib/x y".into(), commit: "b".repeat(40) };
            assert_eq!(reader.finish(), Ok(vec![expect]));
        }
    }

    #[test]
    fn a_tree_that_no_disk_holds_is_refused() {
        let mut reader = Reader::default();
        let huge = blob("40000000000", "x");
        reader.feed(huge.as_bytes()).unwrap();
        assert!(matches!(reader.feed(huge.as_bytes()), Err(Error::TooMuch { .. })));
        let mut reader = Reader { files: crate::FILES, ..Reader::default() };
        assert!(matches!(reader.feed(blob("0", "x").as_bytes()), Err(Error::TooMuch { what: "files", .. })));
        assert_eq!(
            count("count: 1\nin-pack: 4999998\npacks: 2\n"),
            Ok(Count { objects: 4_999_999, packs: 2 })
        );
        assert!(count("count: 3\nin-pack: 4999998\n").is_err());
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        for text in ["fatal: no\0", "100644 blob x\ty\0", "160000 commit zz -\ta\0", "040000 tree a -\tb\0"] {
            assert!(Reader::default().feed(text.as_bytes()).is_err(), "{text}");
        }
        let mut reader = Reader::default();
        reader.feed(b"100644 blob").unwrap();
        assert!(reader.finish().is_err());
        assert!(Reader::default().feed(&[b'x'; LINE + 1]).is_err());
    }
}

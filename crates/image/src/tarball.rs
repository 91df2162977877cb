//! Reading a tar stream, header by header. Knows nothing of layers or file systems.
//!
//! Only `tar::Header` is borrowed from the tar crate: its entry iterator keeps long names and PAX records of
//! any length in memory, and here each has a limit. Where tar dialects disagree, Go's `archive/tar` decides,
//! because it is what wrote and will read almost every image layer.

use std::io::{self, Read};

use crate::Error;

const BLOCK: usize = 512;
/// Type flag of a GNU sparse file, which no image builder writes.
const SPARSE: u8 = b'S';

type Field = (&'static str, std::ops::Range<usize>);
const MODE: Field = ("mode", 100..108);
const UID: Field = ("uid", 108..116);
const GID: Field = ("gid", 116..124);
const SIZE: Field = ("size", 124..136);
const MTIME: Field = ("mtime", 136..148);

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Symlink,
    Hardlink,
    Fifo,
    Device,
}

/// One entry, long names and PAX records already applied. Its content follows in the stream.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) kind: Kind,
    pub(crate) name: Vec<u8>,
    /// Target of a hardlink or symlink.
    pub(crate) link: Vec<u8>,
    /// Permission bits with setuid, setgid and sticky.
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Bytes of content; 0 unless a file.
    pub(crate) size: u64,
    /// Seconds since 1970.
    pub(crate) mtime: i64,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where in the stream the content begins.
    pub(crate) offset: u64,
}

/// A tar stream; reading from it reads the content of the entry last returned by [`Tarball::next`].
#[derive(Debug)]
pub(crate) struct Tarball<R> {
    inner: R,
    position: u64,
    /// Bytes left of the current entry's content, and the padding behind it.
    content: u64,
    padding: u64,
    metadata_limit: u64,
}

/// What extension headers say about the entry after them.
#[derive(Debug, Default)]
struct Extensions {
    gnu_name: Option<Vec<u8>>,
    gnu_link: Option<Vec<u8>>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<i64>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What a tar archive is read from.
pub(crate) trait Input: Read {
    /// Skips up to `bytes`, and says how many there were.
    fn skip(&mut self, bytes: u64) -> io::Result<u64> {
        io::copy(&mut self.take(bytes), &mut io::sink())
    }
}

impl<R: Input> Tarball<R> {
    pub(crate) fn new(inner: R, metadata_limit: u64) -> Tarball<R> {
        Tarball { inner, position: 0, content: 0, padding: 0, metadata_limit }
    }

    /// The next entry, or `None` at the end of the archive. What was not read of the last one is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Error> {
        let mut extensions = Extensions::default();
        let mut metadata = 0;
        loop {
            self.skip_content()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let size = number(&header, SIZE, header.size())?;
            match header.as_bytes()[156] {
                b'g' => self.content(size)?,
                flag @ (b'x' | b'L' | b'K') => {
                    metadata += size;
                    if metadata > self.metadata_limit {
                        return Err(Error::Limit {
                            name: "entry_metadata_bytes",
                            limit: self.metadata_limit,
                        });
                    }
                    extensions.take(flag, self.metadata(size)?)?;
                }
                flag => return self.entry(&header, flag, size, extensions).map(Some),
            }
        }
    }

    /// The stream behind the archive's end, to be read to its own end by whoever digests all of it.
    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    fn header(&mut self) -> Result<Option<tar::Header>, Error> {
        let mut block = [0; BLOCK];
        match self.inner.read(&mut block[..1]).map_err(Error::reading("tar"))? {
            0 => return Ok(None),
            _ => self.inner.read_exact(&mut block[1..]).map_err(Error::reading("tar"))?,
        }
        self.position += BLOCK as u64;
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let header = tar::Header::from_byte_slice(&block).clone();
        let spaces = 8 * u32::from(b' ');
        let sum = block[..148].iter().chain(&block[156..]).map(|b| u32::from(*b)).sum::<u32>() + spaces;
        if header.cksum().ok() != Some(sum) {
            return Err(Error::malformed("tar", "a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    /// Sets the content about to be read or skipped.
    fn content(&mut self, size: u64) -> Result<(), Error> {
        let end = self.position.checked_add(size).and_then(|end| end.checked_next_multiple_of(BLOCK as u64));
        let end = end.ok_or_else(|| Error::malformed("tar", "an entry's size overflows"))?;
        self.content = size;
        self.padding = end - self.position - size;
        self.position = end;
        Ok(())
    }

    fn metadata(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        self.content(size)?;
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).map_err(Error::reading("tar"))?;
        Ok(bytes)
    }

    fn skip_content(&mut self) -> Result<(), Error> {
        let (content, padding) = (self.content, self.padding);
        (self.content, self.padding) = (0, 0);
        let mut skip = |bytes| self.inner.skip(bytes).map_err(Error::reading("tar"));
        if skip(content)? < content {
            return Err(Error::malformed("tar", "the archive breaks off inside an entry"));
        }
        // As in Go, the last padding may be missing: umoci's layers end so.
        skip(padding).map(drop)
    }

    fn entry(&mut self, header: &tar::Header, flag: u8, size: u64, ext: Extensions) -> Result<Entry, Error> {
        let name = ext.name.or(ext.gnu_name).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = ext.link.or(ext.gnu_link);
        let link = link.or_else(|| header.link_name_bytes().map(|l| l.into_owned())).unwrap_or_default();
        let kind = kind(flag, &name)?;
        let size = if kind == Kind::File { ext.size.unwrap_or(size) } else { 0 };
        let offset = self.position;
        self.content(size)?;
        Ok(Entry {
            kind,
            link,
            mode: number(header, MODE, header.mode())? & 0o7777,
            uid: ext.uid.map_or_else(|| number(header, UID, header.uid()), Ok)?,
            gid: ext.gid.map_or_else(|| number(header, GID, header.gid()), Ok)?,
            size,
            mtime: match ext.mtime {
                Some(mtime) => mtime,
                None => i64::try_from(number(header, MTIME, header.mtime())?).unwrap_or(0),
            },
            xattrs: ext.xattrs,
            offset,
            name,
        })
    }
}

impl<R: Input> Read for Tarball<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.by_ref().take(self.content).read(buffer)?;
        if count == 0 && self.content > 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.content -= count as u64;
        Ok(count)
    }
}

fn kind(flag: u8, name: &[u8]) -> Result<Kind, Error> {
    match flag {
        // The oldest tars knew folders only by their trailing slash.
        0 if name.ends_with(b"/") => Ok(Kind::Folder),
        0 | b'0' | b'7' => Ok(Kind::File),
        b'1' => Ok(Kind::Hardlink),
        b'2' => Ok(Kind::Symlink),
        b'3' | b'4' => Ok(Kind::Device),
        b'5' => Ok(Kind::Folder),
        b'6' => Ok(Kind::Fifo),
        SPARSE => Err(Error::malformed("tar", "sparse files are not supported")),
        _ => Err(Error::malformed("tar", format!("unknown entry type {:?}", char::from(flag)))),
    }
}

/// A numeric field; blank means 0, as in Go.
fn number<T: Default>(header: &tar::Header, field: Field, value: io::Result<T>) -> Result<T, Error> {
    let (name, range) = field;
    if header.as_bytes()[range].iter().all(|b| matches!(b, 0 | b' ')) {
        return Ok(T::default());
    }
    value.map_err(|_| Error::malformed("tar", format!("a header's {name} is not a number")))
}

impl Extensions {
    fn take(&mut self, flag: u8, mut bytes: Vec<u8>) -> Result<(), Error> {
        if flag == b'x' {
            return self.pax(&bytes);
        }
        bytes.truncate(bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len()));
        match flag {
            b'L' => self.gnu_name = Some(bytes),
            _ => self.gnu_link = Some(bytes),
        }
        Ok(())
    }

    /// Records are `<length> <key>=<value>\n`; the length counts all of the record, and values may be binary.
    fn pax(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        let wrong = || Error::malformed("tar", "a PAX record is malformed");
        while !bytes.is_empty() {
            let space = bytes.iter().position(|b| *b == b' ').ok_or_else(wrong)?;
            let length = decimal(&bytes[..space]).ok_or_else(wrong)?;
            let record =
                usize::try_from(length).ok().and_then(|end| bytes.get(space + 1..end)).ok_or_else(wrong)?;
            let record = record.strip_suffix(b"\n").ok_or_else(wrong)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or_else(wrong)?;
            self.record(&record[..equals], &record[equals + 1..])?;
            bytes = &bytes[space + 1 + record.len() + 1..];
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let wrong = || Error::malformed("tar", format!("PAX {} is malformed", String::from_utf8_lossy(key)));
        match key {
            b"path" => self.name = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value).ok_or_else(wrong)?),
            b"uid" => self.uid = Some(decimal(value).ok_or_else(wrong)?),
            b"gid" => self.gid = Some(decimal(value).ok_or_else(wrong)?),
            b"mtime" => self.mtime = Some(seconds(value).ok_or_else(wrong)?),
            _ if key.starts_with(b"GNU.sparse.") => return kind(SPARSE, b"").map(drop),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// Digits only: unlike `parse`, no sign.
fn decimal(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Whole seconds of a PAX time, `[-]123[.456]`.
fn seconds(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    text.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Input for &[u8] {}
    impl<R: Read> Input for io::Chain<&[u8], R> {}

    fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        builder.into_inner().unwrap()
    }

    fn file(builder: &mut tar::Builder<Vec<u8>>, name: &str, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o104755);
        builder.append_data(&mut header, name, content).unwrap();
    }

    fn names(bytes: &[u8]) -> Result<Vec<String>, Error> {
        let mut tarball = Tarball::new(bytes, 1 << 20);
        let mut names = Vec::new();
        while let Some(entry) = tarball.next()? {
            names.push(String::from_utf8(entry.name).unwrap());
        }
        Ok(names)
    }

    #[test]
    fn entries_come_with_content_and_long_names() {
        let long = "d/".repeat(120) + "file";
        let bytes = archive(|b| {
            file(b, "a", b"one");
            file(b, &long, &[7; 1000]);
        });
        let mut tarball = Tarball::new(bytes.as_slice(), 1 << 20);
        let first = tarball.next().unwrap().unwrap();
        assert_eq!(
            (first.name.as_slice(), first.size, first.mode, first.offset),
            (&b"a"[..], 3, 0o4755, 512)
        );
        let second = tarball.next().unwrap().unwrap();
        assert_eq!(second.name, long.as_bytes());
        let mut content = Vec::new();
        tarball.read_to_end(&mut content).unwrap();
        assert_eq!(content, [7; 1000]);
        assert!(tarball.next().unwrap().is_none());
    }

    #[test]
    fn pax_records_override_the_header_and_may_be_binary() {
        let bytes = archive(|b| {
            let records: [(&str, &[u8]); 3] =
                [("path", b"real"), ("mtime", b"12.5"), ("SCHILY.xattr.user.x", b"a\nb=\0c")];
            b.append_pax_extensions(records).unwrap();
            file(b, "lie", b"");
        });
        let entry = Tarball::new(bytes.as_slice(), 1 << 20).next().unwrap().unwrap();
        assert_eq!((entry.name.as_slice(), entry.mtime), (&b"real"[..], 12));
        assert_eq!(entry.xattrs, [(b"user.x".to_vec(), b"a\nb=\0c".to_vec())]);
    }

    #[test]
    fn a_pax_size_moves_the_next_header_as_it_does_in_go() {
        let inner = archive(|b| file(b, "hidden", b""));
        let bytes = archive(|b| {
            let size = inner.len().to_string();
            b.append_pax_extensions([("size", size.as_bytes())]).unwrap();
            file(b, "a", b"");
            b.get_mut().extend(&inner);
            file(b, "z", b"");
        });
        assert_eq!(names(&bytes).unwrap(), ["a", "z"]);
    }

    #[test]
    fn broken_archives_are_refused() {
        let whole = archive(|b| file(b, "a", &[1; 2000]));
        let mut wrong_sum = whole.clone();
        wrong_sum[0] = b'b';
        let pax = |records: &[u8]| {
            archive(|b| {
                let mut header = tar::Header::new_ustar();
                header.set_entry_type(tar::EntryType::XHeader);
                header.set_size(records.len() as u64);
                header.set_cksum();
                b.append(&header, records).unwrap();
                file(b, "a", b"");
            })
        };
        let cases: [(&str, Vec<u8>); 8] = [
            ("cut in the content", whole[..1000].to_vec()),
            ("cut in a header", whole[..100].to_vec()),
            ("checksum", wrong_sum),
            ("length 0", pax(b"0 a=b\n")),
            ("length too long", pax(b"99 a=b\n")),
            ("no equals", pax(b"5 ab\n")),
            ("negative size", pax(b"11 size=-1\n")),
            ("sparse", pax(b"22 GNU.sparse.major=1\n")),
        ];
        for (what, bytes) in cases {
            assert!(matches!(names(&bytes), Err(Error::Malformed { .. })), "{what}: {:?}", names(&bytes));
        }
    }

    #[test]
    fn the_padding_at_the_very_end_may_be_missing() {
        let whole = archive(|b| file(b, "a", b"one"));
        assert_eq!(names(&whole[..515]).unwrap(), ["a"]);
        assert!(names(&whole[..514]).is_err());
    }

    #[test]
    fn a_long_name_is_bounded_before_it_is_held_in_memory() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let endless = header.as_bytes().chain(io::repeat(b'a'));
        let error = Tarball::new(endless, 1 << 20).next().unwrap_err();
        assert!(matches!(error, Error::Limit { name: "entry_metadata_bytes", .. }));
    }
}

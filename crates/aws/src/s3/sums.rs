//! Checksums that a store keeps with an object: over all its bytes, or over the checksums of its parts.

use crc_fast::CrcAlgorithm;
use md5::{Digest, Md5};
use reqwest::header::HeaderMap;
use sha1::Sha1;
use sha2::Sha256;

use super::{Object, is_md5, text};

/// What the bytes of an object are to add up to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Promise {
    algorithm: Algorithm,
    sum: Vec<u8>,
    /// How many parts have checksums of their own, if this is over these.
    pub(super) parts: Option<u64>,
    /// It is made as it seems to be. The ETag of what a store encrypts may be anything.
    pub(super) is_certain: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Algorithm {
    Md5,
    Sha1,
    Sha256,
    Crc(CrcAlgorithm, usize),
}

const HEADERS: [(&str, Algorithm); 5] = [
    ("x-amz-checksum-sha256", Algorithm::Sha256),
    ("x-amz-checksum-sha1", Algorithm::Sha1),
    ("x-amz-checksum-crc64nvme", Algorithm::Crc(CrcAlgorithm::Crc64Nvme, 8)),
    ("x-amz-checksum-crc32c", Algorithm::Crc(CrcAlgorithm::Crc32Iscsi, 4)),
    ("x-amz-checksum-crc32", Algorithm::Crc(CrcAlgorithm::Crc32IsoHdlc, 4)),
];

impl Promise {
    /// What an answer promises of the object it holds, the most reliable first.
    pub(super) fn of(object: &Object, headers: &HeaderMap) -> Vec<Promise> {
        let named = HEADERS.iter().filter_map(|(name, algorithm)| {
            let (sum, parts) = split(text(headers, name)?)?;
            let sum = base64_simd::STANDARD.decode_to_vec(sum).ok()?;
            Some(Promise { algorithm: *algorithm, sum, parts, is_certain: true })
        });
        let is_certain = !headers.contains_key("x-amz-server-side-encryption");
        let etag = split(&object.etag).filter(|(sum, _)| is_md5(sum, headers)).map(|(sum, parts)| Promise {
            algorithm: Algorithm::Md5,
            sum: bytes_of_hex(sum),
            parts,
            is_certain,
        });
        named.chain(etag).collect()
    }

    pub(super) fn sums(&self) -> Sum {
        Sum::new(self.algorithm)
    }

    pub(super) fn is_kept_by(&self, sum: &[u8]) -> bool {
        self.sum == sum
    }
}

/// `<sum>` or `<sum>-<parts>`.
fn split(text: &str) -> Option<(&str, Option<u64>)> {
    match text.rsplit_once('-') {
        None => Some((text, None)),
        Some((sum, parts)) => Some((sum, Some(parts.parse().ok().filter(|parts| *parts > 0)?))),
    }
}

/// `text` has nothing but digits.
pub(super) fn bytes_of_hex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map_or(0, |digit| digit as u8);
    text.as_bytes().chunks_exact(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// A checksum being made.
pub(super) enum Sum {
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
    Crc(crc_fast::Digest, usize),
}

impl Sum {
    fn new(algorithm: Algorithm) -> Sum {
        match algorithm {
            Algorithm::Md5 => Sum::Md5(Md5::new()),
            Algorithm::Sha1 => Sum::Sha1(Sha1::new()),
            Algorithm::Sha256 => Sum::Sha256(Sha256::new()),
            Algorithm::Crc(algorithm, bytes) => Sum::Crc(crc_fast::Digest::new(algorithm), bytes),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Sum::Md5(sum) => sum.update(bytes),
            Sum::Sha1(sum) => sum.update(bytes),
            Sum::Sha256(sum) => sum.update(bytes),
            Sum::Crc(sum, _) => sum.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        match self {
            Sum::Md5(sum) => sum.finalize().to_vec(),
            Sum::Sha1(sum) => sum.finalize().to_vec(),
            Sum::Sha256(sum) => sum.finalize().to_vec(),
            Sum::Crc(sum, bytes) => sum.finalize().to_be_bytes()[8 - bytes..].to_vec(),
        }
    }
}

impl std::fmt::Debug for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sum")
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    const TEXT: &[u8] = b"123456789";

    fn promises(etag: &str, headers: &[(&'static str, &str)]) -> Vec<Promise> {
        let object = Object { size: 9, etag: etag.into(), version: None };
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_str(value).unwrap()));
        Promise::of(&object, &headers.collect())
    }

    #[test]
    fn each_algorithm_of_s3_is_known() {
        // Check values of the catalogues of these algorithms.
        for (name, sum) in [
            ("x-amz-checksum-crc32", "y/Q5Jg=="),
            ("x-amz-checksum-crc32c", "4waSgw=="),
            ("x-amz-checksum-crc64nvme", "rosUhgp5mIg="),
            ("x-amz-checksum-sha1", "98O8HYCOBHMq32eZZczDTKeuNEE="),
            ("x-amz-checksum-sha256", "FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU="),
        ] {
            let promised = promises("opaque", &[(name, sum)]);
            let [promise] = &promised[..] else { panic!("{name}") };
            let mut found = promise.sums();
            found.update(&TEXT[..4]);
            found.update(&TEXT[4..]);
            let found = found.finish();
            assert!(promise.is_kept_by(&found), "{name} {found:?}");
            assert_eq!((promise.parts, promise.is_certain), (None, true));
        }
    }

    #[test]
    fn etags_promise_what_they_can() {
        let md5 = "25f9e794323b453885f5181f1b624d0b";
        let of = |etag: &str, headers: &[(&'static str, &str)]| {
            promises(etag, headers)
                .iter()
                .map(|promise| (promise.parts, promise.is_certain))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(md5, &[]), [(None, true)]);
        assert_eq!(of(&format!("{md5}-3"), &[]), [(Some(3), true)]);
        let encrypted = |how| of(&format!("{md5}-3"), &[("x-amz-server-side-encryption", how)]);
        assert_eq!((encrypted("aws:kms"), encrypted("AES256")), (vec![], vec![(Some(3), false)]));
        for other in ["", "opaque", "opaque-3", &format!("{md5}-0"), &format!("{md5}-x")] {
            assert_eq!(of(other, &[]), [], "{other}");
        }
        let both = of(&format!("{md5}-3"), &[("x-amz-checksum-crc32", "y/Q5Jg==-3")]);
        assert_eq!(both, [(Some(3), true), (Some(3), true)]);
    }
}

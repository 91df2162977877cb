//! The key: AES-256-GCM, kept in a file of its own, apart from what it seals.
//!
//! What is sealed names its key, and is bound to its place: moved to another row, it does not open.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

use crate::error::{Doing, Error, Result};

const BYTES: usize = 32;
/// Before the key in its file: what it is, and how it is used.
const HEADER: &str = "buildyard-key-1 ";

pub(super) struct Key {
    id: String,
    key: LessSafeKey,
    /// Makes keys for other purposes.
    parent: hmac::Key,
    random: SystemRandom,
}

impl Key {
    /// The key in a file; `None` if there is no such file.
    pub(super) fn read(path: &Path) -> Result<Option<Key>> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::key(path, format!("it cannot be read: {error}"))),
        };
        let bytes = text.trim_end().strip_prefix(HEADER).and_then(from_hex);
        let bytes = bytes.ok_or_else(|| Error::key(path, "it is damaged, or of another kind"))?;
        Ok(Some(Key::of(&bytes)))
    }

    /// A new key, on the disk before it is used.
    pub(super) fn create(path: &Path) -> Result<Key> {
        let mut bytes = [0; BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| no_randomness())?;
        write(path, &format!("{HEADER}{}\n", hex(&bytes)))
            .doing("writing the key of parameters and secrets")?;
        Ok(Key::of(&bytes))
    }

    fn of(bytes: &[u8; BYTES]) -> Key {
        let digest = Sha256::new().chain_update(b"buildyard key id").chain_update(bytes).finalize();
        let key = UnboundKey::new(&AES_256_GCM, bytes).expect("the key has the algorithm's length");
        let parent = hmac::Key::new(hmac::HMAC_SHA256, bytes);
        Key { id: hex(&digest[..8]), key: LessSafeKey::new(key), parent, random: SystemRandom::new() }
    }

    pub(super) fn derived(&self, purpose: &str) -> [u8; BYTES] {
        let code = hmac::sign(&self.parent, format!("buildyard key for {purpose}").as_bytes());
        code.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// Tells keys apart and gives nothing of them away.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Key id, nonce and ciphertext as text. It opens with the same `place` only.
    pub(super) fn seal(&self, place: &[&str], plain: &[u8]) -> Result<String> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| no_randomness())?;
        let mut bytes = plain.to_vec();
        let sealed = self.key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(bound(place)),
            &mut bytes,
        );
        sealed.map_err(|_| Error::internal("sealing a value", "it is too long"))?;
        Ok(format!("{}.{}.{}", self.id, base64(&nonce), base64(&bytes)))
    }

    pub(super) fn open(&self, place: &[&str], sealed: &str) -> Result<Vec<u8>> {
        self.try_open(place, sealed).ok_or_else(|| {
            Error::internal(
                "opening a sealed value",
                format!("{} does not open with this key", place.join(" ")),
            )
        })
    }

    fn try_open(&self, place: &[&str], sealed: &str) -> Option<Vec<u8>> {
        let mut parts = sealed.split('.');
        let (id, nonce, bytes) = (parts.next()?, parts.next()?, parts.next()?);
        let nonce = Nonce::try_assume_unique_for_key(&from_base64(nonce)?).ok()?;
        let mut bytes = from_base64(bytes).filter(|_| id == self.id)?;
        let plain = self.key.open_in_place(nonce, Aad::from(bound(place)), &mut bytes).ok()?.len();
        bytes.truncate(plain);
        Some(bytes)
    }
}

/// One text for each place, however its parts are cut.
fn bound(place: &[&str]) -> Vec<u8> {
    serde_json::to_vec(place).expect("a list of texts is JSON")
}

/// Complete or not there.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")))?
        .sync_all()
}

fn no_randomness() -> Error {
    Error::internal("sealing a value", "the system has no randomness")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    if text.len() != 2 * BYTES || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

fn base64(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    base64_simd::STANDARD.decode_to_vec(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_in_its_place_with_its_key_only() {
        let key = Key::of(&[7; BYTES]);
        let sealed = key.seal(&["parameter", "a", "b", "1"], b"value").unwrap();
        assert_eq!(key.open(&["parameter", "a", "b", "1"], &sealed).unwrap(), b"value");
        assert!(!sealed.contains(&base64(b"value")));
        assert_ne!(key.seal(&["parameter", "a", "b", "1"], b"value").unwrap(), sealed);
        for elsewhere in
            [&["parameter", "a", "b", "2"][..], &["parameter", "a", "b\",\"1"], &["parameter", "ab", "1"]]
        {
            assert!(key.open(elsewhere, &sealed).is_err(), "{elsewhere:?}");
        }
        assert!(Key::of(&[8; BYTES]).open(&["parameter", "a", "b", "1"], &sealed).is_err());
        for end in 0..sealed.len() {
            assert!(key.open(&["parameter", "a", "b", "1"], &sealed[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn keys_for_other_purposes_differ_by_key_and_purpose_and_stay() {
        let key = Key::of(&[7; BYTES]);
        assert_eq!(key.derived("tokens"), Key::of(&[7; BYTES]).derived("tokens"));
        assert_ne!(key.derived("tokens"), key.derived("sessions"));
        assert_ne!(key.derived("tokens"), Key::of(&[8; BYTES]).derived("tokens"));
    }

    #[test]
    fn a_key_is_kept_and_private_and_nothing_else_passes_for_one() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret.key");
        assert!(Key::read(&path).unwrap().is_none());
        let id = Key::create(&path).unwrap().id;
        assert_eq!(Key::read(&path).unwrap().unwrap().id, id);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        for damaged in
            ["", "buildyard-key-1 ", &text[..40], &text.replace('1', "2"), &format!("{}00", text.trim())]
        {
            fs::write(&path, damaged).unwrap();
            let Err(error) = Key::read(&path) else { panic!("{damaged:?} is no key") };
            assert!(error.to_string().contains("secret.key"), "{error}");
        }
    }
}

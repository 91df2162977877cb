//! Names: which bucket names S3 allows, and which path below its bucket a key has. No files here.
//!
//! A key's components are file names. What cannot be one begins with `%`, and nothing else does:
//!
//! | file name   | stands for |
//! |-------------|------------|
//! | `name`      | the component `name` |
//! | `%=text`    | the component `text`, with `%` and NUL written `%25` and `%00`: for `.`, `..`, nothing at all, and what begins with `%` or holds NUL |
//! | `%+text`    | a folder: the beginning, written the same way, of a component too long for a file name |
//! | `%object`   | the object whose key is that of the folder it lies in (`a` beside `a/b`) |

use std::borrow::Cow;

use crate::error::{BucketNameRule, Error, Result};

/// The object that has the same key as the folder it lies in.
pub(super) const FOLDERS_OBJECT: &str = "%object";
const ESCAPED: &str = "%=";
const CONTINUED: &str = "%+";

/// Longest key, in bytes.
const KEY_LIMIT: usize = 1024;
/// Longest file name, in bytes.
const NAME_LIMIT: usize = 255;
/// How much of a component that is too long goes into each of its folders: their names never exceed
/// `NAME_LIMIT`, even if every byte is escaped and a character lies across the limit.
const PIECE: usize = 80;

/// Where an object lies below its bucket: at least one file name, none of which is `.` or `..`, empty, too long,
/// or holds a slash or NUL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyPath {
    names: Vec<String>,
}

impl KeyPath {
    pub(super) fn of(key: &str) -> Result<KeyPath> {
        if key.is_empty() || key.len() > KEY_LIMIT {
            return Err(Error::InvalidKey(key.len()));
        }
        Ok(KeyPath { names: key.split('/').flat_map(component_names).collect() })
    }

    /// The folder of all keys that begin with `prefix`, which ends with a slash.
    pub(super) fn of_folder(prefix: &str) -> Result<KeyPath> {
        KeyPath::of(prefix.strip_suffix('/').unwrap_or(prefix)).or_else(|error| match prefix {
            "/" => Ok(KeyPath { names: component_names("") }),
            _ => Err(error),
        })
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn folders(&self) -> &[String] {
        &self.names[..self.names.len() - 1]
    }

    pub(super) fn file_name(&self) -> &str {
        self.names.last().expect("a key has at least one component")
    }
}

fn component_names(component: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = component;
    while last_name(rest).len() > NAME_LIMIT {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE));
        names.push(format!("{CONTINUED}{}", escape(piece)));
        rest = after;
    }
    names.push(last_name(rest).into_owned());
    names
}

fn last_name(component: &str) -> Cow<'_, str> {
    let plain =
        !matches!(component, "" | "." | "..") && !component.starts_with('%') && !component.contains('\0');
    if plain { Cow::Borrowed(component) } else { Cow::Owned(format!("{ESCAPED}{}", escape(component))) }
}

fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('\0', "%00")
}

fn unescape(text: &str) -> String {
    text.replace("%00", "\0").replace("%25", "%")
}

/// What a file name in a bucket stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Name<'a> {
    /// The last, or only, part of a component.
    Component(Cow<'a, str>),
    /// The beginning of a component that goes on inside this folder.
    Beginning(String),
}

impl Name<'_> {
    /// `None` for names that no key leads to: nothing of ours.
    pub(super) fn parse(name: &str) -> Option<Name<'_>> {
        if !name.starts_with('%') {
            return Some(Name::Component(Cow::Borrowed(name)));
        }
        if let Some(escaped) = name.strip_prefix(ESCAPED) {
            let component = unescape(escaped);
            return (last_name(&component) == name).then_some(Name::Component(Cow::Owned(component)));
        }
        let piece = unescape(name.strip_prefix(CONTINUED)?);
        let whole = format!("{CONTINUED}{}", escape(&piece)) == name;
        (whole && piece.len() > PIECE - 4 && piece.len() <= PIECE).then_some(Name::Beginning(piece))
    }
}

/// The naming rules for general purpose buckets. They also keep bucket names apart from our own `.tmp` and
/// `.uploads`, and harmless as file names.
pub(super) fn check_bucket_name(name: &str) -> Result<()> {
    match broken_rule(name) {
        None => Ok(()),
        Some(rule) => Err(Error::InvalidBucketName { name: name.to_owned(), rule }),
    }
}

fn broken_rule(name: &str) -> Option<BucketNameRule> {
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let rules = [
        (BucketNameRule::Length, (3..=63).contains(&bytes.len())),
        (
            BucketNameRule::Characters,
            bytes.iter().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-')),
        ),
        (BucketNameRule::Ends, is_end(bytes.first()) && is_end(bytes.last())),
        (BucketNameRule::AdjacentDots, !name.contains("..")),
        (BucketNameRule::IpAddress, name.parse::<std::net::Ipv4Addr>().is_err()),
        (BucketNameRule::Reserved, !is_reserved(name)),
    ];
    rules.into_iter().find(|(_, kept)| !kept).map(|(rule, _)| rule)
}

fn is_reserved(name: &str) -> bool {
    ["xn--", "sthree-", "amzn-s3-demo-"].iter().any(|prefix| name.starts_with(prefix))
        || ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"]
            .iter()
            .any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(key: &str, path: &str) {
        assert_eq!(KeyPath::of(key).unwrap().names().join("/"), path, "{key:?}");
    }

    #[test]
    fn ordinary_keys_are_plain_file_names() {
        check("report.txt", "report.txt");
        check("a/b c/ü.zip", "a/b c/ü.zip");
        check(".hidden/...", ".hidden/...");
        check("50%/a%2Fb", "50%/a%2Fb");
        check("back\\slash\n*", "back\\slash\n*");
    }

    #[test]
    fn what_cannot_be_a_file_name_is_escaped() {
        check(".", "%=.");
        check("../../etc/passwd", "%=../%=../etc/passwd");
        check("/", "%=/%=");
        check("a//b/", "a/%=/b/%=");
        check("%object", "%=%25object");
        check("%=.", "%=%25=.");
        check("nul\0", "%=nul%00");
    }

    #[test]
    fn every_name_fits_and_reads_back() {
        let long = ["x".repeat(1024), "%".repeat(1024), "\0".repeat(1024), "€".repeat(341), "/".repeat(1024)];
        let exact = ["y".repeat(255), "y".repeat(256), format!("{}%", "ü".repeat(127))];
        for key in long.iter().chain(&exact) {
            let path = KeyPath::of(key).unwrap();
            assert!(path.names().iter().all(|name| name.len() <= NAME_LIMIT && name != "." && name != ".."));
            assert!(path.names().join("/").len() < 4000);
            let mut read = String::new();
            for name in path.names() {
                match Name::parse(name).unwrap() {
                    Name::Component(component) => read += &format!("{component}/"),
                    Name::Beginning(piece) => read += &piece,
                }
            }
            assert_eq!(read.strip_suffix('/').unwrap(), key);
        }
    }

    #[test]
    fn two_keys_never_share_a_path() {
        let names =
            ["", ".", "..", "%", "%=", "%=.", "%25", "%00", "\0", "%object", "%+", "a", "%%", "%2525"];
        let mut seen = std::collections::BTreeMap::new();
        for key in names.iter().flat_map(|a| names.iter().map(move |b| format!("{a}/{b}"))) {
            let path = KeyPath::of(&key).unwrap().names().join("/");
            assert_eq!(seen.insert(path, key.clone()), None, "{key:?}");
        }
    }

    #[test]
    fn names_that_no_key_leads_to_are_not_ours() {
        for name in ["%object", "%", "%x", "%=plain", "%=%41", "%+short", "%25"] {
            assert_eq!(Name::parse(name), None, "{name}");
        }
    }

    #[test]
    fn keys_have_1_to_1024_bytes() {
        assert!(matches!(KeyPath::of(""), Err(Error::InvalidKey(0))));
        assert!(matches!(KeyPath::of(&"k".repeat(1025)), Err(Error::InvalidKey(1025))));
    }

    #[test]
    fn bucket_names_follow_the_rules_of_s3() {
        for good in ["abc", "my-bucket", "a.b.c", "1-2", "codebuild-eu-west-1", &"x".repeat(63)] {
            assert_eq!(broken_rule(good), None, "{good}");
        }
        let bad = [
            ("ab", BucketNameRule::Length),
            ("..", BucketNameRule::Length),
            (".tmp", BucketNameRule::Ends),
            ("Abc", BucketNameRule::Characters),
            ("a/b", BucketNameRule::Characters),
            ("a_b", BucketNameRule::Characters),
            ("abc-", BucketNameRule::Ends),
            ("a..b", BucketNameRule::AdjacentDots),
            ("192.168.5.4", BucketNameRule::IpAddress),
            ("xn--a", BucketNameRule::Reserved),
            ("a-s3alias", BucketNameRule::Reserved),
        ];
        for (name, rule) in bad {
            assert_eq!(broken_rule(name), Some(rule), "{name}");
        }
    }
}

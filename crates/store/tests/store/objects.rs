//! Objects in buckets.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use store::Error;
use store::objects::{
    Batch, Condition, Listing, Metadata, ObjectInfo, Objects, Owner, VersionInfo, Versioning,
};
use tempfile::TempDir;

use crate::Dice;

struct Tester {
    folder: TempDir,
    objects: Objects,
}

impl Tester {
    fn new() -> Tester {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::open(folder.path()).unwrap();
        objects.create_bucket("bucket").unwrap();
        Tester { folder, objects }
    }

    fn put(&self, key: &str, bytes: &str) -> ObjectInfo {
        self.try_put(key, bytes).unwrap()
    }

    fn try_put(&self, key: &str, bytes: &str) -> Result<ObjectInfo, Error> {
        let mut writer = self.objects.put("bucket", key)?;
        writer.write_all(bytes.as_bytes()).unwrap();
        writer.finish(Metadata::default())
    }

    fn get(&self, key: &str) -> Option<String> {
        match self.objects.get("bucket", key) {
            Ok((file, _)) => Some(text(file)),
            Err(Error::NoSuchKey(_)) => None,
            Err(error) => panic!("{error}"),
        }
    }

    fn delete(&self, key: &str) -> bool {
        self.objects.delete("bucket", key).unwrap()
    }

    fn list(&self, prefix: &str, delimiter: Option<&str>, after: Option<&str>, max_keys: usize) -> Listing {
        self.objects.list("bucket", prefix, delimiter, after, max_keys).unwrap()
    }

    fn keys(&self) -> Vec<String> {
        keys(&self.list("", None, None, usize::MAX))
    }

    fn bucket(&self) -> std::path::PathBuf {
        self.folder.path().join("bucket")
    }

    /// Unfinished files.
    fn leftovers(&self) -> usize {
        fs::read_dir(self.folder.path().join(".tmp")).unwrap().count()
    }
}

fn text(mut file: File) -> String {
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

fn keys(listing: &Listing) -> Vec<String> {
    listing.objects.iter().map(|object| object.key.clone()).collect()
}

#[test]
fn an_object_is_a_plain_file_with_its_metadata_beside_it() {
    let tester = Tester::new();
    let metadata = Metadata {
        content_type: Some("text/plain".into()),
        cache_control: Some("no-cache".into()),
        user: BTreeMap::from([("codebuild-buildarn".into(), "arn:aws:…".into())]),
        checksums: BTreeMap::from([("CRC32".into(), "AAAAAA==".into())]),
        ..Metadata::default()
    };
    let mut writer = tester.objects.put("bucket", "a/b c.txt").unwrap();
    writer.write_all(b"hello").unwrap();
    assert_eq!(tester.get("a/b c.txt"), None, "nothing is to be seen before the end");
    let info = writer.finish(metadata.clone()).unwrap();
    assert_eq!(info.etag, "5d41402abc4b2a76b9719d911017c592");
    assert_eq!(
        info.sha256.as_deref(),
        Some("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")
    );
    assert_eq!((info.size, &info.metadata), (5, &metadata));
    assert_eq!(fs::read(tester.bucket().join("a/b c.txt")).unwrap(), b"hello");
    assert_eq!(tester.objects.head("bucket", "a/b c.txt").unwrap(), info);
    assert_eq!(tester.list("", None, None, 10).objects, [info]);
    assert_eq!(tester.leftovers(), 0);
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let tester = Tester::new();
    tester.put("key", "old");
    let mut writer = tester.objects.put("bucket", "key").unwrap();
    writer.write_all(b"new").unwrap();
    drop(writer);
    assert_eq!(tester.get("key").as_deref(), Some("old"));
    assert_eq!(tester.leftovers(), 0);
}

#[test]
fn whoever_reads_an_object_keeps_it_when_it_is_overwritten_or_deleted() {
    let tester = Tester::new();
    tester.put("key", "first");
    let (first, _) = tester.objects.get("bucket", "key").unwrap();
    tester.put("key", "second");
    let (second, info) = tester.objects.get("bucket", "key").unwrap();
    assert!(tester.delete("key"));
    assert!(!tester.delete("key"));
    assert_eq!((text(first).as_str(), text(second).as_str(), info.size), ("first", "second", 6));
    assert_eq!(tester.get("key"), None);
}

#[test]
fn any_key_that_s3_allows_is_kept_apart_from_every_other() {
    let tester = Tester::new();
    let long = "x".repeat(1024);
    let mut keys: Vec<String> = [
        "a",
        "a/",
        "a//",
        "a/b",
        "a/b/",
        "a/b/c",
        "/",
        "//",
        "/a",
        ".",
        "..",
        "../x",
        "a/../b",
        "./a",
        "%",
        "%object",
        "a/%object",
        "%=",
        "%=.",
        "%2E",
        "%+",
        "ä",
        "a b",
        "a\nb",
        "nul\0l",
        "\u{10FFFF}",
        "a-b",
        "a.b",
        "A",
        ".tmp",
        ".hidden",
        "back\\slash",
        "*?[",
    ]
    .map(str::to_owned)
    .into();
    keys.extend([long.clone(), "x".repeat(255), "x".repeat(256), "x".repeat(300), "/".repeat(1024)]);
    keys.extend([format!("{}/{}", &long[..300], &long[..300]), "€".repeat(341), "\0".repeat(1024)]);
    let mut dice = Dice::new(11);
    for _ in 0..2 {
        for _ in 0..keys.len() * 2 {
            let (a, b) = (dice.below(keys.len()), dice.below(keys.len()));
            keys.swap(a, b);
        }
        for key in &keys {
            tester.put(key, &format!("content of {key}"));
        }
    }
    for key in &keys {
        assert_eq!(tester.get(key), Some(format!("content of {key}")), "{key:?}");
    }
    let mut sorted = keys.clone();
    sorted.sort();
    assert_eq!(tester.keys(), sorted, "in the byte order of UTF-8");
    let outside: Vec<_> =
        fs::read_dir(tester.folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(outside.len(), 5, "bucket, .tmp, .batches, .uploads and .versions: {outside:?}");
    for (index, key) in keys.iter().enumerate() {
        assert!(tester.delete(key), "{key:?}");
        assert_eq!(tester.get(key), None);
        if let Some(next) = keys.get(index + 1) {
            assert!(tester.get(next).is_some(), "deleting {key:?} took {next:?}");
        }
    }
    assert_eq!(fs::read_dir(tester.bucket()).unwrap().count(), 0, "no empty folders stay");
}

#[test]
fn an_object_and_a_folder_of_the_same_name_live_together() {
    let tester = Tester::new();
    tester.put("a", "file");
    let info = tester.objects.head("bucket", "a").unwrap();
    tester.put("a/b/c", "below");
    assert_eq!(tester.objects.head("bucket", "a").unwrap(), info, "it moved unchanged");
    assert_eq!(tester.keys(), ["a", "a/b/c"]);
    tester.put("a", "file again");
    tester.put("a/b", "between");
    assert_eq!(tester.keys(), ["a", "a/b", "a/b/c"]);
    assert_eq!(tester.get("a").as_deref(), Some("file again"));
    assert!(tester.delete("a/b/c") && tester.delete("a/b"));
    assert_eq!(tester.get("a").as_deref(), Some("file again"));
    assert!(tester.delete("a"));
    assert_eq!(tester.keys(), Vec::<String>::new());
    assert_eq!(tester.leftovers(), 0);
}

/// What S3 answers for a set of keys: the rules, without a file system.
fn expected(
    keys: &[String],
    prefix: &str,
    delimiter: Option<&str>,
    after: Option<&str>,
    max_keys: usize,
) -> (Vec<String>, bool) {
    let mut found: Vec<String> = Vec::new();
    for key in
        keys.iter().filter(|key| key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after))
    {
        let rolled =
            delimiter.and_then(|d| key[prefix.len()..].find(d).map(|at| prefix.len() + at + d.len()));
        let item = rolled.map_or(key.as_str(), |end| &key[..end]);
        if found.last().map(String::as_str) != Some(item) && !(rolled.is_some() && after == Some(item)) {
            found.push(item.to_owned());
        }
    }
    let truncated = found.len() > max_keys && max_keys > 0;
    found.truncate(max_keys);
    (found, truncated)
}

fn items(listing: &Listing) -> Vec<String> {
    let mut items = keys(listing);
    items.extend(listing.common_prefixes.iter().cloned());
    items.sort();
    items
}

#[test]
fn listings_of_any_prefix_delimiter_and_page_size_are_what_s3_gives() {
    let tester = Tester::new();
    let mut dice = Dice::new(5);
    let long = "l".repeat(250);
    let words = ["a", "b", "a-", "a.", "ab", "", "/", "//", "-", "é", "z", &long];
    let mut keys: Vec<String> = (0..150)
        .map(|_| (0..1 + dice.below(5)).map(|_| words[dice.below(words.len())]).collect::<String>())
        .filter(|key| (1..=1024).contains(&key.len()))
        .collect();
    keys.sort();
    keys.dedup();
    for key in &keys {
        tester.put(key, "");
    }
    fs::create_dir_all(tester.bucket().join("empty/folders/a")).unwrap();
    let prefixes = ["", "a", "a/", "a/a", "/", "//", "-", &long[..100], "b/", "nothing", "empty/"];
    for prefix in prefixes {
        for delimiter in [None, Some("/"), Some("-"), Some("//"), Some("a")] {
            for max_keys in [0, 1, 3, 1000] {
                let mut after: Option<String> = None;
                loop {
                    let listing = tester.list(prefix, delimiter, after.as_deref(), max_keys);
                    let wanted = expected(&keys, prefix, delimiter, after.as_deref(), max_keys);
                    let case = (prefix, delimiter, max_keys, &after);
                    assert_eq!((items(&listing), listing.truncated), wanted, "{case:?}");
                    assert_eq!(listing.next.is_some(), listing.truncated);
                    let Some(next) = listing.next else { break };
                    after = Some(next);
                }
            }
            for after in ["a", "a/", "a/a", "b", "-", "\u{10FFFF}", "a/\u{10FFFF}"] {
                let listing = tester.list(prefix, delimiter, Some(after), 1000);
                let wanted = expected(&keys, prefix, delimiter, Some(after), 1000).0;
                assert_eq!(items(&listing), wanted, "{prefix:?} {delimiter:?} {after:?}");
            }
        }
    }
}

#[test]
fn files_put_there_by_hand_are_objects_too() {
    let tester = Tester::new();
    fs::create_dir(tester.bucket().join("by")).unwrap();
    fs::write(tester.bucket().join("by/hand"), "hello").unwrap();
    let info = tester.objects.head("bucket", "by/hand").unwrap();
    assert_eq!((info.etag.as_str(), info.size, info.sha256), ("5d41402abc4b2a76b9719d911017c592", 5, None));
    let (file, _) = tester.objects.get("bucket", "by/hand").unwrap();
    assert_eq!(text(file), "hello", "the ETag was computed without moving the reader");
    fs::write(tester.bucket().join("by/hand"), "changed").unwrap();
    let info = tester.objects.head("bucket", "by/hand").unwrap();
    assert_eq!((info.etag.as_str(), info.size), ("8977dfac2f8e04cb96e66882235f5aba", 7));

    let mut writer = tester.objects.put("bucket", "ours").unwrap();
    writer.write_all(b"hello").unwrap();
    writer.finish(Metadata { content_type: Some("text/x".into()), ..Metadata::default() }).unwrap();
    fs::write(tester.bucket().join("ours"), "changed").unwrap();
    let info = tester.objects.head("bucket", "ours").unwrap();
    assert_eq!(info.etag, "8977dfac2f8e04cb96e66882235f5aba");
    assert_eq!((info.sha256, info.metadata.content_type.as_deref()), (None, Some("text/x")));
}

#[test]
fn nothing_leads_out_of_a_bucket() {
    let tester = Tester::new();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    symlink(outside.path(), tester.bucket().join("folder")).unwrap();
    symlink(outside.path().join("secret"), tester.bucket().join("file")).unwrap();
    symlink(outside.path(), tester.folder.path().join("linked")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        tester.bucket().join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    for key in ["folder/secret", "file", "../linked/secret", "fifo", "folder", "folder/"] {
        assert_eq!(tester.get(key), None, "{key}");
        assert!(!tester.delete(key), "{key}");
    }
    assert_eq!(tester.keys(), Vec::<String>::new());
    assert!(!tester.objects.bucket_exists("linked").unwrap());
    assert!(matches!(tester.try_put("folder/new", ""), Err(Error::Blocked(_))));
    assert!(matches!(tester.try_put("fifo/new", ""), Err(Error::Blocked(_))));
    tester.put("file", "ours");
    assert_eq!(tester.get("file").as_deref(), Some("ours"), "the link itself was replaced");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"secret");
}

#[test]
fn buckets_are_made_listed_and_deleted_when_empty() {
    let tester = Tester::new();
    tester.objects.create_bucket("another").unwrap();
    let names: Vec<_> =
        tester.objects.list_buckets().unwrap().into_iter().map(|bucket| bucket.name).collect();
    assert_eq!(names, ["another", "bucket"]);
    assert!(matches!(tester.objects.create_bucket("bucket"), Err(Error::BucketAlreadyExists(_))));
    assert!(matches!(tester.objects.create_bucket(".tmp"), Err(Error::InvalidBucketName { .. })));
    assert!(matches!(tester.objects.get("missing", "key"), Err(Error::NoSuchBucket(_))));
    assert!(matches!(tester.objects.put("missing", "key"), Err(Error::NoSuchBucket(_))));
    tester.put("a/b", "");
    assert!(matches!(tester.objects.delete_bucket("bucket"), Err(Error::BucketNotEmpty(_))));
    tester.delete("a/b");
    fs::create_dir_all(tester.bucket().join("left/over")).unwrap();
    let writer = tester.objects.put("bucket", "late").unwrap();
    tester.objects.delete_bucket("bucket").unwrap();
    assert!(matches!(writer.finish(Metadata::default()), Err(Error::NoSuchBucket(_))));
    assert!(!tester.objects.bucket_exists("bucket").unwrap());
    assert_eq!(tester.leftovers(), 0);
}

#[test]
fn a_condition_is_checked_when_the_object_is_placed() {
    let tester = Tester::new();
    let put = |condition: &Condition, bytes: &[u8]| {
        let mut writer = tester.objects.put("bucket", "lock").unwrap();
        writer.write_all(bytes).unwrap();
        writer.finish_if(condition, Metadata::default())
    };
    assert!(matches!(put(&Condition::HasEtag("x".into()), b""), Err(Error::NoSuchKey(_))));
    let first = put(&Condition::Absent, b"first").unwrap();
    assert!(matches!(put(&Condition::Absent, b"second"), Err(Error::PreconditionFailed(_))));
    assert!(matches!(put(&Condition::HasEtag("x".into()), b"second"), Err(Error::PreconditionFailed(_))));
    assert_eq!(tester.get("lock").as_deref(), Some("first"));
    put(&Condition::HasEtag(first.etag), b"second").unwrap();
    assert_eq!(tester.get("lock").as_deref(), Some("second"));
}

#[test]
fn copies_keep_metadata_unless_told_otherwise() {
    let tester = Tester::new();
    tester.objects.create_bucket("other").unwrap();
    let metadata = Metadata { content_type: Some("a/b".into()), ..Metadata::default() };
    let mut writer = tester.objects.put("bucket", "from").unwrap();
    writer.write_all(b"hello").unwrap();
    writer.finish(metadata.clone()).unwrap();
    let copy = tester.objects.copy(("bucket", "from", None), ("other", "to"), None).unwrap();
    assert_eq!((copy.metadata, copy.etag.as_str()), (metadata, "5d41402abc4b2a76b9719d911017c592"));
    let itself = ("bucket", "from");
    tester.objects.copy(("bucket", "from", None), itself, Some(Metadata::default())).unwrap();
    assert_eq!(tester.objects.head("bucket", "from").unwrap().metadata, Metadata::default());
    assert_eq!(tester.get("from").as_deref(), Some("hello"));
}

#[test]
fn metadata_that_does_not_fit_is_refused_whole() {
    let tester = Tester::new();
    let put = |metadata| tester.objects.put("bucket", "key").unwrap().finish(metadata);
    let user = |size: usize| Metadata {
        user: BTreeMap::from([("k".to_owned(), "v".repeat(size - 1))]),
        ..Metadata::default()
    };
    put(user(2048)).unwrap();
    assert!(matches!(put(user(2049)), Err(Error::MetadataTooLarge(2049))));
    let large = Metadata { expires: Some("x".repeat(4000)), ..Metadata::default() };
    assert!(matches!(put(large), Err(Error::MetadataTooLarge(_))));
    assert_eq!(tester.objects.head("bucket", "key").unwrap().metadata, user(2048));
    assert_eq!(tester.leftovers(), 0);
}

#[test]
fn parts_become_one_object() {
    let tester = Tester::new();
    let metadata = Metadata { content_type: Some("a/b".into()), ..Metadata::default() };
    let upload = tester.objects.create_upload("bucket", "a/whole", metadata.clone()).unwrap();
    let part = |number, bytes: &[u8]| {
        let mut writer = tester.objects.put_part(&upload, number).unwrap();
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    };
    let first = vec![b'1'; 5 << 20];
    part(1, b"replaced");
    let (one, seven, dropped) = (part(1, &first), part(7, b"the end"), part(3, b"not named"));
    assert_eq!(
        tester.objects.list_parts(&upload).unwrap().iter().map(|p| p.number).collect::<Vec<_>>(),
        [1, 3, 7]
    );
    let uploads = tester.objects.list_uploads("bucket").unwrap();
    assert_eq!((uploads.len(), uploads[0].key.as_str()), (1, "a/whole"));
    let named = [(1, one.etag.clone()), (7, seven.etag.clone())];
    let complete = |parts: &[(u32, String)]| tester.objects.complete_upload(&upload, parts);
    assert!(matches!(complete(&[]), Err(Error::InvalidPartOrder)));
    assert!(matches!(complete(&[named[1].clone(), named[0].clone()]), Err(Error::InvalidPartOrder)));
    assert!(matches!(complete(&[(2, one.etag.clone())]), Err(Error::InvalidPart(2))));
    assert!(matches!(complete(&[(1, seven.etag.clone())]), Err(Error::InvalidPart(1))));
    let small = [named[0].clone(), (3, dropped.etag.clone()), named[1].clone()];
    assert!(matches!(complete(&small), Err(Error::PartTooSmall { number: 3, size: 9 })));
    assert_eq!(tester.get("a/whole"), None);
    let info = complete(&named).unwrap();
    // md5(md5(part 1) + md5(part 7)), as computed by another program.
    assert_eq!(info.etag, "4d5bfe34c3433381fa140fe5347e3c40-2");
    assert_eq!((info.size, info.metadata), ((5 << 20) + 7, metadata));
    assert_eq!(tester.get("a/whole").unwrap().as_bytes(), [&first[..], b"the end"].concat());
    assert_eq!(tester.objects.head("bucket", "a/whole").unwrap().etag, info.etag);
    assert!(matches!(complete(&named), Err(Error::NoSuchUpload(_))));
    assert_eq!(fs::read_dir(tester.folder.path().join(".uploads")).unwrap().count(), 0);
}

#[test]
fn uploads_that_are_over_take_no_more_parts() {
    let tester = Tester::new();
    let upload = tester.objects.create_upload("bucket", "key", Metadata::default()).unwrap();
    let writer = tester.objects.put_part(&upload, 1).unwrap();
    assert!(matches!(tester.objects.put_part(&upload, 0), Err(Error::InvalidPartNumber(0))));
    assert!(matches!(tester.objects.put_part(&upload, 10_001), Err(Error::InvalidPartNumber(10_001))));
    tester.objects.abort_upload(&upload).unwrap();
    assert!(matches!(writer.finish(), Err(Error::NoSuchUpload(_))));
    assert!(matches!(tester.objects.abort_upload(&upload), Err(Error::NoSuchUpload(_))));
    assert!(matches!(tester.objects.list_parts("../bucket"), Err(Error::NoSuchUpload(_))));
    let old = tester.objects.create_upload("bucket", "old", Metadata::default()).unwrap();
    let initiated = tester.objects.head_upload(&old).unwrap().initiated;
    assert_eq!(tester.objects.abort_uploads_before(initiated).unwrap(), 0);
    assert_eq!(
        tester.objects.abort_uploads_before(initiated + std::time::Duration::from_nanos(1)).unwrap(),
        1
    );
    tester.objects.create_upload("bucket", "key", Metadata::default()).unwrap();
    tester.objects.delete_bucket("bucket").unwrap();
    assert_eq!(fs::read_dir(tester.folder.path().join(".uploads")).unwrap().count(), 0);
}

#[test]
fn cleaning_takes_what_was_left_behind_and_nothing_that_is_being_written() {
    let tester = Tester::new();
    let temporary = tester.folder.path().join(".tmp");
    fs::write(temporary.join("left"), "").unwrap();
    fs::create_dir(temporary.join("folder")).unwrap();
    fs::write(temporary.join("folder/%object"), "").unwrap();
    let half_removed = tester.folder.path().join(".uploads").join("0".repeat(32));
    fs::create_dir(&half_removed).unwrap();
    fs::write(half_removed.join("part-00001"), "").unwrap();
    let upload = tester.objects.create_upload("bucket", "key", Metadata::default()).unwrap();
    let mut writer = tester.objects.put("bucket", "key").unwrap();
    writer.write_all(b"going on").unwrap();
    assert_eq!(Objects::open(tester.folder.path()).unwrap().clean().unwrap(), 3);
    writer.finish(Metadata::default()).unwrap();
    assert_eq!(tester.get("key").as_deref(), Some("going on"));
    assert_eq!(tester.leftovers(), 0);
    tester.objects.head_upload(&upload).unwrap();
}

#[test]
fn readers_always_find_an_object_that_is_only_ever_replaced() {
    let tester = Tester::new();
    tester.put("a", "0");
    tester.put("steady/x", "0");
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    assert!(tester.get("a").is_some(), "replaced, never absent");
                    assert!(tester.keys().contains(&"steady/x".to_owned()));
                }
            });
        }
        let writers: Vec<_> = (0..3)
            .map(|thread| {
                let tester = &tester;
                threads.spawn(move || {
                    for round in 0..40 {
                        tester.put("a", &round.to_string());
                        tester.put(&format!("a/{thread}/deep"), "");
                        tester.put(&format!("a/{thread}"), "");
                        tester.delete(&format!("a/{thread}/deep"));
                        tester.delete(&format!("a/{thread}"));
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(tester.keys(), ["a", "steady/x"]);
    assert_eq!(tester.leftovers(), 0);
}

#[test]
fn folders_that_come_and_go_never_get_in_the_way_of_a_writer() {
    let tester = Tester::new();
    std::thread::scope(|threads| {
        for thread in 0..4 {
            let tester = &tester;
            threads.spawn(move || {
                for round in 0..12 {
                    // The same folder is emptied by one thread while another needs it, and `s` is swapped for a folder.
                    let keys = ["s".to_owned(), format!("s/{thread}"), format!("deep/er/{thread}")];
                    for key in &keys {
                        tester.put(key, &format!("{round}"));
                    }
                    for key in &keys[1..] {
                        assert_eq!(tester.get(key), Some(format!("{round}")), "{key}");
                    }
                    for key in &keys {
                        assert!(tester.delete(key) || key == "s");
                    }
                }
            });
        }
    });
    assert_eq!(tester.keys(), Vec::<String>::new());
    assert_eq!(fs::read_dir(tester.bucket()).unwrap().count(), 0);
    assert_eq!(tester.leftovers(), 0);
}

#[test]
fn an_account_has_its_own_buckets_and_nothing_of_others() {
    let tester = Tester::new();
    let of = |account: &str, unclaimed| tester.objects.of(Owner { account: account.to_owned(), unclaimed });
    let (first, second) = (of("111122223333", true), of("444455556666", false));
    first.create_bucket("one").unwrap();
    second.create_bucket("two").unwrap();
    let names = |objects: &Objects| {
        let buckets = objects.list_buckets().unwrap().into_iter();
        buckets.map(|bucket| bucket.name).collect::<Vec<_>>()
    };
    // A bucket that nobody is said to own is the default account's.
    assert_eq!(names(&first), ["bucket", "one"]);
    assert_eq!(names(&second), ["two"]);
    assert_eq!(names(&tester.objects), ["bucket", "one", "two"]);

    let mut object = first.put("one", "key").unwrap();
    object.write_all(b"content").unwrap();
    object.finish(Metadata::default()).unwrap();
    first.create_upload("one", "large", Metadata::default()).unwrap();
    let foreign =
        |result: store::Result<()>| matches!(result, Err(Error::ForeignBucket(name)) if name == "one");
    assert!(foreign(second.create_bucket("one")));
    assert!(foreign(second.bucket_exists("one").map(drop)));
    assert!(foreign(second.delete_bucket("one")));
    assert!(foreign(second.get("one", "key").map(drop)));
    assert!(foreign(second.head("one", "key").map(drop)));
    assert!(foreign(second.put("one", "key").map(drop)));
    assert!(foreign(second.delete("one", "key").map(drop)));
    assert!(foreign(second.copy(("one", "key", None), ("two", "key"), None).map(drop)));
    assert!(foreign(second.list("one", "", None, None, 10).map(drop)));
    assert!(foreign(second.create_upload("one", "large", Metadata::default()).map(drop)));
    assert!(foreign(second.list_uploads("one").map(drop)));
    assert!(matches!(first.create_bucket("one"), Err(Error::BucketAlreadyExists(_))));
    assert!(matches!(second.get("none", "key"), Err(Error::NoSuchBucket(_))));
    assert_eq!(first.head("one", "key").unwrap().size, 7);
    // What was made beside before its name was taken is gone.
    assert_eq!(fs::read_dir(tester.folder.path().join(".tmp")).unwrap().count(), 0);
}

fn versions(tester: &Tester) -> Vec<(String, String, bool, bool)> {
    let (found, more) = tester.objects.list_versions("bucket", "", None, 1000).unwrap();
    assert!(!more);
    let one = |version: VersionInfo| {
        (version.object.key, version.object.version.unwrap(), version.is_latest, version.is_marker)
    };
    found.into_iter().map(one).collect()
}

fn version_of(tester: &Tester, key: &str, version: &str) -> Option<String> {
    match tester.objects.get_version("bucket", key, Some(version)) {
        Ok((file, _)) => Some(text(file)),
        Err(Error::NoSuchVersion { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

// SA-007
#[test]
fn a_bucket_keeps_versions_once_it_is_told_to() {
    let tester = Tester::new();
    assert_eq!(tester.objects.versioning("bucket").unwrap(), None);
    assert_eq!(tester.put("k", "before").version, None);
    tester.objects.set_versioning("bucket", Versioning::Enabled).unwrap();
    let first = tester.put("k", "first").version.unwrap();
    let second = tester.put("k", "second").version.unwrap();
    for (version, content) in [("null", "before"), (&first, "first"), (&second, "second")] {
        assert_eq!(version_of(&tester, "k", version).as_deref(), Some(content));
    }
    for nonsense in ["", ".", "../k", "key", &"0".repeat(32)] {
        assert_eq!(version_of(&tester, "k", nonsense), None, "{nonsense}");
    }
    assert_eq!(tester.keys(), ["k"]);
    let latest = |id: &str, is_latest| ("k".to_owned(), id.to_owned(), is_latest, false);
    assert_eq!(versions(&tester), [latest(&second, true), latest(&first, false), latest("null", false)]);

    // A deletion leaves a marker, and the marker's deletion brings the object back.
    let marker = tester.objects.delete_version("bucket", "k", None).unwrap();
    assert!(marker.is_marker && marker.was_there);
    let marker = marker.version.unwrap();
    assert_eq!((tester.get("k"), tester.keys().len(), version_of(&tester, "k", &marker)), (None, 0, None));
    assert_eq!(versions(&tester)[0], ("k".to_owned(), marker.clone(), true, true));
    assert!(matches!(tester.objects.delete_bucket("bucket"), Err(Error::BucketNotEmpty(_))));
    tester.objects.delete_version("bucket", "k", Some(&marker)).unwrap();
    assert_eq!(tester.get("k").as_deref(), Some("second"));

    // So does that of the latest version with the one before.
    tester.objects.delete_version("bucket", "k", Some(&second)).unwrap();
    assert_eq!(tester.get("k").as_deref(), Some("first"));
    assert_eq!(versions(&tester), [latest(&first, true), latest("null", false)]);

    // Suspended, what has a name stays, and what is written has none.
    tester.objects.set_versioning("bucket", Versioning::Suspended).unwrap();
    assert_eq!(tester.put("k", "third").version, None);
    tester.put("k", "fourth");
    assert_eq!(versions(&tester), [latest("null", true), latest(&first, false)]);
    assert_eq!(version_of(&tester, "k", "null").as_deref(), Some("fourth"));
    for version in ["null", &first] {
        tester.objects.delete_version("bucket", "k", Some(version)).unwrap();
    }
    assert_eq!((versions(&tester).len(), tester.get("k")), (0, None));
    tester.objects.delete_bucket("bucket").unwrap();
}

#[test]
fn versions_are_listed_in_pages_with_no_key_twice() {
    let tester = Tester::new();
    tester.objects.set_versioning("bucket", Versioning::Enabled).unwrap();
    for key in ["a", "b/c", "b"] {
        for round in 0..3 {
            tester.put(key, &round.to_string());
        }
    }
    tester.delete("b");
    let mut seen: Vec<(String, String)> = Vec::new();
    let mut after: Option<(String, String)> = None;
    loop {
        let from = after.as_ref().map(|(key, version)| (key.as_str(), Some(version.as_str())));
        let (page, more) = tester.objects.list_versions("bucket", "", from, 4).unwrap();
        seen.extend(page.into_iter().map(|it| (it.object.key, it.object.version.unwrap())));
        if !more {
            break;
        }
        after = seen.last().cloned();
    }
    let keys: Vec<&str> = seen.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["a", "a", "a", "b", "b", "b", "b", "b/c", "b/c", "b/c"]);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 10);
    assert_eq!(tester.objects.list_versions("bucket", "b/", None, 10).unwrap().0.len(), 3);
}

// P6
#[test]
fn objects_that_belong_together_are_there_all_at_once_or_not_at_all() {
    let tester = Tester::new();
    tester.put("old", "before");
    let write = |batch: &mut Batch, key: &str, content: &str| {
        let mut writer = batch.put(key).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
        batch.add(writer, Metadata::default()).unwrap();
    };
    let mut batch = tester.objects.batch("bucket").unwrap();
    for (key, content) in [("old", "new"), ("d/e", "1"), ("d", "2"), ("twice", "3"), ("twice", "4")] {
        write(&mut batch, key, content);
    }
    assert_eq!((tester.keys(), tester.get("old").as_deref()), (vec!["old".to_owned()], Some("before")));
    batch.finish().unwrap();
    assert_eq!(tester.keys(), ["d", "d/e", "old", "twice"]);
    assert_eq!((tester.get("old").as_deref(), tester.get("twice").as_deref()), (Some("new"), Some("4")));

    // Something is in the way of the last one.
    symlink("/", tester.bucket().join("link")).unwrap();
    let mut batch = tester.objects.batch("bucket").unwrap();
    for (key, content) in [("old", "newer"), ("f/g", "5"), ("old", "newest"), ("link/x", "6"), ("z", "7")] {
        write(&mut batch, key, content);
    }
    assert!(matches!(batch.finish(), Err(Error::Blocked(_))));
    assert_eq!(tester.keys(), ["d", "d/e", "old", "twice"]);
    assert_eq!(tester.get("old").as_deref(), Some("new"));

    let mut batch = tester.objects.batch("bucket").unwrap();
    write(&mut batch, "never", "8");
    drop(batch);
    assert_eq!(tester.get("never"), None);
    assert_eq!(fs::read_dir(tester.folder.path().join(".tmp")).unwrap().count(), 0);
}

//! Looking for report files: those that begin like one, found for as long as there is time.

use std::collections::HashSet;
use std::io::Read;
use std::time::{Duration, Instant};

use super::*;

/// Report files that are found; those beyond are left out.
const FOUND_LIMIT: usize = 1_000;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Discover {
    /// Where, and which.
    pub(crate) search: Collect,
    /// What these select is no discovery.
    pub(crate) known: Vec<Collect>,
    pub(crate) seconds: u64,
}

/// fds: the stream.
pub(super) fn entry(args: &[u8], fds: Vec<OwnedFd>) -> i32 {
    let Some((mut out, _)) = first_fd(fds) else { return REFUSED };
    let Ok(args) = serde_json::from_slice::<Discover>(args) else { return REFUSED };
    let result = discover(&args, &mut out);
    report(&mut out, result)
}

fn discover(args: &Discover, out: &mut impl Write) -> Result<(), String> {
    let deadline = Instant::now() + Duration::from_secs(args.seconds);
    let base = Rc::new(Base::open(&args.search, &args.search.base_directory)?);
    tell_expansion(&args.search, out)?;
    tell_base(&args.search, &base.shown, out)?;
    let mut known = HashSet::new();
    for collect in &args.known {
        for base in base_folders(collect)? {
            let found = find(collect, &Rc::new(base))?.files;
            known.extend(found.into_iter().map(|file| file.base.path.join(&file.path)));
        }
    }
    let patterns = args.search.files.iter().map(|text| parse(text)).collect::<Result<Vec<_>, _>>()?;
    let mut found = 0;
    let mut visit = |relative: &[Vec<u8>], path: &Path, kind: Kind| {
        if found == FOUND_LIMIT || Instant::now() >= deadline {
            return Ok(false);
        }
        let parts: Vec<&[u8]> = relative.iter().map(Vec::as_slice).collect();
        if kind == Kind::Folder {
            return Ok(patterns.iter().any(|pattern| pattern.could_match_below(&parts)));
        }
        let is_asked_for = kind == Kind::File && patterns.iter().any(|pattern| pattern.matches(&parts));
        let name = String::from_utf8(relative.join(&b'/'));
        if let Ok(name) = name
            && is_asked_for
            && may_be_report(&name)
            && !known.contains(path)
            && let Some(format) = recognise(&base, &name)
        {
            found += 1;
            let record = Record::Recognised { path: name, format };
            stream::write(out, &record).map_err(|error| error.to_string())?;
        }
        Ok(false)
    };
    walk(&base.path, &mut visit)
}

/// Files of other names are not looked into.
fn may_be_report(name: &str) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    ["xml", "json", "trx"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

fn recognise(base: &Base, name: &str) -> Option<::report::Format> {
    let mut beginning = Vec::new();
    let file = base.file(Path::new(name)).ok()?;
    file.take(::report::limits::DETECTION_BYTES as u64).read_to_end(&mut beginning).ok()?;
    ::report::detect(&beginning)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_that_begin_like_reports_are_found_and_known_ones_are_not() {
        // BS-117
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("a/junit.XML", "<testsuite/>"),
            ("a/known.xml", "<testsuite/>"),
            ("b/pom.xml", "<project/>"),
            ("b/notes.txt", "<testsuite/>"),
            ("c/coverage.json", "{\"RSpec\": {\"coverage\": {}}}"),
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let search = Collect {
            root: folder.path().to_owned(),
            base_directory: ".".into(),
            files: vec!["**/*".into()],
            exclude_paths: Vec::new(),
            discard_paths: false,
            keep_symlinks: false,
            named: false,
        };
        let known =
            vec![Collect { base_directory: "a".into(), files: vec!["known.*".into()], ..search.clone() }];
        let mut bytes = Vec::new();
        discover(&Discover { search, known, seconds: 600 }, &mut bytes).unwrap();
        let mut found = Vec::new();
        let mut take = |item: stream::Item<'_>| {
            if let stream::Item::Record(Record::Recognised { path, format }) = item {
                found.push(format!("{path} {format}"));
            }
            Ok(())
        };
        stream::Decoder::default().feed(&bytes, &mut take).unwrap();
        assert_eq!(found, ["a/junit.XML JUNITXML", "c/coverage.json SIMPLECOV"]);
    }
}

//! Any bytes as a buildspec: read, checked, shown and planned, with places that are in the text and within the limits that
//! `cargo xtask fuzz` sets.

#![no_main]

use buildspec::{Severity, render};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let parsed = buildspec::parse_bytes(bytes);
    let checked = buildspec::check(bytes, &[]);
    assert_eq!(parsed.is_ok(), checked.buildspec.is_some(), "a build and the checker disagree");
    if let Ok(parsed) = &parsed {
        assert_eq!(Some(&parsed.buildspec), checked.buildspec.as_ref());
        let _ = buildspec::plan(&parsed.buildspec);
        if let Some(Ok(batch)) = &parsed.buildspec.batch {
            assert!(batch.builds().len() <= buildspec::limits::BATCH_BUILDS);
        }
    } else {
        assert!(checked.count(Severity::Error) > 0);
    }
    // The last line may be without an end, and a place may be just behind it.
    let lines = checked.text.split(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() + 1;
    for finding in &checked.findings {
        let (start, end) = (finding.span.start, finding.span.end);
        assert!(start <= end && start.line >= 1 && start.column >= 1 && end.line <= lines, "{finding:?}");
    }
    let shown = render::human("buildspec.yml", &checked, false);
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'));
    // What is for programs takes longer to write than all else to find.
    if bytes.len().is_multiple_of(16) {
        let files = [("buildspec.yml".to_owned(), checked)];
        let _ = (render::json(&files), render::sarif(&files, "0"), render::github(&files));
    }
});

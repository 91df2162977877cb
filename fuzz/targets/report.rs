//! Any bytes as a report file of any format: read or refused, with no more kept than the limits allow, and the same twice.

#![no_main]

use libfuzzer_sys::fuzz_target;
use report::{Findings, Format, detect, limits, read};

const FORMATS: [Format; 10] = [
    Format::JunitXml,
    Format::CucumberJson,
    Format::NunitXml,
    Format::Nunit3Xml,
    Format::TestNgXml,
    Format::VisualStudioTrx,
    Format::CloverXml,
    Format::CoberturaXml,
    Format::JacocoXml,
    Format::SimpleCov,
];

fuzz_target!(|bytes: &[u8]| {
    let Some((first, text)) = bytes.split_first() else { return };
    let format = FORMATS[usize::from(*first) % FORMATS.len()];
    let _ = detect(text);
    let Ok(found) = read(format, text) else { return };
    assert_eq!(Some(&found), read(format, text).ok().as_ref());
    // What was read is what is kept as JSON, and the files of a report are added up.
    let kept = serde_json::to_string(&found).expect("findings are JSON");
    assert_eq!(found, serde_json::from_str(&kept).expect("and read as such"));
    let mut twice = Findings::none(format.kind());
    let added = twice.add(found.clone()).and_then(|()| twice.add(found.clone()));
    if let Findings::Tests(tests) = &found {
        assert!(tests.cases.len() <= limits::KEPT_CASES);
    }
    assert!(added.is_ok() || bytes.len() > 1 << 20, "{added:?}");
});

//! Files of every format, as tools write them and as nobody should.

#![allow(clippy::unwrap_used, reason = "Clippy knows test functions, not those they share")]

use proptest::prelude::*;
use report::{Error, Findings, Format, Kind, Ratio, Status, TestCase, Tests, detect, limits, read};

const FILES: [(Format, &str); 10] = [
    (Format::CloverXml, include_str!("cases/clover.xml")),
    (Format::CoberturaXml, include_str!("cases/cobertura.xml")),
    (Format::CucumberJson, include_str!("cases/cucumber.json")),
    (Format::JacocoXml, include_str!("cases/jacoco.xml")),
    (Format::JunitXml, include_str!("cases/junit.xml")),
    (Format::Nunit3Xml, include_str!("cases/nunit3.xml")),
    (Format::NunitXml, include_str!("cases/nunit.xml")),
    (Format::SimpleCov, include_str!("cases/resultset.json")),
    (Format::TestNgXml, include_str!("cases/testng.xml")),
    (Format::VisualStudioTrx, include_str!("cases/results.trx")),
];

fn file(format: Format) -> &'static str {
    FILES.iter().find(|(of, _)| *of == format).unwrap().1
}

fn tests_in(format: Format, text: &str) -> Tests {
    match read(format, text.as_bytes()).unwrap() {
        Findings::Tests(tests) => tests,
        other => panic!("{other:?}"),
    }
}

/// `prefix|name|suite|status|nanoseconds|message`.
fn shown(tests: &Tests) -> Vec<String> {
    let one = |case: &TestCase| {
        let TestCase { prefix, name, suite, status, duration_ns, message } = case;
        format!("{prefix}|{name}|{suite}|{}|{duration_ns}|{message}", status.name())
    };
    tests.cases.iter().map(one).collect()
}

/// `path covered/missed covered/missed`, lines before branches.
fn covered(format: Format) -> Vec<String> {
    let Ok(Findings::Coverages(coverages)) = read(format, file(format).as_bytes()) else {
        panic!("{format}")
    };
    let ratio = |ratio: Ratio| format!("{}/{}", ratio.covered, ratio.missed);
    let files = coverages.files.iter();
    files.map(|(path, one)| format!("{path} {} {}", ratio(one.lines), ratio(one.branches))).collect()
}

#[test]
fn junit_cases_say_how_they_ended_and_why() {
    // IN-105, IN-102
    let tests = tests_in(Format::JunitXml, file(Format::JunitXml));
    assert_eq!(
        shown(&tests),
        [
            "shop.CartTest|adds|shop.CartTest|SUCCEEDED|250000000|",
            "shop.CartTest|removes|shop.CartTest|FAILED|1000500000000|expected 1 & got 2\nat Cart.remove(Cart.java:7)\n\
             at CartTest.removes(CartTest.java:3)",
            "shop.CartTest|breaks|shop.CartTest|ERROR|0|a <b> c",
            "shop.CartTest|waits|shop.CartTest|SKIPPED|0|later",
        ]
    );
    assert_eq!((tests.total(), tests.duration_ns, tests.succeeded()), (4, 1_000_750_000_000, false));
}

#[test]
fn nunit_names_are_whole_and_its_messages_have_the_trace() {
    // IN-106, IN-108
    let fixture = "NUnit.Tests.Assemblies.MockTestFixture";
    let expect = [
        "Fine|MockTestFixture|SUCCEEDED|16000000|",
        "TestWithException|MockTestFixture|ERROR|0|System.ApplicationException : Intentional Exception\n   at \
         MockTestFixture.TestWithException()\n\n",
        "Bad(1.5)|MockTestFixture|ERROR|0|No arguments",
        "Off|MockTestFixture|SKIPPED|0|",
        "Maybe|MockTestFixture|UNKNOWN|0|",
        "Old|MockTestFixture|FAILED|0|",
    ]
    .map(|rest| format!("{fixture}|{fixture}.{rest}"));
    assert_eq!(shown(&tests_in(Format::NunitXml, file(Format::NunitXml))), expect);
    let expect = [
        "Shop.CartTests|Adds|CartTests|SUCCEEDED|500000000|",
        "Shop.CartTests|Removes|CartTests|FAILED|100000000|wrong\nat X\n",
        "Shop.CartTests|Breaks|CartTests|ERROR|0|",
        "Shop.CartTests|Waits|CartTests|SKIPPED|0|later",
        "Shop.CartTests|Maybe|CartTests|UNKNOWN|0|",
    ];
    assert_eq!(shown(&tests_in(Format::Nunit3Xml, file(Format::Nunit3Xml))), expect);
}

#[test]
fn testng_counts_methods_but_not_their_preparation() {
    // IN-108
    let expect = [
        "shop.CartTest|adds|Nightly|SUCCEEDED|12000000|",
        "shop.CartTest|removes|Nightly|FAILED|1000000|wrong\nat X",
        "shop.CartTest|waits|Nightly|SKIPPED|0|",
    ];
    assert_eq!(shown(&tests_in(Format::TestNgXml, file(Format::TestNgXml))), expect);
}

#[test]
fn trx_results_find_their_classes() {
    // IN-108
    let expect = [
        "Shop.CartTests|Adds|nightly|SUCCEEDED|62500000000|",
        "Shop.CartTests|Removes|nightly|FAILED|1000000|wrong\nat X",
        "|Waits|nightly|SKIPPED|0|",
        "|Maybe|nightly|UNKNOWN|0|",
    ];
    assert_eq!(shown(&tests_in(Format::VisualStudioTrx, file(Format::VisualStudioTrx))), expect);
}

#[test]
fn a_scenario_fails_if_a_step_does() {
    // IN-107
    let feature = "Cucumber tests for agent";
    let expect = ["pays|SUCCEEDED|1101|", "refuses|FAILED|5|no money", "waits|SKIPPED|0|", "doubts|ERROR|0|"]
        .map(|rest| rest.split_once('|').unwrap())
        .map(|(name, rest)| format!("{feature}|{name}|{feature}|{rest}"));
    assert_eq!(shown(&tests_in(Format::CucumberJson, file(Format::CucumberJson))), expect);
}

#[test]
fn coverage_is_of_source_files_however_it_is_written() {
    // IN-109
    assert_eq!(covered(Format::CloverXml), ["/src/Cart.java 2/1 1/1", "Pay.java 0/1 0/0"]);
    assert_eq!(covered(Format::CoberturaXml), ["shop/cart.py 2/1 1/1"]);
    assert_eq!(covered(Format::JacocoXml), ["shop/cart/Cart.java 3/1 1/1"]);
    assert_eq!(covered(Format::SimpleCov), ["/src/cart.rb 2/1 1/1", "/src/old.rb 1/0 0/0"]);
    assert_eq!(Ratio { covered: 1, missed: 3 }.percentage(), 25.0);
    assert_eq!(Ratio::default().percentage(), 0.0);
}

#[test]
fn each_format_is_known_by_how_its_files_begin() {
    // BS-117
    for (format, text) in FILES {
        assert_eq!(detect(text.as_bytes()), Some(format));
        assert_eq!(Format::named(&format.name().to_lowercase()), Some(format)); // BS-113
    }
    for other in
        ["", "<html/>", "<report><a/></report>", "<coverage><a/></coverage>", "[1]", "{\"a\": 1}", "text"]
    {
        assert_eq!(detect(other.as_bytes()), None, "{other}");
    }
}

#[test]
fn a_file_of_another_format_is_refused_by_name() {
    // BS-113
    for (format, _) in FILES {
        for (other, text) in FILES.iter().filter(|(other, _)| *other != format) {
            // Two formats have one root element, and only its content tells them apart.
            let alike =
                [format, *other].iter().all(|one| matches!(one, Format::CloverXml | Format::CoberturaXml));
            let found = read(format, text.as_bytes());
            assert!(alike || found.is_err(), "{other} as {format}: {found:?}");
        }
    }
    let error = read(Format::JunitXml, b"<html/>").unwrap_err().to_string();
    assert_eq!(
        error,
        "it is not JUNITXML: it begins with `html`, and `testsuites` or `testsuite` is expected"
    );
}

#[test]
fn what_is_cut_off_says_in_which_line() {
    for (format, text) in FILES {
        let error = read(format, &text.as_bytes()[..text.len() / 2]).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{format}: {error:?}");
    }
    let error = read(Format::JunitXml, b"<testsuite>\n<testcase>\n").unwrap_err();
    assert_eq!(error.to_string(), "line 3: it ends in the middle");
}

#[test]
fn many_cases_are_counted_and_the_failed_ones_kept() {
    // IN-103
    let fine = "<testcase name='fine'/>".repeat(2_000);
    let bad = "<testcase name='bad'><failure/></testcase>".repeat(7);
    let tests = tests_in(Format::JunitXml, &format!("<testsuite>{fine}{bad}</testsuite>"));
    assert_eq!((tests.total(), tests.cases.len(), tests.is_truncated()), (2_007, limits::KEPT_CASES, true));
    assert_eq!(tests.cases.iter().filter(|case| case.status == Status::Failed).count(), 7);
}

#[test]
fn the_files_of_a_group_are_one_report() {
    // IN-110
    let mut all = Findings::none(Kind::Test);
    for format in [Format::JunitXml, Format::TestNgXml] {
        all.add(read(format, file(format).as_bytes()).unwrap()).unwrap();
    }
    let Findings::Tests(tests) = &all else { panic!() };
    assert_eq!((tests.total(), tests.counts[&Status::Failed]), (7, 2));
    let coverage = read(Format::JacocoXml, file(Format::JacocoXml).as_bytes()).unwrap();
    assert_eq!(all.add(coverage), Err(Error::OtherKind));
}

#[test]
fn utf_16_is_read_as_well() {
    let text = format!("\u{FEFF}{}", file(Format::VisualStudioTrx));
    let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(detect(&bytes), Some(Format::VisualStudioTrx));
    assert!(read(Format::VisualStudioTrx, &bytes).is_ok());
}

#[test]
fn entities_are_neither_replaced_nor_fetched() {
    let text = "<!DOCTYPE testsuite [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;'><!ENTITY c SYSTEM 'file:///etc/passwd'>]>\
        <testsuite><testcase name='&b;'><failure>&c; &b; &lt;</failure></testcase></testsuite>";
    assert_eq!(shown(&tests_in(Format::JunitXml, text)), ["|&b;||FAILED|0|&c; &b; <"]);
}

#[test]
fn limits_have_names_and_are_kept() {
    let refused = |text: String| read(Format::JunitXml, text.as_bytes()).unwrap_err();
    assert!(matches!(refused(" ".repeat(limits::FILE_BYTES + 1)), Error::TooLarge { .. }));
    let deep = format!("<testsuite>{}", "<a>".repeat(limits::DEPTH + 1));
    assert_eq!(refused(deep).to_string(), "it has more than 256 elements within elements");
    let attributes: String = (0..=limits::ATTRIBUTES).map(|n| format!(" a{n}=''")).collect();
    let wide = refused(format!("<testsuite{attributes}/>"));
    assert_eq!(wide.to_string(), "it has more than 1000 attributes of an element");
    let many = "<testcase/>".repeat(limits::CASES as usize + 1);
    assert_eq!(
        refused(format!("<testsuite>{many}</testsuite>")).to_string(),
        "it has more than 500000 test cases"
    );
    let deep = format!("[{}", "{\"a\":[".repeat(100_000));
    assert!(read(Format::CucumberJson, deep.as_bytes()).is_err());
    let paths: String = (0..=limits::SOURCE_FILES).map(|n| format!("\"{n}\":[1],")).collect();
    let text = format!("{{\"R\":{{\"coverage\":{{{}}}}}}}", paths.trim_end_matches(','));
    assert!(read(Format::SimpleCov, text.as_bytes()).is_err());
}

#[test]
fn long_texts_are_cut_between_characters() {
    let long = "ä".repeat(limits::MESSAGE_BYTES);
    let text =
        format!("<testsuite><testcase name='x{long}'><failure>x{long}</failure></testcase></testsuite>");
    let tests = tests_in(Format::JunitXml, &text);
    let case = &tests.cases[0];
    assert_eq!((case.name.len(), case.message.len()), (limits::NAME_BYTES - 1, limits::MESSAGE_BYTES - 1));
}

proptest! {
    #[test]
    fn nothing_that_is_broken_breaks_the_reader(which in 0..FILES.len(), at in any::<prop::sample::Index>(), byte: u8) {
        let (format, text) = FILES[which];
        let mut bytes = text.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = detect(&bytes);
        let _ = read(format, &bytes);
        let _ = read(format, &bytes[..at]);
    }
}

//! JUnit's XML, as Surefire, Gradle, pytest, Jest, go-junit-report and nextest write it. COMPAT: IN-105.

use crate::error::{Error, Result};
use crate::format::Format;
use crate::tests::{Status, TestCase, Tests, joined, seconds};
use crate::xml::{Node, Tag, Xml};

pub(crate) fn read(text: &str) -> Result<Tests> {
    let mut xml = Xml::new(text);
    read_with(&mut xml)
}

/// What is open, from the root inwards.
enum Open {
    Suite(String),
    Case(TestCase),
    /// `failure`, `error` or `skipped`, with its message and its text so far.
    Outcome(Status, String, String),
    Other,
}

fn read_with(xml: &mut Xml<'_>) -> Result<Tests> {
    let root = xml.root()?;
    if root.name != "testsuites" && root.name != "testsuite" {
        let expected = "`testsuites` or `testsuite`";
        return Err(Error::OtherFormat { format: Format::JunitXml, begins: root.name, expected });
    }
    let mut tests = Tests::default();
    let mut open = vec![opened(root, &[])];
    while let Some(node) = xml.next()? {
        match node {
            Node::Open(tag) => {
                let next = opened(tag, &open);
                open.push(next);
            }
            Node::Text(more) => {
                if let Some(Open::Outcome(_, _, text)) = open.last_mut() {
                    text.push_str(&more);
                }
            }
            Node::Close => match open.pop() {
                Some(Open::Case(case)) => tests.push(case)?,
                Some(Open::Outcome(status, message, text)) => {
                    if let Some(Open::Case(case)) = open.last_mut() {
                        settle(case, status, &joined(&message, &text));
                    }
                }
                _ => {}
            },
        }
    }
    Ok(tests)
}

fn opened(tag: Tag, open: &[Open]) -> Open {
    let in_case = matches!(open.last(), Some(Open::Case(_)));
    match tag.name.as_str() {
        "testsuites" | "testsuite" => Open::Suite(tag.get("name").to_owned()),
        "testcase" => Open::Case(case(&tag, open)),
        "failure" if in_case => outcome(Status::Failed, &tag),
        "error" if in_case => outcome(Status::Error, &tag),
        "skipped" if in_case => outcome(Status::Skipped, &tag),
        _ => Open::Other,
    }
}

fn outcome(status: Status, tag: &Tag) -> Open {
    Open::Outcome(status, tag.get("message").to_owned(), String::new())
}

fn case(tag: &Tag, open: &[Open]) -> TestCase {
    let suite = open.iter().rev().find_map(|one| match one {
        Open::Suite(name) => Some(name.clone()),
        _ => None,
    });
    // GoogleTest says so in attributes.
    let is_left_out = tag.get("status") == "notrun" || matches!(tag.get("result"), "skipped" | "suppressed");
    TestCase {
        prefix: tag.get("classname").to_owned(),
        name: tag.get("name").to_owned(),
        suite: suite.unwrap_or_default(),
        status: if is_left_out { Status::Skipped } else { Status::Succeeded },
        duration_ns: seconds(tag.get("time")),
        message: String::new(),
    }
}

/// Of several outcomes the worst counts; all of their messages are kept.
fn settle(case: &mut TestCase, status: Status, message: &str) {
    if case.status == Status::Succeeded || status == Status::Error || case.status == Status::Skipped {
        case.status = status;
    }
    case.message = joined(&case.message, message);
}

#[cfg(test)]
mod cases {
    use super::*;

    fn of(cases: usize) -> usize {
        let case = "<testcase name='a' classname='b' time='1'><failure message='m'>text</failure></testcase>";
        let text = format!("<testsuite>{}</testsuite>", case.repeat(cases));
        let mut xml = Xml::new(&text);
        assert_eq!(read_with(&mut xml).unwrap().total(), cases as u64);
        xml.work
    }

    #[test]
    fn twice_as_much_is_twice_the_work() {
        let (once, twice) = (of(2_000), of(4_000));
        assert!(twice < once * 5 / 2, "{once} {twice}");
    }
}

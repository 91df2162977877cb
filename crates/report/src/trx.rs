//! Visual Studio's TRX. COMPAT: IN-108.
//!
//! Results come before the definitions that name their classes, so the text is gone through twice.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::format::Format;
use crate::tests::{Status, TestCase, Tests, joined, nanoseconds};
use crate::xml::{Node, Tag, Xml};

enum Open {
    Case(TestCase),
    Text(String),
    Other,
}

pub(crate) fn read(text: &str) -> Result<Tests> {
    let mut tests = results(text)?;
    let wanted: HashSet<String> = tests.cases.iter().map(|case| case.prefix.clone()).collect();
    let classes = classes(text, &wanted)?;
    for case in &mut tests.cases {
        case.prefix = classes.get(&case.prefix).cloned().unwrap_or_default();
    }
    Ok(tests)
}

/// The cases, whose prefix is the test's id so far.
fn results(text: &str) -> Result<Tests> {
    let mut xml = Xml::new(text);
    let root = xml.root()?;
    if root.name != "TestRun" {
        let expected = "`TestRun`";
        return Err(Error::OtherFormat { format: Format::VisualStudioTrx, begins: root.name, expected });
    }
    let suite = root.get("name").to_owned();
    let mut tests = Tests::default();
    let mut open = vec![Open::Other];
    while let Some(node) = xml.next()? {
        match node {
            Node::Open(tag) => open.push(match tag.name.as_str() {
                "UnitTestResult" => Open::Case(case(&tag, &suite)),
                "Message" | "StackTrace" => Open::Text(String::new()),
                _ => Open::Other,
            }),
            Node::Text(more) => {
                if let Some(Open::Text(text)) = open.last_mut() {
                    text.push_str(&more);
                }
            }
            Node::Close => match open.pop() {
                Some(Open::Case(case)) => tests.push(case)?,
                Some(Open::Text(text)) => {
                    let mut inwards = open.iter_mut().rev();
                    if let Some(Open::Case(case)) = inwards.find(|one| matches!(one, Open::Case(_))) {
                        case.message = joined(&case.message, &text);
                    }
                }
                _ => {}
            },
        }
    }
    Ok(tests)
}

fn case(tag: &Tag, suite: &str) -> TestCase {
    TestCase {
        prefix: tag.get("testId").to_owned(),
        name: tag.get("testName").to_owned(),
        suite: suite.to_owned(),
        status: match tag.get("outcome") {
            "Passed" | "PassedButRunAborted" | "Warning" => Status::Succeeded,
            "Failed" | "Timeout" | "Aborted" => Status::Failed,
            "Error" => Status::Error,
            "NotExecuted" | "NotRunnable" | "Pending" => Status::Skipped,
            _ => Status::Unknown,
        },
        duration_ns: duration(tag.get("duration")),
        message: String::new(),
    }
}

/// Of `hh:mm:ss.fffffff`.
fn duration(text: &str) -> u64 {
    let mut sum = 0.0;
    for part in text.split(':') {
        sum = sum * 60.0 + part.parse().unwrap_or(0.0);
    }
    nanoseconds(sum)
}

/// The classes of these tests, by id.
fn classes(text: &str, wanted: &HashSet<String>) -> Result<HashMap<String, String>> {
    let mut xml = Xml::new(text);
    let (mut classes, mut test) = (HashMap::new(), None);
    while let Some(node) = xml.next()? {
        match node {
            Node::Open(tag) if tag.name == "UnitTest" => {
                test = tag.find("id").filter(|id| wanted.contains(*id)).map(str::to_owned);
            }
            Node::Open(tag) if tag.name == "TestMethod" => {
                if let Some(id) = test.take() {
                    // An assembly's name follows a comma.
                    let class = tag.get("className").split(',').next().unwrap_or_default();
                    classes.insert(id, class.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(classes)
}

//! TestNG's `testng-results.xml`. COMPAT: IN-108.

use crate::error::{Error, Result};
use crate::format::Format;
use crate::tests::{Status, TestCase, Tests, joined};
use crate::xml::{Node, Tag, Xml};

enum Open {
    Suite(String),
    Class(String),
    Case(TestCase),
    /// `@BeforeClass` and the like.
    Configuration,
    Text(String),
    Other,
}

pub(crate) fn read(text: &str) -> Result<Tests> {
    let mut xml = Xml::new(text);
    let root = xml.root()?;
    if root.name != "testng-results" {
        let expected = "`testng-results`";
        return Err(Error::OtherFormat { format: Format::TestNgXml, begins: root.name, expected });
    }
    let mut tests = Tests::default();
    let mut open = vec![Open::Other];
    while let Some(node) = xml.next()? {
        match node {
            Node::Open(tag) => {
                let next = opened(&tag, &open);
                open.push(next);
            }
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

fn opened(tag: &Tag, open: &[Open]) -> Open {
    match tag.name.as_str() {
        "suite" => Open::Suite(tag.get("name").to_owned()),
        "class" => Open::Class(tag.get("name").to_owned()),
        "test-method" if tag.get("is-config") == "true" => Open::Configuration,
        "test-method" => Open::Case(case(tag, open)),
        "message" | "full-stacktrace" => Open::Text(String::new()),
        _ => Open::Other,
    }
}

fn case(tag: &Tag, open: &[Open]) -> TestCase {
    let suite = open.iter().rev().find_map(|one| match one {
        Open::Suite(name) => Some(name.clone()),
        _ => None,
    });
    let class = open.iter().rev().find_map(|one| match one {
        Open::Class(name) => Some(name.clone()),
        _ => None,
    });
    TestCase {
        prefix: class.unwrap_or_default(),
        name: tag.get("name").to_owned(),
        suite: suite.unwrap_or_default(),
        status: match tag.get("status") {
            "PASS" => Status::Succeeded,
            "FAIL" => Status::Failed,
            "SKIP" => Status::Skipped,
            _ => Status::Unknown,
        },
        duration_ns: tag.count("duration-ms").saturating_mul(1_000_000),
        message: String::new(),
    }
}

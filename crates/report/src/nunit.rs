//! NUnit's XML, of version 2 (`test-results`) and version 3 (`test-run`). COMPAT: IN-106, IN-108.

use crate::error::{Error, Result};
use crate::format::Format;
use crate::tests::{Status, TestCase, Tests, seconds};
use crate::xml::{Node, Tag, Xml};

pub(crate) fn read_2(text: &str) -> Result<Tests> {
    read(text, Format::NunitXml, "test-results", "`test-results`", case_2)
}

pub(crate) fn read_3(text: &str) -> Result<Tests> {
    read(text, Format::Nunit3Xml, "test-run", "`test-run`", case_3)
}

/// A case, from its tag and the name of its suite.
type Case = fn(&Tag, String) -> TestCase;

enum Open {
    Suite(String),
    Case(TestCase, Told),
    /// The text of a `message` or `stack-trace`.
    Message(String),
    Trace(String),
    Other,
}

/// What a case's elements tell about its outcome.
#[derive(Default)]
struct Told {
    message: String,
    trace: Option<String>,
}

fn read(text: &str, format: Format, begins: &str, expected: &'static str, case: Case) -> Result<Tests> {
    let mut xml = Xml::new(text);
    let root = xml.root()?;
    if root.name != begins {
        return Err(Error::OtherFormat { format, begins: root.name, expected });
    }
    let mut tests = Tests::default();
    let mut open = vec![Open::Suite(root.get("name").to_owned())];
    while let Some(node) = xml.next()? {
        match node {
            Node::Open(tag) => {
                let next = opened(&tag, &open, case);
                open.push(next);
            }
            Node::Text(more) => {
                if let Some(Open::Message(text) | Open::Trace(text)) = open.last_mut() {
                    text.push_str(&more);
                }
            }
            Node::Close => match open.pop() {
                Some(Open::Case(case, told)) => tests.push(TestCase { message: told.message(), ..case })?,
                Some(Open::Message(text)) => tell(&mut open, |told| told.message = text),
                Some(Open::Trace(text)) => tell(&mut open, |told| told.trace = Some(text)),
                _ => {}
            },
        }
    }
    Ok(tests)
}

fn tell(open: &mut [Open], say: impl FnOnce(&mut Told)) {
    let mut inwards = open.iter_mut().rev();
    if let Some(Open::Case(_, told)) = inwards.find(|one| matches!(one, Open::Case(..))) {
        say(told);
    }
}

impl Told {
    /// COMPAT: IN-106 the message, a line end, the trace as it is, and a line end.
    fn message(self) -> String {
        match self.trace {
            Some(trace) => format!("{}\n{trace}\n", self.message),
            None => self.message,
        }
    }
}

fn opened(tag: &Tag, open: &[Open], case: Case) -> Open {
    let suite = || {
        let name = open.iter().rev().find_map(|one| match one {
            Open::Suite(name) => Some(name.clone()),
            _ => None,
        });
        name.unwrap_or_default()
    };
    match tag.name.as_str() {
        "test-suite" => Open::Suite(tag.get("name").to_owned()),
        "test-case" => Open::Case(case(tag, suite()), Told::default()),
        "message" => Open::Message(String::new()),
        "stack-trace" => Open::Trace(String::new()),
        _ => Open::Other,
    }
}

fn case_2(tag: &Tag, suite: String) -> TestCase {
    let name = tag.get("name");
    TestCase {
        prefix: before_the_last_dot(name).to_owned(),
        name: name.to_owned(),
        suite,
        status: status_2(tag),
        duration_ns: seconds(tag.get("time")),
        message: String::new(),
    }
}

fn status_2(tag: &Tag) -> Status {
    match tag.get("result") {
        "Success" => Status::Succeeded,
        "Failure" => Status::Failed,
        "Error" | "NotRunnable" | "Cancelled" => Status::Error,
        "Ignored" | "Skipped" => Status::Skipped,
        "" if tag.get("executed") == "False" => Status::Skipped,
        "" if tag.get("success") == "True" => Status::Succeeded,
        "" if tag.get("success") == "False" => Status::Failed,
        _ => Status::Unknown,
    }
}

fn case_3(tag: &Tag, suite: String) -> TestCase {
    let prefix = tag.find("classname").unwrap_or_else(|| before_the_last_dot(tag.get("fullname")));
    TestCase {
        prefix: prefix.to_owned(),
        name: tag.get("name").to_owned(),
        suite,
        status: status_3(tag),
        duration_ns: seconds(tag.get("duration")),
        message: String::new(),
    }
}

fn status_3(tag: &Tag) -> Status {
    match (tag.get("result"), tag.get("label")) {
        ("Passed" | "Warning", _) => Status::Succeeded,
        ("Failed", "Error" | "Invalid" | "Cancelled") => Status::Error,
        ("Failed", _) => Status::Failed,
        ("Skipped", _) => Status::Skipped,
        _ => Status::Unknown,
    }
}

/// `A.B` of `A.B.C(1.5)`.
fn before_the_last_dot(name: &str) -> &str {
    let plain = name.split('(').next().unwrap_or_default();
    plain.rsplit_once('.').map_or("", |(prefix, _)| prefix)
}

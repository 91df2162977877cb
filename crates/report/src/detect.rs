//! Which format a file has, by how it begins. COMPAT: BS-117.

use crate::decoded;
use crate::format::Format;
use crate::limits;
use crate::xml::{Node, Tag, Xml};

/// The format of a file that begins with `text`; [`limits::DETECTION_BYTES`] are enough. `None`: of no format known here.
pub fn detect(text: &[u8]) -> Option<Format> {
    let text = decoded(&text[..text.len().min(limits::DETECTION_BYTES)]);
    let text = text.trim_ascii_start();
    match text.as_bytes().first()? {
        b'<' => of_xml(text),
        b'[' => of_list(text),
        b'{' => of_object(text),
        _ => None,
    }
}

fn of_xml(text: &str) -> Option<Format> {
    let mut xml = Xml::new(text);
    let root = xml.root().ok()?;
    match root.name.as_str() {
        "testsuites" | "testsuite" => Some(Format::JunitXml),
        "test-results" => Some(Format::NunitXml),
        "test-run" => Some(Format::Nunit3Xml),
        "testng-results" => Some(Format::TestNgXml),
        "TestRun" => Some(Format::VisualStudioTrx),
        "coverage" => of_coverage(&root, &mut xml),
        // A name that others have too.
        "report" => {
            let first = first_child(&mut xml)?;
            matches!(&*first.name, "sessioninfo" | "group" | "package").then_some(Format::JacocoXml)
        }
        _ => None,
    }
}

/// Two formats have one root.
fn of_coverage(root: &Tag, xml: &mut Xml<'_>) -> Option<Format> {
    if root.find("line-rate").is_some() {
        return Some(Format::CoberturaXml);
    }
    match first_child(xml)?.name.as_str() {
        "project" => Some(Format::CloverXml),
        "sources" | "packages" => Some(Format::CoberturaXml),
        _ => None,
    }
}

fn first_child(xml: &mut Xml<'_>) -> Option<Tag> {
    loop {
        match xml.next().ok()?? {
            Node::Open(tag) => return Some(tag),
            Node::Text(_) => {}
            Node::Close => return None,
        }
    }
}

/// A list of features, which have elements and say by which word they were begun.
fn of_list(text: &str) -> Option<Format> {
    let is_list_of_objects = text[1..].trim_start().starts_with('{');
    let has = |key: &str| text.contains(&format!("\"{key}\""));
    (is_list_of_objects && has("elements") && has("keyword")).then_some(Format::CucumberJson)
}

/// `{"<command>": {"coverage": {`.
fn of_object(text: &str) -> Option<Format> {
    let rest = text[1..].trim_start().strip_prefix('"')?;
    let (_, rest) = rest.split_once('"')?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('{')?;
    let rest = rest.trim_start().strip_prefix("\"coverage\"")?.trim_start().strip_prefix(':')?;
    rest.trim_start().starts_with('{').then_some(Format::SimpleCov)
}

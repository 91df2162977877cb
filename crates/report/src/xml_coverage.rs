//! Coverage in XML: Clover, Cobertura, JaCoCo. COMPAT: IN-109.

use crate::coverage::{Coverage, Coverages, Ratio};
use crate::error::{Error, Result};
use crate::format::Format;
use crate::xml::{Node, Tag, Xml};

fn root(xml: &mut Xml<'_>, format: Format, name: &str, expected: &'static str) -> Result<()> {
    let root = xml.root()?;
    match root.name == name {
        true => Ok(()),
        false => Err(Error::OtherFormat { format, begins: root.name, expected }),
    }
}

/// `file` elements hold `line` elements.
pub(crate) fn clover(text: &str) -> Result<Coverages> {
    let mut xml = Xml::new(text);
    root(&mut xml, Format::CloverXml, "coverage", "`coverage`")?;
    let mut coverages = Coverages::default();
    let mut file: Option<(String, Coverage)> = None;
    let mut open = Vec::new();
    while let Some(node) = xml.next()? {
        match node {
            Node::Open(tag) => {
                match (tag.name.as_str(), &mut file) {
                    ("file", _) => {
                        let path = tag.find("path").unwrap_or_else(|| tag.get("name"));
                        file = Some((path.to_owned(), Coverage::default()));
                    }
                    ("line", Some((_, coverage))) => clover_line(&tag, coverage),
                    _ => {}
                }
                open.push(tag.name == "file");
            }
            Node::Close if open.pop() == Some(true) => {
                if let Some((path, coverage)) = file.take() {
                    coverages.push(&path, coverage)?;
                }
            }
            _ => {}
        }
    }
    Ok(coverages)
}

fn clover_line(tag: &Tag, coverage: &mut Coverage) {
    match tag.get("type") {
        "stmt" => coverage.lines.count(tag.count("count") > 0),
        "cond" => {
            let (truths, lies) = (tag.count("truecount"), tag.count("falsecount"));
            coverage.lines.count(truths > 0 || lies > 0 || tag.count("count") > 0);
            coverage.branches.count(truths > 0);
            coverage.branches.count(lies > 0);
        }
        _ => {}
    }
}

/// `class` elements with a `filename` hold `lines`; those within `methods` are the same lines again.
pub(crate) fn cobertura(text: &str) -> Result<Coverages> {
    let mut xml = Xml::new(text);
    root(&mut xml, Format::CoberturaXml, "coverage", "`coverage`")?;
    let mut coverages = Coverages::default();
    let mut class: Option<(String, Coverage)> = None;
    let mut open: Vec<String> = vec!["coverage".into()];
    while let Some(node) = xml.next()? {
        match node {
            Node::Open(tag) => {
                let of_class = open.len() >= 2 && open[open.len() - 2] == "class";
                match (tag.name.as_str(), &mut class) {
                    ("class", _) => class = Some((tag.get("filename").to_owned(), Coverage::default())),
                    ("line", Some((_, coverage))) if of_class => cobertura_line(&tag, coverage),
                    _ => {}
                }
                open.push(tag.name);
            }
            Node::Close if open.pop().as_deref() == Some("class") => {
                if let Some((path, coverage)) = class.take() {
                    coverages.push(&path, coverage)?;
                }
            }
            _ => {}
        }
    }
    Ok(coverages)
}

fn cobertura_line(tag: &Tag, coverage: &mut Coverage) {
    coverage.lines.count(tag.count("hits") > 0);
    if let Some(branches) = fraction(tag.get("condition-coverage")) {
        coverage.branches.add(branches);
    }
}

/// Of `50% (1/2)`.
fn fraction(text: &str) -> Option<Ratio> {
    let (covered, total) = text.split_once('(')?.1.split_once(')')?.0.split_once('/')?;
    let (covered, total): (u64, u64) = (covered.trim().parse().ok()?, total.trim().parse().ok()?);
    Some(Ratio { covered: covered.min(total), missed: total.saturating_sub(covered) })
}

/// `sourcefile` elements hold `counter` elements; those of methods, classes and packages count the same again.
pub(crate) fn jacoco(text: &str) -> Result<Coverages> {
    let mut xml = Xml::new(text);
    root(&mut xml, Format::JacocoXml, "report", "`report`")?;
    let mut coverages = Coverages::default();
    let mut open: Vec<Tag> = vec![Tag::default()];
    let mut coverage = Coverage::default();
    while let Some(node) = xml.next()? {
        match node {
            Node::Open(tag) => {
                let of_file = open.last().is_some_and(|parent| parent.name == "sourcefile");
                if of_file && tag.name == "counter" {
                    let counted = Ratio { covered: tag.count("covered"), missed: tag.count("missed") };
                    match tag.get("type") {
                        "LINE" => coverage.lines.add(counted),
                        "BRANCH" => coverage.branches.add(counted),
                        _ => {}
                    }
                }
                open.push(tag);
            }
            Node::Close => {
                let Some(closed) = open.pop().filter(|tag| tag.name == "sourcefile") else { continue };
                let package = open.iter().rev().find(|tag| tag.name == "package");
                let path = match package.map_or("", |package| package.get("name")) {
                    "" => closed.get("name").to_owned(),
                    package => format!("{package}/{}", closed.get("name")),
                };
                coverages.push(&path, std::mem::take(&mut coverage))?;
            }
            Node::Text(_) => {}
        }
    }
    Ok(coverages)
}

//! XML as a sequence of opened and closed elements and texts, under limits.
//!
//! Document type definitions are passed over, and no entity is replaced but the five that XML has and characters by
//! number: so nothing is larger than it is written, and nothing is fetched.

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use crate::error::{Error, Result};
use crate::limits;

/// An element's name, without its prefix, and attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) name: String,
    attributes: Vec<(String, String)>,
}

impl Tag {
    /// An attribute's value; empty if there is none.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.find(name).unwrap_or_default()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A count, or 0.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.get(name).trim().parse().unwrap_or(0)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Open(Tag),
    /// A piece of text; one text may come in several.
    Text(String),
    /// The element that was opened last.
    Close,
}

pub(crate) struct Xml<'a> {
    text: &'a str,
    reader: Reader<&'a [u8]>,
    depth: usize,
    /// The element opened last was empty.
    closing: bool,
    begun: bool,
    /// Bytes looked at so far, as a measure of work.
    pub(crate) work: usize,
}

impl<'a> Xml<'a> {
    pub(crate) fn new(text: &'a str) -> Xml<'a> {
        let mut reader = Reader::from_str(text);
        reader.config_mut().check_comments = false;
        Xml { text, reader, depth: 0, closing: false, begun: false, work: 0 }
    }

    /// The root element.
    pub(crate) fn root(&mut self) -> Result<Tag> {
        loop {
            match self.next()? {
                Some(Node::Open(tag)) => return Ok(tag),
                Some(_) => {}
                None => return Err(self.wrong("it has no XML element")),
            }
        }
    }

    /// The next node; none after the root was closed and the text is at its end.
    pub(crate) fn next(&mut self) -> Result<Option<Node>> {
        if std::mem::take(&mut self.closing) {
            self.depth -= 1;
            return Ok(Some(Node::Close));
        }
        loop {
            let event = match self.reader.read_event() {
                Ok(event) => event,
                Err(error) => return Err(self.wrong(error.to_string())),
            };
            self.work += event.len();
            match event {
                Event::Start(start) => return self.open(&start).map(Some),
                Event::Empty(start) => {
                    let node = self.open(&start)?;
                    self.closing = true;
                    return Ok(Some(node));
                }
                Event::End(_) => {
                    self.depth -= 1;
                    return Ok(Some(Node::Close));
                }
                Event::Text(text) => return Ok(Some(Node::Text((*text).to_owned()))),
                Event::CData(text) => return Ok(Some(Node::Text((*text).to_owned()))),
                Event::GeneralRef(name) => return Ok(Some(Node::Text(replaced(&name)))),
                Event::Eof if self.depth > 0 || !self.begun => {
                    return Err(self.wrong("it ends in the middle"));
                }
                Event::Eof => return Ok(None),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            }
        }
    }

    fn open(&mut self, start: &BytesStart<'_>) -> Result<Node> {
        self.begun = true;
        self.depth += 1;
        if self.depth > limits::DEPTH {
            return Err(Error::TooMany { what: "elements within elements", limit: limits::DEPTH });
        }
        let name = start.local_name().into_inner().to_owned();
        let mut attributes = Vec::new();
        // Looking for doubles costs the square of their number.
        for attribute in start.attributes().with_checks(false) {
            let attribute = attribute.map_err(|error| self.wrong(error.to_string()))?;
            if attributes.len() == limits::ATTRIBUTES {
                return Err(Error::TooMany { what: "attributes of an element", limit: limits::ATTRIBUTES });
            }
            let key = attribute.key.local_name().into_inner().to_owned();
            attributes.push((key, unescaped(&attribute.value)));
        }
        Ok(Node::Open(Tag { name, attributes }))
    }

    pub(crate) fn wrong(&self, what: impl Into<String>) -> Error {
        let byte = usize::try_from(self.reader.buffer_position()).unwrap_or(usize::MAX);
        Error::malformed(self.text, byte, what)
    }
}

/// With the references that XML itself has; others stay as they are written.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        // Names are short, and an ampersand may be just that.
        match rest.bytes().take(12).position(|byte| byte == b';') {
            Some(end) => {
                out.push_str(&replaced(&rest[..end]));
                rest = &rest[end + 1..];
            }
            None => out.push('&'),
        }
    }
    out.push_str(rest);
    out
}

/// What `&name;` stands for.
fn replaced(name: &str) -> String {
    let number = name.strip_prefix('#').and_then(|digits| match digits.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => digits.parse().ok(),
    });
    match (name, number.and_then(char::from_u32)) {
        (_, Some(character)) => character.to_string(),
        ("amp", _) => "&".into(),
        ("lt", _) => "<".into(),
        ("gt", _) => ">".into(),
        ("quot", _) => "\"".into(),
        ("apos", _) => "'".into(),
        _ => format!("&{name};"),
    }
}

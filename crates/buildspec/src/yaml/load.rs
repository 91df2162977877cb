//! Builds the tree from the parser's events on a stack of its own, so that no input can exhaust ours, and
//! pays for every alias from a budget before following it.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, Tag, options};

use super::wording::{span, syntax, too_deep};
use super::{Entry, Node, Value};
use crate::diagnostic::{Code, Error, Findings, Span, excerpt, quoted};
use crate::limits;

/// The first document of `text`; `None` if there is none. Later documents are not looked at.
pub(crate) fn load(text: &str, findings: &mut Findings) -> Result<Option<Arc<Node>>, Error> {
    let options = options! {
        block_nesting_limit: limits::DEPTH,
        flow_nesting_limit: limits::DEPTH,
        emit_unresolved_aliases: true,
        emit_comments: false,
        // CodeBuild's YAML library adds no line feed the text does not have.
        block_scalar_eof_without_line_feed: true,
    };
    let mut loader =
        Loader { text, findings, frames: Vec::new(), anchors: HashMap::new(), aliased: 0, root: None };
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, place) = next.map_err(|error| syntax(&error))?;
        if loader.root.is_some() && matches!(event, Event::DocumentStart(..)) {
            loader.warn_of_later_document(span(&place));
            break;
        }
        loader.event(event, &place)?;
    }
    Ok(loader.root)
}

struct Loader<'a> {
    text: &'a str,
    findings: &'a mut Findings,
    /// Lists and maps begun and not ended, outermost first.
    frames: Vec<Frame>,
    anchors: HashMap<usize, Built>,
    /// Spent of [`limits::ALIASED_BYTES`].
    aliased: usize,
    root: Option<Arc<Node>>,
}

/// A finished value with what it would cost to use it again.
#[derive(Clone)]
struct Built {
    node: Arc<Node>,
    /// Bytes and values in it, aliases followed, as [`limits::ALIASED_BYTES`] counts them.
    cost: usize,
    /// Levels of lists and maps in it.
    height: usize,
}

struct Frame {
    /// From its beginning to the end of the last value in it so far.
    span: Span,
    anchor: usize,
    cost: usize,
    height: usize,
    content: Content,
}

enum Content {
    List(Vec<Arc<Node>>),
    Map(MapContent),
}

#[derive(Default)]
struct MapContent {
    entries: Vec<Entry>,
    index: HashMap<String, usize>,
    /// A key read whose value is not.
    key: Option<Key>,
    merged: Vec<Arc<Node>>,
}

struct Key {
    text: String,
    span: Span,
    merge: bool,
}

impl Loader<'_> {
    fn event(&mut self, event: Event<'_>, place: &granit_parser::Span) -> Result<(), Error> {
        let at = span(place);
        if let Some(tag) = event.tag() {
            self.warn_of_tag(tag, at);
        }
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                // The parser calls a value that is not there `~`, as if it were written.
                let text = if plain && place.is_empty() { String::new() } else { text.into_owned() };
                self.finish(scalar(text, plain, at), anchor)
            }
            Event::SequenceStart(_, anchor, _) => self.open(Content::List(Vec::new()), anchor, at),
            Event::MappingStart(_, anchor, _) => self.open(Content::Map(MapContent::default()), anchor, at),
            Event::SequenceEnd | Event::MappingEnd => self.close(at),
            Event::Alias(id) => self.alias(id, place, at),
            Event::UnresolvedAlias(name) => Err(unknown_anchor(&name, at)),
            _ => Ok(()),
        }
    }

    fn open(&mut self, content: Content, anchor: usize, at: Span) -> Result<(), Error> {
        if self.expects_key() {
            return Err(key_is_not_text(at));
        }
        if self.frames.len() >= limits::DEPTH {
            return Err(too_deep(at));
        }
        let (cost, height) = (limits::NODE_COST, 1);
        self.frames.push(Frame { span: at, anchor, cost, height, content });
        Ok(())
    }

    fn close(&mut self, at: Span) -> Result<(), Error> {
        let mut frame = self.frames.pop().expect("the parser ends only what it began");
        // A closing bracket has a place of its own; what ends by indentation ends with its last value.
        if at.start != at.end {
            frame.span.end = at.end;
        }
        let value = match frame.content {
            Content::List(items) => Value::List(items),
            Content::Map(map) => Value::Map(map.into_entries()),
        };
        let node = Arc::new(Node { value, span: frame.span });
        self.finish(Built { node, cost: frame.cost, height: frame.height }, frame.anchor)
    }

    fn alias(&mut self, id: usize, place: &granit_parser::Span, at: Span) -> Result<(), Error> {
        let Some(built) = self.anchors.get(&id).cloned() else {
            // The parser knows the anchor but its value is not finished: the alias is inside it.
            let name = place.slice(self.text).unwrap_or_default().trim_start_matches('*');
            let message = format!("anchor '{}' value contains itself at line {}", excerpt(name), at.line());
            return Err(at.finding(Code::Syntax, message));
        };
        self.aliased = self.aliased.saturating_add(built.cost);
        if self.aliased > limits::ALIASED_BYTES {
            let message = format!("document contains excessive aliasing at line {}", at.line());
            return Err(at
                .finding(Code::Limit, message)
                .hint(format!("Aliases may add up to {} bytes to a buildspec.", limits::ALIASED_BYTES)));
        }
        if self.frames.len() + built.height > limits::DEPTH {
            return Err(too_deep(at));
        }
        self.attach(built, at)
    }

    fn finish(&mut self, built: Built, anchor: usize) -> Result<(), Error> {
        if anchor > 0 {
            self.anchors.insert(anchor, built.clone());
        }
        let at = built.node.span;
        self.attach(built, at)
    }

    /// Puts a value where the innermost open list or map wants one; `at` is where it is used.
    fn attach(&mut self, built: Built, at: Span) -> Result<(), Error> {
        let Some(frame) = self.frames.last_mut() else {
            self.root = Some(built.node);
            return Ok(());
        };
        frame.cost = frame.cost.saturating_add(built.cost);
        frame.height = frame.height.max(built.height + 1);
        frame.span.end = frame.span.end.max(at.end);
        match &mut frame.content {
            Content::List(items) => items.push(built.node),
            Content::Map(map) => map.take(built.node, at, self.findings)?,
        }
        Ok(())
    }

    fn expects_key(&self) -> bool {
        matches!(self.frames.last(), Some(Frame { content: Content::Map(map), .. }) if map.key.is_none())
    }

    fn warn_of_tag(&mut self, tag: &Tag, at: Span) {
        if tag.is_yaml_core_schema() {
            return;
        }
        self.findings.warn(|| {
            let message = format!("The tag {} has no effect at line {}", excerpt(&tag.original()), at.line());
            at.finding(Code::Ignored, message).hint(
                "Quote the text if it begins with !; CloudFormation functions do not work in a buildspec.",
            )
        });
    }

    fn warn_of_later_document(&mut self, at: Span) {
        self.findings.warn(|| {
            let message =
                format!("Only the first YAML document is used; another begins at line {}", at.line());
            at.finding(Code::Ignored, message)
        });
    }
}

impl MapContent {
    /// Takes the next key or, after a key, its value.
    fn take(&mut self, node: Arc<Node>, at: Span, findings: &mut Findings) -> Result<(), Error> {
        match self.key.take() {
            None => {
                let Value::Scalar { text, plain } = &node.value else { return Err(key_is_not_text(at)) };
                self.key = Some(Key { text: text.clone(), span: at, merge: *plain && text == "<<" });
            }
            Some(key) if key.merge => self.merge(node, at)?,
            Some(key) => self.insert(key, node, findings),
        }
        Ok(())
    }

    /// YAML wants keys to be unique; the last one counts, as it does in CodeBuild's YAML library.
    fn insert(&mut self, key: Key, node: Arc<Node>, findings: &mut Findings) {
        let entry = Entry { key: key.text, span: key.span, node };
        let Some(&earlier) = self.index.get(&entry.key) else {
            self.index.insert(entry.key.clone(), self.entries.len());
            self.entries.push(entry);
            return;
        };
        let replaced = std::mem::replace(&mut self.entries[earlier], entry);
        let now = &self.entries[earlier];
        findings.warn(|| {
            let message = format!(
                "The key {} at line {} replaces the one at line {}",
                quoted(&now.key),
                now.span.line(),
                replaced.span.line()
            );
            now.span.finding(Code::DuplicateKey, message).hint("Join the two: only the last one counts.")
        });
    }

    fn merge(&mut self, node: Arc<Node>, at: Span) -> Result<(), Error> {
        match &node.value {
            Value::Map(_) => self.merged.push(node),
            Value::List(items) if items.iter().all(|item| matches!(item.value, Value::Map(_))) => {
                self.merged.extend(items.iter().cloned());
            }
            _ => {
                let rule = "map merge requires map or sequence of maps as the value";
                return Err(at.finding(Code::Type, format!("{rule} at line {}", at.line())));
            }
        }
        Ok(())
    }

    /// Own keys beat merged ones; earlier merged maps beat later ones.
    fn into_entries(mut self) -> Vec<Entry> {
        for node in std::mem::take(&mut self.merged) {
            let Value::Map(entries) = &node.value else { continue };
            for entry in entries {
                if !self.index.contains_key(&entry.key) {
                    self.index.insert(entry.key.clone(), self.entries.len());
                    self.entries.push(entry.clone());
                }
            }
        }
        self.entries
    }
}

fn scalar(text: String, plain: bool, at: Span) -> Built {
    let cost = limits::NODE_COST + text.len();
    Built { node: Arc::new(Node { value: Value::Scalar { text, plain }, span: at }), cost, height: 0 }
}

fn key_is_not_text(at: Span) -> Error {
    at.finding(Code::Type, format!("invalid map key: a key must be text at line {}", at.line()))
        .hint("Quote texts that begin with { or [.")
}

fn unknown_anchor(name: &str, at: Span) -> Error {
    if !name.starts_with(|first: char| first.is_alphanumeric() || first == '_' || first == '-') {
        let message = format!("did not find expected alphabetic or numeric character at line {}", at.line());
        return at
            .finding(Code::UnquotedGlob, message)
            .hint("Quote texts that begin with *, such as '**/*'.");
    }
    let message = format!("unknown anchor '{}' referenced at line {}", excerpt(name), at.line());
    // Anchors are words; what has stars and dots is a pattern that was meant as text.
    let code = if name.contains(['*', '.', '/']) { Code::UnquotedGlob } else { Code::Syntax };
    at.finding(code, message).hint("Quote texts that begin with *.")
}

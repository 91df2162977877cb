//! One value of the buildspec with its name, and the kinds of values a reader may ask it for.

use std::fmt;
use std::sync::Arc;

use super::Context;
use crate::diagnostic::{Code, Error, Position, excerpt, quoted};
use crate::yaml::{Entry, Node, Value};

/// A value and what it is called in messages: `phases.build.commands[0]`.
#[derive(Clone)]
pub(super) struct Field<'a> {
    pub(super) path: String,
    /// The last part of `path`: the key in its map; empty for items of lists.
    pub(super) name: &'a str,
    /// Where the key stands; for items of lists, where the item does.
    pub(super) position: Position,
    pub(super) node: &'a Node,
}

impl<'a> Field<'a> {
    pub(super) fn root(node: &'a Node) -> Field<'a> {
        Field { path: String::new(), name: "", position: node.position, node }
    }

    /// The path without the name.
    pub(super) fn parent(&self) -> &str {
        self.path.strip_suffix(self.name).unwrap_or(&self.path).trim_end_matches('.')
    }

    /// The path as messages show it.
    pub(super) fn shown(&self) -> String {
        if self.path.is_empty() { "the buildspec".to_owned() } else { excerpt(&self.path) }
    }

    /// The value's text as written (BS-014).
    pub(super) fn text(&self) -> Result<String, Error> {
        match &self.node.value {
            Value::Scalar { text, .. } if !self.node.is_empty() => self.without_nul(text),
            _ => Err(self.mismatch("string", "text")),
        }
    }

    /// Like [`Field::text`], but nothing at all is the empty text.
    pub(super) fn text_or_empty(&self) -> Result<String, Error> {
        if self.node.is_empty() { Ok(String::new()) } else { self.text() }
    }

    /// COMPAT: BS-013 YAML 1.1 booleans in any case, quoted or not.
    pub(super) fn boolean(&self) -> Result<bool, Error> {
        let text = self.text().map_err(|_| self.mismatch("bool", "yes or no"))?;
        match text.trim().to_ascii_lowercase().as_str() {
            "yes" | "true" | "on" | "y" => Ok(true),
            "no" | "false" | "off" | "n" => Ok(false),
            _ => {
                let value = quoted(&text);
                let message = format!("Cannot unmarshal string to bool: {} is {value}", self.shown());
                Err(self.invalid(Code::Type, message).hint("Write yes or no."))
            }
        }
    }

    /// The items of a list; none if nothing is written.
    pub(super) fn items(&self) -> Result<Vec<Field<'a>>, Error> {
        let items = match &self.node.value {
            Value::List(items) => items,
            _ if self.node.is_null() => return Ok(Vec::new()),
            _ => return Err(self.mismatch("list", "a list").hint("Begin each item with \"- \".")),
        };
        let field = |(index, node): (usize, &'a Arc<Node>)| Field {
            path: format!("{}[{index}]", self.path),
            name: "",
            position: node.position,
            node,
        };
        Ok(items.iter().enumerate().map(field).collect())
    }

    /// The entries of a map; none if nothing is written.
    pub(super) fn entries(&self) -> Result<Vec<Field<'a>>, Error> {
        let entries = match &self.node.value {
            Value::Map(entries) => entries,
            _ if self.node.is_null() => return Ok(Vec::new()),
            _ => {
                return Err(self.mismatch("map", "a map").hint("Write its entries as \"key: value\" lines."));
            }
        };
        entries.iter().map(|entry| self.entry(entry)).collect()
    }

    fn entry(&self, entry: &'a Entry) -> Result<Field<'a>, Error> {
        let Entry { key, position, node } = entry;
        if key.contains('\0') {
            let message = format!("Key {} has a NUL character at line {}", quoted(key), position.line);
            return Err(position.finding(Code::Value, message));
        }
        Ok(Field { path: self.path_of(key), name: key, position: *position, node })
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn texts(&self) -> Result<Vec<String>, Error> {
        self.items()?.iter().map(Field::text).collect()
    }

    /// A finding about the value; the message gets its line.
    pub(super) fn invalid(&self, code: Code, message: impl fmt::Display) -> Error {
        let position = self.node.position;
        position.finding(code, format!("{message} at line {}", position.line))
    }

    /// COMPAT: BS-007 begins as CodeBuild's message for a value of the wrong kind does.
    fn mismatch(&self, wanted: &str, rule: &str) -> Error {
        let (kind, name) = (self.node.kind(), self.shown());
        self.invalid(Code::Type, format_args!("Cannot unmarshal {kind} to {wanted}: {name} must be {rule}"))
    }

    /// No text of a buildspec can do without: environment, file names and commands all end at a NUL.
    pub(super) fn without_nul(&self, text: &str) -> Result<String, Error> {
        if text.contains('\0') {
            return Err(self.invalid(Code::Value, format_args!("{} has a NUL character", self.shown())));
        }
        Ok(text.to_owned())
    }
}

/// A map with a fixed set of keys.
pub(super) struct Section<'a> {
    fields: Vec<Field<'a>>,
}

impl<'a> Section<'a> {
    /// Opens a map; COMPAT: BS-012 keys not in `known` are warned about, not refused.
    pub(super) fn open(
        field: &Field<'a>,
        known: &[&str],
        context: &mut Context,
    ) -> Result<Section<'a>, Error> {
        let fields = field.entries()?;
        for unknown in fields.iter().filter(|field| !known.contains(&field.name)) {
            context.warnings.add(|| super::unknown_key(unknown, known, context.version));
        }
        Ok(Section { fields })
    }

    /// The field of that name, if it is there and not null.
    pub(super) fn get(&self, name: &str) -> Option<Field<'a>> {
        self.fields.iter().find(|field| field.name == name && !field.node.is_null()).cloned()
    }

    /// What `read` makes of the field of that name, if it is there and not null.
    pub(super) fn read<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Field<'a>) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        self.get(name).map(|field| read(&field)).transpose()
    }

    /// `None` if absent or the empty text.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Error> {
        Ok(self.read(name, Field::text)?.filter(|text| !text.is_empty()))
    }

    /// No if absent.
    pub(super) fn boolean(&self, name: &str) -> Result<bool, Error> {
        Ok(self.read(name, Field::boolean)?.unwrap_or_default())
    }
}

//! One value of the buildspec with its name, and the kinds of values a reader may ask it for.

use std::fmt;
use std::sync::Arc;

use super::Context;
use crate::diagnostic::{Code, Error, Span, excerpt, quoted};
use crate::schema::Table;
use crate::yaml::{Entry, Node, Value};

/// A value and what it is called in messages: `phases.build.commands[0]`.
#[derive(Debug, Clone)]
pub(crate) struct Field<'a> {
    pub(crate) path: String,
    /// The last part of `path`: the key in its map; empty for items of lists.
    pub(crate) name: &'a str,
    /// Where the key stands; for items of lists, where the item does.
    pub(crate) span: Span,
    pub(crate) node: &'a Node,
}

impl<'a> Field<'a> {
    pub(crate) fn root(node: &'a Node) -> Field<'a> {
        Field { path: String::new(), name: "", span: node.span, node }
    }

    /// The path without the name.
    pub(crate) fn parent(&self) -> &str {
        self.path.strip_suffix(self.name).unwrap_or(&self.path).trim_end_matches('.')
    }

    /// The path as messages show it.
    pub(crate) fn shown(&self) -> String {
        if self.path.is_empty() { "the buildspec".to_owned() } else { excerpt(&self.path) }
    }

    /// The value's text as written (BS-014).
    pub(crate) fn text(&self) -> Result<String, Error> {
        match &self.node.value {
            Value::Scalar { text, .. } if !self.node.is_empty() => self.without_nul(text),
            _ => Err(self.mismatch("string", "text")),
        }
    }

    /// Like [`Field::text`], but nothing at all is the empty text.
    pub(crate) fn text_or_empty(&self) -> Result<String, Error> {
        if self.node.is_empty() { Ok(String::new()) } else { self.text() }
    }

    /// COMPAT: BS-013 YAML 1.1 booleans in any case, quoted or not.
    pub(crate) fn boolean(&self) -> Result<bool, Error> {
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
    pub(crate) fn items(&self) -> Result<Vec<Field<'a>>, Error> {
        let items = match &self.node.value {
            Value::List(items) => items,
            _ if self.node.is_null() => return Ok(Vec::new()),
            _ => return Err(self.mismatch("list", "a list").hint("Begin each item with \"- \".")),
        };
        let field = |(index, node): (usize, &'a Arc<Node>)| Field {
            path: format!("{}[{index}]", self.path),
            name: "",
            span: node.span,
            node,
        };
        Ok(items.iter().enumerate().map(field).collect())
    }

    /// The entries of a map; none if nothing is written.
    pub(crate) fn entries(&self) -> Result<Vec<Field<'a>>, Error> {
        let entries = match &self.node.value {
            Value::Map(entries) => entries,
            _ if self.node.is_null() => return Ok(Vec::new()),
            _ => {
                return Err(self.mismatch("map", "a map").hint("Write its entries as \"key: value\" lines."));
            }
        };
        Ok(entries.iter().map(|entry| self.entry(entry)).collect())
    }

    /// The entry of that name, if this is a map that has it and it is not null.
    pub(crate) fn get(&self, name: &str) -> Option<Field<'a>> {
        let Value::Map(entries) = &self.node.value else { return None };
        let entry = entries.iter().find(|entry| entry.key == name)?;
        Some(self.entry(entry)).filter(|field| !field.node.is_null())
    }

    fn entry(&self, entry: &'a Entry) -> Field<'a> {
        Field { path: self.path_of(&entry.key), name: &entry.key, span: entry.span, node: &entry.node }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// A finding about the value; the message gets its line.
    pub(crate) fn invalid(&self, code: Code, message: impl fmt::Display) -> Error {
        let span = self.node.span;
        span.finding(code, format!("{message} at line {}", span.line()))
    }

    /// A finding about the key; the message gets its line.
    pub(crate) fn misnamed(&self, code: Code, message: impl fmt::Display) -> Error {
        self.span.finding(code, format!("{message} at line {}", self.span.line()))
    }

    /// COMPAT: BS-007 begins as CodeBuild's message for a value of the wrong kind does.
    pub(crate) fn mismatch(&self, wanted: &str, rule: &str) -> Error {
        let (kind, name) = (self.node.kind(), self.shown());
        self.invalid(Code::Type, format_args!("Cannot unmarshal {kind} to {wanted}: {name} must be {rule}"))
    }

    /// No text of a buildspec can do without: environment, file names and commands all end at a NUL.
    pub(crate) fn without_nul(&self, text: &str) -> Result<String, Error> {
        if text.contains('\0') {
            return Err(self.invalid(Code::Value, format_args!("{} has a NUL character", self.shown())));
        }
        Ok(text.to_owned())
    }
}

/// A map whose keys are those of a [`Table`]. What is wrong with its values becomes a finding, and the value is as if absent.
pub(super) struct Section<'a> {
    table: &'static Table,
    pub(super) field: Field<'a>,
    fields: Vec<Field<'a>>,
}

impl<'a> Section<'a> {
    /// Opens a map; COMPAT: BS-012 keys the table does not have are warned about, not refused.
    pub(super) fn open(field: &Field<'a>, table: &'static Table, context: &mut Context) -> Section<'a> {
        let fields = context.entries(field);
        let version = context.version;
        for unknown in &fields {
            if !table.knows(unknown.name, version) {
                context.findings.warn(|| super::unknown_key(unknown, table, version));
            }
        }
        Section { table, field: field.clone(), fields }
    }

    /// The field of that name, if it is there and not null.
    pub(super) fn get(&self, name: &str) -> Option<Field<'a>> {
        debug_assert!(
            self.table.key(name).is_some(),
            "{name} is read and not in the table {}",
            self.table.name
        );
        self.fields.iter().find(|field| field.name == name && !field.node.is_null()).cloned()
    }

    /// What `read` makes of the field of that name, if it is there and not null.
    pub(super) fn read<T>(
        &self,
        name: &str,
        context: &mut Context,
        read: impl FnOnce(&Field<'a>) -> Result<T, Error>,
    ) -> Option<T> {
        context.findings.keep(read(&self.get(name)?))
    }

    /// Like [`Section::read`], for what tells its findings itself.
    pub(super) fn open_in<T>(
        &self,
        name: &str,
        context: &mut Context,
        read: impl FnOnce(&Field<'a>, &mut Context) -> T,
    ) -> Option<T> {
        Some(read(&self.get(name)?, context))
    }

    /// `None` if absent or the empty text.
    pub(super) fn text(&self, name: &str, context: &mut Context) -> Option<String> {
        self.read(name, context, Field::text).filter(|text| !text.is_empty())
    }

    /// No if absent.
    pub(super) fn boolean(&self, name: &str, context: &mut Context) -> bool {
        self.read(name, context, Field::boolean).unwrap_or_default()
    }

    /// The texts of a list; none if absent.
    pub(super) fn texts(&self, name: &str, context: &mut Context) -> Vec<String> {
        self.get(name).map(|field| context.each(&field, Field::text)).unwrap_or_default()
    }

    /// A finding, if none of its fields has that name.
    pub(super) fn require(&self, name: &str, context: &mut Context) {
        if self.get(name).is_none() {
            let message = format!("Missing required key: {}.{name}", self.field.shown());
            context.findings.refuse(self.field.misnamed(Code::Missing, message));
        }
    }
}

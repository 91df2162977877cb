//! Holding a JSON value against a [`Shape`], in the words of AWS's own services.
//!
//! A value of the wrong type is refused at once; all other violations are gathered in one message. The
//! wordings were collected from error reports of real services. Rules the model does not state (name
//! taken, role missing) are not decided here.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::error::Error;
use crate::schema::{Kind, Shape};

/// So many violations are told one by one; the others are only counted.
const VIOLATIONS_TOLD_MAX: usize = 50;
/// So many characters of an offending value are quoted.
const QUOTE_CHARS_MAX: usize = 1024;

/// Checks `value` against `shape`. Members the shape does not know are ignored, null members count as
/// absent (AP-010). A value that passes deserializes into the type generated from `shape`.
///
/// # Errors
/// [`Error::Serialization`] for the first value of a wrong type, [`Error::Validation`] with all violated
/// constraints otherwise.
pub fn validate(shape: &Shape, value: &Value) -> Result<(), Error> {
    let mut review = Review::default();
    review.value(shape, value)?;
    review.verdict()
}

#[derive(Default)]
struct Review {
    /// Where the value under review is: `secondarySources.1.member.type`.
    path: String,
    told: Vec<String>,
    count: usize,
}

impl Review {
    fn verdict(self) -> Result<(), Error> {
        match self.count {
            0 => Ok(()),
            1 => Err(Error::Validation(format!("1 validation error detected: {}", self.told.join("; ")))),
            n => Err(Error::Validation(format!("{n} validation errors detected: {}", self.told.join("; ")))),
        }
    }

    fn value(&mut self, shape: &Shape, value: &Value) -> Result<(), Error> {
        match (&shape.kind, value) {
            (Kind::Structure(_), Value::Object(members)) => return self.structure(shape, members),
            (Kind::List(element), Value::Array(elements)) => self.list(shape, element, value, elements)?,
            (Kind::Map(key, entry), Value::Object(entries)) => {
                self.map(shape, (key, entry), value, entries)?
            }
            _ => check_scalar_type(shape, value)?,
        }
        for constraint in violated(shape, value) {
            self.report(shape, value, &constraint);
        }
        Ok(())
    }

    fn structure(&mut self, shape: &Shape, values: &Map<String, Value>) -> Result<(), Error> {
        // COMPAT: AP-010 only members the shape knows are looked at; newer clients may send more.
        for member in shape.members() {
            let place = self.place(member.name);
            match values.get(member.name) {
                None | Some(Value::Null) if member.required => {
                    self.below(&place, |review| {
                        review.report_null();
                        Ok(())
                    })?;
                }
                None | Some(Value::Null) => {}
                Some(value) => {
                    self.below(&place, |review| review.value(member.shape, value))?;
                }
            }
        }
        Ok(())
    }

    /// How a member is told, behind the path so far.
    // COMPAT: AP-004 with a small letter first, even where the wire has a capital.
    fn place(&self, member: &str) -> String {
        let dot = if self.path.is_empty() { "" } else { "." };
        let (first, rest) = member.split_at(member.chars().next().map_or(0, char::len_utf8));
        format!("{dot}{}{rest}", first.to_lowercase())
    }

    fn list(
        &mut self,
        shape: &Shape,
        element: &Shape,
        whole: &Value,
        elements: &[Value],
    ) -> Result<(), Error> {
        if element.is_scalar() {
            return self.scalars(shape, element, whole, elements.iter(), "Member");
        }
        for (i, value) in elements.iter().enumerate() {
            self.below(&format!(".{}.member", i + 1), |review| review.element(element, value))?;
        }
        Ok(())
    }

    fn map(
        &mut self,
        shape: &Shape,
        (key, entry): (&Shape, &Shape),
        whole: &Value,
        entries: &Map<String, Value>,
    ) -> Result<(), Error> {
        let keys: Vec<Value> = entries.keys().cloned().map(Value::String).collect();
        self.scalars(shape, key, whole, keys.iter(), "Map keys")?;
        if entry.is_scalar() {
            return self.scalars(shape, entry, whole, entries.values(), "Map value");
        }
        for (name, value) in entries {
            self.below(&format!(".{name}.member"), |review| review.element(entry, value))?;
        }
        Ok(())
    }

    fn element(&mut self, shape: &Shape, value: &Value) -> Result<(), Error> {
        if value.is_null() {
            self.report_null();
            return Ok(());
        }
        self.value(shape, value)
    }

    /// Violations inside a collection of plain words or numbers are told once, of the collection, and
    /// with every constraint of its elements.
    fn scalars<'a>(
        &mut self,
        shape: &Shape,
        element: &Shape,
        whole: &Value,
        elements: impl Iterator<Item = &'a Value>,
        what: &str,
    ) -> Result<(), Error> {
        let (mut any_violated, mut any_null) = (false, false);
        for value in elements {
            if value.is_null() {
                any_null = true;
                continue;
            }
            check_scalar_type(element, value)?;
            any_violated |= !violated(element, value).is_empty();
        }
        if any_violated || any_null {
            let mut constraints = constraints(element);
            constraints.extend(any_null.then(|| "Member must not be null".to_owned()));
            self.report(
                shape,
                whole,
                &format!("{what} must satisfy constraint: [{}]", constraints.join(", ")),
            );
        }
        Ok(())
    }

    fn below(
        &mut self,
        step: &str,
        review: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let length = self.path.len();
        self.path.push_str(step);
        let outcome = review(self);
        self.path.truncate(length);
        outcome
    }

    fn report(&mut self, shape: &Shape, value: &Value, constraint: &str) {
        match quote(shape, value) {
            Some(text) => self.tell(&format!("Value '{text}'"), constraint),
            None => self.tell("Value", constraint),
        }
    }

    fn report_null(&mut self) {
        self.tell("Value null", "Member must not be null");
    }

    fn tell(&mut self, subject: &str, constraint: &str) {
        self.count += 1;
        if self.told.len() < VIOLATIONS_TOLD_MAX {
            self.told
                .push(format!("{subject} at '{}' failed to satisfy constraint: {constraint}", self.path));
        }
    }
}

/// The constraints of `shape` that `value`, whose type is right, does not satisfy.
fn violated(shape: &Shape, value: &Value) -> Vec<String> {
    let mut out = Vec::new();
    if shape.max.is_some_and(|max| exceeds(shape, value, max)) {
        out.extend(at_most(shape));
    }
    if shape.min.is_some_and(|min| falls_short(shape, value, min)) {
        out.extend(at_least(shape));
    }
    if let Value::String(text) = value {
        if shape.pattern.is_some_and(|pattern| !pattern.matches(text)) {
            out.extend(like(shape));
        }
        if !shape.values.is_empty() && !shape.values.contains(&text.as_str()) {
            out.extend(one_of(shape));
        }
    }
    out
}

/// All constraints of `shape` in words.
fn constraints(shape: &Shape) -> Vec<String> {
    [at_most(shape), at_least(shape), like(shape), one_of(shape)].into_iter().flatten().collect()
}

fn at_most(shape: &Shape) -> Option<String> {
    shape.max.map(|max| format!("Member must have {} less than or equal to {max}", measure(shape)))
}

fn at_least(shape: &Shape) -> Option<String> {
    shape.min.map(|min| format!("Member must have {} greater than or equal to {min}", measure(shape)))
}

fn like(shape: &Shape) -> Option<String> {
    shape.pattern.map(|pattern| format!("Member must satisfy regular expression pattern: {}", pattern.text()))
}

fn one_of(shape: &Shape) -> Option<String> {
    let set = || format!("Member must satisfy enum value set: [{}]", shape.values.join(", "));
    (!shape.values.is_empty()).then(set)
}

fn measure(shape: &Shape) -> &'static str {
    match shape.kind {
        Kind::Integer | Kind::Long | Kind::Double => "value",
        _ => "length",
    }
}

fn exceeds(shape: &Shape, value: &Value, max: i64) -> bool {
    match (size(shape, value), value.as_i64(), value.as_f64()) {
        (Some(size), ..) => size > max,
        (None, Some(number), _) => number > max,
        (None, None, Some(number)) => number > max as f64,
        _ => false,
    }
}

fn falls_short(shape: &Shape, value: &Value, min: i64) -> bool {
    match (size(shape, value), value.as_i64(), value.as_f64()) {
        (Some(size), ..) => size < min,
        (None, Some(number), _) => number < min,
        (None, None, Some(number)) => number < min as f64,
        _ => false,
    }
}

/// Characters, bytes, elements or entries; nothing for numbers.
fn size(shape: &Shape, value: &Value) -> Option<i64> {
    let size = match value {
        Value::String(text) if matches!(shape.kind, Kind::Blob) => blob_bytes(text)?,
        Value::String(text) => text.chars().count(),
        Value::Array(elements) => elements.len(),
        Value::Object(entries) => entries.len(),
        _ => return None,
    };
    Some(i64::try_from(size).unwrap_or(i64::MAX))
}

/// How many bytes a base64 text stands for; nothing if it is none.
fn blob_bytes(text: &str) -> Option<usize> {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    let sound = text.len().is_multiple_of(4)
        && padding <= 2
        && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
    sound.then(|| text.len() / 4 * 3 - padding)
}

fn check_scalar_type(shape: &Shape, value: &Value) -> Result<(), Error> {
    let (fits, wanted) = match shape.kind {
        Kind::String => (value.is_string(), "a String"),
        Kind::Blob => (value.as_str().and_then(blob_bytes).is_some(), "a Blob"),
        Kind::Boolean => (value.is_boolean(), "a Boolean"),
        Kind::Integer => (value.as_i64().is_some_and(|n| i32::try_from(n).is_ok()), "an Integer"),
        Kind::Long => (value.is_i64(), "a Long"),
        Kind::Double => (value.is_number(), "a Double"),
        Kind::Timestamp => (value.is_number(), "milliseconds since epoch"),
        Kind::List(_) => (false, "a list"),
        Kind::Structure(_) | Kind::Map(..) => (false, "a structure"),
    };
    if fits { Ok(()) } else { Err(Error::Serialization(mismatch(shape, value, wanted))) }
}

fn mismatch(shape: &Shape, value: &Value, wanted: &str) -> String {
    let token = match value {
        Value::Object(_) => return "Start of structure or map found where not expected.".to_owned(),
        Value::Array(_) => return "Start of list found where not expected".to_owned(),
        _ if matches!(shape.kind, Kind::List(_)) => return "Expected list or null".to_owned(),
        _ if !shape.is_scalar() => return "Unexpected field type".to_owned(),
        Value::Null => "VALUE_NULL",
        Value::Bool(true) => "TRUE_VALUE",
        Value::Bool(false) => "FALSE_VALUE",
        Value::Number(_) => "NUMBER_VALUE",
        Value::String(_) => "STRING_VALUE",
    };
    format!("{token} can not be converted to {wanted}")
}

/// The value as violations quote it, or nothing where it may not be seen. Structures inside collections
/// are not quoted either: they may hold what is secret without being marked so.
fn quote(shape: &Shape, value: &Value) -> Option<String> {
    let mut text = String::new();
    write_quoted(shape, value, &mut text)?;
    if let Some((end, _)) = text.char_indices().nth(QUOTE_CHARS_MAX) {
        text.truncate(end);
        text.push_str("...");
    }
    Some(text)
}

fn write_quoted(shape: &Shape, value: &Value, out: &mut String) -> Option<()> {
    match (&shape.kind, value) {
        _ if shape.sensitive => return None,
        (Kind::List(element), Value::Array(elements)) => {
            out.push('[');
            for (i, value) in elements.iter().enumerate() {
                out.push_str(if i > 0 { ", " } else { "" });
                write_quoted(element, value, out)?;
            }
            out.push(']');
        }
        (Kind::Map(_, entry), Value::Object(entries)) => {
            out.push('{');
            for (i, (name, value)) in entries.iter().enumerate() {
                let _ = write!(out, "{}{name}=", if i > 0 { ", " } else { "" });
                write_quoted(entry, value, out)?;
            }
            out.push('}');
        }
        (Kind::Structure(_), _) => return None,
        (_, Value::String(text)) => out.push_str(text),
        (_, other) => {
            let _ = write!(out, "{other}");
        }
    }
    Some(())
}

//! Columns for events whose fields blanks separate: `[ip, user, ..., status = 4*, bytes > 1000]`.
//!
//! What stands in double quotes or in brackets is one field. Without `...` an event must have as many fields as the
//! pattern has columns. A column's conditions are about itself.

use super::Parsed;
use super::comparison::{Comparison, Scalar};
use super::expression::Expression;
use super::scan::Scanner;

#[derive(Debug, Clone)]
pub(crate) struct Columns {
    columns: Vec<Column>,
    /// How many columns stand before `...`, if it is there.
    ellipsis: Option<usize>,
}

/// What is asked of a field, if anything is.
type Column = Option<Expression<Comparison>>;

impl Columns {
    pub(super) fn parse(scanner: &mut Scanner<'_>) -> Parsed<Columns> {
        scanner.expect("[")?;
        let mut parsed = Columns { columns: Vec::new(), ellipsis: None };
        if scanner.take("]") {
            return Ok(parsed);
        }
        loop {
            if !scanner.take("...") {
                parsed.columns.push(column(scanner)?);
            } else if parsed.ellipsis.replace(parsed.columns.len()).is_some() {
                return Err("`...` can be there once".to_owned());
            }
            if !scanner.take(",") {
                scanner.expect("]")?;
                return Ok(parsed);
            }
        }
    }

    pub(super) fn match_text(&self, message: &[u8]) -> bool {
        let text = String::from_utf8_lossy(message);
        let fields = fields(&text);
        let Some(more) = fields.len().checked_sub(self.columns.len()) else { return false };
        if more > 0 && self.ellipsis.is_none() {
            return false;
        }
        let before = self.ellipsis.unwrap_or(self.columns.len());
        let (first, last) = self.columns.split_at(before);
        let fit = |columns: &[Column], fields: &[&str]| columns.iter().zip(fields).all(|(c, f)| fits(c, f));
        fit(first, &fields) && fit(last, &fields[before + more..])
    }
}

/// A name alone, or conditions that each begin with it.
fn column(scanner: &mut Scanner<'_>) -> Parsed<Column> {
    if scanner.look_ahead(|ahead| !name(ahead).is_empty() && matches!(ahead.next_char(), Some(',' | ']'))) {
        scanner.skip_blanks();
        name(scanner);
        return Ok(None);
    }
    let mut own = None;
    let conditions = Expression::parse(scanner, &mut |scanner| {
        let name = name(scanner);
        if name.is_empty() {
            return Err(scanner.expected("a column's name"));
        }
        if *own.get_or_insert(name.to_owned()) != name {
            return Err(scanner.expected("conditions of one column"));
        }
        Comparison::parse(scanner)?.ok_or_else(|| scanner.expected("a comparison"))
    })?;
    Ok(Some(conditions))
}

fn name<'a>(scanner: &mut Scanner<'a>) -> &'a str {
    scanner.skip_blanks();
    scanner.take_while(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-'))
}

fn fits(column: &Column, field: &str) -> bool {
    let value = Scalar { text: field, number: field.parse().ok() };
    column.as_ref().is_none_or(|conditions| conditions.holds(&|comparison| comparison.holds(value)))
}

fn fields(text: &str) -> Vec<&str> {
    let mut fields = Vec::new();
    let mut rest = text.trim();
    while let Some(first) = rest.chars().next() {
        let closing = match first {
            '"' => Some('"'),
            '[' => Some(']'),
            _ => None,
        };
        let enclosed = closing.and_then(|closing| rest[1..].split_once(closing));
        let (field, after) = match enclosed {
            Some(parts) => parts,
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        fields.push(field);
        rest = after.trim_start();
    }
    fields
}

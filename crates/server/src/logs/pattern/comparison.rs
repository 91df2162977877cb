//! One value of an event against one of a pattern.

use regex::bytes::Regex;

use super::Parsed;
use super::scan::Scanner;

#[derive(Debug, Clone)]
pub(super) struct Comparison {
    operator: Operator,
    operand: Operand,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Longer ones first: none of them hides another.
const OPERATORS: [(&str, Operator); 6] = [
    ("!=", Operator::NotEqual),
    ("<=", Operator::LessOrEqual),
    (">=", Operator::GreaterOrEqual),
    ("=", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::Greater),
];

#[derive(Debug, Clone)]
enum Operand {
    Number {
        number: f64,
        text: String,
    },
    /// `*` stands for anything.
    Text(String),
    Regex(Regex),
}

/// A value of an event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scalar<'a> {
    pub(super) text: &'a str,
    pub(super) number: Option<f64>,
}

impl Comparison {
    /// The comparison that comes next; `None` if no operator does.
    pub(super) fn parse(scanner: &mut Scanner<'_>) -> Parsed<Option<Comparison>> {
        let Some((_, operator)) = OPERATORS.iter().find(|(text, _)| scanner.take(text)) else {
            return Ok(None);
        };
        let operand = Operand::parse(scanner)?;
        let orders = !matches!(operator, Operator::Equal | Operator::NotEqual);
        if orders && !matches!(operand, Operand::Number { .. }) {
            return Err("only numbers can be greater or less".to_owned());
        }
        Ok(Some(Comparison { operator: *operator, operand }))
    }

    pub(super) fn holds(&self, value: Scalar<'_>) -> bool {
        match self.operator {
            Operator::Equal => self.operand.equals(value),
            Operator::NotEqual => !self.operand.equals(value),
            Operator::Less => self.ordered(value, |value, operand| value < operand),
            Operator::LessOrEqual => self.ordered(value, |value, operand| value <= operand),
            Operator::Greater => self.ordered(value, |value, operand| value > operand),
            Operator::GreaterOrEqual => self.ordered(value, |value, operand| value >= operand),
        }
    }

    fn ordered(&self, value: Scalar<'_>, holds: fn(f64, f64) -> bool) -> bool {
        match (&self.operand, value.number) {
            (Operand::Number { number, .. }, Some(value)) => holds(value, *number),
            _ => false,
        }
    }
}

impl Operand {
    fn parse(scanner: &mut Scanner<'_>) -> Parsed<Operand> {
        match scanner.next_char() {
            Some('"') => return scanner.quoted('"').map(Operand::Text),
            Some('%') => {
                if let Some(regex) = scanner.regex()? {
                    return Ok(Operand::Regex(regex));
                }
            }
            _ => {}
        }
        let text =
            scanner.take_while(|letter| !letter.is_whitespace() && !"()[]{}&|,=<>!\"".contains(letter));
        if text.is_empty() {
            return Err(scanner.expected("a value"));
        }
        let text = text.to_owned();
        Ok(match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Operand::Number { number, text },
            _ => Operand::Text(text),
        })
    }

    fn equals(&self, value: Scalar<'_>) -> bool {
        match self {
            Operand::Number { number, text } => value.number == Some(*number) || value.text == text,
            Operand::Text(pattern) => matches_stars(pattern, value.text),
            Operand::Regex(regex) => regex.is_match(value.text.as_bytes()),
        }
    }
}

/// Whether `text` is what `pattern` says, where each `*` stands for anything. Each part between two stars is taken
/// where it comes first, which leaves the most for the parts that follow.
fn matches_stars(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, expect) in [
            ("", "", true),
            ("*", "", true),
            ("a*", "abc", true),
            ("*c", "abc", true),
            ("a*c", "ac", true),
            ("a*a", "a", false),
            ("a*b*c", "a-b-b-c", true),
            ("*b*", "abc", true),
            ("*x*", "abc", false),
            ("a**c", "abc", true),
            ("ab", "abc", false),
        ] {
            assert_eq!(matches_stars(pattern, text), expect, "{pattern} on {text}");
        }
    }
}

//! Selectors for events that are JSON: `{ $.status >= 500 && $.path[0] = "api*" }`.
//!
//! Decided where CloudWatch Logs does not say: a comparison needs a value to compare, so it never holds of what
//! is missing, or of an object or array; `NOT EXISTS` is there for that. With `*` in a selector one value that fits is enough.

use serde_json::Value;

use super::Parsed;
use super::comparison::{Comparison, Scalar};
use super::expression::Expression;
use super::scan::Scanner;

#[derive(Debug, Clone)]
pub(crate) struct Selectors {
    expression: Expression<Condition>,
}

#[derive(Debug, Clone)]
struct Condition {
    selector: Vec<Member>,
    test: Test,
}

/// What a selector goes down by.
#[derive(Debug, Clone)]
enum Member {
    Key(String),
    AnyKey,
    Index(usize),
    AnyIndex,
}

#[derive(Debug, Clone)]
enum Test {
    Compares(Comparison),
    /// To `null`, `true` or `false`.
    Is(Value),
    Exists(bool),
}

impl Selectors {
    pub(super) fn parse(scanner: &mut Scanner<'_>) -> Parsed<Selectors> {
        scanner.expect("{")?;
        let expression = Expression::parse(scanner, &mut Condition::parse)?;
        scanner.expect("}")?;
        Ok(Selectors { expression })
    }

    pub(super) fn match_text(&self, message: &[u8]) -> bool {
        // Most events are no JSON, and are known for it by their first character.
        let begins = message.iter().find(|byte| !byte.is_ascii_whitespace());
        if !matches!(begins, Some(b'{' | b'[')) {
            return false;
        }
        let Ok(event) = serde_json::from_slice::<Value>(message) else { return false };
        self.expression.holds(&|condition| condition.holds(&event))
    }
}

impl Condition {
    fn parse(scanner: &mut Scanner<'_>) -> Parsed<Condition> {
        Ok(Condition { selector: selector(scanner)?, test: Test::parse(scanner)? })
    }

    fn holds(&self, event: &Value) -> bool {
        match &self.test {
            Test::Exists(exists) => any(event, &self.selector, &|_| true) == *exists,
            Test::Is(value) => any(event, &self.selector, &|found| found == value),
            Test::Compares(comparison) => any(event, &self.selector, &|found| compares(comparison, found)),
        }
    }
}

impl Test {
    fn parse(scanner: &mut Scanner<'_>) -> Parsed<Test> {
        if let Some(comparison) = Comparison::parse(scanner)? {
            return Ok(Test::Compares(comparison));
        }
        if scanner.take_word("IS") {
            let values = [("NULL", Value::Null), ("TRUE", true.into()), ("FALSE", false.into())];
            let found = values.into_iter().find(|(word, _)| scanner.take_word(word));
            return found
                .map(|(_, value)| Test::Is(value))
                .ok_or_else(|| scanner.expected("NULL, TRUE or FALSE"));
        }
        let exists = !scanner.take_word("NOT");
        if scanner.take_word("EXISTS") {
            Ok(Test::Exists(exists))
        } else {
            Err(scanner.expected("a comparison"))
        }
    }
}

/// `$`, then members: `.key`, `.*`, `['key']`, `[0]`, `[*]`.
fn selector(scanner: &mut Scanner<'_>) -> Parsed<Vec<Member>> {
    scanner.expect("$")?;
    let mut members = Vec::new();
    loop {
        let dot = scanner.take_here(".");
        if scanner.take_here("[") {
            members.push(bracketed(scanner)?);
        } else if dot {
            members.push(key(scanner)?);
        } else {
            return Ok(members);
        }
    }
}

fn key(scanner: &mut Scanner<'_>) -> Parsed<Member> {
    if scanner.take_here("*") {
        return Ok(Member::AnyKey);
    }
    let key = scanner.take_while(|letter| letter.is_alphanumeric() || matches!(letter, '_' | '-'));
    if key.is_empty() { Err(scanner.expected("a key")) } else { Ok(Member::Key(key.to_owned())) }
}

fn bracketed(scanner: &mut Scanner<'_>) -> Parsed<Member> {
    let member = match scanner.next_char() {
        Some(quote @ ('\'' | '"')) => Member::Key(scanner.quoted(quote)?),
        Some('*') if scanner.take("*") => Member::AnyIndex,
        _ => {
            let digits = scanner.take_while(|letter| letter.is_ascii_digit());
            Member::Index(digits.parse().map_err(|_| scanner.expected("an index, `*` or a quoted key"))?)
        }
    };
    scanner.expect("]")?;
    Ok(member)
}

/// Whether what one of the selected values is passes the test.
fn any(value: &Value, selector: &[Member], test: &dyn Fn(&Value) -> bool) -> bool {
    let Some((member, rest)) = selector.split_first() else { return test(value) };
    let goes_on = |value: &Value| any(value, rest, test);
    match (member, value) {
        (Member::Key(key), Value::Object(members)) => members.get(key).is_some_and(goes_on),
        (Member::AnyKey, Value::Object(members)) => members.values().any(goes_on),
        (Member::Index(index), Value::Array(items)) => items.get(*index).is_some_and(goes_on),
        (Member::AnyIndex, Value::Array(items)) => items.iter().any(goes_on),
        _ => false,
    }
}

fn compares(comparison: &Comparison, value: &Value) -> bool {
    match value {
        Value::String(text) => comparison.holds(Scalar { text, number: None }),
        Value::Number(number) => {
            comparison.holds(Scalar { text: &number.to_string(), number: number.as_f64() })
        }
        Value::Bool(flag) => {
            comparison.holds(Scalar { text: if *flag { "true" } else { "false" }, number: None })
        }
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    }
}

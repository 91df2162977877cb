//! Lists in pages: each page says where the next begins, so that a page costs the same wherever it lies.

use super::sql::Value;
use crate::error::{Error, Result};

/// Rows per page at most, whatever the caller asks for.
const LIMIT: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Ascending,
    Descending,
}

/// One page of a list, and the token that asks for the next; without one there is nothing more.
/// Tokens stay good when what they were made from is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// From one row more than fits, with `token` for the last that does.
    pub(super) fn of(mut items: Vec<T>, limit: usize, token: impl FnOnce(&T) -> String) -> Page<T> {
        let more = items.len() > clamp(limit);
        items.truncate(clamp(limit));
        let next = items.last().filter(|_| more).map(token);
        Page { items, next }
    }

    pub(super) fn map<U>(self, each: impl FnMut(T) -> U) -> Page<U> {
        Page { items: self.items.into_iter().map(each).collect(), next: self.next }
    }
}

fn clamp(limit: usize) -> usize {
    limit.clamp(1, LIMIT)
}

/// A query for a page: `select` ends in its WHERE, to which the place and the order are added.
pub(super) struct Paged<'a> {
    pub(super) select: &'a str,
    pub(super) parameters: Vec<Value>,
    /// The columns that make the order; the last of them makes it total.
    pub(super) keys: &'a [&'a str],
    pub(super) order: Order,
    /// Values of `keys` in the last row of the page before.
    pub(super) after: Option<Vec<Value>>,
    pub(super) limit: usize,
}

impl Paged<'_> {
    /// The text and its parameters; asks for one row more than fits.
    pub(super) fn build(self) -> (String, Vec<Value>) {
        let (sign, direction) = match self.order {
            Order::Ascending => (">", "ASC"),
            Order::Descending => ("<", "DESC"),
        };
        let mut text = self.select.to_owned();
        let mut parameters = self.parameters;
        if let Some(after) = self.after {
            let numbers: Vec<String> =
                (1..=after.len()).map(|n| format!("${}", parameters.len() + n)).collect();
            text += &format!(" AND ({}) {sign} ({})", self.keys.join(", "), numbers.join(", "));
            parameters.extend(after);
        }
        let order: Vec<String> = self.keys.iter().map(|key| format!("{key} {direction}")).collect();
        parameters.push(Value::Integer(clamp(self.limit) as i64 + 1));
        text += &format!(" ORDER BY {} LIMIT ${}", order.join(", "), parameters.len());
        (text, parameters)
    }
}

/// Tokens are `<list>:<number>:<text>`: readable, and refused by any other list.
pub(super) fn token(list: &str, number: i64, text: &str) -> String {
    format!("{list}:{number}:{text}")
}

pub(super) fn parse_token(list: &str, token: &str) -> Result<(i64, String)> {
    let parse = || {
        let (number, text) = token.strip_prefix(list)?.strip_prefix(':')?.split_once(':')?;
        Some((number.parse().ok()?, text.to_owned()))
    };
    parse().ok_or_else(|| Error::InvalidToken(token.to_owned()))
}

/// The least text greater than every text that begins with `prefix`; `None` if there is none.
pub(super) fn after_prefix(prefix: &str) -> Option<String> {
    let mut bound = prefix.to_owned();
    while let Some(last) = bound.pop() {
        let next = match last {
            '\u{D7FF}' => Some('\u{E000}'),
            last => char::from_u32(last as u32 + 1),
        };
        if let Some(next) = next {
            bound.push(next);
            return Some(bound);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_after_a_prefix_is_the_least_text_beyond_it() {
        assert_eq!(after_prefix("ab").as_deref(), Some("ac"));
        assert_eq!(after_prefix("a\u{10FFFF}").as_deref(), Some("b"));
        assert_eq!(after_prefix("\u{D7FF}").as_deref(), Some("\u{E000}"));
        assert_eq!(after_prefix("\u{10FFFF}"), None);
        assert_eq!(after_prefix(""), None);
    }

    #[test]
    fn tokens_are_good_for_their_own_list_only() {
        let made = token("builds", -3, "a:b");
        assert_eq!(parse_token("builds", &made).unwrap(), (-3, "a:b".to_owned()));
        for wrong in ["", "builds", "builds:1", "builds:x:a", "names:1:a"] {
            assert!(matches!(parse_token("builds", wrong), Err(Error::InvalidToken(_))), "{wrong}");
        }
    }

    #[test]
    fn a_page_says_so_when_there_is_more() {
        let page = Page::of(vec![1, 2, 3], 2, |last| last.to_string());
        assert_eq!(page, Page { items: vec![1, 2], next: Some("2".to_owned()) });
        assert_eq!(Page::of(vec![1, 2], 2, |last| last.to_string()).next, None);
    }
}

//! Row ids in text: `BS-077`, and ranges such as `BS-130..143`.
//!
//! Here: finding them. Whether such a row exists is the sheet's to say.

/// What the ids begin with, and what the rows are about; in the page's order.
pub(super) const FAMILIES: [(&str, &str); 6] = [
    ("BS", "Buildspec"),
    ("LC", "Life of a build"),
    ("EN", "Environment"),
    ("SA", "Sources, artifacts, caches, logs"),
    ("AP", "API"),
    ("IN", "Integrations"),
];

/// A row or a range of them, both ends included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) first: String,
    /// The same as `first` for a single row.
    pub(super) last: String,
}

/// The rows that a line names.
pub(super) fn named(line: &str) -> Vec<Named> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < line.len() {
        match line.get(at..).and_then(|rest| first_named(&line[..at], rest)) {
            Some((named, length)) => {
                found.push(named);
                at += length;
            }
            None => at += 1,
        }
    }
    found
}

/// The row or range that `rest` begins with, and its length.
fn first_named(before: &str, rest: &str) -> Option<(Named, usize)> {
    if before.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '-' || c == '_') {
        return None;
    }
    let first = id(rest)?;
    let single = (Named { first: first.into(), last: first.into() }, first.len());
    let Some(after) = rest[first.len()..].strip_prefix("..") else { return Some(single) };
    // The second end may leave out what it shares with the first.
    let (last, length) = match (id(after), number(after)) {
        (Some(last), _) => (last.to_owned(), last.len()),
        (None, Some(number)) => (format!("{}{number}", &first[..3]), number.len()),
        (None, None) => return Some(single),
    };
    Some((Named { first: first.into(), last }, first.len() + 2 + length))
}

fn id(text: &str) -> Option<&str> {
    let family = text.get(..2)?;
    let known = FAMILIES.iter().any(|(name, _)| *name == family);
    let number = number(text.get(2..)?.strip_prefix('-')?)?;
    known.then(|| &text[..3 + number.len()])
}

/// Three digits and perhaps a small letter, and nothing more that could be part of a word.
fn number(text: &str) -> Option<&str> {
    let digits = text.get(..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let mut rest = text[3..].chars();
    let mut next = rest.next();
    let mut length = digits.len();
    if next.is_some_and(|c| c.is_ascii_lowercase()) {
        length += 1;
        next = rest.next();
    }
    (!next.is_some_and(char::is_alphanumeric)).then(|| &text[..length])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expect: &[(&str, &str)]) {
        let found: Vec<_> = named(line).into_iter().map(|named| (named.first, named.last)).collect();
        let found: Vec<_> = found.iter().map(|(first, last)| (first.as_str(), last.as_str())).collect();
        assert_eq!(found, expect, "{line}");
    }

    #[test]
    fn rows_and_ranges_are_found_in_text() {
        check("// BS-077", &[("BS-077", "BS-077")]);
        check("(BS-025, LC-116)", &[("BS-025", "BS-025"), ("LC-116", "LC-116")]);
        check("BS-130..143, BS-131 too.", &[("BS-130", "BS-143"), ("BS-131", "BS-131")]);
        check("SA-070..SA-080", &[("SA-070", "SA-080")]);
        check("LC-084a; LC-084b.", &[("LC-084a", "LC-084a"), ("LC-084b", "LC-084b")]);
        check("EN-040..", &[("EN-040", "EN-040")]);
        check("é BS-001 é", &[("BS-001", "BS-001")]);
    }

    #[test]
    fn what_only_looks_like_a_row_is_none() {
        for line in ["UTF-8", "XBS-077", "BS-77", "BS-0777", "bs-077", "BS-077ab", "ZZ-001", "A-BS-001"] {
            check(line, &[]);
        }
    }
}

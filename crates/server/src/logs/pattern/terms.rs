//! Terms: `one two` (all of them), `"a phrase"`, `-without`, `?either ?or`, and `%a.b%` in the place of any.

use regex::bytes::Regex;

use super::Parsed;
use super::scan::Scanner;

#[derive(Debug, Clone, Default)]
pub(crate) struct Terms {
    required: Vec<Term>,
    optional: Vec<Term>,
    excluded: Vec<Term>,
}

#[derive(Debug, Clone)]
enum Term {
    // Boxed: it is ten times as large as the other.
    Text(Box<memchr::memmem::Finder<'static>>),
    Regex(Regex),
}

impl Terms {
    pub(super) fn parse(scanner: &mut Scanner<'_>) -> Parsed<Terms> {
        let mut terms = Terms::default();
        while scanner.next_char().is_some() {
            let kind = match () {
                () if scanner.take_here("-") => &mut terms.excluded,
                () if scanner.take_here("?") => &mut terms.optional,
                () => &mut terms.required,
            };
            kind.push(Term::parse(scanner)?);
        }
        Ok(terms)
    }

    pub(super) fn match_text(&self, message: &[u8]) -> bool {
        let has = |term: &Term| term.is_in(message);
        if self.excluded.iter().any(has) || !self.required.iter().all(has) {
            return false;
        }
        // COMPAT: SA-119 CloudWatch Logs ignores `?` terms beside terms that must be there.
        !self.required.is_empty() || self.optional.is_empty() || self.optional.iter().any(has)
    }
}

impl Term {
    fn parse(scanner: &mut Scanner<'_>) -> Parsed<Term> {
        if let Some(regex) = scanner.regex()? {
            return Ok(Term::Regex(regex));
        }
        let quote = scanner.peek() == Some('"');
        let text = if quote {
            scanner.quoted('"')?
        } else {
            scanner.take_while(|letter| !letter.is_whitespace()).to_owned()
        };
        if text.is_empty() && !quote {
            return Err(scanner.expected("a term"));
        }
        Ok(Term::Text(Box::new(memchr::memmem::Finder::new(text.as_bytes()).into_owned())))
    }

    fn is_in(&self, message: &[u8]) -> bool {
        match self {
            Term::Text(text) => text.find(message).is_some(),
            Term::Regex(regex) => regex.is_match(message),
        }
    }
}

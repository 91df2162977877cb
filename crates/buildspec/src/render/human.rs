//! For people: the finding, the offending text underlined, the mend.

use std::fmt::Write;

use crate::check::Checked;
use crate::diagnostic::{Diagnostic, Severity, Span};
use crate::source::Source;

/// Characters of a line that are shown; of longer ones, those around the finding.
const SHOWN_CHARS: usize = 160;
/// Of these, so many before the finding.
const BEFORE_CHARS: usize = 60;

const RED: &str = "\u{1b}[1;31m";
const YELLOW: &str = "\u{1b}[1;33m";
const BLUE: &str = "\u{1b}[1;34m";
const BOLD: &str = "\u{1b}[1m";
const PLAIN: &str = "\u{1b}[0m";

/// One paragraph for each finding in the file of that name; empty if there is none.
pub fn human(file: &str, checked: &Checked, colours: bool) -> String {
    let page = Page {
        source: Source::new(&checked.text),
        secrets: secrets(checked),
        colours,
        file: &printable(file),
    };
    checked.findings.iter().map(|finding| page.paragraph(finding)).collect()
}

/// The places whose text is not shown.
fn secrets(checked: &Checked) -> Vec<Span> {
    checked.findings.iter().filter(|finding| finding.code.hides_text()).map(|finding| finding.span).collect()
}

struct Page<'a> {
    source: Source<'a>,
    secrets: Vec<Span>,
    colours: bool,
    file: &'a str,
}

impl Page<'_> {
    fn paragraph(&self, finding: &Diagnostic) -> String {
        let Diagnostic { code, message, span, hint } = finding;
        let (line, column) = (span.start.line, span.start.column);
        let colour = match finding.severity() {
            Severity::Error => RED,
            Severity::Warning => YELLOW,
        };
        let margin = " ".repeat(line.to_string().len());
        let mut text = self.painted(colour, &format!("{}[{}]", finding.severity(), code.id()));
        let _ = writeln!(text, "{}", self.painted(BOLD, &format!(" {code}: {}", printable(message))));
        let _ = writeln!(text, "{margin}{} {}:{line}:{column}", self.painted(BLUE, "-->"), self.file);
        if let Some(excerpt) = self.excerpt(*span) {
            let bar = self.painted(BLUE, &format!("{margin} |"));
            let number = self.painted(BLUE, &format!("{line} |"));
            let marks = self.painted(colour, &"^".repeat(excerpt.marked));
            let _ = writeln!(
                text,
                "{bar}\n{number} {}\n{bar} {}{marks}",
                excerpt.text,
                " ".repeat(excerpt.before)
            );
        }
        if let Some(hint) = hint {
            let _ = writeln!(text, "{margin} {} {}", self.painted(BLUE, "="), printable(hint));
        }
        text.push('\n');
        text
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        if self.colours { format!("{colour}{text}{PLAIN}") } else { text.to_owned() }
    }

    /// The span's first line, or what of it is around the span; `None` where there is no text.
    fn excerpt(&self, span: Span) -> Option<Excerpt> {
        let line: Vec<char> = self.source.line(span.start.line).chars().collect();
        if line.is_empty() {
            return None;
        }
        let start = (span.start.column - 1).min(line.len());
        let end =
            if span.end.line > span.start.line { line.len() } else { (span.end.column - 1).min(line.len()) };
        let from = if line.len() <= SHOWN_CHARS { 0 } else { start.saturating_sub(BEFORE_CHARS) };
        let to = line.len().min(from + SHOWN_CHARS);
        let shown = |at: usize| if self.is_secret(span.start.line, at) { '*' } else { visible(line[at]) };
        let mut text: String = (from..to).map(shown).collect();
        let cut = from > 0;
        if cut {
            text.insert(0, '…');
        }
        if to < line.len() {
            text.push('…');
        }
        let before = start - from + usize::from(cut);
        Some(Excerpt { text, before, marked: end.min(to).saturating_sub(start).max(1) })
    }

    /// Whether the character with index `at` of the line is part of a secret.
    fn is_secret(&self, line: usize, at: usize) -> bool {
        let place = crate::diagnostic::Position { line, column: at + 1 };
        self.secrets.iter().any(|span| span.start <= place && place < span.end)
    }
}

struct Excerpt {
    text: String,
    /// Characters before the mark.
    before: usize,
    /// Characters to mark, at least one.
    marked: usize,
}

/// One character in one column, and none that steers a terminal.
fn visible(character: char) -> char {
    match character {
        '\t' => ' ',
        // Marks of writing direction make text look like other text.
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        other if other.is_control() => '\u{fffd}',
        other => other,
    }
}

fn printable(text: &str) -> String {
    text.chars().map(visible).collect()
}

//! A text by lines, so that places in it can be found, shown and measured. Positions are the YAML reader's: lines end with a line
//! feed, a carriage return or both.

use crate::diagnostic::{Position, Span};

pub(crate) struct Source<'t> {
    text: &'t str,
    /// Where each line begins, in bytes.
    starts: Vec<usize>,
}

impl<'t> Source<'t> {
    pub(crate) fn new(text: &'t str) -> Source<'t> {
        let bytes = text.as_bytes();
        let ends_line = |&(at, byte): &(usize, &u8)| {
            *byte == b'\n' || (*byte == b'\r' && bytes.get(at + 1) != Some(&b'\n'))
        };
        let after_ends = bytes.iter().enumerate().filter(ends_line).map(|(at, _)| at + 1);
        Source { text, starts: std::iter::once(0).chain(after_ends).collect() }
    }

    /// The text of a line without its end; empty for lines that are not there.
    pub(crate) fn line(&self, line: usize) -> &'t str {
        let Some(&start) = line.checked_sub(1).and_then(|index| self.starts.get(index)) else { return "" };
        let end = self.starts.get(line).copied().unwrap_or(self.text.len());
        self.text[start..end].trim_end_matches(['\n', '\r'])
    }

    /// Where `part` of the scalar `text` stands, which is written at `span`; `span` itself if escapes or folding hide it.
    pub(crate) fn find(&self, span: Span, text: &str, part: &str) -> Span {
        let (from, to) = (self.offset(span.start), self.offset(span.end));
        let (Some(written), Some(before)) = (self.text.get(from..to.max(from)), offset_in(text, part)) else {
            return span;
        };
        let alike = if part.is_empty() { 0 } else { text[..before].matches(part).count() };
        match written
            .match_indices(part)
            .nth(alike)
            .filter(|_| !part.is_empty() && !part.contains(['\n', '\r']))
        {
            Some((at, _)) => Span {
                start: self.position(span.start.line, from + at),
                end: self.position(span.start.line, from + at + part.len()),
            },
            None => span,
        }
    }

    /// In bytes; the end of its line or of the text for places beyond.
    fn offset(&self, position: Position) -> usize {
        let Some(&start) = self.starts.get(position.line.saturating_sub(1)) else { return self.text.len() };
        let line = self.line(position.line);
        let within =
            line.char_indices().nth(position.column.saturating_sub(1)).map_or(line.len(), |(at, _)| at);
        start + within
    }

    /// The place of a byte on the line `from` or a later one.
    fn position(&self, from: usize, offset: usize) -> Position {
        let later = self.starts[from.min(self.starts.len())..].partition_point(|&start| start <= offset);
        let line = from + later;
        let start = self.starts.get(line - 1).copied().unwrap_or_default();
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count());
        Position { line, column: column + 1 }
    }
}

/// Where `part`, a slice of `text`, begins in it, in bytes.
pub(crate) fn offset_in(text: &str, part: &str) -> Option<usize> {
    let offset = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    (offset + part.len() <= text.len()).then_some(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: (usize, usize), end: (usize, usize)) -> Span {
        let position = |(line, column)| Position { line, column };
        Span { start: position(start), end: position(end) }
    }

    #[test]
    fn lines_end_in_every_known_way() {
        let source = Source::new("a\nb\r\nc\rd");
        assert_eq!([1, 2, 3, 4, 5, 0].map(|line| source.line(line)), ["a", "b", "c", "d", "", ""]);
    }

    #[test]
    fn a_part_is_found_where_it_is_written() {
        let source = Source::new("x: é source\ny: |\n  a\n  source b; a\n");
        let (first, second) = ("é source", "a\nsource b; a\n");
        assert_eq!(source.find(span((1, 4), (1, 12)), first, &first[3..]), span((1, 6), (1, 12)));
        assert_eq!(source.find(span((2, 4), (5, 1)), second, &second[2..8]), span((4, 3), (4, 9)));
        assert_eq!(source.find(span((2, 4), (5, 1)), second, &second[12..13]), span((4, 13), (4, 14)));
        let all = span((1, 4), (1, 12));
        assert_eq!(source.find(all, "not this", "this"), all);
        assert_eq!(source.find(all, first, &first[..0]), all);
        assert_eq!(source.find(span((9, 9), (9, 9)), first, first), span((9, 9), (9, 9)));
    }
}

//! The parser's errors in the words of the YAML library CodeBuild uses, so that known messages stay known
//! (BS-007). Its line numbers differ by one at times; ours are those of the text.

use granit_parser::{ErrorKind, Marker, ScanError};

use crate::diagnostic::{Code, Error, Position, Span};
use crate::limits;

pub(super) fn span(span: &granit_parser::Span) -> Span {
    Span { start: position(&span.start), end: position(&span.end) }
}

fn position(marker: &Marker) -> Position {
    Position { line: marker.line().max(1), column: marker.col() + 1 }
}

pub(super) fn too_deep(at: Span) -> Error {
    at.finding(Code::Limit, format!("exceeded max depth of {} at line {}", limits::DEPTH, at.line()))
}

pub(super) fn syntax(error: &ScanError) -> Error {
    let at = Span::from(position(error.marker()));
    let code = match error.kind() {
        ErrorKind::RecursionLimitExceeded => return too_deep(at),
        ErrorKind::MissingAnchorOrAliasName => Code::UnquotedGlob,
        _ => Code::Syntax,
    };
    let finding = at.finding(code, format!("{} at line {}", words(error.kind()), at.line()));
    match advice(error.kind()) {
        Some(advice) => finding.hint(advice),
        None => finding,
    }
}

/// COMPAT: BS-007 the library's texts, as seen in public build logs.
fn words(kind: &ErrorKind) -> String {
    let words = match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::UnexpectedCharacter { .. } => "found character that cannot start any token",
        ErrorKind::ExpectedFlowSequenceSeparator
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnclosedFlowCollection { open: '[' } => "did not find expected ',' or ']'",
        ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofImplicitFlowMapping
        | ErrorKind::UnclosedFlowCollection { open: '{' } => "did not find expected ',' or '}'",
        ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::InvalidTrailingSingleQuotedScalar
        | ErrorKind::InvalidTrailingDoubleQuotedScalar => "did not find expected key",
        ErrorKind::ExpectedBlockSequenceEntry => "did not find expected '-' indicator",
        ErrorKind::ExpectedNodeContent => "did not find expected node content",
        ErrorKind::UnclosedQuotedScalar => "found unexpected end of stream",
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => "could not find expected ':'",
        ErrorKind::UnknownQuotedScalarEscape => "found unknown escape character",
        ErrorKind::MissingAnchorOrAliasName => "did not find expected alphabetic or numeric character",
        other => return other.to_string(),
    };
    words.to_owned()
}

fn advice(kind: &ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation => {
            "Indent with spaces: YAML does not take tabs."
        }
        ErrorKind::MappingValueNotAllowed => {
            "Quote the text if it holds \": \", or check the indentation of this line and the one before."
        }
        ErrorKind::UnexpectedCharacter { .. } => "Quote texts that begin with @, ` or %.",
        ErrorKind::MissingAnchorOrAliasName => "Quote texts that begin with * or &, such as '**/*'.",
        ErrorKind::UnclosedQuotedScalar => "A quote opened here is never closed.",
        ErrorKind::ExpectedFlowSequenceSeparator | ErrorKind::UnclosedFlowCollection { open: '[' } => {
            "Quote commands that begin with [, or use a block scalar (- |)."
        }
        ErrorKind::ExpectedFlowMappingSeparator | ErrorKind::UnclosedFlowCollection { open: '{' } => {
            "Quote commands that begin with {, or use a block scalar (- |)."
        }
        ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar => {
            "Quote the whole text or use a block scalar (|): YAML ends it at the closing quote."
        }
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::ExpectedBlockSequenceEntry => {
            "Check the indentation of this line, and quote texts that begin with [ or {."
        }
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            "Check that this line is a \"key: value\" or begins with \"- \"."
        }
        ErrorKind::UnknownQuotedScalarEscape => {
            "In double quotes \\ begins an escape: write \\\\, or use single quotes."
        }
        _ => return None,
    })
}

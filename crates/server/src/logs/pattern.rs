//! Filter patterns: which events FilterLogEvents and StartLiveTail let through.
//!
//! Three languages, told apart by their first character: `terms` for any text, `{ … }` selectors (`json`) for events that are
//! JSON, and `[ … ]` (`columns`) for events whose fields are separated by blanks. The latter two share their
//! comparisons (`comparison`) and how those are combined (`expression`). Everything is case-sensitive.

mod columns;
mod comparison;
mod expression;
mod json;
mod scan;
mod terms;

use api::ServiceError;

use columns::Columns;
use json::Selectors;
use scan::Scanner;
use terms::Terms;

/// A parsed pattern. The empty one lets everything through.
#[derive(Debug, Clone)]
pub(super) enum Pattern {
    Terms(Terms),
    Json(Selectors),
    Columns(Columns),
}

/// Why a pattern is none: what was expected, and where.
type Parsed<T> = Result<T, String>;

impl Pattern {
    /// # Errors
    /// `InvalidParameterException` that says what is wrong with the pattern, and at which character.
    pub(super) fn parse(text: &str) -> Result<Pattern, ServiceError> {
        let mut scanner = Scanner::new(text);
        let parsed = match scanner.next_char() {
            Some('{') => Selectors::parse(&mut scanner).map(Pattern::Json),
            Some('[') => Columns::parse(&mut scanner).map(Pattern::Columns),
            _ => Terms::parse(&mut scanner).map(Pattern::Terms),
        };
        let whole = parsed.and_then(|pattern| scanner.end().map(|()| pattern));
        whole.map_err(|reason| ServiceError::invalid_parameter(format!("Invalid filter pattern: {reason}")))
    }

    pub(super) fn matches(&self, message: &[u8]) -> bool {
        match self {
            Pattern::Terms(terms) => terms.match_text(message),
            Pattern::Json(selectors) => selectors.match_text(message),
            Pattern::Columns(columns) => columns.match_text(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cases: &[(&str, &str, bool)]) {
        for (pattern, message, expect) in cases {
            let parsed =
                Pattern::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {}", error.message));
            assert_eq!(parsed.matches(message.as_bytes()), *expect, "{pattern} on {message}");
        }
    }

    #[test]
    fn terms_let_events_through() {
        // SA-119
        check(&[
            ("", "anything", true),
            ("  ", "anything", true),
            ("ERROR", "[ERROR] no", true),
            ("ERROR", "[error] no", false),
            ("ERROR no", "[ERROR] no", true),
            ("ERROR yes", "[ERROR] no", false),
            ("\"a b\"", "x a b y", true),
            ("\"a b\"", "x a  b y", false),
            ("\"say \\\"hi\\\"\"", "say \"hi\"", true),
            ("ERROR -Exit", "ERROR Exit", false),
            ("ERROR -Exit", "ERROR", true),
            ("-\"a b\"", "a b", false),
            ("?A ?B", "B", true),
            ("?A ?B", "C", false),
            ("?A C", "C", true),
            ("ü", "grün", true),
            ("-ü ?ö", "grün", false),
            ("100% sure", "100% sure", true),
        ]);
    }

    #[test]
    fn regular_expressions_stand_between_percent_signs() {
        check(&[
            ("%ERR[0-9]+%", "x ERR42 y", true),
            ("%ERR[0-9]+%", "x ERR y", false),
            ("-%^DEBUG%", "DEBUG x", false),
            ("-%^DEBUG%", "no DEBUG", true),
            ("?%a.c% ?none", "abc", true),
            (r"%\d{3}\s%", "is 404 ", true),
            ("{ $.ip = %^10[.]0% }", r#"{"ip":"10.0.3.4"}"#, true),
            ("{ $.ip = %^10[.]0% }", r#"{"ip":"10.1.3.4"}"#, false),
            ("[ip = %^10[.]0%, ...]", "10.0.0.1 - x", true),
        ]);
    }

    #[test]
    fn selectors_ask_for_values_of_json_events() {
        let event = r#"{"eventType":"UpdateTrail","ip":"123.123.1.9","n":200,"half":0.5,"flag":true,"none":null,
            "list":["value","other",7],"objects":[{"name":"a","id":1},{"name":"b","id":2}],"cluster.name":"c1",
            "o":{"in":{"deep":"x y"}},"a-b_c":"d"}"#;
        let cases = [
            (r#"{ $.eventType = "UpdateTrail" }"#, true),
            (r#"{$.eventType="UpdateTrail"}"#, true),
            ("{ $.eventType = UpdateTrail }", true),
            (r#"{ $.eventType = "update*" }"#, false),
            (r#"{ $.eventType = "Update*" }"#, true),
            (r#"{ $.eventType = "*Trail" }"#, true),
            (r#"{ $.eventType = "*ate*" }"#, true),
            (r#"{ $.eventType != "UpdateTrail" }"#, false),
            ("{ $.ip != 123.123.* }", false),
            ("{ $.ip = 123.123.* }", true),
            ("{ $.n = 200 }", true),
            ("{ $.n = 2e2 }", true),
            ("{ $.n != 200 }", false),
            ("{ $.n > 199.5 }", true),
            ("{ $.n >= 200 }", true),
            ("{ $.n < 200 }", false),
            ("{ $.n <= 200 }", true),
            ("{ $.n = 2* }", true),
            ("{ $.half < 1 }", true),
            ("{ $.eventType > 5 }", false),
            ("{ $.flag IS TRUE }", true),
            ("{ $.flag is false }", false),
            ("{ $.none IS NULL }", true),
            ("{ $.n IS NULL }", false),
            ("{ $.missing IS NULL }", false),
            ("{ $.missing NOT EXISTS }", true),
            ("{ $.none NOT EXISTS }", false),
            ("{ $.none EXISTS }", true),
            ("{ $.missing = 1 }", false),
            ("{ $.missing != 1 }", false),
            (r#"{ $.list[0] = "value" }"#, true),
            (r#"{ $.list[1] = "value" }"#, false),
            (r#"{ $.list[*] = "other" }"#, true),
            ("{ $.list[2] = 7 }", true),
            ("{ $.list[9] NOT EXISTS }", true),
            ("{ $.objects[1].id = 2 }", true),
            (r#"{ $.objects[*].name = "b" }"#, true),
            (r#"{ $.['cluster.name'] = "c1" }"#, true),
            (r#"{ $['cluster.name'] = "c1" }"#, true),
            (r#"{ $.o.in.deep = "x y" }"#, true),
            (r#"{ $.o.*.deep = "x y" }"#, true),
            ("{ $.a-b_c = d }", true),
            ("{ $.list = value }", false),
            ("{ $.o EXISTS }", true),
            (r#"{ ($.n = 200) && ($.eventType = "UpdateTrail") }"#, true),
            ("{ $.n = 1 || $.flag IS TRUE && $.half = 0.5 }", true),
            ("{ ($.n = 1 || $.flag IS TRUE) && $.half = 2 }", false),
            ("{ ($.n=200)&&(($.half=1)||($.half=0.5)) }", true),
        ];
        for (pattern, expect) in cases {
            check(&[(pattern, event, expect)]);
        }
        check(&[
            ("{ $.a = 1 }", "{\"a\": 1}\n", true),
            ("{ $.a = 1 }", "a = 1", false),
            ("{ $[0] = 1 }", "[1]", true),
            ("{ $.a NOT EXISTS }", "no JSON at all", false),
        ]);
    }

    #[test]
    fn columns_are_separated_by_blanks() {
        let line =
            "127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] \"GET /index.html HTTP/1.0\" 404 1534\n";
        let cases = [
            ("[]", false),
            ("[ip, user, username, timestamp, request, status_code, bytes]", true),
            ("[ip, user, username, timestamp, request, status_code]", false),
            ("[ip, user, username, timestamp, request = *html*, status_code = 4*, bytes]", true),
            ("[ip, user, username, timestamp, request, status_code = 5*, bytes]", false),
            ("[..., status_code, bytes]", true),
            ("[..., status_code = 404, bytes > 1000]", true),
            ("[ip, ..., bytes < 1000]", false),
            ("[ip != 127.0.*, ...]", false),
            ("[ip, ..., status_code = 410 || status_code = 404, bytes]", true),
            ("[..., status_code >= 400 && status_code < 404, bytes]", false),
            ("[a, b = \"Prod\", ...]", true),
            ("[ip, user, who = frank, ..., size = 1534]", true),
            ("[...]", true),
        ];
        for (pattern, expect) in cases {
            check(&[(pattern, line, expect)]);
        }
        check(&[
            ("[]", "\n", true),
            ("[a]", "", false),
            ("[a, ..., b]", "x y", true),
            ("[a, ..., b]", "x", false),
        ]);
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_place() {
        let nested = format!("{{ {}$.a = 1{} }}", "(".repeat(100), ")".repeat(100));
        for pattern in [
            "\"open",
            "-",
            "?",
            "a - b",
            "%(%",
            "%a{1,100000}%",
            "{",
            "{}",
            "{ $.a }",
            "{ a = 1 }",
            "{ $.a = }",
            "{ $.a > x }",
            "{ $.a > \"5\" }",
            "{ $.a = 1 } x",
            "{ $.a = 1",
            "{ $.a[x] = 1 }",
            "{ $.a[-1] = 1 }",
            "{ ($.a = 1 }",
            "{ $.a = 1 && }",
            "{ $.a IS }",
            "{ $.a IS MAYBE }",
            "{ $.a NOT }",
            "{ $. = 1 }",
            "[a",
            "[a,,b]",
            "[..., a, ...]",
            "[a = ]",
            "[a b]",
            "[a = 1 || b = 2]",
            "[\"GET*\"]",
            "[a > x]",
            &nested,
            "{ $.a = %a% || $.a = %b% || $.a = %c% }",
        ] {
            let error = Pattern::parse(pattern).unwrap_err();
            assert_eq!(error.code, "InvalidParameterException", "{pattern}");
            assert!(error.message.starts_with("Invalid filter pattern: "), "{}", error.message);
        }
        let error = Pattern::parse("{ $.a == 1 }").unwrap_err();
        assert_eq!(error.message, "Invalid filter pattern: expected a value at character 8");
    }
}

//! The canonical request: one text for all spellings of the same request.

use std::fmt::Write as _;

use super::Request;
use super::credential::Authorization;

/// Builds the canonical request. `s3` leaves the path as it is but for one encoding.
pub(super) fn request(
    request: &Request<'_>,
    authorization: &Authorization,
    payload_hash: &str,
    s3: bool,
) -> String {
    let path = if s3 { encode_path(&percent_decode(request.path)) } else { normalised_path(request.path) };
    let mut text = format!("{}\n{path}\n{}\n", request.method, query(request.query));
    for name in &authorization.signed_headers {
        let values: Vec<String> =
            request.headers.get_all(name).iter().map(|value| collapse(value.as_bytes())).collect();
        writeln!(text, "{name}:{}", values.join(",")).expect("writing to a String cannot fail");
    }
    write!(text, "\n{}\n{payload_hash}", authorization.signed_headers.join(";"))
        .expect("writing to a String cannot fail");
    text
}

/// A service's path: `.`, `..` and empty segments resolved, then encoded once more on top of the wire's encoding.
pub(super) fn normalised_path(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    // RFC 3986 would keep a slash behind a final `.` or `..` too; AWS's signers keep only one that was there.
    let slash = if path.ends_with('/') && !segments.is_empty() { "/" } else { "" };
    encode_path(format!("/{}{slash}", segments.join("/")).as_bytes())
}

/// The parameters but the signature itself, each decoded and encoded again, in byte order.
fn query(query: &str) -> String {
    let mut pairs: Vec<(String, String)> = query_pairs(query)
        .map(|(name, value)| (encode(&percent_decode(name)), encode(&percent_decode(value))))
        .filter(|(name, _)| name != "X-Amz-Signature")
        .collect();
    pairs.sort();
    let pairs: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join("&")
}

/// The raw `name=value` pairs of a query string; a missing `=` means an empty value.
pub(crate) fn query_pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Undoes percent-encoding; a `%` that does not start an escape stands for itself, and so does `+`.
pub(crate) fn percent_decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten().and_then(hex_byte);
        decoded.push(escape.unwrap_or(bytes[at]));
        at += if escape.is_some() { 3 } else { 1 };
    }
    decoded
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let value = |digit: u8| char::from(digit).to_digit(16);
    Some((value(digits[0])? * 16 + value(digits[1])?) as u8)
}

fn encode(bytes: &[u8]) -> String {
    encode_except(bytes, b"")
}

fn encode_path(bytes: &[u8]) -> String {
    encode_except(bytes, b"/")
}

fn encode_except(bytes: &[u8], also_plain: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || also_plain.contains(&byte) {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    text
}

/// Outer blanks gone, inner runs of blanks made one. Bytes beyond ASCII are taken as UTF-8, as clients sign them.
fn collapse(value: &[u8]) -> String {
    let value = String::from_utf8_lossy(value);
    let words: Vec<&str> = value.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_path_is_normalised_and_encoded_twice() {
        let cases = [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/.", "/"),
            ("/..", "/"),
            ("/./", "/"),
            ("/a/..", "/"),
            ("/a/../", "/"),
            ("//a//", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a/../../b", "/b"),
            ("/./a", "/a"),
            ("/a%20b", "/a%2520b"),
            ("/a%3D", "/a%253D"),
            ("/@a", "/%40a"),
            ("/a/b/..", "/a"),
            ("/a/b/../", "/a/"),
        ];
        for (path, expect) in cases {
            assert_eq!(normalised_path(path), expect, "{path}");
        }
    }

    #[test]
    fn an_s3_path_keeps_its_shape() {
        for (path, expect) in
            [("/b//k/../x", "/b//k/../x"), ("/b/a%20b%2Bc", "/b/a%20b%2Bc"), ("/b/(x)", "/b/%28x%29")]
        {
            assert_eq!(encode_path(&percent_decode(path)), expect, "{path}");
        }
    }

    #[test]
    fn a_query_is_in_byte_order_of_its_encoding() {
        assert_eq!(query("b=2&a=1&B=3&a=%7e&c"), "B=3&a=1&a=~&b=2&c=");
        assert_eq!(query("X-Amz-Signature=f&a=1&&"), "a=1");
        assert_eq!(query("a=%2&b=%zz&c=+"), "a=%252&b=%25zz&c=%2B");
    }

    #[test]
    fn header_blanks_are_collapsed() {
        assert_eq!(collapse(b"  a   b \t c  "), "a b c");
        assert_eq!(collapse("ü".as_bytes()), "ü");
    }
}

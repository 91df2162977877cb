//! CBOR bodies of the protocol smithy-rpc-v2-cbor: read into, and written from, the values that JSON bodies have.
//!
//! A model's shapes say which of CBOR's types stands for which value: a blob is a byte string (base64 text in JSON), a
//! timestamp is tag 1 before seconds since 1970. All else means the same in both. So behind here nobody knows in which
//! of the two a request came. Reading trusts no length: nothing is set aside before it is there.

use serde_json::{Map, Number, Value};

use crate::error::Error;
use crate::schema::{Kind, Shape};

/// Maps and lists nest at most so deep.
pub const DEPTH_MAX: usize = 64;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const LIST: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
const SIMPLE: u8 = 7;

/// Instead of a length: the end is marked.
const INDEFINITE: u8 = 31;
/// Marks that end.
const BREAK: u8 = 0xff;
/// The one tag there is: seconds since 1970.
const EPOCH: u64 = 1;

type Result<T> = std::result::Result<T, Error>;

/// Parses a request's body of at most `limit` bytes, guided by the shape it should have; what the shape does not know
/// is read as it comes. No body at all is a structure without members.
///
/// # Errors
/// [`Error::TooLarge`], or [`Error::Serialization`] for anything that is not one sound value: nested too deep, a
/// member given twice, other tags than that of timestamps, lengths beyond the body, text that is no UTF-8.
pub fn parse(body: &[u8], limit: usize, shape: &'static Shape) -> Result<Value> {
    if body.len() > limit {
        return Err(Error::TooLarge { limit });
    }
    if body.is_empty() {
        return Ok(Value::Object(Map::new()));
    }
    let mut reader = Reader { body, at: 0 };
    let value = reader.value(Some(shape), 0)?;
    match reader.at == body.len() {
        true => Ok(value),
        false => Err(reader.unsound("Trailing bytes")),
    }
}

/// The body of an answer. Members that are `null` are left out.
pub fn encode(shape: &Shape, value: &Value) -> Vec<u8> {
    let mut body = Vec::new();
    write(&mut body, Some(shape), value);
    body
}

struct Reader<'a> {
    body: &'a [u8],
    at: usize,
}

/// A value's first byte.
#[derive(Clone, Copy)]
struct Head {
    major: u8,
    info: u8,
}

impl Reader<'_> {
    fn unsound(&self, why: &str) -> Error {
        Error::Serialization(format!("{why} at byte {} of the CBOR body", self.at))
    }

    fn take(&mut self, count: u64) -> Result<&[u8]> {
        let left = self.body.len() - self.at;
        let count = usize::try_from(count).ok().filter(|count| *count <= left);
        let count = count.ok_or_else(|| self.unsound("Unexpected end"))?;
        let start = self.at;
        self.at += count;
        Ok(&self.body[start..self.at])
    }

    fn head(&mut self) -> Result<Head> {
        let byte = self.take(1)?[0];
        Ok(Head { major: byte >> 5, info: byte & 0x1f })
    }

    /// The number that follows a head: a length, a tag, or the value itself.
    fn argument(&mut self, head: Head) -> Result<u64> {
        let count = match head.info {
            0..24 => return Ok(u64::from(head.info)),
            24..28 => 1 << (head.info - 24),
            _ => return Err(self.unsound("Malformed length")),
        };
        Ok(self.take(count)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn value(&mut self, shape: Option<&'static Shape>, depth: usize) -> Result<Value> {
        let head = self.head()?;
        self.check_kind(head, shape)?;
        match head.major {
            UNSIGNED => Ok(self.argument(head)?.into()),
            NEGATIVE => self.negative(head).map(Value::from),
            BYTES => Ok(base64_simd::STANDARD.encode_to_string(self.string(head)?).into()),
            TEXT => self.text(head).map(Value::from),
            LIST => self.list(head, shape, self.deeper(depth)?),
            MAP => self.map(head, shape, self.deeper(depth)?),
            TAG => self.timestamp(head),
            _ => self.simple(head),
        }
    }

    /// Whether this type of CBOR's can be a value of the shape, as far as JSON would not tell the two apart.
    fn check_kind(&self, head: Head, shape: Option<&Shape>) -> Result<()> {
        let Some(shape) = shape else { return Ok(()) };
        let fits = match (&shape.kind, head.major) {
            // `null` is no value of any kind.
            (_, SIMPLE) => !matches!(shape.kind, Kind::Timestamp) || matches!(head.info, 22 | 23),
            (Kind::Blob, TEXT) => false,
            (Kind::Blob, _) => true,
            (_, BYTES) => false,
            (Kind::Timestamp, major) => major == TAG,
            (_, TAG) => false,
            _ => true,
        };
        if fits { Ok(()) } else { Err(self.unsound(&format!("No value of the type of '{}'", shape.name))) }
    }

    fn deeper(&self, depth: usize) -> Result<usize> {
        match depth < DEPTH_MAX {
            true => Ok(depth + 1),
            false => Err(self.unsound(&format!("Nested deeper than {DEPTH_MAX} levels"))),
        }
    }

    fn negative(&mut self, head: Head) -> Result<i64> {
        let argument = self.argument(head)?;
        let argument = i64::try_from(argument).map_err(|_| self.unsound("Number out of range"))?;
        Ok(-1 - argument)
    }

    /// The bytes of a byte string or text, whole or in pieces.
    fn string(&mut self, head: Head) -> Result<Vec<u8>> {
        if head.info != INDEFINITE {
            let count = self.argument(head)?;
            return Ok(self.take(count)?.to_vec());
        }
        let mut all = Vec::new();
        while !self.is_break()? {
            let piece = self.head()?;
            if piece.major != head.major || piece.info == INDEFINITE {
                return Err(self.unsound("Malformed piece of a string"));
            }
            let count = self.argument(piece)?;
            let bytes = self.take(count)?;
            if head.major == TEXT && std::str::from_utf8(bytes).is_err() {
                return Err(self.unsound("Text that is not UTF-8"));
            }
            all.extend_from_slice(bytes);
        }
        Ok(all)
    }

    fn text(&mut self, head: Head) -> Result<String> {
        String::from_utf8(self.string(head)?).map_err(|_| self.unsound("Text that is not UTF-8"))
    }

    fn list(&mut self, head: Head, shape: Option<&'static Shape>, depth: usize) -> Result<Value> {
        let element = match shape.map(|shape| &shape.kind) {
            Some(Kind::List(element)) => Some(*element),
            _ => None,
        };
        let mut list = Vec::new();
        let mut left = self.count(head)?;
        while self.goes_on(&mut left)? {
            list.push(self.value(element, depth)?);
        }
        Ok(Value::Array(list))
    }

    fn map(&mut self, head: Head, shape: Option<&'static Shape>, depth: usize) -> Result<Value> {
        let mut map = Map::new();
        let mut left = self.count(head)?;
        while self.goes_on(&mut left)? {
            let name = self.head()?;
            if name.major != TEXT {
                return Err(self.unsound("A member's name that is no text"));
            }
            let name = self.text(name)?;
            let value = self.value(shape.and_then(|shape| member(shape, &name)), depth)?;
            if map.insert(name, value).is_some() {
                return Err(self.unsound("Duplicate member"));
            }
        }
        Ok(Value::Object(map))
    }

    /// How many entries follow; `None` if their end is marked.
    fn count(&mut self, head: Head) -> Result<Option<u64>> {
        match head.info {
            INDEFINITE => Ok(None),
            _ => self.argument(head).map(Some),
        }
    }

    fn goes_on(&mut self, left: &mut Option<u64>) -> Result<bool> {
        match left {
            None => Ok(!self.is_break()?),
            Some(0) => Ok(false),
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
        }
    }

    fn is_break(&mut self) -> Result<bool> {
        let is_break = self.take(1)?[0] == BREAK;
        if !is_break {
            self.at -= 1;
        }
        Ok(is_break)
    }

    fn timestamp(&mut self, head: Head) -> Result<Value> {
        if self.argument(head)? != EPOCH {
            return Err(self.unsound("An unknown tag"));
        }
        let seconds = self.head()?;
        match seconds.major {
            UNSIGNED => Ok((self.argument(seconds)? as f64).into()),
            NEGATIVE => Ok((self.negative(seconds)? as f64).into()),
            SIMPLE if (25..28).contains(&seconds.info) => self.simple(seconds),
            _ => Err(self.unsound("A timestamp that is no number")),
        }
    }

    fn simple(&mut self, head: Head) -> Result<Value> {
        let number = match head.info {
            20 => return Ok(Value::Bool(false)),
            21 => return Ok(Value::Bool(true)),
            // `undefined` says no more than `null`.
            22 | 23 => return Ok(Value::Null),
            25 => half(self.argument(head)? as u16),
            26 => f64::from(f32::from_bits(self.argument(head)? as u32)),
            27 => f64::from_bits(self.argument(head)?),
            _ => return Err(self.unsound("An unknown simple value")),
        };
        // JSON has no way to write the others, and no member of ours takes them.
        Number::from_f64(number).map(Value::Number).ok_or_else(|| self.unsound("Number out of range"))
    }
}

/// A number of 16 bits: one of sign, five of exponent, ten of fraction.
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    let size = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (fraction + 1024.0) * 2f64.powi(exponent - 25),
    };
    if bits >> 15 == 1 { -size } else { size }
}

/// The shape of a structure's member or of a map's values.
fn member(shape: &'static Shape, name: &str) -> Option<&'static Shape> {
    match shape.kind {
        Kind::Map(_, value) => Some(value),
        _ => shape.members().iter().find(|member| member.name == name).map(|member| member.shape),
    }
}

fn write(out: &mut Vec<u8>, shape: Option<&Shape>, value: &Value) {
    match value {
        Value::Null => out.push(SIMPLE << 5 | 22),
        Value::Bool(value) => out.push(SIMPLE << 5 | if *value { 21 } else { 20 }),
        Value::Number(number) => write_number(out, shape, number),
        Value::String(text) => write_string(out, shape, text),
        Value::Array(elements) => {
            let element = match shape.map(|shape| &shape.kind) {
                Some(Kind::List(element)) => Some(*element),
                _ => None,
            };
            write_head(out, LIST, elements.len() as u64);
            elements.iter().for_each(|value| write(out, element, value));
        }
        Value::Object(members) => {
            let given = || members.iter().filter(|(_, value)| !value.is_null());
            write_head(out, MAP, given().count() as u64);
            for (name, value) in given() {
                write_text(out, name);
                write(out, member_of(shape, name), value);
            }
        }
    }
}

fn member_of<'a>(shape: Option<&'a Shape>, name: &str) -> Option<&'a Shape> {
    match shape?.kind {
        Kind::Map(_, value) => Some(value),
        _ => shape?.members().iter().find(|member| member.name == name).map(|member| member.shape),
    }
}

fn write_number(out: &mut Vec<u8>, shape: Option<&Shape>, number: &Number) {
    let kind = shape.map(|shape| &shape.kind);
    if matches!(kind, Some(Kind::Timestamp)) {
        write_head(out, TAG, EPOCH);
    }
    // COMPAT: AP-002 seconds of timestamps are floating even when they are whole; not every SDK reads others.
    let is_floating = matches!(kind, Some(Kind::Timestamp | Kind::Double));
    match (number.as_u64(), number.as_i64()) {
        (Some(number), _) if !is_floating => write_head(out, UNSIGNED, number),
        (_, Some(number)) if !is_floating => write_head(out, NEGATIVE, number.abs_diff(-1)),
        _ => {
            out.push(SIMPLE << 5 | 27);
            out.extend_from_slice(&number.as_f64().unwrap_or_default().to_be_bytes());
        }
    }
}

fn write_string(out: &mut Vec<u8>, shape: Option<&Shape>, text: &str) {
    let is_blob = shape.is_some_and(|shape| matches!(shape.kind, Kind::Blob));
    match base64_simd::STANDARD.decode_to_vec(text) {
        Ok(bytes) if is_blob => {
            write_head(out, BYTES, bytes.len() as u64);
            out.extend_from_slice(&bytes);
        }
        _ => write_text(out, text),
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    write_head(out, TEXT, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// A head with its argument in as few bytes as it has room in.
fn write_head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let bytes = argument.to_be_bytes();
    let (info, width) = match argument {
        0..24 => (argument as u8, 0),
        24..0x100 => (24, 1),
        0x100..0x1_0000 => (25, 2),
        0x1_0000..0x1_0000_0000 => (26, 4),
        _ => (27, 8),
    };
    out.push(major << 5 | info);
    out.extend_from_slice(&bytes[8 - width..]);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::Member;

    static TEXT_SHAPE: Shape = Shape::string("Text");
    static TEXTS: Shape = Shape::list("Texts", &TEXT_SHAPE);
    static BLOB: Shape = Shape::blob("Blob");
    static BLOBS: Shape = Shape::map("Blobs", &TEXT_SHAPE, &BLOB);
    static LONG: Shape = Shape::long("Long");
    static DOUBLE: Shape = Shape::double("Double");
    static MOMENT: Shape = Shape::timestamp("Moment");
    static ALL: Shape = Shape::structure(
        "All",
        &[
            Member::optional("text", &TEXT_SHAPE),
            Member::optional("texts", &TEXTS),
            Member::optional("blob", &BLOB),
            Member::optional("blobs", &BLOBS),
            Member::optional("long", &LONG),
            Member::optional("double", &DOUBLE),
            Member::optional("datetime", &MOMENT),
        ],
    );

    /// Bytes from hex digits, and from text between quotes.
    fn bytes(notation: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (at, part) in notation.split('\'').enumerate() {
            if at % 2 == 1 {
                bytes.extend_from_slice(part.as_bytes());
                continue;
            }
            let digits: Vec<u8> = part.bytes().filter(|digit| !digit.is_ascii_whitespace()).collect();
            let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            bytes.extend(digits.chunks(2).map(pair));
        }
        bytes
    }

    fn read(notation: &str) -> Value {
        parse(&bytes(notation), 1 << 20, &ALL).unwrap_or_else(|error| panic!("{notation}: {error}"))
    }

    fn refusal(body: &[u8]) -> String {
        match parse(body, 1 << 20, &ALL) {
            Err(Error::Serialization(message)) => message,
            other => panic!("{body:02x?} gave {other:?}"),
        }
    }

    #[test]
    fn the_protocols_own_examples_are_read() {
        assert_eq!(read(""), json!({}));
        assert_eq!(read("a0"), json!({}));
        assert_eq!(read("bf ff"), json!({}));
        // Strings in pieces, inside of a list whose end is marked.
        let pieces =
            "bf 65'texts' 9f 7f 6f'An example inde' 77'finite string, which is' 60 ff 64'text' ff ff";
        assert_eq!(read(pieces), json!({ "texts": ["An example indefinite string, which is", "text"] }));
        assert_eq!(read("a1 64'blob' 5f 42'fo' 41'o' ff"), json!({ "blob": "Zm9v" }));
        assert_eq!(read("a1 68'datetime' c1 fb 41cc37db380fbe77"), json!({ "datetime": 946845296.123 }));
        assert_eq!(read("a1 68'datetime' c1 1a 5e0be100"), json!({ "datetime": 1577836800.0 }));
        assert_eq!(read("a1 66'double' f9 0050"), json!({ "double": 4.76837158203125e-6 }));
        assert_eq!(read("a1 66'double' f9 c400"), json!({ "double": -4.0 }));
        assert_eq!(read("a1 66'double' fa 40f40000"), json!({ "double": 7.625 }));
        assert_eq!(read("a1 64'long' 3903e7"), json!({ "long": -1000 }));
        assert_eq!(read("a2 64'long' f6 64'text' f7"), json!({ "long": null, "text": null }));
        assert_eq!(read("a1 65'extra' a1 61'a' c1 00"), json!({ "extra": { "a": 0.0 } }));
        assert_eq!(read("a1 65'extra' 42 0102"), json!({ "extra": "AQI=" }));
    }

    #[test]
    fn what_is_written_is_read_back_the_same() {
        let value = json!({
            "text": "dèmo", "texts": ["", "x".repeat(300)], "blob": "Zm9v", "blobs": { "a": "", "b": "AAE=" },
            "double": 2.0, "datetime": 1472848787.882, "extra": [true, false, -1, -256, i64::MIN, u64::MAX],
        });
        assert_eq!(parse(&encode(&ALL, &value), 1 << 20, &ALL).unwrap(), value);
        for long in
            [0, 23, 24, 255, 256, 65_535, 65_536, i64::from(u32::MAX), 1 << 40, i64::MAX, -1, -24, -25]
        {
            let value = json!({ "long": long });
            assert_eq!(parse(&encode(&ALL, &value), 1 << 20, &ALL).unwrap(), value);
        }
    }

    // AP-002
    #[test]
    fn answers_have_the_types_of_their_shapes_and_leave_out_what_is_absent() {
        let value = json!({ "datetime": 5, "blob": "Zm9v", "long": null, "text": "Zm9v" });
        let expected = bytes("a3 64'blob' 43'foo' 68'datetime' c1 fb 4014000000000000 64'text' 64'Zm9v'");
        assert_eq!(encode(&ALL, &value), expected);
    }

    #[test]
    fn values_of_other_types_than_their_members_are_refused() {
        for body in [
            "a1 64'blob' 64'Zm9v'",
            "a1 64'text' 43'foo'",
            "a1 65'texts' 81 43'foo'",
            "a1 64'long' c1 05",
            "a1 68'datetime' 05",
            "a1 68'datetime' fb 4014000000000000",
            "a1 68'datetime' c1 63'now'",
            "a1 68'datetime' c1 c1 05",
            "a1 68'datetime' c1 f6",
            "a1 68'datetime' c0 05",
            "a1 65'extra' c2 42 0100",
            "d9 d9f7 a0",
        ] {
            refusal(&bytes(body));
        }
    }

    #[test]
    fn what_is_not_sound_is_refused() {
        for body in [
            "a0 a0",
            "a1",
            "bf",
            "a2 64'text' 61'a' 64'text' 61'a'",
            "a1 64'text' 61'a' ff",
            "a1 01 02",
            "a1 44'text' 61'a'",
            "a1 64'text' 62 c328",
            "a1 64'text' 7f 61 c3 61 a9 ff",
            "a1 64'text' 7f 7f ff ff",
            "a1 64'text' 7f 41'a' ff",
            "a1 65'texts' 9f ff ff",
            "a1 66'double' f97c00",
            "a1 66'double' f9 7e01",
            "a1 66'double' fb 7ff0000000000000",
            "a1 64'long' 3b ffffffffffffffff",
            "a1 64'long' 1c",
            "a1 64'long' f8 20",
            "a1 64'long' e0",
            "ff",
            "1f",
        ] {
            refusal(&bytes(body));
        }
    }

    #[test]
    fn lengths_beyond_the_body_are_refused_before_anything_is_set_aside() {
        for head in ["5b", "7b", "9b", "bb"] {
            let mut body = bytes("a1 65'extra'");
            body.extend(bytes(head));
            body.extend([0xff; 8]);
            assert!(refusal(&body).starts_with("Unexpected end"));
        }
    }

    #[test]
    fn nesting_is_allowed_to_the_limit_and_not_beyond() {
        let nested = |lists: usize| [bytes("a1 65'extra'"), vec![0x81; lists], vec![0]].concat();
        assert!(parse(&nested(DEPTH_MAX - 1), 1 << 20, &ALL).is_ok());
        assert!(refusal(&nested(DEPTH_MAX)).starts_with("Nested deeper"));
        assert!(refusal(&vec![0x9f; 100_000]).starts_with("Nested deeper"));
        assert!(refusal(&nested(1_000_000)).starts_with("Nested deeper"));
    }

    #[test]
    fn a_body_over_the_limit_is_not_parsed() {
        assert_eq!(parse(&[0x80; 5], 4, &ALL), Err(Error::TooLarge { limit: 4 }));
    }
}
